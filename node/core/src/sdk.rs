//! The Rust SDK: what an actor author sees, independent of who runs the turns.
//!
//! An actor is a plain struct whose methods are turns. `#[actor]` on its inherent `impl` makes it
//! an [`Actor`] and gives it a typed reference. Everything that leaves a turn goes through its
//! [`Turn`]: state rows, messages, events and reminders are staged and commit with the reply, or
//! not at all.
//!
//! **On the wire** arguments and replies are JSON ([`body`]); **at rest** state is postcard
//! ([`state`]).
//!
//! **Invariant:** no tokio, no threads, no clock: a turn is a future that only its port wakes, so
//! that the node and the simulator run the very same code. **Absent:** `once`.

pub mod activation;
pub mod actor;
pub mod body;
pub mod call;
pub mod client;
pub mod error;
mod error_name;
pub mod events;
pub mod local_runner;
pub mod map_key;
pub mod publish;
pub mod registry;
pub mod remind;
mod stage;
pub mod state;
pub mod state_map;
pub mod testkit;
pub mod turn;

pub use activation::{Activation, Finished};
pub use actor::{Actor, Method, MethodKind, TurnFailure, Typed};
pub use body::{Body, Raw};
pub use client::{CallOptions, Client, Cluster, Invocation};
pub use error::{ActorError, CallError, Never};
pub use events::EventHandler;
pub use ghostlight_macros::actor;
pub use publish::{PublishedEvent, Topic};
pub use registry::ActorRegistry;
pub use remind::Reminder;
pub use state_map::StateMap;
pub use turn::{ReadTurn, Turn, TurnPort};

/// Everything an actor's file needs: `use ghostlight::prelude::*;`.
pub mod prelude {
    pub use super::{
        Actor, ActorRegistry, CallError, Cluster, Never, Raw, ReadTurn, Reminder, StateMap, Topic,
        Turn, actor,
    };
    pub use rand::Rng as _;
    pub use serde::{Deserialize, Serialize};
}

/// What generated code refers to; not for people.
#[doc(hidden)]
pub mod generated {
    pub use super::actor::{Actor, Method, MethodKind, TurnFailure, Typed, unknown_method};
    pub use super::body::{Body, argument, fields, from_fields, reply, settle, void};
    pub use super::call::{Outlet, Target};
    pub use super::error::Never;
    pub use super::events::EventHandler;
    pub use super::publish::PUBSUB_DEFAULT;
    pub use super::state::{StateError, encode, restore};
    pub use super::turn::{ReadTurn, Turn};
    pub use bytes::Bytes;
    pub use serde;
}

#[cfg(test)]
mod tests;
