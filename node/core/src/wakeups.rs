//! When reminders and timers of a partition are due, during one leadership.
//!
//! Reminders stand in the store in the order in which they are due: what is due now is read from the front,
//! and nothing else is looked at, however many there are. A timer's row says when it fired first; when it
//! fires next is kept in memory here. A tick that nobody fired in time fires once.
//! Absent: the clock (the calendar comes in with each input), what a firing does, and what becomes of its row.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::{ScheduleKind, ScheduleRow, ScheduleWrite};
use ghostlight_protocol::family::{self, DueKind, Family};
use ghostlight_protocol::time::{Instant, WallTime};
use prost::Message;

use crate::io::Rest;
use crate::turns::{Due, RowsWanted, Standing, next_tick};

/// Firings of one partition that run at the same time.
pub const FIRINGS_MAX: usize = 256;
/// Rows of one read. More than can run, so that what runs does not hide what waits behind it.
const PAGE_ROWS: usize = 2 * FIRINGS_MAX;
/// Timers of one partition in memory; those beyond it fire when there is room again after an opening.
const TIMERS_MAX: usize = 262_144;
/// Pause before what could not start is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// What it is fed.
#[derive(Clone, PartialEq, Debug)]
pub enum WakeupsInput {
    /// Time has passed.
    Tick,
    /// The rows of its read.
    Rows {
        /// Key and value; `None` for a wanted key that is absent.
        rows: Vec<(Bytes, Option<Bytes>)>,
        /// Of a scan, whether more may follow.
        rest: Rest,
    },
    /// Reminders and timers of an actor that were set or removed.
    Scheduled(ActorKey, Vec<ScheduleWrite>),
    /// A firing is over.
    Over(Box<Due>),
}

/// What it wants.
#[derive(Clone, PartialEq, Debug)]
pub enum WakeupsEffect {
    /// Read committed rows.
    Read(RowsWanted),
    /// Run this.
    Fire(Box<Due>),
}

/// See the module.
#[derive(Debug)]
pub struct Wakeups {
    read: Read,
    /// When the first reminder is due that does not run; `None`: there is none.
    next: Option<u64>,
    /// Not before this: something could not start.
    again: Option<Instant>,
    running: BTreeMap<Bytes, Moved>,
    timers: BTreeMap<Bytes, Timer>,
    order: BTreeSet<(u64, Bytes)>,
}

#[derive(Debug)]
struct Timer {
    next: u64,
    row: ScheduleRow,
}

/// Whether the row of a running firing was written since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moved {
    No,
    Yes,
}

/// The read that is under way.
#[derive(Debug)]
enum Read {
    /// The timers must be read first, from after this key.
    TimersWanted(Option<Bytes>),
    TimersDue,
    TimerRows {
        keys: VecDeque<Bytes>,
        after: Option<Bytes>,
    },
    Nothing,
    RemindersDue,
    ReminderRows(VecDeque<Bytes>),
}

impl Wakeups {
    /// Begins with a leadership: all timers are read, and what is due is looked at.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read: Read::TimersWanted(None),
            next: Some(0),
            again: None,
            running: BTreeMap::new(),
            timers: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Feeds one input; `wall` is a calendar clock that can be believed.
    pub fn handle(
        &mut self,
        now: Instant,
        wall: WallTime,
        input: WakeupsInput,
        out: &mut Vec<WakeupsEffect>,
    ) {
        match input {
            WakeupsInput::Tick => {}
            WakeupsInput::Rows { rows, rest } => self.on_rows(wall, rows, rest, out),
            WakeupsInput::Scheduled(actor, writes) => self.on_scheduled(wall, &actor, writes),
            WakeupsInput::Over(due) => self.on_over(now, wall, &due),
        }
        self.fire_timers(wall, out);
        self.look(now, wall, out);
        assert!(self.running.len() <= 2 * FIRINGS_MAX, "firings are bounded");
    }

    /// Begins a read, if one is needed and none is under way.
    fn look(&mut self, now: Instant, wall: WallTime, out: &mut Vec<WakeupsEffect>) {
        if let Read::TimersWanted(after) = &mut self.read {
            let after = after.take();
            self.read = Read::TimersDue;
            return out.push(scan(DueKind::Timer, after));
        }
        if !matches!(self.read, Read::Nothing) {
            return;
        }
        if self.again.is_some_and(|again| again <= now) {
            self.again = None;
            self.next = Some(0);
        }
        let due = self.next.is_some_and(|next| next <= wall.0);
        if due && self.running.len() < FIRINGS_MAX / 2 {
            self.read = Read::RemindersDue;
            out.push(scan(DueKind::Reminder, None));
        }
    }

    fn on_rows(
        &mut self,
        wall: WallTime,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<WakeupsEffect>,
    ) {
        match std::mem::replace(&mut self.read, Read::Nothing) {
            Read::TimersDue => {
                let after = rows.last().map(|(key, _)| key.clone());
                let after = after.filter(|_| rest == Rest::More);
                let due = rows
                    .iter()
                    .filter_map(|(k, _)| family::parse_due_row_key(k));
                let keys: VecDeque<Bytes> = due.map(|(_, key)| key).collect();
                if !keys.is_empty() {
                    out.push(read_rows(&keys));
                    self.read = Read::TimerRows { keys, after };
                }
            }
            Read::TimerRows { keys, after } => {
                for (key, (_, value)) in keys.into_iter().zip(rows) {
                    if let Some(value) = value {
                        let row = ScheduleRow::decode(value).unwrap_or_default();
                        self.arm_first(wall, key, row);
                    }
                }
                if let Some(after) = after {
                    self.read = Read::TimersWanted(Some(after));
                }
            }
            Read::RemindersDue => self.on_due(wall, &rows, rest, out),
            Read::ReminderRows(keys) => {
                for (key, (_, value)) in keys.into_iter().zip(rows) {
                    let row = value.map(|value| ScheduleRow::decode(value).unwrap_or_default());
                    self.fire_reminder(wall, &key, row, out);
                }
            }
            read @ (Read::Nothing | Read::TimersWanted(_)) => self.read = read,
        }
    }

    fn on_due(
        &mut self,
        wall: WallTime,
        rows: &[(Bytes, Option<Bytes>)],
        rest: Rest,
        out: &mut Vec<WakeupsEffect>,
    ) {
        let mut keys = VecDeque::new();
        let room = FIRINGS_MAX - self.running.len();
        self.next = (rest == Rest::More).then_some(0);
        for (key, _) in rows {
            let Some((due, key)) = family::parse_due_row_key(key) else {
                continue;
            };
            if due > wall.0 || keys.len() == room {
                self.next = Some(due);
                break;
            }
            if !self.running.contains_key(&key) {
                keys.push_back(key);
            }
        }
        if keys.is_empty() {
            return;
        }
        for key in &keys {
            self.running.insert(key.clone(), Moved::No);
        }
        out.push(read_rows(&keys));
        self.read = Read::ReminderRows(keys);
    }

    /// `None`: it was removed between the two reads.
    fn fire_reminder(
        &mut self,
        wall: WallTime,
        key: &Bytes,
        row: Option<ScheduleRow>,
        out: &mut Vec<WakeupsEffect>,
    ) {
        let due = row.filter(|row| row.due_ms <= wall.0);
        let parsed = family::parse_schedule_key(key);
        let (Some(row), Some((actor, kind, name))) = (due, parsed) else {
            self.running.remove(key);
            self.next = Some(0);
            return;
        };
        let tick = if row.tick_ms > 0 {
            row.tick_ms
        } else {
            row.due_ms
        };
        out.push(WakeupsEffect::Fire(Box::new(Due {
            actor,
            kind,
            name,
            row,
            tick: WallTime(tick),
            standing: Standing::Stands,
        })));
    }

    fn on_scheduled(&mut self, wall: WallTime, actor: &ActorKey, writes: Vec<ScheduleWrite>) {
        for write in writes {
            let kind = write.kind();
            let key = family::schedule_key(actor, kind, &write.name);
            if let Some(moved) = self.running.get_mut(&key) {
                *moved = Moved::Yes;
            }
            match (kind, write.row) {
                (ScheduleKind::Reminder, Some(row)) => self.expect(row.due_ms),
                (ScheduleKind::Reminder, None) => {}
                (ScheduleKind::Timer, row) => {
                    self.disarm(&key);
                    if let Some(row) = row {
                        self.arm_first(wall, key, row);
                    }
                }
            }
        }
    }

    fn expect(&mut self, due: u64) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    fn on_over(&mut self, now: Instant, wall: WallTime, due: &Due) {
        let key = family::schedule_key(&due.actor, due.kind, &due.name);
        let moved = self.running.remove(&key);
        match due.kind {
            ScheduleKind::Reminder if moved == Some(Moved::No) => {
                self.again.get_or_insert(now + AGAIN);
            }
            ScheduleKind::Reminder => {}
            ScheduleKind::Timer => {
                let armed = self.timers.contains_key(&key);
                if let (true, Some(next)) = (armed, next_tick(due, wall)) {
                    self.arm(key, next.0, due.row.clone());
                }
            }
        }
    }

    /// A timer that is new here: what it missed is not made up for.
    fn arm_first(&mut self, wall: WallTime, key: Bytes, row: ScheduleRow) {
        if row.due_ms > wall.0 || row.period.is_empty() {
            return self.arm(key, row.due_ms, row);
        }
        let Some(due) = timer_due(&key, row, WallTime(0)) else {
            return;
        };
        let due = Due {
            tick: WallTime(due.row.due_ms),
            ..due
        };
        // One that has ended is fired once more, which is what ends its row.
        let next = next_tick(&due, wall).map_or(wall.0, |next| next.0);
        self.arm(key, next, due.row);
    }

    fn arm(&mut self, key: Bytes, next: u64, row: ScheduleRow) {
        self.disarm(&key);
        if self.timers.len() < TIMERS_MAX {
            self.order.insert((next, key.clone()));
            self.timers.insert(key, Timer { next, row });
        }
    }

    fn disarm(&mut self, key: &Bytes) {
        if let Some(timer) = self.timers.remove(key) {
            self.order.remove(&(timer.next, key.clone()));
        }
    }

    fn fire_timers(&mut self, wall: WallTime, out: &mut Vec<WakeupsEffect>) {
        while self.running.len() < 2 * FIRINGS_MAX
            && let Some((next, key)) = self.order.first().cloned()
            && next <= wall.0
        {
            self.order.pop_first();
            let Some(timer) = self.timers.get(&key) else {
                continue;
            };
            // Armed again when it is over.
            if let Some(due) = timer_due(&key, timer.row.clone(), WallTime(next)) {
                self.running.insert(key, Moved::No);
                out.push(WakeupsEffect::Fire(Box::new(due)));
            }
        }
    }
}

impl Default for Wakeups {
    fn default() -> Self {
        Self::new()
    }
}

fn timer_due(key: &Bytes, row: ScheduleRow, tick: WallTime) -> Option<Due> {
    let (actor, kind, name) = family::parse_schedule_key(key)?;
    Some(Due {
        actor,
        kind,
        name,
        row,
        tick,
        standing: Standing::Stands,
    })
}

fn scan(kind: DueKind, after: Option<Bytes>) -> WakeupsEffect {
    WakeupsEffect::Read(RowsWanted::Scan {
        family: Family::Due,
        prefix: family::due_row_prefix(kind),
        after,
        limit: PAGE_ROWS,
    })
}

fn read_rows(keys: &VecDeque<Bytes>) -> WakeupsEffect {
    let keys = keys.iter().map(|key| (Family::Schedule, key.clone()));
    WakeupsEffect::Read(RowsWanted::Keys(keys.collect()))
}
