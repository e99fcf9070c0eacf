//! Planned moves cost no call: drain and undo, rolling restart, join, leave. 256 partitions, a load
//! of appends and a bank; at the end every log and every balance is compared with what was
//! acknowledged.
//!
//! A client repeats what was refused or unanswered with the same request id, as the API says; a
//! call that fails in spite of that fails the test.

use std::time::{Duration, Instant};

use ghostlight_chaos::bank::Bank;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::load::Load;
use ghostlight_chaos::process;
use ghostlight_chaos::scenario::{SERVED_TIME_MAX, WAIT_MAX, check_waits, end_clean, turn};
use ghostlight_chaos::wait::until;
use rustix::process::Signal;

/// Calls of every client around each event.
const CALLS_AROUND: u64 = 20;
/// Longest time of a drain before a node ends.
const ENDED_TIME_MAX: Duration = Duration::from_secs(40);
/// Longest time for copies of all partitions to move.
const MOVED_TIME_MAX: Duration = Duration::from_secs(180);

/// Copies on a fourth node: about three quarters of 256, less what the ring's chance takes.
const SHARE_MIN: u64 = 150;

/// Everything that runs while something moves.
struct Callers {
    load: Load,
    bank: Bank,
}

impl Callers {
    fn start(cluster: &Cluster) -> Self {
        let addresses = cluster.http();
        let callers = Self {
            load: Load::start(&addresses),
            bank: Bank::open(&addresses),
        };
        callers
            .load
            .wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        callers.load.mark();
        callers
    }

    /// Every client is served, and none has waited too long since the last look.
    #[track_caller]
    fn check(&self, what: &str) {
        self.load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        check_waits(what, &self.load, WAIT_MAX);
        self.load.mark();
    }

    /// Compares everything with what was acknowledged.
    #[track_caller]
    fn end(self, what: &str, cluster: &Cluster) {
        self.bank.close(what, cluster);
        let http = cluster.http();
        let running = cluster.running().into_iter();
        let addresses: Vec<String> = running.map(|node| http[node].clone()).collect();
        end_clean(what, self.load, &addresses);
    }
}

fn command(args: &[&str]) {
    let output = process::run(args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        process::stderr(&output)
    );
}

/// Whether a node does this duty, and the number of partitions it leads is as wanted.
fn does(cluster: &Cluster, node: usize, duty: &str, leads: fn(u64) -> bool) -> Option<()> {
    let row = cluster.row(node, node)?;
    let leaders = row["leaders"].as_u64()?;
    (row["duty"] == duty && leads(leaders)).then_some(())
}

#[test]
fn a_drain_and_its_end() {
    let _turn = turn();
    let cluster = Cluster::form(3, 256);
    let callers = Callers::start(&cluster);
    let victim = cluster.busiest();
    let name = cluster.name(victim).to_owned();
    let asked = cluster.admin_url((victim + 1) % 3);
    let began = Instant::now();
    command(&["drain", &name, "--node", &asked]);
    until("it leads nothing", SERVED_TIME_MAX, || {
        does(&cluster, victim, "draining", |leaders| leaders == 0)
    });
    println!(
        "drain of {name}: it leads nothing after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    callers.check("drain");
    command(&["drain", &name, "--undo", "--node", &asked]);
    until("it serves", SERVED_TIME_MAX, || {
        does(&cluster, victim, "serving", |_| true)
    });
    callers.check("drain --undo");
    callers.end("drain and undo", &cluster);
}

#[test]
fn a_rolling_restart() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, 256);
    let callers = Callers::start(&cluster);
    for node in 0..3 {
        let began = Instant::now();
        let mut process = cluster.take(node);
        process.signal(Signal::TERM);
        let status = process.wait(ENDED_TIME_MAX);
        let ended = began.elapsed();
        let name = cluster.name(node).to_owned();
        assert!(status.success(), "{name}: {status}\n{}", process.said());
        cluster.start(node);
        cluster.wait_healthy();
        println!(
            "restart of {name}: ended after {:.1} s, all healthy after {:.1} s",
            ended.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
    }
    callers.check("rolling restart");
    callers.end("rolling restart", &cluster);
}

#[test]
fn a_fourth_node_joins_and_another_leaves() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, 256);
    let callers = Callers::start(&cluster);
    let began = Instant::now();
    let fourth = cluster.join();
    let copies = until("the fourth node gets its share", MOVED_TIME_MAX, || {
        let status = cluster.admin(fourth, "status")?;
        let copies = cluster.row(fourth, fourth)?["replicas"].as_u64()?;
        (copies >= SHARE_MIN && status["moves"] == 0).then_some(copies)
    });
    println!(
        "join: {copies} copies on the fourth node after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    callers.check("join");

    let leaver = 1;
    let began = Instant::now();
    // Ordered through another node, by its name: its own admin API may be reachable from its
    // machine alone.
    let other = cluster.admin_url(0);
    command(&["leave", cluster.name(leaver), "--node", &other]);
    let mut process = cluster.take(leaver);
    let status = process.wait(MOVED_TIME_MAX);
    println!(
        "leave: it ended after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(status.success(), "{status}\n{}", process.said());
    callers.check("leave");
    cluster.wait_healthy();
    callers.end("join and leave", &cluster);
}
