//! Other nodes: their records, the connections to them, and who is silent. Those to whom calls go,
//! and the clock of whom is believed, are decided here; what a connection brings with it, who is
//! dialed, and SWIM have rooms of their own.

mod dialing;
mod gossip;
mod greeting;
mod link;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::frame::Control;
use ghostlight_protocol::wire::hello::NodeRecord;

pub(super) use self::gossip::membership;
use self::link::Wire;
pub(super) use self::link::{Link, Word};
use super::flush::Outbound;
use super::{NodeCore, Start};
use crate::gateway::Reachable;
use crate::io::Now;

/// A control connection without a frame for this long is silent: calls ask elsewhere.
pub(super) const SILENT_AFTER: Duration = Duration::from_millis(400);
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
        if let Some(link) = self.nodes.get_mut(&from) {
            link.heard_control(now, machine, control, word);
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

    /// What the members' clocks say: this node's own time `wall`, or, where the median of the
    /// members does not agree with this machine's clock, that. For times that an application's host
    /// writes and others act on, as when a value is over.
    pub(super) fn members_wall(&self, wall: WallTime, machine: WallTime) -> WallTime {
        let off = self.clock_off_ms();
        off.map_or(wall, |off| WallTime(machine.0.saturating_add_signed(off)))
    }

    /// How far the members' median is from this node's clock, if that is too far.
    pub(super) fn clock_off_ms(&self) -> Option<i64> {
        let up = self.nodes.values().filter(|link| link.control == Wire::Up);
        let mut offsets: Vec<i64> = up.filter_map(|link| link.said.wall_offset_ms).collect();
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
            link.confirmed(now);
        }
    }

    /// Whether a node has answered an append lately.
    pub(super) fn confirms(&self, node: NodeId, now: Instant, lately: Duration) -> bool {
        let confirmed = self.nodes.get(&node).and_then(|link| link.confirmed);
        confirmed.is_some_and(|at| now.since(at) < lately)
    }

    /// Whether a node's bulk connection may be made anew, which then happens.
    pub(super) fn may_reconnect(&mut self, node: NodeId, now: Instant) -> bool {
        let link = self.nodes.get_mut(&node);
        link.is_some_and(|link| link.may_reconnect(now))
    }

    pub(super) fn tell_record(&self, record: &NodeRecord, flush: &mut Outbound) {
        for node in self.connected() {
            flush.records.push((node, record.clone()));
        }
    }

    /// The record of a process that greets: it is listened to from now on, also where one of a copy
    /// of its directory, with the same run, was known before.
    fn take_greeting(&mut self, record: NodeRecord) -> Fresh {
        let known = record.id().and_then(|node| self.nodes.get_mut(&node));
        match known {
            Some(link) if link.record.is_of_a_twin(&record) => {
                link.record = record;
                Fresh::Yes
            }
            Some(_) | None => self.take_record(record),
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

impl NodeCore {
    pub(super) fn take_record(&mut self, now: Now, record: NodeRecord) {
        if self.links.take_record(record) == Fresh::Yes {
            self.recompute_table(now);
        }
    }
}
