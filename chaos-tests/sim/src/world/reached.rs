//! What was reached, seen from outside: what entries did, which roles and memberships replicas went
//! through.

use ghostlight_core::io::StoreInput;
use ghostlight_core::node::ReplicaView;
use ghostlight_core::replica::Role;
use ghostlight_protocol::replica::{EntryOutcome, SkipReason, TopicOutcome, TurnOutcome};

use super::World;
use crate::sometimes::Sometimes;

impl World {
    pub(crate) fn note_answer(&mut self, input: &StoreInput) {
        let StoreInput::Applied(batch) = input else {
            return;
        };
        for what in std::mem::take(&mut self.checks.topics.reached) {
            self.sometimes.hit(what);
        }
        for (_, outcome) in batch.iter().flat_map(|applied| &applied.outcomes) {
            match outcome {
                EntryOutcome::Nothing => self.sometimes.hit("entry that changes nothing applied"),
                EntryOutcome::Turns(turns) => {
                    for turn in turns {
                        self.note_turn(turn);
                    }
                }
                EntryOutcome::Accepted { messages, .. } if messages.is_empty() => {
                    self.sometimes
                        .hit("message offered again after it was accepted");
                }
                EntryOutcome::Accepted { .. } => self.sometimes.hit("message accepted"),
                EntryOutcome::OutboxTrimmed { .. } => self.sometimes.hit("outbox trimmed"),
                EntryOutcome::InboxFailed { .. } => self.sometimes.hit("failed message counted"),
                EntryOutcome::Expired => self.sometimes.hit("rows expired"),
                EntryOutcome::FactsWritten => self.sometimes.hit("cluster facts written"),
                EntryOutcome::Topics(outcomes) => {
                    self.sometimes.hit("topic entry applied");
                    if matches!(outcomes.first(), Some(TopicOutcome::Trimmed(_))) {
                        self.sometimes.hit("events over their time");
                    }
                }
            }
        }
    }

    fn note_turn(&mut self, turn: &TurnOutcome) {
        let what = match turn {
            TurnOutcome::Committed { outbox, .. } if outbox.is_empty() => "turn committed",
            TurnOutcome::Committed { .. } => "turn with a message committed",
            TurnOutcome::Skipped(SkipReason::Recorded(_)) => {
                "turn skipped: its request is recorded"
            }
            TurnOutcome::Skipped(SkipReason::SessionClosed) => {
                "turn skipped: its session is closed"
            }
            TurnOutcome::Skipped(SkipReason::Version { .. }) => {
                "turn skipped: built on another version"
            }
            TurnOutcome::Skipped(SkipReason::MessageGone) => "turn skipped: its message is gone",
            TurnOutcome::Skipped(
                SkipReason::IdReused | SkipReason::FiringGone | SkipReason::ScheduleThere,
            ) => "turn skipped otherwise",
        };
        self.sometimes.hit(what);
    }
}

/// The role and the membership of a replica.
pub(super) fn note_replica(sometimes: &mut Sometimes, replica: &ReplicaView<'_>) {
    let membership = replica.membership;
    if replica.role == Role::Candidate {
        sometimes.hit("replica stands for election");
    }
    if membership.is_joint() {
        sometimes.hit("joint membership");
        if replica.role == Role::Leader && replica.serves.is_some() {
            sometimes.hit("leader serves in a joint membership");
        }
    }
    if membership.learners.contains(&replica.peer.0) {
        sometimes.hit("learner follows");
    }
    if replica.role == Role::Leader && replica.serves.is_none() {
        sometimes.hit("leader that does not serve yet");
    }
    if membership.voters == [replica.peer.0] {
        sometimes.hit("sole voter");
    }
    if replica.last.index.0 > replica.commit.0 + 8 {
        sometimes.hit("log far ahead of its commit");
    }
    if replica.commit > replica.applied {
        sometimes.hit("committed and not applied yet");
    }
}
