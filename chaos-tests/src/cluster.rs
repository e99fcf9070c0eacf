//! A cluster of its own: a temporary directory, a key, ports that nobody else uses, and the nodes,
//! by number from 0. Dropped in a panic, it prints the nodes' last words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::clocks::Clocks;
use crate::files;
use crate::http::{Ask, Connection};
use crate::network::Network;
use crate::ports::free_address;
use crate::process::{self, Process};
use crate::sync_faults::SyncFaults;
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
    clocks: Option<Clocks>,
    network: Option<Network>,
    sync_faults: Option<SyncFaults>,
    nodes: Vec<Node>,
}

/// One node, running or not.
#[derive(Debug)]
struct Node {
    name: String,
    /// Where it listens.
    peer: String,
    /// Where others reach it.
    reached_at: String,
    http: String,
    grpc: String,
    admin: String,
    addresses: Addresses,
    process: Option<Process>,
}

/// Whether a node that starts again must be told where it listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Addresses {
    Remembered,
    New,
}

/// How a node finds its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Begin {
    /// With more arguments.
    Founds(Vec<String>),
    /// By these seeds, with more arguments.
    Joins(Vec<String>, Vec<String>),
    Remembers,
}

impl Cluster {
    /// Founds a cluster and waits until it is healthy.
    ///
    /// # Panics
    /// When it does not form in time.
    #[must_use]
    pub fn form(nodes: usize, partitions: u32) -> Self {
        let mut cluster = Self::plan(partitions);
        cluster.form_planned(nodes);
        cluster
    }

    /// Founds a cluster that was planned, and waits until it is healthy.
    ///
    /// # Panics
    /// When it does not form in time.
    pub fn form_planned(&mut self, nodes: usize) {
        self.found();
        for _ in 1..nodes {
            self.join();
        }
        self.wait_healthy();
    }

    /// A cluster without a node: a directory and a key.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn plan(partitions: u32) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        files::check_room(directory.path());
        let key = process::run(&["keygen"]);
        assert!(key.status.success(), "{}", process::stderr(&key));
        write_key(&directory.path().join("cluster.key"), &key.stdout);
        Self {
            directory,
            partitions,
            clocks: None,
            network: None,
            sync_faults: None,
            nodes: Vec::new(),
        }
    }

    /// The same with a clock of its own for each node; `None`: this machine cannot fake clocks.
    ///
    /// # Panics
    /// When directory or key cannot be made.
    #[must_use]
    pub fn plan_with_clocks(partitions: u32) -> Option<(Self, Clocks)> {
        let mut cluster = Self::plan(partitions);
        let clocks = Clocks::find(cluster.directory.path())?;
        cluster.clocks = Some(clocks.clone());
        Some((cluster, clocks))
    }

    /// The same with a network between the nodes that can be cut and made lossy.
    ///
    /// # Panics
    /// When directory or key cannot be made.
    #[must_use]
    pub fn plan_with_network(partitions: u32, seed: u64) -> Self {
        let mut cluster = Self::plan(partitions);
        cluster.network = Some(Network::new(seed));
        cluster
    }

    /// The same with disks whose syncs can be slow or fail; `None`: this machine cannot make them.
    ///
    /// # Panics
    /// When directory or key cannot be made.
    #[must_use]
    pub fn plan_with_sync_faults(partitions: u32) -> Option<Self> {
        let mut cluster = Self::plan(partitions);
        cluster.sync_faults = Some(SyncFaults::make(cluster.directory.path())?);
        Some(cluster)
    }

    /// The disks of the nodes.
    ///
    /// # Panics
    /// When the cluster was planned without such disks.
    #[must_use]
    pub fn sync_faults(&self) -> &SyncFaults {
        self.sync_faults.as_ref().expect("planned with such disks")
    }

    /// The network between the nodes.
    ///
    /// # Panics
    /// When the cluster was planned without one.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("planned with a network")
    }

    /// Starts the founder, and returns its number at once.
    ///
    /// # Panics
    /// When there is a node already.
    pub fn found(&mut self) -> usize {
        self.found_with(&[])
    }

    /// The same at a peer address that others may know already.
    pub fn found_at(&mut self, peer: &str) -> usize {
        self.add(peer.to_owned(), Begin::Founds(Vec::new()))
    }

    /// The same with more arguments, in this start only.
    ///
    /// # Panics
    /// When there is a node already.
    pub fn found_with(&mut self, more: &[&str]) -> usize {
        assert!(self.nodes.is_empty(), "the founder is the first node");
        let more = more.iter().map(|arg| (*arg).to_owned()).collect();
        self.add(free_address(), Begin::Founds(more))
    }

    /// Starts one more node with the first one as its seed, and returns its number at once.
    pub fn join(&mut self) -> usize {
        let seed = self.nodes[0].reached_at.clone();
        self.join_by(&[seed])
    }

    /// The same with more arguments, in this start only.
    pub fn join_with(&mut self, more: &[&str]) -> usize {
        let seed = self.nodes[0].reached_at.clone();
        let more = more.iter().map(|arg| (*arg).to_owned()).collect();
        self.add(free_address(), Begin::Joins(vec![seed], more))
    }

    /// Starts one more node with these seeds, and returns its number at once.
    pub fn join_by(&mut self, seeds: &[String]) -> usize {
        self.add(free_address(), Begin::Joins(seeds.to_vec(), Vec::new()))
    }

    fn add(&mut self, peer: String, begin: Begin) -> usize {
        let number = self.nodes.len();
        let reached_at = match &mut self.network {
            Some(network) => network.attach(&peer),
            None => peer.clone(),
        };
        self.nodes.push(Node {
            name: format!("n{}", number + 1),
            peer,
            reached_at,
            http: free_address(),
            grpc: free_address(),
            admin: free_address(),
            addresses: Addresses::New,
            process: None,
        });
        self.begin(number, begin);
        number
    }

    /// Gives a node that does not run other addresses for its next start.
    ///
    /// # Panics
    /// When it runs, or behind a network, which knows nodes by their addresses.
    pub fn readdress(&mut self, node: usize) {
        assert!(
            self.network.is_none(),
            "a network knows nodes by their addresses"
        );
        let node = &mut self.nodes[node];
        assert!(node.process.is_none(), "a running node keeps its addresses");
        node.addresses = Addresses::New;
        for address in [
            &mut node.peer,
            &mut node.http,
            &mut node.grpc,
            &mut node.admin,
        ] {
            *address = free_address();
        }
        node.reached_at.clone_from(&node.peer);
    }

    /// Starts a node again, with nothing but its data directory where its addresses are the old
    /// ones.
    pub fn start(&mut self, node: usize) {
        self.begin(node, Begin::Remembers);
    }

    /// The same with more arguments.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_with(&mut self, node: usize, more: &[String]) {
        assert!(self.nodes[node].process.is_none(), "it runs already");
        let mut args = self.start_args(node);
        args.extend_from_slice(more);
        self.nodes[node].process = Some(Process::start(&args, &self.log_file(node)));
    }

    fn begin(&mut self, node: usize, begin: Begin) {
        assert!(self.nodes[node].process.is_none(), "it runs already");
        let addresses = std::mem::replace(&mut self.nodes[node].addresses, Addresses::Remembered);
        let mut args = match (&begin, addresses) {
            (Begin::Remembers, Addresses::Remembered) => self.data_dir_args(node),
            (Begin::Founds(_) | Begin::Joins(..), _) | (_, Addresses::New) => self.start_args(node),
        };
        match begin {
            Begin::Founds(more) => {
                args.extend(["--partitions".to_owned(), self.partitions.to_string()]);
                args.extend(more);
            }
            Begin::Joins(seeds, more) => {
                args.extend(["--join".to_owned(), seeds.join(",")]);
                args.extend(more);
            }
            Begin::Remembers => {}
        }
        let mut start = process::command();
        start.arg("start").args(args);
        if let Some(clocks) = &self.clocks {
            clocks.give_to(&mut start, &self.nodes[node].name);
        }
        if let Some(disks) = &self.sync_faults {
            disks.give_to(&mut start, &self.nodes[node].name);
        }
        self.nodes[node].process = Some(Process::node(start, &self.log_file(node)));
    }

    /// All that a restart needs.
    fn data_dir_args(&self, node: usize) -> Vec<String> {
        let data = self.path(&self.nodes[node].name);
        vec!["--data-dir".to_owned(), data.display().to_string()]
    }

    /// All arguments of a node that remembers its cluster.
    #[must_use]
    pub fn start_args(&self, node: usize) -> Vec<String> {
        let Node {
            name,
            peer,
            reached_at,
            http,
            grpc,
            admin,
            addresses: _,
            process: _,
        } = &self.nodes[node];
        let data = self.path(name).display().to_string();
        let key = self.path("cluster.key").display().to_string();
        let advertise: &[_] = match reached_at == peer {
            true => &[],
            false => &[["--advertise", reached_at]],
        };
        let all = [
            ["--name", name],
            ["--data-dir", &data],
            ["--cluster-key-file", &key],
            ["--listen", peer],
            ["--http", http],
            ["--grpc", grpc],
            ["--admin", admin],
            ["--samples", "true"],
        ];
        let all = all.iter().chain(advertise).flatten();
        all.map(|arg| (*arg).to_owned()).collect()
    }

    /// A path in the cluster's directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// All that a node has said so far.
    #[must_use]
    pub fn said(&self, node: usize) -> String {
        std::fs::read_to_string(self.log_file(node)).unwrap_or_default()
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

    /// The process id of a node.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self, node: usize) -> u32 {
        let process = self.nodes[node].process.as_ref();
        process.expect("it runs").pid()
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

    /// The peer address at which others reach a node.
    #[must_use]
    pub fn peer(&self, node: usize) -> &str {
        &self.nodes[node].reached_at
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

    /// Waits until every running node says that all partitions are led and have all copies there
    /// can be, and that exactly the running nodes are alive. Returns how long it took.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_healthy(&self) -> Duration {
        let began = Instant::now();
        until(
            "every node calls the cluster healthy",
            HEALTHY_TIME_MAX,
            || self.is_healthy().then_some(()),
        );
        began.elapsed()
    }

    /// Whether every running node calls the cluster healthy, with as many members as run.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let running = self.running();
        let healthy = |node: &usize| self.calls_it_healthy(*node, running.len());
        running.iter().all(healthy)
    }

    /// Nodes whose process has ended by itself; they count as not running from now on.
    pub fn ended(&mut self) -> Vec<usize> {
        let mut ended = Vec::new();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if node.process.as_mut().is_some_and(|p| p.ended().is_some()) {
                node.process = None;
                ended.push(number);
            }
        }
        ended
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

    /// The partitions that a node says it leads.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn led_by(&self, node: usize) -> BTreeSet<u64> {
        let partitions = self
            .admin(node, "partitions")
            .expect("a running node answers");
        let led = partitions.as_array().into_iter().flatten();
        led.filter(|partition| partition["role"] == "leader")
            .map(|partition| partition["partition"].as_u64().expect("a number"))
            .collect()
    }

    /// The partition of an actor, as a running node tells it.
    ///
    /// # Panics
    /// When no node answers.
    #[must_use]
    pub fn partition_of(&self, actor: &str) -> u64 {
        let place = self.admin(self.running()[0], &format!("where/{actor}"));
        let place = place.expect("a running node answers");
        place["partition"].as_u64().expect("a number")
    }

    /// Ids of log actors that begin with `prefix`, in partitions that are all different: (id,
    /// partition).
    ///
    /// # Panics
    /// When there are fewer partitions than ids wanted.
    #[must_use]
    pub fn spread_actors(&self, prefix: &str, count: usize) -> Vec<(String, u64)> {
        assert!(count <= self.partitions as usize, "one partition each");
        let mut taken = BTreeSet::new();
        let ids = (0..).map(|number| format!("{prefix}-{number}"));
        ids.map(|id| {
            let partition = self.partition_of(&format!("log/{id}"));
            (id, partition)
        })
        .filter(|(_, partition)| taken.insert(*partition))
        .take(count)
        .collect()
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
            let said = self.said(node);
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
