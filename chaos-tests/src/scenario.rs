//! What every scenario begins and ends with: its turn on the machine, the waits of its callers, and
//! the comparison of what the actors hold with what was acknowledged.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ghostlight_report::Row;

use crate::cluster::Cluster;
use crate::load::Load;

/// What is promised for a failover, on an idle machine.
pub const FAILOVER_TARGET: Duration = Duration::from_secs(1);
/// What scenarios that do not measure failovers accept: test machines are shared and noisy.
pub const WAIT_MAX: Duration = Duration::from_secs(3);
/// Longest time for calls to go on after whatever happened: an outage is measured, not waited out.
pub const SERVED_TIME_MAX: Duration = Duration::from_secs(20);
/// Partitions of scenarios that are not about many of them.
pub const FEW_PARTITIONS: u32 = 32;

/// One scenario at a time: they measure, and a cluster keeps a small machine busy.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A scenario that failed does not keep the others from running.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the long versions were asked for (`make chaos`).
#[must_use]
pub fn is_long() -> bool {
    std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|value| value == "long")
}

/// Every address of the actor API but one node's.
#[must_use]
pub fn without(cluster: &Cluster, node: usize) -> Vec<String> {
    let mut addresses = cluster.http();
    addresses.remove(node);
    addresses
}

/// Prints each client's longest wait, and compares the worst one with a bound.
///
/// # Panics
/// When it is over the bound.
#[track_caller]
pub fn check_waits(what: &str, load: &Load, time_max: Duration) {
    let waits = load.longest_waits();
    let longest = waits.iter().copied().max().unwrap_or_default();
    let verdict = if longest <= FAILOVER_TARGET {
        "within"
    } else {
        "over"
    };
    println!(
        "{what}: longest wait of each client: {} s ({verdict} the target of {FAILOVER_TARGET:?})",
        seconds(&waits)
    );
    assert!(longest <= time_max, "{what}: over {time_max:?}");
}

fn seconds(times: &[Duration]) -> String {
    let times = times
        .iter()
        .map(|time| format!("{:.2}", time.as_secs_f64()));
    times.collect::<Vec<_>>().join(" ")
}

/// Ends a load of which no call may have failed, and checks its actors.
///
/// # Panics
/// When a call failed, or an acknowledged line is lost, doubled or out of order.
#[track_caller]
pub fn end_clean(what: &str, load: Load, addresses: &[String]) {
    let ended = load.stop();
    println!(
        "{what}: {} calls acknowledged, {} attempts repeated, {} calls failed",
        ended.acknowledged,
        ended.repeated,
        ended.failures.len()
    );
    ended.check(addresses);
    let failed = ended.failures.len() as f64;
    Row::promise(
        8,
        &format!("{what}: calls failed or lost"),
        failed,
        "calls",
        0.0,
    )
    .tested(&format!(
        "{} calls acknowledged, every actor read at the end",
        ended.acknowledged
    ))
    .append();
    ended.assert_none_failed();
}
