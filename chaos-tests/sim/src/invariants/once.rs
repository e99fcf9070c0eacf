//! A request commits at most once (promise G2, reliability A3), and so does an accepted message.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_core::io::Applied;
use ghostlight_protocol::command::{Share, TurnCommit};
use ghostlight_protocol::ids::{LogIndex, PartitionId};
use ghostlight_protocol::replica::{EntryOutcome, TurnOutcome};

/// What a turn ran for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Cause {
    /// A request of an actor.
    Request(Bytes, Bytes),
    /// An accepted message.
    Message(u64),
    /// A part of a turn, by the version that it was built on.
    Part(Bytes, u64),
    /// A firing: actor, name, when it was due, its attempt.
    Firing(Bytes, String, u64, u32),
    /// What takes no turn: as often as it likes.
    Operation(Bytes, LogIndex, usize),
}

/// Turns of each entry, and where each cause was committed.
#[derive(Default, Debug)]
pub(super) struct Once {
    turns: BTreeMap<(PartitionId, LogIndex), Vec<Cause>>,
    committed: BTreeMap<(PartitionId, Cause), LogIndex>,
}

impl Once {
    pub(super) fn asked(&mut self, partition: PartitionId, at: LogIndex, turns: Vec<TurnCommit>) {
        let turns = turns.into_iter().enumerate();
        let causes = turns.map(|(place, turn)| cause(at, place, turn)).collect();
        self.turns.insert((partition, at), causes);
    }

    pub(super) fn applied(&mut self, applied: &Applied) -> Result<(), String> {
        let partition = applied.partition;
        for (at, outcome) in &applied.outcomes {
            let EntryOutcome::Turns(outcomes) = outcome else {
                continue;
            };
            let Some(causes) = self.turns.get(&(partition, at.index)) else {
                continue;
            };
            for (cause, outcome) in causes.iter().zip(outcomes) {
                let TurnOutcome::Committed { .. } = outcome else {
                    continue;
                };
                let key = (partition, cause.clone());
                let first = *self.committed.entry(key).or_insert(at.index);
                if first != at.index {
                    return Err(format!(
                        "a request commits once: {partition} {cause:?} did at {first} and at {}",
                        at.index
                    ));
                }
            }
        }
        Ok(())
    }
}

fn cause(at: LogIndex, place: usize, turn: TurnCommit) -> Cause {
    if let Share::Part | Share::More = turn.share() {
        return Cause::Part(turn.actor, turn.base_version);
    }
    match (turn.request, turn.inbox_sequence, turn.firing) {
        (Some(request), ..) => Cause::Request(turn.actor, request.id),
        (None, 0, Some(firing)) => {
            Cause::Firing(turn.actor, firing.name, firing.due_ms, firing.attempts)
        }
        (None, 0, None) => Cause::Operation(turn.actor, at, place),
        (None, message, _) => Cause::Message(message),
    }
}
