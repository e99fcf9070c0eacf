//! Calls and messages that join a running turn by its token.

use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::{REQUEST_BODY_BYTES_MAX, TURN_SEND_BYTES_MAX, TURN_SENDS_MAX};

use super::*;
use crate::hosts::words::Joining;
use crate::turn_io::OutMessage;

impl Bed {
    /// The method is called: its exchange, and the token of the turn.
    #[track_caller]
    fn handed(&mut self) -> (Exchange, String) {
        let HostEffect::App(AppEffect::Ask {
            exchange, request, ..
        }) = self.out.remove(0)
        else {
            panic!("the application is asked");
        };
        (exchange, request.turn.expect("a token"))
    }

    fn join(&mut self, token: &str, what: Joining) -> AppTicket {
        let token = token.to_owned();
        self.call(AppCall::Join { token, what })
    }

    fn join_call(&mut self, token: &str, body: &'static str) -> AppTicket {
        let what = Joining::Call {
            method: "add".to_owned(),
            body: Bytes::from_static(body.as_bytes()),
            metadata: Vec::new(),
            timeout: None,
        };
        self.join(token, what)
    }

    /// What the leader is asked: the turn, the ask, which call it is and its body.
    #[track_caller]
    fn called_out(&mut self) -> (TurnId, u32, u32, Bytes) {
        match self.out.remove(0) {
            HostEffect::Leader(RunnerInput::Asked {
                turn,
                ask,
                what: TurnAsk::Call { ordinal, body, .. },
            }) => (turn, ask, ordinal.expect("hosts count"), body),
            other => panic!("{other:?}"),
        }
    }

    fn tell_called(&mut self, turn: TurnId, ask: u32, reply: &'static str) {
        let outcome = CallOutcome::Reply(Bytes::from_static(reply.as_bytes()));
        let told = TurnTold::Called(outcome);
        let tell = RunnerEffect::Tell { turn, ask, told };
        self.objects.perform(NOW, tell, &mut self.out);
    }
}

fn message(n: u8) -> OutMessage {
    OutMessage {
        actor: actor(),
        method: "publish".to_owned(),
        body: Bytes::copy_from_slice(&[n]),
    }
}

fn refusal(outcome: AppOutcome) -> Code {
    match outcome {
        AppOutcome::Refused(refusal) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_goes_through_the_leader_of_the_turn() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 7);
    let (exchange, token) = bed.handed();
    for (n, body) in ["a", "a"].into_iter().enumerate() {
        bed.join_call(&token, body);
        let (of, ask, ordinal, said) = bed.called_out();
        assert_eq!(
            (of, ordinal as usize, &said[..]),
            (turn, n, body.as_bytes())
        );
        bed.tell_called(turn, ask, "r");
        let AppOutcome::Called(outcome) = bed.told() else {
            panic!("it is answered");
        };
        assert_eq!(*outcome, CallOutcome::Reply(Bytes::from_static(b"r")));
    }
    bed.answer(exchange, 200);
    assert!(matches!(bed.ended(), TurnEnd::Answered(_)));
    bed.good_turn(1, 2, 7, None);
}

#[test]
fn messages_commit_with_the_answer_in_their_order() {
    let mut bed = Bed::new();
    bed.run(1, 1, 7);
    let (exchange, token) = bed.handed();
    bed.join(&token, Joining::Send(vec![message(1), message(2)]));
    assert_eq!(bed.told(), AppOutcome::Done);
    bed.join(&token, Joining::Send(vec![message(3)]));
    assert_eq!(bed.told(), AppOutcome::Done);
    bed.answer(exchange, 500);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!("an answer, whatever its status");
    };
    assert_eq!(answered.staged.sends, [message(1), message(2), message(3)]);
    // They are a write: the object has the version after it, had it not failed.
    let mut bed = Bed::new();
    bed.run(1, 1, 7);
    let (exchange, token) = bed.handed();
    bed.join(&token, Joining::Send(vec![message(1)]));
    bed.told();
    bed.answer(exchange, 200);
    bed.ended();
    bed.good_turn(1, 2, 8, None);
}

#[test]
fn messages_are_staged_all_or_none() {
    let mut bed = Bed::new();
    bed.run(1, 1, 7);
    let (exchange, token) = bed.handed();
    bed.join(&token, Joining::Send(vec![message(1); TURN_SENDS_MAX]));
    assert_eq!(bed.told(), AppOutcome::Done);
    bed.join(&token, Joining::Send(vec![message(2)]));
    assert_eq!(refusal(bed.told()), Code::TurnTooLarge);
    bed.answer(exchange, 200);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!();
    };
    assert_eq!(answered.staged.sends.len(), TURN_SENDS_MAX);
    bed.run(1, 2, 8);
    let (_, token) = bed.handed();
    let long = OutMessage {
        body: vec![0; REQUEST_BODY_BYTES_MAX + 1].into(),
        ..message(1)
    };
    bed.join(&token, Joining::Send(vec![message(1), long]));
    assert_eq!(refusal(bed.told()), Code::TurnTooLarge);
    // Large ones, each of which may be: what is told to be staged fits the entry of its turn.
    let large = OutMessage {
        body: vec![0; REQUEST_BODY_BYTES_MAX].into(),
        ..message(1)
    };
    let most = TURN_SEND_BYTES_MAX / REQUEST_BODY_BYTES_MAX;
    for _ in 0..most {
        bed.join(&token, Joining::Send(vec![large.clone()]));
        assert_eq!(bed.told(), AppOutcome::Done);
    }
    bed.join(&token, Joining::Send(vec![large]));
    assert_eq!(refusal(bed.told()), Code::TurnTooLarge);
}

#[test]
fn only_a_turn_that_runs_is_joined() {
    let mut bed = Bed::new();
    bed.run(1, 1, 7);
    let (exchange, token) = bed.handed();
    for other in ["", "p1.t1.a1.1", "x.y", "p1.t1.a1.2.AAAA"] {
        bed.join(other, Joining::Send(vec![message(1)]));
        assert_eq!(refusal(bed.told()), Code::TurnOver, "{other:?}");
    }
    bed.answer(exchange, 200);
    bed.ended();
    bed.join_call(&token, "a");
    assert_eq!(refusal(bed.told()), Code::TurnOver, "it has its answer");
    bed.run(1, 2, 7);
    let (_, next) = bed.handed();
    assert_ne!(token, next);
    bed.join_call(&token, "a");
    assert_eq!(
        refusal(bed.told()),
        Code::TurnOver,
        "the next one is another"
    );
}

/// What the application does not wait for holds up nobody: two actors would wait for each other.
#[test]
fn an_answer_does_not_wait_for_a_call_that_nobody_awaits() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 7);
    let (exchange, token) = bed.handed();
    bed.join_call(&token, "a");
    let (_, ask, ..) = bed.called_out();
    bed.answer(exchange, 200);
    let AppOutcome::Called(outcome) = bed.told() else {
        panic!("its caller hears that nobody knows");
    };
    assert!(matches!(*outcome, CallOutcome::Unknown { .. }));
    assert!(matches!(bed.ended(), TurnEnd::Answered(_)));
    bed.tell_called(turn, ask, "late");
    assert_eq!(bed.out, []);
}

/// The next leader is asked for what the last one may have called, as the same call; and the one
/// after that is another.
#[test]
fn calls_keep_their_numbers_under_the_next_leader() {
    let mut bed = Bed::new();
    let id = || RequestId::outside(b"id").unwrap();
    let old = bed.run_call(1, 1, 7, id());
    let (exchange, token) = bed.handed();
    bed.join_call(&token, "a");
    let (_, ask, ..) = bed.called_out();
    bed.tell_called(old, ask, "1");
    bed.told();
    bed.join_call(&token, "a");
    assert_eq!(bed.called_out().2, 1);
    bed.join(&token, Joining::Send(vec![message(1)]));
    bed.told();
    bed.depose(old);
    // Without a leader.
    bed.join_call(&token, "a");
    assert_eq!(bed.called_out().0, old);
    let new = bed.run_call(2, 1, 7, id());
    for number in [1, 2] {
        let (turn, ask, ordinal, _) = bed.called_out();
        assert_eq!((turn, ordinal), (new, number));
        bed.tell_called(new, ask, "2");
    }
    assert!(matches!(bed.told(), AppOutcome::Called(_)));
    assert!(matches!(bed.told(), AppOutcome::Called(_)));
    bed.join_call(&token, "a");
    let (turn, ask, ordinal, _) = bed.called_out();
    assert_eq!((turn, ordinal), (new, 3), "the token is the same");
    bed.tell_called(new, ask, "3");
    bed.told();
    bed.answer(exchange, 200);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!();
    };
    assert_eq!(answered.staged.sends, [message(1)]);
}

#[test]
fn a_turn_without_an_answer_sends_nothing() {
    let mut bed = Bed::new();
    bed.run(1, 1, 7);
    let (exchange, token) = bed.handed();
    bed.join(&token, Joining::Send(vec![message(1)]));
    bed.told();
    bed.silent(exchange, Sent::Maybe);
    assert!(matches!(bed.ended(), TurnEnd::Lost { .. }));
}

/// Messages that were staged before a reminder leave with it, as all else; and come back if it is
/// refused.
#[test]
fn messages_leave_with_a_part() {
    for committed in [true, false] {
        let mut bed = Bed::new();
        let turn = bed.run(1, 1, 7);
        let (exchange, token) = bed.handed();
        bed.join(&token, Joining::Send(vec![message(1)]));
        bed.told();
        bed.call(reminder(Overwrite::Yes));
        let HostEffect::Leader(RunnerInput::Asked {
            ask,
            what: TurnAsk::Commit(staged),
            ..
        }) = bed.out.remove(0)
        else {
            panic!("a part");
        };
        assert_eq!(staged.sends, [message(1)]);
        bed.join(&token, Joining::Send(vec![message(2)]));
        bed.told();
        bed.tell(
            turn,
            ask,
            match committed {
                true => PartEnd::Committed(ActorVersion(8)),
                false => PartEnd::ScheduleThere,
            },
        );
        bed.told();
        bed.answer(exchange, 200);
        let TurnEnd::Answered(answered) = bed.ended() else {
            panic!();
        };
        let left = match committed {
            true => vec![message(2)],
            false => vec![message(1), message(2)],
        };
        assert_eq!(answered.staged.sends, left, "{committed}");
    }
}
