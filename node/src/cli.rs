//! The command line: parses arguments, runs one command, and says how it went by the exit code.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 unhealthy
//! or empty. Every error says what failed, why, and what to do, with the code that `explain` knows.
//! Absent here: knowledge about the cluster; everything shown comes from a node's admin API.

mod args;
mod bench;
mod client;
mod completions;
mod demo;
mod explain;
mod failure;
mod http;
mod keygen;
mod lists;
mod stage;
mod start;
mod table;
mod verbs;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub use args::{Args, Command};
pub use failure::{Failure, Verdict};

/// Runs the command of this process' arguments.
#[must_use]
pub fn run() -> ExitCode {
    let args = Args::parse();
    match dispatch(args) {
        Ok(Verdict::Ok) => ExitCode::SUCCESS,
        Ok(Verdict::UnhealthyOrEmpty) => ExitCode::from(3),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command line as clap knows it, for completions and tests.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// The page of a code such as `E0107`, in Markdown.
#[must_use]
pub fn page(code: ghostlight_protocol::code::Code) -> &'static str {
    explain::page(code)
}

fn dispatch(args: Args) -> Result<Verdict, Failure> {
    let target = args.target;
    match args.command {
        Command::Start(start) => start::run(*start),
        Command::Demo(demo) => demo::run(demo),
        Command::Bench(bench) => bench::run(bench),
        Command::BenchWorker { directory: _ } => bench::worker(),
        Command::Janitor { directory } => stage::janitor(&directory),
        Command::Status(status) => lists::status(&target, &status),
        Command::Members(list) => lists::members(&target, &list),
        Command::Partitions(list) => lists::partitions(&target, &list),
        Command::Actors(list) => lists::actors(&target, &list),
        Command::Where(place) => lists::locate(&target, &place),
        Command::Invoke(invoke) => verbs::invoke(&target, invoke),
        Command::Drain(drain) => verbs::drain(&target, drain),
        Command::Leave { member } => verbs::leave(&target, member),
        Command::Remove { member } => verbs::remove(&target, member),
        Command::Keygen => keygen::run(),
        Command::Explain { code } => explain::run(code.as_deref()),
        Command::Completions { shell } => completions::run(shell),
    }
}

#[cfg(test)]
mod tests;
