//! One run through all that is wanted: groups of rows that share a cluster, each beside its
//! baselines.
//!
//! Baselines run while no node does, so that they are bare. A group ends its cluster before the
//! next begins.

mod baselines;
mod dapr;
mod ephemeral;
mod idle;
mod join;
mod overload;
mod reads;
mod topics;
mod turns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use dapr::rows as dapr_rows;
pub(super) use topics::rows as topic_rows;

use super::child::Orderly;
use super::order::{Actors, Load, Loop, Order, Place, Report, TurnShape, Work};
use super::plan::Plan;
use super::proc::Machine;
use super::row::Row;
use crate::cli::Failure;
use crate::cli::stage::{Purpose, Scratch};

/// In flight when a rate of turns is measured.
const TURNS_IN_FLIGHT: usize = 256;
/// In flight when a rate of reads is measured.
const READS_IN_FLIGHT: [usize; 2] = [64, 512];
/// Body of a read-only call, and of a frame of the lane echo.
const READ_BYTES: usize = 128;

/// One run.
pub(super) struct Bench {
    base: PathBuf,
    plan: Plan,
    /// Empty: everything.
    only: Vec<String>,
    scratch: Scratch,
    rows: Vec<Row>,
    /// Lane echoes by in-flight, once a run.
    lanes: BTreeMap<usize, Report>,
    /// Commits of one writer and one turn, once a run.
    sync: Option<Report>,
    /// What a turn leaves on the disk, once a run.
    shape: Option<TurnShape>,
    /// Keeps the actors of measurements apart.
    series: u32,
}

impl Bench {
    pub(super) fn new(base: &Path, plan: Plan, only: &[String]) -> Result<Self, Failure> {
        Ok(Self {
            base: base.to_owned(),
            plan,
            only: only.to_vec(),
            scratch: Scratch::make(Purpose::Bench, base)?,
            rows: Vec::new(),
            lanes: BTreeMap::new(),
            sync: None,
            shape: None,
            series: 0,
        })
    }

    pub(super) async fn run(mut self) -> Result<Vec<Row>, Failure> {
        self.machine();
        self.disk_and_clients().await?;
        self.single_node().await?;
        self.three_nodes().await?;
        self.idle_activation().await?;
        self.join().await?;
        self.overload().await?;
        self.dapr().await?;
        self.topics().await?;
        self.ephemeral().await?;
        self.scratch.clean_up().await;
        Ok(self.rows)
    }

    fn machine(&mut self) {
        let machine = Machine::look(&self.base);
        if machine.file_system == "tmpfs" {
            eprintln!(
                "{} is in memory, a sync costs nothing there: choose a disk with --dir",
                self.base.display()
            );
        }
        self.put(Row::new("machine", machine.cores as f64).noted(&machine.text));
    }

    async fn disk_and_clients(&mut self) -> Result<(), Failure> {
        if self.wants(&["fsync"]) {
            say("fsync probe");
            let order = Order::Syncs {
                file: self.scratch.directory().join("syncs"),
                time_ms: self.plan.time_ms(),
            };
            let report = self.worker(&order).await?;
            let row = Row::new("fsync", report.micros_at(0.5)).seen(&report);
            self.put(row.noted("4 KiB appended and synced"));
        }
        if self.wants(&["load_generator"]) {
            say("clients against an empty target");
            let load = self.load(
                Work::Echo(READ_BYTES),
                self.plan.clients(512),
                Place::Anywhere,
            );
            let report = self.worker(&Order::EmptyTarget(load)).await?;
            let row = Row::new("load_generator", report.rate()).seen(&report);
            let spent = report.client_cpu_seconds * 1e6 / report.calls.max(1) as f64;
            self.put(row.noted(&format!(
                "512 in flight, a target that answers at once; {spent:.2} us of client for each call"
            )));
        }
        Ok(())
    }

    /// A load on the usual actors, which no other measurement calls.
    fn load(&mut self, work: Work, run: Loop, place: Place) -> Load {
        let actors = self.actors(self.plan.actors, place);
        Load {
            work,
            actors,
            run,
            timeout_ms: None,
        }
    }

    fn actors(&mut self, count: u64, place: Place) -> Actors {
        self.series += 1;
        Actors {
            count,
            begin: 0,
            series: self.series,
            place,
        }
    }

    /// Has one thing done by a worker of its own.
    async fn worker(&self, order: &Order) -> Result<Report, Failure> {
        let mut worker = Orderly::worker(&self.scratch)?;
        let report = worker.report(order).await?;
        worker.kill().await?;
        Ok(report)
    }

    /// Whether one of these rows is asked for.
    fn wants(&self, names: &[&str]) -> bool {
        self.only.is_empty() || names.iter().any(|name| self.only.iter().any(|o| o == name))
    }

    fn put(&mut self, row: Row) {
        if self.wants(&[row.name]) {
            self.rows.push(row);
        }
    }
}

fn say(what: &str) {
    eprintln!("measuring: {what}");
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}
