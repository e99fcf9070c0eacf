#![doc = include_str!("../README.md")]

mod clients;
mod clock;
mod dice;
mod guests;
mod machine;
mod network;
mod node;
mod store;
mod world;

pub use clients::{Clients, Ledger, Lines};
pub use ghostlight_storage::memory::CrashKind;
pub use network::{Seen, Weather};
pub use node::{Build, Refusal};
pub use world::{Origin, Outcome, Report, World, guarded};
