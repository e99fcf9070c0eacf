//! Applications beside their nodes, over HTTP: what the way through a node costs, and the loads
//! that Dapr publishes figures of.
//!
//! Application, clients and nodes are processes of their own and share the machine. The application
//! answers what it is sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ghostlight_protocol::calendar::rfc3339;
use ghostlight_protocol::time::WallTime;

use super::{Bench, say};
use crate::cli::Failure;
use crate::cli::bench::child::Orderly;
use crate::cli::bench::cluster::Cluster;
use crate::cli::bench::order::{Amount, Loop, Order, Place, Report, WebLoad, WebWork, Work};
use crate::cli::bench::row::Row;

/// In flight when a rate is measured.
const WINDOW: usize = 64;
/// The same of calls to three nodes.
const WINDOW_THREE: usize = 192;
/// New actors a second.
const ACTIVATIONS: u32 = 500;
/// How long reminders may take to come.
const FIRED_WITHIN_MS: u64 = 60_000;
/// Bytes of a call's body, as in `web.rs`.
const BODY_BYTES: usize = 128;

const ON_ONE: [&str; 5] = [
    "api_echo",
    "app_echo",
    "reminders_set",
    "reminders_fired",
    "app_memory",
];
const ON_THREE: [&str; 2] = ["app_activation", "app_calls"];

impl Bench {
    /// Every row about applications.
    pub(super) async fn dapr(&mut self) -> Result<(), Failure> {
        if self.wants(&ON_ONE) {
            self.dapr_on_one().await?;
        }
        if self.wants(&ON_THREE) {
            self.dapr_on_three().await?;
        }
        Ok(())
    }

    async fn dapr_on_one(&mut self) -> Result<(), Failure> {
        let commit = match self.wants(&["app_echo"]) {
            true => self.sync().await?.micros_at(0.5),
            false => 0.0,
        };
        let mut app = Orderly::worker(&self.scratch)?;
        let port = app.listening(&Order::AppServer).await?;
        let mut cluster = Cluster::form_beside(&self.base, 1, 1, &[port]).await?;
        self.is_hosted(&cluster).await?;
        if self.wants(&["api_echo"]) {
            self.api_echo(&mut cluster).await?;
        }
        if self.wants(&["app_echo"]) {
            self.app_echo(&cluster, port, commit).await?;
        }
        if self.wants(&["reminders_set"]) {
            say("reminders are set, 64 in flight");
            let due = "1h".to_owned();
            let run = self.plan.clients(WINDOW);
            let report = self
                .web(&cluster.http_ports(), WebWork::Remind { due }, None, run)
                .await
                .map_err(|failure| cluster.with_logs(&failure))?;
            let row = Row::new("reminders_set", report.rate()).seen(&report);
            self.put(row.noted("one node, each synced before its answer"));
        }
        if self.wants(&["reminders_fired"]) {
            self.reminders_fired(&cluster, &mut app).await?;
        }
        let mib = cluster.memory()?[0] as f64 / 1_048_576.0;
        self.put(Row::new("app_memory", mib).noted("the one node, after the rows before"));
        cluster.end().await;
        app.kill().await
    }

    /// Processor time of a call over HTTP, less that of the same call through the library.
    async fn api_echo(&mut self, cluster: &mut Cluster) -> Result<(), Failure> {
        say("echo over HTTP on one node, 64 in flight");
        let run = self.plan.clients(WINDOW);
        let load = self.load(Work::Echo(BODY_BYTES), run, Place::Anywhere);
        let library = cluster.load(0, load).await?;
        let library = library.node_cpu_seconds() * 1e6 / library.calls.max(1) as f64;
        let before = cluster.cpu()?[0];
        let ports = cluster.http_ports();
        let actors = Some(self.plan.actors);
        // From the first call on: the processor time is that of all calls.
        let run = Loop { warm_ms: 0, ..run };
        let report = self.web(&ports, WebWork::Native, actors, run).await?;
        let spent = (cluster.cpu()?[0] - before).as_secs_f64() * 1e6 / report.calls.max(1) as f64;
        let row = Row::new("api_echo", (spent - library).max(0.0)).seen(&report);
        self.put(row.noted(&format!(
            "the node's processor for each HTTP call, {spent:.0}, less {library:.1} through the library; {:.0} calls/s",
            report.rate()
        )));
        Ok(())
    }

    /// One call at a time of an actor of the application.
    async fn app_echo(&mut self, cluster: &Cluster, app: u16, commit: f64) -> Result<(), Failure> {
        say("calls of an application's actors on one node, one at a time");
        let run = self.plan.clients(1);
        let actors = Some(self.plan.actors);
        let direct = self.web(&[app], WebWork::Direct, actors, run).await?;
        let direct = direct.micros_at(0.5);
        let report = self
            .web(&cluster.http_ports(), WebWork::Hosted, actors, run)
            .await
            .map_err(|failure| cluster.with_logs(&failure))?;
        let row = Row::new("app_echo", report.micros_at(0.5)).against(
            direct + commit,
            format!(
                "baseline: the application called directly, {direct:.0}, and a synced commit, {commit:.0}, p50"
            ),
        );
        self.put(row.seen(&report));
        Ok(())
    }

    /// Many reminders that are due at one moment.
    async fn reminders_fired(
        &mut self,
        cluster: &Cluster,
        app: &mut Orderly,
    ) -> Result<(), Failure> {
        let count = self.plan.reminders;
        say(&format!("{count} reminders that are due at once"));
        // One moment for all of them, which comes when they are set.
        let due = due_in(self.plan.reminders_due);
        let run = Loop {
            in_flight: WINDOW,
            warm_ms: 0,
            amount: Amount::Calls(count),
            per_second: None,
        };
        let actors = Some(self.plan.actors);
        let set = self
            .web(&cluster.http_ports(), WebWork::Remind { due }, actors, run)
            .await
            .map_err(|failure| cluster.with_logs(&failure))?;
        let order = Order::AppReminded {
            count: set.calls,
            wait_ms: FIRED_WITHIN_MS,
        };
        let report = app
            .report(&order)
            .await
            .map_err(|failure| cluster.with_logs(&failure))?;
        let row = Row::new("reminders_fired", report.rate()).noted(&format!(
            "one node, {} reminders of {} actors, from the first to the last",
            report.calls, self.plan.actors
        ));
        self.put(row);
        Ok(())
    }

    async fn dapr_on_three(&mut self) -> Result<(), Failure> {
        let mut apps = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..3 {
            let mut app = Orderly::worker(&self.scratch)?;
            ports.push(app.listening(&Order::AppServer).await?);
            apps.push(app);
        }
        let run = self.plan.clients(WINDOW_THREE);
        let actors = Some(self.plan.actors);
        say("applications called directly, 192 in flight");
        let direct = self.web(&ports, WebWork::Direct, actors, run).await?;
        let cluster = Cluster::form_beside(&self.base, 3, 3, &ports).await?;
        cluster.settle(self.plan.settle).await?;
        self.is_hosted(&cluster).await?;
        if self.wants(&["app_activation"]) {
            say("new actors of applications on three nodes, 500 a second");
            let paced = Loop {
                per_second: Some(ACTIVATIONS),
                ..self.plan.clients(WINDOW)
            };
            let report = self
                .web(&cluster.http_ports(), WebWork::Hosted, None, paced)
                .await
                .map_err(|failure| cluster.with_logs(&failure))?;
            let row = Row::new("app_activation", report.micros_at(0.99)).seen(&report);
            self.put(row.noted("each call makes its actor; p99"));
        }
        if self.wants(&["app_calls"]) {
            say("calls of applications' actors on three nodes, 192 in flight");
            let report = self
                .web(&cluster.http_ports(), WebWork::Hosted, actors, run)
                .await
                .map_err(|failure| cluster.with_logs(&failure))?;
            let row = Row::new("app_calls", report.rate());
            let row = row.against(direct.rate(), "baseline: the applications called directly");
            self.put(row.seen(&report));
        }
        cluster.end().await;
        for app in apps {
            app.kill().await?;
        }
        Ok(())
    }

    /// A call waits until somebody hosts the type; after one through each node, all do.
    async fn is_hosted(&mut self, cluster: &Cluster) -> Result<(), Failure> {
        let ports = cluster.http_ports();
        let run = Loop {
            in_flight: 1,
            warm_ms: 0,
            amount: Amount::Calls(ports.len() as u64),
            per_second: None,
        };
        let report = self.web(&ports, WebWork::Hosted, None, run).await?;
        match report.failure {
            None => Ok(()),
            Some(why) => Err(cluster.failed(&format!("the application is not hosted: {why}"))),
        }
    }

    /// Requests over HTTP, from a process of their own.
    async fn web(
        &mut self,
        ports: &[u16],
        work: WebWork,
        actors: Option<u64>,
        run: Loop,
    ) -> Result<Report, Failure> {
        self.series += 1;
        let order = Order::Web(WebLoad {
            ports: ports.to_owned(),
            work,
            actors,
            series: self.series,
            run,
        });
        self.worker(&order).await
    }
}

/// A moment, as Dapr writes it.
fn due_in(time: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let due = now.unwrap_or_default() + time;
    rfc3339(WallTime(u64::try_from(due.as_millis()).unwrap_or(u64::MAX)))
}

/// Rows of `bench dapr`.
pub(in crate::cli::bench) fn rows() -> Vec<String> {
    let names = ["machine", "fsync"].into_iter().chain(ON_ONE);
    names.chain(ON_THREE).map(str::to_owned).collect()
}
