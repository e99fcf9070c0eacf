//! Processes of the binary: found, started so that none outlives its test, signalled, ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::until;

/// The binary: `GHOSTLIGHT_BIN`, else the one beside the tests' own folder.
///
/// # Panics
/// When it is not there, with the command that builds it.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("GHOSTLIGHT_BIN").map_or_else(
        || {
            let test = std::env::current_exe().expect("the path of this test");
            let folder = test
                .parent()
                .and_then(Path::parent)
                .expect("a test lies in target/debug/deps");
            folder.join("ghostlight")
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is not there. Build it first: cargo build -p ghostlight (or set GHOSTLIGHT_BIN)",
        path.display()
    );
    path
}

/// The binary as a command, with nothing of ours inherited from the environment.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GHOSTLIGHT_") || ["DAPR_API_TOKEN", "NAMESPACE"].contains(&&*text) {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a short command of the binary to its end.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn run(args: &[&str]) -> Output {
    command()
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// What a finished command printed to stderr.
#[must_use]
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process of the binary. Dropped: killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// A node ends when this is closed, also by the death of the test. Apart from the child,
    /// because waiting for a child closes its stdin.
    _lifeline: ChildStdin,
    log_file: PathBuf,
}

impl Process {
    /// Starts a node with these arguments; what it says goes to the end of the file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(args: &[String], log_file: &Path) -> Self {
        let mut node = command();
        node.arg("start").args(args);
        Self::node(node, log_file)
    }

    /// The same for a command that has been prepared: `start` with its arguments and environment.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn node(mut start: Command, log_file: &Path) -> Self {
        start.arg("--die-with-parent");
        Self::spawn(start, log_file)
    }

    /// Starts any command; both what it prints and what it says go to the end of the file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command, log_file: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log_file);
        let log = log.expect("a writable log file");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let lifeline = child.stdin.take().expect("stdin was asked to be a pipe");
        Self {
            child,
            _lifeline: lifeline,
            log_file: log_file.to_owned(),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .expect("a child that was not waited for");
    }

    /// Kills it as a power cut would, and waits until it is gone.
    ///
    /// # Panics
    /// When the system cannot tell how it ended.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait(&mut self, time_max: Duration) -> ExitStatus {
        until("a process ends", time_max, || self.ended())
    }

    /// All it has said.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log_file).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; a stopped process dies of this too.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
