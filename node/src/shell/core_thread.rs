//! The core's thread: takes what waits, feeds the core, flushes once, performs the effects.
//!
//! Mail before ticks: everything that waits is fed before a due tick, so that a node that was frozen
//! hears before it judges.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ghostlight_core::admin::{AdminAnswer, AdminTicket};
use ghostlight_core::gateway::{CallTicket, ClientCall};
use ghostlight_core::hosts::words::{AppEffect, AppInput, AppOutcome, AppTicket};
use ghostlight_core::io::{
    Effect, HaltReason, Input, Lane, Now, Refused, Refuser, StoreEffect, StoreInput,
};
use ghostlight_core::node::NodeCore;
use ghostlight_core::topics::subscribers::{SubscribersInput, SubscriptionId, Told};
use ghostlight_core::turn_io::RunnerInput;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::border;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::ConnectionKind;
use rand::Rng;
use tokio::sync::{mpsc, oneshot};

use super::admission::Doorkeeper;
use super::apps::AppPort;
use super::disk_thread::StoreThreads;
use super::queues::ReadJob;
use super::subscriptions::Subscriptions;
use super::threads::ThreadPanic;
use super::{events, metrics};
use crate::actors::Executor;
use crate::clock::Clock;
use crate::ephemeral::Hub;
use crate::handle::{Invoke, Request};
use crate::transport::{EventQueues, LinkHandle, SendError, Transport, TransportEvent};

/// Addresses whose last failed dial is remembered, to be told with silent seeds.
const FAILED_DIALS_MAX: usize = 256;
/// Inputs of one kind taken in one turn of the loop.
const INPUTS_PER_TURN: usize = 1_024;
/// Requests taken in one turn of the loop: what began before them goes on, however many wait.
const REQUESTS_PER_TURN: usize = 512;

/// Frames of bulk connections after which a turn of the loop takes no further event of them: heartbeats
/// that come meanwhile wait for the turn's end.
const FRAMES_PER_TURN: usize = 4_096;

/// Everything the core's thread owns.
pub(crate) struct CoreThread {
    pub(crate) core: NodeCore,
    pub(crate) clock: Clock,
    pub(crate) store: StoreThreads,
    pub(crate) transport: Transport,
    pub(crate) events: EventQueues,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) runner: mpsc::Receiver<RunnerInput>,
    pub(crate) executor: Executor,
    pub(crate) apps: AppPort,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
    pub(crate) hub: Arc<Hub>,
}

struct Running {
    parts: CoreThread,
    links: HashMap<(NodeId, ConnectionKind), LinkHandle>,
    calls: HashMap<CallTicket, oneshot::Sender<CallOutcome>>,
    admin: HashMap<AdminTicket, oneshot::Sender<AdminAnswer>>,
    app_calls: HashMap<AppTicket, oneshot::Sender<AppOutcome>>,
    subscriptions: Subscriptions,
    next_ticket: u64,
    effects: Vec<Effect>,
    disk: Vec<StoreEffect>,
    halt: Option<HaltReason>,
    hangups_seen: Instant,
    failed_dials: BTreeMap<String, String>,
    longest_turn: Duration,
    stalls_told: Instant,
}

impl CoreThread {
    /// Runs the node to its end.
    pub(crate) fn run(self) -> HaltReason {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                let detail = format!("cannot start the core's thread: {error}");
                return HaltReason::Refused {
                    code: Code::Internal,
                    detail,
                };
            }
        };
        let mut running = Running {
            parts: self,
            links: HashMap::new(),
            calls: HashMap::new(),
            admin: HashMap::new(),
            app_calls: HashMap::new(),
            subscriptions: Subscriptions::default(),
            next_ticket: 0,
            effects: Vec::new(),
            disk: Vec::new(),
            halt: None,
            hangups_seen: Instant::default(),
            failed_dials: BTreeMap::new(),
            longest_turn: Duration::ZERO,
            stalls_told: Instant::default(),
        };
        let reason = runtime.block_on(running.until_halt());
        running.end();
        reason
    }
}

/// What woke the loop.
enum Woken {
    Store(super::queues::DiskAnswer),
    Rows(super::queues::ReadAnswer),
    Panicked(ThreadPanic),
    Transport(TransportEvent),
    Runner(RunnerInput),
    App(AppInput),
    Request(Request),
    Time,
}

/// The transport keeps its queues open while it lives.
fn transport_event(event: Option<TransportEvent>) -> Woken {
    event.map_or_else(
        || Woken::Panicked(ThreadPanic::of_transport()),
        Woken::Transport,
    )
}

impl Running {
    async fn until_halt(&mut self) -> HaltReason {
        loop {
            let woken = self.wait().await;
            let begun = self.parts.clock.now();
            self.take(woken);
            self.take_waiting();
            self.tick();
            // Turns begin while this thread goes on.
            self.parts.executor.begin();
            self.flush();
            self.watch_stalls(begun);
            if let Some(reason) = self.halt.take() {
                self.refuse_requests();
                return reason;
            }
        }
    }

    /// Nobody takes requests any more, and closing the node takes a while: whoever asks hears at once that nothing ran.
    fn refuse_requests(&mut self) {
        self.parts.requests.close();
        while let Ok(request) = self.parts.requests.try_recv() {
            request.refuse();
        }
    }

    async fn wait(&mut self) -> Woken {
        let deadline = self.parts.core.next_deadline();
        let parts = &mut self.parts;
        let may_read = !parts.store.reads.are_many();
        let until = deadline.map_or_else(
            || std::time::Instant::now() + Duration::from_secs(1),
            |deadline| parts.clock.to_std(deadline),
        );
        tokio::select! {
            biased;
            Some(panic) = parts.store.panics.recv() => Woken::Panicked(panic),
            Some(answer) = parts.store.answers.recv() => Woken::Store(answer),
            Some(rows) = parts.store.reads.next() => Woken::Rows(rows),
            event = parts.events.control.recv() => transport_event(event),
            event = parts.events.bulk.recv() => transport_event(event),
            Some(input) = parts.runner.recv(), if may_read => Woken::Runner(input),
            Some(input) = parts.apps.inputs.recv(), if may_read => Woken::App(input),
            Some(request) = parts.requests.recv(), if may_read => Woken::Request(request),
            () = tokio::time::sleep_until(until.into()) => Woken::Time,
        }
    }

    fn take(&mut self, woken: Woken) {
        match woken {
            Woken::Store(answer) => self.take_store(answer),
            Woken::Rows((ticket, partition, rows)) => match rows {
                Ok((rows, rest)) => {
                    self.feed(Input::Store(StoreInput::Rows { ticket, rows, rest }));
                }
                Err(error) => self.read_failed(partition, &error),
            },
            Woken::Transport(event) => self.take_transport(event),
            Woken::Runner(input) => self.feed(Input::Runner(input)),
            Woken::App(input) => self.feed(Input::App(input)),
            Woken::Request(request) => self.take_request(request),
            Woken::Panicked(panic) => self.halt = Some(panic.halt()),
            Woken::Time => {}
        }
    }

    /// Everything that waits already, bounded: one flush covers it all.
    fn take_waiting(&mut self) {
        for _ in 0..INPUTS_PER_TURN {
            let Ok(answer) = self.parts.store.answers.try_recv() else {
                break;
            };
            self.take(Woken::Store(answer));
        }
        for _ in 0..INPUTS_PER_TURN {
            let Some(rows) = self.parts.store.reads.try_next() else {
                break;
            };
            self.take(Woken::Rows(rows));
        }
        for _ in 0..INPUTS_PER_TURN {
            let Ok(event) = self.parts.events.control.try_recv() else {
                break;
            };
            self.take(Woken::Transport(event));
        }
        let mut frames = 0;
        while frames < FRAMES_PER_TURN {
            let Ok(event) = self.parts.events.bulk.try_recv() else {
                break;
            };
            frames += event.frames();
            self.take(Woken::Transport(event));
        }
        for _ in 0..INPUTS_PER_TURN {
            if self.parts.store.reads.are_many() {
                break;
            }
            let Ok(input) = self.parts.runner.try_recv() else {
                break;
            };
            self.take(Woken::Runner(input));
        }
        for _ in 0..INPUTS_PER_TURN {
            if self.parts.store.reads.are_many() {
                break;
            }
            let Ok(input) = self.parts.apps.inputs.try_recv() else {
                break;
            };
            self.take(Woken::App(input));
        }
        for _ in 0..REQUESTS_PER_TURN {
            if self.parts.store.reads.are_many() {
                break;
            }
            let Ok(request) = self.parts.requests.try_recv() else {
                break;
            };
            self.take(Woken::Request(request));
        }
    }

    fn now(&self) -> Now {
        Now {
            instant: self.parts.clock.now(),
            wall: self.parts.clock.wall(),
        }
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        self.parts.core.handle(now, input, &mut self.effects);
        self.perform();
    }

    fn unsubscribed(&mut self, id: SubscriptionId) {
        let input = self.subscriptions.end(id);
        self.feed_subscribers(input);
    }

    fn feed_subscribers(&mut self, inputs: impl IntoIterator<Item = SubscribersInput>) {
        for input in inputs {
            self.feed(Input::Subscriber(input));
        }
    }

    fn tick(&mut self) {
        let due = self.parts.core.next_deadline();
        if due.is_some_and(|deadline| deadline <= self.parts.clock.now()) {
            self.feed(Input::Tick);
        }
        // Clients that have gone free their calls. Each is asked, so not in every turn of the loop.
        let now = self.parts.clock.now();
        if now.since(self.hangups_seen) < ghostlight_core::node::TICK {
            return;
        }
        self.hangups_seen = now;
        let gone: Vec<CallTicket> = self
            .calls
            .iter()
            .filter(|(_, answer)| answer.is_closed())
            .map(|(t, _)| *t)
            .collect();
        for ticket in gone {
            self.calls.remove(&ticket);
            self.feed(Input::Hangup(ticket));
        }
        self.parts.hub.tick(now);
        let inputs = self.subscriptions.tick();
        self.feed_subscribers(inputs);
    }

    fn flush(&mut self) {
        let now = self.now();
        self.parts.core.flush(now, &mut self.effects);
        self.perform();
        self.parts.executor.begin();
        // Before the disk's queue, which may be full: appends and heartbeats travel meanwhile.
        self.parts.transport.flush();
        if !self.disk.is_empty() {
            let batch = std::mem::take(&mut self.disk);
            // Waits while the disk is behind. A disk thread that has ended has said why.
            drop(self.parts.store.batches.send(batch));
        }
    }

    fn take_store(&mut self, answer: super::queues::DiskAnswer) {
        match answer {
            Ok(inputs) => {
                for input in inputs {
                    self.feed(Input::Store(input));
                }
            }
            Err(error) => {
                self.halt = Some(HaltReason::Refused {
                    code: error.code(),
                    detail: error.to_string(),
                });
            }
        }
    }

    fn read_failed(
        &mut self,
        partition: ghostlight_protocol::ids::PartitionId,
        error: &ghostlight_storage::StorageError,
    ) {
        match error.remedy() {
            ghostlight_storage::Remedy::Condemn(partition) => {
                let why = error.to_string();
                self.disk.push(StoreEffect::Condemn { partition, why });
            }
            ghostlight_storage::Remedy::EndProcess | ghostlight_storage::Remedy::Refuse => {
                let detail = format!("{partition}: {error}");
                self.halt = Some(HaltReason::Refused {
                    code: error.code(),
                    detail,
                });
            }
        }
    }

    fn take_transport(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Frames {
                from,
                frames,
                held: _,
            } => {
                for frame in frames {
                    match frame {
                        Frame::Interest(said) => {
                            if border::check_interest(&said).is_ok() {
                                self.parts.hub.said(self.parts.clock.now(), from, said);
                            }
                        }
                        frame => self.feed(Input::Frame { from, frame }),
                    }
                }
            }
            TransportEvent::Gossip(data) => self.feed(Input::Gossip(data)),
            TransportEvent::Connected {
                peer,
                descriptor,
                kind,
                link,
                dialed,
            } => {
                if let Some(node) = peer.id() {
                    self.parts
                        .hub
                        .connected(self.parts.clock.now(), &peer, &link);
                    self.links.insert((node, kind), link);
                    if let Some(address) = dialed {
                        self.feed(Input::Dialed { address, node });
                    }
                }
                self.feed(Input::Connected {
                    peer: *peer,
                    descriptor,
                    kind,
                });
            }
            TransportEvent::Disconnected { node, kind } => {
                self.links.remove(&(node, kind));
                let now = self.parts.clock.now();
                self.parts.hub.disconnected(now, node, kind);
                self.feed(Input::Disconnected { node, kind });
            }
            TransportEvent::DialFailed { address, why } => self.dial_failed(&address, why),
            TransportEvent::Refused { address, refused } => {
                self.refused(&address.to_string(), refused);
            }
        }
    }

    fn dial_failed(&mut self, address: &str, why: crate::transport::DialError) {
        if self.failed_dials.len() >= FAILED_DIALS_MAX {
            self.failed_dials.clear();
        }
        self.failed_dials
            .insert(address.to_owned(), why.to_string());
        match why {
            crate::transport::DialError::KeyRejected => {
                tracing::warn!(address, "cannot join: {why} [E0205]");
            }
            crate::transport::DialError::Refused(refused) => self.refused(address, *refused),
            crate::transport::DialError::Unresolved(_)
            | crate::transport::DialError::Silent(_)
            | crate::transport::DialError::Broken(_) => {
                tracing::debug!(address, %why, "a dial failed");
            }
        }
    }

    fn refused(&mut self, address: &str, refused: Refused) {
        let Refused {
            by, code, detail, ..
        } = &refused;
        let shown = code.map_or_else(String::new, |code| format!(" [{code}]"));
        match (by, code) {
            // Another node lives there now: its own connection is what counts.
            (_, Some(Code::UnknownNode)) => tracing::debug!(address, "{detail}"),
            (Refuser::Us, _) => tracing::warn!(address, "refused a peer: {detail}{shown}"),
            (Refuser::Peer, _) => tracing::warn!(address, "refused by a peer: {detail}{shown}"),
        }
        self.feed(Input::Refused(refused));
    }

    /// A call with what this moment adds to it.
    fn client_call(&self, call: Invoke) -> ClientCall {
        let Invoke {
            actor,
            method,
            body,
            request_id,
            timeout,
            metadata,
        } = call;
        let now = self.now();
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

    fn take_request(&mut self, request: Request) {
        if self.halt.is_some() {
            // The core takes nothing in any more.
            return request.refuse();
        }
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
                let call = self.client_call(call);
                self.feed(Input::Call { ticket, call });
            }
            Request::App {
                actor,
                call,
                answer,
            } => {
                let ticket = AppTicket(self.next_ticket);
                self.app_calls.insert(ticket, answer);
                self.feed(Input::App(AppInput::Call {
                    ticket,
                    actor,
                    call,
                }));
            }
            Request::Subscribe(asked) => {
                let id = SubscriptionId(self.next_ticket);
                let input = self.subscriptions.begin(id, *asked);
                self.feed_subscribers([input]);
            }
            Request::Settled { id, settlements } => {
                let inputs = self.subscriptions.settled(id, settlements);
                self.feed_subscribers(inputs);
            }
            Request::Unsubscribed(id) => self.unsubscribed(id),
            Request::Admin { request, answer } => {
                let ticket = AdminTicket(self.next_ticket);
                self.admin.insert(ticket, answer);
                self.feed(Input::Admin { ticket, request });
            }
            Request::Shutdown { grace } => {
                let deadline = self.parts.clock.now() + grace;
                self.feed(Input::Shutdown { deadline });
            }
        }
    }

    fn perform(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform_one(effect);
        }
        self.effects = effects;
    }

    fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, lane, frame } => self.send(to, lane, frame),
            Effect::Gossip { to, data } => {
                if let Some(link) = self.links.get(&(to, ConnectionKind::Control)) {
                    link.send_datagram(data);
                }
            }
            Effect::Dial {
                address,
                node,
                kind,
            } => self.parts.transport.dial(address, node, kind),
            Effect::Close(node) => {
                for kind in [ConnectionKind::Control, ConnectionKind::Bulk] {
                    if let Some(link) = self.links.get(&(node, kind)) {
                        link.close("removed");
                    }
                }
            }
            Effect::Reconnect { node, kind } => {
                if let Some(link) = self.links.get(&(node, kind)) {
                    link.close("made anew");
                }
            }
            Effect::Store(effect) => self.disk.push(effect),
            Effect::Read {
                ticket,
                partition,
                rows,
            } => {
                self.parts.store.reads.submit(ReadJob {
                    ticket,
                    partition,
                    rows,
                });
            }
            // Waits while the reader of snapshots is behind; its answers always have room.
            Effect::Snapshot(effect) => drop(self.parts.store.snapshots.send(effect)),
            Effect::Runner(effect) => self.parts.executor.perform(effect),
            Effect::App(effect) => self.perform_app(effect),
            Effect::Subscriber(id, told) => self.tell_subscriber(id, told),
            Effect::Reply { ticket, outcome } => {
                if let Some(answer) = self.calls.remove(&ticket) {
                    // A client that has gone wants no answer.
                    drop(answer.send(outcome));
                }
            }
            Effect::AdminReply {
                ticket,
                answer: said,
            } => {
                if let Some(answer) = self.admin.remove(&ticket) {
                    drop(answer.send(said));
                }
            }
            Effect::Introduce {
                record,
                descriptor,
                removed,
            } => {
                self.parts.doorkeeper.introduce(record, descriptor, removed);
            }
            Effect::Event(event) => events::tell(event, &self.failed_dials),
            Effect::Halt(reason) => self.halt = Some(reason),
        }
    }

    fn tell_subscriber(&mut self, id: SubscriptionId, told: Told) {
        let inputs = self.subscriptions.tell(id, told);
        let now = self.now();
        let mut effects = Vec::new();
        let core = &mut self.parts.core;
        for input in inputs {
            core.handle(now, Input::Subscriber(input), &mut effects);
        }
        for effect in effects {
            self.perform_one(effect);
        }
    }

    fn perform_app(&mut self, effect: AppEffect) {
        if let AppEffect::Answer { ticket, outcome } = effect {
            if let Some(answer) = self.app_calls.remove(&ticket) {
                drop(answer.send(outcome));
            }
            return;
        }
        let Some(unsent) = self.parts.apps.ask(effect) else {
            return;
        };
        let now = self.now();
        let mut effects = Vec::new();
        let core = &mut self.parts.core;
        core.handle(now, Input::App(unsent), &mut effects);
        for effect in effects {
            self.perform_one(effect);
        }
    }

    fn send(&mut self, to: NodeId, lane: Lane, frame: Frame) {
        let kind = match lane {
            Lane::Control => ConnectionKind::Control,
            Lane::Append | Lane::Call(_) | Lane::Push | Lane::Snapshot | Lane::Ephemeral => {
                ConnectionKind::Bulk
            }
            Lane::Inquiry => ConnectionKind::Inquiry,
        };
        let call = match &frame {
            Frame::Call(request) => Some(request.call),
            _ => None,
        };
        let sent = match self.links.get(&(to, kind)) {
            Some(link) => link.send(lane, frame),
            None => Err(SendError::NotConnected),
        };
        let Err(error) = sent else { return };
        metrics::dropped(match error {
            SendError::NotConnected => "not_connected",
            SendError::Full => "lane_full",
        });
        if let Some(call) = call {
            let now = self.now();
            let mut effects = Vec::new();
            self.parts
                .core
                .handle(now, Input::CallNotSent { to, call }, &mut effects);
            for effect in effects {
                self.perform_one(effect);
            }
        }
    }

    fn watch_stalls(&mut self, begun: Instant) {
        let now = self.parts.clock.now();
        self.longest_turn = self.longest_turn.max(now.since(begun));
        if now.since(self.stalls_told) >= Duration::from_secs(1) {
            metrics::stalled(self.longest_turn);
            let core = &self.parts.core;
            metrics::topics(&core.topic_counts(), core.subscriptions());
            metrics::ephemeral(&self.parts.hub.counted());
            self.longest_turn = Duration::ZERO;
            self.stalls_told = now;
        }
    }

    /// What is queued for the disk is written, then the store is closed.
    fn end(self) {
        let CoreThread {
            store,
            transport,
            executor,
            hub,
            ..
        } = self.parts;
        hub.end();
        drop(executor);
        drop(transport);
        store.end();
    }
}
