//! Copies that differ without a word, and who is believed.

use ghostlight_protocol::family::Family;

use super::super::tests::bench::{Bench, Speed};
use super::super::tests::request;
use super::*;

const P0: PartitionId = PartitionId(0);

/// Three nodes, a partition at rest with one turn in it, and who leads.
fn at_rest() -> (Bench, u64) {
    let (mut bench, leader) = Bench::led(3, 1);
    for member in &mut bench.members {
        member.views = Speed::AtOnce;
    }
    bench.frame(leader, 9, Frame::Call(request(1, "add", b"1", 0)));
    bench.pass(500);
    for number in 1..=3 {
        let rows = bench.at(number).rows(P0);
        assert_eq!(rows.count(Family::State), 1, "applied on node {number}");
    }
    bench.take_sent();
    (bench, leader)
}

/// A disk loses a write and says nothing.
fn lose_a_row(bench: &mut Bench, node: u64) {
    let rows = bench.at(node).rows(P0);
    let before = rows.0.len();
    rows.0.retain(|(family, _), _| *family != Family::State);
    assert_eq!(rows.0.len() + 1, before);
}

fn condemned(bench: &Bench) -> Vec<u64> {
    let told = |e: &Event| matches!(e, Event::Condemned { why, .. } if why.contains("[E0310]"));
    let members = (1..).zip(&bench.members);
    let found = members.filter(|(_, member)| member.events.iter().any(told));
    found.map(|(number, _)| number).collect()
}

fn cried(bench: &Bench) -> Vec<&str> {
    let events = bench.members.iter().flat_map(|member| &member.events);
    let cries = events.filter_map(|event| match event {
        Event::StatesDiffer { why, .. } => Some(why.as_str()),
        _ => None,
    });
    cries.collect()
}

fn questions(bench: &mut Bench) -> usize {
    let sent = bench.take_sent();
    sent.iter()
        .filter(|sent| matches!(sent.frame, Frame::AskRows(_)))
        .count()
}

#[test]
fn equal_copies_are_compared_once_and_nothing_happens() {
    let (mut bench, _) = at_rest();
    bench.pass(9_000);
    assert_eq!(
        questions(&mut bench),
        0,
        "it is not at rest for long enough"
    );
    bench.pass(3_000);
    assert_eq!(questions(&mut bench), 2);
    bench.pass(120_000);
    assert_eq!(questions(&mut bench), 0, "nothing has changed since");
    assert!(condemned(&bench).is_empty() && cried(&bench).is_empty());
}

#[test]
fn a_copy_that_lost_a_row_without_a_word_is_found_and_condemned() {
    let (mut bench, leader) = at_rest();
    let follower = (1..=3).find(|n| *n != leader).expect("there are three");
    lose_a_row(&mut bench, follower);
    bench.pass(15_000);
    assert_eq!(condemned(&bench), [follower]);
    assert_eq!(bench.server(P0), Some(leader));
    let cries = cried(&bench);
    assert!(
        matches!(cries[..], [why] if why.contains("[E0310]")),
        "{cries:?}"
    );
}

#[test]
fn a_leader_whose_own_copy_is_wrong_gives_way() {
    let (mut bench, leader) = at_rest();
    lose_a_row(&mut bench, leader);
    bench.pass(15_000);
    assert_eq!(condemned(&bench), [leader]);
    bench.until("another node leads", |b| {
        b.server(P0).is_some_and(|now| now != leader)
    });
}

#[test]
fn without_a_majority_nothing_is_touched_and_it_is_said() {
    let (mut bench, leader) = at_rest();
    let follower = (1..=3).find(|n| *n != leader).expect("there are three");
    lose_a_row(&mut bench, leader);
    bench.at(follower).rows(P0).0.clear();
    bench.pass(15_000);
    assert_eq!(condemned(&bench), Vec::<u64>::new());
    let cries = cried(&bench);
    assert!(
        matches!(cries[..], [why] if why.contains("nobody can tell")),
        "{cries:?}"
    );
    assert_eq!(bench.server(P0), Some(leader));
}

#[test]
fn what_somebody_else_says_about_a_copy_condemns_nothing() {
    let (mut bench, leader) = at_rest();
    bench.pass(15_000);
    let (follower, other) = match leader {
        1 => (2, 3),
        2 => (1, 3),
        _ => (1, 2),
    };
    let (peer, index, digest) = bench.at(follower).core.audits.told[&P0];
    let word = |digest| Frame::RowsDiffer(digest_frame(P0, peer, index, digest));
    // One that does not lead; and the leader about something that was never told.
    bench.frame(follower, other, word(digest));
    bench.frame(follower, leader, word(digest + 1));
    assert_eq!(condemned(&bench), Vec::<u64>::new());
    bench.frame(follower, leader, word(digest));
    assert_eq!(condemned(&bench), [follower]);
}

#[test]
fn an_answer_of_another_index_or_node_is_not_counted() {
    let (mut bench, leader) = at_rest();
    // The other nodes are never asked, so that only what is fed here answers.
    bench.lose = |sent| matches!(sent.frame, Frame::AskRows(_));
    bench.pass(15_000);
    let running = bench.at(leader).core.audits.running.as_ref();
    let index = running.expect("it waits for answers").index;
    let (follower, other) = match leader {
        1 => (2, 3),
        2 => (1, 3),
        _ => (1, 2),
    };
    let answer = |peer: u64, index| Frame::RowsDigest(digest_frame(P0, PeerId(peer), index, 7));
    bench.frame(leader, follower, answer(follower, LogIndex(index.0 + 1)));
    bench.frame(leader, other, answer(follower, index));
    bench.frame(leader, 9, answer(9, index));
    let running = bench.at(leader).core.audits.running.as_ref();
    let known = running.map(|r| r.digests.values().flatten().count());
    assert_eq!(known, Some(1), "its own");
}

#[test]
fn a_majority_is_more_than_half() {
    let digests = |values: &[u128]| -> BTreeMap<PeerId, u128> {
        (1..).map(PeerId).zip(values.iter().copied()).collect()
    };
    let minority = |peers: &[u64]| Verdict::Minority(peers.iter().map(|p| PeerId(*p)).collect());
    let rows = [
        (&[7, 7, 7][..], Verdict::Equal),
        (&[7, 7, 8], minority(&[3])),
        (&[8, 7, 7], minority(&[1])),
        (&[7, 8, 9], Verdict::Undecided),
        (&[7, 8], Verdict::Undecided),
        (&[7, 7, 8, 8], Verdict::Undecided),
        (&[7, 8, 7, 9, 7], minority(&[2, 4])),
        (&[7, 7, 8, 8, 9], Verdict::Undecided),
    ];
    for (values, expected) in rows {
        assert_eq!(judge(&digests(values)), expected, "{values:?}");
    }
}
