//! When reminders and timers of a partition are due, during one leadership.
//!
//! Reminders stand in the store in the order in which they are due. A *walk* over that order takes
//! what is due and may fire; what may not, because its actor or its type has enough firings or
//! cannot be called, is *held* until there is room. Where too many are held it is passed over, and
//! a later walk goes back for it. A timer's row says when it fired first; when it fires next is
//! kept in memory here. A tick that nobody fired in time fires once. Absent: the clock (the
//! calendar comes in with each input), what a firing does, and what becomes of its row.

mod firings;
mod held;
mod shared;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::{ScheduleKind, ScheduleRow, ScheduleWrite};
use ghostlight_protocol::family::{self, DueKind, Family};
use ghostlight_protocol::time::{Instant, WallTime};
use prost::Message;

pub use self::firings::FIRINGS_MAX;
use self::firings::{Bound, Firings, Moved, Says};
use self::held::{Batches, Held};
use self::shared::Shared;
pub use self::shared::{NODE_FIRINGS_MAX, SharedFirings, rotation};
use self::timers::Timers;
use crate::io::Rest;
use crate::turns::{Due, RowsWanted, Standing, WakeupEnd};

/// Rows of one read.
const PAGE_ROWS: usize = 512;
/// After a walk back over so many pages, the next one begins later by that for each but the first.
const PAGE_PAUSE: Duration = Duration::from_millis(10);
/// While most places for held reminders are taken, or most firings that there may be run, a walk
/// back is of use to few, and is made the more seldom.
const CROWDED_PAUSE: Duration = Duration::from_millis(100);
/// Timers that are looked at for one input.
const STEPS_MAX: usize = 4_096;

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
    Over(Box<Due>, WakeupEnd),
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
    /// From when on no walk has looked at the reminders; `None`: there are none.
    next: Option<u64>,
    /// When the first reminder is due that was passed over; `None`: none was.
    passed: Option<u64>,
    /// Why some were passed over.
    bounds: BTreeSet<Bound>,
    /// No walk goes back before this.
    back_at: Instant,
    /// Reminders that are due and wait for room.
    held: Held,
    /// Rows of reminders that try for their types.
    tries: VecDeque<Bytes>,
    reminders: Firings,
    timers: Timers,
    timer_firings: Firings,
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
        /// What was set or removed since the read began.
        changed: BTreeSet<Bytes>,
    },
    Nothing,
    Walk(Walk),
    /// Rows of reminders that are about to fire, and the walk that goes on after that.
    Reminders {
        keys: VecDeque<Bytes>,
        walk: Option<Walk>,
    },
}

/// Which of those that wait for the same a reminder comes before.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// All: it was held the longest.
    Oldest,
    /// None: where they wait, it waits too, or they would never fire while others become due.
    BehindHeld,
}

/// Whether a reminder has begun to fire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begun {
    Yes,
    No,
}

/// Over the reminders that are due.
#[derive(Debug)]
struct Walk {
    /// From after this row.
    after: Bytes,
    pages: u32,
}

impl Wakeups {
    /// Begins with a leadership: all timers are read, and what is due is looked at.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read: Read::TimersWanted(None),
            next: Some(0),
            passed: None,
            bounds: BTreeSet::new(),
            back_at: Instant(0),
            held: Held::default(),
            tries: VecDeque::new(),
            reminders: Firings::default(),
            timers: Timers::default(),
            timer_firings: Firings::default(),
        }
    }

    /// Counts what it has under way, and what waits, among all of its node.
    pub fn count_among(&self, node: &mut SharedFirings) {
        let mut waiting: BTreeSet<&str> = self.bounds.iter().filter_map(Bound::of_type).collect();
        waiting.extend(self.held.types().map(String::as_str));
        self.reminders.count_among(&mut node.reminders, waiting);
        let waiting = self.timers.waiting().filter_map(Bound::of_type);
        self.timer_firings
            .count_among(&mut node.timers, waiting.collect());
    }

    /// Feeds one input; `wall` is a calendar clock that can be believed, `node` what runs in all
    /// partitions.
    pub fn handle(
        &mut self,
        now: Instant,
        wall: WallTime,
        node: &mut SharedFirings,
        input: WakeupsInput,
        out: &mut Vec<WakeupsEffect>,
    ) {
        let batches = match input {
            WakeupsInput::Tick => Batches::Any,
            _ => Batches::Large,
        };
        match input {
            WakeupsInput::Tick => {}
            WakeupsInput::Rows { rows, rest } => self.on_rows((now, wall), node, rows, rest, out),
            WakeupsInput::Scheduled(actor, writes) => self.on_scheduled(wall, &actor, writes),
            WakeupsInput::Over(due, end) => self.on_over((now, wall), node, &due, end),
        }
        self.try_rested(now, &mut node.reminders);
        self.fire_timers(wall, &mut node.timers, out);
        self.look((now, wall), batches, &mut node.reminders, out);
    }

    /// Of each type that has rested, one firing tries.
    fn try_rested(&mut self, now: Instant, node: &mut Shared) {
        for row in self.reminders.rested(now) {
            if let Some((actor, ..)) = family::parse_schedule_key(&row)
                && !self.reminders.contains(&row)
                && self.reminders.bound(node, &actor).is_none()
            {
                self.reminders.begin(node, row.clone(), &actor);
                self.tries.push_back(row);
            }
        }
        // A held timer tries for its type.
        self.timer_firings.rested(now);
    }

    /// Begins a read, if one is needed and none is under way.
    fn look(
        &mut self,
        (now, wall): (Instant, WallTime),
        batches: Batches,
        node: &mut Shared,
        out: &mut Vec<WakeupsEffect>,
    ) {
        if let Read::TimersWanted(after) = &mut self.read {
            let after = after.take();
            self.read = Read::TimersDue;
            return out.push(scan(DueKind::Timer, after));
        }
        if !matches!(self.read, Read::Nothing) {
            return;
        }
        if !self.tries.is_empty() {
            let keys = std::mem::take(&mut self.tries);
            return self.read_reminders(keys, None, out);
        }
        if self.reminders.is_crowded() {
            return;
        }
        let keys = self.release(batches, node);
        let walk = self.wanted_walk(now, wall, node);
        match (keys.is_empty(), walk) {
            (false, walk) => self.read_reminders(keys, walk, out),
            (true, Some(walk)) => self.walk(walk, out),
            (true, None) => {}
        }
    }

    /// Those of the held reminders for which there is room begin.
    fn release(&mut self, batches: Batches, node: &mut Shared) -> VecDeque<Bytes> {
        let mut keys = VecDeque::new();
        for (due, key) in self.held.release(batches, &self.reminders, node) {
            if self.reminders.contains(&key) {
                continue; // It tried for its type; if it could not start, it is held again.
            }
            if self.begin_or_wait(node, due, &key, Order::Oldest) == Begun::Yes {
                keys.push_back(key);
            }
        }
        keys
    }

    /// A walk over what nobody has looked at, or back to what was passed over, if there is any.
    fn wanted_walk(&mut self, now: Instant, wall: WallTime, node: &Shared) -> Option<Walk> {
        let ahead = self.next.filter(|next| *next <= wall.0);
        // What is held comes before what was passed over.
        let mut free = self.bounds.iter().filter(|b| !self.held.waits_for(b));
        let wanted = free.any(|bound| {
            let few = self.held.is_crowded() || !self.reminders.is_roomy(node, bound);
            let pause = if few { CROWDED_PAUSE } else { Duration::ZERO };
            now >= self.back_at + pause && self.reminders.room(node, bound) > 0
        });
        let back = self.passed.filter(|_| wanted);
        let from = back.into_iter().chain(ahead).min()?;
        self.next = None;
        if back.is_some() {
            self.passed = None;
            self.bounds.clear();
        }
        let after = family::due_row_key(DueKind::Reminder, from, b"");
        Some(Walk { after, pages: 0 })
    }

    /// What older reminders wait for that one of this actor must not overtake.
    fn waits_before(&self, actor: &ActorKey) -> Option<Bound> {
        let of_type = Bound::Type(actor.actor_type().to_owned());
        let bounds = [of_type, Bound::Actor(actor.clone())];
        let passed = bounds.into_iter().find(|b| self.bounds.contains(b));
        passed.or_else(|| self.held.before(actor))
    }

    /// A reminder that is due begins to fire, or waits for what keeps it from it.
    fn begin_or_wait(&mut self, node: &mut Shared, due: u64, key: &Bytes, order: Order) -> Begun {
        let Some((actor, ..)) = family::parse_schedule_key(key) else {
            return Begun::No;
        };
        let older = match order {
            Order::BehindHeld => self.waits_before(&actor),
            Order::Oldest => None,
        };
        match older.or_else(|| self.reminders.bound(node, &actor)) {
            None => {
                self.reminders.begin(node, key.clone(), &actor);
                return Begun::Yes;
            }
            Some(Bound::Partition) => self.expect(due),
            Some(bound) => self.wait(due, key, bound),
        }
        Begun::No
    }

    fn walk(&mut self, walk: Walk, out: &mut Vec<WakeupsEffect>) {
        out.push(scan(DueKind::Reminder, Some(walk.after.clone())));
        self.read = Read::Walk(walk);
    }

    fn read_reminders(
        &mut self,
        keys: VecDeque<Bytes>,
        walk: Option<Walk>,
        out: &mut Vec<WakeupsEffect>,
    ) {
        out.push(read_rows(&keys));
        self.read = Read::Reminders { keys, walk };
    }

    fn on_rows(
        &mut self,
        (now, wall): (Instant, WallTime),
        node: &mut SharedFirings,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<WakeupsEffect>,
    ) {
        match std::mem::replace(&mut self.read, Read::Nothing) {
            Read::TimersDue => self.on_timers_due(&rows, rest, out),
            Read::TimerRows {
                keys,
                after,
                changed,
            } => {
                for (key, (_, value)) in keys.into_iter().zip(rows) {
                    let newer = self.timers.contains(&key) || changed.contains(&key);
                    if let Some(value) = value.filter(|_| !newer) {
                        let row = ScheduleRow::decode(value).unwrap_or_default();
                        self.timers.set(wall, key, row);
                    }
                }
                if let Some(after) = after {
                    self.read = Read::TimersWanted(Some(after));
                }
            }
            Read::Walk(walk) => {
                self.on_page((now, wall), &mut node.reminders, walk, (&rows, rest), out)
            }
            Read::Reminders { keys, walk } => {
                for (key, (_, value)) in keys.into_iter().zip(rows) {
                    let row = value.map(|value| ScheduleRow::decode(value).unwrap_or_default());
                    self.fire_reminder((now, wall), &mut node.reminders, &key, row, out);
                }
                if let Some(walk) = walk {
                    self.walk(walk, out);
                }
            }
            read @ (Read::Nothing | Read::TimersWanted(_)) => self.read = read,
        }
    }

    fn on_timers_due(
        &mut self,
        rows: &[(Bytes, Option<Bytes>)],
        rest: Rest,
        out: &mut Vec<WakeupsEffect>,
    ) {
        let after = rows.last().map(|(key, _)| key.clone());
        let after = after.filter(|_| rest == Rest::More);
        let due = rows
            .iter()
            .filter_map(|(k, _)| family::parse_due_row_key(k));
        let keys: VecDeque<Bytes> = due.map(|(_, key)| key).collect();
        if !keys.is_empty() {
            out.push(read_rows(&keys));
            let changed = BTreeSet::new();
            self.read = Read::TimerRows {
                keys,
                after,
                changed,
            };
        }
    }

    /// A page of a walk.
    fn on_page(
        &mut self,
        (now, wall): (Instant, WallTime),
        node: &mut Shared,
        walk: Walk,
        (rows, rest): (&[(Bytes, Option<Bytes>)], Rest),
        out: &mut Vec<WakeupsEffect>,
    ) {
        let mut keys = VecDeque::new();
        let last = rows.last().map(|(key, _)| key.clone());
        let mut after = last.filter(|_| rest == Rest::More);
        for (key, _) in rows {
            let Some((due, key)) = family::parse_due_row_key(key) else {
                continue;
            };
            if due > wall.0 {
                self.expect(due);
                after = None;
                break;
            }
            if self.reminders.contains(&key) || self.held.contains(&key) {
                continue;
            }
            if self.reminders.room(node, &Bound::Partition) == 0 {
                self.expect(due);
                after = None;
                break;
            }
            if self.begin_or_wait(node, due, &key, Order::BehindHeld) == Begun::Yes {
                keys.push_back(key);
            }
        }
        let walk = match after {
            Some(after) => Some(Walk {
                after,
                pages: walk.pages + 1,
            }),
            None => {
                self.back_at = now + PAGE_PAUSE * walk.pages;
                None
            }
        };
        match (keys.is_empty(), walk) {
            (false, walk) => self.read_reminders(keys, walk, out),
            (true, Some(walk)) => self.walk(walk, out),
            (true, None) => {}
        }
    }

    /// It is held, if there is a place, and nothing older was passed over for the same.
    fn wait(&mut self, due: u64, key: &Bytes, bound: Bound) {
        if self.held.has_place(&bound) && !self.bounds.contains(&bound) {
            return self.held.hold((due, key.clone()), &bound);
        }
        self.passed = Some(self.passed.map_or(due, |passed| passed.min(due)));
        self.bounds.insert(bound);
    }

    fn expect(&mut self, due: u64) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    /// `None`: it was removed between the two reads.
    fn fire_reminder(
        &mut self,
        (now, wall): (Instant, WallTime),
        node: &mut Shared,
        key: &Bytes,
        row: Option<ScheduleRow>,
        out: &mut Vec<WakeupsEffect>,
    ) {
        let Some((actor, kind, name)) = family::parse_schedule_key(key) else {
            return;
        };
        // What was written since is expected already.
        let row = row.filter(|_| !self.reminders.has_moved(key));
        if let Some(row) = row.as_ref().filter(|row| row.due_ms > wall.0) {
            self.expect(row.due_ms);
        }
        let Some(row) = row.filter(|row| row.due_ms <= wall.0) else {
            let ended = (key, &actor);
            self.reminders.end(node, now, ended, Says::Nothing);
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
            match (kind, write.row) {
                (ScheduleKind::Reminder, row) => {
                    self.reminders.row_moved(&key);
                    if let Some(row) = row {
                        self.expect(row.due_ms);
                    }
                }
                (ScheduleKind::Timer, row) => {
                    self.timer_firings.row_moved(&key);
                    if let Read::TimerRows { changed, .. } = &mut self.read {
                        changed.insert(key.clone());
                    }
                    self.timers.remove(&key);
                    if let Some(row) = row {
                        self.timers.set(wall, key, row);
                    }
                }
            }
        }
    }

    fn on_over(
        &mut self,
        (now, wall): (Instant, WallTime),
        node: &mut SharedFirings,
        due: &Due,
        end: WakeupEnd,
    ) {
        let key = family::schedule_key(&due.actor, due.kind, &due.name);
        match due.kind {
            ScheduleKind::Reminder => {
                // A reminder that was called has another row, or none.
                let says = match (self.reminders.has_moved(&key), end) {
                    (false, _) | (true, WakeupEnd::NotCalled) => Says::Unfit,
                    (true, WakeupEnd::Called) => Says::Fit,
                    (true, WakeupEnd::Overtaken) => Says::Nothing,
                };
                let ended = (&key, &due.actor);
                let moved = self.reminders.end(&mut node.reminders, now, ended, says);
                if moved == Some(Moved::No) {
                    let of_type = Bound::Type(due.actor.actor_type().to_owned());
                    self.wait(due.row.due_ms, &key, of_type);
                }
            }
            ScheduleKind::Timer => {
                let says = match end {
                    WakeupEnd::Called => Says::Fit,
                    WakeupEnd::NotCalled => Says::Unfit,
                    WakeupEnd::Overtaken => Says::Nothing,
                };
                let ended = (&key, &due.actor);
                match self.timer_firings.end(&mut node.timers, now, ended, says) {
                    Some(Moved::No) => self.timers.over(wall, key, due),
                    Some(Moved::Yes) => self.timers.earlier_over(&key),
                    None => {}
                }
            }
        }
    }

    fn fire_timers(&mut self, wall: WallTime, node: &mut Shared, out: &mut Vec<WakeupsEffect>) {
        self.timers.release(node, &self.timer_firings);
        for _ in 0..STEPS_MAX {
            if self.timer_firings.room(node, &Bound::Partition) == 0 {
                return;
            }
            let Some((key, due)) = self.timers.pop(wall) else {
                return;
            };
            if self.timer_firings.contains(&key) {
                continue; // Until the firing of the row before is over.
            }
            match self.timer_firings.bound(node, &due.actor) {
                Some(bound) => self.timers.hold(key, bound),
                None => {
                    self.timer_firings.begin(node, key, &due.actor);
                    out.push(WakeupsEffect::Fire(Box::new(due)));
                }
            }
        }
    }
}

impl Default for Wakeups {
    fn default() -> Self {
        Self::new()
    }
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
