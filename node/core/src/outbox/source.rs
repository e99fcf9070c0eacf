//! The sending side towards one destination: a window over the rows between the last trim and the
//! newest.
//!
//! `trimmed <= accepted <= tail <= last`. Rows up to `accepted` are safe at the destination and
//! wait for their trim; rows up to `tail` are in memory; rows beyond it are on disk and are read
//! when there is room.

use std::collections::VecDeque;
use std::time::Duration;

use ghostlight_protocol::command::Envelope;
use ghostlight_protocol::limits::{OUTBOX_FRAME_BYTES_MAX, OUTBOX_FRAME_MESSAGES_MAX};
use ghostlight_protocol::time::Instant;
use prost::Message;

use super::pump::OutboxSettings;

/// Accepted rows that wait for more before they are trimmed.
const TRIM_ROWS: u64 = 256;
/// How long they wait.
const TRIM_PAUSE: Duration = Duration::from_millis(50);
/// A trim that was refused or changed nothing is tried again after this.
const TRIM_RETRY: Duration = Duration::from_millis(500);
/// Longest pause between two pushes of the same run to a destination that does not answer.
const PUSH_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Pause after a node said that it does not lead the destination.
const NOT_LEADER_PAUSE: Duration = Duration::from_millis(100);

/// The rows for one destination.
#[derive(Debug)]
pub(super) struct Lane {
    /// Rows in memory, from `accepted + 1` (or the first one, before a mark is known) to `tail`.
    queue: VecDeque<(u64, Envelope)>,
    bytes: usize,
    trimmed: u64,
    accepted: u64,
    tail: u64,
    last: u64,
    beyond: Beyond,
    push: Push,
    trim: Trim,
}

/// Whether rows after `last` may be on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Beyond {
    Nothing,
    Unread,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Push {
    Idle,
    /// A run was pushed, and its mark is awaited.
    Sent {
        first: u64,
        through: u64,
        again_at: Instant,
        pause: Duration,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trim {
    Idle,
    /// There is something to trim, and more may come.
    Due(Instant),
    /// Handed to the pump, or in the log.
    Proposed,
}

/// What a mark asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AfterMark {
    /// Push what follows.
    Push,
    /// Nothing.
    Wait,
}

impl Lane {
    /// A lane whose first row is `first`: everything below it was trimmed.
    pub(super) fn new(first: u64) -> Self {
        let below = first.saturating_sub(1);
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            trimmed: below,
            accepted: below,
            tail: below,
            last: below,
            beyond: Beyond::Nothing,
            push: Push::Idle,
            trim: Trim::Idle,
        }
    }

    /// Takes a committed row into memory if it follows the last one and there is room; gives its
    /// bytes.
    pub(super) fn offer(
        &mut self,
        sequence: u64,
        message: Envelope,
        settings: &OutboxSettings,
        held: usize,
    ) -> usize {
        self.last = self.last.max(sequence);
        if sequence != self.tail + 1 || !self.has_room(settings, held) {
            return 0;
        }
        let bytes = message.encoded_len();
        self.tail = sequence;
        self.bytes += bytes;
        self.queue.push_back((sequence, message));
        bytes
    }

    /// An empty lane always has room for one row, or it would never go on.
    pub(super) fn has_room(&self, settings: &OutboxSettings, held: usize) -> bool {
        self.queue.is_empty()
            || self.queue.len() < settings.lane_rows
                && self.bytes < settings.lane_bytes
                && held < settings.memory_bytes
    }

    /// The scan at opening skipped the rest of this lane.
    pub(super) fn skip_rest(&mut self) {
        self.beyond = Beyond::Unread;
    }

    /// A page after `tail` held no row of this lane beyond those offered.
    pub(super) fn read_to_end(&mut self) {
        self.beyond = Beyond::Nothing;
    }

    /// Whether rows on disk should be read now.
    pub(super) fn wants_rows(&self, settings: &OutboxSettings, held: usize) -> bool {
        let on_disk = self.last > self.tail || self.beyond == Beyond::Unread;
        on_disk && self.queue.len() <= settings.lane_rows / 2 && self.has_room(settings, held)
    }

    /// Highest sequence that exists, once that is known.
    pub(super) fn end(&self) -> Option<u64> {
        (self.beyond == Beyond::Nothing).then_some(self.last)
    }

    /// Highest sequence in memory or accepted.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Begins a push if none is under way: the first sequence and the run.
    pub(super) fn next_push(
        &mut self,
        now: Instant,
        settings: &OutboxSettings,
    ) -> Option<(u64, Vec<Envelope>)> {
        match self.push {
            Push::Idle => self.begin_push(now, settings.push_again),
            Push::Sent { .. } => None,
        }
    }

    /// Pushes again because nobody has answered, or somebody else leads now.
    pub(super) fn push_again(
        &mut self,
        now: Instant,
        why: Again,
        settings: &OutboxSettings,
    ) -> Option<(u64, Vec<Envelope>)> {
        let Push::Sent {
            again_at, pause, ..
        } = self.push
        else {
            return None;
        };
        match why {
            Again::Leader => self.begin_push(now, settings.push_again),
            Again::Silence if again_at <= now => {
                self.begin_push(now, (pause * 2).min(PUSH_PAUSE_MAX))
            }
            Again::Silence => None,
        }
    }

    fn begin_push(&mut self, now: Instant, pause: Duration) -> Option<(u64, Vec<Envelope>)> {
        let Some((first, _)) = self.queue.front() else {
            self.push = Push::Idle;
            return None;
        };
        let first = *first;
        let mut bytes = 0;
        let run: Vec<Envelope> = self
            .queue
            .iter()
            .take(OUTBOX_FRAME_MESSAGES_MAX)
            .take_while(|(_, message)| {
                let before = bytes;
                bytes += message.encoded_len();
                before == 0 || bytes <= OUTBOX_FRAME_BYTES_MAX
            })
            .map(|(_, message)| message.clone())
            .collect();
        self.push = Push::Sent {
            first,
            through: first + run.len() as u64 - 1,
            again_at: now + pause,
            pause,
        };
        Some((first, run))
    }

    /// The destination has accepted everything up to `through`; gives the freed bytes too.
    pub(super) fn mark(&mut self, now: Instant, through: u64) -> (AfterMark, usize) {
        // A mark may come late and out of order; rows of the destination never go back.
        if through > self.accepted {
            self.accepted = through;
            self.tail = self.tail.max(through);
            self.last = self.last.max(through);
        }
        let mut freed = 0;
        while let Some((sequence, message)) = self.queue.front()
            && *sequence <= self.accepted
        {
            freed += message.encoded_len();
            self.queue.pop_front();
        }
        self.bytes -= freed;
        if self.trim == Trim::Idle && self.accepted > self.trimmed {
            self.trim = Trim::Due(now + TRIM_PAUSE);
        }
        if let Trim::Due(_) = self.trim
            && self.accepted - self.trimmed >= TRIM_ROWS
        {
            self.trim = Trim::Due(now);
        }
        let after = match self.push {
            Push::Idle => AfterMark::Push,
            // All of it, or a part: what follows goes at once.
            Push::Sent { first, .. } if self.accepted >= first => {
                self.push = Push::Idle;
                AfterMark::Push
            }
            // An old mark. To push the same run for each would multiply duplicates.
            Push::Sent { .. } => AfterMark::Wait,
        };
        (after, freed)
    }

    /// The node that was asked does not lead the destination.
    pub(super) fn not_leader(&mut self, now: Instant) {
        if let Push::Sent { again_at, .. } = &mut self.push {
            *again_at = (*again_at).min(now + NOT_LEADER_PAUSE);
        }
    }

    /// Whether a trim is due; it then counts as proposed.
    pub(super) fn take_trim(&mut self, now: Instant) -> bool {
        match self.trim {
            Trim::Due(at) if at <= now => {
                self.trim = Trim::Proposed;
                true
            }
            Trim::Due(_) | Trim::Idle | Trim::Proposed => false,
        }
    }

    /// A row up to this sequence was committed; it is on disk.
    pub(super) fn exists_up_to(&mut self, sequence: u64) {
        self.last = self.last.max(sequence);
    }

    /// Highest sequence known to be accepted: what a trim proposed now covers.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// A trim was applied.
    pub(super) fn trimmed(&mut self, now: Instant, through: u64) {
        let progress = through > self.trimmed;
        self.trimmed = self.trimmed.max(through);
        self.trim = match (self.accepted > self.trimmed, progress) {
            (false, _) => Trim::Idle,
            (true, true) => Trim::Due(now),
            (true, false) => Trim::Due(now + TRIM_RETRY),
        };
    }

    /// A trim did not get into the log.
    pub(super) fn trim_dropped(&mut self, now: Instant) {
        self.trim = Trim::Due(now + TRIM_RETRY);
    }

    /// Whether nothing is left to push, to read or to trim.
    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty()
            && self.beyond == Beyond::Nothing
            && self.last == self.tail
            && self.push == Push::Idle
            && self.trim == Trim::Idle
            && self.trimmed >= self.accepted
    }

    /// When the lane must be looked at again.
    pub(super) fn due(&self) -> Option<Instant> {
        let push = match self.push {
            Push::Idle => None,
            Push::Sent { again_at, .. } => Some(again_at),
        };
        let trim = match self.trim {
            Trim::Due(at) => Some(at),
            Trim::Idle | Trim::Proposed => None,
        };
        [push, trim].into_iter().flatten().min()
    }
}

/// Why a run is pushed again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    /// The destination has a new leader.
    Leader,
    /// No mark came in time.
    Silence,
}
