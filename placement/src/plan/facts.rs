//! What a leader knows of the nodes when it plans: gossip's opinion, duties, marks and work under
//! way.
//!
//! The same facts give the candidates of the ring, so that there is one place that says which nodes
//! should hold copies.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::Fitness;
use ghostlight_protocol::wire::hello::{Duty, Removed};

use super::limits::{BALANCE_TRANSFERS_MAX, DOWN_GRACE, GROWING_GROUPS_MAX, NODE_MOVES_MAX};
use crate::ring::Candidate;

/// Whether a node lives, as gossip says, and since when not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// It answers.
    Alive,
    /// It is suspected: neither given work nor replaced.
    Suspect,
    /// It is down since then, on this node's clock.
    Down {
        /// When this node learned it.
        since: Instant,
    },
}

impl NodeState {
    /// Whether it has been down for longer than the grace.
    #[must_use]
    pub fn is_lost(self, now: Instant) -> bool {
        matches!(self, Self::Down { since } if now.since(since) >= DOWN_GRACE)
    }
}

/// Whether a node holds data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copies {
    /// Copies of some partition, or nobody knows.
    Some,
    /// As far as the groups and the hints here tell, no group counts on it any more, or did ever.
    None,
}

/// What is known of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeFact {
    /// Whether it lives.
    pub state: NodeState,
    /// Its present life: one that has begun anew waits its time before it is given leaderships.
    pub generation: Generation,
    /// What it takes part in.
    pub duty: Duty,
    /// Whether it is fit to lead, by its own word. One that is not keeps its copies, and takes new
    /// ones.
    pub fitness: Fitness,
    /// Whether it was removed for good.
    pub removed: Removed,
    /// Whether it holds data.
    pub copies: Copies,
    /// Its weight; 0: an edge, which never gets a copy.
    pub weight: u32,
    /// Its zone, may be empty.
    pub zone: String,
    /// Moves under way that touch it, as far as this node knows.
    pub moves: usize,
}

impl NodeFact {
    /// A serving node of weight 1 that is alive.
    #[must_use]
    pub fn alive() -> Self {
        Self {
            state: NodeState::Alive,
            generation: Generation(1),
            duty: Duty::Serving,
            fitness: Fitness::Fit,
            removed: Removed::No,
            copies: Copies::Some,
            weight: 1,
            zone: String::new(),
            moves: 0,
        }
    }

    /// Whether it is going for good, by its own or an operator's word.
    #[must_use]
    pub fn is_dismissed(&self) -> bool {
        self.removed == Removed::Yes || self.duty == Duty::Leaving
    }

    /// Whether a new copy may be placed on it.
    #[must_use]
    pub fn takes_copies(&self) -> bool {
        self.takes_part() && self.weight > 0
    }

    /// Whether leaderships may be given to it.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        self.takes_part() && self.fitness == Fitness::Fit
    }

    fn takes_part(&self) -> bool {
        self.state == NodeState::Alive && self.duty == Duty::Serving && self.removed == Removed::No
    }
}

/// Work under way in one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Copies are added to a group below its factor, or a condemned one is made anew.
    Growth,
    /// A copy moves to a node.
    Move {
        /// Where it goes.
        target: NodeId,
    },
    /// A leadership is handed over.
    Transfer,
}

/// What is known of all nodes, this one included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeFacts {
    /// This node, the leader that plans.
    pub me: NodeId,
    /// Every node of the cluster.
    pub nodes: BTreeMap<NodeId, NodeFact>,
    /// Copies that each partition should have: 1, 3 or 5.
    pub factor: u8,
    /// Groups that this node leads and that are growing.
    pub growing_groups: usize,
    /// Leaderships that this node is handing over.
    pub transfers: usize,
}

impl NodeFacts {
    /// The nodes that should hold copies: not removed, not leaving, and not down for longer than
    /// the grace. A draining node keeps its copies. The preference lists are computed over these.
    #[must_use]
    pub fn candidates(&self, now: Instant) -> Vec<Candidate> {
        let nodes = self.nodes.iter().filter(|(_, fact)| {
            fact.weight > 0 && !fact.is_dismissed() && !fact.state.is_lost(now)
        });
        nodes
            .map(|(node, fact)| Candidate::new(*node, fact.weight, fact.zone.clone()))
            .collect()
    }

    /// When the candidates change next by time alone: a node that is down passes its grace.
    #[must_use]
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        let passing = self.nodes.values().filter_map(|fact| match fact.state {
            NodeState::Down { since } if !fact.state.is_lost(now) => Some(since + DOWN_GRACE),
            NodeState::Down { .. } | NodeState::Alive | NodeState::Suspect => None,
        });
        passing.min()
    }

    /// Whether more than a third of the nodes that hold data are down: a split or an outage, and
    /// not the time to move copies. Nodes that go for good do not count, nor those that are down
    /// and hold nothing: a node that came back under another id each time it lost its disk would
    /// otherwise be an outage for ever.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        let (mut total, mut down) = (0, 0);
        for fact in self.nodes.values() {
            let is_down = matches!(fact.state, NodeState::Down { .. });
            if fact.weight == 0 || fact.is_dismissed() || (is_down && fact.copies == Copies::None) {
                continue;
            }
            total += 1;
            down += usize::from(is_down);
        }
        down * 3 > total
    }

    /// Notes work that begins, so that the limits hold for the next group asked. Work in flight is
    /// noted likewise when the facts are made, from `work_in_flight` of each group led, or from the
    /// `work_of` a step whose change is still pending.
    pub fn note(&mut self, work: Work) {
        match work {
            Work::Growth => self.growing_groups += 1,
            Work::Transfer => self.transfers += 1,
            Work::Move { target } => {
                let ends = if target == self.me {
                    vec![target]
                } else {
                    vec![target, self.me]
                };
                for end in ends {
                    if let Some(fact) = self.nodes.get_mut(&end) {
                        fact.moves += 1;
                    }
                }
            }
        }
    }

    /// Whether one more piece of work may begin.
    pub(super) fn has_room_for(&self, work: Work) -> bool {
        let moves = |node| self.nodes.get(&node).map_or(0, |fact| fact.moves);
        match work {
            Work::Growth => self.growing_groups < GROWING_GROUPS_MAX,
            Work::Transfer => self.transfers < BALANCE_TRANSFERS_MAX,
            Work::Move { target } => {
                moves(target) < NODE_MOVES_MAX && moves(self.me) < NODE_MOVES_MAX
            }
        }
    }

    pub(super) fn fact(&self, node: NodeId) -> Option<&NodeFact> {
        self.nodes.get(&node)
    }
}

const _: () = assert!(DOWN_GRACE.as_secs() > Duration::from_secs(5).as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(states: &[NodeState]) -> NodeFacts {
        let fact = |state| NodeFact {
            state,
            ..NodeFact::alive()
        };
        NodeFacts {
            me: NodeId(1),
            nodes: (1..)
                .map(NodeId)
                .zip(states.iter().copied().map(fact))
                .collect(),
            factor: 3,
            growing_groups: 0,
            transfers: 0,
        }
    }

    const DOWN: NodeState = NodeState::Down { since: Instant(0) };

    #[test]
    fn an_outage_is_more_than_a_third_of_those_that_hold_data() {
        let alive = NodeState::Alive;
        let rows = [
            (vec![alive], false),
            (vec![alive, DOWN], true),
            (vec![alive, alive, DOWN], false),
            (vec![alive, NodeState::Suspect, DOWN], false),
            (vec![alive, DOWN, DOWN], true),
            (vec![alive, alive, alive, alive, DOWN, DOWN], false),
            (vec![alive, alive, alive, DOWN, DOWN], true),
        ];
        for (states, expected) in rows {
            assert_eq!(facts(&states).is_outage(), expected, "{states:?}");
        }
        let mut edge = facts(&[alive, DOWN]);
        edge.nodes.get_mut(&NodeId(2)).unwrap().weight = 0;
        assert!(!edge.is_outage());
        let mut removed = facts(&[alive, DOWN]);
        removed.nodes.get_mut(&NodeId(2)).unwrap().removed = Removed::Yes;
        assert!(!removed.is_outage());
        let mut emptied = facts(&[alive, alive, alive, DOWN, DOWN]);
        emptied.nodes.get_mut(&NodeId(4)).unwrap().copies = Copies::None;
        assert!(!emptied.is_outage(), "one of four that hold data");
    }

    #[test]
    fn candidates_and_when_they_change() {
        let mut facts = facts(&[NodeState::Alive, NodeState::Suspect, DOWN, NodeState::Alive]);
        facts.nodes.get_mut(&NodeId(4)).unwrap().duty = Duty::Draining;
        let nodes = |facts: &NodeFacts, now| -> Vec<u128> {
            facts.candidates(now).iter().map(|c| c.node.0).collect()
        };
        let early = Instant(0) + Duration::from_secs(59);
        assert_eq!(nodes(&facts, early), [1, 2, 3, 4]);
        assert_eq!(facts.next_change(early), Some(Instant(0) + DOWN_GRACE));
        let late = Instant(0) + DOWN_GRACE;
        assert_eq!(nodes(&facts, late), [1, 2, 4]);
        assert_eq!(facts.next_change(late), None);
        facts.nodes.get_mut(&NodeId(4)).unwrap().duty = Duty::Leaving;
        facts.nodes.get_mut(&NodeId(2)).unwrap().weight = 0;
        assert_eq!(nodes(&facts, late), [1]);
    }

    #[test]
    fn noted_work_fills_the_limits() {
        let mut facts = facts(&[NodeState::Alive; 3]);
        let work = Work::Move { target: NodeId(2) };
        for _ in 0..NODE_MOVES_MAX {
            assert!(facts.has_room_for(work));
            facts.note(work);
        }
        assert!(!facts.has_room_for(work));
        assert!(
            !facts.has_room_for(Work::Move { target: NodeId(3) }),
            "the leader is full too"
        );
        assert!(facts.has_room_for(Work::Growth));
        facts.growing_groups = GROWING_GROUPS_MAX - 1;
        facts.note(Work::Growth);
        assert!(!facts.has_room_for(Work::Growth));
    }
}
