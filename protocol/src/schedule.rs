//! When reminders and timers fire: Dapr's `dueTime`, `period` and `ttl`, parsed once.
//!
//! Input: the three texts of a registration and the time it was made. Output: a [`Schedule`] of
//! typed values, or an error that carries Dapr's text. [`next_due`] says when a periodic one fires
//! after it has fired: a tick that was missed fires once, and the others of the gap are counted.
//!
//! All times are `WallTime`, in milliseconds; what is finer is rounded up. Deliberately absent:
//! what fires, and how often it is tried.

mod span;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use span::{Signed, Span, parse_go};

use crate::calendar::{LAST, parse_rfc3339, rfc3339};
use crate::limits::COUNT_MAX;
use crate::time::WallTime;
use span::{Repetitions, parse_iso};

/// What is scheduled; the word stands in error texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Its ttl counts from the registration.
    Reminder,
    /// Its ttl counts from the first due time, as in Dapr's code.
    Timer,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reminder => "reminder",
            Self::Timer => "timer",
        })
    }
}

/// A point in time as a registration names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// So long after the point it counts from.
    After(Span),
    /// At a time of the calendar; may be in the past.
    At(WallTime),
}

impl Due {
    /// Parses a due time or ttl that is not empty: Go duration, ISO 8601 duration, `@every` or RFC
    /// 3339. A negative duration has passed already: it is due at once.
    ///
    /// # Errors
    /// None of these forms, or one with repetitions.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if let Some((span, repetitions)) = parse_iso(text) {
            return match repetitions {
                Repetitions::Unlimited => Ok(Self::After(span)),
                Repetitions::Times(_) => Err(FormatError::Repetitions),
            };
        }
        match parse_go(without_every(text)) {
            Some(Signed::Forward(time)) => return Ok(Self::After(Span::exact(time))),
            Some(Signed::Backward(_)) => return Ok(Self::After(Span::default())),
            None => {}
        }
        parse_rfc3339(text)
            .map(Self::At)
            .ok_or_else(|| FormatError::Time(crate::text::cut(text.to_owned())))
    }

    /// The time that is meant, counted from `start`.
    #[must_use]
    pub fn at(&self, start: WallTime) -> WallTime {
        match self {
            Self::After(span) => span.after(start),
            Self::At(time) => *time,
        }
    }
}

/// How a schedule repeats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period {
    /// From one firing to the next. Zero: there is only one.
    pub every: Span,
    /// Firings in all, the first one included and at least 1; `None` is without end.
    pub repetitions: Option<u32>,
}

impl Period {
    /// Parses a period that is not empty: Go duration, ISO 8601 duration with repetitions, or
    /// `@every`.
    ///
    /// # Errors
    /// None of these forms, zero repetitions, or a negative duration.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let unsupported = || FormatError::Duration(crate::text::cut(text.to_owned()));
        let (every, repetitions) = match parse_iso(text) {
            Some(parsed) => parsed,
            None => match parse_go(without_every(text)) {
                Some(Signed::Forward(time)) => (Span::exact(time), Repetitions::Unlimited),
                Some(Signed::Backward(_)) | None => return Err(unsupported()),
            },
        };
        let repetitions = match repetitions {
            Repetitions::Unlimited => None,
            Repetitions::Times(0) => return Err(FormatError::ZeroRepetitions),
            Repetitions::Times(times) => Some(times),
        };
        Ok(Self { every, repetitions })
    }
}

/// The form in which Dapr gives a period back: `@every 1s`. A period of months or days stays ISO
/// 8601.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.every.months == 0 && self.every.days == 0 {
            true => write!(f, "@every {}", self.every),
            false => self.every.fmt(f),
        }
    }
}

/// The form in which Dapr gives a period back: `@every 1s`.
#[must_use]
pub fn every_text(every: Duration) -> String {
    format!("@every {}", Span::exact(every))
}

fn without_every(text: &str) -> &str {
    text.strip_prefix("@every ").unwrap_or(text)
}

/// Why a text is no time or duration. Displays Dapr's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Neither a duration nor a time.
    #[error("unsupported time/duration format: {0}")]
    Time(String),
    /// Not a duration.
    #[error("parse error: unsupported duration format: {0}")]
    Duration(String),
    /// A due time or a ttl happens once.
    #[error("repetitions are not allowed")]
    Repetitions,
    /// `R0`.
    #[error("has zero repetitions")]
    ZeroRepetitions,
}

/// Why a registration was refused. Displays Dapr's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The due time cannot be read.
    #[error("error parsing {kind} due time: {why}")]
    DueTime {
        /// What is scheduled.
        kind: Kind,
        /// What is wrong.
        why: FormatError,
    },
    /// The period cannot be read.
    #[error("invalid {kind} period: {why}")]
    Period {
        /// What is scheduled.
        kind: Kind,
        /// What is wrong.
        why: FormatError,
    },
    /// The ttl cannot be read.
    #[error("error parsing {kind} TTL: {why}")]
    Ttl {
        /// What is scheduled.
        kind: Kind,
        /// What is wrong.
        why: FormatError,
    },
    /// It would end before it fires for the first time.
    #[error("{kind} {key} has already expired: dueTime: {due} TTL: {ttl}")]
    Expired {
        /// What is scheduled.
        kind: Kind,
        /// `type||id||name`.
        key: String,
        /// When it would have fired, RFC 3339.
        due: String,
        /// The ttl as it was given.
        ttl: String,
    },
}

/// The texts of a registration; empty ones were not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Texts<'a> {
    /// When it fires first; empty: now.
    pub due_time: &'a str,
    /// How it repeats; empty: it fires once.
    pub period: &'a str,
    /// When it ends; empty: never.
    pub ttl: &'a str,
}

/// When something fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// The first firing.
    pub first: WallTime,
    /// `None`: it fires once.
    pub period: Option<Period>,
    /// It does not fire after this time.
    pub expires: Option<WallTime>,
}

impl Schedule {
    /// Reads a registration made at `now`; `key` is `type||id||name`, for the error alone.
    ///
    /// # Errors
    /// A text that cannot be read, or a ttl that ends before the first firing.
    pub fn parse(
        kind: Kind,
        key: &str,
        texts: Texts<'_>,
        now: WallTime,
    ) -> Result<Self, ScheduleError> {
        let first = match texts.due_time {
            "" => now,
            text => Due::parse(text)
                .map_err(|why| ScheduleError::DueTime { kind, why })?
                .at(now),
        };
        let period = match texts.period {
            "" => None,
            text => {
                let period =
                    Period::parse(text).map_err(|why| ScheduleError::Period { kind, why })?;
                (!period.every.is_zero()).then_some(period)
            }
        };
        let expires = match texts.ttl {
            "" => None,
            text => {
                let ttl = Due::parse(text).map_err(|why| ScheduleError::Ttl { kind, why })?;
                Some(ttl.at(match kind {
                    Kind::Reminder => now,
                    Kind::Timer => first,
                }))
            }
        };
        if expires.is_some_and(|expires| expires < now || expires < first) {
            return Err(ScheduleError::Expired {
                kind,
                key: key.to_owned(),
                due: rfc3339(first),
                ttl: crate::text::cut(texts.ttl.to_owned()),
            });
        }
        Ok(Self {
            first,
            period,
            expires,
        })
    }
}

/// The firing after one that was due at `previous`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Next {
    /// When it is due: after `now`.
    pub due: WallTime,
    /// Ticks between the two that nobody fires, because their time had passed.
    pub missed: u64,
}

/// When a schedule fires that was due at `previous` and has fired at `now`: the first tick after
/// `now`.
///
/// The grid is that of the due times, whatever the time of the firing; months count from tick to
/// tick. A period of zero has no next firing; neither has one that months lead beyond year 9999.
#[must_use]
pub fn next_due(previous: WallTime, every: &Span, now: WallTime) -> Option<Next> {
    if every.is_zero() {
        return None;
    }
    if every.months > 0 {
        return next_of_months(previous, every, now);
    }
    let step = every.exact_ms();
    let missed = now.0.saturating_sub(previous.0) / step;
    let due = (missed + 1)
        .checked_mul(step)
        .and_then(|ahead| previous.0.checked_add(ahead))
        .filter(|due| *due <= COUNT_MAX)?;
    Some(Next {
        due: WallTime(due),
        missed,
    })
}

fn next_of_months(previous: WallTime, every: &Span, now: WallTime) -> Option<Next> {
    // At most one round per month up to year 9999, beyond which months are not counted.
    let mut due = every.after(previous);
    let mut missed = 0;
    while due <= now && due <= LAST {
        due = every.after(due);
        missed += 1;
    }
    (due > now && due <= LAST).then_some(Next { due, missed })
}
