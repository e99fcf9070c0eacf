//! Buses of pub/sub components that need no other system, and the one of components that nobody
//! serves. External buses are in `ghostlight-buses`.
//!
//! In: a component's type and metadata. Out: a bus, or one that says why there is none. Absent:
//! envelopes, routing, scopes, retries of deliveries on buses that have none; the API above does
//! those (`pubsub`).

pub mod absent;
pub mod in_memory;
