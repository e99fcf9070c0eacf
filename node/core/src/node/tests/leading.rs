//! A leadership's life, as whole nodes live it.

use super::bench::Member;
use super::*;
use crate::io::Event;
use crate::node::handover::Haste;
use crate::turn_io::RunnerEffect;
use ghostlight_protocol::ids::PeerId;
use ghostlight_protocol::time::WallTime;
use ghostlight_protocol::wire::frame::{Control, Hangup, Heartbeat};

fn began(runs: &[RunnerEffect]) -> usize {
    runs.iter()
        .filter(|effect| matches!(effect, RunnerEffect::Run(_)))
        .count()
}

/// A leader that has been elected, and has not applied the first entry of its term.
fn elected() -> (Bench, u64) {
    let mut bench = Bench::new(3, 1);
    for number in 1..=3 {
        bench.at(number).apply = Speed::Held;
    }
    bench.until("a leader is elected and committed its first entry", |b| {
        b.members.iter().any(|member| {
            let mut replicas = member.core.replicas();
            replicas.any(|r| r.role == crate::replica::Role::Leader && r.commit > r.applied)
        })
    });
    let leads = |member: &Member| {
        let mut replicas = member.core.replicas();
        replicas.any(|r| r.role == crate::replica::Role::Leader)
    };
    let leader = bench.members.iter().position(leads).expect("just seen");
    bench.take_sent();
    (bench, leader as u64 + 1)
}

/// Guards `may_open` in `open_if_due`.
#[test]
fn a_leader_answers_nothing_before_it_has_applied_the_first_entry_of_its_term() {
    let (mut bench, leader) = elected();
    bench.frame(leader, 9, Frame::Call(request(1, "add", b"1", 0)));
    bench.frame(leader, 9, Frame::Call(request(2, "get", b"", 0)));
    bench.pass(100);
    assert_eq!(bench.serves(leader, P), None);
    assert_eq!(began(&bench.at(leader).runs), 0);
    assert_eq!(answers(&bench.take_sent()).len(), 0);
    for number in 1..=3 {
        bench.release(number);
    }
    assert!(bench.serves(leader, P).is_some());
    let sent = bench.take_sent();
    let kinds: Vec<_> = answers(&sent).into_iter().map(|a| a.kind.clone()).collect();
    let one = Some(AnswerKind::Reply(Bytes::from_static(b"1")));
    assert_eq!(kinds, [one.clone(), one]);
}

/// Guards `feed_waiting` and `hang_up`: waiting for a leadership to open is waiting like any other.
#[test]
fn a_call_that_waits_for_the_opening_keeps_its_deadline_and_its_caller() {
    let (mut bench, leader) = elected();
    bench.frame(leader, 9, Frame::Call(request(1, "add", b"1", 50)));
    bench.frame(leader, 9, Frame::Call(request(2, "add", b"10", 0)));
    bench.frame(leader, 9, Frame::Call(request(3, "add", b"100", 10_000)));
    let hangup = Hangup {
        partition: 0,
        call: 2 << 12,
    };
    bench.frame(leader, 9, Frame::Hangup(hangup));
    bench.pass(100);
    for number in 1..=3 {
        bench.release(number);
    }
    let sent = bench.take_sent();
    let answers = answers(&sent);
    assert_eq!(answers.len(), 3, "{answers:?}");
    // Whoever hung up hears that nothing of it is here.
    assert_eq!(answers[0].call, 2 << 12);
    assert!(matches!(answers[0].kind, Some(AnswerKind::Redirect(_))));
    assert_eq!(answers[1].call, 1 << 12);
    assert_eq!(refusal(answers[1]), Code::DeadlineExpired);
    let total = AnswerKind::Reply(Bytes::from_static(b"100"));
    assert_eq!((answers[2].call, &answers[2].kind), (3 << 12, &Some(total)));
    assert_eq!(
        bench.at(leader).core.cluster.as_ref().map(|c| c.call_bytes),
        Some(0)
    );
}

/// Guards `tick_confirms`: the engine itself repeats only the newest round, and forgets it when a
/// term ends.
#[test]
fn a_read_index_without_answer_is_asked_again_after_300_ms() {
    let (mut bench, leader) = Bench::led(3, 1);
    bench.lose = |sent| match &sent.frame {
        Frame::Control(control) => !control.answers.is_empty(),
        _ => false,
    };
    bench.take_sent();
    bench.frame(leader, 9, Frame::Call(request(1, "get", b"", 0)));
    let rounds = |bench: &Bench| -> BTreeSet<Bytes> {
        let controls = bench.sent.iter().filter_map(|sent| match &sent.frame {
            Frame::Control(control) => Some(control),
            _ => None,
        });
        let contexts = controls.flat_map(|c| c.heartbeats.iter().map(|h| h.context.clone()));
        contexts.filter(|context| !context.is_empty()).collect()
    };
    bench.pass(290);
    assert_eq!(rounds(&bench).len(), 1);
    bench.pass(70);
    assert_eq!(rounds(&bench).len(), 2);
    assert_eq!(answers(&bench.sent).len(), 0);
    bench.lose = |_| false;
    bench.pass(350);
    let reply = Some(AnswerKind::Reply(Bytes::from_static(b"0")));
    let sent = bench.take_sent();
    let kinds: Vec<_> = answers(&sent).into_iter().map(|a| a.kind.clone()).collect();
    assert_eq!(kinds, [reply]);
}

/// Guards `HANDOVER_MAX`: a target that does not take over must not stop the group.
#[test]
fn a_handover_that_does_not_come_about_is_given_up_after_500_ms() {
    let (mut bench, leader) = Bench::led(3, 1);
    let term = bench.serves(leader, P);
    let target = leader % 3 + 1;
    // The word to the target to begin its campaign.
    bench.lose =
        |sent| matches!(sent.frame, Frame::Raft(_)) && sent.lane == crate::io::Lane::Control;
    let now = bench.now;
    let mut effects = Vec::new();
    let core = &mut bench.at(leader).core;
    core.begin_handover(now, P, PeerId(target), Haste::Settle, &mut effects);
    bench.perform(leader as usize - 1, effects);
    bench.settle();
    bench.take_sent();
    bench.frame(leader, 9, Frame::Call(request(1, "add", b"1", 0)));
    bench.pass(450);
    assert_eq!(began(&bench.at(leader).runs), 0, "no turn begins meanwhile");
    bench.pass(100);
    assert_eq!(bench.serves(leader, P), term);
    let reply = Some(AnswerKind::Reply(Bytes::from_static(b"1")));
    let sent = bench.take_sent();
    let kinds: Vec<_> = answers(&sent).into_iter().map(|a| a.kind.clone()).collect();
    assert_eq!(kinds, [reply]);
}

/// Guards `agreed_wall`: a node that is far from the members' median says nothing of the time.
#[test]
fn wall_time_is_what_the_median_of_the_members_agrees_with() {
    let mut bench = Bench::new(4, 1);
    let wall = bench.now.wall;
    let mut say = |offsets: [i64; 3]| {
        for (peer, offset) in (2..).zip(offsets) {
            let control = Control {
                wall_ms: wall.0.checked_add_signed(offset).expect("in range"),
                ..Control::default()
            };
            bench.frame(1, peer, Frame::Control(control));
        }
        bench.at(1).core.links.agreed_wall(wall)
    };
    let rows: [([i64; 3], Option<WallTime>); 5] = [
        ([0, 0, 0], Some(wall)),
        ([1_900, -1_900, 900], Some(wall)),
        // One clock that is wrong is outvoted, whichever it is.
        ([3_600_000, 0, 0], Some(wall)),
        ([5_000, 5_000, 5_000], None),
        ([-9_000, -9_000, -9_000], None),
    ];
    for (offsets, agreed) in rows {
        assert_eq!(say(offsets), agreed, "{offsets:?}");
    }
}

/// Guards `close` in `destroy`: a later stint ends a leadership that does not know of its end yet.
#[test]
fn a_replica_that_leads_is_closed_before_it_is_replaced() {
    let (mut bench, leader) = Bench::led(1, 1);
    bench.at(leader).turns = Speed::Held;
    bench.frame(leader, 9, Frame::Call(request(1, "add", b"1", 0)));
    assert_eq!(began(&bench.at(leader).runs), 1);
    bench.take_sent();
    let heartbeat = Heartbeat {
        partition: 0,
        from: 5,
        to: 6,
        term: 100,
        ..Heartbeat::default()
    };
    let control = Control {
        heartbeats: vec![heartbeat],
        ..Control::default()
    };
    bench.frame(leader, 9, Frame::Control(control));
    let sent = bench.take_sent();
    let answers = answers(&sent);
    assert_eq!(answers.len(), 1);
    assert!(matches!(answers[0].kind, Some(AnswerKind::Redirect(_))));
    let member = bench.at(leader);
    let dropped = |effect: &RunnerEffect| matches!(effect, RunnerEffect::Depose(_));
    assert!(member.runs.iter().any(dropped));
    let closed = |event: &Event| matches!(event, Event::Closed { .. });
    assert!(member.events.iter().any(closed));
    assert_eq!(member.core.cluster.as_ref().map(|c| c.call_bytes), Some(0));
}

/// Guards `room_for`: what waits at a leader is bounded in bytes, wherever it waits.
#[test]
fn a_leader_refuses_bodies_above_its_bound() {
    let (mut bench, leader) = elected();
    let body = Bytes::from(vec![b' '; 4 << 20]);
    for call in 1..=65 {
        let request = CallRequest {
            body: body.clone(),
            ..request(call, "add", b"", 0)
        };
        bench.frame(leader, 9, Frame::Call(request));
    }
    let sent = bench.take_sent();
    let refused = answers(&sent);
    assert_eq!(refused.len(), 1, "64 of 4 MiB are all there is room for");
    assert_eq!(refusal(refused[0]), Code::MailboxFull);
    // A call inside a chain serves a turn that waits: it is let in.
    let chained = CallRequest {
        body,
        chain: vec![Bytes::from_static(b"x")],
        ..request(66, "add", b"", 0)
    };
    bench.frame(leader, 9, Frame::Call(chained));
    assert_eq!(answers(&bench.take_sent()).len(), 0);
    for number in 1..=3 {
        bench.release(number);
    }
    assert_eq!(
        bench.at(leader).core.cluster.as_ref().map(|c| c.call_bytes),
        Some(0)
    );
}

/// Guards `judge` in `room_for`: what would be done too late is refused before anything is done for
/// it.
#[test]
fn a_leader_refuses_what_its_log_would_come_to_too_late() {
    let (mut bench, leader) = Bench::led(3, 1);
    for number in 1..=3 {
        bench.at(number).sync = Speed::Held;
    }
    let to = |call: u64| {
        let actor = ActorKey::new("default", "counter", &format!("c{call}")).expect("a valid name");
        CallRequest {
            actor: actor.to_bytes(),
            ..request(call, "add", b"1", 0)
        }
    };
    bench.take_sent();
    for call in 1..=4_097 {
        bench.frame(leader, 9, Frame::Call(to(call)));
    }
    let sent = bench.take_sent();
    let refused = answers(&sent);
    assert_eq!(
        refused.len(),
        1,
        "4,096 are admitted while nothing was measured"
    );
    assert_eq!(refusal(refused[0]), Code::NodeBusy);
    // Nothing is settled for a while: the measured line is longer than anybody waits.
    bench.pass(300);
    bench.take_sent();
    bench.frame(leader, 9, Frame::Call(to(5_000)));
    let sent = bench.take_sent();
    assert_eq!(refusal(answers(&sent)[0]), Code::NodeBusy);
    // A call inside a chain serves a turn that waits: it is let in.
    let chained = CallRequest {
        chain: vec![counter().to_bytes()],
        ..to(5_001)
    };
    bench.frame(leader, 9, Frame::Call(chained));
    assert_eq!(answers(&bench.take_sent()).len(), 0);
    for number in 1..=3 {
        bench.release(number);
    }
    bench.pass(300);
    bench.take_sent();
    bench.frame(leader, 9, Frame::Call(to(5_002)));
    bench.pass(50);
    let sent = bench.take_sent();
    let one = Some(AnswerKind::Reply(Bytes::from_static(b"1")));
    assert_eq!(answers(&sent)[0].kind, one, "the line is short again");
}

/// Writers wait, and hear why when their patience is over: whoever looks at the log or at the
/// status knows at once.
#[test]
fn too_few_copies_are_said_within_two_seconds_and_then_every_minute() {
    let (mut bench, me) = Bench::led(1, 4);
    let said = |bench: &mut Bench| {
        let events = std::mem::take(&mut bench.at(me).events);
        let texts = events.iter().filter(
            |event| matches!(event, Event::Said(text) if text.contains("--min-copies asks for 2")),
        );
        texts.count()
    };
    bench.pass(5_000);
    assert_eq!(said(&mut bench), 0, "one copy is enough");
    bench.at(me).core.start.min_copies = 2;
    for number in 0..4 {
        bench.at(me).core.count_copies(PartitionId(number));
    }
    bench.pass(900);
    assert_eq!(said(&mut bench), 0, "it may be over in a moment");
    bench.pass(700);
    assert_eq!(said(&mut bench), 1);
    let now = bench.now;
    let reasons = bench.at(me).core.status_view(now).reasons.join("; ");
    assert!(reasons.contains("--min-copies"), "{reasons}");
    bench.pass(61_000);
    assert_eq!(said(&mut bench), 1);
}
