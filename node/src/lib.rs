//! Ghostlight: actors that survive their nodes.

// The `#[actor]` macro writes paths from the crate `ghostlight`; inside this crate they lead here.
extern crate self as ghostlight;

pub mod actors;
pub mod handle;

pub use ghostlight_core::sdk;

/// Everything an actor's file needs: `use ghostlight::prelude::*;`.
pub mod prelude {
    pub use ghostlight_core::sdk::prelude::*;
}
