//! One other node: its record, the two connections to it, what it last said of itself, and when it
//! is dialed again.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::frame::{Control, Fitness};
use ghostlight_protocol::wire::hello::{ConnectionKind, Duty, NodeRecord};

use super::CLOCK_TOLERANCE_MS;

/// First and longest pause between two dials of one node.
const DIAL_PAUSES: Pauses = Pauses {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(2),
};
/// Pause before a bulk connection on which nothing moves is made anew once more, while nothing is
/// confirmed in between.
const RECONNECT_PAUSES: Pauses = Pauses {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(16),
};

/// One other node.
pub(in crate::node) struct Link {
    pub(in crate::node) record: NodeRecord,
    pub(super) control: Wire,
    pub(super) bulk: Wire,
    /// When the last frame of the control connection came.
    pub(super) heard: Instant,
    pub(super) told_silent: bool,
    pub(in crate::node) said: Said,
    /// When it last answered an append, of any partition: the bulk connection moves, there and
    /// back.
    pub(super) confirmed: Option<Instant>,
    /// When it is dialed, unless it is connected.
    dial: Backoff,
    /// When its bulk connection may be made anew because nothing moves on it.
    reconnect: Backoff,
    /// Since when it has been down and unconnected.
    pub(super) gone: Option<Instant>,
}

/// What its last control frame said of it.
#[derive(Default)]
pub(in crate::node) struct Said {
    /// Its calendar clock minus ours, milliseconds; `None`: not heard yet.
    pub(super) wall_offset_ms: Option<i64>,
    /// Whether it is fit to lead.
    pub(in crate::node) fitness: Fitness,
    pub(in crate::node) replicas: u32,
    pub(in crate::node) leaders: u32,
    /// Its condemned replicas: partition, smallest peer id it accepts.
    pub(in crate::node) condemned: BTreeMap<PartitionId, PeerId>,
}

/// Whether a frame may have been on its way while this node did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::node) enum Word {
    /// It came soon after it was sent.
    Fresh,
    /// It may have waited here through a pause of this node.
    MayBeStale,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Up,
    Down,
}

/// Which of two nodes that have never been connected dials first: the one with the smaller id. The
/// other one dials only if that does not come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DialTurn {
    First,
    Second,
}

impl DialTurn {
    pub(super) fn of(me: NodeId, other: NodeId) -> Self {
        match me < other {
            true => Self::First,
            false => Self::Second,
        }
    }
}

struct Pauses {
    first: Duration,
    longest: Duration,
}

/// When something may be tried, each time after twice the pause.
struct Backoff {
    pauses: &'static Pauses,
    pause: Duration,
    /// `None`: it was never tried, or nothing has failed since.
    not_before: Option<Instant>,
}

impl Backoff {
    fn new(pauses: &'static Pauses) -> Self {
        Self {
            pauses,
            pause: pauses.first,
            not_before: None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// It is tried now.
    fn tried(&mut self, now: Instant) {
        self.not_before = Some(now + self.pause);
        self.pause = (2 * self.pause).min(self.pauses.longest);
    }

    /// It was of use: the next pause is the first one again.
    fn succeeded(&mut self) {
        self.pause = self.pauses.first;
    }
}

impl Link {
    pub(super) fn new(record: NodeRecord) -> Self {
        Self {
            record,
            control: Wire::Down,
            bulk: Wire::Down,
            heard: Instant::default(),
            told_silent: true,
            said: Said::default(),
            confirmed: None,
            dial: Backoff::new(&DIAL_PAUSES),
            reconnect: Backoff::new(&RECONNECT_PAUSES),
            gone: None,
        }
    }

    /// An edge that was told to end, and did.
    pub(super) fn has_said_goodbye(&self) -> bool {
        let unconnected = (self.control, self.bulk) == (Wire::Down, Wire::Down);
        self.record.weight == 0 && self.record.duty() == Duty::Leaving && unconnected
    }

    pub(super) fn wire_mut(&mut self, kind: ConnectionKind) -> Option<&mut Wire> {
        match kind {
            ConnectionKind::Control => Some(&mut self.control),
            ConnectionKind::Bulk => Some(&mut self.bulk),
            ConnectionKind::Inquiry => None,
        }
    }

    /// `machine`: this node's calendar clock.
    pub(super) fn heard_control(
        &mut self,
        now: Instant,
        machine: WallTime,
        control: &Control,
        word: Word,
    ) {
        self.heard = now;
        self.told_silent = false;
        self.said.take(machine, control, word);
    }

    /// It has answered an append.
    pub(super) fn confirmed(&mut self, now: Instant) {
        self.confirmed = Some(now);
        self.reconnect = Backoff::new(&RECONNECT_PAUSES);
    }

    /// Whether its bulk connection may be made anew, which then happens: it is up, and was not made
    /// anew for a while. Where nothing was confirmed since the last time, what is under way perhaps
    /// takes longer than it was given.
    pub(super) fn may_reconnect(&mut self, now: Instant) -> bool {
        if self.bulk == Wire::Down || !self.reconnect.is_due(now) {
            return false;
        }
        self.reconnect.tried(now);
        self.dial.not_before = Some(now);
        true
    }

    /// A connection to it has come about.
    pub(super) fn was_reached(&mut self) {
        self.dial.succeeded();
    }

    /// It is worth a dial at once.
    pub(super) fn is_back(&mut self, now: Instant) {
        self.dial.succeeded();
        self.dial.not_before = Some(now);
    }

    /// The connections that are to be dialed now.
    pub(super) fn dials_due(&mut self, now: Instant, turn: DialTurn) -> Vec<ConnectionKind> {
        let wires = [
            (ConnectionKind::Control, self.control),
            (ConnectionKind::Bulk, self.bulk),
        ];
        let down = wires.into_iter().filter(|(_, wire)| *wire == Wire::Down);
        let down: Vec<ConnectionKind> = down.map(|(kind, _)| kind).collect();
        if down.is_empty() || !self.dial.is_due(now) {
            return Vec::new();
        }
        if self.dial.not_before.is_none() && turn == DialTurn::Second {
            self.dial.not_before = Some(now + DIAL_PAUSES.first);
            return Vec::new();
        }
        self.dial.tried(now);
        down
    }
}

impl Said {
    fn take(&mut self, machine: WallTime, control: &Control, word: Word) {
        (self.replicas, self.leaders) = (control.replicas, control.leaders);
        if control.wall_ms != 0 {
            let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
            let offset = signed(control.wall_ms).saturating_sub(signed(machine.0));
            // An old frame makes a clock look slow that is not; it cannot make a wrong one look
            // right for longer than it takes the next one to come.
            if word == Word::Fresh || offset.unsigned_abs() <= CLOCK_TOLERANCE_MS {
                self.wall_offset_ms = Some(offset);
            }
        }
        self.fitness = control.fitness();
        if !control.condemned.is_empty() || !self.condemned.is_empty() {
            let condemned = control.condemned.iter().filter_map(|c| {
                Some((
                    PartitionId(u16::try_from(c.partition).ok()?),
                    PeerId(c.next_peer),
                ))
            });
            self.condemned = condemned.collect();
        }
    }
}

/// What tells versions of records apart: a newer one is fresher, and of an address others may tell
/// before.
pub(super) fn version_of(record: &NodeRecord) -> (&[u8], (u64, u64), &str) {
    (&record.node, record.freshness(), &record.address)
}
