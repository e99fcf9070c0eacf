//! Faults by hand, and looks at nodes, for the named scenarios.

use ghostlight_core::admin::{AdminAnswer, AdminRequest, StatusView};
use ghostlight_core::gateway::CallTicket;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::wire::hello::{ConnectionKind, Duty};
use ghostlight_storage::Limit;

use super::World;
use crate::clients::Op;
use crate::dice::{MS, SEC};
use crate::net::{Place, key};

impl World {
    /// A disk syncs nothing for a while.
    pub fn stall_disk(&mut self, place: Place, span: u64) {
        self.nodes[place].stalled_until = self.now + span;
    }

    /// Sets a calendar clock wrong by so many milliseconds; 0: right again.
    pub fn set_clock(&mut self, place: Place, skew_ms: i64) {
        self.nodes[place].skew_ms = skew_ms;
    }

    /// Nothing moves on the bulk connection of two nodes, until it is made anew or all is healed.
    pub fn stick(&mut self, one: Place, other: Place) {
        self.net.stuck.insert(key(one, other, ConnectionKind::Bulk));
    }

    /// What a node's record says that it takes part in.
    #[must_use]
    pub fn duty_of(&self, place: Place) -> Option<Duty> {
        let process = self.nodes[place].process.as_ref()?;
        Some(process.introduced.record.duty())
    }

    /// The name of a node.
    #[must_use]
    pub fn name_of(&self, place: Place) -> String {
        let process = self.nodes[place].process.as_ref();
        process.map_or_else(String::new, |process| {
            process.introduced.record.name.clone()
        })
    }

    /// Gives an order, and waits for the answer; `None`: there was none in three minutes.
    pub fn ordered(&mut self, place: Place, request: AdminRequest) -> Option<AdminAnswer> {
        self.order(place, request);
        let ticket = self.admin_next;
        let answered = |world: &Self| {
            let answers = world.admin.iter();
            let mut mine = answers.filter(|(at, number, _)| (*at, *number) == (place, ticket));
            mine.next().map(|(.., answer)| answer.clone())
        };
        self.run_while(180 * SEC, MS, |world| answered(world).is_none());
        answered(self)
    }

    /// What a node says of its cluster.
    pub fn status(&mut self, place: Place) -> Option<StatusView> {
        let answer = self.ordered(place, AdminRequest::Status)?;
        let AdminAnswer::Status(view) = answer else {
            return None;
        };
        Some(view)
    }

    /// How many rows of a family lie on a node's disk.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn rows_of(&self, place: Place, family: Family) -> Result<usize, String> {
        let Some(process) = &self.nodes[place].process else {
            return Ok(0);
        };
        let limit = Limit {
            rows: 1 << 30,
            bytes: 1 << 30,
        };
        let mut rows = 0;
        for partition in (0..self.params.partitions).map(PartitionId) {
            let page = process.reader.scan(partition, family, b"", None, limit);
            rows += page.map_err(|error| error.to_string())?.rows.len();
        }
        Ok(rows)
    }

    /// Calls with an id of the client's own, and waits.
    pub fn ask_as(&mut self, place: Place, op: &Op, id: &str) -> Option<CallOutcome> {
        let ticket = self.call(place, op, Some(id), Some(20 * SEC));
        self.clients.asked.insert(ticket.0, None);
        self.run_while(30 * SEC, MS, |world| world.outcome(ticket).is_none());
        self.outcome(ticket)
    }

    /// Calls, and does not wait; the outcome comes by `outcome`.
    pub fn call_begin(&mut self, place: Place, op: &Op) -> CallTicket {
        let ticket = self.call(place, op, None, Some(20 * SEC));
        self.clients.asked.insert(ticket.0, None);
        ticket
    }

    /// The outcome of such a call, once it is there.
    #[must_use]
    pub fn outcome(&self, ticket: CallTicket) -> Option<CallOutcome> {
        self.clients.asked.get(&ticket.0).cloned().flatten()
    }
}
