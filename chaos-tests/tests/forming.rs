//! How a cluster comes about and comes back: growth, seeds, restarts from the data directory alone,
//! a node at another address.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::{Cluster, HEALTHY_TIME_MAX};
use ghostlight_chaos::http::{Ask, Connection};
use ghostlight_chaos::load::Load;
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::process::{self, Process};
use ghostlight_chaos::scenario::{
    FEW_PARTITIONS, SERVED_TIME_MAX, WAIT_MAX, check_waits, end_clean, turn,
};
use ghostlight_chaos::wait::until;
use ghostlight_report::Row;
use serde_json::Value;

/// Promised from the moment that the third node has joined until every partition has three voters.
/// All nodes were killed: clients should be answered again within so many seconds.
const ANSWERED_TARGET: f64 = 5.0;
const GROWTH_TIME_MAX: Duration = Duration::from_secs(5);

/// Whether every partition has three voters, in the words of one node.
fn all_have_three_voters(cluster: &Cluster, asked: usize) -> bool {
    let partitions = cluster.admin(asked, "partitions");
    let partitions = partitions.as_ref().and_then(Value::as_array);
    partitions.is_some_and(|partitions| {
        let voters = |partition: &Value| partition["voters"].as_array().map_or(0, Vec::len);
        partitions.len() == 256 && partitions.iter().all(|partition| voters(partition) == 3)
    })
}

#[test]
fn one_founder_grows_to_three_voters() {
    let _turn = turn();
    let mut cluster = Cluster::form(1, 256);
    cluster.join();
    until("the second node is a member", HEALTHY_TIME_MAX, || {
        cluster.row(0, 1).filter(|row| row["state"] == "alive")
    });
    let started = Instant::now();
    let third = cluster.join();
    until("the third node is a member", HEALTHY_TIME_MAX, || {
        cluster.row(0, third).filter(|row| row["state"] == "alive")
    });
    let joined = Instant::now();
    until("every partition has three voters", HEALTHY_TIME_MAX, || {
        all_have_three_voters(&cluster, 0).then_some(())
    });
    let grown = joined.elapsed();
    println!(
        "growth: 256 partitions have three voters {:.2} s after the third node joined, {:.2} s after it was started",
        grown.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    cluster.wait_healthy();
    for node in 0..3 {
        assert!(
            all_have_three_voters(&cluster, node),
            "as node {node} sees it"
        );
    }
    // Each node takes a write, and then each shows the writes of all.
    for node in 0..3 {
        let mut client = Client::new(&cluster.http()[node..=node], 0);
        let line = format!("\"{node}\"");
        let length = client.good("log/all/method/append", &line, &line);
        assert_eq!(length, Ok((node + 1).to_string()));
    }
    for node in 0..3 {
        let mut client = Client::new(&cluster.http()[node..=node], 0);
        let stored = client.read_log("all");
        assert_eq!(stored, Ok(["0", "1", "2"].map(str::to_owned).to_vec()));
    }
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    end_clean("growth", load, &cluster.http());
    assert!(grown <= GROWTH_TIME_MAX, "{grown:?}");
}

#[test]
fn dead_seeds_are_tried_and_named_until_one_answers() {
    let _turn = turn();
    let seeds = [free_address(), free_address(), free_address()];
    let mut cluster = Cluster::plan(FEW_PARTITIONS);
    let early = cluster.join_by(&seeds);
    until("it says whom it tries", Duration::from_secs(20), || {
        let said = cluster.said(early);
        let named = seeds.iter().all(|seed| said.contains(seed.as_str()));
        (named && said.contains("E0217")).then_some(())
    });
    // It is up, says that it is not ready, and refuses calls in a way that invites to repeat them.
    let http = cluster.http()[early].clone();
    let health = ask(&http, "GET", "/v1.0/healthz", "");
    assert_eq!(health.status, 500, "{}", health.body);
    assert!(
        health.body.contains("ERR_HEALTH_NOT_READY"),
        "{}",
        health.body
    );
    let refused = ask(&http, "POST", "/v1.0/actors/counter/a/method/add", "1");
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.header("ghostlight-error"), Some("E0204"));
    assert!(refused.header("retry-after").is_some());

    // The last of its seeds comes to life, as a new cluster.
    let founder = cluster.found_at(&seeds[2]);
    until("the early node is a member", HEALTHY_TIME_MAX, || {
        let row = cluster.row(founder, early)?;
        (row["state"] == "alive").then_some(())
    });
    let late = cluster.join_by(&[
        free_address(),
        free_address(),
        cluster.peer(early).to_owned(),
    ]);
    cluster.wait_healthy();
    for node in [founder, early, late] {
        let rows = cluster.admin(node, "members");
        let count = rows.as_ref().and_then(Value::as_array).map(Vec::len);
        assert_eq!(count, Some(3), "{rows:?}");
        let mut client = Client::new(&cluster.http()[node..=node], 0);
        let id = format!("from-{node}");
        assert!(
            client.good("counter/a/method/add", &id, "1").is_ok(),
            "{id}"
        );
    }
    println!(
        "seeds: {} dead ones named, then joined by the third",
        seeds.len() - 1
    );
}

fn ask(
    address: &str,
    method: &'static str,
    path: &str,
    body: &str,
) -> ghostlight_chaos::http::Reply {
    let ask = Ask {
        method,
        path: path.to_owned(),
        headers: vec![("Ghostlight-Deadline-Ms", "500".to_owned())],
        body: body.to_owned(),
        time_max: Duration::from_secs(3),
    };
    let reply = Connection::to(address).send(&ask);
    reply.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a person types: nothing but the data directory. The home directory is the test's.
fn by_hand(home: &Path, node: &str, join: Option<&str>) -> Command {
    let mut command = process::command();
    command
        .current_dir(home)
        .env("HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .env("GHOSTLIGHT_SAMPLES", "true")
        .args(["start", "--data-dir", node]);
    if let Some(seed) = join {
        command.args(["--join", seed]);
    }
    command
}

/// The address that a node prints for one of its listeners.
fn printed(process: &Process, what: &str) -> String {
    until("a node prints its addresses", SERVED_TIME_MAX, || {
        let said = process.said();
        let line = said
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(what))?;
        Some(line.trim().trim_start_matches("http://").to_owned())
    })
}

/// Notes how long it took until every client was answered after all nodes were killed.
fn note_answered(began: Instant) {
    let name = "all killed: until every client is answered again";
    let seconds = began.elapsed().as_secs_f64();
    Row::figure(13, name, seconds, "s", ANSWERED_TARGET)
        .tested("kill -9 of all three nodes, one restart, the start of the processes included")
        .append();
}

#[test]
fn everything_is_killed_and_comes_back_from_the_data_directories_alone() {
    let _turn = turn();
    let home = tempfile::tempdir().expect("a temporary directory");
    let log = |node: &str| home.path().join(format!("{node}.log"));
    let names = ["n1", "n2", "n3"];
    let mut nodes: Vec<Process> = Vec::new();
    for name in names {
        let seed = nodes.first().map(|founder| printed(founder, "peers"));
        let start = by_hand(home.path(), name, seed.as_deref());
        nodes.push(Process::node(start, &log(name)));
        printed(nodes.last().expect("just started"), "peers");
    }
    let said = nodes[0].said();
    assert!(
        said.contains("ONE COPY") && said.contains("--join"),
        "{said}"
    );
    let admin = printed(&nodes[0], "admin");
    let healthy = |admin: &str| {
        let url = format!("http://{admin}");
        let output = process::run(&["status", "--exit-when-healthy", "--node", &url]);
        assert!(output.status.success(), "{}", process::stderr(&output));
    };
    until("three members", HEALTHY_TIME_MAX, || {
        let members = ask(&admin, "GET", "/ghostlight/v1/members", "");
        let members: Value = serde_json::from_str(&members.body).ok()?;
        (members.as_array()?.len() == 3).then_some(())
    });
    healthy(&admin);
    let http: Vec<String> = nodes
        .iter()
        .map(|node| printed(node, "Dapr HTTP"))
        .collect();
    let load = Load::start(&http);
    load.wait_acknowledged(40, SERVED_TIME_MAX);

    for node in nodes.drain(..) {
        node.kill();
    }
    let began = Instant::now();
    for name in names {
        // What it said in its first life does not count.
        std::fs::remove_file(log(name)).expect("a node's log");
        nodes.push(Process::node(by_hand(home.path(), name, None), &log(name)));
    }
    load.wait_acknowledged(1, SERVED_TIME_MAX);
    note_answered(began);
    load.wait_acknowledged(5, SERVED_TIME_MAX);
    println!(
        "all killed: every client served {:.1} s after the restart",
        began.elapsed().as_secs_f64()
    );
    let again: Vec<String> = nodes
        .iter()
        .map(|node| printed(node, "Dapr HTTP"))
        .collect();
    assert_eq!(again, http, "ports that were chosen are kept");
    healthy(&admin);
    println!(
        "all killed: healthy after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    end_clean("all killed", load, &http);
    let founded = nodes.iter().filter(|node| node.said().contains("ONE COPY"));
    assert_eq!(founded.count(), 0, "a restart founds nothing");
}

#[test]
fn a_node_at_another_address_is_the_same_member() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, FEW_PARTITIONS);
    let load = Load::start(&cluster.http()[..1]);
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    load.mark();
    // One that ended well, and one that was killed; never the one that the clients ask.
    for node in [1, 2] {
        let before = cluster.row(0, node).expect("a member");
        let mut process = cluster.take(node);
        if node == 1 {
            process.signal(rustix::process::Signal::TERM);
            let status = process.wait(Duration::from_secs(40));
            assert!(status.success(), "{status}\n{}", process.said());
        } else {
            process.kill();
        }
        cluster.readdress(node);
        cluster.start(node);
        until("it is back at its new address", HEALTHY_TIME_MAX, || {
            let row = cluster.row(0, node)?;
            (row["state"] == "alive" && row["address"] == cluster.peer(node)).then_some(())
        });
        cluster.wait_healthy();
        let after = cluster.row(0, node).expect("a member");
        assert_eq!(after["id"], before["id"]);
        assert_eq!(
            after["generation"].as_u64(),
            before["generation"]
                .as_u64()
                .map(|generation| generation + 1)
        );
        for asked in 0..3 {
            let members = cluster.admin(asked, "members").expect("a list");
            assert_eq!(members.as_array().map(Vec::len), Some(3), "{members}");
        }
        let mut client = Client::new(&cluster.http()[node..=node], 0);
        let id = format!("moved-{node}");
        assert!(client.good("counter/a/method/add", &id, "1").is_ok());
        println!(
            "{} moved from {} to {}",
            cluster.name(node),
            before["address"],
            after["address"]
        );
    }
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    check_waits("address change", &load, WAIT_MAX);
    end_clean("address change", load, &cluster.http());
}
