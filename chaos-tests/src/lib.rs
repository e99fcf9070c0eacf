//! The proof on real processes: clusters of the built binary, load from clients that repeat by the
//! API's rules, and checks of what the actors hold against what was acknowledged.
//!
//! `tests/` by what they prove: `failover` (gaps after kills and freezes), `moves` (drain, restart,
//! join, leave without a failed call), `forming` (growth, seeds, restarts), `demo`, `bad_input`
//! (every refusal of the API), `commands` (every command of the binary), `clocks` (jumps of an
//! hour), `room` (disks that fill up), `gray` (nodes neither well nor dead), `overload` (more calls
//! than can be done), `splits` (networks that are cut, lossy, one-way), `histories` (actors that
//! many clients share, judged as a whole), `apps` (applications that die, misbehave, or speak as
//! .NET does), `cluster` (recorded replies).
//!
//! The binary is run, never linked: it is what users get, and these tests compile in seconds.
//! Absent on purpose: any knowledge of the inside of a node; what is asked goes through HTTP and
//! the command line.

pub mod app;
pub mod bad_input;
pub mod bank;
pub mod client;
pub mod clocks;
pub mod cluster;
pub mod files;
pub mod flood;
pub mod http;
pub mod load;
pub mod log_check;
pub mod network;
pub mod open_loop;
pub mod played;
pub mod ports;
pub mod process;
pub mod scenario;
pub mod shared;
pub mod sidecar;
pub mod small_disk;
pub mod spread;
pub mod sync_faults;
pub mod usage;
pub mod wait;
