//! Snapshots on their way: opened here, sent in chunks, staged there, installed with the next
//! batch.
//!
//! One chunk of a transfer is under way at a time; what is not acknowledged is sent again, and a
//! transfer that makes no progress is given up, which the engine is always told (trap 10). Chunks
//! that the engine is about to install belong to the message it was given, whatever arrives
//! meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::hash::{domain, hash64};
use ghostlight_protocol::ids::{Generation, LogPosition, NodeId, PartitionId, PeerId};
use ghostlight_protocol::partition_row::Membership;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{Frame, SnapshotAck, SnapshotChunk};

use super::NodeCore;
use super::audit::Opened;
use super::flush::ArrivedSnapshot;
use crate::io::{Effect, Lane, Now, Rest, SnapshotEffect, StageVerdict, StoreEffect, TransferId};
use crate::replica::SnapshotResult;

/// Transfers that a node sends at once; more wait.
const TRANSFERS_MAX: usize = 64;
/// An unacknowledged chunk is sent again after this.
const CHUNK_AGAIN: Duration = Duration::from_secs(1);
/// A transfer without progress is given up after this.
const TRANSFER_STALL_MAX: Duration = Duration::from_secs(10);

/// All transfers of this node.
pub(super) struct Transfers {
    me: NodeId,
    generation: Generation,
    begun: u64,
    sending: BTreeMap<TransferId, Sending>,
    waiting: VecDeque<(PartitionId, PeerId)>,
    receiving: BTreeMap<PartitionId, Receiving>,
    /// Transfers that have begun to arrive.
    arrivals: u64,
}

struct Sending {
    partition: PartitionId,
    to: PeerId,
    stage: SendStage,
    progress: Instant,
}

enum SendStage {
    /// The store is opening it, or the engine has not asked for it yet.
    Opening,
    /// The store reads the chunk with this number.
    Reading {
        node: NodeId,
        message: Bytes,
        number: u64,
    },
    /// A chunk is on its way.
    Sent {
        node: NodeId,
        message: Bytes,
        chunk: Box<SnapshotChunk>,
        rest: Rest,
        at: Instant,
    },
}

struct Receiving {
    from: NodeId,
    peer: PeerId,
    /// The sender's number of it.
    theirs: TransferId,
    /// This node's: two senders may use one number, and their chunks must not meet in the store.
    transfer: TransferId,
    next: u64,
    stage: ReceiveStage,
}

/// Where an arriving snapshot stands.
enum ReceiveStage {
    /// The next chunk is awaited.
    Waiting,
    /// A chunk is being staged; what came with it if it was the last.
    Staging(u64, Option<Bytes>),
    /// All chunks are staged, and the engine has been given the message. Until it has said what it
    /// makes of it, and the store has put the chunks in place, no other transfer may touch them.
    Given,
    /// The engine took it: the store is to put it in place.
    Installing,
    /// In place, or of no use to the engine; kept to answer a last chunk that comes again.
    Over,
}

impl ReceiveStage {
    fn may_be_replaced(&self) -> bool {
        match self {
            Self::Waiting | Self::Staging(..) | Self::Over => true,
            Self::Given | Self::Installing => false,
        }
    }
}

impl Transfers {
    pub(super) fn new(me: NodeId, generation: Generation) -> Self {
        Self {
            me,
            generation,
            begun: 0,
            sending: BTreeMap::new(),
            waiting: VecDeque::new(),
            receiving: BTreeMap::new(),
            arrivals: 0,
        }
    }

    /// A number that no other transfer has, of this node in this run or of any other: a receiver
    /// and its store must not take a chunk of one sender, or of its earlier run, for that of
    /// another.
    pub(super) fn begin(&mut self) -> TransferId {
        self.begun += 1;
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.me.to_bytes());
        bytes[16..24].copy_from_slice(&self.generation.0.to_be_bytes());
        bytes[24..].copy_from_slice(&self.begun.to_be_bytes());
        TransferId(hash64(domain::TRANSFER, &bytes))
    }

    /// The engine installs the snapshot that it was given: its transfer, and how many chunks it
    /// has.
    ///
    /// # Panics
    /// When it was given none: the engine knows of snapshots by `step_snapshot` alone.
    pub(super) fn begin_install(&mut self, partition: PartitionId) -> ArrivedSnapshot {
        match self.receiving.get_mut(&partition) {
            Some(receiving) if matches!(receiving.stage, ReceiveStage::Given) => {
                receiving.stage = ReceiveStage::Installing;
                (receiving.transfer, receiving.next)
            }
            Some(_) | None => panic!("{partition}: a snapshot is installed that never arrived"),
        }
    }

    /// The engine had no use for the snapshot that it was given, if it was given one.
    pub(super) fn passed_over(&mut self, partition: PartitionId) {
        if let Some(receiving) = self.receiving.get_mut(&partition)
            && matches!(receiving.stage, ReceiveStage::Given)
        {
            receiving.stage = ReceiveStage::Over;
        }
    }

    /// The store has put it in place.
    pub(super) fn installed(&mut self, partition: PartitionId) {
        if let Some(receiving) = self.receiving.get_mut(&partition)
            && matches!(receiving.stage, ReceiveStage::Installing)
        {
            receiving.stage = ReceiveStage::Over;
        }
    }

    /// The replica is gone, and with it what arrived for it.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.receiving.remove(&partition);
    }
}

impl NodeCore {
    /// The engine wants a snapshot for a peer.
    pub(super) fn want_snapshot(
        &mut self,
        now: Now,
        partition: PartitionId,
        to: PeerId,
        out: &mut Vec<Effect>,
    ) {
        if self.transfers.sending.len() >= TRANSFERS_MAX {
            self.transfers.waiting.push_back((partition, to));
            return;
        }
        let transfer = self.transfers.begin();
        let stage = SendStage::Opening;
        let sending = Sending {
            partition,
            to,
            stage,
            progress: now.instant,
        };
        self.transfers.sending.insert(transfer, sending);
        out.push(Effect::Snapshot(SnapshotEffect::Open {
            transfer,
            partition,
        }));
    }

    pub(super) fn snapshot_opened(
        &mut self,
        transfer: TransferId,
        at: LogPosition,
        membership: &Membership,
        out: &mut Vec<Effect>,
    ) {
        if self.audit_opened(transfer, at, out) == Opened::ForAudit {
            return;
        }
        let Some(sending) = self.transfers.sending.get(&transfer) else {
            out.push(Effect::Snapshot(SnapshotEffect::Close(transfer)));
            return;
        };
        let (partition, to) = (sending.partition, sending.to);
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if let Some(slot) = cluster.slot_mut(partition) {
            slot.group.snapshot_opened(to, at, membership);
            cluster.dirty.insert(partition);
        }
    }

    /// The engine sends its snapshot message: the chunks go before it.
    pub(super) fn begin_sending(
        &mut self,
        now: Now,
        partition: PartitionId,
        to: PeerId,
        node: NodeId,
        message: Bytes,
        out: &mut Vec<Effect>,
    ) {
        let found = self
            .transfers
            .sending
            .iter_mut()
            .find(|(_, sending)| sending.partition == partition && sending.to == to);
        match found {
            Some((transfer, sending)) if matches!(sending.stage, SendStage::Opening) => {
                sending.stage = SendStage::Reading {
                    node,
                    message,
                    number: 0,
                };
                sending.progress = now.instant;
                out.push(Effect::Snapshot(SnapshotEffect::ReadChunk(*transfer)));
            }
            Some(_) => {}
            // Its transfer was given up meanwhile.
            None => self.tell_engine(partition, to, SnapshotResult::Failed),
        }
    }

    fn tell_engine(&mut self, partition: PartitionId, to: PeerId, result: SnapshotResult) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if let Some(slot) = cluster.slot_mut(partition) {
            slot.group.snapshot_over(to, result);
            cluster.dirty.insert(partition);
        }
    }

    pub(super) fn chunk_read(
        &mut self,
        now: Now,
        transfer: TransferId,
        number: u64,
        rows: Bytes,
        rest: Rest,
        out: &mut Vec<Effect>,
    ) {
        let Some(sending) = self.transfers.sending.get_mut(&transfer) else {
            return;
        };
        let SendStage::Reading {
            node,
            message,
            number: wanted,
        } = &sending.stage
        else {
            return;
        };
        if *wanted != number {
            return;
        }
        let (node, message) = (*node, message.clone());
        let partition = sending.partition;
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let chunk = SnapshotChunk {
            partition: u32::from(partition.0),
            to_peer: sending.to.0,
            transfer: transfer.0,
            number,
            rows,
            last: (rest == Rest::Last).then(|| message.clone()),
            term: slot.map_or(0, |slot| slot.group.term().0),
        };
        out.push(Effect::Send {
            to: node,
            lane: Lane::Snapshot,
            frame: Frame::SnapshotChunk(chunk.clone()),
        });
        sending.stage = SendStage::Sent {
            node,
            message,
            chunk: Box::new(chunk),
            rest,
            at: now.instant,
        };
    }

    pub(super) fn take_ack(&mut self, now: Now, ack: SnapshotAck, out: &mut Vec<Effect>) {
        let transfer = TransferId(ack.transfer);
        let Some(sending) = self.transfers.sending.get_mut(&transfer) else {
            return;
        };
        if sending.to.0 != ack.from_peer {
            return;
        }
        let SendStage::Sent {
            node,
            message,
            chunk,
            rest,
            ..
        } = &sending.stage
        else {
            return;
        };
        if ack.next == chunk.number + 1 {
            sending.progress = now.instant;
            if *rest == Rest::Last {
                self.transfer_over(now, transfer, SnapshotResult::Arrived, out);
                return;
            }
            let number = ack.next;
            sending.stage = SendStage::Reading {
                node: *node,
                message: message.clone(),
                number,
            };
            out.push(Effect::Snapshot(SnapshotEffect::ReadChunk(transfer)));
        } else if ack.next == 0 && chunk.number > 0 {
            // The receiver has begun a new life, or refused a chunk: begin again from the engine.
            self.transfer_over(now, transfer, SnapshotResult::Failed, out);
        }
    }

    fn transfer_over(
        &mut self,
        now: Now,
        transfer: TransferId,
        result: SnapshotResult,
        out: &mut Vec<Effect>,
    ) {
        let Some(sending) = self.transfers.sending.remove(&transfer) else {
            return;
        };
        out.push(Effect::Snapshot(SnapshotEffect::Close(transfer)));
        self.tell_engine(sending.partition, sending.to, result);
        if let Some((partition, to)) = self.transfers.waiting.pop_front() {
            self.want_snapshot(now, partition, to, out);
        }
    }

    pub(super) fn tick_transfers(&mut self, now: Now, out: &mut Vec<Effect>) {
        let mut stalled = Vec::new();
        for (transfer, sending) in &mut self.transfers.sending {
            if now.instant.since(sending.progress) >= TRANSFER_STALL_MAX {
                stalled.push(*transfer);
            } else if let SendStage::Sent {
                node, chunk, at, ..
            } = &mut sending.stage
                && now.instant.since(*at) >= CHUNK_AGAIN
            {
                *at = now.instant;
                let frame = Frame::SnapshotChunk(chunk.as_ref().clone());
                out.push(Effect::Send {
                    to: *node,
                    lane: Lane::Snapshot,
                    frame,
                });
            }
        }
        for transfer in stalled {
            self.transfer_over(now, transfer, SnapshotResult::Failed, out);
        }
    }

    pub(super) fn take_chunk(
        &mut self,
        now: Now,
        from: NodeId,
        chunk: SnapshotChunk,
        out: &mut Vec<Effect>,
    ) {
        let Ok(partition) = u16::try_from(chunk.partition) else {
            return;
        };
        let partition = PartitionId(partition);
        let peer = PeerId(chunk.to_peer);
        self.ensure_replica(now, partition, peer, out);
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot.filter(|slot| slot.group.peer() == peer) else {
            return;
        };
        if chunk.term < slot.group.term().0 {
            return;
        }
        let theirs = TransferId(chunk.transfer);
        let known = self.transfers.receiving.get(&partition);
        let same = known.is_some_and(|r| r.from == from && r.theirs == theirs && r.peer == peer);
        if !same {
            if known.is_some_and(|r| !r.stage.may_be_replaced()) {
                // Its sender comes again with it, when the other is in place.
                return;
            }
            if chunk.number != 0 {
                let next = 0;
                return Self::ack(from, partition, theirs, peer, next, out);
            }
            self.transfers.arrivals += 1;
            let receiving = Receiving {
                from,
                peer,
                theirs,
                transfer: TransferId(self.transfers.arrivals),
                next: 0,
                stage: ReceiveStage::Waiting,
            };
            self.transfers.receiving.insert(partition, receiving);
        }
        let Some(receiving) = self.transfers.receiving.get_mut(&partition) else {
            return;
        };
        if chunk.number != receiving.next {
            return Self::ack(from, partition, theirs, peer, receiving.next, out);
        }
        if !matches!(receiving.stage, ReceiveStage::Waiting) {
            return;
        }
        receiving.stage = ReceiveStage::Staging(chunk.number, chunk.last);
        let transfer = receiving.transfer;
        out.push(Effect::Store(StoreEffect::Stage {
            partition,
            peer,
            transfer,
            number: chunk.number,
            rows: chunk.rows,
        }));
    }

    pub(super) fn staged(
        &mut self,
        partition: PartitionId,
        peer: PeerId,
        transfer: TransferId,
        number: u64,
        verdict: StageVerdict,
        out: &mut Vec<Effect>,
    ) {
        let Some(receiving) = self.transfers.receiving.get_mut(&partition) else {
            return;
        };
        if receiving.transfer != transfer || receiving.peer != peer {
            return;
        }
        let before = std::mem::replace(&mut receiving.stage, ReceiveStage::Waiting);
        let (staged, last) = match before {
            ReceiveStage::Staging(staged, last) => (staged, last),
            ReceiveStage::Waiting
            | ReceiveStage::Given
            | ReceiveStage::Installing
            | ReceiveStage::Over => {
                receiving.stage = before;
                return;
            }
        };
        assert_eq!(staged, number, "{partition}: chunks are staged one by one");
        let (from, theirs) = (receiving.from, receiving.theirs);
        if verdict == StageVerdict::Refused {
            self.transfers.receiving.remove(&partition);
            return Self::ack(from, partition, theirs, peer, 0, out);
        }
        receiving.next = number + 1;
        Self::ack(from, partition, theirs, peer, number + 1, out);
        let Some(message) = last else { return };
        // Until the engine has answered with its next ready.
        receiving.stage = ReceiveStage::Given;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if let Some(slot) = cluster.slot_mut(partition)
            && slot.group.peer() == peer
        {
            slot.group.step_snapshot(from, &message);
            cluster.dirty.insert(partition);
        }
    }

    fn ack(
        to: NodeId,
        partition: PartitionId,
        transfer: TransferId,
        peer: PeerId,
        next: u64,
        out: &mut Vec<Effect>,
    ) {
        let ack = SnapshotAck {
            partition: u32::from(partition.0),
            transfer: transfer.0,
            next,
            from_peer: peer.0,
        };
        out.push(Effect::Send {
            to,
            lane: Lane::Snapshot,
            frame: Frame::SnapshotAck(ack),
        });
    }
}
