//! `bench`: every row of the table of budgets, each against a bare baseline measured in the same
//! run.
//!
//! Nodes are real processes; load comes from inside them, through the library's way in
//! (`bench/worker.rs`). Baselines run in worker processes of their own. This process only gives
//! orders and sums up, so a signal finds it idle; whatever happens, no process and no file is left
//! behind. Absent here: verdicts about the figures beyond the budgets; `docs/benchmarks.md`
//! explains how to read them.

mod app;
mod child;
mod closed_loop;
mod cluster;
mod commits;
mod fan_peers;
mod fanout;
mod lane;
mod load;
mod measure;
mod order;
mod peers;
mod plan;
mod proc;
mod row;
mod servers;
mod topics;
mod web;
mod worker;

use super::args::{self, Form};
use super::lists::print_text;
use super::stage::{Purpose, ended_by_signal};
use super::{Failure, Verdict};
use crate::handle::NodeHandle;
use measure::Bench;
use plan::Plan;
use row::{Row, SPECS};

/// Names of all rows.
pub(super) fn names() -> Vec<&'static str> {
    SPECS.iter().map(|spec| spec.name).collect()
}

/// Measures, and prints the rows.
pub(super) fn run(args: args::Bench) -> Result<Verdict, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Purpose::Bench.failed(format!("cannot start threads: {error}")))?;
    let rows = runtime.block_on(async {
        let mut end = ended_by_signal(Purpose::Bench)?;
        tokio::select! {
            rows = repeats(&args) => rows,
            _ = end.wait_for(|ended| *ended) => {
                Err(Failure::told("interrupted; nothing was left behind"))
            }
        }
    })?;
    match args.output.form() {
        Form::Json => {
            let text = serde_json::to_string_pretty(&rows).expect("rows have string keys");
            print_text(&format!("{text}\n"));
        }
        Form::Text => print_text(&row::table(&rows)),
    }
    let missed: Vec<&str> = rows
        .iter()
        .filter(|row| row.met == Some(false))
        .map(|row| row.name)
        .collect();
    if args.strict && !missed.is_empty() {
        return Err(Purpose::Bench.failed(format!(
            "budgets are missed: {}. docs/benchmarks.md says how to read that",
            missed.join(", ")
        )));
    }
    Ok(Verdict::Ok)
}

/// Serves as a bench's worker process.
pub(super) fn worker() -> Result<Verdict, Failure> {
    worker::serve_worker().map(|()| Verdict::Ok)
}

/// Takes a bench's orders for load, in a node's process.
pub(super) fn take_orders(node: NodeHandle, namespace: String) -> Result<(), Failure> {
    worker::serve_node(node, namespace)
}

async fn repeats(args: &args::Bench) -> Result<Vec<Row>, Failure> {
    let plan = if args.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    let only = match args.what {
        Some(args::BenchPart::Pubsub) => measure::topic_rows(),
        Some(args::BenchPart::Dapr) => measure::dapr_rows(),
        None => args.only.clone(),
    };
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut all: Vec<Vec<Row>> = Vec::new();
    for repeat in 1..=args.repeat {
        if args.repeat > 1 {
            eprintln!("repeat {repeat} of {}", args.repeat);
        }
        let bench = Bench::new(&base, plan, &only)?;
        all.push(bench.run().await?);
    }
    let rows = SPECS.iter().filter_map(|spec| {
        let same = all.iter().flatten().filter(|row| row.name == spec.name);
        let same: Vec<Row> = same.cloned().collect();
        (!same.is_empty()).then(|| Row::median(&same))
    });
    Ok(rows.collect())
}
