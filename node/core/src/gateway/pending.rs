//! One call without an answer: its attempts, and what may be said about them.
//!
//! Every attempt has its own number on the wire, so that each answer is booked to the attempt it
//! answers. An attempt is *open* until its answer; an open attempt may have run. From this follows
//! what the caller may be told, and nothing else decides it.

use std::time::Duration;

use ghostlight_protocol::call::{CallRequest, MayHaveRun};
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::closed::Closed;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;

use super::Waiter;
use super::retry::Backoff;

/// Open attempts of one call that are remembered; the answer of an older one no longer counts.
const OPEN_ATTEMPTS_MAX: usize = 16;
/// Bits of a wire number that count the attempts of a call.
const ATTEMPT_BITS: u32 = 12;
/// An attempt without an answer for this long is sent again; the next one after twice as long.
const UNANSWERED_MAX: Duration = Duration::from_secs(5);
/// An attempt that was held for so long was being served: the wait for a leader begins anew after
/// it.
const SERVED_AFTER: Duration = Duration::from_secs(1);
/// Told to a caller whom no leader has answered.
const NO_LEADER_RETRY: Duration = Duration::from_secs(1);

/// A call that the gateway holds.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) waiter: Waiter,
    pub(super) partition: PartitionId,
    pub(super) id: RequestId,
    pub(super) deadline: Option<Instant>,
    pub(super) state: State,
    pub(super) backoff: Backoff,
    /// Nodes that were asked in this round.
    pub(super) asked: Vec<NodeId>,
    /// Latest retryable refusal.
    pub(super) refusal: Option<NotRun>,
    /// What `timers` holds for this call.
    pub(super) timer: Option<Instant>,
    /// Everything of a request but what changes with each attempt.
    request: CallRequest,
    open: Vec<Attempt>,
    /// Whether an attempt that is no longer open may have run.
    settled: MayHaveRun,
    leaderless_since: Option<Instant>,
    sent: u64,
    last_asked: Option<NodeId>,
    /// How long the latest attempt may stay without an answer.
    patience: Duration,
}

/// What a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// The answer to its latest attempt.
    InFlight {
        /// Number of that attempt.
        number: u64,
    },
    /// The end of a pause.
    Pausing {
        /// When it asks again.
        until: Instant,
    },
    /// What another call of its partition finds out.
    Parked {
        /// When it looks for itself.
        until: Instant,
    },
}

/// One time the request was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attempt {
    pub(super) number: u64,
    pub(super) to: NodeId,
    /// Leadership it was meant for; 0: not known.
    pub(super) term: Term,
    pub(super) sent: Instant,
    /// What the request said: 1 for one that was never sent before.
    pub(super) attempt: u32,
}

/// The call that a wire number belongs to: calls differ in it, its attempts do not.
pub(crate) fn key_of(number: u64) -> u64 {
    number >> ATTEMPT_BITS
}

impl Pending {
    /// A call that was not sent yet. `request.attempt` is the number of its first attempt.
    pub(super) fn new(
        waiter: Waiter,
        id: RequestId,
        deadline: Option<Instant>,
        request: CallRequest,
        now: Instant,
    ) -> Self {
        Self {
            waiter,
            partition: PartitionId(request.partition as u16),
            id,
            deadline,
            state: State::Parked { until: now },
            backoff: Backoff::new(),
            asked: Vec::new(),
            refusal: None,
            timer: None,
            request,
            open: Vec::new(),
            settled: MayHaveRun::No,
            leaderless_since: None,
            sent: 0,
            last_asked: None,
            patience: UNANSWERED_MAX,
        }
    }

    /// Opens the next attempt and gives its request.
    pub(super) fn begin_attempt(
        &mut self,
        key: u64,
        to: NodeId,
        term: Term,
        closed: &Closed,
        now: Instant,
    ) -> CallRequest {
        let number = (key << ATTEMPT_BITS) | (self.sent & ((1 << ATTEMPT_BITS) - 1));
        let clash = self.open.iter().position(|a| a.number == number);
        let excess = (self.open.len() == OPEN_ATTEMPTS_MAX).then_some(0);
        if let Some(position) = clash.or(excess) {
            self.open.remove(position);
            self.settled = MayHaveRun::Yes;
        }
        self.open.push(Attempt {
            number,
            to,
            term,
            sent: now,
            attempt: self.request.attempt,
        });
        self.state = State::InFlight { number };
        self.asked.push(to);
        self.last_asked = Some(to);
        let request = CallRequest {
            call: number,
            remaining_ms: self.remaining_ms(now),
            closed_below: closed.below(),
            closed_ranges: closed.ranges().to_vec(),
            leader_term: term.0,
            ..self.request.clone()
        };
        self.sent += 1;
        self.request.attempt = self.request.attempt.saturating_add(1);
        request
    }

    /// The latest attempt got no answer in its time: it, or its answer, may be lost with a
    /// connection or a queue of which nobody tells. Everybody may be asked again; the next attempt
    /// gets more time, because a turn may also just be long.
    pub(super) fn unanswered(&mut self) {
        self.patience *= 2;
        self.new_round(None);
    }

    /// When the attempt in flight has been without an answer for too long.
    pub(super) fn unanswered_at(&self) -> Option<Instant> {
        self.in_flight().map(|attempt| attempt.sent + self.patience)
    }

    /// Takes an open attempt out: it has an answer, or was not sent.
    pub(super) fn close_attempt(&mut self, number: u64, to: NodeId) -> Option<Attempt> {
        let position = self
            .open
            .iter()
            .position(|a| a.number == number && a.to == to)?;
        Some(self.open.remove(position))
    }

    /// The latest attempt never left: the next one may carry its number again, if none came after
    /// it.
    pub(super) fn unsend(&mut self, attempt: Attempt) {
        if self.state
            == (State::InFlight {
                number: attempt.number,
            })
        {
            self.request.attempt -= 1;
        }
    }

    /// Whether an attempt's answer is the request's, whatever becomes of the others.
    ///
    /// The first attempt's may rest on nothing that is recorded: an error, or a reply that changed
    /// nothing. It is the request's only as long as no later attempt can commit something else.
    pub(super) fn decides(&self, attempt: Attempt) -> bool {
        attempt.attempt > 1 || self.request.attempt == attempt.attempt + 1
    }

    /// An answer said that its attempt may have run.
    pub(super) fn ran_perhaps(&mut self) {
        self.settled = MayHaveRun::Yes;
    }

    /// Whether any attempt may have run.
    pub(super) fn may_have_run(&self) -> MayHaveRun {
        match self.open.is_empty() {
            _ if canary::sings(Canary::UnknownAsNotRun) => MayHaveRun::No,
            true => self.settled,
            false => MayHaveRun::Yes,
        }
    }

    pub(super) fn body_bytes(&self) -> usize {
        self.request.body.len()
    }

    /// Attempts without an answer.
    pub(super) fn open(&self) -> &[Attempt] {
        &self.open
    }

    /// The attempt whose answer the call waits for.
    pub(super) fn in_flight(&self) -> Option<Attempt> {
        match self.state {
            State::InFlight { number } => self.open.iter().find(|a| a.number == number).copied(),
            State::Pausing { .. } | State::Parked { .. } => None,
        }
    }

    /// Begins a new round: everybody may be asked again, except `but`.
    pub(super) fn new_round(&mut self, but: Option<NodeId>) {
        self.asked.clear();
        self.asked.extend(but);
    }

    /// `attempt` ended without an outcome: the wait for a leader begins, or goes on.
    pub(super) fn lost_leader(&mut self, attempt: Option<Attempt>, now: Instant) {
        let was_served = attempt.is_some_and(|a| now.since(a.sent) >= SERVED_AFTER);
        if was_served || self.leaderless_since.is_none() {
            self.leaderless_since = Some(now);
        }
    }

    /// A leader was found.
    pub(super) fn found_leader(&mut self) {
        self.leaderless_since = None;
        self.backoff = Backoff::new();
        self.patience = UNANSWERED_MAX;
    }

    /// When the search for a leader is given up; `None`: only the deadline ends it.
    pub(super) fn search_ends(&self, leader_wait: Duration) -> Option<Instant> {
        let since = self.leaderless_since?;
        match (self.may_have_run(), self.deadline) {
            (MayHaveRun::Yes, Some(_)) => None,
            (MayHaveRun::No, _) | (_, None) => Some(since + leader_wait),
        }
    }

    /// When the call must be looked at again.
    pub(super) fn due(&self, leader_wait: Duration) -> Option<Instant> {
        match self.state {
            State::InFlight { .. } => [self.unanswered_at(), self.deadline]
                .into_iter()
                .flatten()
                .min(),
            State::Pausing { until } | State::Parked { until } => {
                [Some(until), self.deadline, self.search_ends(leader_wait)]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }

    /// What the caller hears when time is over.
    pub(super) fn given_up(&self) -> CallOutcome {
        if self.may_have_run() == MayHaveRun::Yes {
            return self.unknown("no answer came in time");
        }
        if let Some(refusal) = &self.refusal {
            return CallOutcome::NotRun(refusal.clone());
        }
        let tried = match self.last_asked {
            Some(node) => format!("the call was sent {} times, last to {node}", self.sent),
            None => "no replica of it could be reached".to_owned(),
        };
        CallOutcome::NotRun(NotRun::retry(
            Code::NoLeader,
            format!(
                "no leader of partition {} was found in time: {tried}. Nothing ran; try again, and see \
                 whether a majority of its replicas is up",
                self.partition
            ),
            NO_LEADER_RETRY,
        ))
    }

    /// A leader refused for good, but an earlier attempt may have run.
    pub(super) fn refused_in_doubt(&self, refusal: &NotRun) -> CallOutcome {
        self.unknown(&format!(
            "the last attempt was refused ({}: {}), an earlier one was never answered",
            refusal.code, refusal.detail
        ))
    }

    fn unknown(&self, why: &str) -> CallOutcome {
        let advice = match self.id {
            RequestId::Outside(_) | RequestId::Derived(_) => "repeat it with the same request id",
            RequestId::Session { .. } => {
                "read the actor's state, or give a request id of your own, so that it can be repeated"
            }
        };
        CallOutcome::Unknown {
            code: Code::OutcomeUnknown,
            detail: format!(
                "request {:?} to {} may have run: {why}; {advice}",
                self.id, self.partition
            ),
        }
    }

    /// 0 says that there is no deadline, so a deadline this near is still one millisecond.
    fn remaining_ms(&self, now: Instant) -> u64 {
        self.deadline.map_or(0, |deadline| {
            let left = deadline.remaining(now).unwrap_or_default();
            u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
        })
    }
}
