//! One engine, a log that is applied by hand, and rows in a map.

use std::collections::VecDeque;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, AppReply, CallRequest, Stamp};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{Command, Kind, StateWrite};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::{Generation, LogIndex, LogPosition, NodeId, PartitionId, Term};
use ghostlight_protocol::outcome::AppError;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::{EntryOutcome, apply_command};
use ghostlight_protocol::request::{RequestId, Session};
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::host::Wish;
use prost::Message;

use crate::map_rows::MapRows;
use crate::turn_io::{
    Answered, RunnerEffect, RunnerInput, Staged, TurnAsk, TurnEnd, TurnId, TurnStart,
};
use crate::turns::{
    Caller, ConfirmId, Due, Load, NativeTypes, NestedCall, Opening, ReadId, RowsWanted, Settings,
    Turns, TurnsEffect, TurnsInput, WakeupEnd, Writes,
};
use ghostlight_protocol::command::ScheduleWrite;

pub(super) const P0: PartitionId = PartitionId(0);

/// Whether the harness answers reads at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reads {
    AtOnce,
    ByHand,
}

pub(super) struct Bench {
    pub(super) now: Instant,
    pub(super) engine: Turns,
    pub(super) settings: Settings,
    pub(super) term: Term,
    pub(super) rows: MapRows,
    pub(super) row: PartitionRow,
    /// Proposed, not applied.
    pub(super) log: VecDeque<Kind>,
    pub(super) reads: Reads,
    /// Bytes of a page of rows, as the store cuts it.
    pub(super) page_bytes: usize,
    pub(super) asked: VecDeque<(ReadId, RowsWanted)>,
    pub(super) confirms: VecDeque<ConfirmId>,
    pub(super) started: VecDeque<TurnStart>,
    pub(super) answers: Vec<(Caller, AnswerKind)>,
    pub(super) told: Vec<RunnerEffect>,
    pub(super) calls: Vec<NestedCall>,
    pub(super) gone: Vec<TurnId>,
    pub(super) over: Vec<(Due, WakeupEnd)>,
    pub(super) scheduled: Vec<ScheduleWrite>,
    pub(super) outcomes: Vec<EntryOutcome>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Self {
        let term = Term(6);
        let row = PartitionRow::founded(NodeId(1));
        Self {
            now: Instant(1_000_000_000),
            engine: open(term, &row, settings),
            settings,
            term,
            rows: MapRows::default(),
            row,
            log: VecDeque::new(),
            reads: Reads::AtOnce,
            page_bytes: 1 << 20,
            asked: VecDeque::new(),
            confirms: VecDeque::new(),
            started: VecDeque::new(),
            answers: Vec::new(),
            told: Vec::new(),
            calls: Vec::new(),
            gone: Vec::new(),
            over: Vec::new(),
            scheduled: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    pub(super) fn feed(&mut self, input: TurnsInput) {
        let mut out = Vec::new();
        self.engine
            .note(WallTime(self.now.0 / 1_000_000), Load::of(&self.row));
        self.engine.handle(self.now, input, &mut out);
        self.perform(out);
    }

    pub(super) fn flush(&mut self) {
        let mut out = Vec::new();
        self.engine.flush(self.now, &mut out);
        self.perform(out);
    }

    pub(super) fn perform(&mut self, out: Vec<TurnsEffect>) {
        for effect in out {
            match effect {
                TurnsEffect::Runner(RunnerEffect::Run(start)) => self.started.push_back(start),
                TurnsEffect::Runner(effect) => self.told.push(effect),
                TurnsEffect::Propose(kind) => self.log.push_back(kind),
                TurnsEffect::Confirm(id) => self.confirms.push_back(id),
                TurnsEffect::Read { read, rows } => {
                    self.asked.push_back((read, rows));
                    if self.reads == Reads::AtOnce {
                        self.read_one();
                    }
                }
                TurnsEffect::Answer { to, kind } => self.answers.push((to, kind)),
                TurnsEffect::Call(call) => self.calls.push(call),
                TurnsEffect::TurnGone(turn) => self.gone.push(turn),
                TurnsEffect::WakeupOver(due, end) => self.over.push((*due, end)),
                TurnsEffect::Scheduled(_, writes) => self.scheduled.extend(writes),
            }
        }
    }

    pub(super) fn read_one(&mut self) {
        let (read, wanted) = self.asked.pop_front().expect("a read was asked");
        let (rows, rest) = self.rows.read(&wanted, usize::MAX, self.page_bytes);
        self.feed(TurnsInput::RowsRead { read, rows, rest });
    }

    /// Applies the oldest entry, and tells the engine.
    pub(super) fn apply_one(&mut self) {
        let outcome = self.apply_silently();
        self.outcomes.push(outcome.clone());
        self.feed(TurnsInput::Applied(outcome));
    }

    pub(super) fn apply_silently(&mut self) -> EntryOutcome {
        let kind = self.log.pop_front().expect("an entry waits");
        self.apply(Some(kind))
    }

    pub(super) fn apply(&mut self, kind: Option<Kind>) -> EntryOutcome {
        let command = Command {
            leader_term: self.term.0,
            age_step_ms: 1,
            wall_ms: 0,
            kind,
        };
        let at = LogPosition {
            term: self.term,
            index: LogIndex(self.row.applied_index + 1),
        };
        let data = command.encode_to_vec();
        apply_command(P0, &mut self.rows, &mut self.row, at, &data).expect("a map never fails")
    }

    /// Flushes, applies and confirms until nothing is left.
    pub(super) fn settle(&mut self) {
        loop {
            self.flush();
            if !self.log.is_empty() {
                self.apply_one();
            } else if !self.confirms.is_empty() {
                self.confirm();
            } else {
                return;
            }
        }
    }

    pub(super) fn confirm(&mut self) {
        let round = self.confirms.pop_front().expect("a round was begun");
        self.feed(TurnsInput::Confirmed(round));
    }

    pub(super) fn call(&mut self, call: Ask) -> Caller {
        let caller = call.caller;
        let request = call.request();
        self.feed(TurnsInput::Call {
            from: caller,
            request,
        });
        caller
    }

    /// Takes the one turn that was started.
    #[track_caller]
    pub(super) fn turn(&mut self) -> TurnStart {
        self.started.pop_front().expect("a turn was started")
    }

    pub(super) fn end(&mut self, turn: TurnId, end: TurnEnd) {
        self.feed(TurnsInput::Runner(RunnerInput::Ended { turn, end }));
    }

    pub(super) fn ask(&mut self, turn: TurnId, ask: u32, what: TurnAsk) {
        self.feed(TurnsInput::Runner(RunnerInput::Asked { turn, ask, what }));
    }

    /// What a caller was answered, exactly once.
    #[track_caller]
    pub(super) fn answer(&mut self, caller: Caller) -> AnswerKind {
        let mine: Vec<usize> = (0..self.answers.len())
            .filter(|i| self.answers[*i].0 == caller)
            .collect();
        assert_eq!(mine.len(), 1, "{caller:?} in {:?}", self.answers);
        self.answers.remove(mine[0]).1
    }

    #[track_caller]
    pub(super) fn silent(&self) {
        assert!(self.answers.is_empty(), "{:?}", self.answers);
    }

    /// Ends the leadership; the entries in flight are kept or cut.
    pub(super) fn depose(&mut self, kept: usize) {
        for _ in 0..kept {
            self.apply_silently();
        }
        self.log.clear();
        self.asked.clear();
        self.confirms.clear();
        self.started.clear();
        let mut out = Vec::new();
        let next = Term(self.term.0 + 1);
        let opened = open(next, &self.row, self.settings);
        let old = std::mem::replace(&mut self.engine, opened);
        old.close(self.now, None, &mut out);
        self.perform(out);
        self.term = next;
        self.apply(None);
        self.engine = open(next, &self.row, self.settings);
        let inbox = self.rows.0.iter().filter(|((f, _), _)| *f == Family::Inbox);
        let inbox: Vec<_> = inbox
            .map(|((_, key), value)| {
                let sequence = family::parse_inbox_key(key).expect("written by apply");
                (sequence, Message::decode(value.clone()).expect("likewise"))
            })
            .collect();
        self.feed(TurnsInput::Inbox(inbox));
    }

    pub(super) fn state(&self, actor: &ActorKey, key: &[u8]) -> Option<Bytes> {
        let key = (Family::State, family::state_key(actor, key));
        self.rows.0.get(&key).cloned()
    }
}

fn open(term: Term, row: &PartitionRow, settings: Settings) -> Turns {
    Turns::open(Opening {
        partition: P0,
        partitions: 1,
        term,
        wall: WallTime(0),
        load: Load::of(row),
        writes: Writes::Taken,
        settings,
        native: NativeTypes::new(["counter".to_owned()]),
    })
}

/// A call to be made.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) caller: Caller,
    pub(super) id: RequestId,
    pub(super) actor: ActorKey,
    pub(super) method: String,
    pub(super) body: Bytes,
    pub(super) attempt: u32,
    pub(super) closed_below: u64,
    pub(super) remaining_ms: u64,
    pub(super) chain: Vec<ActorKey>,
}

impl Ask {
    /// First attempt of the `n`-th request of a session.
    pub(super) fn first(n: u64, actor: &str) -> Self {
        Self {
            caller: caller(n),
            id: session(n),
            actor: actor_key(actor),
            method: "m".to_owned(),
            body: Bytes::new(),
            attempt: 1,
            closed_below: 0,
            remaining_ms: 0,
            chain: Vec::new(),
        }
    }

    pub(super) fn again(n: u64, actor: &str) -> Self {
        Self {
            attempt: 2,
            ..Self::first(n, actor)
        }
    }

    pub(super) fn outside(n: u64, actor: &str) -> Self {
        Self {
            id: RequestId::outside(format!("o{n}").as_bytes()).unwrap(),
            ..Self::first(n, actor)
        }
    }

    pub(super) fn request(self) -> CallRequest {
        CallRequest {
            metadata: Vec::new(),
            operation: None,
            call: self.caller.call,
            partition: 0,
            request_id: self.id.to_bytes(),
            actor: self.actor.to_bytes(),
            method: self.method,
            body: self.body,
            remaining_ms: self.remaining_ms,
            attempt: self.attempt,
            closed_below: self.closed_below,
            closed_ranges: Vec::new(),
            chain: self.chain.iter().map(ActorKey::to_bytes).collect(),
            stamp: Some(Stamp {
                wall_ms: 77,
                seed: 5,
            }),
            leader_term: 0,
        }
    }
}

pub(super) fn caller(call: u64) -> Caller {
    Caller {
        node: NodeId(9),
        call,
    }
}

pub(super) fn session(sequence: u64) -> RequestId {
    let session = Session {
        gateway: NodeId(9),
        generation: Generation(1),
    };
    RequestId::Session { session, sequence }
}

pub(super) fn actor_key(id: &str) -> ActorKey {
    ActorKey::new("default", "counter", id).unwrap()
}

/// An actor whose turns run in an application.
pub(super) fn cart() -> ActorKey {
    ActorKey::new("default", "cart", "a").unwrap()
}

/// The `n`-th call, of an application's actor.
pub(super) fn cart_call(n: u64) -> Ask {
    Ask {
        actor: cart(),
        ..Ask::first(n, "a")
    }
}

/// What an application's caller hears.
pub(super) fn reply_of(text: &'static str) -> AnswerKind {
    AnswerKind::AppReply(app_reply(text))
}

fn app_reply(text: &'static str) -> AppReply {
    AppReply {
        metadata: Vec::new(),
        body: Bytes::from_static(text.as_bytes()),
    }
}

/// An application answers, and leaves this behind.
pub(super) fn answered(text: &'static str, writes: &[(&str, &str)]) -> TurnEnd {
    TurnEnd::Answered(Box::new(Answered {
        answer: Ok(app_reply(text)),
        staged: Staged {
            writes: writes.iter().map(|(k, v)| put(k, v)).collect(),
            ..Staged::default()
        },
        wish: Wish::GoesOn,
    }))
}

pub(super) fn wrote(reply: &str, key: &str, value: &str) -> TurnEnd {
    TurnEnd::Ok {
        reply: Bytes::copy_from_slice(reply.as_bytes()),
        writes: vec![put(key, value)],
        sends: Vec::new(),
        schedule: Vec::new(),
    }
}

pub(super) fn put(key: &str, value: &str) -> StateWrite {
    StateWrite {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..StateWrite::default()
    }
}

pub(super) fn read(reply: &str) -> TurnEnd {
    TurnEnd::Ok {
        reply: Bytes::copy_from_slice(reply.as_bytes()),
        writes: Vec::new(),
        sends: Vec::new(),
        schedule: Vec::new(),
    }
}

pub(super) fn app(name: &str) -> TurnEnd {
    TurnEnd::App(error(name))
}

pub(super) fn error(name: &str) -> AppError {
    AppError {
        name: name.to_owned(),
        message: String::new(),
        payload: Bytes::new(),
    }
}

pub(super) fn reply(text: &str) -> AnswerKind {
    AnswerKind::Reply(Bytes::copy_from_slice(text.as_bytes()))
}

#[track_caller]
pub(super) fn code(answer: &AnswerKind) -> Code {
    let number = match answer {
        AnswerKind::NotRun(n) => n.code,
        AnswerKind::Unknown(u) => u.code,
        AnswerKind::Reply(_)
        | AnswerKind::AppReply(_)
        | AnswerKind::App(_)
        | AnswerKind::Redirect(_) => {
            panic!("no code in {answer:?}")
        }
    };
    Code::from_number(number as u16).unwrap()
}
