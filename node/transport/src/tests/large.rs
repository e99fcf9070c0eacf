//! Large frames: streams of their own, order per partition.

use super::*;
use ghostlight_protocol::call::{AnswerKind, CallAnswer, CallRequest};
use ghostlight_protocol::limits::{FRAME_BYTES_MAX, LANE_FRAME_BYTES_MAX};

fn call(partition: u32, number: u64, size: usize) -> Frame {
    Frame::Call(CallRequest {
        call: number,
        partition,
        body: Bytes::from(vec![number as u8; size]),
        ..CallRequest::default()
    })
}

#[tokio::test]
async fn a_large_frame_holds_only_its_own_partition() {
    let Pair {
        a: _a,
        mut b,
        a_links: [_, bulk],
        ..
    } = pair().await;
    let lane = Lane::Call(1);
    bulk.send(lane, call(7, 1, 4 << 20)).unwrap();
    bulk.send(lane, call(7, 2, 100)).unwrap();
    bulk.send(lane, call(8, 3, 100)).unwrap();
    bulk.send(lane, call(7, 4, 200_000)).unwrap();
    bulk.send(lane, call(7, 5, 100)).unwrap();
    bulk.flush();
    let mut order = Vec::new();
    while order.len() < 5 {
        for frame in b.frames(ConnectionKind::Bulk).await {
            let Frame::Call(call) = frame else {
                panic!("{frame:?}")
            };
            assert!(call.body.iter().all(|byte| u64::from(*byte) == call.call));
            order.push(call.call);
        }
    }
    assert_eq!(order, [3, 1, 2, 4, 5]);
}

/// Sizes around the border, and the largest, on every lane; an answer has no partition and no
/// place.
#[tokio::test]
async fn frames_of_any_size_arrive_whole() {
    let Pair {
        a: _a,
        mut b,
        a_links: [control, bulk],
        ..
    } = pair().await;
    let border = LANE_FRAME_BYTES_MAX;
    let sizes = [0, border - 40, border, border + 1, FRAME_BYTES_MAX - 1_024];
    let lanes = [
        Lane::Append,
        Lane::Call(0),
        Lane::Call(3),
        Lane::Push,
        Lane::Snapshot,
    ];
    let mut expected = 0;
    for lane in lanes {
        for size in sizes {
            // More than a lane may hold at once would be refused.
            bulk.send(lane, call(3, 1, size)).unwrap();
            let answer = CallAnswer {
                call: 2,
                kind: Some(AnswerKind::Reply(Bytes::from(vec![2; size]))),
            };
            bulk.send(lane, Frame::Answer(answer)).unwrap();
            expected += 2 * size;
        }
    }
    control.send(Lane::Control, call(3, 1, 300_000)).unwrap();
    bulk.flush();
    control.flush();
    let mut arrived = 0;
    while arrived < expected {
        for frame in b.frames(ConnectionKind::Bulk).await {
            arrived += match frame {
                Frame::Call(call) => {
                    assert!(call.body.iter().all(|byte| *byte == 1));
                    call.body.len()
                }
                Frame::Answer(CallAnswer {
                    kind: Some(AnswerKind::Reply(body)),
                    ..
                }) => {
                    assert!(body.iter().all(|byte| *byte == 2));
                    body.len()
                }
                other => panic!("{other:?}"),
            };
        }
    }
    assert_eq!(arrived, expected);
    let frames = b.frames(ConnectionKind::Control).await;
    assert_eq!(frames, [call(3, 1, 300_000)]);
}

/// More large frames than may be under way: all arrive, those of one partition in order.
#[tokio::test]
async fn many_large_frames_keep_their_order() {
    let Pair {
        a: _a,
        mut b,
        a_links: [_, bulk],
        ..
    } = pair().await;
    let count = 200;
    for number in 0..count {
        let size = if number % 3 == 0 { 10 } else { 150_000 };
        bulk.send(Lane::Append, call(number as u32 % 2, number, size))
            .unwrap();
    }
    bulk.flush();
    let mut next = [0, 1];
    while next != [count, count + 1] {
        for frame in b.frames(ConnectionKind::Bulk).await {
            let Frame::Call(call) = frame else {
                panic!("{frame:?}")
            };
            let expected = &mut next[call.partition as usize];
            assert_eq!(call.call, *expected);
            *expected += 2;
        }
    }
}
