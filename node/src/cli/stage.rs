//! A stage for real node processes on this machine: a directory, a key, and for each node its ports
//! and how it is started. `demo` and `bench` play on it.
//!
//! Nothing is left behind, however the program ends: processes end when their stdin does, and a
//! janitor kills what is left and deletes the directory. Absent here: what the nodes are for.

mod janitor;
mod look;

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ghostlight_protocol::code::Code;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::Failure;
use super::keygen::new_key;
use janitor::Janitor;

pub(super) use janitor::run as janitor;
pub(super) use look::{ask, ask_within, is_ready};

/// What a stage is set for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// To be watched.
    Demo,
    /// To be measured: nodes take orders for load.
    Bench,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Demo, Self::Bench];

    /// How the directory's name begins; the janitor deletes no other.
    fn prefix(self) -> &'static str {
        match self {
            Self::Demo => "ghostlight-demo-",
            Self::Bench => "ghostlight-bench-",
        }
    }

    /// A failure of the command that set the stage.
    pub(super) fn failed(self, detail: impl Into<String>) -> Failure {
        let code = match self {
            Self::Demo => Code::DemoFailed,
            Self::Bench => Code::BenchFailed,
        };
        Failure::new(code, detail)
    }
}

/// A directory that is gone when this program is, and the processes that live on it.
pub(super) struct Scratch {
    purpose: Purpose,
    directory: PathBuf,
    program: PathBuf,
    janitor: Janitor,
}

/// Everything that stays the same while nodes come and go.
pub(super) struct Stage {
    scratch: Scratch,
    key_file: PathBuf,
    /// The nodes, `n1` first.
    pub(super) nodes: Vec<Node>,
    /// Ports of the applications beside the first of them.
    pub(super) apps: Vec<u16>,
}

/// One node's fixed facts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) http: String,
    pub(super) admin: String,
    peer: String,
    grpc: String,
}

/// Whether a node is started for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    /// With the seed to join by, if it is not the founder.
    First,
    /// It remembers its cluster.
    Again,
}

/// A process of ours.
pub(super) struct Process {
    pub(super) child: Child,
    /// It ends when this is closed. Apart from the child, because waiting for a child closes its
    /// stdin.
    pub(super) lifeline: ChildStdin,
    /// What it answers, if it takes orders.
    pub(super) answers: Option<ChildStdout>,
}

impl Scratch {
    /// Makes the directory below `base`, and hires its janitor.
    pub(super) fn make(purpose: Purpose, base: &Path) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            purpose.failed(format!(
                "cannot make a directory in {} ({error}). Check that it exists, is writable and has room",
                base.display()
            ))
        };
        let program = std::env::current_exe().map_err(cannot)?;
        let unique = format!(
            "{}{}-{:x}",
            purpose.prefix(),
            std::process::id(),
            random_below(u64::MAX)
        );
        let directory = std::path::absolute(base.join(unique)).map_err(cannot)?;
        // Only this user may look: the key is inside.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(cannot)?;
        let janitor = Janitor::hire(&program, &directory).map_err(cannot)?;
        Ok(Self {
            purpose,
            directory,
            program,
            janitor,
        })
    }

    /// This program as a command, with nothing of ours inherited from the environment.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("GHOSTLIGHT_") || ["DAPR_API_TOKEN", "NAMESPACE"].contains(&&*name)
            {
                command.env_remove(&*name);
            }
        }
        command
    }

    /// Starts a process that ends when this one does. Its command line must name the directory.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Process> {
        let mut child = command
            .stdin(Stdio::piped())
            // A Ctrl-C in the terminal is for this program alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let lifeline = child.stdin.take().expect("stdin was asked to be a pipe");
        let answers = child.stdout.take();
        if let Some(pid) = child.id() {
            self.janitor.watch_over(pid);
        }
        Ok(Process {
            child,
            lifeline,
            answers,
        })
    }

    /// Ends what is left, and deletes the directory.
    pub(super) async fn clean_up(&self) {
        self.janitor.finish().await;
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Stage {
    /// Sets the stage for `count` nodes below `base`; none runs yet.
    pub(super) fn set_up(purpose: Purpose, base: &Path, count: u8) -> Result<Self, Failure> {
        let scratch = Scratch::make(purpose, base)?;
        let cannot = |error: io::Error| purpose.failed(format!("cannot set the stage ({error})"));
        let key_file = scratch.directory.join("cluster.key");
        std::fs::write(&key_file, new_key()?).map_err(cannot)?;
        let nodes = nodes(count).map_err(cannot)?;
        Ok(Self {
            scratch,
            key_file,
            nodes,
            apps: Vec::new(),
        })
    }

    /// Starts a node's process; it ends when this process does.
    pub(super) fn start(&self, node: usize, begin: Begin) -> io::Result<Process> {
        let spec = &self.nodes[node];
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file(node))?;
        let mut command = self.scratch.command();
        command
            .arg("start")
            .args(["--name", &spec.name, "--log-level", "warn"])
            .args(["--listen", &spec.peer, "--http", &spec.http])
            .args(["--grpc", &spec.grpc, "--admin", &spec.admin])
            .arg("--data-dir")
            .arg(self.data_dir(node))
            .arg("--cluster-key-file")
            .arg(&self.key_file)
            .arg("--samples")
            .stderr(log);
        match self.scratch.purpose {
            Purpose::Demo => command.arg("--die-with-parent").stdout(Stdio::null()),
            Purpose::Bench => command.args(["--orders", "load"]).stdout(Stdio::piped()),
        };
        if let Some(port) = self.apps.get(node) {
            command.args(["--app", &format!("app={port}")]);
        }
        if begin == Begin::First && node > 0 {
            command.args(["--join", &self.nodes[0].peer]);
        }
        self.scratch.spawn(&mut command)
    }

    /// The last lines of a node's log.
    pub(super) fn log_tail(&self, node: usize) -> String {
        let text = std::fs::read_to_string(self.log_file(node)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(8)..];
        tail.iter()
            .map(|line| format!("\n  {}: {line}", self.nodes[node].name))
            .collect()
    }

    /// Ends what is left, and deletes the directory.
    pub(super) async fn clean_up(&self) {
        self.scratch.clean_up().await;
    }

    fn log_file(&self, node: usize) -> PathBuf {
        let name = &self.nodes[node].name;
        self.scratch.directory.join(format!("{name}.log"))
    }

    /// Where a node keeps everything.
    pub(super) fn data_dir(&self, node: usize) -> PathBuf {
        self.scratch.directory.join(&self.nodes[node].name)
    }

    /// For messages.
    pub(super) fn directory(&self) -> &Path {
        self.scratch.directory()
    }
}

/// Chooses free ports. All are held until all are chosen, so none is chosen twice.
fn nodes(count: u8) -> io::Result<Vec<Node>> {
    let mut held = (Vec::new(), Vec::new());
    let mut nodes = Vec::new();
    for number in 1..=count {
        let mut tcp = || -> io::Result<String> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let addr = listener.local_addr()?.to_string();
            held.0.push(listener);
            Ok(addr)
        };
        let (http, grpc, admin) = (tcp()?, tcp()?, tcp()?);
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let peer = socket.local_addr()?.to_string();
        held.1.push(socket);
        nodes.push(Node {
            name: format!("n{number}"),
            http,
            admin,
            peer,
            grpc,
        });
    }
    Ok(nodes)
}

/// Becomes true when a signal asks this program to end.
pub(super) type End = tokio::sync::watch::Receiver<bool>;

/// Listens to the signals that end a program.
pub(super) fn ended_by_signal(purpose: Purpose) -> Result<End, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| {
        signal(kind).map_err(|error| purpose.failed(format!("cannot listen to signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let (tell, end) = tokio::sync::watch::channel(false);
    drop(tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        tell.send_replace(true);
        // Keeps the channel open: a closed one would read as an end, too.
        std::future::pending::<()>().await;
    }));
    Ok(end)
}

/// A number below `bound`, good enough to choose a name or a victim.
pub(super) fn random_below(bound: u64) -> u64 {
    // Every `RandomState` is seeded anew by the standard library.
    std::hash::RandomState::new().build_hasher().finish() % bound.max(1)
}
