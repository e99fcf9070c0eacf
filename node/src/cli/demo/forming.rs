//! Until a demo's cluster is ready: progress, then the table and what to paste next.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ghostlight_core::admin::{MemberView, StatusView, WhereView};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::keeper::Event;
use super::{Failure, failed};
use crate::cli::stage::{Stage, ask, is_ready};
use crate::cli::table::{Align, Table};

/// How long the nodes may take to form.
const FORMING_TIME_MAX: Duration = Duration::from_secs(60);
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// The actor that the printed commands are about.
pub(super) const ACTOR: &str = "counter/alice";

/// Waits until every partition has all its copies.
pub(super) async fn wait(stage: &Stage, events: &mut mpsc::Receiver<Event>) -> Result<(), Failure> {
    let began = Instant::now();
    let progress = Progress::start(stage);
    loop {
        let status: Option<StatusView> = ask(&stage.nodes[0], "status").await;
        if let Some(status) = &status {
            progress.show(status, stage.nodes.len());
            if is_ready(status, stage.nodes.len()) {
                progress.done(began.elapsed());
                return Ok(());
            }
        }
        if let Ok(Event::Died { node, how, .. }) = events.try_recv() {
            return Err(failed(format!(
                "{} ended while the cluster formed{how}. A port may have been taken meanwhile: try again",
                stage.nodes[node].name
            )));
        }
        if began.elapsed() > FORMING_TIME_MAX {
            let reasons = status.map_or_else(String::new, |status| status.reasons.join("; "));
            let logs: String = (0..stage.nodes.len())
                .map(|node| stage.log_tail(node))
                .collect();
            return Err(failed(format!(
                "the nodes did not form a cluster within {} s ({reasons}). Their last words:{logs}\n\
                 The disk may be very slow; \"ghostlight demo --nodes 1\" asks less of it",
                FORMING_TIME_MAX.as_secs()
            )));
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// Whether some node calls the cluster healthy.
pub(super) async fn healthy(stage: &Stage) -> bool {
    for node in &stage.nodes {
        if let Some(status) = ask::<StatusView>(node, "status").await {
            return is_ready(&status, stage.nodes.len());
        }
    }
    false
}

/// A bar on a terminal, lines elsewhere.
enum Progress {
    Bar(ProgressBar),
    Lines(std::cell::Cell<u32>),
}

impl Progress {
    fn start(stage: &Stage) -> Self {
        let count = stage.nodes.len();
        let said = format!("starting {count} nodes in {}", stage.directory().display());
        if !std::io::stderr().is_terminal() {
            eprintln!("{said}");
            return Self::Lines(std::cell::Cell::new(0));
        }
        let bar = ProgressBar::new(1).with_message(said);
        let style = ProgressStyle::with_template("{spinner} [{elapsed}] {bar:30} {msg}")
            .expect("a fixed template");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::Bar(bar)
    }

    fn show(&self, status: &StatusView, nodes: usize) {
        let alive = status
            .members
            .iter()
            .filter(|member| member.state == "alive")
            .count();
        let copies: u32 = status.members.iter().map(|member| member.replicas).sum();
        let wanted =
            status.partitions * status.factor.min(u32::try_from(nodes).unwrap_or(u32::MAX));
        let said = format!("{alive} of {nodes} members, {copies} of {wanted} copies");
        match self {
            Self::Bar(bar) => {
                bar.set_length(u64::from(wanted.max(1)));
                bar.set_position(u64::from(copies));
                bar.set_message(said);
            }
            // A line for every tenth of the way.
            Self::Lines(last) => {
                let tenth = copies * 10 / wanted.max(1);
                if tenth > last.replace(tenth) {
                    eprintln!("{said}");
                }
            }
        }
    }

    fn done(&self, took: Duration) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
        eprintln!("ready after {:.1} s", took.as_secs_f64());
    }
}

/// The nodes, and three commands to paste.
pub(super) async fn table(stage: &Arc<Stage>) -> Result<String, Failure> {
    let silent = || failed("a node stopped answering right after the cluster had formed");
    let status: StatusView = ask(&stage.nodes[0], "status").await.ok_or_else(silent)?;
    let place: WhereView = ask(&stage.nodes[0], &format!("where/{ACTOR}"))
        .await
        .ok_or_else(silent)?;
    let leader = place.leader.map(|leader| leader.name);
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("PID", Align::Right),
        ("LEADERS", Align::Right),
        ("COPIES", Align::Right),
        ("DAPR HTTP", Align::Left),
        ("ADMIN", Align::Left),
    ]);
    for member in &status.members {
        table.row(vec![
            member.name.clone(),
            member.pid.to_string(),
            member.leaders.to_string(),
            member.replicas.to_string(),
            format!("http://{}", member.http),
            format!("http://{}", member.admin),
        ]);
    }
    let victim = status
        .members
        .iter()
        .find(|member| Some(&member.name) == leader.as_ref());
    let other = status
        .members
        .iter()
        .find(|member| Some(&member.name) != leader.as_ref());
    let other = other.or(victim).ok_or_else(silent)?;
    Ok(format!(
        "\n{}\n{}",
        table.render(),
        next_commands(victim, other)
    ))
}

fn next_commands(victim: Option<&MemberView>, other: &MemberView) -> String {
    let program = program();
    let node = format!("--node http://{}", other.admin);
    let kill = victim.map_or_else(String::new, |victim| {
        format!(
            "  kill -9 {}    # {} leads {ACTOR}\n",
            victim.pid, victim.name
        )
    });
    format!(
        "Try, in another terminal:\n  {program} invoke {ACTOR}/add -d 1 {node}\n{kill}  \
         {program} status {node}\n\nA light load runs on all nodes. Ctrl-C ends everything and leaves nothing behind.\n\n"
    )
}

/// This program, as its user typed it.
fn program() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "ghostlight".to_owned())
}
