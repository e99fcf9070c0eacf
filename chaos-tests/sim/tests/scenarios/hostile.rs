//! A member that lies: the others keep every promise, and go on.

use ghostlight_sim::{CrashKind, Origin, SEC};

use super::{at_the_end, at_work, ensure, four, pass, scenario_of};

/// Lies of one run, at least.
const LIES: u64 = 1_000;
/// Who lies, of four.
const LIAR: usize = 3;
/// Seeds, since each draws lies of its own.
const SEEDS: u64 = 2;

#[test]
fn a_member_that_lies_breaks_nothing() {
    scenario_of("a_member_that_lies_breaks_nothing", SEEDS, four, |world| {
        at_work(world)?;
        world.misbehave(LIAR);
        pass(world, 10 * SEC);
        let before = world.acknowledged();
        let place = (0..LIAR).max_by_key(|place| world.leaderships(*place));
        let place = place.unwrap_or(0);
        world.crash(place, CrashKind::PowerLoss);
        pass(world, SEC);
        world.start(place, Origin::Joins);
        pass(world, 10 * SEC);
        let told = world.behave();
        ensure(told >= LIES, || format!("only {told} lies were told"))?;
        let more = world.acknowledged() - before;
        ensure(more > 50, || {
            format!("only {more} calls were answered while a member lied")
        })?;
        at_the_end(world)
    });
}
