//! Disks that go back in time: old images are put back, logs are cut. The others remember what a
//! node promised (`node/marks.rs` of the core), so that it uses nothing of what is left.

use ghostlight_sim::{CrashKind, Restored, SEC, World};

use super::{at_the_end, at_work, ensure, pass, placed, scenario_of, three, within};

#[test]
fn old_image_of_a_disk() {
    scenario_of("old_image_of_a_disk", 6, three, |world| {
        at_work(world)?;
        let old = world.id_of(1).ok_or("it runs")?;
        world.keep_image(1);
        pass(world, 3 * SEC);
        world.crash(1, CrashKind::Process);
        pass(world, SEC);
        world.start(1, ghostlight_sim::Origin::Joins);
        within(world, 60 * SEC, "settled", |w| w.settled())?;
        pass(world, 3 * SEC);
        ensure(world.put_image_back(1) == Restored::Image, || {
            "there was an image".to_owned()
        })?;
        within(world, 100 * SEC, "full strength with a new node", |w| {
            w.is_back(1) && w.copies_on(old) == 0 && w.settled()
        })?;
        ensure(
            world.sometimes.count("disk found to have gone back") == 1,
            || "the node did not find out".to_owned(),
        )?;
        placed(world)?;
        at_the_end(world)
    });
}

/// Power fails everywhere, and every node's log has to be cut at a place that looks damaged:
/// nothing that was synced is missing, and the nodes find that out from each other.
#[test]
fn all_in_doubt_after_a_power_loss() {
    scenario_of("all_in_doubt_after_a_power_loss", 4, three, |world| {
        at_work(world)?;
        pass(world, 2 * SEC);
        let ids: Vec<_> = (0..3).map(|place| world.id_of(place)).collect();
        for place in 0..3 {
            world.put_in_doubt(place);
        }
        world.power_loss();
        within(world, 60 * SEC, "all led", World::all_led)?;
        within(world, 60 * SEC, "settled", |w| w.settled())?;
        let now: Vec<_> = (0..3).map(|place| world.id_of(place)).collect();
        ensure(ids == now, || "a node was given up".to_owned())?;
        at_the_end(world)
    });
}
