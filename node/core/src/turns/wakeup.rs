//! Reminders and timers that are due become turns, and what becomes of their rows after it.
//!
//! A reminder's next row commits with its turn, fenced by the row it fired from: each tick is
//! recorded once. A timer's row stays as it was set until it ends. A firing that fails is tried
//! again as its policy says, then the tick is dropped and counted. Absent: when something is due;
//! `wakeups` decides that.

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, Stamp};
use ghostlight_protocol::command::{
    FailurePolicy, Firing, ScheduleKind, ScheduleRow, ScheduleWrite, TurnCommit, TurnKind,
};
use ghostlight_protocol::hash::{domain, hash128};
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::outcome::TurnAnswer;
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::schedule::{self, Period};
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::host::{Wakeup, Wish};

use super::TurnsEffect;
use super::activation::Stage;
use super::engine::Turns;
use super::jobs::{Due, Job, JobId, Place, Reach, Speculation, Standing, WakeupEnd, Work};
use super::mailbox::{End, Line};
use super::parts::sets_anew;
use super::running::seed_of;

/// What Dapr does when nothing is said: three retries, one second apart.
const DEFAULT_POLICY: FailurePolicy = FailurePolicy {
    interval_ms: 1_000,
    retries_max: Some(3),
};

/// How a firing ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FiringEnd {
    /// The actor was called, and agreed.
    Fired(Wish),
    /// It was called, and failed.
    Failed,
}

/// The request id under which a firing's turn runs: the same on every node and at every attempt of
/// a tick.
pub(super) fn wakeup_request(partition: PartitionId, due: &Due) -> RequestId {
    RequestId::Derived(hash128(
        domain::DERIVED,
        &[
            b"wakeup",
            &partition.0.to_be_bytes(),
            due.actor.as_bytes(),
            &[due.kind as u8],
            due.name.as_bytes(),
            &due.tick.0.to_be_bytes(),
            &due.row.attempts.to_be_bytes(),
        ],
    ))
}

/// The row of a reminder or timer after a firing, if it changes; `Some(None)`: it ends.
pub(super) fn row_after(due: &Due, end: FiringEnd, now: WallTime) -> Option<Option<ScheduleRow>> {
    let row = &due.row;
    if let FiringEnd::Fired(Wish::Ends) = end {
        return Some(None);
    }
    match due.kind {
        ScheduleKind::Reminder => {
            if end == FiringEnd::Failed && !gives_up(row) {
                let policy = row.failure.unwrap_or(DEFAULT_POLICY);
                return Some(Some(ScheduleRow {
                    due_ms: now.0.saturating_add(policy.interval_ms),
                    tick_ms: due.tick.0,
                    attempts: row.attempts + 1,
                    ..row.clone()
                }));
            }
            let dropped = u64::from(end == FiringEnd::Failed);
            Some(next_row(due, dropped, now))
        }
        ScheduleKind::Timer => next_tick(due, now).is_none().then_some(None),
    }
}

/// When a timer fires after this firing; `None`: it has ended.
pub(crate) fn next_tick(due: &Due, now: WallTime) -> Option<WallTime> {
    let row = &due.row;
    let period = Period::parse(&row.period).ok()?;
    let next = schedule::next_due(due.tick, &period.every, now)?;
    if let Some(repetitions) = row.repetitions {
        let fired = ticks_before(row.due_ms, &period, next.due);
        if fired >= u64::from(repetitions) {
            return None;
        }
    }
    within(row, next.due)
}

/// Ticks of a period from its first, at `first`, to before `at`.
fn ticks_before(first: u64, period: &Period, at: WallTime) -> u64 {
    let just_before = WallTime(at.0.saturating_sub(1));
    let next = schedule::next_due(WallTime(first), &period.every, just_before);
    next.map_or(u64::MAX, |next| next.missed + 1)
}

fn gives_up(row: &ScheduleRow) -> bool {
    let policy = row.failure.unwrap_or(DEFAULT_POLICY);
    policy.retries_max.is_some_and(|max| row.attempts >= max)
}

fn next_row(due: &Due, dropped: u64, now: WallTime) -> Option<ScheduleRow> {
    let row = &due.row;
    if row.period.is_empty() || row.repetitions == Some(1) {
        return None;
    }
    let period = Period::parse(&row.period).ok()?;
    let next = schedule::next_due(due.tick, &period.every, now)?;
    within(row, next.due)?;
    Some(ScheduleRow {
        due_ms: next.due.0,
        tick_ms: 0,
        attempts: 0,
        missed: row.missed + next.missed,
        dropped: row.dropped + dropped,
        repetitions: row.repetitions.map(|left| left.saturating_sub(1)),
        ..row.clone()
    })
}

fn within(row: &ScheduleRow, at: WallTime) -> Option<WallTime> {
    (row.ends_ms == 0 || at.0 < row.ends_ms).then_some(at)
}

impl Turns {
    /// A reminder or timer is due: its turn waits in the actor's mailbox like any other.
    pub(super) fn on_due(&mut self, now: Instant, due: Due, out: &mut Vec<TurnsEffect>) {
        let actor = due.actor.clone();
        let request = wakeup_request(self.partition, &due);
        self.rouse(&actor);
        let id = self.jobs.insert(Job {
            stamp: Stamp {
                wall_ms: due.tick.0,
                seed: seed_of(&request.to_bytes()),
            },
            actor: actor.clone(),
            method: due.name.clone(),
            body: due.row.data.clone().unwrap_or_default(),
            work: Work::Wakeup(Box::new(due)),
            deadline: None,
            chain: Vec::new(),
            place: Place::Waiting,
            reach: Reach::Inside,
            speculation: Speculation::None,
            reruns: 0,
            parts: 0,
            since: now,
            metadata: Vec::new(),
        });
        self.actors
            .at(&actor)
            .mailbox
            .push(Line::Wakeups, id, End::Back);
        self.advance(now, &actor, out);
    }

    /// A firing is over, whatever became of it: what is due is looked at again.
    pub(super) fn wakeup_done(&mut self, id: JobId, end: WakeupEnd, out: &mut Vec<TurnsEffect>) {
        if let Some(Job {
            work: Work::Wakeup(due),
            ..
        }) = self.forget(id)
        {
            out.push(TurnsEffect::WakeupOver(due, end));
        }
    }

    /// Reminders and timers of an actor were set anew, or removed, by `by`. A firing of what stood
    /// there before is over if its turn has not begun; if it has, it has nothing more to say of the
    /// row, and what it leaves counts.
    pub(super) fn rows_moved(
        &mut self,
        key: &ActorKey,
        by: JobId,
        schedule: &[ScheduleWrite],
        out: &mut Vec<TurnsEffect>,
    ) {
        let actor = self.actors.at(key);
        let begun = match &actor.stage {
            Stage::Running(running) => vec![running.job],
            Stage::Parked(parked) => vec![parked.job],
            Stage::Undoing { rerun } => rerun.iter().map(|(_, id)| *id).collect(),
            Stage::Idle | Stage::Loading => Vec::new(),
        };
        let waiting = actor.mailbox.wakeups();
        for id in begun.into_iter().filter(|id| *id != by) {
            if let Some(job) = self.jobs.get_mut(id) {
                sets_anew(job, schedule);
            }
        }
        for id in waiting {
            let Some(job) = self.jobs.get_mut(id) else {
                continue;
            };
            sets_anew(job, schedule);
            if job.is_overtaken() {
                self.actors.at(key).mailbox.withdraw(id);
                self.wakeup_done(id, WakeupEnd::Overtaken, out);
            }
        }
    }

    /// Whether the log has not yet spoken about an entry that writes the row of a firing.
    pub(super) fn row_in_doubt(&self, key: &ActorKey, id: JobId) -> bool {
        let job = self.jobs.get(id).map(|job| &job.work);
        let Some(Work::Wakeup(due)) = job else {
            return false;
        };
        due.standing == Standing::Stands && self.log.writes_row(key, due.kind, &due.name)
    }

    /// A firing whose time had passed before its turn began: nobody is called, and its row goes.
    pub(super) fn end_late(&mut self, key: &ActorKey, id: JobId) {
        let Work::Wakeup(due) = &mut self.jobs.at(id).work else {
            unreachable!("only firings have a time after which they do not run");
        };
        due.standing = Standing::Ended;
        let firing = firing_of(due);
        let row = ScheduleWrite {
            kind: due.kind as i32,
            name: due.name.clone(),
            ..ScheduleWrite::default()
        };
        let nothing = AnswerKind::Reply(Bytes::new());
        let commit = TurnCommit {
            schedule: vec![row],
            firing: Some(firing),
            ..self.commit(key, id, TurnKind::RecordOnly, TurnAnswer::default())
        };
        self.push_entry(key, id, 0, commit, nothing);
    }
}

/// What a turn hands to an application for it.
pub(super) fn handed(due: &Due) -> Wakeup {
    let row = &due.row;
    Wakeup {
        kind: due.kind as i32,
        name: due.name.clone(),
        data: row.data.clone(),
        form: row.form,
        callback: row.callback.clone(),
        due_time: row.due_given.clone(),
        period: row.period_given.clone(),
    }
}

fn firing_of(due: &Due) -> Firing {
    Firing {
        kind: due.kind as i32,
        name: due.name.clone(),
        due_ms: due.row.due_ms,
        attempts: due.row.attempts,
    }
}

/// What the entry of a firing says about its row.
pub(super) fn written(due: &Due, end: FiringEnd, now: WallTime) -> (Firing, Option<ScheduleWrite>) {
    let firing = firing_of(due);
    let write = row_after(due, end, now).map(|row| ScheduleWrite {
        kind: due.kind as i32,
        name: due.name.clone(),
        row,
        ..ScheduleWrite::default()
    });
    (firing, write)
}

#[cfg(test)]
mod tests {
    use ghostlight_protocol::actor::ActorKey;

    use super::*;

    fn due(kind: ScheduleKind, row: ScheduleRow, tick: u64) -> Due {
        Due {
            actor: ActorKey::new("default", "t", "a").unwrap(),
            kind,
            name: "n".to_owned(),
            row,
            tick: WallTime(tick),
            standing: Standing::Stands,
        }
    }

    fn row(due_ms: u64, period: &str, repetitions: Option<u32>) -> ScheduleRow {
        ScheduleRow {
            due_ms,
            period: period.to_owned(),
            repetitions,
            ..ScheduleRow::default()
        }
    }

    const FIRED: FiringEnd = FiringEnd::Fired(Wish::GoesOn);

    #[test]
    fn a_reminder_moves_to_its_next_tick_and_counts_what_it_missed() {
        for (period, repetitions, now, want) in [
            ("", None, 100, None),
            ("10ms", None, 100, Some((110, 0, None))),
            ("10ms", None, 105, Some((110, 0, None))),
            ("10ms", None, 135, Some((140, 3, None))),
            ("10ms", Some(1), 100, None),
            ("10ms", Some(3), 100, Some((110, 0, Some(2)))),
        ] {
            let due = due(ScheduleKind::Reminder, row(100, period, repetitions), 100);
            let after = row_after(&due, FIRED, WallTime(now)).unwrap();
            let got = after.map(|row| (row.due_ms, row.missed, row.repetitions));
            assert_eq!(got, want, "{period:?} {repetitions:?} at {now}");
        }
        let mut ends = due(ScheduleKind::Reminder, row(100, "10ms", None), 100);
        ends.row.ends_ms = 110;
        assert_eq!(row_after(&ends, FIRED, WallTime(100)), Some(None));
        assert_eq!(
            row_after(&ends, FiringEnd::Fired(Wish::Ends), WallTime(100)),
            Some(None)
        );
    }

    /// Dapr's default: one attempt and three retries, one second apart; then the tick is dropped.
    #[test]
    fn a_failing_reminder_is_tried_again_and_then_its_tick_is_dropped() {
        let mut row = row(100, "10s", None);
        let mut tries = Vec::new();
        let mut now = 100;
        loop {
            let tick = if row.tick_ms == 0 {
                row.due_ms
            } else {
                row.tick_ms
            };
            let due = due(ScheduleKind::Reminder, row, tick);
            let next = row_after(&due, FiringEnd::Failed, WallTime(now));
            row = next.unwrap().unwrap();
            tries.push((row.due_ms, row.attempts, row.dropped));
            now = row.due_ms;
            if row.dropped > 0 {
                break;
            }
        }
        assert_eq!(
            tries,
            [(1_100, 1, 0), (2_100, 2, 0), (3_100, 3, 0), (10_100, 0, 1)]
        );
        let drop_at_once = FailurePolicy {
            interval_ms: 0,
            retries_max: Some(0),
        };
        row.failure = Some(drop_at_once);
        row.period.clear();
        let due = due(ScheduleKind::Reminder, row, 10_100);
        assert_eq!(
            row_after(&due, FiringEnd::Failed, WallTime(now)),
            Some(None)
        );
    }

    #[test]
    fn a_timer_keeps_its_row_until_it_ends() {
        for (period, repetitions, tick, now, next) in [
            ("", None, 100, 100, None),
            ("10ms", None, 100, 100, Some(110)),
            ("10ms", None, 110, 139, Some(140)),
            ("10ms", Some(2), 100, 100, Some(110)),
            ("10ms", Some(2), 110, 110, None),
            ("10ms", Some(5), 100, 200, None),
        ] {
            let due = due(ScheduleKind::Timer, row(100, period, repetitions), tick);
            let text = format!("{period:?} {repetitions:?} {tick} at {now}");
            assert_eq!(next_tick(&due, WallTime(now)), next.map(WallTime), "{text}");
            let after = row_after(&due, FIRED, WallTime(now));
            assert_eq!(after, next.is_none().then_some(None), "{text}");
            assert_eq!(row_after(&due, FiringEnd::Failed, WallTime(now)), after);
        }
    }

    #[test]
    fn every_attempt_of_a_tick_has_an_id_of_its_own() {
        let first = due(ScheduleKind::Reminder, row(100, "10ms", None), 100);
        let mut again = first.clone();
        again.row.attempts = 1;
        let id = |due: &Due| wakeup_request(PartitionId(3), due);
        assert_eq!(id(&first), id(&first.clone()));
        assert_ne!(id(&first), id(&again));
    }
}
