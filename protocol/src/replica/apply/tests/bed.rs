//! A partition in a map, and short ways to say what happens to it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use prost::Message;

use crate::actor::ActorKey;
use crate::command::{Command, Kind, RequestRecord, StateWrite, TurnCommit, TurnKind, Turns};
use crate::family::Family;
use crate::ids::{Generation, LogIndex, LogPosition, NodeId, PartitionId, Term};
use crate::outcome::TurnAnswer;
use crate::partition_row::{Kept, PartitionRow};
use crate::replica::apply::{EntryOutcome, TurnOutcome, apply_command};
use crate::replica::rows::Rows;
use crate::request::{RequestId, Session};

pub(super) const HERE: PartitionId = PartitionId(7);
pub(super) const TERM: u64 = 6;

/// Rows in memory; written at once.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct MapRows(pub(super) BTreeMap<(Family, Bytes), Bytes>);

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

/// A founded partition.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Bed {
    pub(super) rows: MapRows,
    pub(super) row: PartitionRow,
}

impl Bed {
    pub(super) fn new() -> Self {
        Self {
            rows: MapRows::default(),
            row: PartitionRow::founded(NodeId(1)),
        }
    }

    /// Applies an entry as the next one of `TERM`.
    pub(super) fn apply(&mut self, kind: Kind) -> EntryOutcome {
        self.apply_at(TERM, TERM, 0, Some(kind))
    }

    /// Applies an entry that Raft gave `entry_term`, with a command of `leader_term`.
    pub(super) fn apply_at(
        &mut self,
        entry_term: u64,
        leader_term: u64,
        age_step_ms: u64,
        kind: Option<Kind>,
    ) -> EntryOutcome {
        let command = Command {
            leader_term,
            age_step_ms,
            wall_ms: 0,
            kind,
        };
        self.apply_bytes(entry_term, &command.encode_to_vec())
    }

    pub(super) fn apply_bytes(&mut self, entry_term: u64, data: &[u8]) -> EntryOutcome {
        let at = LogPosition {
            term: Term(entry_term),
            index: LogIndex(self.row.applied_index + 1),
        };
        match apply_command(HERE, &mut self.rows, &mut self.row, at, data) {
            Ok(outcome) => outcome,
            Err(never) => match never {},
        }
    }

    /// Applies one turn alone in its entry.
    pub(super) fn turn(&mut self, turn: TurnCommit) -> TurnOutcome {
        let turns = vec![turn];
        match self.apply(Kind::Turns(Turns { turns })) {
            EntryOutcome::Turns(mut outcomes) if outcomes.len() == 1 => outcomes.remove(0),
            other => panic!("one turn gave {other:?}"),
        }
    }

    /// Lets log time pass, with an entry that changes nothing else.
    pub(super) fn pass(&mut self, age_ms: u64) {
        assert_eq!(
            self.apply_at(TERM, TERM, age_ms, None),
            EntryOutcome::Nothing
        );
    }

    pub(super) fn get(&mut self, family: Family, key: &[u8]) -> Option<Bytes> {
        self.rows
            .0
            .get(&(family, Bytes::copy_from_slice(key)))
            .cloned()
    }

    pub(super) fn count(&self, family: Family) -> u64 {
        self.rows
            .0
            .keys()
            .filter(|(found, _)| *found == family)
            .count() as u64
    }

    /// Every counter of the partition row equals what the rows say.
    #[track_caller]
    pub(super) fn check_counters(&self) {
        let kept = [
            (Family::Inbox, self.row.inbox()),
            (Family::Outbox, self.row.outbox()),
            (Family::DeadLetter, self.row.dead_letters()),
        ];
        for (family, counted) in kept {
            let rows = self
                .rows
                .0
                .iter()
                .filter(|((found, _), _)| *found == family);
            let bytes: usize = rows.map(|((_, key), value)| key.len() + value.len()).sum();
            let there = Kept {
                rows: self.count(family),
                bytes: bytes as u64,
            };
            assert_eq!(counted, there, "{family:?}");
        }
        let records = self
            .rows
            .0
            .iter()
            .filter(|((family, _), _)| matches!(family, Family::Dedup | Family::Session));
        let bytes: usize = records
            .map(|((_, key), value)| key.len() + value.len())
            .sum();
        assert_eq!(self.row.dedup_bytes, bytes as u64, "dedup bytes");
    }
}

pub(super) fn actor(id: &str) -> ActorKey {
    ActorKey::new("default", "counter", id).unwrap()
}

pub(super) fn session() -> Session {
    Session {
        gateway: NodeId(9),
        generation: Generation(2),
    }
}

pub(super) fn sequence(sequence: u64) -> RequestId {
    RequestId::Session {
        session: session(),
        sequence,
    }
}

pub(super) fn request(id: &RequestId, digest: u8) -> Option<RequestRecord> {
    Some(RequestRecord {
        id: id.to_bytes(),
        digest: vec![digest; 16].into(),
        ..RequestRecord::default()
    })
}

/// A turn of `actor` on version `base` that writes `key = value` and answers `value`.
pub(super) fn write_turn(actor: &ActorKey, base: u64, key: &str, value: &str) -> TurnCommit {
    TurnCommit {
        actor: actor.to_bytes(),
        base_version: base,
        kind: TurnKind::Write as i32,
        answer: Some(TurnAnswer::reply(Bytes::copy_from_slice(value.as_bytes()))),
        state: vec![StateWrite {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..StateWrite::default()
        }],
        ..TurnCommit::default()
    }
}

pub(super) fn committed(outcome: &TurnOutcome) -> Option<u64> {
    match outcome {
        TurnOutcome::Committed { version, .. } => Some(version.0),
        TurnOutcome::Skipped(_) => None,
    }
}
