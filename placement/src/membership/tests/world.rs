//! Nodes, a lossy network and virtual time. Every event happens in the order of its time, then of
//! its making, so that a seed gives one run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::hash::hash64;
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::time::Instant;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::membership::{
    Effect, GOSSIP_BYTES_MAX, Identity, Input, Member, MemberState, Membership, Settings,
};

pub(super) fn id(n: u128) -> NodeId {
    NodeId(n << 96)
}

pub(super) fn identity(n: u8, generation: u64) -> Identity {
    let address = SocketAddr::from(([10, 0, 0, n], 7_400));
    Identity::new(id(u128::from(n)), address, Generation(generation))
}

struct Node {
    membership: Membership,
    address: SocketAddr,
    frozen_until: Option<Instant>,
    /// What waits in its socket while it is frozen.
    waiting: Vec<Bytes>,
}

struct Datagram {
    from: NodeId,
    to: Identity,
    data: Bytes,
}

pub(super) struct World {
    pub(super) loss: f64,
    now: Instant,
    nodes: BTreeMap<NodeId, Node>,
    network: BTreeMap<(Instant, u64), Datagram>,
    sent_count: u64,
    cut_off: BTreeSet<NodeId>,
    trace: Vec<(NodeId, Effect)>,
    trace_hash: u64,
    settings: Settings,
    rng: ChaCha8Rng,
}

impl World {
    /// So many nodes; each but the first has met node 1.
    pub(super) fn new(n: u128, loss: f64, seed: u64) -> Self {
        Self::with_settings(n, loss, seed, Settings::default())
    }

    pub(super) fn with_settings(n: u128, loss: f64, seed: u64, settings: Settings) -> Self {
        let mut world = Self {
            loss,
            now: Instant(1_000_000_000),
            nodes: BTreeMap::new(),
            network: BTreeMap::new(),
            sent_count: 0,
            cut_off: BTreeSet::new(),
            trace: Vec::new(),
            trace_hash: 0,
            settings,
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        for node in 1..=n as u8 {
            world.start(identity(node, 1), seed * 1_000 + u64::from(node));
        }
        world
    }

    /// Starts a node, which meets node 1, or node 2 if it is node 1.
    pub(super) fn start(&mut self, me: Identity, seed: u64) {
        let node = Node {
            membership: Membership::new(me, self.settings, seed),
            address: me.address,
            frozen_until: None,
            waiting: Vec::new(),
        };
        self.nodes.insert(me.node, node);
        let seed_node = if me.node == id(1) { id(2) } else { id(1) };
        if let Some(seed_node) = self.nodes.get(&seed_node) {
            let met = seed_node.membership.identity();
            self.input(me.node, Input::Meet(met));
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn node(&mut self, node: NodeId) -> &mut Membership {
        &mut self
            .nodes
            .get_mut(&node)
            .expect("a running node")
            .membership
    }

    pub(super) fn identity(&self, node: NodeId) -> Identity {
        self.nodes[&node].membership.identity()
    }

    pub(super) fn deadline(&self, node: NodeId) -> Option<Instant> {
        self.nodes[&node].membership.next_deadline()
    }

    pub(super) fn member(&self, at: NodeId, of: NodeId) -> Member {
        *self.nodes[&at]
            .membership
            .member(of)
            .expect("a known member")
    }

    pub(super) fn kill(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    pub(super) fn freeze(&mut self, node: NodeId, time: Duration) {
        let until = self.now + time;
        self.nodes
            .get_mut(&node)
            .expect("a running node")
            .frozen_until = Some(until);
    }

    pub(super) fn move_to(&mut self, node: NodeId, address: SocketAddr) {
        self.nodes.get_mut(&node).expect("a running node").address = address;
        self.input(node, Input::AddressChanged(address));
    }

    pub(super) fn split(&mut self, side: &[NodeId]) {
        self.cut_off = side.iter().copied().collect();
    }

    pub(super) fn heal(&mut self) {
        self.cut_off.clear();
    }

    /// Whether a datagram of a node is on its way.
    pub(super) fn is_sending(&self, from: NodeId) -> bool {
        self.network.values().any(|datagram| datagram.from == from)
    }

    /// Whether all running nodes hold exactly all others for alive, under their present identities.
    pub(super) fn all_agree(&self) -> bool {
        self.nodes.iter().all(|(me, node)| {
            self.nodes
                .iter()
                .filter(|(other, _)| *other != me)
                .all(|(other, there)| {
                    node.membership.member(*other).is_some_and(|m| {
                        m.state == MemberState::Alive && m.identity == there.membership.identity()
                    })
                })
        })
    }

    /// Whether all other running nodes hold a node for this.
    pub(super) fn all_say(&self, node: NodeId, state: MemberState) -> bool {
        let mut others = self
            .nodes
            .iter()
            .filter(|(me, n)| **me != node && n.frozen_until.is_none());
        others.all(|(_, n)| n.membership.state_of(node) == Some(state))
    }

    pub(super) fn count(&self, wanted: impl Fn(&Effect) -> bool) -> usize {
        self.trace
            .iter()
            .filter(|(_, effect)| wanted(effect))
            .count()
    }

    pub(super) fn forget_trace(&mut self) {
        self.trace.clear();
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    /// What a node sends within a time; it arrives nevertheless.
    pub(super) fn take_datagrams(&mut self, from: NodeId, time: Duration) -> Vec<(NodeId, Bytes)> {
        let before = self.trace.len();
        self.run(time);
        let sent = self.trace[before..]
            .iter()
            .filter(|(node, _)| *node == from);
        let datagrams = sent.filter_map(|(_, effect)| match effect {
            Effect::Send { to, data } => Some((to.node, data.clone())),
            _ => None,
        });
        datagrams.collect()
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until a condition holds; gives how long that took.
    pub(super) fn run_until(
        &mut self,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        let end = start + limit;
        loop {
            if done(self) {
                return Some(self.now.since(start));
            }
            if !self.step(end) {
                self.now = end;
                return None;
            }
        }
    }

    pub(super) fn input(&mut self, node: NodeId, input: Input) {
        let mut out = Vec::new();
        let Some(there) = self.nodes.get_mut(&node) else {
            return;
        };
        there.membership.handle(self.now, input, &mut out);
        for effect in out {
            let line = format!("{} {:?} {} {effect:?}", self.trace_hash, self.now, node);
            self.trace_hash = hash64(0, line.as_bytes());
            if let Effect::Send { to, data } = &effect {
                self.send(node, *to, data.clone());
            }
            self.trace.push((node, effect));
        }
    }

    fn send(&mut self, from: NodeId, to: Identity, data: Bytes) {
        assert!(data.len() <= GOSSIP_BYTES_MAX, "{} bytes", data.len());
        assert_ne!(from, to.node, "a datagram to itself");
        let latency = Duration::from_micros(self.rng.random_range(500..1_000));
        if self.rng.random_bool(1.0 - self.loss) {
            let slot = (self.now + latency, self.sent_count);
            self.sent_count += 1;
            self.network.insert(slot, Datagram { from, to, data });
        }
    }

    /// Handles the next event up to `end`: a datagram before a wake-up before a timer.
    fn step(&mut self, end: Instant) -> bool {
        let arrival = self.network.first_key_value().map(|((at, _), _)| *at);
        let wake = self
            .nodes
            .iter()
            .filter_map(|(id, n)| Some((n.frozen_until?, *id)))
            .min();
        let awake = self.nodes.iter().filter(|(_, n)| n.frozen_until.is_none());
        let timer = awake
            .filter_map(|(id, n)| Some((n.membership.next_deadline()?, *id)))
            .min();
        let times = [arrival, wake.map(|(at, _)| at), timer.map(|(at, _)| at)];
        let Some(next) = times.into_iter().flatten().min().filter(|at| *at <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let (_, datagram) = self.network.pop_first().expect("it arrives now");
            self.deliver(datagram);
        } else if let Some((_, node)) = wake.filter(|(at, _)| *at == next) {
            self.wake(node);
        } else if let Some((_, node)) = timer {
            self.input(node, Input::Tick);
        }
        true
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram { from, to, data } = datagram;
        let apart = self.cut_off.contains(&from) != self.cut_off.contains(&to.node);
        let Some(node) = self.nodes.get_mut(&to.node) else {
            return;
        };
        // Nobody listens at an address that a node has left.
        if apart || node.address != to.address {
            return;
        }
        if node.frozen_until.is_some() {
            node.waiting.push(data);
        } else {
            self.input(to.node, Input::Datagram(data));
        }
    }

    /// As the shell does it: what waits in the socket comes before the timers.
    fn wake(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a frozen node");
        node.frozen_until = None;
        for data in std::mem::take(&mut node.waiting) {
            self.input(id, Input::Datagram(data));
        }
        self.input(id, Input::Tick);
    }
}
