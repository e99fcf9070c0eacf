//! What fires at the moment, and what keeps more from firing: bounds for the node (`shared.rs`),
//! for the partition, for an actor's type and for an actor, so that an application that hangs holds
//! up nobody else's.
//!
//! A type whose firing could not start *rests*; then one firing *tries*, and the others follow when
//! it was called. Absent: what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::time::Instant;

use super::shared::Shared;

/// Firings of one partition that run at the same time: so many reminders, and as many timers.
pub const FIRINGS_MAX: usize = 1_024;
/// Of these, firings of actors of one type.
pub(super) const TYPE_FIRINGS_MAX: usize = 128;
/// Of these, firings of one actor, whose turns come one after the other in any case.
pub(super) const ACTOR_FIRINGS_MAX: usize = 8;
/// Pause before what could not start is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

const _: () = assert!(ACTOR_FIRINGS_MAX < TYPE_FIRINGS_MAX && TYPE_FIRINGS_MAX < FIRINGS_MAX);

/// What keeps a firing from starting.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Bound {
    /// The partition has as many as it may.
    Partition,
    /// The actors of this type have, here or on the node, or the type rests.
    Type(String),
    /// The actor has.
    Actor(ActorKey),
}

impl Bound {
    /// The type that has enough, if it is that.
    pub(super) fn of_type(&self) -> Option<&str> {
        match self {
            Self::Type(name) => Some(name),
            Self::Partition | Self::Actor(_) => None,
        }
    }
}

/// Whether the row of a running firing was written since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moved {
    No,
    Yes,
}

/// What the end of a firing says of its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Says {
    /// It can be called.
    Fit,
    /// It cannot.
    Unfit,
    /// Nothing.
    Nothing,
}

/// Firings of one kind.
#[derive(Debug, Default)]
pub(super) struct Firings {
    running: BTreeMap<Bytes, Moved>,
    types: BTreeMap<String, OfType>,
    actors: BTreeMap<ActorKey, usize>,
}

#[derive(Debug, Default)]
struct OfType {
    running: usize,
    health: Health,
}

#[derive(Debug, Default)]
enum Health {
    #[default]
    Fit,
    /// The firing of this row could not start.
    Resting { until: Instant, row: Bytes },
    /// One may try, since then.
    Trying(Instant),
}

impl OfType {
    fn most(&self) -> usize {
        match self.health {
            Health::Fit => TYPE_FIRINGS_MAX,
            Health::Resting { .. } => 0,
            Health::Trying(_) => 1,
        }
    }
}

impl Firings {
    pub(super) fn contains(&self, row: &Bytes) -> bool {
        self.running.contains_key(row)
    }

    /// Half of what the partition may have runs.
    pub(super) fn is_crowded(&self) -> bool {
        self.running.len() >= FIRINGS_MAX / 2
    }

    /// What keeps a firing of this actor from starting.
    pub(super) fn bound(&self, node: &Shared, actor: &ActorKey) -> Option<Bound> {
        let of_type = Bound::Type(actor.actor_type().to_owned());
        let bounds = [Bound::Partition, of_type, Bound::Actor(actor.clone())];
        bounds.into_iter().find(|bound| self.room(node, bound) == 0)
    }

    /// How many more may start.
    pub(super) fn room(&self, node: &Shared, bound: &Bound) -> usize {
        let (running, most) = self.share(node, bound);
        most.saturating_sub(running)
    }

    /// Whether so many may start that it is worth to look for them.
    pub(super) fn is_roomy(&self, node: &Shared, bound: &Bound) -> bool {
        let (running, most) = self.share(node, bound);
        most > 0 && running <= most / 2
    }

    fn share(&self, node: &Shared, bound: &Bound) -> (usize, usize) {
        match bound {
            Bound::Partition => (self.running.len(), FIRINGS_MAX),
            Bound::Type(name) => {
                let of_type = self.types.get(name);
                let here = of_type.map_or((0, TYPE_FIRINGS_MAX), |t| (t.running, t.most()));
                (here.0, here.1.min(node.most(name, here.0)))
            }
            Bound::Actor(actor) => {
                let running = self.actors.get(actor).copied().unwrap_or(0);
                (running, ACTOR_FIRINGS_MAX)
            }
        }
    }

    pub(super) fn begin(&mut self, node: &mut Shared, row: Bytes, actor: &ActorKey) {
        let before = self.running.insert(row, Moved::No);
        assert!(before.is_none(), "{actor}: a row fires once at a time");
        let of_type = self.types.entry(actor.actor_type().to_owned());
        of_type.or_default().running += 1;
        node.begin(actor.actor_type());
        *self.actors.entry(actor.clone()).or_default() += 1;
        assert!(self.running.len() <= FIRINGS_MAX, "firings are bounded");
    }

    /// The row of a firing is written.
    pub(super) fn row_moved(&mut self, row: &Bytes) {
        if let Some(moved) = self.running.get_mut(row) {
            *moved = Moved::Yes;
        }
    }

    pub(super) fn has_moved(&self, row: &Bytes) -> bool {
        self.running.get(row) == Some(&Moved::Yes)
    }

    /// A firing is over. `None`: it did not run here.
    pub(super) fn end(
        &mut self,
        node: &mut Shared,
        now: Instant,
        (row, actor): (&Bytes, &ActorKey),
        says: Says,
    ) -> Option<Moved> {
        let moved = self.running.remove(row)?;
        if let Some(running) = self.actors.get_mut(actor) {
            *running -= 1;
            if *running == 0 {
                self.actors.remove(actor);
            }
        }
        let name = actor.actor_type();
        let of_type = self.types.get_mut(name)?;
        of_type.running -= 1;
        node.end(name);
        match (says, &of_type.health) {
            (Says::Fit, _) => of_type.health = Health::Fit,
            (Says::Unfit, Health::Fit | Health::Trying(_)) => {
                of_type.health = Health::Resting {
                    until: now + AGAIN,
                    row: row.clone(),
                };
            }
            (Says::Unfit, Health::Resting { .. }) | (Says::Nothing, _) => {}
        }
        if of_type.running == 0 && matches!(of_type.health, Health::Fit) {
            self.types.remove(name);
        }
        Some(moved)
    }

    /// Counts what runs here, and the types for which something waits, among all of the node.
    pub(super) fn count_among(&self, node: &mut Shared, waiting: BTreeSet<&str>) {
        for (name, of_type) in &self.types {
            node.count(name, of_type.running);
        }
        for name in waiting {
            if !self.types.contains_key(name) {
                node.count(name, 0);
            }
        }
    }

    /// Types that have rested may be tried: the rows of which it was seen that they do not start.
    /// What nobody has tried for a while is not known to be unfit any more.
    pub(super) fn rested(&mut self, now: Instant) -> Vec<Bytes> {
        let mut rows = Vec::new();
        self.types.retain(|_, of_type| match &of_type.health {
            Health::Resting { until, row } if *until <= now => {
                rows.push(row.clone());
                of_type.health = Health::Trying(now);
                true
            }
            Health::Trying(since) => of_type.running > 0 || *since + AGAIN > now,
            Health::Resting { .. } | Health::Fit => true,
        });
        rows
    }
}
