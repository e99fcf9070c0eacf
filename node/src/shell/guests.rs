//! Who uses this node from inside its process, as the loop sees them: requests through the handle,
//! turns, applications, subscriptions, and the hub of ephemeral topics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ghostlight_core::admin::{AdminAnswer, AdminTicket};
use ghostlight_core::gateway::{CallTicket, ClientCall};
use ghostlight_core::hosts::words::{AppEffect, AppInput, AppOutcome, AppTicket};
use ghostlight_core::io::{Input, Now};
use ghostlight_core::topics::subscribers::{SubscribersInput, SubscriptionId};
use ghostlight_core::turn_io::RunnerInput;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::ephemeral::InterestFrame;
use ghostlight_protocol::wire::hello::{ConnectionKind, NodeRecord};
use ghostlight_shell::core_loop::INPUTS_PER_TURN;
use ghostlight_shell::guests::{GuestEffect, Guests};
use rand::Rng;
use tokio::sync::{mpsc, oneshot};

use super::apps::AppPort;
use super::metrics;
use super::subscriptions::Subscriptions;
use crate::actors::Executor;
use crate::ephemeral::Hub;
use crate::handle::{Door, Invoke, Request};
use crate::transport::LinkHandle;

/// Requests taken in one turn of the loop: what began before them goes on, however many wait.
const REQUESTS_PER_TURN: usize = 512;

/// See the module.
pub(super) struct NodeGuests {
    requests: mpsc::Receiver<Request>,
    runner: mpsc::Receiver<RunnerInput>,
    executor: Executor,
    apps: AppPort,
    hub: Arc<Hub>,
    door: Arc<Door>,
    calls: HashMap<CallTicket, oneshot::Sender<CallOutcome>>,
    admin: HashMap<AdminTicket, oneshot::Sender<AdminAnswer>>,
    app_calls: HashMap<AppTicket, oneshot::Sender<AppOutcome>>,
    subscriptions: Subscriptions,
    next_ticket: u64,
    room: Room,
}

/// How many more of each may be taken in this turn of the loop.
#[derive(Default)]
struct Room {
    runner: usize,
    apps: usize,
    requests: usize,
}

/// What is said.
pub(super) enum Word {
    Runner(RunnerInput),
    App(AppInput),
    Request(Request),
}

impl NodeGuests {
    pub(super) fn new(
        requests: mpsc::Receiver<Request>,
        runner: mpsc::Receiver<RunnerInput>,
        executor: Executor,
        apps: AppPort,
        hub: Arc<Hub>,
        door: Arc<Door>,
    ) -> Self {
        Self {
            requests,
            runner,
            executor,
            apps,
            hub,
            door,
            calls: HashMap::new(),
            admin: HashMap::new(),
            app_calls: HashMap::new(),
            subscriptions: Subscriptions::default(),
            next_ticket: 0,
            room: Room::default(),
        }
    }
}

impl Guests for NodeGuests {
    type Word = Word;

    async fn next(&mut self) -> Word {
        tokio::select! {
            biased;
            Some(input) = self.runner.recv() => Word::Runner(input),
            Some(input) = self.apps.inputs.recv() => Word::App(input),
            Some(request) = self.requests.recv() => Word::Request(request),
            else => std::future::pending().await,
        }
    }

    fn turn_begins(&mut self) {
        self.room = Room {
            runner: INPUTS_PER_TURN,
            apps: INPUTS_PER_TURN,
            requests: REQUESTS_PER_TURN,
        };
    }

    fn waiting(&mut self) -> Option<Word> {
        if self.room.runner > 0
            && let Ok(input) = self.runner.try_recv()
        {
            self.room.runner -= 1;
            return Some(Word::Runner(input));
        }
        if self.room.apps > 0
            && let Ok(input) = self.apps.inputs.try_recv()
        {
            self.room.apps -= 1;
            return Some(Word::App(input));
        }
        if self.room.requests > 0
            && let Ok(request) = self.requests.try_recv()
        {
            self.room.requests -= 1;
            return Some(Word::Request(request));
        }
        None
    }

    fn take(&mut self, now: Now, word: Word, out: &mut Vec<Input>) {
        match word {
            Word::Runner(input) => out.push(Input::Runner(input)),
            Word::App(input) => out.push(Input::App(input)),
            Word::Request(request) => self.take_request(now, request, out),
        }
    }

    fn refuse(&mut self, word: Word) {
        match word {
            Word::Request(request) => request.refuse(),
            // Turns and applications end with the node.
            Word::Runner(_) | Word::App(_) => {}
        }
    }

    fn close(&mut self) {
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            request.refuse();
        }
    }

    fn tell(&mut self, effect: GuestEffect, out: &mut Vec<Input>) {
        match effect {
            GuestEffect::Runner(effect) => self.executor.perform(effect),
            GuestEffect::App(AppEffect::Answer { ticket, outcome }) => {
                if let Some(answer) = self.app_calls.remove(&ticket) {
                    drop(answer.send(outcome));
                }
            }
            GuestEffect::App(effect) => out.extend(self.apps.ask(effect).map(Input::App)),
            GuestEffect::Subscriber(id, told) => {
                let inputs = self.subscriptions.tell(id, told);
                out.extend(inputs.into_iter().map(Input::Subscriber));
            }
            GuestEffect::Reply { ticket, outcome } => {
                if let Some(answer) = self.calls.remove(&ticket) {
                    // A client that has gone wants no answer.
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
        }
    }

    fn begin_turns(&mut self) {
        self.executor.begin();
    }

    /// Clients that have gone free their calls. Each is asked, so not in every turn of the loop.
    fn tick(&mut self, now: Instant, out: &mut Vec<Input>) {
        let calls = self.calls.iter();
        let gone: Vec<CallTicket> = calls
            .filter(|(_, answer)| answer.is_closed())
            .map(|(t, _)| *t)
            .collect();
        for ticket in gone {
            self.calls.remove(&ticket);
            out.push(Input::Hangup(ticket));
        }
        self.hub.tick(now);
        let inputs = self.subscriptions.tick();
        out.extend(inputs.into_iter().map(Input::Subscriber));
    }

    fn connected(&mut self, now: Instant, peer: &NodeRecord, link: &LinkHandle) {
        self.hub.connected(now, peer, link);
    }

    fn disconnected(&mut self, now: Instant, node: NodeId, kind: ConnectionKind) {
        self.hub.disconnected(now, node, kind);
    }

    fn said(&mut self, now: Instant, from: NodeId, said: InterestFrame) {
        self.hub.said(now, from, said);
    }

    fn overrun(&mut self, pause: Duration, patience: Duration) {
        self.door.shut(pause, patience);
    }

    fn measure(&self) {
        metrics::ephemeral(&self.hub.counted());
    }
}

/// A call with what this moment adds to it.
fn client_call(now: Now, call: Invoke) -> ClientCall {
    let Invoke {
        actor,
        method,
        body,
        request_id,
        timeout,
        metadata,
    } = call;
    let stamp = Stamp {
        wall_ms: now.wall.0,
        seed: rand::rng().random(),
    };
    ClientCall {
        metadata,
        actor,
        method,
        body,
        request_id,
        deadline: timeout.map(|timeout| now.instant + timeout),
        stamp,
    }
}

impl NodeGuests {
    fn take_request(&mut self, now: Now, request: Request, out: &mut Vec<Input>) {
        self.next_ticket += 1;
        match request {
            Request::Invoke {
                call,
                answer,
                queued,
            } => {
                // From here on the gateway counts it.
                drop(queued);
                let ticket = CallTicket(self.next_ticket);
                self.calls.insert(ticket, answer);
                let call = client_call(now, call);
                out.push(Input::Call { ticket, call });
            }
            Request::App {
                actor,
                call,
                answer,
            } => {
                let ticket = AppTicket(self.next_ticket);
                self.app_calls.insert(ticket, answer);
                out.push(Input::App(AppInput::Call {
                    ticket,
                    actor,
                    call,
                }));
            }
            Request::Subscribe(asked) => {
                let id = SubscriptionId(self.next_ticket);
                let input = self.subscriptions.begin(id, *asked);
                out.push(Input::Subscriber(input));
            }
            Request::Settled { id, settlements } => {
                let inputs = self.subscriptions.settled(id, settlements);
                out.extend(inputs.into_iter().map(Input::Subscriber));
            }
            Request::Unsubscribed(id) => {
                let input: Option<SubscribersInput> = self.subscriptions.end(id);
                out.extend(input.map(Input::Subscriber));
            }
            Request::Admin { request, answer } => {
                let ticket = AdminTicket(self.next_ticket);
                self.admin.insert(ticket, answer);
                out.push(Input::Admin { ticket, request });
            }
            Request::Shutdown { grace } => {
                let deadline = now.instant + grace;
                out.push(Input::Shutdown { deadline });
            }
        }
    }
}
