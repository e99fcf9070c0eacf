//! Two transports on loopback: real sockets, real certificates.

mod bounds;
mod large;
mod threads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Admission, DialError, EventQueues, Events, LinkHandle, Transport, TransportEvent};
use crate::security::key::ClusterKey;
use crate::security::tls::node_tls;
use bytes::Bytes;
use ghostlight_core::io::{Lane, Refuser};
use ghostlight_protocol::call::{AnswerKind, CallAnswer};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::limits::FRAME_BYTES_MAX;
use ghostlight_protocol::wire::frame::{AskReplica, Frame, RaftMessage, RaftMessages};
use ghostlight_protocol::wire::hello::{
    ConnectionKind, Hello, HelloRefusal, Judge, NodeRecord, PROTOCOL_VERSION, Removed, Run,
};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(20);

struct Door {
    me: NodeId,
    generation: u64,
    known: Option<Generation>,
}

impl Door {
    fn record(&self) -> NodeRecord {
        NodeRecord {
            node: self.me.to_bytes().to_vec(),
            generation: self.generation,
            ..NodeRecord::default()
        }
    }
}

impl Admission for Door {
    fn hello(&self, kind: ConnectionKind) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            node: Some(self.record()),
            connection: kind as i32,
            ..Hello::default()
        }
    }

    fn judge(&self, hello: &Hello) -> Result<(), HelloRefusal> {
        let known = self.known.map(|generation| Run {
            generation,
            nonce: 0,
        });
        Judge {
            ours: &self.record(),
            cluster: None,
            known,
            removed: Removed::No,
        }
        .judge(hello)
    }
}

struct Peer {
    transport: Transport,
    events: EventQueues,
}

fn peer(id: u128, generation: u64, key: &ClusterKey, known: Option<u64>) -> Peer {
    let door = Door {
        me: NodeId(id),
        generation,
        known: known.map(Generation),
    };
    let (events, queues) = Events::new();
    let socket = Transport::socket(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let tls = node_tls(key).unwrap();
    let transport = Transport::start(NodeId(id), socket, tls, Arc::new(door), events).unwrap();
    Peer {
        transport,
        events: queues,
    }
}

impl Peer {
    async fn next(&mut self) -> TransportEvent {
        let event = async {
            tokio::select! {
                event = self.events.control.recv() => event,
                event = self.events.bulk.recv() => event,
            }
        };
        let event = tokio::time::timeout(PATIENCE, event).await;
        event
            .expect("something happens in time")
            .expect("the transport runs")
    }

    /// The next frames that come over bulk connections, or over control connections.
    async fn frames(&mut self, kind: ConnectionKind) -> Vec<Frame> {
        let queue = match kind {
            ConnectionKind::Control | ConnectionKind::Inquiry => &mut self.events.control,
            ConnectionKind::Bulk => &mut self.events.bulk,
        };
        loop {
            let event = tokio::time::timeout(PATIENCE, queue.recv()).await;
            if let Some(TransportEvent::Frames { frames, .. }) = event.expect("frames come in time")
            {
                return frames;
            }
        }
    }

    async fn link(&mut self, kind: ConnectionKind) -> LinkHandle {
        loop {
            if let TransportEvent::Connected {
                kind: found, link, ..
            } = self.next().await
                && found == kind
            {
                return link;
            }
        }
    }

    /// Control and bulk, in this order.
    async fn links(&mut self) -> [LinkHandle; 2] {
        let (mut control, mut bulk) = (None, None);
        loop {
            if let TransportEvent::Connected { kind, link, .. } = self.next().await {
                match kind {
                    ConnectionKind::Control => control = Some(link),
                    ConnectionKind::Bulk => bulk = Some(link),
                    ConnectionKind::Inquiry => {}
                }
            }
            if let (Some(control), Some(bulk)) = (&control, &bulk) {
                return [control.clone(), bulk.clone()];
            }
        }
    }

    fn dial(&self, other: &Self, kind: ConnectionKind) {
        self.transport
            .dial(other.transport.address().to_string(), None, kind);
    }
}

fn ask(peer: u64) -> Frame {
    ask_of(1, peer)
}

fn ask_of(partition: u32, peer: u64) -> Frame {
    Frame::AskReplica(AskReplica { partition, peer })
}

/// Two peers with both connections; the first has the smaller id, and dialed.
struct Pair {
    a: Peer,
    b: Peer,
    a_links: [LinkHandle; 2],
    b_links: [LinkHandle; 2],
}

async fn pair() -> Pair {
    let key = ClusterKey::generate();
    let (mut a, mut b) = (peer(1, 1, &key, None), peer(2, 1, &key, None));
    a.dial(&b, ConnectionKind::Control);
    a.dial(&b, ConnectionKind::Bulk);
    let (a_links, b_links) = (a.links().await, b.links().await);
    Pair {
        a,
        b,
        a_links,
        b_links,
    }
}

#[tokio::test]
async fn frames_keep_their_order_in_a_lane_and_datagrams_arrive() {
    let key = ClusterKey::generate();
    let (mut a, mut b) = (peer(1, 1, &key, None), peer(2, 1, &key, None));
    a.dial(&b, ConnectionKind::Control);
    a.dial(&b, ConnectionKind::Bulk);
    let mut links = Vec::new();
    while links.len() < 2 {
        if let TransportEvent::Connected { kind, link, .. } = a.next().await {
            links.push((kind, link));
        }
    }
    let of = |kind| &links.iter().find(|(k, _)| *k == kind).unwrap().1;
    of(ConnectionKind::Control).send_datagram(Bytes::from_static(b"gossip"));
    for number in 0..5_000 {
        of(ConnectionKind::Bulk)
            .send(Lane::Append, ask(number))
            .unwrap();
    }
    let large = RaftMessage {
        partition: 7,
        message: Bytes::from(vec![9; 3 << 20]),
    };
    let frame = Frame::Raft(RaftMessages {
        messages: vec![large.clone()],
        mark: 0,
        nonce: 0,
    });
    of(ConnectionKind::Bulk).send(Lane::Append, frame).unwrap();
    of(ConnectionKind::Bulk).flush();
    let (mut expected, mut gossip) = (0, false);
    let mut whole = false;
    while !(expected == 5_000 && gossip && whole) {
        match b.next().await {
            TransportEvent::Frames { from, frames, .. } => {
                assert_eq!(from, NodeId(1));
                for frame in frames {
                    match frame {
                        Frame::AskReplica(ask) => {
                            assert_eq!(ask.peer, expected);
                            expected += 1;
                        }
                        Frame::Raft(raft) => whole = raft.messages == [large.clone()],
                        other => panic!("{other:?}"),
                    }
                }
            }
            TransportEvent::Gossip(data) => gossip = data == "gossip",
            _ => {}
        }
    }
}

/// Nobody can make such a frame; should somebody, it costs nobody else anything, and no caller
/// hangs.
#[tokio::test]
async fn a_frame_over_the_limit_is_left_out_and_its_lane_goes_on() {
    let key = ClusterKey::generate();
    let (mut a, mut b) = (peer(1, 1, &key, None), peer(2, 1, &key, None));
    a.dial(&b, ConnectionKind::Bulk);
    let link = a.link(ConnectionKind::Bulk).await;
    let answer = |call, bytes| {
        Frame::Answer(CallAnswer {
            call,
            kind: Some(AnswerKind::Reply(vec![7; bytes].into())),
        })
    };
    link.send(Lane::Call(0), answer(1, 1)).unwrap();
    link.send(Lane::Call(0), answer(2, FRAME_BYTES_MAX))
        .unwrap();
    link.send(Lane::Call(0), answer(3, 1)).unwrap();
    link.flush();
    let mut answers = Vec::new();
    while answers.len() < 3 {
        if let TransportEvent::Frames { frames, .. } = b.next().await {
            answers.extend(frames);
        }
    }
    assert_eq!(answers[0], answer(1, 1));
    assert_eq!(answers[2], answer(3, 1));
    let Frame::Answer(told) = &answers[1] else {
        panic!("{:?}", answers[1]);
    };
    assert_eq!(told.call, 2);
    assert!(
        matches!(&told.kind, Some(AnswerKind::Unknown(u)) if u.code == u32::from(Code::OutcomeUnknown.number()))
    );
}

#[tokio::test]
async fn another_cluster_key_is_refused_and_said_to_be() {
    let (mut a, b) = (
        peer(1, 1, &ClusterKey::generate(), None),
        peer(2, 1, &ClusterKey::generate(), None),
    );
    a.dial(&b, ConnectionKind::Control);
    match a.next().await {
        TransportEvent::DialFailed { why, .. } => assert_eq!(why, DialError::KeyRejected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_tells_both_sides_why() {
    let key = ClusterKey::generate();
    let (mut a, mut b) = (peer(1, 3, &key, None), peer(2, 1, &key, Some(9)));
    a.dial(&b, ConnectionKind::Control);
    match a.next().await {
        TransportEvent::DialFailed {
            why: DialError::Refused(refused),
            ..
        } => {
            assert_eq!(refused.code, Some(Code::StaleGeneration));
            assert_eq!(refused.by, Refuser::Peer);
        }
        other => panic!("{other:?}"),
    }
    match b.next().await {
        TransportEvent::Refused { refused, .. } => {
            assert_eq!(refused.code, Some(Code::StaleGeneration));
            assert_eq!(refused.by, Refuser::Us);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dial_for_somebody_else_leaves_the_connection_alone() {
    let key = ClusterKey::generate();
    let (mut a, mut b) = (peer(1, 1, &key, None), peer(2, 1, &key, None));
    a.dial(&b, ConnectionKind::Control);
    let (link, back) = (
        a.link(ConnectionKind::Control).await,
        b.link(ConnectionKind::Control).await,
    );
    let address = b.transport.address().to_string();
    a.transport
        .dial(address, Some(NodeId(7)), ConnectionKind::Control);
    match a.next().await {
        TransportEvent::DialFailed {
            why: DialError::Refused(refused),
            ..
        } => assert_eq!(refused.code, Some(Code::UnknownNode)),
        other => panic!("{other:?}"),
    }
    link.send(Lane::Control, ask(1)).unwrap();
    back.send(Lane::Control, ask(2)).unwrap();
    link.flush();
    back.flush();
    assert_eq!(a.frames(ConnectionKind::Control).await, [ask(2)]);
    assert_eq!(b.frames(ConnectionKind::Control).await, [ask(1)]);
}

#[tokio::test]
async fn a_peer_that_ends_is_missed_and_its_next_run_takes_over() {
    let key = ClusterKey::generate();
    let (mut a, b) = (peer(1, 1, &key, None), peer(2, 1, &key, None));
    a.dial(&b, ConnectionKind::Control);
    let _link = a.link(ConnectionKind::Control).await;
    drop(b);
    loop {
        if let TransportEvent::Disconnected { node, kind } = a.next().await {
            assert_eq!((node, kind), (NodeId(2), ConnectionKind::Control));
            break;
        }
    }
    let b = peer(2, 2, &key, None);
    a.dial(&b, ConnectionKind::Control);
    let link = a.link(ConnectionKind::Control).await;
    link.send(Lane::Control, ask(1)).unwrap();
    link.flush();
}

#[tokio::test]
async fn dials_that_cross_leave_one_connection_that_works() {
    let key = ClusterKey::generate();
    for _ in 0..5 {
        let (mut a, mut b) = (peer(1, 1, &key, None), peer(2, 1, &key, None));
        a.dial(&b, ConnectionKind::Bulk);
        b.dial(&a, ConnectionKind::Bulk);
        // The last link each side was given serves; a lost race ends with that link's frames
        // refused.
        let mut link = a.link(ConnectionKind::Bulk).await;
        loop {
            // A frame on a link that lost is dropped; the winner's arrives.
            let _sent = link.send(Lane::Push, ask(7));
            link.flush();
            tokio::select! {
                event = b.next() => if let TransportEvent::Frames { frames, .. } = event {
                    assert_eq!(frames[0], ask(7));
                    break;
                },
                newer = a.link(ConnectionKind::Bulk) => link = newer,
            }
        }
    }
}
