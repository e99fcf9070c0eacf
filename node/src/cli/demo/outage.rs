//! A death as the callers felt it: how long until every partition of the dead node was led again,
//! and how long the longest wait of a caller was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ghostlight_core::admin::PartitionView;

use super::load::Load;
use crate::cli::stage::{Stage, ask};

/// Pause between two looks during an outage.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// Pause between two looks while all is well.
const STEADY_PERIOD: Duration = Duration::from_millis(500);
/// After this long an outage is told as unfinished.
const WATCH_TIME_MAX: Duration = Duration::from_secs(20);

/// Who leads which partition, as last seen from the leaders themselves.
pub(super) struct Leaders {
    by_partition: Arc<Mutex<BTreeMap<u16, String>>>,
    watcher: tokio::task::JoinHandle<()>,
}

impl Leaders {
    /// Starts looking.
    pub(super) fn watch(stage: &Arc<Stage>) -> Self {
        let by_partition = Arc::new(Mutex::new(BTreeMap::new()));
        let (stage, seen) = (Arc::clone(stage), Arc::clone(&by_partition));
        let watcher = tokio::spawn(async move {
            loop {
                for node in 0..stage.nodes.len() {
                    let led = led_by(&stage, node).await;
                    let mut seen = seen.lock().expect("no holder panics");
                    seen.extend(led.into_iter().map(|p| (p, stage.nodes[node].name.clone())));
                }
                tokio::time::sleep(STEADY_PERIOD).await;
            }
        });
        Self {
            by_partition,
            watcher,
        }
    }

    /// Partitions that a node led when it was last seen.
    pub(super) fn of(&self, name: &str) -> BTreeSet<u16> {
        let seen = self.by_partition.lock().expect("no holder panics");
        seen.iter()
            .filter(|(_, leader)| *leader == name)
            .map(|(partition, _)| *partition)
            .collect()
    }
}

impl Drop for Leaders {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

/// Partitions that a node itself says it leads.
async fn led_by(stage: &Stage, node: usize) -> BTreeSet<u16> {
    let views: Option<Vec<PartitionView>> = ask(&stage.nodes[node], "partitions").await;
    let led = views
        .into_iter()
        .flatten()
        .filter(|view| view.role == "leader");
    led.map(|view| view.partition).collect()
}

/// Watches until others lead what `dead` led, and returns the end of the line that tells it.
pub(super) async fn watch(
    stage: &Stage,
    dead: usize,
    led: BTreeSet<u16>,
    died: Instant,
    load: &Load,
) -> String {
    let mut missing = led.clone();
    while !missing.is_empty() {
        for node in (0..stage.nodes.len()).filter(|node| *node != dead) {
            for partition in led_by(stage, node).await {
                missing.remove(&partition);
            }
        }
        if died.elapsed() > WATCH_TIME_MAX {
            return format!(
                "{} of its {} partitions are not led after {} s: too few nodes are left",
                missing.len(),
                led.len(),
                WATCH_TIME_MAX.as_secs()
            );
        }
        if !missing.is_empty() {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }
    let recovered = Instant::now();
    let wait = longest_wait(load, died, recovered).await;
    format!(
        "{} partitions led again after {:.1} s, longest wait of a caller {wait}",
        led.len(),
        (recovered - died).as_secs_f64()
    )
}

/// Waits until every call that was affected has its answer.
async fn longest_wait(load: &Load, from: Instant, to: Instant) -> String {
    while to.elapsed() < WATCH_TIME_MAX {
        if let Some(wait) = load.longest_wait(from, to) {
            return format!("{:.1} s", wait.as_secs_f64());
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
    format!("over {} s", WATCH_TIME_MAX.as_secs())
}
