//! One node with one replica, fed by hand: for tests of single rules of the core.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::ids::{ClusterId, LogPosition, NodeId, PartitionId, PeerId};
use ghostlight_protocol::partition_row::{Membership, PartitionRow, Peer};
use ghostlight_protocol::replica::HardState;
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::frame::{Control, Frame, Heartbeat};
use ghostlight_protocol::wire::hello::{ConnectionKind, NodeRecord, new_descriptor};

use super::{NodeCore, Start};
use crate::io::{Effect, Input, Now, StoreInput};

pub(super) const P: PartitionId = PartitionId(1);
pub(super) const ME: NodeId = NodeId(1);

pub(super) struct Bench {
    pub(super) core: NodeCore,
    pub(super) now: Now,
}

/// Peers with the nodes they are on.
pub(super) fn row(index: u64, peers: &[(u64, u128)]) -> PartitionRow {
    let mut row = PartitionRow::founded(ME);
    let peers = peers.iter().map(|(peer, node)| Peer {
        peer: *peer,
        node: NodeId(*node).to_bytes().to_vec(),
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

pub(super) fn replica(peer: u64, row: PartitionRow) -> RecoveredReplica {
    let (index, term) = row.applied();
    RecoveredReplica {
        partition: P,
        peer: PeerId(peer),
        hard_state: HardState {
            term,
            vote: PeerId(0),
            commit: index,
        },
        truncated: LogPosition { index, term },
        tail: Vec::new(),
        row: Some(row),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let now = Now {
            instant: Instant(1_000_000_000),
            wall: WallTime(1_700_000_000_000),
        };
        let record = NodeRecord {
            node: ME.to_bytes().to_vec(),
            generation: 1,
            address: "10.0.0.1:7400".to_owned(),
            weight: 1,
            ..NodeRecord::default()
        };
        let start = Start {
            partitions: None,
            record,
            descriptor: Some(new_descriptor(ClusterId(9), NodeId(2), 2, 3)),
            seeds: Vec::new(),
            addresses: Vec::new(),
            replicas: vec![replica(1, row(5, &[(1, 1), (2, 2), (3, 3)]))],
            condemned: Vec::new(),
            tombstones: BTreeMap::new(),
            seed: 5,
            min_copies: 1,
            turns: crate::turns::Settings::default(),
        };
        let mut bench = Self {
            core: NodeCore::new(now, start),
            now,
        };
        bench.feed(Input::Connected {
            peer: NodeRecord {
                node: NodeId(2).to_bytes().to_vec(),
                generation: 1,
                address: "10.0.0.2:7400".to_owned(),
                weight: 1,
                ..NodeRecord::default()
            },
            descriptor: None,
            kind: ConnectionKind::Control,
        });
        bench
    }

    pub(super) fn feed(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        self.core.flush(self.now, &mut out);
        out
    }

    pub(super) fn heartbeat(&mut self, to: u64, commit: u64) -> Vec<Effect> {
        let heartbeat = Heartbeat {
            partition: u32::from(P.0),
            from: 2,
            to,
            term: 6,
            commit,
            ..Heartbeat::default()
        };
        self.feed(Input::Frame {
            from: NodeId(2),
            frame: Frame::Control(Control {
                heartbeats: vec![heartbeat],
                ..Control::default()
            }),
        })
    }

    pub(super) fn run(&mut self, ticks: u64) -> Vec<Effect> {
        let mut out = Vec::new();
        for _ in 0..ticks {
            self.now.instant = self.now.instant + Duration::from_millis(50);
            out.extend(self.feed(Input::Tick));
        }
        out
    }

    pub(super) fn installed(&mut self, row: PartitionRow) -> Vec<Effect> {
        self.feed(Input::Store(StoreInput::Installed { partition: P, row }))
    }
}
