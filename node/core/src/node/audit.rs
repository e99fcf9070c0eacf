//! Replicas compare what they hold: a leader asks its voters what all their rows come to at one
//! applied index.
//!
//! Only quiet partitions are looked at: there all replicas stand at the same index without a word
//! in the log. Each reads its rows from a view of its own, a piece per tick, beside everything
//! else; one partition at a time. A minority that holds other rows than the majority is condemned
//! and replaced (E0310). Without a majority nobody can tell who is right: that is said loudly, and
//! nothing is touched. Absent: partitions that are written to without a pause, and what a record's
//! own checksum finds already.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::replica::rows::ROWS_VERSION;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{AskRows, Frame, RowsDigest};

use super::NodeCore;
use super::slot::Slot;
use crate::io::{Effect, Event, Lane, Now, Rest, SnapshotEffect, TransferId};
use crate::replica::Role;

/// A partition is quiet when nothing was applied for so long.
const QUIET_AFTER: Duration = Duration::from_secs(10);
/// Pause between two comparisons of one partition whose index has moved, and of one whose has not.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));
/// Ticks between two looks for a partition to compare.
const LOOK_TICKS: u64 = 10;
/// A comparison without all answers is given up after this; large partitions take their time.
const ANSWERS_MAX: Duration = Duration::from_secs(600);
/// Partitions that this node digests at once, for itself and for other leaders; further questions
/// are not answered, and asked again another time.
const DIGESTS_MAX: usize = 4;

/// All comparisons of this node.
#[derive(Default)]
pub(super) struct Audits {
    running: Option<Running>,
    /// The partition looked at last.
    last: Option<PartitionId>,
    digesting: BTreeMap<TransferId, Digesting>,
    /// What this node has told of its replicas.
    told: BTreeMap<PartitionId, (PeerId, LogIndex, u128)>,
}

/// A comparison that this node leads.
struct Running {
    partition: PartitionId,
    term: Term,
    index: LogIndex,
    until: Instant,
    digests: BTreeMap<PeerId, Option<u128>>,
}

/// A replica here is being digested.
struct Digesting {
    partition: PartitionId,
    peer: PeerId,
    index: LogIndex,
    /// Whose question it is; may be this node's.
    asker: NodeId,
    stage: DigestStage,
    /// The store says nothing when the replica is gone.
    until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DigestStage {
    Opening,
    /// Rows are being read.
    Reading,
    /// The next rows are read with the next tick.
    Resting,
}

/// What a partition's leader remembers for its comparisons.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Quiet {
    applied: LogIndex,
    since: Instant,
    compared: Option<(LogIndex, Instant)>,
}

/// What digests say.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Verdict {
    Equal,
    /// These hold other rows than the majority.
    Minority(Vec<PeerId>),
    /// No digest has a majority.
    Undecided,
}

fn judge(digests: &BTreeMap<PeerId, u128>) -> Verdict {
    let mut votes: BTreeMap<u128, usize> = BTreeMap::new();
    for digest in digests.values() {
        *votes.entry(*digest).or_default() += 1;
    }
    let majority = votes.iter().find(|(_, count)| **count * 2 > digests.len());
    match majority {
        _ if votes.len() <= 1 => Verdict::Equal,
        None => Verdict::Undecided,
        Some((right, _)) => {
            let others = digests.iter().filter(|(_, digest)| *digest != right);
            Verdict::Minority(others.map(|(peer, _)| *peer).collect())
        }
    }
}

impl NodeCore {
    pub(super) fn tick_audits(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.audits.digesting.retain(|transfer, digesting| {
            let goes_on = now.instant < digesting.until;
            if !goes_on {
                out.push(Effect::Snapshot(SnapshotEffect::Close(*transfer)));
            }
            goes_on
        });
        for (transfer, digesting) in &mut self.audits.digesting {
            if digesting.stage == DigestStage::Resting {
                digesting.stage = DigestStage::Reading;
                out.push(Effect::Snapshot(SnapshotEffect::Digest(*transfer)));
            }
        }
        if !self.ticks.is_multiple_of(LOOK_TICKS) {
            return;
        }
        self.watch_quiet(now);
        match &self.audits.running {
            Some(running) if now.instant < running.until => {}
            Some(_) => self.audits.running = None,
            None => self.begin_audit(now, out),
        }
    }

    fn watch_quiet(&mut self, now: Now) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for slot in cluster.slots.iter_mut().flatten() {
            let applied = slot.group.applied();
            if slot.quiet.applied != applied {
                slot.quiet.applied = applied;
                slot.quiet.since = now.instant;
            }
        }
    }

    fn begin_audit(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(partition) = self.next_to_compare(now.instant) else {
            return;
        };
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot else { return };
        let (peer, index) = (slot.group.peer(), slot.group.applied());
        let membership = slot.group.membership().clone();
        let running = Running {
            partition,
            term: slot.group.term(),
            index,
            until: now.instant + ANSWERS_MAX,
            digests: membership
                .voters
                .iter()
                .map(|voter| (PeerId(*voter), None))
                .collect(),
        };
        for (voter, node) in membership.nodes().filter(|(voter, _)| *voter != peer) {
            let ask = AskRows {
                partition: u32::from(partition.0),
                peer: voter.0,
                index: index.0,
                version: ROWS_VERSION,
            };
            out.push(Effect::Send {
                to: node,
                lane: Lane::Control,
                frame: Frame::AskRows(ask),
            });
        }
        self.audits.last = Some(partition);
        self.audits.running = Some(running);
        if let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) {
            slot.quiet.compared = Some((index, now.instant));
        }
        self.begin_digest(now.instant, partition, peer, index, self.me, out);
    }

    /// The next one that is due, in turn.
    fn next_to_compare(&self, now: Instant) -> Option<PartitionId> {
        let cluster = self.cluster.as_ref()?;
        let after = self.audits.last.map_or(0, |last| last.0 + 1);
        let due = |slot: &&Slot| self.audit_is_due(slot, now);
        let mut later = cluster.slots().filter(|slot| slot.partition().0 >= after);
        let found = later.find(due).or_else(|| cluster.slots().find(due));
        found.map(Slot::partition)
    }

    /// Whether a partition is led from here, at rest, whole, and was not compared lately.
    fn audit_is_due(&self, slot: &Slot, now: Instant) -> bool {
        let group = &slot.group;
        let membership = group.membership();
        let plain = !membership.is_joint() && membership.learners.is_empty();
        if slot.serving().is_none() || !plain || membership.voters.len() < 2 {
            return false;
        }
        let at_rest = group.applied() == group.commit() && group.applied() == group.last().index;
        if !at_rest || slot.quiet.applied != group.applied() {
            return false;
        }
        let again = match slot.quiet.compared {
            None => Duration::ZERO,
            Some((index, _)) if index != group.applied() => AGAIN_AFTER.0,
            Some(_) => AGAIN_AFTER.1,
        };
        let rested = now.since(slot.quiet.since) >= QUIET_AFTER;
        let lately = slot
            .quiet
            .compared
            .is_some_and(|(_, at)| now.since(at) < again);
        let there = |node: NodeId| node == self.me || self.links.answers(node);
        rested && !lately && membership.nodes().all(|(_, node)| there(node))
    }

    fn begin_digest(
        &mut self,
        now: Instant,
        partition: PartitionId,
        peer: PeerId,
        index: LogIndex,
        asker: NodeId,
        out: &mut Vec<Effect>,
    ) {
        if self.audits.digesting.len() >= DIGESTS_MAX {
            return;
        }
        let transfer = self.transfers.begin();
        let digesting = Digesting {
            partition,
            peer,
            index,
            asker,
            stage: DigestStage::Opening,
            until: now + ANSWERS_MAX,
        };
        self.audits.digesting.insert(transfer, digesting);
        out.push(Effect::Snapshot(SnapshotEffect::Open {
            transfer,
            partition,
        }));
    }

    /// A leader asks what a replica here comes to.
    pub(super) fn take_ask_rows(
        &mut self,
        now: Now,
        from: NodeId,
        ask: AskRows,
        out: &mut Vec<Effect>,
    ) {
        let Ok(partition) = u16::try_from(ask.partition) else {
            return;
        };
        let (partition, peer, index) = (
            PartitionId(partition),
            PeerId(ask.peer),
            LogIndex(ask.index),
        );
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot.filter(|slot| slot.group.peer() == peer) else {
            return;
        };
        let asked_already = self.audits.digesting.values();
        let asked_already = asked_already.filter(|d| d.partition == partition && d.asker == from);
        if ask.version == ROWS_VERSION
            && slot.group.applied() == index
            && asked_already.count() == 0
        {
            self.begin_digest(now.instant, partition, peer, index, from, out);
        }
    }

    /// A view is open; whether it is one of a comparison.
    pub(super) fn audit_opened(
        &mut self,
        transfer: TransferId,
        at: LogPosition,
        out: &mut Vec<Effect>,
    ) -> Opened {
        let Some(digesting) = self.audits.digesting.get_mut(&transfer) else {
            return Opened::Other;
        };
        if at.index == digesting.index {
            digesting.stage = DigestStage::Reading;
            out.push(Effect::Snapshot(SnapshotEffect::Digest(transfer)));
        } else {
            // The partition is not quiet any more.
            self.audits.digesting.remove(&transfer);
            out.push(Effect::Snapshot(SnapshotEffect::Close(transfer)));
        }
        Opened::ForAudit
    }

    pub(super) fn digested(
        &mut self,
        now: Now,
        transfer: TransferId,
        digest: u128,
        rest: Rest,
        out: &mut Vec<Effect>,
    ) {
        let Some(digesting) = self.audits.digesting.get_mut(&transfer) else {
            return;
        };
        if rest == Rest::More {
            digesting.stage = DigestStage::Resting;
            return;
        }
        let Some(digesting) = self.audits.digesting.remove(&transfer) else {
            return;
        };
        out.push(Effect::Snapshot(SnapshotEffect::Close(transfer)));
        let Digesting {
            partition,
            peer,
            index,
            asker,
            ..
        } = digesting;
        self.audits.told.insert(partition, (peer, index, digest));
        let answer = digest_frame(partition, peer, index, digest);
        if asker == self.me {
            self.take_digest(now, self.me, &answer, out);
        } else {
            out.push(Effect::Send {
                to: asker,
                lane: Lane::Control,
                frame: Frame::RowsDigest(answer),
            });
        }
    }

    /// A replica's digest has come.
    pub(super) fn take_digest(
        &mut self,
        now: Now,
        from: NodeId,
        answer: &RowsDigest,
        out: &mut Vec<Effect>,
    ) {
        let Some(digest) = answer.digest() else {
            return;
        };
        let peer = PeerId(answer.peer);
        let Some(running) = &mut self.audits.running else {
            return;
        };
        let slot = self
            .cluster
            .as_ref()
            .and_then(|c| c.slot(running.partition));
        // Another term may have another group: then nothing here says who should be condemned.
        let Some(slot) = slot
            .filter(|slot| slot.group.term() == running.term && slot.group.role() == Role::Leader)
        else {
            self.audits.running = None;
            return;
        };
        let asked = u32::from(running.partition.0) == answer.partition
            && running.index.0 == answer.index
            && slot.group.node_of(peer) == Some(from);
        match running.digests.get_mut(&peer) {
            Some(known) if asked => *known = Some(digest),
            Some(_) | None => return,
        }
        if running.digests.values().all(Option::is_some) {
            self.conclude_audit(now, out);
        }
    }

    fn conclude_audit(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(running) = self.audits.running.take() else {
            return;
        };
        let (partition, index) = (running.partition, running.index);
        let digests = running.digests.iter();
        let digests: BTreeMap<PeerId, u128> = digests
            .filter_map(|(peer, digest)| Some((*peer, (*digest)?)))
            .collect();
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot else { return };
        let holders = digests.iter().map(|(peer, digest)| {
            let node = slot.group.node_of(*peer);
            let name = node.map_or_else(|| peer.to_string(), |node| self.name_of(node));
            format!("{name} {digest:032x}")
        });
        let holders = holders.collect::<Vec<_>>().join(", ");
        let why = match judge(&digests) {
            Verdict::Equal => return,
            Verdict::Undecided => format!(
                "its copies differ at index {index} and none of them has a majority ({holders}): nothing \
                 is replaced, because nobody can tell which is right [{}]",
                Code::StatesDiffer
            ),
            Verdict::Minority(wrong) => {
                self.condemn_minority(now, partition, index, &digests, &wrong, out);
                format!(
                    "its copies differ at index {index} ({holders}): what is not as the majority has it \
                     is replaced [{}]",
                    Code::StatesDiffer
                )
            }
        };
        out.push(Effect::Event(Event::StatesDiffer { partition, why }));
    }

    fn condemn_minority(
        &mut self,
        now: Now,
        partition: PartitionId,
        index: LogIndex,
        digests: &BTreeMap<PeerId, u128>,
        wrong: &[PeerId],
        out: &mut Vec<Effect>,
    ) {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot else { return };
        let mine = slot.group.peer();
        for peer in wrong.iter().filter(|peer| **peer != mine) {
            let (Some(node), Some(digest)) = (slot.group.node_of(*peer), digests.get(peer)) else {
                continue;
            };
            let frame = Frame::RowsDiffer(digest_frame(partition, *peer, index, *digest));
            out.push(Effect::Send {
                to: node,
                lane: Lane::Control,
                frame,
            });
        }
        if wrong.contains(&mine) {
            self.break_with(now, partition, differs(index), out);
        }
    }

    /// The leader says that a replica here is not as the majority's are.
    pub(super) fn take_rows_differ(
        &mut self,
        now: Now,
        from: NodeId,
        word: &RowsDigest,
        out: &mut Vec<Effect>,
    ) {
        let Ok(partition) = u16::try_from(word.partition) else {
            return;
        };
        let partition = PartitionId(partition);
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot else { return };
        let leads = slot.group.leader().and_then(|l| slot.group.node_of(l)) == Some(from);
        let (peer, index) = (slot.group.peer(), LogIndex(word.index));
        // It must be about what was told from here, by whoever leads.
        let told = self.audits.told.get(&partition).copied();
        let said = word.digest().map(|digest| (peer, index, digest));
        if leads && peer.0 == word.peer && told.is_some() && told == said {
            self.break_with(now, partition, differs(index), out);
        }
    }
}

/// Whose view was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opened {
    ForAudit,
    Other,
}

fn differs(index: LogIndex) -> String {
    format!(
        "at index {index} its rows are not those that the majority of its group holds [{}]",
        Code::StatesDiffer
    )
}

fn digest_frame(partition: PartitionId, peer: PeerId, index: LogIndex, digest: u128) -> RowsDigest {
    RowsDigest {
        partition: u32::from(partition.0),
        peer: peer.0,
        index: index.0,
        digest: Bytes::copy_from_slice(&digest.to_be_bytes()),
    }
}

#[cfg(test)]
mod tests;
