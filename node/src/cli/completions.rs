//! `completions`: a script for the user's shell.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Args, Failure, Verdict};

pub(super) fn run(shell: Shell) -> Result<Verdict, Failure> {
    clap_complete::generate(
        shell,
        &mut Args::command(),
        "ghostlight",
        &mut std::io::stdout(),
    );
    Ok(Verdict::Ok)
}
