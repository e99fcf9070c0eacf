//! Every decoder of the pure crates, and what must hold whatever it is fed.
//!
//! One function for each. Two kinds of tests feed it: seeded noise and the corpus on any toolchain
//! (`tests/noise.rs`), and a fuzzer that follows coverage (`chaos-tests/fuzz`). A decoder that
//! panics, or breaks what is asserted here, has failed.
//!
//! Absent: what reads files, paths and the answers of applications, which is in the node's own
//! crate (`node/tests/noise.rs`) and fed with the same noise.

mod changes;
mod disks;
mod gossip;
mod messages;
mod names;
pub mod noise;
mod pieces;
mod wire;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// What it reads.
    pub what: &'static str,
    /// Feeds it. The same bytes give the same result: nothing stays behind.
    pub take: fn(&[u8]),
    /// Inputs of ours, from which damaged ones are made.
    pub valid: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ALL: [Decoder; 13] = [
    wire::LANE,
    wire::FRAME,
    wire::HELLO,
    wire::ENGINE,
    changes::COMMAND,
    changes::APPLY,
    messages::ROW,
    names::KEY,
    names::NAME,
    names::SCHEDULE,
    disks::CHUNK,
    disks::DISK,
    gossip::GOSSIP,
];

/// The one of that name.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn named(name: &str) -> Decoder {
    let found = ALL.into_iter().find(|decoder| decoder.name == name);
    found.unwrap_or_else(|| panic!("{name} is no decoder: see ghostlight_decoders::ALL"))
}

pub use disks::{chunk_input, disk_input};
pub use messages::{RowMessage, row_input};
pub use pieces::join;
