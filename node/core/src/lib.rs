#![doc = include_str!("../README.md")]

pub mod admin;
pub mod gateway;
pub mod io;
pub mod node;
pub mod outbox;
pub mod replica;
pub mod sdk;
pub mod turn_io;
pub mod turns;
