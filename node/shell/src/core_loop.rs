//! The core's thread: takes what waits, feeds the core, flushes once, performs the effects.
//!
//! Mail before ticks: everything that waits is fed before a due tick, so that a node that was
//! frozen hears before it judges.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ghostlight_core::io::{
    Effect, HaltReason, Input, Lane, Now, Refused, Refuser, StoreEffect, StoreInput,
};
use ghostlight_core::node::NodeCore;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{NodeId, PartitionId};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::border;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::ConnectionKind;
use ghostlight_storage::{Remedy, StorageError};
use ghostlight_transport::{
    AsyncTimer, DialError, EventQueues, LinkHandle, Runtime, SendError, Transport, TransportEvent,
};

use crate::admission::Doorkeeper;
use crate::guests::{Clocks, GuestEffect, Guests};
use crate::ports::StorePorts;
use crate::queues::{DiskAnswer, ReadAnswer, ReadJob};
use crate::repeats::Repeats;
use crate::threads::ThreadPanic;
use crate::{events, metrics};

/// Addresses whose last failed dial is remembered, to be told with silent seeds.
const FAILED_DIALS_MAX: usize = 256;
/// Inputs of one kind taken in one turn of the loop.
pub const INPUTS_PER_TURN: usize = 1_024;
/// Frames of bulk connections after which a turn of the loop takes no further event of them:
/// heartbeats that come meanwhile wait for the turn's end.
const FRAMES_PER_TURN: usize = 4_096;
/// Longest sleep of a loop that has nothing to wait for.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Everything around the core.
pub struct Parts<G, C> {
    /// The core.
    pub core: NodeCore,
    /// Its clocks.
    pub clocks: C,
    /// Timers of whoever drives the loop.
    pub runtime: Arc<dyn Runtime>,
    /// The store.
    pub store: StorePorts,
    /// The peers: to them.
    pub transport: Transport,
    /// The peers: from them.
    pub events: EventQueues,
    /// Programs, applications, turns.
    pub guests: G,
    /// What this node says of itself.
    pub doorkeeper: Arc<Doorkeeper>,
}

/// The loop of one node.
pub struct CoreLoop<G, C> {
    parts: Parts<G, C>,
    links: BTreeMap<(NodeId, ConnectionKind), LinkHandle>,
    effects: Vec<Effect>,
    inputs: Vec<Input>,
    disk: Vec<StoreEffect>,
    halt: Option<HaltReason>,
    guests_seen: Instant,
    failed_dials: BTreeMap<String, String>,
    repeats: Repeats,
    longest_turn: Duration,
    stalls_told: Instant,
}

/// What woke the loop.
enum Woken<W> {
    Store(DiskAnswer),
    Rows(ReadAnswer),
    Panicked(ThreadPanic),
    Transport(TransportEvent),
    Guest(W),
    Time,
}

/// The transport keeps its queues open while it lives.
fn transport_event<W>(event: Option<TransportEvent>) -> Woken<W> {
    event.map_or_else(
        || Woken::Panicked(ThreadPanic::of_transport()),
        Woken::Transport,
    )
}

impl<G: Guests, C: Clocks> CoreLoop<G, C> {
    /// A loop that has not begun.
    #[must_use]
    pub fn new(parts: Parts<G, C>) -> Self {
        Self {
            parts,
            links: BTreeMap::new(),
            effects: Vec::new(),
            inputs: Vec::new(),
            disk: Vec::new(),
            halt: None,
            guests_seen: Instant::default(),
            failed_dials: BTreeMap::new(),
            repeats: Repeats::default(),
            longest_turn: Duration::ZERO,
            stalls_told: Instant::default(),
        }
    }

    /// What is left when it has ended; what was queued for the store is still written.
    #[must_use]
    pub fn into_parts(self) -> Parts<G, C> {
        self.parts
    }

    /// Runs the node to its end.
    pub async fn until_halt(&mut self) -> HaltReason {
        let runtime = Arc::clone(&self.parts.runtime);
        let mut timer = runtime.new_timer(runtime.now());
        loop {
            let woken = self.wait(timer.as_mut()).await;
            let begun = self.parts.clocks.now();
            self.take(woken);
            self.take_waiting();
            self.tick();
            // Turns begin while this thread goes on.
            self.parts.guests.begin_turns();
            self.flush();
            self.watch_stalls(begun);
            if let Some(reason) = self.halt.take() {
                // Closing the node takes a while: whoever asks hears at once that nothing ran.
                self.parts.guests.close();
                return reason;
            }
        }
    }

    async fn wait(&mut self, mut timer: Pin<&mut dyn AsyncTimer>) -> Woken<G::Word> {
        let deadline = self.parts.core.next_deadline();
        let parts = &mut self.parts;
        let may_read = !parts.store.reads.are_many();
        let until = deadline.map_or_else(
            || parts.runtime.now() + SLEEP_MAX,
            |deadline| parts.clocks.to_std(deadline),
        );
        timer.as_mut().reset(until);
        tokio::select! {
            biased;
            Some(panic) = parts.store.panics.recv() => Woken::Panicked(panic),
            Some(answer) = parts.store.answers.recv() => Woken::Store(answer),
            Some(rows) = parts.store.reads.next() => Woken::Rows(rows),
            event = parts.events.control.recv() => transport_event(event),
            event = parts.events.bulk.recv() => transport_event(event),
            word = parts.guests.next(), if may_read => Woken::Guest(word),
            () = poll_fn(|context| timer.as_mut().poll(context)) => Woken::Time,
        }
    }

    fn take(&mut self, woken: Woken<G::Word>) {
        match woken {
            Woken::Store(answer) => self.take_store(answer),
            Woken::Rows((ticket, partition, rows)) => match rows {
                Ok((rows, rest)) => {
                    self.feed(Input::Store(StoreInput::Rows { ticket, rows, rest }));
                }
                Err(error) => self.read_failed(partition, &error),
            },
            Woken::Transport(event) => self.take_transport(event),
            Woken::Guest(word) => self.take_word(word),
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
        self.parts.guests.turn_begins();
        while !self.parts.store.reads.are_many()
            && let Some(word) = self.parts.guests.waiting()
        {
            self.take_word(word);
        }
    }

    fn take_word(&mut self, word: G::Word) {
        if self.halt.is_some() {
            // The core takes nothing in any more.
            return self.parts.guests.refuse(word);
        }
        let now = self.now();
        let mut inputs = std::mem::take(&mut self.inputs);
        self.parts.guests.take(now, word, &mut inputs);
        self.feed_all(inputs);
    }

    fn now(&self) -> Now {
        Now {
            instant: self.parts.clocks.now(),
            wall: self.parts.clocks.wall(),
        }
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        self.parts.core.handle(now, input, &mut self.effects);
        self.perform();
    }

    fn feed_all(&mut self, mut inputs: Vec<Input>) {
        for input in inputs.drain(..) {
            self.feed(input);
        }
        self.inputs = inputs;
    }

    fn tick(&mut self) {
        let due = self.parts.core.next_deadline();
        if due.is_some_and(|deadline| deadline <= self.parts.clocks.now()) {
            self.feed(Input::Tick);
        }
        let now = self.parts.clocks.now();
        if now.since(self.guests_seen) < ghostlight_core::node::TICK {
            return;
        }
        self.guests_seen = now;
        let mut inputs = std::mem::take(&mut self.inputs);
        self.parts.guests.tick(now, &mut inputs);
        self.feed_all(inputs);
    }

    fn flush(&mut self) {
        let now = self.now();
        self.parts.core.flush(now, &mut self.effects);
        self.perform();
        self.parts.guests.begin_turns();
        // Before the disk's queue, which may be full: appends and heartbeats travel meanwhile.
        self.parts.transport.flush();
        if !self.disk.is_empty() {
            let batch = std::mem::take(&mut self.disk);
            // Waits while the disk is behind.
            self.parts.store.batches.send(batch);
        }
    }

    fn take_store(&mut self, answer: DiskAnswer) {
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

    fn read_failed(&mut self, partition: PartitionId, error: &StorageError) {
        match error.remedy() {
            Remedy::Condemn(partition) => {
                let why = error.to_string();
                self.disk.push(StoreEffect::Condemn { partition, why });
            }
            Remedy::EndProcess | Remedy::Refuse => {
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
                                let now = self.parts.clocks.now();
                                self.parts.guests.said(now, from, said);
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
                    let now = self.parts.clocks.now();
                    self.parts.guests.connected(now, &peer, &link);
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
                let now = self.parts.clocks.now();
                self.parts.guests.disconnected(now, node, kind);
                self.feed(Input::Disconnected { node, kind });
            }
            TransportEvent::DialFailed { address, why } => self.dial_failed(&address, why),
            TransportEvent::Refused { address, refused } => {
                self.refused(&address.to_string(), refused);
            }
        }
    }

    fn dial_failed(&mut self, address: &str, why: DialError) {
        if self.failed_dials.len() >= FAILED_DIALS_MAX {
            self.failed_dials.clear();
        }
        self.failed_dials
            .insert(address.to_owned(), why.to_string());
        match why {
            DialError::KeyRejected => {
                let code = Code::ClusterKeyRejected;
                if self.is_due(address, Some(code)) {
                    tracing::warn!(address, "cannot join: {why} [{code}]");
                }
            }
            DialError::Refused(refused) => self.refused(address, *refused),
            DialError::Unresolved(_) | DialError::Silent(_) | DialError::Broken(_) => {
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
            // It dials again and again.
            _ if !self.is_due(address, *code) => {}
            (Refuser::Us, _) => tracing::warn!(address, "refused a peer: {detail}{shown}"),
            (Refuser::Peer, _) => tracing::warn!(address, "refused by a peer: {detail}{shown}"),
        }
        self.feed(Input::Refused(refused));
    }

    fn is_due(&mut self, address: &str, code: Option<Code>) -> bool {
        let now = self.parts.clocks.now();
        self.repeats.is_due(now, address, code)
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
            Effect::Snapshot(effect) => self.parts.store.snapshots.send(effect),
            Effect::Runner(effect) => self.tell_guests(GuestEffect::Runner(effect)),
            Effect::App(effect) => self.tell_guests(GuestEffect::App(effect)),
            Effect::Subscriber(id, told) => self.tell_guests(GuestEffect::Subscriber(id, told)),
            Effect::Reply { ticket, outcome } => {
                self.tell_guests(GuestEffect::Reply { ticket, outcome });
            }
            Effect::AdminReply { ticket, answer } => {
                self.tell_guests(GuestEffect::AdminReply { ticket, answer });
            }
            Effect::Introduce {
                record,
                descriptor,
                removed,
            } => {
                self.parts.doorkeeper.introduce(record, descriptor, removed);
            }
            Effect::Overrun { pause, patience } => self.parts.guests.overrun(pause, patience),
            Effect::Event(event) => events::tell(event, &self.failed_dials),
            Effect::Halt(reason) => self.halt = Some(reason),
        }
    }

    fn tell_guests(&mut self, effect: GuestEffect) {
        let mut inputs = Vec::new();
        self.parts.guests.tell(effect, &mut inputs);
        for input in inputs {
            self.feed_within(input);
        }
    }

    /// Feeds what the core is to hear while its effects are performed; what comes of it goes before
    /// the rest of them.
    fn feed_within(&mut self, input: Input) {
        let now = self.now();
        let mut effects = Vec::new();
        self.parts.core.handle(now, input, &mut effects);
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
        let not_sent = Input::not_sent(to, &frame);
        let sent = match self.links.get(&(to, kind)) {
            Some(link) => link.send(lane, frame),
            None => Err(SendError::NotConnected),
        };
        let Err(error) = sent else { return };
        metrics::dropped(match error {
            SendError::NotConnected => "not_connected",
            SendError::Full => "lane_full",
        });
        if let Some(not_sent) = not_sent {
            self.feed_within(not_sent);
        }
    }

    fn watch_stalls(&mut self, begun: Instant) {
        let now = self.parts.clocks.now();
        self.longest_turn = self.longest_turn.max(now.since(begun));
        if now.since(self.stalls_told) >= Duration::from_secs(1) {
            metrics::stalled(self.longest_turn);
            let core = &self.parts.core;
            metrics::topics(&core.topic_counts(), core.subscriptions());
            self.parts.guests.measure();
            self.longest_turn = Duration::ZERO;
            self.stalls_told = now;
        }
    }
}
