#![doc = include_str!("../README.md")]

pub mod membership;
pub mod plan;
pub mod ring;
pub mod routing;

#[cfg(test)]
mod seeds;
