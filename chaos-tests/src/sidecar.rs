//! A sidecar as Dapr's programs start it, beside an application that they started themselves.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::http::{Ask, Connection, Reply};
use crate::ports::free_address;
use crate::process::Process;
use crate::wait::until;

const READY_TIME_MAX: Duration = Duration::from_secs(20);
const END_TIME_MAX: Duration = Duration::from_secs(20);

/// The port of an address.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn port(address: &str) -> String {
    address.rsplit_once(':').expect("host:port").1.to_owned()
}

/// A sidecar of the application `shop`, and where its HTTP API is.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    http: String,
}

impl Sidecar {
    /// Starts it with more arguments; what it says goes to the log.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, more: &[&str], log: &Path) -> Self {
        let (http, grpc) = (free_address(), free_address());
        command.args(["daprd", "-app-id", "shop", "--dapr-http-port", &port(&http)]);
        command.args([&format!("--dapr-grpc-port={}", port(&grpc))]);
        command.args(more);
        let process = Process::spawn(command, log);
        Self { process, http }
    }

    /// Its answer; `None`: there was none within five seconds.
    #[must_use]
    pub fn ask(&self, method: &'static str, path: &str) -> Option<Reply> {
        Self::ask_at(&self.http, method, path)
    }

    /// Where its HTTP API is, on another address of this machine.
    #[must_use]
    pub fn http_on(&self, host: &str) -> String {
        format!("{host}:{}", port(&self.http))
    }

    /// The answer of whoever listens there; `None`: there was none within five seconds.
    #[must_use]
    pub fn ask_at(address: &str, method: &'static str, path: &str) -> Option<Reply> {
        let ask = Ask {
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: "1".to_owned(),
            time_max: Duration::from_secs(5),
        };
        Connection::to(address).send(&ask).ok()
    }

    /// Waits until it and its application may be used.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn wait_ready(&self) {
        for path in ["/v1.0/healthz/outbound", "/v1.0/healthz"] {
            until("a sidecar is ready", READY_TIME_MAX, || {
                self.ask("GET", path).filter(|reply| reply.status == 204)
            });
        }
    }

    /// What it says of itself.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn metadata(&self) -> Value {
        let reply = self.ask("GET", "/v1.0/metadata").expect("it answers");
        serde_json::from_str(&reply.body).expect("JSON")
    }

    /// All that it said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Ends it by a signal. Comes back: all that it said.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn end(mut self, signal: Signal) -> String {
        self.signal(signal);
        self.ended()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end. Comes back: all that it said.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    #[must_use]
    pub fn ended(mut self) -> String {
        let status = self.process.wait(END_TIME_MAX);
        let said = self.process.said();
        assert_eq!(status.code(), Some(0), "{said}");
        said
    }
}
