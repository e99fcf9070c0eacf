//! Silence, clocks, and connections that are made anew.

use super::super::tests::bench::by_hand::ByHand;
use super::super::tests::bench::node_id;
use bytes::Bytes;
use ghostlight_placement::membership::{self, Identity, Membership, Settings};
use ghostlight_protocol::ids::Generation;
use ghostlight_protocol::wire::hello::{ConnectionKind, Duty};

use super::dialing::{EDGE_FORGOTTEN_AFTER, EDGE_TICKS};
use super::*;
use crate::io::{Effect, Event, Input, StoreEffect};

const OTHER: NodeId = NodeId(2);
const WALL: WallTime = WallTime(1_000_000_100);

fn ms(n: u64) -> Instant {
    Instant(n * 1_000_000)
}

/// Links to other nodes, all connected at time 0.
fn links(others: usize) -> Links {
    let mut links = Links {
        me: NodeId(1),
        nodes: BTreeMap::new(),
        seeds: Vec::new(),
        seed_nodes: BTreeMap::new(),
        seeds_at: Instant::default(),
        seed_rounds: 0,
    };
    for number in 0..others as u128 {
        let mut link = Link::new(NodeRecord::default());
        (link.control, link.bulk) = (Wire::Up, Wire::Up);
        link.told_silent = false;
        links.nodes.insert(NodeId(OTHER.0 + number), link);
    }
    links
}

#[test]
fn a_node_is_silent_400_ms_after_its_last_frame_and_said_so_once() {
    let mut links = links(1);
    let frame = Control::default();
    // (time, whether a frame comes, who is newly silent, whether it is reachable after it)
    let table = [
        (100, true, false, Reachable::Yes),
        (499, false, false, Reachable::Yes),
        (500, false, true, Reachable::No),
        (900, false, false, Reachable::No),
        (1_000, true, false, Reachable::Yes),
        (1_399, false, false, Reachable::Yes),
        (1_400, false, true, Reachable::No),
    ];
    for (time, comes, silent, reachable) in table {
        if comes {
            links.heard_control(ms(time), WALL, OTHER, &frame, Word::Fresh);
        }
        let expected: Vec<NodeId> = silent.then_some(OTHER).into_iter().collect();
        assert_eq!(links.newly_silent(ms(time)), expected, "at {time} ms");
        assert_eq!(links.reachable(OTHER), reachable, "at {time} ms");
    }
}

#[test]
fn a_clock_is_off_when_the_median_of_the_members_is_more_than_two_seconds_away() {
    // (the others' clocks against ours, whether ours is off)
    let table: [(&[i64], bool); 12] = [
        (&[], false),
        (&[0, 0], false),
        (&[2_000, 2_000], false),
        (&[2_001, 2_001], true),
        (&[-2_001, -9_000], true),
        // One of three is off, and it is not this one.
        (&[0, 3_600_000], false),
        (&[0, -3_600_000], false),
        (&[5_000, -5_000], false),
        // Of two that disagree, the one that is behind goes on: what is ahead deletes what is not
        // over.
        (&[5_000], false),
        (&[-5_000], true),
        (&[0, 5_000, 5_000], false),
        (&[0, -5_000, -5_000], true),
    ];
    for (offsets, off) in table {
        let mut links = links(offsets.len() + 1);
        for (number, offset) in (0..).zip(offsets) {
            let wall_ms = WALL.0.checked_add_signed(*offset).unwrap();
            let control = Control {
                wall_ms,
                ..Control::default()
            };
            let from = NodeId(OTHER.0 + number);
            links.heard_control(ms(100), WALL, from, &control, Word::Fresh);
        }
        // The last one has not said what its clock is: it is no opinion.
        assert_eq!(links.clock_off_ms().is_some(), off, "{offsets:?}");
        let believed = links.agreed_wall(WallTime(7));
        assert_eq!(believed, (!off).then_some(WallTime(7)), "{offsets:?}");
        let members = links.members_wall(WallTime(7), WALL);
        let mut others = offsets
            .iter()
            .map(|o| WALL.0.checked_add_signed(*o).unwrap());
        assert_eq!(members == WallTime(7), !off, "{offsets:?}");
        assert!(!off || others.any(|wall| wall == members.0), "{offsets:?}");
    }
}

#[test]
fn a_frame_that_waited_through_a_pause_says_nothing_bad_about_clocks() {
    // (the other's clock against ours in the frame, whether it may be stale, whether ours is off
    // then)
    let table = [
        (-10_000, Word::MayBeStale, false),
        (-10_000, Word::Fresh, true),
        // Still so, until it says something else.
        (-9_000, Word::MayBeStale, true),
        (-10, Word::MayBeStale, false),
    ];
    let mut links = links(2);
    for (offset, word, off) in table {
        for other in [OTHER, NodeId(OTHER.0 + 1)] {
            let control = Control {
                wall_ms: WALL.0.checked_add_signed(offset).unwrap(),
                ..Control::default()
            };
            links.heard_control(ms(100), WALL, other, &control, word);
        }
        assert_eq!(links.clock_off_ms().is_some(), off, "{offset} {word:?}");
    }
}

#[test]
fn a_connection_is_made_anew_more_and_more_seldom_and_only_if_it_is_up() {
    let mut links = links(1);
    let rows = [
        (0, true),
        (999, false),
        (1_000, true),
        (2_999, false),
        (3_000, true),
        (6_999, false),
        (7_000, true),
    ];
    for (time, may) in rows {
        assert_eq!(links.may_reconnect(OTHER, ms(time)), may, "at {time} ms");
    }
    // Something was confirmed: it is as if nothing had been.
    links.confirmed(OTHER, ms(7_100));
    assert!(links.confirms(OTHER, ms(8_000), Duration::from_secs(1)));
    assert!(!links.confirms(OTHER, ms(8_100), Duration::from_secs(1)));
    for (time, may) in [(8_100, true), (9_099, false), (9_100, true)] {
        assert_eq!(links.may_reconnect(OTHER, ms(time)), may, "at {time} ms");
    }
    *links
        .nodes
        .get_mut(&OTHER)
        .unwrap()
        .wire_mut(ConnectionKind::Bulk)
        .unwrap() = Wire::Down;
    assert!(!links.may_reconnect(OTHER, ms(90_000)));
    assert!(!links.may_reconnect(NodeId(9), ms(90_000)));
}

#[test]
fn a_seed_is_a_stranger_until_the_node_behind_it_is_connected() {
    let mut links = links(1);
    let name = "one.example:7400".to_owned();
    let number = "10.0.0.2:7400".to_owned();
    links.seeds = vec![name.clone(), number.clone(), "10.0.0.1:7400".to_owned()];
    let strangers = |links: &Links| links.strangers("10.0.0.1:7400");
    assert_eq!(strangers(&links), [name.clone(), number.clone()]);
    links.nodes.get_mut(&OTHER).unwrap().record.address = number.clone();
    assert_eq!(strangers(&links), std::slice::from_ref(&name));
    links.found_at(name.clone(), OTHER);
    assert_eq!(strangers(&links), Vec::<String>::new());
    // What is not a seed is not remembered.
    links.found_at("10.0.0.9:7400".to_owned(), OTHER);
    assert_eq!(links.seed_nodes.len(), 1);
    links.nodes.get_mut(&OTHER).unwrap().control = Wire::Down;
    assert_eq!(strangers(&links), [name, number]);
}

#[test]
fn an_edge_that_is_gone_for_a_minute_leaves_the_address_book_and_a_storage_node_does_not() {
    let mut bed = ByHand::new();
    // The last one is known by gossip alone: it may hold copies, and nobody here can tell.
    for (number, weight, generation) in [(7, 0, 1), (8, 1, 1), (9, 0, 0)] {
        let record = NodeRecord {
            node: NodeId(number).to_bytes().to_vec(),
            generation,
            name: format!("m{number}"),
            address: format!("10.0.0.{number}:7400"),
            weight,
            ..NodeRecord::default()
        };
        bed.core.links.take_record(record);
    }
    let reasons = bed.core.status_view(bed.now).reasons.join("; ");
    assert!(reasons.contains("m8 is down"), "{reasons}");
    assert!(
        !reasons.contains("m7"),
        "an edge is missed by nobody: {reasons}"
    );
    let there = |bed: &ByHand| [7, 8, 9].map(|n| bed.core.links.link(NodeId(n)).is_some());
    bed.run(2 * EDGE_TICKS);
    let almost = EDGE_FORGOTTEN_AFTER.saturating_sub(Duration::from_secs(10));
    bed.now.instant = bed.now.instant + almost;
    bed.run(2 * EDGE_TICKS);
    assert_eq!(there(&bed), [true, true, true]);
    bed.now.instant = bed.now.instant + Duration::from_secs(10);
    let saved = bed.run(2 * EDGE_TICKS);
    assert_eq!(there(&bed), [false, true, true]);
    let told = saved.iter().rev().find_map(|effect| match effect {
        Effect::Store(StoreEffect::SaveAddresses(records)) => Some(records.len()),
        _ => None,
    });
    assert_eq!(told, Some(3), "nodes 2, 8 and 9");
}

/// Sidecars end every day, and what is shown and dialed is not to grow by each.
#[test]
fn an_edge_that_said_that_it_ends_is_forgotten_at_once() {
    // (number, weight, duty, connected, whether it stays); node 3 has a copy still
    let table = [
        (7, 0, Duty::Leaving, false, false),
        (7, 0, Duty::Leaving, true, true),
        (7, 0, Duty::Serving, false, true),
        (7, 1, Duty::Leaving, false, true),
        (3, 0, Duty::Leaving, false, true),
    ];
    for (number, weight, duty, connected, stays) in table {
        let mut bed = ByHand::new();
        let record = NodeRecord {
            node: node_id(number).to_bytes().to_vec(),
            generation: 1,
            address: "10.0.0.7:7400".to_owned(),
            weight,
            duty: duty as i32,
            ..NodeRecord::default()
        };
        match connected {
            true => drop(bed.feed(Input::Connected {
                peer: record,
                descriptor: None,
                kind: ConnectionKind::Control,
            })),
            false => drop(bed.core.links.take_record(record)),
        }
        bed.run(2 * EDGE_TICKS);
        let there = bed.core.links.link(node_id(number)).is_some();
        assert_eq!(
            there, stays,
            "{number} {weight} {duty:?} connected: {connected}"
        );
    }
}

/// Ticks, and answers nobody; what is said about others.
fn accusations(effects: &[Effect]) -> Vec<&Event> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Event(event @ (Event::MemberSuspect(_) | Event::MemberDown(_))) => Some(event),
        _ => None,
    });
    told.collect()
}

/// The failure detector of the other node.
struct Peer {
    membership: Membership,
    now: Instant,
    /// On its way to it.
    mail: Vec<Effect>,
}

impl Peer {
    fn new() -> Self {
        let address = "10.0.0.2:7400".parse().unwrap();
        let identity = Identity::new(NodeId(2), address, Generation(1));
        Self {
            membership: Membership::new(identity, Settings::default(), 7),
            now: Instant(1_000_000_000),
            mail: Vec::new(),
        }
    }

    /// Takes what the node said, and gives what comes back.
    fn hear(&mut self) -> Vec<Bytes> {
        self.now = self.now + Duration::from_millis(50);
        let mut out = Vec::new();
        let mut inputs = vec![membership::Input::Tick];
        inputs.extend(self.mail.drain(..).filter_map(|effect| match effect {
            Effect::Gossip { data, .. } => Some(membership::Input::Datagram(data)),
            _ => None,
        }));
        for input in inputs {
            self.membership.handle(self.now, input, &mut out);
        }
        let sent = out.into_iter().filter_map(|effect| match effect {
            membership::Effect::Send { data, .. } => Some(data),
            _ => None,
        });
        sent.collect()
    }
}

/// Both talk for some ticks; what the node says about others.
fn talk(bench: &mut ByHand, peer: &mut Peer, ticks: u64) -> Vec<Effect> {
    let mut all = Vec::new();
    for _ in 0..ticks {
        for data in peer.hear() {
            peer.mail.extend(bench.feed(Input::Gossip(data)));
        }
        peer.mail.extend(bench.run(1));
        all.extend(peer.mail.iter().cloned());
    }
    all
}

#[test]
fn a_frozen_node_accuses_nobody_when_it_wakes_and_a_dead_peer_is_still_found() {
    for awake in 40..60 {
        let (mut bench, mut peer) = (ByHand::new(), Peer::new());
        let effects = talk(&mut bench, &mut peer, awake);
        let up = |effect: &Effect| matches!(effect, Effect::Event(Event::MemberUp(up)) if up.node == NodeId(2));
        assert!(effects.iter().any(up));
        // Frozen for 5 s, wherever its probe was. What the peer said waits beyond the first ticks.
        bench.now.instant = bench.now.instant + Duration::from_secs(5);
        let mut woken = bench.run(2);
        peer.mail.extend(woken.iter().cloned());
        woken.extend(talk(&mut bench, &mut peer, 100));
        assert_eq!(
            accusations(&woken),
            Vec::<&Event>::new(),
            "frozen at {awake}"
        );
        // A peer that answers no more is found all the same.
        assert!(!accusations(&bench.run(20 * 60)).is_empty());
    }
}
