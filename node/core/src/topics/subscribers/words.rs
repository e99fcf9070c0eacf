//! One word of a node about all of its subscribers in a partition, where each of them has nothing
//! to say.
//!
//! Ten thousand idle subscriptions are eighty thousand attachments. None of them speaks for itself
//! while nothing comes: every [`WORD_EVERY`] their node says to the leader of each partition how
//! many it has attached there in its term, and a digest of which (`Present`). The leader answers
//! with what it has of that node (`Counted`), and where both are equal it leases all of them anew.
//! Where they are not, or no answer comes, each speaks for itself, as it does while something is
//! delivered.
//!
//! Why that is right:
//!
//! - **A word prevents no lease from ending that should.** It counts only where the two sets are
//!   equal, members and epochs: then all that the leader has are there. One that has gone (its
//!   `Detach` was lost), of an earlier run of the node, or fallen silent at the leader makes the
//!   sets differ; the others speak for themselves, and its own lease ends when it would have.
//! - **A leader that lacks a subscriber finds out**: one that it dropped, or whose group was
//!   deleted and the refusal lost, is missing from its roll. At the next word all attach, and so
//!   does that one. So it is with an epoch that a subscriber has not heard of.
//! - **Another leader** hears nothing of the word: it is of a term. Who does not lead refuses it,
//!   and all look for the leader; who leads in another term gives no roll, and all attach. An
//!   attachment of an older term than the word's is not on it and speaks for itself.
//! - **Lost frames.** Without the word or its answer each speaks for itself after [`RENEW_WAIT`],
//!   which is early enough for its lease; if that has no answer either, it searches. An answer that
//!   comes late answers no later word: they are numbered.
//! - **Attached or detached while the word is under way**: words and `Attach` share a lane, so the
//!   leader has heard all that was said before. What it has answered and is not known yet makes the
//!   sets differ once more than needed, and no more than that.
//! - **What was sent to an idle subscriber and lost** is not for the word to find: the leader knows
//!   that it has sent something, and asks that subscriber if it hears nothing of it (`SpeakUp`,
//!   `group/subscriber.rs`).
//! - **Peers of earlier builds** do not answer words: each speaks for itself after each. They also
//!   do not ask to speak up: so a subscriber is idle only after a whole quiet period.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::limits::DELIVERY_LEASE;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::topic::{Counted, Present, Roll, TopicFrame, TopicSaid};

use super::attachment::{Attachment, RENEW_WAIT};
use super::{Subscribers, SubscribersEffect};
use crate::gateway::Routes;

/// Time between two words about a partition.
pub(super) const WORD_EVERY: Duration = Duration::from_secs(20);
const _: () = assert!(
    WORD_EVERY.as_secs() + 2 * RENEW_WAIT.as_secs() < DELIVERY_LEASE.as_secs(),
    "a leader waits for one that is idle, also when a word and what follows it are lost"
);

/// Words about all partitions where somebody subscribes.
#[derive(Debug, Default)]
pub(super) struct Words {
    of: BTreeMap<PartitionId, Word>,
    due: BTreeSet<(Instant, PartitionId)>,
    last: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    /// The next one is said then.
    Resting(Instant),
    Said(Asked),
}

/// A word that is not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    number: u64,
    at: Instant,
    to: NodeId,
    roll: Roll,
}

impl Word {
    fn due(self) -> Instant {
        match self {
            Self::Resting(at) => at,
            Self::Said(asked) => asked.at + RENEW_WAIT,
        }
    }
}

impl Words {
    /// Somebody subscribes to something in a partition.
    pub(super) fn begin(&mut self, now: Instant, partition: PartitionId) {
        if !self.of.contains_key(&partition) {
            self.set(partition, Word::Resting(now + WORD_EVERY));
        }
    }

    /// Nobody does any more.
    pub(super) fn end(&mut self, partition: PartitionId) {
        if let Some(word) = self.of.remove(&partition) {
            self.due.remove(&(word.due(), partition));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn set(&mut self, partition: PartitionId, word: Word) {
        self.end(partition);
        self.of.insert(partition, word);
        self.due.insert((word.due(), partition));
    }

    fn asked(&self, partition: PartitionId, from: NodeId) -> Option<Asked> {
        match self.of.get(&partition) {
            Some(Word::Said(asked)) if asked.to == from => Some(*asked),
            Some(Word::Said(_) | Word::Resting(_)) | None => None,
        }
    }
}

impl Subscribers {
    pub(super) fn tick_words(&mut self, now: Instant, out: &mut Vec<SubscribersEffect>) {
        while let Some((at, partition)) = self.words.due.first().copied()
            && at <= now
        {
            match self.words.of.get(&partition) {
                Some(Word::Said(asked)) => {
                    let (to, said) = (asked.to, asked.at);
                    self.rest(said, now, partition);
                    self.each_speaks(now, partition, to, out);
                }
                Some(Word::Resting(_)) | None => self.say_present(now, partition, out),
            }
        }
    }

    /// The next word comes a period after the one that was said.
    fn rest(&mut self, said: Instant, now: Instant, partition: PartitionId) {
        let at = (said + WORD_EVERY).max(now + RENEW_WAIT);
        self.words.set(partition, Word::Resting(at));
    }

    fn say_present(
        &mut self,
        now: Instant,
        partition: PartitionId,
        out: &mut Vec<SubscribersEffect>,
    ) {
        let places = self.places_of(partition);
        let of = |place| self.at(place).and_then(Attachment::leadership);
        let newest = places.iter().copied().filter_map(of).max();
        let Some((term, to)) = newest else {
            return self.rest(now, now, partition);
        };
        let mut roll = Roll::default();
        for place in places {
            let Some(attachment) = self.at(place) else {
                continue;
            };
            match attachment.leadership() {
                Some(leadership) if leadership == (term, to) => attachment.answer_to(&mut roll),
                // It has missed the newer leadership.
                Some(_) => self.speak_at(now, place, out),
                // It is looking for somebody.
                None => {}
            }
        }
        self.words.last += 1;
        let number = self.words.last;
        let asked = Asked {
            number,
            at: now,
            to,
            roll,
        };
        self.words.set(partition, Word::Said(asked));
        let roll = Some(roll);
        let frame = word(
            partition,
            term,
            TopicSaid::Present(Present { number, roll }),
        );
        out.push(SubscribersEffect::Send { to, frame });
    }

    /// A leader has compared.
    pub(super) fn counted(
        &mut self,
        now: Instant,
        from: NodeId,
        partition: PartitionId,
        counted: Counted,
        out: &mut Vec<SubscribersEffect>,
    ) {
        let asked = self.words.asked(partition, from);
        let Some(asked) = asked.filter(|asked| asked.number == counted.number) else {
            return;
        };
        self.rest(asked.at, now, partition);
        if counted.roll != Some(asked.roll) {
            self.each_speaks(now, partition, from, out);
        }
    }

    /// The node that was taken for the leader of a partition is not.
    pub(super) fn does_not_lead(
        &mut self,
        now: Instant,
        from: NodeId,
        partition: PartitionId,
        routes: &dyn Routes,
        out: &mut Vec<SubscribersEffect>,
    ) {
        let Some(asked) = self.words.asked(partition, from) else {
            return;
        };
        self.rest(asked.at, now, partition);
        for place in self.places_of(partition) {
            if self.at(place).and_then(Attachment::leader) == Some(from) {
                self.attach(now, place, routes, out);
            }
        }
    }

    fn each_speaks(
        &mut self,
        now: Instant,
        partition: PartitionId,
        to: NodeId,
        out: &mut Vec<SubscribersEffect>,
    ) {
        for place in self.places_of(partition) {
            if self.at(place).and_then(Attachment::leader) == Some(to) {
                self.speak_at(now, place, out);
            }
        }
    }

    fn speak_at(&mut self, now: Instant, place: super::Place, out: &mut Vec<SubscribersEffect>) {
        if let Some(subscription) = self.subscriptions.get_mut(&place.0)
            && let Some(attachment) = subscription.attachments.get_mut(usize::from(place.1))
        {
            let (group, wants) = (&subscription.group, &subscription.wants);
            out.extend(attachment.speak_for_itself(now, group, wants));
            self.reschedule(place);
        }
    }
}

/// What is of no single subscriber.
fn word(partition: PartitionId, term: Term, said: TopicSaid) -> TopicFrame {
    TopicFrame {
        partition: u32::from(partition.0),
        topic: Bytes::new(),
        subscriber: 0,
        term: term.0,
        said: Some(said),
    }
}
