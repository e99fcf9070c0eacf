//! One effective activation (promise G1, reliability A1): the write turns of an actor are one
//! chain, each built on the one before, and each committed under the leadership in which it began.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_core::io::Applied;
use ghostlight_protocol::command::{TurnCommit, TurnKind};
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId, Term};
use ghostlight_protocol::replica::{EntryOutcome, TurnOutcome};

/// What a turn was built on.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Built {
    actor: Bytes,
    base: u64,
    writes: bool,
}

/// Turns of each entry, and where each version of an actor was made.
#[derive(Default, Debug)]
pub(super) struct Versions {
    turns: BTreeMap<(PartitionId, LogIndex), (Term, Vec<Built>)>,
    made: BTreeMap<(PartitionId, Bytes, u64), LogIndex>,
}

impl Versions {
    /// An entry holds these turns of a leadership.
    pub(super) fn asked(
        &mut self,
        partition: PartitionId,
        at: LogIndex,
        term: Term,
        turns: &[TurnCommit],
    ) {
        let built = turns.iter().map(|turn| Built {
            base: turn.base_version,
            writes: turn.kind() == TurnKind::Write,
            actor: turn.actor.clone(),
        });
        self.turns.insert((partition, at), (term, built.collect()));
    }

    pub(super) fn applied(&mut self, applied: &Applied) -> Result<(), String> {
        for (at, outcome) in &applied.outcomes {
            if let EntryOutcome::Turns(outcomes) = outcome {
                self.entry(applied.partition, *at, outcomes)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        partition: PartitionId,
        at: LogPosition,
        outcomes: &[TurnOutcome],
    ) -> Result<(), String> {
        let Some((term, turns)) = self.turns.get(&(partition, at.index)) else {
            return Ok(());
        };
        for (turn, outcome) in turns.iter().zip(outcomes) {
            let TurnOutcome::Committed { version, .. } = outcome else {
                continue;
            };
            if *term != at.term {
                return Err(format!(
                    "a turn counts in the term in which it began: {partition} {} of {} has a turn of {term}",
                    at.index, at.term
                ));
            }
            if !turn.writes {
                continue;
            }
            if version.0 != turn.base + 1 {
                return Err(format!(
                    "a turn stands on what it was built on: {partition} {}: {:?} built on {} makes {version:?}",
                    at.index, turn.actor, turn.base
                ));
            }
            let key = (partition, turn.actor.clone(), version.0);
            let first = *self.made.entry(key).or_insert(at.index);
            if first != at.index {
                return Err(format!(
                    "an actor has one history: {partition} {:?} has version {version:?} from {first} and from \
                     {}",
                    turn.actor, at.index
                ));
            }
        }
        Ok(())
    }
}
