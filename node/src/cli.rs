//! The command line: parses arguments, runs one command, and says how it went by the exit code.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage, 3
//! unhealthy or empty. Every error says what failed, why, and what to do, with the code that
//! `explain` knows. Absent here: knowledge about the cluster; everything shown comes from a node's
//! admin API.

mod args;
mod bench;
mod client;
mod completions;
mod daprd;
mod demo;
mod explain;
mod failure;
mod http;
mod keygen;
mod lists;
mod stage;
mod start;
mod table;
mod topics;
mod verbs;
mod version;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

pub use args::{Args, Command};
pub use failure::{Failure, Verdict};

/// Runs the command of this process' arguments.
#[must_use]
pub fn run() -> ExitCode {
    let result = match played() {
        Some(Role::Daprd(arguments)) => daprd::run(&arguments),
        Some(Role::Placement(arguments)) => daprd::placement::run(&arguments),
        None => dispatch(parsed()),
    };
    match result {
        Ok(Verdict::Ok) => ExitCode::SUCCESS,
        Ok(Verdict::UnhealthyOrEmpty) => ExitCode::from(3),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command line. Without a word of one the help is what was asked for, whatever the environment
/// says.
fn parsed() -> Args {
    Args::try_parse().unwrap_or_else(|error| {
        if std::env::args_os().len() > 1 || error.kind() != ErrorKind::MissingSubcommand {
            error.exit();
        }
        eprintln!("{}", Args::command().render_help());
        std::process::exit(2)
    })
}

/// A program of Dapr that this one plays. Their flags have a form of their own.
enum Role {
    /// The sidecar.
    Daprd(Vec<String>),
    /// What introduces sidecars.
    Placement(Vec<String>),
}

/// Which program was called: by a command, or by the name of a link.
fn played() -> Option<Role> {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    role(&arguments)
}

fn role(arguments: &[String]) -> Option<Role> {
    let (program, rest) = arguments.split_first()?;
    let link = std::path::Path::new(program).file_stem()?.to_str()?;
    let (command, after) = match rest.split_first() {
        Some((command, after)) => (command.as_str(), after),
        None => ("", rest),
    };
    match (link, command) {
        ("daprd", _) => Some(Role::Daprd(rest.to_vec())),
        ("placement", _) => Some(Role::Placement(rest.to_vec())),
        (_, "daprd") => Some(Role::Daprd(after.to_vec())),
        (_, "placement") => Some(Role::Placement(after.to_vec())),
        _ => None,
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
        Command::Daprd { arguments } => daprd::run(&arguments),
        Command::Placement { arguments } => daprd::placement::run(&arguments),
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
        Command::Topics(args) => topics::topics(&target, &args),
        Command::Subscriptions(args) => topics::subscriptions(&target, args),
        Command::DeadLetters { action } => topics::dead_letters(&target, action),
        Command::Publish(args) => topics::publish(&target, args),
        Command::Subscribe(args) => topics::subscribe(&target, &args),
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
