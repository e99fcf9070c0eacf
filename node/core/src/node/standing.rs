//! Replicas that come and go: created when a leader replicates to a fresh peer id here, deleted
//! only on the word of a member of a newer membership.
//!
//! Gossip and ring never delete anything. A tombstone (smallest peer id allowed) keeps late
//! messages from bringing a removed replica back.

use std::time::Duration;

use ghostlight_protocol::canary::{self, Canary};
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
        let floor = match canary::sings(Canary::BelowTombstone) {
            true => PeerId(1),
            false => floor,
        };
        if partition.0 >= cluster.partitions() || to < floor || self.record.weight == 0 {
            return;
        }
        match cluster.slot(partition).map(|slot| &slot.group) {
            // What is for another node's peer is not for this one, whatever its number.
            Some(group) if group.peer() >= to || !group.may_live_on(to, self.me) => return,
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
        // What is set aside of an earlier stint stays until the group has replaced it.
        out.push(Effect::Store(StoreEffect::Create {
            partition,
            peer: to,
        }));
        let slot = Slot::recovered(now.instant, &replica, self.start.group());
        if let Some(cluster) = &mut self.cluster {
            cluster.put_slot(slot);
        }
    }

    /// A replica has lost something it promised: it is silent from now on, before the store has set
    /// it aside, so that it votes and acknowledges nothing more.
    pub(super) fn break_with(
        &mut self,
        now: Now,
        partition: PartitionId,
        why: String,
        out: &mut Vec<Effect>,
    ) {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(peer) = slot.map(|slot| slot.group.peer()) else {
            return;
        };
        let stored = why.clone();
        out.push(Effect::Store(StoreEffect::Condemn {
            partition,
            why: stored,
        }));
        self.condemn(now, partition, peer.after_condemned(), why, out);
    }

    /// A replica is damaged: it falls silent, and its leader replaces it. Told again about the same
    /// stint, or about one that a fresh one has followed, nothing more happens.
    pub(super) fn condemn(
        &mut self,
        now: Now,
        partition: PartitionId,
        floor: PeerId,
        why: String,
        out: &mut Vec<Effect>,
    ) {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        if slot.is_some_and(|slot| slot.group.peer() < floor) {
            self.close(now, partition, out);
            if let Some(cluster) = &mut self.cluster {
                cluster.slots[usize::from(partition.0)] = None;
            }
            self.flush.forget(partition);
            self.marks.forget(partition);
            self.transfers.forget(partition);
        }
        let lowest = self.tombstones.entry(partition).or_insert(floor);
        *lowest = (*lowest).max(floor);
        let known = self.condemned.get(&partition).copied();
        if known.is_none_or(|known| known < floor) {
            self.condemned.insert(partition, floor);
            out.push(Effect::Event(Event::Condemned { partition, why }));
        }
    }

    /// What was set aside goes once the group has replaced it: a membership without any peer of it
    /// is applied, and durable here.
    fn discard_replaced(&mut self, out: &mut Vec<Effect>) {
        let Some(cluster) = &self.cluster else { return };
        let replaced = self.condemned.iter().filter(|(partition, floor)| {
            let slot = cluster.slot(**partition);
            slot.is_some_and(|slot| has_replaced(slot, self.me, **floor))
        });
        let replaced: Vec<PartitionId> = replaced.map(|(partition, _)| *partition).collect();
        for partition in replaced {
            self.discard(partition, out);
        }
    }

    fn discard(&mut self, partition: PartitionId, out: &mut Vec<Effect>) {
        self.condemned.remove(&partition);
        out.push(Effect::Store(StoreEffect::DiscardCondemned(partition)));
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
        // Whatever the tombstone says: this stint itself must never begin again.
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let next = slot.map_or(tombstone, |slot| PeerId(slot.group.peer().0 + 1));
        let tombstone = tombstone.max(next);
        let floor = self.tombstones.entry(partition).or_insert(PeerId(1));
        *floor = (*floor).max(tombstone);
        if let Some(cluster) = &mut self.cluster {
            cluster.slots[usize::from(partition.0)] = None;
            cluster.dirty.remove(&partition);
            cluster.touched.remove(&partition);
        }
        self.flush.forget(partition);
        self.marks.forget(partition);
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
        self.discard_replaced(out);
        // Again now and then: a full queue may have eaten the first word.
        for node in self.links.connected() {
            self.tell_mark(node, out);
        }
        let Some(cluster) = &self.cluster else { return };
        let silent = cluster.slots().filter(|slot| {
            slot.leaderless
                .is_some_and(|since| now.instant.since(since) >= ASK_AFTER)
        });
        let silent = silent.map(|slot| (slot.partition(), slot.group.peer()));
        // The group may have gone on elsewhere: then nobody comes here to replace what is set
        // aside.
        let aside = self
            .condemned
            .iter()
            .filter(|(partition, _)| cluster.slot(**partition).is_none());
        let aside = aside.map(|(partition, floor)| (*partition, PeerId(floor.0.saturating_sub(1))));
        for (partition, peer) in silent.chain(aside) {
            let ask = AskReplica {
                partition: u32::from(partition.0),
                peer: peer.0,
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

    /// Answers only as a voter of an applied membership in which the asking peer is not; and only
    /// once that membership is durable here: if power is lost before, this replica may need the
    /// asking peer's vote to come back.
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
        let contains = membership.peers.iter().any(|p| p.peer == peer.0)
            && !canary::sings(Canary::DeleteOnHint);
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
            let floor = self.condemned.get(&partition).copied();
            if floor == Some(PeerId(standing.peer.saturating_add(1))) {
                self.discard(partition, out);
            }
            return;
        };
        let (known, peer) = (slot.group.membership(), slot.group.peer());
        let out_of_it = known.peers.iter().all(|p| p.peer != peer.0);
        let newer = canary::sings(Canary::DeleteOnHint)
            || standing.membership_index > known.index
            || (out_of_it && standing.membership_index == known.index);
        if peer.0 == standing.peer && newer && slot.leading.is_none() {
            self.destroy(now, partition, PeerId(standing.next_peer), out);
            self.check_left(now, out);
        }
    }
}

fn has_replaced(slot: &Slot, me: NodeId, floor: PeerId) -> bool {
    let membership = slot.row.as_ref().and_then(|row| row.membership.as_ref());
    membership.is_some_and(|membership| {
        let mut here = membership.nodes().filter(|(_, node)| *node == me);
        membership.index <= slot.durable_membership
            && !membership.is_joint()
            && here.all(|(peer, _)| peer >= floor)
    })
}

#[cfg(test)]
mod tests;
