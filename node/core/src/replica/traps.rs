//! The traps of raft-rs, each by its number, against our wrapper; and what the wrapper promises
//! beside.
//!
//! Each test names the code that it guards: without that code it fails. A small cluster in one
//! thread moves mail, disks and applying by hand.

mod bounds;
mod changing;
mod cluster;
mod disk;
mod first;
mod order;
mod second;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ghostlight_protocol::ids::PeerId;

use self::cluster::node_id;
use super::Change;

/// What a panic of `act` says.
fn panic_of<T>(act: impl FnOnce() -> T) -> String {
    let caught = catch_unwind(AssertUnwindSafe(|| drop(act())));
    let caught = caught.expect_err("it must panic");
    let text = caught.downcast_ref::<String>().cloned();
    text.or_else(|| caught.downcast_ref::<&str>().map(ToString::to_string))
        .expect("panics carry a text")
}

fn swap(voters_in: &[u64], voters_out: &[u64]) -> Change {
    let peers = |numbers: &[u64]| numbers.iter().copied().map(PeerId).collect();
    Change::Swap {
        voters_in: peers(voters_in),
        voters_out: peers(voters_out),
    }
}

fn learner(number: u64) -> Change {
    Change::AddLearner {
        peer: PeerId(number),
        node: node_id(number),
    }
}
