//! Load: clients on threads of their own, each appending lines to log actors of its own, one call
//! at a time; and what they saw: failures, waits, gaps, and whether the actors hold what was
//! acknowledged.
//!
//! A *wait* is the time of one call, repetitions included. A *gap* is the time between two answers
//! of one client, its own pause included: what somebody sees who watches the client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::log_check::{Answer, Diary};
use crate::wait::until;

/// Clients.
pub const CLIENTS: usize = 6;
/// Actors of each client: enough to have some on every node.
const ACTORS: usize = 6;
/// Pause of a client between two calls.
const CALL_PERIOD: Duration = Duration::from_millis(15);
/// The same of many clients with one actor each.
const SPREAD_CALL_PERIOD: Duration = Duration::from_millis(50);

/// Loads of this process so far: request ids and actors are never used twice.
static LOADS: AtomicU64 = AtomicU64::new(0);

/// Running clients. Dropped: they stop.
#[derive(Debug)]
pub struct Load {
    clients: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    seen: Arc<Mutex<Seen>>,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What one client did.
#[derive(Debug)]
struct Seen {
    actors: Vec<(String, Diary)>,
    acknowledged: u64,
    repeated: u64,
    /// Longest wait since the last mark.
    longest: Duration,
    /// Every wait since the last mark.
    waits: Vec<Duration>,
    waiting_since: Option<Instant>,
    /// Longest gap that ended since the last mark.
    gap: Duration,
    answered: Instant,
    failures: Vec<String>,
}

/// What is left of a load that has ended.
#[derive(Default, Debug)]
pub struct Ended {
    /// Calls that were acknowledged.
    pub acknowledged: u64,
    /// Attempts that were repetitions.
    pub repeated: u64,
    /// Calls that ended in an error, in words.
    pub failures: Vec<String>,
    diaries: Vec<(String, Diary)>,
}

impl Ended {
    /// Reads every actor through these addresses, and compares it with what was acknowledged.
    ///
    /// # Panics
    /// When something was lost, doubled or is out of order; with all differences.
    #[track_caller]
    pub fn check(&self, addresses: &[String]) {
        let mut client = Client::new(addresses, 0);
        let checked = self.diaries.iter().map(|(actor, diary)| {
            let stored = client.read_log(actor)?;
            diary
                .check(&stored)
                .map_err(|why| format!("log/{actor}: {why}"))
        });
        let wrong: Vec<String> = checked.filter_map(Result::err).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// # Panics
    /// When a call ended in an error.
    #[track_caller]
    pub fn assert_none_failed(&self) {
        assert!(
            self.failures.is_empty(),
            "{} calls failed:\n{}",
            self.failures.len(),
            self.failures.join("\n")
        );
    }
}

impl Load {
    /// Starts [`CLIENTS`] clients that ask these addresses, each a different one first, and append
    /// to several actors in turn.
    #[must_use]
    pub fn start(addresses: &[String]) -> Self {
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let actors = |number| (0..ACTORS).map(move |actor| format!("l{load}-c{number}-a{actor}"));
        let clients = (0..CLIENTS).map(|number| actors(number).collect());
        Self::of(addresses, clients.collect(), CALL_PERIOD)
    }

    /// Starts a client for each of these actors, so that what happens to one actor's partition is
    /// seen by its client alone. Nobody else may append to them.
    #[must_use]
    pub fn one_client_each(addresses: &[String], actors: &[String]) -> Self {
        let clients = actors.iter().map(|actor| vec![actor.clone()]).collect();
        Self::of(addresses, clients, SPREAD_CALL_PERIOD)
    }

    fn of(addresses: &[String], clients: Vec<Vec<String>>, call_period: Duration) -> Self {
        let clients = clients.into_iter().enumerate().map(|(number, actors)| {
            let diaries = actors.into_iter().map(|actor| (actor, Diary::default()));
            let seen = Arc::new(Mutex::new(Seen {
                actors: diaries.collect(),
                acknowledged: 0,
                repeated: 0,
                longest: Duration::ZERO,
                waits: Vec::new(),
                waiting_since: None,
                gap: Duration::ZERO,
                answered: Instant::now(),
                failures: Vec::new(),
            }));
            let (stop, stopped) = sync_channel(0);
            let worker = Worker {
                client: Client::new(addresses, number),
                seen: Arc::clone(&seen),
                call_period,
                stopped,
            };
            let thread = std::thread::Builder::new()
                .name(format!("client {number}"))
                .spawn(move || worker.work());
            Running {
                seen,
                stop: Some(stop),
                thread: Some(thread.expect("a thread")),
            }
        });
        Self {
            clients: clients.collect(),
        }
    }

    /// Waits until every client has had so many more calls acknowledged.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_acknowledged(&self, more: u64, time_max: Duration) {
        let before: Vec<u64> = self.counts();
        until("every client is served", time_max, || {
            let now = self.counts();
            let mut pairs = now.iter().zip(&before);
            pairs
                .all(|(now, before)| *now >= before + more)
                .then_some(())
        });
    }

    fn counts(&self) -> Vec<u64> {
        let clients = self.clients.iter();
        clients
            .map(|client| lock(&client.seen).acknowledged)
            .collect()
    }

    /// Forgets the waits and gaps so far. A gap that is open counts from its beginning.
    pub fn mark(&self) {
        for client in &self.clients {
            let mut seen = lock(&client.seen);
            (seen.longest, seen.gap) = (Duration::ZERO, Duration::ZERO);
            seen.waits.clear();
        }
    }

    /// The longest gap since the mark of each client whose first actor is wanted, open gaps
    /// included.
    #[must_use]
    pub fn longest_gaps(&self, wanted: impl Fn(&str) -> bool) -> Vec<Duration> {
        let gaps = self.clients.iter().filter_map(|client| {
            let seen = lock(&client.seen);
            let is_wanted = seen.actors.first().is_some_and(|(actor, _)| wanted(actor));
            is_wanted.then(|| seen.gap.max(seen.answered.elapsed()))
        });
        gaps.collect()
    }

    /// The waits of all clients since the mark, of calls that have ended.
    #[must_use]
    pub fn waits(&self) -> Vec<Duration> {
        let clients = self.clients.iter();
        clients
            .flat_map(|client| lock(&client.seen).waits.clone())
            .collect()
    }

    /// Each client's longest wait since the mark, calls that still wait included.
    #[must_use]
    pub fn longest_waits(&self) -> Vec<Duration> {
        let waits = self.clients.iter().map(|client| {
            let seen = lock(&client.seen);
            let waiting = seen
                .waiting_since
                .map_or(Duration::ZERO, |since| since.elapsed());
            seen.longest.max(waiting)
        });
        waits.collect()
    }

    /// What is known of one actor at this moment.
    ///
    /// # Panics
    /// When no client appends to it.
    #[must_use]
    pub fn diary(&self, actor: &str) -> Diary {
        let mut clients = self.clients.iter();
        let found = clients.find_map(|client| {
            let seen = lock(&client.seen);
            let mut actors = seen.actors.iter();
            let found = actors.find(|(id, _)| id == actor);
            found.map(|(_, diary)| diary.clone())
        });
        found.expect("an actor of this load")
    }

    /// Stops the clients after their calls in flight, and sums up.
    ///
    /// # Panics
    /// When a client panicked.
    #[must_use]
    pub fn stop(mut self) -> Ended {
        let mut ended = Ended::default();
        for client in &mut self.clients {
            client.stop = None;
            let thread = client.thread.take().expect("stopped once");
            thread.join().expect("clients do not panic");
            let mut seen = lock(&client.seen);
            ended.acknowledged += seen.acknowledged;
            ended.repeated += seen.repeated;
            ended.failures.append(&mut seen.failures);
            ended.diaries.append(&mut seen.actors);
        }
        ended
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for client in &mut self.clients {
            client.stop = None;
            if let Some(thread) = client.thread.take() {
                drop(thread.join());
            }
        }
    }
}

struct Worker {
    client: Client,
    seen: Arc<Mutex<Seen>>,
    call_period: Duration,
    stopped: Receiver<()>,
}

impl Worker {
    fn work(mut self) {
        for number in 0_u64.. {
            self.append(number);
            // Nothing is ever sent: the sender's end is the word to stop.
            match self.stopped.recv_timeout(self.call_period) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn append(&mut self, number: u64) {
        let began = Instant::now();
        let (place, actor) = {
            let mut seen = lock(&self.seen);
            let place = usize::try_from(number).expect("a count of calls") % seen.actors.len();
            let (actor, diary) = &seen.actors[place];
            if !diary.is_open() {
                return;
            }
            let actor = actor.clone();
            seen.waiting_since = Some(began);
            (place, actor)
        };
        let line = number.to_string();
        let answer = self.client.good(
            &format!("log/{actor}/method/append"),
            &format!("{actor}-{number}"),
            &format!("\"{line}\""),
        );
        let mut seen = lock(&self.seen);
        seen.waiting_since = None;
        seen.longest = seen.longest.max(began.elapsed());
        seen.waits.push(began.elapsed());
        seen.gap = seen.gap.max(seen.answered.elapsed());
        seen.answered = Instant::now();
        seen.repeated = self.client.repeated();
        let answer = match answer {
            Ok(_) => {
                seen.acknowledged += 1;
                Answer::Acknowledged
            }
            Err(why) => {
                seen.failures.push(why);
                Answer::Unknown
            }
        };
        seen.actors[place].1.note(line, answer);
    }
}

/// What a client saw is told also when the client panicked: its thread's end tells that.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
