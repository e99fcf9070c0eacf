//! Who may speak: the cluster key and the certificates made from it.
//!
//! The key authenticates membership, not which member: a stolen key is the whole cluster until it
//! is changed. Absent: certificates of an operator's own, and key rotation.

pub mod key;
pub mod tls;
