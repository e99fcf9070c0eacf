//! Disks with little room, without any, and that cannot be written, on real processes and a real
//! file system.
//!
//! Printed as *skipped* where this process may not mount.

use std::time::Duration;

use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::http::{Ask, Connection, Reply};
use ghostlight_chaos::load::Load;
use ghostlight_chaos::scenario::{FEW_PARTITIONS, SERVED_TIME_MAX, end_clean, turn, without};
use ghostlight_chaos::small_disk::{Mounted, SmallDisk};
use ghostlight_chaos::wait::until;
use rustix::process::Signal;

/// Appends that use up what a node has set aside, and the most of them.
const LARGE_LINE_BYTES: usize = 1 << 20;
const LARGE_LINES_MAX: u32 = 300;
/// Longest time until a node has seen that its room has changed, and others have heard.
const SEEN_TIME_MAX: Duration = Duration::from_secs(20);

fn skipped(what: &str) {
    println!("skipped: {what}: this process may not mount a file system");
}

/// The disk that the first node of a cluster will have its data on.
fn small_disk(cluster: &Cluster) -> Option<SmallDisk> {
    SmallDisk::mount(&cluster.path("n1"))
}

fn call(cluster: &Cluster, node: usize, method: &str, body: &str) -> Reply {
    let ask = Ask {
        method: "POST",
        path: format!("/v1.0/actors/counter/alice/method/{method}"),
        headers: vec![("Ghostlight-Deadline-Ms", "3000".to_owned())],
        body: body.to_owned(),
        time_max: Duration::from_secs(10),
    };
    Connection::to(&cluster.http()[node])
        .send(&ask)
        .expect("a node that runs answers")
}

fn reasons(cluster: &Cluster, node: usize) -> String {
    let status = cluster.admin(node, "status");
    status.map_or_else(String::new, |status| status["reasons"].to_string())
}

fn leaders(cluster: &Cluster, node: usize) -> Option<u64> {
    cluster.row(node, node)?["leaders"].as_u64()
}

#[test]
fn r01_a_node_whose_disk_fills_up_leads_nothing_and_comes_back_by_itself() {
    let _turn = turn();
    let mut cluster = Cluster::plan(FEW_PARTITIONS);
    let Some(disk) = small_disk(&cluster) else {
        return skipped("a disk that fills up");
    };
    cluster.found();
    cluster.join();
    cluster.join();
    cluster.wait_healthy();
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    disk.fill(40);
    until("n1 leads nothing", SEEN_TIME_MAX, || {
        (leaders(&cluster, 0)? == 0).then_some(())
    });
    for node in 0..3 {
        until("every node knows why", SEEN_TIME_MAX, || {
            reasons(&cluster, node).contains("[E0321]").then_some(())
        });
    }
    println!(
        "{} thousandths free: {}",
        disk.free_per_mille(),
        reasons(&cluster, 1)
    );
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    disk.clear();
    cluster.wait_healthy();
    until("n1 leads again", SERVED_TIME_MAX * 3, || {
        (leaders(&cluster, 0)? > 0).then_some(())
    });
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    end_clean("a disk that fills up", load, &cluster.http());
}

#[test]
fn r02_a_lone_node_without_room_refuses_writes_and_serves_reads() {
    let _turn = turn();
    let mut cluster = Cluster::plan(FEW_PARTITIONS);
    let Some(disk) = small_disk(&cluster) else {
        return skipped("a lone node without room");
    };
    cluster.found();
    cluster.wait_healthy();
    assert_eq!(call(&cluster, 0, "add", "5").body, "5");
    // All but full, and really full.
    for free in [12, 0] {
        disk.fill(free);
        until("n1 refuses writes", SEEN_TIME_MAX, || {
            reasons(&cluster, 0)
                .contains("refuses writes")
                .then_some(())
        });
        let refused = call(&cluster, 0, "add", "1");
        println!(
            "{} thousandths free: {} {}",
            disk.free_per_mille(),
            refused.status,
            refused.body
        );
        assert_eq!(refused.status, 503, "{refused:?}");
        assert_eq!(refused.header("ghostlight-error"), Some("E0321"));
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        assert_eq!(call(&cluster, 0, "get", "").body, "5", "reads are served");
        disk.clear();
        until("n1 takes writes", SEEN_TIME_MAX, || {
            (call(&cluster, 0, "add", "0").status == 200).then_some(())
        });
        assert_eq!(
            call(&cluster, 0, "get", "").body,
            "5",
            "what was refused did not run"
        );
    }
}

#[test]
fn r03_a_node_whose_disk_is_full_ends_with_a_word_and_the_others_go_on() {
    let _turn = turn();
    let mut cluster = Cluster::plan(FEW_PARTITIONS);
    let Some(disk) = small_disk(&cluster) else {
        return skipped("a full disk");
    };
    cluster.found();
    cluster.join();
    cluster.join();
    cluster.wait_healthy();
    let load = Load::start(&without(&cluster, 0));
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    // What other leaders replicate to it cannot be refused: so it must end.
    disk.fill(0);
    let mut node = cluster.take(0);
    // RocksDB has room for its log set aside: much must be written before it is used up.
    let mut writer = Client::new(&without(&cluster, 0), 0);
    let line = format!("\"{}\"", "x".repeat(LARGE_LINE_BYTES));
    let written = (0..LARGE_LINES_MAX).find(|number| {
        let large = format!("log/large-{number}/method/append");
        let answer = writer.good(&large, &format!("large-{number}"), &line);
        assert_eq!(answer, Ok("1".to_owned()), "the others go on");
        node.ended().is_some()
    });
    println!("full: ended after {written:?} appends of {LARGE_LINE_BYTES} bytes");
    let status = node.wait(SERVED_TIME_MAX);
    let said = node.said();
    println!("full: {}", said.lines().last().unwrap_or_default());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("[E0303]"), "{said}");
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    disk.clear();
    cluster.start(0);
    cluster.wait_healthy();
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    end_clean("a full disk", load, &cluster.http());
}

#[test]
fn r04_a_disk_that_cannot_be_written_refuses_a_start_and_keeps_what_it_has() {
    let _turn = turn();
    let mut cluster = Cluster::plan(FEW_PARTITIONS);
    let Some(disk) = small_disk(&cluster) else {
        return skipped("a read-only disk");
    };
    cluster.found();
    cluster.wait_healthy();
    assert_eq!(call(&cluster, 0, "add", "5").body, "5");
    cluster.signal(0, Signal::TERM);
    cluster.take(0).wait(SERVED_TIME_MAX);
    assert!(disk.remount(Mounted::ReadOnly));
    cluster.start(0);
    let mut node = cluster.take(0);
    let status = node.wait(SERVED_TIME_MAX);
    let said = node.said();
    println!("read-only: {}", said.lines().last().unwrap_or_default());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("[E0302]"), "{said}");
    drop(node);
    assert!(disk.remount(Mounted::Writable));
    cluster.start(0);
    cluster.wait_healthy();
    assert_eq!(call(&cluster, 0, "get", "").body, "5");
}
