//! A caller as the API wants it: it repeats a call with the same request id at the next node after
//! a refusal, a broken connection or silence, so that the call runs once.

use std::time::{Duration, Instant};

use crate::http::{Ask, Connection, Reply};

/// Longest time for one call, repetitions included.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(15);
/// Longest time for one attempt: a frozen node answers nothing.
const ATTEMPT_TIME_MAX: Duration = Duration::from_millis(1_000);
/// Pause before a repetition, at least and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A caller with a connection to each node it may ask.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<Connection>,
    next: usize,
    repeated: u64,
}

impl Client {
    /// Asks these addresses of the actor API, `first` before the others.
    #[must_use]
    pub fn new(addresses: &[String], first: usize) -> Self {
        assert!(!addresses.is_empty(), "a client asks somebody");
        Self {
            nodes: addresses
                .iter()
                .map(|address| Connection::to(address))
                .collect(),
            next: first % addresses.len(),
            repeated: 0,
        }
    }

    /// How many attempts were repetitions.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// One attempt at the node whose turn it is.
    ///
    /// # Errors
    /// Without a whole answer in time.
    pub fn once(&mut self, path: &str, id: &str, body: &str) -> std::io::Result<Reply> {
        let ask = Ask {
            method: "POST",
            path: format!("/v1.0/actors/{path}"),
            headers: vec![
                ("Ghostlight-Request-Id", id.to_owned()),
                (
                    "Ghostlight-Deadline-Ms",
                    ATTEMPT_TIME_MAX.as_millis().to_string(),
                ),
            ],
            body: body.to_owned(),
            // A little longer, so that the node's own word about the deadline arrives.
            time_max: ATTEMPT_TIME_MAX + Duration::from_millis(200),
        };
        self.nodes[self.next].send(&ask)
    }

    /// The next call asks the next node first.
    pub fn go_on(&mut self) {
        self.next = (self.next + 1) % self.nodes.len();
    }

    /// A call with its repetitions. `path` is `type/id/method/name`. An answer that ends the call
    /// is returned, whatever its status.
    ///
    /// # Errors
    /// After [`CALL_TIME_MAX`], with the last reason.
    pub fn call(&mut self, path: &str, id: &str, body: &str) -> Result<Reply, String> {
        let began = Instant::now();
        loop {
            let (why, pause) = match self.once(path, id, body) {
                Ok(reply) => match repeat_after(&reply) {
                    None => return Ok(reply),
                    Some(pause) => (format!("{} {}", reply.status, reply.body), pause),
                },
                // Sent or not: with its id a repetition never runs twice.
                Err(broken) => (broken.to_string(), PAUSE.0),
            };
            let node = self.nodes[self.next].address();
            if began.elapsed() > CALL_TIME_MAX {
                return Err(format!(
                    "{path}: no answer in {CALL_TIME_MAX:?}; {node}: {why}"
                ));
            }
            self.repeated += 1;
            self.go_on();
            std::thread::sleep(pause);
        }
    }

    /// A call that must end with 200: the reply's body.
    ///
    /// # Errors
    /// Any other end, in words.
    pub fn good(&mut self, path: &str, id: &str, body: &str) -> Result<String, String> {
        let reply = self.call(path, id, body)?;
        if reply.status == 200 {
            Ok(reply.body)
        } else {
            Err(format!("{path}: {} {}", reply.status, reply.body))
        }
    }

    /// All lines of a log actor.
    ///
    /// # Errors
    /// Any end but 200 with a list of lines, in words.
    pub fn read_log(&mut self, actor: &str) -> Result<Vec<String>, String> {
        static READS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = READS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let body = self.good(
            &format!("log/{actor}/method/read"),
            &format!("read-{number}"),
            "",
        )?;
        serde_json::from_str(&body).map_err(|error| format!("log/{actor}: {error}: {body}"))
    }
}

/// Whether an answer invites to repeat the call with its id, and when. An application's own error
/// has status 500 and no code of ours: it is final.
fn repeat_after(reply: &Reply) -> Option<Duration> {
    let pause = || {
        let told = reply.header("ghostlight-retry-after-ms");
        let told = told.and_then(|told| told.parse().ok());
        told.map_or(PAUSE.0, Duration::from_millis)
            .clamp(PAUSE.0, PAUSE.1)
    };
    match reply.status {
        429 | 503 => Some(pause()),
        500.. => reply.header("ghostlight-error").map(|_| pause()),
        _ => None,
    }
}
