//! Clocks that jump an hour either way, on real nodes under load: nothing is lost, no call fails,
//! and a failover is as fast as ever.
//!
//! Where `libfaketime` is not installed this is shown by the simulator alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ghostlight_chaos::bank::Bank;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::load::Load;
use ghostlight_chaos::scenario::{
    FEW_PARTITIONS, SERVED_TIME_MAX, WAIT_MAX, check_waits, end_clean, turn,
};
use ghostlight_chaos::wait::until;
use ghostlight_report::Row;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// How far a log line may be from the moment when it is looked at.
const LOOK_MAX: i64 = 120;

/// How many seconds a node's clock is off, as the last line of its log that has a time tells it.
fn offset(cluster: &Cluster, node: usize) -> Option<i64> {
    let said = cluster.said(node);
    let time_of_day = said.lines().rev().find_map(|line| {
        let (_, time) = line.split_whitespace().next()?.split_once('T')?;
        let mut parts = time.split([':', '.']).map(|part| part.parse::<i64>().ok());
        Some((parts.next()?? * 60 + parts.next()??) * 60 + parts.next()??)
    })?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let now = i64::try_from(now.as_secs()).ok()? % DAY;
    // The nearest way around midnight.
    Some((time_of_day - now + DAY + DAY / 2) % DAY - DAY / 2)
}

#[test]
fn clocks_jump_an_hour_either_way() {
    let _turn = turn();
    let Some((mut cluster, clocks)) = Cluster::plan_with_clocks(FEW_PARTITIONS) else {
        println!("libfaketime is not installed: jumping clocks are shown by the simulator alone");
        return;
    };
    cluster.found();
    cluster.join();
    cluster.join();
    cluster.wait_healthy();
    let load = Load::start(&cluster.http());
    let bank = Bank::open(&cluster.http());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    load.mark();
    for (node, seconds) in [(0, HOUR), (1, -HOUR), (2, HOUR), (2, 0)] {
        clocks.jump(cluster.name(node), seconds);
        load.wait_acknowledged(30, SERVED_TIME_MAX);
        check_waits(
            &format!("{} jumps to {seconds:+} s", cluster.name(node)),
            &load,
            WAIT_MAX,
        );
        load.mark();
    }
    // With two clocks that are an hour off, two hours apart, a node dies and comes back.
    let victim = cluster.busiest();
    cluster.kill(victim);
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    check_waits("kill -9 between wrong clocks", &load, WAIT_MAX);
    for (node, seconds) in [(0, HOUR), (1, -HOUR), (2, 0)] {
        if node == victim {
            continue;
        }
        // It has logged the death, by its own clock: the jumps were real.
        until("the death is logged", Duration::from_secs(20), || {
            let off = offset(&cluster, node)? - seconds;
            (off.abs() < LOOK_MAX).then_some(())
        });
    }
    cluster.start(victim);
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    load.mark();
    for node in 0..3 {
        clocks.jump(cluster.name(node), 0);
    }
    load.wait_acknowledged(30, SERVED_TIME_MAX);
    check_waits("all clocks are right again", &load, WAIT_MAX);
    // As long as a clock was off, it was called so.
    cluster.wait_healthy();
    bank.close("clock jumps", &cluster);
    end_clean("clock jumps", load, &cluster.http());
    Row::promise(
        18,
        "promises broken while clocks were wrong",
        0.0,
        "promises",
        0.0,
    )
    .tested("jumps of an hour either way on each of three nodes, a kill between two wrong clocks")
    .append();
}
