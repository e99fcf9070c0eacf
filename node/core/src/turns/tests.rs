//! Tests of the engine: a harness with a fake runner and log over the real apply, a table of rules,
//! and a seeded random test.

mod copies;
mod entered;
mod harness;
mod inbox;
mod limits;
mod listings;
mod operations;
mod parts;
mod random;
mod rules;
mod scans;
mod turns;
mod wakeups;
