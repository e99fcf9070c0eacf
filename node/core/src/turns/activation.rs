//! What the engine knows of one actor: its activation, its version, and its turns on the way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::command::StateWrite;
use ghostlight_protocol::ids::ActorVersion;

use super::NestedCall;
use super::ending::Conclusion;
use super::entered::{Entered, Leaving};
use super::fixed_hash::{FixedHash, FixedMap};
use super::jobs::JobId;
use super::mailbox::Mailbox;
use super::parts::Part;

/// One actor.
#[derive(Debug, Default)]
pub(super) struct Actor {
    pub(super) stage: Stage,
    pub(super) activation: Option<Activation>,
    /// Version that the next turn is built on, uncommitted turns included; `None`: not read yet.
    pub(super) version: Option<ActorVersion>,
    pub(super) mailbox: Mailbox,
    pub(super) ledger: Ledger,
    pub(super) overlay: Overlay,
    pub(super) held: VecDeque<Held>,
    /// ReadIndex rounds (odd and even) in which this actor is listed.
    pub(super) listed: [u64; 2],
    pub(super) rest: Rest,
    pub(super) leaves: Leaves,
}

/// Whether the activation ends with its running turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Leaves {
    /// No.
    #[default]
    No,
    /// Yes: its actor is to run elsewhere.
    AfterTurn,
}

/// What it is doing.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// Ready for a turn.
    #[default]
    Idle,
    /// Its version is being read.
    Loading,
    /// A turn runs.
    Running(Running),
    /// A turn has ended whose end may only count once the writes before it are committed.
    Parked(Box<Parked>),
    /// A turn did not count: everything built on it is undone, and starts again when the log has
    /// spoken about each entry.
    Undoing {
        /// Turns to run again, with the order of their first start.
        rerun: Vec<(u64, JobId)>,
    },
}

/// How an actor without a turn waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Rest {
    /// It has something to do, or no activation.
    #[default]
    Busy,
    /// In the list of idle activations, under this number.
    Idle(u64),
    /// In the list of actors that wait for others' turns to commit.
    Stalled,
}

/// A running turn.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) job: JobId,
    /// Number of the turn within its activation.
    pub(super) number: u64,
    /// Orders turns of this leadership.
    pub(super) order: u64,
    /// Calls it has made.
    pub(super) calls: u32,
    /// Those that wait for earlier turns.
    pub(super) held_calls: Vec<NestedCall>,
    /// A part of it that waits until what is under way is settled.
    pub(super) held_part: Option<Part>,
    /// Calls of its chain that it has taken in so far.
    pub(super) entries: u32,
    /// Those that are inside.
    pub(super) entered: Vec<Entered>,
    /// Those of them that are answered, in the order of their answers.
    pub(super) leaving: VecDeque<Leaving>,
}

/// An ended turn that waits.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) job: JobId,
    pub(super) order: u64,
    pub(super) conclusion: Conclusion,
}

/// One in-memory life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activation {
    pub(super) number: u64,
    pub(super) turns: u64,
}

/// Entries of this actor in this leadership: how many were made, how many the log has spoken about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ledger {
    pub(super) ended: u64,
    pub(super) done: u64,
    /// Unsettled ones that change state.
    pub(super) writes: u64,
}

impl Ledger {
    pub(super) fn is_settled(&self) -> bool {
        self.ended == self.done
    }
}

/// An answer that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) job: JobId,
    pub(super) order: u64,
    /// Entries of the actor that must be settled first.
    pub(super) after: u64,
    /// ReadIndex round that must be confirmed first.
    pub(super) round: u64,
    pub(super) ground: Ground,
    pub(super) answer: AnswerKind,
}

/// What an answer rests on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ground {
    /// The state after earlier turns: false if one of them does not count.
    State,
    /// Committed rows, or the request itself.
    Fact,
}

/// Writes of uncommitted turns, the latest of each key.
#[derive(Debug, Default)]
pub(super) struct Overlay(BTreeMap<Bytes, (u64, Option<Bytes>)>);

impl Overlay {
    pub(super) fn add(&mut self, ordinal: u64, writes: &[StateWrite]) {
        for write in writes {
            self.0
                .insert(write.key.clone(), (ordinal, write.value.clone()));
        }
    }

    /// The rows of entry `ordinal` are committed.
    pub(super) fn settle(&mut self, ordinal: u64, keys: &[Bytes]) {
        for key in keys {
            if self.0.get(key).is_some_and(|(o, _)| *o == ordinal) {
                self.0.remove(key);
            }
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.0.get(key).map(|(_, value)| value)
    }

    /// The part under a prefix, strictly after `after`.
    pub(super) fn range(
        &self,
        prefix: &Bytes,
        after: Option<&Bytes>,
    ) -> BTreeMap<Bytes, Option<Bytes>> {
        let from = after.map_or(prefix, |after| after.max(prefix));
        self.0
            .range::<Bytes, _>(from..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .map(|(key, (_, value))| (key.clone(), value.clone()))
            .collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Actor {
    /// Nothing is on the way for it.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.stage, Stage::Idle)
            && self.mailbox.is_empty()
            && self.held.is_empty()
            && self.ledger.is_settled()
    }

    pub(super) fn check(&self, key: &ActorKey) {
        let ledger = &self.ledger;
        assert!(ledger.done <= ledger.ended, "{key}: {ledger:?}");
        assert!(
            ledger.writes <= ledger.ended - ledger.done,
            "{key}: {ledger:?}"
        );
        match &self.stage {
            Stage::Idle | Stage::Undoing { .. } => {}
            Stage::Loading => assert!(self.version.is_none(), "{key}"),
            Stage::Running(_) => assert!(self.activation.is_some(), "{key}"),
            Stage::Parked(_) => assert!(!ledger.is_settled(), "{key}"),
        }
        if ledger.is_settled() {
            assert!(self.overlay.is_empty(), "{key}: overlay of nothing");
        }
    }
}

/// The actors that have an activation, or something waiting.
#[derive(Debug)]
pub(super) struct Actors {
    table: FixedMap<ActorKey, Box<Actor>>,
    by_activation: FixedMap<u64, ActorKey>,
    last_activation: u64,
}

impl Actors {
    pub(super) fn new(hash: FixedHash) -> Self {
        Self {
            table: FixedMap::with_hasher(hash),
            by_activation: FixedMap::with_hasher(hash),
            last_activation: 0,
        }
    }

    pub(super) fn get(&self, key: &ActorKey) -> Option<&Actor> {
        self.table.get(key).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, key: &ActorKey) -> Option<&mut Actor> {
        self.table.get_mut(key).map(Box::as_mut)
    }

    /// An actor for which something is on the way.
    #[track_caller]
    pub(super) fn at(&mut self, key: &ActorKey) -> &mut Actor {
        self.table
            .get_mut(key)
            .expect("an actor stays listed while anything is on the way for it")
    }

    pub(super) fn obtain(&mut self, key: &ActorKey) -> &mut Actor {
        if !self.table.contains_key(key) {
            self.table.insert(key.clone(), Box::default());
        }
        self.at(key)
    }

    pub(super) fn remove(&mut self, key: &ActorKey) {
        let removed = self.table.swap_remove(key);
        assert!(removed.is_none_or(|a| a.activation.is_none()));
    }

    /// The activation of an actor; a new one if it has none.
    pub(super) fn activate(&mut self, key: &ActorKey) -> &mut Activation {
        let next = self.last_activation + 1;
        let actor = self
            .table
            .get_mut(key)
            .expect("an actor is listed before it gets an activation");
        if actor.activation.is_none() {
            self.last_activation = next;
            self.by_activation.insert(next, key.clone());
        }
        actor.activation.get_or_insert(Activation {
            number: next,
            turns: 0,
        })
    }

    /// Ends the activation of an actor; returns its number.
    pub(super) fn deactivate(&mut self, key: &ActorKey) -> Option<u64> {
        let activation = self.table.get_mut(key)?.activation.take()?;
        self.by_activation.swap_remove(&activation.number);
        Some(activation.number)
    }

    pub(super) fn of_activation(&self, number: u64) -> Option<&ActorKey> {
        self.by_activation.get(&number)
    }

    pub(super) fn activations(&self) -> impl Iterator<Item = (&ActorKey, &Actor, &Activation)> {
        self.table
            .iter()
            .filter_map(|(key, actor)| Some((key, &**actor, actor.activation.as_ref()?)))
    }

    /// Numbers of all activations, ascending.
    pub(super) fn activation_numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.by_activation.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// Whose answers are held that rest on this.
    pub(super) fn held_on(&self, ground: Ground) -> BTreeSet<JobId> {
        let held = self.table.values().flat_map(|actor| &actor.held);
        let held = held.filter(|held| held.ground == ground);
        held.map(|held| held.job).collect()
    }

    pub(super) fn keys(&self) -> Vec<ActorKey> {
        self.table.keys().cloned().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ActorKey, &Actor)> {
        self.table.iter().map(|(key, actor)| (key, &**actor))
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn activation_count(&self) -> usize {
        self.by_activation.len()
    }
}
