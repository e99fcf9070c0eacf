//! What must hold, whatever fails: one file per promise.
//!
//! Those about replicas are checked at every step of a node, those about histories at the end.

mod appends;
mod applied;
mod committed;
mod counters;
mod leaders;
mod money;
mod once;
mod state;
mod stints;

use ghostlight_core::io::{StoreEffect, StoreInput};
use ghostlight_core::node::NodeCore;
use ghostlight_protocol::ids::{PartitionId, Term};
use ghostlight_protocol::replica::log::RecoveredReplica;

use crate::clients::Record;
use crate::net::Place;

/// Everything seen so far that later steps must agree with.
#[derive(Debug)]
pub(crate) struct Checks {
    leaders: leaders::Leaders,
    committed: committed::Committed,
    state: state::States,
    applied: applied::AppliedMarks,
    stints: stints::Stints,
    once: once::Once,
}

/// What every actor holds at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct FinalState {
    /// Lines of each log.
    pub logs: Vec<Vec<String>>,
    /// Total of each counter.
    pub counters: Vec<i64>,
    /// Balance of each account.
    pub balances: Vec<u128>,
}

impl Checks {
    /// Nothing seen yet.
    #[must_use]
    pub(crate) fn new(partitions: u16) -> Self {
        Self {
            leaders: leaders::Leaders::default(),
            committed: committed::Committed::new(partitions),
            state: state::States::default(),
            applied: applied::AppliedMarks::default(),
            stints: stints::Stints::default(),
            once: once::Once::default(),
        }
    }

    /// A process began with these replicas.
    pub(crate) fn started(&mut self, place: Place, replicas: &[RecoveredReplica]) {
        self.applied.started(place, replicas);
    }

    /// A process ended.
    pub(crate) fn stopped(&mut self, place: Place) {
        self.applied.stopped(place);
    }

    /// A disk was emptied.
    pub(crate) fn wiped(&mut self, place: Place) {
        self.stints.wiped(place);
    }

    /// A node serves a partition.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn opened(
        &mut self,
        partition: PartitionId,
        term: Term,
        place: Place,
        run: u64,
    ) -> Result<(), String> {
        self.leaders.serves(partition, term, place, run)
    }

    /// A core asks its store for something.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn asked(&mut self, place: Place, effect: &StoreEffect) -> Result<(), String> {
        if let StoreEffect::Apply(work) = effect {
            for (partition, items) in work {
                for item in items {
                    self.committed.seen(place, *partition, item)?;
                    self.once.asked(*partition, item);
                }
            }
        }
        self.stints.asked(place, effect)
    }

    /// A store answers its core.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn answered(
        &mut self,
        place: Place,
        _run: u64,
        input: &StoreInput,
    ) -> Result<(), String> {
        match input {
            StoreInput::Applied(batch) => {
                for applied in batch {
                    self.state.row(place, applied.partition, &applied.row)?;
                    self.once.applied(applied)?;
                }
            }
            StoreInput::Installed { partition, row } => self.state.row(place, *partition, row)?,
            StoreInput::Condemned {
                partition, floor, ..
            } => {
                self.stints.floor(place, *partition, *floor);
            }
            StoreInput::Persisted(_)
            | StoreInput::Rows { .. }
            | StoreInput::SnapshotOpened { .. }
            | StoreInput::SnapshotChunk { .. }
            | StoreInput::Staged { .. }
            | StoreInput::Destroyed(_) => {}
        }
        Ok(())
    }

    /// A process has ended a turn of its loop.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn replicas(
        &mut self,
        place: Place,
        run: u64,
        core: &NodeCore,
    ) -> Result<(), String> {
        for replica in core.replicas() {
            self.leaders.replica(place, run, &replica)?;
            self.applied.replica(place, &replica)?;
            self.stints.replica(place, &replica)?;
        }
        Ok(())
    }
}

/// Compares what clients were told with what is there.
///
/// # Errors
/// The broken promise.
pub(crate) fn history(records: &[Record], found: &FinalState) -> Result<(), String> {
    appends::check(records, &found.logs)?;
    counters::check(records, &found.counters)?;
    money::check(records, &found.balances)
}
