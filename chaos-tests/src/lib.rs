//! The proof on real processes: clusters of the built binary, load from clients that repeat by the API's
//! rules, and checks of what the actors hold against what was acknowledged.
//!
//! The binary is run, never linked: it is what users get, and these tests compile in seconds. Absent on
//! purpose: any knowledge of the inside of a node; what is asked goes through HTTP and the command line.

pub mod client;
pub mod cluster;
pub mod http;
pub mod load;
pub mod log_check;
pub mod ports;
pub mod process;
pub mod wait;
