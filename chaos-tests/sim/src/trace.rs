//! The trace of a run: a 64-bit hash over all that happened, and on request the text of it.
//!
//! The same seed gives the same hash; a run that does not is worth nothing as evidence.

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// Lines kept for the report of a failure.
const KEPT_LINES: usize = 40;

/// What is shown of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Show {
    /// Nothing.
    Nothing,
    /// Every line, on standard error.
    Everything,
}

/// The hash and the latest lines.
#[derive(Debug)]
pub struct Trace {
    hasher: SipHasher13,
    show: Show,
    lines: VecDeque<String>,
    events: u64,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(show: Show) -> Self {
        Self {
            hasher: SipHasher13::new(),
            show,
            lines: VecDeque::new(),
            events: 0,
        }
    }

    /// Takes an event into the hash.
    pub fn mix(&mut self, now: u64, kind: u8, node: usize, bytes: &[u8]) {
        self.events += 1;
        self.hasher.write_u64(now);
        self.hasher.write_u8(kind);
        self.hasher.write_usize(node);
        self.hasher.write(bytes);
    }

    /// Takes more bytes of the same event.
    pub(crate) fn more(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
    }

    /// Takes a number of the same event.
    pub(crate) fn more_number(&mut self, number: u64) {
        self.hasher.write_u64(number);
    }

    /// Takes a text of the same event.
    pub(crate) fn more_text(&mut self, text: fmt::Arguments<'_>) {
        self.hasher.write(text.to_string().as_bytes());
    }

    /// Takes a line: rare and worth reading.
    pub fn line(&mut self, now: u64, text: fmt::Arguments<'_>) {
        let line = format!("{:12.6} {text}", now as f64 / 1e9);
        self.mix(now, b'l', 0, line.as_bytes());
        if self.show == Show::Everything {
            show(&line);
        }
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Takes a line that is only worth making when all is shown.
    pub fn detail(&self, now: u64, text: impl FnOnce() -> String) {
        if self.show == Show::Everything {
            show(&format!("{:12.6} {}", now as f64 / 1e9, text()));
        }
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The latest lines.
    #[must_use]
    pub fn latest(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

#[expect(clippy::print_stderr, reason = "the trace that was asked for")]
fn show(line: &str) {
    eprintln!("{line}");
}
