#![doc = include_str!("../README.md")]

// The samples are written as a user would write them, so the macro's paths must resolve here too.
extern crate self as ghostlight;

pub mod admin;
mod backlog;
pub mod ephemeral;
pub mod expiry;
pub mod gateway;
pub mod hosts;
pub mod inquiry;
pub mod io;
#[cfg(test)]
mod map_rows;
pub mod node;
pub mod outbox;
pub mod replica;
pub mod samples;
pub mod sdk;
pub mod topics;
pub mod turn_io;
pub mod turns;
pub mod wakeups;

pub use backlog::patience;
