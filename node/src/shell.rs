//! The shell around the core: threads and queues, no decisions.
//!
//! Threads: *core* (all groups, gateway, membership), *disk* (the one writer, one sync at a time), *reads*
//! (rows for turns), *transport* (QUIC), and the runtime of the caller (APIs, actors). Every queue is
//! bounded; where two threads feed each other, they cannot wait for each other, see `queues`. A panic in one
//! of the node's own threads ends the node, see `threads`.

pub(crate) mod admission;
pub(crate) mod apps;
pub(crate) mod core_thread;
pub(crate) mod disk_thread;
pub(crate) mod events;
pub(crate) mod metrics;
pub(crate) mod queues;
pub(crate) mod reads;
pub(crate) mod subscriptions;
pub(crate) mod threads;

#[cfg(test)]
mod tests;
