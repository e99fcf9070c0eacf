//! Log matching (Raft, figure 3): an entry of one index and term has one content and one
//! predecessor, whichever log it stands in; so two logs that agree on an entry agree on everything
//! before it.
//!
//! Judged when an entry is durable: what a crash took away before its sync was never promised to
//! anybody.

use std::collections::BTreeMap;

use ghostlight_core::io::{PersistTicket, StoreEffect};
use ghostlight_protocol::hash::hash64;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId, PeerId, Term};
use ghostlight_protocol::replica::log::{EntryKind, LogEntry, RecoveredReplica};

use crate::net::Place;

/// Every durable entry, and what each log holds.
#[derive(Default, Debug)]
pub(super) struct Logs {
    entries: BTreeMap<(PartitionId, LogIndex, Term), Entry>,
    logs: BTreeMap<(Place, PartitionId, PeerId), BTreeMap<LogIndex, Term>>,
    waiting: BTreeMap<(Place, PersistTicket), Vec<Write>>,
}

/// An entry, where it was first seen.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    before: Term,
    place: Place,
}

#[derive(Clone, Debug)]
enum Write {
    Installed(PartitionId, PeerId, LogPosition),
    Entries(PartitionId, PeerId, Vec<(LogPosition, u64)>),
}

impl Logs {
    pub(super) fn started(
        &mut self,
        place: Place,
        replicas: &[RecoveredReplica],
    ) -> Result<(), String> {
        self.stopped(place);
        for replica in replicas {
            let (partition, peer) = (replica.partition, replica.peer);
            self.write(place, Write::Installed(partition, peer, replica.truncated))?;
            let entries = replica.tail.iter().map(hashed).collect();
            self.write(place, Write::Entries(partition, peer, entries))?;
        }
        Ok(())
    }

    pub(super) fn stopped(&mut self, place: Place) {
        self.logs.retain(|(p, ..), _| *p != place);
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
        let mut waiting = Vec::new();
        for install in installs {
            waiting.push(Write::Installed(
                install.partition,
                install.peer,
                install.at,
            ));
        }
        for write in writes.iter().filter(|write| !write.entries.is_empty()) {
            let entries = write.entries.iter().map(hashed).collect();
            waiting.push(Write::Entries(write.partition, write.peer, entries));
        }
        self.waiting.insert((place, *ticket), waiting);
    }

    pub(super) fn persisted(&mut self, place: Place, ticket: PersistTicket) -> Result<(), String> {
        for write in self.waiting.remove(&(place, ticket)).unwrap_or_default() {
            self.write(place, write)?;
        }
        Ok(())
    }

    fn write(&mut self, place: Place, write: Write) -> Result<(), String> {
        match write {
            Write::Installed(partition, peer, at) => {
                let log = BTreeMap::from([(at.index, at.term)]);
                self.logs.insert((place, partition, peer), log);
                Ok(())
            }
            Write::Entries(partition, peer, entries) => {
                self.append(place, partition, peer, &entries)
            }
        }
    }

    fn append(
        &mut self,
        place: Place,
        partition: PartitionId,
        peer: PeerId,
        entries: &[(LogPosition, u64)],
    ) -> Result<(), String> {
        let Some((first, _)) = entries.first() else {
            return Ok(());
        };
        let log = self.logs.entry((place, partition, peer)).or_default();
        drop(log.split_off(&first.index));
        for (at, hash) in entries {
            let before = log.get(&LogIndex(at.index.0 - 1)).copied();
            log.insert(at.index, at.term);
            // The predecessor of what follows a cut of the front is not known here.
            let Some(before) = before else { continue };
            let seen = Entry {
                hash: *hash,
                before,
                place,
            };
            let key = (partition, at.index, at.term);
            let known = *self.entries.entry(key).or_insert(seen);
            if (known.hash, known.before) != (seen.hash, seen.before) {
                return Err(format!(
                    "logs match: {partition} {} {} is another entry at node {} (after {}) than at node \
                     {place} (after {})",
                    at.index, at.term, known.place, known.before, seen.before
                ));
            }
        }
        Ok(())
    }
}

fn hashed(entry: &LogEntry) -> (LogPosition, u64) {
    let domain = match entry.kind {
        EntryKind::Command => b'c',
        EntryKind::Membership => b'm',
    };
    (entry.at, hash64(domain, &entry.data))
}
