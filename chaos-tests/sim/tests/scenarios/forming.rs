//! A cluster comes to be, grows, and shrinks: nobody's call fails, and everybody gets a share.

use ghostlight_core::admin::{AdminRequest, DrainChange};
use ghostlight_sim::{MS, Origin, SEC, World};

use super::{
    Outcome, at_the_end, at_work, ensure, four, no_call_failed, pass, placed, quiet, scenario,
    scenario_of, three, within,
};

/// How long three nodes may take until every partition has three voters.
const FORM_MAX: u64 = 5 * SEC;
/// How long after that the leaderships may take to spread.
const BALANCE_MAX: u64 = 15 * SEC;
/// Leaderships one node may hand over at a time, and with it all nodes together.
const TRANSFERS_MAX: usize = 16;

/// A founder, and two nodes that join by seed, with clients from the first moment on.
fn founded_and_joined(world: &mut World) -> Outcome {
    let partitions = usize::from(world.params.partitions);
    world.add_node(Origin::Founds);
    within(world, SEC, "the founder serves at once", World::all_led)?;
    ensure(world.fill_accounts(), || "no deposit".to_owned())?;
    world.begin_work();
    pass(world, SEC);
    world.add_node(Origin::Joins);
    pass(world, SEC);
    world.add_node(Origin::Joins);
    within(world, FORM_MAX, "three voters everywhere", World::settled)?;
    let formed = world.now();
    let mut handed = Vec::new();
    while let Some(what) = world.misplaced() {
        ensure(world.now() < formed + BALANCE_MAX, || {
            format!("not balanced: {what}")
        })?;
        let before = world.terms();
        pass(world, 200 * MS);
        let after = world.terms();
        handed.push(
            after
                .iter()
                .filter(|(p, t)| before.get(*p) != Some(*t))
                .count(),
        );
    }
    // Handovers of one look, and a few of the next: never a storm.
    let most = handed.iter().copied().max().unwrap_or(0);
    ensure(most <= 2 * TRANSFERS_MAX, || {
        format!("{most} handovers in 200 ms")
    })?;
    // A third each, give or take four standard deviations of so few partitions on a ring.
    for place in 0..3 {
        let share = world.leaderships(place);
        let fair = share * 10 >= partitions && share * 5 <= partitions * 3;
        ensure(fair, || {
            format!("node {place} leads {share} of {partitions}")
        })?;
    }
    // What is in its place stays there.
    let settled = world.terms();
    pass(world, 60 * SEC);
    ensure(world.terms() == settled, || {
        "leaderships moved at rest".to_owned()
    })?;
    no_call_failed(world)?;
    at_the_end(world)
}

#[test]
fn form() {
    scenario("form", |seed| quiet(seed, 3, 64), founded_and_joined);
}

#[test]
fn form_with_all_partitions() {
    let params = |seed| {
        let mut params = quiet(seed, 3, 256);
        params.work.think = 200 * MS;
        params
    };
    scenario_of("form_with_all_partitions", 1, params, founded_and_joined);
}

#[test]
fn fourth_node() {
    scenario(
        "fourth_node",
        |seed| quiet(seed, 3, 32),
        |world| {
            at_work(world)?;
            let begun = world.copies_begun();
            let place = world.add_node(Origin::Joins);
            within(world, 2 * SEC, "the new node is up", |w| {
                w.id_of(place).is_some()
            })?;
            // Healthy copies do not move before the wish has been the same for ten seconds.
            pass(world, 9 * SEC);
            ensure(world.copies_begun() == begun, || {
                "copies moved at once".to_owned()
            })?;
            placed(world)?;
            let id = world.id_of(place).ok_or("the new node is gone")?;
            let (wished, heads) = world.wished_on(id);
            ensure(
                (wished, heads) == (world.copies_on(id), world.leaderships(place)),
                || "the new node has not its share".to_owned(),
            )?;
            ensure(wished > 0 && heads > 0, || {
                "the new node is not wished".to_owned()
            })?;
            no_call_failed(world)?;
            at_the_end(world)
        },
    );
}

#[test]
fn leave() {
    scenario("leave", four, |world| {
        at_work(world)?;
        let place = world.busiest();
        world.order(place, AdminRequest::Leave { node: None });
        within(world, 60 * SEC, "the node leaves", |w| w.has_left(place))?;
        placed(world)?;
        no_call_failed(world)?;
        at_the_end(world)
    });
}

#[test]
fn drain() {
    scenario("drain", three, |world| {
        at_work(world)?;
        let place = world.busiest();
        let id = world.id_of(place).ok_or("it runs")?;
        let copies = world.copies_on(id);
        world.drain(place, DrainChange::Begin);
        within(world, 5 * SEC, "leaderships go", |w| w.led_without(place))?;
        for _ in 0..20 {
            pass(world, SEC);
            ensure(world.led_without(place), || {
                "a drained node leads".to_owned()
            })?;
        }
        ensure(world.copies_on(id) == copies, || {
            "a drain moved copies".to_owned()
        })?;
        world.drain(place, DrainChange::Undo);
        placed(world)?;
        ensure(world.leaderships(place) > 0, || {
            "it leads nothing again".to_owned()
        })?;
        no_call_failed(world)?;
        at_the_end(world)
    });
}

#[test]
fn rolling_restart() {
    scenario("rolling_restart", three, |world| {
        at_work(world)?;
        for place in 0..3 {
            world.shut_down(place);
            within(world, 30 * SEC, "a node ends and comes back", |w| {
                w.is_back(place)
            })?;
            within(world, 30 * SEC, "full strength", World::settled)?;
        }
        placed(world)?;
        no_call_failed(world)?;
        at_the_end(world)
    });
}
