#![doc = include_str!("../README.md")]

mod endpoint;
mod ground;
mod handshake;
mod lanes;
mod order;
mod queue;
mod receive;
mod registry;
pub mod security;
mod system;
#[cfg(test)]
mod tests;
mod tuning;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use ghostlight_core::io::{CALL_LANES, Lane, Refused};
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::ephemeral::EphemeralEvent;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{
    ClusterDescriptor, ConnectionKind, Hello, HelloRefusal, NodeRecord,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

pub use endpoint::{Transport, TransportError};
pub use ground::{Chance, Ground};
pub use lanes::{LinkHandle, SendError};
pub use quinn::{AsyncTimer, Runtime, TokioRuntime};
pub use system::bare;

/// Decides who may speak with this node; shared between the core's thread and the transport's.
pub trait Admission: Send + Sync + 'static {
    /// Our `Hello` for a connection of this kind.
    fn hello(&self, kind: ConnectionKind) -> Hello;

    /// Judges a peer's `Hello`.
    ///
    /// # Errors
    /// The refusal to send back.
    fn judge(&self, hello: &Hello) -> Result<(), HelloRefusal>;
}

/// What the transport reports, into bounded queues; a full queue holds the peers back.
#[derive(Debug)]
pub enum TransportEvent {
    /// Frames of one lane, in order.
    Frames {
        /// Authenticated sender.
        from: NodeId,
        /// The frames.
        frames: Vec<Frame>,
        /// Given back when the core has taken them: large frames count until then.
        held: Vec<OwnedSemaphorePermit>,
    },
    /// A gossip datagram.
    Gossip(Bytes),
    /// A connection is up.
    Connected {
        /// The peer's record.
        peer: Box<NodeRecord>,
        /// Its cluster, if it has one.
        descriptor: Option<ClusterDescriptor>,
        /// Which connection.
        kind: ConnectionKind,
        /// How to send on it.
        link: LinkHandle,
        /// The address that this node dialed, as it was given; `None`: the peer dialed.
        dialed: Option<String>,
    },
    /// A connection is gone.
    Disconnected {
        /// The peer.
        node: NodeId,
        /// Which connection.
        kind: ConnectionKind,
    },
    /// A dial did not lead to a connection.
    DialFailed {
        /// Where.
        address: String,
        /// Why, for people.
        why: DialError,
    },
    /// We refused a peer.
    Refused {
        /// From where it came.
        address: SocketAddr,
        /// What it was told.
        refused: Refused,
    },
}

impl TransportEvent {
    /// How much work it is, in frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        match self {
            Self::Frames { frames, .. } => frames.len(),
            Self::Gossip(_)
            | Self::Connected { .. }
            | Self::Disconnected { .. }
            | Self::DialFailed { .. }
            | Self::Refused { .. } => 1,
        }
    }
}

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No address behind the name.
    #[error("{0} cannot be resolved")]
    Unresolved(String),
    /// Nobody answered.
    #[error("no answer: {0}")]
    Silent(String),
    /// The peer holds another cluster key.
    #[error(
        "the other side has another cluster key. Give both nodes the same --cluster-key-file, or correct the address if they are of two clusters"
    )]
    KeyRejected,
    /// The peer said no, or we did.
    #[error("{}", .0.detail)]
    Refused(Box<Refused>),
    /// Something else.
    #[error("{0}")]
    Broken(String),
}

/// Events of control connections, and of dials, that wait for the core.
pub const CONTROL_EVENTS_MAX: usize = 1_024;
/// Events of bulk connections that wait for the core: each is what one lane had to read at once, at
/// most 128 KiB, or large frames, which are counted apart.
pub const BULK_EVENTS_MAX: usize = 256;

/// Takes events of ephemeral topics, on the thread that has read them.
pub trait EphemeralSink: Send + Sync + std::fmt::Debug + 'static {
    /// Events of one peer, in order. Must not wait.
    fn arrived(&self, from: NodeId, events: Vec<EphemeralEvent>);
}

/// Where events go: bulk never stands before control.
#[derive(Clone, Debug)]
pub struct Events {
    control: mpsc::Sender<TransportEvent>,
    bulk: mpsc::Sender<TransportEvent>,
    ephemeral: Option<Arc<dyn EphemeralSink>>,
}

/// Where the core takes them from.
#[derive(Debug)]
pub struct EventQueues {
    /// Of control connections, and of dials.
    pub control: mpsc::Receiver<TransportEvent>,
    /// Of bulk connections.
    pub bulk: mpsc::Receiver<TransportEvent>,
}

impl Events {
    /// Makes both queues.
    #[must_use]
    pub fn new() -> (Self, EventQueues) {
        let (control, control_queue) = mpsc::channel(CONTROL_EVENTS_MAX);
        let (bulk, bulk_queue) = mpsc::channel(BULK_EVENTS_MAX);
        let queues = EventQueues {
            control: control_queue,
            bulk: bulk_queue,
        };
        let events = Self {
            control,
            bulk,
            ephemeral: None,
        };
        (events, queues)
    }

    /// The same with somebody who takes events of ephemeral topics.
    #[must_use]
    pub fn with_ephemeral(sink: Arc<dyn EphemeralSink>) -> (Self, EventQueues) {
        let (events, queues) = Self::new();
        let ephemeral = Some(sink);
        let events = Self {
            ephemeral,
            ..events
        };
        (events, queues)
    }

    fn of(&self, kind: ConnectionKind) -> &mpsc::Sender<TransportEvent> {
        match kind {
            ConnectionKind::Control | ConnectionKind::Inquiry => &self.control,
            ConnectionKind::Bulk => &self.bulk,
        }
    }
}

/// A shared [`Admission`].
pub type SharedAdmission = Arc<dyn Admission>;

/// Lanes of a connection, in the order of their stream numbers.
fn lanes_of(kind: ConnectionKind) -> Vec<Lane> {
    match kind {
        ConnectionKind::Control => vec![Lane::Control],
        ConnectionKind::Bulk => [Lane::Append]
            .into_iter()
            .chain((0..CALL_LANES).map(Lane::Call))
            .chain([Lane::Push, Lane::Snapshot, Lane::Ephemeral])
            .collect(),
        ConnectionKind::Inquiry => vec![Lane::Inquiry],
    }
}
