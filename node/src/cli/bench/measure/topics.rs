//! Topics: durable publishes, a group of four, the wake-up of a topic that was idle; next to Redis
//! and NATS in the same run when they are on the path. Settings as others would set them who want
//! what we promise: synced before the answer.

use std::time::Instant;

use super::{Bench, say};
use crate::cli::Failure;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{Amount, Loop, Order, Peer, PeerLoad, PeerWork, Report, TopicLoad};
use crate::cli::bench::row::Row;
use crate::cli::bench::servers::Server;

/// Publishes in flight.
const WINDOW: usize = 256;
/// Bytes of an event.
const EVENT_BYTES: usize = 1_024;
/// Keys of the events.
const KEYS: u64 = 1_000;
/// Members of the group.
const GROUP: u32 = 4;
/// Topics that sleep, and events a second for all of them together: each is idle for seconds.
const IDLE_TOPICS: u64 = 64;
const WAKE_UPS: u32 = 20;

/// The rows.
const ROWS: [&str; 6] = [
    "publish_one",
    "publish_one_nats",
    "publish_three",
    "topic_group",
    "topic_wakeup",
    "topic_idle",
];

impl Bench {
    /// Every row about topics.
    pub(super) async fn topics(&mut self) -> Result<(), Failure> {
        if !self.wants(&ROWS) {
            return Ok(());
        }
        let run = self.plan.clients(WINDOW);
        let (mut redis, mut nats, mut nats_group) = (Ok(None), Ok(None), Ok(None));
        if self.wants(&["publish_one"]) {
            redis = self.peer(Peer::Redis, PeerWork::Publish, run).await;
        }
        if self.wants(&["publish_one_nats", "publish_three"]) {
            nats = self.peer(Peer::Nats, PeerWork::Publish, run).await;
        }
        if self.wants(&["topic_group"]) {
            nats_group = self.peer(Peer::Nats, PeerWork::Group, run).await;
        }
        self.topics_on_one(run, redis, &nats, nats_group).await?;
        if self.wants(&["publish_three"]) {
            let mut cluster = Cluster::form(&self.base, 3, 3).await?;
            cluster.settle(self.plan.settle).await?;
            say("durable publishes on three nodes, 256 in flight");
            let load = self.topic_load(1, 0, run);
            let report = cluster.topics(0, load).await?;
            cluster.end().await;
            self.put_beside("publish_three", &report, Peer::Nats, nats);
        }
        Ok(())
    }

    async fn topics_on_one(
        &mut self,
        run: Loop,
        redis: Result<Option<Report>, String>,
        nats: &Result<Option<Report>, String>,
        nats_group: Result<Option<Report>, String>,
    ) -> Result<(), Failure> {
        if !self.wants(&[
            "publish_one",
            "publish_one_nats",
            "topic_group",
            "topic_wakeup",
            "topic_idle",
        ]) {
            return Ok(());
        }
        let mut cluster = Cluster::form(&self.base, 1, 1).await?;
        if self.wants(&["publish_one", "publish_one_nats"]) {
            say("durable publishes on one node, 256 in flight");
            let load = self.topic_load(1, 0, run);
            let report = cluster.topics(0, load).await?;
            self.put_beside("publish_one", &report, Peer::Redis, redis);
            self.put_beside("publish_one_nats", &report, Peer::Nats, nats.clone());
        }
        if self.wants(&["topic_group"]) {
            say("events to a group of four, 256 in flight");
            let load = self.topic_load(1, GROUP, run);
            let report = cluster.topics(0, load).await?;
            self.put_beside("topic_group", &report, Peer::Nats, nats_group);
        }
        if self.wants(&["topic_wakeup"]) {
            say("wake-up of idle topics");
            let paced = Loop {
                in_flight: 1,
                warm_ms: 0,
                amount: Amount::TimeMs(self.plan.time_ms()),
                per_second: Some(WAKE_UPS),
            };
            let load = self.topic_load(IDLE_TOPICS, 1, paced);
            let report = cluster.topics(0, load).await?;
            let row = Row::new("topic_wakeup", report.micros_at(0.99)).seen(&report);
            self.put(
                row.noted(
                    "publish, sync and delivery of one event to a topic idle for seconds, p99",
                ),
            );
        }
        if self.wants(&["topic_idle"]) {
            self.idle_topics(&mut cluster).await?;
        }
        cluster.end().await;
        Ok(())
    }

    /// What many topics and subscriptions cost while hardly anything is published.
    async fn idle_topics(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        let topics = self.plan.topics;
        say(&format!("{topics} idle topics, and a subscription to each"));
        let (before, begun) = (cluster.cpu()?[0], Instant::now());
        tokio::time::sleep(self.plan.idle).await;
        let spent = (cluster.cpu()?[0] - before).as_secs_f64();
        let alone = spent / begun.elapsed().as_secs_f64() * 100.0;
        let paced = Loop {
            in_flight: 1,
            warm_ms: self.plan.idle.as_millis() as u64,
            amount: Amount::TimeMs(self.plan.idle.as_millis() as u64),
            per_second: Some(1),
        };
        let load = self.topic_load(topics, 1, paced);
        let report = cluster.topics(0, load).await?;
        let share = report.node_cpu_seconds() / report.seconds * 100.0;
        let row = Row::new("topic_idle", share - alone).seen(&report);
        self.put(row.noted(&format!(
            "{topics} topics with a subscription each, one event a second; {share:.1} %, less {alone:.1} % without them"
        )));
        Ok(())
    }

    fn topic_load(&mut self, topics: u64, subscribers: u32, run: Loop) -> TopicLoad {
        self.series += 1;
        TopicLoad {
            topics,
            subscribers,
            keys: KEYS,
            bytes: EVENT_BYTES,
            series: self.series,
            run,
        }
    }

    /// The same load on a server of others; `None`: it is not there.
    async fn peer(
        &mut self,
        peer: Peer,
        work: PeerWork,
        run: Loop,
    ) -> Result<Option<Report>, String> {
        self.series += 1;
        let directory = self
            .scratch
            .directory()
            .join(format!("peer-{}", self.series));
        let Some(server) = Server::start(peer, &directory).await? else {
            return Ok(None);
        };
        say(&format!("{}, 256 in flight", peer.settings()));
        let order = Order::Peer(PeerLoad {
            peer,
            port: server.port,
            work,
            bytes: EVENT_BYTES,
            run,
        });
        let report = self.worker(&order).await;
        report
            .map(Some)
            .map_err(|failure| failure.detail().to_owned())
    }

    /// Our figure beside that of a server; one that is absent, or fails, is told.
    fn put_beside(
        &mut self,
        name: &'static str,
        report: &Report,
        peer: Peer,
        theirs: Result<Option<Report>, String>,
    ) {
        let row = Row::new(name, report.rate());
        let cpu = report.node_cpu_seconds() * 1e6 / report.calls.max(1) as f64;
        let ours = format!("1 KiB, {cpu:.1} us of processor for each, the load's node alone");
        let row = match theirs {
            Ok(Some(theirs)) => {
                row.against(theirs.rate(), format!("baseline: {}", peer.settings()))
            }
            Ok(None) => row.noted(&format!(
                "no baseline: {} is not on the path",
                peer.program()
            )),
            Err(why) => row.noted(&format!("no baseline: {} failed: {why}", peer.program())),
        };
        self.put(row.noted(&ours).seen(report));
    }
}

/// Rows of `bench pubsub`.
pub(in crate::cli::bench) fn rows() -> Vec<String> {
    ["machine", "fsync"]
        .into_iter()
        .chain(ROWS)
        .chain(super::ephemeral::rows())
        .map(str::to_owned)
        .collect()
}
