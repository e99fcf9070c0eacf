//! Reads of rows that are under way: each is for one part of one leadership, and its answer counts
//! only while that leadership lives.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{PartitionId, Term};

use super::{Local, NodeCore};
use crate::expiry::ExpiryInput;
use crate::io::{Effect, ReadTicket, Rest};
use crate::outbox::OutboxInput;
use crate::topics::TopicsInput;
use crate::turns::{ReadId, RowsWanted, TurnsInput};
use crate::wakeups::WakeupsInput;

/// Reads of rows in flight, and whom they are for.
#[derive(Default)]
pub(super) struct Reads {
    /// Of reads, and of the rounds that prove a leadership: both are numbered from here.
    next: u64,
    pub(super) waiting: BTreeMap<ReadTicket, ReadFor>,
}

pub(super) struct ReadFor {
    pub(super) partition: PartitionId,
    pub(super) term: Term,
    pub(super) what: ReadWhat,
}

pub(super) enum ReadWhat {
    Turns(ReadId),
    Outbox,
    Inbox,
    Facts,
    Expiry,
    Wakeups,
    Topics(ReadId),
}

impl Reads {
    /// A number for a ReadIndex round that no other has.
    pub(super) fn context(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn begin(
        &mut self,
        partition: PartitionId,
        term: Term,
        what: ReadWhat,
        rows: RowsWanted,
        out: &mut Vec<Effect>,
    ) {
        let ticket = ReadTicket(self.context());
        self.waiting.insert(
            ticket,
            ReadFor {
                partition,
                term,
                what,
            },
        );
        out.push(Effect::Read {
            ticket,
            partition,
            rows,
        });
    }
}

impl NodeCore {
    pub(super) fn read_for_topics(
        &mut self,
        partition: PartitionId,
        term: Term,
        read: ReadId,
        rows: RowsWanted,
        out: &mut Vec<Effect>,
    ) {
        self.reads
            .begin(partition, term, ReadWhat::Topics(read), rows, out);
    }

    pub(super) fn read_for_turns(
        &mut self,
        partition: PartitionId,
        term: Term,
        read: ReadId,
        rows: RowsWanted,
        out: &mut Vec<Effect>,
    ) {
        self.reads
            .begin(partition, term, ReadWhat::Turns(read), rows, out);
    }

    pub(super) fn read_for_outbox(
        &mut self,
        partition: PartitionId,
        term: Term,
        after: Option<Bytes>,
        limit: usize,
        out: &mut Vec<Effect>,
    ) {
        let rows = RowsWanted::Scan {
            family: Family::Outbox,
            prefix: Bytes::new(),
            after,
            limit,
        };
        self.reads
            .begin(partition, term, ReadWhat::Outbox, rows, out);
    }

    pub(super) fn read_for_expiry(
        &mut self,
        partition: PartitionId,
        term: Term,
        rows: RowsWanted,
        out: &mut Vec<Effect>,
    ) {
        self.reads
            .begin(partition, term, ReadWhat::Expiry, rows, out);
    }

    pub(super) fn read_for_wakeups(
        &mut self,
        partition: PartitionId,
        term: Term,
        rows: RowsWanted,
        out: &mut Vec<Effect>,
    ) {
        self.reads
            .begin(partition, term, ReadWhat::Wakeups, rows, out);
    }

    /// Rows have come, for whoever asked for them and still leads.
    pub(super) fn rows_read(
        &mut self,
        ticket: ReadTicket,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<Effect>,
    ) {
        let Some(ReadFor {
            partition,
            term,
            what,
        }) = self.reads.waiting.remove(&ticket)
        else {
            return;
        };
        let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
        if slot.and_then(|slot| slot.serving_mut(term)).is_none() {
            return;
        }
        match what {
            ReadWhat::Turns(read) => {
                let input = TurnsInput::RowsRead { read, rows, rest };
                self.local.push_back(Local::Turns(partition, input));
            }
            ReadWhat::Outbox => {
                let input = OutboxInput::Rows(those_there(rows));
                self.local.push_back(Local::Outbox(partition, input));
            }
            ReadWhat::Inbox => self.inbox_page(partition, term, rows, rest, out),
            ReadWhat::Facts => {
                self.facts_read(&rows, out);
                let last = rows.into_iter().next_back().map(|(key, _)| key);
                if rest == Rest::More && last.is_some() {
                    self.read_facts(partition, term, last, out);
                }
            }
            ReadWhat::Expiry => {
                let rows = those_there(rows);
                let input = ExpiryInput::Rows { rows, rest };
                self.local.push_back(Local::Expiry(partition, input));
            }
            ReadWhat::Topics(read) => {
                let input = TopicsInput::Rows { read, rows, rest };
                self.local.push_back(Local::Topics(partition, input));
            }
            ReadWhat::Wakeups => {
                let input = WakeupsInput::Rows { rows, rest };
                self.local.push_back(Local::Wakeups(partition, input));
            }
        }
    }
}

fn those_there(rows: Vec<(Bytes, Option<Bytes>)>) -> Vec<(Bytes, Bytes)> {
    let rows = rows.into_iter();
    rows.filter_map(|(key, value)| Some((key, value?)))
        .collect()
}
