//! Nodes that should not lead, orders that pass through others, copies that are missing, records
//! that are over: one scenario for each rule.
//!
//! A failure prints the line that repeats it: `SEED=3 cargo test -p ghostlight-sim --test unfit`.

use ghostlight_core::admin::{AdminAnswer, AdminRequest, DrainChange};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::wire::hello::Duty;
use ghostlight_sim::{MS, Op, Origin, Params, SEC, Show, World, compare, form, guarded, heal};
use ghostlight_storage::memory::CrashKind;

const SEEDS: u64 = 5;

fn seeds() -> std::ops::RangeInclusive<u64> {
    let one = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    one.map_or(1..=SEEDS, |seed| seed..=seed)
}

fn fail(seed: u64, before: &str, what: &str) -> ! {
    panic!("SEED={seed} cargo test -p ghostlight-sim --test unfit\n{before}\n{what}");
}

/// A formed cluster for each seed, given to a scenario.
fn each(nodes: usize, partitions: u16, scenario: impl Fn(&mut World) -> Result<(), String>) {
    for seed in seeds() {
        let mut world = World::new(Params::quiet(seed, nodes, partitions), Show::Nothing);
        let result = guarded(&mut world, |world| {
            form(world)?;
            scenario(world)
        });
        if let Err(failure) = result {
            fail(seed, &failure.before, &failure.what);
        }
    }
}

#[expect(
    clippy::fn_params_excessive_bools,
    reason = "a condition, as `assert!` takes one"
)]
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Every 50 ms for a while, something holds.
fn throughout(
    world: &mut World,
    span: u64,
    check: impl Fn(&World) -> Result<(), String>,
) -> Result<(), String> {
    let end = world.now() + span;
    while world.now() < end {
        let next = world.now() + 50 * MS;
        world.run_until(next);
        check(world)?;
    }
    Ok(())
}

fn others(world: &World, place: usize) -> Vec<usize> {
    world.alive().into_iter().filter(|p| *p != place).collect()
}

#[test]
fn a_slow_disk_gives_all_leaderships_away_and_takes_none_for_ten_seconds() {
    each(3, 4, |world| {
        let slow = world.busiest();
        let other = others(world, slow)[0];
        world.begin_work();
        let end = world.now() + SEC;
        world.run_until(end);
        world.stall_disk(slow, 3 * SEC);
        let given = world.run_while(2 * SEC, 10 * MS, |w| {
            w.leaderships(slow) > 0 || !w.all_led()
        });
        ensure(given, || {
            format!("it leads {} still", world.leaderships(slow))
        })?;
        let status = world.status(other).ok_or("no status")?;
        let told = status
            .reasons
            .iter()
            .any(|reason| reason.contains("[E0320]"));
        ensure(told, || format!("{:?}", status.reasons))?;
        // Until the stall ends, and for ten seconds after it was last seen.
        throughout(world, 10 * SEC, |w| {
            ensure(w.leaderships(slow) == 0, || "it leads again".to_owned())?;
            ensure(w.all_led(), || "a partition has no leader".to_owned())
        })?;
        let fit = world.run_while(5 * SEC, 100 * MS, |w| {
            let status = w.status(other);
            status.is_none_or(|s| s.reasons.iter().any(|reason| reason.contains("E0320")))
        });
        ensure(fit, || "it is never fit again".to_owned())?;
        heal(world)?;
        compare(world)
    });
}

#[test]
fn where_nobody_else_can_lead_a_slow_disk_goes_on() {
    for nodes in [1, 3] {
        each(nodes, 2, |world| {
            for place in world.alive() {
                world.stall_disk(place, 2 * SEC);
            }
            // Something must wait for the disk, or nobody learns that it is slow.
            let place = world.busiest();
            let call = world.call_begin(place, &Op::Add { counter: 0 });
            throughout(world, 4 * SEC, |w| {
                ensure(w.all_led(), || "a partition has no leader".to_owned())
            })?;
            ensure(
                matches!(world.outcome(call), Some(CallOutcome::Reply(_))),
                || format!("{:?}", world.outcome(call)),
            )
        });
    }
}

#[test]
fn when_every_disk_is_slow_a_dead_leader_is_still_replaced_at_once() {
    each(3, 2, |world| {
        world.begin_work();
        for place in world.alive() {
            world.stall_disk(place, SEC);
        }
        let end = world.now() + 1_500 * MS;
        world.run_until(end);
        world.end_work();
        world.crash(world.busiest(), CrashKind::Process);
        let led = world.run_while(2 * SEC, 10 * MS, |w| !w.all_led());
        ensure(led, || "nobody stands for election".to_owned())
    });
}

#[test]
fn a_clock_that_is_off_gives_all_leaderships_away_until_it_is_right() {
    for skew_ms in [3_000, -3_600_000] {
        each(3, 4, |world| {
            let off = world.busiest();
            let other = others(world, off)[0];
            world.set_clock(off, skew_ms);
            let given =
                world.run_while(2 * SEC, 10 * MS, |w| w.leaderships(off) > 0 || !w.all_led());
            ensure(given, || {
                format!("it leads {} still", world.leaderships(off))
            })?;
            throughout(world, 15 * SEC, |w| {
                ensure(w.leaderships(off) == 0, || "it leads again".to_owned())
            })?;
            for place in [off, other] {
                let status = world.status(place).ok_or("no status")?;
                let told = status
                    .reasons
                    .iter()
                    .any(|reason| reason.contains("[E0220]"));
                ensure(told, || format!("{:?}", status.reasons))?;
            }
            world.set_clock(off, 0);
            let fit = world.run_while(2 * SEC, 100 * MS, |w| {
                let status = w.status(other);
                status.is_none_or(|s| s.reasons.iter().any(|reason| reason.contains("E0220")))
            });
            ensure(fit, || "it is never fit again".to_owned())
        });
    }
}

#[test]
fn a_clock_that_is_a_little_off_changes_nothing() {
    each(3, 2, |world| {
        let place = world.busiest();
        world.set_clock(place, 1_500);
        for _ in 0..10 {
            let next = world.now() + 300 * MS;
            world.run_until(next);
            let status = world.status(place).ok_or("no status")?;
            let told = status.reasons.iter().any(|reason| reason.contains("E0220"));
            ensure(!told, || format!("{:?}", status.reasons))?;
        }
        Ok(())
    });
}

#[test]
fn a_proposal_that_does_not_commit_gets_a_new_connection() {
    each(3, 1, |world| {
        let leader = world.busiest();
        for other in others(world, leader) {
            world.stick(leader, other);
        }
        let begun = world.now();
        let call = world.call_begin(leader, &Op::Add { counter: 0 });
        let answered = world.run_while(4 * SEC, 10 * MS, |w| w.outcome(call).is_none());
        ensure(answered, || "it is stuck for ever".to_owned())?;
        ensure(
            matches!(world.outcome(call), Some(CallOutcome::Reply(_))),
            || format!("{:?}", world.outcome(call)),
        )?;
        let took = world.now() - begun;
        ensure(took >= SEC, || format!("it was not stuck: {took}"))?;
        let anew = world.sometimes.count("connection made anew");
        ensure(anew > 0, || "by something else".to_owned())
    });
}

#[test]
fn a_call_in_flight_to_a_frozen_leader_is_answered_by_the_next_one_as_soon_as_it_opens() {
    each(3, 1, |world| {
        let frozen = world.busiest();
        let caller = others(world, frozen)[0];
        world.freeze(frozen, 10 * SEC);
        let begun = world.now();
        let call = world.call_begin(caller, &Op::Add { counter: 0 });
        let serves = |w: &World| others(w, frozen).iter().any(|p| w.leaderships(*p) > 0);
        let opened = world.run_while(2 * SEC, MS, |w| !serves(w));
        ensure(opened, || "nobody else leads".to_owned())?;
        let opened = world.now() - begun;
        let answered = world.run_while(100 * MS, MS, |w| w.outcome(call).is_none());
        ensure(answered, || {
            format!("opened after {} ms, no answer", opened / MS)
        })?;
        ensure(
            matches!(world.outcome(call), Some(CallOutcome::Reply(_))),
            || format!("{:?}", world.outcome(call)),
        )
    });
}

fn drain(world: &World, place: usize, change: DrainChange) -> AdminRequest {
    let node = Some(world.name_of(place));
    AdminRequest::Drain { node, change }
}

#[test]
fn an_order_through_another_node_is_answered_when_it_was_taken() {
    each(3, 2, |world| {
        for (change, duty) in [
            (DrainChange::Begin, Duty::Draining),
            (DrainChange::Undo, Duty::Serving),
        ] {
            let request = drain(world, 2, change);
            let answer = world.ordered(1, request);
            ensure(matches!(answer, Some(AdminAnswer::Done(_))), || {
                format!("{answer:?}")
            })?;
            ensure(world.duty_of(2) == Some(duty), || {
                "it was not taken".to_owned()
            })?;
        }
        let request = AdminRequest::Leave {
            node: Some("nobody".to_owned()),
        };
        refused(world.ordered(1, request), Code::UnknownNode)?;
        // Three nodes, three copies: the target itself refuses, and says why.
        let node = Some(world.name_of(2));
        refused(
            world.ordered(1, AdminRequest::Leave { node }),
            Code::LeaveBelowFactor,
        )?;
        ensure(world.duty_of(1) == Some(Duty::Serving), || {
            "the wrong one leaves".to_owned()
        })
    });
}

fn refused(answer: Option<AdminAnswer>, code: Code) -> Result<(), String> {
    match &answer {
        Some(AdminAnswer::Refused { code: found, .. }) if *found == code => Ok(()),
        _ => Err(format!("{answer:?} instead of {code}")),
    }
}

#[test]
fn an_order_that_does_not_reach_its_node_is_refused_or_unconfirmed() {
    each(3, 2, |world| {
        // The word is lost on its way: nobody can say what became of it.
        world.cut(1, 2);
        let request = drain(world, 2, DrainChange::Begin);
        refused(world.ordered(1, request), Code::OrderUnconfirmed)?;
        ensure(world.duty_of(2) == Some(Duty::Serving), || {
            "it cannot know".to_owned()
        })?;
        world.heal();
        let end = world.now() + 10 * SEC;
        world.run_until(end);
        // A node that is known to be away is not ordered at all.
        let request = drain(world, 2, DrainChange::Begin);
        world.crash(2, CrashKind::Process);
        let end = world.now() + 5 * SEC;
        world.run_until(end);
        refused(world.ordered(1, request), Code::NodeUnreachable)
    });
}

#[test]
fn leave_through_another_node_is_answered_when_the_node_has_left() {
    each(4, 2, |world| {
        let node = Some(world.name_of(3));
        let answer = world.ordered(1, AdminRequest::Leave { node });
        ensure(matches!(answer, Some(AdminAnswer::Done(_))), || {
            format!("{answer:?}")
        })?;
        let gone = world.run_while(5 * SEC, 10 * MS, |w| w.alive().contains(&3));
        ensure(gone, || "it runs still".to_owned())
    });
}

#[test]
fn min_copies_refuses_writes_and_nothing_else_until_there_are_enough() {
    for seed in seeds() {
        let params = Params {
            min_copies: 2,
            ..Params::quiet(seed, 1, 2)
        };
        let mut world = World::new(params, Show::Nothing);
        let result = guarded(&mut world, |world| {
            world.add_node(Origin::Founds);
            world.run_while(20 * SEC, 50 * MS, |w| !w.all_led());
            let (add, get) = (Op::Add { counter: 0 }, Op::Get { counter: 0 });
            let read = world.ask(0, &get);
            ensure(matches!(read, Some(CallOutcome::Reply(_))), || {
                format!("{read:?}")
            })?;
            match world.ask(0, &add) {
                Some(CallOutcome::NotRun(refusal)) if refusal.code == Code::MinCopies => {}
                other => return Err(format!("one copy takes a write: {other:?}")),
            }
            let read = world.ask(0, &get);
            ensure(matches!(read, Some(CallOutcome::Reply(_))), || {
                format!("{read:?}")
            })?;
            world.add_node(Origin::Joins);
            world.add_node(Origin::Joins);
            let grown = world.run_while(60 * SEC, 50 * MS, |w| !w.settled());
            ensure(grown, || format!("{:?}", world.unsettled()))?;
            let written = world.ask(0, &add);
            ensure(matches!(written, Some(CallOutcome::Reply(_))), || {
                format!("{written:?}")
            })
        });
        if let Err(failure) = result {
            fail(seed, &failure.before, &failure.what);
        }
    }
}

#[test]
fn records_and_sessions_go_after_a_day_and_not_before() {
    const HOUR: u64 = 3_600 * SEC;
    each(1, 1, |world| {
        let (add, get) = (Op::Add { counter: 0 }, Op::Get { counter: 0 });
        for answer in [world.ask(0, &add), world.ask_as(0, &add, "mine")] {
            ensure(matches!(answer, Some(CallOutcome::Reply(_))), || {
                format!("{answer:?}")
            })?;
        }
        let kept = |world: &World| {
            let families = [Family::Dedup, Family::Session];
            let rows: Result<Vec<_>, _> =
                families.map(|f| world.rows_of(0, f)).into_iter().collect();
            rows
        };
        let before = kept(world)?;
        ensure(before.iter().all(|rows| *rows > 0), || {
            format!("nothing is kept: {before:?}")
        })?;
        // Nobody ticks through a day: the process stands still for most of it.
        world.freeze(0, 23 * HOUR);
        let end = world.now() + 23 * HOUR + 180 * SEC;
        world.run_until(end);
        let later = kept(world)?;
        ensure(before == later, || {
            format!("{before:?} became {later:?} within a day")
        })?;
        world.freeze(0, HOUR);
        let end = world.now() + HOUR + 180 * SEC;
        world.run_until(end);
        let last = kept(world)?;
        ensure(last.iter().all(|rows| *rows == 0), || {
            format!("{last:?} are kept for ever")
        })?;
        // What they answered stays done.
        let total = world.ask(0, &get);
        ensure(
            matches!(&total, Some(CallOutcome::Reply(body)) if &body[..] == b"2"),
            || format!("{total:?}"),
        )
    });
}
