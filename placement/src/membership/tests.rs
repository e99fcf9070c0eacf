//! The failure detector in virtual time: seeded loss and latency, kills, freezes, splits.

mod world;

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::ids::Generation;
use ghostlight_protocol::time::Instant;
use proptest::prelude::*;

use super::{Effect, Input, MemberState, Membership, MembershipError, Settings};
use crate::seeds::seeds;
use world::{World, id, identity};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster that has found together.
#[track_caller]
fn joined(n: u128, loss: f64, seed: u64) -> World {
    let mut world = World::new(n, loss, seed);
    let took = world.run_until(30 * SECOND, World::all_agree);
    assert!(took.is_some(), "{n} nodes did not join");
    world.forget_trace();
    world
}

#[test]
fn nodes_join_in_spite_of_loss() {
    for (n, loss) in [
        (2, 0.0),
        (3, 0.01),
        (3, 0.05),
        (5, 0.03),
        (10, 0.01),
        (10, 0.05),
    ] {
        for seed in seeds("nodes_join_in_spite_of_loss", 0..10) {
            let mut world = World::new(n, loss, seed);
            let took = world.run_until(30 * SECOND, World::all_agree);
            let took = took.unwrap_or_else(|| panic!());
            assert!(took <= 10 * SECOND, "{n} nodes took {took:?}");
        }
    }
}

#[test]
fn a_first_announcement_that_is_lost_is_repeated() {
    let mut world = World::new(2, 1.0, 1);
    world.run(5 * SECOND);
    assert!(!world.all_agree());
    world.loss = 0.0;
    assert!(world.run_until(2 * SECOND, World::all_agree).is_some());
}

#[test]
fn a_killed_node_is_down_everywhere_within_the_measured_bounds() {
    for n in [3, 5, 10] {
        let mut times = Vec::new();
        for seed in seeds(
            "a_killed_node_is_down_everywhere_within_the_measured_bounds",
            0..40,
        ) {
            let mut world = joined(n, 0.01, seed);
            world.run(SECOND);
            world.kill(id(2));
            let took = world.run_until(10 * SECOND, |w| w.all_say(id(2), MemberState::Down));
            times.push(took.unwrap_or_else(|| panic!()));
            let wrong =
                world.count(|e| matches!(e, Effect::MemberDown { node, .. } if *node != id(2)));
            assert_eq!(wrong, 0);
        }
        times.sort();
        let (p50, p95) = (times[20], times[38]);
        assert!(p50 <= Duration::from_millis(3_200), "n={n}: p50 {p50:?}");
        assert!(p95 <= Duration::from_millis(4_600), "n={n}: p95 {p95:?}");
        assert!(
            times[0] >= 2 * SECOND,
            "nobody is down before the suspicion time"
        );
    }
}

#[test]
fn loss_alone_brings_nobody_down() {
    for (n, loss, seed) in [(3, 0.01, 1), (3, 0.03, 2), (5, 0.03, 3), (10, 0.02, 4)] {
        let mut world = joined(n, loss, seed);
        world.run(1_200 * SECOND);
        let downs = world.count(|e| matches!(e, Effect::MemberDown { .. }));
        assert_eq!(downs, 0);
        assert!(world.all_agree());
    }
}

#[test]
fn a_short_freeze_is_suspected_and_refuted() {
    let (mut suspected, mut refuted) = (0, 0);
    for seed in seeds("a_short_freeze_is_suspected_and_refuted", 0..20) {
        let mut world = joined(5, 0.0, seed);
        world.freeze(id(3), Duration::from_millis(1_500));
        world.run(10 * SECOND);
        suspected += world.count(|e| *e == Effect::Suspected(id(3)));
        refuted += world.count(|e| *e == Effect::Refuted(id(3)));
        let downs = world.count(|e| matches!(e, Effect::MemberDown { .. }));
        assert_eq!(downs, 0);
        assert!(world.all_agree());
    }
    assert!(suspected > 20, "the freeze went unnoticed: {suspected}");
    assert_eq!(suspected, refuted);
}

#[test]
fn a_frozen_node_comes_back_and_accuses_nobody() {
    for seed in seeds("a_frozen_node_comes_back_and_accuses_nobody", 0..20) {
        let mut world = joined(5, 0.01, seed);
        world.freeze(id(3), 8 * SECOND);
        world.run(7 * SECOND);
        assert!(world.all_say(id(3), MemberState::Down));
        assert!(world.run_until(6 * SECOND, World::all_agree).is_some());
        world.run(5 * SECOND);
        let me = world.identity(id(3));
        assert_eq!(
            me.generation,
            Generation(1),
            "the persisted run number is not touched"
        );
        assert!(me.renewal >= 1);
        assert!(world.count(|e| matches!(e, Effect::Rejoined(_))) >= 1);
        let wrong = world.count(|e| matches!(e, Effect::MemberDown { node, .. } if *node != id(3)));
        assert_eq!(wrong, 0);
        assert!(world.all_agree());
    }
}

/// Why waiting datagrams come before timers: frozen between its probe and the answer, a node that
/// ran its timers first would suspect a member whose answer waits in its socket.
#[test]
fn a_node_frozen_in_mid_probe_accuses_nobody() {
    for seed in seeds("a_node_frozen_in_mid_probe_accuses_nobody", 0..40) {
        let mut world = joined(3, 0.0, seed);
        // All news has been passed on: what is sent now are probes and their answers.
        world.run(20 * SECOND + Duration::from_millis(seed * 37));
        let quiet = world.run_until(3 * SECOND, |w| !w.is_sending(id(3)));
        let began = world.run_until(3 * SECOND, |w| w.is_sending(id(3)));
        assert!(
            quiet.is_some() && began.is_some(),
            "it probes every half second"
        );
        world.forget_trace();
        world.freeze(id(3), 2 * SECOND);
        world.run(6 * SECOND);
        let wrong = world.count(|e| matches!(e, Effect::Suspected(node) if *node != id(3)));
        assert_eq!(wrong, 0);
    }
}

#[test]
fn a_graceful_leave_is_noticed_at_once() {
    for (n, loss, within) in [
        (2, 0.0, 5),
        (5, 0.0, 5),
        (10, 0.0, 5),
        (3, 0.05, 600),
        (10, 0.05, 600),
    ] {
        for seed in seeds("a_graceful_leave_is_noticed_at_once", 0..10) {
            let mut world = joined(n, loss, seed);
            world.input(id(2), Input::Leave);
            let within = Duration::from_millis(within);
            let took = world.run_until(within, |w| w.all_say(id(2), MemberState::Down));
            assert!(took.is_some(), "n={n} loss={loss}");
            world.run(SECOND);
            assert_eq!(world.count(|e| *e == Effect::Left), 1);
            assert_eq!(world.deadline(id(2)), None);
            world.run(10 * SECOND);
            assert!(
                world.all_say(id(2), MemberState::Down),
                "it came back from the dead"
            );
        }
    }
    // Told meanwhile that it is down, which calls others back under a new identity, it stays away.
    let mut world = joined(3, 0.0, 1);
    let earlier = world.take_datagrams(id(2), SECOND);
    world.input(id(2), Input::Leave);
    world.run(Duration::from_millis(5));
    for (to, data) in earlier {
        world.input(to, Input::Datagram(data));
    }
    world.run(10 * SECOND);
    assert_eq!(world.count(|e| matches!(e, Effect::Rejoined(_))), 0);
    assert!(world.all_say(id(2), MemberState::Down));

    let mut alone = World::new(1, 0.0, 1);
    alone.input(id(1), Input::Leave);
    assert_eq!(alone.count(|e| *e == Effect::Left), 1);
}

#[test]
fn a_later_run_takes_over_from_the_earlier_one() {
    for (down_for, seed) in [(100, 1), (100, 2), (8_000, 3), (8_000, 4)] {
        let mut world = joined(5, 0.01, seed);
        world.kill(id(4));
        world.run(Duration::from_millis(down_for));
        let was_down = world.all_say(id(4), MemberState::Down);
        assert_eq!(was_down, down_for > 5_000);
        world.forget_trace();
        world.start(identity(4, 2), seed + 100);
        assert!(world.run_until(10 * SECOND, World::all_agree).is_some());
        world.run(5 * SECOND);
        let ups = world.count(|e| matches!(e, Effect::MemberUp(m) if m.identity.node == id(4)));
        let downs = world.count(|e| matches!(e, Effect::MemberDown { .. }));
        let changes = world.count(|e| {
            matches!(e, Effect::MemberChanged { before, after }
                if before.generation < after.generation)
        });
        let expected = if was_down { (4, 0, 0) } else { (0, 0, 4) };
        assert_eq!((ups, downs, changes), expected);
    }
}

#[test]
fn datagrams_of_an_earlier_run_change_nothing() {
    let mut world = joined(3, 0.0, 1);
    let old = world.take_datagrams(id(3), SECOND);
    assert!(!old.is_empty());
    world.kill(id(3));
    world.start(identity(3, 2), 9);
    assert!(world.run_until(5 * SECOND, World::all_agree).is_some());
    world.forget_trace();
    for (to, data) in old {
        world.input(to, Input::Datagram(data));
    }
    world.run(5 * SECOND);
    let changes = world.count(|e| !matches!(e, Effect::Send { .. } | Effect::Refused(_)));
    assert_eq!(changes, 0);
    assert!(world.all_agree());
}

#[test]
fn another_address_is_the_same_member() {
    for seed in seeds("another_address_is_the_same_member", 0..10) {
        // While it runs.
        let mut world = joined(5, 0.01, seed);
        let address = "10.9.9.9:7400".parse().unwrap();
        world.move_to(id(2), address);
        let agreed = world.run_until(10 * SECOND, World::all_agree);
        assert!(agreed.is_some());
        world.run(5 * SECOND);
        let downs = world.count(|e| matches!(e, Effect::MemberDown { .. } | Effect::MemberUp(_)));
        assert_eq!(downs, 0);
        assert_eq!(world.member(id(1), id(2)).identity.address, address);
        // With a restart.
        world.forget_trace();
        world.kill(id(2));
        let moved = super::Identity::new(id(2), "10.8.8.8:1".parse().unwrap(), Generation(2));
        world.start(moved, seed);
        assert!(world.run_until(10 * SECOND, World::all_agree).is_some());
        let downs = world.count(|e| matches!(e, Effect::MemberDown { .. }));
        assert_eq!(downs, 0);
    }
}

#[test]
fn the_two_sides_of_a_healed_split_find_each_other() {
    for seed in seeds("the_two_sides_of_a_healed_split_find_each_other", 0..10) {
        let mut world = joined(5, 0.01, seed);
        world.split(&[id(1), id(2)]);
        world.run(30 * SECOND);
        assert_eq!(world.member(id(1), id(5)).state, MemberState::Down);
        assert_eq!(world.member(id(1), id(2)).state, MemberState::Alive);
        assert_eq!(world.member(id(4), id(2)).state, MemberState::Down);
        world.heal();
        let took = world.run_until(20 * SECOND, World::all_agree);
        assert!(took.is_some());
    }
    // A node cut off from all seeks until it finds.
    let mut world = joined(3, 0.0, 1);
    world.split(&[id(3)]);
    world.run(30 * SECOND);
    assert_eq!(world.count(|e| *e == Effect::Alone), 1);
    world.heal();
    assert!(world.run_until(3 * SECOND, World::all_agree).is_some());
}

#[test]
fn a_lag_score_stretches_the_suspicion() {
    let mut world = joined(2, 0.0, 1);
    world.node(id(1)).set_lag_score(2);
    world.kill(id(2));
    let took = world.run_until(20 * SECOND, |w| w.all_say(id(2), MemberState::Down));
    let took = took.expect("it is down at last");
    assert!(took >= 6 * SECOND && took <= 9 * SECOND, "{took:?}");
}

#[test]
fn what_was_down_for_long_is_forgotten() {
    let settings = Settings {
        remember_down: 60 * SECOND,
        ..Settings::default()
    };
    let mut world = World::with_settings(3, 0.0, 1, settings);
    assert!(world.run_until(10 * SECOND, World::all_agree).is_some());
    world.kill(id(3));
    world.run(90 * SECOND);
    assert_eq!(world.node(id(1)).state_of(id(3)), None);
    assert!(world.count(|e| *e == Effect::Forgotten(id(3))) >= 2);
    world.start(identity(3, 1), 5);
    assert!(
        world.run_until(10 * SECOND, World::all_agree).is_some(),
        "even the same run may return"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::new(5, 0.05, seed);
        world.run(10 * SECOND);
        world.freeze(id(2), 4 * SECOND);
        world.run(20 * SECOND);
        world.kill(id(3));
        world.run(10 * SECOND);
        world.trace_hash()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

#[test]
fn our_own_datagrams_and_long_ones_are_refused() {
    let mut world = joined(2, 0.0, 1);
    let own = world.take_datagrams(id(1), SECOND);
    let (_, own) = own.into_iter().next().expect("a probe was sent");
    let long = Bytes::from(vec![0; super::GOSSIP_BYTES_MAX + 1]);
    let rows = [
        (own, "E0208"),
        (long, "E0215"),
        (Bytes::new(), "E0215"),
        (Bytes::from_static(b"\x02rest"), "E0215"),
    ];
    for (data, code) in rows {
        let mut out = Vec::new();
        let mut twin = Membership::new(world.identity(id(1)), Settings::default(), 1);
        twin.handle(Instant(0), Input::Datagram(data), &mut out);
        let [Effect::Refused(error)] = &out[..] else {
            panic!("{out:?}");
        };
        assert_eq!(error.code().to_string(), code, "{error}");
    }
    let detail = "x".to_owned();
    assert_eq!(
        MembershipError::Engine { detail }.code().to_string(),
        "E0999"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Bytes from outside, and damaged datagrams of ours, never panic.
    #[test]
    fn damaged_datagrams_are_harmless(
        noise in proptest::collection::vec(any::<u8>(), 0..1_200),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        seed in 0_u64..8,
    ) {
        let mut world = World::new(3, 0.0, seed);
        world.run(2 * SECOND);
        let now = world.now();
        for (to, data) in world.take_datagrams(id(1), SECOND) {
            let mut data = data.to_vec();
            for (at, value) in &flips {
                let at = at.index(data.len());
                data[at] = *value;
            }
            data.truncate(cut.index(data.len() + 1));
            let mut out = Vec::new();
            world.node(to).handle(now, Input::Datagram(data.into()), &mut out);
        }
        let mut out = Vec::new();
        world.node(id(2)).handle(now, Input::Datagram(noise.into()), &mut out);
        world.run(SECOND);
    }
}

/// An accuser that restarts takes its timer with it, and a loss takes the news: nobody tells the
/// suspect, and nobody would ever judge it.
#[test]
fn a_suspicion_by_hearsay_ends() {
    let settings = Settings {
        transmissions: std::num::NonZeroU8::MIN,
        ..Settings::default()
    };
    for seed in seeds("a_suspicion_by_hearsay_ends", 0..10) {
        let mut world = World::with_settings(3, 0.0, seed, settings);
        assert!(world.run_until(30 * SECOND, World::all_agree).is_some());
        world.run(20 * SECOND);
        world.forget_trace();
        let suspect = world.identity(id(3));
        let now = world.now();
        world.node(id(2)).hear_suspicion(now, suspect);
        world.run(5 * SECOND);
        // It answers all probes, and knows nothing of the suspicion.
        assert_eq!(world.member(id(2), id(3)).state, MemberState::Suspect);
        assert_eq!(world.member(id(1), id(3)).state, MemberState::Alive);
        let took = world.run_until(10 * SECOND, World::all_agree);
        assert!(took.is_some(), "a suspicion stays for ever");
        assert_ne!(
            world.identity(id(3)),
            suspect,
            "it came back as a newer one"
        );
    }
}
