//! Keepers: one task per node owns its process, notices its death, and starts it again.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Chaos, Failure, failed};
use crate::cli::stage::{Begin, Process, Stage};

/// Pause before a node that was killed comes back.
const RETURN_PAUSE: Duration = Duration::from_secs(5);
/// The same with `--chaos`.
const RETURN_PAUSE_CHAOS: Duration = Duration::from_secs(2);

/// What happened to a node.
#[derive(Debug)]
pub(super) enum Event {
    /// Its process ended.
    Died {
        /// Which node.
        node: usize,
        /// When.
        at: Instant,
        /// Empty for a kill, else how it ended and its last words.
        how: String,
    },
    /// It was started again.
    Back {
        /// Which node.
        node: usize,
        /// Its new process.
        pid: u32,
    },
    /// It could not be started again.
    Lost {
        /// Which node.
        node: usize,
        /// Why.
        why: String,
    },
}

/// All keepers.
pub(super) struct Keepers {
    kills: Vec<mpsc::Sender<()>>,
    running: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Keepers {
    /// Starts every node, and a keeper for each.
    pub(super) fn start(
        stage: &Arc<Stage>,
        chaos: Chaos,
        tell: &mpsc::Sender<Event>,
    ) -> Result<Self, Failure> {
        let pause = match chaos {
            Chaos::On => RETURN_PAUSE_CHAOS,
            Chaos::Off => RETURN_PAUSE,
        };
        let running = Arc::new(AtomicUsize::new(0));
        let (mut kills, mut tasks) = (Vec::new(), Vec::new());
        for node in 0..stage.nodes.len() {
            let process = stage
                .start(node, Begin::First)
                .map_err(|error| failed(format!("cannot start a node ({error})")))?;
            running.fetch_add(1, Ordering::Relaxed);
            let (kill, killed) = mpsc::channel(1);
            kills.push(kill);
            let keeper = Keeper {
                stage: Arc::clone(stage),
                node,
                pause,
                tell: tell.clone(),
                running: Arc::clone(&running),
                killed,
            };
            tasks.push(tokio::spawn(keeper.keep(process)));
        }
        Ok(Self {
            kills,
            running,
            tasks,
        })
    }

    /// Whether every node has a process.
    pub(super) fn all_run(&self) -> bool {
        self.running.load(Ordering::Relaxed) == self.kills.len()
    }

    /// Kills a node as `kill -9` does. A kill that is already under way is enough.
    pub(super) fn kill(&self, node: usize) {
        self.kills[node].try_send(()).ok();
    }
}

/// Ends every node with its keeper.
impl Drop for Keepers {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Keeper {
    stage: Arc<Stage>,
    node: usize,
    pause: Duration,
    tell: mpsc::Sender<Event>,
    running: Arc<AtomicUsize>,
    killed: mpsc::Receiver<()>,
}

impl Keeper {
    async fn keep(mut self, mut process: Process) {
        let node = self.node;
        loop {
            let status = tokio::select! {
                status = process.child.wait() => status,
                Some(()) = self.killed.recv() => {
                    // Already dead is just as good.
                    drop(process.child.start_kill());
                    process.child.wait().await
                }
            };
            let at = Instant::now();
            self.running.fetch_sub(1, Ordering::Relaxed);
            let how = status.map_or_else(|error| format!(" ({error})"), |status| self.how(status));
            if self.tell.send(Event::Died { node, at, how }).await.is_err() {
                return;
            }
            tokio::time::sleep(self.pause).await;
            let event = match self.stage.start(node, Begin::Again) {
                Ok(again) => {
                    process = again;
                    self.running.fetch_add(1, Ordering::Relaxed);
                    Event::Back {
                        node,
                        pid: process.child.id().unwrap_or_default(),
                    }
                }
                Err(error) => Event::Lost {
                    node,
                    why: error.to_string(),
                },
            };
            let lost = matches!(event, Event::Lost { .. });
            if self.tell.send(event).await.is_err() || lost {
                return;
            }
        }
    }

    /// A kill needs no words; anything else is not expected in a demo.
    fn how(&self, status: ExitStatus) -> String {
        const SIGKILL: i32 = 9;
        if status.signal() == Some(SIGKILL) {
            return String::new();
        }
        format!(" ({status}){}", self.stage.log_tail(self.node))
    }
}
