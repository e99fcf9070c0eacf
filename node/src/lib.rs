//! Ghostlight: actors that survive their nodes.

pub mod api;
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod config;
pub mod handle;
pub mod node;
