//! Reminders that are due and wait for room, the oldest of each type first.
//!
//! A walk that meets what may not fire yet leaves it here, so that no other walk has to read all
//! that is due to find it again. It has a bound; what finds no place is passed over, and a walk
//! goes back for it. Absent: the rows, which are read when they fire, for they may have changed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;

use super::firings::{Bound, Firings};
use super::shared::Shared;

/// Reminders of one partition that are held, some 250 bytes each.
pub(super) const HELD_MAX: usize = 512;
/// Of these, what waits for the same: an application that hangs leaves a place to the others.
const FOR_ONE_MAX: usize = HELD_MAX / 2;

/// How many are released at once: their rows are read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Batches {
    /// All that wait, or as many as half of what may run.
    Large,
    /// Whatever there is room for: where many firings hang, there is never more.
    Any,
}

impl Batches {
    /// Whether so many of those that wait for this are worth a read.
    fn are_worth(self, firings: &Firings, node: &Shared, bound: &Bound, waiting: usize) -> bool {
        let room = firings.room(node, bound);
        let all = room >= waiting || firings.is_roomy(node, bound);
        room > 0 && (all || self == Self::Any)
    }
}

/// When it is due, and its key.
type Row = (u64, Bytes);

#[derive(Debug, Default)]
pub(super) struct Held {
    keys: BTreeSet<Bytes>,
    types: BTreeMap<String, OfType>,
}

#[derive(Debug, Default)]
struct OfType {
    /// That wait for the type.
    rows: BTreeSet<Row>,
    /// That wait for their actor.
    actors: BTreeMap<ActorKey, BTreeSet<Row>>,
}

impl OfType {
    fn of(&self, actor: Option<&ActorKey>) -> Option<&BTreeSet<Row>> {
        match actor {
            Some(actor) => self.actors.get(actor),
            None => Some(&self.rows),
        }
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.actors.is_empty()
    }

    fn len(&self) -> usize {
        self.rows.len() + self.actors.values().map(BTreeSet::len).sum::<usize>()
    }

    /// The oldest for which there is room: of the type, and of each actor for itself.
    fn oldest(
        &self,
        batches: Batches,
        firings: &Firings,
        node: &Shared,
        name: &str,
    ) -> Vec<(Row, Option<ActorKey>)> {
        let of_type = Bound::Type(name.to_owned());
        if !batches.are_worth(firings, node, &of_type, self.len()) {
            return Vec::new();
        }
        let room = firings.room(node, &of_type);
        let mut oldest: Vec<_> = self
            .rows
            .iter()
            .take(room)
            .map(|row| (row.clone(), None))
            .collect();
        for (actor, rows) in &self.actors {
            let bound = Bound::Actor(actor.clone());
            if batches.are_worth(firings, node, &bound, rows.len()) {
                let rows = rows.iter().take(firings.room(node, &bound));
                oldest.extend(rows.map(|row| (row.clone(), Some(actor.clone()))));
            }
        }
        oldest.sort_unstable();
        oldest.truncate(room);
        oldest
    }
}

impl Held {
    pub(super) fn contains(&self, key: &Bytes) -> bool {
        self.keys.contains(key)
    }

    /// More than half of the places are taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.keys.len() > HELD_MAX / 2
    }

    /// Types for which something waits.
    pub(super) fn types(&self) -> impl Iterator<Item = &String> {
        self.types.keys()
    }

    /// Whether something waits for just this.
    pub(super) fn waits_for(&self, bound: &Bound) -> bool {
        self.rows(bound).is_some_and(|rows| !rows.is_empty())
    }

    fn rows(&self, bound: &Bound) -> Option<&BTreeSet<Row>> {
        match bound {
            Bound::Partition => None,
            Bound::Type(name) => self.types.get(name)?.of(None),
            Bound::Actor(actor) => self.types.get(actor.actor_type())?.of(Some(actor)),
        }
    }

    /// What reminders wait for that come before one of this actor.
    pub(super) fn before(&self, actor: &ActorKey) -> Option<Bound> {
        let of_type = self.types.get(actor.actor_type())?;
        if of_type.actors.contains_key(actor) {
            return Some(Bound::Actor(actor.clone()));
        }
        let waits = !of_type.rows.is_empty();
        waits.then(|| Bound::Type(actor.actor_type().to_owned()))
    }

    /// Whether there is a place for what waits for this.
    pub(super) fn has_place(&self, bound: &Bound) -> bool {
        let same = self.rows(bound).map_or(0, BTreeSet::len);
        *bound != Bound::Partition && self.keys.len() < HELD_MAX && same < FOR_ONE_MAX
    }

    /// Holds what is due; there must be a place for it.
    pub(super) fn hold(&mut self, row: Row, bound: &Bound) {
        assert!(self.has_place(bound), "held reminders are bounded");
        if !self.keys.insert(row.1.clone()) {
            return;
        }
        match bound {
            Bound::Partition => unreachable!("nothing has a place that waits for the partition"),
            Bound::Type(name) => {
                self.types.entry(name.clone()).or_default().rows.insert(row);
            }
            Bound::Actor(actor) => {
                let of_type = self.types.entry(actor.actor_type().to_owned()).or_default();
                of_type.actors.entry(actor.clone()).or_default().insert(row);
            }
        }
    }

    /// Takes out what there is room for, where it is worth a read.
    pub(super) fn release(
        &mut self,
        batches: Batches,
        firings: &Firings,
        node: &Shared,
    ) -> Vec<Row> {
        let mut released = Vec::new();
        self.types.retain(|name, of_type| {
            for (row, actor) in of_type.oldest(batches, firings, node, name) {
                match actor.and_then(|actor| of_type.actors.get_mut(&actor)) {
                    Some(rows) => rows.remove(&row),
                    None => of_type.rows.remove(&row),
                };
                self.keys.remove(&row.1);
                released.push(row);
            }
            of_type.actors.retain(|_, rows| !rows.is_empty());
            !of_type.is_empty()
        });
        released
    }
}
