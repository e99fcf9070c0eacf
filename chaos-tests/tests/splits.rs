//! Networks between real processes that are cut, one-way, flapping, lossy and slow: who serves, who
//! must not, that nobody is taken for dead because datagrams were lost, and that nothing
//! acknowledged is lost.

use std::time::{Duration, Instant};

use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::http::{Ask, Connection};
use ghostlight_chaos::load::Load;
use ghostlight_chaos::network::Fault;
use ghostlight_chaos::scenario::{SERVED_TIME_MAX, end_clean, is_long, turn, without};
use ghostlight_chaos::spread::Spread;
use ghostlight_chaos::wait::until;
use ghostlight_report::Row;

/// A gap of a client on the majority's side.
const MAJORITY_GAP_MAX: Duration = Duration::from_secs(2);
/// How long a split lasts.
const SPLIT_TIME: Duration = Duration::from_secs(6);
/// Calls to a node on the minority's side, all refused.
const MINORITY_CALLS: u64 = 12;
const PARTITIONS: u32 = 32;
const CALLS_AROUND: u64 = 10;

/// Printed with every scenario, so that its dice can fall again: `GHOSTLIGHT_SEED`.
fn seed() -> u64 {
    let seed = std::env::var("GHOSTLIGHT_SEED").ok();
    seed.and_then(|seed| seed.parse().ok()).unwrap_or(7)
}

fn form(what: &str, nodes: usize) -> Cluster {
    println!("{what}: GHOSTLIGHT_SEED={}", seed());
    let mut cluster = Cluster::plan_with_network(PARTITIONS, seed());
    cluster.form_planned(nodes);
    cluster
}

/// Lets time pass until so long after `since`; what is tested is what happens meanwhile.
fn until_after(since: Instant, time: Duration) {
    until("the fault has lasted", time * 2, || {
        (since.elapsed() >= time).then_some(())
    });
}

/// What a caller knows after one attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    Acknowledged,
    /// It certainly did not run.
    Refused,
    /// It may run later: a frame may still be on its way.
    Nothing,
}

fn call(cluster: &Cluster, node: usize, actor: &str, method: &str, body: &str) -> Heard {
    let ask = Ask {
        method: "POST",
        path: format!("/v1.0/actors/log/{actor}/method/{method}"),
        headers: vec![("Ghostlight-Deadline-Ms", "400".to_owned())],
        body: body.to_owned(),
        time_max: Duration::from_secs(2),
    };
    match Connection::to(&cluster.http()[node]).send(&ask) {
        Ok(reply) if reply.status == 200 => Heard::Acknowledged,
        Ok(reply) if matches!(reply.status, 429 | 503) => Heard::Refused,
        Ok(_) | Err(_) => Heard::Nothing,
    }
}

/// Calls of every kind to a node that has no majority: none may be acknowledged. The actors whose
/// appends certainly did not run.
#[track_caller]
fn check_silent(cluster: &Cluster, node: usize, moment: &str) -> Vec<String> {
    let mut refused = Vec::new();
    for number in 0..MINORITY_CALLS {
        let actor = format!("minority-{moment}-{number}");
        for (method, body) in [("append", "\"x\""), ("read", "")] {
            let heard = call(cluster, node, &actor, method, body);
            assert_ne!(
                heard,
                Heard::Acknowledged,
                "{} acknowledged {method} of log/{actor} without a majority",
                cluster.name(node)
            );
            if method == "append" && heard == Heard::Refused {
                refused.push(actor.clone());
            }
        }
    }
    refused
}

#[track_caller]
fn check_gaps(what: &str, load: &Load, time_max: Duration) {
    let gaps = Spread::of(load.longest_gaps(|_| true));
    println!("{what}: longest gap of each client: {gaps}");
    let longest = gaps.percentile(100).as_secs_f64();
    Row::promise(
        12,
        "longest gap of a client of the majority",
        longest,
        "s",
        time_max.as_secs_f64(),
    )
    .tested(&format!(
        "{} clients, the busiest of three nodes cut off",
        gaps.count()
    ))
    .append();
    assert!(gaps.percentile(100) <= time_max, "{what}: {gaps}");
}

/// Whether a node takes another one for dead. A suspicion that is refuted in time is none.
fn is_anyone_down(cluster: &Cluster) -> bool {
    let running = cluster.running();
    let mut pairs = running
        .iter()
        .flat_map(|asked| running.iter().map(move |node| (*asked, *node)));
    pairs.any(|(asked, node)| {
        let row = cluster.row(asked, node);
        row.is_none_or(|row| row["state"] == "down")
    })
}

#[test]
fn n01_the_busiest_node_alone_acknowledges_nothing_and_the_others_go_on() {
    let _turn = turn();
    let cluster = form("split", 3);
    let alone = cluster.busiest();
    let load = Load::start(&without(&cluster, alone));
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    load.mark();
    cluster.network().cut_off(&[alone]);
    let cut = Instant::now();
    // A leadership that was confirmed just before may still answer what it had begun.
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    check_gaps("split", &load, MAJORITY_GAP_MAX);
    let mut refused = check_silent(&cluster, alone, "early");
    until_after(cut, SPLIT_TIME);
    refused.extend(check_silent(&cluster, alone, "late"));
    cluster.network().heal();
    let healthy = cluster.wait_healthy();
    println!(
        "split: {} calls to the minority, none acknowledged, {} appends refused; healthy {:.1} s after it healed",
        4 * MINORITY_CALLS,
        refused.len(),
        healthy.as_secs_f64()
    );
    Row::promise(12, "calls acknowledged by the minority", 0.0, "calls", 0.0)
        .tested(&format!(
            "{} calls to a node without a majority",
            4 * MINORITY_CALLS
        ))
        .append();
    let mut client = Client::new(&cluster.http(), 0);
    for actor in refused {
        let lines = client.read_log(&actor);
        assert_eq!(
            lines,
            Ok(Vec::new()),
            "log/{actor}: what was refused did not run"
        );
    }
    end_clean("split", load, &cluster.http());
}

#[test]
fn n02_one_way_and_bridged_links() {
    let _turn = turn();
    let cluster = form("one way", 3);
    for what in ["hears nothing", "is not heard", "bridge"] {
        let node = cluster.busiest();
        let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
        let network = cluster.network();
        // All addresses: a client goes to the next node by itself.
        let load = Load::start(&cluster.http());
        load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        load.mark();
        match what {
            "hears nothing" => others
                .iter()
                .for_each(|o| network.set(*o, node, Fault::CUT)),
            "is not heard" => others
                .iter()
                .for_each(|o| network.set(node, *o, Fault::CUT)),
            // The busiest node and one other see each other only by the third.
            _ => {
                network.set(node, others[0], Fault::CUT);
                network.set(others[0], node, Fault::CUT);
            }
        }
        let cut = Instant::now();
        until_after(cut, SPLIT_TIME);
        load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        let gaps = Spread::of(load.longest_gaps(|_| true));
        println!("{what}: longest gap of each client, over all nodes: {gaps}");
        network.heal();
        cluster.wait_healthy();
        load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
        end_clean(what, load, &cluster.http());
    }
}

#[test]
fn n03_loss_delay_and_doubles_take_nobody_for_dead() {
    let _turn = turn();
    let cluster = form("loss", 3);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    let fault = Fault {
        lost: 50,
        doubled: 20,
        late: Duration::from_millis(20),
    };
    cluster.network().set_all(fault);
    load.mark();
    let began = Instant::now();
    let lasts = Duration::from_secs(if is_long() { 120 } else { 15 });
    let mut looks = 0_u32;
    until("the fault has lasted", lasts * 2, || {
        assert!(!is_anyone_down(&cluster), "a node was taken for dead");
        looks += 1;
        (began.elapsed() >= lasts).then_some(())
    });
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    let gaps = Spread::of(load.longest_gaps(|_| true));
    let counts = cluster.network().counts();
    println!(
        "loss: {counts:?}; {looks} looks, nobody taken for dead; longest gap of each client: {gaps}"
    );
    assert!(counts.lost > 100 && counts.doubled > 20, "{counts:?}");
    Row::promise(
        17,
        "live nodes taken for dead at 5 % loss",
        0.0,
        "nodes",
        0.0,
    )
    .tested(&format!(
        "three nodes, {} s, {looks} looks, {} datagrams lost",
        lasts.as_secs(),
        counts.lost
    ))
    .append();
    cluster.network().heal();
    cluster.wait_healthy();
    end_clean("loss", load, &cluster.http());
}

#[test]
fn n04_a_flapping_link_loses_nothing() {
    let _turn = turn();
    let cluster = form("flap", 3);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    for round in 0..if is_long() { 20 } else { 4 } {
        let node = cluster.busiest();
        cluster.network().cut_off(&[node]);
        // Longer and shorter than an election takes.
        until_after(
            Instant::now(),
            Duration::from_millis(300 + 350 * (round % 4)),
        );
        cluster.network().heal();
        load.wait_acknowledged(2, SERVED_TIME_MAX);
    }
    let healthy = cluster.wait_healthy();
    println!(
        "flap: healthy {:.1} s after the last one",
        healthy.as_secs_f64()
    );
    load.wait_acknowledged(CALLS_AROUND, SERVED_TIME_MAX);
    end_clean("flap", load, &cluster.http());
}
