//! Tests of apply: each rule of the module, as a table.

mod bed;
mod boundaries;
mod requests;
mod turns;
