//! What a partition's leader lets go by time: records of outside ids and of calls made inside
//! turns, idle sessions with their records, messages that failed for good, and state values whose
//! ttl is over.
//!
//! *Log age* counts for all but the values, which end by the calendar: jumps and elections can only
//! slow it. Records and values say in rows of their own when they are due, so a sweep reads what is
//! over and nothing else; sessions are few, and all of them are looked at. At most one `Expire` is
//! in the log; apply checks every time again. Absent: the clocks (both times come in with each
//! input), and whether this node's clock may be believed.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::command::{DeadLetter, Expire, SessionRow};
use ghostlight_protocol::family::{self, DueKind, Family};
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::limits::{DEAD_LETTER_AGE_MAX, DEDUP_AGE_MAX};
use ghostlight_protocol::time::{Age, Instant, WallTime};
use prost::Message;

use crate::io::Rest;
use crate::turns::RowsWanted;

/// Pause between two sweeps of a partition.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);
/// Pause before a refused proposal is tried again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Records of one `Expire`. Their keys stay far below the bound on an entry.
const RECORDS_MAX: usize = 1_024;
/// Sessions looked at with one read.
const SESSIONS_PAGE: usize = 256;
/// Dead letters looked at with one read. They may be large; the store cuts a page by bytes too.
const LETTERS_PAGE: usize = 256;

/// State values of one `Expire`: the key of one is at most a few KiB, the entry at most 8 MiB.
const VALUES_MAX: usize = 256;

/// The two times by which things end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// The partition's log age, or less.
    pub age: Age,
    /// The calendar.
    pub wall: WallTime,
}

/// What an expiry is fed.
#[derive(Clone, PartialEq, Debug)]
pub enum ExpiryInput {
    /// Time has passed.
    Tick,
    /// The rows of its read, ascending by key, and whether the store has more of them.
    Rows {
        /// The rows.
        rows: Vec<(Bytes, Bytes)>,
        /// Whether there are more.
        rest: Rest,
    },
    /// Its `Expire` was applied.
    Applied,
    /// Its `Expire` did not get into the log.
    Dropped,
}

/// What it wants.
#[derive(Clone, PartialEq, Debug)]
pub enum ExpiryEffect {
    /// Read committed rows.
    Read(RowsWanted),
    /// Put this into the log. If that is refused, `Dropped` follows.
    Propose(Expire),
}

/// The expiry of one partition during one leadership.
#[derive(Debug)]
pub struct Expiry {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing to do before this moment.
    Resting { until: Instant },
    /// The rows that say when records are due are read.
    ReadingDue,
    /// A page of sessions is read.
    ReadingSessions,
    /// The records of the first idle session are read.
    ReadingRecords(Idle),
    /// The oldest dead letters are read.
    ReadingLetters,
    /// The rows that say when state values end are read.
    ReadingValues,
    /// An `Expire` is in the log.
    Proposed(Next),
}

/// Idle sessions of a page, and the last session of that page if more may follow.
#[derive(Debug)]
struct Idle {
    sessions: VecDeque<Bytes>,
    after: Option<Bytes>,
}

/// What follows an `Expire`.
#[derive(Debug)]
enum Next {
    Due,
    Sessions,
    Records(Idle),
    Letters,
    Values,
    Rest,
}

impl Expiry {
    /// Begins with a leadership. Partitions begin at different times, so that no moment pays for
    /// all.
    #[must_use]
    pub fn new(partition: PartitionId, now: Instant) -> Self {
        let share = u64::from(partition.0) % SWEEP_PAUSE.as_secs();
        Self {
            stage: Stage::Resting {
                until: now + Duration::from_secs(share),
            },
        }
    }

    /// Feeds one input.
    pub fn handle(
        &mut self,
        now: Instant,
        Times { age, wall }: Times,
        input: ExpiryInput,
        out: &mut Vec<ExpiryEffect>,
    ) {
        let stage = std::mem::replace(&mut self.stage, Stage::ReadingDue);
        self.stage = match (stage, input) {
            (Stage::Resting { until }, ExpiryInput::Tick) if until <= now => read_due(out),
            (Stage::ReadingDue, ExpiryInput::Rows { rows, rest }) => due(age, &rows, rest, out),
            (Stage::ReadingSessions, ExpiryInput::Rows { rows, rest }) => {
                sessions(age, rows, rest, out)
            }
            (Stage::ReadingRecords(idle), ExpiryInput::Rows { rows, rest }) => {
                records(idle, rows, rest, out)
            }
            (Stage::ReadingLetters, ExpiryInput::Rows { rows, rest: _ }) => letters(age, rows, out),
            (Stage::ReadingValues, ExpiryInput::Rows { rows, rest }) => {
                values(now, wall, rows, rest, out)
            }
            (Stage::Proposed(next), ExpiryInput::Applied) => match next {
                Next::Due => read_due(out),
                Next::Sessions => read_sessions(None, out),
                Next::Records(idle) => read_records(idle, out),
                Next::Letters => read_letters(out),
                Next::Values => read_values(out),
                Next::Rest => rest_until(now),
            },
            (Stage::Proposed(_), ExpiryInput::Dropped) => Stage::Resting {
                until: now + REFUSED_PAUSE,
            },
            (stage, _) => stage,
        };
    }
}

fn read_due(out: &mut Vec<ExpiryEffect>) -> Stage {
    out.push(ExpiryEffect::Read(RowsWanted::Scan {
        family: Family::Dedup,
        prefix: Bytes::from_static(family::DUE_PREFIX),
        after: None,
        limit: RECORDS_MAX,
    }));
    Stage::ReadingDue
}

/// The earliest rows come first: what is due now stands at the front.
fn due(age: Age, rows: &[(Bytes, Bytes)], rest: Rest, out: &mut Vec<ExpiryEffect>) -> Stage {
    let over: Vec<Bytes> = rows
        .iter()
        .filter_map(|(key, _)| family::parse_due_key(key))
        .take_while(|(due, _)| *due <= age)
        .map(|(_, record)| record)
        .collect();
    if over.is_empty() {
        return read_sessions(None, out);
    }
    let next = if over.len() == rows.len() && rest == Rest::More {
        Next::Due
    } else {
        Next::Sessions
    };
    out.push(ExpiryEffect::Propose(Expire {
        dedup_keys: over,
        ..Expire::default()
    }));
    Stage::Proposed(next)
}

fn read_sessions(after: Option<Bytes>, out: &mut Vec<ExpiryEffect>) -> Stage {
    out.push(ExpiryEffect::Read(RowsWanted::Scan {
        family: Family::Session,
        prefix: Bytes::new(),
        after,
        limit: SESSIONS_PAGE,
    }));
    Stage::ReadingSessions
}

fn sessions(age: Age, rows: Vec<(Bytes, Bytes)>, rest: Rest, out: &mut Vec<ExpiryEffect>) -> Stage {
    let last = rows.last().map(|(key, _)| key.clone());
    let after = last.filter(|_| rest == Rest::More);
    let limit = DEDUP_AGE_MAX.as_millis() as u64;
    let idle = rows.into_iter().filter(|(_, value)| {
        let used = SessionRow::decode(value.clone()).unwrap_or_default().age_ms;
        age.since(Age(used)) >= limit
    });
    let sessions = idle.map(|(key, _)| key).collect();
    read_records(Idle { sessions, after }, out)
}

/// Goes on with the first idle session of a page, with the next page, or with what is next.
fn read_records(idle: Idle, out: &mut Vec<ExpiryEffect>) -> Stage {
    let Some(session) = idle.sessions.front() else {
        return match idle.after {
            Some(after) => read_sessions(Some(after), out),
            None => read_letters(out),
        };
    };
    out.push(ExpiryEffect::Read(RowsWanted::Scan {
        family: Family::Dedup,
        prefix: family::session_records_prefix(session),
        after: None,
        limit: RECORDS_MAX,
    }));
    Stage::ReadingRecords(idle)
}

/// A session goes with the last of its records. With more of them than fit, sessions are looked at
/// again after it: this one may be in use by then.
fn records(
    mut idle: Idle,
    rows: Vec<(Bytes, Bytes)>,
    rest: Rest,
    out: &mut Vec<ExpiryEffect>,
) -> Stage {
    let (session_keys, next) = if rest == Rest::Last {
        let session = idle.sessions.pop_front();
        (session.into_iter().collect(), Next::Records(idle))
    } else {
        (Vec::new(), Next::Sessions)
    };
    out.push(ExpiryEffect::Propose(Expire {
        dedup_keys: rows.into_iter().map(|(key, _)| key).collect(),
        session_keys,
        ..Expire::default()
    }));
    Stage::Proposed(next)
}

fn read_letters(out: &mut Vec<ExpiryEffect>) -> Stage {
    out.push(ExpiryEffect::Read(RowsWanted::Scan {
        family: Family::DeadLetter,
        prefix: Bytes::new(),
        after: None,
        limit: LETTERS_PAGE,
    }));
    Stage::ReadingLetters
}

/// They are kept in the order in which they came, and the first that is young enough to stay ends a
/// sweep: one that came early and failed late holds back those behind it for as long as it was
/// tried, not more.
fn letters(age: Age, rows: Vec<(Bytes, Bytes)>, out: &mut Vec<ExpiryEffect>) -> Stage {
    let limit = DEAD_LETTER_AGE_MAX.as_millis() as u64;
    let over = rows.into_iter().take_while(|(_, value)| {
        let died = DeadLetter::decode(value.clone()).unwrap_or_default().age_ms;
        age.since(Age(died)) >= limit
    });
    let dead_letter_keys: Vec<Bytes> = over.map(|(key, _)| key).collect();
    if dead_letter_keys.is_empty() {
        return read_values(out);
    }
    out.push(ExpiryEffect::Propose(Expire {
        dead_letter_keys,
        ..Expire::default()
    }));
    Stage::Proposed(Next::Letters)
}

fn read_values(out: &mut Vec<ExpiryEffect>) -> Stage {
    out.push(ExpiryEffect::Read(RowsWanted::Scan {
        family: Family::Due,
        prefix: family::due_row_prefix(DueKind::Value),
        after: None,
        limit: VALUES_MAX,
    }));
    Stage::ReadingValues
}

/// The earliest rows come first: what is over stands at the front.
fn values(
    now: Instant,
    wall: WallTime,
    rows: Vec<(Bytes, Bytes)>,
    rest: Rest,
    out: &mut Vec<ExpiryEffect>,
) -> Stage {
    let looked_at = rows.len();
    let over = rows.into_iter().take_while(|(key, _)| {
        family::parse_due_row_key(key).is_some_and(|(due_ms, _)| due_ms <= wall.0)
    });
    let value_keys: Vec<Bytes> = over.map(|(key, _)| key).collect();
    if value_keys.is_empty() {
        return rest_until(now);
    }
    let next = if value_keys.len() == looked_at && rest == Rest::More {
        Next::Values
    } else {
        Next::Rest
    };
    out.push(ExpiryEffect::Propose(Expire {
        value_keys,
        ..Expire::default()
    }));
    Stage::Proposed(next)
}

fn rest_until(now: Instant) -> Stage {
    Stage::Resting {
        until: now + SWEEP_PAUSE,
    }
}
