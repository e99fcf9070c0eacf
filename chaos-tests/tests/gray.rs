//! Nodes that are neither well nor dead, on real processes: a disk whose syncs take a second, a
//! disk whose syncs fail, a node that gets a tenth of a processor. The others' callers hardly
//! notice, and nothing acknowledged is lost.

use std::time::{Duration, Instant};

use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::load::Load;
use ghostlight_chaos::scenario::{SERVED_TIME_MAX, WAIT_MAX, end_clean, is_long, turn, without};
use ghostlight_chaos::spread::Spread;
use ghostlight_chaos::wait::until;
use ghostlight_report::Row;
use rustix::process::Signal;

const PARTITIONS: u32 = 64;
const CALLS_AROUND: u64 = 20;
/// What is promised on an idle machine: 99 of 100 calls of the others take at most so many times
/// what they took before.
const TIMES_TARGET: u32 = 3;
/// One period of a throttled node, and how much of it runs.
const THROTTLE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(10));

/// How long each side is measured.
fn measured() -> Duration {
    Duration::from_secs(if is_long() { 20 } else { 6 })
}

/// 99 of 100 calls take at most this, from now on.
fn p99_for(load: &Load, time: Duration, mut meanwhile: impl FnMut()) -> Duration {
    load.mark();
    let began = Instant::now();
    until("it was measured", time * 3, || {
        meanwhile();
        (began.elapsed() >= time).then_some(())
    });
    let waits = Spread::of(load.waits());
    assert!(waits.count() > 100, "{} calls are too few", waits.count());
    waits.percentile(99)
}

/// Prints how much slower it has become, and compares the longest wait with a bound.
#[track_caller]
fn check(what: &str, before: Duration, during: Duration, load: &Load) {
    let times = during.as_secs_f64() / before.as_secs_f64();
    let verdict = if times <= f64::from(TIMES_TARGET) {
        "within"
    } else {
        "over"
    };
    let longest = load.longest_waits().into_iter().max().unwrap_or_default();
    println!(
        "{what}: p99 of the others' calls {before:.1?} before, {during:.1?} with it: {times:.1} x ({verdict} the \
         target of {TIMES_TARGET} x); longest wait {longest:.2?}"
    );
    Row::figure(
        16,
        &format!("{what}: p99 of the others' calls, by what it was before"),
        times,
        "x",
        TIMES_TARGET.into(),
    )
    .tested(&format!("{:?} each, one of three nodes", measured()))
    .append();
    assert!(longest <= WAIT_MAX, "{what}: over {WAIT_MAX:?}");
}

#[test]
fn g01_a_disk_that_syncs_in_a_second_leads_nothing_and_slows_nobody() {
    let _turn = turn();
    let Some(mut cluster) = Cluster::plan_with_sync_faults(PARTITIONS) else {
        println!("skipped: slow syncs: there is no C compiler");
        return;
    };
    cluster.form_planned(3);
    let gray = cluster.busiest();
    let name = cluster.name(gray).to_owned();
    let load = Load::start(&without(&cluster, gray));
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    let before = p99_for(&load, measured(), || {});
    cluster.sync_faults().slow(&name, Duration::from_secs(1));
    let began = Instant::now();
    until("the slow node leads nothing", SERVED_TIME_MAX, || {
        cluster.led_by(gray).is_empty().then_some(())
    });
    println!(
        "slow syncs: {name} leads nothing after {:.1?}",
        began.elapsed()
    );
    let during = p99_for(&load, measured(), || {});
    check("slow syncs", before, during, &load);
    let status = cluster.admin(gray, "status").expect("it answers");
    assert!(
        status["reasons"].to_string().contains("[E0320]"),
        "{status}"
    );
    cluster.sync_faults().heal(&name);
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    cluster.wait_healthy();
    end_clean("slow syncs", load, &cluster.http());
}

#[test]
fn g02_a_disk_that_fails_to_sync_ends_its_node_and_loses_nothing() {
    let _turn = turn();
    let Some(mut cluster) = Cluster::plan_with_sync_faults(PARTITIONS) else {
        println!("skipped: failing syncs: there is no C compiler");
        return;
    };
    cluster.form_planned(3);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    let broken = cluster.busiest();
    let name = cluster.name(broken).to_owned();
    cluster.sync_faults().fail(&name);
    let mut process = cluster.take(broken);
    let status = process.wait(SERVED_TIME_MAX);
    let said = process.said();
    println!("failing syncs: {}", said.lines().last().unwrap_or_default());
    // What it could not sync it must never have acknowledged, and it must not try again.
    assert_eq!(status.code(), Some(1), "{said}");
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    cluster.sync_faults().heal(&name);
    cluster.start(broken);
    cluster.wait_healthy();
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    end_clean("failing syncs", load, &cluster.http());
}

/// What the others say of a throttled node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    LeadsNothing,
    AllAreStarved,
}

fn seen_of(cluster: &Cluster, gray: usize) -> Option<Seen> {
    let other = (0..3).find(|node| *node != gray)?;
    let status = cluster.admin(other, "status")?;
    let starved = status["reasons"].to_string().matches("[E0322]").count();
    if cluster.row(other, gray)?["leaders"] == 0 {
        return Some(Seen::LeadsNothing);
    }
    (starved > 1).then_some(Seen::AllAreStarved)
}

#[test]
fn g03_a_node_with_a_tenth_of_a_processor_slows_the_others_little() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, PARTITIONS);
    let gray = cluster.busiest();
    let load = Load::start(&without(&cluster, gray));
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    let before = p99_for(&load, measured(), || {});
    let throttle = |cluster: &mut Cluster| {
        cluster.signal(gray, Signal::CONT);
        std::thread::sleep(THROTTLE.1);
        cluster.signal(gray, Signal::STOP);
        std::thread::sleep(THROTTLE.0 - THROTTLE.1);
    };
    // Whether it is noticed depends on what else this machine does: it is told, and what its
    // callers feel is bounded.
    let began = Instant::now();
    let mut seen = None;
    while seen.is_none() && began.elapsed() < SERVED_TIME_MAX {
        throttle(&mut cluster);
        seen = seen_of(&cluster, gray);
    }
    println!("throttled: {seen:?} after {:.1?}", began.elapsed());
    let during = p99_for(&load, measured(), || throttle(&mut cluster));
    cluster.signal(gray, Signal::CONT);
    check("throttled", before, during, &load);
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    cluster.wait_healthy();
    end_clean("throttled", load, &cluster.http());
}
