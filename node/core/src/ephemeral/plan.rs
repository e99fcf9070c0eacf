//! To whom a publisher sends an event, and who passes it on.
//!
//! A pure function of the topic and of the nodes that want it. Nodes of the publisher's own zone,
//! and all where no zones are said, get it straight from the publisher, as long as they are at most
//! [`DIRECT_MAX`]; another zone gets one copy, by a relay that passes it on within its zone. Where
//! there are more nodes than that, about the square root of their number are relays: nobody then
//! sends more than about twice that many copies. Relays are chosen by rendezvous hash of topic and
//! node, so that topics spread over nodes, and a node that goes changes little. A relay is told
//! whom to pass on to: publisher and relay need not know the same members, and when a member goes
//! the next event has a plan without it. Absent: whether a node can be reached; only those that can
//! be are given.

use std::collections::BTreeMap;

use ghostlight_protocol::hash::{domain, hash64};
use ghostlight_protocol::ids::NodeId;

use super::TopicKey;

/// Nodes that a publisher, or a relay, sends to by itself.
pub const DIRECT_MAX: usize = 64;

/// One copy that leaves the publisher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Who gets it.
    pub to: NodeId,
    /// To whom that node passes it on.
    pub pass_to: Vec<NodeId>,
}

impl Hop {
    fn straight(to: NodeId) -> Self {
        let pass_to = Vec::new();
        Self { to, pass_to }
    }
}

/// The copies of an event of `topic` for `targets`, by their zones (empty: not said). Every target
/// is in the plan once, and the publisher in `own_zone` is none of them.
#[must_use]
pub fn plan(topic: &TopicKey, own_zone: &str, targets: &BTreeMap<NodeId, &str>) -> Vec<Hop> {
    let mut near = Vec::new();
    let mut far: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for (node, zone) in targets {
        match *zone {
            zone if own_zone.is_empty() || zone.is_empty() || zone == own_zone => near.push(*node),
            zone => far.entry(zone).or_default().push(*node),
        }
    }
    let mut hops = spread(topic, near);
    for (_, zone) in far {
        hops.extend(through_zone(topic, zone));
    }
    hops
}

/// Straight, or by relays where there are too many.
fn spread(topic: &TopicKey, nodes: Vec<NodeId>) -> Vec<Hop> {
    if nodes.len() <= DIRECT_MAX {
        return nodes.into_iter().map(Hop::straight).collect();
    }
    let relays = root_above(nodes.len());
    let mut ranked = ranked(topic, nodes).into_iter();
    let mut hops: Vec<Hop> = ranked.by_ref().take(relays).map(Hop::straight).collect();
    for (at, node) in ranked.enumerate() {
        hops[at % relays].pass_to.push(node);
    }
    hops
}

/// One relay for all of a zone, or as many as it takes.
fn through_zone(topic: &TopicKey, nodes: Vec<NodeId>) -> Vec<Hop> {
    if nodes.len() > DIRECT_MAX {
        return spread(topic, nodes);
    }
    let mut ranked = ranked(topic, nodes).into_iter();
    let relay = ranked.next().map(|to| {
        let pass_to = ranked.collect();
        Hop { to, pass_to }
    });
    relay.into_iter().collect()
}

/// In the order in which they are chosen as relays of the topic.
fn ranked(topic: &TopicKey, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    let topic = topic.to_bytes();
    nodes.sort_by_cached_key(|node| {
        let mut bytes = topic.to_vec();
        bytes.extend_from_slice(&node.to_bytes());
        (hash64(domain::RELAY, &bytes), *node)
    });
    nodes
}

/// Smallest number whose square is at least `count`.
fn root_above(count: usize) -> usize {
    let root = count.isqrt();
    root + usize::from(root * root < count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::key;
    use super::*;

    fn nodes(count: u128, zone: impl Fn(u128) -> &'static str) -> BTreeMap<NodeId, &'static str> {
        (1..=count).map(|id| (NodeId(id), zone(id))).collect()
    }

    /// Everybody gets it once, whatever the numbers.
    fn check(hops: &[Hop], targets: &BTreeMap<NodeId, &str>) {
        let mut seen = BTreeSet::new();
        for hop in hops {
            assert!(seen.insert(hop.to), "{} twice", hop.to);
            for node in &hop.pass_to {
                assert!(seen.insert(*node), "{node} twice");
            }
        }
        let wanted: BTreeSet<NodeId> = targets.keys().copied().collect();
        assert_eq!(seen, wanted);
    }

    #[test]
    fn few_nodes_and_nodes_without_zones_get_it_straight() {
        for (own, zone) in [("", ""), ("a", ""), ("", "a"), ("a", "a")] {
            let targets = nodes(DIRECT_MAX as u128, |_| zone);
            let hops = plan(&key("t"), own, &targets);
            check(&hops, &targets);
            assert_eq!(hops.len(), DIRECT_MAX, "{own:?} {zone:?}");
        }
        assert_eq!(plan(&key("t"), "a", &BTreeMap::new()), []);
    }

    #[test]
    fn another_zone_gets_one_copy() {
        let targets = nodes(30, |id| ["a", "b", "c"][id as usize % 3]);
        let hops = plan(&key("t"), "a", &targets);
        check(&hops, &targets);
        let far: Vec<&Hop> = hops.iter().filter(|hop| targets[&hop.to] != "a").collect();
        assert_eq!(far.len(), 2);
        for hop in far {
            assert_eq!(hop.pass_to.len(), 9);
            assert!(
                hop.pass_to
                    .iter()
                    .all(|node| targets[node] == targets[&hop.to])
            );
        }
        // A zone of one needs nobody to pass on.
        let alone = nodes(1, |_| "b");
        assert_eq!(plan(&key("t"), "a", &alone), [Hop::straight(NodeId(1))]);
    }

    #[test]
    fn beyond_sixty_four_nobody_sends_many_copies() {
        for count in [65, 100, 500, 1_000, 4_000] {
            for (own, zone) in [("", ""), ("a", "b")] {
                let targets = nodes(count, |_| zone);
                let hops = plan(&key("t"), own, &targets);
                check(&hops, &targets);
                let root = root_above(count as usize);
                assert_eq!(hops.len(), root, "{count}");
                assert!(hops.iter().all(|hop| hop.pass_to.len() <= root), "{count}");
            }
        }
    }

    #[test]
    fn topics_spread_over_relays_and_a_death_changes_little() {
        let targets = nodes(100, |_| "");
        let mut relays = BTreeMap::<NodeId, u32>::new();
        for topic in 0..200 {
            for hop in plan(&key(&format!("t{topic}")), "", &targets) {
                *relays.entry(hop.to).or_default() += 1;
            }
        }
        assert_eq!(relays.len(), 100, "every node relays some topics");
        assert!(relays.values().all(|count| *count < 50), "{relays:?}");
        let before = plan(&key("t"), "", &targets);
        let mut fewer = targets.clone();
        let dead = before[3].to;
        fewer.remove(&dead);
        let after: BTreeSet<NodeId> = plan(&key("t"), "", &fewer).iter().map(|h| h.to).collect();
        let kept = before.iter().filter(|hop| after.contains(&hop.to)).count();
        assert_eq!(kept, before.len() - 1);
    }
}
