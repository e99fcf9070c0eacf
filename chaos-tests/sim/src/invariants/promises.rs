//! What a stint has synced, and has told since, is a promise (reliability S4): a stint that begins,
//! or goes on, without something it had promised is out of its group in the end.
//!
//! A disk that went back in time has forgotten votes and acknowledged entries, while peers count on
//! them. Such a node may start; that it has a vote still when all is healed means that nobody found
//! out.

use std::collections::BTreeMap;

use ghostlight_core::io::{PersistTicket, StoreEffect};
use ghostlight_protocol::ids::{LogPosition, PartitionId, PeerId, Term};
use ghostlight_protocol::replica::log::RecoveredReplica;

use crate::net::Place;

type Stint = (PartitionId, PeerId);

/// What a stint has promised: where its log ends, its term, and its vote in it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Promised {
    end: LogPosition,
    term: Term,
    vote: PeerId,
}

impl Promised {
    /// Adds what was synced later: entries replace those that stand where they begin.
    fn add(&mut self, other: Self) {
        if other.end != LogPosition::default() {
            self.end = other.end;
        }
        if (self.term, self.vote) < (other.term, other.vote) {
            (self.term, self.vote) = (other.term, other.vote);
        }
    }

    /// Whether all of `self` is in what a disk gave back.
    fn is_kept_by(self, found: Self) -> bool {
        let voted = found.term > self.term || self.vote == PeerId(0) || found.vote == self.vote;
        self.end <= found.end && self.term <= found.term && voted
    }
}

/// Promises of all stints, and the broken ones.
#[derive(Default, Debug)]
pub(super) struct Promises {
    made: BTreeMap<Stint, Promised>,
    waiting: BTreeMap<(Place, PersistTicket), Vec<(Stint, Promised)>>,
    /// Synced, and nothing has left since that could tell of it: nobody counts on it yet.
    unheard: BTreeMap<Place, Vec<(Stint, Promised)>>,
    /// Ends of logs that a process had asked for when it died: its disk may have them.
    perhaps: BTreeMap<Stint, Vec<LogPosition>>,
    broken: BTreeMap<Stint, String>,
}

impl Promises {
    /// A process begins with what its disk gave back.
    pub(super) fn started(&mut self, place: Place, replicas: &[RecoveredReplica]) {
        self.stopped(place);
        for replica in replicas {
            let found = Promised {
                end: replica.tail.last().map_or(replica.truncated, |e| e.at),
                term: replica.hard_state.term,
                vote: replica.hard_state.vote,
            };
            let stint = (replica.partition, replica.peer);
            let made = self.made.entry(stint).or_default();
            let perhaps = self.perhaps.remove(&stint).unwrap_or_default();
            if !made.is_kept_by(found) && !perhaps.contains(&found.end) {
                let what = format!("node {place} begins with {found:?}, it had synced {made:?}");
                self.broken.entry(stint).or_insert(what);
            }
            made.add(found);
        }
    }

    pub(super) fn stopped(&mut self, place: Place) {
        let of_place = (place, PersistTicket(0))..=(place, PersistTicket(u64::MAX));
        let tickets: Vec<PersistTicket> = self.waiting.range(of_place).map(|(k, _)| k.1).collect();
        for (stint, synced) in self.unheard.remove(&place).unwrap_or_default() {
            self.perhaps.entry(stint).or_default().push(synced.end);
        }
        for ticket in tickets {
            for (stint, asked) in self.waiting.remove(&(place, ticket)).unwrap_or_default() {
                self.perhaps.entry(stint).or_default().push(asked.end);
            }
        }
    }

    /// A core asks its store for something.
    ///
    /// # Errors
    /// A stint begins that has promised something before.
    pub(super) fn asked(&mut self, place: Place, effect: &StoreEffect) -> Result<(), String> {
        match effect {
            StoreEffect::Create { partition, peer } => match self.made.get(&(*partition, *peer)) {
                None => Ok(()),
                Some(made) => Err(format!(
                    "a stint begins once: node {place} begins {partition} {peer}, which had synced {made:?}"
                )),
            },
            StoreEffect::Persist {
                ticket,
                installs,
                writes,
                ..
            } => {
                let written = writes.iter().map(|write| {
                    let state = write.hard_state.unwrap_or_default();
                    let end = write.entries.last().map(|entry| entry.at);
                    let stint = (write.partition, write.peer);
                    (stint, promised(end, state.term, state.vote))
                });
                let installed = installs.iter().map(|install| {
                    let state = install.hard_state;
                    let stint = (install.partition, install.peer);
                    (stint, promised(Some(install.at), state.term, state.vote))
                });
                let all = written.chain(installed).collect();
                self.waiting.insert((place, *ticket), all);
                Ok(())
            }
            StoreEffect::SaveDescriptor(_)
            | StoreEffect::SaveAddresses(_)
            | StoreEffect::Destroy { .. }
            | StoreEffect::Apply(_)
            | StoreEffect::Stage { .. }
            | StoreEffect::Truncate { .. }
            | StoreEffect::Condemn { .. }
            | StoreEffect::DiscardCondemned(_) => Ok(()),
        }
    }

    pub(super) fn persisted(&mut self, place: Place, ticket: PersistTicket) {
        let synced = self.waiting.remove(&(place, ticket)).unwrap_or_default();
        self.unheard.entry(place).or_default().extend(synced);
    }

    /// Something leaves a place that carries promises, and the mark behind them.
    pub(super) fn spoke(&mut self, place: Place) {
        let Some(synced) = self.unheard.get_mut(&place) else {
            return;
        };
        for (stint, more) in synced.drain(..) {
            self.made.entry(stint).or_default().add(more);
        }
    }

    /// Which promise a stint has broken, if any.
    pub(super) fn broken(&self, partition: PartitionId, peer: PeerId) -> Option<&str> {
        self.broken.get(&(partition, peer)).map(String::as_str)
    }
}

fn promised(end: Option<LogPosition>, term: Term, vote: PeerId) -> Promised {
    let end = end.unwrap_or_default();
    Promised { end, term, vote }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ghostlight_protocol::ids::LogIndex;

    fn made(term_of_end: u64, index: u64, term: u64, vote: u64) -> Promised {
        let end = LogPosition {
            term: Term(term_of_end),
            index: LogIndex(index),
        };
        promised(Some(end), Term(term), PeerId(vote))
    }

    #[test]
    fn what_is_kept_and_what_is_lost() {
        let promise = made(3, 9, 4, 2);
        for (found, kept) in [
            (made(3, 9, 4, 2), true),
            (made(3, 12, 4, 2), true),
            (made(4, 7, 5, 0), true),
            (made(3, 8, 4, 2), false),
            (made(2, 20, 4, 2), false),
            (made(3, 9, 3, 2), false),
            (made(3, 9, 4, 0), false),
            (made(3, 9, 4, 1), false),
        ] {
            assert_eq!(promise.is_kept_by(found), kept, "{found:?}");
        }
    }

    #[test]
    fn a_stint_that_promised_nothing_may_begin_again() {
        let mut promises = Promises::default();
        let (partition, peer) = (PartitionId(1), PeerId(7));
        let begin = StoreEffect::Create { partition, peer };
        assert_eq!(promises.asked(0, &begin), Ok(()));
        assert_eq!(promises.asked(0, &begin), Ok(()));
        promises.made.insert((partition, peer), made(0, 0, 1, 0));
        assert!(promises.asked(0, &begin).is_err());
    }
}
