//! Reminders that an actor sets for itself: `cx.remind("settle", Duration::from_secs(3600))`.
//!
//! A reminder is a row beside the actor's state, so it is set with the turn or not at all, and
//! survives everything that the state does. When it is due the method of its name is called, with
//! what was given to it as its argument. That turn commits together with the reminder's next time:
//! each tick is recorded once. A firing that fails is tried again three times, a second apart, then
//! its tick is dropped.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::clean_method;
use ghostlight_protocol::calendar::rfc3339;
use ghostlight_protocol::command::{DataForm, ScheduleRow};
use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use ghostlight_protocol::schedule::{Span, every_text};
use ghostlight_protocol::time::WallTime;

use crate::sdk::body::Body;

/// Longest name of a reminder, in bytes.
pub const REMINDER_NAME_BYTES_MAX: usize = 512;

/// When a reminder fires, and with what. A duration alone fires once, after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reminder {
    first: First,
    every: Option<Duration>,
    times: Option<u32>,
    lasts: Option<Duration>,
    /// A text: why it has no such form.
    data: Option<Result<Bytes, String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum First {
    After(Duration),
    At(WallTime),
}

impl Reminder {
    fn new(first: First) -> Self {
        Self {
            first,
            every: None,
            times: None,
            lasts: None,
            data: None,
        }
    }

    /// So long after the turn's own time, `cx.now`.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self::new(First::After(delay))
    }

    /// At this time; one that has passed is due at once.
    #[must_use]
    pub fn at(time: WallTime) -> Self {
        Self::new(First::At(time))
    }

    /// Then again and again, so long after each other. Ticks that were missed fire once.
    #[must_use]
    pub fn every(mut self, period: Duration) -> Self {
        self.every = Some(period);
        self
    }

    /// At most so often, the first time included.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.times = Some(count);
        self
    }

    /// Not after this time from `cx.now` on.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasts = Some(time);
        self
    }

    /// The argument of the method that is called; without it there is none.
    #[must_use]
    pub fn with(mut self, argument: &impl Body) -> Self {
        self.data = Some(argument.to_body());
        self
    }
}

impl From<Duration> for Reminder {
    fn from(delay: Duration) -> Self {
        Self::after(delay)
    }
}

/// Whether a reminder can have this name: it is the name of a method.
///
/// # Errors
/// A text.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > REMINDER_NAME_BYTES_MAX {
        return Err(format!(
            "its name has {} bytes, at most {REMINDER_NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    match clean_method(name) {
        Ok(cleaned) if cleaned == name && !name.contains('/') => Ok(()),
        Ok(_) => Err(format!("{name:?} is the name of no method")),
        Err(error) => Err(error.to_string()),
    }
}

/// The row of a reminder that a turn sets at its time `now`.
///
/// # Errors
/// A text: it would never fire, or what it is to carry has no form.
pub(super) fn row(reminder: Reminder, now: WallTime) -> Result<ScheduleRow, String> {
    let Reminder {
        first,
        every,
        times,
        lasts,
        data,
    } = reminder;
    let go = |time: Duration| Span::exact(time).to_string();
    let (due, due_given) = match first {
        First::After(delay) => (Span::exact(delay).after(now), go(delay)),
        First::At(time) => (time, rfc3339(time)),
    };
    let ends = lasts.map(|lasts| Span::exact(lasts).after(now));
    if ends.is_some_and(|ends| ends < due) || times == Some(0) {
        return Err("it would end before it fires".to_owned());
    }
    if every == Some(Duration::ZERO) {
        return Err("its period has no length".to_owned());
    }
    let data = data.transpose()?;
    if let Some(length) = data.as_ref().map(Bytes::len)
        && length > REQUEST_BODY_BYTES_MAX
    {
        return Err(format!(
            "its argument has {length} bytes, at most {REQUEST_BODY_BYTES_MAX} are allowed"
        ));
    }
    let is_json =
        |data: &Bytes| serde_json::from_slice::<&serde_json::value::RawValue>(data).is_ok();
    let form = match data.as_ref().is_none_or(is_json) {
        true => DataForm::Json,
        false => DataForm::Bytes,
    };
    let period = every.map_or_else(String::new, every_text);
    let period_given = match (times, every) {
        // ISO 8601 has a form for both.
        (Some(times), Some(every)) => format!("R{times}/PT{}S", seconds(every)),
        _ => period.clone(),
    };
    Ok(ScheduleRow {
        due_ms: due.0,
        period,
        repetitions: times.filter(|_| every.is_some()),
        ends_ms: ends.map_or(0, |ends| ends.0),
        data,
        form: form as i32,
        due_given,
        ttl_given: lasts.map_or_else(String::new, go),
        period_given,
        ..ScheduleRow::default()
    })
}

/// Seconds with their fraction, as ISO 8601 has them.
fn seconds(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => time.as_secs().to_string(),
        nanos => format!("{}.{nanos:09}", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdk::body::Raw;
    use ghostlight_protocol::schedule::Period;

    const NOW: WallTime = WallTime(1_000_000);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn when_a_reminder_fires() {
        for (reminder, due_ms, period, repetitions, ends_ms) in [
            (secs(5).into(), 1_005_000, "", None, 0),
            (Reminder::at(WallTime(7)), 7, "", None, 0),
            (
                Reminder::after(secs(1)).every(Duration::from_millis(1_500)),
                1_001_000,
                "@every 1.5s",
                None,
                0,
            ),
            (
                Reminder::after(secs(1)).every(secs(60)).times(3),
                1_001_000,
                "@every 1m0s",
                Some(3),
                0,
            ),
            // One alone fires once anyway.
            (Reminder::after(secs(1)).times(3), 1_001_000, "", None, 0),
            (
                Reminder::after(secs(1)).every(secs(1)).lasting(secs(9)),
                1_001_000,
                "@every 1s",
                None,
                1_009_000,
            ),
        ] {
            let row = row(reminder, NOW).unwrap();
            let found = (
                row.due_ms,
                row.period.as_str(),
                row.repetitions,
                row.ends_ms,
            );
            assert_eq!(found, (due_ms, period, repetitions, ends_ms));
            // As it is shown again, it can be read again.
            if !row.period_given.is_empty() {
                let read = Period::parse(&row.period_given).unwrap();
                assert_eq!(read.repetitions, repetitions);
                assert_eq!(read.to_string(), period);
            }
        }
    }

    #[test]
    fn what_a_reminder_carries() {
        let carried = |reminder: Reminder| {
            let row = row(reminder, NOW).unwrap();
            (row.form(), row.data)
        };
        let soon = || Reminder::after(secs(1));
        assert_eq!(carried(soon()), (DataForm::Json, None));
        let json = Some(Bytes::from_static(b"[\"a\",1]"));
        let pair = ("a".to_owned(), 1);
        assert_eq!(carried(soon().with(&pair)), (DataForm::Json, json));
        let bytes = Bytes::from_static(b"\xff");
        let raw = soon().with(&Raw(bytes.clone()));
        assert_eq!(carried(raw), (DataForm::Bytes, Some(bytes)));
    }

    #[test]
    fn what_cannot_be_a_reminder() {
        let soon = || Reminder::after(secs(1));
        for (reminder, why) in [
            (soon().times(0), "before it fires"),
            (Reminder::after(secs(9)).lasting(secs(8)), "before it fires"),
            (soon().every(Duration::ZERO), "no length"),
            (
                soon().with(&Raw(vec![0; REQUEST_BODY_BYTES_MAX + 1].into())),
                "at most",
            ),
        ] {
            let refused = row(reminder, NOW).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        for (name, fits) in [
            ("wake", true),
            ("wake_up-2", true),
            ("", false),
            ("a/b", false),
            ("..", false),
            ("a#b", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fits, "{name:?}");
        }
        assert!(check_name(&"x".repeat(513)).is_err());
    }
}
