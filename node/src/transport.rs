//! Frames between nodes: QUIC with two connections per node pair.
//!
//! One OS thread with a current-thread runtime drives the endpoint and every lane, so that actor load
//! cannot starve it. *Control* carries gossip datagrams and one lane; *bulk* carries a few long-lived
//! lanes. Never a stream per call: one lane moves about thirty times as many frames.
//!
//! **Absent:** whom to dial and whether to talk to a peer: the core asks, [`Admission`] decides.

mod endpoint;
mod handshake;
mod lanes;
mod registry;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use ghostlight_core::io::{CALL_LANES, Lane};
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{
    ClusterDescriptor, ConnectionKind, Hello, HelloRefusal, NodeRecord,
};
use tokio::sync::mpsc;

pub(crate) use endpoint::endpoint;
pub use endpoint::{Transport, TransportError};
pub use lanes::{LinkHandle, SendError};

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

/// What the transport reports, into one bounded queue; a full queue holds the peers back.
#[derive(Debug)]
pub enum TransportEvent {
    /// Frames of one lane, in order.
    Frames {
        /// Authenticated sender.
        from: NodeId,
        /// The frames.
        frames: Vec<Frame>,
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
        refusal: HelloRefusal,
    },
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
    #[error("the other side has another cluster key. Give both nodes the same --cluster-key-file")]
    KeyRejected,
    /// The peer said no, or we did.
    #[error("{}", .0.detail)]
    Refused(HelloRefusal),
    /// Something else.
    #[error("{0}")]
    Broken(String),
}

/// Where events go.
pub type Events = mpsc::Sender<TransportEvent>;

/// A shared [`Admission`].
pub type SharedAdmission = Arc<dyn Admission>;

/// Lanes of a connection, in the order of their stream numbers.
fn lanes_of(kind: ConnectionKind) -> Vec<Lane> {
    match kind {
        ConnectionKind::Control => vec![Lane::Control],
        ConnectionKind::Bulk => [Lane::Append]
            .into_iter()
            .chain((0..CALL_LANES).map(Lane::Call))
            .chain([Lane::Push, Lane::Snapshot])
            .collect(),
    }
}
