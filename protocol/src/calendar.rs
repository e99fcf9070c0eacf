//! The calendar of `WallTime`: dates in UTC, RFC 3339 in and out, months of different lengths.
//!
//! Only what schedules and answers need. Time zones other than a fixed offset are deliberately
//! absent, and so are leap seconds: a day has 86,400 s. Days are counted by Howard Hinnant's
//! algorithm (shifted years that begin in March).

use crate::limits::COUNT_MAX;
use crate::time::WallTime;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// The last day that is counted: the end of year 9999, as in RFC 3339.
const LAST_DAY: u64 = 2_932_896;
/// The last millisecond of year 9999.
pub const LAST: WallTime = WallTime(LAST_DAY * DAY_MS + DAY_MS - 1);

/// A day of the calendar; the day may lie beyond the end of its month until it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Date {
    year: i64,
    /// 1 to 12.
    month: u64,
    /// 1 to 31.
    day: u64,
}

impl Date {
    /// Days since 1970-01-01; negative before it.
    fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted_month = (self.month + 9) % 12;
        let day_of_year = (153 * shifted_month + 2) / 5 + self.day - 1;
        let day_of_era =
            year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year as i64;
        era * 146_097 + day_of_era - 719_468
    }

    fn of(days: u64) -> Self {
        let days = days as i64 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097) as u64;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        Self {
            year: era * 400 + year_of_era as i64 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        }
    }
}

fn days_of_month(year: i64, month: u64) -> u64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `months` later at the same time of day; a day beyond the end of its month runs into the next one
/// (31 January and one month is 3 March, or 2 March in a leap year), as in Go's `AddDate`.
///
/// Beyond year 9999 it is `COUNT_MAX`: never.
#[must_use]
pub fn add_months(time: WallTime, months: u32) -> WallTime {
    if time > LAST {
        return WallTime(COUNT_MAX);
    }
    let date = Date::of(time.0 / DAY_MS);
    let month = date.month - 1 + u64::from(months);
    let moved = Date {
        year: date.year + (month / 12) as i64,
        month: month % 12 + 1,
        day: date.day,
    };
    match u64::try_from(moved.days()) {
        Ok(days) if days <= LAST_DAY => WallTime(days * DAY_MS + time.0 % DAY_MS),
        _ => WallTime(COUNT_MAX),
    }
}

/// `2026-03-01T12:00:00.25Z`: UTC, the fraction without zeros at its end, as Go's RFC3339Nano.
///
/// Times beyond year 9999 are written as its last millisecond.
#[must_use]
pub fn rfc3339(time: WallTime) -> String {
    let ms = time.0.min(LAST.0);
    let date = Date::of(ms / DAY_MS);
    let of_day = ms % DAY_MS;
    let (hour, minute, second) = (
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1_000 % 60,
    );
    let fraction = match of_day % 1_000 {
        0 => String::new(),
        ms => format!(".{}", format!("{ms:03}").trim_end_matches('0')),
    };
    format!(
        "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z",
        date.year, date.month, date.day
    )
}

/// Parses an RFC 3339 time; `None` when it is none.
///
/// Fractions finer than a millisecond are cut; times before 1970 become 1970, which is as much in
/// the past.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<WallTime> {
    let text = text.as_bytes();
    let number = |from: usize, digits: usize| -> Option<u64> {
        let part = text.get(from..from + digits)?;
        part.iter().try_fold(0, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + u64::from(byte - b'0'))
        })
    };
    let is = |at: usize, byte: u8| text.get(at).filter(|found| **found == byte).map(|_| ());
    let year = number(0, 4)? as i64;
    let month = number(5, 2).filter(|month| (1..=12).contains(month))?;
    let day = number(8, 2).filter(|day| (1..=days_of_month(year, month)).contains(day))?;
    let hour = number(11, 2).filter(|hour| *hour < 24)?;
    let minute = number(14, 2).filter(|minute| *minute < 60)?;
    let second = number(17, 2).filter(|second| *second < 60)?;
    for (at, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        is(at, byte)?;
    }
    let mut at = 19;
    let mut fraction_ms = 0;
    if is(at, b'.').is_some() {
        let digits = text[at + 1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        fraction_ms = match digits {
            0 => return None,
            1 => number(at + 1, 1)? * 100,
            2 => number(at + 1, 2)? * 10,
            _ => number(at + 1, 3)?,
        };
        at += 1 + digits;
    }
    let offset_minutes = match text.get(at)? {
        b'Z' => {
            at += 1;
            0
        }
        sign @ (b'+' | b'-') => {
            let hours = number(at + 1, 2).filter(|hours| *hours < 24)? as i64;
            is(at + 3, b':')?;
            let minutes = number(at + 4, 2).filter(|minutes| *minutes < 60)? as i64;
            at += 6;
            (hours * 60 + minutes) * if *sign == b'+' { 1 } else { -1 }
        }
        _ => return None,
    };
    if at != text.len() {
        return None;
    }
    let seconds = (hour * 3_600 + minute * 60 + second) as i64 - offset_minutes * 60;
    let ms = (Date { year, month, day }.days() * 86_400 + seconds) * 1_000 + fraction_ms as i64;
    Some(WallTime(u64::try_from(ms).unwrap_or(0).min(COUNT_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, ms, written) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            (
                "2000-02-29T23:59:59.999Z",
                951_868_799_999,
                "2000-02-29T23:59:59.999Z",
            ),
            (
                "2026-03-01T12:00:00.25+01:30",
                1_772_361_000_250,
                "2026-03-01T10:30:00.25Z",
            ),
            (
                "2026-03-01T12:00:00.123456789-00:01",
                1_772_366_460_123,
                "2026-03-01T12:01:00.123Z",
            ),
            (
                "9999-12-31T23:59:59Z",
                253_402_300_799_000,
                "9999-12-31T23:59:59Z",
            ),
            ("0001-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
        ] {
            let time = parse_rfc3339(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(time, WallTime(ms), "{text}");
            assert_eq!(rfc3339(time), written, "{text}");
        }
        assert_eq!(rfc3339(WallTime(u64::MAX)), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-03-01",
            "2026-03-01T12:00:00",
            "2026-13-01T12:00:00Z",
            "2026-02-29T12:00:00Z",
            "2026-04-31T12:00:00Z",
            "2026-03-00T12:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01T12:60:00Z",
            "2026-03-01T12:00:60Z",
            "2026-03-01 12:00:00Z",
            "2026-03-01T12:00:00.Z",
            "2026-03-01T12:00:00z",
            "2026-03-01T12:00:00Zx",
            "2026-03-01T12:00:00+0100",
            "2026-03-01T12:00:00+01:",
            "٢٠٢٦-03-01T12:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text:?}");
        }
    }

    #[test]
    fn months_have_their_own_lengths() {
        for (from, months, to) in [
            ("2026-01-31T08:00:00Z", 1, "2026-03-03T08:00:00Z"),
            ("2028-01-31T08:00:00Z", 1, "2028-03-02T08:00:00Z"),
            ("2026-11-30T08:00:00Z", 3, "2027-03-02T08:00:00Z"),
            ("2024-02-29T00:00:00Z", 12, "2025-03-01T00:00:00Z"),
            ("2026-12-15T23:59:59.5Z", 1, "2027-01-15T23:59:59.5Z"),
            ("2026-06-15T00:00:00Z", 0, "2026-06-15T00:00:00Z"),
        ] {
            let from_time = parse_rfc3339(from).unwrap();
            assert_eq!(rfc3339(add_months(from_time, months)), to, "{from}");
        }
        for (from, months) in [
            (WallTime(0), u32::MAX),
            (LAST, 1),
            (WallTime(LAST.0 + 1), 0),
        ] {
            assert_eq!(add_months(from, months), WallTime(COUNT_MAX), "{from:?}");
        }
    }

    #[test]
    fn every_day_is_counted_once() {
        let mut expected = 0;
        for year in 1970..2110 {
            for month in 1..=12 {
                for day in 1..=days_of_month(year, month) {
                    let date = Date { year, month, day };
                    assert_eq!(date.days(), expected);
                    assert_eq!(Date::of(expected as u64), date);
                    expected += 1;
                }
            }
        }
    }
}
