#![doc = include_str!("../README.md")]

pub mod actor;
pub mod call;
pub mod closed;
pub mod code;
pub mod command;
pub mod family;
pub mod hash;
pub mod ids;
pub mod limits;
pub mod outcome;
pub mod partition_row;
pub mod replica;
pub mod request;
pub mod text;
pub mod time;
pub mod wire;
