//! More work than three nodes can do: what is still done, how long that takes, what memory it
//! costs, and whether it is over when the load is.
//!
//! Capacity is what a closed loop reaches. Then so many times more calls a second are begun, each
//! by a client of its own that waits until its deadline; a refused one is not repeated. Clients run
//! in the nodes' processes and take processor time from them, as any refused call would.

use super::{Bench, say};
use crate::cli::Failure;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{Load, Loop, Place, Report, Work};
use crate::cli::bench::row::Row;

/// In flight when the capacity is measured.
const CAPACITY_IN_FLIGHT: usize = 1_024;
/// Clients of the overload: at ten times the capacity of a small machine each makes a few calls a
/// second.
const CLIENTS: usize = 30_000;
/// How long a client waits.
const TIMEOUT_MS: u64 = 1_000;
const NODES: usize = 3;

const ROWS: [&str; 5] = [
    "overload_capacity",
    "overload_2x",
    "overload_10x",
    "overload_after",
    "overload_memory",
];

impl Bench {
    pub(super) async fn overload(&mut self) -> Result<(), Failure> {
        if !self.wants(&ROWS) {
            return Ok(());
        }
        let mut cluster = Cluster::form(&self.base, NODES, NODES as u8).await?;
        cluster.settle(self.plan.settle).await?;
        let mut load = self.load(
            Work::Add,
            self.plan.clients(CAPACITY_IN_FLIGHT),
            Place::Anywhere,
        );
        load.timeout_ms = Some(TIMEOUT_MS);
        say("capacity of three nodes");
        let capacity = cluster.load_from_first(NODES, load).await?;
        let row = Row::new("overload_capacity", capacity.rate()).seen(&capacity);
        self.put(row.noted(&format!("durable turns, {CAPACITY_IN_FLIGHT} in flight")));
        for (name, times) in [("overload_2x", 2.0), ("overload_10x", 10.0)] {
            say(&format!("{times} times that load"));
            let report = self
                .flooded(&mut cluster, load, capacity.rate() * times)
                .await?;
            let offered = (report.calls + report.failed) as f64 / report.seconds.max(f64::EPSILON);
            let row = Row::new(name, report.rate());
            let note = format!("{offered:.0} calls begun a second; baseline: capacity");
            self.put(row.against(capacity.rate(), note).seen(&report));
        }
        let memory = cluster.memory()?.into_iter().max().unwrap_or_default();
        say("the usual load again");
        let after = cluster.load_from_first(NODES, load).await?;
        cluster.end().await;
        let row = Row::new("overload_after", after.rate());
        self.put(
            row.against(capacity.rate(), "right after it; baseline: capacity")
                .seen(&after),
        );
        let row = Row::new("overload_memory", memory as f64 / 1_048_576.0);
        self.put(row.noted("the largest node at the end of the overload, its clients included"));
        Ok(())
    }

    async fn flooded(
        &self,
        cluster: &mut Cluster,
        load: Load,
        per_second: f64,
    ) -> Result<Report, Failure> {
        let run = Loop {
            per_second: Some(per_second as u32),
            ..self.plan.clients(CLIENTS)
        };
        cluster.load_from_first(NODES, Load { run, ..load }).await
    }
}
