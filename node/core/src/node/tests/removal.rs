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
    let request = AdminRequest::Remove(format!("{:?}", node_id(3)));
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
