//! The connections of one instance that rest between requests.
//!
//! The one that was used last is used next, so that those a burst has left over rest, and are
//! closed in time. Absent: opening connections, and whose they are.

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
    /// One that can take a request now. Looks no further than to the first: there may be thousands.
    pub(super) fn take(&self) -> Option<Line> {
        let mut lines = lock(&self.lines);
        let mut at = lines.len();
        while at > 0 {
            at -= 1;
            let line = &lines[at];
            if line.is_closed() || line.is_stale() {
                lines.remove(at);
            } else if line.is_free() {
                let another = line.another();
                return Some(another.unwrap_or_else(|| lines.remove(at)));
            }
        }
        None
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
