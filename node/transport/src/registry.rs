//! One connection of each kind per peer.
//!
//! A newer generation replaces an older one at once. Of two dials that cross, the one by the
//! smaller node id wins on both sides. A peer that dials again later has lost its end: then the
//! newer one wins.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::hello::ConnectionKind;
use quinn::Connection;

/// Dials within this time have crossed.
const CROSSED_WITHIN: Duration = Duration::from_secs(1);

/// Connections by peer and kind.
#[derive(Default)]
pub(super) struct Registry {
    present: BTreeMap<(NodeId, ConnectionKind), Present>,
}

struct Present {
    connection: Connection,
    generation: u64,
    dialer: NodeId,
    since: Instant,
}

/// What becomes of a connection that was just greeted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It serves; the one before, if any, was closed.
    Serve,
    /// The one before stays; close this one.
    Close,
}

impl Registry {
    pub(super) fn offer(
        &mut self,
        peer: (NodeId, ConnectionKind),
        connection: &Connection,
        generation: u64,
        dialer: NodeId,
        now: Instant,
    ) -> Verdict {
        if let Some(present) = self.present.get(&peer) {
            let alive = present.connection.close_reason().is_none();
            let crossed = present.dialer != dialer
                && present.generation == generation
                && now.duration_since(present.since) < CROSSED_WITHIN;
            if alive && (generation < present.generation || (crossed && present.dialer < dialer)) {
                return Verdict::Close;
            }
            present
                .connection
                .close(quinn::VarInt::from_u32(0), b"replaced");
        }
        let connection = connection.clone();
        self.present.insert(
            peer,
            Present {
                connection,
                generation,
                dialer,
                since: now,
            },
        );
        Verdict::Serve
    }

    /// A connection has ended: `true` if it was the one that served.
    pub(super) fn ended(
        &mut self,
        peer: (NodeId, ConnectionKind),
        connection: &Connection,
    ) -> bool {
        let serves = self
            .present
            .get(&peer)
            .is_some_and(|p| p.connection.stable_id() == connection.stable_id());
        if serves {
            self.present.remove(&peer);
        }
        serves
    }
}
