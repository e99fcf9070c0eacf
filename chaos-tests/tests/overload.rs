//! More calls than three nodes can do, from callers that do not wait: what is still done, how long
//! that takes, what the rest costs, what memory it takes, and how soon it is over when the load is.
//! Then the same while one of the nodes is frozen.
//!
//! Capacity is what a closed loop of the same callers reaches; an open loop then makes so many
//! times more calls. Callers and nodes share the machine, so the callers' own processor time is
//! told with the figures. A call that finds no room on its connection (`open_loop`) is not sent:
//! HTTP/2 has let its client know that it would wait. With few connections that is what becomes of
//! most calls at ten times the capacity; with many, they reach the nodes.
//!
//! In the end every counter is compared with what its callers were told. `GHOSTLIGHT_CHAOS=long`
//! takes longer steps.

use std::time::Duration;

use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::open_loop::{Callers, DEADLINE, Pace, Seen, Step};
use ghostlight_chaos::scenario::{SERVED_TIME_MAX, is_long, turn, without};
use ghostlight_chaos::usage;
use ghostlight_chaos::wait::until;
use ghostlight_report::Row;
use rustix::process::Signal;

const NODES: usize = 3;
const PARTITIONS: u32 = 256;
/// Connections to each node when many programs call: then more calls wait in front of a node than
/// it does in a second.
const MANY_CONNECTIONS: usize = 16;
/// How long nodes are left alone, to know what they take then.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// Enough that no mailbox fills.
const ACTORS: usize = 1_000;
/// In flight when the capacity is measured: what connections to two nodes carry, and less than
/// their leaders refuse.
const IN_FLIGHT: usize = 768;
/// What should still be done at so many times the capacity, by the capacity.
const GOODPUT_TARGETS: [(f64, f64); 2] = [(2.0, 0.9), (10.0, 0.8)];
/// Below this it is not a slow machine, but a node that works for callers who have given up.
const GOODPUT_MIN: f64 = 0.3;
/// Calls are served again when so many of them are.
const SERVED_SHARE: f64 = 0.95;
/// Longest time until then.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// Most that a node may need, in MiB.
const RESIDENT_MAX: f64 = 512.0;
/// What a refusal may cost, by what a call costs.
const REFUSAL_TARGET: f64 = 0.05;
/// How late the load itself may be; more of it would be the load's fault.
const BEHIND_TARGET: Duration = Duration::from_millis(100);

/// How long one step takes.
fn step_time() -> Duration {
    Duration::from_secs(if is_long() { 30 } else { 4 })
}

/// One step, and what it took from the nodes.
struct Part {
    /// By the capacity; `None`: it was the capacity.
    times: Option<f64>,
    seen: Seen,
    /// Processor time of all nodes.
    nodes: Duration,
    /// The most memory that a node has had so far, in bytes.
    resident: u64,
}

/// Takes steps through these callers. Nodes that are frozen count as well: they spend nothing.
fn parts(cluster: &Cluster, callers: &mut Callers, steps: &[(Option<f64>, Step)]) -> Vec<Part> {
    let mut marks = Vec::new();
    let paces: Vec<Step> = steps.iter().map(|(_, step)| *step).collect();
    let seen = callers.run(&paces, |_| {
        let pids = (0..NODES).map(|node| cluster.pid(node));
        let spent: Duration = pids.clone().map(usage::processor_time).sum();
        let resident = pids.map(usage::resident_bytes_max).max();
        marks.push((spent, resident.unwrap_or_default()));
    });
    let parts = seen.into_iter().zip(steps).zip(marks.windows(2));
    let parts = parts.map(|((seen, (times, _)), marks)| Part {
        times: *times,
        seen,
        nodes: marks[1].0 - marks[0].0,
        resident: marks[1].1,
    });
    parts.collect()
}

/// What a closed loop reaches, after some time to get warm.
fn capacity(what: &str, cluster: &Cluster, callers: &mut Callers) -> Part {
    let closed = |time| {
        let pace = Pace::Closed(IN_FLIGHT);
        (None, Step { pace, time })
    };
    let steps = [closed(step_time() / 2), closed(step_time())];
    let measured = parts(cluster, callers, &steps).pop();
    let measured = measured.expect("two steps were taken");
    show(what, &measured);
    measured
}

/// An open loop of so many times the capacity each.
fn flooded(
    what: &str,
    cluster: &Cluster,
    callers: &mut Callers,
    capacity: &Part,
    all: &[(f64, Duration)],
) -> Vec<Part> {
    let steps = all.iter().map(|(times, time)| {
        let pace = Pace::Open(capacity.seen.goodput() * times);
        (Some(*times), Step { pace, time: *time })
    });
    let steps: Vec<_> = steps.collect();
    let parts = parts(cluster, callers, &steps);
    for part in &parts {
        show(what, part);
    }
    parts
}

fn show(what: &str, part: &Part) {
    let seen = &part.seen;
    let (answers, refusals) = (seen.answers(), seen.refusals());
    let times = part
        .times
        .map_or("capacity".to_owned(), |times| format!("{times} x"));
    println!(
        "{what}, {times}: {:.0} calls/s, {:.0} in time; late {}, refused {:?}, unknown {:?}, no room on a connection {}, \
         connections broken {}; answers p50 {:.0?} p99 {:.0?}, refusals p50 {:.0?} p99 {:.0?}; the load was late by {:.0?} (p99) \
         and took {:.0?} of processor in {:.1?}, the nodes {:.1?}; at most {} MiB",
        seen.offered_per_second(),
        seen.goodput(),
        seen.late,
        seen.refused,
        seen.unknown,
        seen.unsent,
        seen.broken,
        answers.percentile(50),
        answers.percentile(99),
        refusals.percentile(50),
        refusals.percentile(99),
        seen.behind().percentile(99),
        seen.driver,
        seen.took,
        part.nodes,
        part.resident >> 20,
    );
}

/// How much was run for a figure.
fn tested(part: &Part, capacity: &Part) -> String {
    let seen = &part.seen;
    format!(
        "{} calls in {:.0?}, {:.0}/s are the capacity; {} refused, {} without room on their connection; the load took {:.0} % of a \
         core of the same machine",
        seen.offered,
        seen.took,
        capacity.seen.goodput(),
        seen.refused_count(),
        seen.unsent,
        seen.driver.as_secs_f64() / seen.took.as_secs_f64() * 100.0,
    )
}

/// # Panics
/// When next to nothing was done.
fn check_goodput(what: &str, capacity: &Part, parts: &[Part]) {
    for part in parts {
        let least = capacity.seen.goodput() * GOODPUT_MIN;
        let done = part.seen.goodput();
        assert!(
            done >= least,
            "{what}: {done:.0}/s at {:?} times",
            part.times
        );
    }
}

/// What was done of more than can be done.
fn report_goodput(what: &str, capacity: &Part, parts: &[Part]) {
    for (times, target) in GOODPUT_TARGETS {
        let mut found = parts.iter().filter(|part| part.times == Some(times));
        let Some(part) = found.next() else {
            continue;
        };
        let share = part.seen.goodput() / capacity.seen.goodput();
        let name = |figure: &str| format!("{what}, {times} times the capacity: {figure}");
        let tested = tested(part, capacity);
        Row::figure(19, &name("goodput by the capacity"), share, "x", target)
            .at_least()
            .tested(&tested)
            .append();
        let p99 = part.seen.answers().percentile(99).as_secs_f64();
        let deadline = DEADLINE.as_secs_f64();
        Row::figure(19, &name("p99 of what was done"), p99, "s", deadline)
            .tested(&tested)
            .append();
        let behind = part.seen.behind().percentile(99).as_secs_f64();
        let target = BEHIND_TARGET.as_secs_f64();
        Row::figure(
            19,
            &name("lateness of the load itself, p99"),
            behind,
            "s",
            target,
        )
        .tested(&tested)
        .append();
        println!("{what}, {times} x: {share:.2} of the capacity, p99 {p99:.2} s");
    }
}

/// Processor time that the nodes take in a second without any calls.
fn idle(cluster: &Cluster) -> f64 {
    let spent = || -> f64 {
        let pids = (0..NODES).map(|node| cluster.pid(node));
        pids.map(|pid| usage::processor_time(pid).as_secs_f64())
            .sum()
    };
    let before = spent();
    std::thread::sleep(IDLE_TIME);
    (spent() - before) / IDLE_TIME.as_secs_f64()
}

/// What a call that was not done costs the nodes, by what one costs that is done. Both without what
/// they take anyway.
fn report_costs(what: &str, idle: f64, capacity: &Part, parts: &[Part]) {
    let done = |part: &Part| (part.seen.good + part.seen.late) as f64;
    let nodes = |part: &Part| part.nodes.as_secs_f64() - idle * part.seen.took.as_secs_f64();
    let call = nodes(capacity) / done(capacity);
    let over = parts.iter().filter(|part| part.times > Some(1.0));
    let (mut spent, mut refused, mut unsent) = (0.0, 0, 0);
    for part in over {
        spent += nodes(part) - done(part) * call;
        refused += part.seen.refused_count();
        unsent += part.seen.unsent;
    }
    let spent = spent.max(0.0);
    let tested = format!(
        "{:.0} us for a call at capacity; {refused} refusals, {unsent} calls without room on their connection",
        call * 1e6
    );
    for (which, count) in [
        ("a refusal", refused),
        ("a call that is not done", refused + unsent),
    ] {
        let cost = spent / count.max(1) as f64 / call;
        let name = format!("{what}: processor time of {which}, by that of a call");
        Row::figure(19, &name, cost, "x", REFUSAL_TARGET)
            .tested(&tested)
            .append();
        println!("{name}: {cost:.3} ({tested})");
    }
}

/// How soon it is over, and what memory it took.
///
/// # Panics
/// When either is too much.
fn report_end(what: &str, capacity: &Part, last: &Part) {
    let served = last.seen.served_after(SERVED_SHARE);
    let seconds = served.map_or(f64::INFINITY, |after| after.as_secs_f64());
    let name = format!("{what}: time until half of the capacity is served again");
    let target = RECOVERY_MAX.as_secs_f64();
    Row::promise(19, &name, seconds.min(1e6), "s", target)
        .tested(&tested(last, capacity))
        .append();
    let resident = last.resident as f64 / f64::from(1 << 20);
    let name = format!("{what}: most resident memory of a node");
    Row::promise(20, &name, resident, "MiB", RESIDENT_MAX)
        .tested("up to ten times the capacity; a flood of a day was not run")
        .append();
    println!("{what}: served again after {served:?}; at most {resident:.0} MiB");
    assert!(seconds <= target, "{what}: served again after {served:?}");
    assert!(resident <= RESIDENT_MAX, "{what}: {resident:.0} MiB");
}

/// Compares every counter with what its callers were told.
///
/// # Panics
/// When an acknowledged call is not in it, or a refused one is.
fn check_counters(what: &str, cluster: &Cluster, callers: &Callers) {
    let mut client = Client::new(&cluster.http(), 0);
    let checked = callers.tallies().iter().map(|(name, tally)| {
        let path = format!("counter/{name}/method/get");
        let total = client.good(&path, &format!("get-{name}"), "")?;
        let total = total.parse().map_err(|error| format!("{total}: {error}"))?;
        tally.check(total).map_err(|why| format!("{name}: {why}"))
    });
    let wrong: Vec<String> = checked.filter_map(Result::err).collect();
    let count = callers.tallies().len();
    let name = format!("{what}: counters that lost an acknowledged call, or ran a refused one");
    Row::promise(19, &name, wrong.len() as f64, "counters", 0.0)
        .tested(&format!("{count} counters, each read in the end"))
        .append();
    println!("{what}: {count} counters are as their callers were told");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn o01_ten_times_more_calls_than_can_be_done() {
    let _turn = turn();
    let what = "overload";
    let cluster = Cluster::form(NODES, PARTITIONS);
    let mut callers = Callers::new(&cluster.http(), "o01", ACTORS);
    let idle = idle(&cluster);
    let capacity = capacity(what, &cluster, &mut callers);
    let step = step_time();
    let paces = [0.5, 1.0, 2.0, 5.0, 10.0].map(|times| (times, step));
    let paces = [&paces[..], &[(0.5, step * 2)]].concat();
    let parts = flooded(what, &cluster, &mut callers, &capacity, &paces);
    report_goodput(what, &capacity, &parts);
    check_goodput(what, &capacity, &parts);
    report_costs(what, idle, &capacity, &parts);
    report_end(what, &capacity, parts.last().expect("steps were taken"));
    let many = "overload over 48 connections";
    callers.over(MANY_CONNECTIONS);
    let paces = [(10.0, step), (0.5, step * 2)];
    let parts = flooded(many, &cluster, &mut callers, &capacity, &paces);
    report_goodput(many, &capacity, &parts);
    report_end(many, &capacity, parts.last().expect("steps were taken"));
    check_counters(what, &cluster, &callers);
}

#[test]
fn o02_the_same_while_one_of_three_nodes_is_frozen() {
    let _turn = turn();
    let what = "overload with a frozen node";
    let mut cluster = Cluster::form(NODES, PARTITIONS);
    let frozen = cluster.busiest();
    let mut callers = Callers::new(&without(&cluster, frozen), "o02", ACTORS);
    let idle = idle(&cluster);
    let whole = capacity(what, &cluster, &mut callers);
    let step = step_time();
    cluster.signal(frozen, Signal::STOP);
    let at_half = flooded(what, &cluster, &mut callers, &whole, &[(0.5, step * 2)]);
    let served = at_half[0].seen.served_after(SERVED_SHARE);
    println!("{what}: half of the capacity is served {served:?} after the freeze");
    let seconds = served.map_or(f64::INFINITY, |after| after.as_secs_f64());
    let name = format!("{what}: time from the freeze until half of the capacity is served");
    Row::figure(19, &name, seconds.min(1e6), "s", RECOVERY_MAX.as_secs_f64())
        .tested(&tested(&at_half[0], &whole))
        .append();
    let two = capacity(what, &cluster, &mut callers);
    let paces = [(2.0, step), (10.0, step), (0.5, step * 2)];
    let parts = flooded(what, &cluster, &mut callers, &two, &paces);
    report_goodput(what, &two, &parts);
    check_goodput(what, &two, &parts);
    report_costs(what, idle / 3.0 * 2.0, &two, &parts);
    cluster.signal(frozen, Signal::CONT);
    report_end(what, &two, parts.last().expect("steps were taken"));
    until("all three are well again", SERVED_TIME_MAX * 3, || {
        cluster.is_healthy().then_some(())
    });
    check_counters(what, &cluster, &callers);
}
