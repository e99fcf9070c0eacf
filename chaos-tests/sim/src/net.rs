//! The network: two connections per node pair, lanes that keep their order, and silence.
//!
//! A connection that is cut loses nothing at first: frames wait, as a reliable transport would send
//! them again. When the cut outlasts the idle timeout, each side learns at its own time that the
//! connection is gone, and what was on its way is lost.

use std::collections::{BTreeMap, BTreeSet};

use ghostlight_core::io::Lane;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::ConnectionKind;

/// A node's place in the simulation.
pub(crate) type Place = usize;

/// One of the two connections of a node pair; the smaller place first.
pub(crate) type ConnKey = (Place, Place, ConnectionKind);

/// Both kinds.
pub(crate) const KINDS: [ConnectionKind; 2] = [ConnectionKind::Control, ConnectionKind::Bulk];

/// A connection, or what is left of it.
#[derive(Default, Debug)]
pub(crate) struct Conn {
    /// One more with each new connection: frames of an older one are lost.
    pub epoch: u64,
    /// Whether the side of the smaller and of the greater place thinks that it is up.
    pub up: [bool; 2],
    /// The node that each side met: another one may run at the same place later.
    pub met: [Option<NodeId>; 2],
    /// When the latest frame of each direction and lane arrives.
    pub latest: BTreeMap<(Place, Lane), u64>,
    /// Frames that wait for a cut to heal, by sender.
    pub held: Vec<(Place, Lane, Frame)>,
}

/// All connections and cuts.
#[derive(Default, Debug)]
pub(crate) struct Net {
    /// Every pair that was ever connected.
    pub conns: BTreeMap<ConnKey, Conn>,
    /// Directions in which nothing passes: from, to, and since which cut.
    pub cut: BTreeMap<(Place, Place), u64>,
    /// Counts cuts.
    pub cuts: u64,
    /// Connections that are up and on which nothing moves.
    pub stuck: BTreeSet<ConnKey>,
    /// Places whose processes stand still.
    pub frozen: BTreeSet<Place>,
}

/// The key of a pair.
#[must_use]
pub(crate) fn key(one: Place, other: Place, kind: ConnectionKind) -> ConnKey {
    (one.min(other), one.max(other), kind)
}

/// Which side of a key a place is.
#[must_use]
pub(crate) fn side(key: &ConnKey, place: Place) -> usize {
    usize::from(key.1 == place)
}

/// The connection that carries a lane.
#[must_use]
pub(crate) fn kind_of(lane: Lane) -> ConnectionKind {
    match lane {
        Lane::Control => ConnectionKind::Control,
        Lane::Append | Lane::Call(_) | Lane::Push | Lane::Snapshot | Lane::Ephemeral => {
            ConnectionKind::Bulk
        }
        Lane::Inquiry => ConnectionKind::Inquiry,
    }
}

impl Net {
    /// Whether frames pass from one place to another.
    #[must_use]
    pub(crate) fn passes(&self, from: Place, to: Place) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    /// Whether frames on a connection pass from one place to another.
    #[must_use]
    pub(crate) fn moves(&self, key: &ConnKey, from: Place, to: Place) -> bool {
        self.passes(from, to) && !self.stuck.contains(key)
    }

    /// Whether a connection is up at `place`'s side.
    #[must_use]
    pub(crate) fn is_up(&self, key: &ConnKey, place: Place) -> bool {
        self.conns
            .get(key)
            .is_some_and(|conn| conn.up[side(key, place)])
    }

    /// Cuts one direction; returns the number of the cut.
    pub(crate) fn cut(&mut self, from: Place, to: Place) -> u64 {
        self.cuts += 1;
        self.cut.insert((from, to), self.cuts);
        self.cuts
    }

    /// A side learns that the connection is gone; returns whom it had met. `None`: it knew.
    pub(crate) fn side_down(&mut self, key: &ConnKey, epoch: u64, place: Place) -> Option<NodeId> {
        let conn = self.conns.get_mut(key)?;
        let side = side(key, place);
        if conn.epoch != epoch || !conn.up[side] {
            return None;
        }
        conn.up[side] = false;
        conn.held.retain(|(from, ..)| *from != place);
        conn.met[side]
    }
}
