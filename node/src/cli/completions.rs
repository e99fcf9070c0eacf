//! `completions`: a script for the user's shell.

use clap::CommandFactory;
use clap_complete::Shell;

use super::lists::print_text;
use super::{Args, Failure, Verdict};

pub(super) fn run(shell: Shell) -> Result<Verdict, Failure> {
    // Into memory first: the generator panics when a pipe is closed early.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "ghostlight", &mut script);
    print_text(&String::from_utf8_lossy(&script));
    Ok(Verdict::Ok)
}
