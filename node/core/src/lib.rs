#![doc = include_str!("../README.md")]

// The `#[actor]` macro writes paths from the crate `ghostlight`; inside this crate they lead here.
extern crate self as ghostlight;

pub mod admin;
pub mod gateway;
pub mod outbox;
pub mod samples;
pub mod sdk;
pub mod turn_io;
pub mod turns;
