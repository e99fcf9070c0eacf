//! Replicas that come and go: created when a leader replicates to a fresh peer id here, deleted only on
//! the word of a member of a newer membership.
//!
//! Gossip and ring never delete anything. A tombstone (smallest peer id allowed) keeps late messages from
//! bringing a removed replica back.

use std::time::Duration;

use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::replica::HardState;
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::wire::frame::{AskReplica, Frame, ReplicaStanding};

use super::NodeCore;
use super::slot::Slot;
use crate::io::{Effect, Event, Lane, Now, StoreEffect};

/// A replica without a leader for this long asks where it stands; then again at this interval.
const ASK_AFTER: Duration = Duration::from_secs(2);
/// Ticks between two rounds of asking.
const ASK_TICKS: u64 = 20;

impl NodeCore {
    /// A leader replicates to peer `to` here: makes sure that this replica exists, if it may.
    pub(super) fn ensure_replica(
        &mut self,
        now: Now,
        partition: PartitionId,
        to: PeerId,
        out: &mut Vec<Effect>,
    ) {
        let floor = self
            .tombstones
            .get(&partition)
            .copied()
            .unwrap_or(PeerId(1));
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if partition.0 >= cluster.partitions() || to < floor || self.record.weight == 0 {
            return;
        }
        match cluster.slot(partition).map(|slot| slot.group.peer()) {
            Some(peer) if peer >= to => return,
            // Its group counts a later stint on this node, so the earlier one is out of it.
            Some(_) => self.destroy(now, partition, to, out),
            None => {}
        }
        let replica = RecoveredReplica {
            partition,
            peer: to,
            hard_state: HardState::default(),
            truncated: ghostlight_protocol::ids::LogPosition::default(),
            tail: Vec::new(),
            row: None,
        };
        if self.condemned.remove(&partition).is_some() {
            out.push(Effect::Store(StoreEffect::DiscardCondemned(partition)));
        }
        out.push(Effect::Store(StoreEffect::Create {
            partition,
            peer: to,
        }));
        let slot = Slot::recovered(now.instant, &replica, self.start.seed);
        if let Some(cluster) = &mut self.cluster {
            cluster.slots[usize::from(partition.0)] = Some(slot);
        }
    }

    /// The store found a replica damaged: it falls silent, and its leader replaces it.
    pub(super) fn condemn(
        &mut self,
        now: Now,
        partition: PartitionId,
        floor: PeerId,
        why: String,
        out: &mut Vec<Effect>,
    ) {
        self.close(now, partition, out);
        self.tombstones.insert(partition, floor);
        self.condemned.insert(partition, floor);
        if let Some(cluster) = &mut self.cluster {
            cluster.slots[usize::from(partition.0)] = None;
        }
        self.flush.forget(partition);
        self.transfers.forget(partition);
        out.push(Effect::Event(Event::Condemned { partition, why }));
    }

    fn destroy(
        &mut self,
        now: Now,
        partition: PartitionId,
        tombstone: PeerId,
        out: &mut Vec<Effect>,
    ) {
        // It may lead still, in its own eyes: its callers must hear that it does not.
        self.close(now, partition, out);
        let floor = self.tombstones.entry(partition).or_insert(PeerId(1));
        *floor = (*floor).max(tombstone);
        if let Some(cluster) = &mut self.cluster {
            cluster.slots[usize::from(partition.0)] = None;
            cluster.dirty.remove(&partition);
            cluster.touched.remove(&partition);
        }
        self.flush.forget(partition);
        self.transfers.forget(partition);
        out.push(Effect::Store(StoreEffect::Destroy {
            partition,
            tombstone,
        }));
    }

    /// Replicas that hear of no leader ask the nodes that may know.
    pub(super) fn tick_standing(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.ticks.is_multiple_of(ASK_TICKS) {
            return;
        }
        let Some(cluster) = &self.cluster else { return };
        for slot in cluster.slots() {
            let silent = slot
                .leaderless
                .is_some_and(|since| now.instant.since(since) >= ASK_AFTER);
            if !silent {
                continue;
            }
            let partition = slot.partition();
            let ask = AskReplica {
                partition: u32::from(partition.0),
                peer: slot.group.peer().0,
            };
            for node in self.links.connected() {
                out.push(Effect::Send {
                    to: node,
                    lane: Lane::Control,
                    frame: Frame::AskReplica(ask),
                });
            }
        }
    }

    /// Answers only as a voter of an applied membership in which the asking peer is not; and only once
    /// that membership is durable here: if power is lost before, this replica may need the asking peer's
    /// vote to come back.
    pub(super) fn tell_standing(&mut self, from: NodeId, ask: AskReplica, out: &mut Vec<Effect>) {
        let Ok(partition) = u16::try_from(ask.partition) else {
            return;
        };
        if let Some(standing) = self.standing_of(PartitionId(partition), PeerId(ask.peer)) {
            let frame = Frame::ReplicaStanding(standing);
            out.push(Effect::Send {
                to: from,
                lane: Lane::Control,
                frame,
            });
        }
    }

    fn standing_of(&self, partition: PartitionId, peer: PeerId) -> Option<ReplicaStanding> {
        let slot = self.cluster.as_ref()?.slot(partition)?;
        let membership = slot.row.as_ref()?.membership.as_ref()?;
        let member = membership.is_voter(slot.group.peer());
        let contains = membership.peers.iter().any(|p| p.peer == peer.0);
        let older = peer.0 < membership.next_peer;
        let durable = membership.index <= slot.durable_membership;
        (durable && member && !contains && older && !membership.is_joint()).then(|| {
            ReplicaStanding {
                partition: u32::from(partition.0),
                peer: peer.0,
                membership_index: membership.index,
                next_peer: membership.next_peer,
            }
        })
    }

    /// A node that was in the group and is no longer hears it at once.
    pub(super) fn tell_leavers(
        &mut self,
        partition: PartitionId,
        leavers: &[(PeerId, NodeId)],
        out: &mut Vec<Effect>,
    ) {
        for (peer, node) in leavers {
            if let Some(standing) = self.standing_of(partition, *peer) {
                let frame = Frame::ReplicaStanding(standing);
                out.push(Effect::Send {
                    to: *node,
                    lane: Lane::Control,
                    frame,
                });
            }
        }
    }

    /// A member of a newer membership says that this replica is out of its group.
    pub(super) fn take_standing(
        &mut self,
        now: Now,
        standing: ReplicaStanding,
        out: &mut Vec<Effect>,
    ) {
        let Ok(partition) = u16::try_from(standing.partition) else {
            return;
        };
        let partition = PartitionId(partition);
        let Some(slot) = self.cluster.as_ref().and_then(|c| c.slot(partition)) else {
            return;
        };
        let (known, peer) = (slot.group.membership(), slot.group.peer());
        let out_of_it = known.peers.iter().all(|p| p.peer != peer.0);
        let newer = standing.membership_index > known.index
            || (out_of_it && standing.membership_index == known.index);
        if peer.0 == standing.peer && newer && slot.leading.is_none() {
            self.destroy(now, partition, PeerId(standing.next_peer), out);
            self.check_left(now, out);
        }
    }
}
