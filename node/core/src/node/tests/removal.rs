//! An operator removes a dead node through any node, and is answered when that is recorded.

use super::*;
use crate::admin::{AdminAnswer, AdminRequest, AdminTicket};
use crate::io::Input;

/// Two of three nodes live, and all know it: who leads, and who follows.
fn one_is_dead() -> (Bench, u64, u64) {
    let (mut bench, mut leader) = Bench::led(3, 1);
    bench.members.pop();
    bench.until("somebody leads who lives", |b| b.server(P).is_some());
    leader = bench.server(P).unwrap_or(leader);
    bench.pass(20_000);
    (bench, leader, 3 - leader)
}

fn order(bench: &mut Bench, at: u64) {
    ask(bench, at, AdminRequest::Remove(format!("{:?}", node_id(3))));
}

fn ask(bench: &mut Bench, at: u64, request: AdminRequest) {
    bench.feed(
        at,
        Input::Admin {
            ticket: AdminTicket(1),
            request,
        },
    );
}

fn answers_at(bench: &mut Bench, at: u64) -> Vec<String> {
    let said = std::mem::take(&mut bench.at(at).admin);
    let text = |answer| match answer {
        AdminAnswer::Done(text) => text,
        AdminAnswer::Refused { code, .. } => code.to_string(),
        other => panic!("{other:?}"),
    };
    said.into_iter().map(text).collect()
}

#[test]
fn a_removal_is_answered_when_it_is_recorded_and_not_before() {
    for through_leader in [true, false] {
        let (mut bench, leader, follower) = one_is_dead();
        let asked = if through_leader { leader } else { follower };
        bench.at(leader).apply = Speed::Held;
        order(&mut bench, asked);
        bench.pass(1_000);
        assert_eq!(answers_at(&mut bench, asked), Vec::<String>::new());
        bench.release(leader);
        bench.pass(500);
        let said = answers_at(&mut bench, asked);
        assert!(
            matches!(&said[..], [text] if text.contains("removed for good")),
            "{said:?}, asked node {asked}, node {leader} leads"
        );
        let removed = bench.at(asked).core.removed.contains(&node_id(3));
        assert!(removed, "and it is so");
        // Once more: it is done already.
        order(&mut bench, asked);
        assert_eq!(answers_at(&mut bench, asked).len(), 1);
    }
}

#[test]
fn an_order_that_never_arrives_is_said_to_be_unconfirmed() {
    let (mut bench, _, follower) = one_is_dead();
    bench.lose = |sent| matches!(sent.frame, Frame::Order(_));
    order(&mut bench, follower);
    bench.pass(4_500);
    assert_eq!(answers_at(&mut bench, follower), Vec::<String>::new());
    bench.pass(1_000);
    let said = answers_at(&mut bench, follower);
    assert_eq!(said, [Code::OrderUnconfirmed.to_string()]);
}

/// Two nodes of one name: nothing is done to either, until one of them is gone for good.
#[test]
fn an_order_for_a_name_that_two_nodes_have_is_refused() {
    let (mut bench, leader, follower) = one_is_dead();
    let of_name = |bench: &mut Bench, number: u64, name: &str| {
        let mut peer = bench::record(number);
        (peer.generation, peer.name) = (2, name.to_owned());
        let connected = Input::Connected {
            peer,
            descriptor: None,
            kind: ghostlight_protocol::wire::hello::ConnectionKind::Control,
        };
        bench.feed(leader, connected);
    };
    of_name(&mut bench, follower, "bank");
    of_name(&mut bench, 3, "bank");
    let drain = AdminRequest::Drain {
        node: Some("bank".to_owned()),
        change: crate::admin::DrainChange::Begin,
    };
    for request in [drain.clone(), AdminRequest::Remove("bank".to_owned())] {
        ask(&mut bench, leader, request);
        let said = std::mem::take(&mut bench.at(leader).admin);
        match &said[..] {
            [AdminAnswer::Refused { code, detail }] => {
                assert_eq!(*code, Code::AmbiguousNode);
                for node in [follower, 3] {
                    assert!(detail.contains(&format!("{:?}", node_id(node))), "{detail}");
                }
            }
            other => panic!("{other:?}"),
        }
    }
    bench.at(leader).core.removed.insert(node_id(3));
    let found = bench.at(leader).core.find_node("bank");
    assert_eq!(found, Ok(node_id(follower)));
    ask(
        &mut bench,
        leader,
        AdminRequest::Remove("nobody".to_owned()),
    );
    assert_eq!(
        answers_at(&mut bench, leader),
        [Code::UnknownNode.to_string()]
    );
}
