//! What is used while nothing is done: by a cluster, and by an activation.

use std::time::{Duration, Instant};

use super::{Bench, say};
use crate::cli::Failure;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{Actors, Amount, Load, Loop, Place, Report, Work};
use crate::cli::bench::row::Row;

/// In flight while activations are made.
const IN_FLIGHT: usize = 64;
/// Calls before memory is looked at for the first time: queues and pools have their size then.
const CALLS_BEFORE: u64 = 20_000;
/// After the last call, before memory is looked at.
const REST: Duration = Duration::from_secs(1);

impl Bench {
    /// A fresh cluster that has settled and is left alone.
    pub(super) async fn idle_cluster(&mut self, cluster: &Cluster) -> Result<(), Failure> {
        say("an idle cluster of three");
        let (before, begun) = (cluster.cpu()?, Instant::now());
        tokio::time::sleep(self.plan.idle).await;
        let (after, took) = (cluster.cpu()?, begun.elapsed().as_secs_f64());
        let shares = before
            .iter()
            .zip(&after)
            .map(|(before, after)| (*after - *before).as_secs_f64() / took * 100.0);
        let shares: Vec<f64> = shares.collect();
        let mib = cluster
            .memory()?
            .into_iter()
            .map(|b| b as f64 / 1_048_576.0);
        let mib: Vec<f64> = mib.collect();
        self.put(largest("idle_cpu", &shares));
        self.put(largest("idle_memory", &mib));
        Ok(())
    }

    /// Memory of a node before and after many actors that were never written are asked for once.
    pub(super) async fn idle_activation(&mut self) -> Result<(), Failure> {
        if !self.wants(&["idle_activation"]) {
            return Ok(());
        }
        say("memory of idle activations");
        let mut cluster = Cluster::form(&self.base, 1, 1).await?;
        let count = self.plan.activations;
        let warm = self.actors(self.plan.actors, Place::Anywhere);
        touch(&mut cluster, warm, CALLS_BEFORE).await?;
        tokio::time::sleep(REST).await;
        let before = cluster.memory()?[0];
        let many = self.actors(count, Place::Anywhere);
        let report = touch(&mut cluster, many, count).await?;
        tokio::time::sleep(REST).await;
        let grown = cluster.memory()?[0].saturating_sub(before);
        let kept = cluster.activations(0).await?;
        cluster.end().await;
        let row = Row::new("idle_activation", grown as f64 / count as f64).seen(&report);
        self.put(row.noted(&format!(
            "growth of resident memory over {count} activations without state; {kept} activations in memory"
        )));
        Ok(())
    }
}

async fn touch(cluster: &mut Cluster, actors: Actors, calls: u64) -> Result<Report, Failure> {
    let run = Loop {
        in_flight: IN_FLIGHT,
        warm_ms: 0,
        amount: Amount::Calls(calls),
        per_second: None,
    };
    let load = Load {
        work: Work::Get,
        actors,
        run,
        timeout_ms: None,
    };
    cluster.load(0, load).await
}

/// The budget is each node's: the largest counts, all are told.
fn largest(name: &'static str, values: &[f64]) -> Row {
    let most = values.iter().copied().fold(0.0, f64::max);
    let each: Vec<String> = values.iter().map(|value| format!("{value:.1}")).collect();
    Row::new(name, most).noted(&format!("the largest of {}", each.join(", ")))
}
