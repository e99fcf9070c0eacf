//! The timers of a partition, in the order in which they fire next.
//!
//! A timer's row says when it fired first, and stays as it was set. One whose actor or type has as
//! many firings as it may is *held* until there is room, and is in nobody's way. Absent: reading
//! the rows.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ghostlight_protocol::command::ScheduleRow;
use ghostlight_protocol::family;
use ghostlight_protocol::time::WallTime;

use super::firings::{AGAIN, Bound, Firings};
use super::shared::Shared;
use crate::turns::{Due, Standing, next_tick};

/// Timers of one partition in memory; those beyond it fire when there is room again after an
/// opening.
const TIMERS_MAX: usize = 262_144;

#[derive(Debug, Default)]
pub(super) struct Timers {
    timers: BTreeMap<Bytes, Timer>,
    order: BTreeSet<(u64, Bytes)>,
    held: BTreeMap<Bound, BTreeSet<(u64, Bytes)>>,
}

#[derive(Debug)]
struct Timer {
    row: ScheduleRow,
    /// The tick that is due next.
    tick: u64,
    /// When it is looked at: with its tick, or later.
    at: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Ordered,
    Held(Bound),
    /// It fires, or one of the same name does that was set before it.
    Out,
}

impl Timers {
    pub(super) fn contains(&self, key: &Bytes) -> bool {
        self.timers.contains_key(key)
    }

    /// A timer that is new here: what it missed is not made up for.
    pub(super) fn set(&mut self, wall: WallTime, key: Bytes, row: ScheduleRow) {
        if row.due_ms > wall.0 || row.period.is_empty() {
            return self.arm(key, row.due_ms, row.due_ms, row);
        }
        let Some(due) = due_of(&key, row.clone(), row.due_ms) else {
            return;
        };
        // One that has ended is due once more, which is what ends its row.
        let next = next_tick(&due, wall).map_or(wall.0, |next| next.0);
        self.arm(key, next, next, row);
    }

    fn arm(&mut self, key: Bytes, tick: u64, at: u64, row: ScheduleRow) {
        self.remove(&key);
        if self.timers.len() < TIMERS_MAX {
            self.order.insert((at, key.clone()));
            let place = Place::Ordered;
            let timer = Timer {
                row,
                tick,
                at,
                place,
            };
            self.timers.insert(key, timer);
        }
    }

    pub(super) fn remove(&mut self, key: &Bytes) {
        let Some(timer) = self.timers.remove(key) else {
            return;
        };
        let entry = (timer.at, key.clone());
        match timer.place {
            Place::Ordered => {
                self.order.remove(&entry);
            }
            Place::Held(bound) => {
                if let Some(held) = self.held.get_mut(&bound) {
                    held.remove(&entry);
                }
            }
            Place::Out => {}
        }
    }

    /// Takes out the first that is due.
    pub(super) fn pop(&mut self, wall: WallTime) -> Option<(Bytes, Due)> {
        while let Some((at, _)) = self.order.first()
            && *at <= wall.0
            && let Some((_, key)) = self.order.pop_first()
        {
            if let Some(timer) = self.timers.get_mut(&key) {
                timer.place = Place::Out;
                if let Some(due) = due_of(&key, timer.row.clone(), timer.tick) {
                    return Some((key, due));
                }
            }
        }
        None
    }

    /// What was popped waits for room.
    pub(super) fn hold(&mut self, key: Bytes, bound: Bound) {
        if let Some(timer) = self.timers.get_mut(&key) {
            timer.place = Place::Held(bound.clone());
            let held = self.held.entry(bound).or_default();
            held.insert((timer.at, key));
        }
    }

    /// What held timers wait for.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Bound> {
        self.held.keys()
    }

    /// As many of the held are looked at again as there is room for.
    pub(super) fn release(&mut self, node: &Shared, firings: &Firings) {
        let Self {
            timers,
            order,
            held,
        } = self;
        held.retain(|bound, held| {
            for _ in 0..firings.room(node, bound) {
                let Some((at, key)) = held.pop_first() else {
                    break;
                };
                if let Some(timer) = timers.get_mut(&key) {
                    timer.place = Place::Ordered;
                    order.insert((at, key));
                }
            }
            !held.is_empty()
        });
    }

    /// A firing is over, and its row is not known to be another one: the next tick, or this one
    /// again if its row is still there without one.
    pub(super) fn over(&mut self, wall: WallTime, key: Bytes, due: &Due) {
        if !self.contains(&key) {
            return;
        }
        match next_tick(due, wall) {
            Some(next) => self.arm(key, next.0, next.0, due.row.clone()),
            None => {
                let again = wall.0.saturating_add(AGAIN.as_millis() as u64);
                self.arm(key, due.tick.0, again, due.row.clone());
            }
        }
    }

    /// The firing of an earlier row of this name is over.
    pub(super) fn earlier_over(&mut self, key: &Bytes) {
        if let Some(timer) = self.timers.get_mut(key)
            && matches!(timer.place, Place::Out)
        {
            timer.place = Place::Ordered;
            self.order.insert((timer.at, key.clone()));
        }
    }
}

fn due_of(key: &Bytes, row: ScheduleRow, tick: u64) -> Option<Due> {
    let (actor, kind, name) = family::parse_schedule_key(key)?;
    Some(Due {
        actor,
        kind,
        name,
        row,
        tick: WallTime(tick),
        standing: Standing::Stands,
    })
}
