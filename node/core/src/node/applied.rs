//! The store has applied entries: the replica moves on, and what they have done is told to the
//! engines of the leadership that wrote them. Absent: what applying does
//! (`protocol::replica::apply`).

use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::command::Envelope;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::replica::{Appended, EntryOutcome, TopicOutcome, TurnOutcome};

use super::{Local, NodeCore};
use crate::expiry::ExpiryInput;
use crate::io::{Applied, Effect, Now};
use crate::outbox::OutboxInput;
use crate::topics::TopicsInput;
use crate::turns::TurnsInput;

impl NodeCore {
    /// The store has applied entries.
    pub(super) fn applied(&mut self, now: Now, applied: Applied, out: &mut Vec<Effect>) {
        let partition = applied.partition;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let (index, _) = applied.row.applied();
        // A snapshot installed meanwhile is ahead of it; a later stint on this node knows nothing
        // of it.
        if index < slot.group.applied() || index > slot.group.commit() {
            return;
        }
        slot.group.set_applied(index);
        let before = slot.row.replace(applied.row).and_then(|row| row.membership);
        let after = slot.row.as_ref().and_then(|row| row.membership.as_ref());
        let mut changed = false;
        if let (Some(before), Some(after)) = (&before, after)
            && before.index != after.index
        {
            let leavers = Self::leavers(before, after);
            let peer = slot.group.peer();
            self.flush
                .membership_applied(partition, peer, after.index, leavers);
            changed = true;
        }
        let term = slot.leading.as_ref().map(|leading| leading.term);
        cluster.dirty.insert(partition);
        for (at, outcome) in applied.outcomes {
            if Some(at.term) == term {
                if outcome == EntryOutcome::FactsWritten {
                    self.read_facts(partition, at.term, None, out);
                }
                self.entry_applied(partition, outcome);
            }
        }
        self.truncate_if_crowded(partition, out);
        self.read_ready(partition);
        self.settle(now, out);
        self.drive_handover(now, partition);
        self.follow_role(now, partition, out);
        if changed {
            self.announce_membership(partition);
        }
    }

    fn entry_applied(&mut self, partition: PartitionId, outcome: EntryOutcome) {
        match outcome {
            EntryOutcome::Turns(turns) => self.turns_applied(partition, turns),
            EntryOutcome::InboxFailed { .. } => {
                self.local
                    .push_back(Local::Turns(partition, TurnsInput::Applied(outcome)));
            }
            EntryOutcome::Topics(outcomes) => {
                let settled = outcomes.iter().filter_map(|outcome| match outcome {
                    TopicOutcome::Settled(changed) | TopicOutcome::Group(changed) => {
                        Some(changed.outbox.iter().cloned())
                    }
                    _ => None,
                });
                let sent = settled.flatten().collect();
                self.messages_committed(partition, sent);
                let input = TopicsInput::Applied(outcomes);
                self.local.push_back(Local::Topics(partition, input));
            }
            EntryOutcome::Accepted { ref appended, .. } => {
                self.events_appended(partition, appended.clone());
                self.local
                    .push_back(Local::Outbox(partition, OutboxInput::Applied(outcome)));
            }
            EntryOutcome::OutboxTrimmed { .. } => self
                .local
                .push_back(Local::Outbox(partition, OutboxInput::Applied(outcome))),
            EntryOutcome::Expired => self
                .local
                .push_back(Local::Expiry(partition, ExpiryInput::Applied)),
            EntryOutcome::Nothing | EntryOutcome::FactsWritten => {}
        }
    }

    fn turns_applied(&mut self, partition: PartitionId, turns: Vec<TurnOutcome>) {
        let (mut sent, mut events) = (Vec::new(), Vec::new());
        for turn in &turns {
            if let TurnOutcome::Committed {
                outbox, appended, ..
            } = turn
            {
                sent.extend(outbox.iter().cloned());
                events.extend(appended.iter().cloned());
            }
        }
        if !canary::sings(Canary::PublishUntold) {
            self.events_appended(partition, events);
        }
        let input = TurnsInput::Applied(EntryOutcome::Turns(turns));
        self.local.push_back(Local::Turns(partition, input));
        self.messages_committed(partition, sent);
    }

    fn messages_committed(
        &mut self,
        partition: PartitionId,
        sent: Vec<(PartitionId, u64, Envelope)>,
    ) {
        if !sent.is_empty() {
            let input = OutboxInput::Committed(sent);
            self.local.push_back(Local::Outbox(partition, input));
        }
    }

    fn events_appended(&mut self, partition: PartitionId, appended: Vec<Appended>) {
        if !appended.is_empty() {
            let input = TopicsInput::Appended(appended);
            self.local.push_back(Local::Topics(partition, input));
        }
    }
}
