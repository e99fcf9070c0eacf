//! Tests of apply: each rule of the module, as a table.

mod bed;
mod boundaries;
mod extremes;
mod requests;
mod schedule;
mod topics;
mod turns;
