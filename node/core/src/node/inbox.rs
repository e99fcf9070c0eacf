//! The inbox of a leadership that has just opened is read page by page; what is accepted meanwhile
//! comes after it. Absent: how a message becomes a turn (`turns`).

use bytes::Bytes;
use ghostlight_protocol::command::Envelope;
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::{PartitionId, Term};
use prost::Message as _;

use super::reads::ReadWhat;
use super::slot::{InboxLoad, Later};
use super::{Local, NodeCore};
use crate::io::{Effect, Rest};
use crate::turns::{RowsWanted, TurnsInput};

/// Rows of one page of the inbox.
const INBOX_PAGE: usize = 256;

impl NodeCore {
    pub(super) fn read_inbox(
        &mut self,
        partition: PartitionId,
        term: Term,
        after: Option<Bytes>,
        out: &mut Vec<Effect>,
    ) {
        let rows = RowsWanted::Scan {
            family: Family::Inbox,
            prefix: Bytes::new(),
            after,
            limit: INBOX_PAGE,
        };
        self.reads
            .begin(partition, term, ReadWhat::Inbox, rows, out);
    }

    pub(super) fn inbox_page(
        &mut self,
        partition: PartitionId,
        term: Term,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<Effect>,
    ) {
        let last_key = rows.last().map(|(key, _)| key.clone());
        let mut messages: Vec<(u64, Envelope)> = rows
            .into_iter()
            .filter_map(|(key, value)| {
                Some((
                    family::parse_inbox_key(&key)?,
                    Envelope::decode(value?).ok()?,
                ))
            })
            .collect();
        let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
        let Some(serving) = slot.and_then(|slot| slot.serving_mut(term)) else {
            return;
        };
        let InboxLoad::Loading {
            later,
            last,
            last_key: newest,
        } = &mut serving.inbox
        else {
            return;
        };
        *last = messages.last().map_or(*last, |(sequence, _)| *sequence);
        *newest = last_key.or_else(|| newest.take());
        let more = match (std::mem::replace(later, Later::nothing()), rest) {
            (kept, Rest::More) => {
                *later = kept;
                true
            }
            // What was accepted meanwhile and not kept stands after what was read.
            (Later::OnDisk, Rest::Last) => true,
            (Later::Kept { messages: kept, .. }, Rest::Last) => {
                messages.extend(kept.into_iter().filter(|(sequence, _)| *sequence > *last));
                false
            }
        };
        let after = newest.clone();
        if !more {
            serving.inbox = InboxLoad::Loaded;
        }
        if !messages.is_empty() {
            self.local
                .push_back(Local::Turns(partition, TurnsInput::Inbox(messages)));
        }
        if more {
            self.read_inbox(partition, term, after, out);
        }
    }

    /// Messages just accepted, in inbox order.
    pub(super) fn deliver(
        &mut self,
        partition: PartitionId,
        term: Term,
        messages: Vec<(u64, Envelope)>,
    ) {
        let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
        let Some(serving) = slot.and_then(|slot| slot.serving_mut(term)) else {
            return;
        };
        match &mut serving.inbox {
            InboxLoad::Loading { later, .. } => later.add(messages),
            InboxLoad::Loaded => {
                self.local
                    .push_back(Local::Turns(partition, TurnsInput::Inbox(messages)));
            }
        }
    }
}
