//! Ephemeral topics on real processes: subscribers on every node, one that reads nothing, a node
//! that is killed and comes back, and a last value that outlives its publisher.
//!
//! What every run checks: a subscriber that keeps up gets every event of a publisher once, in
//! order; one that does not loses its own and is told how many.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::http::{Ask, Connection};
use ghostlight_chaos::process;
use ghostlight_chaos::wait::until;
use serde_json::Value;

/// Longest time until everything has come.
const COME_TIME_MAX: Duration = Duration::from_secs(60);
/// A component whose topics say what they are.
const COMPONENT: &str = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: pubsub}\nspec:\n  type: \
                         pubsub.ghostlight\n  metadata:\n  - {name: ephemeralTopics, value: \"ticks, signals/*\"}\n  - \
                         {name: latchedTopics, value: \"last/*\"}\n";

/// What a subscriber has printed: number and how many were lost before it.
type Seen = Arc<Mutex<Vec<(u64, u64)>>>;

/// `ghostlight subscribe` beside one node.
struct Subscriber {
    child: Child,
    seen: Seen,
}

impl Subscriber {
    fn start(node: &str, topic: &str, more: &[&str]) -> Self {
        let mut command = process::command();
        command.args(["subscribe", topic, "--json", "--node", node]);
        command.args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let seen = Seen::default();
        let put = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).expect("a line of JSON");
                let text = event["text"].as_str().expect("a text");
                // Padding follows the number.
                let number = text.split(' ').next().and_then(|text| text.parse().ok());
                let missed = event["missed"].as_u64().unwrap_or(0);
                let number = number.expect("a number");
                put.lock()
                    .expect("nobody panics with it")
                    .push((number, missed));
            }
        });
        Self { child, seen }
    }

    fn seen(&self) -> Vec<(u64, u64)> {
        self.seen.lock().expect("nobody panics with it").clone()
    }

    fn wait_for(&self, number: u64) {
        until("a subscriber gets an event", COME_TIME_MAX, || {
            let seen = self.seen();
            seen.last()
                .is_some_and(|(last, _)| *last >= number)
                .then_some(())
        });
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may have ended with its node.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Publishes through a node's admin port, on one connection.
struct Publisher {
    connection: Connection,
    topic: &'static str,
    class: &'static str,
    padding: String,
}

impl Publisher {
    fn at(cluster: &Cluster, node: usize, topic: &'static str, class: &'static str) -> Self {
        let url = cluster.admin_url(node);
        let address = url.strip_prefix("http://").expect("a URL");
        Self {
            connection: Connection::to(address),
            topic,
            class,
            padding: String::new(),
        }
    }

    /// Publishes a number, and gives how many subscribers it was sent to.
    fn publish(&mut self, number: u64) -> u64 {
        let text = format!("{number} {}", self.padding);
        let body = serde_json::json!({
            "pubsub": "pubsub", "topic": self.topic, "payload": "raw", "class": self.class,
            "data_base64": STANDARD.encode(text),
        });
        let ask = Ask {
            method: "POST",
            path: "/ghostlight/v1/publish".to_owned(),
            headers: vec![("Content-Type", "application/json".to_owned())],
            body: body.to_string(),
            time_max: Duration::from_secs(10),
        };
        let reply = self.connection.send(&ask).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
        let view: Value = serde_json::from_str(&reply.body).expect("JSON");
        view["sent"]["subscribers"].as_u64().expect("a number")
    }
}

fn topic_row(cluster: &Cluster, node: usize, topic: &str) -> Option<Value> {
    let rows = cluster.admin(node, "topics")?;
    let rows = rows.as_array()?.clone();
    rows.into_iter()
        .find(|row| row["topic"] == topic && row["kind"] == "ephemeral")
}

/// A node knows of so many subscribers.
fn wait_known(cluster: &Cluster, node: usize, topic: &str, subscribers: u64) {
    until("a node knows of the subscribers", COME_TIME_MAX, || {
        let row = topic_row(cluster, node, topic)?;
        (row["subscribers"] == subscribers).then_some(())
    });
}

/// Number of an event that only finds out whom it reaches.
const WARM_UP: u64 = 0;

fn assert_whole(seen: &[(u64, u64)], from: u64, to: u64) {
    let counted = seen.iter().filter(|(number, _)| *number != WARM_UP);
    let seen: Vec<(u64, u64)> = counted.copied().collect();
    let wanted: Vec<(u64, u64)> = (from..=to).map(|number| (number, 0)).collect();
    assert_eq!(seen.len(), wanted.len(), "{from}..={to}");
    assert!(seen == wanted, "not in order, or with gaps");
}

/// A stream of events of which nothing is read.
fn reads_nothing(cluster: &Cluster, node: usize, topic: &str) -> TcpStream {
    let url = cluster.admin_url(node);
    let address = url.strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let ask = format!(
        "GET /ghostlight/v1/subscribe/pubsub/{topic}?class=ephemeral HTTP/1.1\r\nHost: {address}\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).expect("it takes it");
    let mut first = [0; 1];
    stream.read_exact(&mut first).expect("it answers");
    stream
}

#[test]
fn a_subscriber_that_reads_nothing_hurts_itself_alone() {
    let cluster = Cluster::form(3, 8);
    let fast: Vec<Subscriber> = (0..3)
        .map(|node| Subscriber::start(&cluster.admin_url(node), "ticks", &["--ephemeral"]))
        .collect();
    wait_known(&cluster, 0, "ticks", 3);
    let mut publisher = Publisher::at(&cluster, 0, "ticks", "ephemeral");
    publisher.padding = "x".repeat(8 << 10);
    let count = 3_000;
    let timed = |publisher: &mut Publisher, from: u64| {
        let begun = Instant::now();
        for number in from..from + count {
            publisher.publish(number);
            // As fast as the others read, so that they keep up.
            if number % 256 == 0 {
                fast.iter()
                    .for_each(|subscriber| subscriber.wait_for(number));
            }
        }
        fast.iter()
            .for_each(|subscriber| subscriber.wait_for(from + count - 1));
        begun.elapsed()
    };
    let alone = timed(&mut publisher, 1);
    let slow = reads_nothing(&cluster, 1, "ticks");
    wait_known(&cluster, 0, "ticks", 4);
    let beside = timed(&mut publisher, count + 1);
    println!("{count} events alone in {alone:?}, beside a slow subscriber in {beside:?}");
    // What it costs exactly is measured inside a node; here are processes that share a machine with
    // others.
    assert!(beside < alone * 2, "{beside:?}, alone {alone:?}");
    for subscriber in &fast {
        assert_whole(&subscriber.seen(), 1, 2 * count);
    }
    // The node of the publisher hears how many the slow one has lost.
    let dropped = until("the loss is told", COME_TIME_MAX, || {
        let row = topic_row(&cluster, 0, "ticks")?;
        row["dropped"].as_u64().filter(|dropped| *dropped > 0)
    });
    assert!(dropped < count, "{dropped}");
    drop(slow);
    wait_known(&cluster, 0, "ticks", 3);
}

#[test]
fn a_killed_node_comes_back_to_its_topics() {
    let mut cluster = Cluster::form(3, 8);
    let listens = |cluster: &Cluster, node| {
        Subscriber::start(&cluster.admin_url(node), "ticks", &["--ephemeral"])
    };
    let (doomed, stays) = (listens(&cluster, 1), listens(&cluster, 2));
    wait_known(&cluster, 0, "ticks", 2);
    let mut publisher = Publisher::at(&cluster, 0, "ticks", "ephemeral");
    for number in 1..=100 {
        assert_eq!(publisher.publish(number), 2);
    }
    doomed.wait_for(100);
    assert_whole(&doomed.seen(), 1, 100);
    cluster.kill(1);
    // Nobody waits for the dead one.
    for number in 101..=200 {
        publisher.publish(number);
    }
    stays.wait_for(200);
    cluster.start(1);
    cluster.wait_healthy();
    let back = listens(&cluster, 1);
    wait_known(&cluster, 0, "ticks", 2);
    let mut at_back = Publisher::at(&cluster, 1, "ticks", "ephemeral");
    for number in 201..=300 {
        assert_eq!(publisher.publish(number), 2);
    }
    back.wait_for(300);
    stays.wait_for(300);
    // The node that came back publishes, too, once its lanes reach everybody: who subscribes is
    // known before that.
    until(
        "the node that came back reaches both",
        COME_TIME_MAX,
        || (at_back.publish(WARM_UP) == 2).then_some(()),
    );
    for number in 301..=400 {
        assert_eq!(at_back.publish(number), 2);
    }
    back.wait_for(400);
    stays.wait_for(400);
    assert_whole(&back.seen(), 201, 400);
    assert_whole(&stays.seen(), 1, 400);
}

#[test]
fn a_last_value_outlives_its_publisher_and_components_say_what_topics_are() {
    let mut cluster = Cluster::plan(8);
    let resources = cluster.path("resources");
    std::fs::create_dir(&resources).expect("a folder");
    std::fs::write(resources.join("pubsub.yaml"), COMPONENT).expect("a file");
    let folder = resources.display().to_string();
    let more = ["--resources-path", folder.as_str()];
    cluster.found_with(&more);
    cluster.join_with(&more);
    cluster.join_with(&more);
    cluster.wait_healthy();
    // Dapr's own publish: the component says that the topic keeps its last value.
    let publish = |number: u64| {
        let address = &cluster.http()[0];
        let ask = Ask {
            method: "POST",
            path: "/v1.0/publish/pubsub/last/eur".to_owned(),
            headers: vec![("Content-Type", "text/plain".to_owned())],
            body: number.to_string(),
            time_max: Duration::from_secs(10),
        };
        let reply = Connection::to(address).send(&ask).expect("an answer");
        assert_eq!(reply.status, 204, "{}", reply.body);
    };
    publish(1);
    publish(2);
    let first = Subscriber::start(&cluster.admin_url(1), "last/eur", &[]);
    first.wait_for(2);
    publish(3);
    first.wait_for(3);
    assert_whole(&first.seen(), 2, 3);
    cluster.kill(0);
    until("its death is known", COME_TIME_MAX, || {
        let is_gone = cluster.row(1, 0).is_none_or(|row| row["state"] == "down");
        is_gone.then_some(())
    });
    // A node that has subscribers keeps it for who comes later.
    let late = Subscriber::start(&cluster.admin_url(2), "last/eur", &[]);
    late.wait_for(3);
    assert_whole(&late.seen(), 3, 3);
    let row = topic_row(&cluster, 2, "last/eur").expect("it is listed");
    assert!(row["last_value"].is_string(), "{row}");
    let refused = process::run(&[
        "subscribe",
        "signals/a",
        "--group",
        "g",
        "--count",
        "1",
        "--node",
        &cluster.admin_url(2),
    ]);
    let said = process::stderr(&refused);
    assert!(
        !refused.status.success() && said.contains("E0506"),
        "{said}"
    );
}
