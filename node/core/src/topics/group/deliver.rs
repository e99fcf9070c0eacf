//! Who gets which event; who comes, who goes, and what becomes of what it held.

use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::closed::ClosedRange;
use ghostlight_protocol::hash::{domain, hash64};
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::limits::LANE_FRAME_BYTES_MAX;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::topic::Purpose;
use ghostlight_protocol::wire::topic::{Attach, Deliver, Delivered, Roll};

use super::subscriber::{Subscriber, SubscriberId};
use super::{CLAIMED, Group, Lane, Place, is_expired};

/// Bytes of events in one frame; what is larger travels alone.
const DELIVER_BYTES: usize = LANE_FRAME_BYTES_MAX - 16 * 1_024;
/// A delivery that its subscriber does not know of for so long is lost.
pub(super) const LOST_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// A group that waits for room in the outbox looks again after this.
const OUTBOX_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Events for one subscriber.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::topics) struct Sent {
    pub(in crate::topics) to: SubscriberId,
    pub(in crate::topics) deliver: Deliver,
}

impl Group {
    /// A subscriber says that it is there, and what it holds.
    pub(in crate::topics) fn attach(&mut self, now: Instant, id: SubscriberId, attach: &Attach) {
        let known = self.subscribers.contains_key(&id);
        let mark = || self.verdicts.mark_of(id);
        let subscriber = self
            .subscribers
            .entry(id)
            .or_insert_with(|| Subscriber::new(now, attach, mark()));
        subscriber.hear(now);
        subscriber.set_credits(attach);
        if attach.epoch != self.row.epoch {
            return;
        }
        if known {
            self.find_lost(now, id, attach);
        } else {
            self.claim(now, id, &attach.held);
        }
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.says_it_holds(now, &attach.held);
        }
    }

    /// A frame with events for it did not leave this node: they are for whoever can be reached.
    pub(in crate::topics) fn not_sent(&mut self, now: Instant, id: SubscriberId, frame: u64) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else {
            return;
        };
        subscriber.hold_up(now);
        let out: Vec<u64> = subscriber.out.keys().copied().collect();
        for offset in out {
            let place = self.held.get(&offset).map(|held| held.place);
            if matches!(place, Some(Place::Out { number, .. }) if number == frame) {
                self.take_back(offset);
            }
        }
    }

    /// Who has said nothing of what was sent to them. Each is asked once for each period.
    pub(in crate::topics) fn those_to_speak_up(&mut self, now: Instant) -> Vec<SubscriberId> {
        let mut silent = Vec::new();
        for (id, subscriber) in &mut self.subscribers {
            if subscriber.to_be_asked().is_some_and(|at| at <= now) {
                subscriber.has_longer(now);
                silent.push(*id);
            }
        }
        silent
    }

    /// Those of a node that are there.
    pub(in crate::topics) fn call_roll(&self, node: NodeId, roll: &mut Roll) {
        for (id, subscriber) in &self.subscribers {
            if id.node == node {
                subscriber.answer_to(roll, self.row.epoch);
            }
        }
    }

    /// What was sent and neither held nor known is lost with its frame.
    fn find_lost(&mut self, now: Instant, id: SubscriberId, attach: &Attach) {
        let Some(subscriber) = self.subscribers.get(&id) else {
            return;
        };
        let holds = |offset: u64| {
            let mut ranges = attach.held.iter();
            ranges.any(|range| (range.first..range.end).contains(&offset))
        };
        let out: Vec<u64> = subscriber.out.keys().copied().collect();
        for offset in out.into_iter().filter(|offset| !holds(*offset)) {
            let Some(Place::Out { number, since, .. }) = self.held.get(&offset).map(|h| h.place)
            else {
                continue;
            };
            if number <= attach.seen || now.since(since) >= LOST_AFTER {
                self.take_back(offset);
            }
        }
    }

    /// It holds these from the leadership before.
    fn claim(&mut self, now: Instant, id: SubscriberId, held: &[ClosedRange]) {
        let top = self.acks.floor() + ghostlight_protocol::limits::GROUP_WINDOW;
        for range in held {
            let end = range.end.min(self.end).min(top);
            for offset in range.first.max(self.acks.floor())..end {
                if self.acks.contains(offset) {
                    continue;
                }
                if offset >= self.next {
                    self.claims.entry(offset).or_insert(id);
                    continue;
                }
                let Some(event) = self.held.get_mut(&offset) else {
                    continue;
                };
                if let Place::Waiting | Place::Ready = event.place {
                    self.ready.remove(&offset);
                    event.place = Place::Out {
                        to: id,
                        number: CLAIMED,
                        since: now,
                    };
                    if let Some(subscriber) = self.subscribers.get_mut(&id) {
                        subscriber.out.insert(offset, event.bytes);
                    }
                }
            }
        }
    }

    /// It is no longer at its subscriber.
    fn take_back(&mut self, offset: u64) {
        let Some(held) = self.held.get(&offset) else {
            return;
        };
        if let Place::Out { to, .. } = held.place {
            if let Some(subscriber) = self.subscribers.get_mut(&to) {
                subscriber.out.remove(&offset);
            }
            self.make_ready(offset);
        }
    }

    /// A subscriber has gone by its own word: what it held counts as never delivered.
    pub(in crate::topics) fn detach(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.get(&id) else {
            return;
        };
        let out: Vec<u64> = subscriber.out.keys().copied().collect();
        for offset in out {
            self.take_back(offset);
        }
        self.forget(id);
    }

    fn forget(&mut self, id: SubscriberId) {
        self.subscribers.remove(&id);
        self.claims.retain(|_, claimed| *claimed != id);
    }

    pub(in crate::topics) fn knows(&self, id: SubscriberId) -> bool {
        self.subscribers.contains_key(&id)
    }

    pub(in crate::topics) fn subscribers(&self) -> impl Iterator<Item = SubscriberId> + '_ {
        self.subscribers.keys().copied()
    }

    /// Subscribers that take events: those that leave hold nobody up.
    pub(in crate::topics) fn takers(&self) -> impl Iterator<Item = SubscriberId> + '_ {
        let takers = self
            .subscribers
            .iter()
            .filter(|(_, subscriber)| subscriber.takes_any());
        takers.map(|(id, _)| *id)
    }

    /// A node is silent, or speaks again.
    pub(in crate::topics) fn heard(&mut self, now: Instant, node: NodeId, word: Word) {
        for (id, subscriber) in &mut self.subscribers {
            match word {
                Word::Silence if id.node == node => subscriber.fall_silent(now),
                // What an earlier run of the node held is held by nobody.
                Word::Speech(run) if id.node == node && id.run() == run => subscriber.hear(now),
                Word::Silence | Word::Speech(_) => {}
            }
        }
    }

    /// Subscribers that hold something, and whose node is silent for too long, have failed to
    /// deliver it.
    fn expire_subscribers(&mut self, now: Instant) {
        let over = |s: &Subscriber| s.patience().is_some_and(|at| at <= now);
        let gone: Vec<SubscriberId> = self
            .subscribers
            .iter()
            .filter(|(_, subscriber)| over(subscriber))
            .map(|(id, _)| *id)
            .collect();
        self.have_gone(now, gone);
    }

    /// The same for those whose lease is over; `end` has it by when each was heard of. How many
    /// went, and when the next one may.
    pub(in crate::topics) fn end_leases(
        &mut self,
        now: Instant,
        end: impl Fn(SubscriberId, Instant) -> Instant,
    ) -> (usize, Option<Instant>) {
        let ends = self.subscribers.iter();
        let ends = ends.map(|(id, subscriber)| (end(*id, subscriber.heard()), *id));
        let (over, stand): (Vec<_>, Vec<_>) = ends.partition(|(at, _)| *at <= now);
        let gone = over.len();
        self.have_gone(now, over.into_iter().map(|(_, id)| id).collect());
        (gone, stand.into_iter().map(|(at, _)| at).min())
    }

    fn have_gone(&mut self, now: Instant, gone: Vec<SubscriberId>) {
        for id in gone {
            let out: Vec<u64> = self.subscribers[&id].out.keys().copied().collect();
            for offset in out {
                self.fail(now, offset, "its subscriber has gone", None);
            }
            self.forget(id);
        }
    }

    /// Does what is due, and gives what is to be sent.
    pub(in crate::topics) fn drive(
        &mut self,
        now: Instant,
        wall: Option<WallTime>,
        outbox: Room,
    ) -> Vec<Sent> {
        self.wake(now);
        self.expire_subscribers(now);
        self.take(now, wall);
        if self.settings.purpose() == Purpose::Forward {
            if outbox == Room::None {
                self.quiet_until = self.quiet_until.max(Some(now + OUTBOX_PAUSE));
            }
            self.promote(now);
            if self.forwards_full() {
                return Vec::new();
            }
        }
        let is_paused = self.row.paused != 0 && !canary::sings(Canary::PauseUnread);
        if is_paused || self.quiet_until.is_some() {
            return Vec::new();
        }
        let mut sent: Vec<Sent> = Vec::new();
        let mut open: std::collections::BTreeMap<SubscriberId, (usize, usize)> =
            std::collections::BTreeMap::new();
        let mut from = 0;
        while let Some(offset) = self.ready.range(from..).next().copied() {
            from = offset + 1;
            let held = &self.held[&offset];
            if is_expired(&held.event, wall) {
                if let Some(held) = self.release(offset) {
                    self.expired(now, offset, held.event);
                }
                continue;
            }
            let bytes = held.bytes;
            let Some(to) = self.choose(offset) else {
                break;
            };
            self.ready.remove(&offset);
            let place = match open.get_mut(&to) {
                Some((place, filled)) if *filled + bytes <= DELIVER_BYTES => {
                    *filled += bytes;
                    *place
                }
                _ => {
                    open.insert(to, (sent.len(), bytes));
                    sent.push(self.frame_to(to));
                    sent.len() - 1
                }
            };
            let number = sent[place].deliver.number;
            let event = self.hand_out(now, offset, to, number);
            sent[place].deliver.events.extend(event);
            self.take(now, wall);
        }
        sent
    }

    fn frame_to(&mut self, to: SubscriberId) -> Sent {
        let number = self.subscribers.get_mut(&to).map_or(0, |subscriber| {
            subscriber.sent += 1;
            subscriber.sent
        });
        Sent {
            to,
            deliver: Deliver {
                epoch: self.row.epoch,
                number,
                events: Vec::new(),
            },
        }
    }

    fn hand_out(
        &mut self,
        now: Instant,
        offset: u64,
        to: SubscriberId,
        number: u64,
    ) -> Option<Delivered> {
        let attempt = self.row.attempts_of(offset).saturating_add(1);
        let held = self.held.get_mut(&offset)?;
        held.place = Place::Out {
            to,
            number,
            since: now,
        };
        let subscriber = self.subscribers.get_mut(&to)?;
        subscriber.given(now, offset, held.bytes);
        self.counters.delivered += 1;
        if attempt > 1 {
            self.counters.redelivered += 1;
        }
        Some(Delivered {
            offset,
            attempt,
            event: Some(held.event.clone()),
        })
    }

    /// Events with a key go to the same subscriber as long as it has credit; others to one on the
    /// leader's own node, as long as it has credit, and then to whoever has most.
    fn choose(&self, offset: u64) -> Option<SubscriberId> {
        let able = || self.subscribers.iter().filter(|(_, s)| s.takes());
        if let Some(Lane::Key(key)) = &self.held[&offset].lane {
            let weight = |id: &SubscriberId| {
                let mut bytes = key.to_vec();
                bytes.extend_from_slice(&id.node.to_bytes());
                bytes.extend_from_slice(&id.number.to_be_bytes());
                hash64(domain::EVENT_KEY, &bytes)
            };
            return able().map(|(id, _)| *id).max_by_key(weight);
        }
        let near = self.verdicts.node();
        let most = able().max_by_key(|(id, subscriber)| {
            let near = u8::from(near == Some(id.node));
            (near, subscriber.free_events())
        });
        most.map(|(id, _)| *id)
    }
}

/// Whether messages may be added to the partition's outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::topics) enum Room {
    Some,
    None,
}

/// See [`Group::heard`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::topics) enum Word {
    Silence,
    /// Of this run of it.
    Speech(Generation),
}
