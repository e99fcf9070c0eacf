//! How long the leader of a partition waits for subscribers: by what each has said, or its node for
//! all of its own.
//!
//! A word of a node about its subscribers here counts only where it names all that the leader has
//! of it, and no other (`subscribers/words.rs` says why that is enough). It then costs one
//! comparison, and no timer of any group: the end of the first lease is known as a bound below it,
//! and at that time all are looked at.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::{NodeId, Term};
use ghostlight_protocol::limits::DELIVERY_LEASE;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::topic::{Counted, Present, Roll, TopicFrame, TopicSaid};

use super::TopicsEffect;
use super::group::SubscriberId;
use super::leader::{Live, Topics};
use super::load::GroupId;

#[derive(Debug, Default)]
pub(super) struct Leases {
    /// When a node's word was last the truth.
    vouched: BTreeMap<NodeId, Instant>,
    /// No lease ends before it.
    due: Option<Instant>,
}

impl Leases {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// A lease has begun.
    pub(super) fn begun(&mut self, now: Instant) {
        let end = now + DELIVERY_LEASE;
        self.due = Some(self.due.map_or(end, |due| due.min(end)));
    }

    /// When a subscriber's ends that was heard of then.
    pub(super) fn end(&self, id: SubscriberId, heard: Instant) -> Instant {
        let vouched = self.vouched.get(&id.node).copied();
        vouched.map_or(heard, |at| at.max(heard)) + DELIVERY_LEASE
    }
}

impl Topics {
    /// A node says which of its subscribers are attached in this partition.
    pub(super) fn present(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        present: Present,
        out: &mut Vec<TopicsEffect>,
    ) {
        let roll = (term == self.term).then(|| self.roll_of(from));
        if roll.is_some() && roll == present.roll {
            self.leases.vouched.insert(from, now);
        }
        let number = present.number;
        let frame = TopicFrame {
            partition: u32::from(self.partition.0),
            topic: bytes::Bytes::new(),
            subscriber: 0,
            term: self.term.0,
            said: Some(TopicSaid::Counted(Counted { number, roll })),
        };
        out.push(TopicsEffect::Send { to: from, frame });
    }

    /// One that is silent is on no roll: it has to speak for itself.
    fn roll_of(&self, node: NodeId) -> Roll {
        let mut roll = Roll::default();
        for live in self.groups.values() {
            if let Live::Ready(serving) = live {
                serving.group.call_roll(node, &mut roll);
            }
        }
        roll
    }

    /// Leases that are over end, and the end of the next one is found.
    pub(super) fn tick_leases(&mut self, now: Instant) {
        if self.leases.due.is_none_or(|due| due > now) {
            return;
        }
        let mut next: Option<Instant> = None;
        for (id, live) in &mut self.groups {
            let Live::Ready(serving) = live else {
                continue;
            };
            let leases = &self.leases;
            let (gone, first) = serving.group.end_leases(now, |id, at| leases.end(id, at));
            if gone > 0 {
                self.touched.insert(GroupId::clone(id));
            }
            next = [next, first].into_iter().flatten().min();
        }
        self.leases.due = next;
        self.leases
            .vouched
            .retain(|_, at| *at + DELIVERY_LEASE > now);
    }
}
