//! The connections of one instance that rest between requests.
//!
//! The one that was used last is used next, so that those a burst has left over rest, and are closed in time.
//! Absent: opening connections, and whose they are.

use std::sync::Mutex;

use super::connection::{Carries, Closing, Line};
use super::lock;

/// Connections of one instance.
#[derive(Default)]
pub(super) struct Pool {
    /// HTTP/1.1: those without a request. HTTP/2: all.
    lines: Mutex<Vec<Line>>,
}

impl Pool {
    /// One that can take a request now.
    pub(super) fn take(&self) -> Option<Line> {
        let mut lines = lock(&self.lines);
        lines.retain(|line| !line.is_closed() && !line.is_stale());
        let free = lines.iter().rposition(Line::is_free)?;
        match lines[free].another() {
            Some(line) => Some(line),
            None => Some(lines.remove(free)),
        }
    }

    /// Adds a new connection, and gives a handle to it for a first request.
    pub(super) fn add(&self, line: Line) -> Line {
        match line.another() {
            Some(another) => {
                lock(&self.lines).push(line);
                another
            }
            None => line,
        }
    }

    /// Takes a connection back after its answer.
    pub(super) fn give_back(&self, line: Line, closing: Closing) {
        if line.carries() == Carries::One && closing == Closing::No && !line.is_closed() {
            lock(&self.lines).push(line);
        }
    }

    /// Closes what has rested long enough.
    pub(super) fn prune(&self) {
        lock(&self.lines).retain(|line| !line.is_closed() && !line.is_stale());
    }

    /// Closes all that rest.
    pub(super) fn clear(&self) {
        lock(&self.lines).clear();
    }
}
