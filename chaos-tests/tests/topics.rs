//! Topics on real processes: publishers on every node, two groups, nodes that are killed in
//! mid-stream, and a cluster that is killed whole.
//!
//! The checker: no acknowledged event is lost to a group; the events of a key come to a subscriber
//! in their order, without a gap; to a subscriber whose node lives nothing comes again but what was
//! counted as failed. An actor counts each event once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::http::{Ask, Connection};
use ghostlight_chaos::process::{self, stderr};
use ghostlight_chaos::wait::until;
use serde_json::Value;

const TOPIC: &str = "orders";
/// Keys of the events.
const KEYS: u64 = 12;
/// Longest time until everything has come.
const COME_TIME_MAX: Duration = Duration::from_secs(60);

/// What one group has got, in order.
#[derive(Default, Debug)]
struct Seen {
    events: Vec<Event>,
    last: Option<Instant>,
    longest_gap: Duration,
}

#[derive(Debug)]
struct Event {
    key: String,
    number: u64,
    attempt: u64,
}

/// `ghostlight subscribe` beside one node.
struct Subscriber {
    child: Child,
}

impl Subscriber {
    fn start(node: &str, group: &str, seen: &Arc<Mutex<Seen>>) -> Self {
        let mut command = process::command();
        command.args([
            "subscribe",
            TOPIC,
            "--group",
            group,
            "--json",
            "--node",
            node,
        ]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let seen = Arc::clone(seen);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).expect("a line of JSON");
                let key = event["key"].as_str().expect("a key").to_owned();
                let number = event["text"].as_str().and_then(|text| text.parse().ok());
                let mut seen = seen.lock().expect("nobody panics with it");
                let now = Instant::now();
                if let Some(last) = seen.last.replace(now) {
                    seen.longest_gap = seen.longest_gap.max(now - last);
                }
                seen.events.push(Event {
                    key,
                    number: number.expect("a number"),
                    attempt: event["attempt"].as_u64().expect("a number"),
                });
            }
        });
        Self { child }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may have ended with its node.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Publishes numbers of one key, one after the other, each until it is acknowledged.
fn publish_all(nodes: &[String], key: u64, stop: &AtomicBool, acked: &AtomicU64) -> u64 {
    let key = format!("k{key}");
    publish_each(nodes, ["pubsub", TOPIC], &key, stop, acked, |n| {
        n.to_string()
    })
}

/// The same to a topic of a component, with what each number says.
fn publish_each(
    nodes: &[String],
    [pubsub, topic]: [&str; 2],
    key: &str,
    stop: &AtomicBool,
    acked: &AtomicU64,
    say: impl Fn(u64) -> String,
) -> u64 {
    let mut number = 0;
    let mut at = key.len() + usize::from(key.as_bytes()[1]);
    while !stop.load(Ordering::Relaxed) {
        let text = say(number);
        let id = format!("{key}-{number}");
        let node = &nodes[at % nodes.len()];
        let done = process::run(&[
            "publish", topic, "--pubsub", pubsub, "--force", "-d", &text, "--key", key, "--id",
            &id, "--node", node,
        ]);
        if done.status.success() {
            number += 1;
            acked.fetch_add(1, Ordering::Relaxed);
        } else {
            // The same event, at another node.
            at += 1;
        }
    }
    number
}

/// Numbers of each key in the order of their first deliveries; and how many came again without a
/// failure that was counted in between.
fn sort(seen: &Seen) -> (BTreeMap<String, Vec<u64>>, usize) {
    let mut firsts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut again = 0;
    for event in &seen.events {
        let key = event.key.clone();
        if known.insert((key.clone(), event.number)) {
            firsts.entry(key).or_default().push(event.number);
        } else {
            again += usize::from(event.attempt == 1);
        }
    }
    (firsts, again)
}

fn group_row(cluster: &Cluster, node: usize, group: &str) -> Option<Value> {
    let rows = cluster.admin(node, &format!("subscriptions/pubsub/{TOPIC}"))?;
    let rows = rows.as_array()?.clone();
    rows.into_iter().find(|row| row["group"] == group)
}

#[test]
fn nodes_are_killed_in_mid_stream_and_nothing_is_lost() {
    let mut cluster = Cluster::form(3, 16);
    let urls: Vec<String> = (0..3).map(|node| cluster.admin_url(node)).collect();
    let (shared, single) = (Arc::new(Mutex::default()), Arc::new(Mutex::default()));
    let mut subscribers = vec![
        Subscriber::start(&urls[1], "shared", &shared),
        Subscriber::start(&urls[2], "shared", &shared),
        Subscriber::start(&urls[0], "single", &single),
    ];
    until("both groups are there", COME_TIME_MAX, || {
        let shared = group_row(&cluster, 0, "shared")?;
        let single = group_row(&cluster, 0, "single")?;
        (shared["subscribers"] == 2 && single["subscribers"] == 1).then_some(())
    });
    let stop = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(AtomicU64::new(0));
    let publishers: Vec<_> = (0..KEYS)
        .map(|key| {
            let (urls, stop, acked) = (urls.clone(), Arc::clone(&stop), Arc::clone(&acked));
            std::thread::spawn(move || publish_all(&urls, key, &stop, &acked))
        })
        .collect();
    let reach = |count: u64| {
        until("events are acknowledged", COME_TIME_MAX, || {
            (acked.load(Ordering::Relaxed) >= count).then_some(())
        });
    };
    let more = |count: u64| reach(acked.load(Ordering::Relaxed) + count);
    more(100);
    // It leads some of the topic's logs, and a subscriber of the shared group is on it.
    cluster.kill(2);
    more(100);
    cluster.start(2);
    cluster.wait_healthy();
    subscribers.push(Subscriber::start(&urls[2], "shared", &shared));
    more(50);
    cluster.kill(1);
    more(50);
    stop.store(true, Ordering::Relaxed);
    let numbers: Vec<u64> = publishers
        .into_iter()
        .map(|publisher| publisher.join().expect("it does not panic"))
        .collect();
    let all: usize = numbers.iter().map(|number| *number as usize).sum();
    for (name, seen) in [("shared", &shared), ("single", &single)] {
        until("a group has everything", COME_TIME_MAX, || {
            let (firsts, _) = sort(&seen.lock().expect("nobody panics with it"));
            (firsts.values().map(Vec::len).sum::<usize>() >= all).then_some(())
        });
        let seen = seen.lock().expect("nobody panics with it");
        let (firsts, again) = sort(&seen);
        println!(
            "{name}: {all} events, {again} again, longest gap {:?}",
            seen.longest_gap
        );
        for (key, number) in (0..).zip(&numbers) {
            let mut found = firsts[&format!("k{key}")].clone();
            if name == "shared" {
                // Two readers, each in its own time.
                found.sort_unstable();
            }
            assert_eq!(found, (0..*number).collect::<Vec<u64>>(), "{name}, k{key}");
        }
        if name == "single" {
            assert_eq!(
                again, 0,
                "its node and its reader have lived: nothing is forgotten"
            );
        }
    }
    cluster.start(1);
    cluster.wait_healthy();
    keeps_everything(&mut cluster, &urls, all, subscribers);
}

/// The whole cluster is killed, and comes back with every event and every cursor.
fn keeps_everything(
    cluster: &mut Cluster,
    urls: &[String],
    all: usize,
    subscribers: Vec<Subscriber>,
) {
    until("the cursors have come along", COME_TIME_MAX, || {
        let row = group_row(cluster, 0, "single")?;
        (row["lag"].as_u64()? == 0).then_some(())
    });
    drop(subscribers);
    let before = cluster
        .admin(0, &format!("topics/pubsub/{TOPIC}"))
        .expect("it answers");
    assert_eq!(before["published"].as_u64(), Some(all as u64));
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.start(node);
    }
    cluster.wait_healthy();
    let after = cluster
        .admin(1, &format!("topics/pubsub/{TOPIC}"))
        .expect("it answers");
    assert_eq!(
        before["partitions"], after["partitions"],
        "every event is there"
    );
    let row = group_row(cluster, 2, "single").expect("the group is there");
    assert_eq!(row["lag"].as_u64(), Some(0), "{row}");
    // A new group gets all of it, from the beginning.
    let everything = process::run(&[
        "subscribe",
        TOPIC,
        "--group",
        "late",
        "--from",
        "first",
        "--count",
        &all.to_string(),
        "--node",
        &urls[0],
    ]);
    assert!(everything.status.success(), "{}", stderr(&everything));
    let lines = String::from_utf8_lossy(&everything.stdout).lines().count();
    assert_eq!(lines, all);
}

/// Publishes an event under a name of its own over Dapr's API, at the first node that takes it.
fn publish_named(addresses: &[String], first: usize, name: u64) {
    let query = format!(
        "metadata.cloudevent.id=e{name}&metadata.cloudevent.source=till&metadata.partitionKey=k{}",
        name % 4
    );
    let ask = Ask {
        method: "POST",
        path: format!("/v1.0/publish/pubsub/named?{query}"),
        headers: vec![("Content-Type", "text/plain".to_owned())],
        body: name.to_string(),
        time_max: Duration::from_secs(10),
    };
    let mut at = first;
    until("an event is acknowledged", COME_TIME_MAX, || {
        at += 1;
        let reply = Connection::to(&addresses[at % addresses.len()]).send(&ask);
        reply.is_ok_and(|reply| reply.status == 204).then_some(())
    });
}

/// What applications do that did not hear of a publish: they publish the event again, elsewhere.
#[test]
fn an_event_is_appended_once_under_its_name_through_deaths() {
    const EVENTS: u64 = 40;
    let mut cluster = Cluster::form(3, 16);
    let http = cluster.http();
    for name in 0..EVENTS {
        publish_named(&http, name as usize, name);
    }
    // Whatever it leads is led by others now.
    cluster.kill(1);
    for name in 0..EVENTS + 10 {
        publish_named(&http, name as usize + 1, name);
    }
    cluster.start(1);
    cluster.wait_healthy();
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.start(node);
    }
    cluster.wait_healthy();
    for name in 0..EVENTS + 10 {
        publish_named(&http, name as usize + 2, name);
    }
    let topic = cluster.admin(0, "topics/pubsub/named").expect("it answers");
    assert_eq!(topic["published"].as_u64(), Some(EVENTS + 10), "{topic}");
}

fn component(name: &str, more: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: pubsub.in-memory\n  \
         metadata:\n  - {{name: more, value: \"{more}\"}}\n"
    )
}

/// What a user sees who changes the files of a node that runs.
#[test]
fn components_follow_their_files_while_a_node_runs() {
    let mut cluster = Cluster::plan(8);
    let folder = cluster.path("resources");
    std::fs::create_dir(&folder).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    write("first.yaml", &component("first", "1"));
    let path = folder.display().to_string();
    cluster.found_with(&["--resources-path", path.as_str()]);
    cluster.wait_healthy();
    let address = cluster.http()[0].clone();
    let publish = |pubsub: &str| {
        let ask = Ask {
            method: "POST",
            path: format!("/v1.0/publish/{pubsub}/t"),
            headers: vec![("Content-Type", "text/plain".to_owned())],
            body: "1".to_owned(),
            time_max: Duration::from_secs(10),
        };
        let reply = Connection::to(&address).send(&ask);
        reply.expect("an answer").status
    };
    let until_status = |pubsub: &str, wanted: u16| {
        until("the files are taken", COME_TIME_MAX, || {
            (publish(pubsub) == wanted).then_some(())
        });
    };
    let reasons = |cluster: &Cluster| {
        let status = cluster.admin(0, "status").expect("it answers");
        status["reasons"].to_string()
    };
    assert_eq!((publish("first"), publish("second")), (204, 404));
    write("second.yaml", &component("second", "1"));
    until_status("second", 204);
    // A file that is no YAML: what ran runs on, and the operator is told.
    write("second.yaml", "kind: [");
    let told = until("the trouble is told", COME_TIME_MAX, || {
        let reasons = reasons(&cluster);
        reasons.contains("second.yaml").then_some(reasons)
    });
    assert!(told.contains("changed resources are not taken"), "{told}");
    assert_eq!((publish("first"), publish("second")), (204, 204));
    std::fs::remove_file(folder.join("second.yaml")).expect("it was there");
    until_status("second", 404);
    assert_eq!(publish("first"), 204);
    assert!(!reasons(&cluster).contains("resources"), "it is settled");
}

/// Lag of a group, and what waits of it anywhere.
fn lag_of(cluster: &Cluster, node: usize, topic: &str) -> Option<u64> {
    let rows = cluster.admin(node, &format!("subscriptions/samples/{topic}"))?;
    let rows = rows.as_array()?;
    rows.iter().map(|row| row["lag"].as_u64()).sum()
}

#[test]
fn an_actor_counts_every_event_once_while_nodes_are_killed() {
    const PUBLISHERS: u64 = 6;
    const TALLIES: u64 = 3;
    let mut cluster = Cluster::form(3, 16);
    let urls: Vec<String> = (0..3).map(|node| cluster.admin_url(node)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(AtomicU64::new(0));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let (urls, stop, acked) = (urls.clone(), Arc::clone(&stop), Arc::clone(&acked));
            std::thread::spawn(move || {
                let key = format!("p{number}");
                let say = |_| format!(r#"{{"of":"t{}","amount":1}}"#, number % TALLIES);
                publish_each(&urls, ["samples", "tallies"], &key, &stop, &acked, say)
            })
        })
        .collect();
    let more = |count: u64| {
        let wanted = acked.load(Ordering::Relaxed) + count;
        until("events are acknowledged", COME_TIME_MAX, || {
            (acked.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    };
    more(60);
    cluster.kill(2);
    more(60);
    cluster.start(2);
    cluster.wait_healthy();
    more(30);
    cluster.kill(1);
    more(30);
    cluster.start(1);
    cluster.wait_healthy();
    stop.store(true, Ordering::Relaxed);
    let mut wanted = [0; TALLIES as usize];
    for (number, publisher) in (0..).zip(publishers) {
        wanted[number % TALLIES as usize] += publisher.join().expect("it does not panic");
    }
    let mut client = Client::new(&cluster.http(), 0);
    let mut asked = 0;
    let mut counted = |tally: usize| {
        asked += 1;
        let path = format!("tally/t{tally}/method/get");
        let body = client.good(&path, &format!("get-{asked}"), "").ok()?;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        body["events"].as_u64()
    };
    until("every event is counted", COME_TIME_MAX, || {
        let found = [0, 1, 2].map(&mut counted);
        (found == wanted.map(Some)).then_some(())
    });
    // Nothing that could be counted again is left, and every tenth event has made one.
    until("the cursors have come along", COME_TIME_MAX, || {
        (lag_of(&cluster, 0, "tallies") == Some(0)).then_some(())
    });
    assert_eq!([0, 1, 2].map(&mut counted), wanted.map(Some));
    let tens: u64 = wanted.iter().map(|count| count / 10).sum();
    until(
        "what was published by turns is there",
        COME_TIME_MAX,
        || {
            let topic = cluster.admin(0, "topics/samples/tens")?;
            (topic["published"].as_u64() == Some(tens)).then_some(())
        },
    );
    println!("{wanted:?} events counted once each, {tens} published by turns");
}

/// What nobody has read is acknowledged by nobody.
#[test]
fn a_reader_acknowledges_what_it_has_printed() {
    let cluster = Cluster::form(1, 8);
    let node = cluster.admin_url(0);
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').chain(["--node", &node]).collect();
        let done = process::run(&words);
        assert!(done.status.success(), "{line}: {}", stderr(&done));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let lag_is = |wanted: u64| {
        until("the lag is as it should be", COME_TIME_MAX, || {
            let row = group_row(&cluster, 0, "g")?;
            let left = (row["lag"].as_u64()?, row["subscribers"].as_u64()?);
            (left == (wanted, 0)).then_some(())
        });
    };
    for number in 0..12 {
        run(&format!("publish orders -d {number}"));
    }
    let texts = |printed: String| -> Vec<String> {
        let text = |line: &str| line.split("  ").nth(2).map(str::to_owned);
        printed.lines().filter_map(text).collect()
    };
    // One source, so one log: they come in order.
    assert_eq!(texts(run("subscribe orders --group g --count 1")), ["0"]);
    lag_is(11);
    // A reader that is frozen before it reads, and dies.
    let frozen = process::command()
        .args(["subscribe", "orders", "--group", "g", "--node", &node])
        .stdout(Stdio::piped())
        .spawn();
    let mut frozen = frozen.expect("the binary runs");
    // Nobody empties its pipe, which holds more than these lines; so it is stopped when it has one
    // of them.
    let mut out = BufReader::new(frozen.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    frozen.kill().expect("it runs");
    let printed = 1 + out.lines().count() as u64;
    drop(frozen.wait());
    let row = until("it has gone", COME_TIME_MAX, || {
        let row = group_row(&cluster, 0, "g")?;
        (row["subscribers"] == 0).then_some(row)
    });
    let acked = 11 - row["lag"].as_u64().expect("a number");
    assert!(acked <= printed, "{acked} acknowledged, {printed} printed");
    // A pipe that is closed after one line ends the command; the rest is still there.
    run("subscriptions seek orders g first");
    let closed = process::command()
        .args(["subscribe", "orders", "--group", "g", "--node", &node])
        .stdout(Stdio::piped())
        .spawn();
    let mut closed = closed.expect("the binary runs");
    drop(closed.stdout.take());
    let ended = closed.wait().expect("it ends by itself");
    assert_eq!(ended.code(), Some(0));
    lag_is(12);
    let all: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    assert_eq!(texts(run("subscribe orders --group g --count 12")), all);
    lag_is(0);
}

#[test]
fn what_the_commands_refuse_and_what_applications_read() {
    let cluster = Cluster::form(1, 8);
    let node = cluster.admin_url(0);
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').chain(["--node", &node]).collect();
        let done = process::run(&words);
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.code(), text, stderr(&done))
    };
    assert_eq!(run("publish orders -d one --id x").0, Some(0));
    let (_, whole, _) = run("subscribe orders --group h --count 1 --raw");
    for part in [
        "\"specversion\":\"1.0\"",
        "\"data\":\"one\"",
        "\"id\":\"x\"",
    ] {
        assert!(whole.contains(part), "applications read envelopes: {whole}");
    }
    for (line, says) in [
        ("subscribe orders --group g --from 1 --partition 0", "seek"),
        ("subscribe orders --group g --from 1", "seek"),
        ("subscribe orders --from 1", "--partition"),
        (
            "subscribe orders --from 1 --partition 8",
            "there is no log 8: a topic's logs are 0 to 7",
        ),
        ("subscriptions seek orders g 0 --partition 8", "no log 8"),
        ("subscribe orders --partition 0", "--from"),
    ] {
        let (code, _, why) = run(line);
        assert!(code == Some(2) && why.contains(says), "{line}: {why}");
    }
    let (code, _, why) = run("publish orders -d x --pubsub nobody");
    assert!(code == Some(1) && why.contains("--force"), "{why}");
    assert_eq!(run("publish orders").0, Some(2), "without data");
    let (code, _, why) = run("dead-letters redrive orders h 3/77");
    assert!(
        code == Some(1) && why.contains("3/77"),
        "no such letter: {why}"
    );
}

/// `--builtin` and a component's own word make Ghostlight serve it, whatever its type says.
#[test]
fn commands_take_every_component_that_ghostlight_serves() {
    let mut cluster = Cluster::plan(8);
    let folder = cluster.path("resources");
    std::fs::create_dir(&folder).expect("a folder");
    let redis = component("flagged", "1").replace("pubsub.in-memory", "pubsub.redis");
    let itself = component("itself", "true").replace("name: more", "name: ghostlight.builtin");
    for (name, text) in [
        ("flagged.yaml", redis),
        ("itself.yaml", itself),
        ("other.yaml", component("other", "1")),
    ] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    let path = folder.display().to_string();
    cluster.found_with(&["--resources-path", &path, "--builtin", "pubsub.redis"]);
    cluster.wait_healthy();
    let node = cluster.admin_url(0);
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').chain(["--node", &node]).collect();
        let done = process::run(&words);
        (done.status.code(), stderr(&done))
    };
    for name in ["flagged", "itself"] {
        let (code, why) = run(&format!("publish orders -d 1 --pubsub {name}"));
        assert_eq!(code, Some(0), "{name}: {why}");
    }
    let (code, why) = run("publish orders -d 1 --pubsub other");
    assert_eq!(code, Some(1), "{why}");
    assert!(why.contains("flagged, itself, pubsub"), "{why}");
    // A reader of events that never come would wait without a word, and make a topic.
    for name in ["other", "nobody"] {
        let (code, why) = run(&format!("subscribe orders --pubsub {name} --count 1"));
        assert!(code == Some(1) && why.contains("--force"), "{name}: {why}");
    }
    let forced = "--pubsub nobody --force";
    assert_eq!(run(&format!("publish orders -d 1 {forced}")).0, Some(0));
    let read = format!("subscribe orders {forced} --group g --count 1");
    assert_eq!(run(&read), (Some(0), String::new()));
}

#[test]
fn the_commands_about_topics() {
    let cluster = Cluster::form(1, 8);
    let node = cluster.admin_url(0);
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').chain(["--node", &node]).collect();
        let done = process::run(&words);
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.code(), text, stderr(&done))
    };
    // The samples have a component of their own.
    assert_eq!(run("topics --pubsub pubsub").0, Some(3), "none is there");
    assert_eq!(run("topics orders").0, Some(1), "nor this one");
    let (code, first, _) = run("publish orders -d one --key a --id x");
    assert_eq!(code, Some(0));
    let (_, again, _) = run("publish orders -d one --key a --id x");
    assert_eq!(first, again, "the same event stands where it stood");
    run("publish orders -d two --key a");
    let (_, got, _) = run("subscribe orders --group g --from first --count 2");
    let texts: Vec<&str> = got
        .lines()
        .filter_map(|line| line.split("  ").nth(2))
        .collect();
    assert_eq!(texts, ["one", "two"]);
    let (code, topics, _) = run("topics --pubsub pubsub --json");
    let topics: Value = serde_json::from_str(&topics).expect("JSON");
    assert_eq!((code, &topics[0]["published"]), (Some(0), &Value::from(2)));
    let (code, _, _) = run("subscriptions pause orders g");
    assert_eq!(code, Some(0));
    let (_, groups, _) = run("subscriptions orders --json");
    let groups: Value = serde_json::from_str(&groups).expect("JSON");
    let g = |groups: &Value| {
        groups
            .as_array()
            .and_then(|g| g.iter().find(|g| g["group"] == "g").cloned())
    };
    assert_eq!(
        g(&groups).expect("g")["paused"],
        Value::from(true),
        "{groups}"
    );
    assert_eq!(run("subscriptions resume orders g").0, Some(0));
    assert_eq!(run("subscriptions seek orders g first").0, Some(0));
    let (_, groups, _) = run("subscriptions orders --json");
    let groups: Value = serde_json::from_str(&groups).expect("JSON");
    assert_eq!(g(&groups).expect("g")["lag"], Value::from(2), "{groups}");
    assert_eq!(
        run("subscriptions delete orders g").0,
        Some(2),
        "without --yes"
    );
    assert_eq!(run("subscriptions delete orders g --yes").0, Some(0));
    assert_eq!(
        run("subscriptions delete orders g --yes").0,
        Some(1),
        "it is gone"
    );
    assert_eq!(run("subscriptions pause orders nobody").0, Some(1));
    assert_eq!(
        run("subscriptions seek orders g 5").0,
        Some(2),
        "of which log?"
    );
    assert_eq!(
        run("dead-letters list orders g").0,
        Some(3),
        "none is there"
    );
    assert_eq!(run("dead-letters redrive orders g").0, Some(2));
    delete_a_topic(run);
}

fn delete_a_topic(run: impl Fn(&str) -> (Option<i32>, String, String)) {
    let (_, table, _) = run("topics orders");
    let logs = table.lines().filter(|line| line.ends_with('Z')).count();
    assert!(
        logs == 1 && !table.contains('{'),
        "a row for its log: {table}"
    );
    let (code, _, why) = run("topics delete orders");
    assert!(code == Some(2) && why.contains("--yes"), "{why}");
    run("subscribe orders --group h --from first --count 1");
    assert_eq!(run("topics delete orders --yes").0, Some(0));
    assert_eq!(run("topics orders").0, Some(1), "it is gone");
    assert_eq!(run("topics --pubsub pubsub").0, Some(3));
    assert_eq!(run("topics delete orders --yes").0, Some(1), "again");
    // Its offsets go on, and a group begins behind them.
    let (_, third, _) = run("publish orders -d three --key a");
    assert!(third.trim_end().ends_with("/2"), "{third}");
    let (_, got, _) = run("subscribe orders --group h --from first --count 1");
    assert!(got.contains("three"), "{got}");
}
