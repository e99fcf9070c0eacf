//! Entries on their way: ended turns that wait to be proposed, and proposals that wait to be
//! applied.
//!
//! Also the two bounds on what is uncommitted: of speculation, and of everything.

use std::collections::VecDeque;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::command::{
    InboxFailed, Kind, ScheduleKind, TurnCommit, TurnKind, Turns as TurnsCommand,
};
use ghostlight_protocol::limits::UNCOMMITTED_BYTES_MAX;

use super::engine::Settings;
use super::jobs::{JobId, Speculation};
use crate::turn_io::TurnId;

/// Room that a command's own fields take in an entry.
pub(super) const COMMAND_BYTES: usize = 128;
/// Room that a turn's tag and length take in a command.
const TURN_HEADER_BYTES: usize = 8;
/// Bytes of entries that this engine keeps uncommitted; the rest of Raft's bound is for the outbox.
const IN_FLIGHT_BYTES_MAX: usize = UNCOMMITTED_BYTES_MAX as usize / 2;

/// One ended turn.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) actor: ActorKey,
    /// Its place among the actor's entries, from 1.
    pub(super) ordinal: u64,
    pub(super) job: JobId,
    pub(super) order: u64,
    pub(super) kind: TurnKind,
    /// The version it was built on.
    pub(super) base: u64,
    pub(super) bytes: usize,
    /// State keys it writes.
    pub(super) keys: Vec<Bytes>,
    /// Reminders and timers it writes.
    pub(super) schedule: Vec<(ScheduleKind, String)>,
    /// What its caller hears once it is applied.
    pub(super) answer: AnswerKind,
    pub(super) purpose: Purpose,
}

/// What an entry is of its job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Its end.
    Turn,
    /// A part of its turn, which goes on.
    Part { turn: TurnId, ask: u32 },
    /// A call that had entered a turn, which goes on.
    Entry { turn: TurnId, ask: u32 },
    /// What an operation writes.
    Operation,
}

/// A message whose failure is on its way.
#[derive(Debug)]
pub(super) struct Failure {
    /// Absent for a message that names no actor.
    pub(super) job: Option<(ActorKey, JobId)>,
    pub(super) command: InboxFailed,
}

#[derive(Debug)]
enum Pending {
    Turn(Box<(Entry, TurnCommit)>),
    Failure(Failure),
}

/// What one entry of the log holds.
#[derive(Debug)]
pub(super) enum Proposal {
    /// Turns, in order.
    Turns(Vec<Entry>),
    /// One failed message.
    Failure(Failure),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Log {
    pending: VecDeque<Pending>,
    proposed: VecDeque<Proposal>,
    /// Turns in both.
    turns: usize,
    /// Their bytes.
    bytes: usize,
    /// Of these, proposed.
    proposed_bytes: usize,
    speculating: usize,
    speculating_bytes: usize,
}

/// Whether a turn may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    /// Now.
    Yes,
    /// When something was applied.
    Later,
}

impl Log {
    pub(super) fn push_turn(&mut self, entry: Entry, commit: TurnCommit) {
        self.turns += 1;
        self.bytes += entry.bytes;
        self.pending
            .push_back(Pending::Turn(Box::new((entry, commit))));
    }

    pub(super) fn push_failure(&mut self, failure: Failure) {
        self.pending.push_back(Pending::Failure(failure));
    }

    /// Whether an entry on its way writes this reminder or timer.
    pub(super) fn writes_row(&self, actor: &ActorKey, kind: ScheduleKind, name: &str) -> bool {
        let proposed = self.proposed.iter().filter_map(|proposal| match proposal {
            Proposal::Turns(entries) => Some(entries),
            Proposal::Failure(_) => None,
        });
        let pending = self.pending.iter().filter_map(|pending| match pending {
            Pending::Turn(turn) => Some(&turn.0),
            Pending::Failure(_) => None,
        });
        let row = |(k, n): &(ScheduleKind, String)| *k == kind && n == name;
        let mut entries = proposed.flatten().chain(pending);
        entries.any(|entry| entry.actor == *actor && entry.schedule.iter().any(row))
    }

    /// Takes the actor's entries from `ordinal` on back out of the queue.
    pub(super) fn withdraw(&mut self, actor: &ActorKey, ordinal: u64) -> Vec<Entry> {
        let mut withdrawn = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Turn(turn) if turn.0.actor == *actor && turn.0.ordinal >= ordinal => {
                    self.turns -= 1;
                    self.bytes -= turn.0.bytes;
                    withdrawn.push(turn.0);
                }
                kept => self.pending.push_back(kept),
            }
        }
        withdrawn
    }

    /// Whether the queue has something that may be proposed.
    pub(super) fn can_propose(&self) -> bool {
        let room = self.proposed.is_empty() || self.proposed_bytes < IN_FLIGHT_BYTES_MAX;
        room && !self.pending.is_empty()
    }

    /// The next entry: as many turns as fit, or one failure. Its place is remembered.
    pub(super) fn propose(&mut self, settings: &Settings) -> Option<(Kind, &Proposal)> {
        if !self.can_propose() {
            return None;
        }
        let mut bytes = COMMAND_BYTES;
        let mut entries = Vec::new();
        let mut commits = Vec::new();
        while let Some(front) = self.pending.pop_front() {
            match front {
                Pending::Failure(failure) if entries.is_empty() => {
                    let kind = Kind::InboxFailed(failure.command.clone());
                    self.proposed.push_back(Proposal::Failure(failure));
                    return Some((kind, self.proposed.back()?));
                }
                Pending::Turn(turn)
                    if bytes + turn.0.bytes <= settings.entry_bytes_max || entries.is_empty() =>
                {
                    let (entry, commit) = *turn;
                    bytes += entry.bytes;
                    self.proposed_bytes += entry.bytes;
                    entries.push(entry);
                    commits.push(commit);
                }
                full => {
                    self.pending.push_front(full);
                    break;
                }
            }
        }
        assert!(
            bytes <= settings.entry_bytes_max,
            "a turn that does not fit into an entry is refused when it ends"
        );
        self.proposed.push_back(Proposal::Turns(entries));
        let kind = Kind::Turns(TurnsCommand { turns: commits });
        Some((kind, self.proposed.back()?))
    }

    /// The oldest proposal, which was applied.
    pub(super) fn applied(&mut self) -> Proposal {
        let proposal = self
            .proposed
            .pop_front()
            .expect("only what was proposed is applied");
        self.forget(&proposal);
        proposal
    }

    /// The latest proposal, which Raft refused.
    pub(super) fn dropped(&mut self) -> Option<Proposal> {
        let proposal = self.proposed.pop_back()?;
        self.forget(&proposal);
        Some(proposal)
    }

    fn forget(&mut self, proposal: &Proposal) {
        if let Proposal::Turns(entries) = proposal {
            let bytes: usize = entries.iter().map(|e| e.bytes).sum();
            self.turns -= entries.len();
            self.bytes -= bytes;
            self.proposed_bytes -= bytes;
        }
    }

    /// Whether a turn may start on results of which `uncommitted` are not committed.
    pub(super) fn room(&self, uncommitted: u64, settings: &Settings) -> Room {
        let full = self.bytes >= IN_FLIGHT_BYTES_MAX;
        let speculated = self.speculating >= settings.speculation_turns_max
            || self.speculating_bytes >= settings.speculation_bytes_max;
        if full || (uncommitted > 0 && speculated) {
            Room::Later
        } else {
            Room::Yes
        }
    }

    /// A turn starts on uncommitted results.
    pub(super) fn speculate(&mut self) -> Speculation {
        self.speculating += 1;
        Speculation::On { bytes: 0 }
    }

    /// The write set of a speculating turn is known.
    pub(super) fn speculate_bytes(&mut self, speculation: &mut Speculation, more: usize) {
        if let Speculation::On { bytes } = speculation {
            *bytes += more;
            self.speculating_bytes += more;
        }
    }

    /// A speculating turn is settled, one way or the other.
    pub(super) fn release(&mut self, speculation: &mut Speculation) {
        if let Speculation::On { bytes } = std::mem::replace(speculation, Speculation::None) {
            self.speculating -= 1;
            self.speculating_bytes -= bytes;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.proposed.is_empty()
    }

    /// Turns that have ended and of which the log has not spoken.
    pub(super) fn turns(&self) -> usize {
        self.turns
    }

    pub(super) fn check(&self) {
        assert!(self.proposed_bytes <= self.bytes);
        if self.is_empty() {
            assert_eq!(
                (self.turns, self.bytes),
                (0, 0),
                "nothing on the way weighs nothing"
            );
        }
    }
}

/// Bytes that a turn takes in an entry.
pub(super) fn turn_bytes(commit: &TurnCommit) -> usize {
    prost::Message::encoded_len(commit) + TURN_HEADER_BYTES
}
