//! Sample actors: what `ghostlight demo`, the guides, the simulator and the chaos runs drive.
//!
//! They are written as a user would write them, with `#[actor]` and nothing else.

mod account;
mod counter;
mod echo;
mod log;
mod register;
mod tally;

pub use account::{Account, AccountError, AccountRef};
pub use counter::{Counter, CounterRef, Overflow};
pub use echo::{Echo, EchoRef};
pub use log::{Log, LogRef};
pub use register::{Register, RegisterRef};
pub use tally::{Tallied, Tally, TallyRef};

use crate::sdk::ActorRegistry;

/// All of them.
#[must_use]
pub fn registry() -> ActorRegistry {
    ActorRegistry::new()
        .with::<Account>()
        .with::<Counter>()
        .with::<Echo>()
        .with::<Log>()
        .with::<Register>()
        .with::<Tally>()
}

#[cfg(test)]
mod tests;
