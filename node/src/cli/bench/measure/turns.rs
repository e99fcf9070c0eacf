//! Durable turns: `counter/add`, on one node and on three, and what they cost.

use super::reads::REMOTE;
use super::{Bench, TURNS_IN_FLIGHT, say};
use crate::cli::Failure;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{Amount, Load, Loop, Place, Report, Work};
use crate::cli::bench::row::Row;

/// Actors that `turn_actors_100k` is compared with.
const FEW_ACTORS: u64 = 10;

/// Baselines of three nodes, taken before any of them runs.
struct Bare {
    /// Two round trips of a lane and a sync, in microseconds.
    alone_us: Option<f64>,
    writers: Option<Report>,
}

impl Bench {
    /// Everything that one node is enough for.
    pub(super) async fn single_node(&mut self) -> Result<(), Failure> {
        let channels = self.channels().await?;
        let turns = self.wants(&["turn_single_256", "turn_bytes"]);
        if channels.is_empty() && !turns {
            return Ok(());
        }
        let mut cluster = Cluster::form(&self.base, 1, 1).await?;
        self.local_reads(&mut cluster, channels).await?;
        if !turns {
            cluster.end().await;
            return Ok(());
        }
        say("durable turns on one node, 256 in flight");
        let run = self.plan.clients(TURNS_IN_FLIGHT);
        let load = self.load(Work::Add, run, Place::Anywhere);
        let report = cluster.load(0, load).await?;
        self.weigh(cluster).await?;
        if self.wants(&["turn_single_256"]) {
            let bare = self.commits(1, TURNS_IN_FLIGHT).await?;
            let row = Row::new("turn_single_256", report.rate());
            let row = row.against(bare.rate(), "baseline: one RocksDB writer, 256 to a sync");
            self.put(row.seen(&report));
        }
        Ok(())
    }

    /// Everything that three nodes are enough for.
    pub(super) async fn three_nodes(&mut self) -> Result<(), Failure> {
        let idle = self.wants(&["idle_cpu", "idle_memory"]);
        let reads = REMOTE.iter().any(|(_, name)| self.wants(&[name]));
        let turns = self.wants(&["turn_three_alone", "turn_three_256", "turn_cpu"]);
        let many = self.wants(&["turn_actors_100k"]);
        if !(idle || reads || turns || many) {
            return Ok(());
        }
        self.lanes().await?;
        let bare = self.bare().await?;
        let mut cluster = Cluster::form(&self.base, 3, 3).await?;
        cluster.settle(self.plan.settle).await?;
        if idle {
            self.idle_cluster(&cluster).await?;
        }
        if reads {
            self.remote_reads(&mut cluster).await?;
        }
        if let Some(alone_us) = bare.alone_us {
            self.turns_alone(&mut cluster, alone_us).await?;
        }
        if self.wants(&["turn_three_256", "turn_cpu"]) {
            self.turns_at_once(&mut cluster, bare.writers).await?;
        }
        if many {
            self.many_actors(&mut cluster).await?;
        }
        cluster.end().await;
        Ok(())
    }

    async fn bare(&mut self) -> Result<Bare, Failure> {
        let mut bare = Bare {
            alone_us: None,
            writers: None,
        };
        if self.wants(&["turn_three_alone"]) {
            let lane = self.lane(1).await?.micros_at(0.5);
            let sync = self.sync().await?.micros_at(0.5);
            bare.alone_us = Some(2.0 * lane + sync);
        }
        if self.wants(&["turn_three_256"]) {
            bare.writers = Some(self.commits(3, TURNS_IN_FLIGHT).await?);
        }
        Ok(bare)
    }

    async fn turns_alone(&mut self, cluster: &mut Cluster, bare_us: f64) -> Result<(), Failure> {
        say("durable turns on three nodes, one at a time");
        let caller = cluster.caller().await?;
        let run = self.plan.clients(1);
        let load = self.load(Work::Add, run, Place::Elsewhere);
        let report = cluster.load(caller, load).await?;
        let row = Row::new("turn_three_alone", report.micros_at(0.5));
        let row = row.against(
            bare_us,
            "baseline: two round trips of a lane and a sync, p50",
        );
        self.put(row.seen(&report));
        Ok(())
    }

    async fn turns_at_once(
        &mut self,
        cluster: &mut Cluster,
        writers: Option<Report>,
    ) -> Result<(), Failure> {
        say("durable turns on three nodes, 256 in flight");
        let run = self.plan.clients(TURNS_IN_FLIGHT);
        let load = self.load(Work::Add, run, Place::Anywhere);
        let report = cluster.load_from_first(3, load).await?;
        if let Some(writers) = writers {
            let row = Row::new("turn_three_256", report.rate());
            let row = row.against(
                writers.rate(),
                "baseline: each of three RocksDB writers at once, 256 to a sync",
            );
            self.put(row.seen(&report));
        }
        let calls = report.calls.max(1) as f64;
        let row = Row::new("turn_cpu", report.node_cpu_seconds() * 1e6 / calls);
        self.put(row.noted(&format!(
            "three nodes together, without {:.1} us of load clients",
            report.client_cpu_seconds * 1e6 / calls
        )));
        Ok(())
    }

    async fn many_actors(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        let few = self.turns_of(cluster, FEW_ACTORS).await?;
        let count = self.plan.actors_many;
        let many = self.turns_of(cluster, count).await?;
        let row = Row::new("turn_actors_100k", many.rate());
        let note = format!("{count} actors; baseline: {FEW_ACTORS} actors");
        self.put(row.against(few.rate(), note).seen(&many));
        Ok(())
    }

    /// Turns of so many actors, each of which has had one before.
    async fn turns_of(&mut self, cluster: &mut Cluster, count: u64) -> Result<Report, Failure> {
        say(&format!("durable turns of {count} actors, 256 in flight"));
        let actors = self.actors(count, Place::Anywhere);
        let run = self.plan.clients(TURNS_IN_FLIGHT);
        let first = Loop {
            warm_ms: 0,
            amount: Amount::Calls(count),
            ..run
        };
        let work = Work::Add;
        let load = |run| Load {
            work,
            actors,
            run,
            timeout_ms: None,
        };
        cluster.load_from_first(3, load(first)).await?;
        cluster.load_from_first(3, load(run)).await
    }
}
