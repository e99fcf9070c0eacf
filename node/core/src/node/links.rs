//! Other nodes: their records, the connections to them, who is dialed and who is silent, and SWIM.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_placement::membership::{
    self, Identity, Member, MemberState, Membership, Settings as GossipSettings,
};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, PeerId};
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::border;
use ghostlight_protocol::wire::frame::{Control, Fitness, Frame};
use ghostlight_protocol::wire::hello::{
    ClusterDescriptor, Company, ConnectionKind, Duty, NodeRecord,
};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::flush::Outbound;
use super::slot::Slot;
use super::{Cluster, Introduced, Local, NodeCore, Start};
use crate::gateway::{GatewayInput, Reachable};
use crate::io::{Effect, Event, Lane, Named, Now, StoreEffect};
use crate::topics::subscribers::SubscribersInput;

/// A control connection without a frame for this long is silent: calls ask elsewhere.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(400);
/// Pause before a bulk connection on which nothing moves is made anew once more: at first, and at
/// most, when nothing is confirmed in between.
const RECONNECT_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));
/// First and longest pause between two dials of one node.
const DIAL_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// Pause between two rounds of dialing the seeds.
const SEED_PAUSE: Duration = Duration::from_secs(1);
/// The same for seeds that no connected node has as its address.
const STRANGER_PAUSE: Duration = Duration::from_secs(5);
/// Rounds of silent seeds before the first word about it, and between two words.
const SEED_ROUNDS: (u32, u32) = (3, 10);
/// A node without copies that has been silent and down for so long is forgotten; should it live
/// behind a split, it dials, and is met as a new one. One that said that it ends is forgotten at
/// once.
const EDGE_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// The same where gossip alone has told of it: it may be a storage node that was gone before it
/// could be met, which groups count on.
const HEARSAY_FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Ticks between two looks for such.
const EDGE_TICKS: u64 = 20;
/// A node whose clock is further from the members' median writes no wall time.
const CLOCK_TOLERANCE_MS: u64 = 2_000;

/// All other nodes this one knows of.
pub(super) struct Links {
    me: NodeId,
    nodes: BTreeMap<NodeId, Link>,
    seeds: Vec<String>,
    /// Who was found at a seed.
    seed_nodes: BTreeMap<String, NodeId>,
    seeds_at: Instant,
    seed_rounds: u32,
}

/// One other node.
pub(super) struct Link {
    pub(super) record: NodeRecord,
    control: Wire,
    bulk: Wire,
    /// When the last frame of the control connection came.
    heard: Instant,
    told_silent: bool,
    dial_pause: Duration,
    dial_at: Instant,
    /// Its calendar clock minus ours, milliseconds, at its last control frame; `None`: not heard
    /// yet.
    wall_offset_ms: Option<i64>,
    /// Whether it is fit to lead, by its own word.
    pub(super) fitness: Fitness,
    /// When its bulk connection was last made anew because nothing moved on it.
    reconnected: Option<Instant>,
    /// How long to wait until that is done again.
    reconnect_pause: Duration,
    /// When it last answered an append, of any partition: the bulk connection moves, there and
    /// back.
    confirmed: Option<Instant>,
    pub(super) replicas: u32,
    pub(super) leaders: u32,
    /// Its condemned replicas: partition, smallest peer id it accepts.
    pub(super) condemned: BTreeMap<PartitionId, PeerId>,
    /// Since when it has been down and unconnected.
    gone: Option<Instant>,
}

/// Whether a frame may have been on its way while this node did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// It came soon after it was sent.
    Fresh,
    /// It may have waited here through a pause of this node.
    MayBeStale,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Up,
    Down,
}

pub(super) fn membership(start: &Start, rng: &mut ChaCha8Rng) -> Membership {
    let address = start
        .record
        .address
        .parse()
        .unwrap_or_else(|_| unspecified());
    let identity = Identity::new(start.me(), address, Generation(start.record.generation));
    Membership::new(identity, GossipSettings::default(), rng.random())
}

fn unspecified() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Links {
    pub(super) fn new(start: &Start) -> Self {
        let mut links = Self {
            me: start.me(),
            nodes: BTreeMap::new(),
            seeds: start.seeds.clone(),
            seed_nodes: BTreeMap::new(),
            seeds_at: Instant::default(),
            seed_rounds: 0,
        };
        for record in &start.addresses {
            if let Some(node) = record.id().filter(|node| *node != links.me) {
                links.nodes.insert(node, Link::new(record.clone()));
            }
        }
        links
    }

    /// A dial to an address led to a node.
    pub(super) fn found_at(&mut self, address: String, node: NodeId) {
        if self.seeds.contains(&address) {
            self.seed_nodes.insert(address, node);
        }
    }

    /// Seeds behind which no connected node is known to be.
    fn strangers(&self, own: &str) -> Vec<String> {
        let up = |link: &Link| link.control == Wire::Up;
        let met = |seed: &String| {
            let by_name = self.seed_nodes.get(seed).and_then(|n| self.nodes.get(n));
            let mut by_address = self.nodes.values().filter(|l| l.record.address == *seed);
            seed == own || by_name.is_some_and(up) || by_address.any(up)
        };
        self.seeds.iter().filter(|s| !met(s)).cloned().collect()
    }

    pub(super) fn known(&self) -> impl Iterator<Item = NodeId> {
        std::iter::once(self.me).chain(self.nodes.keys().copied())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Link)> {
        self.nodes.iter().map(|(node, link)| (*node, link))
    }

    pub(super) fn link(&self, node: NodeId) -> Option<&Link> {
        self.nodes.get(&node)
    }

    /// Nodes with a control connection.
    pub(super) fn connected(&self) -> Vec<NodeId> {
        let up = self
            .nodes
            .iter()
            .filter(|(_, link)| link.control == Wire::Up);
        up.map(|(node, _)| *node).collect()
    }

    pub(super) fn reachable(&self, node: NodeId) -> Reachable {
        match self.nodes.get(&node) {
            Some(link) if link.bulk == Wire::Up && !link.told_silent => Reachable::Yes,
            Some(_) | None => Reachable::No,
        }
    }

    /// Its control connection is silent for 400 ms: calls go elsewhere already, though gossip does
    /// not doubt it yet.
    pub(super) fn is_silent(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|link| link.told_silent)
    }

    /// `machine`: this node's calendar clock.
    pub(super) fn heard_control(
        &mut self,
        now: Instant,
        machine: WallTime,
        from: NodeId,
        control: &Control,
        word: Word,
    ) {
        let Some(link) = self.nodes.get_mut(&from) else {
            return;
        };
        link.heard = now;
        link.told_silent = false;
        (link.replicas, link.leaders) = (control.replicas, control.leaders);
        if control.wall_ms != 0 {
            let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
            let offset = signed(control.wall_ms).saturating_sub(signed(machine.0));
            // An old frame makes a clock look slow that is not; it cannot make a wrong one look
            // right for longer than it takes the next one to come.
            if word == Word::Fresh || offset.unsigned_abs() <= CLOCK_TOLERANCE_MS {
                link.wall_offset_ms = Some(offset);
            }
        }
        link.fitness = control.fitness();
        if !control.condemned.is_empty() || !link.condemned.is_empty() {
            let condemned = control.condemned.iter().filter_map(|c| {
                Some((
                    PartitionId(u16::try_from(c.partition).ok()?),
                    PeerId(c.next_peer),
                ))
            });
            link.condemned = condemned.collect();
        }
    }

    /// Nodes that have become silent since the last question.
    pub(super) fn newly_silent(&mut self, now: Instant) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for (node, link) in &mut self.nodes {
            let quiet = link.control == Wire::Down || now.since(link.heard) >= SILENT_AFTER;
            if quiet && !link.told_silent {
                link.told_silent = true;
                silent.push(*node);
            }
        }
        silent
    }

    /// This node's wall clock, if the median of the members' clocks agrees with it.
    pub(super) fn agreed_wall(&self, wall: WallTime) -> Option<WallTime> {
        self.clock_off_ms().is_none().then_some(wall)
    }

    /// How far the members' median is from this node's clock, if that is too far.
    pub(super) fn clock_off_ms(&self) -> Option<i64> {
        let up = self.nodes.values().filter(|link| link.control == Wire::Up);
        let mut offsets: Vec<i64> = up.filter_map(|link| link.wall_offset_ms).collect();
        offsets.push(0);
        offsets.sort_unstable();
        // Of an even number the lower one: a clock that is behind makes things late, one that is
        // ahead deletes them.
        let median = offsets[(offsets.len() - 1) / 2];
        (median.unsigned_abs() > CLOCK_TOLERANCE_MS).then_some(median)
    }

    /// For how long nothing was heard of a node; for ever without a control connection.
    pub(super) fn silence(&self, node: NodeId, now: Instant) -> Duration {
        match self.nodes.get(&node) {
            Some(link) if link.control == Wire::Up => now.since(link.heard),
            Some(link) => now.since(link.heard).max(Duration::from_millis(1)),
            None => Duration::MAX,
        }
    }

    /// Whether a node's control connection is up and not silent: it answers heartbeats.
    pub(super) fn answers(&self, node: NodeId) -> bool {
        let link = self.nodes.get(&node);
        link.is_some_and(|link| link.control == Wire::Up && !link.told_silent)
    }

    /// A node has answered an append.
    pub(super) fn confirmed(&mut self, node: NodeId, now: Instant) {
        if let Some(link) = self.nodes.get_mut(&node) {
            link.confirmed = Some(now);
            link.reconnected = None;
            link.reconnect_pause = RECONNECT_PAUSE.0;
        }
    }

    /// Whether a node has answered an append lately.
    pub(super) fn confirms(&self, node: NodeId, now: Instant, lately: Duration) -> bool {
        let confirmed = self.nodes.get(&node).and_then(|link| link.confirmed);
        confirmed.is_some_and(|at| now.since(at) < lately)
    }

    /// Whether a node's bulk connection may be made anew: it is up, and was not for a while.
    pub(super) fn may_reconnect(&mut self, node: NodeId, now: Instant) -> bool {
        let Some(link) = self.nodes.get_mut(&node) else {
            return false;
        };
        let lately = link
            .reconnected
            .is_some_and(|at| now.since(at) < link.reconnect_pause);
        if link.bulk == Wire::Down || lately {
            return false;
        }
        if link.reconnected.is_some() {
            // Nothing was confirmed since: perhaps what is under way takes longer than it was
            // given.
            link.reconnect_pause = (2 * link.reconnect_pause).min(RECONNECT_PAUSE.1);
        }
        link.reconnected = Some(now);
        link.dial_at = now;
        true
    }

    pub(super) fn tell_record(&self, record: &NodeRecord, flush: &mut Outbound) {
        for node in self.connected() {
            flush.records.push((node, record.clone()));
        }
    }

    fn take_record(&mut self, record: NodeRecord) -> Fresh {
        let Some(node) = record.id().filter(|node| *node != self.me) else {
            return Fresh::No;
        };
        match self.nodes.get_mut(&node) {
            Some(link) if record.freshness() > link.record.freshness() => {
                link.record = record;
                Fresh::Yes
            }
            Some(_) => Fresh::No,
            None => {
                self.nodes.insert(node, Link::new(record));
                Fresh::Yes
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fresh {
    Yes,
    No,
}

impl Link {
    fn new(record: NodeRecord) -> Self {
        Self {
            record,
            control: Wire::Down,
            bulk: Wire::Down,
            heard: Instant::default(),
            told_silent: true,
            dial_pause: DIAL_PAUSE.0,
            dial_at: Instant::default(),
            wall_offset_ms: None,
            fitness: Fitness::Fit,
            reconnected: None,
            reconnect_pause: RECONNECT_PAUSE.0,
            confirmed: None,
            replicas: 0,
            leaders: 0,
            condemned: BTreeMap::new(),
            gone: None,
        }
    }

    /// An edge that was told to end, and did.
    fn has_said_goodbye(&self) -> bool {
        let unconnected = (self.control, self.bulk) == (Wire::Down, Wire::Down);
        self.record.weight == 0 && self.record.duty() == Duty::Leaving && unconnected
    }

    fn wire_mut(&mut self, kind: ConnectionKind) -> Option<&mut Wire> {
        match kind {
            ConnectionKind::Control => Some(&mut self.control),
            ConnectionKind::Bulk => Some(&mut self.bulk),
            ConnectionKind::Inquiry => None,
        }
    }
}

/// What tells versions of records apart: a newer one is fresher, and of an address others may tell
/// before.
fn version_of(record: &NodeRecord) -> (&[u8], (u64, u64), &str) {
    (&record.node, record.freshness(), &record.address)
}

impl NodeCore {
    pub(super) fn connected(
        &mut self,
        now: Now,
        peer: NodeRecord,
        descriptor: Option<ClusterDescriptor>,
        kind: ConnectionKind,
        out: &mut Vec<Effect>,
    ) {
        let Some(node) = peer.id().filter(|node| *node != self.me) else {
            return;
        };
        if let Err(error) = border::check_record(&peer) {
            Self::say(out, format!("node {node} is not spoken to: {error}"));
            out.push(Effect::Close(node));
            return;
        }
        if kind == ConnectionKind::Inquiry {
            // It asks, and is no member.
            return;
        }
        if self.removed.contains(&node) {
            out.push(Effect::Close(node));
            return;
        }
        if self.is_stranger(descriptor.as_ref(), out) {
            // Greeted before this node had a cluster of its own.
            out.push(Effect::Close(node));
            return;
        }
        let address = peer.address.clone();
        let generation = Generation(peer.generation);
        if self.links.take_record(peer) == Fresh::Yes {
            self.recompute_table(now);
        }
        let Some(link) = self.links.nodes.get_mut(&node) else {
            return;
        };
        // Replaced: nobody says that the one before is gone, and what was under way on it is lost.
        let before = link
            .wire_mut(kind)
            .map(|wire| std::mem::replace(wire, Wire::Up));
        if before == Some(Wire::Up) && kind == ConnectionKind::Bulk {
            self.bulk_lost(node);
        }
        if kind == ConnectionKind::Bulk {
            let slots = self.cluster.iter().flat_map(Cluster::slots);
            let all: Vec<_> = slots.map(Slot::partition).collect();
            self.appends_not_sent(node, &all);
        }
        self.host_connected(now, node, out);
        if kind == ConnectionKind::Bulk {
            let input = SubscribersInput::Connected(node);
            self.local.push_back(Local::Subscribers(input));
        }
        let Some(link) = self.links.nodes.get_mut(&node) else {
            return;
        };
        link.dial_pause = DIAL_PAUSE.0;
        if kind == ConnectionKind::Control {
            link.heard = now.instant;
            link.told_silent = false;
            if let Ok(address) = address.parse() {
                let met = membership::Input::Meet(Identity::new(node, address, generation));
                self.feed_membership(now, met, out);
            }
        }
        if kind == ConnectionKind::Control {
            self.tell_mark(node, out);
        }
        if let Some(descriptor) = descriptor {
            self.adopt(now, descriptor, out);
        }
        if kind == ConnectionKind::Control {
            // The greeting may be older than the record, and what was told of a change went over
            // the connection before: without this a change could stay unknown there for good.
            self.flush.records.push((node, self.record.clone()));
        }
        if kind == ConnectionKind::Control && self.cluster.is_some() {
            self.announce_all_to(node);
            self.found_company(out);
            self.tell_cluster(node, out);
        }
    }

    /// A peer hears which cluster this is, and who leads what.
    fn tell_cluster(&self, node: NodeId, out: &mut Vec<Effect>) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let hints = cluster.routes.hints().collect();
        let frames = [
            Frame::Descriptor(cluster.descriptor.clone()),
            Frame::Routes(ghostlight_protocol::wire::frame::Routes { hints }),
        ];
        for frame in frames {
            out.push(Effect::Send {
                to: node,
                lane: Lane::Control,
                frame,
            });
        }
    }

    /// A cluster that has had a second member remembers it.
    fn found_company(&mut self, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if cluster.descriptor.company() == Company::Alone {
            cluster.descriptor.set_company(Company::Shared);
            let descriptor = cluster.descriptor.clone();
            out.push(Effect::Store(StoreEffect::SaveDescriptor(descriptor)));
            self.introduced = Introduced::Outdated;
        }
    }

    /// Takes a cluster's descriptor, if this node has none yet.
    pub(super) fn adopt(&mut self, now: Now, descriptor: ClusterDescriptor, out: &mut Vec<Effect>) {
        if self.cluster.is_some() || descriptor.id().is_none() {
            return;
        }
        if let Err(error) = border::check_descriptor(&descriptor) {
            return Self::say(out, format!("cannot join: {error}"));
        }
        if let Some(asked) = self.start.partitions
            && descriptor.partitions != u32::from(asked)
        {
            let detail = format!(
                "this cluster has {} partitions, --partitions says {asked}. The number is fixed when a \
                 cluster is founded: leave the flag out",
                descriptor.partitions
            );
            return self.stop(Code::ShapeMismatch, detail, out);
        }
        out.push(Effect::Store(StoreEffect::SaveDescriptor(
            descriptor.clone(),
        )));
        out.push(Effect::Event(Event::Joined(descriptor.clone())));
        self.enter(now, descriptor);
        for node in self.links.connected() {
            self.announce_all_to(node);
        }
    }

    pub(super) fn disconnected(&mut self, _now: Now, node: NodeId, kind: ConnectionKind) {
        if kind == ConnectionKind::Inquiry {
            return;
        }
        let link = self.links.nodes.get_mut(&node);
        if let Some(wire) = link.and_then(|link| link.wire_mut(kind)) {
            *wire = Wire::Down;
        }
        match kind {
            ConnectionKind::Bulk => self.bulk_lost(node),
            ConnectionKind::Control => {
                self.local
                    .push_back(Local::Gateway(GatewayInput::Silent(node)));
                self.topics_silent(node);
            }
            ConnectionKind::Inquiry => {}
        }
    }

    /// What leaders have sent to a node was not sent, or came before there was a way: it may be
    /// sent again at once.
    pub(super) fn appends_not_sent(&mut self, to: NodeId, partitions: &[PartitionId]) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for partition in partitions {
            if let Some(slot) = cluster.slot_mut(*partition) {
                slot.group.not_sent(to);
            }
        }
    }

    /// Frames under way on a bulk connection may be lost: calls must not wait for their answers,
    /// nor leaders for what they have sent.
    fn bulk_lost(&mut self, node: NodeId) {
        self.local
            .push_back(Local::Gateway(GatewayInput::Silent(node)));
        self.topics_silent(node);
        if let Some(cluster) = &mut self.cluster {
            for slot in cluster.slots.iter_mut().flatten() {
                slot.group.unreachable(node);
            }
        }
    }

    pub(super) fn take_record(&mut self, now: Now, record: NodeRecord) {
        if self.links.take_record(record) == Fresh::Yes {
            self.recompute_table(now);
        }
    }

    pub(super) fn take_gossip(&mut self, now: Now, data: Bytes, out: &mut Vec<Effect>) {
        self.feed_membership(now, membership::Input::Datagram(data), out);
    }

    /// Tells the others by gossip that this node leaves for good.
    pub(super) fn say_goodbye(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.feed_membership(now, membership::Input::Leave, out);
    }

    pub(super) fn drive_membership(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self
            .membership
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.pauses.awake(now.instant))
        {
            self.feed_membership(now, membership::Input::Tick, out);
        }
    }

    fn feed_membership(&mut self, now: Now, input: membership::Input, out: &mut Vec<Effect>) {
        let mut effects = Vec::new();
        let awake = self.pauses.awake(now.instant);
        self.membership.handle(awake, input, &mut effects);
        for effect in effects {
            self.membership_effect(now, effect, out);
        }
    }

    fn membership_effect(&mut self, now: Now, effect: membership::Effect, out: &mut Vec<Effect>) {
        match effect {
            membership::Effect::Send { to, data } => {
                out.push(Effect::Gossip { to: to.node, data });
            }
            membership::Effect::MemberUp(Member { identity, .. }) => {
                self.member_seen(now, &identity);
                out.push(Effect::Event(Event::MemberUp(self.named(identity.node))));
            }
            membership::Effect::MemberChanged { after, .. } => self.member_seen(now, &after),
            membership::Effect::MemberDown { node, .. } => {
                self.recompute_table(now);
                out.push(Effect::Event(Event::MemberDown(self.named(node))));
            }
            membership::Effect::Suspected(node) => {
                out.push(Effect::Event(Event::MemberSuspect(self.named(node))));
            }
            membership::Effect::Refused(error) => Self::say(out, error.to_string()),
            membership::Effect::Refuted(_)
            | membership::Effect::Forgotten(_)
            | membership::Effect::Joined
            | membership::Effect::Alone
            | membership::Effect::Rejoined(_) => {}
            membership::Effect::Left => self.end_if_goodbye_is_heard(now, out),
        }
    }

    fn named(&self, node: NodeId) -> Named {
        let name = self.name_of(node);
        Named { node, name }
    }

    /// Gossip tells of a node and where it is: worth dialing.
    fn member_seen(&mut self, now: Now, identity: &Identity) {
        // Of no generation: the node's own record, whenever it comes, is fresher than this word of
        // others.
        let record = NodeRecord {
            node: identity.node.to_bytes().to_vec(),
            address: identity.address.to_string(),
            ..NodeRecord::default()
        };
        match self.links.nodes.get_mut(&identity.node) {
            Some(link) => {
                let newer = identity.generation.0 > link.record.generation;
                if newer {
                    link.record.address = record.address;
                }
                if newer || link.gone.take().is_some() {
                    link.dial_pause = DIAL_PAUSE.0;
                    link.dial_at = now.instant;
                }
            }
            // Weight 0 until its `Hello` says more: nothing is placed on it.
            None => {
                self.links.nodes.insert(identity.node, Link::new(record));
            }
        }
        self.recompute_table(now);
    }

    pub(super) fn tick_links(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.ticks.is_multiple_of(EDGE_TICKS) {
            self.forget_edges(now);
        }
        let removed = self.removed.clone();
        self.dial_members(now, &removed, out);
        self.dial_seeds(now, out);
        // At every change: a cluster that dies whole finds itself again from these alone.
        let records = self
            .links
            .nodes
            .values()
            .map(|link| version_of(&link.record));
        if !records.eq(self.start.addresses.iter().map(version_of)) {
            let records = self.links.nodes.values().map(|link| link.record.clone());
            self.start.addresses = records.collect();
            let saved = self.start.addresses.clone();
            out.push(Effect::Store(StoreEffect::SaveAddresses(saved)));
        }
    }

    /// Edges come and go with what runs beside them; the address book must not grow by each, nor by
    /// those of whom gossip told when they had gone.
    fn forget_edges(&mut self, now: Now) {
        let is_candidate = |link: &Link| link.record.weight == 0 && link.control == Wire::Down;
        // Copies are replaced only as long as their node is known to be down, whatever its weight
        // is by now.
        let mut holders = BTreeSet::new();
        if self.links.nodes.values().any(is_candidate) {
            let slots = self.cluster.iter().flat_map(|cluster| cluster.slots());
            let nodes = slots.flat_map(|slot| slot.group.membership().nodes());
            holders.extend(nodes.map(|(_, node)| node));
        }
        let membership = &self.membership;
        self.links.nodes.retain(|node, link| {
            let holds = holders.contains(node);
            if link.has_said_goodbye() && !holds {
                return false;
            }
            let down = membership.state_of(*node).unwrap_or(MemberState::Down) == MemberState::Down;
            if !is_candidate(link) || !down || holds {
                link.gone = None;
                return true;
            }
            let gone = *link.gone.get_or_insert(now.instant);
            let after = match link.record.generation {
                0 => HEARSAY_FORGOTTEN_AFTER,
                _ => EDGE_FORGOTTEN_AFTER,
            };
            now.instant.since(gone) < after
        });
    }

    fn dial_members(&mut self, now: Now, removed: &BTreeSet<NodeId>, out: &mut Vec<Effect>) {
        for (node, link) in &mut self.links.nodes {
            let up = (link.control, link.bulk) == (Wire::Up, Wire::Up);
            if up || now.instant < link.dial_at || removed.contains(node) {
                continue;
            }
            // The smaller id dials first; the other only if that does not come about.
            let first = self.me < *node;
            if link.dial_at == Instant::default() && !first {
                link.dial_at = now.instant + DIAL_PAUSE.0;
                continue;
            }
            link.dial_at = now.instant + link.dial_pause;
            link.dial_pause = (link.dial_pause * 2).min(DIAL_PAUSE.1);
            for (kind, wire) in [
                (ConnectionKind::Control, link.control),
                (ConnectionKind::Bulk, link.bulk),
            ] {
                if wire == Wire::Down {
                    let address = link.record.address.clone();
                    out.push(Effect::Dial {
                        address,
                        node: Some(*node),
                        kind,
                    });
                }
            }
        }
    }

    /// Seeds are asked until somebody answers. Later those that are nobody's address are asked now
    /// and then: after a power loss and a split, two halves may each have forgotten the other.
    fn dial_seeds(&mut self, now: Now, out: &mut Vec<Effect>) {
        if now.instant < self.links.seeds_at {
            return;
        }
        let alone = self.links.connected().is_empty();
        let strangers = self.links.strangers(&self.record.address);
        if strangers.is_empty() {
            return;
        }
        let jitter = Duration::from_millis(self.rng.random_range(0..200));
        let pause = if alone { SEED_PAUSE } else { STRANGER_PAUSE };
        self.links.seeds_at = now.instant + pause + jitter;
        for address in strangers {
            out.push(Effect::Dial {
                address,
                node: None,
                kind: ConnectionKind::Control,
            });
        }
        if !alone {
            self.links.seed_rounds = 0;
            return;
        }
        self.links.seed_rounds += 1;
        let (first, between) = SEED_ROUNDS;
        if self.links.seed_rounds % between == first {
            out.push(Effect::Event(Event::SeedsSilent(self.links.seeds.clone())));
        }
    }

    /// What SWIM says of a node; this node is alive.
    pub(super) fn member_state(&self, node: NodeId) -> MemberState {
        if node == self.me {
            return MemberState::Alive;
        }
        self.membership.state_of(node).unwrap_or(MemberState::Down)
    }
}
