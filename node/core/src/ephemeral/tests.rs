//! Many nodes at once, from a seed: interest under faults, then events by plan.
//!
//! While there are faults frames are lost, connections break and nodes start anew. Then it is
//! quiet, and after a few seconds every node must know what every other wants; an event reaches
//! each node that wants it exactly once, and nobody sends more copies than the plan's bounds allow.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::ephemeral::InterestFrame;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::interest::{Input, Interest, Output, Wants};
use super::plan::{DIRECT_MAX, plan};
use super::{TopicKey, key};

const ZONES: [&str; 4] = ["", "a", "b", "c"];

struct Node {
    interest: Interest,
    run: u64,
    zone: &'static str,
    wants: BTreeMap<TopicKey, u32>,
}

/// Whether nodes have zones.
#[derive(Clone, Copy)]
enum Zones {
    None,
    Four,
}

impl Zones {
    fn of(seed: u64) -> Self {
        if seed.is_multiple_of(2) {
            Self::Four
        } else {
            Self::None
        }
    }
}

struct World {
    rng: ChaCha8Rng,
    now: u64,
    nodes: BTreeMap<NodeId, Node>,
    /// Pairs with a connection, the smaller id first.
    up: BTreeSet<(NodeId, NodeId)>,
    /// Frames of a connection, in order.
    wire: BTreeMap<(NodeId, NodeId), VecDeque<InterestFrame>>,
    /// Of a hundred frames, so many are lost.
    lost: u32,
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

impl World {
    fn new(seed: u64, count: u128, zones: Zones) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let zone = |id: u128| match zones {
            Zones::Four => ZONES[id as usize % 4],
            Zones::None => "",
        };
        let nodes = (1..=count).map(|id| {
            let node = Node {
                interest: Interest::new(1),
                run: 1,
                zone: zone(id),
                wants: BTreeMap::new(),
            };
            (NodeId(id), node)
        });
        Self {
            rng,
            now: 0,
            nodes: nodes.collect(),
            up: BTreeSet::new(),
            wire: BTreeMap::new(),
            lost: 0,
        }
    }

    fn any(&mut self) -> NodeId {
        let count = self.nodes.len() as u128;
        NodeId(self.rng.random_range(1..=count))
    }

    fn feed(&mut self, node: NodeId, input: Input) {
        let mut out = Vec::new();
        let now = Instant(self.now * 1_000_000);
        let at = self.nodes.get_mut(&node).unwrap();
        at.interest.handle(now, input, &mut out);
        for output in out {
            if let Output::Send { to, frame } = output
                && self.up.contains(&pair(node, to))
                && self.rng.random_range(0..100) >= self.lost
            {
                self.wire.entry((node, to)).or_default().push_back(frame);
            }
        }
    }

    fn connect(&mut self, a: NodeId, b: NodeId) {
        if a != b && self.up.insert(pair(a, b)) {
            for (from, to) in [(a, b), (b, a)] {
                let run = self.nodes[&to].run;
                self.feed(from, Input::Connected { node: to, run });
            }
        }
    }

    fn cut(&mut self, a: NodeId, b: NodeId) {
        if self.up.remove(&pair(a, b)) {
            for (from, to) in [(a, b), (b, a)] {
                // Some of what was sent had arrived, and is heard after the end.
                self.wire.remove(&(from, to));
                self.feed(from, Input::Disconnected(to));
            }
        }
    }

    fn restart(&mut self, node: NodeId) {
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.cut(node, other);
        }
        let at = self.nodes.get_mut(&node).unwrap();
        at.run += 1;
        at.interest = Interest::new(at.run);
        at.wants.clear();
    }

    fn want(&mut self, node: NodeId, topic: TopicKey, subscribers: u32) {
        let at = self.nodes.get_mut(&node).unwrap();
        match subscribers {
            0 => drop(at.wants.remove(&topic)),
            _ => drop(at.wants.insert(topic.clone(), subscribers)),
        }
        let wants = Wants {
            subscribers,
            dropped: 0,
        };
        self.feed(node, Input::Wanted { topic, wants });
    }

    /// Delivers what is under way, some connections before others.
    fn deliver(&mut self, frames: usize) {
        for _ in 0..frames {
            let from = (self.any(), self.any());
            let next = self.wire.range(from..).next();
            let Some(((from, to), _)) = next.or_else(|| self.wire.iter().next()) else {
                return;
            };
            let (from, to) = (*from, *to);
            let queue = self.wire.get_mut(&(from, to)).unwrap();
            let frame = queue.pop_front();
            if queue.is_empty() {
                self.wire.remove(&(from, to));
            }
            if let Some(frame) = frame {
                self.feed(to, Input::Said { from, frame });
            }
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now += ms;
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.feed(node, Input::Tick);
        }
    }

    fn fault(&mut self, topics: &[TopicKey]) {
        let (a, b) = (self.any(), self.any());
        match self.rng.random_range(0..100) {
            0..70 => {
                let topic = topics[self.rng.random_range(0..topics.len())].clone();
                let subscribers = self.rng.random_range(0..4);
                self.want(a, topic, subscribers);
            }
            70..80 => self.cut(a, b),
            80..98 => self.connect(a, b),
            _ => self.restart(a),
        }
        let frames = self.rng.random_range(0..12);
        self.deliver(frames);
        if self.rng.random_bool(0.1) {
            self.tick(200);
        }
    }

    fn heal(&mut self) {
        self.lost = 0;
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        for a in &all {
            for b in &all {
                self.connect(*a, *b);
            }
        }
        for _ in 0..4 {
            self.deliver(usize::MAX);
            self.tick(500);
        }
        self.deliver(usize::MAX);
    }

    fn check_interest(&self, topics: &[TopicKey], seed: u64) {
        for (me, node) in &self.nodes {
            for topic in topics {
                let known: BTreeMap<NodeId, u32> = node
                    .interest
                    .wanting(topic)
                    .map(|(node, wants)| (node, wants.subscribers))
                    .collect();
                let truth: BTreeMap<NodeId, u32> = self
                    .nodes
                    .iter()
                    .filter(|(other, _)| *other != me)
                    .filter_map(|(other, at)| Some((*other, *at.wants.get(topic)?)))
                    .collect();
                assert_eq!(known, truth, "seed {seed}: {me} about {topic:?}");
            }
            let version = node.interest.version();
            assert!(node.interest.is_known(version), "seed {seed}: {me}");
        }
    }

    /// An event from one node; who got it how often, and the most copies that one node sent.
    fn publish(&self, from: NodeId, topic: &TopicKey) -> (BTreeMap<NodeId, u32>, usize) {
        let at = &self.nodes[&from];
        let targets: BTreeMap<NodeId, &str> = at
            .interest
            .wanting(topic)
            .map(|(node, _)| (node, self.nodes[&node].zone))
            .collect();
        let hops = plan(topic, at.zone, &targets);
        let mut got = BTreeMap::new();
        let mut most = hops.len();
        for hop in hops {
            *got.entry(hop.to).or_default() += 1;
            most = most.max(hop.pass_to.len());
            for node in hop.pass_to {
                *got.entry(node).or_default() += 1;
            }
        }
        (got, most)
    }
}

fn run(seed: u64, count: u128, zones: Zones, faults: usize) {
    let mut world = World::new(seed, count, zones);
    let topics: Vec<TopicKey> = (0..6).map(|topic| key(&format!("t{topic}"))).collect();
    world.lost = world.rng.random_range(0..20);
    for _ in 0..faults {
        world.fault(&topics);
    }
    world.heal();
    world.check_interest(&topics, seed);
    for topic in &topics {
        let from = world.any();
        let (got, most) = world.publish(from, topic);
        let wanting = world.nodes.iter();
        let wanting: BTreeMap<NodeId, u32> = wanting
            .filter(|(node, at)| **node != from && at.wants.contains_key(topic))
            .map(|(node, _)| (*node, 1))
            .collect();
        assert_eq!(got, wanting, "seed {seed}");
        assert!(
            most <= DIRECT_MAX + ZONES.len(),
            "seed {seed}: {most} copies"
        );
    }
}

#[test]
fn interest_heals_and_every_event_arrives_once() {
    for seed in 0..60 {
        run(seed, 2 + u128::from(seed % 9), Zones::of(seed), 300);
    }
}

/// Beyond what one node sends to by itself, with zones and without.
#[test]
fn a_hundred_and_fifty_nodes() {
    for seed in 0..4 {
        let mut world = World::new(seed, 150, Zones::of(seed));
        let topics = [key("t0"), key("t1")];
        world.heal();
        for id in 1..=150 {
            world.want(NodeId(id), topics[0].clone(), 1);
        }
        world.lost = 5;
        for _ in 0..300 {
            world.fault(&topics);
        }
        world.heal();
        world.check_interest(&topics, seed);
        let from = world.any();
        let (got, most) = world.publish(from, &topics[0]);
        let wanting = world.nodes.iter();
        let wanting = wanting
            .filter(|(node, at)| **node != from && at.wants.contains_key(&topics[0]))
            .count();
        assert!(wanting > 100, "seed {seed}: {wanting}");
        assert!(
            got.len() == wanting && got.values().all(|n| *n == 1),
            "seed {seed}"
        );
        let bound = if seed % 2 == 0 { DIRECT_MAX } else { 13 };
        assert!(most <= bound + ZONES.len(), "seed {seed}: {most} copies");
    }
}
