//! How much of a log is kept: in memory, where the engine reads it, and on the disk alike.
//!
//! Decides up to where the front is forgotten. Absent: when that is asked (`node/truncation.rs`).

use ghostlight_protocol::ids::{LogIndex, LogPosition};

use super::{Group, Role};
use crate::replica::heard::Heard;

/// Log entries kept below applied, so that a peer that lags a little needs no snapshot.
const KEPT_ENTRIES: u64 = 512;
/// Bytes of log above which it is crowded: no more is kept than a peer that answers still needs.
const LOG_BYTES_MAX: usize = 8 << 20;
/// Entries above which it is crowded.
const LOG_ENTRIES_MAX: usize = 10_000;
/// No peer is waited for when the log has so many times the bytes of a crowded one,
const WAIT_BYTES_FACTOR: usize = 2;
/// or more entries than a crowded one by this part of them.
const WAIT_ENTRIES_PART: usize = 5;

/// How much of a log is kept. A peer that needs more of it gets a snapshot.
///
/// The product has one; the simulator makes it small, since its logs are short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    /// Applied entries that a log at ease keeps.
    pub kept_entries: u64,
    /// A log with more bytes than this is crowded.
    pub bytes_max: usize,
    /// So is one with more entries.
    pub entries_max: usize,
}

impl Default for LogBounds {
    fn default() -> Self {
        Self {
            kept_entries: KEPT_ENTRIES,
            bytes_max: LOG_BYTES_MAX,
            entries_max: LOG_ENTRIES_MAX,
        }
    }
}

impl LogBounds {
    fn is_crowded(self, bytes: usize, entries: usize) -> bool {
        bytes > self.bytes_max || entries > self.entries_max
    }

    /// Whether a log of this size waits for slow peers.
    fn is_patient(self, bytes: usize, entries: usize) -> bool {
        bytes <= WAIT_BYTES_FACTOR * self.bytes_max
            && entries <= self.entries_max + self.entries_max / WAIT_ENTRIES_PART
    }
}

impl Group {
    /// Forgets the front of the log where nobody near needs it; returns the position to cut on disk.
    ///
    /// A log at ease keeps `kept_entries`, is cut in steps that are worth a write, and waits for its slow
    /// peers. A crowded one is cut to half of its bound, by bytes and entries alike, and waits for a slow
    /// peer only up to a second bound. What is not applied here is never cut.
    pub fn truncate(&mut self) -> Option<LogPosition> {
        let crowded = self.is_crowded();
        let log = self.raw.store();
        let bounds = self.log_bounds;
        let patient = bounds.is_patient(log.bytes(), log.len());
        let mut through = if crowded {
            let kept = log.newest_within(bounds.bytes_max / 2, bounds.entries_max / 2);
            self.applied.0.min(kept.0)
        } else {
            self.applied.0.saturating_sub(bounds.kept_entries)
        };
        if patient && self.role() == Role::Leader {
            let term = self.raw.raft.term;
            // A leader that has only begun has heard nobody: that says nothing about who is there.
            let waited_for = |peer: u64| {
                peer != self.peer.0
                    && (self.heard.is_young(term) || self.heard.of(term, peer) == Heard::Lately)
            };
            let peers = self.raw.raft.prs().iter();
            let near = peers.filter(|(id, _)| waited_for(**id));
            through = near.map(|(_, p)| p.matched).fold(through, u64::min);
        }
        let small = through < log.truncated().index.0 + bounds.kept_entries;
        if small && !crowded {
            return None;
        }
        self.raw.mut_store().truncate(LogIndex(through))
    }

    /// Whether the log has more than it should keep in memory: `truncate` is due at once.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let log = self.raw.store();
        self.log_bounds.is_crowded(log.bytes(), log.len())
    }
}
