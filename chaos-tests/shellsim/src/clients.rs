//! Clients that append lines to logs, each line once in the world, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::outcome::CallOutcome;
use tokio::sync::{mpsc, oneshot};

use crate::dice::{Dice, MS};
use crate::guests::Asked;
use crate::machine::{Machine, lock};
use crate::world::{CLIENTS, Outcome, Shared, World};

/// Logs that lines go to.
const LOGS: usize = 6;
/// Longest line, in bytes, of clients that write long ones: frames of that size have streams of
/// their own.
const LONG_BYTES: u64 = 200_000;
/// Pauses between two lines of a client, in nanoseconds.
const PAUSE: (u64, u64) = (5 * MS, 60 * MS);
/// The same with long lines: the logs are to stay readable in one reply.
const LONG_PAUSE: (u64, u64) = (200 * MS, 600 * MS);
/// How long a call may take.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Where the present process of each place takes calls.
#[derive(Clone, Default)]
pub(crate) struct Desks(Shared<BTreeMap<usize, mpsc::Sender<Asked>>>);

impl Desks {
    pub(crate) fn open(&self, place: usize, asked: mpsc::Sender<Asked>) {
        lock(&self.0).insert(place, asked);
    }

    pub(crate) fn close(&self, place: usize) {
        lock(&self.0).remove(&place);
    }

    /// Calls through a place; `None`: no process is there.
    async fn call(&self, place: usize, actor: ActorKey, method: &str, body: Bytes) -> Option<End> {
        let desk = lock(&self.0).get(&place).cloned()?;
        let (answer, answered) = oneshot::channel();
        let asked = Asked::Call {
            actor,
            method: method.to_owned(),
            body,
            timeout: CALL_MAX,
            answer,
        };
        if desk.send(asked).await.is_err() {
            return None;
        }
        Some(match answered.await {
            Ok(CallOutcome::Reply(reply)) => End::Reply(reply),
            Ok(CallOutcome::NotRun(_)) => End::NotRun,
            Ok(CallOutcome::Unknown { .. }) | Err(_) => End::Unknown,
            Ok(other @ (CallOutcome::App(_) | CallOutcome::AppReply(_))) => {
                panic!("no log refuses a line, or is an application's: {other:?}")
            }
        })
    }
}

/// How a call ended.
enum End {
    Reply(Bytes),
    NotRun,
    Unknown,
}

/// What clients were told, by log and line.
#[derive(Clone, Default, Debug)]
pub struct Ledger {
    /// Acknowledged, and how long the log was then.
    pub kept: BTreeMap<(usize, String), u64>,
    /// Certainly not there.
    pub refused: BTreeSet<(usize, String)>,
    /// Perhaps there.
    pub unknown: BTreeSet<(usize, String)>,
}

impl Ledger {
    /// What these clients were told, and others.
    #[must_use]
    pub fn with(mut self, others: Self) -> Self {
        self.kept.extend(others.kept);
        self.refused.extend(others.refused);
        self.unknown.extend(others.unknown);
        self
    }
}

/// What clients append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lines {
    /// A few words.
    Short,
    /// Up to 200,000 bytes, which travel beside what is small.
    Long,
}

/// See the module.
pub struct Clients {
    ledger: Shared<Ledger>,
    stopped: Shared<Stop>,
    ended: mpsc::Receiver<()>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Stop {
    #[default]
    NotYet,
    Now,
}

impl Clients {
    pub(crate) fn start(
        machine: &Machine,
        desks: &Desks,
        through: &[usize],
        (count, lines): (usize, Lines),
        dice: &mut Dice,
    ) -> Self {
        let (ledger, stopped) = (Shared::<Ledger>::default(), Shared::<Stop>::default());
        let (end, ended) = mpsc::channel(1);
        for number in 0..count {
            let client = Client {
                name: format!("{:08x}-{number}", dice.any() >> 32),
                machine: machine.clone(),
                desks: desks.clone(),
                through: through.to_vec(),
                lines,
                dice: dice.fork(),
                ledger: ledger.clone(),
            };
            let (stopped, end) = (stopped.clone(), end.clone());
            machine.spawn(CLIENTS, async move {
                client.run(&stopped).await;
                drop(end);
            });
        }
        Self {
            ledger,
            stopped,
            ended,
        }
    }

    /// Lines acknowledged so far.
    #[must_use]
    pub fn kept(&self) -> usize {
        lock(&self.ledger).kept.len()
    }

    /// Ends them, after what they have begun.
    pub async fn stop(mut self) -> Ledger {
        *lock(&self.stopped) = Stop::Now;
        while self.ended.recv().await.is_some() {}
        lock(&self.ledger).clone()
    }
}

struct Client {
    name: String,
    machine: Machine,
    desks: Desks,
    through: Vec<usize>,
    lines: Lines,
    dice: Dice,
    ledger: Shared<Ledger>,
}

impl Client {
    async fn run(mut self, stopped: &Shared<Stop>) {
        let mut count = 0;
        while *lock(stopped) == Stop::NotYet {
            let (low, high) = match self.lines {
                Lines::Short => PAUSE,
                Lines::Long => LONG_PAUSE,
            };
            self.machine.sleep(self.dice.between(low, high)).await;
            let place = self.through[self.dice.index(self.through.len())];
            let log = self.dice.index(LOGS);
            count += 1;
            let mut line = format!("{}-{count}", self.name);
            if self.lines == Lines::Long {
                let bytes = self.dice.between(1, LONG_BYTES);
                line.extend((0..bytes).map(|_| 'x'));
            }
            let body = Bytes::from(format!("\"{line}\"").into_bytes());
            let end = self.desks.call(place, actor(log), "append", body).await;
            let mut ledger = lock(&self.ledger);
            match end {
                Some(End::Reply(length)) => {
                    let length = serde_json::from_slice(&length).expect("a log tells its length");
                    ledger.kept.insert((log, line), length);
                }
                Some(End::Unknown) => drop(ledger.unknown.insert((log, line))),
                Some(End::NotRun) | None => drop(ledger.refused.insert((log, line))),
            }
        }
    }
}

fn actor(log: usize) -> ActorKey {
    ActorKey::new("default", "log", &format!("l{log}")).expect("a valid name")
}

impl World {
    /// Reads every log through `place`, and compares it with what clients were told: an
    /// acknowledged line is there once, in its place; one that certainly did not run is not there;
    /// no line is there twice, or nobody's.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check(&mut self, place: usize, ledger: &Ledger) -> Outcome {
        for log in 0..LOGS {
            let lines = self.read(place, log).await?;
            let unique: BTreeSet<&String> = lines.iter().collect();
            if unique.len() != lines.len() {
                return Err(format!("log {log} has a line twice: {}", shown(&lines)));
            }
            for line in &lines {
                let key = (log, line.clone());
                let known = ledger.kept.contains_key(&key) || ledger.unknown.contains(&key);
                if !known {
                    let line = short(line);
                    return Err(format!("log {log} has {line}, which certainly did not run"));
                }
            }
            for ((_, line), length) in ledger.kept.iter().filter(|((of, _), _)| *of == log) {
                let index = usize::try_from(*length).unwrap_or(usize::MAX) - 1;
                if lines.get(index) != Some(line) {
                    return Err(format!(
                        "log {log} lacks {} at {length}, which was acknowledged: {}",
                        short(line),
                        shown(&lines)
                    ));
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self, place: usize, log: usize) -> Result<Vec<String>, String> {
        let desks = self.desks();
        for _ in 0..20 {
            let end = desks.call(place, actor(log), "read", Bytes::new()).await;
            if let Some(End::Reply(reply)) = end {
                return serde_json::from_slice(&reply).map_err(|error| error.to_string());
            }
            self.sleep(Duration::from_millis(200)).await;
        }
        Err(format!("log {log} cannot be read through place {place}"))
    }
}

/// A line without what only makes it long.
fn short(line: &str) -> &str {
    line.split('x').next().unwrap_or(line)
}

fn shown(lines: &[String]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| short(line)).collect();
    lines.join(" ")
}
