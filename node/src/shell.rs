//! The shell around the core: threads and queues, no decisions. The loop itself, and the store's
//! threads, are in `ghostlight_shell`; here is what a node has besides: programs, applications,
//! subscriptions.
//!
//! Threads: *core* (all groups, gateway, membership), *disk* (the one writer, one sync at a time),
//! *reads* (rows for turns), *transport* (QUIC), and the runtime of the caller (APIs, actors).
//! Every queue is bounded; where two threads feed each other, they cannot wait for each other, see
//! `ghostlight_shell::queues`. A panic in one of the node's own threads ends the node, see
//! `ghostlight_shell::threads`.

pub(crate) mod apps;
pub(crate) mod core_thread;
mod guests;
pub(crate) mod metrics;
mod subscriptions;

#[cfg(test)]
mod tests;
