//! Applying one turn, and expiring the records of old ones.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::messages::{self, Place};
use super::{Appended, SkipReason, TurnOutcome, schedule, topics};
use crate::actor::ActorKey;
use crate::canary::{self, Canary};
use crate::closed::Closed;
use crate::command::{
    DeadLetter, DedupRecord, Envelope, Expire, Fate, RequestRecord, Send, SessionRow, Share,
    TurnCommit, TurnKind,
};
use crate::family::{self, Family};
use crate::hash::{domain, hash128};
use crate::ids::{ActorVersion, PartitionId};
use crate::limits::{
    CLOSED_STEP, DEAD_LETTER_AGE_MAX, DEDUP_AGE_MAX, RECORDED_REPLY_BYTES_MAX, SESSION_ROW_AGE_MAX,
};
use crate::outcome::{Answer, TurnAnswer};
use crate::partition_row::PartitionRow;
use crate::replica::rows::Rows;
use crate::request::{RequestId, Session};
use crate::time::Age;
use crate::topic::TopicPartition;

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
    if let Some(reason) = request_fence(rows, &actor, turn.request.as_ref(), turn.share())? {
        return Ok(TurnOutcome::Skipped(reason));
    }
    if let Some(firing) = &turn.firing
        && !schedule::stands(rows, &actor, firing)?
    {
        return Ok(TurnOutcome::Skipped(SkipReason::FiringGone));
    }
    if schedule::collides(rows, &actor, &turn.schedule)? {
        return Ok(TurnOutcome::Skipped(SkipReason::ScheduleThere));
    }
    let mut accepted = None;
    if turn.inbox_sequence != 0 {
        let key = family::inbox_key(turn.inbox_sequence);
        let Some(value) = rows.get(Family::Inbox, &key)? else {
            return Ok(TurnOutcome::Skipped(SkipReason::MessageGone));
        };
        accepted = Some((key, value));
    }
    let stored = version(rows, &actor)?;
    let mut version = stored;
    let mut outbox = Vec::new();
    let mut appended = Vec::new();
    if turn.kind() == TurnKind::Write {
        if stored.0 != turn.base_version && !canary::sings(Canary::VersionUnchecked) {
            return Ok(TurnOutcome::Skipped(SkipReason::Version { stored }));
        }
        version = write(rows, &actor, stored, &turn);
        for send in &turn.sends {
            match leave(id, rows, partition, &actor, send)? {
                Left::Outbox(message) => outbox.push(message),
                Left::Appended(batch) => appended.extend(batch),
            }
        }
    }
    schedule::write(rows, &actor, &turn.schedule)?;
    if let Some((key, value)) = accepted {
        message(rows, partition, key, &value, turn.share());
    }
    if let Some(request) = &turn.request {
        if matches!(turn.share(), Share::More | Share::Rest) {
            let id = RequestId::parse(&request.id);
            if let Some(key) = id.map(|id| family::dedup_key(&actor, &id)) {
                forget(rows, partition, key)?;
            }
        }
        record(
            rows,
            partition,
            &actor,
            request,
            turn.answer.unwrap_or_default(),
        )?;
    }
    Ok(TurnOutcome::Committed {
        version,
        outbox,
        schedule: turn.schedule,
        appended,
    })
}

/// The row of an accepted message whose turn commits: it goes, or says that a part of it is done.
fn message<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    key: Bytes,
    value: &Bytes,
    share: Share,
) {
    match share {
        Share::Whole | Share::Rest if canary::sings(Canary::InboxRowStays) => {}
        Share::Whole | Share::Rest => messages::remove(rows, partition, Place::Inbox, key, value),
        Share::Part | Share::More => {
            let mut envelope = Envelope::decode(value.clone()).unwrap_or_default();
            envelope.committed = Share::Part as i32;
            messages::rewrite(rows, partition, key, value, &envelope);
        }
    }
}

pub(super) fn request_fence<R: Rows>(
    rows: &mut R,
    actor: &ActorKey,
    request: Option<&RequestRecord>,
    share: Share,
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
        if row.closed().contains(sequence) {
            return Ok(Some(SkipReason::SessionClosed));
        }
    }
    let Some(bytes) = rows.get(Family::Dedup, &family::dedup_key(actor, &id))? else {
        return Ok(None);
    };
    let record = DedupRecord::decode(bytes).unwrap_or_default();
    if record.digest != request.digest {
        return Ok(Some(SkipReason::IdReused));
    }
    let answer = record.answer.unwrap_or_default();
    // The record of its own parts: that these are its own, the actor's version says.
    let goes_on = matches!(share, Share::More | Share::Rest)
        && matches!(answer.answer, Some(Answer::Interrupted(_)));
    Ok((!goes_on).then_some(SkipReason::Recorded(answer)))
}

fn version<R: Rows>(rows: &mut R, actor: &ActorKey) -> Result<ActorVersion, R::Error> {
    let bytes = rows.get(Family::Version, actor.as_bytes())?;
    Ok(ActorVersion(
        bytes.as_deref().and_then(read_version).unwrap_or(0),
    ))
}

/// Reads the value of a `Family::Version` row, or a counter of `Family::Mark`.
#[must_use]
pub fn read_version(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

/// What the version row of a deleted actor has behind its version. The version stays, so that what
/// knows the actor by an older one never takes a new life for it.
const DELETED: u8 = b'd';

/// Whether the value of a `Family::Version` row is that of an actor that was deleted and not
/// written since.
#[must_use]
pub fn is_deleted(version_row: &[u8]) -> bool {
    version_row.get(8) == Some(&DELETED)
}

fn write<R: Rows>(
    rows: &mut R,
    actor: &ActorKey,
    stored: ActorVersion,
    turn: &TurnCommit,
) -> ActorVersion {
    for write in &turn.state {
        let key = family::state_key(actor, &write.key);
        match &write.value {
            Some(value) => {
                schedule::value_ends(rows, write.expires_ms, &key);
                rows.put(Family::State, key, value.clone());
            }
            None => rows.delete(Family::State, key),
        }
    }
    let version = ActorVersion(stored.0.saturating_add(1));
    let mut row = version.0.to_be_bytes().to_vec();
    if turn.fate() == Fate::Deleted {
        row.push(DELETED);
    }
    rows.put(Family::Version, actor.to_bytes(), row.into());
    version
}

/// Messages now in the outbox: destination, sequence, message.
pub type Outbox = Vec<(PartitionId, u64, Envelope)>;

/// Where a message has gone.
pub(super) enum Left {
    /// Into the outbox.
    Outbox((PartitionId, u64, Envelope)),
    /// It is an event for a topic of this very partition: there already.
    Appended(Option<Appended>),
}

/// A message leaves its sender.
pub(super) fn leave<R: Rows>(
    id: PartitionId,
    rows: &mut R,
    partition: &mut PartitionRow,
    sender: &ActorKey,
    send: &Send,
) -> Result<Left, R::Error> {
    if send.destination == u32::from(id.0)
        && let Some(topic) = topic_of(&send.actor)
    {
        let appended = topics::deliver(rows, partition, &topic, &send.body)?;
        if canary::sings(Canary::PublishTwice) {
            enqueue(id, rows, partition, sender, send)?;
        }
        return Ok(Left::Appended(appended));
    }
    Ok(Left::Outbox(enqueue(id, rows, partition, sender, send)?))
}

/// The key of a topic partition, if a message is for one.
pub(super) fn topic_of(receiver: &Bytes) -> Option<ActorKey> {
    let key = ActorKey::parse(receiver.clone()).ok()?;
    TopicPartition::of_key(&key).map(|_| key)
}

fn enqueue<R: Rows>(
    source: PartitionId,
    rows: &mut R,
    partition: &mut PartitionRow,
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
        accepted_ms: 0,
        committed: Share::Whole as i32,
    };
    let key = family::outbox_key(destination, sequence);
    let value = envelope.encode_to_vec().into();
    messages::add(rows, partition, Place::Outbox, key, value);
    if !canary::sings(Canary::OutboxWithoutMark) {
        let next = sequence.saturating_add(1).to_be_bytes();
        rows.put(Family::Mark, next_key, Bytes::copy_from_slice(&next));
    }
    Ok((destination, sequence, envelope))
}

pub(super) fn record<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    actor: &ActorKey,
    request: &RequestRecord,
    answer: TurnAnswer,
) -> Result<(), R::Error> {
    let Some(id) = RequestId::parse(&request.id) else {
        return Ok(());
    };
    if canary::sings(Canary::RecordForgotten) {
        return Ok(());
    }
    let (answer, reply_digest) = match &answer.answer {
        Some(Answer::Reply(body)) if body.len() > RECORDED_REPLY_BYTES_MAX => {
            let digest = hash128(domain::REPLY, &[body]).to_be_bytes();
            (TurnAnswer::default(), Bytes::copy_from_slice(&digest))
        }
        Some(Answer::AppReply(reply)) if reply.encoded_len() > RECORDED_REPLY_BYTES_MAX => {
            let digest = hash128(domain::REPLY, &[&reply.encode_to_vec()]).to_be_bytes();
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
    if let Some(limit) = family::record_age_max(&key) {
        let due = due_of(&record, limit);
        let due = family::due_key(due, &key);
        put(rows, partition, Family::Dedup, due, Bytes::new(), None);
    }
    // The fence has found no record of this request.
    put(rows, partition, Family::Dedup, key, value, None);
    match id {
        RequestId::Session { session, sequence } => {
            close(rows, partition, actor, session, sequence, request)
        }
        RequestId::Outside(_) | RequestId::Derived(_) => Ok(()),
    }
}

/// A session was used by its request `sequence`, which says what it has closed.
fn close<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    actor: &ActorKey,
    session: Session,
    sequence: u64,
    request: &RequestRecord,
) -> Result<(), R::Error> {
    let key = family::session_key(session);
    let stored = rows.get(Family::Session, &key)?;
    let before = stored
        .clone()
        .and_then(|bytes| SessionRow::decode(bytes).ok());
    let mut closed = before
        .as_ref()
        .map_or(Closed::new(1, &[]), SessionRow::closed);
    let told = Closed::new(request.closed_below, &request.closed_ranges).except(sequence);
    let mut newly = Vec::new();
    // A bound on the work of one entry: what is left goes with the next.
    closed.close(&told, CLOSED_RECORDS_PER_TURN_MAX, |s| newly.push(s));
    let fresh = before.is_some_and(|row| {
        partition.age_ms.saturating_sub(row.age_ms) < SESSION_ROW_AGE_MAX.as_millis() as u64
    });
    if fresh && newly.len() < CLOSED_STEP {
        return Ok(());
    }
    for sequence in newly {
        let closed = RequestId::Session { session, sequence };
        forget(rows, partition, family::dedup_key(actor, &closed))?;
    }
    let row = SessionRow {
        closed_below: closed.below(),
        age_ms: partition.age_ms,
        closed_ranges: closed.ranges().to_vec(),
    };
    let value = row.encode_to_vec().into();
    put(
        rows,
        partition,
        Family::Session,
        key,
        value,
        stored.as_ref(),
    );
    Ok(())
}

/// Writes a row that counts into the bytes of the partition's memory of requests; `before` is the
/// value that it had.
fn put<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    family: Family,
    key: Bytes,
    value: Bytes,
    before: Option<&Bytes>,
) {
    let before = before.map_or(0, |before| row_bytes(&key, before));
    let bytes = partition
        .dedup_bytes
        .saturating_add(row_bytes(&key, &value));
    partition.dedup_bytes = bytes.saturating_sub(before);
    rows.put(family, key, value);
}

/// Deletes such a row, if it is there.
fn delete<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    family: Family,
    key: Bytes,
) -> Result<Option<Bytes>, R::Error> {
    let value = rows.get(family, &key)?;
    if let Some(value) = &value {
        partition.dedup_bytes = partition.dedup_bytes.saturating_sub(row_bytes(&key, value));
        rows.delete(family, key);
    }
    Ok(value)
}

/// Deletes a record, and what says when it is due.
fn forget<R: Rows>(rows: &mut R, partition: &mut PartitionRow, key: Bytes) -> Result<(), R::Error> {
    let record = delete(rows, partition, Family::Dedup, key.clone())?;
    if let (Some(record), Some(limit)) = (record, family::record_age_max(&key)) {
        let due = due_of(&DedupRecord::decode(record).unwrap_or_default(), limit);
        delete(rows, partition, Family::Dedup, family::due_key(due, &key))?;
    }
    Ok(())
}

fn due_of(record: &DedupRecord, limit: Duration) -> Age {
    Age(record.age_ms.saturating_add(limit.as_millis() as u64))
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
        let record = DedupRecord::decode(bytes).unwrap_or_default();
        let over = match family::record_age_max(&key) {
            Some(limit) => due_of(&record, limit) <= Age(partition.age_ms),
            None => session_is_over(rows, partition, &key)?,
        };
        if over {
            forget(rows, partition, key)?;
        }
    }
    for key in expire.session_keys {
        if is_idle(rows, partition, &key)? {
            delete(rows, partition, Family::Session, key)?;
        }
    }
    for key in expire.dead_letter_keys {
        let Some(value) = rows.get(Family::DeadLetter, &key)? else {
            continue;
        };
        let died = DeadLetter::decode(value.clone()).unwrap_or_default().age_ms;
        if Age(partition.age_ms).since(Age(died)) >= DEAD_LETTER_AGE_MAX.as_millis() as u64 {
            messages::remove(rows, partition, Place::DeadLetters, key, &value);
        }
    }
    schedule::expire(rows, partition, expire.value_keys)
}

/// Whether the session of a record is gone, or has been idle for long enough. While it is in use
/// its gateway may ask for the record: only the gateway knows that it will not.
fn session_is_over<R: Rows>(
    rows: &mut R,
    partition: &PartitionRow,
    record_key: &[u8],
) -> Result<bool, R::Error> {
    match RequestId::parse(record_key) {
        Some(RequestId::Session { session, .. }) => {
            is_idle(rows, partition, &family::session_key(session))
        }
        Some(RequestId::Outside(_) | RequestId::Derived(_)) | None => Ok(false),
    }
}

fn is_idle<R: Rows>(
    rows: &mut R,
    partition: &PartitionRow,
    session_key: &[u8],
) -> Result<bool, R::Error> {
    let Some(bytes) = rows.get(Family::Session, session_key)? else {
        return Ok(true);
    };
    let used = SessionRow::decode(bytes).unwrap_or_default().age_ms;
    Ok(Age(partition.age_ms).since(Age(used)) >= DEDUP_AGE_MAX.as_millis() as u64)
}
