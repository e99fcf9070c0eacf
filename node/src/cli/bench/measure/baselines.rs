//! The bare baselines, each in processes of its own.

use futures::future::try_join_all;

use super::{Bench, READ_BYTES, TURNS_IN_FLIGHT, say};
use crate::cli::Failure;
use crate::cli::bench::child::Orderly;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{Order, Place, Report, TurnShape, Work};
use crate::cli::bench::row::Row;
use crate::cli::keygen::new_key;

impl Bench {
    /// Echoes of a bare QUIC lane between two processes.
    pub(super) async fn lane(&mut self, in_flight: usize) -> Result<Report, Failure> {
        if let Some(report) = self.lanes.get(&in_flight) {
            return Ok(report.clone());
        }
        say(&format!("bare lane echo, {in_flight} in flight"));
        let key = new_key()?;
        let mut server = Orderly::worker(&self.scratch)?;
        let port = server
            .listening(&Order::LaneServer { key: key.clone() })
            .await?;
        let order = Order::LaneClient {
            key,
            port,
            run: self.plan.clients(in_flight),
            bytes: READ_BYTES,
        };
        let report = self.worker(&order).await?;
        server.kill().await?;
        self.lanes.insert(in_flight, report.clone());
        Ok(report)
    }

    /// Round trips over a tokio channel between two threads.
    pub(super) async fn channel(&self, in_flight: usize) -> Result<Report, Failure> {
        say(&format!("bare tokio channel, {in_flight} in flight"));
        self.worker(&Order::Channel(self.plan.clients(in_flight)))
            .await
    }

    /// `writers` processes at once, each committing batches of turns with a sync each. The rate is
    /// that of one of them: a turn on three nodes is written by each of the three.
    pub(super) async fn commits(
        &mut self,
        writers: usize,
        batch: usize,
    ) -> Result<Report, Failure> {
        let shape = self.shape().await?;
        say(&format!(
            "bare RocksDB commits, writers: {writers}, turns in a batch: {batch}"
        ));
        let mut workers = Vec::new();
        for _ in 0..writers {
            workers.push(Orderly::worker(&self.scratch)?);
        }
        let orders = workers.iter_mut().enumerate().map(|(number, worker)| {
            let order = Order::Commits {
                data_dir: self.scratch.directory().join(format!("writer-{number}")),
                shape: shape.clone(),
                batch,
                time_ms: self.plan.time_ms(),
            };
            async move { worker.report(&order).await }
        });
        let reports = try_join_all(orders).await?;
        for worker in workers {
            worker.kill().await?;
        }
        Ok(Report::in_turn(&reports))
    }

    /// One turn in a batch, one writer: the time of a sync that carries a turn.
    pub(super) async fn sync(&mut self) -> Result<Report, Failure> {
        if let Some(report) = &self.sync {
            return Ok(report.clone());
        }
        let report = self.commits(1, 1).await?;
        self.sync = Some(report.clone());
        Ok(report)
    }

    /// What a turn leaves on the disk, from a node that was measured or from one made for it.
    pub(super) async fn shape(&mut self) -> Result<TurnShape, Failure> {
        if let Some(shape) = &self.shape {
            return Ok(shape.clone());
        }
        let mut cluster = Cluster::form(&self.base, 1, 1).await?;
        let run = self.plan.clients(TURNS_IN_FLIGHT);
        let load = self.load(Work::Add, run, Place::Anywhere);
        cluster.load(0, load).await?;
        self.weigh(cluster).await
    }

    /// Ends a single node and weighs the turns on its disk.
    pub(super) async fn weigh(&mut self, mut cluster: Cluster) -> Result<TurnShape, Failure> {
        let data_dir = cluster.kill_last().await?;
        let mut worker = Orderly::worker(&self.scratch)?;
        let shape = worker.shape(&Order::Weigh { data_dir }).await?;
        worker.kill().await?;
        cluster.end().await;
        let parts: Vec<String> = shape
            .rows
            .iter()
            .map(|row| format!("{:?} {}+{}", row.place, row.key, row.value))
            .collect();
        let row = Row::new("turn_bytes", shape.bytes() as f64);
        self.put(row.noted(&format!(
            "on disk for each turn, key + value: {}",
            parts.join(", ").to_lowercase()
        )));
        self.shape = Some(shape.clone());
        Ok(shape)
    }
}
