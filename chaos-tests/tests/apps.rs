//! Applications beside nodes: as real processes, killed idle and under load, restarted on their
//! port, replaced by others; and played by the test, for Dapr's contract (`contract`), the life of
//! their objects (`objects`) and what .NET sends (`dotnet`).

#[path = "apps/contract.rs"]
mod contract;
#[path = "apps/dotnet.rs"]
mod dotnet;
#[path = "apps/objects.rs"]
mod objects;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ghostlight_chaos::app::{self, App, EVENT, JOINED, NEVER_MADE, OTHER, TOKEN, TOPIC, TYPE};
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::http::{Ask, Connection, Reply};
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::wait::until;
use serde_json::Value;

const PARTITIONS: u32 = 16;
/// How long a call may wait for a host before the test gives up.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the actors of an application that was killed may be without an answer: the promise is
/// 1.5 s on a quiet machine.
const GAP_MAX: Duration = Duration::from_secs(8);

/// The program of the applications; as a test it does nothing.
#[test]
fn application() {
    app::play();
}

fn port() -> u16 {
    let address = free_address();
    let port = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    port.expect("an address with a port")
}

fn call(node: &mut Connection, id: &str, method: &str) -> Reply {
    let ask = Ask {
        method: "POST",
        path: format!("/v1.0/actors/{TYPE}/{id}/method/{method}"),
        headers: Vec::new(),
        body: "{}".to_owned(),
        time_max: CALL_TIME_MAX,
    };
    node.send(&ask)
        .unwrap_or_else(|error| panic!("{id}/{method}: {error}"))
}

/// Process id and count of a good answer.
fn told(reply: &Reply) -> Option<(u64, u64)> {
    let body: Value = serde_json::from_str(&reply.body).ok()?;
    let told = (body["pid"].as_u64()?, body["count"].as_u64()?);
    (reply.status == 200).then_some(told)
}

fn until_served(address: &str, id: &str) -> (u64, u64) {
    let mut node = Connection::to(address);
    until("the application serves", CALL_TIME_MAX, || {
        told(&call(&mut node, id, "add"))
    })
}

#[test]
fn killed_and_started_again_on_its_port() {
    let mut cluster = Cluster::plan(PARTITIONS);
    let port = port();
    let node = cluster.found_with(&["--app", &format!("tallies={port}")]);
    cluster.wait_healthy();
    let address = cluster.http()[node].clone();
    let log = cluster.path("app.log");
    let mut running = Some(App::start(port, &log));
    let mut restart = || {
        running.take().expect("it runs").kill();
        running.insert(App::start(port, &log)).pid()
    };
    until_served(&address, "a");
    let over = AtomicBool::new(false);
    let worst = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (address, over) = (&address, &over);
                scope.spawn(move || load(address, client, over))
            })
            .collect();
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(700));
            restart();
        }
        // And once with nothing under way.
        std::thread::sleep(Duration::from_millis(700));
        over.store(true, Ordering::Relaxed);
        let worst = clients
            .into_iter()
            .map(|client| client.join().expect("a client"));
        worst.max().expect("four clients")
    });
    assert!(worst < GAP_MAX, "a call waited {worst:?}");
    let before = until_served(&address, "a");
    let pid = restart();
    let after = until_served(&address, "a");
    assert_eq!(after.0, u64::from(pid));
    assert!(after.0 != before.0 && after.1 == 1, "{before:?} {after:?}");
    let running = running.expect("it runs");
    let said = running.said();
    assert!(!said.contains(NEVER_MADE), "{said}");
    // It was alive to the end.
    running.kill();
}

/// An object that its process keeps through the death of its node has not seen what happened
/// meanwhile.
#[test]
fn a_node_started_again_beside_an_application_that_goes_on() {
    let mut cluster = Cluster::plan(PARTITIONS);
    let port = port();
    let node = cluster.found_with(&["--app", &format!("tallies={port}")]);
    cluster.wait_healthy();
    let address = cluster.http()[node].clone();
    let log = cluster.path("app.log");
    let app = App::start(port, &log);
    let ids: Vec<String> = (0..20).map(|n| format!("x{n}")).collect();
    for id in &ids {
        until_served(&address, id);
    }
    for round in ["killed", "killed again"] {
        cluster.kill(node);
        cluster.start(node);
        cluster.wait_healthy();
        for id in &ids {
            let (pid, count) = until_served(&address, id);
            assert_eq!(pid, u64::from(app.pid()), "the application goes on");
            assert_eq!(count, 1, "{id}: its object was not told to go: {round}");
        }
    }
    let said = app.said();
    assert!(!said.contains(NEVER_MADE), "{said}");
    app.kill();
}

/// Calls until it is over; every tenth call fails in the application, so that its object is told to
/// go. Returns the longest time of a call.
fn load(address: &str, client: usize, over: &AtomicBool) -> Duration {
    let mut node = Connection::to(address);
    let mut worst = Duration::ZERO;
    let mut step = client;
    while !over.load(Ordering::Relaxed) {
        step += 7;
        let method = if step.is_multiple_of(10) {
            "fail"
        } else {
            "add"
        };
        let begun = Instant::now();
        let reply = call(&mut node, &format!("x{}", step % 23), method);
        worst = worst.max(begun.elapsed());
        // Killed in the middle: nobody knows. Refused for good is nothing.
        assert!(matches!(reply.status, 200 | 500), "{reply:?}");
    }
    worst
}

#[test]
fn others_take_over() {
    let mut cluster = Cluster::plan(PARTITIONS);
    let ports: Vec<u16> = (0..3).map(|_| port()).collect();
    for port in &ports {
        let app = format!("tallies={port}");
        match cluster.http().len() {
            0 => cluster.found_with(&["--app", &app]),
            _ => cluster.join_with(&["--app", &app]),
        };
    }
    cluster.wait_healthy();
    let log = cluster.path("app.log");
    let mut apps: Vec<Option<App>> = ports
        .iter()
        .map(|port| Some(App::start(*port, &log)))
        .collect();
    let address = cluster.http()[0].clone();
    let ids: Vec<String> = (0..60).map(|n| format!("x{n}")).collect();
    // All three host some.
    let hosts = until("three applications share the actors", CALL_TIME_MAX, || {
        let hosts = hosts(&address, &ids)?;
        let pids = apps.iter().flatten().map(|app| u64::from(app.pid()));
        let all = pids
            .into_iter()
            .all(|pid| hosts.values().any(|host| *host == pid));
        all.then_some(hosts)
    });
    let dead = apps[1].take().expect("it runs");
    let pid = u64::from(dead.pid());
    dead.kill();
    let begun = Instant::now();
    let after = hosts_of_all(&address, &ids);
    let gap = begun.elapsed();
    assert!(after.values().all(|host| *host != pid), "{after:?}");
    assert!(gap < GAP_MAX, "its actors were away for {gap:?}");
    let moved = ids.iter().filter(|id| hosts[*id] == pid).count();
    println!("{moved} actors answered from other hosts within {gap:?}");
    assert!(moved > 0);
    for app in apps.into_iter().flatten() {
        let said = app.said();
        assert!(!said.contains(NEVER_MADE), "{said}");
        app.kill();
    }
}

/// Who answers for each; `None`: somebody does not answer yet.
fn hosts(address: &str, ids: &[String]) -> Option<BTreeMap<String, u64>> {
    let mut node = Connection::to(address);
    let one = |id: &String| Some((id.clone(), told(&call(&mut node, id, "add"))?.0));
    ids.iter().map(one).collect()
}

/// The same, all at once, so that those without a host do not wait for each other.
fn hosts_of_all(address: &str, ids: &[String]) -> BTreeMap<String, u64> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = ids
            .chunks(10)
            .map(|ids| scope.spawn(move || hosts(address, ids)))
            .collect();
        let found = asked.into_iter().map(|one| one.join().expect("a client"));
        found
            .flat_map(|found| found.expect("every actor answers"))
            .collect()
    })
}

fn ask(address: &str, method: &'static str, path: &str, body: &str) -> Reply {
    let ask = Ask {
        method,
        path: path.to_owned(),
        headers: vec![("Content-Type", "application/json".to_owned())],
        body: body.to_owned(),
        time_max: CALL_TIME_MAX,
    };
    let reply = Connection::to(address).send(&ask);
    reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// Two components of our own topics; the second one is the second application's alone.
const COMPONENTS: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: bus}
spec: {type: pubsub.ghostlight, version: v1}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: private}
spec: {type: pubsub.ghostlight, version: v1}
scopes: [two]
";

/// Each application of a node has an API of its own: what comes in there is from it.
#[test]
fn applications_with_listeners_of_their_own() {
    let mut cluster = Cluster::plan(PARTITIONS);
    let folder = cluster.path("resources");
    std::fs::create_dir_all(&folder).expect("a new folder");
    std::fs::write(folder.join("all.yaml"), COMPONENTS).expect("a new file");
    let (ports, own) = ([port(), port(), port()], free_address());
    let words = [
        format!("one={}", ports[0]),
        format!("two={},http={own}", ports[1]),
        format!("three={}", ports[2]),
    ];
    let resources = folder.display().to_string();
    let mut args = vec!["--resources-path", resources.as_str()];
    args.extend(words.iter().flat_map(|app| ["--app", app.as_str()]));
    let node = cluster.found_with(&args);
    cluster.wait_healthy();
    let apps: Vec<(App, &str)> = ["one", "two"]
        .into_iter()
        .zip(ports)
        .map(|(name, port)| (App::start(port, &cluster.path(name)), name))
        .collect();
    let status = cluster.admin(node, "status").expect("a status");
    let doors = |status: &Value| -> Vec<String> {
        let doors = status["applications"].as_array().expect("a list").clone();
        let texts = doors.iter().flat_map(|door| {
            ["app", "http", "grpc"].map(|field| door[field].as_str().unwrap_or("").to_owned())
        });
        texts.collect()
    };
    let all = doors(&status);
    assert_eq!([&all[0], &all[3], &all[6]], ["one", "two", "three"]);
    assert_eq!([&all[1], &all[4]], [&cluster.http()[node], &own]);
    assert!(all[5].starts_with("127.0.0.1:") && all[7].starts_with("127.0.0.1:"));
    let places: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!(places.len(), 9, "no two listeners are the same: {all:?}");
    assert!(cluster.said(node).contains(&all[7]), "the start says where");

    for (door, name) in [(&all[1], "one"), (&all[4], "two")] {
        until("the application is ready", CALL_TIME_MAX, || {
            (ask(door, "GET", "/v1.0/healthz", "").status == 204).then_some(())
        });
        let metadata = ask(door, "GET", "/v1.0/metadata", "").body;
        let metadata: Value = serde_json::from_str(&metadata).expect("metadata");
        assert_eq!(metadata["id"], name);
        assert_eq!(metadata["subscriptions"].as_array().map(Vec::len), Some(1));
        until_served(door, "a");
    }
    // The third one has never come, and only its own API says so.
    let path = "/v1.0/healthz";
    assert_eq!(ask(&all[7], "GET", path, "").status, 500);
    assert_eq!(
        ask(&all[7], "GET", "/v1.0/healthz/outbound", "").status,
        204
    );

    // A component that is the second one's alone.
    let private = "/v1.0/publish/private/t";
    assert_eq!(ask(&all[1], "POST", private, "1").status, 404);
    assert_eq!(ask(&all[4], "POST", private, "1").status, 204);
    // An event is its publisher's, and reaches the group of each application.
    let bus = format!("/v1.0/publish/bus/{TOPIC}");
    assert_eq!(ask(&all[4], "POST", &bus, "1").status, 204);
    for (app, name) in &apps {
        until("the event", CALL_TIME_MAX, || {
            let said = app.said();
            let event = said.lines().find_map(|line| line.strip_prefix(EVENT))?;
            assert!(event.contains("\"source\":\"two\""), "{name}: {event}");
            Some(())
        });
    }

    // Started again, each is where it was.
    cluster.kill(node);
    cluster.start(node);
    cluster.wait_healthy();
    let status = cluster.admin(node, "status").expect("a status");
    assert_eq!(doors(&status), all);
}

/// A call and an event that join a turn: the process dies in the middle of it, and whoever repeats
/// the request gets a turn that calls nobody twice and publishes once.
#[test]
fn what_joins_a_turn_happens_once() {
    let mut cluster = Cluster::plan(PARTITIONS);
    let folder = cluster.path("resources");
    std::fs::create_dir_all(&folder).expect("a new folder");
    std::fs::write(folder.join("all.yaml"), COMPONENTS).expect("a new file");
    let port = port();
    let (resources, words) = (folder.display().to_string(), format!("tallies={port}"));
    let node = cluster.found_with(&["--resources-path", &resources, "--app", &words]);
    cluster.wait_healthy();
    let address = cluster.http()[node].clone();
    let (log, hold) = (cluster.path("app.log"), cluster.path("hold"));
    std::fs::write(&hold, "").expect("a new file");
    let first = App::start(port, &log);
    let pid = u64::from(first.pid());
    assert_eq!(until_served(&address, OTHER).0, pid);

    let ask = Ask {
        method: "POST",
        path: format!("/v1.0/actors/{TYPE}/a/method/join"),
        headers: vec![("Ghostlight-Request-Id", "r1".to_owned())],
        body: serde_json::json!({"node": address, "hold": hold}).to_string(),
        time_max: CALL_TIME_MAX,
    };
    let lines = |app: &App, begin: &str| -> Vec<String> {
        let said = app.said();
        let lines = said.lines().filter_map(|line| line.strip_prefix(begin));
        lines.map(str::to_owned).collect()
    };
    let second = std::thread::scope(|scope| {
        let held = scope.spawn(|| Connection::to(&address).send(&ask));
        until("the call has joined", CALL_TIME_MAX, || {
            lines(&first, JOINED).pop()
        });
        first.kill();
        let told = held.join().expect("a client").expect("an answer");
        assert_eq!(told.status, 500, "nobody knows: {told:?}");
        App::start(port, &log)
    });
    std::fs::remove_file(&hold).expect("it was written");
    let told_again = until("the turn runs again", CALL_TIME_MAX, || {
        let reply = Connection::to(&address).send(&ask).expect("an answer");
        told(&reply)
    });
    assert_eq!(told_again.0, pid, "the answer that the first one got");
    let joined = lines(&second, JOINED);
    assert_eq!(joined.len(), 2, "the turn ran twice: {joined:?}");
    assert_eq!(joined[0], joined[1]);
    until("the event", CALL_TIME_MAX, || lines(&second, EVENT).pop());
    // The new process has never made the object that was called.
    assert_eq!(until_served(&address, OTHER), (u64::from(second.pid()), 1));

    // The turn is over.
    let token = lines(&second, TOKEN).pop().expect("it was said");
    let late = Ask {
        path: format!("/v1.0/publish/bus/{TOPIC}"),
        headers: vec![
            ("Content-Type", "application/json".to_owned()),
            ("Ghostlight-Turn", token),
        ],
        body: "2".to_owned(),
        ..ask
    };
    let refused = Connection::to(&address).send(&late).expect("an answer");
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(
        refused.body.contains("ERR_GHOSTLIGHT_TURN_OVER"),
        "{refused:?}"
    );
    assert_eq!(lines(&second, EVENT).len(), 1);
}
