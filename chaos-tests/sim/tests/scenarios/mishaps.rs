//! Damaged logs, copied directories, versions that speak other frames: none may disturb the others,
//! and what a node cannot answer for any more it does not use.

use ghostlight_sim::{Build, SEC, World};

use super::{at_the_end, at_work, ensure, four, pass, scenario, scenario_of, three, within};

/// A node is started too early as a version that speaks other frames. The others refuse it, go on,
/// and take it back when it is of theirs again. Nobody ends.
#[test]
fn a_node_of_another_version() {
    scenario("a_node_of_another_version", three, |world| {
        at_work(world)?;
        let ids: Vec<_> = (0..3).map(|place| world.id_of(place)).collect();
        world.start_as(1, Build::Other);
        // Whoever asks that node waits for an answer in vain: some look for another one.
        world.noticed.insert(1);
        pass(world, 12 * SEC);
        ensure(world.id_of(1) == ids[1], || "it ended".to_owned())?;
        ensure(world.sometimes.count("another version refused") > 0, || {
            "nobody refused it".to_owned()
        })?;
        within(world, 5 * SEC, "all led by the others", World::all_led)?;
        let before = world.acknowledged();
        pass(world, 10 * SEC);
        let done = world.acknowledged() - before;
        ensure(done > 30, || {
            format!("{done} answers beside another version")
        })?;
        world.start_as(1, Build::Usual);
        within(world, 60 * SEC, "whole again", |w| w.settled())?;
        let now: Vec<_> = (0..3).map(|place| world.id_of(place)).collect();
        ensure(ids == now, || "a node was given up".to_owned())?;
        at_the_end(world)
    });
}

/// A copy of a directory is started while the original runs. One of them ends, or both; in the end
/// the copy is gone, and every acknowledged write is there.
#[test]
fn a_copy_beside_its_original() {
    scenario_of("a_copy_beside_its_original", 4, four, |world| {
        at_work(world)?;
        within(world, 20 * SEC, "settled", |w| w.settled())?;
        world.copy(1);
        let copies = "fault: copy of a directory started beside the original";
        ensure(world.sometimes.count(copies) == 1, || {
            "no copy was started".to_owned()
        })?;
        pass(world, 40 * SEC);
        within(world, 120 * SEC, "whole without the copy", |w| {
            w.is_back(1) && w.settled()
        })?;
        at_the_end(world)
    });
}

/// A bit flips in the file of a log. The node opens what stands before it, and uses it only if the
/// others remember no more.
#[test]
fn a_damaged_log() {
    scenario_of("a_damaged_log", 6, three, |world| {
        at_work(world)?;
        within(world, 20 * SEC, "settled", |w| w.settled())?;
        world.damage_log(1, 10_000);
        pass(world, 20 * SEC);
        let damaged = world
            .sometimes
            .count("fault: bit flip in the file of a log");
        ensure(damaged == 1, || "its disk was never idle".to_owned())?;
        within(world, 120 * SEC, "whole again", |w| {
            w.is_back(1) && w.settled()
        })?;
        at_the_end(world)
    });
}
