//! What a bench tells its processes, and what they answer: one JSON object per line, on stdin and
//! stdout.

use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One piece of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// A node: call actors.
    Load(Load),
    /// A node: publish to topics, and wait for subscribers.
    Topics(TopicLoad),
    /// A node: publish to subscribers of an ephemeral topic, here and on other nodes.
    Fan(FanLoad),
    /// A node: subscribe to it, until the publisher has finished.
    Listen(FanLoad),
    /// Serve an application that hosts actors, until the end of the process.
    AppServer,
    /// The worker that serves it: the reminders that came since the last time.
    AppReminded {
        /// As many as are waited for.
        count: u64,
        /// For so long.
        wait_ms: u64,
    },
    /// Call actors through the nodes' HTTP API, or an application itself.
    Web(WebLoad),
    /// Load a server of others.
    Peer(PeerLoad),
    /// The same with one publisher and many subscribers.
    PeerFan(PeerFan),
    /// Call a target that answers at once, with the same clients as `Load`.
    EmptyTarget(Load),
    /// Go back and forth over a tokio channel.
    Channel(Loop),
    /// Echo frames until the end of the process.
    LaneServer {
        /// Cluster key.
        key: String,
    },
    /// Send frames to a lane server and wait for them.
    LaneClient {
        /// Cluster key.
        key: String,
        /// Where the server listens, on loopback.
        port: u16,
        /// How often.
        run: Loop,
        /// Bytes of one frame.
        bytes: usize,
    },
    /// Read from the data directory of a node that has ended what one turn left there.
    Weigh {
        /// The directory.
        data_dir: PathBuf,
    },
    /// Write batches to a new RocksDB, a sync each.
    Commits {
        /// Data directory to make.
        data_dir: PathBuf,
        /// What a turn writes.
        shape: TurnShape,
        /// Turns of one batch.
        batch: usize,
        /// For how long.
        time_ms: u64,
    },
    /// Append 4 KiB to a file and sync it.
    Syncs {
        /// The file to make.
        file: PathBuf,
        /// For how long.
        time_ms: u64,
    },
}

/// The answer to an [`Order`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What was measured.
    Report(Report),
    /// To `LaneServer` and `AppServer`.
    Listening(u16),
    /// To `Weigh`.
    Shape(TurnShape),
    /// It could not be done.
    Failed(String),
}

/// A closed loop: so many clients, each with one call at a time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Loop {
    /// Clients.
    pub(super) in_flight: usize,
    /// Not measured before the start.
    pub(super) warm_ms: u64,
    /// How much.
    pub(super) amount: Amount,
    /// All clients together start at most this many calls a second; `None`: as many as they can.
    pub(super) per_second: Option<u32>,
}

/// When a loop ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Amount {
    /// After this time.
    TimeMs(u64),
    /// After this many calls.
    Calls(u64),
}

/// Calls of actors.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Load {
    /// Which method.
    pub(super) work: Work,
    /// The actors, one after the other.
    pub(super) actors: Actors,
    /// How often.
    pub(super) run: Loop,
    /// How long each call waits; `None`: for ever.
    pub(super) timeout_ms: Option<u64>,
}

/// Publishes of a node.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct TopicLoad {
    /// Topics, one after the other.
    pub(super) topics: u64,
    /// Subscribers of the one group of each; 0: events are published and that is all.
    pub(super) subscribers: u32,
    /// Keys of the events.
    pub(super) keys: u64,
    /// Bytes of an event.
    pub(super) bytes: usize,
    /// A number that keeps the topics of one measurement apart from those of another.
    pub(super) series: u32,
    /// How often.
    pub(super) run: Loop,
}

/// Requests over HTTP/1.1, each client with a connection of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WebLoad {
    /// Who is asked, one after the other, on loopback.
    pub(super) ports: Vec<u16>,
    /// What for.
    pub(super) work: WebWork,
    /// How many actors, one after the other; `None`: each call has one of its own.
    pub(super) actors: Option<u64>,
    /// As in [`Actors`].
    pub(super) series: u32,
    /// How often.
    pub(super) run: Loop,
}

/// What a request is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WebWork {
    /// The sample actor `echo`, through a node.
    Native,
    /// An actor of the application, through a node.
    Hosted,
    /// The same request, without a node between.
    Direct,
    /// A reminder for an actor of the application.
    Remind {
        /// When it is due, in Dapr's forms.
        due: String,
    },
}

/// One publisher, and the subscribers of one process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct FanLoad {
    /// Subscribers in this process.
    pub(super) subscribers: u32,
    /// More of them beside the publisher, which take nothing and are not counted.
    pub(super) stuck: u32,
    /// Which listener this one is, from 0.
    pub(super) listener: u32,
    /// Other processes that listen.
    pub(super) listeners: u32,
    /// Bytes of an event.
    pub(super) bytes: usize,
    /// As in [`TopicLoad`].
    pub(super) series: u32,
    /// Events under way at most.
    pub(super) window: u64,
    /// For how long.
    pub(super) time_ms: u64,
    /// Events a second; `None`: as many as possible.
    pub(super) per_second: Option<u32>,
}

/// The same at a server of others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PeerFan {
    /// Which server.
    pub(super) peer: Peer,
    /// Where it listens, on loopback.
    pub(super) port: u16,
    /// How much.
    pub(super) fan: FanLoad,
}

/// Publishes to a server of others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PeerLoad {
    /// Which server.
    pub(super) peer: Peer,
    /// Where it listens, on loopback.
    pub(super) port: u16,
    /// What of it.
    pub(super) work: PeerWork,
    /// Bytes of an event.
    pub(super) bytes: usize,
    /// How often.
    pub(super) run: Loop,
}

/// What a server of others does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PeerWork {
    /// It takes events.
    Publish,
    /// A group of four takes and acknowledges them, too.
    Group,
}

/// A server of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Peer {
    /// Redis streams.
    Redis,
    /// NATS JetStream.
    Nats,
    /// NATS without JetStream.
    NatsCore,
    /// An MQTT broker.
    Mosquitto,
}

/// The called method.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// `echo`: a read-only call with a body and an answer of this size.
    Echo(usize),
    /// `counter/get`: activates, changes nothing.
    Get,
    /// `counter/add`: a durable turn.
    Add,
    /// `log/append` with a line of this size.
    Append(usize),
}

/// Which actors are called.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Actors {
    /// How many.
    pub(super) count: u64,
    /// Where in the list this caller begins.
    pub(super) begin: u64,
    /// A number that keeps the actors of one measurement apart from those of another.
    pub(super) series: u32,
    /// Which of them.
    pub(super) place: Place,
}

/// Where an actor's leader is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// On any node.
    Anywhere,
    /// On another node than the caller.
    Elsewhere,
}

/// What one turn writes, row by row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct TurnShape {
    /// The rows, the log's first.
    pub(super) rows: Vec<RowShape>,
}

impl TurnShape {
    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.key + row.value).sum()
    }
}

/// A row of one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct RowShape {
    /// Where it goes.
    pub(super) place: RowPlace,
    /// Bytes of its key.
    pub(super) key: usize,
    /// Bytes of its value.
    pub(super) value: usize,
}

/// Where a row goes, and how often its key comes again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RowPlace {
    /// A new row of the log.
    Log,
    /// State or version: one for each actor.
    Actor,
    /// A new row of recorded answers.
    Request,
    /// A session: one for each partition.
    Session,
}

/// What a loop measured.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// Calls answered within the measured time.
    pub(super) calls: u64,
    /// Calls refused or without an answer, at any time.
    pub(super) failed: u64,
    /// Why the first of them failed.
    pub(super) failure: Option<String>,
    /// The measured time.
    pub(super) seconds: f64,
    /// Processor time of the whole process meanwhile.
    pub(super) cpu_seconds: f64,
    /// The clients' part of it.
    pub(super) client_cpu_seconds: f64,
    /// Latencies: nanoseconds, and how many.
    pub(super) latencies: Vec<(u64, u64)>,
}

/// Longest latency that is told apart: a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Latencies in nanoseconds, to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("fixed bounds that fit")
}

/// A histogram for a report.
pub(super) fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded
        .map(|value| (value.value_iterated_to(), value.count_at_value()))
        .collect()
}

impl Report {
    /// Calls a second.
    pub(super) fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds.max(f64::EPSILON)
    }

    /// Processor time of the process without its clients.
    pub(super) fn node_cpu_seconds(&self) -> f64 {
        (self.cpu_seconds - self.client_cpu_seconds).max(0.0)
    }

    /// Latency at a quantile, in microseconds.
    pub(super) fn micros_at(&self, quantile: f64) -> f64 {
        let mut all = histogram();
        for (value, count) in &self.latencies {
            all.saturating_record_n(*value, *count);
        }
        all.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// Several callers at the same time.
    pub(super) fn together(reports: &[Self]) -> Self {
        let longest = reports.iter().map(|r| r.seconds).fold(0.0, f64::max);
        // Their times differ by little; the sum of their rates is what they reached together.
        let rate: f64 = reports.iter().map(Self::rate).sum();
        let mut sum = Self::in_turn(reports);
        sum.seconds = if rate > 0.0 {
            sum.calls as f64 / rate
        } else {
            longest
        };
        sum
    }

    /// Several runs, one after the other.
    pub(super) fn in_turn(reports: &[Self]) -> Self {
        let mut sum = Self::default();
        for report in reports {
            sum.calls += report.calls;
            sum.failed += report.failed;
            sum.failure = sum.failure.or_else(|| report.failure.clone());
            sum.seconds += report.seconds;
            sum.cpu_seconds += report.cpu_seconds;
            sum.client_cpu_seconds += report.client_cpu_seconds;
            sum.latencies.extend_from_slice(&report.latencies);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(calls: u64, seconds: f64, latency: u64) -> Report {
        Report {
            calls,
            seconds,
            latencies: vec![(latency, calls)],
            ..Report::default()
        }
    }

    #[test]
    fn callers_at_the_same_time_add_their_rates() {
        let both = Report::together(&[report(100, 1.0, 1_000), report(300, 1.5, 3_000)]);
        assert_eq!((both.calls, both.rate().round()), (400, 300.0));
        let after = Report::in_turn(&[report(100, 1.0, 1_000), report(300, 1.0, 3_000)]);
        assert_eq!(after.rate().round(), 200.0);
        assert_eq!(after.micros_at(0.25).round(), 1.0);
        assert_eq!(after.micros_at(0.26).round(), 3.0);
    }

    #[test]
    fn orders_and_answers_are_lines() {
        let order = Order::Load(Load {
            work: Work::Echo(128),
            actors: Actors {
                count: 3,
                begin: 1,
                series: 9,
                place: Place::Elsewhere,
            },
            run: Loop {
                in_flight: 64,
                warm_ms: 1,
                amount: Amount::Calls(7),
                per_second: Some(5),
            },
            timeout_ms: Some(9),
        });
        let line = serde_json::to_string(&order).unwrap();
        assert!(!line.contains('\n'));
        let back: Order = serde_json::from_str(&line).unwrap();
        assert_eq!(format!("{back:?}"), format!("{order:?}"));
    }
}
