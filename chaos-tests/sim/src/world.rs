//! The world: virtual time, one queue of events, and the nodes, network, clients and checks in it.
//!
//! Each event names the process it is for; what was meant for an earlier one is dropped. The order
//! of events is (time, number), so that the same seed gives the same run.

mod acts;
mod aimed;
mod back_in_time;
mod boot;
mod connect;
mod contents;
mod deliver;
mod digest;
mod elsewhere;
mod hostile;
mod liveness;
mod lost;
mod lull;
mod misfortunes;
mod mishaps;
mod nemesis;
mod observe;
mod operators;
mod queue;
mod reached;
mod scenario;
mod spoken;
mod store;
mod topics;
mod verdict;
mod work;

pub use back_in_time::Restored;
pub use boot::Origin;
pub use spoken::{Kept, Listener, Spoken};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ghostlight_core::inquiry::InquiryInput;
use ghostlight_core::io::ReadTicket;
use ghostlight_core::io::{Applied, Input, Lane, SnapshotEffect, StoreInput};
use ghostlight_core::topics::subscribers::Said;
use ghostlight_core::turns::RowsWanted;
use ghostlight_protocol::ids::{NodeId, PartitionId};
use ghostlight_protocol::replica::EntryOutcome;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::ConnectionKind;

use crate::clients::Clients;
use crate::dice::{Dice, SEC, US};
use crate::invariants::{self, At, Checks};
use crate::net::{ConnKey, Net, Place};
use crate::params::Params;
use crate::process::{Build, Node};
use crate::sometimes::Sometimes;
use crate::subscribers::{Subscribed, Subscribers};
use crate::trace::{Show, Trace};
use crate::wire::Wire;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Event {
    /// An input reaches a process.
    Arrive {
        place: Place,
        run: u64,
        input: Box<Input>,
    },
    /// The loop of a process takes its inputs.
    Turn { place: Place, run: u64 },
    /// A deadline of the core.
    Tick { place: Place, run: u64 },
    /// The disk has finished what it does.
    DiskDone { place: Place, run: u64 },
    /// A read of rows is due.
    Read {
        place: Place,
        run: u64,
        ticket: ReadTicket,
        partition: PartitionId,
        rows: RowsWanted,
    },
    /// A snapshot that is sent is read on.
    Snapshot {
        place: Place,
        run: u64,
        effect: SnapshotEffect,
    },
    /// A frame arrives.
    Frame {
        key: ConnKey,
        epoch: u64,
        from: Place,
        sender: NodeId,
        lane: Lane,
        frame: Box<Frame>,
    },
    /// A frame from long ago arrives again.
    Replay {
        to: Place,
        receiver: Option<NodeId>,
        sender: NodeId,
        frame: Box<Frame>,
    },
    /// A datagram arrives.
    Gossip {
        key: ConnKey,
        epoch: u64,
        from: Place,
        data: bytes::Bytes,
    },
    /// A dial comes to something.
    Dialed {
        from: Place,
        run: u64,
        address: String,
        expected: Option<NodeId>,
        kind: ConnectionKind,
    },
    /// A direction has been cut for the idle timeout.
    Idle {
        key: ConnKey,
        epoch: u64,
        at: Place,
        cut: u64,
    },
    /// One side learns that a connection is gone.
    SideDown {
        key: ConnKey,
        epoch: u64,
        place: Place,
    },
    /// Something for whoever asks about a lost database.
    Inquiry {
        place: Place,
        asker: NodeId,
        input: Box<InquiryInput>,
    },
    /// A program looks whether it is still subscribed.
    Subscriber(usize),
    /// It says what became of an event.
    Verdict {
        subscriber: usize,
        at: Subscribed,
        token: u64,
        said: Said,
        event: At,
    },
    /// A client acts.
    Client(usize),
    /// A client gives a call up.
    GiveUp { client: usize, ticket: u64 },
    /// A fault is drawn.
    Fault,
    /// A member lies.
    Lie,
    /// A fault ends.
    Mend(Mend),
}

/// The end of a fault.
#[derive(Debug)]
pub(crate) enum Mend {
    /// A node starts.
    Start(Place),
    /// All cuts heal.
    Heal,
    /// The disk is as fast as before.
    Disk(Place),
    /// The process is.
    Loop(Place),
    /// The node takes part again.
    Undrain(Place),
    /// The clock is right again.
    Clock(Place),
    /// A crash loop goes on: so many are left.
    CrashAgain(Place, u64),
    /// All links of a place fail.
    Clog(Place),
    /// They are back.
    Unclog(Place),
    /// The clock jumps again: so often still.
    Strobe(Place, u64),
    /// The next place is restarted.
    Roll(Place),
    /// An operator removes a node that is dead.
    Remove(NodeId),
    /// The log of a node is damaged as soon as its disk has nothing to do: so often it is looked
    /// at.
    DamageLog(Place, u64),
    /// An operator stops a copy of a data directory.
    StopCopy(Place),
    /// An operator starts the original of a copy again.
    StartAgain(Place),
    /// The node is started as another version.
    Build(Place, Build),
    /// So is the next place.
    RollBuild(Place),
}

/// What ended a run.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which promise was broken, and how.
    pub what: String,
    /// The last rare events before it.
    pub before: String,
    /// What clients did and were told, object by object: a name, and lines of JSON as other
    /// checkers read them.
    pub histories: Vec<(String, String)>,
}

/// A whole cluster.
pub struct World {
    /// What was drawn.
    pub params: Params,
    pub(crate) now: u64,
    queue: queue::Queue,
    pub(crate) wire: Wire,
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    pub(crate) clients: Clients,
    pub(crate) subscribers: Subscribers,
    pub(crate) checks: Checks,
    /// The trace.
    pub trace: Trace,
    /// What was reached.
    pub sometimes: Sometimes,
    pub(crate) dice: Streams,
    pub(crate) failure: Option<String>,
    pub(crate) phase: Phase,
    pub(crate) effects: Vec<ghostlight_core::io::Effect>,
    inputs: VecDeque<Input>,
    pub(crate) admin: Vec<(Place, u64, ghostlight_core::admin::AdminAnswer)>,
    pub(crate) admin_next: u64,
    /// Places that shut down: clients call elsewhere.
    pub(crate) closing: BTreeSet<Place>,
    /// Places that some clients keep away from.
    pub noticed: BTreeSet<Place>,
    /// Places that clients ask, and to which they bring no writes.
    pub(crate) apart: BTreeSet<Place>,
    /// Places whose node belongs to another cluster.
    pub(crate) foreign: BTreeSet<Place>,
    /// Places that ask about a lost database.
    pub(crate) asking: BTreeMap<Place, lost::Asking>,
    /// What was destroyed and may not be made good yet.
    pub(crate) repair: Repair,
    /// Who lies, if somebody does.
    pub(crate) liar: Option<hostile::Liar>,
    /// A place that does not start before all faults end.
    pub(crate) left_out: Option<Place>,
    /// Until when no fault begins and clients seldom ask.
    pub(crate) lull_until: u64,
    listener: Option<Listener>,
}

/// Whether faults may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// They do.
    Faults,
    /// All is healed.
    Quiet,
}

/// Which loss is still being made good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repair {
    /// None.
    Nothing,
    /// A node's copies.
    Copies,
    /// Those of a node that leaves.
    Leaving(Place),
    /// A flipped bit that nobody may have read yet: nothing else is destroyed in this run.
    Latent,
}

/// The streams of draws.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) net: Dice,
    pub(crate) disk: Dice,
    pub(crate) fault: Dice,
    pub(crate) work: Dice,
    pub(crate) node: Dice,
    pub(crate) topics: Dice,
    pub(crate) names: Dice,
    pub(crate) turns: Dice,
}

impl World {
    /// A world in which nothing runs yet.
    #[must_use]
    pub fn new(params: Params, show: Show) -> Self {
        let seed = params.seed;
        let mut trace = Trace::new(show);
        trace.line(0, format_args!("{params:?}"));
        Self {
            clients: Clients::new(&params.work),
            subscribers: Subscribers::new(&params.topics),
            checks: Checks::new(params.partitions, params.factor, params.pace_max),
            params,
            now: SEC,
            queue: queue::Queue::default(),
            wire: Wire::default(),
            nodes: Vec::new(),
            net: Net::default(),
            trace,
            sometimes: Sometimes::default(),
            dice: Streams {
                net: Dice::new(seed, "net"),
                disk: Dice::new(seed, "disk"),
                fault: Dice::new(seed, "fault"),
                work: Dice::new(seed, "work"),
                node: Dice::new(seed, "node"),
                topics: Dice::new(seed, "topics"),
                names: Dice::new(seed, "names"),
                turns: Dice::new(seed, "turn publishes"),
            },
            failure: None,
            phase: Phase::Faults,
            effects: Vec::new(),
            inputs: VecDeque::new(),
            admin: Vec::new(),
            admin_next: 0,
            closing: BTreeSet::new(),
            noticed: BTreeSet::new(),
            apart: BTreeSet::new(),
            foreign: BTreeSet::new(),
            asking: BTreeMap::new(),
            repair: Repair::Nothing,
            liar: None,
            left_out: None,
            lull_until: 0,
            listener: None,
        }
    }

    /// True time, in nanoseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Which promise was broken, if one was.
    ///
    /// # Errors
    /// The broken promise.
    pub fn verdict(&self) -> Result<(), Failure> {
        match &self.failure {
            None => Ok(()),
            Some(what) => Err(self.failed(what.clone())),
        }
    }

    pub(crate) fn failed(&self, what: String) -> Failure {
        let history = &self.clients.history;
        Failure {
            what,
            before: self.trace.latest(),
            histories: invariants::files(history, self.params.work.actors, self.now),
        }
    }

    pub(crate) fn violate(&mut self, what: String) {
        self.trace.line(self.now, format_args!("VIOLATED {what}"));
        self.failure.get_or_insert(what);
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.queue.add(time.max(self.now), event);
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Runs until a time, or until a promise is broken.
    pub fn run_until(&mut self, end: u64) {
        while self.failure.is_none()
            && let Some((time, event)) = self.queue.next_until(end)
        {
            self.now = time;
            self.happen(event);
        }
        self.now = self.now.max(end);
    }

    /// Runs until a condition holds; `false` if it does not within `limit`.
    pub fn run_while(
        &mut self,
        limit: u64,
        step: u64,
        mut unmet: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.now + limit;
        while self.failure.is_none() && unmet(self) {
            if self.now >= end {
                return false;
            }
            let next = self.now + step;
            self.run_until(next);
        }
        self.failure.is_none()
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { place, run, input } => {
                if self.nodes[place].run == run {
                    self.arrive(place, *input);
                }
            }
            Event::Turn { place, run } => self.turn(place, run),
            Event::Tick { place, run } => self.tick(place, run),
            Event::DiskDone { place, run } => self.disk_done(place, run),
            Event::Read {
                place,
                run,
                ticket,
                partition,
                rows,
            } => {
                self.read(place, run, ticket, partition, &rows);
            }
            Event::Snapshot { place, run, effect } => self.snapshot(place, run, effect),
            Event::Frame {
                key,
                epoch,
                from,
                sender,
                lane,
                frame,
            } => {
                self.frame_arrives(key, epoch, from, sender, lane, *frame);
            }
            Event::Replay {
                to,
                receiver,
                sender,
                frame,
            } => {
                if self.id_of(to) == receiver {
                    let (from, frame) = (sender, *frame);
                    self.arrive(to, Input::Frame { from, frame });
                }
            }
            Event::Gossip {
                key,
                epoch,
                from,
                data,
            } => self.gossip_arrives(key, epoch, from, data),
            Event::Dialed {
                from,
                run,
                address,
                expected,
                kind,
            } => {
                self.dialed(from, run, &address, expected, kind);
            }
            Event::Idle {
                key,
                epoch,
                at,
                cut,
            } => self.idle(key, epoch, at, cut),
            Event::SideDown { key, epoch, place } => self.side_down(key, epoch, place),
            Event::Inquiry {
                place,
                asker,
                input,
            } => self.inquire(place, asker, *input),
            Event::Subscriber(subscriber) => self.subscriber_looks(subscriber),
            Event::Verdict {
                subscriber,
                at,
                token,
                said,
                event,
            } => self.subscriber_says(subscriber, at, token, said, event),
            Event::Client(client) => self.client_acts(client),
            Event::GiveUp { client, ticket } => self.client_gives_up(client, ticket),
            Event::Fault => self.fault(),
            Event::Lie => self.lie(),
            Event::Mend(mend) => self.mend(mend),
        }
    }

    /// Queues an input for a process, and wakes its loop.
    pub(crate) fn arrive(&mut self, place: Place, input: Input) {
        let run = self.nodes[place].run;
        let now = self.now;
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        process.inbox.push_back(input);
        if !process.scheduled {
            process.scheduled = true;
            let at = process.busy_until.max(now);
            self.at(at, Event::Turn { place, run });
        }
    }

    fn tick(&mut self, place: Place, run: u64) {
        let now = self.now;
        if self.nodes[place].run != run {
            return;
        }
        if let Some(process) = &mut self.nodes[place].process
            && process.tick_at == Some(now)
        {
            process.tick_at = None;
            self.arrive(place, Input::Tick);
        }
    }

    /// One turn of a process's loop: all inputs that are there, then one flush, then the effects.
    fn turn(&mut self, place: Place, run: u64) {
        let now = self.now;
        let node = &mut self.nodes[place];
        let off_ms = node.clock_off_ms(now);
        let Some(process) = node.process.as_mut().filter(|_| node.run == run) else {
            return;
        };
        if process.busy_until > now {
            let at = process.busy_until;
            return self.at(at, Event::Turn { place, run });
        }
        process.scheduled = false;
        let clocks = process.now(now, off_ms);
        let mut effects = std::mem::take(&mut self.effects);
        let mut inputs = std::mem::take(&mut self.inputs);
        std::mem::swap(&mut inputs, &mut process.inbox);
        let mut told = Vec::new();
        for input in inputs.drain(..) {
            self.trace.input(now, place, &input);
            for applied in about_topics(&input) {
                self.checks.topics.is_told(place, &applied);
                told.push(applied);
            }
            process.core.handle(clocks, input, &mut effects);
        }
        process.core.flush(clocks, &mut effects);
        process.busy_until = now + self.dice.node.between(2, 40) * US * node.loop_slowness;
        for effect in effects.drain(..) {
            self.perform(place, effect);
        }
        (self.effects, self.inputs) = (effects, inputs);
        for applied in told {
            self.checks.topics.knows(place, &applied);
        }
        self.schedule_tick(place);
        self.check_node(place);
    }

    fn schedule_tick(&mut self, place: Place) {
        let run = self.nodes[place].run;
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let Some(deadline) = process.core.next_deadline() else {
            return;
        };
        let at = process.true_time(deadline).max(self.now + 1);
        if process
            .tick_at
            .is_none_or(|planned| planned > at || planned <= self.now)
        {
            process.tick_at = Some(at);
            self.at(at, Event::Tick { place, run });
        }
    }

    fn check_node(&mut self, place: Place) {
        let run = self.nodes[place].run;
        let Some(process) = &self.nodes[place].process else {
            return;
        };
        let mut broken = None;
        for replica in process.core.replicas() {
            if let Err(what) = self.checks.replica(place, run, &replica) {
                broken.get_or_insert(what);
            }
            reached::note_replica(&mut self.sometimes, &replica);
        }
        if let Some(what) = broken {
            self.violate(what);
        }
    }
}

/// What a core is told of topics: from the next turn on it must know.
fn about_topics(input: &Input) -> Vec<Applied> {
    let Input::Store(StoreInput::Applied(batch)) = input else {
        return Vec::new();
    };
    let is_about = |applied: &&Applied| {
        let mut outcomes = applied.outcomes.iter();
        outcomes.any(|(_, outcome)| matches!(outcome, EntryOutcome::Topics(_)))
    };
    batch.iter().filter(is_about).cloned().collect()
}
