//! Clients that share actors: lists, counters and registers that all of them change at once,
//! through all nodes. What each asked and was told is written down with its times, and judged as a
//! whole, per object, by `ghostlight-histories`.
//!
//! Three of four calls are repeated with their request id until they are answered. The fourth is
//! asked once: what became of it may be unknown, and then any order that explains the others may
//! have it, at any later time, or not at all. Absent: faults.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ghostlight_histories::appends::{self, Ask, ListOperation, Told};
use ghostlight_histories::linear::{self, Of, STEPS_MAX};
use ghostlight_histories::lines::{Written, lines};
use ghostlight_histories::models::{Access, Count, Counter, Held, Register};
use ghostlight_histories::{End, Operation};
use ghostlight_report as report;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::client::Client;
use crate::http::Reply;
use crate::wait::until;

/// Clients, each a thread.
const CLIENTS: usize = 8;
/// Objects of each kind.
const OBJECTS: usize = 4;
/// Pause of a client between two calls.
const CALL_PERIOD: Duration = Duration::from_millis(20);
/// One call of so many is asked once.
const ONCE_IN: u32 = 4;

/// What was asked of one kind of object, by the object.
type Kind<C, R> = BTreeMap<String, Vec<Operation<C, R>>>;

/// Everything that was asked.
#[derive(Default, Debug)]
struct Asked {
    lists: Kind<Ask, Told>,
    counters: Kind<Count, i64>,
    registers: Kind<Access, Held>,
}

/// Running clients.
#[derive(Debug)]
pub struct Shared {
    name: String,
    began: Instant,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Asked>>,
    threads: Vec<JoinHandle<()>>,
}

/// What is known of all objects when the clients have ended.
#[derive(Debug)]
pub struct Judged {
    /// Operations that were judged.
    pub operations: usize,
    /// Those of which nobody knows what became of them.
    pub unknown: usize,
}

impl Shared {
    /// Starts clients that ask these addresses, each a different one first. `name` is part of every
    /// object's id: nobody else may use them. `seed` draws what is asked; how much, and some of
    /// what, depends on answers and time, so that a run is not repeated by it: what one has is its
    /// history.
    #[must_use]
    pub fn start(name: &str, addresses: &[String], seed: u64) -> Self {
        let mut shared = Self {
            name: name.to_owned(),
            began: Instant::now(),
            answered: Arc::default(),
            stop: Arc::default(),
            asked: Arc::default(),
            threads: Vec::new(),
        };
        for process in 0..CLIENTS {
            let worker = Worker {
                client: Client::new(addresses, process),
                name: name.to_owned(),
                process: process as u64,
                began: shared.began,
                dice: StdRng::seed_from_u64(seed * 1_000 + process as u64),
                calls: 0,
                seen: BTreeMap::new(),
                answered: Arc::clone(&shared.answered),
                stop: Arc::clone(&shared.stop),
                asked: Arc::clone(&shared.asked),
            };
            let thread = std::thread::Builder::new().name(format!("client {process}"));
            let thread = thread.spawn(move || worker.work());
            shared.threads.push(thread.expect("a thread"));
        }
        shared
    }

    /// Waits until so many more calls were answered.
    ///
    /// # Panics
    /// When it takes too long: what is tested meanwhile would be tested by nobody.
    #[track_caller]
    pub fn wait_answered(&self, more: u64, time_max: Duration) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        until("clients are served", time_max, || {
            (self.answered.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Ends the clients, reads every object through each of these nodes, writes the histories into
    /// the report's folder, and judges them.
    ///
    /// # Panics
    /// When a client has heard something that no order of all operations explains, or none was
    /// found in time; with the file of that history.
    #[track_caller]
    pub fn judge(self, addresses: &[String]) -> Judged {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("clients do not panic");
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for (reader, address) in addresses.iter().enumerate() {
            let mut worker = Worker {
                client: Client::new(std::slice::from_ref(address), 0),
                name: self.name.clone(),
                process: (CLIENTS + reader) as u64,
                began: self.began,
                dice: StdRng::seed_from_u64(0),
                calls: 0,
                seen: BTreeMap::new(),
                answered: Arc::default(),
                stop: Arc::default(),
                asked: Arc::default(),
            };
            for object in 0..OBJECTS {
                let key = worker.key(object);
                worker.read_all(&key, &mut asked);
            }
        }
        let mut judged = Judged {
            operations: 0,
            unknown: 0,
        };
        let mut wrong = Vec::new();
        let name = &self.name;
        judged.take(
            name,
            "list",
            &asked.lists,
            &mut wrong,
            |o: &[ListOperation]| appends::check(o),
        );
        judged.take(
            name,
            "counter",
            &asked.counters,
            &mut wrong,
            |o: &[Of<Counter>]| {
                linear::check::<Counter>(o, STEPS_MAX).map_err(|wrong| wrong.to_string())
            },
        );
        judged.take(
            name,
            "register",
            &asked.registers,
            &mut wrong,
            |o: &[Of<Register>]| {
                linear::check::<Register>(o, STEPS_MAX).map_err(|wrong| wrong.to_string())
            },
        );
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        judged
    }
}

impl Judged {
    fn take<C: Written<R>, R>(
        &mut self,
        name: &str,
        kind: &str,
        objects: &Kind<C, R>,
        wrong: &mut Vec<String>,
        check: impl Fn(&[Operation<C, R>]) -> Result<(), String>,
    ) {
        for (key, operations) in objects {
            self.operations += operations.len();
            let unknown = operations.iter();
            let unknown = unknown.filter(|o| matches!(o.end, End::Info { .. }));
            self.unknown += unknown.count();
            let file = format!("histories/{name}/{kind}-{key}.jsonl");
            let file = report::write(file, &lines(key, operations));
            if let Err(why) = check(operations) {
                wrong.push(format!("{kind} {key}: {why}: {}", file.display()));
            }
        }
    }
}

/// How a call is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Until it is answered.
    Repeats,
    /// Once.
    Once,
}

struct Worker {
    client: Client,
    name: String,
    process: u64,
    began: Instant,
    dice: StdRng,
    calls: u64,
    /// The value of each register that this client has last heard of.
    seen: BTreeMap<String, u64>,
    answered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Asked>>,
}

impl Worker {
    fn work(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let object = self.dice.random_range(0..OBJECTS);
            let key = self.key(object);
            let patience = match self.dice.random_range(0..ONCE_IN) {
                0 => Patience::Once,
                _ => Patience::Repeats,
            };
            let asked = Arc::clone(&self.asked);
            match self.dice.random_range(0..3) {
                0 => self.use_list(&key, patience, &asked),
                1 => self.use_counter(&key, patience, &asked),
                _ => self.use_register(&key, patience, &asked),
            }
            std::thread::sleep(CALL_PERIOD);
        }
    }

    fn key(&self, object: usize) -> String {
        format!("{}-{object}", self.name)
    }

    /// A number that no other call of this run has.
    fn fresh(&mut self) -> u64 {
        self.calls += 1;
        self.calls * 1_000 + self.process
    }

    fn use_list(&mut self, key: &str, patience: Patience, asked: &Mutex<Asked>) {
        let call = match self.dice.random_range(0..4) {
            0 => Ask::Read,
            _ => Ask::Append(format!("{}", self.fresh())),
        };
        let operation = self.list(key, call, patience);
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .lists
            .entry(key.to_owned())
            .or_default()
            .push(operation);
    }

    fn use_counter(&mut self, key: &str, patience: Patience, asked: &Mutex<Asked>) {
        let call = match self.dice.random_range(0..3) {
            0 => Count::Get,
            _ => Count::Add(self.dice.random_range(1..100)),
        };
        let operation = self.counter(key, call, patience);
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .counters
            .entry(key.to_owned())
            .or_default()
            .push(operation);
    }

    fn use_register(&mut self, key: &str, patience: Patience, asked: &Mutex<Asked>) {
        let known = self.seen.get(key).copied();
        let call = match (self.dice.random_range(0..4), known) {
            (0, _) => Access::Read,
            (1, _) | (_, None) => Access::Write(self.fresh()),
            (_, Some(known)) => Access::Exchange(known, self.fresh()),
        };
        let operation = self.register(key, call, patience);
        let heard = match (&operation.call, &operation.end) {
            (Access::Write(value), End::Ok { .. }) => Some(*value),
            (
                Access::Exchange(_, to),
                End::Ok {
                    reply: Held::Exchanged,
                    ..
                },
            ) => Some(*to),
            (
                _,
                End::Ok {
                    reply: Held::Value(value),
                    ..
                },
            ) => *value,
            _ => None,
        };
        if let Some(value) = heard {
            self.seen.insert(key.to_owned(), value);
        }
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked
            .registers
            .entry(key.to_owned())
            .or_default()
            .push(operation);
    }

    /// The last read of every object of this number.
    fn read_all(&mut self, key: &str, asked: &mut Asked) {
        let list = self.list(key, Ask::Read, Patience::Repeats);
        let counter = self.counter(key, Count::Get, Patience::Repeats);
        let register = self.register(key, Access::Read, Patience::Repeats);
        let ends = [ended(&list), ended(&counter), ended(&register)];
        assert_eq!(
            ends, [true; 3],
            "{key} is read through every node in the end"
        );
        asked.lists.entry(key.to_owned()).or_default().push(list);
        asked
            .counters
            .entry(key.to_owned())
            .or_default()
            .push(counter);
        asked
            .registers
            .entry(key.to_owned())
            .or_default()
            .push(register);
    }

    fn list(&mut self, key: &str, call: Ask, patience: Patience) -> ListOperation {
        let (method, body) = match &call {
            Ask::Append(line) => ("append", json!(line).to_string()),
            Ask::Read => ("read", String::new()),
        };
        let is_read = call == Ask::Read;
        let path = format!("log/{key}/method/{method}");
        self.ask(&path, &body, call, patience, |told| {
            if !is_read {
                return Told::Appended(Some(told.as_u64().expect("a length")));
            }
            let lines = told.as_array().expect("lines").iter();
            let lines = lines.map(|line| line.as_str().expect("a line").to_owned());
            Told::Lines(lines.collect())
        })
    }

    fn counter(&mut self, key: &str, call: Count, patience: Patience) -> Of<Counter> {
        let (method, body) = match &call {
            Count::Add(by) => ("add", by.to_string()),
            Count::Get => ("get", String::new()),
        };
        let path = format!("counter/{key}/method/{method}");
        self.ask(&path, &body, call, patience, |told| {
            told.as_i64().expect("a total")
        })
    }

    fn register(&mut self, key: &str, call: Access, patience: Patience) -> Of<Register> {
        let (method, body) = match &call {
            Access::Read => ("read", String::new()),
            Access::Write(value) => ("write", value.to_string()),
            Access::Exchange(from, to) => ("exchange", json!({"from": from, "to": to}).to_string()),
        };
        let path = format!("register/{key}/method/{method}");
        let kind = call.clone();
        self.ask(&path, &body, call, patience, |told| match kind {
            Access::Read => Held::Value(told.as_u64()),
            Access::Write(_) => Held::Written,
            Access::Exchange(..) if told == Value::Bool(true) => Held::Exchanged,
            Access::Exchange(..) => Held::Other,
        })
    }

    fn ask<C, R>(
        &mut self,
        path: &str,
        body: &str,
        call: C,
        patience: Patience,
        told: impl FnOnce(Value) -> R,
    ) -> Operation<C, R> {
        let number = self.fresh();
        let id = format!("{}-{}-{number}", self.name, self.process);
        let invoked = self.now();
        let heard = match patience {
            Patience::Repeats => self.client.call(path, &id, body),
            Patience::Once => {
                let heard = self.client.once(path, &id, body);
                self.client.go_on();
                heard.map_err(|broken| broken.to_string())
            }
        };
        let at = self.now();
        let end = match heard {
            Ok(reply) if reply.status == 200 => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                let value = match reply.body.is_empty() {
                    true => Value::Null,
                    false => serde_json::from_str(&reply.body).expect("samples answer JSON"),
                };
                End::Ok {
                    at,
                    reply: told(value),
                }
            }
            // Of a call that was repeated an attempt before may have run.
            Ok(reply) if patience == Patience::Once && has_not_run(&reply) => End::Fail { at },
            Ok(_) | Err(_) => End::Info { at },
        };
        Operation {
            process: self.process,
            call,
            invoked,
            end,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a short test")
    }
}

fn ended<C, R>(operation: &Operation<C, R>) -> bool {
    matches!(operation.end, End::Ok { .. })
}

/// What the node says of a call that certainly had no effect: every status but 500, which is what
/// an unknown outcome has (`docs/http-api.md`).
fn has_not_run(reply: &Reply) -> bool {
    reply.status != 500
}
