//! The end of a turn of the loop: what every dirty group wants, in one batch and one frame per
//! peer.
//!
//! One batch is being synced at a time; what comes meanwhile gathers for the next, so the sync time
//! is the batching window. Entries are applied after the batch that made them durable.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::limits::LANE_FRAME_BYTES_MAX;
use ghostlight_protocol::marks::Told;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::replica::{ApplyItem, LogWrite};
use ghostlight_protocol::wire::frame::{Control, Frame, RaftMessage, RaftMessages};
use ghostlight_protocol::wire::hello::NodeRecord;

use super::NodeCore;
use super::slot::Slot;
use crate::io::{Effect, InstallWrite, Lane, Now, PersistTicket, StoreEffect, TransferId};
use crate::replica::{GroupReady, Install, Outgoing, Sender, peek};

/// Bytes of Raft messages gathered into one frame, what wraps them included; a message may exceed
/// it alone, and then travels on a stream of its own.
const RAFT_FRAME_BYTES: usize = LANE_FRAME_BYTES_MAX;
/// Bytes that wrap one message in a frame, at most.
const RAFT_MESSAGE_EXTRA_BYTES: usize = 16;
/// Bytes of the frame's own field and of the mark, at most.
const RAFT_FRAME_EXTRA_BYTES: usize = 32;

/// Gathered for the end of the turn.
#[derive(Default)]
pub(super) struct Outbound {
    /// Control frames to send.
    pub(super) control: BTreeMap<NodeId, Control>,
    /// Our own record, changed, for these nodes.
    pub(super) records: Vec<(NodeId, NodeRecord)>,
    votes: BTreeMap<NodeId, Vec<RaftMessage>>,
    appends: BTreeMap<NodeId, Vec<RaftMessage>>,
    apply: Vec<(PartitionId, Vec<ApplyItem>)>,
    writes: Vec<LogWrite>,
    installs: Vec<InstallWrite>,
    /// Groups and ready numbers in `writes` and `installs`.
    numbers: Vec<(PartitionId, PeerId, u64, Option<Install>)>,
    /// Memberships that were applied and are not known to be durable.
    memberships: BTreeMap<PartitionId, NewMembership>,
    syncing: Option<Syncing>,
    next_ticket: u64,
}

struct Syncing {
    ticket: PersistTicket,
    /// The node's tick at which the disk got it.
    since: u64,
    numbers: Vec<(PartitionId, PeerId, u64, Option<Install>)>,
    memberships: BTreeMap<PartitionId, NewMembership>,
}

/// A membership that was applied, and who is no longer in it.
struct NewMembership {
    peer: PeerId,
    index: u64,
    leavers: Vec<(PeerId, NodeId)>,
}

impl Outbound {
    /// A replica is gone: nothing of it is written or applied any more.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.writes.retain(|write| write.partition != partition);
        self.installs
            .retain(|install| install.partition != partition);
        self.numbers.retain(|(p, ..)| *p != partition);
        self.apply.retain(|(p, _)| *p != partition);
        self.memberships.remove(&partition);
    }

    /// Ticks for which the batch at the disk has not been synced.
    pub(super) fn unsynced_ticks(&self, ticks: u64) -> u64 {
        let syncing = self.syncing.as_ref();
        syncing.map_or(0, |syncing| ticks.saturating_sub(syncing.since))
    }

    /// A membership was applied: it is made durable with the next batch, even if nothing else is.
    pub(super) fn membership_applied(
        &mut self,
        partition: PartitionId,
        peer: PeerId,
        index: u64,
        leavers: Vec<(PeerId, NodeId)>,
    ) {
        let new = self.memberships.entry(partition);
        let new = new.or_insert_with(|| NewMembership {
            peer,
            index,
            leavers: Vec::new(),
        });
        new.index = index;
        new.leavers.extend(leavers);
    }
}

impl NodeCore {
    pub(super) fn flush_groups(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let dirty = std::mem::take(&mut cluster.dirty);
        for partition in dirty {
            let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
            let Some(slot) = slot else { continue };
            if self.marks.holds_back(partition) {
                continue;
            }
            let ready = slot.group.ready();
            let peer = slot.group.peer();
            self.take_ready(now, partition, peer, ready, out);
            self.follow_role(now, partition, out);
        }
    }

    fn take_ready(
        &mut self,
        now: Now,
        partition: PartitionId,
        peer: PeerId,
        ready: GroupReady,
        out: &mut Vec<Effect>,
    ) {
        for outgoing in ready.send {
            self.gather(now, partition, outgoing, out);
        }
        if ready.install.is_none() {
            self.transfers.passed_over(partition);
        }
        if let Some(install) = &ready.install {
            // Installs go first: entries that wait are below the snapshot or replaced by it, and
            // its hard state is younger than theirs.
            self.flush
                .writes
                .retain(|write| write.partition != partition);
            let (transfer, chunks) = self.transfers.begin_install(partition);
            self.flush.installs.push(InstallWrite {
                partition,
                peer,
                transfer,
                chunks,
                at: install.at,
                hard_state: install.hard_state,
            });
        }
        self.flush.writes.extend(ready.write);
        if let Some(number) = ready.number {
            self.flush
                .numbers
                .push((partition, peer, number, ready.install));
        }
        if !ready.apply.is_empty() {
            self.flush.apply.push((partition, ready.apply));
        }
        for (context, index) in ready.reads {
            self.confirmed(partition, context, index);
        }
        for to in ready.open_snapshots {
            self.want_snapshot(now, partition, to, out);
        }
    }

    fn gather(
        &mut self,
        now: Now,
        partition: PartitionId,
        outgoing: Outgoing,
        out: &mut Vec<Effect>,
    ) {
        let wrap = |message: Bytes| RaftMessage {
            partition: u32::from(partition.0),
            message,
        };
        match outgoing {
            Outgoing::Heartbeat(to, heartbeat) => {
                self.flush
                    .control
                    .entry(to)
                    .or_default()
                    .heartbeats
                    .push(heartbeat);
            }
            Outgoing::HeartbeatAnswer(to, answer) => {
                self.flush
                    .control
                    .entry(to)
                    .or_default()
                    .answers
                    .push(answer);
            }
            Outgoing::Vote(to, message) => {
                self.flush.votes.entry(to).or_default().push(wrap(message));
            }
            Outgoing::Append(to, message) => {
                self.flush
                    .appends
                    .entry(to)
                    .or_default()
                    .push(wrap(message));
            }
            Outgoing::Snapshot { to, node, message } => {
                self.begin_sending(now, partition, to, node, message, out);
            }
        }
    }

    /// Sends the gathered frames, then writes, then applies: in this order, so that a leader's
    /// appends travel while its own disk works.
    pub(super) fn flush_outbound(&mut self, out: &mut Vec<Effect>) {
        let wall_ms = self.machine.0;
        let shares = if self.flush.control.is_empty() {
            (0, 0)
        } else {
            self.shares()
        };
        let condemned = self.condemned_here();
        let fitness = self.fitness.present() as i32;
        let Told { mark, nonce } = self.marks.telling();
        let mark = mark.0;
        for (to, mut control) in std::mem::take(&mut self.flush.control) {
            control.wall_ms = wall_ms;
            control.condemned.clone_from(&condemned);
            (control.replicas, control.leaders) = shares;
            control.fitness = fitness;
            (control.mark, control.nonce) = (mark, nonce);
            out.push(Effect::Send {
                to,
                lane: Lane::Control,
                frame: Frame::Control(control),
            });
        }
        for (to, record) in std::mem::take(&mut self.flush.records) {
            out.push(Effect::Send {
                to,
                lane: Lane::Control,
                frame: Frame::Record(record),
            });
        }
        for (to, messages) in std::mem::take(&mut self.flush.votes) {
            let frame = Frame::Raft(RaftMessages {
                messages,
                mark,
                nonce,
            });
            out.push(Effect::Send {
                to,
                lane: Lane::Control,
                frame,
            });
        }
        for (to, messages) in std::mem::take(&mut self.flush.appends) {
            for messages in split(messages) {
                let frame = Frame::Raft(RaftMessages {
                    messages,
                    mark,
                    nonce,
                });
                out.push(Effect::Send {
                    to,
                    lane: Lane::Append,
                    frame,
                });
            }
        }
        if !self.flush.apply.is_empty() {
            let batch = std::mem::take(&mut self.flush.apply);
            out.push(Effect::Store(StoreEffect::Apply(batch)));
        }
        self.sync_gathered(out);
    }

    fn sync_gathered(&mut self, out: &mut Vec<Effect>) {
        let since = self.ticks;
        let flush = &mut self.flush;
        let idle = flush.numbers.is_empty() && flush.memberships.is_empty();
        if flush.syncing.is_some() || idle {
            return;
        }
        flush.next_ticket += 1;
        let ticket = PersistTicket(flush.next_ticket);
        let numbers = std::mem::take(&mut flush.numbers);
        let memberships = std::mem::take(&mut flush.memberships);
        for (partition, new) in &memberships {
            let slot = self.cluster.as_ref().and_then(|c| c.slot(*partition));
            if let Some(slot) = slot.filter(|slot| slot.group.peer() == new.peer) {
                // Whatever is synced after an apply makes the apply durable too.
                flush.writes.push(LogWrite {
                    partition: *partition,
                    peer: new.peer,
                    hard_state: Some(slot.group.applied_hard_state()),
                    entries: Vec::new(),
                });
            }
        }
        flush.syncing = Some(Syncing {
            ticket,
            since,
            numbers,
            memberships,
        });
        out.push(Effect::Store(StoreEffect::Persist {
            ticket,
            installs: std::mem::take(&mut flush.installs),
            writes: std::mem::take(&mut flush.writes),
            marks: self.marks.begin(ticket),
        }));
    }

    /// A batch is synced: what it promised may leave.
    pub(super) fn persisted(&mut self, now: Now, ticket: PersistTicket, out: &mut Vec<Effect>) {
        let syncing = self.flush.syncing.take();
        let Some(syncing) = syncing else {
            panic!("{ticket:?} was synced, but none was asked")
        };
        assert_eq!(syncing.ticket, ticket, "batches are synced in order");
        self.marks.end(ticket);
        for (partition, peer, number, install) in syncing.numbers {
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            let Some(slot) = cluster.slot_mut(partition) else {
                continue;
            };
            // Destroyed and created again meanwhile: another stint.
            if slot.group.peer() != peer {
                continue;
            }
            let send = slot.group.persisted(number);
            if let Some(install) = install {
                slot.group.installed(install.at);
                self.transfers.installed(partition);
            }
            cluster.dirty.insert(partition);
            for outgoing in send {
                self.gather(now, partition, outgoing, out);
            }
        }
        for (partition, new) in syncing.memberships {
            let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
            if let Some(slot) = slot.filter(|slot| slot.group.peer() == new.peer) {
                // A snapshot in the same batch may have brought a later one.
                slot.durable_membership = slot.durable_membership.max(new.index);
                self.tell_leavers(partition, &new.leavers, out);
            }
        }
    }

    pub(super) fn installed(&mut self, partition: PartitionId, row: PartitionRow) {
        if let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) {
            slot.durable_membership = row.membership.as_ref().map_or(0, |m| m.index);
            slot.row = Some(row);
        }
    }

    /// A snapshot could not be installed. The engine has taken it already, so the replica begins
    /// again from its disk, as after a crash; what it would have promised with the snapshot has not
    /// left.
    pub(super) fn install_refused(
        &mut self,
        now: Now,
        replica: &RecoveredReplica,
        why: &str,
        out: &mut Vec<Effect>,
    ) {
        let partition = replica.partition;
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        if slot.is_none_or(|slot| slot.group.peer() != replica.peer) {
            return;
        }
        Self::say(
            out,
            format!("{partition}: a received snapshot is of no use, another one is wanted: {why}"),
        );
        self.close(now, partition, out);
        self.flush.forget(partition);
        self.marks.forget(partition);
        if let Some(syncing) = &mut self.flush.syncing {
            syncing.numbers.retain(|(p, ..)| *p != partition);
            syncing.memberships.remove(&partition);
        }
        self.transfers.forget(partition);
        let slot = Slot::recovered(now.instant, replica, self.start.group());
        if let Some(cluster) = &mut self.cluster {
            cluster.put_slot(slot);
            cluster.dirty.insert(partition);
        }
    }

    /// Whether what a node says as a peer of a group is looked at: what it says as the peer of
    /// another node is not, before it can create or replace anything here.
    pub(super) fn may_speak_as(&self, partition: PartitionId, peer: PeerId, node: NodeId) -> bool {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        slot.is_none_or(|slot| slot.group.may_live_on(peer, node))
    }

    pub(super) fn take_raft(
        &mut self,
        now: Now,
        from: NodeId,
        message: RaftMessage,
        out: &mut Vec<Effect>,
    ) {
        let Ok(partition) = u16::try_from(message.partition) else {
            return;
        };
        let partition = PartitionId(partition);
        let Some(peeked) = peek(&message.message) else {
            return;
        };
        if !self.may_speak_as(partition, peeked.from, from) {
            return;
        }
        match peeked.sender {
            Sender::Leader => self.ensure_replica(now, partition, peeked.to, out),
            Sender::Follower => self.links.confirmed(from, now.instant),
            Sender::Other => {}
        }
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if self.marks.holds_back(partition) {
            return;
        }
        if let Some(slot) = cluster.slot_mut(partition) {
            slot.group.step(from, &message.message);
            cluster.dirty.insert(partition);
        }
    }

    pub(super) fn tick_groups(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for slot in cluster.slots.iter_mut().flatten() {
            if self.marks.holds_back(slot.group.partition()) {
                continue;
            }
            slot.group.tick();
            if slot.group.has_ready() {
                cluster.dirty.insert(slot.group.partition());
            }
        }
    }
}

/// Transfer and chunk count of the snapshot that a group is about to install.
pub(super) type ArrivedSnapshot = (TransferId, u64);

fn split(messages: Vec<RaftMessage>) -> Vec<Vec<RaftMessage>> {
    let mut frames: Vec<Vec<RaftMessage>> = Vec::new();
    let mut bytes = usize::MAX;
    for message in messages {
        let more = message.message.len() + RAFT_MESSAGE_EXTRA_BYTES;
        if bytes.saturating_add(more) > RAFT_FRAME_BYTES - RAFT_FRAME_EXTRA_BYTES {
            frames.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(frame) = frames.last_mut() {
            frame.push(message);
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of several messages always fits a lane; a large message is alone.
    #[test]
    fn gathered_messages_fit_a_lane() {
        let message = |partition: u32, size: usize| RaftMessage {
            partition,
            message: Bytes::from(vec![1; size]),
        };
        let sizes = [
            10,
            65_000,
            500,
            65_536,
            3,
            0,
            1 << 20,
            2 << 20,
            7,
            32_000,
            32_000,
            32_000,
            65_504,
            1,
        ];
        let messages = (0..).zip(sizes).map(|(n, size)| message(60_000 + n, size));
        let all: Vec<_> = messages.collect();
        let frames = split(all.clone());
        assert_eq!(frames.concat(), all, "nothing is lost, and the order stays");
        for messages in frames {
            let count = messages.len();
            let frame = RaftMessages {
                messages,
                mark: u64::MAX,
                nonce: u64::MAX,
            };
            let bytes = Frame::Raft(frame).encoded_len();
            assert!(
                count == 1 || bytes <= LANE_FRAME_BYTES_MAX,
                "{count}, {bytes}"
            );
        }
    }
}
