//! A fourth node joins three that hold state and are under load.
//!
//! The load is even, so that it is the same before and after; calls that a stall holds back count
//! from the time when they should have begun.

use std::time::{Duration, Instant};

use ghostlight_core::admin::StatusView;

use super::{Bench, millis, say};
use crate::cli::Failure;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{Amount, Load, Loop, Place, Report, Work};
use crate::cli::bench::row::Row;

/// Size of one row of the state.
const ROW_BYTES: usize = 32 << 10;
/// In flight while state is made.
const FILL_IN_FLIGHT: usize = 32;
/// Clients of the load, and the calls a second of all of them.
const CLIENTS: usize = 48;
const CALLS_PER_SECOND: u32 = 600;
/// Load between two looks.
const SLICE: Duration = Duration::from_secs(2);
/// Without a move for this long, the join is over.
const QUIET: Duration = Duration::from_secs(16);
/// The members before and after.
const BEFORE: usize = 3;
const AFTER: u8 = 4;

impl Bench {
    pub(super) async fn join(&mut self) -> Result<(), Failure> {
        if !self.wants(&["join_failed", "join_p99", "join_time"]) {
            return Ok(());
        }
        let mut cluster = Cluster::form(&self.base, BEFORE, AFTER).await?;
        self.fill(&mut cluster).await?;
        cluster.settle(self.plan.settle).await?;
        let mut load = self.load(Work::Add, even(SLICE), Place::Anywhere);
        load.run = even(self.plan.join_before);
        // The first calls make the actors; they belong to neither side.
        cluster.load_from_first(BEFORE, load).await?;
        say("load before a join");
        let before = cluster.load_from_first(BEFORE, load).await?;
        load.run = even(SLICE);
        say("load while a fourth node joins");
        let joined = self.watch(&mut cluster, load).await?;
        cluster.end().await;
        let failed = Row::new("join_failed", joined.during.failed as f64);
        self.put(failed.seen(&joined.during).noted(&joined.told));
        let p99 = Row::new("join_p99", joined.during.micros_at(0.99));
        let note = format!("{CALLS_PER_SECOND} turns a second; baseline: p99 before the join");
        self.put(
            p99.against(before.micros_at(0.99), note)
                .seen(&joined.during),
        );
        self.put(Row::new("join_time", joined.took.as_secs_f64()).noted(&joined.told));
        Ok(())
    }

    async fn fill(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        let rows = self.plan.join_bytes / ROW_BYTES as u64;
        say(&format!(
            "writing {} MiB of state",
            self.plan.join_bytes >> 20
        ));
        let run = Loop {
            in_flight: FILL_IN_FLIGHT,
            warm_ms: 0,
            amount: Amount::Calls(rows),
            per_second: None,
        };
        let load = self.load(Work::Append(ROW_BYTES), run, Place::Anywhere);
        let report = cluster.load_from_first(BEFORE, load).await?;
        if let Some(why) = report.failure {
            eprintln!("{} rows of state were not written: {why}", report.failed);
        }
        Ok(())
    }

    async fn watch(&self, cluster: &mut Cluster, load: Load) -> Result<Joined, Failure> {
        let begun = Instant::now();
        let mut last_move = Duration::ZERO;
        let mut slices = Vec::new();
        let mut copies = 0;
        cluster.add()?;
        loop {
            slices.push(cluster.load_from_first(BEFORE, load).await?);
            let status = cluster.status().await;
            let (held, moves) = status.as_ref().map_or((0, 1), fourth);
            if held == 0 || held != copies || moves > 0 {
                (copies, last_move) = (held, begun.elapsed());
            }
            let settled = begun.elapsed() - last_move >= QUIET;
            if settled || begun.elapsed() >= self.plan.join_max {
                let ending = if settled {
                    "and moves no more"
                } else {
                    "and still moves"
                };
                return Ok(Joined {
                    during: Report::in_turn(&slices),
                    took: last_move,
                    told: format!("the fourth node holds {copies} copies {ending}"),
                });
            }
        }
    }
}

struct Joined {
    during: Report,
    took: Duration,
    told: String,
}

/// Copies of the fourth node, and moves under way.
fn fourth(status: &StatusView) -> (u32, u32) {
    let name = format!("n{AFTER}");
    let member = status.members.iter().find(|member| member.name == name);
    (member.map_or(0, |member| member.replicas), status.moves)
}

fn even(time: Duration) -> Loop {
    Loop {
        in_flight: CLIENTS,
        warm_ms: 0,
        amount: Amount::TimeMs(millis(time)),
        per_second: Some(CALLS_PER_SECOND),
    }
}
