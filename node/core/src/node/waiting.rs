//! Calls that this node holds as a leader: those that wait for a leadership to open, and how many
//! bytes all of them are.
//!
//! What waits here keeps its deadline, and leaves when its caller does.

use std::time::Duration;

use ghostlight_protocol::call::{AnswerKind, CallRequest, NotRunAnswer};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::limits::LEADER_CALL_BYTES_MAX;
use ghostlight_protocol::time::Instant;

use super::slot::Slot;
use super::{Cluster, Local, NodeCore};
use crate::backlog::{TooLate, patience};
use crate::io::{Effect, Now};
use crate::topics::is_for_topics;
use crate::turns::{Caller, TurnsInput};

/// Told to a caller that this node holds too much.
const FULL_RETRY: Duration = Duration::from_millis(200);

fn patience_of(request: &CallRequest) -> Duration {
    let remaining = (request.remaining_ms > 0).then(|| Duration::from_millis(request.remaining_ms));
    patience(remaining)
}

fn too_late(late: TooLate) -> NotRunAnswer {
    NotRunAnswer {
        code: u32::from(Code::NodeBusy.number()),
        detail: format!(
            "{} turns wait for the disks at this leader, which takes about {} ms: more than half of this call's \
             time. Nothing ran; call less often, or add nodes",
            late.waiting,
            late.wait.as_millis()
        ),
        retry_after_ms: late.pause.as_millis() as u64,
    }
}

/// A call that waits for a leadership to open.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) from: Caller,
    pub(super) request: CallRequest,
    pub(super) since: Instant,
}

/// Whether a call may still run.
enum InTime {
    Yes(Box<CallRequest>),
    No(Caller),
}

impl Waiting {
    /// The request with what is left of its time.
    fn at(self, now: Instant) -> InTime {
        let mut request = self.request;
        if request.remaining_ms == 0 {
            return InTime::Yes(Box::new(request));
        }
        let waited = now.since(self.since).as_millis() as u64;
        match request.remaining_ms.saturating_sub(waited) {
            0 => InTime::No(self.from),
            left => {
                request.remaining_ms = left;
                InTime::Yes(Box::new(request))
            }
        }
    }
}

impl Cluster {
    /// Whether the leaderships here have room for a call's body, and will come to it in its time. A
    /// call inside a chain serves a turn that waits for it: refusing it would free nothing. The
    /// same is true of operations, which have no turn of their own, and publishes have a bound of
    /// their own.
    pub(super) fn room_for(&self, request: &CallRequest) -> Result<(), NotRunAnswer> {
        if !request.chain.is_empty() {
            return Ok(());
        }
        let is_turn = request.operation.is_none() && !is_for_topics(&request.actor);
        if let (true, Err(late)) = (is_turn, self.backlog.judge(patience_of(request))) {
            return Err(too_late(late));
        }
        let after = self.call_bytes + request.body.len();
        if after <= LEADER_CALL_BYTES_MAX {
            return Ok(());
        }
        Err(NotRunAnswer {
            code: u32::from(Code::MailboxFull.number()),
            detail: format!(
                "the calls that wait at this leader have {} bytes, at most {LEADER_CALL_BYTES_MAX} may; \
                 nothing ran. Call less often, send less at once, or add nodes",
                self.call_bytes
            ),
            retry_after_ms: FULL_RETRY.as_millis() as u64,
        })
    }

    /// The bytes that a partition held have become others.
    pub(super) fn recount(&mut self, before: usize, after: usize) {
        self.call_bytes = (self.call_bytes + after)
            .checked_sub(before)
            .expect("what a leadership holds was counted");
    }

    pub(super) fn push_waiting(&mut self, partition: PartitionId, waiting: Waiting) {
        let bytes = waiting.request.body.len();
        if let Some(slot) = self.slot_mut(partition) {
            slot.waiting.push_back(waiting);
            self.recount(0, bytes);
        }
    }

    /// Everything that waits for a partition here waits no longer.
    pub(super) fn take_waiting(&mut self, partition: PartitionId) -> Vec<Waiting> {
        let Some(slot) = self.slot_mut(partition) else {
            return Vec::new();
        };
        let waiting: Vec<Waiting> = slot.waiting.drain(..).collect();
        let bytes = waiting.iter().map(|w| w.request.body.len()).sum();
        self.recount(bytes, 0);
        waiting
    }
}

impl NodeCore {
    /// The leadership has opened: what waited for it goes to its turn engine.
    pub(super) fn feed_waiting(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for waiting in cluster.take_waiting(partition) {
            let from = waiting.from;
            match waiting.at(now.instant) {
                InTime::Yes(request) => {
                    self.local.push_back(Local::call(partition, from, *request));
                }
                InTime::No(from) => {
                    let refusal = NotRunAnswer {
                        code: u32::from(Code::DeadlineExpired.number()),
                        detail: format!(
                            "the deadline passed while the new leader of {partition} opened: nothing ran"
                        ),
                        retry_after_ms: 0,
                    };
                    self.answer(from, AnswerKind::NotRun(refusal), out);
                }
            }
        }
    }

    /// The caller of an attempt has gone.
    pub(super) fn hang_up(
        &mut self,
        partition: PartitionId,
        caller: Caller,
        out: &mut Vec<Effect>,
    ) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let waits = |slot: &Slot| slot.waiting.iter().position(|w| w.from == caller);
        if let Some(position) = cluster.slot(partition).and_then(waits) {
            let slot = cluster.slot_mut(partition);
            let gone = slot.and_then(|slot| slot.waiting.remove(position));
            let bytes = gone.map_or(0, |w| w.request.body.len());
            cluster.recount(bytes, 0);
            return self.redirect(caller, partition, out);
        }
        self.local
            .push_back(Local::Turns(partition, TurnsInput::Hangup(caller)));
    }
}
