//! Who leads each partition, as far as anybody has said.
//!
//! A table of hints: from answers that redirect, from announcements of new leaders, from other
//! nodes' tables. The hint of the later term wins, within a term that of the later membership. A
//! hint only decides whom to ask first; **it is never a reason to serve, vote or delete.** A wrong
//! one costs a hop.
//!
//! Deliberately absent: re-sending and backoff (the gateway), and how hints travel.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::call::LeaderHint;
use ghostlight_protocol::ids::{LogIndex, NodeId, PartitionId, Term};

/// Voters that a hint may name; more is malformed. Twice the largest factor: both halves of a
/// change.
pub const HINT_VOTERS_MAX: usize = 16;

/// What a hint was worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learned {
    /// It is newer than what was known; worth passing on.
    Newer,
    /// It says nothing new.
    Known,
    /// It is older than what is known.
    Older,
    /// It names no partition of this cluster, or its ids are no ids.
    Malformed,
}

/// What is known of one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Route {
    term: Term,
    leader: Option<NodeId>,
    membership_index: LogIndex,
    voters: Vec<NodeId>,
    /// The leader of `term` that turned out to be none: talk of others does not bring it back.
    disproved: Option<NodeId>,
}

/// The best known hint of every partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutingTable {
    partitions: u16,
    routes: BTreeMap<PartitionId, Route>,
}

impl RoutingTable {
    /// A table that knows nothing, for a cluster of so many partitions.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        Self {
            partitions,
            routes: BTreeMap::new(),
        }
    }

    /// Takes in a hint.
    pub fn learn(&mut self, hint: &LeaderHint) -> Learned {
        let Some((partition, mut fresh)) = self.read(hint) else {
            return Learned::Malformed;
        };
        let Some(route) = self.routes.get_mut(&partition) else {
            self.routes.insert(partition, fresh);
            return Learned::Newer;
        };
        let version = |r: &Route| (r.term, r.membership_index);
        if version(&fresh) < version(route) {
            return Learned::Older;
        }
        if fresh.term == route.term {
            // One term has at most one leader: silence about it is no news, its name is.
            fresh.disproved = route.disproved;
            fresh.leader = fresh
                .leader
                .filter(|l| Some(*l) != route.disproved)
                .or(route.leader);
        }
        if fresh.voters.is_empty() {
            fresh.voters.clone_from(&route.voters);
        }
        let changed = fresh != *route;
        *route = fresh;
        if changed {
            Learned::Newer
        } else {
            Learned::Known
        }
    }

    /// Notes that a node served as the leader of a term: better than any hint, also than a
    /// disproof.
    pub fn confirm_leader(&mut self, partition: PartitionId, node: NodeId, term: Term) {
        let route = self.routes.entry(partition).or_default();
        if term >= route.term {
            route.term = term;
            route.leader = Some(node);
            route.disproved = None;
        }
    }

    /// The leader to ask first.
    #[must_use]
    pub fn leader(&self, partition: PartitionId) -> Option<(NodeId, Term)> {
        let route = self.routes.get(&partition)?;
        Some((route.leader?, route.term))
    }

    /// Notes that a node does not lead in a term: it said so, or it is silent.
    ///
    /// Nothing happens when a later term is known, or another leader.
    pub fn forget_leader(&mut self, partition: PartitionId, node: NodeId, term: Term) {
        if let Some(route) = self.routes.get_mut(&partition)
            && route.leader == Some(node)
            && route.term <= term
        {
            route.leader = None;
            route.disproved = Some(node);
        }
    }

    /// Forgets a node as leader everywhere; for a member that is down.
    pub fn forget_node(&mut self, node: NodeId) {
        for route in self.routes.values_mut().filter(|r| r.leader == Some(node)) {
            route.leader = None;
        }
    }

    /// Who votes in a partition's group, as far as anybody has said.
    #[must_use]
    pub fn voters(&self, partition: PartitionId) -> &[NodeId] {
        self.routes.get(&partition).map_or(&[], |r| &r.voters)
    }

    /// Whom to ask for a partition, best first, each once: its leader, its voters, the nodes that
    /// should hold it, then anybody.
    #[must_use]
    pub fn candidates(
        &self,
        partition: PartitionId,
        preference: &[NodeId],
        members: impl IntoIterator<Item = NodeId>,
    ) -> Vec<NodeId> {
        let route = self.routes.get(&partition);
        let leader = route.and_then(|r| r.leader);
        let voters = route.map_or(&[][..], |r| &r.voters);
        let all = leader
            .iter()
            .chain(voters)
            .chain(preference)
            .copied()
            .chain(members);
        let mut order: Vec<NodeId> = Vec::new();
        for node in all {
            if !order.contains(&node) {
                order.push(node);
            }
        }
        order
    }

    /// Everything known, ascending by partition: what a new peer is told.
    pub fn hints(&self) -> impl Iterator<Item = LeaderHint> {
        self.routes
            .iter()
            .map(|(partition, route)| to_hint(*partition, route))
    }

    /// What is known of one partition.
    #[must_use]
    pub fn hint(&self, partition: PartitionId) -> Option<LeaderHint> {
        self.routes
            .get(&partition)
            .map(|route| to_hint(partition, route))
    }

    fn read(&self, hint: &LeaderHint) -> Option<(PartitionId, Route)> {
        let partition = u16::try_from(hint.partition)
            .ok()
            .filter(|p| *p < self.partitions)?;
        if hint.voters.len() > HINT_VOTERS_MAX {
            return None;
        }
        let voters: Option<Vec<NodeId>> =
            hint.voters.iter().map(|v| NodeId::from_slice(v)).collect();
        let leader = if hint.leader.is_empty() {
            None
        } else {
            Some(NodeId::from_slice(&hint.leader)?)
        };
        let route = Route {
            term: Term(hint.term),
            leader,
            membership_index: LogIndex(hint.membership_index),
            voters: voters?,
            disproved: None,
        };
        Some((PartitionId(partition), route))
    }
}

fn to_hint(partition: PartitionId, route: &Route) -> LeaderHint {
    let bytes = |node: &NodeId| Bytes::copy_from_slice(&node.to_bytes());
    LeaderHint {
        partition: u32::from(partition.0),
        term: route.term.0,
        leader: route.leader.as_ref().map(bytes).unwrap_or_default(),
        membership_index: route.membership_index.0,
        voters: route.voters.iter().map(bytes).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(3);

    fn hint(term: u64, index: u64, leader: u128, voters: &[u128]) -> LeaderHint {
        let route = Route {
            term: Term(term),
            leader: (leader > 0).then_some(NodeId(leader)),
            membership_index: LogIndex(index),
            voters: voters.iter().copied().map(NodeId).collect(),
            disproved: None,
        };
        to_hint(P, &route)
    }

    fn leader(table: &RoutingTable) -> u128 {
        table.leader(P).map_or(0, |(node, _)| node.0)
    }

    #[test]
    fn the_later_hint_wins_in_any_order() {
        // Ascending in value; equal versions differ only in what they leave out.
        let hints = [
            hint(5, 5, 1, &[1]),
            hint(6, 5, 2, &[1, 2, 3]),
            hint(6, 9, 2, &[2, 3, 4]),
            hint(8, 9, 3, &[2, 3, 4]),
        ];
        for first in &hints {
            for second in &hints {
                let mut table = RoutingTable::new(16);
                assert_eq!(table.learn(first), Learned::Newer);
                let version = |h: &LeaderHint| (h.term, h.membership_index);
                let expected = match version(second).cmp(&version(first)) {
                    std::cmp::Ordering::Less => Learned::Older,
                    std::cmp::Ordering::Equal => Learned::Known,
                    std::cmp::Ordering::Greater => Learned::Newer,
                };
                assert_eq!(table.learn(second), expected);
                let best = if version(second) > version(first) {
                    second
                } else {
                    first
                };
                assert_eq!(table.hint(P).as_ref(), Some(best));
            }
        }
    }

    #[test]
    fn silence_is_no_news_and_a_new_term_is() {
        let mut table = RoutingTable::new(16);
        table.learn(&hint(5, 5, 1, &[1, 2]));
        assert_eq!(table.learn(&hint(5, 5, 0, &[])), Learned::Known);
        assert_eq!(leader(&table), 1);
        assert_eq!(table.learn(&hint(6, 5, 0, &[])), Learned::Newer);
        assert_eq!(leader(&table), 0);
        assert_eq!(table.learn(&hint(6, 5, 2, &[])), Learned::Newer);
        assert_eq!(leader(&table), 2);
        assert_eq!(table.hints().next().unwrap().voters.len(), 2);
    }

    #[test]
    fn a_disproved_leader_comes_back_only_by_a_new_term_or_by_serving() {
        let mut table = RoutingTable::new(16);
        table.learn(&hint(5, 5, 1, &[1, 2]));
        table.forget_leader(P, NodeId(2), Term(5));
        table.forget_leader(P, NodeId(1), Term(4));
        assert_eq!(
            leader(&table),
            1,
            "neither was about this leader in this term"
        );
        table.forget_leader(P, NodeId(1), Term(5));
        table.learn(&hint(5, 5, 1, &[1, 2]));
        assert_eq!(leader(&table), 0);
        let mut served = table.clone();
        served.confirm_leader(P, NodeId(1), Term(5));
        assert_eq!(leader(&served), 1);
        served.confirm_leader(P, NodeId(2), Term(4));
        assert_eq!(leader(&served), 1);
        served.forget_node(NodeId(1));
        assert_eq!(leader(&served), 0);
        assert_eq!(table.learn(&hint(6, 5, 1, &[1, 2])), Learned::Newer);
        assert_eq!(leader(&table), 1);
    }

    #[test]
    fn candidates_come_once_and_in_order() {
        let mut table = RoutingTable::new(16);
        let nodes = |list: &[u128]| list.iter().copied().map(NodeId).collect::<Vec<_>>();
        let ask =
            |table: &RoutingTable| table.candidates(P, &nodes(&[4, 1]), nodes(&[1, 2, 3, 4, 9]));
        assert_eq!(ask(&table), nodes(&[4, 1, 2, 3, 9]));
        table.learn(&hint(5, 5, 3, &[2, 3]));
        assert_eq!(ask(&table), nodes(&[3, 2, 4, 1, 9]));
        table.forget_leader(P, NodeId(3), Term(5));
        assert_eq!(ask(&table), nodes(&[2, 3, 4, 1, 9]));
    }

    #[test]
    fn malformed_hints_are_refused() {
        let good = hint(5, 5, 1, &[1]);
        let short = Bytes::from_static(b"short");
        let bad = [
            LeaderHint {
                partition: 16,
                ..good.clone()
            },
            LeaderHint {
                partition: 1 << 20,
                ..good.clone()
            },
            LeaderHint {
                leader: short.clone(),
                ..good.clone()
            },
            LeaderHint {
                voters: vec![short],
                ..good.clone()
            },
            LeaderHint {
                voters: vec![good.leader.clone(); HINT_VOTERS_MAX + 1],
                ..good
            },
        ];
        let mut table = RoutingTable::new(16);
        for hint in &bad {
            assert_eq!(table.learn(hint), Learned::Malformed, "{hint:?}");
        }
        assert_eq!(table.hints().count(), 0);
    }
}
