//! Read-only calls: `echo`, whose answer still waits for a ReadIndex as every read does.

use super::{Bench, READ_BYTES, READS_IN_FLIGHT, say};
use crate::cli::Failure;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{Place, Report, Work};
use crate::cli::bench::row::Row;

/// Rows of reads in process, by in-flight.
const LOCAL: [(usize, &str); 3] = [
    (1, "read_local_alone"),
    (64, "read_local_64"),
    (512, "read_local_512"),
];
/// Rows of reads on another node, by in-flight.
pub(super) const REMOTE: [(usize, &str); 3] = [
    (1, "read_remote_alone"),
    (64, "read_remote_64"),
    (512, "read_remote_512"),
];

const _: () = assert!(LOCAL[1].0 == READS_IN_FLIGHT[0] && LOCAL[2].0 == READS_IN_FLIGHT[1]);

impl Bench {
    /// The tokio channel, for the rows that are wanted.
    pub(super) async fn channels(&self) -> Result<Vec<(usize, &'static str, Report)>, Failure> {
        let mut channels = Vec::new();
        for (in_flight, name) in LOCAL {
            if self.wants(&[name]) {
                channels.push((in_flight, name, self.channel(in_flight).await?));
            }
        }
        Ok(channels)
    }

    /// Calls from inside the one node.
    pub(super) async fn local_reads(
        &mut self,
        cluster: &mut Cluster,
        channels: Vec<(usize, &'static str, Report)>,
    ) -> Result<(), Failure> {
        for (in_flight, name, channel) in channels {
            say(&format!(
                "read-only calls in process, {in_flight} in flight"
            ));
            let run = self.plan.clients(in_flight);
            let load = self.load(Work::Echo(READ_BYTES), run, Place::Anywhere);
            let report = cluster.load(0, load).await?;
            let row = Row::new(name, report.rate());
            let row = row.against(channel.rate(), "baseline: tokio channel there and back");
            self.put(row.seen(&report));
        }
        Ok(())
    }

    /// The lane, for the rows that are wanted.
    pub(super) async fn lanes(&mut self) -> Result<(), Failure> {
        for (in_flight, name) in REMOTE {
            if self.wants(&[name]) {
                self.lane(in_flight).await?;
            }
        }
        Ok(())
    }

    /// Calls from one of three nodes to actors that others lead.
    pub(super) async fn remote_reads(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        let caller = cluster.caller().await?;
        for (in_flight, name) in REMOTE {
            if !self.wants(&[name]) {
                continue;
            }
            let lane = self.lane(in_flight).await?;
            say(&format!(
                "read-only calls on another node, {in_flight} in flight"
            ));
            let run = self.plan.clients(in_flight);
            let load = self.load(Work::Echo(READ_BYTES), run, Place::Elsewhere);
            let report = cluster.load(caller, load).await?;
            let row = if in_flight == 1 {
                let trips = 2.0 * lane.micros_at(0.5);
                Row::new(name, report.micros_at(0.5))
                    .against(trips, "baseline: two round trips of a bare lane, p50")
            } else {
                Row::new(name, report.rate()).against(lane.rate(), "baseline: bare lane echo")
            };
            self.put(row.seen(&report));
        }
        Ok(())
    }
}
