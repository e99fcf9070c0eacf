//! Who uses a simulated node: clients, and the core's own runner of turns with the sample actors.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ghostlight_core::admin::{AdminAnswer, AdminRequest, AdminTicket};
use ghostlight_core::gateway::{CallTicket, ClientCall};
use ghostlight_core::io::{Input, Now};
use ghostlight_core::sdk::local_runner::LocalRunner;
use ghostlight_core::turn_io::RunnerInput;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::time::Instant;
use ghostlight_shell::guests::{Clocks, GuestEffect, Guests};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::dice::Dice;

/// What clients want that waits for the loop.
pub(crate) const ASKED_MAX: usize = 1_024;

/// What a client, or an operator, wants.
pub(crate) enum Asked {
    Call {
        actor: ActorKey,
        method: String,
        body: Bytes,
        timeout: std::time::Duration,
        answer: oneshot::Sender<CallOutcome>,
    },
    Admin {
        request: AdminRequest,
        answer: oneshot::Sender<AdminAnswer>,
    },
    Shutdown {
        grace: std::time::Duration,
    },
}

pub(crate) enum Word {
    Runner(RunnerInput),
    Asked(Asked),
}

pub(crate) struct SimGuests {
    asked: mpsc::Receiver<Asked>,
    runner: LocalRunner,
    /// What turns have said already.
    said: VecDeque<RunnerInput>,
    clock: Clock,
    dice: Dice,
    calls: BTreeMap<CallTicket, oneshot::Sender<CallOutcome>>,
    admin: BTreeMap<AdminTicket, oneshot::Sender<AdminAnswer>>,
    next_ticket: u64,
}

impl SimGuests {
    pub(crate) fn new(asked: mpsc::Receiver<Asked>, clock: Clock, dice: Dice) -> Self {
        Self {
            asked,
            runner: LocalRunner::new(ghostlight_core::samples::registry()),
            said: VecDeque::new(),
            clock,
            dice,
            calls: BTreeMap::new(),
            admin: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    fn take_asked(&mut self, now: Now, asked: Asked, out: &mut Vec<Input>) {
        self.next_ticket += 1;
        match asked {
            Asked::Call {
                actor,
                method,
                body,
                timeout,
                answer,
            } => {
                let ticket = CallTicket(self.next_ticket);
                self.calls.insert(ticket, answer);
                let call = ClientCall {
                    metadata: Vec::new(),
                    actor,
                    method,
                    body,
                    request_id: None,
                    deadline: Some(now.instant + timeout),
                    stamp: Stamp {
                        wall_ms: now.wall.0,
                        seed: self.dice.any(),
                    },
                };
                out.push(Input::Call { ticket, call });
            }
            Asked::Admin { request, answer } => {
                let ticket = AdminTicket(self.next_ticket);
                self.admin.insert(ticket, answer);
                out.push(Input::Admin { ticket, request });
            }
            Asked::Shutdown { grace } => {
                let deadline = now.instant + grace;
                out.push(Input::Shutdown { deadline });
            }
        }
    }
}

impl Guests for SimGuests {
    type Word = Word;

    async fn next(&mut self) -> Word {
        if let Some(said) = self.said.pop_front() {
            return Word::Runner(said);
        }
        match self.asked.recv().await {
            Some(asked) => Word::Asked(asked),
            None => std::future::pending().await,
        }
    }

    fn turn_begins(&mut self) {}

    fn waiting(&mut self) -> Option<Word> {
        let said = self.said.pop_front().map(Word::Runner);
        said.or_else(|| self.asked.try_recv().ok().map(Word::Asked))
    }

    fn take(&mut self, now: Now, word: Word, out: &mut Vec<Input>) {
        match word {
            Word::Runner(input) => out.push(Input::Runner(input)),
            Word::Asked(asked) => self.take_asked(now, asked, out),
        }
    }

    /// Whoever asked sees that nobody answers.
    fn refuse(&mut self, word: Word) {
        drop(word);
    }

    fn close(&mut self) {
        self.asked.close();
        while self.asked.try_recv().is_ok() {}
    }

    fn tell(&mut self, effect: GuestEffect, _: &mut Vec<Input>) {
        match effect {
            GuestEffect::Runner(effect) => {
                let mut said = Vec::new();
                self.runner.perform(self.clock.now(), effect, &mut said);
                self.said.extend(said);
            }
            GuestEffect::Reply { ticket, outcome } => {
                if let Some(answer) = self.calls.remove(&ticket) {
                    drop(answer.send(outcome));
                }
            }
            GuestEffect::AdminReply {
                ticket,
                answer: said,
            } => {
                if let Some(answer) = self.admin.remove(&ticket) {
                    drop(answer.send(said));
                }
            }
            // There are no applications, and nobody subscribes.
            GuestEffect::App(_) | GuestEffect::Subscriber(..) => {}
        }
    }

    fn begin_turns(&mut self) {}

    fn tick(&mut self, _: Instant, out: &mut Vec<Input>) {
        let calls = self.calls.iter();
        let gone: Vec<CallTicket> = calls
            .filter(|(_, answer)| answer.is_closed())
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in gone {
            self.calls.remove(&ticket);
            out.push(Input::Hangup(ticket));
        }
    }
}
