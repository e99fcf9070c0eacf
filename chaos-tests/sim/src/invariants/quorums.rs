//! Committed means synced on a quorum of the membership in force (Raft 5.3 and 5.4.2, thesis 4.3;
//! promise G3): when a leader moves its commit index, a majority of its voters, in a joint
//! membership of both halves, has that entry on disk.
//!
//! What a stint has once synced counts for ever here: what becomes of its disk later is no fault of
//! the commit.

use std::collections::BTreeMap;

use ghostlight_core::io::{PersistTicket, StoreEffect};
use ghostlight_core::node::ReplicaView;
use ghostlight_core::replica::Role;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId, PeerId, Term};
use ghostlight_protocol::partition_row::Membership;
use ghostlight_protocol::replica::log::RecoveredReplica;

use crate::net::Place;

/// What each stint has synced, and what each leader has committed.
#[derive(Default, Debug)]
pub(super) struct Quorums {
    synced: BTreeMap<(PartitionId, PeerId), Synced>,
    waiting: BTreeMap<(Place, PersistTicket), Vec<Waiting>>,
    seen: BTreeMap<(Place, PartitionId), Seen>,
}

/// What a stint writes, not synced yet.
type Waiting = (PartitionId, PeerId, Write);

/// The log of one stint.
#[derive(Default, Debug)]
struct Synced {
    /// All up to here, by a snapshot.
    through: LogIndex,
    entries: BTreeMap<LogIndex, Term>,
}

#[derive(Debug)]
enum Write {
    Snapshot(LogIndex),
    Entries(Vec<LogPosition>),
}

/// A replica at the end of a turn.
#[derive(Debug)]
struct Seen {
    led: Option<Term>,
    commit: LogIndex,
    membership: Membership,
}

impl Synced {
    fn take(&mut self, write: Write) {
        match write {
            Write::Snapshot(index) => self.through = self.through.max(index),
            Write::Entries(entries) => {
                if let Some(first) = entries.first() {
                    drop(self.entries.split_off(&first.index));
                }
                self.entries
                    .extend(entries.iter().map(|at| (at.index, at.term)));
            }
        }
    }

    fn has(&self, at: LogPosition) -> bool {
        self.through >= at.index || self.entries.get(&at.index) == Some(&at.term)
    }
}

/// Whether two memberships of a replica are one: each change makes one with another index. Asked
/// after every step, where a look at all of it would cost more than the step.
fn is_same(one: &Membership, other: &Membership) -> bool {
    one.index == other.index && one.voters.len() == other.voters.len()
}

impl Quorums {
    pub(super) fn started(&mut self, place: Place, replicas: &[RecoveredReplica]) {
        self.stopped(place);
        for replica in replicas {
            let synced = self.synced.entry((replica.partition, replica.peer));
            let synced = synced.or_default();
            synced.take(Write::Snapshot(replica.truncated.index));
            // Of what a crash left unreported, this is the first that is heard.
            let entries = replica
                .tail
                .iter()
                .map(|entry| (entry.at.index, entry.at.term));
            synced.entries.extend(entries);
        }
    }

    pub(super) fn stopped(&mut self, place: Place) {
        self.waiting.retain(|(p, _), _| *p != place);
        self.seen.retain(|(p, _), _| *p != place);
    }

    pub(super) fn asked(&mut self, place: Place, effect: &StoreEffect) {
        let StoreEffect::Persist {
            ticket,
            installs,
            writes,
            ..
        } = effect
        else {
            return;
        };
        let mut waiting = Vec::new();
        for install in installs {
            let write = Write::Snapshot(install.at.index);
            waiting.push((install.partition, install.peer, write));
        }
        for write in writes.iter().filter(|write| !write.entries.is_empty()) {
            let entries = write.entries.iter().map(|entry| entry.at).collect();
            waiting.push((write.partition, write.peer, Write::Entries(entries)));
        }
        self.waiting.insert((place, *ticket), waiting);
    }

    pub(super) fn persisted(&mut self, place: Place, ticket: PersistTicket) {
        for (partition, peer, write) in self.waiting.remove(&(place, ticket)).unwrap_or_default() {
            self.synced
                .entry((partition, peer))
                .or_default()
                .take(write);
        }
    }

    pub(super) fn replica(
        &mut self,
        place: Place,
        replica: &ReplicaView<'_>,
    ) -> Result<(), String> {
        let key = (place, replica.partition);
        let led = (replica.role == Role::Leader).then_some(replica.term);
        let Some(seen) = self.seen.get_mut(&key) else {
            let membership = replica.membership.clone();
            let commit = replica.commit;
            self.seen.insert(
                key,
                Seen {
                    led,
                    commit,
                    membership,
                },
            );
            return Ok(());
        };
        let (commit, moved) = (replica.commit, replica.commit > seen.commit);
        let led_before = std::mem::replace(&mut seen.led, led);
        seen.commit = commit;
        // A membership that was applied in this turn may have come after the commit.
        let before = (!is_same(&seen.membership, replica.membership))
            .then(|| std::mem::replace(&mut seen.membership, replica.membership.clone()));
        let Some(term) = led.filter(|_| moved && led == led_before) else {
            return Ok(());
        };
        // A leader commits entries of its own term alone; those before them with them.
        let at = LogPosition {
            index: commit,
            term,
        };
        let quorum = |m: &Membership| self.has_quorum(replica.partition, m, at);
        if quorum(replica.membership) || before.as_ref().is_some_and(quorum) {
            return Ok(());
        }
        Err(format!(
            "committed is synced on a quorum: {} {commit} of {term} is committed at node {place}, and synced \
             at {:?} of {:?}",
            replica.partition,
            self.holders(replica.partition, replica.membership, at),
            replica.membership
        ))
    }

    fn has_quorum(&self, partition: PartitionId, membership: &Membership, at: LogPosition) -> bool {
        let holders = self.holders(partition, membership, at);
        let majority = |voters: &[u64]| {
            let held = voters.iter().filter(|v| holders.contains(&PeerId(**v)));
            held.count() * 2 > voters.len()
        };
        majority(&membership.voters)
            && (!membership.is_joint() || majority(&membership.voters_outgoing))
    }

    fn holders(
        &self,
        partition: PartitionId,
        membership: &Membership,
        at: LogPosition,
    ) -> Vec<PeerId> {
        let peers = membership.nodes().map(|(peer, _)| peer);
        let holds = |peer: &PeerId| {
            let synced = self.synced.get(&(partition, *peer));
            synced.is_some_and(|synced| synced.has(at))
        };
        peers.filter(holds).collect()
    }
}
