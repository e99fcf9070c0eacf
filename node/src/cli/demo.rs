//! `demo`: real node processes on loopback, a light load on them, and a line for every death of a
//! node.
//!
//! Nothing is left behind, however it ends: nodes end when their stdin does, and a janitor process
//! deletes the directory when the demo is gone. Whoever kills a node, the demo says what it meant
//! for the callers, and starts the node again. Absent here: any knowledge of how the cluster works;
//! the demo sees what every client sees.

mod follow;
mod forming;
mod keeper;
mod load;
mod log_check;
mod outage;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::args;
use super::lists::print_text;
use super::stage::{End, Purpose, Stage, ended_by_signal, random_below};
use super::{Failure, Verdict};
use keeper::{Event, Keepers};
use load::Load;
use outage::Leaders;

/// Deaths and returns of nodes that wait to be told.
const EVENTS_MAX: usize = 64;
/// Pause between two kills of `--chaos`: at least, and at most this much more.
const CHAOS_PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// How long the last checks of `--for` may take.
const CHECK_TIME_MAX: Duration = Duration::from_secs(30);

/// Runs the demo until its time is over or a signal ends it.
pub(super) fn run(args: args::Demo) -> Result<Verdict, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot start threads: {error}")))?;
    runtime.block_on(async {
        let end = ended_by_signal(Purpose::Demo)?;
        let stage = Stage::set_up(Purpose::Demo, &std::env::temp_dir(), args.nodes)?;
        let stage = Arc::new(stage);
        let result = tokio::select! {
            result = play(&stage, &args, end.clone()) => result,
            // A signal while the nodes form: nothing to sum up.
            () = forming_interrupted(end) => Ok(Verdict::Ok),
        };
        stage.clean_up().await;
        result
    })
}

/// Whether the demo kills nodes itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chaos {
    On,
    Off,
}

/// Gives `play` a moment to end by itself, so that it can sum up.
async fn forming_interrupted(mut end: End) {
    drop(end.wait_for(|ended| *ended).await);
    tokio::time::sleep(Duration::from_secs(4)).await;
}

async fn play(stage: &Arc<Stage>, args: &args::Demo, mut end: End) -> Result<Verdict, Failure> {
    let (tell, mut events) = mpsc::channel(EVENTS_MAX);
    let chaos = if args.chaos { Chaos::On } else { Chaos::Off };
    let keepers = Keepers::start(stage, chaos, &tell)?;
    tokio::select! {
        formed = forming::wait(stage, &mut events) => formed?,
        _ = end.wait_for(|ended| *ended) => return Ok(Verdict::Ok),
    }
    print_text(&forming::table(stage).await?);
    let leaders = Leaders::watch(stage);
    let follower = tokio::spawn(follow::follow(Arc::clone(stage)));
    let _follower = AbortOnDrop(follower);
    let load = Load::start(stage);
    let limit = args.limit.map(|limit| Instant::now() + limit);
    let mut next_kill = chaos_time(chaos);
    let mut kills = 0_u64;
    loop {
        tokio::select! {
            Some(event) = events.recv() => {
                kills += u64::from(matches!(event, Event::Died { .. }));
                told(event, stage, &leaders, &load);
            }
            () = at(next_kill) => {
                next_kill = chaos_time(chaos);
                // A second death before the first is repaired would take the majority away.
                if keepers.all_run() && forming::healthy(stage).await {
                    keepers.kill(random_below(stage.nodes.len() as u64) as usize);
                }
            }
            () = at(limit) => return sum_up(&load, kills, CHECK_TIME_MAX).await,
            _ = end.wait_for(|ended| *ended) => {
                return sum_up(&load, kills, Duration::from_secs(2)).await;
            }
        }
    }
}

/// Ends a task with whoever began it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn told(event: Event, stage: &Arc<Stage>, leaders: &Leaders, load: &Arc<Load>) {
    match event {
        Event::Died { node, at, how } => {
            let name = stage.nodes[node].name.clone();
            let led = leaders.of(&name);
            let (stage, load) = (Arc::clone(stage), Arc::clone(load));
            drop(tokio::spawn(async move {
                let line = outage::watch(&stage, node, led, at, &load).await;
                print_text(&format!("{name} gone{how}, {line}\n"));
            }));
        }
        Event::Back { node, pid } => {
            print_text(&format!("{} is back, PID {pid}\n", stage.nodes[node].name));
        }
        Event::Lost { node, why } => {
            print_text(&format!(
                "{} cannot be started again: {why}\n",
                stage.nodes[node].name
            ));
        }
    }
}

async fn sum_up(load: &Arc<Load>, kills: u64, time_max: Duration) -> Result<Verdict, Failure> {
    let summary = load.finish(time_max).await;
    print_text(&summary.text(kills));
    if summary.is_clean() {
        return Ok(Verdict::Ok);
    }
    Err(failed(
        "the demo saw a failed call, or an append that was lost or doubled, see above",
    ))
}

fn chaos_time(chaos: Chaos) -> Option<Instant> {
    let (least, more) = CHAOS_PAUSE;
    let more = Duration::from_millis(random_below(more.as_millis() as u64));
    (chaos == Chaos::On).then(|| Instant::now() + least + more)
}

/// Waits until `time`; for ever without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn failed(detail: impl Into<String>) -> Failure {
    Purpose::Demo.failed(detail)
}
