//! Hosts: who runs the turns of actors whose code is not in their leader's process.
//!
//! The leader keeps the mailbox and the log; a host has the code: an application beside a node, or
//! a node with the type built in. `channel` carries what the two say over lost frames and
//! connections; `objects` guards what applications keep in memory; `words` is the border to the
//! shell. Which node hosts an actor is decided in `node/hosting.rs`.

pub mod channel;
pub mod convert;
pub mod objects;
pub mod words;
