//! Frames that are lost without a word.

use super::*;
use crate::gateway::{CallTicket, ClientCall};
use crate::io::{Input, Lane};
use ghostlight_protocol::wire::hello::ConnectionKind;

fn client_call(ticket: u64) -> Input {
    Input::Call {
        ticket: CallTicket(ticket),
        call: ClientCall {
            metadata: Vec::new(),
            actor: counter(),
            method: "add".to_owned(),
            body: Bytes::from_static(b"1"),
            request_id: None,
            deadline: None,
            stamp: Stamp {
                wall_ms: 1,
                seed: 2,
            },
        },
    }
}

fn calls(sent: &[Sent]) -> Vec<u32> {
    sent.iter()
        .filter_map(|sent| match &sent.frame {
            Frame::Call(request) => Some(request.attempt),
            _ => None,
        })
        .collect()
}

/// Guards `connected`: a transport does not say that the connection before is gone.
#[test]
fn a_replaced_connection_sends_the_calls_on_it_again() {
    let (mut bench, leader) = Bench::led(3, 1);
    let caller = leader % 3 + 1;
    bench.lose = |sent| matches!(sent.frame, Frame::Answer(_));
    bench.take_sent();
    bench.feed(caller, client_call(1));
    assert_eq!(calls(&bench.take_sent()), [1]);
    bench.lose = |_| false;
    bench.connect(caller, leader, ConnectionKind::Bulk);
    bench.pass(100);
    let replies = &bench.at(caller).replies;
    assert_eq!(
        *replies,
        [(CallTicket(1), CallOutcome::Reply(Bytes::from_static(b"1")))]
    );
    assert!(calls(&bench.take_sent()).iter().all(|attempt| *attempt > 1));
}

/// Guards the watchdog: whatever loses an answer, a call without a deadline does not hang.
#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    let (mut bench, leader) = Bench::led(3, 1);
    let caller = leader % 3 + 1;
    bench.lose = |sent| matches!(sent.frame, Frame::Answer(_));
    bench.feed(caller, client_call(1));
    bench.pass(4_900);
    bench.lose = |_| false;
    assert_eq!(bench.at(caller).replies, []);
    bench.pass(200);
    let replies = &bench.at(caller).replies;
    assert_eq!(
        *replies,
        [(CallTicket(1), CallOutcome::Reply(Bytes::from_static(b"1")))]
    );
}

/// Guards the lane of answers: the low bits of a call's number count its attempts.
#[test]
fn answers_are_spread_over_the_lanes() {
    let (mut bench, leader) = Bench::led(1, 1);
    bench.take_sent();
    for call in 0..8 {
        bench.frame(leader, 9, Frame::Call(request(call + 1, "get", b"", 0)));
    }
    let sent = bench.take_sent();
    let answers = sent.iter().filter(|s| matches!(s.frame, Frame::Answer(_)));
    let lanes: BTreeSet<Lane> = answers.map(|sent| sent.lane).collect();
    assert_eq!(lanes.len(), usize::from(crate::io::CALL_LANES));
}
