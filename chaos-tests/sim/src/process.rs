//! One run of one node: the core, its disk's queue and its runner, as the shell composes them.

use std::collections::{BTreeMap, VecDeque};

use ghostlight_core::io::{Input, Now, StoreEffect};
use ghostlight_core::node::{NodeCore, Trust};
use ghostlight_core::sdk::local_runner::LocalRunner;
use ghostlight_core::turn_io::ActivationId;
use ghostlight_disk::{Disk, Snapshots};
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::hello::{ClusterDescriptor, NodeRecord, Run};
use ghostlight_storage::memory::DiskImage;
use ghostlight_storage::{MemoryDisk, MemoryEngine, Reader};

use crate::dice::{MS, SEC};

/// A place in the cluster: its disk, and its process while one runs.
pub(crate) struct Node {
    /// The group of each subscription, by the number that leaders know it by.
    pub subscriptions: BTreeMap<u64, String>,
    /// Peer address; kept when the disk is replaced.
    pub address: String,
    /// The disk.
    pub disk: MemoryDisk,
    /// The present process.
    pub process: Option<Process>,
    /// Who ran here last.
    pub last_id: Option<NodeId>,
    /// Counts processes: what was meant for an earlier one is dropped.
    pub run: u64,
    /// Its calendar clock minus the true one, in milliseconds.
    pub skew_ms: i64,
    /// By how much that clock is too fast.
    pub drift: Drift,
    /// Millionths by which its monotonic clock is too fast.
    pub pace: i64,
    /// Which frames its program speaks.
    pub build: Build,
    /// Whose data directory it has a copy of.
    pub copy_of: Option<usize>,
    /// What becomes of it when it is down.
    pub fate: Fate,
    /// Syncs take this many times as long.
    pub slowness: u64,
    /// Turns of its loop take this many times as long.
    pub loop_slowness: u64,
    /// Nothing is synced before this time.
    pub stalled_until: u64,
    /// What its disk held once, for putting it back.
    pub image: Option<DiskImage>,
    /// What its next process is told of its disk.
    pub trust: Trust,
    /// Whether its disk has gone back in time.
    pub fallen: Fallen,
}

/// Whether a disk has gone back in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fallen {
    /// It has not.
    No,
    /// It has, and its node does not know.
    Unknown,
    /// Its node has found out, and noted it beside the database.
    Known,
}

/// A clock that runs too fast or too slow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Drift {
    /// Millionths that it gains, or loses, since that true time.
    pub millionths: i64,
    /// See there.
    pub since: u64,
}

impl Node {
    /// Its calendar clock minus the true one at a true time, in milliseconds.
    pub(crate) fn clock_off_ms(&self, now: u64) -> i64 {
        let ms = (now.saturating_sub(self.drift.since) / MS).cast_signed();
        self.skew_ms + ms * self.drift.millionths / 1_000_000
    }

    /// Its calendar clock is right.
    pub(crate) fn set_right(&mut self) {
        self.skew_ms = 0;
        self.drift = Drift::default();
    }

    /// What starts on the disk next is another node.
    pub(crate) fn begins_anew(&mut self) {
        self.image = None;
        self.trust = Trust::Whole;
        self.fallen = Fallen::No;
    }
}

/// A version of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Build {
    /// That of all nodes at first and in the end.
    Usual,
    /// One with other frames.
    Other,
}

/// Whether a node is meant to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It comes back.
    Returns,
    /// It left the cluster for good.
    Gone,
}

/// A running process.
pub(crate) struct Process {
    /// The core.
    pub core: NodeCore,
    /// Who it is.
    pub id: NodeId,
    /// The store's thread.
    pub disk: Disk<MemoryEngine>,
    /// Reads beside it.
    pub reader: Reader<MemoryEngine>,
    /// Snapshots being sent, also beside it.
    pub snapshots: Snapshots<MemoryEngine>,
    /// When the latest of their effects is performed.
    pub snapshots_latest: u64,
    /// Runs turns.
    pub runner: LocalRunner,
    /// Inputs that wait for the loop.
    pub inbox: VecDeque<Input>,
    /// Whether a turn of the loop is scheduled.
    pub scheduled: bool,
    /// When the loop is free again: it works, or the process stands still.
    pub busy_until: u64,
    /// The tick that is scheduled.
    pub tick_at: Option<u64>,
    /// When the process began.
    pub started: u64,
    /// See [`Node::pace`].
    pub pace: i64,
    /// See [`Node::build`].
    pub build: Build,
    /// Store effects.
    pub store: StoreQueue,
    /// When the latest input of each activation arrives.
    pub runner_latest: BTreeMap<ActivationId, u64>,
    /// What its `Hello` says.
    pub introduced: Introduced,
    /// Runs met.
    pub met: BTreeMap<NodeId, Run>,
}

/// What a `Hello` says.
#[derive(Clone, Debug)]
pub(crate) struct Introduced {
    /// The record.
    pub record: NodeRecord,
    /// The cluster.
    pub descriptor: Option<ClusterDescriptor>,
    /// Nodes that may never come back.
    pub removed: Vec<NodeId>,
}

/// The queue of the store's thread.
#[derive(Default, Debug)]
pub(crate) struct StoreQueue {
    /// Waiting effects.
    pub queue: VecDeque<StoreEffect>,
    /// Effects being performed.
    pub busy: Vec<StoreEffect>,
}

impl Process {
    /// The process's clocks.
    #[must_use]
    pub(crate) fn now(&self, now: u64, skew_ms: i64) -> Now {
        let wall = 1_700_000_000_000_i64 + (now / MS).cast_signed() + skew_ms;
        Now {
            instant: self.instant(now),
            wall: WallTime(wall.cast_unsigned()),
        }
    }

    /// The process's monotonic clock at a true time.
    #[must_use]
    pub(crate) fn instant(&self, now: u64) -> Instant {
        let passed = now - self.started;
        Instant(passed.saturating_add_signed(paced(passed, self.pace)) + SEC)
    }

    /// The first true time at which its clock shows an instant.
    #[must_use]
    pub(crate) fn true_time(&self, instant: Instant) -> u64 {
        let shown = instant.0.saturating_sub(SEC);
        if self.pace == 0 {
            return self.started + shown;
        }
        let rate = MILLION.saturating_add_signed(self.pace);
        let passed = u128::from(shown) * u128::from(MILLION);
        self.started + passed.div_ceil(u128::from(rate)) as u64
    }
}

const MILLION: u64 = 1_000_000;

/// What a clock gains in so much true time.
fn paced(passed: u64, millionths: i64) -> i64 {
    // Whole seconds and the rest apart: together they would not fit.
    let (seconds, rest) = ((passed / SEC).cast_signed(), (passed % SEC).cast_signed());
    seconds * 1_000 * millionths + rest * millionths / MILLION.cast_signed()
}

/// Whether an effect waits for a sync.
#[must_use]
pub(crate) fn syncs(effect: &StoreEffect) -> bool {
    match effect {
        StoreEffect::Persist { .. }
        | StoreEffect::SaveDescriptor(_)
        | StoreEffect::Create { .. }
        | StoreEffect::Destroy { .. }
        | StoreEffect::Condemn { .. }
        | StoreEffect::DiscardCondemned(_) => true,
        StoreEffect::SaveAddresses(_)
        | StoreEffect::Apply(_)
        | StoreEffect::Stage { .. }
        | StoreEffect::Truncate { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clock_gains() {
        for (passed, millionths, gained) in [
            (0, 20_000, 0),
            (SEC, 0, 0),
            (SEC, 20_000, (20 * MS).cast_signed()),
            (10 * SEC + SEC / 2, -20_000, -(210 * MS).cast_signed()),
            (86_400 * SEC, 1, (86_400 * 1_000_i64)),
        ] {
            assert_eq!(paced(passed, millionths), gained, "{passed} {millionths}");
        }
    }
}
