//! Actors that many clients change at once, through all nodes, while nodes die, stand still and
//! lose their power together: is there an order of everything that was asked which explains
//! everything that was told?

use std::time::{Duration, Instant};

use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::scenario::{FEW_PARTITIONS, SERVED_TIME_MAX, is_long, turn};
use ghostlight_chaos::shared::Shared;
use ghostlight_report::Row;
use rustix::process::Signal;

/// Calls that are answered before, during and after each fault: one that nobody calls through tests
/// nothing.
const ANSWERED: u64 = 300;
/// How long a node stands still: longer than its leaderships last.
const FREEZE: Duration = Duration::from_secs(3);

#[test]
fn what_clients_of_shared_actors_hear_has_an_order() {
    let _turn = turn();
    let rounds = if is_long() { 10 } else { 1 };
    let (mut operations, mut unknown) = (0, 0);
    let began = Instant::now();
    let mut cluster = Cluster::form(3, FEW_PARTITIONS);
    for round in 1..=rounds {
        let shared = Shared::start(&format!("round{round}"), &cluster.http(), round);
        shared.wait_answered(ANSWERED, SERVED_TIME_MAX);

        let killed = cluster.busiest();
        cluster.kill(killed);
        shared.wait_answered(ANSWERED, SERVED_TIME_MAX);
        cluster.start(killed);
        cluster.wait_healthy();
        shared.wait_answered(ANSWERED, SERVED_TIME_MAX);

        let frozen = cluster.busiest();
        cluster.signal(frozen, Signal::STOP);
        let until = Instant::now() + FREEZE;
        shared.wait_answered(ANSWERED, SERVED_TIME_MAX);
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        cluster.signal(frozen, Signal::CONT);
        // Through the node that has just woken up, too.
        shared.wait_answered(ANSWERED, SERVED_TIME_MAX);

        for node in 0..3 {
            cluster.kill(node);
        }
        for node in 0..3 {
            cluster.start(node);
        }
        shared.wait_answered(ANSWERED, SERVED_TIME_MAX);
        cluster.wait_healthy();
        let judged = shared.judge(&cluster.http());
        operations += judged.operations;
        unknown += judged.unknown;
    }
    println!(
        "{operations} operations, {unknown} of them with an unknown end, in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    Row::promise(8, "shared actors: histories that no order explains", 0.0, "", 0.0)
        .tested(&format!(
            "{operations} operations of 8 clients on 12 objects in each of {rounds} rounds, {unknown} with an unknown end; \
             a node killed, one frozen, all killed"
        ))
        .append();
}
