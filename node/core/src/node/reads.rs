//! Reads of rows that are under way: each is for one part of one leadership, and its answer counts
//! only while that leadership lives.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{PartitionId, Term};

use super::NodeCore;
use crate::io::{Effect, ReadTicket};
use crate::turns::{ReadId, RowsWanted};

/// Reads of rows in flight, and whom they are for.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) next: u64,
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
    pub(super) fn begin(
        &mut self,
        partition: PartitionId,
        term: Term,
        what: ReadWhat,
        rows: RowsWanted,
        out: &mut Vec<Effect>,
    ) {
        self.next += 1;
        let ticket = ReadTicket(self.next);
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
}
