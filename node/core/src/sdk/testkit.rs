//! Tests of actors without a node, a network or a runtime.
//!
//! [`FakeTurn`] is a context to call methods with; it shows what they staged. [`World`] runs whole
//! turns of registered actors over rows in memory: commits, roll-backs, messages and calls between
//! actors as the real node does them, one after the other. [`run`] drives a future that needs
//! nobody else.

mod fake_turn;
mod world;

use std::future::Future;

use futures::FutureExt;

pub use fake_turn::{FakeTurn, Staged};
pub use world::World;

/// Runs a future that never waits for anything outside the test kit.
///
/// # Panics
/// When it does wait.
#[track_caller]
pub fn run<T>(future: impl Future<Output = T>) -> T {
    future
        .now_or_never()
        .expect("under the test kit nothing outside it can be waited for")
}
