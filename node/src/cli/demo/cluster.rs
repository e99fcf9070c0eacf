//! The stage of a demo: a directory, a key, and for each node its ports and how it is started.

use std::fs::File;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, ChildStdin, Command};

use super::janitor::Janitor;
use super::{Failure, failed};
use crate::cli::keygen::new_key;

/// Everything that stays the same while nodes come and go.
pub(super) struct Stage {
    /// Deleted at the end.
    directory: PathBuf,
    key_file: PathBuf,
    program: PathBuf,
    janitor: Janitor,
    /// The nodes, `n1` first.
    pub(super) nodes: Vec<Node>,
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

/// A node's process.
pub(super) struct Process {
    pub(super) child: Child,
    /// The node ends when this is closed. Apart from the child, because waiting for a child closes its stdin.
    _lifeline: ChildStdin,
}

impl Stage {
    pub(super) fn set_up(count: u8) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            failed(format!(
                "cannot set the stage in {} ({error})",
                std::env::temp_dir().display()
            ))
        };
        let program = std::env::current_exe().map_err(cannot)?;
        let unique = format!(
            "ghostlight-demo-{}-{:x}",
            std::process::id(),
            super::random_below(u64::MAX)
        );
        let directory = std::env::temp_dir().join(unique);
        // Only this user may look: the key is inside.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(cannot)?;
        let janitor = Janitor::hire(&program, &directory).map_err(cannot)?;
        let key_file = directory.join("cluster.key");
        std::fs::write(&key_file, new_key()?).map_err(cannot)?;
        let nodes = nodes(count).map_err(cannot)?;
        Ok(Self {
            directory,
            key_file,
            program,
            janitor,
            nodes,
        })
    }

    /// Starts a node's process; it ends when this process does.
    pub(super) fn start(&self, node: usize, begin: Begin) -> io::Result<Process> {
        let spec = &self.nodes[node];
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file(node))?;
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("GHOSTLIGHT_") || ["DAPR_API_TOKEN", "NAMESPACE"].contains(&&*name)
            {
                command.env_remove(&*name);
            }
        }
        command
            .arg("start")
            .args(["--name", &spec.name, "--log-level", "warn"])
            .args(["--listen", &spec.peer, "--http", &spec.http])
            .args(["--grpc", &spec.grpc, "--admin", &spec.admin])
            .arg("--data-dir")
            .arg(self.directory.join(&spec.name))
            .arg("--cluster-key-file")
            .arg(&self.key_file)
            .args(["--samples", "--die-with-parent"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C in the terminal is for the demo alone.
            .process_group(0)
            .kill_on_drop(true);
        if begin == Begin::First && node > 0 {
            command.args(["--join", &self.nodes[0].peer]);
        }
        let mut child = command.spawn()?;
        let lifeline = child.stdin.take().expect("stdin was asked to be a pipe");
        if let Some(pid) = child.id() {
            self.janitor.watch_over(pid);
        }
        Ok(Process {
            child,
            _lifeline: lifeline,
        })
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
        self.janitor.finish().await;
    }

    fn log_file(&self, node: usize) -> PathBuf {
        self.directory
            .join(format!("{}.log", self.nodes[node].name))
    }

    /// For messages.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
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
