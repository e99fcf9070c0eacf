//! A registration as it was asked for becomes a row, and a row is shown again as Dapr shows it.

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::{IfThere, ScheduleKind, ScheduleRow, ScheduleWrite};
use ghostlight_protocol::schedule::{Kind, Period, Schedule, Texts};
use ghostlight_protocol::time::WallTime;

use crate::hosts::words::{Overwrite, ScheduleSpec};

/// The write that sets a reminder or timer, asked for at `now`.
///
/// # Errors
/// A text that cannot be read, in Dapr's words.
pub(super) fn write_of(
    actor: &ActorKey,
    kind: ScheduleKind,
    name: &str,
    spec: ScheduleSpec,
    now: WallTime,
) -> Result<ScheduleWrite, String> {
    let key = format!("{}||{}||{name}", actor.actor_type(), actor.actor_id());
    let texts = Texts {
        due_time: &spec.due_time,
        period: &spec.period,
        ttl: &spec.ttl,
    };
    let what = match kind {
        ScheduleKind::Reminder => Kind::Reminder,
        ScheduleKind::Timer => Kind::Timer,
    };
    let parsed = Schedule::parse(what, &key, texts, now).map_err(|error| error.to_string())?;
    let every = parsed.period.map(|period| Period {
        repetitions: None,
        ..period
    });
    let row = ScheduleRow {
        due_ms: parsed.first.0,
        period: every.map_or_else(String::new, |period| period.to_string()),
        repetitions: parsed.period.and_then(|period| period.repetitions),
        ends_ms: parsed.expires.map_or(0, |at| at.0),
        data: spec.data,
        form: spec.form as i32,
        callback: spec.callback,
        due_given: spec.due_time,
        ttl_given: spec.ttl,
        failure: spec.failure,
        period_given: spec.period,
        ..ScheduleRow::default()
    };
    let if_there = match spec.overwrite {
        Overwrite::Yes => IfThere::Replace,
        Overwrite::No => IfThere::Skip,
    };
    Ok(ScheduleWrite {
        kind: kind as i32,
        name: name.to_owned(),
        row: Some(row),
        if_there: if_there as i32,
    })
}
