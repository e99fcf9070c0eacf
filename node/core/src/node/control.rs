//! Control frames: all heartbeats of a node pair at once, new leaderships, clocks, and the silence
//! that says that a node should not be waited for.

use bytes::Bytes;
use ghostlight_protocol::call::LeaderHint;
use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::wire::frame::{CondemnedReplica, Control};

use super::links::Word;
use super::{CONTROL_TICKS, Local, NodeCore};
use crate::gateway::GatewayInput;
use crate::io::{Effect, Now};
use crate::replica::Promise;

impl NodeCore {
    pub(super) fn take_control(
        &mut self,
        now: Now,
        from: NodeId,
        control: Control,
        out: &mut Vec<Effect>,
    ) {
        let word = if self.pauses.may_be_stale(now.instant) {
            Word::MayBeStale
        } else {
            Word::Fresh
        };
        let was_silent = !self.links.answers(from);
        self.links
            .heard_control(now.instant, self.machine, from, &control, word);
        if was_silent {
            self.topics_heard(from);
        }
        let (heartbeats, answers) = match self.marks.is_met(from) {
            true => (&control.heartbeats[..], &control.answers[..]),
            false => (&[][..], &[][..]),
        };
        for heartbeat in heartbeats {
            let Ok(partition) = u16::try_from(heartbeat.partition) else {
                continue;
            };
            let partition = PartitionId(partition);
            if !self.may_speak_as(partition, PeerId(heartbeat.from), from) {
                continue;
            }
            self.ensure_replica(now, partition, PeerId(heartbeat.to), out);
            if self.marks.holds_back(partition) {
                self.led_in_doubt(now, partition, from, heartbeat, out);
                continue;
            }
            let Some(cluster) = &mut self.cluster else {
                continue;
            };
            if let Some(slot) = cluster.slot_mut(partition) {
                let promise = slot.group.step_heartbeat(from, heartbeat);
                cluster.dirty.insert(partition);
                if let Promise::Lost { acknowledged, last } = promise {
                    let why = format!(
                        "its leader knows that entry {acknowledged} was acknowledged here, but the log \
                         ends at {last}"
                    );
                    self.break_with(now, partition, why, out);
                }
            }
        }
        for answer in answers {
            let Ok(partition) = u16::try_from(answer.partition) else {
                continue;
            };
            let partition = PartitionId(partition);
            let speaks = self.may_speak_as(partition, PeerId(answer.from), from);
            if !speaks || self.marks.holds_back(partition) {
                continue;
            }
            let Some(cluster) = &mut self.cluster else {
                continue;
            };
            if let Some(slot) = cluster.slot_mut(partition) {
                slot.group.step_heartbeat_answer(from, answer);
                cluster.dirty.insert(partition);
            }
        }
        for removed in control
            .removed
            .iter()
            .filter_map(|bytes| NodeId::from_slice(bytes))
        {
            self.node_removed(removed, out);
        }
        self.take_hints(control.leaderships);
    }

    /// Tells every member at once that this node has opened a leadership.
    pub(super) fn announce(&mut self, hint: LeaderHint) {
        for node in self.links.connected() {
            self.flush
                .control
                .entry(node)
                .or_default()
                .leaderships
                .push(hint.clone());
        }
    }

    /// A member that has just connected hears of all leaderships here.
    pub(super) fn announce_all_to(&mut self, node: NodeId) {
        let hints = self.own_hints();
        self.flush
            .control
            .entry(node)
            .or_default()
            .leaderships
            .extend(hints);
    }

    /// Every member hears from this node at least every third tick, also where no group is shared.
    pub(super) fn tick_control(&mut self, now: Now) {
        if self.ticks.is_multiple_of(CONTROL_TICKS) {
            let removed: Vec<Bytes> = self
                .removed
                .iter()
                .map(|n| Bytes::copy_from_slice(&n.to_bytes()))
                .collect();
            for node in self.links.connected() {
                let control = self.flush.control.entry(node).or_default();
                control.removed.clone_from(&removed);
            }
        }
        for node in self.links.newly_silent(now.instant) {
            self.local
                .push_back(Local::Gateway(GatewayInput::Silent(node)));
            self.topics_silent(node);
        }
    }

    /// What every control frame says anew: one without it would take it back.
    pub(super) fn condemned_here(&self) -> Vec<CondemnedReplica> {
        let condemned = self.condemned.iter();
        condemned
            .map(|(partition, floor)| CondemnedReplica {
                partition: u32::from(partition.0),
                next_peer: floor.0,
            })
            .collect()
    }

    /// Replicas here, and how many of them lead.
    pub(super) fn shares(&self) -> (u32, u32) {
        let Some(cluster) = &self.cluster else {
            return (0, 0);
        };
        let replicas = cluster.slots().count() as u32;
        let leaders = cluster
            .slots()
            .filter(|slot| slot.leading.is_some())
            .count() as u32;
        (replicas, leaders)
    }
}
