//! The core's side of reading rows: reads go out, rows come back, and neither waits for the other
//! for ever.
//!
//! Readers wait when the queue of answers is full, the core when that of reads is. If both happened
//! at once, nobody would go on; so whoever wants to wait here takes the answers out first.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::ports::Port;
use crate::queues::{ReadAnswer, ReadJob};

/// Reads in flight.
#[derive(Debug)]
pub struct Reads {
    jobs: Port<ReadJob>,
    rows: mpsc::Receiver<ReadAnswer>,
    /// Answers taken out to make room; never more than there are reads out.
    arrived: VecDeque<ReadAnswer>,
    out: usize,
    out_max: usize,
}

impl Reads {
    /// Over a queue of reads and one of answers that holds more. Inputs that read are to be left
    /// waiting while `out_max` reads are out.
    #[must_use]
    pub fn new(jobs: Port<ReadJob>, rows: mpsc::Receiver<ReadAnswer>, out_max: usize) -> Self {
        Self {
            jobs,
            rows,
            arrived: VecDeque::new(),
            out: 0,
            out_max,
        }
    }

    /// Hands a read to the readers; waits for them if their queue is full.
    pub fn submit(&mut self, job: ReadJob) {
        self.out += 1;
        let Some(job) = self.jobs.try_send(job) else {
            return;
        };
        while let Ok(answer) = self.rows.try_recv() {
            self.arrived.push_back(answer);
        }
        // Now their answers have room for all that waits.
        self.jobs.send(job);
    }

    /// The next answer; `None`: the readers are gone.
    pub async fn next(&mut self) -> Option<ReadAnswer> {
        if let Some(answer) = self.arrived.pop_front() {
            self.out -= 1;
            return Some(answer);
        }
        let answer = self.rows.recv().await?;
        self.out -= 1;
        Some(answer)
    }

    /// An answer that waits already.
    pub fn try_next(&mut self) -> Option<ReadAnswer> {
        let answer = self
            .arrived
            .pop_front()
            .or_else(|| self.rows.try_recv().ok())?;
        self.out -= 1;
        Some(answer)
    }

    /// Whether inputs that read should wait until some of the reads have come back.
    #[must_use]
    pub fn are_many(&self) -> bool {
        self.out >= self.out_max
    }
}
