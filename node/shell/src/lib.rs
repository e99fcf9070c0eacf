#![doc = include_str!("../README.md")]

pub mod admission;
pub mod core_loop;
mod events;
pub mod guests;
pub mod metrics;
pub mod ports;
pub mod queues;
pub mod reads;
mod repeats;
pub mod store_threads;
#[cfg(test)]
mod tests;
pub mod threads;
