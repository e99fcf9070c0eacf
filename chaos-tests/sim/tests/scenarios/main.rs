//! Named scenarios: each a promise, kept under a given misfortune, in virtual time, for several
//! seeds.
//!
//! A failure prints the line that repeats it: `SEED=3 cargo test -p ghostlight-sim --test scenarios
//! NAME`.

mod back_in_time;
mod failures;
mod forming;
mod hostile;
mod mishaps;
mod moves;
mod returns;

use ghostlight_sim::{MS, Params, SEC, Show, World, compare, form, guarded, heal};

/// Seeds of each scenario in a plain `cargo test`.
const SEEDS: u64 = 2;
/// Times as many with `GHOSTLIGHT_CHAOS=long`.
const LONG: u64 = 2;
/// How long leaderships and copies may take to be where they belong: the waiting time of ten
/// seconds, and the moves themselves.
const SETTLE_MAX: u64 = 60 * SEC;

type Outcome = Result<(), String>;

fn long() -> bool {
    std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|kind| kind == "long")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a scenario for the usual number of seeds.
fn scenario(name: &str, params: fn(u64) -> Params, body: fn(&mut World) -> Outcome) {
    scenario_of(name, SEEDS, params, body);
}

/// Runs a scenario for so many seeds, or as many as the environment says.
fn scenario_of(name: &str, count: u64, params: fn(u64) -> Params, body: fn(&mut World) -> Outcome) {
    let show = if number("TRACE").is_some() {
        Show::Everything
    } else {
        Show::Nothing
    };
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("SEEDS").unwrap_or(if long() { count * LONG } else { count }),
    };
    for seed in seeds {
        let mut world = World::new(params(seed), show);
        if let Err(failure) = guarded(&mut world, body) {
            let again = format!("SEED={seed} cargo test -p ghostlight-sim --test scenarios {name}");
            panic!("{again}\n{}\n{}", failure.before, failure.what);
        }
    }
}

/// A quiet cluster, with clients that leave it time for a long life.
fn quiet(seed: u64, nodes: usize, partitions: u16) -> Params {
    let mut params = Params::quiet(seed, nodes, partitions);
    params.work.think = 40 * MS;
    params
}

/// Three nodes of eight partitions.
fn three(seed: u64) -> Params {
    quiet(seed, 3, 8)
}

/// Four nodes of eight partitions: one more than copies.
fn four(seed: u64) -> Params {
    quiet(seed, 4, 8)
}

#[expect(
    clippy::fn_params_excessive_bools,
    reason = "a condition, as `assert!` takes one"
)]
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what()) }
}

/// Waits for a condition, in steps of ten milliseconds.
fn within(
    world: &mut World,
    limit: u64,
    what: &str,
    mut reached: impl FnMut(&World) -> bool,
) -> Outcome {
    let held = world.run_while(limit, 10 * MS, |world| !reached(world));
    ensure(held, || {
        format!(
            "{what}: not within {} s; {:?}; {}",
            limit / SEC,
            world.misplaced(),
            world.members()
        )
    })
}

fn pass(world: &mut World, time: u64) {
    let end = world.now() + time;
    world.run_until(end);
}

/// A cluster in which everything is where it belongs, with clients at work.
fn at_work(world: &mut World) -> Outcome {
    form(world)?;
    placed(world)?;
    world.begin_work();
    pass(world, SEC);
    ensure(world.acknowledged() > 50, || {
        "clients get no answers".to_owned()
    })
}

/// Waits until copies and leaderships are where the preference lists say.
fn placed(world: &mut World) -> Outcome {
    within(world, SETTLE_MAX, "everything in its place", |world| {
        world.misplaced().is_none()
    })
}

/// Ends the work, and compares what every node says with what clients were told.
fn at_the_end(world: &mut World) -> Outcome {
    heal(world)?;
    compare(world)
}

/// No call failed since the cluster was formed.
fn no_call_failed(world: &World) -> Outcome {
    let failed = world.failed_calls();
    ensure(failed == 0, || format!("{failed} calls failed"))
}
