//! What a store refuses, and what its owner is told.

use bytes::Bytes;
use ghostlight_core::io::{InstallWrite, PersistTicket, StoreEffect, StoreInput, TransferId};
use ghostlight_protocol::ids::{LogIndex, LogPosition, PartitionId, PeerId, Term};
use ghostlight_protocol::replica::log::EntryKind;
use ghostlight_protocol::replica::{HardState, LogEntry, LogWrite};
use ghostlight_storage::{MemoryDisk, NodeIdentity, Store};

use super::Disk;

const P: PartitionId = PartitionId(3);
const PEER: PeerId = PeerId(7);

fn at(index: u64, term: u64) -> LogPosition {
    LogPosition {
        index: LogIndex(index),
        term: Term(term),
    }
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: PeerId(0),
        commit: LogIndex(commit),
    }
}

fn write(partition: PartitionId, first: u64) -> LogWrite {
    LogWrite {
        partition,
        peer: PEER,
        hard_state: Some(hard_state(9, 0)),
        entries: vec![LogEntry {
            at: at(first, 9),
            kind: EntryKind::Command,
            data: Bytes::new(),
            context: Bytes::new(),
        }],
    }
}

/// A snapshot that is not what it should be changes nothing: the replica here is whole, and goes
/// on.
#[test]
fn an_invalid_snapshot_condemns_nobody() {
    let disk = MemoryDisk::new(1);
    let (store, _) = Store::open(disk.open()).unwrap();
    let mut thread = Disk::new(store, NodeIdentity::default());
    let other = PartitionId(4);
    let mut out = Vec::new();
    let create = |partition| StoreEffect::Create {
        partition,
        peer: PEER,
    };
    let effects = vec![create(P), create(other)];
    thread.perform(effects, &mut out).unwrap();
    assert_eq!(out, []);
    let install = InstallWrite {
        partition: P,
        peer: PEER,
        transfer: TransferId(5),
        chunks: 1,
        at: at(100, 9),
        hard_state: hard_state(9, 100),
    };
    // What is written with it stands on the snapshot; what other groups write does not.
    let persist = StoreEffect::Persist {
        ticket: PersistTicket(1),
        installs: vec![install],
        marks: Default::default(),
        writes: vec![write(P, 101), write(other, 1)],
    };
    thread.perform(vec![persist], &mut out).unwrap();
    let [StoreInput::InstallRefused { replica, .. }, persisted] = &out[..] else {
        panic!("{out:?}");
    };
    assert_eq!(*persisted, StoreInput::Persisted(PersistTicket(1)));
    assert_eq!((replica.partition, replica.peer), (P, PEER));
    assert_eq!(replica.hard_state, HardState::default());
    assert_eq!(replica.tail, []);
    drop(thread);
    let (_, recovered) = Store::open(disk.open()).unwrap();
    assert_eq!(recovered.condemned, []);
    let lengths: Vec<usize> = recovered.replicas.iter().map(|r| r.tail.len()).collect();
    assert_eq!(lengths, [0, 1]);
}
