//! Nodes to be measured: real processes on a stage of their own, formed before anything is
//! measured.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use ghostlight_core::admin::{ActorView, StatusView};

use super::child::Orderly;
use super::order::{Amount, FanLoad, Load, Order, Report, TopicLoad};
use super::proc;
use crate::cli::Failure;
use crate::cli::stage::{Begin, Purpose, Stage, ask, ask_within, is_ready};

/// How long nodes may take to form.
const FORMING_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a new cluster may take to spread its leaderships.
const SETTLING_TIME_MAX: Duration = Duration::from_secs(120);
const SETTLING_LOOK_PERIOD: Duration = Duration::from_millis(250);
/// How long a list of all activations may take.
const LIST_TIME_MAX: Duration = Duration::from_secs(30);
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// A running cluster. Fields in the order in which they must go.
pub(super) struct Cluster {
    nodes: Vec<Orderly>,
    stage: Stage,
}

impl Cluster {
    /// Starts `running` nodes of a stage for `places`, and waits until every partition has its
    /// copies.
    pub(super) async fn form(base: &Path, running: usize, places: u8) -> Result<Self, Failure> {
        Self::form_beside(base, running, places, &[]).await
    }

    /// The same with an application beside each of the first nodes, by their ports.
    pub(super) async fn form_beside(
        base: &Path,
        running: usize,
        places: u8,
        apps: &[u16],
    ) -> Result<Self, Failure> {
        let mut stage = Stage::set_up(Purpose::Bench, base, places)?;
        apps.clone_into(&mut stage.apps);
        let mut cluster = Self {
            nodes: Vec::new(),
            stage,
        };
        for _ in 0..running {
            cluster.add()?;
        }
        let begun = Instant::now();
        while !cluster.is_ready().await {
            if begun.elapsed() > FORMING_TIME_MAX {
                return Err(cluster.failed("the nodes did not form a cluster within a minute"));
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        Ok(cluster)
    }

    /// Starts the next node of the stage; it joins by itself.
    pub(super) fn add(&mut self) -> Result<(), Failure> {
        let node = self.nodes.len();
        let process = self.stage.start(node, Begin::First).map_err(|error| {
            Purpose::Bench.failed(format!("cannot start a node's process ({error})"))
        })?;
        let name = &self.stage.nodes[node].name;
        self.nodes.push(Orderly::new(name, process)?);
        Ok(())
    }

    pub(super) async fn status(&self) -> Option<StatusView> {
        ask(&self.stage.nodes[0], "status").await
    }

    /// Activations in the memory of one node.
    pub(super) async fn activations(&self, node: usize) -> Result<usize, Failure> {
        let views: Option<Vec<ActorView>> =
            ask_within(&self.stage.nodes[node], "actors", LIST_TIME_MAX).await;
        let views = views.ok_or_else(|| self.failed("a node does not list its activations"))?;
        Ok(views.len())
    }

    async fn is_ready(&self) -> bool {
        let status = self.status().await;
        status.is_some_and(|status| is_ready(&status, self.nodes.len()))
    }

    /// Waits until no copy and no leadership has moved for a while: a new cluster spreads them.
    pub(super) async fn settle(&self, quiet: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut last: Option<Vec<u32>> = None;
        let mut since = begun;
        while since.elapsed() < quiet {
            let status = self.status().await;
            let leaders = status
                .filter(|status| status.moves == 0)
                .map(|status| status.members.iter().map(|member| member.leaders).collect());
            if leaders.is_none() || leaders != last {
                (last, since) = (leaders, Instant::now());
            }
            if begun.elapsed() > SETTLING_TIME_MAX {
                return Err(self.failed("leaderships and copies still move after two minutes"));
            }
            tokio::time::sleep(SETTLING_LOOK_PERIOD).await;
        }
        Ok(())
    }

    /// The node that leads least.
    pub(super) async fn caller(&self) -> Result<usize, Failure> {
        let status = self
            .status()
            .await
            .ok_or_else(|| self.failed("a node does not answer"))?;
        let led = |node: usize| {
            let name = &self.stage.nodes[node].name;
            let member = status.members.iter().find(|member| &member.name == name);
            member.map_or(u32::MAX, |member| member.leaders)
        };
        let least = (0..self.nodes.len()).min_by_key(|node| led(*node));
        least.ok_or_else(|| self.failed("there is no node"))
    }

    /// Load from one node.
    pub(super) async fn load(&mut self, node: usize, load: Load) -> Result<Report, Failure> {
        let report = self.nodes[node].report(&Order::Load(load)).await;
        report.map_err(|error| self.with_logs(&error))
    }

    /// Load on topics from one node.
    pub(super) async fn topics(&mut self, node: usize, load: TopicLoad) -> Result<Report, Failure> {
        let report = self.nodes[node].report(&Order::Topics(load)).await;
        report.map_err(|error| self.with_logs(&error))
    }

    /// An ephemeral topic: the first node publishes to subscribers that are spread over all.
    /// Deliveries of all nodes in one report, in the publisher's time.
    pub(super) async fn fan_out(&mut self, load: FanLoad) -> Result<Report, Failure> {
        let nodes = self.nodes.len() as u32;
        let orders = (0..nodes).zip(&mut self.nodes).map(|(number, node)| {
            let part = FanLoad {
                subscribers: load.subscribers / nodes
                    + u32::from(number < load.subscribers % nodes),
                listener: number.saturating_sub(1),
                ..load
            };
            let order = match number {
                0 => Order::Fan(part),
                _ => Order::Listen(part),
            };
            async move { node.report(&order).await }
        });
        let reports = try_join_all(orders).await;
        let reports = reports.map_err(|error| self.with_logs(&error))?;
        let seconds = reports.first().map_or(0.0, |report| report.seconds);
        let mut sum = Report::in_turn(&reports);
        sum.seconds = seconds;
        Ok(sum)
    }

    /// Load from the first `count` nodes at once: clients and calls are divided among them.
    pub(super) async fn load_from_first(
        &mut self,
        count: usize,
        load: Load,
    ) -> Result<Report, Failure> {
        let callers = self.nodes.iter_mut().take(count).enumerate();
        let orders = callers.map(|(number, node)| {
            let mut part = load;
            let clients = load.run.in_flight;
            part.run.in_flight = clients / count + usize::from(number < clients % count);
            part.run.per_second = load.run.per_second.map(|rate| rate / count as u32);
            part.actors.begin = load.actors.count * number as u64 / count as u64;
            if let Amount::Calls(calls) = load.run.amount {
                part.run.amount = Amount::Calls(calls.div_ceil(count as u64));
            }
            let order = Order::Load(part);
            async move { node.report(&order).await }
        });
        let reports = try_join_all(orders).await;
        let reports = reports.map_err(|error| self.with_logs(&error))?;
        Ok(Report::together(&reports))
    }

    /// Ports of the HTTP API, node by node.
    pub(super) fn http_ports(&self) -> Vec<u16> {
        let nodes = self.stage.nodes.iter().take(self.nodes.len());
        let ports = nodes.filter_map(|node| node.http.rsplit_once(':')?.1.parse().ok());
        ports.collect()
    }

    /// Processor time of each node so far.
    pub(super) fn cpu(&self) -> Result<Vec<Duration>, Failure> {
        self.each(proc::process_cpu)
    }

    /// Resident memory of each node, in bytes.
    pub(super) fn memory(&self) -> Result<Vec<u64>, Failure> {
        self.each(proc::resident_bytes)
    }

    fn each<T>(&self, look: impl Fn(u32) -> Result<T, String>) -> Result<Vec<T>, Failure> {
        let pids = self.nodes.iter().map(Orderly::pid);
        pids.map(|pid| look(pid?).map_err(|why| self.failed(&why)))
            .collect()
    }

    /// Kills a node as a power cut would, and tells where its data is.
    pub(super) async fn kill_last(&mut self) -> Result<PathBuf, Failure> {
        let Some(node) = self.nodes.pop() else {
            return Err(self.failed("there is no node"));
        };
        node.kill().await?;
        Ok(self.stage.data_dir(self.nodes.len()))
    }

    /// Ends the nodes, and deletes everything.
    pub(super) async fn end(self) {
        let Self { nodes, stage } = self;
        drop(nodes);
        stage.clean_up().await;
    }

    pub(super) fn failed(&self, why: &str) -> Failure {
        Purpose::Bench.failed(format!("{why}{}", self.logs()))
    }

    pub(super) fn with_logs(&self, error: &Failure) -> Failure {
        self.failed(error.detail())
    }

    fn logs(&self) -> String {
        let logs = (0..self.nodes.len()).map(|node| self.stage.log_tail(node));
        logs.collect()
    }
}
