//! A tiny model of one Raft group on nodes that come and go: it applies steps as Raft would, and
//! checks what must hold at each. Time is virtual, one second per round; everything follows from a
//! seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::partition_row::{Membership, PartitionRow, Peer};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::hello::{Duty, Removed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::limits::CAUGHT_UP_LAG_ENTRIES;
use super::{
    Condemned, Contact, Decision, GroupView, NodeFact, NodeFacts, NodeState, Progress, Readiness,
    Reconciler, SnapshotState, Step,
};
use crate::ring::{Candidate, Ring};

const PARTITION: PartitionId = PartitionId(5);
const NEW_COPY_LAG: u64 = 1_000;

/// The group, its nodes and the leader's memory.
pub(super) struct Model {
    pub(super) now: Instant,
    pub(super) facts: NodeFacts,
    pub(super) membership: Membership,
    pub(super) leader: Option<PeerId>,
    pub(super) condemned: Vec<Condemned>,
    /// Every step taken, with the second it was taken at.
    pub(super) steps: Vec<(u64, Step)>,
    pub(super) last: Decision,
    lag: BTreeMap<PeerId, u64>,
    lost: BTreeSet<PeerId>,
    ring: Ring,
    wish_of: (Vec<Candidate>, Vec<NodeId>),
    reconciler: Reconciler,
    leaderless_rounds: u32,
    rng: ChaCha8Rng,
}

impl Model {
    /// A group founded by node 1 alone, among so many nodes.
    pub(super) fn founded(nodes: u128, factor: u8, seed: u64) -> Self {
        let membership = PartitionRow::founded(NodeId(1)).membership.unwrap();
        let nodes = (1..=nodes).map(|n| (NodeId(n), NodeFact::alive()));
        Self {
            now: Instant(1_000_000_000),
            facts: NodeFacts {
                me: NodeId(1),
                nodes: nodes.collect(),
                factor,
                growing_groups: 0,
                transfers: 0,
            },
            membership,
            leader: Some(PeerId(1)),
            condemned: Vec::new(),
            steps: Vec::new(),
            last: Decision::Rest,
            lag: BTreeMap::new(),
            lost: BTreeSet::new(),
            ring: Ring::new(16, 64, factor),
            wish_of: (Vec::new(), Vec::new()),
            reconciler: Reconciler::default(),
            leaderless_rounds: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// The same after it has settled.
    pub(super) fn settled(nodes: u128, factor: u8, seed: u64) -> Self {
        let mut model = Self::founded(nodes, factor, seed);
        model.run(120);
        assert_eq!(model.last, Decision::Rest, "{:?}", model.membership);
        model.steps.clear();
        model
    }

    pub(super) fn wish(&self) -> Vec<NodeId> {
        self.ring
            .preference_list(PARTITION, &self.facts.candidates(self.now))
    }

    pub(super) fn fact(&mut self, node: u128) -> &mut NodeFact {
        self.facts
            .nodes
            .get_mut(&NodeId(node))
            .expect("a node of the model")
    }

    pub(super) fn kill(&mut self, node: u128) {
        let since = self.now;
        let fact = self.fact(node);
        if !matches!(fact.state, NodeState::Down { .. }) {
            fact.state = NodeState::Down { since };
        }
    }

    pub(super) fn revive(&mut self, node: u128) {
        self.fact(node).state = NodeState::Alive;
    }

    /// A node finds its replica damaged: it never speaks for those peers again.
    pub(super) fn condemn(&mut self, node: NodeId) {
        let here = self.membership.nodes().filter(|(_, n)| *n == node);
        let Some(peer) = here.map(|(p, _)| p).max() else {
            return;
        };
        self.lost.insert(peer);
        self.condemned.retain(|c| c.node != node);
        self.condemned.push(Condemned {
            node,
            smallest_peer: PeerId(peer.0 + 1),
        });
    }

    pub(super) fn voter_nodes(&self) -> BTreeSet<NodeId> {
        let voters = self.membership.voters.iter();
        voters
            .filter_map(|v| self.membership.node_of(PeerId(*v)))
            .collect()
    }

    pub(super) fn leader_node(&self) -> Option<NodeId> {
        self.leader.and_then(|peer| self.membership.node_of(peer))
    }

    pub(super) fn seconds(&self) -> u64 {
        self.now.0 / 1_000_000_000
    }

    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.round();
        }
    }

    fn is_live(&self, peer: PeerId) -> bool {
        let node = self.membership.node_of(peer);
        let fact = node.and_then(|n| self.facts.nodes.get(&n));
        let up = fact.is_some_and(|f| {
            !matches!(f.state, NodeState::Down { .. }) && f.removed == Removed::No
        });
        up && !self.lost.contains(&peer)
    }

    fn has_caught_up(&self, peer: PeerId) -> bool {
        self.lag.get(&peer).copied().unwrap_or(0) < CAUGHT_UP_LAG_ENTRIES
    }

    /// Whether the live voters are a majority of both halves.
    fn has_quorum(&self) -> bool {
        let live = |half: &[u64]| half.iter().filter(|v| self.is_live(PeerId(**v))).count();
        let (new, old) = (&self.membership.voters, &self.membership.voters_outgoing);
        live(new) * 2 > new.len() && (old.is_empty() || live(old) * 2 > old.len())
    }

    fn round(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        let peers: Vec<PeerId> = self.membership.nodes().map(|(peer, _)| peer).collect();
        for peer in peers {
            let caught = self.rng.random_range(50..400);
            if self.is_live(peer) && self.leader.is_some() {
                let lag = self.lag.entry(peer).or_default();
                *lag = lag.saturating_sub(caught);
            }
        }
        self.elect();
        let Some(leader) = self.leader.filter(|_| self.has_quorum()) else {
            return;
        };
        let Some(step) = self.ask(leader) else {
            return;
        };
        self.steps.push((self.seconds(), step.clone()));
        self.apply(leader, step);
    }

    fn elect(&mut self) {
        if self.leader.is_some_and(|leader| self.is_live(leader)) {
            self.leaderless_rounds = 0;
            return;
        }
        self.leader = None;
        self.leaderless_rounds += 1;
        let halves = self
            .membership
            .voters
            .iter()
            .chain(&self.membership.voters_outgoing);
        let electable: Vec<PeerId> = halves
            .map(|v| PeerId(*v))
            .filter(|p| self.is_live(*p) && self.has_caught_up(*p))
            .collect();
        if self.leaderless_rounds > 1 && self.has_quorum() && !electable.is_empty() {
            let choice = self.rng.random_range(0..electable.len());
            self.become_leader(electable[choice]);
        }
    }

    fn become_leader(&mut self, peer: PeerId) {
        self.leader = Some(peer);
        self.facts.me = self.membership.node_of(peer).expect("a leader has a node");
        self.reconciler = Reconciler::default();
    }

    fn ask(&mut self, leader: PeerId) -> Option<Step> {
        let progress: BTreeMap<PeerId, Progress> = self
            .membership
            .nodes()
            .filter(|(peer, _)| *peer != leader)
            .map(|(peer, _)| {
                let lag_entries = self.lag.get(&peer).copied().unwrap_or(0);
                let live = self.is_live(peer);
                let contact = if live {
                    Contact::Active
                } else {
                    Contact::Silent
                };
                let snapshot = SnapshotState::None;
                (
                    peer,
                    Progress {
                        lag_entries,
                        contact,
                        snapshot,
                    },
                )
            })
            .collect();
        let candidates = self.facts.candidates(self.now);
        if self.wish_of.0 != candidates {
            let wish = self.ring.preference_list(PARTITION, &candidates);
            self.wish_of = (candidates, wish);
        }
        let wish = self.wish_of.1.clone();
        let view = GroupView {
            partition: PARTITION,
            membership: &self.membership,
            leader,
            readiness: Readiness::Ready,
            progress: &progress,
            condemned: &self.condemned,
        };
        self.last = self.reconciler.decide(self.now, &view, &wish, &self.facts);
        match &self.last {
            Decision::Act(step) => Some(step.clone()),
            Decision::Wait(_) | Decision::Rest => None,
        }
    }

    fn apply(&mut self, leader: PeerId, step: Step) {
        let before = self.membership.voters.len();
        self.membership.index += 1;
        match step {
            Step::AddLearner { node, peer } => self.add_learner(node, peer),
            Step::Swap {
                voters_in,
                voters_out,
            } => self.swap(&voters_in, &voters_out),
            Step::LeaveJoint => self.leave_joint(leader),
            Step::RemoveLearner(peer) => {
                assert!(
                    self.membership.learners.contains(&peer.0),
                    "{peer} is no learner"
                );
                self.membership.learners.retain(|l| *l != peer.0);
                self.membership.peers.retain(|p| p.peer != peer.0);
            }
            Step::TransferLeader(peer) => {
                assert_ne!(peer, leader, "a transfer to itself");
                assert!(
                    self.membership.voters.contains(&peer.0),
                    "{peer} does not vote"
                );
                assert!(
                    self.is_live(peer) && self.has_caught_up(peer),
                    "{peer} cannot lead"
                );
                self.become_leader(peer);
            }
        }
        let after = self.membership.voters.len();
        let factor = usize::from(self.facts.factor);
        assert!(
            after >= before.min(factor),
            "voters shrank from {before} to {after}"
        );
        assert!(after % 2 == 1, "{after} voters");
        if !self.membership.is_joint() {
            assert_eq!(self.voter_nodes().len(), after, "a node votes twice");
        }
    }

    fn add_learner(&mut self, node: NodeId, peer: PeerId) {
        let fact = &self.facts.nodes[&node];
        assert!(fact.takes_copies(), "{node} got a copy: {fact:?}");
        assert!(
            !self.membership.is_joint(),
            "a learner inside a joint change"
        );
        assert!(peer.0 >= self.membership.next_peer, "{peer} is not fresh");
        self.membership.next_peer = peer.0 + 1;
        self.membership.learners.push(peer.0);
        let node = node.to_bytes().to_vec();
        self.membership.peers.push(Peer { peer: peer.0, node });
        self.lag.insert(peer, NEW_COPY_LAG);
    }

    fn swap(&mut self, voters_in: &[PeerId], voters_out: &[PeerId]) {
        let m = &mut self.membership;
        assert!(!m.is_joint(), "a joint change inside a joint change");
        m.voters_outgoing = m.voters.clone();
        for peer in voters_in {
            assert!(m.learners.contains(&peer.0), "{peer} is no learner");
            m.learners.retain(|l| *l != peer.0);
            m.voters.push(peer.0);
        }
        for peer in voters_out {
            assert!(m.voters.contains(&peer.0), "{peer} does not vote");
            m.voters.retain(|v| *v != peer.0);
        }
        let voters = self.membership.voters.clone();
        let fit = |v: &&u64| self.is_live(PeerId(**v)) && self.has_caught_up(PeerId(**v));
        let fit = voters.iter().filter(fit).count();
        assert!(fit * 2 > voters.len(), "{fit} of {voters:?} could serve");
    }

    fn leave_joint(&mut self, leader: PeerId) {
        let m = &mut self.membership;
        assert!(m.is_joint(), "no joint change to leave");
        assert!(
            m.voters.contains(&leader.0),
            "the leader {leader} removes itself"
        );
        m.voters_outgoing.clear();
        m.peers
            .retain(|p| m.voters.contains(&p.peer) || m.learners.contains(&p.peer));
    }

    /// One random event of a node's life. Never more of them than the group can bear for good.
    pub(super) fn random_event(&mut self) {
        let count = self.facts.nodes.len() as u128;
        let node = self.rng.random_range(1..=count);
        match self.rng.random_range(0..12) {
            0..=2 => self.kill(node),
            3..=5 => self.revive(node),
            6 => self.turn(node, Duty::Draining),
            7 => self.turn(node, Duty::Serving),
            8 => self.fact(node).state = NodeState::Suspect,
            9 => self.condemn_if_bearable(NodeId(node)),
            10 if count < 12 => {
                self.facts
                    .nodes
                    .insert(NodeId(count + 1), NodeFact::alive());
            }
            _ => {
                let staying = self
                    .facts
                    .nodes
                    .values()
                    .filter(|f| !f.is_dismissed())
                    .count();
                if staying > usize::from(self.facts.factor) {
                    self.turn(node, Duty::Leaving);
                }
            }
        }
    }

    /// A node that leaves does so for good.
    fn turn(&mut self, node: u128, duty: Duty) {
        let fact = self.fact(node);
        if fact.duty != Duty::Leaving {
            fact.duty = duty;
        }
    }

    /// Condemns a replica if every half keeps a majority of whole ones: more is a lost majority.
    fn condemn_if_bearable(&mut self, node: NodeId) {
        let whole = |half: &[u64]| {
            let keeps = half.iter().filter(|v| {
                let peer = PeerId(**v);
                let here = self.membership.node_of(peer) == Some(node);
                !self.lost.contains(&peer) && !here && self.has_caught_up(peer)
            });
            keeps.count() * 2 > half.len()
        };
        let m = &self.membership;
        if whole(&m.voters) && (m.voters_outgoing.is_empty() || whole(&m.voters_outgoing)) {
            self.condemn(node);
        }
    }
}
