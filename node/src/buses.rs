//! The buses that pub/sub components stand for, each behind [`Bus`](crate::topics::Bus).
//!
//! In: a component's type and metadata. Out: a bus, or one that says why there is none. Absent: envelopes,
//! routing, scopes, retries of deliveries on buses that have none; the API above does those (`pubsub`).

pub mod absent;
pub mod in_memory;
