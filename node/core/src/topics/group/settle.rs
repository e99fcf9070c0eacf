//! Verdicts on their way: gathered, proposed, committed, confirmed.
//!
//! Acks wait for at most 50 ms, 512 acks, or the next append of the partition; failures do not
//! wait. At most one entry of a group is in the log without an outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::closed::ClosedRange;
use ghostlight_protocol::command::Send;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::limits::{
    BATCH_BYTES_MAX, METHOD_BYTES_MAX, PARKED_LETTERS_MAX, REQUEST_BODY_BYTES_MAX,
};
use ghostlight_protocol::replica::GroupChanged;
use ghostlight_protocol::text;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::topic::{
    AckSet, Attribute, DeadEvent, DeadLetterRule, Forward, PublishBody, Purpose, Settle,
    TopicEvent, TopicName, TopicPartition, is_topic_key,
};
use ghostlight_protocol::wire::topic::{Confirm, FailedDelivery, Failure, Mark, Verdicts as Said};
use prost::Message;

use super::subscriber::SubscriberId;
use super::{CLAIMED, Group, Place};

/// Acks wait for so long.
const ACK_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a settle that has nothing in it, its names included.
const SETTLE_BYTES: usize = 8 << 10;
/// Bytes of a range or an offset.
const OFFSET_BYTES: usize = 32;
/// So many acks do not wait.
const ACKS_MAX: u64 = 512;

/// What the subscribers of a group hear once an entry is applied.
pub(in crate::topics) type Confirms = BTreeMap<SubscriberId, Confirm>;

/// Where the topic partition is, for letters that leave it, and for subscribers that are near.
#[derive(Clone, Debug)]
pub(in crate::topics) struct Home {
    /// The leader's node.
    pub(in crate::topics) node: NodeId,
    pub(in crate::topics) topic: TopicPartition,
    pub(in crate::topics) partitions: u16,
}

#[derive(Debug, Default)]
pub(super) struct Verdicts {
    home: Option<Home>,
    group: String,
    gathered: Batch,
    /// Since when the oldest of them waits.
    since: Option<Instant>,
    urgent: bool,
    /// Forwards that an open event stands before, or that have no room in the next entry.
    early: BTreeMap<u64, (SubscriberId, Send)>,
    early_bytes: usize,
    proposed: Option<Batch>,
    /// Confirmed without an entry: known already.
    known: Confirms,
}

/// Verdicts of one entry.
#[derive(Debug, Default)]
pub(in crate::topics) struct Batch {
    done: AckSet,
    acks: u64,
    failed: Vec<u64>,
    dead: Vec<DeadEvent>,
    forwards: Vec<Forward>,
    /// Of the letters and the forwards.
    bytes: usize,
    confirms: Confirms,
}

impl Batch {
    /// How many of its letters go into one entry beside its forwards, and the bytes of both.
    fn letters_that_fit(&self) -> (usize, usize) {
        let mut bytes = bytes_of(&self.forwards);
        let fits = self.dead.iter().take_while(|dead| {
            let fits = bytes < BATCH_BYTES_MAX;
            bytes += if fits { dead.encoded_len() } else { 0 };
            fits
        });
        (fits.count(), bytes)
    }

    fn is_empty(&self) -> bool {
        self.acks == 0 && self.failed.is_empty() && self.dead.is_empty() && self.forwards.is_empty()
    }
}

impl Verdicts {
    /// The node that leads.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.home.as_ref().map(|home| home.node)
    }

    /// Of a subscriber of this group, as its node computes it.
    pub(super) fn mark_of(&self, id: SubscriberId) -> Mark {
        let topic = self.home.as_ref().map(|home| home.topic.key().to_bytes());
        Mark::of(&topic.unwrap_or_default(), &self.group, id.number)
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gathered.is_empty()
            && self.early.is_empty()
            && self.proposed.is_none()
            && self.known.is_empty()
    }

    /// Of the events in it: letters and forwards.
    pub(super) fn bytes(&self) -> usize {
        let proposed = self.proposed.as_ref().map_or(0, |batch| batch.bytes);
        self.gathered.bytes + self.early_bytes + proposed
    }

    /// All of it was about another epoch: its subscribers learn that from the new one.
    pub(super) fn void(&mut self) {
        self.gathered = Batch::default();
        self.early.clear();
        self.early_bytes = 0;
        self.since = None;
        self.urgent = false;
    }

    /// When what is gathered must be proposed; `None`: nothing is, or an entry is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.proposed.is_some() || self.gathered.is_empty() {
            return None;
        }
        let since = self.since?;
        let now = self.urgent || self.gathered.acks >= ACKS_MAX;
        Some(if now { since } else { since + ACK_PAUSE })
    }

    fn note(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }
}

impl Group {
    pub(in crate::topics) fn set_home(&mut self, home: Home, group: &str) {
        self.verdicts.home = Some(home);
        group.clone_into(&mut self.verdicts.group);
    }

    /// A subscriber's verdicts.
    pub(in crate::topics) fn verdicts(&mut self, now: Instant, from: SubscriberId, said: &Said) {
        if let Some(subscriber) = self.subscribers.get_mut(&from) {
            subscriber.hear(now);
            subscriber.has_longer(now);
        }
        if said.epoch != self.row.epoch && !canary::sings(Canary::OldVerdictCounts) {
            let confirm = self.verdicts.known.entry(from).or_default();
            confirm.epoch = said.epoch;
            confirm.settled.extend(&said.done);
            confirm.counted.extend(said.failed.iter().map(|f| f.offset));
            return;
        }
        for range in &said.done {
            self.done(now, from, *range);
        }
        for failed in &said.failed {
            self.failed(now, from, failed);
        }
        for forward in &said.forwarded {
            self.forwarded(now, from, forward);
        }
    }

    /// A subscriber names the actor that an event is for.
    fn forwarded(&mut self, now: Instant, from: SubscriberId, forward: &Forward) {
        let offset = forward.offset;
        let range = ClosedRange {
            first: offset,
            end: offset.saturating_add(1),
        };
        if self.verdicts.early.contains_key(&offset) {
            // It waits here, in no entry yet: there is nothing to confirm.
            return;
        }
        if offset >= self.end || self.acks.contains(offset) {
            // Known: confirmed with what is on its way, if anything is.
            return self.done(now, from, range);
        }
        let send = match self.message_of(forward) {
            Ok(send) => send,
            Err(why) => return self.dropped(now, offset, why, from),
        };
        self.acks.add(offset, range.end);
        self.release(offset);
        self.verdicts.early_bytes += send.encoded_len();
        self.verdicts.early.insert(offset, (from, send));
        self.promote(now);
    }

    /// Forwards that no open event stands before go into the next entry: an actor gets its events
    /// in the order of the log, whoever held them when a leader died. No more than one entry holds,
    /// and none while an entry is in the log: it may come back.
    pub(super) fn promote(&mut self, now: Instant) {
        let epoch = self.row.epoch;
        while self.verdicts.proposed.is_none()
            && !self.forwards_full()
            && let Some((&offset, _)) = self.verdicts.early.first_key_value()
        {
            let held_before = self.held.range(..offset).next().is_some();
            let first = offset < self.acks.floor() || (offset < self.next && !held_before);
            if !first && !canary::sings(Canary::ForwardEarly) {
                return;
            }
            let Some((_, (from, send))) = self.verdicts.early.pop_first() else {
                return;
            };
            self.verdicts.early_bytes -= send.encoded_len();
            let gathered = &mut self.verdicts.gathered;
            let forward = Forward {
                offset,
                send: Some(send),
            };
            gathered.bytes += forward.encoded_len();
            gathered.forwards.push(forward);
            let confirm = gathered.confirms.entry(from).or_default();
            confirm.epoch = epoch;
            confirm.settled.push(ClosedRange {
                first: offset,
                end: offset.saturating_add(1),
            });
            self.verdicts.urgent = true;
            self.verdicts.note(now);
        }
    }

    /// The message that an event becomes. What comes from another node is checked here.
    fn message_of(&self, forward: &Forward) -> Result<Send, String> {
        let send = forward.send.clone().unwrap_or_default();
        let actor = ActorKey::parse(send.actor.clone()).map_err(|error| error.to_string())?;
        let home = self.verdicts.home.as_ref();
        let partitions = home.map_or(1, |home| home.partitions);
        if is_topic_key(&actor) {
            return Err(format!("{actor} is no actor"));
        }
        if send.method.len() > METHOD_BYTES_MAX || send.body.len() > REQUEST_BODY_BYTES_MAX {
            return Err(format!(
                "the message to {actor} has a method of {} and a body of {} bytes, at most \
                 {METHOD_BYTES_MAX} and {REQUEST_BODY_BYTES_MAX} may be",
                send.method.len(),
                send.body.len()
            ));
        }
        Ok(Send {
            destination: u32::from(partition_of(&actor, partitions).0),
            ..send
        })
    }

    /// Whether so much is to be forwarded that nothing more should be delivered before it is
    /// written.
    pub(super) fn forwards_full(&self) -> bool {
        bytes_of(&self.verdicts.gathered.forwards) >= BATCH_BYTES_MAX
    }

    fn done(&mut self, now: Instant, from: SubscriberId, range: ClosedRange) {
        let (first, end) = (range.first, range.end.min(self.end));
        if first >= end {
            return;
        }
        let epoch = self.row.epoch;
        let new = count_open(&self.acks, first, end);
        let on_its_way = self.verdicts.proposed.is_some();
        if new == 0 && !on_its_way && self.verdicts.gathered.is_empty() {
            let confirm = self.verdicts.known.entry(from).or_default();
            confirm.epoch = epoch;
            return confirm.settled.push(range);
        }
        self.acks.add(first, end);
        let held: Vec<u64> = self.held.range(first..end).map(|(o, _)| *o).collect();
        for offset in held {
            self.release(offset);
        }
        let gathered = &mut self.verdicts.gathered;
        gathered.done.add(first, end);
        // What was known and is on its way is confirmed with what comes after it.
        gathered.acks += new.max(1);
        let confirm = gathered.confirms.entry(from).or_default();
        confirm.epoch = epoch;
        confirm.settled.push(range);
        self.verdicts.note(now);
    }

    fn failed(&mut self, now: Instant, from: SubscriberId, failed: &FailedDelivery) {
        let offset = failed.offset;
        let counted = self.row.attempts_of(offset);
        let known = self.acks.contains(offset) || failed.attempt <= counted;
        let place = self.held.get(&offset).map(|held| held.place);
        match place {
            Some(Place::Out { to, .. }) if !known && to == from => {
                let reason = text::cut(failed.reason.clone());
                match failed.failure() {
                    Failure::Retry => self.fail(now, offset, &reason, Some(from)),
                    Failure::Drop => self.dropped(now, offset, reason, from),
                }
            }
            // The leader before has counted it, and did not live to say so: nobody holds it any
            // more.
            Some(Place::Out {
                to,
                number: CLAIMED,
                ..
            }) if to == from && !self.acks.contains(offset) => {
                self.take_out(offset);
                self.pause(now, offset);
                self.confirm_counted(from, offset);
            }
            // Its outcome is on its way to the log, or it is not taken yet: it is said again.
            Some(Place::Failing) | None if !known => {}
            _ => {
                self.confirm_counted(from, offset);
            }
        }
    }

    /// Says again that a failure was counted.
    fn confirm_counted(&mut self, to: SubscriberId, offset: u64) {
        let confirm = self.verdicts.known.entry(to).or_default();
        confirm.epoch = self.row.epoch;
        confirm.counted.push(offset);
    }

    /// One more delivery has failed.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        offset: u64,
        reason: &str,
        by: Option<SubscriberId>,
    ) {
        let attempts = self.row.attempts_of(offset).saturating_add(1);
        let parks = self.settings.dead_letters() == DeadLetterRule::Park;
        let full = parks && self.letters() >= PARKED_LETTERS_MAX;
        if attempts >= self.max_deliver() && !full {
            let Some(held) = self.release(offset) else {
                return;
            };
            return self.bury(now, offset, held.event, attempts, reason.to_owned(), by);
        }
        if !self.take_out(offset) {
            return;
        }
        let epoch = self.row.epoch;
        let gathered = &mut self.verdicts.gathered;
        gathered.failed.push(offset);
        if let Some(by) = by {
            let confirm = gathered.confirms.entry(by).or_default();
            confirm.epoch = epoch;
            confirm.counted.push(offset);
        }
        self.verdicts.urgent = true;
        self.verdicts.note(now);
    }

    /// Nobody has it any more, and it may not be delivered yet. `false`: it is not held.
    fn take_out(&mut self, offset: u64) -> bool {
        let Some(held) = self.held.get_mut(&offset) else {
            return false;
        };
        if let Place::Out { to, .. } = held.place
            && let Some(subscriber) = self.subscribers.get_mut(&to)
        {
            subscriber.out.remove(&offset);
        }
        held.place = Place::Failing;
        true
    }

    /// Parked letters, those on their way included.
    fn letters(&self) -> u64 {
        let proposed = self.verdicts.proposed.as_ref();
        let under_way = self.verdicts.gathered.dead.len() + proposed.map_or(0, |b| b.dead.len());
        self.row.letters.saturating_add(under_way as u64)
    }

    fn dropped(&mut self, now: Instant, offset: u64, reason: String, by: SubscriberId) {
        let letters = self.settings.purpose() == Purpose::Forward
            && self.settings.dead_letters() == DeadLetterRule::Park;
        if letters && self.letters() >= PARKED_LETTERS_MAX {
            return self.fail(now, offset, &reason, Some(by));
        }
        let attempts = self.row.attempts_of(offset).saturating_add(1);
        let Some(held) = self.release(offset) else {
            return;
        };
        match (self.settings.dead_letters(), self.settings.purpose()) {
            (DeadLetterRule::Topic(_), _) | (_, Purpose::Forward) => {
                self.bury(now, offset, held.event, attempts, reason, Some(by));
            }
            (DeadLetterRule::Park, Purpose::Handle) => {
                let range = ClosedRange {
                    first: offset,
                    end: offset + 1,
                };
                self.done(now, by, range);
            }
        }
    }

    /// An event that is past its time: a letter where the group has a topic for those.
    pub(super) fn expired(&mut self, now: Instant, offset: u64, event: TopicEvent) {
        match self.settings.dead_letters() {
            DeadLetterRule::Topic(_) => {
                let attempts = self.row.attempts_of(offset);
                let reason = "its time was over before it could be delivered".to_owned();
                self.bury(now, offset, event, attempts, reason, None);
            }
            DeadLetterRule::Park => self.pass_over(now, offset),
        }
    }

    /// An event that is not for this group.
    pub(super) fn pass_over(&mut self, now: Instant, offset: u64) {
        self.acks.add(offset, offset + 1);
        let gathered = &mut self.verdicts.gathered;
        gathered.done.add(offset, offset + 1);
        gathered.acks += 1;
        self.verdicts.note(now);
    }

    fn bury(
        &mut self,
        now: Instant,
        offset: u64,
        event: TopicEvent,
        attempts: u32,
        reason: String,
        by: Option<SubscriberId>,
    ) {
        self.acks.add(offset, offset + 1);
        let send = self.letter_to_topic(&event, attempts, &reason);
        let gathered = &mut self.verdicts.gathered;
        let dead = DeadEvent {
            offset,
            attempts,
            reason,
            park: send.is_none().then_some(event),
            send,
        };
        gathered.bytes += dead.encoded_len();
        gathered.dead.push(dead);
        if let Some(by) = by {
            let confirm = gathered.confirms.entry(by).or_default();
            confirm.epoch = self.row.epoch;
            confirm.counted.push(offset);
        }
        self.verdicts.urgent = true;
        self.verdicts.note(now);
    }

    /// `None`: it is parked; also if the name of the group's topic cannot be one.
    fn letter_to_topic(&self, event: &TopicEvent, attempts: u32, reason: &str) -> Option<Send> {
        let DeadLetterRule::Topic(topic) = self.settings.dead_letters() else {
            return None;
        };
        let home = self.verdicts.home.as_ref()?;
        let from = &home.topic.name;
        let name = TopicName::new(from.namespace(), from.pubsub(), &topic).ok()?;
        let by = event.key.as_deref().unwrap_or(event.source.as_bytes());
        let key: ActorKey = name.partition_for(by).key();
        let mut letter = TopicEvent {
            expires_ms: 0,
            only_group: String::new(),
            ..event.clone()
        };
        let attempts = attempts.to_string();
        for (name, value) in [
            ("ghostlight-dead-topic", from.topic()),
            ("ghostlight-dead-group", self.verdicts.group()),
            ("ghostlight-dead-attempts", attempts.as_str()),
            ("ghostlight-dead-reason", reason),
        ] {
            letter.attributes.retain(|attribute| attribute.name != name);
            letter.attributes.push(Attribute {
                name: name.to_owned(),
                value: value.to_owned(),
            });
        }
        let body = PublishBody {
            events: vec![letter],
            ..PublishBody::default()
        };
        Some(Send {
            destination: u32::from(partition_of(&key, home.partitions).0),
            actor: key.to_bytes(),
            method: "publish".to_owned(),
            body: body.encode_to_vec().into(),
        })
    }

    /// Bytes that the verdicts take in an entry if they are proposed now, at most.
    pub(in crate::topics) fn proposal_bytes(&self) -> usize {
        let batch = &self.verdicts.gathered;
        let (_, bytes) = batch.letters_that_fit();
        let offsets = batch.failed.len() + batch.done.ranges().len();
        bytes + offsets * OFFSET_BYTES + SETTLE_BYTES
    }

    /// What is to be proposed now, if anything; `along`: an entry is written in any case.
    pub(in crate::topics) fn propose(&mut self, now: Instant, along: Along) -> Option<Settle> {
        let verdicts = &mut self.verdicts;
        let due = verdicts.due()?;
        if along == Along::No && due > now {
            return None;
        }
        let mut batch = std::mem::take(&mut verdicts.gathered);
        (verdicts.since, verdicts.urgent) = (None, false);
        // Delivering stops before they are more than one entry holds.
        let forwards = batch.forwards.clone();
        // Letters may be large: what does not fit beside the forwards goes with the next entry,
        // which then is due at once.
        let (fits, bytes) = batch.letters_that_fit();
        verdicts.gathered.bytes = batch.bytes - bytes;
        batch.bytes = bytes;
        verdicts.gathered.dead = batch.dead.split_off(fits);
        if !verdicts.gathered.dead.is_empty() {
            let later: Vec<u64> = verdicts.gathered.dead.iter().map(|d| d.offset).collect();
            for (id, confirm) in &mut batch.confirms {
                let counted = confirm.counted.iter().copied();
                let (wait, go): (Vec<u64>, Vec<u64>) = counted.partition(|o| later.contains(o));
                confirm.counted = go;
                let waiting = verdicts.gathered.confirms.entry(*id).or_default();
                (waiting.epoch, waiting.counted) = (confirm.epoch, wait);
            }
            (verdicts.since, verdicts.urgent) = (Some(now), true);
        }
        let mut done: Vec<ClosedRange> = batch.done.ranges().to_vec();
        if batch.done.floor() > 0 {
            let end = batch.done.floor();
            done.insert(0, ClosedRange { first: 0, end });
        }
        let settle = Settle {
            group: verdicts.group.clone(),
            epoch: self.row.epoch,
            done,
            failed: batch.failed.clone(),
            dead: batch.dead.clone(),
            forwards,
        };
        verdicts.proposed = Some(batch);
        Some(settle)
    }

    /// Raft refused the entry: its verdicts wait for the next one.
    pub(in crate::topics) fn settle_dropped(&mut self, now: Instant) {
        let verdicts = &mut self.verdicts;
        let Some(batch) = verdicts.proposed.take() else {
            return;
        };
        let gathered = &mut verdicts.gathered;
        gathered.done.raise(batch.done.floor());
        for range in batch.done.ranges() {
            gathered.done.add(range.first, range.end);
        }
        gathered.acks += batch.acks;
        gathered.bytes += batch.bytes;
        gathered.failed.extend(batch.failed);
        drop(gathered.dead.splice(0..0, batch.dead));
        drop(gathered.forwards.splice(0..0, batch.forwards));
        for (id, confirm) in batch.confirms {
            let entry = gathered.confirms.entry(id).or_default();
            entry.epoch = confirm.epoch;
            entry.settled.extend(confirm.settled);
            entry.counted.extend(confirm.counted);
        }
        verdicts.note(now);
    }

    /// The entry was applied; gives what subscribers are to hear. `None` of `changed`: it was
    /// overtaken.
    pub(in crate::topics) fn settled(
        &mut self,
        now: Instant,
        changed: Option<&GroupChanged>,
    ) -> Confirms {
        let Some(batch) = self.verdicts.proposed.take() else {
            return Confirms::new();
        };
        let row = changed.and_then(|changed| changed.row.clone());
        if let Some(row) = row.filter(|row| row.epoch == self.row.epoch) {
            self.row = row;
            self.raise(self.row.floor);
            for offset in batch.failed {
                self.pause(now, offset);
            }
        }
        self.promote(now);
        batch.confirms
    }

    fn pause(&mut self, now: Instant, offset: u64) {
        let until = now + self.pause_after(offset, self.row.attempts_of(offset));
        if let Some(held) = self.held.get_mut(&offset)
            && held.place == Place::Failing
        {
            held.place = Place::Pausing(until);
            self.pauses.insert((until, offset));
        }
    }

    /// What was known already.
    pub(in crate::topics) fn take_known(&mut self) -> Confirms {
        std::mem::take(&mut self.verdicts.known)
    }
}

/// See [`Group::propose`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::topics) enum Along {
    No,
    WithAppend,
}

/// Bytes of the messages that events become.
fn bytes_of(forwards: &[Forward]) -> usize {
    forwards.iter().map(Message::encoded_len).sum()
}

/// Offsets of a range that are not settled.
fn count_open(acks: &AckSet, first: u64, end: u64) -> u64 {
    let mut at = first.max(acks.floor());
    let mut open = 0;
    for range in acks.ranges() {
        if range.first >= end {
            break;
        }
        if range.end <= at {
            continue;
        }
        open += range.first.saturating_sub(at);
        at = at.max(range.end);
    }
    open + end.saturating_sub(at)
}
