//! Each rule that guards an application's objects, by itself.

mod adoption;
mod ending;
mod entered;
mod histories;
mod joined;
mod parting;
mod processes;
mod statuses;

use ghostlight_protocol::call::{Done, Metadata, OperationReply, Stamp};
use ghostlight_protocol::command::{AppValue, DataForm};
use ghostlight_protocol::ids::{PartitionId, Term};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::WallTime;
use prost::Message;

use super::*;
use crate::hosts::words::{
    AppCall, Drains, Overwrite, Reentrancy, ScheduleSpec, StateOp, StateValue,
};
use crate::turn_io::{FencingToken, PartEnd, TurnAsk, TurnEntry, TurnTold};

const NOW: WallTime = WallTime(1_000_000);

fn actor() -> ActorKey {
    ActorKey::new("default", "cart", "a").unwrap()
}

struct Bed {
    objects: Objects,
    out: Vec<HostEffect>,
    tickets: u64,
}

impl Bed {
    fn new() -> Self {
        let mut bed = Self {
            objects: Objects::default(),
            out: Vec::new(),
            tickets: 0,
        };
        bed.hosting(1);
        bed
    }

    fn hosting(&mut self, instance: u64) {
        self.hosting_beside("shop", instance, &[]);
    }

    /// A process is ready; others of the application live, too.
    fn hosting_beside(&mut self, app: &str, instance: u64, living: &[AppInstance]) {
        let cart = AppType {
            name: "cart".to_owned(),
            idle: std::time::Duration::from_secs(3_600),
            drain: std::time::Duration::from_secs(2),
            drains: Drains::Yes,
            depth: Reentrancy::Off,
        };
        let instance = AppInstance(instance);
        self.objects
            .hosting(app.to_owned(), instance, vec![cart], living, &mut self.out);
    }

    fn gone(&mut self, instance: u64) {
        self.objects
            .gone("shop", AppInstance(instance), &mut self.out);
    }

    fn get(&mut self) {
        let key = Bytes::from_static(b"k");
        self.call(AppCall::StateGet { key });
        self.out.clear();
    }

    fn held_before(&mut self, instance: u64) {
        let instance = AppInstance(instance);
        self.objects.held_before("shop", instance, vec![actor()]);
    }

    fn run(&mut self, term: u64, number: u64, version: u64) -> TurnId {
        let request = RequestId::Derived(u128::from(term) << 64 | u128::from(number));
        self.run_call(term, number, version, request)
    }

    fn run_call(&mut self, term: u64, number: u64, version: u64, request: RequestId) -> TurnId {
        self.run_at((term, 1), number, version, request)
    }

    fn run_at(
        &mut self,
        (term, activation): (u64, u64),
        number: u64,
        version: u64,
        request: RequestId,
    ) -> TurnId {
        let turn = TurnId {
            activation: ActivationId {
                partition: PartitionId(1),
                term: Term(term),
                number: activation,
            },
            number,
        };
        let start = TurnStart {
            turn,
            actor: actor(),
            method: "add".to_owned(),
            body: Bytes::new(),
            request,
            stamp: Stamp::default(),
            deadline: None,
            chain: Vec::new(),
            token: FencingToken {
                term: Term(term),
                base: ActorVersion(version),
            },
            metadata: Vec::new(),
            wakeup: None,
        };
        self.objects
            .perform(NOW, RunnerEffect::Run(start), &mut self.out);
        turn
    }

    /// What is asked of the application: the exchange, and whether it is a `DELETE`.
    #[track_caller]
    fn asked(&mut self) -> (Exchange, bool) {
        let at = self
            .out
            .iter()
            .position(|effect| matches!(effect, HostEffect::App(AppEffect::Ask { .. })))
            .expect("the application is asked");
        match self.out.remove(at) {
            HostEffect::App(AppEffect::Ask {
                exchange, request, ..
            }) => (exchange, request.callback == Callback::Deactivate),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn called(&mut self) -> Exchange {
        let (exchange, deleted) = self.asked();
        assert!(!deleted, "a method is called, nothing is reset");
        exchange
    }

    #[track_caller]
    fn deleted(&mut self) -> Exchange {
        let (exchange, deleted) = self.asked();
        assert!(deleted, "the object is reset first");
        exchange
    }

    fn answer(&mut self, exchange: Exchange, status: u16) {
        let answer = AppAnswer::Answered {
            status,
            headers: vec![Metadata {
                name: "content-type".to_owned(),
                value: "application/json".to_owned(),
            }],
            body: Bytes::from_static(b"x"),
            kind: AnswerKind::Plain,
            wish: Wish::GoesOn,
        };
        self.objects.answered(exchange, answer, &mut self.out);
    }

    fn silent(&mut self, exchange: Exchange, sent: Sent) {
        let why = "broken".to_owned();
        let answer = AppAnswer::NoAnswer { why, sent };
        self.objects.answered(exchange, answer, &mut self.out);
    }

    #[track_caller]
    fn ended(&mut self) -> TurnEnd {
        match self.out.remove(0) {
            HostEffect::Leader(RunnerInput::Ended { end, .. }) => end,
            other => panic!("{other:?}"),
        }
    }

    /// A turn that succeeds, and writes if `writes`.
    #[track_caller]
    fn good_turn(
        &mut self,
        term: u64,
        number: u64,
        version: u64,
        key: Option<&'static str>,
    ) -> TurnId {
        let turn = self.run(term, number, version);
        let exchange = self.called();
        if let Some(key) = key {
            assert_eq!(self.put(key), AppOutcome::Done);
        }
        self.answer(exchange, 200);
        assert!(matches!(self.ended(), TurnEnd::Answered(_)));
        turn
    }

    fn call(&mut self, call: AppCall) -> AppTicket {
        self.tickets += 1;
        let ticket = AppTicket(self.tickets);
        self.objects.call(NOW, ticket, actor(), call, &mut self.out);
        ticket
    }

    #[track_caller]
    fn told(&mut self) -> AppOutcome {
        match self.out.remove(0) {
            HostEffect::App(AppEffect::Answer { outcome, .. }) => outcome,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn put(&mut self, key: &'static str) -> AppOutcome {
        self.call(AppCall::StateTransaction(vec![upsert(key)]));
        self.told()
    }

    fn drop(&mut self, turn: TurnId) {
        let effect = RunnerEffect::Drop(turn.activation);
        self.objects.perform(NOW, effect, &mut self.out);
    }

    fn depose(&mut self, turn: TurnId) {
        let effect = RunnerEffect::Depose(turn.activation);
        self.objects.perform(NOW, effect, &mut self.out);
    }
}

fn upsert(key: &'static str) -> StateOp {
    StateOp::Upsert {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"1"),
        ttl: None,
    }
}

fn reminder(overwrite: Overwrite) -> AppCall {
    AppCall::ScheduleSet {
        kind: ScheduleKind::Reminder,
        name: "r".to_owned(),
        wanted: Box::new(ScheduleSpec {
            due_time: "5s".to_owned(),
            period: String::new(),
            ttl: String::new(),
            data: None,
            form: DataForm::Json,
            callback: String::new(),
            overwrite,
            failure: None,
        }),
    }
}

/// An object is called again only with the version that it had after its last turn.
#[test]
fn an_object_with_another_version_is_reset_first() {
    for (wrote, next, resets) in [
        (None, 7, false),
        (None, 8, true),
        (Some("k"), 8, false),
        (Some("k"), 7, true),
        (Some("k"), 9, true),
    ] {
        let mut bed = Bed::new();
        bed.good_turn(1, 1, 7, wrote);
        bed.run(1, 2, next);
        let (exchange, deleted) = bed.asked();
        assert_eq!(deleted, resets, "wrote {wrote:?}, then version {next}");
        if deleted {
            assert!(bed.out.is_empty(), "nothing runs before it is gone");
            // Any answer counts as gone.
            bed.answer(exchange, 500);
            bed.called();
        }
    }
}

/// What failed may have changed the object's memory: the next turn must not save that.
#[test]
fn a_failed_turn_makes_its_object_unclean() {
    for (status, resets) in [
        (200, false),
        (404, false),
        (500, true),
        (400, true),
        (204, true),
    ] {
        let mut bed = Bed::new();
        bed.good_turn(1, 1, 7, None);
        bed.run(1, 2, 7);
        let exchange = bed.called();
        bed.answer(exchange, status);
        bed.ended();
        bed.run(1, 3, 7);
        let (_, deleted) = bed.asked();
        assert_eq!(deleted, resets, "{status}");
    }
}

/// SDKs look a state value up before they keep a change of it: from then on there is something to
/// lose.
#[test]
fn an_object_that_asked_in_its_failed_first_turn_is_told_to_go() {
    for (asks, resets) in [(false, false), (true, true)] {
        let mut bed = Bed::new();
        let turn = bed.run(1, 1, 7);
        let exchange = bed.called();
        if asks {
            let key = Bytes::from_static(b"k");
            bed.call(AppCall::StateGet { key });
            bed.out.clear();
            let told = TurnTold::Value(None);
            let tell = RunnerEffect::Tell { turn, ask: 1, told };
            bed.objects.perform(NOW, tell, &mut bed.out);
            assert_eq!(bed.told(), AppOutcome::Value(None));
        }
        bed.answer(exchange, 500);
        bed.ended();
        bed.run(1, 2, 7);
        let (_, deleted) = bed.asked();
        assert_eq!(deleted, resets, "asked: {asks}");
    }
}

/// The process of a JavaScript application dies of a `DELETE` for an object that it has not made.
#[test]
fn only_an_object_that_has_answered_with_success_is_told_to_go() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 7);
    let exchange = bed.called();
    bed.answer(exchange, 500);
    bed.ended();
    bed.run(1, 2, 9);
    let exchange = bed.called();
    bed.answer(exchange, 500);
    bed.ended();
    bed.drop(turn);
    assert_eq!(bed.out, [], "it never succeeded");

    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    bed.hosting(2);
    assert_eq!(bed.out, [], "another process has none of its objects");
    bed.run(1, 2, 9);
    bed.called();
}

#[test]
fn a_process_that_comes_back_has_its_objects_unclean() {
    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    bed.gone(1);
    bed.run(1, 2, 7);
    assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }));
    bed.hosting(1);
    bed.run(1, 3, 7);
    bed.deleted();
}

/// Its activation goes elsewhere, where state is written, and comes back.
#[test]
fn an_object_is_remembered_while_its_process_is_out_of_reach() {
    let mut bed = Bed::new();
    let turn = bed.good_turn(1, 1, 7, None);
    bed.gone(1);
    bed.drop(turn);
    assert_eq!(bed.out, [], "it cannot be told anything");
    bed.hosting(1);
    let told = bed.deleted();
    bed.run(2, 1, 12);
    assert_eq!(bed.out, [], "nothing runs before it is gone");
    bed.answer(told, 200);
    bed.called();
}

/// A first turn has no answer; its code goes on, looks its state up and keeps a change of it.
#[test]
fn an_object_that_asks_after_its_process_was_out_of_reach_is_told_to_go() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 7);
    let exchange = bed.called();
    bed.gone(1);
    assert!(matches!(bed.ended(), TurnEnd::Lost { .. }));
    bed.silent(exchange, Sent::Maybe);
    bed.drop(turn);
    bed.get();
    bed.hosting(1);
    bed.deleted();
}

/// "Its port taken by another one, it comes back as the instance it was, with its objects"
/// (decision 0007).
#[test]
fn a_process_whose_place_another_one_took_has_its_objects_until_it_ends() {
    let mut bed = Bed::new();
    let turn = bed.good_turn(1, 1, 7, None);
    bed.hosting_beside("shop", 2, &[AppInstance(1)]);
    bed.good_turn(1, 2, 7, Some("k"));
    bed.hosting_beside("shop", 1, &[AppInstance(2)]);
    bed.run(1, 3, 8);
    let told = bed.deleted();
    bed.answer(told, 200);
    let exchange = bed.called();
    bed.answer(exchange, 200);
    bed.ended();
    // The second one has its object, too.
    bed.drop(turn);
    let told = bed.deleted();
    bed.answer(told, 200);
    assert_eq!(bed.out, [], "the second one cannot be told");
    bed.hosting_beside("shop", 2, &[]);
    bed.deleted();
    // A process that has ended takes its objects with it.
    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    bed.hosting(2);
    bed.hosting(1);
    bed.run(1, 2, 9);
    bed.called();
}

/// Two applications have the type: one comes, takes the actor over, and goes.
#[test]
fn an_object_of_another_application_is_not_forgotten() {
    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    // Some name that the actor's hash prefers.
    let by = |name: &str| hash128(domain::DERIVED, &[name.as_bytes(), actor().as_bytes()]);
    let mut names = (0..).map(|n| format!("shop{n}"));
    let other = names.find(|name| by(name) > by("shop")).unwrap();
    bed.hosting_beside(&other, 2, &[]);
    bed.good_turn(1, 2, 7, Some("k"));
    bed.objects.gone(&other, AppInstance(2), &mut bed.out);
    bed.out.clear();
    // "shop" still has its object of version 7.
    let turn = bed.run(1, 3, 8);
    let told = bed.deleted();
    bed.answer(told, 200);
    let exchange = bed.called();
    bed.answer(exchange, 200);
    bed.ended();
    // Each is told when it can be.
    bed.drop(turn);
    let told = bed.deleted();
    bed.hosting_beside(&other, 2, &[]);
    assert_eq!(bed.out, [], "one at a time");
    bed.answer(told, 200);
    bed.deleted();
}

/// What it is asked after it was given up shows that it exists, and so does its success.
#[test]
fn an_object_that_shows_itself_after_it_was_given_up_is_told_to_go() {
    for (asks, status, told) in [(false, 500, false), (true, 500, true), (false, 200, true)] {
        let mut bed = Bed::new();
        let turn = bed.run(1, 1, 7);
        let exchange = bed.called();
        bed.drop(turn);
        if asks {
            bed.get();
        }
        bed.answer(exchange, status);
        let gone = bed.out.iter().any(|effect| {
            matches!(effect, HostEffect::App(AppEffect::Ask { request, .. })
                if request.callback == Callback::Deactivate)
        });
        assert_eq!(gone, told, "asked: {asks}, then {status}");
    }
}

/// What an application stages counts with its answer, whatever that is; without an answer not at
/// all.
#[test]
fn staged_state_commits_with_the_answer() {
    for status in [200, 500] {
        let mut bed = Bed::new();
        bed.run(1, 1, 0);
        let exchange = bed.called();
        assert_eq!(bed.put("k"), AppOutcome::Done);
        bed.call(AppCall::StateGet {
            key: Bytes::from_static(b"k"),
        });
        let value = StateValue {
            data: Bytes::from_static(b"1"),
            expires_ms: None,
        };
        assert_eq!(bed.told(), AppOutcome::Value(Some(value)));
        bed.answer(exchange, status);
        let TurnEnd::Answered(answered) = bed.ended() else {
            panic!("answered");
        };
        assert_eq!(answered.staged.writes.len(), 1, "{status}");
        assert_eq!(answered.answer.is_ok(), status == 200);
    }
    let mut bed = Bed::new();
    bed.run(1, 1, 0);
    let exchange = bed.called();
    bed.answer(exchange, 500);
    bed.ended();
    let late = bed.put("k");
    assert_eq!(late, AppOutcome::InstanceMissing, "the object is unclean");
    for (sent, lost) in [(Sent::Maybe, true), (Sent::CertainlyNot, false)] {
        let mut bed = Bed::new();
        bed.run(1, 1, 0);
        let exchange = bed.called();
        bed.silent(exchange, sent);
        assert_eq!(
            matches!(bed.ended(), TurnEnd::Lost { .. }),
            lost,
            "{sent:?}"
        );
    }
}

/// A reminder that is set commits at once, with all that was staged before it.
#[test]
fn a_reminder_commits_what_is_staged_so_far() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 3);
    let exchange = bed.called();
    bed.put("k");
    bed.call(reminder(Overwrite::Yes));
    let HostEffect::Leader(RunnerInput::Asked { ask, what, .. }) = bed.out.remove(0) else {
        panic!("the leader is asked to commit");
    };
    let TurnAsk::Commit(staged) = what else {
        panic!("{what:?}");
    };
    assert_eq!((staged.writes.len(), staged.schedule.len()), (1, 1));
    let due = staged.schedule[0].row.as_ref().map(|row| row.due_ms);
    assert_eq!(due, Some(NOW.0 + 5_000));
    bed.answer(exchange, 200);
    assert_eq!(bed.out, [], "the turn ends when its part is committed");
    let told = TurnTold::Part(PartEnd::Committed(ActorVersion(4)));
    let effect = RunnerEffect::Tell { turn, ask, told };
    bed.objects.perform(NOW, effect, &mut bed.out);
    assert_eq!(bed.told(), AppOutcome::Done);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!("answered");
    };
    assert_eq!(
        answered.staged,
        Staged::default(),
        "nothing is committed twice"
    );
    bed.run(1, 2, 4);
    bed.called();
}

#[test]
fn a_reminder_that_is_there_already_leaves_the_stage_as_it_was() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 3);
    let exchange = bed.called();
    bed.put("k");
    bed.call(reminder(Overwrite::No));
    bed.out.clear();
    let told = TurnTold::Part(PartEnd::ScheduleThere);
    let effect = RunnerEffect::Tell { turn, ask: 1, told };
    bed.objects.perform(NOW, effect, &mut bed.out);
    assert_eq!(bed.told(), AppOutcome::AlreadyExists);
    bed.answer(exchange, 200);
    let TurnEnd::Answered(answered) = bed.ended() else {
        panic!("answered");
    };
    let staged = (answered.staged.writes.len(), answered.staged.schedule.len());
    assert_eq!(staged, (1, 0));
}

/// An object that still runs what was given up takes nothing else, and its state calls are refused.
#[test]
fn what_was_given_up_blocks_its_object_until_it_returns() {
    let mut bed = Bed::new();
    bed.good_turn(1, 1, 7, None);
    let turn = bed.run(1, 2, 7);
    let exchange = bed.called();
    bed.drop(turn);
    assert_eq!(bed.put("k"), AppOutcome::InstanceMissing);
    bed.run(2, 1, 7);
    assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }));
    bed.answer(exchange, 200);
    assert_eq!(bed.out, [], "nobody waits for it");
    bed.run(2, 2, 7);
    bed.deleted();
}

#[test]
fn an_older_activation_is_refused() {
    let mut bed = Bed::new();
    bed.good_turn(5, 1, 7, None);
    bed.run(4, 9, 7);
    assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }));
    // And what comes late of it changes nothing.
    bed.good_turn(5, 2, 7, None);
}

/// Outside a turn state is written at once, if the object serves the activation and has its state.
#[test]
fn state_outside_a_turn_needs_a_clean_object() {
    let mut bed = Bed::new();
    assert_eq!(bed.put("k"), AppOutcome::InstanceMissing);
    bed.good_turn(3, 1, 7, None);
    let reply = |done: Done, version| {
        let reply = OperationReply {
            done: done as i32,
            version,
            ..OperationReply::default()
        };
        CallOutcome::Reply(reply.encode_to_vec().into())
    };
    let ticket = bed.call(AppCall::StateTransaction(vec![upsert("k")]));
    let HostEffect::Operate {
        ask: Ask::StateWrite(change),
        ..
    } = bed.out.remove(0)
    else {
        panic!("the leader is asked");
    };
    assert_eq!((change.term, change.activation, change.version), (3, 1, 7));
    bed.objects
        .operated(ticket, reply(Done::Yes, 8), &mut bed.out);
    assert_eq!(bed.told(), AppOutcome::Done);
    bed.good_turn(3, 2, 8, None);
    let ticket = bed.call(AppCall::StateTransaction(vec![upsert("k")]));
    bed.out.clear();
    bed.objects
        .operated(ticket, reply(Done::NotHeld, 0), &mut bed.out);
    assert_eq!(bed.told(), AppOutcome::InstanceMissing);
    bed.run(3, 3, 8);
    bed.deleted();
}

#[test]
fn values_are_given_back_byte_for_byte_until_their_time_is_over() {
    let stored = |data: &'static [u8], expires_ms| {
        let data = Bytes::from_static(data);
        Bytes::from(AppValue { data, expires_ms }.encode_to_vec())
    };
    for (value, want) in [
        (None, None),
        (Some(stored(b"\"a\"", 0)), Some((&b"\"a\""[..], None))),
        (Some(stored(b"", 0)), Some((&b""[..], None))),
        (
            Some(stored(b"1", NOW.0 + 1)),
            Some((&b"1"[..], Some(NOW.0 + 1))),
        ),
        (Some(stored(b"1", NOW.0)), None),
    ] {
        let mut bed = Bed::new();
        let turn = bed.run(1, 1, 0);
        bed.called();
        bed.call(AppCall::StateGet {
            key: Bytes::from_static(b"k"),
        });
        bed.out.clear();
        let told = TurnTold::Value(value);
        let effect = RunnerEffect::Tell { turn, ask: 1, told };
        bed.objects.perform(NOW, effect, &mut bed.out);
        let want = want.map(|(data, expires_ms)| StateValue {
            data: Bytes::from_static(data),
            expires_ms,
        });
        assert_eq!(bed.told(), AppOutcome::Value(want));
    }
}

#[test]
fn what_a_node_before_this_one_called_into_being_is_reset_first() {
    let mut bed = Bed::new();
    bed.held_before(1);
    bed.run(1, 1, 7);
    let reset = bed.deleted();
    bed.answer(reset, 200);
    let exchange = bed.called();
    bed.answer(exchange, 200);
    assert!(matches!(bed.ended(), TurnEnd::Answered(_)));
    // Known already: it is clean, and told again that it may be there.
    bed.held_before(1);
    bed.good_turn(1, 2, 7, None);
    // Another process has nothing of it.
    bed.hosting(2);
    bed.good_turn(2, 1, 7, None);
}

#[test]
fn an_object_that_was_not_told_to_go_is_still_there() {
    let mut bed = Bed::new();
    bed.held_before(1);
    bed.run(1, 1, 7);
    let reset = bed.deleted();
    bed.silent(reset, Sent::CertainlyNot);
    assert!(matches!(bed.ended(), TurnEnd::NotStarted { .. }));
    bed.run(1, 2, 7);
    let reset = bed.deleted();
    // Whatever becomes of one that was sent: it counts as gone.
    bed.silent(reset, Sent::Maybe);
    bed.called();
}

#[test]
fn an_object_that_was_dropped_while_its_process_was_out_of_reach_is_reset_when_it_is_back() {
    let mut bed = Bed::new();
    let turn = bed.run(1, 1, 0);
    let exchange = bed.called();
    bed.answer(exchange, 200);
    bed.ended();
    bed.objects.gone("shop", AppInstance(1), &mut bed.out);
    bed.drop(turn);
    assert_eq!(bed.out, []);
    bed.hosting(1);
    bed.run(2, 1, 3);
    bed.deleted();
}

impl Bed {
    fn enter(&mut self, turn: TurnId, entry: u32) {
        let entered = TurnEntry {
            turn,
            entry,
            method: "inner".to_owned(),
            body: Bytes::new(),
            metadata: Vec::new(),
        };
        self.objects
            .perform(NOW, RunnerEffect::Enter(entered), &mut self.out);
    }

    /// What the leader is asked: the ask, the entry, and how it ended.
    #[track_caller]
    fn left(&mut self) -> (u32, u32, TurnEnd) {
        match self.out.remove(0) {
            HostEffect::Leader(RunnerInput::Asked {
                ask,
                what: TurnAsk::Left { entry, end },
                ..
            }) => (ask, entry, *end),
            other => panic!("{other:?}"),
        }
    }

    fn tell(&mut self, turn: TurnId, ask: u32, end: PartEnd) {
        let told = TurnTold::Part(end);
        let tell = RunnerEffect::Tell { turn, ask, told };
        self.objects.perform(NOW, tell, &mut self.out);
    }
}
