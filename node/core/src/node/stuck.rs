//! A proposal that stays uncommitted although heartbeats are answered: the way that appends take is
//! broken while the control connection is not. First that way is made anew, then somebody else
//! shall lead.
//!
//! A way that is only slow is no broken one: while appends of other partitions are answered on it,
//! what is under way is given time. A new connection would lose it, begin slowly, and have all of
//! it sent again: a link that carries a little less than is asked of it would carry nothing any
//! more.

use std::time::Duration;

use ghostlight_protocol::ids::{LogIndex, NodeId, PartitionId, PeerId};
use ghostlight_protocol::wire::hello::ConnectionKind;

use super::handover::Haste;
use super::slot::Slot;
use super::{NodeCore, TICK};
use crate::gateway::Reachable;
use crate::io::{Effect, Now};

/// A proposal that is not committed for so long is stuck; what is done about it has as long to
/// help.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// After so long it is stuck although the connection moves.
const STUCK_ANYWAY_AFTER: Duration = Duration::from_secs(10);

/// The oldest proposal of a leadership that is not known to be committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Uncommitted {
    through: LogIndex,
    /// The node's tick since which it waits, or since which the latest remedy has had its time.
    since: u64,
    remedy: Remedy,
}

/// What was done about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Remedy {
    /// Nothing yet, or everything.
    None,
    /// New bulk connections.
    Reconnected,
}

impl Uncommitted {
    /// The same one while it waits; the next one when it is committed. A late loop counts two ticks
    /// at most: a node that stood still does not blame the network.
    fn follow(before: Option<Self>, commit: LogIndex, last: LogIndex, ticks: u64) -> Option<Self> {
        before
            .filter(|waiting| commit < waiting.through)
            .or_else(|| {
                (commit < last).then_some(Self {
                    through: last,
                    since: ticks,
                    remedy: Remedy::None,
                })
            })
    }

    fn stuck(&self, ticks: u64) -> Stuck {
        let waited = u32::try_from(ticks.saturating_sub(self.since)).unwrap_or(u32::MAX);
        match TICK * waited {
            waited if waited >= STUCK_ANYWAY_AFTER => Stuck::Anyway,
            waited if waited >= STUCK_AFTER => Stuck::UnlessOthersMove,
            _ => Stuck::No,
        }
    }
}

/// Whether something is to be done about a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stuck {
    No,
    /// Unless the nodes that have not confirmed it confirm other things.
    UnlessOthersMove,
    Anyway,
}

impl NodeCore {
    pub(super) fn tick_stuck(&mut self, now: Now, out: &mut Vec<Effect>) {
        let ticks = self.ticks;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let mut stuck = Vec::new();
        for slot in cluster.slots.iter_mut().flatten() {
            let (commit, last) = (slot.group.commit(), slot.group.last().index);
            let partition = slot.group.partition();
            let Some(leading) = &mut slot.leading else {
                continue;
            };
            leading.uncommitted = Uncommitted::follow(leading.uncommitted, commit, last, ticks);
            if let Some(waiting) = leading.uncommitted
                && waiting.stuck(ticks) != Stuck::No
            {
                stuck.push((partition, waiting));
            }
        }
        for (partition, waiting) in stuck {
            let mut behind = self.behind(partition, waiting.through);
            let behind_any = !behind.is_empty();
            if waiting.stuck(ticks) == Stuck::UnlessOthersMove {
                let links = &self.links;
                behind.retain(|node| !links.confirms(*node, now.instant, STUCK_AFTER));
            }
            if behind_any && behind.is_empty() {
                // They are slow, and get on with it.
                continue;
            }
            self.remedied(partition, ticks);
            let moves = |node: &NodeId| self.links.confirms(*node, now.instant, STUCK_AFTER);
            match waiting.remedy {
                // The way is whole, this partition alone is stuck: a new connection would not help.
                Remedy::None if behind_any && behind.iter().all(moves) => {
                    self.lead_elsewhere(now, partition, out);
                }
                Remedy::None => self.reconnect(now, &behind, out),
                Remedy::Reconnected if !behind.is_empty() => {
                    self.lead_elsewhere(now, partition, out)
                }
                Remedy::Reconnected => {}
            }
        }
    }

    /// Something is done about a proposal: it has as long to help.
    fn remedied(&mut self, partition: PartitionId, ticks: u64) {
        let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
        let leading = slot.and_then(|slot| slot.leading.as_mut());
        if let Some(waiting) = leading.and_then(|leading| leading.uncommitted.as_mut()) {
            waiting.since = ticks;
            waiting.remedy = match waiting.remedy {
                Remedy::None => Remedy::Reconnected,
                Remedy::Reconnected => Remedy::None,
            };
        }
    }

    /// Nodes that answer heartbeats and have not confirmed everything through `index`.
    fn behind(&self, partition: PartitionId, index: LogIndex) -> Vec<NodeId> {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let peers = slot.map(|slot| (slot, voters_by_progress(slot)));
        let Some((slot, peers)) = peers else {
            return Vec::new();
        };
        let behind = peers.into_iter().filter(|(matched, _)| *matched < index);
        behind
            .filter_map(|(_, peer)| slot.group.node_of(peer))
            .filter(|node| self.links.answers(*node))
            .collect()
    }

    fn reconnect(&mut self, now: Now, nodes: &[NodeId], out: &mut Vec<Effect>) {
        for node in nodes {
            // Many groups share a connection; one new one serves them all.
            if self.links.may_reconnect(*node, now.instant) {
                let name = self.name_of(*node);
                Self::say(
                    out,
                    format!(
                        "{name} answers heartbeats and confirms nothing: its bulk connection is made anew"
                    ),
                );
                let (node, kind) = (*node, ConnectionKind::Bulk);
                out.push(Effect::Reconnect { node, kind });
            }
        }
    }

    /// To the voter that has most of the log, among those that answer.
    fn lead_elsewhere(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot else { return };
        let answering = voters_by_progress(slot).into_iter().filter(|(_, peer)| {
            let node = slot.group.node_of(*peer);
            node.is_some_and(|node| self.links.reachable(node) == Reachable::Yes)
        });
        if let Some((_, peer)) = answering.max() {
            self.begin_handover(now, partition, peer, Haste::SettleBriefly, out);
        }
    }
}

fn voters_by_progress(slot: &Slot) -> Vec<(LogIndex, PeerId)> {
    let membership = slot.group.membership();
    let progress = slot.group.progress().into_iter();
    progress
        .filter(|(peer, _)| membership.is_voter(*peer))
        .map(|(peer, progress)| (progress.matched, peer))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_proposal_is_followed_until_it_is_committed() {
        let follow = |before, commit, last, ticks| {
            Uncommitted::follow(before, LogIndex(commit), LogIndex(last), ticks)
        };
        assert_eq!(follow(None, 7, 7, 1), None);
        let first = follow(None, 7, 9, 10);
        let waiting = first.expect("two entries wait");
        assert_eq!((waiting.through, waiting.since), (LogIndex(9), 10));
        // Later proposals do not make it younger, progress short of it does not either.
        assert_eq!(follow(first, 8, 30, 20), first);
        let next = follow(first, 9, 30, 20).expect("others wait");
        assert_eq!((next.through, next.since), (LogIndex(30), 20));
        assert_eq!(follow(first, 30, 30, 20), None);
        for (ticks, stuck) in [
            (10, Stuck::No),
            (29, Stuck::No),
            (30, Stuck::UnlessOthersMove),
            (209, Stuck::UnlessOthersMove),
            (210, Stuck::Anyway),
        ] {
            assert_eq!(waiting.stuck(ticks), stuck, "tick {ticks}");
        }
    }
}
