//! Ten scenarios on real processes. Each has a cluster of its own, prints what it measured, and compares what
//! the actors hold with what was acknowledged.
//!
//! They run one at a time: they measure, and a cluster keeps a small machine busy. `GHOSTLIGHT_CHAOS=long`
//! kills more often.

use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::{Cluster, write_key};
use ghostlight_chaos::load::Load;
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::process::{self, Process};
use ghostlight_chaos::wait::until;
use rustix::process::Signal;
use serde_json::Value;

/// What is promised for a failover, on an idle machine.
const FAILOVER_TARGET: Duration = Duration::from_secs(1);
/// What is accepted here: test machines are shared and noisy.
const FAILOVER_MAX: Duration = Duration::from_secs(3);
/// Longest time for calls to go on after whatever happened: an outage is measured, not waited out.
const SERVED_TIME_MAX: Duration = Duration::from_secs(20);
/// Partitions of scenarios that are not about many of them.
const FEW_PARTITIONS: u32 = 32;

/// One scenario at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A scenario that failed does not keep the others from running.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_long() -> bool {
    std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|value| value == "long")
}

/// Every address but one node's.
fn without(cluster: &Cluster, node: usize) -> Vec<String> {
    let mut addresses = cluster.http();
    addresses.remove(node);
    addresses
}

fn seconds(times: &[Duration]) -> String {
    let times = times
        .iter()
        .map(|time| format!("{:.2}", time.as_secs_f64()));
    times.collect::<Vec<_>>().join(" ")
}

fn longest(times: &[Duration]) -> Duration {
    times.iter().copied().max().unwrap_or_default()
}

/// Prints each client's longest wait, and compares the worst one with a bound.
#[track_caller]
fn check_waits(what: &str, load: &Load, time_max: Duration) {
    let waits = load.longest_waits();
    let verdict = if longest(&waits) <= FAILOVER_TARGET {
        "within"
    } else {
        "over"
    };
    println!(
        "{what}: longest wait of each client: {} s ({verdict} the target of {FAILOVER_TARGET:?})",
        seconds(&waits)
    );
    assert!(longest(&waits) <= time_max, "{what}: over {time_max:?}");
}

/// Ends a load of which no call may have failed, and checks its actors.
#[track_caller]
fn end_clean(what: &str, load: Load, addresses: &[String]) {
    let ended = load.stop();
    println!(
        "{what}: {} calls acknowledged, {} attempts repeated, {} calls failed",
        ended.acknowledged,
        ended.repeated,
        ended.failures.len()
    );
    ended.check(addresses);
    ended.assert_none_failed();
}

#[test]
fn s01_three_nodes_form_by_a_seed() {
    let _turn = turn();
    let began = Instant::now();
    let cluster = Cluster::form(3, 256);
    let took = began.elapsed();
    println!(
        "three nodes, 256 partitions: healthy after {:.1} s",
        took.as_secs_f64()
    );
    assert!(took <= Duration::from_secs(20), "{took:?}");
    for node in 0..3 {
        let partitions = cluster.admin(node, "partitions").expect("the node answers");
        let partitions = partitions.as_array().expect("a list");
        assert_eq!(partitions.len(), 256);
        for partition in partitions {
            let voters = partition["voters"].as_array().map(Vec::len);
            assert_eq!(voters, Some(3), "{partition}");
        }
    }
    for node in 0..3 {
        let mut client = Client::new(&cluster.http()[node..=node], 0);
        let line = format!("\"{node}\"");
        let length = client.good("log/all/method/append", &line, &line);
        assert_eq!(length, Ok((node + 1).to_string()));
        let stored: Vec<String> = (0..=node).map(|node| node.to_string()).collect();
        assert_eq!(client.read_log("all"), Ok(stored));
    }
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    end_clean("forming", load, &cluster.http());
}

#[test]
fn s02_the_busiest_node_is_killed() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, 256);
    for round in 1..=if is_long() { 20 } else { 3 } {
        let victim = cluster.busiest();
        let load = Load::start(&without(&cluster, victim));
        load.wait_acknowledged(20, SERVED_TIME_MAX);
        load.mark();
        cluster.kill(victim);
        // More calls than a client has actors: each actor that had to move has been asked.
        load.wait_acknowledged(20, SERVED_TIME_MAX);
        let what = format!("kill -9 of {}, round {round}", cluster.name(victim));
        check_waits(&what, &load, FAILOVER_MAX);
        cluster.start(victim);
        let healthy = cluster.wait_healthy();
        println!(
            "{what}: healthy again {:.1} s after its restart",
            healthy.as_secs_f64()
        );
        end_clean(&what, load, &cluster.http());
    }
}

#[test]
fn s03_a_frozen_leader_wakes_up() {
    let _turn = turn();
    const FROZEN: Duration = Duration::from_secs(5);
    let mut cluster = Cluster::form(3, FEW_PARTITIONS);
    let victim = cluster.busiest();
    let load = Load::start(&without(&cluster, victim));
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    load.mark();
    cluster.signal(victim, Signal::STOP);
    let frozen = Instant::now();
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    check_waits("SIGSTOP", &load, FAILOVER_MAX);
    until("the freeze is over", FROZEN * 2, || {
        (frozen.elapsed() >= FROZEN).then_some(())
    });
    // The reads are sent to the node while it is frozen: they are the first that it sees when it wakes.
    let known = load.diaries();
    let address = cluster.http()[victim..=victim].to_vec();
    let readers: Vec<_> = known
        .into_iter()
        .map(|(actor, diary)| {
            let mut client = Client::new(&address, 0);
            std::thread::spawn(move || {
                let stored = client.read_log(&actor)?;
                diary
                    .check_known(&stored)
                    .map_err(|why| format!("stale: log/{actor}: {why}"))
            })
        })
        .collect();
    // Meanwhile the load goes on, so that the reads have certainly been sent.
    load.wait_acknowledged(10, SERVED_TIME_MAX);
    cluster.signal(victim, Signal::CONT);
    let count = readers.len();
    for reader in readers {
        assert_eq!(reader.join().expect("readers do not panic"), Ok(()));
    }
    println!("SIGCONT: {count} reads through the woken node, none stale");
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    check_waits("SIGSTOP and SIGCONT", &load, FAILOVER_MAX);
    cluster.wait_healthy();
    end_clean("SIGSTOP", load, &cluster.http());
}

#[test]
fn s04_the_whole_cluster_is_killed() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, 256);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(40, SERVED_TIME_MAX);
    for node in 0..3 {
        cluster.kill(node);
    }
    let began = Instant::now();
    for node in 0..3 {
        cluster.start(node);
    }
    load.wait_acknowledged(5, SERVED_TIME_MAX);
    println!(
        "all killed: every client served {:.1} s after the restart",
        began.elapsed().as_secs_f64()
    );
    cluster.wait_healthy();
    println!(
        "all killed: healthy after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    end_clean("all killed", load, &cluster.http());
}

#[test]
fn s05_a_drain_costs_no_call() {
    let _turn = turn();
    let cluster = Cluster::form(3, 256);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    let victim = cluster.busiest();
    let name = cluster.name(victim).to_owned();
    let asked = cluster.admin_url((victim + 1) % 3);
    let is = |duty: &str, leads: fn(u64) -> bool| {
        let row = cluster.row(victim, victim)?;
        let leaders = row["leaders"].as_u64()?;
        (row["duty"] == duty && leads(leaders)).then_some(())
    };
    load.mark();
    let began = Instant::now();
    let output = process::run(&["drain", &name, "--node", &asked]);
    assert!(output.status.success(), "{}", process::stderr(&output));
    until("it leads nothing", SERVED_TIME_MAX, || {
        is("draining", |leaders| leaders == 0)
    });
    println!(
        "drain of {name}: it leads nothing after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    let output = process::run(&["drain", &name, "--undo", "--node", &asked]);
    assert!(output.status.success(), "{}", process::stderr(&output));
    until("it serves", SERVED_TIME_MAX, || is("serving", |_| true));
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    check_waits("drain and undo", &load, FAILOVER_MAX);
    end_clean("drain and undo", load, &cluster.http());
}

#[test]
fn s06_a_rolling_restart_costs_no_call() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, 256);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    load.mark();
    for node in 0..3 {
        let began = Instant::now();
        let mut process = cluster.take(node);
        process.signal(Signal::TERM);
        let status = process.wait(Duration::from_secs(40));
        let ended = began.elapsed();
        assert!(
            status.success(),
            "{}: {status}\n{}",
            cluster.name(node),
            process.said()
        );
        cluster.start(node);
        cluster.wait_healthy();
        println!(
            "restart of {}: ended after {:.1} s, all healthy after {:.1} s",
            cluster.name(node),
            ended.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
    }
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    check_waits("rolling restart", &load, FAILOVER_MAX);
    end_clean("rolling restart", load, &cluster.http());
}

#[test]
fn s07_a_node_joins_and_another_leaves() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, 16);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    load.mark();
    let began = Instant::now();
    let fourth = cluster.join();
    until(
        "the fourth node gets copies",
        Duration::from_secs(60),
        || {
            let row = cluster.row(fourth, fourth)?;
            row["replicas"].as_u64().filter(|replicas| *replicas > 0)
        },
    );
    println!(
        "join: the first copy after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    check_waits("join", &load, FAILOVER_MAX);

    load.mark();
    let began = Instant::now();
    let leaver = 1;
    let mut command = process::command();
    command.args(["leave", "--node", &cluster.admin_url(leaver)]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", process::stderr(&output));
    let mut process = cluster.take(leaver);
    let left = Duration::from_secs(90).saturating_sub(began.elapsed());
    let status = process.wait(left);
    println!(
        "leave: it ended after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(status.success(), "{status}\n{}", process.said());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    check_waits("leave", &load, FAILOVER_MAX);
    end_clean("join and leave", load, &without(&cluster, leaver));
}

#[test]
fn s08_a_repeated_request_gets_the_recorded_reply() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, FEW_PARTITIONS);
    let mut client = Client::new(&cluster.http(), 0);
    let append = "log/once/method/append";
    for (id, line, length) in [
        ("a", "\"x\"", "1"),
        ("b", "\"y\"", "2"),
        ("a", "\"x\"", "1"),
    ] {
        assert_eq!(client.good(append, id, line), Ok(length.to_owned()), "{id}");
    }
    let refused = |client: &mut Client, when: &str| {
        let reply = client.call(append, "a", "\"other\"").expect("an answer");
        assert_eq!(reply.status, 409, "{when}: {}", reply.body);
        assert_eq!(reply.header("ghostlight-error"), Some("E0109"), "{when}");
    };
    refused(&mut client, "before the kill");
    let victim = cluster.leader_of("log/once");
    cluster.kill(victim);
    let mut client = Client::new(&without(&cluster, victim), 0);
    assert_eq!(client.good(append, "a", "\"x\""), Ok("1".to_owned()));
    assert_eq!(client.good(append, "b", "\"y\""), Ok("2".to_owned()));
    refused(&mut client, "after the kill");
    assert_eq!(client.good(append, "c", "\"z\""), Ok("3".to_owned()));
    let stored = ["x", "y", "z"].map(str::to_owned).to_vec();
    assert_eq!(client.read_log("once"), Ok(stored));
    println!("repeated ids: recorded replies before and after a kill -9 of the leader");
}

#[test]
fn s09_wrong_starts_are_refused() {
    let _turn = turn();
    let cluster = Cluster::form(1, FEW_PARTITIONS);
    let with = |changes: &[(&str, String)]| {
        let mut args = cluster.start_args(0);
        for (flag, value) in changes {
            let place = args
                .iter()
                .position(|arg| arg == flag)
                .expect("a flag that is given");
            args[place + 1].clone_from(value);
        }
        args
    };
    let fresh = |flag: &'static str| (flag, free_address());
    let addresses = || {
        ["--listen", "--http", "--grpc", "--admin"]
            .map(fresh)
            .to_vec()
    };
    let data = |name: &str| ("--data-dir", cluster.path(name).display().to_string());

    let mut second = Process::start(&with(&addresses()), &cluster.path("second.log"));
    let status = second.wait(Duration::from_secs(10));
    assert!(
        !status.success() && second.said().contains("E0301"),
        "{status} {}",
        second.said()
    );

    let mut taken = addresses();
    taken.retain(|(flag, _)| *flag != "--http");
    taken.push(data("taken"));
    let mut third = Process::start(&with(&taken), &cluster.path("third.log"));
    let status = third.wait(Duration::from_secs(10));
    assert!(
        !status.success() && third.said().contains("E0401"),
        "{status} {}",
        third.said()
    );

    let output = process::run(&["start", "--dat-dir", "x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        process::stderr(&output).contains("'--data-dir'"),
        "{}",
        process::stderr(&output)
    );

    let key = process::run(&["keygen"]).stdout;
    write_key(&cluster.path("other.key"), &key);
    let mut stranger = addresses();
    stranger.push(data("stranger"));
    stranger.push((
        "--cluster-key-file",
        cluster.path("other.key").display().to_string(),
    ));
    stranger.push(("--name", "stranger".to_owned()));
    let mut args = with(&stranger);
    args.extend(["--join".to_owned(), cluster.peer(0).to_owned()]);
    let stranger = Process::start(&args, &cluster.path("stranger.log"));
    until("the stranger is told why", Duration::from_secs(20), || {
        stranger.said().contains("E0205").then_some(())
    });
    println!(
        "wrong key: {}",
        stranger.said().lines().last().unwrap_or_default()
    );
    let status = cluster.admin(0, "status").expect("the node answers");
    assert_eq!(
        status["members"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
}

const ACCOUNTS: u64 = 5;
const MONEY: u64 = 1_000;

/// Moves money to and fro until told to stop; returns how many transfers were acknowledged.
fn transfers(mut client: Client, number: u64, done: &Mutex<bool>) -> Result<u64, String> {
    let mut acknowledged = 0;
    for call in 0_u64.. {
        if *done.lock().expect("no holder panics") {
            break;
        }
        let (from, step) = (
            (number + call) % ACCOUNTS,
            1 + call / ACCOUNTS % (ACCOUNTS - 1),
        );
        let to = (from + step) % ACCOUNTS;
        let path = format!("account/a{from}/method/transfer");
        let body = format!("{{\"to\":\"a{to}\",\"amount\":{}}}", 1 + call % 300);
        let reply = client.call(&path, &format!("transfer-{number}-{call}"), &body)?;
        match reply.status {
            200 => acknowledged += 1,
            // There was not enough money: a good answer too.
            500 if reply.body.contains("Short") => {}
            _ => return Err(format!("{path} {body}: {} {}", reply.status, reply.body)),
        }
    }
    Ok(acknowledged)
}

#[test]
fn s10_money_is_conserved() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, FEW_PARTITIONS);
    let mut client = Client::new(&cluster.http(), 0);
    for account in 0..ACCOUNTS {
        let path = format!("account/a{account}/method/deposit");
        let reply = client.good(&path, &format!("deposit-{account}"), &MONEY.to_string());
        assert_eq!(reply, Ok(MONEY.to_string()));
    }
    let victim = cluster.leader_of("account/a0");
    let watch = Load::start(&without(&cluster, victim));
    let done = Mutex::new(false);
    let acknowledged: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|number| {
                let client = Client::new(&cluster.http(), number);
                let (number, done) = (number as u64, &done);
                scope.spawn(move || transfers(client, number, done))
            })
            .collect();
        watch.wait_acknowledged(20, SERVED_TIME_MAX);
        watch.mark();
        cluster.kill(victim);
        watch.wait_acknowledged(20, SERVED_TIME_MAX);
        cluster.start(victim);
        cluster.wait_healthy();
        watch.wait_acknowledged(20, SERVED_TIME_MAX);
        *done.lock().expect("no holder panics") = true;
        let counts = workers
            .into_iter()
            .map(|worker| worker.join().expect("workers do not panic"));
        counts.map(|count| count.expect("no transfer fails")).sum()
    });
    check_waits("transfers", &watch, FAILOVER_MAX);
    let addresses = cluster.http();
    end_clean("transfers", watch, &addresses);
    until("all messages have arrived", SERVED_TIME_MAX, || {
        let waiting = (0..3).map(|node| Some(waiting(&cluster.admin(node, "partitions")?)));
        let waiting: Option<Vec<u64>> = waiting.collect();
        (waiting?.iter().sum::<u64>() == 0).then_some(())
    });
    let balances = (0..ACCOUNTS).map(|account| {
        let reply = client.good(
            &format!("account/a{account}/method/balance"),
            &format!("b{account}"),
            "",
        );
        reply.expect("a balance").parse::<u64>().expect("a number")
    });
    let balances: Vec<u64> = balances.collect();
    println!("transfers: {acknowledged} acknowledged, balances {balances:?}");
    assert_eq!(
        balances.iter().sum::<u64>(),
        ACCOUNTS * MONEY,
        "{balances:?}"
    );
    assert!(acknowledged > 0, "money was moved");
}

/// Messages on their way, as one node knows it.
fn waiting(partitions: &Value) -> u64 {
    let partitions = partitions.as_array().into_iter().flatten();
    let each = partitions.map(|partition| {
        partition["outbox"].as_u64().expect("a count")
            + partition["inbox"].as_u64().expect("a count")
    });
    each.sum()
}
