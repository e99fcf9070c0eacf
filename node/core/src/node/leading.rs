//! A leadership's life: elected, open, closed; and what it proposes, reads and confirms.
//!
//! A leader serves only after it has applied the first entry of its own term. On any change of role
//! or term everything speculative is dropped, also if the same node wins again.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::call::{LeaderHint, MayHaveRun, Redirect};
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::command::{Command, Envelope, Kind};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::{Appended, EntryOutcome, TopicOutcome, TurnOutcome};
use ghostlight_protocol::time::Age;
use prost::Message as _;

use super::reads::{ReadFor, ReadWhat};
use super::slot::{Confirm, InboxLoad, Later, Leading, Serving, Slot, Stage};
use super::waiting::Waiting;
use super::{Local, NodeCore};
use crate::expiry::{Expiry, ExpiryInput};
use crate::io::{Applied, Effect, Event, Now, ReadTicket, Rest};
use crate::outbox::{Outbox, OutboxInput, OutboxSettings};
use crate::replica::{ReadIndex, Role};
use crate::topics::{Bounds, Topics, TopicsInput, TopicsOpening};
use crate::turns::{ConfirmId, Load, Opening, RowsWanted, Turns, TurnsInput};
use crate::wakeups::{Wakeups, WakeupsInput};

/// A ReadIndex without answer is asked again after two heartbeats.
const CONFIRM_AGAIN: Duration = Duration::from_millis(300);
/// Rows of one page of the inbox.
const INBOX_PAGE: usize = 256;

impl NodeCore {
    /// Compares a group's role with what this node does about it.
    pub(super) fn follow_role(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let (role, term) = (slot.group.role(), slot.group.term());
        slot.leaderless = match role {
            Role::Leader | Role::Follower { leader: Some(_) } => None,
            Role::Follower { leader: None } | Role::Candidate => {
                slot.leaderless.or(Some(now.instant))
            }
        };
        let led = slot.leading.as_ref().map(|leading| leading.term);
        let leads = (role == Role::Leader).then_some(term);
        if led != leads {
            if led.is_some() {
                self.close(now, partition, out);
            }
            if leads.is_some() {
                self.elected(now, partition, term);
            }
        }
        self.open_if_due(now, partition, out);
        self.count_copies(partition);
        self.learn_from_group(partition);
    }

    fn elected(&mut self, now: Now, partition: PartitionId, term: Term) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        slot.leading = Some(Leading {
            term,
            stage: Stage::Elected,
            aged: now.instant,
            confirm: Confirm::Idle,
            handover: super::handover::Handover::None,
            uncommitted: None,
        });
    }

    fn open_if_due(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let settings = self.start.turns;
        let native = self.hosting.native.clone();
        let (min_copies, room) = (self.start.min_copies, self.fitness.room());
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let partitions = cluster.partitions();
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let may_open = slot.group.may_open();
        let writes = slot.writes(min_copies, room);
        let Some(leading) = &mut slot.leading else {
            return;
        };
        let (Stage::Elected, true) = (&leading.stage, may_open) else {
            return;
        };
        let term = leading.term;
        let row = slot.row.clone().unwrap_or_default();
        let opening = Opening {
            partition,
            partitions,
            term,
            wall: now.wall,
            load: Load::of(&row),
            writes,
            settings,
            native,
        };
        let topics = open_topics(now, self.me, &row, &opening);
        let turns = Turns::open(opening);
        let mut pump = Vec::new();
        let settings = OutboxSettings::default();
        let outbox = Outbox::open(partition, row.epoch(), now.instant, settings, &mut pump);
        let inbox = InboxLoad::Loading {
            later: Later::nothing(),
            last: 0,
            last_key: None,
        };
        leading.stage = Stage::Open(Box::new(Serving {
            turns,
            outbox,
            inbox,
            expiry: Expiry::new(partition, now.instant),
            wakeups: Wakeups::new(),
            topics,
            writes,
        }));
        self.feed_waiting(now, partition, out);
        for effect in pump {
            self.outbox_effect(now, partition, term, effect, out);
        }
        self.topics_opened(partition, term);
        self.read_inbox(partition, term, None, out);
        if partition == super::facts::FACTS {
            self.read_facts(partition, term, None, out);
        }
        out.push(Effect::Event(Event::Opened { partition, term }));
        if let Some(hint) = self.own_hint(partition) {
            self.announce(hint.clone());
            self.take_hints(vec![hint]);
        }
    }

    fn read_facts(
        &mut self,
        partition: PartitionId,
        term: Term,
        after: Option<Bytes>,
        out: &mut Vec<Effect>,
    ) {
        let rows = super::facts::removed_rows(after);
        self.reads
            .begin(partition, term, ReadWhat::Facts, rows, out);
    }

    fn own_hint(&self, partition: PartitionId) -> Option<LeaderHint> {
        let slot = self.cluster.as_ref()?.slot(partition)?;
        let leading = slot.leading.as_ref()?;
        let membership = slot.group.membership();
        let voters = membership
            .nodes()
            .filter(|(peer, _)| membership.is_voter(*peer));
        Some(LeaderHint {
            partition: u32::from(partition.0),
            term: leading.term.0,
            leader: Bytes::copy_from_slice(&self.me.to_bytes()),
            membership_index: membership.index,
            voters: voters
                .map(|(_, node)| Bytes::copy_from_slice(&node.to_bytes()))
                .collect(),
        })
    }

    /// All leaderships that are open, for a member that has just appeared.
    pub(super) fn own_hints(&self) -> Vec<LeaderHint> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let open = cluster.slots().filter(|slot| slot.serving().is_some());
        open.filter_map(|slot| self.own_hint(slot.partition()))
            .collect()
    }

    /// A follower knows its leader: that is a hint like any other.
    fn learn_from_group(&mut self, partition: PartitionId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(slot) = cluster.slot(partition) else {
            return;
        };
        let Role::Follower {
            leader: Some(leader),
        } = slot.group.role()
        else {
            return;
        };
        let Some(node) = slot.group.node_of(leader) else {
            return;
        };
        let term = slot.group.term();
        if cluster
            .routes
            .leader(partition)
            .is_some_and(|known| known.1 >= term)
        {
            return;
        }
        let membership = slot.group.membership();
        let voters = membership
            .nodes()
            .filter(|(peer, _)| membership.is_voter(*peer));
        let hint = LeaderHint {
            partition: u32::from(partition.0),
            term: term.0,
            leader: Bytes::copy_from_slice(&node.to_bytes()),
            membership_index: membership.index,
            voters: voters
                .map(|(_, n)| Bytes::copy_from_slice(&n.to_bytes()))
                .collect(),
        };
        self.take_hints(vec![hint]);
    }

    pub(super) fn close(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let hint = cluster.routes.hint(partition);
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let Some(leading) = slot.leading.take() else {
            return;
        };
        let term = leading.term;
        if let Stage::Open(serving) = &leading.stage {
            let held = serving.turns.call_bytes() + serving.topics.call_bytes();
            cluster.recount(held, 0);
            let progress = serving.turns.progress();
            cluster.backlog.closed(progress);
        }
        cluster.forget_topics(partition);
        for Waiting { from, .. } in cluster.take_waiting(partition) {
            let redirect = Redirect {
                hint: hint.clone(),
                may_have_run: MayHaveRun::No as i32,
            };
            self.answer(from, AnswerKind::Redirect(redirect), out);
        }
        if let Stage::Open(serving) = leading.stage {
            let mut effects = Vec::new();
            serving.topics.close(hint.clone(), &mut effects);
            self.topics_effects(now, partition, term, effects, out);
            let mut effects = Vec::new();
            serving.turns.close(now.instant, hint, &mut effects);
            self.turns_effects(now, partition, term, effects, out);
            out.push(Effect::Event(Event::Closed { partition, term }));
        }
    }

    /// Puts a command of this leadership into the log; `false`: nothing of it is there.
    pub(super) fn propose(
        &mut self,
        now: Now,
        partition: PartitionId,
        term: Term,
        kind: Kind,
    ) -> bool {
        let wall_ms = self.links.agreed_wall(now.wall).map_or(0, |wall| wall.0);
        let Some(cluster) = &mut self.cluster else {
            return false;
        };
        let Some(slot) = cluster.slot_mut(partition) else {
            return false;
        };
        let Some(leading) = &mut slot.leading else {
            return false;
        };
        if leading.term != term || slot.group.term() != term {
            return false;
        }
        let age_step_ms = now.instant.since(leading.aged).as_millis() as u64;
        let command = Command {
            leader_term: term.0,
            age_step_ms,
            wall_ms,
            kind: Some(kind),
        };
        if slot.group.propose(command.encode_to_vec()).is_err() {
            return false;
        }
        leading.aged = leading.aged + Duration::from_millis(age_step_ms);
        cluster.dirty.insert(partition);
        true
    }

    pub(super) fn confirm(&mut self, now: Now, partition: PartitionId, id: ConfirmId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let Some(leading) = &mut slot.leading else {
            return;
        };
        self.reads.next += 1;
        let context = self.reads.next;
        if canary::sings(Canary::ReadUnproven) {
            let index = slot.group.applied();
            leading.confirm = Confirm::Applying { id, index };
            return self.read_ready(partition);
        }
        // Refused only when leadership is lost: then the engine's callers are told at closing.
        if slot.group.read_index(context) == ReadIndex::Begun {
            leading.confirm = Confirm::Asked {
                id,
                context,
                at: now.instant,
            };
            cluster.dirty.insert(partition);
        }
    }

    /// A majority answered a ReadIndex round.
    pub(super) fn confirmed(
        &mut self,
        partition: PartitionId,
        context: u64,
        index: ghostlight_protocol::ids::LogIndex,
    ) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let applied = slot.group.applied();
        let Some(leading) = &mut slot.leading else {
            return;
        };
        let Confirm::Asked {
            id, context: asked, ..
        } = leading.confirm
        else {
            return;
        };
        if asked != context {
            return;
        }
        leading.confirm = Confirm::Applying { id, index };
        if applied >= index {
            self.read_ready(partition);
        }
    }

    fn read_ready(&mut self, partition: PartitionId) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let applied = slot.group.applied();
        let Some(leading) = &mut slot.leading else {
            return;
        };
        let Confirm::Applying { id, index } = leading.confirm else {
            return;
        };
        if applied >= index {
            leading.confirm = Confirm::Idle;
            self.local
                .push_back(Local::Turns(partition, TurnsInput::Confirmed(id)));
        }
    }

    /// Reads that got no answer are asked again; engines see that time passes.
    pub(super) fn tick_turns(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        for slot in cluster.slots() {
            if slot.serving().is_some() {
                let partition = slot.partition();
                self.local
                    .push_back(Local::Turns(partition, TurnsInput::Tick));
                self.local
                    .push_back(Local::Outbox(partition, OutboxInput::Tick));
            }
        }
    }

    pub(super) fn tick_confirms(&mut self, now: Now) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for slot in cluster.slots.iter_mut().flatten() {
            let Some(leading) = &mut slot.leading else {
                continue;
            };
            let Confirm::Asked { id, at, .. } = leading.confirm else {
                continue;
            };
            if now.instant.since(at) < CONFIRM_AGAIN {
                continue;
            }
            self.reads.next += 1;
            let context = self.reads.next;
            if slot.group.read_index(context) == ReadIndex::Begun {
                leading.confirm = Confirm::Asked {
                    id,
                    context,
                    at: now.instant,
                };
                cluster.dirty.insert(slot.group.partition());
            }
        }
    }

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

    /// Who votes has changed: nodes that have no copy, or no longer, know it from their leader
    /// alone.
    fn announce_membership(&mut self, partition: PartitionId) {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        if slot.is_none_or(|slot| slot.serving().is_none()) {
            return;
        }
        if let Some(hint) = self.own_hint(partition) {
            self.announce(hint.clone());
            self.take_hints(vec![hint]);
        }
    }

    fn entry_applied(&mut self, partition: PartitionId, outcome: EntryOutcome) {
        match &outcome {
            EntryOutcome::Turns(turns) => {
                let mut sent = Vec::new();
                let mut events = Vec::new();
                for turn in turns {
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
                self.local
                    .push_back(Local::Turns(partition, TurnsInput::Applied(outcome)));
                if !sent.is_empty() {
                    let input = OutboxInput::Committed(sent);
                    self.local.push_back(Local::Outbox(partition, input));
                }
            }
            EntryOutcome::InboxFailed { .. } => {
                self.local
                    .push_back(Local::Turns(partition, TurnsInput::Applied(outcome)));
            }
            EntryOutcome::Topics(outcomes) => {
                let mut sent = Vec::new();
                for outcome in outcomes {
                    if let TopicOutcome::Settled(changed) | TopicOutcome::Group(changed) = outcome {
                        sent.extend(changed.outbox.iter().cloned());
                    }
                }
                if !sent.is_empty() {
                    let input = OutboxInput::Committed(sent);
                    self.local.push_back(Local::Outbox(partition, input));
                }
                let EntryOutcome::Topics(outcomes) = outcome else {
                    return;
                };
                let input = TopicsInput::Applied(outcomes);
                self.local.push_back(Local::Topics(partition, input));
            }
            EntryOutcome::Accepted { .. } | EntryOutcome::OutboxTrimmed { .. } => {
                if let EntryOutcome::Accepted { appended, .. } = &outcome {
                    self.events_appended(partition, appended.clone());
                }
                self.local
                    .push_back(Local::Outbox(partition, OutboxInput::Applied(outcome)));
            }
            EntryOutcome::Expired => self
                .local
                .push_back(Local::Expiry(partition, ExpiryInput::Applied)),
            EntryOutcome::Nothing | EntryOutcome::FactsWritten => {}
        }
    }

    fn events_appended(&mut self, partition: PartitionId, appended: Vec<Appended>) {
        if !appended.is_empty() {
            let input = TopicsInput::Appended(appended);
            self.local.push_back(Local::Topics(partition, input));
        }
    }

    fn read_inbox(
        &mut self,
        partition: PartitionId,
        term: Term,
        after: Option<Bytes>,
        out: &mut Vec<Effect>,
    ) {
        let rows = RowsWanted::Scan {
            family: Family::Inbox,
            prefix: Bytes::new(),
            after,
            limit: INBOX_PAGE,
        };
        self.reads
            .begin(partition, term, ReadWhat::Inbox, rows, out);
    }

    pub(super) fn rows_read(
        &mut self,
        ticket: ReadTicket,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<Effect>,
    ) {
        let Some(ReadFor {
            partition,
            term,
            what,
        }) = self.reads.waiting.remove(&ticket)
        else {
            return;
        };
        let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
        if slot.and_then(|slot| slot.serving_mut(term)).is_none() {
            return;
        }
        match what {
            ReadWhat::Turns(read) => {
                let input = TurnsInput::RowsRead { read, rows, rest };
                self.local.push_back(Local::Turns(partition, input));
            }
            ReadWhat::Outbox => {
                let rows = rows
                    .into_iter()
                    .filter_map(|(key, value)| Some((key, value?)));
                let input = OutboxInput::Rows(rows.collect());
                self.local.push_back(Local::Outbox(partition, input));
            }
            ReadWhat::Inbox => self.inbox_page(partition, term, rows, rest, out),
            ReadWhat::Facts => {
                self.facts_read(&rows, out);
                let last = rows.into_iter().next_back().map(|(key, _)| key);
                if rest == Rest::More && last.is_some() {
                    self.read_facts(partition, term, last, out);
                }
            }
            ReadWhat::Expiry => {
                let rows = rows
                    .into_iter()
                    .filter_map(|(key, value)| Some((key, value?)));
                let rows = rows.collect();
                let input = ExpiryInput::Rows { rows, rest };
                self.local.push_back(Local::Expiry(partition, input));
            }
            ReadWhat::Topics(read) => {
                let input = TopicsInput::Rows { read, rows, rest };
                self.local.push_back(Local::Topics(partition, input));
            }
            ReadWhat::Wakeups => {
                let input = WakeupsInput::Rows { rows, rest };
                self.local.push_back(Local::Wakeups(partition, input));
            }
        }
    }

    fn inbox_page(
        &mut self,
        partition: PartitionId,
        term: Term,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<Effect>,
    ) {
        let last_key = rows.last().map(|(key, _)| key.clone());
        let mut messages: Vec<(u64, Envelope)> = rows
            .into_iter()
            .filter_map(|(key, value)| {
                Some((
                    family::parse_inbox_key(&key)?,
                    Envelope::decode(value?).ok()?,
                ))
            })
            .collect();
        let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
        let Some(serving) = slot.and_then(|slot| slot.serving_mut(term)) else {
            return;
        };
        let InboxLoad::Loading {
            later,
            last,
            last_key: newest,
        } = &mut serving.inbox
        else {
            return;
        };
        *last = messages.last().map_or(*last, |(sequence, _)| *sequence);
        *newest = last_key.or_else(|| newest.take());
        let more = match (std::mem::replace(later, Later::nothing()), rest) {
            (kept, Rest::More) => {
                *later = kept;
                true
            }
            // What was accepted meanwhile and not kept stands after what was read.
            (Later::OnDisk, Rest::Last) => true,
            (Later::Kept { messages: kept, .. }, Rest::Last) => {
                messages.extend(kept.into_iter().filter(|(sequence, _)| *sequence > *last));
                false
            }
        };
        let after = newest.clone();
        if !more {
            serving.inbox = InboxLoad::Loaded;
        }
        if !messages.is_empty() {
            self.local
                .push_back(Local::Turns(partition, TurnsInput::Inbox(messages)));
        }
        if more {
            self.read_inbox(partition, term, after, out);
        }
    }

    /// Messages just accepted, in inbox order.
    pub(super) fn deliver(
        &mut self,
        partition: PartitionId,
        term: Term,
        messages: Vec<(u64, Envelope)>,
    ) {
        let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
        let Some(serving) = slot.and_then(|slot| slot.serving_mut(term)) else {
            return;
        };
        match &mut serving.inbox {
            InboxLoad::Loading { later, .. } => later.add(messages),
            InboxLoad::Loaded => {
                self.local
                    .push_back(Local::Turns(partition, TurnsInput::Inbox(messages)));
            }
        }
    }

    /// What turns have left behind since the last flush goes into the log.
    pub(super) fn flush_turns(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.backlog.note(now.instant);
        let touched = std::mem::take(&mut cluster.touched);
        let mut again = Vec::new();
        for partition in touched {
            let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
            let Some(slot) = slot else { continue };
            let Some(term) = Slot::serving(slot).map(|(term, _)| term) else {
                continue;
            };
            let load = slot.row.as_ref().map(Load::of).unwrap_or_default();
            let Some(serving) = slot.serving_mut(term) else {
                continue;
            };
            let mut effects = Vec::new();
            serving.turns.note(now.wall, load);
            serving.turns.flush(now.instant, &mut effects);
            if serving
                .turns
                .next_deadline()
                .is_some_and(|at| at <= now.instant)
            {
                again.push(partition);
            }
            self.turns_effects(now, partition, term, effects, out);
        }
        self.settle(now, out);
        if let Some(cluster) = &mut self.cluster {
            // One proposal a flush: what is left wants the next one at once.
            cluster.touched.extend(again);
        }
    }
}

fn open_topics(now: Now, me: NodeId, row: &PartitionRow, opening: &Opening) -> Topics {
    let opening = TopicsOpening {
        me,
        partition: opening.partition,
        partitions: opening.partitions,
        term: opening.term,
        writes: opening.writes,
        bounds: Bounds {
            dedup_bytes_max: opening.settings.dedup_bytes_max,
            messages_max: opening.settings.messages_max,
        },
    };
    let mut topics = Topics::open(now.instant, opening);
    topics.note(None, Age(row.age_ms), Load::of(row));
    topics
}
