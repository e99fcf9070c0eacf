//! Applying what turns do to reminders and timers, and ending state values whose time is over.
//!
//! Each row of `Family::Schedule` has one row of `Family::Due`, so that finding what is due needs
//! no look at what is not; both are written here and nowhere else. Absent: when something fires.
//! The leader decides that; its entry names the row as it stood, and counts only if it still stands
//! so.

use bytes::Bytes;
use prost::Message;

use crate::actor::ActorKey;
use crate::command::{AppValue, Firing, IfThere, ScheduleKind, ScheduleRow, ScheduleWrite};
use crate::family::{self, DueKind, Family};
use crate::partition_row::PartitionRow;
use crate::replica::rows::Rows;

/// Whether the row that a firing is about stands as the firing says.
pub(super) fn stands<R: Rows>(
    rows: &mut R,
    actor: &ActorKey,
    firing: &Firing,
) -> Result<bool, R::Error> {
    let row = read(
        rows,
        &family::schedule_key(actor, firing.kind(), &firing.name),
    )?;
    Ok(row.is_some_and(|row| row.due_ms == firing.due_ms && row.attempts == firing.attempts))
}

/// Whether a row is there that one of the writes must not replace.
pub(super) fn collides<R: Rows>(
    rows: &mut R,
    actor: &ActorKey,
    writes: &[ScheduleWrite],
) -> Result<bool, R::Error> {
    for write in writes {
        if write.if_there() == IfThere::Skip {
            let key = family::schedule_key(actor, write.kind(), &write.name);
            if read(rows, &key)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

pub(super) fn write<R: Rows>(
    rows: &mut R,
    actor: &ActorKey,
    writes: &[ScheduleWrite],
) -> Result<(), R::Error> {
    for write in writes {
        let kind = write.kind();
        let key = family::schedule_key(actor, kind, &write.name);
        if let Some(before) = read(rows, &key)? {
            rows.delete(Family::Due, due_key(kind, &before, &key));
        }
        match &write.row {
            Some(row) => {
                rows.put(Family::Due, due_key(kind, row, &key), Bytes::new());
                rows.put(Family::Schedule, key, row.encode_to_vec().into());
            }
            None => rows.delete(Family::Schedule, key),
        }
    }
    Ok(())
}

/// Remembers when a state value stops counting.
pub(super) fn value_ends<R: Rows>(rows: &mut R, expires_ms: u64, state_key: &[u8]) {
    if expires_ms != 0 {
        let key = family::due_row_key(DueKind::Value, expires_ms, state_key);
        rows.put(Family::Due, key, Bytes::new());
    }
}

/// Deletes state values whose time is over. One that was written again meanwhile says another time,
/// and has a row of its own.
pub(super) fn expire<R: Rows>(
    rows: &mut R,
    partition: &PartitionRow,
    due_keys: Vec<Bytes>,
) -> Result<(), R::Error> {
    for due_key in due_keys {
        let Some((due_ms, state_key)) = family::parse_due_row_key(&due_key) else {
            continue;
        };
        if due_key[0] != DueKind::Value as u8 || due_ms > partition.wall_ms {
            continue;
        }
        if let Some(value) = rows.get(Family::State, &state_key)? {
            let value = AppValue::decode(value).unwrap_or_default();
            if value.expires_ms == due_ms {
                rows.delete(Family::State, state_key);
            }
        }
        rows.delete(Family::Due, due_key);
    }
    Ok(())
}

fn due_key(kind: ScheduleKind, row: &ScheduleRow, key: &[u8]) -> Bytes {
    family::due_row_key(kind.into(), row.due_ms, key)
}

fn read<R: Rows>(rows: &mut R, key: &[u8]) -> Result<Option<ScheduleRow>, R::Error> {
    let bytes = rows.get(Family::Schedule, key)?;
    Ok(bytes.map(|bytes| ScheduleRow::decode(bytes).unwrap_or_default()))
}
