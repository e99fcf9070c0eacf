//! Applying one turn, and expiring the records of old ones.

use bytes::Bytes;
use prost::Message;

use super::{SkipReason, TurnOutcome};
use crate::actor::ActorKey;
use crate::command::{
    DedupRecord, Envelope, Expire, RequestRecord, Send, SessionRow, TurnCommit, TurnKind,
};
use crate::family::{self, Family};
use crate::hash::{domain, hash128};
use crate::ids::{ActorVersion, PartitionId};
use crate::limits::{DEDUP_AGE_MAX, DERIVED_AGE_MAX, RECORDED_REPLY_BYTES_MAX};
use crate::outcome::{Answer, TurnAnswer};
use crate::partition_row::PartitionRow;
use crate::replica::rows::Rows;
use crate::request::RequestId;

/// Deletions of closed records that one entry may cause.
const CLOSED_RECORDS_PER_TURN_MAX: u64 = 1_024;

pub(super) fn apply<R: Rows>(
    id: PartitionId,
    rows: &mut R,
    partition: &mut PartitionRow,
    turn: TurnCommit,
) -> Result<TurnOutcome, R::Error> {
    // Both were parsed by the leader before the turn ran; what does not parse counts for nobody.
    let Ok(actor) = ActorKey::parse(turn.actor.clone()) else {
        return Ok(TurnOutcome::Skipped(SkipReason::MessageGone));
    };
    if let Some(reason) = request_fence(rows, &actor, turn.request.as_ref())? {
        return Ok(TurnOutcome::Skipped(reason));
    }
    if turn.inbox_sequence != 0 {
        let key = family::inbox_key(turn.inbox_sequence);
        if rows.get(Family::Inbox, &key)?.is_none() {
            return Ok(TurnOutcome::Skipped(SkipReason::MessageGone));
        }
    }
    let stored = version(rows, &actor)?;
    let mut outcome = TurnOutcome::Committed {
        version: stored,
        outbox: Vec::new(),
    };
    if turn.kind() == TurnKind::Write {
        if stored.0 != turn.base_version {
            return Ok(TurnOutcome::Skipped(SkipReason::Version { stored }));
        }
        outcome = write(id, rows, partition, &actor, stored, &turn)?;
    }
    if turn.inbox_sequence != 0 {
        rows.delete(Family::Inbox, family::inbox_key(turn.inbox_sequence));
        partition.inbox_rows = partition.inbox_rows.saturating_sub(1);
    }
    if let Some(request) = &turn.request {
        record(
            rows,
            partition,
            &actor,
            request,
            turn.answer.unwrap_or_default(),
        )?;
    }
    Ok(outcome)
}

fn request_fence<R: Rows>(
    rows: &mut R,
    actor: &ActorKey,
    request: Option<&RequestRecord>,
) -> Result<Option<SkipReason>, R::Error> {
    let Some(request) = request else {
        return Ok(None);
    };
    let Some(id) = RequestId::parse(&request.id) else {
        return Ok(Some(SkipReason::SessionClosed));
    };
    if let RequestId::Session { session, sequence } = id {
        let row = rows.get(Family::Session, &family::session_key(session))?;
        let row = row
            .and_then(|bytes| SessionRow::decode(bytes).ok())
            .unwrap_or_default();
        if sequence < row.closed_below {
            return Ok(Some(SkipReason::SessionClosed));
        }
    }
    let Some(bytes) = rows.get(Family::Dedup, &family::dedup_key(actor, &id))? else {
        return Ok(None);
    };
    let record = DedupRecord::decode(bytes).unwrap_or_default();
    Ok(Some(if record.digest == request.digest {
        SkipReason::Recorded(record.answer.unwrap_or_default())
    } else {
        SkipReason::IdReused
    }))
}

fn version<R: Rows>(rows: &mut R, actor: &ActorKey) -> Result<ActorVersion, R::Error> {
    let bytes = rows.get(Family::Version, actor.as_bytes())?;
    Ok(ActorVersion(
        bytes.as_deref().and_then(read_version).unwrap_or(0),
    ))
}

/// Reads the value of a `Family::Version` row.
pub(super) fn read_version(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn write<R: Rows>(
    id: PartitionId,
    rows: &mut R,
    partition: &mut PartitionRow,
    actor: &ActorKey,
    stored: ActorVersion,
    turn: &TurnCommit,
) -> Result<TurnOutcome, R::Error> {
    for write in &turn.state {
        let key = family::state_key(actor, &write.key);
        match &write.value {
            Some(value) => rows.put(Family::State, key, value.clone()),
            None => rows.delete(Family::State, key),
        }
    }
    let version = ActorVersion(stored.0.saturating_add(1));
    rows.put(
        Family::Version,
        actor.to_bytes(),
        Bytes::copy_from_slice(&version.0.to_be_bytes()),
    );
    let mut outbox = Vec::with_capacity(turn.sends.len());
    for send in &turn.sends {
        outbox.push(enqueue(id, rows, actor, send)?);
    }
    partition.outbox_rows = partition.outbox_rows.saturating_add(outbox.len() as u64);
    Ok(TurnOutcome::Committed { version, outbox })
}

fn enqueue<R: Rows>(
    source: PartitionId,
    rows: &mut R,
    sender: &ActorKey,
    send: &Send,
) -> Result<(PartitionId, u64, Envelope), R::Error> {
    let destination = PartitionId(send.destination as u16);
    let next_key = family::outbox_next_key(destination);
    let next = rows.get(Family::Mark, &next_key)?;
    let sequence = next.as_deref().and_then(read_version).unwrap_or(1);
    let envelope = Envelope {
        actor: send.actor.clone(),
        method: send.method.clone(),
        body: send.body.clone(),
        source: u32::from(source.0),
        sequence,
        sender: sender.to_bytes(),
        attempts: 0,
    };
    rows.put(
        Family::Outbox,
        family::outbox_key(destination, sequence),
        envelope.encode_to_vec().into(),
    );
    rows.put(
        Family::Mark,
        next_key,
        Bytes::copy_from_slice(&sequence.saturating_add(1).to_be_bytes()),
    );
    Ok((destination, sequence, envelope))
}

fn record<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    actor: &ActorKey,
    request: &RequestRecord,
    answer: TurnAnswer,
) -> Result<(), R::Error> {
    let Some(id) = RequestId::parse(&request.id) else {
        return Ok(());
    };
    let (answer, reply_digest) = match &answer.answer {
        Some(Answer::Reply(body)) if body.len() > RECORDED_REPLY_BYTES_MAX => {
            let digest = hash128(domain::REPLY, &[body]).to_be_bytes();
            (TurnAnswer::default(), Bytes::copy_from_slice(&digest))
        }
        _ => (answer, Bytes::new()),
    };
    let record = DedupRecord {
        digest: request.digest.clone(),
        age_ms: partition.age_ms,
        answer: Some(answer),
        reply_digest,
    };
    let key = family::dedup_key(actor, &id);
    let value = Bytes::from(record.encode_to_vec());
    partition.dedup_bytes = partition
        .dedup_bytes
        .saturating_add(row_bytes(&key, &value));
    rows.put(Family::Dedup, key, value);
    if let RequestId::Session { session, sequence } = id {
        let key = family::session_key(session);
        let stored = rows.get(Family::Session, &key)?;
        let floor = stored
            .and_then(|b| SessionRow::decode(b).ok())
            .map_or(1, |s| s.closed_below);
        // A request never closes itself. A bound on the work of one entry: what is left goes with the next.
        let closed_below = request
            .closed_below
            .min(sequence)
            .min(floor.saturating_add(CLOSED_RECORDS_PER_TURN_MAX))
            .max(floor);
        for sequence in floor..closed_below {
            let closed = RequestId::Session { session, sequence };
            forget(rows, partition, family::dedup_key(actor, &closed))?;
        }
        let row = SessionRow {
            closed_below,
            age_ms: partition.age_ms,
        };
        rows.put(Family::Session, key, row.encode_to_vec().into());
    }
    Ok(())
}

fn forget<R: Rows>(rows: &mut R, partition: &mut PartitionRow, key: Bytes) -> Result<(), R::Error> {
    if let Some(value) = rows.get(Family::Dedup, &key)? {
        partition.dedup_bytes = partition
            .dedup_bytes
            .saturating_sub(row_bytes(&key, &value));
        rows.delete(Family::Dedup, key);
    }
    Ok(())
}

fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

pub(super) fn expire<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    expire: Expire,
) -> Result<(), R::Error> {
    for key in expire.dedup_keys {
        let Some(bytes) = rows.get(Family::Dedup, &key)? else {
            continue;
        };
        let limit = if key.first() == Some(&3) {
            DERIVED_AGE_MAX
        } else {
            DEDUP_AGE_MAX
        };
        let written = DedupRecord::decode(bytes).unwrap_or_default().age_ms;
        if partition.age_ms.saturating_sub(written) >= limit.as_millis() as u64 {
            forget(rows, partition, key)?;
        }
    }
    for key in expire.session_keys {
        let Some(bytes) = rows.get(Family::Session, &key)? else {
            continue;
        };
        let used = SessionRow::decode(bytes).unwrap_or_default().age_ms;
        if partition.age_ms.saturating_sub(used) >= DEDUP_AGE_MAX.as_millis() as u64 {
            rows.delete(Family::Session, key);
        }
    }
    Ok(())
}
