//! The demo's own clients: about 80 calls a second on a few actors, from all nodes.
//!
//! A client makes one call at a time and repeats it by the rules of the API: the same request id,
//! on another node, after a refusal or a broken connection. A call that gets no answer that way
//! within [`CALL_TIME_MAX`] has failed. Half of the clients append to a log actor, whose content is
//! checked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::log_check::{Answer, Checked, Diary};
use crate::api::dapr::{DEADLINE_HEADER, REQUEST_ID_HEADER};
use crate::cli::http::{Ask, Connection, Reply};
use crate::cli::stage::{Stage, random_below};

/// Clients.
const CLIENTS: usize = 8;
/// Pause of a client between two calls.
const CALL_PERIOD: Duration = Duration::from_millis(100);
/// Longest time for one call, repetitions included.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest time for one attempt: a frozen node answers nothing.
const ATTEMPT_TIME_MAX: Duration = Duration::from_millis(1_500);
/// Pauses before a repetition, at least and at most.
const REPEAT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Finished calls that are remembered for the outage line.
const RECENT_CALLS_MAX: usize = 8_192;
const COUNTERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// What all clients share.
pub(super) struct Load {
    seen: Mutex<Seen>,
    stop: watch::Sender<bool>,
    clients: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Seen {
    in_flight: [Option<Instant>; CLIENTS],
    recent: VecDeque<(Instant, Instant)>,
    summary: Summary,
}

/// What is told at the end.
#[derive(Clone, Default, Debug)]
pub(super) struct Summary {
    calls: u64,
    failed: u64,
    repeated: u64,
    longest: Duration,
    checked: Checked,
    unchecked: u64,
    last_failure: Option<String>,
}

impl Load {
    /// Starts the clients.
    pub(super) fn start(stage: &Arc<Stage>) -> Arc<Self> {
        let (stop, stopped) = watch::channel(false);
        let load = Arc::new(Self {
            seen: Mutex::default(),
            stop,
            clients: Mutex::default(),
        });
        let clients = (0..CLIENTS)
            .map(|number| {
                let client = Client {
                    number,
                    nodes: stage
                        .nodes
                        .iter()
                        .map(|node| Connection::to(node.http.as_str()))
                        .collect(),
                    next: number % stage.nodes.len(),
                    run: random_below(u64::MAX),
                    calls: 0,
                    load: Arc::clone(&load),
                };
                tokio::spawn(client.work(stopped.clone()))
            })
            .collect();
        *load.clients.lock().expect("no holder panics") = clients;
        load
    }

    /// Stops the clients, lets those with a log check it, and sums up.
    pub(super) async fn finish(&self, time_max: Duration) -> Summary {
        self.stop.send_replace(true);
        let clients = std::mem::take(&mut *self.clients.lock().expect("no holder panics"));
        let all = async {
            for client in clients {
                if let Err(error) = client.await {
                    self.with(|seen| {
                        seen.summary
                            .fail(format!("a client of the demo broke: {error}"))
                    });
                }
            }
        };
        // What could not be checked in time is told as such.
        drop(tokio::time::timeout(time_max, all).await);
        self.with(|seen| seen.summary.clone())
    }

    /// The longest time a caller waited among the calls that overlapped this span; `None` while
    /// calls begun in it have no answer yet.
    pub(super) fn longest_wait(&self, from: Instant, to: Instant) -> Option<Duration> {
        self.with(|seen| {
            if seen.in_flight.iter().flatten().any(|began| *began <= to) {
                return None;
            }
            let overlapping = seen
                .recent
                .iter()
                .filter(|(began, ended)| *began <= to && *ended >= from);
            Some(
                overlapping
                    .map(|(began, ended)| *ended - *began)
                    .max()
                    .unwrap_or_default(),
            )
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().expect("no holder panics"))
    }
}

impl Summary {
    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.last_failure = Some(why);
    }

    /// Nothing failed, nothing was lost, nothing doubled.
    pub(super) fn is_clean(&self) -> bool {
        self.failed == 0 && self.checked.lost == 0 && self.checked.doubled == 0
    }

    /// A line for each figure.
    pub(super) fn text(&self, kills: u64) -> String {
        let mut text = format!(
            "\ncalls                      {}\ncalls failed               {}\ncalls repeated             {}\n\
             nodes killed               {kills}\nlongest wait of a caller   {:.2} s\n\
             appends checked            {}\nappends lost               {}\nappends doubled            {}\n",
            self.calls,
            self.failed,
            self.repeated,
            self.longest.as_secs_f64(),
            self.checked.appends,
            self.checked.lost,
            self.checked.doubled,
        );
        if self.unchecked > 0 {
            text.push_str(&format!("appends not checked        {}\n", self.unchecked));
        }
        if let Some(why) = &self.last_failure {
            text.push_str(&format!("last failure               {why}\n"));
        }
        text
    }
}

/// One client.
struct Client {
    number: usize,
    nodes: Vec<Connection>,
    next: usize,
    /// Makes request ids unique to this client.
    run: u64,
    calls: u64,
    load: Arc<Load>,
}

impl Client {
    async fn work(mut self, mut stopped: watch::Receiver<bool>) {
        let mut period = tokio::time::interval(CALL_PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut diary = (self.number >= CLIENTS / 2).then(|| Diary::open(self.run));
        loop {
            tokio::select! {
                _ = period.tick() => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            match &mut diary {
                Some(diary) => self.append(diary).await,
                None => {
                    let path = format!(
                        "counter/{}/method/add",
                        COUNTERS[self.number % COUNTERS.len()]
                    );
                    drop(self.call(&path, Bytes::from_static(b"1")).await);
                }
            }
        }
        if let Some(diary) = &mut diary {
            self.check(diary).await;
        }
    }

    async fn append(&mut self, diary: &mut Diary) {
        let (path, body) = diary.next();
        let answer = self.call(&path, body).await;
        diary.note(answer.map_or(Answer::Unknown, |_| Answer::Acknowledged));
        if diary.is_full() {
            self.check(diary).await;
            diary.turn_page();
        }
    }

    /// Reads the whole log and compares it with what was acknowledged.
    async fn check(&mut self, diary: &mut Diary) {
        let read = self.call(&diary.read_path(), Bytes::new()).await;
        let checked = read.and_then(|body| diary.check(&body));
        self.load.with(|seen| match checked {
            Some(checked) => seen.summary.checked.add(checked),
            None => seen.summary.unchecked += diary.acknowledged(),
        });
    }

    /// One call with its repetitions; `None` when it failed.
    async fn call(&mut self, path: &str, body: Bytes) -> Option<Bytes> {
        self.calls += 1;
        let id = format!("demo-{:x}-{}-{}", self.run, self.number, self.calls);
        let began = Instant::now();
        self.load
            .with(|seen| seen.in_flight[self.number] = Some(began));
        let answer = self.until_answered(path, &id, body, began).await;
        let ended = Instant::now();
        self.load.with(|seen| {
            seen.in_flight[self.number] = None;
            seen.recent.push_back((began, ended));
            if seen.recent.len() > RECENT_CALLS_MAX {
                seen.recent.pop_front();
            }
            seen.summary.calls += 1;
            seen.summary.longest = seen.summary.longest.max(ended - began);
            match answer {
                Ok(reply) => Some(reply),
                Err(why) => {
                    seen.summary.fail(format!("{path}: {why}"));
                    None
                }
            }
        })
    }

    async fn until_answered(
        &mut self,
        path: &str,
        id: &str,
        body: Bytes,
        began: Instant,
    ) -> Result<Bytes, String> {
        loop {
            let ask = Ask::post(format!("/v1.0/actors/{path}"), body.clone())
                .header(REQUEST_ID_HEADER, id)
                .header(DEADLINE_HEADER, ATTEMPT_TIME_MAX.as_millis().to_string())
                .within(ATTEMPT_TIME_MAX);
            let (why, pause) = match self.nodes[self.next].send(&ask).await {
                Ok(reply) if reply.status == 200 => return Ok(reply.body),
                Ok(reply) => match repeat_after(&reply) {
                    Some(pause) => (told(&reply), pause),
                    None => return Err(told(&reply)),
                },
                // Sent or not: with its id a repetition never runs twice.
                Err(broken) => (broken.to_string(), REPEAT_PAUSE.0),
            };
            if began.elapsed() > CALL_TIME_MAX {
                return Err(why);
            }
            self.load.with(|seen| seen.summary.repeated += 1);
            self.next = (self.next + 1) % self.nodes.len();
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether an answer invites to repeat the call with its id, and when.
fn repeat_after(reply: &Reply) -> Option<Duration> {
    const DEADLINE_EXPIRED: &str = "E0105";
    const OUTCOME_UNKNOWN: &str = "E0112";
    let (least, most) = REPEAT_PAUSE;
    match reply.status {
        429 | 503 => {
            let told = reply
                .header("ghostlight-retry-after-ms")
                .and_then(|ms| ms.parse().ok());
            Some(told.map_or(least, Duration::from_millis).clamp(least, most))
        }
        // Only this attempt's deadline has passed; the call has time left.
        500 | 504 => {
            let code = reply.header("ghostlight-error").unwrap_or_default();
            [DEADLINE_EXPIRED, OUTCOME_UNKNOWN]
                .contains(&code)
                .then_some(least)
        }
        _ => None,
    }
}

fn told(reply: &Reply) -> String {
    format!("{} {}", reply.status, String::from_utf8_lossy(&reply.body))
}
