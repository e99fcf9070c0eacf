//! Applying what passes between partitions: accept, then run.

use bytes::Bytes;
use prost::Message;

use super::EntryOutcome;
use super::messages::{self, Place};
use super::topics;
use super::turn::{read_version, topic_of};
use crate::canary::{self, Canary};
use crate::command::{Accept, DeadLetter, Envelope, InboxFailed, TrimOutbox};
use crate::family::{self, Family};
use crate::ids::{PartitionId, RecoveryEpoch};
use crate::partition_row::PartitionRow;
use crate::replica::rows::Rows;

/// Rows that one trim deletes at most; the rest goes with the next one.
const TRIM_ROWS_MAX: u64 = 4_096;

pub(super) fn accept<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    accept: Accept,
) -> Result<EntryOutcome, R::Error> {
    let source = PartitionId(accept.source as u16);
    let mark_key = family::inbox_mark_key(source, RecoveryEpoch(accept.source_epoch));
    let mark = rows.get(Family::Mark, &mark_key)?;
    let mut mark = mark.as_deref().and_then(read_version).unwrap_or(0);
    let before = mark;
    let mut messages = Vec::new();
    let mut appended = Vec::new();
    for (offset, message) in (0_u64..).zip(accept.messages) {
        // Beyond all numbers: no source counts that far, and every replica passes it over alike.
        let (Some(sequence), Some(next)) = (accept.first.checked_add(offset), mark.checked_add(1))
        else {
            break;
        };
        // Below: accepted before. Above: a gap, and the source must send again from the mark.
        if sequence != next {
            continue;
        }
        mark = sequence;
        // Nobody runs an event: it stands in its log at once.
        if let Some(topic) = topic_of(&message.actor) {
            appended.extend(topics::deliver(rows, partition, &topic, &message.body)?);
            continue;
        }
        let inbox_sequence = partition.inbox_next;
        partition.inbox_next = partition.inbox_next.saturating_add(1);
        let row = Envelope {
            attempts: 0,
            accepted_ms: partition.wall_ms,
            ..message
        };
        let key = family::inbox_key(inbox_sequence);
        let value = row.encode_to_vec().into();
        messages::add(rows, partition, Place::Inbox, key, value);
        messages.push((inbox_sequence, row));
    }
    let forgets = canary::sings(Canary::AcceptWithoutMark)
        || (canary::sings(Canary::EventWithoutMark) && messages.is_empty());
    if mark != before && !forgets {
        rows.put(
            Family::Mark,
            mark_key,
            Bytes::copy_from_slice(&mark.to_be_bytes()),
        );
    }
    Ok(EntryOutcome::Accepted {
        source,
        through: mark,
        messages,
        appended,
    })
}

pub(super) fn trim<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    trim: TrimOutbox,
) -> Result<EntryOutcome, R::Error> {
    let destination = PartitionId(trim.destination as u16);
    let trimmed_key = family::outbox_trimmed_key(destination);
    let trimmed = rows.get(Family::Mark, &trimmed_key)?;
    let trimmed = trimmed.as_deref().and_then(read_version).unwrap_or(0);
    let next = rows.get(Family::Mark, &family::outbox_next_key(destination))?;
    let next = next.as_deref().and_then(read_version).unwrap_or(1);
    let through = trim
        .through
        .min(next.saturating_sub(1))
        .min(trimmed.saturating_add(TRIM_ROWS_MAX))
        .max(trimmed);
    for sequence in (trimmed..through).map(|before| before + 1) {
        let key = family::outbox_key(destination, sequence);
        // Read, because the bytes that wait are counted.
        if let Some(value) = rows.get(Family::Outbox, &key)? {
            messages::remove(rows, partition, Place::Outbox, key, &value);
        }
    }
    if through > trimmed {
        rows.put(
            Family::Mark,
            trimmed_key,
            Bytes::copy_from_slice(&through.to_be_bytes()),
        );
    }
    Ok(EntryOutcome::OutboxTrimmed {
        destination,
        through,
    })
}

pub(super) fn failed<R: Rows>(
    rows: &mut R,
    partition: &mut PartitionRow,
    failed: InboxFailed,
) -> Result<EntryOutcome, R::Error> {
    let inbox_sequence = failed.inbox_sequence;
    let key = family::inbox_key(inbox_sequence);
    let gone = EntryOutcome::InboxFailed {
        inbox_sequence,
        envelope: None,
    };
    let Some(bytes) = rows.get(Family::Inbox, &key)? else {
        return Ok(gone);
    };
    let mut envelope = Envelope::decode(bytes.clone()).unwrap_or_default();
    envelope.attempts = envelope.attempts.saturating_add(1);
    match failed.dead_letter {
        Some(reason) => {
            let letter = DeadLetter {
                envelope: Some(envelope),
                error: reason.error,
                age_ms: partition.age_ms,
            };
            let value = letter.encode_to_vec().into();
            messages::add(rows, partition, Place::DeadLetters, key.clone(), value);
            messages::remove(rows, partition, Place::Inbox, key, &bytes);
            Ok(gone)
        }
        None => {
            messages::rewrite(rows, partition, key, &bytes, &envelope);
            Ok(EntryOutcome::InboxFailed {
                inbox_sequence,
                envelope: Some(envelope),
            })
        }
    }
}
