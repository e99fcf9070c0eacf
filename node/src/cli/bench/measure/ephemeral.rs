//! Ephemeral topics: one publisher to 8 and to 32 subscribers, spread over three nodes with TLS
//! between them, saturated and paced, and with one of them that takes nothing; next to NATS core
//! and mosquitto, without TLS, in the same run when they are on the path.

use super::{Bench, say};
use crate::cli::Failure;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{FanLoad, Order, Peer, PeerFan, Report};
use crate::cli::bench::proc;
use crate::cli::bench::row::Row;
use crate::cli::bench::servers::Server;

/// Bytes of an event.
const EVENT_BYTES: usize = 1_024;
/// Events under way at most: less than a subscriber's ring holds.
const WINDOW: u64 = 512;
/// Events a second where latency is measured.
const PACE: u32 = 1_000;
/// The subscriber that is stuck is one of so many; measured so often with it and without it, in
/// turn.
const STUCK_AMONG: u32 = 8;
const STUCK_PAIRS: usize = 3;
const STUCK: &str = "ephemeral_8_stuck";
/// Nodes that the subscribers are spread over.
const NODES: u32 = 3;

/// Rows of one number of subscribers.
struct Names {
    subscribers: u32,
    cpu: &'static str,
    nats: &'static str,
    mosquitto: &'static str,
    paced: &'static str,
}

const NAMES: [Names; 2] = [
    Names {
        subscribers: 8,
        cpu: "ephemeral_8",
        nats: "ephemeral_8_nats",
        mosquitto: "ephemeral_8_mosquitto",
        paced: "ephemeral_8_paced",
    },
    Names {
        subscribers: 32,
        cpu: "ephemeral_32",
        nats: "ephemeral_32_nats",
        mosquitto: "ephemeral_32_mosquitto",
        paced: "ephemeral_32_paced",
    },
];

/// Of a saturated or paced run: deliveries, and the processor time of all that is no client.
struct Fanned {
    report: Report,
    cpu_seconds: f64,
}

impl Fanned {
    fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.report.calls.max(1) as f64
    }
}

type Theirs = Result<Option<Fanned>, String>;

/// What others reached with one number of subscribers.
struct Baselines {
    nats: Theirs,
    mosquitto: Theirs,
    nats_paced: Theirs,
}

impl Bench {
    /// Every row about ephemeral topics.
    pub(super) async fn ephemeral(&mut self) -> Result<(), Failure> {
        let wanted: Vec<&Names> = NAMES.iter().filter(|names| self.wants_any(names)).collect();
        if wanted.is_empty() && !self.wants(&[STUCK]) {
            return Ok(());
        }
        let mut baselines = Vec::new();
        for names in &wanted {
            let subscribers = names.subscribers;
            baselines.push(Baselines {
                nats: self.fan_of(Peer::NatsCore, subscribers, None).await,
                mosquitto: self.fan_of(Peer::Mosquitto, subscribers, None).await,
                nats_paced: self.fan_of(Peer::NatsCore, subscribers, Some(PACE)).await,
            });
        }
        let mut cluster = Cluster::form(&self.base, NODES as usize, NODES as u8).await?;
        cluster.settle(self.plan.settle).await?;
        for (names, theirs) in wanted.into_iter().zip(baselines) {
            let subscribers = names.subscribers;
            let saturated = self.fan_out(&mut cluster, subscribers, None).await?;
            let paced = self.fan_out(&mut cluster, subscribers, Some(PACE)).await?;
            self.put_saturated(names, &saturated, theirs.nats, theirs.mosquitto);
            self.put_paced(names, &paced, theirs.nats_paced);
        }
        if self.wants(&[STUCK]) {
            self.one_stuck(&mut cluster).await?;
        }
        cluster.end().await;
        Ok(())
    }

    /// What one subscriber that takes nothing does to the others.
    async fn one_stuck(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        let mut last = None;
        for _ in 0..STUCK_PAIRS {
            for (stuck, seen) in [(0, &mut without), (1, &mut with)] {
                let load = FanLoad {
                    stuck,
                    ..self.fan(STUCK_AMONG - stuck, Some(PACE))
                };
                let fanned = self.fan_out_by(cluster, load).await?;
                seen.push(fanned.report.micros_at(0.99));
                last = Some(fanned.report);
            }
        }
        let row = Row::new(STUCK, median(&mut with)).against(
            median(&mut without),
            format!("baseline: all of {STUCK_AMONG} subscribers take what comes; medians of {STUCK_PAIRS} runs in turn, p99"),
        );
        let row = row.noted(&format!(
            "{PACE} events/s; one of {STUCK_AMONG} subscribers takes nothing"
        ));
        self.put(match &last {
            Some(report) => row.seen(report),
            None => row,
        });
        Ok(())
    }

    fn wants_any(&self, names: &Names) -> bool {
        self.wants(&[names.cpu, names.nats, names.mosquitto, names.paced])
    }

    fn put_saturated(&mut self, names: &Names, ours: &Fanned, nats: Theirs, mosquitto: Theirs) {
        let rate = ours.report.rate();
        let what = format!(
            "1 KiB to {} subscribers on three nodes, TLS; processor time of all three processes, publisher and \
             subscribers in them; {rate:.0} deliveries/s",
            names.subscribers
        );
        let row = Row::new(names.cpu, ours.cpu_us());
        self.put(row.noted(&what).seen(&ours.report));
        for (name, peer, theirs) in [
            (names.nats, Peer::NatsCore, nats),
            (names.mosquitto, Peer::Mosquitto, mosquitto),
        ] {
            let row = Row::new(name, rate);
            let row = match theirs {
                Ok(Some(theirs)) => row.against(
                    theirs.report.rate(),
                    format!(
                        "baseline: {}, {:.2} us of processor for each delivery, its clients not counted; ours {:.2}",
                        peer.settings(),
                        theirs.cpu_us(),
                        ours.cpu_us()
                    ),
                ),
                other => row.noted(&absent(peer, other)),
            };
            self.put(row);
        }
    }

    fn put_paced(&mut self, names: &Names, ours: &Fanned, theirs: Theirs) {
        let peer = Peer::NatsCore;
        let row = Row::new(names.paced, ours.report.micros_at(0.5));
        let cpu = ours.cpu_us();
        let what = format!("{PACE} events/s, median; {cpu:.1} us of processor for each delivery");
        let row = match theirs {
            Ok(Some(theirs)) => row.against(
                theirs.report.micros_at(0.5),
                format!(
                    "baseline: {}, {:.1} us of processor",
                    peer.settings(),
                    theirs.cpu_us()
                ),
            ),
            other => row.noted(&absent(peer, other)),
        };
        self.put(row.noted(&what).seen(&ours.report));
    }

    fn fan(&mut self, subscribers: u32, per_second: Option<u32>) -> FanLoad {
        self.series += 1;
        FanLoad {
            subscribers,
            stuck: 0,
            listener: 0,
            listeners: 0,
            bytes: EVENT_BYTES,
            series: self.series,
            window: WINDOW,
            time_ms: self.plan.time_ms(),
            per_second,
        }
    }

    /// Ours: the first node publishes, all have subscribers.
    async fn fan_out(
        &mut self,
        cluster: &mut Cluster,
        subscribers: u32,
        per_second: Option<u32>,
    ) -> Result<Fanned, Failure> {
        let load = self.fan(subscribers, per_second);
        self.fan_out_by(cluster, load).await
    }

    async fn fan_out_by(&self, cluster: &mut Cluster, load: FanLoad) -> Result<Fanned, Failure> {
        say(&format!(
            "an ephemeral topic with {} subscribers",
            load.subscribers + load.stuck
        ));
        let load = FanLoad {
            listeners: NODES - 1,
            ..load
        };
        let before = total(&cluster.cpu()?);
        let report = cluster.fan_out(load).await?;
        let cpu_seconds = total(&cluster.cpu()?) - before;
        Ok(Fanned {
            report,
            cpu_seconds,
        })
    }

    /// The same by a server of others; `None`: it is not there.
    async fn fan_of(&mut self, peer: Peer, subscribers: u32, per_second: Option<u32>) -> Theirs {
        let fan = self.fan(subscribers, per_second);
        let directory = self.scratch.directory();
        let directory = directory.join(format!("peer-{}", self.series));
        let Some(server) = Server::start(peer, &directory).await? else {
            return Ok(None);
        };
        say(&format!("{}, {subscribers} subscribers", peer.settings()));
        let before = proc::process_cpu(server.pid()?)?;
        let order = Order::PeerFan(PeerFan {
            peer,
            port: server.port,
            fan,
        });
        let report = self.worker(&order).await;
        let report = report.map_err(|failure| failure.detail().to_owned())?;
        let spent = proc::process_cpu(server.pid()?)?.saturating_sub(before);
        Ok(Some(Fanned {
            report,
            cpu_seconds: spent.as_secs_f64(),
        }))
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn total(cpu: &[std::time::Duration]) -> f64 {
    cpu.iter().map(std::time::Duration::as_secs_f64).sum()
}

fn absent(peer: Peer, theirs: Theirs) -> String {
    match theirs {
        Err(why) => format!("no baseline: {} failed: {why}", peer.program()),
        Ok(_) => format!("no baseline: {} is not on the path", peer.program()),
    }
}

/// Names of the rows.
pub(super) fn rows() -> impl Iterator<Item = &'static str> {
    let all = NAMES.iter();
    all.flat_map(|names| [names.cpu, names.nats, names.mosquitto, names.paced])
        .chain([STUCK])
}
