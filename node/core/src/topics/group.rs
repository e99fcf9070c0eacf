//! One group of subscribers at the leader of its topic partition: what is taken from the log, who
//! holds what, and which verdicts wait for the log.
//!
//! An offset is in one of these places: settled (`acks`), not taken yet (at or above `next`), or
//! held. A held one waits behind another of its lane, is ready, is out at a subscriber, pauses
//! after a failure, or has its verdict on the way to the log. Everything here dies with the
//! leadership; what must not die is in the group's row. Absent: frames, reads, and the clock.

mod deliver;
mod settle;
mod subscriber;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::hash::{domain, hash64};
use ghostlight_protocol::limits::{
    GROUP_WINDOW, MAX_DELIVER_DEFAULT, RETRY_PAUSE_MAX, RETRY_PAUSE_MIN,
};
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::topic::{
    AckSet, GroupRow, GroupSettings, Order, TopicBatch, TopicEvent, TopicRow,
};
use prost::Message;

pub(super) use deliver::{Room, Sent, Word};
use settle::Verdicts;
pub(super) use settle::{Along, Confirms, Home};
use subscriber::Subscriber;
pub(super) use subscriber::SubscriberId;

/// Bytes of the events that one group holds in memory, its letters on their way included; one event
/// may exceed them alone.
const HELD_BYTES_MAX: usize = 16 << 20;
/// Bytes of batches that a group keeps before it takes them; what is appended beyond it is read
/// again.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Group {
    row: GroupRow,
    settings: GroupSettings,
    /// Settled, verdicts on their way included.
    acks: AckSet,
    /// Every lower offset is settled for good, or no longer kept. The window begins here: verdicts
    /// that nobody can write down are bounded too.
    written: u64,
    /// The next offset to be taken from the log.
    next: u64,
    /// End of the log.
    end: u64,
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
    lanes: BTreeMap<Lane, VecDeque<u64>>,
    ready: BTreeSet<u64>,
    pauses: BTreeSet<(Instant, u64)>,
    ahead: VecDeque<Arc<TopicBatch>>,
    ahead_bytes: usize,
    subscribers: BTreeMap<SubscriberId, Subscriber>,
    /// Offsets not taken yet that a subscriber holds from the leadership before.
    claims: BTreeMap<u64, SubscriberId>,
    verdicts: Verdicts,
    /// Nothing is delivered before it: subscribers of the leadership before say first what they
    /// hold.
    quiet_until: Option<Instant>,
    counters: GroupCounters,
}

/// What a group has done in this leadership.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct GroupCounters {
    pub(super) delivered: u64,
    pub(super) redelivered: u64,
}

/// What holds an event up besides itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Lane {
    /// Events with this key.
    Key(Bytes),
    /// All events of the topic partition.
    All,
}

#[derive(Debug)]
struct Held {
    event: TopicEvent,
    lane: Option<Lane>,
    bytes: usize,
    place: Place,
}

/// In place of a delivery's number: the event came from the leader before.
const CLAIMED: u64 = 0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Another of its lane comes first.
    Waiting,
    /// May be delivered.
    Ready,
    /// At a subscriber, since its delivery of this number.
    Out {
        to: SubscriberId,
        number: u64,
        since: Instant,
    },
    /// Its failure is on the way to the log.
    Failing,
    /// Its pause runs.
    Pausing(Instant),
}

/// Whether a group wants events of its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hunger {
    /// Everything that is there was taken, or nobody has credit.
    Nothing,
    /// Batches from the one that holds this offset.
    From(u64),
}

impl Group {
    /// A group as its row has it. `quiet`: how long subscribers that were there before may take to
    /// say what they hold.
    pub(super) fn new(now: Instant, row: GroupRow, topic: &TopicRow, quiet: Duration) -> Self {
        let settings = row.settings.clone().unwrap_or_default();
        let mut acks = row.acks();
        // The row says so with its next entry; what is no longer kept is no part of the window.
        acks.raise(topic.first);
        let behind = acks.floor() < topic.next;
        Self {
            next: acks.floor(),
            written: acks.floor(),
            end: topic.next,
            quiet_until: behind.then(|| now + quiet),
            acks,
            settings,
            row,
            held: BTreeMap::new(),
            held_bytes: 0,
            lanes: BTreeMap::new(),
            ready: BTreeSet::new(),
            pauses: BTreeSet::new(),
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            subscribers: BTreeMap::new(),
            claims: BTreeMap::new(),
            verdicts: Verdicts::default(),
            counters: GroupCounters::default(),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.row.epoch
    }

    pub(super) fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    pub(super) fn counters(&self) -> GroupCounters {
        self.counters
    }

    /// Events at subscribers.
    pub(super) fn in_flight(&self) -> usize {
        self.subscribers.values().map(|s| s.out.len()).sum()
    }

    /// Nobody subscribes, and no verdict is under way: it may be forgotten.
    pub(super) fn is_idle(&self) -> bool {
        self.subscribers.is_empty() && self.verdicts.is_empty()
    }

    /// The row was changed by an operator, or by a new subscriber. Another epoch: all that is out
    /// is void.
    pub(super) fn changed(&mut self, row: GroupRow, topic: &TopicRow) -> Changed {
        self.end = topic.next;
        self.settings = row.settings.clone().unwrap_or_default();
        if row.epoch == self.row.epoch {
            // Verdicts on their way are newer than what the row says of offsets.
            self.row = GroupRow {
                settings: row.settings,
                paused: row.paused,
                letters: row.letters,
                ..self.row.clone()
            };
            return Changed::Settings;
        }
        self.acks = row.acks();
        self.acks.raise(topic.first);
        self.next = self.acks.floor();
        self.written = self.next;
        self.row = row;
        self.held.clear();
        self.held_bytes = 0;
        self.lanes.clear();
        self.ready.clear();
        self.pauses.clear();
        self.ahead.clear();
        self.ahead_bytes = 0;
        self.claims.clear();
        self.verdicts.void();
        self.quiet_until = None;
        for subscriber in self.subscribers.values_mut() {
            subscriber.void();
        }
        Changed::Epoch
    }

    /// A batch was appended: taken along if all before it is here.
    pub(super) fn appended(&mut self, batch: &Arc<TopicBatch>, bytes: usize) {
        let at = self.ahead_end();
        self.end = batch.base.saturating_add(batch.events.len() as u64);
        if at == batch.base && self.ahead_bytes + bytes <= AHEAD_BYTES_MAX {
            self.ahead_bytes += bytes;
            self.ahead.push_back(Arc::clone(batch));
        }
    }

    /// Batches that were read, in order, from the one that holds what was wanted.
    pub(super) fn read(&mut self, batches: impl IntoIterator<Item = Arc<TopicBatch>>) {
        for batch in batches {
            let end = batch.base.saturating_add(batch.events.len() as u64);
            if end <= self.ahead_end() {
                continue;
            }
            // What lies between is no longer kept, which `trimmed` says; it is not for a page to
            // skip anything.
            if batch.base > self.ahead_end() {
                break;
            }
            self.ahead_bytes += batch.encoded_len();
            self.ahead.push_back(batch);
        }
    }

    /// The front of the log has gone up to here.
    pub(super) fn trimmed(&mut self, first: u64) {
        self.raise(first);
    }

    /// What lies below `first` can be delivered to nobody: nothing waits for it, and it is no part
    /// of the window.
    fn raise(&mut self, first: u64) {
        self.written = self.written.max(first);
        self.acks.raise(first);
        let floor = self.acks.floor();
        let below: Vec<u64> = self
            .held
            .range(..floor)
            .map(|(offset, _)| *offset)
            .collect();
        for offset in below {
            self.release(offset);
        }
        if self.next < floor {
            self.next = floor;
            self.claims = self.claims.split_off(&floor);
        }
    }

    fn ahead_end(&self) -> u64 {
        self.ahead.back().map_or(self.next, |batch| {
            batch.base.saturating_add(batch.events.len() as u64)
        })
    }

    /// Whether it wants to read.
    pub(super) fn hunger(&self) -> Hunger {
        if self.ahead.is_empty() && self.next < self.end && self.wants_more() {
            Hunger::From(self.next)
        } else {
            Hunger::Nothing
        }
    }

    fn wants_more(&self) -> bool {
        self.row.paused == 0
            && self.ready.len() < self.free_events()
            && self.next < self.written.saturating_add(GROUP_WINDOW)
            && self.held_bytes + self.verdicts.bytes() < HELD_BYTES_MAX
    }

    fn free_events(&self) -> usize {
        self.subscribers.values().map(Subscriber::free_events).sum()
    }

    /// Takes events from the batches at hand, as many as subscribers can use.
    pub(super) fn take(&mut self, now: Instant, wall: Option<WallTime>) {
        while self.wants_more() {
            let Some(batch) = self.ahead.front() else {
                return;
            };
            let place = self.next.saturating_sub(batch.base) as usize;
            let Some(event) = batch.events.get(place) else {
                let batch = self.ahead.pop_front();
                let bytes = batch.map_or(0, |batch| batch.encoded_len());
                self.ahead_bytes = self.ahead_bytes.saturating_sub(bytes);
                continue;
            };
            let event = event.clone();
            let offset = self.next;
            self.next += 1;
            self.take_one(now, wall, offset, event);
        }
    }

    fn take_one(&mut self, now: Instant, wall: Option<WallTime>, offset: u64, event: TopicEvent) {
        let claim = self.claims.remove(&offset);
        if self.acks.contains(offset) {
            return;
        }
        if !event.only_group.is_empty() && event.only_group != self.verdicts.group() {
            return self.pass_over(now, offset);
        }
        if claim.is_none() && is_expired(&event, wall) {
            return self.expired(now, offset, event);
        }
        let lane = match self.settings.order() {
            Order::None => None,
            Order::Key => event.key.clone().map(Lane::Key),
            Order::Partition => Some(Lane::All),
        };
        let bytes = event.encoded_len();
        self.held_bytes += bytes;
        let mut place = Place::Ready;
        if let Some(lane) = &lane {
            let queue = self.lanes.entry(lane.clone()).or_default();
            if !queue.is_empty() {
                place = Place::Waiting;
            }
            queue.push_back(offset);
        }
        if let Some(to) = claim
            && let Some(subscriber) = self.subscribers.get_mut(&to)
        {
            // It holds the event already, whatever stands before it here.
            subscriber.out.insert(offset, bytes);
            place = Place::Out {
                to,
                number: CLAIMED,
                since: now,
            };
        }
        if place == Place::Ready {
            self.ready.insert(offset);
        }
        self.held.insert(
            offset,
            Held {
                event,
                lane,
                bytes,
                place,
            },
        );
    }

    /// An offset is done: the next one of its lane may go.
    fn release(&mut self, offset: u64) -> Option<Held> {
        let held = self.held.remove(&offset)?;
        self.held_bytes -= held.bytes;
        self.ready.remove(&offset);
        match held.place {
            Place::Out { to, .. } => {
                if let Some(subscriber) = self.subscribers.get_mut(&to) {
                    subscriber.out.remove(&offset);
                }
            }
            Place::Pausing(until) => {
                self.pauses.remove(&(until, offset));
            }
            Place::Waiting | Place::Ready | Place::Failing => {}
        }
        if let Some(lane) = &held.lane {
            self.advance_lane(lane, offset);
        }
        Some(held)
    }

    fn advance_lane(&mut self, lane: &Lane, gone: u64) {
        let Some(queue) = self.lanes.get_mut(lane) else {
            return;
        };
        queue.retain(|offset| *offset != gone);
        let Some(front) = queue.front().copied() else {
            self.lanes.remove(lane);
            return;
        };
        if let Some(held) = self.held.get_mut(&front)
            && held.place == Place::Waiting
        {
            held.place = Place::Ready;
            self.ready.insert(front);
        }
    }

    /// What is not out at anybody may be delivered, as soon as its lane lets it.
    fn make_ready(&mut self, offset: u64) {
        let Some(held) = self.held.get_mut(&offset) else {
            return;
        };
        let front = match &held.lane {
            None => true,
            Some(lane) => self.lanes.get(lane).and_then(|q| q.front()) == Some(&offset),
        };
        held.place = if front { Place::Ready } else { Place::Waiting };
        if front {
            self.ready.insert(offset);
        }
    }

    /// Pauses that are over.
    fn wake(&mut self, now: Instant) {
        while let Some((at, offset)) = self.pauses.first().copied()
            && at <= now
        {
            self.pauses.pop_first();
            self.make_ready(offset);
        }
        if self.quiet_until.is_some_and(|until| until <= now) {
            self.quiet_until = None;
        }
        for subscriber in self.subscribers.values_mut() {
            subscriber.wake(now);
        }
    }

    fn max_deliver(&self) -> u32 {
        match self.settings.max_deliver {
            0 => MAX_DELIVER_DEFAULT,
            most => most,
        }
    }

    /// Pause before the delivery of an event that follows `failed` failed ones: up to a quarter
    /// longer, each event by another time, so that what failed together does not come back
    /// together.
    fn pause_after(&self, offset: u64, failed: u32) -> Duration {
        let or = |ms: u64, default: Duration| match ms {
            0 => default,
            ms => Duration::from_millis(ms),
        };
        let least = or(self.settings.retry_pause_ms, RETRY_PAUSE_MIN);
        let most = or(self.settings.retry_pause_max_ms, RETRY_PAUSE_MAX);
        let doubled = 1_u32 << failed.saturating_sub(1).min(20);
        let pause = least.saturating_mul(doubled).min(most.max(least));
        let seed = [offset.to_be_bytes(), u64::from(failed).to_be_bytes()].concat();
        let share = hash64(domain::EVENT_KEY, &seed) % 256;
        pause + pause / 4 * share as u32 / 256
    }

    /// When it must be looked at again, if nothing happens before. `may`: whether its verdicts may
    /// be proposed.
    pub(super) fn next_deadline(&self, may: MayPropose) -> Option<Instant> {
        let verdicts = match may {
            MayPropose::Yes => self.verdicts.due(),
            MayPropose::No => None,
        };
        let pause = self.pauses.first().map(|(at, _)| *at);
        let subscribers = self.subscribers.values().filter_map(Subscriber::deadline);
        [pause, self.quiet_until, verdicts]
            .into_iter()
            .flatten()
            .chain(subscribers)
            .min()
    }

    /// Relations that everything here relies on.
    pub(super) fn check(&self) {
        let out: usize = self.subscribers.values().map(|s| s.out.len()).sum();
        let ready = self.ready.len();
        assert!(out + ready <= self.held.len(), "{out} out, {ready} ready");
        if !cfg!(test) {
            return;
        }
        let mut bytes = 0;
        for (offset, held) in &self.held {
            bytes += held.bytes;
            assert!(
                *offset < self.next && !self.acks.contains(*offset),
                "{offset}"
            );
            assert_eq!(held.place == Place::Ready, self.ready.contains(offset));
            if let Place::Out { to, .. } = held.place {
                assert!(self.subscribers[&to].out.contains_key(offset), "{offset}");
            }
            if let Some(lane) = &held.lane {
                let queue = &self.lanes[lane];
                assert!(queue.contains(offset));
                let first = queue.front() == Some(offset);
                assert!(held.place != Place::Ready || first, "{offset} overtakes");
                assert!(held.place != Place::Waiting || !first, "{offset} is stuck");
            }
        }
        assert_eq!(bytes, self.held_bytes);
        let lanes: usize = self.lanes.values().map(VecDeque::len).sum();
        assert!(lanes <= self.held.len());
    }
}

/// Whether entries may be proposed at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MayPropose {
    Yes,
    /// Leadership is about to be handed over, or writes are refused.
    No,
}

/// See [`Group::changed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Changed {
    Settings,
    Epoch,
}

fn is_expired(event: &TopicEvent, wall: Option<WallTime>) -> bool {
    event.expires_ms != 0 && wall.is_some_and(|wall| event.expires_ms <= wall.0)
}
