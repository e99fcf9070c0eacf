//! Ghostlight: actors that survive their nodes.
//!
//! As a library: `Node::builder().actor::<Counter>().data_dir(dir).start().await`. The binary is
//! the same program with sample actors and a command line.

// The `#[actor]` macro writes paths from the crate `ghostlight`; inside this crate they lead here.
extern crate self as ghostlight;

pub mod actors;
pub mod api;
pub mod app;
pub mod buses;
mod caseless;
#[doc(hidden)]
pub mod cli;
pub mod clock;
pub mod config;
pub mod ephemeral;
pub mod handle;
pub mod node;
pub mod pubsub;
pub mod resources;
mod shell;
pub mod topics;

pub use ghostlight_core::sdk;
pub use ghostlight_transport as transport;
pub use ghostlight_transport::security;
pub use node::Node;

// A build with deliberate bugs is for the simulator alone.
const _: () = assert!(!ghostlight_protocol::canary::BUILT);

/// Everything an actor's file needs: `use ghostlight::prelude::*;`.
pub mod prelude {
    pub use crate::node::Node;
    pub use ghostlight_core::sdk::prelude::*;
}
