//! Who is dialed, and when: members that are not connected, seeds behind which nobody is known; and
//! which nodes are forgotten because nobody counts on them.

use std::collections::BTreeSet;
use std::time::Duration;

use ghostlight_placement::membership::MemberState;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::hello::ConnectionKind;
use rand::Rng;

use super::super::NodeCore;
use super::Link;
use super::link::{DialTurn, Wire, version_of};
use crate::io::{Effect, Event, Now, StoreEffect};

/// Pause between two rounds of dialing the seeds.
const SEED_PAUSE: Duration = Duration::from_secs(1);
/// The same for seeds that no connected node has as its address.
const STRANGER_PAUSE: Duration = Duration::from_secs(5);
/// Rounds of silent seeds before the first word about it, and between two words.
const SEED_ROUNDS: (u32, u32) = (3, 10);
/// A node without copies that has been silent and down for so long is forgotten; should it live
/// behind a split, it dials, and is met as a new one. One that said that it ends is forgotten at
/// once.
pub(super) const EDGE_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// The same where gossip alone has told of it: it may be a storage node that was gone before it
/// could be met, which groups count on.
const HEARSAY_FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);
/// Ticks between two looks for such.
pub(super) const EDGE_TICKS: u64 = 20;

impl NodeCore {
    pub(in crate::node) fn tick_links(&mut self, now: Now, out: &mut Vec<Effect>) {
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
            if removed.contains(node) {
                continue;
            }
            for kind in link.dials_due(now.instant, DialTurn::of(self.me, *node)) {
                out.push(Effect::Dial {
                    address: link.record.address.clone(),
                    node: Some(*node),
                    kind,
                });
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
}
