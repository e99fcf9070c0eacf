//! A cluster of its own: a temporary directory, a key, ports that nobody else uses, and the nodes, by number
//! from 0. Dropped in a panic, it prints the nodes' last words.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::http::{Ask, Connection};
use crate::ports::free_address;
use crate::process::{self, Process};
use crate::wait::until;

/// Longest time for nodes to become healthy.
pub const HEALTHY_TIME_MAX: Duration = Duration::from_secs(60);
/// Last words of a node that are printed when a test fails.
const LAST_LINES: usize = 40;

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    directory: tempfile::TempDir,
    partitions: u32,
    nodes: Vec<Node>,
}

/// One node, running or not.
#[derive(Debug)]
struct Node {
    name: String,
    peer: String,
    http: String,
    grpc: String,
    admin: String,
    process: Option<Process>,
}

/// How a node finds its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begin {
    Founds,
    Joins,
    Remembers,
}

impl Cluster {
    /// Founds a cluster and waits until it is healthy.
    ///
    /// # Panics
    /// When it does not form in time.
    #[must_use]
    pub fn form(nodes: usize, partitions: u32) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = process::run(&["keygen"]);
        assert!(key.status.success(), "{}", process::stderr(&key));
        write_key(&directory.path().join("cluster.key"), &key.stdout);
        let mut cluster = Self {
            directory,
            partitions,
            nodes: Vec::new(),
        };
        cluster.add(Begin::Founds);
        for _ in 1..nodes {
            cluster.add(Begin::Joins);
        }
        cluster.wait_healthy();
        cluster
    }

    /// Starts one more node, and returns its number at once.
    pub fn join(&mut self) -> usize {
        self.add(Begin::Joins)
    }

    fn add(&mut self, begin: Begin) -> usize {
        let number = self.nodes.len();
        self.nodes.push(Node {
            name: format!("n{}", number + 1),
            peer: free_address(),
            http: free_address(),
            grpc: free_address(),
            admin: free_address(),
            process: None,
        });
        self.begin(number, begin);
        number
    }

    /// Starts a node again: it remembers its cluster, no seed is named.
    pub fn start(&mut self, node: usize) {
        self.begin(node, Begin::Remembers);
    }

    fn begin(&mut self, node: usize, begin: Begin) {
        assert!(self.nodes[node].process.is_none(), "it runs already");
        let mut args = self.start_args(node);
        match begin {
            Begin::Founds => args.extend(["--partitions".to_owned(), self.partitions.to_string()]),
            Begin::Joins => args.extend(["--join".to_owned(), self.nodes[0].peer.clone()]),
            Begin::Remembers => {}
        }
        self.nodes[node].process = Some(Process::start(&args, &self.log_file(node)));
    }

    /// The arguments of a node that remembers its cluster.
    #[must_use]
    pub fn start_args(&self, node: usize) -> Vec<String> {
        let Node {
            name,
            peer,
            http,
            grpc,
            admin,
            process: _,
        } = &self.nodes[node];
        let data = self.path(name).display().to_string();
        let key = self.path("cluster.key").display().to_string();
        [
            ["--name", name],
            ["--data-dir", &data],
            ["--cluster-key-file", &key],
            ["--listen", peer],
            ["--http", http],
            ["--grpc", grpc],
            ["--admin", admin],
            ["--samples", "true"],
        ]
        .concat()
        .into_iter()
        .map(ToOwned::to_owned)
        .collect()
    }

    /// A path in the cluster's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log_file(&self, node: usize) -> PathBuf {
        self.path(&format!("{}.log", self.nodes[node].name))
    }

    /// A node's process, taken out of the cluster's care.
    ///
    /// # Panics
    /// When it does not run.
    pub fn take(&mut self, node: usize) -> Process {
        self.nodes[node].process.take().expect("it runs")
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: usize) {
        self.take(node).kill();
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the node does not run.
    pub fn signal(&mut self, node: usize, signal: Signal) {
        let process = self.nodes[node].process.as_mut();
        process.expect("it runs").signal(signal);
    }

    /// Addresses of the actor API, by node.
    #[must_use]
    pub fn http(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.http.clone()).collect()
    }

    /// A node's name.
    #[must_use]
    pub fn name(&self, node: usize) -> &str {
        &self.nodes[node].name
    }

    /// A node's peer address.
    #[must_use]
    pub fn peer(&self, node: usize) -> &str {
        &self.nodes[node].peer
    }

    /// A node's admin URL, as `--node` takes it.
    #[must_use]
    pub fn admin_url(&self, node: usize) -> String {
        format!("http://{}", self.nodes[node].admin)
    }

    /// A list of a node's admin API; `None` if it does not answer.
    #[must_use]
    pub fn admin(&self, node: usize, list: &str) -> Option<Value> {
        let ask = Ask {
            method: "GET",
            path: format!("/ghostlight/v1/{list}"),
            headers: Vec::new(),
            body: String::new(),
            time_max: Duration::from_secs(2),
        };
        let reply = Connection::to(&self.nodes[node].admin).send(&ask).ok()?;
        if reply.status != 200 {
            return None;
        }
        serde_json::from_str(&reply.body).ok()
    }

    /// A node's row in the status of another one that runs.
    #[must_use]
    pub fn row(&self, asked: usize, node: usize) -> Option<Value> {
        let status = self.admin(asked, "status")?;
        let rows = status["members"].as_array()?;
        let name = self.name(node);
        rows.iter().find(|row| row["name"] == name).cloned()
    }

    /// Waits until every running node says that all partitions are led and have all copies there can be, and
    /// that exactly the running nodes are alive. Returns how long it took.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_healthy(&self) -> Duration {
        let began = Instant::now();
        until(
            "every node calls the cluster healthy",
            HEALTHY_TIME_MAX,
            || {
                let running = self.running();
                let healthy = |node: &usize| self.calls_it_healthy(*node, running.len());
                running.iter().all(healthy).then_some(())
            },
        );
        began.elapsed()
    }

    fn calls_it_healthy(&self, node: usize, running: usize) -> bool {
        let Some(status) = self.admin(node, "status") else {
            return false;
        };
        let alive = status["members"].as_array().map_or(0, |rows| {
            rows.iter().filter(|row| row["state"] == "alive").count()
        });
        // Fewer nodes than the factor are never healthy; then all copies there can be are enough.
        let whole = match status["factor"].as_u64() {
            Some(factor) if (running as u64) < factor => status["copies_min"] == running as u64,
            Some(_) => status["health"] == "healthy",
            None => false,
        };
        whole && status["partitions_led"] == status["partitions"] && alive == running
    }

    /// The numbers of the nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter(|(_, node)| node.process.is_some())
            .map(|(number, _)| number)
            .collect()
    }

    /// The node that leads most partitions.
    ///
    /// # Panics
    /// When no node says who leads.
    #[must_use]
    pub fn busiest(&self) -> usize {
        let leaders = |node: &usize| {
            let row = self.row(*node, *node);
            row.and_then(|row| row["leaders"].as_u64()).unwrap_or(0)
        };
        let running = self.running().into_iter();
        running.max_by_key(leaders).expect("a node runs")
    }

    /// The node that leads an actor's partition, by the command line.
    ///
    /// # Panics
    /// When the command does not name one of ours in time.
    #[track_caller]
    #[must_use]
    pub fn leader_of(&self, actor: &str) -> usize {
        let asked = self.admin_url(self.running()[0]);
        until("somebody leads the actor", Duration::from_secs(10), || {
            let place = process::run(&["where", actor, "--json", "--node", &asked]);
            let place: Value = serde_json::from_slice(&place.stdout).ok()?;
            let name = place["leader"]["name"].as_str()?;
            self.nodes.iter().position(|node| node.name == name)
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in 0..self.nodes.len() {
            let said = std::fs::read_to_string(self.log_file(node)).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                eprintln!("{}: {line}", self.nodes[node].name);
            }
        }
    }
}

/// Writes a key file that only this user may read.
///
/// # Panics
/// When it cannot be written.
pub fn write_key(path: &Path, key: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(key))
        .expect("a key file");
}
