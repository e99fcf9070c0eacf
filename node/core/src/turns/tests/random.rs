//! Random schedules: calls, retries, duplicates, refused proposals, changes of leadership, and
//! turns that end after their leadership.
//!
//! Every schedule must give: no answer before its commit, one effect for each acknowledged request
//! however often it is sent, at most one for any other, and a counter that is linearizable.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_protocol::call::{AnswerKind, MayHaveRun};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::request::RequestId;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::harness::*;
use crate::turn_io::{RunnerEffect, TurnAsk, TurnEnd, TurnId, TurnStart, TurnTold};
use crate::turns::{Caller, TurnsInput};

const ACTORS: [&str; 3] = ["a", "b", "c"];
const SEEDS: u64 = 400;
const STEPS: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Add,
    Get,
    /// Adds if the count is odd, else changes nothing.
    AddIfOdd,
    Refuse,
    Panic,
}

struct Request {
    op: Op,
    ask: Ask,
    invoked: usize,
    answered: Option<(usize, AnswerKind)>,
    /// Old attempts that may still be delivered.
    copies: Vec<Ask>,
}

struct World {
    seed: u64,
    rng: ChaCha8Rng,
    bench: Bench,
    step: usize,
    requests: Vec<Request>,
    by_call: BTreeMap<u64, usize>,
    turns: Vec<TurnStart>,
    waiting: BTreeMap<TurnId, TurnStart>,
    /// Turns of older leaderships whose runners have yet to speak.
    late: Vec<TurnId>,
    last_call: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            bench: Bench::new(),
            step: 0,
            requests: Vec::new(),
            by_call: BTreeMap::new(),
            turns: Vec::new(),
            waiting: BTreeMap::new(),
            late: Vec::new(),
            last_call: 0,
        }
    }

    fn new_request(&mut self) {
        let n = self.requests.len() as u64 + 1;
        let op = [
            Op::Add,
            Op::Add,
            Op::Get,
            Op::AddIfOdd,
            Op::Refuse,
            Op::Panic,
        ][self.rng.random_range(0..6)];
        let actor = ACTORS[self.rng.random_range(0..ACTORS.len())];
        let mut ask = match self.rng.random_range(0..4) {
            0 => Ask::outside(n, actor),
            1 => Ask {
                id: RequestId::Derived(u128::from(n)),
                ..Ask::first(n, actor)
            },
            _ => Ask::first(n, actor),
        };
        ask.method = format!("{op:?}");
        ask.attempt = 0;
        self.requests.push(Request {
            op,
            ask,
            invoked: self.step,
            answered: None,
            copies: Vec::new(),
        });
        self.send(self.requests.len() - 1);
    }

    /// Sends a request for the first time or again.
    fn send(&mut self, index: usize) {
        self.last_call += 1;
        let request = &mut self.requests[index];
        request.ask.attempt += 1;
        request.ask.caller = Caller {
            node: NodeId(9 + u128::from(self.last_call % 3)),
            call: self.last_call,
        };
        self.by_call.insert(self.last_call, index);
        let ask = request.ask.clone();
        if self.rng.random_range(0..10) == 0 {
            request.copies.push(ask); // Delayed.
            return;
        }
        if ask.attempt > 1 {
            request.copies.push(ask.clone());
        }
        self.bench.call(ask);
    }

    fn run_a_turn(&mut self) {
        self.turns.extend(self.bench.started.drain(..));
        if self.turns.is_empty() {
            return;
        }
        let start = self
            .turns
            .swap_remove(self.rng.random_range(0..self.turns.len()));
        let turn = start.turn;
        self.waiting.insert(turn, start);
        let key = Bytes::from_static(b"n");
        self.bench.ask(turn, 1, TurnAsk::Get { key });
    }

    fn answer_asks(&mut self) {
        for effect in std::mem::take(&mut self.bench.told) {
            let RunnerEffect::Tell { turn, told, .. } = effect else {
                continue;
            };
            let Some(start) = self.waiting.remove(&turn) else {
                continue;
            };
            let TurnTold::Value(value) = told else {
                panic!("only a value was asked for");
            };
            let n = value.map_or(0, |v| number(&v));
            let add = || wrote(&(n + 1).to_string(), "n", &(n + 1).to_string());
            let end = match start.method.as_str() {
                "Add" => add(),
                "AddIfOdd" if n % 2 == 1 => add(),
                "Refuse" => app(&format!("at {n}")),
                "Panic" => TurnEnd::Panicked {
                    message: format!("at {n}"),
                },
                _ => read(&n.to_string()),
            };
            self.bench.end(turn, end);
        }
    }

    /// Half of the turns that run are heard of once more.
    fn depose(&mut self) {
        let kept = self.rng.random_range(0..=self.bench.log.len());
        self.turns.extend(self.bench.started.drain(..));
        let waiting = std::mem::take(&mut self.waiting).into_values();
        for start in self.turns.drain(..).chain(waiting) {
            if self.rng.random_bool(0.5) {
                self.late.push(start.turn);
            }
        }
        self.bench.depose(kept);
    }

    /// Turns of leaderships before end now, each with a count that nobody reaches.
    fn end_late(&mut self) {
        for turn in std::mem::take(&mut self.late) {
            self.bench.end(turn, wrote("1000000", "n", "1000000"));
        }
    }

    fn flush(&mut self) {
        let before = self.bench.log.len();
        self.bench.flush();
        if self.bench.log.len() > before && self.rng.random_range(0..12) == 0 {
            self.bench.log.pop_back();
            self.bench.feed(TurnsInput::Dropped);
        }
    }

    fn check_answers(&mut self) {
        for (caller, kind) in std::mem::take(&mut self.bench.answers) {
            let index = self.by_call[&caller.call];
            let request = &self.requests[index];
            let actor = &request.ask.actor;
            let committed = self.bench.state(actor, b"n").map_or(0, |v| number(&v));
            match &kind {
                AnswerKind::Reply(body) => {
                    let value = number(body);
                    assert!(value <= committed, "{request:?} was told {value} too early");
                    if request.op == Op::Add {
                        assert!(self.is_recorded(index), "{request:?} before its commit");
                    }
                }
                AnswerKind::AppReply(_) => panic!("no application here"),
                AnswerKind::App(_) => {
                    let needs = request.ask.attempt > 1
                        || !matches!(request.ask.id, RequestId::Session { .. });
                    let latest = request.ask.caller == caller;
                    assert!(!needs || !latest || self.is_recorded(index), "{request:?}");
                }
                AnswerKind::Redirect(r) => {
                    if r.may_have_run() == MayHaveRun::No && request.ask.attempt == 1 {
                        assert!(!self.is_recorded(index), "{request:?} has run");
                    }
                    continue;
                }
                AnswerKind::NotRun(_) | AnswerKind::Unknown(_) => {
                    panic!("{request:?}: {kind:?}");
                }
            }
            let step = self.step;
            // A gateway that has sent a request again listens only to the latest attempt: what an
            // earlier one answered without a record may be done by the later one after all.
            if self.requests[index].ask.caller != caller {
                continue;
            }
            match &self.requests[index].answered {
                None => self.requests[index].answered = Some((step, kind)),
                Some((_, before)) => {
                    let request = &self.requests[index];
                    if request.op == Op::Add || self.is_recorded(index) {
                        assert_eq!(*before, kind, "{request:?} answered differently");
                    }
                }
            }
        }
    }

    fn is_recorded(&self, index: usize) -> bool {
        let ask = &self.requests[index].ask;
        let key = family::dedup_key(&ask.actor, &ask.id);
        self.bench.rows.0.contains_key(&(Family::Dedup, key))
    }

    fn step(&mut self) {
        self.step += 1;
        self.bench.now.0 += 1_000_000;
        match self.rng.random_range(0..100) {
            0..20 => self.new_request(),
            20..28 => self.retry(),
            28..33 => self.deliver_copy(),
            33..58 => self.run_a_turn(),
            58..72 => self.flush(),
            72..86 if !self.bench.log.is_empty() => self.bench.apply_one(),
            86..92 if !self.bench.confirms.is_empty() => self.bench.confirm(),
            92..94 => self.end_late(),
            94 => self.depose(),
            95 => self.bench.feed(TurnsInput::Pause),
            96..98 => self.bench.feed(TurnsInput::Resume),
            _ => self.bench.feed(TurnsInput::Tick),
        }
        self.answer_asks();
        self.check_answers();
    }

    fn retry(&mut self) {
        let open: Vec<usize> = (0..self.requests.len())
            .filter(|i| self.requests[*i].answered.is_none())
            .collect();
        if !open.is_empty() {
            let index = open[self.rng.random_range(0..open.len())];
            self.send(index);
        }
    }

    fn deliver_copy(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.requests.len());
        if let Some(ask) = self.requests[index].copies.pop() {
            self.bench.call(ask);
        }
    }

    /// Goes on without faults until every request that is sent again has its answer.
    fn drain(&mut self) {
        self.bench.feed(TurnsInput::Resume);
        for _ in 0..50 {
            self.step += 1;
            self.settle();
            let open: Vec<usize> = (0..self.requests.len())
                .filter(|i| self.requests[*i].answered.is_none() && i % 7 != 0)
                .collect();
            if open.is_empty() {
                break;
            }
            for index in open {
                self.send(index);
            }
        }
        for index in 0..self.requests.len() {
            while let Some(copy) = self.requests[index].copies.pop() {
                self.bench.call(copy);
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..400 {
            while !(self.turns.is_empty() && self.bench.started.is_empty()) {
                self.run_a_turn();
                self.answer_asks();
            }
            self.bench.flush();
            if !self.bench.log.is_empty() {
                self.bench.apply_one();
            } else if !self.bench.confirms.is_empty() {
                self.bench.confirm();
            } else if self.bench.started.is_empty() {
                break;
            }
            self.check_answers();
        }
        self.answer_asks();
        self.check_answers();
    }

    fn check_history(&self) {
        for actor in ACTORS.map(actor_key) {
            let mine = self.requests.iter().filter(|r| r.ask.actor == actor);
            let mine: Vec<&Request> = mine.collect();
            let n = self.bench.state(&actor, b"n").map_or(0, |v| number(&v));
            let is_add = |r: &&&Request| r.op == Op::Add;
            let acknowledged = mine.iter().filter(is_add).filter(|r| r.answered.is_some());
            let adds = mine
                .iter()
                .filter(|r| matches!(r.op, Op::Add | Op::AddIfOdd));
            assert!(
                acknowledged.count() as u64 <= n,
                "{actor}: an effect is lost"
            );
            assert!(n <= adds.count() as u64, "{actor}: an effect came twice");
            self.check_order(&mine);
        }
        let open = self.requests.iter().enumerate();
        let lost = open.filter(|(i, r)| i % 7 != 0 && r.answered.is_none());
        assert_eq!(lost.count(), 0, "callers that never got an answer");
    }

    /// Real time must agree with the order of the values.
    fn check_order(&self, requests: &[&Request]) {
        let valued: Vec<(&Request, usize, u64)> = requests
            .iter()
            .filter_map(|r| match &r.answered {
                Some((at, AnswerKind::Reply(body))) => Some((*r, *at, number(body))),
                _ => None,
            })
            .collect();
        for (one, answered, value) in &valued {
            for (other, _, later) in &valued {
                if std::ptr::eq(*one, *other) {
                    continue;
                }
                let both_add = one.op == Op::Add && other.op == Op::Add;
                assert!(!both_add || value != later, "{one:?} and {other:?}");
                if *answered < other.invoked {
                    let grows = other.op == Op::Add;
                    assert!(
                        value < later || (!grows && value == later),
                        "{one:?} was answered before {other:?} began"
                    );
                }
            }
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {:?} of {} attempt {} invoked {} answered {:?}",
            self.op, self.ask.id, self.ask.actor, self.ask.attempt, self.invoked, self.answered
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.seed;
            eprintln!(
                "reproduce: TURNS_SEED={seed} in `run({seed})`, at step {}",
                self.step
            );
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

fn run(seed: u64) -> [u64; 4] {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.drain();
    world.check_history();
    let counters = world.bench.engine.counters();
    [
        counters.turns_committed,
        counters.turns_skipped,
        counters.answers_recorded,
        counters.answers_without_entry,
    ]
}

#[test]
fn any_schedule_keeps_every_promise() {
    let mut seen = [0; 4];
    for seed in 0..SEEDS {
        for (total, more) in seen.iter_mut().zip(run(seed)) {
            *total += more;
        }
    }
    // The schedules reach what they are for.
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}
