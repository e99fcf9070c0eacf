//! Where to send a call next, and when: what this gateway has seen of each partition's leadership.
//!
//! A known leader is asked directly. When none is known, or the known one has refused, *one* call
//! of the partition at a time searches: it asks the replicas in order, pauses, and begins again.
//! The others are parked until somebody is announced, hinted at, or answers; so a failover under
//! load costs a few frames per partition, not a few per call.

use std::collections::BTreeSet;
use std::time::Duration;

use ghostlight_protocol::call::LeaderHint;
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::time::Instant;
use rand::Rng;

use super::{Reachable, Routes};

/// Redirects that one round follows before it pauses.
pub(super) const HOPS_MAX: u32 = 3;
/// Shortest pause between two rounds.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause between two rounds.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Pauses that double, with jitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(PAUSE_MIN)
    }

    /// A pause between half and all of the present step; the next step is twice as long.
    pub(super) fn pause(&mut self, rng: &mut impl Rng) -> Duration {
        let nanos = self.0.as_nanos() as u64;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        Duration::from_nanos(rng.random_range(nanos / 2..=nanos))
    }
}

/// What a call may do in its partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// May ask replicas that are not known to lead.
    Searches,
    /// Another call searches: ask a known leader, or wait.
    Waits,
}

/// Whom to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// A leader as far as we know; its term, or 0 if only its answers tell that it leads.
    Leader(NodeId, Term),
    /// Somebody who may know more.
    Asked(NodeId, Term),
    /// Nobody at the moment.
    Nobody,
}

/// Whether a hint told something new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Learned {
    /// A newer leadership.
    Newer,
    /// Nothing.
    Nothing,
}

/// The calls of one partition, and what they have found out together.
#[derive(Default, Debug)]
pub(super) struct Search {
    /// Every call of this partition that has no answer.
    pub(super) calls: BTreeSet<u64>,
    /// Newest leadership seen in hints.
    lead: Option<(Term, Option<NodeId>)>,
    /// A leadership that has refused; only the searcher tries it again.
    refuted: Option<(Term, NodeId)>,
    /// A node that answered as a leader does, while nothing better is known.
    serves: Option<NodeId>,
    /// Who searches, and how long the others hold still for it.
    searcher: Option<(u64, Instant)>,
}

impl Search {
    /// Takes over a hint about this partition.
    pub(super) fn learn(&mut self, hint: &LeaderHint) -> Learned {
        let leader = NodeId::from_slice(&hint.leader);
        let term = Term(hint.term);
        let newer = match self.lead {
            None => true,
            Some((known, node)) => {
                term > known || term == known && node.is_none() && leader.is_some()
            }
        };
        if !newer {
            return Learned::Nothing;
        }
        self.lead = Some((term, leader));
        self.serves = None;
        match leader {
            Some(_) => Learned::Newer,
            None => Learned::Nothing,
        }
    }

    /// A leadership announced itself: whatever it refused before it opened no longer counts.
    pub(super) fn announced(&mut self, term: Term) {
        if self.refuted.is_some_and(|(refuted, _)| refuted <= term) {
            self.refuted = None;
        }
    }

    /// A node refused because it does not lead.
    pub(super) fn refuse(&mut self, node: NodeId, term: Term) {
        if self.serves == Some(node) {
            self.serves = None;
        }
        if term != Term(0) {
            self.refuted = Some((term, node));
        }
    }

    /// A node fell silent.
    pub(super) fn silent(&mut self, node: NodeId) {
        if self.serves == Some(node) {
            self.serves = None;
        }
    }

    /// A node gave an answer that only a leader gives.
    pub(super) fn served(&mut self, node: NodeId) {
        self.serves = Some(node);
        if self.refuted.is_some_and(|(_, refuted)| refuted == node) {
            self.refuted = None;
        }
    }

    /// The part that call `key` has at this moment.
    pub(super) fn part(&self, key: u64, now: Instant) -> Part {
        match self.searcher {
            Some((searcher, until)) if searcher != key && until > now => Part::Waits,
            Some(_) | None => Part::Searches,
        }
    }

    /// Call `key` searches; the others hold still until then.
    pub(super) fn search(&mut self, key: u64, until: Instant) {
        self.searcher = Some((key, until));
    }

    /// Until when the calls that do not search hold still; `None`: nobody searches.
    pub(super) fn searching_until(&self) -> Option<Instant> {
        self.searcher.map(|(_, until)| until)
    }

    /// Call `key` no longer searches; true if it did.
    pub(super) fn stop_searching(&mut self, key: u64) -> bool {
        let searched = self.searcher.is_some_and(|(searcher, _)| searcher == key);
        if searched {
            self.searcher = None;
        }
        searched
    }

    /// Whom a call asks next that has asked `asked` in this round.
    pub(super) fn target(
        &self,
        partition: PartitionId,
        part: Part,
        asked: &[NodeId],
        routes: &dyn Routes,
    ) -> Target {
        if asked.len() > HOPS_MAX as usize {
            return Target::Nobody;
        }
        let usable =
            |node: NodeId| !asked.contains(&node) && routes.reachable(node) == Reachable::Yes;
        let cached = routes
            .leader(partition)
            .map(|(term, node)| (term, Some(node)));
        let lead = [cached, self.lead]
            .into_iter()
            .flatten()
            .max_by_key(|(term, node)| (*term, node.is_some()));
        if let Some((term, Some(node))) = lead
            && usable(node)
        {
            match (self.refuted == Some((term, node)), part) {
                (false, _) => return Target::Leader(node, term),
                (true, Part::Searches) => return Target::Asked(node, term),
                (true, Part::Waits) => {}
            }
        }
        if let Some(node) = self.serves
            && usable(node)
        {
            return Target::Leader(node, Term(0));
        }
        match part {
            Part::Waits => Target::Nobody,
            Part::Searches => routes
                .candidates(partition)
                .into_iter()
                .find(|node| usable(*node))
                .map_or(Target::Nobody, |node| Target::Asked(node, Term(0))),
        }
    }
}
