//! A snapshot that has arrived whole is installed, whatever another sender sends meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::io::Input;
use ghostlight_protocol::ids::{ClusterId, NodeId, PartitionId};
use ghostlight_protocol::limits::SNAPSHOT_CHUNK_BYTES;
use ghostlight_protocol::partition_row::{Membership, Peer};
use ghostlight_protocol::wire::frame::{Frame, SnapshotChunk};
use ghostlight_protocol::wire::hello::new_descriptor;
use ghostlight_storage::{MemoryDisk, NodeIdentity, Store};
use prost::Message;
use prost11::Message as _;
use raft::eraftpb;

use super::bench::{ME, OneNode, Origin, PARTITIONS, PEER};

const TERM: u64 = 5;
/// The stint of this node's replica.
const HERE: u64 = 9;

/// The one chunk of a freshly founded partition.
fn rows() -> Bytes {
    let memory = MemoryDisk::new(3);
    let (mut store, _) = Store::open(memory.open()).unwrap();
    let mut identity = NodeIdentity::new(PEER, "peer");
    identity.cluster = Some(new_descriptor(ClusterId(9), PEER, PARTITIONS, 3));
    store.found(PARTITIONS, &identity).unwrap();
    let reader = store.reader();
    let mut snapshot = reader.open_snapshot(PartitionId(0)).unwrap().unwrap();
    let chunk = snapshot.next_chunk(SNAPSHOT_CHUNK_BYTES).unwrap().unwrap();
    assert_eq!(snapshot.next_chunk(SNAPSHOT_CHUNK_BYTES).unwrap(), None);
    chunk
}

fn message() -> Bytes {
    let peer = |peer, node: NodeId| Peer {
        peer,
        node: node.to_bytes().to_vec(),
    };
    let membership = Membership {
        index: 5,
        voters: vec![1],
        learners: vec![HERE],
        peers: vec![peer(1, PEER), peer(HERE, ME)],
        next_peer: HERE + 1,
        ..Membership::default()
    };
    let conf = eraftpb::ConfState {
        voters: vec![1],
        learners: vec![HERE],
        ..eraftpb::ConfState::default()
    };
    let mut message = eraftpb::Message {
        to: HERE,
        from: 1,
        term: TERM,
        snapshot: Some(eraftpb::Snapshot {
            data: membership.encode_to_vec(),
            metadata: Some(eraftpb::SnapshotMetadata {
                conf_state: Some(conf),
                index: 5,
                term: 5,
            }),
        }),
        ..eraftpb::Message::default()
    };
    message.set_msg_type(eraftpb::MessageType::MsgSnapshot);
    message.encode_to_vec().into()
}

fn chunk(transfer: u64, last: Option<Bytes>) -> Frame {
    Frame::SnapshotChunk(SnapshotChunk {
        partition: 0,
        to_peer: HERE,
        transfer,
        number: 0,
        rows: rows(),
        last,
        term: TERM,
    })
}

/// Chunk 0 of a second transfer once took the place of what was about to be installed, and the
/// replica was condemned although nothing was wrong with it.
#[test]
fn another_transfer_waits_until_the_first_is_in_place() {
    // Of another number, and of the same one from another sender.
    for (second, sender) in [(8, PEER), (7, NodeId(3))] {
        for delay in 0..6 {
            let mut node = OneNode::new(Origin::Joins);
            for peer in BTreeSet::from([PEER, sender]) {
                node.connect(peer);
            }
            let descriptor = new_descriptor(ClusterId(9), PEER, PARTITIONS, 3);
            node.frame(PEER, Frame::Descriptor(descriptor));
            node.pass(Duration::from_millis(100));
            node.feed_only(Input::Frame {
                from: PEER,
                frame: chunk(7, Some(message())),
            });
            for _ in 0..delay {
                node.step();
            }
            node.feed_only(Input::Frame {
                from: sender,
                frame: chunk(second, None),
            });
            node.run();
            assert!(node.condemned.is_empty(), "after {delay} turns of the loop");
            let replica = node.core.replicas().next().expect("it is created");
            assert_eq!(replica.peer.0, HERE);
            // Only if the second came before the first was whole, it has replaced it.
            assert!(
                replica.row.is_some() || delay == 0,
                "after {delay} turns of the loop"
            );
        }
    }
}
