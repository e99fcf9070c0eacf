//! A vote is given once (Raft 5.2; reliability S4): no stint promises its vote to two candidates of
//! one term, whatever its disk has lost meanwhile.
//!
//! Judged when the vote is durable: before that it has not left.

use std::collections::BTreeMap;

use ghostlight_core::io::{PersistTicket, StoreEffect};
use ghostlight_protocol::ids::{PartitionId, PeerId, Term};

use crate::net::Place;

/// Who votes where: peer ids are never used twice, so they need no place.
type Ballot = (PartitionId, PeerId, Term);

/// Every durable vote.
#[derive(Default, Debug)]
pub(super) struct Votes {
    given: BTreeMap<Ballot, (PeerId, Place)>,
    waiting: BTreeMap<(Place, PersistTicket), Vec<(Ballot, PeerId)>>,
}

impl Votes {
    pub(super) fn stopped(&mut self, place: Place) {
        self.waiting.retain(|(p, _), _| *p != place);
    }

    pub(super) fn asked(&mut self, place: Place, effect: &StoreEffect) {
        let StoreEffect::Persist {
            ticket,
            installs,
            writes,
            ..
        } = effect
        else {
            return;
        };
        let written = writes.iter().filter_map(|w| {
            let state = w.hard_state?;
            Some(((w.partition, w.peer, state.term), state.vote))
        });
        let installed = installs.iter().map(|install| {
            let state = install.hard_state;
            ((install.partition, install.peer, state.term), state.vote)
        });
        let votes = written
            .chain(installed)
            .filter(|(_, vote)| *vote != PeerId(0));
        self.waiting.insert((place, *ticket), votes.collect());
    }

    pub(super) fn persisted(&mut self, place: Place, ticket: PersistTicket) -> Result<(), String> {
        for (ballot, vote) in self.waiting.remove(&(place, ticket)).unwrap_or_default() {
            let (first, at) = *self.given.entry(ballot).or_insert((vote, place));
            if first != vote {
                let (partition, peer, term) = ballot;
                return Err(format!(
                    "a vote is given once: {partition} {peer} voted for {first} in {term} at node {at}, \
                     now for {vote} at node {place}"
                ));
            }
        }
        Ok(())
    }
}
