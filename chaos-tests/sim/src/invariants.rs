//! What must hold, whatever fails: one file per promise.
//!
//! Those about replicas are checked at every step of a node, those about histories at the end.

mod applied;
mod clusters;
mod committed;
mod completeness;
mod histories;
mod leaders;
mod logs;
mod messages;
mod money;
mod once;
mod promises;
mod quorums;
mod state;
mod stints;
mod strength;
mod topics;
mod versions;
mod votes;

use std::collections::BTreeSet;

use ghostlight_core::io::{StoreEffect, StoreInput};
use ghostlight_core::node::ReplicaView;
use ghostlight_protocol::command::{Command, Kind};
use ghostlight_protocol::ids::{PartitionId, PeerId, Term};
use ghostlight_protocol::replica::ApplyItem;
use ghostlight_protocol::replica::log::RecoveredReplica;
use prost::Message as _;

use committed::Seen;

use crate::clients::Record;
use crate::net::Place;

/// Everything seen so far that later steps must agree with.
#[derive(Debug)]
pub(crate) struct Checks {
    leaders: leaders::Leaders,
    committed: committed::Committed,
    logs: logs::Logs,
    state: state::States,
    applied: applied::AppliedMarks,
    stints: stints::Stints,
    once: once::Once,
    promises: promises::Promises,
    votes: votes::Votes,
    quorums: quorums::Quorums,
    completeness: completeness::Completeness,
    versions: versions::Versions,
    messages: messages::Messages,
    strength: strength::Strength,
    /// See the module.
    pub topics: topics::Topics,
    /// Places whose node belongs to another cluster: its groups are not ours.
    foreign: BTreeSet<Place>,
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
    /// Lines of each herald.
    pub heralds: Vec<Vec<String>>,
}

impl Checks {
    /// Nothing seen yet.
    #[must_use]
    pub(crate) fn new(partitions: u16, factor: u8, pace_max: u64) -> Self {
        Self {
            leaders: leaders::Leaders::default(),
            committed: committed::Committed::new(partitions),
            logs: logs::Logs::default(),
            state: state::States::default(),
            applied: applied::AppliedMarks::default(),
            stints: stints::Stints::default(),
            once: once::Once::default(),
            promises: promises::Promises::default(),
            votes: votes::Votes::default(),
            quorums: quorums::Quorums::default(),
            completeness: completeness::Completeness::default(),
            versions: versions::Versions::default(),
            messages: messages::Messages::default(),
            strength: strength::Strength::of(factor),
            topics: topics::Topics::new(pace_max),
            foreign: BTreeSet::new(),
        }
    }

    /// What happens at a place is another cluster's from now on.
    pub(crate) fn foreign(&mut self, place: Place) {
        self.foreign.insert(place);
    }

    /// It is ours again.
    pub(crate) fn ours(&mut self, place: Place) {
        self.foreign.remove(&place);
    }

    /// A process began with these replicas.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn started(
        &mut self,
        place: Place,
        copy_of: Option<Place>,
        replicas: &[RecoveredReplica],
    ) -> Result<(), String> {
        if self.foreign.contains(&place) {
            return Ok(());
        }
        self.applied.started(place, replicas);
        self.stints.started(place, replicas);
        // What a copy begins with says nothing about what the original has.
        if copy_of.is_none() {
            self.promises.started(place, replicas);
        }
        self.quorums.started(place, replicas);
        self.logs.started(place, replicas)
    }

    /// A process ended.
    pub(crate) fn stopped(&mut self, place: Place) {
        self.applied.stopped(place);
        self.logs.stopped(place);
        self.votes.stopped(place);
        self.promises.stopped(place);
        self.quorums.stopped(place);
        self.completeness.stopped(place);
        self.topics.stopped(place);
    }

    /// A frame that carries promises leaves a place.
    pub(crate) fn spoke(&mut self, place: Place) {
        self.promises.spoke(place);
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
        if self.foreign.contains(&place) {
            return Ok(());
        }
        self.leaders.serves(partition, term, place, run)
    }

    /// Whether every group has its full strength.
    pub(crate) fn is_strong(&self, partitions: u16) -> bool {
        self.strength.is_full(partitions)
    }

    /// Which promise a stint has broken, if any: it has no vote when all is healed.
    pub(crate) fn broken(&self, partition: PartitionId, peer: PeerId) -> Option<&str> {
        self.promises.broken(partition, peer)
    }

    /// A core asks its store for something.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn asked(&mut self, place: Place, effect: &StoreEffect) -> Result<(), String> {
        if self.foreign.contains(&place) {
            return Ok(());
        }
        if let StoreEffect::Apply(work) = effect {
            for (partition, items) in work {
                for item in items {
                    let seen = self.committed.seen(place, *partition, item)?;
                    if seen == Seen::First {
                        self.committed_first(*partition, item)?;
                    }
                    self.stints.committed(*partition, item);
                    self.completeness.committed(*partition, item);
                    self.strength.committed(*partition, item)?;
                }
            }
        }
        self.logs.asked(place, effect);
        self.votes.asked(place, effect);
        self.promises.asked(place, effect)?;
        self.quorums.asked(place, effect);
        self.stints.asked(place, effect)
    }

    /// An entry is about to be applied somewhere for the first time: what it says, it says on every
    /// replica.
    fn committed_first(&mut self, partition: PartitionId, item: &ApplyItem) -> Result<(), String> {
        let ApplyItem::Command { at, data } = item else {
            return Ok(());
        };
        let Ok(command) = Command::decode(data.clone()) else {
            return Ok(());
        };
        let term = Term(command.leader_term);
        // The first entry of a term says nothing.
        if !data.is_empty() {
            leaders::proposed(partition, *at, term)?;
        }
        match command.kind {
            Some(Kind::Turns(turns)) => {
                self.topics.turns_asked(partition, at.index, &turns.turns);
                self.versions.asked(partition, at.index, term, &turns.turns);
                self.once.asked(partition, at.index, turns.turns);
            }
            Some(Kind::Topics(ops)) => self.topics.asked(partition, at.index, ops),
            _ => {}
        }
        Ok(())
    }

    /// A store answers its core.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn answered(
        &mut self,
        place: Place,
        now: u64,
        input: &StoreInput,
    ) -> Result<(), String> {
        if self.foreign.contains(&place) {
            return Ok(());
        }
        match input {
            StoreInput::Applied(batch) => {
                for applied in batch {
                    self.state.row(place, applied.partition, &applied.row)?;
                    self.once.applied(applied)?;
                    self.versions.applied(applied)?;
                    self.messages.applied(applied)?;
                    self.topics.applied(now, applied)?;
                }
            }
            StoreInput::Installed { partition, row } => self.state.row(place, *partition, row)?,
            StoreInput::Condemned {
                partition, floor, ..
            } => {
                self.stints.floor(place, *partition, *floor);
            }
            StoreInput::Persisted(ticket) => {
                self.logs.persisted(place, *ticket)?;
                self.votes.persisted(place, *ticket)?;
                self.promises.persisted(place, *ticket);
                self.quorums.persisted(place, *ticket);
            }
            StoreInput::InstallRefused { .. }
            | StoreInput::Rows { .. }
            | StoreInput::SnapshotOpened { .. }
            | StoreInput::SnapshotChunk { .. }
            | StoreInput::Staged { .. }
            | StoreInput::Digested { .. }
            | StoreInput::Room(_)
            | StoreInput::Destroyed(_) => {}
        }
        Ok(())
    }

    /// How a replica stands when its process has ended a turn of its loop.
    ///
    /// # Errors
    /// The broken promise.
    pub(crate) fn replica(
        &mut self,
        place: Place,
        run: u64,
        replica: &ReplicaView<'_>,
    ) -> Result<(), String> {
        if self.foreign.contains(&place) {
            return Ok(());
        }
        self.leaders.replica(place, run, replica)?;
        self.applied.replica(place, replica)?;
        self.quorums.replica(place, replica)?;
        self.completeness.replica(place, replica)
    }
}

pub(crate) use clusters::check as clusters;
pub(crate) use histories::files;
pub(crate) use topics::{At, Told, compare_lines};

/// Compares what clients were told with what is there.
///
/// # Errors
/// The broken promise.
pub(crate) fn history(records: &[Record], found: &FinalState, now: u64) -> Result<(), String> {
    histories::check(records, found, now)?;
    money::check(records, &found.balances)
}
