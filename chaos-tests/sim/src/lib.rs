#![doc = include_str!("../README.md")]

mod clients;
mod dice;
mod heralds;
mod invariants;
mod net;
mod params;
mod process;
mod run;
mod sometimes;
mod subscribers;
mod trace;
mod wire;
mod world;

pub use clients::{Op, Steering};
pub use dice::{MS, SEC, US};
pub use ghostlight_storage::Cf;
pub use ghostlight_storage::memory::CrashKind;
pub use params::{FaultKind, Params};
pub use process::Build;
pub use run::{Report, compare, form, guarded, heal, reproduce, run_seed};
pub use sometimes::Sometimes;
pub use trace::Show;
pub use world::{Failure, Kept, Listener, Origin, Restored, Spoken, World};
