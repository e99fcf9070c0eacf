//! Ghostlight: actors that survive their nodes.

pub mod handle;
