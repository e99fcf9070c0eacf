//! Lengths of time as people write them: Go's durations and ISO 8601's.
//!
//! Go: `1h2m3.5s`, `500ms`, with either micro sign (U+00B5, U+03BC; the Python SDK writes
//! `0h0m2s0ms0μs`), a sign in front, or a bare `0`. ISO 8601: `P1Y2M3W4DT5H6M7S`, whole numbers
//! only, with `Rn/` in front for repetitions. Periods of calendar months and days have no fixed
//! length, so a span keeps them apart from its exact part.

use std::fmt;
use std::time::Duration;

use crate::calendar::add_months;
use crate::limits::COUNT_MAX;
use crate::time::WallTime;

/// Days of one span, and the largest number in front of a unit of ISO 8601: 10,000 years.
const DAYS_MAX: u32 = 3_652_500;
/// Months of one span: 10,000 years.
const MONTHS_MAX: u32 = 120_000;
/// The longest Go duration, in nanoseconds: about 292 years. It bounds the exact part of every
/// span.
const GO_NANOS_MAX: u128 = i64::MAX as u128;
/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// A length of time: calendar months, then days, then an exact part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// Calendar months; a year is twelve of them.
    pub months: u32,
    /// Days of 24 hours in UTC; a week is seven of them.
    pub days: u32,
    /// The exact part.
    pub time: Duration,
}

impl Span {
    /// A span without months and days.
    #[must_use]
    pub fn exact(time: Duration) -> Self {
        Self {
            months: 0,
            days: 0,
            time,
        }
    }

    /// Whether it has no length at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Milliseconds of days and exact part, rounded up: a span is never cut to nothing.
    pub(super) fn exact_ms(&self) -> u64 {
        let time = u64::try_from(self.time.as_nanos().div_ceil(1_000_000)).unwrap_or(COUNT_MAX);
        (u64::from(self.days) * DAY_MS)
            .saturating_add(time)
            .min(COUNT_MAX)
    }

    /// The time one span later, at most `COUNT_MAX`; fractions of a millisecond are rounded up.
    #[must_use]
    pub fn after(&self, start: WallTime) -> WallTime {
        let start = match self.months {
            0 => start,
            months => add_months(start, months),
        };
        WallTime(start.0.saturating_add(self.exact_ms()).min(COUNT_MAX))
    }
}

/// Go's form of an exact span (`1h0m0s`, `1.5s`, `250ms`, `0s`), ISO 8601 for one with months or
/// days.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.months == 0 && self.days == 0 {
            return f.write_str(&go_text(self.time));
        }
        f.write_str("P")?;
        let seconds = self.time.as_secs();
        let dates = [
            (self.months / 12, 'Y'),
            (self.months % 12, 'M'),
            (self.days, 'D'),
        ];
        for (number, unit) in dates.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        let times = [
            (seconds / 3_600, 'H'),
            (seconds / 60 % 60, 'M'),
            (seconds % 60, 'S'),
        ];
        if seconds > 0 {
            f.write_str("T")?;
        }
        for (number, unit) in times.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{number}{unit}")?;
        }
        Ok(())
    }
}

/// A duration as Go prints it: the largest unit that fits, the fraction without zeros at its end.
fn go_text(time: Duration) -> String {
    let nanos = time.as_nanos();
    let fraction = |unit: u128| {
        let width = unit.ilog10() as usize;
        let digits = format!("{:0width$}", nanos % unit);
        match digits.trim_end_matches('0') {
            "" => String::new(),
            digits => format!(".{digits}"),
        }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}{}µs", nanos / 1_000, fraction(1_000)),
        1_000_000..1_000_000_000 => {
            format!("{}{}ms", nanos / 1_000_000, fraction(1_000_000))
        }
        _ => {
            let seconds = time.as_secs();
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            let rest = format!("{}{}s", seconds % 60, fraction(1_000_000_000));
            match (hours, minutes) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

/// A Go duration with its sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signed {
    /// Zero or more.
    Forward(Duration),
    /// Less than zero; the length without the sign.
    Backward(Duration),
}

/// Parses a Go duration; `None` when it is none, or longer than about 292 years.
#[must_use]
pub fn parse_go(text: &str) -> Option<Signed> {
    let (backward, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Signed::Forward(Duration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, after) = take_go_part(rest)?;
        nanos = nanos.checked_add(part).filter(|sum| *sum <= GO_NANOS_MAX)?;
        rest = after;
    }
    let time = Duration::from_nanos(u64::try_from(nanos).ok()?);
    Some(match backward && !time.is_zero() {
        true => Signed::Backward(time),
        false => Signed::Forward(time),
    })
}

/// One number with its unit, in nanoseconds, and what follows it.
fn take_go_part(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = take_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => take_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit_nanos: u128 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: u128 = match whole {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    // Eighteen digits are finer than a nanosecond of an hour; the rest cannot count.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(fraction.len() as u32);
    let fraction: u128 = match fraction {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let nanos = whole
        .checked_mul(unit_nanos)?
        .checked_add(fraction * unit_nanos / scale)?;
    Some((nanos, rest))
}

fn take_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// How often, as `Rn/` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Repetitions {
    /// Nothing was said, or `R-1`.
    Unlimited,
    /// So many firings, the first one included; may be zero.
    Times(u32),
}

/// Parses an ISO 8601 duration with repetitions; `Rn` alone has a span of zero. `None` when it is
/// none, or longer than the bounds of a span.
#[must_use]
pub(super) fn parse_iso(text: &str) -> Option<(Span, Repetitions)> {
    let (repetitions, rest) = match text.strip_prefix('R') {
        None => (Repetitions::Unlimited, text),
        Some(rest) => {
            let (count, span) = rest.split_once('/').unwrap_or((rest, ""));
            let repetitions = match count {
                "-1" => Repetitions::Unlimited,
                digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Repetitions::Times(digits.parse().ok()?)
                }
                _ => return None,
            };
            if span.is_empty() {
                return Some((Span::default(), repetitions));
            }
            (repetitions, span)
        }
    };
    let rest = rest.strip_prefix('P').filter(|rest| !rest.is_empty())?;
    let (dates, times) = rest.split_once('T').unwrap_or((rest, ""));
    let mut months: u32 = 0;
    let mut days: u32 = 0;
    take_iso_parts(dates, |number, unit| {
        match unit {
            'Y' => months = months.checked_add(number.checked_mul(12)?)?,
            'M' => months = months.checked_add(number)?,
            'W' => days = days.checked_add(number.checked_mul(7)?)?,
            'D' => days = days.checked_add(number)?,
            _ => return None,
        }
        Some(())
    })?;
    let mut seconds: u64 = 0;
    take_iso_parts(times, |number, unit| {
        seconds += u64::from(number)
            * match unit {
                'H' => 3_600,
                'M' => 60,
                'S' => 1,
                _ => return None,
            };
        Some(())
    })?;
    let span = Span {
        months,
        days,
        time: Duration::from_secs(seconds),
    };
    let fits = months <= MONTHS_MAX && days <= DAYS_MAX && span.time.as_nanos() <= GO_NANOS_MAX;
    fits.then_some((span, repetitions))
}

fn take_iso_parts(mut text: &str, mut take: impl FnMut(u32, char) -> Option<()>) -> Option<()> {
    while !text.is_empty() {
        let (digits, rest) = take_digits(text);
        let number = digits.parse().ok().filter(|number| *number <= DAYS_MAX)?;
        let unit = rest.chars().next()?;
        take(number, unit)?;
        text = &rest[unit.len_utf8()..];
    }
    Some(())
}
