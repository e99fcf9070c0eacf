//! What the tests write: entries, turns, and a partition filled with rows of every kind.

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::{
    Accept, Command, Envelope, Facts, InboxFailed, Kind, RequestRecord, Send, StateWrite,
    TurnCommit, TurnKind, Turns,
};
use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::outcome::TurnAnswer;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::{ApplyItem, EntryKind, HardState, LogEntry, LogWrite};
use ghostlight_protocol::request::{RequestId, Session, request_digest};
use prost::Message;

use crate::engine::Engine;
use crate::identity::NodeIdentity;
use crate::store::{Recovered, Store};

pub(crate) const ME: NodeId = NodeId(7 << 96);

pub(crate) fn identity() -> NodeIdentity {
    NodeIdentity::new(ME, "clown")
}

pub(crate) fn founded<E: Engine>(engine: E, partitions: u16) -> Store<E> {
    let (mut store, recovered) = Store::open(engine).unwrap();
    assert_eq!(recovered, Recovered::default());
    store.found(partitions, &identity()).unwrap();
    store
}

pub(crate) fn actor(name: &str) -> ActorKey {
    ActorKey::new("default", "counter", name).unwrap()
}

pub(crate) fn at(term: u64, index: u64) -> LogPosition {
    LogPosition {
        term: Term(term),
        index: LogIndex(index),
    }
}

pub(crate) fn hard_state(term: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: PeerId(1),
        commit: LogIndex(commit),
    }
}

pub(crate) fn entry(at: LogPosition, data: impl Into<Bytes>) -> LogEntry {
    LogEntry {
        at,
        kind: EntryKind::Command,
        data: data.into(),
        context: Bytes::new(),
    }
}

pub(crate) fn write(
    partition: u16,
    peer: u64,
    hard_state: Option<HardState>,
    entries: Vec<LogEntry>,
) -> LogWrite {
    LogWrite {
        partition: PartitionId(partition),
        peer: PeerId(peer),
        hard_state,
        entries,
    }
}

pub(crate) fn items(entries: &[LogEntry]) -> Vec<ApplyItem> {
    let item = |entry: &LogEntry| ApplyItem::Command {
        at: entry.at,
        data: entry.data.clone(),
    };
    entries.iter().map(item).collect()
}

pub(crate) fn command(term: u64, kind: Kind) -> Bytes {
    let command = Command {
        leader_term: term,
        age_step_ms: 1,
        wall_ms: 0,
        kind: Some(kind),
    };
    command.encode_to_vec().into()
}

/// A turn that sets one key of an actor, answers, and may send.
pub(crate) fn turn(actor: &ActorKey, base: u64, sequence: u64, value: Bytes, sends: u32) -> Kind {
    let session = Session {
        gateway: ME,
        generation: Default::default(),
    };
    let send = Send {
        destination: 3,
        actor: actor.to_bytes(),
        method: "hear".to_owned(),
        body: value.clone(),
    };
    let id = RequestId::Session { session, sequence };
    let turn = TurnCommit {
        actor: actor.to_bytes(),
        base_version: base,
        kind: TurnKind::Write as i32,
        request: Some(RequestRecord {
            id: id.to_bytes(),
            digest: request_digest(actor, "set", &value)
                .to_be_bytes()
                .to_vec()
                .into(),
            ..RequestRecord::default()
        }),
        answer: Some(TurnAnswer::reply(value.clone())),
        state: vec![StateWrite {
            key: Bytes::from_static(b"value"),
            value: Some(value),
            ..StateWrite::default()
        }],
        sends: vec![send; sends as usize],
        inbox_sequence: 0,
    };
    Kind::Turns(Turns { turns: vec![turn] })
}

/// Entries from `first` in `term` whose application leaves rows in every family.
pub(crate) fn all_families(term: u64, first: u64, value_bytes: usize) -> Vec<LogEntry> {
    let message = |sequence| Envelope {
        actor: actor("a").to_bytes(),
        method: "hear".to_owned(),
        body: Bytes::from_static(b"x"),
        source: 9,
        sequence,
        ..Envelope::default()
    };
    let accept = Accept {
        source: 9,
        source_epoch: 0,
        first: 1,
        messages: vec![message(1), message(2)],
    };
    let failed = InboxFailed {
        inbox_sequence: 1,
        dead_letter: Some(ghostlight_protocol::command::DeadLetterReason {
            error: "no".to_owned(),
        }),
    };
    let facts = Facts {
        writes: vec![StateWrite {
            key: Bytes::from_static(b"fact"),
            value: Some(Bytes::from_static(b"true")),
            ..StateWrite::default()
        }],
    };
    let value = |n: u8| Bytes::from(vec![n; value_bytes]);
    let kinds = [
        turn(&actor("a"), 0, 1, value(1), 1),
        turn(&actor("b"), 0, 2, value(2), 0),
        turn(&actor("a"), 1, 3, value(3), 2),
        Kind::Accept(accept),
        Kind::InboxFailed(failed),
        Kind::Facts(facts),
    ];
    (first..)
        .zip(kinds)
        .map(|(index, kind)| entry(at(term, index), command(term, kind)))
        .collect()
}

/// Persists, commits and applies entries.
pub(crate) fn advance<E: Engine>(
    store: &mut Store<E>,
    partition: u16,
    peer: u64,
    entries: &[LogEntry],
) -> PartitionRow {
    let last = entries.last().unwrap().at;
    let hard = Some(hard_state(last.term.0, 0));
    store
        .persist(&[write(partition, peer, hard, entries.to_vec())])
        .unwrap();
    let mut out = Vec::new();
    store
        .apply(PartitionId(partition), &items(entries), &mut out)
        .unwrap();
    assert_eq!(out.len(), entries.len());
    store.row(PartitionId(partition)).unwrap().clone()
}
