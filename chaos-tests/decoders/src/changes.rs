//! What replicas apply: any entry of a log is taken, and alike everywhere.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::{
    Accept, Command, DeadLetter, DedupRecord, Envelope, Facts, Kind, RequestRecord, ScheduleRow,
    SessionRow, StateWrite, TurnCommit, Turns,
};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PartitionId, Term};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::{EntryOutcome, Rows, apply_command};
use ghostlight_protocol::topic::{DeadTopicLetter, GroupRow, TopicBatch, TopicRow};
use prost::Message;

use crate::Decoder;
use crate::messages::round_trip;
use crate::pieces;

/// A command alone.
pub(crate) const COMMAND: Decoder = Decoder {
    name: "command",
    what: "commands",
    take: |bytes| drop(round_trip::<Command>(bytes)),
    valid: || commands().iter().map(Command::encode_to_vec).collect(),
};

/// Commands one after another, as a replica applies them.
pub(crate) const APPLY: Decoder = Decoder {
    name: "apply",
    what: "logs that are applied",
    take: apply,
    valid: || {
        let entries: Vec<Vec<u8>> = commands().iter().map(Command::encode_to_vec).collect();
        vec![pieces::join(&entries), pieces::join(&entries[..1])]
    },
};

/// Where the entries are applied.
const HERE: PartitionId = PartitionId(0);

/// Rows in a map, written at once.
#[derive(Default, PartialEq, Debug)]
struct MapRows(BTreeMap<(Family, Bytes), Bytes>);

impl Rows for MapRows {
    type Error = Infallible;

    fn get(&mut self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        Ok(self.0.get(&(family, Bytes::copy_from_slice(key))).cloned())
    }

    fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.0.insert((family, key), value);
    }

    fn delete(&mut self, family: Family, key: Bytes) {
        self.0.remove(&(family, key));
    }
}

/// A replica that applies.
struct Replica {
    rows: MapRows,
    row: PartitionRow,
}

impl Replica {
    fn new() -> Self {
        Self {
            rows: MapRows::default(),
            row: PartitionRow::founded(NodeId(1)),
        }
    }

    /// Applies an entry in the term that it names, or in the last one.
    fn apply(&mut self, entry: &[u8]) -> EntryOutcome {
        let named = Command::decode(entry).map_or(0, |command| command.leader_term);
        let at = LogPosition {
            index: LogIndex(self.row.applied_index + 1),
            term: Term(named.max(self.row.applied_term)),
        };
        let Ok(outcome) = apply_command(HERE, &mut self.rows, &mut self.row, at, entry);
        outcome
    }
}

fn apply(bytes: &[u8]) {
    let (mut one, mut other) = (Replica::new(), Replica::new());
    for entry in pieces::split(bytes) {
        let (told, again) = (one.apply(entry), other.apply(entry));
        assert!(told == again, "one replica says {told:?}, one {again:?}");
    }
    assert!(
        one.row == other.row && one.rows == other.rows,
        "they differ"
    );
    for ((family, key), value) in &one.rows.0 {
        let readable = is_readable(*family, key, value);
        assert!(
            readable,
            "{family:?}: {key:?} cannot be read again: {value:?}"
        );
    }
}

/// Whether what was written is read again.
fn is_readable(family: Family, key: &Bytes, value: &Bytes) -> bool {
    let value = &value[..];
    match family {
        Family::Dedup if family::parse_due_key(key).is_some() => true,
        Family::Dedup => DedupRecord::decode(value).is_ok(),
        Family::Session => SessionRow::decode(value).is_ok(),
        Family::Outbox => {
            family::parse_outbox_key(key).is_some() && Envelope::decode(value).is_ok()
        }
        Family::Inbox => family::parse_inbox_key(key).is_some() && Envelope::decode(value).is_ok(),
        Family::DeadLetter => DeadLetter::decode(value).is_ok(),
        Family::Schedule => {
            family::parse_schedule_key(key).is_some() && ScheduleRow::decode(value).is_ok()
        }
        Family::Due => family::parse_due_row_key(key).is_some(),
        Family::Topic => TopicRow::decode(value).is_ok(),
        Family::TopicBatch => family::batch_end(key).is_some() && TopicBatch::decode(value).is_ok(),
        Family::Group => family::parse_group_key(key).is_some() && GroupRow::decode(value).is_ok(),
        Family::TopicLetter => {
            family::parse_letter_key(key).is_some() && DeadTopicLetter::decode(value).is_ok()
        }
        Family::Partition
        | Family::State
        | Family::Version
        | Family::Mark
        | Family::Fact
        | Family::EventName => true,
    }
}

fn commands() -> Vec<Command> {
    let key = ActorKey::new("default", "log", "l1").expect("a name");
    let turn = |base_version| TurnCommit {
        actor: key.to_bytes(),
        request: Some(RequestRecord {
            id: Bytes::from_static(b"\x01one"),
            ..RequestRecord::default()
        }),
        base_version,
        inbox_sequence: 0,
        state: vec![StateWrite {
            key: Bytes::from_static(b"k"),
            value: Some(Bytes::from_static(b"1")),
            ..StateWrite::default()
        }],
        ..TurnCommit::default()
    };
    let accept = Accept {
        source: 3,
        first: 1,
        messages: vec![Envelope {
            actor: key.to_bytes(),
            method: "add".to_owned(),
            body: Bytes::from_static(b"1"),
            ..Envelope::default()
        }],
        ..Accept::default()
    };
    let kinds = [
        Kind::Turns(Turns {
            turns: vec![turn(0), turn(1)],
        }),
        Kind::Accept(accept),
        Kind::Facts(Facts::default()),
    ];
    let commands = kinds.into_iter().map(|kind| Command {
        leader_term: 6,
        age_step_ms: 50,
        wall_ms: 1_700_000_000_000,
        kind: Some(kind),
    });
    commands.collect()
}
