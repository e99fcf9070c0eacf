//! Failover as clients feel it: a load on actors in many partitions, through the nodes that stay,
//! while the busiest node is killed or frozen, again and again. Prints the distribution of the
//! gaps.
//!
//! One client per actor and one actor per partition, so that each gap is the gap of one partition.
//! A client is *affected* when the node that went led its actor's partition.
//! `GHOSTLIGHT_CHAOS=long` repeats as often as the promise was made for.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::http::{Ask, Connection};
use ghostlight_chaos::load::Load;
use ghostlight_chaos::scenario::{SERVED_TIME_MAX, end_clean, is_long, turn, without};
use ghostlight_chaos::spread::Spread;
use ghostlight_chaos::wait::until;
use ghostlight_report::Row;
use rustix::process::Signal;

/// Clients, each with an actor in a partition of its own.
const CLIENTS: usize = 64;
/// Promised after `kill -9` of a node: 99 of 100 gaps.
const KILL_GAP_MAX: Duration = Duration::from_secs(1);
/// The same while a node is frozen, and after it wakes.
const FREEZE_GAP_MAX: Duration = Duration::from_secs(2);
/// Half of the gaps should be at most this.
const HALF_GAP_TARGET: Duration = Duration::from_millis(1_500);
/// Calls of every client before and after each event.
const CALLS_AROUND: u64 = 10;
/// Actors that are read through the node that wakes up.
const WATCHED: usize = 24;
/// Pause of a reader between two reads.
const READ_PERIOD: Duration = Duration::from_millis(25);

/// One round: a victim, and a load through the others on actors that no other round has.
struct Round {
    victim: usize,
    affected: BTreeSet<String>,
    load: Load,
}

impl Round {
    fn begin(cluster: &Cluster, name: &str) -> Self {
        let actors = cluster.spread_actors(name, CLIENTS);
        let victim = cluster.busiest();
        let ids: Vec<String> = actors.iter().map(|(id, _)| id.clone()).collect();
        let load = Load::one_client_each(&without(cluster, victim), &ids);
        load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        let led = cluster.led_by(victim);
        let affected = actors.into_iter().filter(|(_, p)| led.contains(p));
        let round = Self {
            victim,
            affected: affected.map(|(id, _)| id).collect(),
            load,
        };
        assert!(
            round.affected.len() >= CLIENTS / 5,
            "{} of {CLIENTS} actors live on the busiest node, which leads {led:?}",
            round.affected.len()
        );
        round.load.mark();
        round
    }

    /// Waits until every client was served again; the gaps of the affected ones since the mark.
    fn gaps(&self, what: &str) -> Vec<Duration> {
        self.load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        let gaps = self
            .load
            .longest_gaps(|actor| self.affected.contains(actor));
        let others = self
            .load
            .longest_gaps(|actor| !self.affected.contains(actor));
        println!(
            "{what}: affected {}; others max {:.3} s",
            Spread::of(gaps.clone()),
            Spread::of(others).percentile(100).as_secs_f64()
        );
        gaps
    }
}

/// Prints the distribution, and compares it with what is promised; `row` is that of the scoreboard.
#[track_caller]
fn check_gaps(row: u8, what: &str, gaps: Vec<Duration>, p99_max: Duration) {
    let spread = Spread::of(gaps);
    println!("{what}: gap of each affected client: {spread}; promised: p99 at most {p99_max:?}");
    let tested = format!(
        "{} gaps of clients of the busiest of three nodes",
        spread.count()
    );
    let [p50, p99] = [50, 99].map(|percent| spread.percentile(percent).as_secs_f64());
    let name = |which: &str| format!("{what}: gap in a client's answers, {which}");
    for figure in [
        Row::figure(row, &name("p50"), p50, "s", HALF_GAP_TARGET.as_secs_f64()),
        Row::promise(row, &name("p99"), p99, "s", p99_max.as_secs_f64()),
    ] {
        figure.tested(&tested).append();
    }
    assert!(spread.percentile(99) <= p99_max, "{what}: {spread}");
}

#[test]
fn the_busiest_node_is_killed_again_and_again() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, 256);
    let mut gaps = Vec::new();
    for number in 1..=if is_long() { 20 } else { 4 } {
        let round = Round::begin(&cluster, &format!("kill{number}"));
        let name = cluster.name(round.victim).to_owned();
        cluster.kill(round.victim);
        gaps.extend(round.gaps(&format!("kill -9 of {name}, round {number}")));
        cluster.start(round.victim);
        let healthy = cluster.wait_healthy();
        println!(
            "kill -9 of {name}, round {number}: healthy {:.1} s after its restart",
            healthy.as_secs_f64()
        );
        end_clean("kill -9", round.load, &cluster.http());
    }
    check_gaps(10, "kill -9", gaps, KILL_GAP_MAX);
}

#[test]
fn the_busiest_node_is_frozen_again_and_again() {
    let _turn = turn();
    let (rounds, frozen_for) = if is_long() {
        (10, Duration::from_secs(10))
    } else {
        (2, Duration::from_secs(5))
    };
    let mut cluster = Cluster::form(3, 256);
    let (mut gaps, mut gaps_after) = (Vec::new(), Vec::new());
    for number in 1..=rounds {
        let round = Round::begin(&cluster, &format!("freeze{number}"));
        let victim = round.victim;
        let what = format!("SIGSTOP of {}, round {number}", cluster.name(victim));
        // Written through the node that freezes: its callers wait, and nothing they were told may
        // be lost.
        let through_it = Load::start(&cluster.http()[victim..=victim]);
        through_it.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        round.load.mark();
        cluster.signal(victim, Signal::STOP);
        let frozen = Instant::now();
        gaps.extend(round.gaps(&what));
        until("the freeze is over", frozen_for * 2, || {
            (frozen.elapsed() >= frozen_for).then_some(())
        });
        round.load.mark();
        let reads = read_while_it_wakes(&round, &mut cluster);
        println!("{what}: {reads} reads through the woken node, none stale");
        gaps_after.extend(round.gaps(&format!("{what}, woken")));
        through_it.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        cluster.wait_healthy();
        end_clean("through the frozen node", through_it, &cluster.http());
        end_clean("SIGSTOP", round.load, &cluster.http());
    }
    check_gaps(11, "SIGSTOP", gaps, FREEZE_GAP_MAX);
    check_gaps(11, "SIGCONT", gaps_after, FREEZE_GAP_MAX);
}

/// Reads affected actors through the frozen node, from before it wakes until all was read a few
/// times more, and compares every answer with what had been acknowledged before its read was sent.
/// Wakes the node.
fn read_while_it_wakes(round: &Round, cluster: &mut Cluster) -> u64 {
    let address = cluster.http()[round.victim].clone();
    let watched: Vec<&String> = round.affected.iter().take(WATCHED).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = watched
            .into_iter()
            .map(|actor| scope.spawn(|| read_again_and_again(round, &address, actor, &over)))
            .collect();
        // Meanwhile the load goes on, so that the first reads have certainly been sent.
        round.load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        cluster.signal(round.victim, Signal::CONT);
        round
            .load
            .wait_acknowledged(3 * CALLS_AROUND, SERVED_TIME_MAX);
        over.store(true, Ordering::Relaxed);
        let ended = readers
            .into_iter()
            .map(|reader| reader.join().expect("readers do not panic"));
        let (reads, wrong): (Vec<_>, Vec<_>) = ended.partition(Result::is_ok);
        assert!(wrong.is_empty(), "{wrong:?}");
        reads.into_iter().flatten().sum()
    })
}

/// How many reads were answered.
fn read_again_and_again(
    round: &Round,
    address: &str,
    actor: &str,
    over: &AtomicBool,
) -> Result<u64, String> {
    let mut connection = Connection::to(address);
    let mut answered = 0;
    let read = Ask {
        method: "GET",
        path: format!("/v1.0/actors/log/{actor}/method/read"),
        headers: Vec::new(),
        body: String::new(),
        // One attempt that outlives the freeze, so that the answer belongs to this very request.
        time_max: SERVED_TIME_MAX,
    };
    while !over.load(Ordering::Relaxed) {
        let known = round.load.diary(actor);
        let reply = connection
            .send(&read)
            .map_err(|error| format!("log/{actor}: after {answered} answers: {error}"))?;
        match reply.status {
            200 => {
                let stored: Vec<String> =
                    serde_json::from_str(&reply.body).map_err(|error| error.to_string())?;
                known
                    .check_known(&stored)
                    .map_err(|why| format!("stale: log/{actor}: {why}"))?;
                answered += 1;
            }
            // Refused for now: that is not stale.
            503 | 429 => {}
            status => return Err(format!("log/{actor}: {status} {}", reply.body)),
        }
        std::thread::sleep(READ_PERIOD);
    }
    if answered == 0 {
        return Err(format!("log/{actor}: the woken node never answered a read"));
    }
    Ok(answered)
}
