//! Nodes freeze, die and flap: nothing acknowledged is lost, nothing stale is read, nothing moves
//! in haste.

use ghostlight_core::admin::AdminRequest;
use ghostlight_sim::{CrashKind, MS, Origin, SEC};

use super::{Outcome, at_the_end, at_work, ensure, four, pass, placed, scenario, three, within};

/// Copies of a node that is down are made anew after this long, and not before.
const GRACE: u64 = 60 * SEC;

#[test]
fn freeze() {
    scenario("freeze", three, |world| {
        world.params.work.think = 10 * MS;
        world.params.work.reads = 0.5;
        at_work(world)?;
        for _ in 0..3 {
            let place = world.busiest();
            // Clients whose calls wait there are not answered before it wakes; half of them call
            // elsewhere by then, and must be.
            world.noticed.insert(place);
            pass(world, SEC);
            world.freeze(place, 5 * SEC);
            let what = "others lead what a frozen node led";
            within(world, 2 * SEC, what, |w| w.led_without(place))?;
            let answered = world.acknowledged();
            pass(world, SEC);
            ensure(world.acknowledged() > answered, || {
                "nobody is answered".to_owned()
            })?;
            // It wakes, still believing that it leads, with calls in its mailboxes.
            pass(world, 10 * SEC);
            world.noticed.clear();
        }
        placed(world)?;
        at_the_end(world)
    });
}

#[test]
fn power_loss_everywhere() {
    scenario("power_loss_everywhere", three, |world| {
        world.params.work.think = 10 * MS;
        at_work(world)?;
        for round in 0..5 {
            world.power_loss();
            let all = |w: &ghostlight_sim::World| w.alive().len() == 3 && w.all_led();
            within(world, 10 * SEC, "the cluster is back", all)?;
            let answered = world.acknowledged();
            pass(world, SEC + round * 300 * MS);
            ensure(world.acknowledged() > answered, || {
                "nobody is answered".to_owned()
            })?;
        }
        placed(world)?;
        at_the_end(world)
    });
}

#[test]
fn dead_node_replaced() {
    scenario("dead_node_replaced", four, |world| {
        at_work(world)?;
        let victim = world.busiest();
        let id = world.id_of(victim).ok_or("it runs")?;
        let (begun, held) = (world.copies_begun(), world.copies_on(id));
        world.abandon(victim, CrashKind::PowerLossAll);
        let died = world.now();
        within(world, SEC, "others lead what it led", |w| {
            w.led_without(victim)
        })?;
        world.run_until(died + GRACE - SEC);
        ensure(world.copies_begun() == begun, || {
            "copies moved in the grace".to_owned()
        })?;
        ensure(world.copies_on(id) == held, || {
            "the dead voter went unreplaced".to_owned()
        })?;
        within(world, 40 * SEC, "full strength without it", |w| {
            w.copies_on(id) == 0 && w.settled()
        })?;
        placed(world)?;
        at_the_end(world)
    });
}

#[test]
fn dead_node_removed() {
    scenario("dead_node_removed", four, |world| {
        at_work(world)?;
        let victim = world.busiest();
        let id = world.id_of(victim).ok_or("it runs")?;
        world.abandon(victim, CrashKind::PowerLossAll);
        pass(world, 10 * SEC);
        let other = world.busiest();
        world.order(
            other,
            AdminRequest::Remove(format!("node-{}-{id}", victim + 1)),
        );
        within(world, 30 * SEC, "full strength at once", |w| {
            w.copies_on(id) == 0 && w.settled()
        })?;
        // It comes back, and is refused by everybody.
        world.bring_back(victim);
        pass(world, 30 * SEC);
        ensure(
            world.leaderships(victim) == 0 && world.copies_on(id) == 0,
            || "a removed node takes part".to_owned(),
        )?;
        world.abandon(victim, CrashKind::Process);
        placed(world)?;
        at_the_end(world)
    });
}

/// A member that is down for a part of every five seconds: no copy moves, and it is given nothing
/// to lead.
fn flap(world: &mut ghostlight_sim::World, down: u64) -> Outcome {
    at_work(world)?;
    let flapper = world.busiest();
    let begun = world.copies_begun();
    for round in 0..24 {
        world.crash(flapper, CrashKind::Process);
        pass(world, down);
        world.start(flapper, Origin::Joins);
        let up = world.now() + 5 * SEC - down;
        while world.now() < up {
            pass(world, 100 * MS);
            let leads = world.leaderships(flapper);
            ensure(leads == 0, || {
                format!("given {leads} to lead in round {round}")
            })?;
        }
        ensure(world.copies_begun() == begun, || {
            format!("copies moved in round {round}")
        })?;
    }
    placed(world)?;
    at_the_end(world)
}

#[test]
fn flapping_member() {
    scenario("flapping_member", four, |world| flap(world, 2_500 * MS));
}

#[test]
fn flapping_process() {
    scenario("flapping_process", four, |world| flap(world, 800 * MS));
}

#[test]
fn flapping_network() {
    scenario("flapping_network", four, |world| {
        at_work(world)?;
        let flapper = world.busiest();
        let begun = world.copies_begun();
        let mut led = Vec::new();
        for _ in 0..12 {
            world.isolate(flapper);
            pass(world, 2_500 * MS);
            world.heal();
            pass(world, 2_500 * MS);
            led.push(world.leaderships(flapper));
        }
        ensure(world.copies_begun() == begun, || "copies moved".to_owned())?;
        ensure(led[1..].iter().all(|l| *l == 0), || {
            format!("given to lead: {led:?}")
        })?;
        placed(world)?;
        at_the_end(world)
    });
}
