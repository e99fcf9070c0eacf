//! One node whose peers are not there: fed by hand, and what it wants is looked at instead of done.

use std::time::Duration;

use ghostlight_protocol::ids::{ClusterId, NodeId, PartitionId};
use ghostlight_protocol::marks::Told;
use ghostlight_protocol::partition_row::{Membership, PartitionRow, Peer};
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::wire::frame::{Control, Frame, Heartbeat};
use ghostlight_protocol::wire::hello::{ConnectionKind, new_descriptor};

use super::{BEGIN, node_id, record, recovered, start};
use crate::io::{Effect, Input, Now, StoreInput};
use crate::node::{NodeCore, Start};

/// The one partition of which it has a replica.
pub(in crate::node) const P: PartitionId = PartitionId(1);
pub(in crate::node) const ME: NodeId = NodeId(1);
const OTHER: u64 = 2;

pub(in crate::node) struct ByHand {
    pub(in crate::node) core: NodeCore,
    pub(in crate::node) now: Now,
}

/// Peers with the nodes they are on.
pub(in crate::node) fn row(index: u64, peers: &[(u64, u64)]) -> PartitionRow {
    let mut row = PartitionRow::founded(ME);
    let peers = peers.iter().map(|(peer, node)| Peer {
        peer: *peer,
        node: node_id(*node).to_bytes().to_vec(),
    });
    let peers: Vec<Peer> = peers.collect();
    row.membership = Some(Membership {
        index,
        voters: peers.iter().map(|peer| peer.peer).collect(),
        next_peer: 9,
        peers,
        ..Membership::default()
    });
    row
}

pub(in crate::node) fn replica(peer: u64, row: PartitionRow) -> RecoveredReplica {
    recovered(peer, P.0, row)
}

impl ByHand {
    /// A voter of three, connected to the founder.
    pub(in crate::node) fn new() -> Self {
        let descriptor = new_descriptor(ClusterId(9), node_id(OTHER), 2, 3);
        let replicas = vec![replica(1, row(5, &[(1, 1), (2, 2), (3, 3)]))];
        let mut bed = Self {
            core: NodeCore::new(BEGIN, start(1, descriptor, replicas)),
            now: BEGIN,
        };
        bed.feed(Input::Connected {
            peer: record(OTHER),
            descriptor: None,
            kind: ConnectionKind::Control,
        });
        bed
    }

    /// A node that nobody is connected to.
    pub(in crate::node) fn begun(start: Start) -> Self {
        Self {
            core: NodeCore::new(BEGIN, start),
            now: BEGIN,
        }
    }

    pub(in crate::node) fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        self.core.flush(self.now, &mut out);
        out
    }

    pub(in crate::node) fn heartbeat(&mut self, to: u64, commit: u64) -> Vec<Effect> {
        self.heartbeat_of(Told::default(), to, commit)
    }

    /// Of a process with this mark.
    pub(in crate::node) fn heartbeat_of(
        &mut self,
        told: Told,
        to: u64,
        commit: u64,
    ) -> Vec<Effect> {
        let heartbeat = Heartbeat {
            partition: u32::from(P.0),
            from: OTHER,
            to,
            term: 6,
            commit,
            ..Heartbeat::default()
        };
        self.feed(Input::Frame {
            from: node_id(OTHER),
            frame: Frame::Control(Control {
                heartbeats: vec![heartbeat],
                mark: told.mark.0,
                nonce: told.nonce,
                ..Control::default()
            }),
        })
    }

    pub(in crate::node) fn run(&mut self, ticks: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        for _ in 0..ticks {
            self.now.instant = self.now.instant + Duration::from_millis(50);
            out.extend(self.feed(Input::Tick));
        }
        out
    }

    pub(in crate::node) fn installed(&mut self, row: PartitionRow) -> Vec<Effect> {
        self.feed(Input::Store(StoreInput::Installed { partition: P, row }))
    }
}
