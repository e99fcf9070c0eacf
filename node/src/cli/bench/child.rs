//! The side that gives orders: a process that takes them, and its answers.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::order::{Answer, Order, Report, TurnShape};
use crate::cli::Failure;
use crate::cli::stage::{Process, Purpose, Scratch};

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

/// A process that takes orders; killed when this is dropped.
pub(super) struct Orderly {
    /// For messages.
    name: String,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Orderly {
    pub(super) fn new(name: &str, process: Process) -> Result<Self, Failure> {
        let Some(answers) = process.answers else {
            return Err(Purpose::Bench.failed(format!("{name} was started without an answer pipe")));
        };
        Ok(Self {
            name: name.to_owned(),
            child: process.child,
            orders: process.lifeline,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// Starts a worker.
    pub(super) fn worker(scratch: &Scratch) -> Result<Self, Failure> {
        let mut command = scratch.command();
        command
            .arg("bench-worker")
            .arg(scratch.directory())
            .stdout(std::process::Stdio::piped());
        let process = scratch.spawn(&mut command).map_err(|error| {
            Purpose::Bench.failed(format!("cannot start a worker process ({error})"))
        })?;
        Self::new("a worker", process)
    }

    pub(super) fn pid(&self) -> Result<u32, Failure> {
        let pid = self.child.id();
        pid.ok_or_else(|| self.failed("it has ended"))
    }

    async fn ask(&mut self, order: &Order) -> Result<Answer, Failure> {
        let mut line = serde_json::to_string(order).expect("orders have string keys");
        line.push('\n');
        let asked = async {
            self.orders.write_all(line.as_bytes()).await?;
            self.answers.next_line().await
        };
        let answer = match tokio::time::timeout(ANSWER_TIME_MAX, asked).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return Err(self.failed("it ended before it answered")),
            Ok(Err(error)) => return Err(self.failed(&error.to_string())),
            Err(_) => return Err(self.failed(&format!("no answer within {ANSWER_TIME_MAX:?}"))),
        };
        match serde_json::from_str(&answer) {
            Ok(Answer::Failed(why)) => Err(self.failed(&why)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.failed(&format!("its answer is not understood: {error}"))),
        }
    }

    /// Gives an order that is answered by a report.
    pub(super) async fn report(&mut self, order: &Order) -> Result<Report, Failure> {
        match self.ask(order).await? {
            Answer::Report(report) => Ok(report),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Starts a lane server, and tells its port.
    pub(super) async fn listening(&mut self, order: &Order) -> Result<u16, Failure> {
        match self.ask(order).await? {
            Answer::Listening(port) => Ok(port),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Weighs a turn.
    pub(super) async fn shape(&mut self, order: &Order) -> Result<TurnShape, Failure> {
        match self.ask(order).await? {
            Answer::Shape(shape) => Ok(shape),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Kills it, and waits until it is gone.
    pub(super) async fn kill(mut self) -> Result<(), Failure> {
        let killed = self.child.kill().await;
        killed.map_err(|error| self.failed(&error.to_string()))
    }

    fn unexpected(&self, answer: &Answer) -> Failure {
        self.failed(&format!("it answered something else: {answer:?}"))
    }

    fn failed(&self, why: &str) -> Failure {
        Purpose::Bench.failed(format!("{} could not do its part: {why}", self.name))
    }
}
