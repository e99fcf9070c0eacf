//! Buses against their real servers, each of which is started here. Where a program is missing, the test says so and passes.

mod redis;
mod server;
mod suite;
