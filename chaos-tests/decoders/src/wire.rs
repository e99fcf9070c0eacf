//! What comes from other nodes: greetings, lanes, frames, and the engine's own messages in them.

use bytes::Bytes;
use ghostlight_core::ephemeral::TopicKey;
use ghostlight_core::replica::{Peek, peek};
use ghostlight_protocol::ids::{ClusterId, Generation, NodeId};
use ghostlight_protocol::limits::FRAME_BYTES_MAX;
use ghostlight_protocol::wire::frame::{AskReplica, Control, Frame, RaftMessages, Routes};
use ghostlight_protocol::wire::hello::{
    ConnectionKind, Hello, Judge, NodeRecord, PROTOCOL_VERSION, Removed, Run, new_descriptor,
    yields,
};
use ghostlight_protocol::wire::topic::TopicFrame;
use ghostlight_protocol::wire::{
    FrameDecoder, LaneItem, NodeFrame, border, decode_frame, encode_frame, frame_bytes,
};
use prost::Message;

use crate::Decoder;
use crate::messages::round_trip;

/// The stream of a lane.
pub(crate) const LANE: Decoder = Decoder {
    name: "lane",
    what: "the stream of a lane",
    take: lane,
    valid: frames,
};

/// A frame that stands alone, and what it may say in numbers.
pub(crate) const FRAME: Decoder = Decoder {
    name: "frame",
    what: "frames that stand alone",
    take: frame,
    valid: || frames().iter().map(|frame| frame[4..].to_vec()).collect(),
};

/// The first frame of a connection, and who may speak with whom.
pub(crate) const HELLO: Decoder = Decoder {
    name: "hello",
    what: "greetings",
    take: hello,
    valid: || vec![greeting().encode_to_vec(), Hello::default().encode_to_vec()],
};

/// A message of the consensus engine.
pub(crate) const ENGINE: Decoder = Decoder {
    name: "engine",
    what: "messages of the engine",
    take: |bytes| {
        if let Some(Peek { from, to, .. }) = peek(bytes) {
            assert!(from.0 > 0 && to.0 > 0, "a message of nobody is taken");
        }
    },
    valid: || {
        // To 2, from 1, in term 3; an entry; a commit.
        let heartbeat = vec![0x08, 8, 0x10, 2, 0x18, 1, 0x20, 3, 0x40, 5];
        let append = vec![
            0x08, 3, 0x10, 2, 0x18, 1, 0x20, 3, 0x3a, 4, 0x10, 3, 0x18, 1,
        ];
        vec![heartbeat, append]
    },
};

/// Frames of ours, as a lane has them.
fn frames() -> Vec<Vec<u8>> {
    let frames = [
        Frame::AskReplica(AskReplica {
            partition: 3,
            peer: 4,
        }),
        Frame::Control(Control::default()),
        Frame::Raft(RaftMessages::default()),
        Frame::Routes(Routes::default()),
        Frame::Topic(TopicFrame::default()),
    ];
    let encoded = frames.iter().map(|frame| {
        let mut bytes = Vec::new();
        encode_frame(frame, frame_bytes(frame), &mut bytes);
        bytes
    });
    encoded.collect()
}

fn lane(bytes: &[u8]) {
    // However the stream is cut into reads, the same comes out of it.
    let whole = lane_items(bytes, usize::MAX);
    let cut = lane_items(bytes, 7);
    assert!(whole == cut, "pieces of a stream are taken otherwise");
}

/// What a stream has, until it ends or is refused.
fn lane_items(bytes: &[u8], step: usize) -> Vec<LaneItem> {
    let mut decoder = FrameDecoder::default();
    let mut items = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = decoder.space();
        let length = rest.len().min(step).min(space.len());
        space[..length].copy_from_slice(&rest[..length]);
        decoder.filled(length);
        rest = &rest[length..];
        loop {
            match decoder.next_item() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(_) => return items,
            }
        }
        // One frame that was begun, and room to read on.
        let kept = decoder.space().len();
        assert!(kept <= 2 * FRAME_BYTES_MAX, "{kept} bytes are kept");
    }
    items
}

fn frame(bytes: &[u8]) {
    let Ok(Some(frame)) = decode_frame(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let _: Option<_> = frame.partition();
    if let Frame::RowsDigest(rows) | Frame::RowsDiffer(rows) = &frame {
        let _: Option<u128> = rows.digest();
    }
    if let Frame::Interest(_) | Frame::Ephemeral(_) = &frame {
        let _: Option<_> = TopicKey::parse(Bytes::copy_from_slice(bytes));
    }
    if border::check(&frame).is_ok()
        && let Frame::Raft(raft) = &frame
    {
        for message in &raft.messages {
            let _: Option<Peek> = peek(&message.message);
        }
    }
    round_trip::<NodeFrame>(bytes);
}

fn record() -> NodeRecord {
    NodeRecord {
        node: NodeId(1).to_bytes().to_vec(),
        generation: 3,
        address: "127.0.0.1:7400".to_owned(),
        weight: 1,
        ..NodeRecord::default()
    }
}

fn greeting() -> Hello {
    Hello {
        protocol: PROTOCOL_VERSION,
        cluster: Some(new_descriptor(ClusterId(7), NodeId(1), 8, 3)),
        node: Some(NodeRecord {
            node: NodeId(2).to_bytes().to_vec(),
            ..record()
        }),
        connection: ConnectionKind::Bulk as i32,
        ..Hello::default()
    }
}

fn hello(bytes: &[u8]) {
    round_trip::<Hello>(bytes);
    let Ok(hello) = Hello::decode(bytes) else {
        return;
    };
    let ours = record();
    let cluster = new_descriptor(ClusterId(7), NodeId(1), 8, 3);
    for cluster in [None, Some(&cluster)] {
        let judge = Judge {
            ours: &ours,
            cluster,
            known: Some(Run {
                generation: Generation(3),
                nonce: 9,
            }),
            removed: Removed::No,
        };
        let verdict = judge.judge(&hello);
        if verdict.is_ok() {
            assert_eq!(hello.protocol, PROTOCOL_VERSION, "another protocol speaks");
        }
    }
    if let Some(theirs) = &hello.cluster {
        let both = yields(&cluster, theirs) && yields(theirs, &cluster);
        assert!(!both, "two clusters give way to each other");
        drop(border::check_descriptor(theirs));
    }
    if let Some(record) = &hello.node {
        drop(border::check_record(record));
    }
}
