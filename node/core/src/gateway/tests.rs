//! Tables for each rule, and a model cluster whose leaders change and whose nodes lose answers.

mod busy;
mod doubt;
mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{
    AnswerKind, CallAnswer, CallRequest, LeaderHint, MayHaveRun, NotRunAnswer, Redirect, Stamp,
    UnknownAnswer,
};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, Term};
use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use ghostlight_protocol::outcome::{AppError, CallOutcome};
use ghostlight_protocol::request::{RequestId, Session};
use ghostlight_protocol::time::Instant;

use super::*;
use crate::turn_io::ActivationId;

const ME: NodeId = NodeId(1 << 100);
const A: NodeId = NodeId(2 << 100);
const B: NodeId = NodeId(3 << 100);
const C: NodeId = NodeId(4 << 100);
const P: PartitionId = PartitionId(0);

fn ms(n: u64) -> Instant {
    Instant(n * 1_000_000)
}

#[derive(Default)]
struct Map {
    leaders: BTreeMap<PartitionId, (Term, NodeId)>,
    candidates: Vec<NodeId>,
    unreachable: Vec<NodeId>,
}

impl Routes for Map {
    fn leader(&self, partition: PartitionId) -> Option<(Term, NodeId)> {
        self.leaders.get(&partition).copied()
    }

    fn candidates(&self, _: PartitionId) -> Vec<NodeId> {
        self.candidates.clone()
    }

    fn reachable(&self, node: NodeId) -> Reachable {
        match self.unreachable.contains(&node) {
            true => Reachable::No,
            false => Reachable::Yes,
        }
    }
}

/// A gateway of a cluster with one partition, led by A in term 7 as far as it knows.
struct Bench {
    gateway: Gateway,
    map: Map,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with(GatewaySettings::default())
    }

    fn with(settings: GatewaySettings) -> Self {
        Self {
            gateway: Gateway::new(ME, Generation(9), 1, settings, 1),
            map: Map {
                leaders: BTreeMap::from([(P, (Term(7), A))]),
                candidates: vec![A, B, C],
                unreachable: Vec::new(),
            },
            now: ms(0),
        }
    }

    fn leaderless() -> Self {
        let mut bench = Self::new();
        bench.map.leaders.clear();
        bench
    }

    fn feed(&mut self, input: GatewayInput) -> Vec<GatewayEffect> {
        let mut out = Vec::new();
        self.gateway.handle(self.now, input, &self.map, &mut out);
        out
    }

    /// Makes a call that must be sent at once, and gives where to and what.
    fn call(&mut self, ticket: u64, deadline: Option<Instant>) -> (NodeId, CallRequest) {
        let out = self.feed(client(ticket, deadline));
        sent(&out)
    }

    fn answer(
        &mut self,
        from: NodeId,
        request: &CallRequest,
        kind: AnswerKind,
    ) -> Vec<GatewayEffect> {
        self.feed(GatewayInput::Answer {
            from,
            answer: CallAnswer {
                call: request.call,
                kind: Some(kind),
            },
        })
    }

    /// Lets time pass until something happens.
    fn tick(&mut self) -> Vec<GatewayEffect> {
        for _ in 0..1_000 {
            self.now = self.gateway.next_deadline().expect("something is due");
            let out = self.feed(GatewayInput::Tick);
            if !out.is_empty() {
                return out;
            }
        }
        panic!("nothing happens");
    }
}

fn client(ticket: u64, deadline: Option<Instant>) -> GatewayInput {
    GatewayInput::Call {
        ticket: CallTicket(ticket),
        call: ClientCall {
            metadata: Vec::new(),
            actor: ActorKey::new("default", "counter", "a").unwrap(),
            method: "add".to_owned(),
            body: Bytes::from_static(b"1"),
            request_id: None,
            deadline,
            stamp: Stamp {
                wall_ms: 5,
                seed: 6,
            },
        },
    }
}

fn sends(out: &[GatewayEffect]) -> Vec<(NodeId, CallRequest)> {
    out.iter()
        .filter_map(|effect| match effect {
            GatewayEffect::Send { to, request } => Some((*to, request.clone())),
            _ => None,
        })
        .collect()
}

#[track_caller]
fn sent(out: &[GatewayEffect]) -> (NodeId, CallRequest) {
    match &sends(out)[..] {
        [one] => one.clone(),
        other => panic!("one request expected, not {other:?} in {out:?}"),
    }
}

#[track_caller]
fn done(out: &[GatewayEffect]) -> CallOutcome {
    match out {
        [GatewayEffect::Done { outcome, .. }] => outcome.clone(),
        other => panic!("one outcome expected, not {other:?}"),
    }
}

#[track_caller]
fn not_run(out: &[GatewayEffect]) -> (Code, bool) {
    match done(out) {
        CallOutcome::NotRun(refusal) => (refusal.code, refusal.retry_after.is_some()),
        other => panic!("expected NotRun, not {other:?}"),
    }
}

#[track_caller]
fn unknown(out: &[GatewayEffect]) -> (Code, String) {
    match done(out) {
        CallOutcome::Unknown { code, detail } => (code, detail),
        other => panic!("expected Unknown, not {other:?}"),
    }
}

fn reply(body: &'static [u8]) -> AnswerKind {
    AnswerKind::Reply(Bytes::from_static(body))
}

fn refusal(code: Code, retry_after_ms: u64) -> AnswerKind {
    AnswerKind::NotRun(NotRunAnswer {
        code: u32::from(code.number()),
        detail: "because".to_owned(),
        retry_after_ms,
    })
}

fn hint(term: u64, leader: Option<NodeId>) -> LeaderHint {
    LeaderHint {
        term,
        leader: leader.map_or_else(Bytes::new, |n| Bytes::copy_from_slice(&n.to_bytes())),
        ..LeaderHint::default()
    }
}

fn redirect(hint: Option<LeaderHint>, may_have_run: MayHaveRun) -> AnswerKind {
    AnswerKind::Redirect(Redirect {
        hint,
        may_have_run: may_have_run as i32,
    })
}

fn sequence(request: &CallRequest) -> u64 {
    match RequestId::parse(&request.request_id) {
        Some(RequestId::Session { session, sequence }) => {
            let ours = Session {
                gateway: ME,
                generation: Generation(9),
            };
            assert_eq!(session, ours);
            sequence
        }
        other => panic!("{other:?} is not of a session"),
    }
}

#[test]
fn a_call_goes_to_the_leader_and_its_answer_to_the_caller() {
    let mut bench = Bench::new();
    let (to, request) = bench.call(1, Some(ms(250)));
    assert_eq!((to, request.leader_term, request.attempt), (A, 7, 1));
    assert_eq!((request.remaining_ms, sequence(&request)), (250, 1));
    assert_eq!(request.stamp.unwrap().seed, 6);
    assert_eq!(bench.gateway.next_deadline(), Some(ms(250)));
    let out = bench.answer(A, &request, reply(b"2"));
    assert_eq!(done(&out), CallOutcome::Reply(Bytes::from_static(b"2")));
    assert_eq!(bench.gateway.next_deadline(), None);
    // The same answer again, or one from elsewhere, is nobody's.
    assert_eq!(bench.answer(A, &request, reply(b"3")), []);
    let error = AppError {
        name: "Short".to_owned(),
        ..AppError::default()
    };
    let (_, request) = bench.call(2, None);
    assert_eq!(request.remaining_ms, 0);
    assert_eq!(bench.answer(B, &request, reply(b"4")), []);
    let out = bench.answer(A, &request, AnswerKind::App(error.clone()));
    assert_eq!(done(&out), CallOutcome::App(error));
    assert_eq!(bench.gateway.counters().stray_answers, 2);
    assert_eq!(bench.gateway.pending(), 0);
}

#[test]
fn closed_below_follows_the_lowest_sequence_without_an_answer() {
    let mut bench = Bench::new();
    let requests: Vec<_> = (1..=3).map(|n| bench.call(n, None).1).collect();
    let floors: Vec<_> = requests.iter().map(|r| r.closed_below).collect();
    assert_eq!(floors, [1, 1, 1]);
    bench.answer(A, &requests[1], reply(b""));
    assert_eq!(bench.call(4, None).1.closed_below, 1);
    bench.answer(A, &requests[0], reply(b""));
    assert_eq!(bench.call(5, None).1.closed_below, 3);
    // The third hangs up: it may still run, and is closed when its leader says that it does not.
    let out = bench.feed(GatewayInput::Hangup(CallTicket(3)));
    let hangup = GatewayEffect::Hangup {
        to: A,
        partition: P,
        call: requests[2].call,
    };
    assert_eq!(out, [hangup]);
    assert_eq!(bench.call(6, None).1.closed_below, 3);
    bench.now = ms(60_000);
    let out = bench.feed(client(7, None));
    let (_, seventh) = sends(&out).swap_remove(0);
    assert_eq!((seventh.attempt, seventh.closed_below), (1, 3));
    bench.answer(A, &requests[2], reply(b""));
    let out = bench.feed(client(8, None));
    let (_, eighth) = sends(&out).swap_remove(0);
    assert_eq!((eighth.attempt, eighth.closed_below), (1, 4));
}

#[test]
fn what_cannot_be_served_is_refused_at_once() {
    let mut bench = Bench::with(GatewaySettings {
        calls_max: 1,
        ..GatewaySettings::default()
    });
    bench.now = ms(100);
    let with = |change: fn(&mut ClientCall)| {
        let mut input = client(1, None);
        if let GatewayInput::Call { call, .. } = &mut input {
            change(call);
        }
        input
    };
    let table = [
        (
            with(|c| c.body = vec![0; REQUEST_BODY_BYTES_MAX + 1].into()),
            (Code::BodyTooLarge, false),
        ),
        (
            with(|c| c.deadline = Some(ms(100))),
            (Code::DeadlineExpired, false),
        ),
        (
            with(|c| c.request_id = Some(Bytes::new())),
            (Code::InvalidRequestId, false),
        ),
    ];
    for (input, expected) in table {
        let out = bench.feed(input);
        assert_eq!(not_run(&out), expected);
    }
    // None of them has used up a sequence.
    assert_eq!(sequence(&bench.call(1, None).1), 1);
    let out = bench.feed(client(2, None));
    assert_eq!(not_run(&out), (Code::GatewayFull, true));
    bench.gateway.begin_shutdown();
    let out = bench.feed(client(3, None));
    assert_eq!(not_run(&out), (Code::ShuttingDown, true));
}

fn nested(ask: u32, attempt: u32) -> NestedCall {
    NestedCall {
        turn: TurnId {
            activation: ActivationId {
                partition: P,
                term: Term(7),
                number: 1,
            },
            number: 1,
        },
        ask,
        request: RequestId::Derived(44),
        actor: ActorKey::new("default", "counter", "b").unwrap(),
        method: "add".to_owned(),
        body: Bytes::new(),
        deadline: ms(500),
        chain: vec![ActorKey::new("default", "counter", "a").unwrap()],
        stamp: Stamp::default(),
        attempt,
        metadata: Vec::new(),
    }
}

#[test]
fn calls_of_turns_keep_their_id_and_are_not_crowded_out_by_clients() {
    let mut bench = Bench::with(GatewaySettings {
        calls_max: 1,
        ..GatewaySettings::default()
    });
    bench.call(1, None);
    bench.gateway.begin_shutdown();
    let call = nested(1, 2);
    let turn = call.turn;
    let out = bench.feed(GatewayInput::Nested(call.clone()));
    let (_, request) = sent(&out);
    assert_eq!(request.attempt, 2, "the turn may have called before");
    assert_eq!(request.request_id, RequestId::Derived(44).to_bytes());
    assert_eq!(request.chain, [call.chain[0].to_bytes()]);
    let out = bench.feed(GatewayInput::Nested(nested(2, 1)));
    assert_eq!(not_run(&out), (Code::GatewayFull, true));
    let out = bench.feed(GatewayInput::TurnGone(turn));
    assert!(matches!(&out[..], [GatewayEffect::Hangup { to, .. }] if *to == A));
    assert_eq!(bench.gateway.pending(), 1);
    assert_eq!(bench.feed(GatewayInput::TurnGone(turn)), []);
}

#[test]
fn an_id_from_outside_is_looked_for_from_the_first_attempt() {
    let mut bench = Bench::new();
    let mut input = client(1, Some(ms(100)));
    if let GatewayInput::Call { call, .. } = &mut input {
        call.request_id = Some(Bytes::from_static(b"order-7"));
    }
    let out = bench.feed(input);
    let (_, request) = sent(&out);
    assert_eq!(request.attempt, 2);
    assert_eq!(request.request_id[..], b"\x02order-7"[..]);
    let (code, detail) = unknown(&bench.tick());
    assert_eq!(code, Code::OutcomeUnknown);
    assert!(detail.contains("order-7"), "{detail}");
    assert_eq!(bench.now, ms(100));
}

#[test]
fn a_newer_leadership_gets_the_calls_of_the_older_ones_at_once() {
    let mut bench = Bench::new();
    let (_, first) = bench.call(1, Some(ms(1_000)));
    bench.now = ms(400);
    // An announcement of the same leadership changes nothing.
    assert_eq!(bench.feed(GatewayInput::Leader(hint(7, Some(A)))), []);
    let out = bench.feed(GatewayInput::Leader(hint(8, Some(B))));
    let (to, second) = sent(&out);
    assert_eq!((to, second.leader_term, second.attempt), (B, 8, 2));
    assert_eq!(second.remaining_ms, 600);
    assert_eq!(second.request_id, first.request_id);
    assert_ne!(second.call, first.call);
    // That the first attempt did not run ends nothing; its reply would.
    assert_eq!(bench.answer(A, &first, refusal(Code::MailboxFull, 5)), []);
    let out = bench.answer(B, &second, reply(b"x"));
    assert_eq!(done(&out), CallOutcome::Reply(Bytes::from_static(b"x")));
}

/// A first attempt's answer may rest on nothing that is recorded: once an account refused for want
/// of money, the caller was told so, and the attempt sent meanwhile found money and committed.
#[test]
fn an_earlier_answer_counts_if_no_later_attempt_can_have_another() {
    let error = || {
        AnswerKind::App(AppError {
            message: "short".to_owned(),
            ..AppError::default()
        })
    };
    for early in [reply(b"early"), error()] {
        let mut bench = Bench::new();
        let (_, first) = bench.call(1, None);
        let out = bench.feed(GatewayInput::Leader(hint(8, Some(B))));
        let (_, second) = sent(&out);
        assert_eq!(bench.answer(A, &first, early), []);
        let out = bench.feed(GatewayInput::Leader(hint(9, Some(C))));
        let (_, third) = sent(&out);
        assert_eq!((second.attempt, third.attempt), (2, 3));
        // From the second on, what is said is recorded.
        let out = bench.answer(B, &second, reply(b"x"));
        assert_eq!(done(&out), CallOutcome::Reply(Bytes::from_static(b"x")));
    }
    // The first may have had an effect, whatever it said.
    let mut bench = Bench::new();
    let (_, first) = bench.call(1, Some(ms(1_000)));
    let out = bench.feed(GatewayInput::Leader(hint(8, Some(B))));
    let (_, second) = sent(&out);
    assert_eq!(bench.answer(A, &first, error()), []);
    let out = bench.answer(B, &second, refusal(Code::Cycle, 0));
    assert_eq!(unknown(&out).0, Code::OutcomeUnknown);
    // Nothing was sent after it: the node was silent, and nobody else could be asked.
    let mut bench = Bench::new();
    let (_, first) = bench.call(1, None);
    bench.map.unreachable = vec![A, B, C];
    assert_eq!(sends(&bench.feed(GatewayInput::Silent(A))), []);
    let out = bench.answer(A, &first, reply(b"late"));
    assert_eq!(done(&out), CallOutcome::Reply(Bytes::from_static(b"late")));
}

#[test]
fn a_gateway_is_full_in_bytes_too_and_has_room_again() {
    let mut bench = Bench::with(GatewaySettings {
        bytes_max: 2,
        ..GatewaySettings::default()
    });
    let (_, first) = bench.call(1, None);
    bench.call(2, None);
    assert_eq!(
        not_run(&bench.feed(client(3, None))),
        (Code::GatewayFull, true)
    );
    // Those of turns are counted by themselves.
    let nested = NestedCall {
        body: Bytes::from_static(b"1"),
        ..nested(1, 1)
    };
    sent(&bench.feed(GatewayInput::Nested(nested)));
    bench.answer(A, &first, reply(b"x"));
    bench.call(4, None);
    bench.feed(GatewayInput::Hangup(CallTicket(4)));
    bench.call(5, None);
}

/// Answers can be lost without a word: with a connection that was replaced, or in a full lane.
#[test]
fn an_attempt_without_an_answer_is_sent_again_with_the_same_id() {
    let mut bench = Bench::new();
    let (_, first) = bench.call(1, None);
    let (to, second) = sent(&bench.tick());
    assert_eq!((to, bench.now), (A, ms(5_000)));
    assert_eq!(second.request_id, first.request_id);
    assert_eq!((first.attempt, second.attempt), (1, 2));
    assert_ne!(second.call, first.call);
    // A turn may also just be long: the pauses grow.
    let (_, third) = sent(&bench.tick());
    assert_eq!((third.attempt, bench.now), (3, ms(15_000)));
    // Whoever joined a turn is answered with it: the second attempt's answer is on its way too.
    assert_eq!(bench.answer(A, &first, reply(b"x")), []);
    let out = bench.answer(A, &second, reply(b"x"));
    assert_eq!(done(&out), CallOutcome::Reply(Bytes::from_static(b"x")));
    assert_eq!(bench.gateway.next_deadline(), None);

    // What is said to be of unknown outcome is not sent again.
    let (_, request) = bench.call(2, None);
    let died = AnswerKind::Unknown(UnknownAnswer {
        code: u32::from(Code::OutcomeUnknown.number()),
        detail: "the application died".to_owned(),
    });
    unknown(&bench.answer(A, &request, died));
    assert_eq!(bench.gateway.next_deadline(), None);
}

#[test]
fn silence_asks_the_other_replicas_and_one_call_searches_for_all() {
    let mut bench = Bench::new();
    let (_, first) = bench.call(1, None);
    bench.call(2, None);
    bench.map.unreachable = vec![A];
    let out = bench.feed(GatewayInput::Silent(A));
    let (to, second) = sent(&out);
    assert_eq!((to, second.leader_term, second.attempt), (B, 0, 2));
    let out = bench.answer(B, &second, redirect(None, MayHaveRun::No));
    let (to, third) = sent(&out);
    assert_eq!((to, third.attempt), (C, 3));
    let out = bench.answer(C, &third, redirect(Some(hint(8, Some(B))), MayHaveRun::No));
    // Now both know.
    let both: Vec<_> = sends(&out)
        .iter()
        .map(|(to, r)| (*to, r.leader_term))
        .collect();
    assert_eq!(both, [(B, 8), (B, 8)]);
    // The silent node wakes up: its answer decides nothing any more.
    assert_eq!(bench.answer(A, &first, reply(b"late")), []);
}

#[test]
fn a_search_that_ends_hands_over_to_a_parked_call() {
    let mut bench = Bench::leaderless();
    let (to, first) = bench.call(1, None);
    assert_eq!((to, first.leader_term), (A, 0));
    assert_eq!(bench.feed(client(2, None)), []);
    assert_eq!(bench.feed(client(3, None)), []);
    // A candidate that answers as a leader does is one.
    let out = bench.answer(A, &first, reply(b""));
    assert_eq!(sends(&out).len(), 2);
    assert!(sends(&out).iter().all(|(to, _)| *to == A));

    let mut bench = Bench::leaderless();
    bench.call(1, None);
    assert_eq!(bench.feed(client(2, None)), []);
    let out = bench.feed(GatewayInput::Hangup(CallTicket(1)));
    assert_eq!(sent(&out).0, A);
    // One that is not answered is not waited for by the others.
    assert_eq!(bench.feed(client(3, None)), []);
    assert_eq!(sent(&bench.tick()).0, A);
    assert_eq!(bench.now, ms(500));
}

#[test]
fn three_hops_then_a_pause_that_grows() {
    let mut bench = Bench::new();
    bench.map.candidates = vec![A, B, C, ME];
    let mut out = bench.feed(client(1, None));
    let mut pauses = Vec::new();
    for _ in 0..7 {
        for node in [A, B, C, ME] {
            let (to, request) = sent(&out);
            assert_eq!(to, node);
            out = bench.answer(node, &request, redirect(None, MayHaveRun::No));
        }
        assert_eq!(sends(&out), []);
        let before = bench.now;
        out = bench.tick();
        pauses.push(bench.now.since(before));
    }
    for (pause, most) in pauses.iter().zip([10, 20, 40, 80, 160, 200, 200]) {
        let most = Duration::from_millis(most);
        assert!((most / 2..=most).contains(pause), "{pauses:?}");
    }
}

#[test]
fn a_leader_that_has_not_opened_is_asked_again_and_nobody_else() {
    let mut bench = Bench::new();
    let (_, request) = bench.call(1, None);
    let not_open = redirect(Some(hint(7, Some(A))), MayHaveRun::No);
    assert_eq!(bench.answer(A, &request, not_open), []);
    assert_eq!(sent(&bench.tick()).0, A);
}

#[test]
fn what_was_not_sent_does_not_count_as_an_attempt() {
    let mut bench = Bench::new();
    let (to, first) = bench.call(1, Some(ms(100)));
    let lost = GatewayInput::NotSent {
        to,
        call: first.call,
    };
    assert_eq!(bench.feed(lost.clone()), []);
    assert_eq!(bench.feed(lost), []);
    let (to, second) = sent(&bench.tick());
    assert_eq!((to, second.attempt), (A, 1));
    bench.feed(GatewayInput::NotSent {
        to,
        call: second.call,
    });
    bench.map.unreachable = vec![A, B, C];
    let mut out = bench.tick();
    while sends(&out).is_empty() && !matches!(out[..], [GatewayEffect::Done { .. }]) {
        out = bench.tick();
    }
    assert_eq!(not_run(&out), (Code::NoLeader, true));
    assert_eq!(bench.now, ms(100));
}

#[test]
fn a_clients_later_attempt_with_its_own_id_has_the_time_of_the_first() {
    let mut bench = Bench::new();
    let ask = |bench: &mut Bench, ticket: u64, id: Option<&'static [u8]>, wall_ms: u64| {
        let GatewayInput::Call { ticket, mut call } = client(ticket, None) else {
            panic!("a client calls");
        };
        call.request_id = id.map(Bytes::from_static);
        call.stamp.wall_ms = wall_ms;
        let out = bench.feed(GatewayInput::Call { ticket, call });
        sent(&out).1.stamp.map(|stamp| stamp.wall_ms)
    };
    assert_eq!(ask(&mut bench, 1, Some(b"order-7"), 10), Some(10));
    // Its client heard nothing, and asks again.
    bench.feed(GatewayInput::Hangup(CallTicket(1)));
    assert_eq!(ask(&mut bench, 2, Some(b"order-7"), 20), Some(10));
    assert_eq!(ask(&mut bench, 3, Some(b"order-8"), 30), Some(30));
    assert_eq!(ask(&mut bench, 4, None, 40), Some(40));
    assert_eq!(ask(&mut bench, 5, None, 50), Some(50));
}

#[test]
fn refusals_are_passed_on_retried_or_doubted() {
    // (answer, whether it is tried again)
    let table = [
        (Code::MailboxFull, false),
        (Code::DedupFull, false),
        (Code::UnknownMethod, false),
        (Code::RequestIdReused, false),
        (Code::DeadlineExpired, false),
        (Code::MinCopies, false),
        (Code::DiskRoomShort, true),
        (Code::LeaderMoved, true),
        (Code::ShuttingDown, true),
    ];
    for (code, again) in table {
        let mut bench = Bench::new();
        bench.map.candidates = vec![A];
        let (_, request) = bench.call(1, None);
        let out = bench.answer(A, &request, refusal(code, 5));
        match again {
            false => assert_eq!(not_run(&out), (code, true)),
            true => assert_eq!(sent(&bench.tick()).0, A, "{code}"),
        }
    }
}

#[test]
fn a_refusal_after_an_attempt_without_an_answer_is_not_reported_as_not_run() {
    for (code, at_once) in [(Code::UnknownMethod, true), (Code::MailboxFull, false)] {
        let mut bench = Bench::new();
        bench.call(1, Some(ms(1_000)));
        let out = bench.feed(GatewayInput::Leader(hint(8, Some(B))));
        let (_, second) = sent(&out);
        let out = bench.answer(B, &second, refusal(code, 5));
        if at_once {
            assert_eq!(unknown(&out).0, Code::OutcomeUnknown);
            assert_eq!(bench.now, ms(0));
            continue;
        }
        assert_eq!(sent(&bench.tick()).0, B);
        assert_eq!(unknown(&bench.tick()).0, Code::OutcomeUnknown);
        assert_eq!(bench.now, ms(1_000));
    }
}

#[test]
fn doubt_goes_when_every_attempt_is_answered() {
    // (answer to the first attempt, whether it may have run)
    let table = [
        (refusal(Code::LeaderMoved, 0), MayHaveRun::No),
        (redirect(None, MayHaveRun::No), MayHaveRun::No),
        (redirect(None, MayHaveRun::Yes), MayHaveRun::Yes),
        (
            AnswerKind::Redirect(Redirect {
                hint: None,
                may_have_run: 9,
            }),
            MayHaveRun::Yes,
        ),
    ];
    for (answer, may_have_run) in table {
        let mut bench = Bench::new();
        let (_, first) = bench.call(1, Some(ms(1_000)));
        let out = bench.feed(GatewayInput::Leader(hint(8, Some(B))));
        let (_, second) = sent(&out);
        bench.answer(A, &first, answer);
        let out = bench.answer(B, &second, refusal(Code::UnknownMethod, 0));
        match may_have_run {
            MayHaveRun::No => assert_eq!(not_run(&out), (Code::UnknownMethod, false)),
            MayHaveRun::Yes => assert_eq!(unknown(&out).0, Code::OutcomeUnknown),
        }
    }
}

#[test]
fn an_unknown_answer_is_passed_on_with_its_id() {
    let mut bench = Bench::new();
    let (_, request) = bench.call(1, None);
    let answer = AnswerKind::Unknown(UnknownAnswer {
        code: u32::from(Code::Interrupted.number()),
        detail: "cut".to_owned(),
    });
    let (code, detail) = unknown(&bench.answer(A, &request, answer));
    assert_eq!(code, Code::Interrupted);
    assert!(detail.contains("#1") && detail.contains("cut"), "{detail}");
}

#[test]
fn an_answer_we_do_not_know_proves_nothing() {
    let mut bench = Bench::new();
    bench.map.candidates = vec![A];
    let (_, request) = bench.call(1, Some(ms(50)));
    let answer = CallAnswer {
        call: request.call,
        kind: None,
    };
    bench.feed(GatewayInput::Answer { from: A, answer });
    bench.map.unreachable = vec![A];
    assert_eq!(unknown(&bench.tick()).0, Code::OutcomeUnknown);
}

#[test]
fn the_wait_for_a_leader_ends_honestly() {
    // (deadline, an attempt may have run, end, code)
    let table = [
        (None, false, 15_000, Code::NoLeader),
        (Some(20_000), false, 15_000, Code::NoLeader),
        (Some(2_000), false, 2_000, Code::NoLeader),
        (None, true, 15_000, Code::OutcomeUnknown),
        (Some(20_000), true, 20_000, Code::OutcomeUnknown),
        (Some(2_000), true, 2_000, Code::OutcomeUnknown),
    ];
    for (deadline, doubt, end, code) in table {
        let mut bench = Bench::new();
        if !doubt {
            bench.map.unreachable = vec![A, B, C];
        }
        bench.feed(client(1, deadline.map(ms)));
        bench.map.unreachable = vec![A, B, C];
        bench.feed(GatewayInput::Silent(A));
        let mut out = bench.tick();
        while !matches!(out[..], [GatewayEffect::Done { .. }]) {
            out = bench.tick();
        }
        match doubt {
            true => assert_eq!(unknown(&out).0, code),
            false => assert_eq!(not_run(&out), (code, true)),
        }
        assert_eq!(bench.now, ms(end), "{deadline:?} {doubt}");
    }
}

#[test]
fn an_answer_for_an_earlier_run_of_this_node_is_nobodys() {
    let mut bench = Bench::new();
    let (_, old) = bench.call(1, None);
    bench.gateway = Gateway::new(ME, Generation(10), 1, GatewaySettings::default(), 1);
    let (_, new) = bench.call(1, None);
    assert_ne!(old.call, new.call);
    assert_eq!(bench.answer(A, &old, reply(b"wrong")), []);
}

#[test]
fn routes_are_asked_for_but_not_by_every_call() {
    let mut bench = Bench::leaderless();
    bench.map.candidates = vec![ME, A];
    bench.map.unreachable = vec![ME];
    let (_, request) = bench.call(1, None);
    let out = bench.answer(A, &request, redirect(None, MayHaveRun::No));
    assert_eq!(out, [GatewayEffect::AskRoutes(A)]);
    let (_, request) = sent(&bench.tick());
    let out = bench.answer(A, &request, redirect(None, MayHaveRun::No));
    assert_eq!(out, []);
}
