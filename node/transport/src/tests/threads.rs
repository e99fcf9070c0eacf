//! Bulk cannot hold up control: not by load, not by a reader that stands still, not by a thread
//! that does.

use super::*;
use crate::SendError;
use ghostlight_protocol::wire::frame::{RaftMessage, RaftMessages};

const CONTROL: ConnectionKind = ConnectionKind::Control;
const BULK: ConnectionKind = ConnectionKind::Bulk;

fn append(number: u32, size: usize) -> Frame {
    Frame::Raft(RaftMessages {
        messages: vec![RaftMessage {
            partition: number,
            message: Bytes::from(vec![1; size]),
        }],
        mark: 0,
        nonce: 0,
    })
}

/// Makes a transport's bulk thread stand still until something is sent on what this returns.
async fn stop_bulk(transport: &Transport) -> std::sync::mpsc::SyncSender<()> {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let (holds, is_held) = tokio::sync::oneshot::channel();
    transport.handles()[0].spawn(async move {
        holds.send(()).unwrap();
        // The whole thread waits here.
        held.recv().unwrap();
    });
    is_held.await.unwrap();
    release
}

/// A resolver that does not answer is waited for by a thread that cannot be told to stop.
#[tokio::test]
async fn a_transport_ends_while_a_name_is_being_looked_up() {
    let pair = pair().await;
    let mut released = Vec::new();
    for runtime in pair.a.transport.handles() {
        let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
        let (holds, is_held) = tokio::sync::oneshot::channel();
        drop(runtime.spawn_blocking(move || {
            holds.send(()).unwrap();
            // Until the test has ended, whatever becomes of it.
            held.recv().unwrap_err();
        }));
        is_held.await.unwrap();
        released.push(release);
    }
    let (ended, over) = std::sync::mpsc::sync_channel(1);
    let transport = pair.a.transport;
    std::thread::spawn(move || {
        drop(transport);
        ended.send(()).unwrap();
    });
    over.recv_timeout(Duration::from_secs(10))
        .expect("it waits for nobody's resolver");
    drop(released);
}

/// One frame there and one back.
async fn beat(pair: &mut Pair, number: u64) {
    let [there, back] = [&pair.a_links[0], &pair.b_links[0]];
    there.send(Lane::Control, ask(number)).unwrap();
    there.flush();
    assert_eq!(pair.b.frames(CONTROL).await, [ask(number)]);
    back.send(Lane::Control, ask(number)).unwrap();
    back.flush();
    assert_eq!(pair.a.frames(CONTROL).await, [ask(number)]);
}

#[tokio::test]
async fn control_goes_on_while_the_bulk_threads_stand_still() {
    let mut pair = pair().await;
    let go = [
        stop_bulk(&pair.a.transport).await,
        stop_bulk(&pair.b.transport).await,
    ];
    pair.a_links[1].send(Lane::Append, ask(77)).unwrap();
    pair.a_links[1].flush();
    for number in 0..200 {
        beat(&mut pair, number).await;
    }
    pair.a_links[0].send_datagram(Bytes::from_static(b"gossip"));
    loop {
        if let TransportEvent::Gossip(data) = pair.b.next().await {
            assert_eq!(data, "gossip");
            break;
        }
    }
    assert!(
        pair.b.events.bulk.try_recv().is_err(),
        "bulk really stood still"
    );
    for release in go {
        release.send(()).unwrap();
    }
    assert_eq!(pair.b.frames(BULK).await, [ask(77)]);
}

/// A core that does not take bulk events: its lanes fill up to their bounds, the sender is told,
/// control goes on; and when the core takes them again, everything that was accepted arrives.
#[tokio::test]
async fn a_slow_reader_fills_its_lanes_and_nothing_else() {
    let mut pair = pair().await;
    let mut accepted = 0;
    let refused = loop {
        match pair.a_links[1].send(Lane::Append, append(accepted, 60_000)) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        pair.a_links[1].flush();
        if accepted % 64 == 0 {
            beat(&mut pair, u64::from(accepted)).await;
        }
    };
    assert_eq!(refused, SendError::Full);
    for number in 0..50 {
        beat(&mut pair, number).await;
    }
    // Full is full of this lane alone.
    pair.a_links[1].send(Lane::Call(0), ask(1)).unwrap();
    pair.a_links[1].flush();
    let (mut next, mut other) = (0, 0);
    while next < accepted || other == 0 {
        for frame in pair.b.frames(BULK).await {
            match frame {
                Frame::Raft(raft) => {
                    assert_eq!(raft.messages[0].partition, next);
                    next += 1;
                }
                Frame::AskReplica(_) => other += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((next, other), (accepted, 1));
    pair.a_links[1].send(Lane::Append, ask(1)).unwrap();
}

/// Large frames count too: as many as the lane's bound has room for.
#[tokio::test]
async fn large_frames_fill_a_lane_too() {
    let mut pair = pair().await;
    let go = stop_bulk(&pair.a.transport).await;
    let refused = (0..1_000).find_map(|number| {
        let sent = pair.a_links[1].send(Lane::Snapshot, append(number, 1 << 20));
        sent.err().map(|error| (number, error))
    });
    let (accepted, error) = refused.unwrap();
    assert_eq!((accepted, error), (63, SendError::Full));
    pair.a_links[1].flush();
    go.send(()).unwrap();
    let mut arrived = 0;
    while arrived < accepted {
        arrived += pair.b.frames(BULK).await.len() as u32;
    }
    beat(&mut pair, 1).await;
}

/// A link whose connection is gone takes nothing.
#[tokio::test]
async fn a_closed_link_says_so() {
    let mut pair = pair().await;
    pair.b_links[1].close("test");
    while !matches!(
        pair.a.next().await,
        TransportEvent::Disconnected { kind: BULK, .. }
    ) {}
    // The writer has seen it by then, or sees it with its next write.
    loop {
        match pair.a_links[1].send(Lane::Push, ask(1)) {
            Ok(()) => pair.a_links[1].flush(),
            Err(error) => {
                assert_eq!(error, SendError::NotConnected);
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}
