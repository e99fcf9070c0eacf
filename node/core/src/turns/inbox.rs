//! Messages accepted from other partitions: each actor runs its own in order, exactly once.
//!
//! What fits is in memory; the rest stays in the store, where it is durable, and is read when there
//! is room. An error of the actor's code is final. Anything else is counted in the log and tried
//! again with growing pauses, until the attempts are used up.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::command::{DeadLetterReason, Envelope, InboxFailed, Share};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::hash::{domain, hash128};
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::text;
use ghostlight_protocol::time::Instant;
use prost::Message;

use super::dedup::{PendingRead, Rows};
use super::engine::Turns;
use super::jobs::{Job, JobId, Place, Reach, Speculation, Work};
use super::log::Failure;
use super::mailbox::{End, Gate, Line};
use super::running::seed_of;
use super::{RowsWanted, TurnsEffect};
use crate::io::Rest as PageRest;

/// Messages of one partition in memory.
pub(super) const MESSAGES_MAX: usize = 16_384;
/// Messages read at once when there is room again.
const PAGE_MESSAGES: usize = 1_024;
/// Pause after the first failure; doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Which messages are in memory: all up to `taken` that are not yet done.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    held: usize,
    taken: u64,
    rest: Rest,
}

/// Messages above `taken`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Rest {
    /// There are none.
    #[default]
    None,
    /// They are in the store.
    Stored,
    /// The store is being read.
    Reading,
    /// It is being read, and more arrived meanwhile.
    ReadingStale,
}

/// The request id under which a message's turn runs: the same on every node and at every attempt.
pub(super) fn message_request(partition: PartitionId, sequence: u64) -> RequestId {
    RequestId::Derived(hash128(
        domain::DERIVED,
        &[
            b"inbox",
            &partition.0.to_be_bytes(),
            &sequence.to_be_bytes(),
        ],
    ))
}

impl Turns {
    pub(super) fn on_inbox(
        &mut self,
        now: Instant,
        messages: Vec<(u64, Envelope)>,
        out: &mut Vec<TurnsEffect>,
    ) {
        for (sequence, envelope) in messages {
            if sequence <= self.inbox.taken {
                continue;
            }
            match self.inbox.rest {
                Rest::None if self.inbox.held < MESSAGES_MAX => {
                    self.take_message(now, sequence, envelope, out);
                }
                Rest::None | Rest::Stored => self.inbox.rest = Rest::Stored,
                Rest::Reading | Rest::ReadingStale => self.inbox.rest = Rest::ReadingStale,
            }
        }
    }

    pub(super) fn on_inbox_page(
        &mut self,
        now: Instant,
        rows: Rows,
        rest: PageRest,
        out: &mut Vec<TurnsEffect>,
    ) {
        let complete = rest == PageRest::Last && self.inbox.rest == Rest::Reading;
        self.inbox.rest = if complete { Rest::None } else { Rest::Stored };
        for (key, value) in rows {
            let sequence = family::parse_inbox_key(&key);
            let (Some(sequence), Some(value)) = (sequence, value) else {
                continue;
            };
            if sequence > self.inbox.taken {
                let envelope = Envelope::decode(value).unwrap_or_default();
                self.take_message(now, sequence, envelope, out);
            }
        }
        self.refill(out);
    }

    fn refill(&mut self, out: &mut Vec<TurnsEffect>) {
        if self.inbox.rest != Rest::Stored || self.inbox.held > MESSAGES_MAX / 2 {
            return;
        }
        self.inbox.rest = Rest::Reading;
        let rows = RowsWanted::Scan {
            family: Family::Inbox,
            prefix: Bytes::new(),
            after: Some(family::inbox_key(self.inbox.taken)),
            limit: PAGE_MESSAGES,
        };
        self.reads.ask(PendingRead::Inbox, rows, out);
    }

    fn take_message(
        &mut self,
        now: Instant,
        sequence: u64,
        envelope: Envelope,
        out: &mut Vec<TurnsEffect>,
    ) {
        self.inbox.taken = sequence;
        self.inbox.held += 1;
        let actor = match ActorKey::parse(envelope.actor) {
            Ok(actor) => actor,
            Err(error) => {
                self.counters.messages_dead += 1;
                return self.log.push_failure(Failure {
                    job: None,
                    command: InboxFailed {
                        inbox_sequence: sequence,
                        dead_letter: Some(DeadLetterReason {
                            error: text::cut(error.to_string()),
                        }),
                    },
                });
            }
        };
        if envelope.committed == Share::Part as i32 {
            self.counters.messages_dead += 1;
            return self.log.push_failure(Failure {
                job: None,
                command: interrupted_message(sequence),
            });
        }
        self.rouse(&actor);
        let request = message_request(self.partition, sequence);
        let id = self.jobs.insert(Job {
            // Not this leader's clock: a turn run again under another leader must ask the same of
            // others.
            stamp: Stamp {
                wall_ms: envelope.accepted_ms,
                seed: seed_of(&request.to_bytes()),
            },
            actor: actor.clone(),
            work: Work::Message {
                sequence,
                attempts: envelope.attempts,
            },
            method: envelope.method,
            body: envelope.body,
            deadline: None,
            chain: Vec::new(),
            place: Place::Waiting,
            reach: Reach::Inside,
            speculation: Speculation::None,
            reruns: 0,
            parts: 0,
            since: now,
            metadata: Vec::new(),
        });
        self.actors
            .at(&actor)
            .mailbox
            .push(Line::Messages, id, End::Back);
        self.advance(now, &actor, out);
    }

    /// A message's row is gone: its turn committed, it died, or somebody else had run it.
    pub(super) fn message_done(&mut self, _now: Instant, id: JobId, out: &mut Vec<TurnsEffect>) {
        self.forget(id);
        self.inbox.held -= 1;
        self.refill(out);
    }

    /// A message's failure is in the log.
    pub(super) fn message_failed(
        &mut self,
        now: Instant,
        failure: Failure,
        attempts_now: Option<u32>,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Some((key, id)) = failure.job else {
            self.inbox.held -= 1;
            return self.refill(out);
        };
        match attempts_now {
            None => {
                self.actors.at(&key).mailbox.gate = Gate::Open;
                self.message_done(now, id, out);
            }
            Some(count) => {
                let job = self.jobs.at(id);
                job.place = Place::Waiting;
                if let Work::Message { attempts, .. } = &mut job.work {
                    *attempts = count;
                }
                self.actors
                    .at(&key)
                    .mailbox
                    .push(Line::Messages, id, End::Front);
                self.close_gate(&key, now + pause(count));
            }
        }
        self.touch(now, &key, out);
    }
}

/// What becomes of a message of whose turn a part is committed, and which cannot end any more.
pub(super) fn interrupted_message(sequence: u64) -> InboxFailed {
    InboxFailed {
        inbox_sequence: sequence,
        dead_letter: Some(DeadLetterReason {
            error: "its turn was cut after it had committed a part".to_owned(),
        }),
    }
}

/// How long a message waits after its `attempts`-th failure.
pub(super) fn pause(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    (PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX)
}
