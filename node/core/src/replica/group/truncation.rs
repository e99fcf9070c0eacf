//! How much of a log is kept: in memory, where the engine reads it, and on the disk alike.
//!
//! Decides up to where the front is forgotten. Absent: when that is asked (`node/truncation.rs`).

use ghostlight_protocol::ids::{LogIndex, LogPosition};

use super::{Group, Role};
use crate::replica::AllLogs;
use crate::replica::heard::Heard;

/// Log entries kept below applied, so that a peer that lags a little needs no snapshot.
const KEPT_ENTRIES: u64 = 512;
/// Of which a log keeps this part where the node's memory is scarce.
const SCARCE_PART: u64 = 8;
/// Entries that are worth a write of the disk, when a log that keeps fewer is cut.
const STEP_ENTRIES: u64 = 64;
/// Bytes of log above which it is crowded: no more is kept than a peer that answers still needs.
const LOG_BYTES_MAX: usize = 8 << 20;
/// Entries above which it is crowded.
const LOG_ENTRIES_MAX: usize = 10_000;
/// Bytes of all logs of a node above which its memory is scarce: each log then keeps a share of
/// them at most.
const ALL_BYTES_MAX: usize = 32 << 20;
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
    /// All logs of a node may have so many bytes before each keeps less.
    pub all_bytes_max: usize,
}

/// How much memory a node has left for its logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogRoom {
    /// A log at ease keeps what a peer that comes back may need.
    Ample,
    /// No log keeps more bytes than this, and each keeps fewer entries: such a peer gets a
    /// snapshot.
    Scarce {
        /// Bytes for each log.
        share: usize,
    },
}

impl Default for LogBounds {
    fn default() -> Self {
        Self {
            kept_entries: KEPT_ENTRIES,
            bytes_max: LOG_BYTES_MAX,
            entries_max: LOG_ENTRIES_MAX,
            all_bytes_max: ALL_BYTES_MAX,
        }
    }
}

impl LogBounds {
    /// The room that is left beside logs of so many bytes together; `each` has the bytes of every
    /// one, and is asked only where memory is scarce. Logs that have less than an equal share leave
    /// the rest of theirs to the others.
    #[must_use]
    pub fn room<I: Iterator<Item = usize>>(
        self,
        all_bytes: usize,
        each: impl Fn() -> I,
    ) -> LogRoom {
        if all_bytes <= self.all_bytes_max {
            return LogRoom::Ample;
        }
        let equal = self.all_bytes_max / each().count().max(1);
        let small: usize = each().filter(|bytes| *bytes <= equal).sum();
        let large = each().filter(|bytes| *bytes > equal).count();
        let share = (self.all_bytes_max - small) / large.max(1);
        LogRoom::Scarce { share }
    }

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
    /// Forgets the front of the log where nobody near needs it; returns the position to cut on
    /// disk.
    ///
    /// A log at ease keeps `kept_entries`, less where memory is scarce and nothing where no peer
    /// could ever ask, is cut in steps that are worth a write, and waits for its slow peers. A
    /// crowded one is cut to half of its bound, by bytes and entries alike, and waits for a slow
    /// peer only up to a second bound. One with more bytes than its share of scarce memory is cut
    /// to half of that. What is not applied here is never cut.
    pub fn truncate(&mut self, room: LogRoom) -> Option<LogPosition> {
        let crowded = self.is_crowded();
        let kept = self.kept_entries(room);
        let share = self.share_that_is_exceeded(room);
        let log = self.raw.store();
        let bounds = self.log_bounds;
        let patient = bounds.is_patient(log.bytes(), log.len());
        let mut through = if crowded {
            let kept = log.newest_within(bounds.bytes_max / 2, bounds.entries_max / 2);
            self.applied.0.min(kept.0)
        } else if let Some(share) = share {
            let within = log.newest_within(share / 2, bounds.entries_max);
            let by_entries = self.applied.0.saturating_sub(kept);
            self.applied.0.min(within.0.max(by_entries))
        } else {
            self.applied.0.saturating_sub(kept)
        };
        let wanted = through;
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
        let step = kept.max(STEP_ENTRIES.min(bounds.kept_entries));
        let small = through < log.truncated().index.0 + step;
        // Where a peer is waited for, what is beyond the share goes as the peer gets on: in steps
        // that are worth a write.
        let all_at_once = crowded || (share.is_some() && through == wanted);
        if small && !all_at_once {
            return None;
        }
        self.raw.mut_store().truncate(LogIndex(through))
    }

    fn kept_entries(&self, room: LogRoom) -> u64 {
        let kept = self.log_bounds.kept_entries;
        let alone = self.raw.raft.prs().iter().all(|(id, _)| *id == self.peer.0);
        match room {
            _ if alone => 0,
            LogRoom::Ample => kept,
            LogRoom::Scarce { .. } => kept / SCARCE_PART,
        }
    }

    fn share_that_is_exceeded(&self, room: LogRoom) -> Option<usize> {
        match room {
            LogRoom::Scarce { share } if self.raw.store().bytes() > share => Some(share),
            LogRoom::Scarce { .. } | LogRoom::Ample => None,
        }
    }

    /// Its log counts among those of its node.
    pub fn count_log_among(&mut self, all: &AllLogs) {
        self.raw.mut_store().count_among(all);
    }

    /// Bytes of the log.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.raw.store().bytes()
    }

    /// Whether the log has more than it should keep in memory: `truncate` is due at once.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let log = self.raw.store();
        self.log_bounds.is_crowded(log.bytes(), log.len())
    }
}
