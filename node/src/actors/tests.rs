use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::samples;
use ghostlight_core::sdk::{ReadTurn, Turn, actor};
use ghostlight_core::turn_io::{FencingToken, TurnAsk, TurnTold};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{ActorVersion, PartitionId, Term};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::request::RequestId;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::*;

/// Longest wait for something that must happen; never reached in a run that passes.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default, Serialize, Deserialize)]
struct Odd {
    count: u32,
}

#[actor(name = "odd")]
impl Odd {
    fn bump(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn panic(&mut self) {
        self.count = 1_000;
        panic!("on purpose: {}", self.count);
    }

    async fn hang(&mut self) {
        std::future::pending().await
    }

    #[read]
    async fn fan(&self, cx: &ReadTurn, calls: u32) -> u32 {
        let asked = (0..calls).map(|_| cx.call_raw(cx.actor(), "x", Bytes::new()));
        futures::future::join_all(asked).await.len() as u32
    }

    async fn slow(&mut self, cx: &Turn) -> u64 {
        cx.call_raw(cx.actor(), "x", Bytes::new()).await;
        cx.deadline_remaining()
            .map_or(0, |left| left.as_millis() as u64)
    }
}

/// Threads on which actors of type `mortal` were dropped.
static DROPPED_ON: std::sync::Mutex<Vec<std::thread::ThreadId>> = std::sync::Mutex::new(Vec::new());

/// Its destructor is as bad as one may be.
#[derive(Default, Serialize, Deserialize)]
struct Mortal {
    lived: bool,
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if self.lived {
            DROPPED_ON.lock().unwrap().push(std::thread::current().id());
            panic!("on purpose, in a destructor");
        }
    }
}

#[actor(name = "mortal")]
impl Mortal {
    fn live(&mut self) -> bool {
        self.lived = true;
        self.lived
    }
}

struct Bench {
    runtime: Runtime,
    executor: Executor,
    inputs: mpsc::Receiver<RunnerInput>,
    rows: BTreeMap<u64, BTreeMap<Bytes, Bytes>>,
}

impl Bench {
    fn new(queue: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let (sink, inputs) = mpsc::channel(queue);
        let registry = samples::registry().with::<Odd>().with::<Mortal>();
        let clock: Clock = Arc::new(|| Instant(1_000_000));
        let handle = runtime.handle().clone();
        Self {
            executor: Executor::on(Workers::on(handle), registry, Arc::new(sink), clock),
            runtime,
            inputs,
            rows: BTreeMap::new(),
        }
    }

    fn begin(&mut self, turn: TurnId, actor_type: &str, method: &str, body: &str) {
        self.executor.perform(RunnerEffect::Run(TurnStart {
            turn,
            actor: ActorKey::new("default", actor_type, "a").unwrap(),
            method: method.to_owned(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            request: RequestId::Derived(1),
            stamp: Stamp {
                wall_ms: 5,
                seed: 9,
            },
            deadline: Some(Instant(8_000_000)),
            chain: Vec::new(),
            token: FencingToken {
                term: Term(1),
                base: ActorVersion(0),
            },
            metadata: Vec::new(),
            wakeup: None,
        }));
        self.executor.begin();
    }

    #[track_caller]
    fn next(&mut self) -> RunnerInput {
        let inputs = &mut self.inputs;
        let waited = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, inputs.recv()).await });
        waited
            .expect("an input arrives in time")
            .expect("the sink lives")
    }

    /// Answers state asks until a turn ends.
    #[track_caller]
    fn until_end(&mut self) -> (TurnId, TurnEnd) {
        loop {
            match self.next() {
                RunnerInput::Ended { turn, end } => {
                    if let TurnEnd::Ok { writes, .. } = &end {
                        let rows = self.rows.entry(turn.activation.number).or_default();
                        let written = writes.iter().cloned();
                        rows.extend(written.filter_map(|w| Some((w.key, w.value?))));
                    }
                    return (turn, end);
                }
                RunnerInput::Asked { turn, ask, what } => {
                    let told = match what {
                        TurnAsk::Get { key } => {
                            let rows = self.rows.entry(turn.activation.number).or_default();
                            TurnTold::Value(rows.get(&key).cloned())
                        }
                        TurnAsk::Call { .. } => TurnTold::Called(CallOutcome::Reply(Bytes::new())),
                        TurnAsk::Scan { .. } => panic!("no test scans"),
                        TurnAsk::Commit(_) | TurnAsk::Left { .. } => {
                            panic!("native turns commit whole, and none is entered")
                        }
                    };
                    self.executor
                        .perform(RunnerEffect::Tell { turn, ask, told });
                }
            }
        }
    }

    #[track_caller]
    fn turn(&mut self, number: u64, actor_type: &str, method: &str, body: &str) -> TurnEnd {
        let turn = turn_id(1, number);
        self.begin(turn, actor_type, method, body);
        let (ended, end) = self.until_end();
        assert_eq!(ended, turn);
        end
    }

    #[track_caller]
    fn reply(&mut self, number: u64, actor_type: &str, method: &str, body: &str) -> Bytes {
        match self.turn(number, actor_type, method, body) {
            TurnEnd::Ok { reply, .. } => reply,
            end => panic!("{method}: {end:?}"),
        }
    }
}

fn turn_id(activation: u64, number: u64) -> TurnId {
    TurnId {
        activation: ActivationId {
            partition: PartitionId(3),
            term: Term(1),
            number: activation,
        },
        number,
    }
}

#[test]
fn turns_keep_their_object_and_reset_forgets_it() {
    let mut bench = Bench::new(64);
    assert_eq!(bench.reply(1, "counter", "add", "2"), "2");
    assert_eq!(bench.reply(2, "counter", "add", "3"), "5");
    // Memory is ahead of the store: only a reset makes the actor look again.
    bench.rows.clear();
    assert_eq!(bench.reply(3, "counter", "get", ""), "5");
    bench
        .executor
        .perform(RunnerEffect::Reset(turn_id(1, 0).activation));
    assert_eq!(bench.reply(4, "counter", "get", ""), "0");
    assert_eq!(bench.executor.activations(), 1);
}

#[test]
fn destructors_run_where_actors_run_and_their_panics_stay_there() {
    let mut bench = Bench::new(64);
    let activation = turn_id(1, 0).activation;
    for (number, effect) in [
        (1, RunnerEffect::Reset(activation)),
        (2, RunnerEffect::Drop(activation)),
    ] {
        assert_eq!(bench.reply(number, "mortal", "live", ""), "true");
        bench.executor.perform(effect);
        let begun = std::time::Instant::now();
        while DROPPED_ON.lock().unwrap().len() < number as usize {
            assert!(begun.elapsed() < PATIENCE, "it is dropped");
            std::thread::yield_now();
        }
    }
    let here = std::thread::current().id();
    assert!(!DROPPED_ON.lock().unwrap().contains(&here));
    bench.rows.clear();
    assert_eq!(bench.reply(3, "counter", "add", "2"), "2");
}

#[test]
fn an_unknown_type_is_refused_and_leaves_nothing() {
    let mut bench = Bench::new(1);
    let TurnEnd::Refused(refusal) = bench.turn(1, "ghost", "x", "") else {
        panic!("refused");
    };
    assert_eq!(refusal.code, Code::UnknownActorType);
    assert_eq!(bench.executor.activations(), 0);
}

#[test]
fn a_panic_ends_the_turn_alone() {
    let mut bench = Bench::new(64);
    assert_eq!(bench.reply(1, "odd", "bump", ""), "1");
    let TurnEnd::Panicked { message } = bench.turn(2, "odd", "panic", "") else {
        panic!("panicked");
    };
    assert_eq!(message, "on purpose: 1000");
    assert_eq!(bench.reply(3, "odd", "bump", ""), "2");
}

#[test]
fn drop_abandons_a_running_turn() {
    let mut bench = Bench::new(64);
    let turn = turn_id(1, 1);
    bench.begin(turn, "odd", "hang", "");
    let RunnerInput::Asked { ask, .. } = bench.next() else {
        panic!("it reads its state first");
    };
    let told = TurnTold::Value(None);
    bench.executor.perform(RunnerEffect::Tell {
        turn,
        ask,
        told: told.clone(),
    });
    bench.executor.perform(RunnerEffect::Drop(turn.activation));
    assert_eq!(bench.executor.activations(), 0);
    // Late answers, also for asks that never were.
    bench.executor.perform(RunnerEffect::Tell {
        turn,
        ask,
        told: told.clone(),
    });
    bench.executor.perform(RunnerEffect::Tell {
        turn,
        ask: 77,
        told,
    });
    bench.executor.perform(RunnerEffect::Drop(turn.activation));
    // Nothing of the abandoned turn is heard: the next input is the next turn's.
    bench.begin(turn_id(2, 1), "counter", "add", "1");
    let (ended, _) = bench.until_end();
    assert_eq!(ended, turn_id(2, 1));
}

#[test]
fn a_deposed_turn_ends() {
    let mut bench = Bench::new(64);
    let turn = turn_id(1, 1);
    bench.begin(turn, "odd", "bump", "");
    let RunnerInput::Asked { ask, .. } = bench.next() else {
        panic!("it reads its state first");
    };
    let told = TurnTold::Deposed;
    bench
        .executor
        .perform(RunnerEffect::Tell { turn, ask, told });
    let (_, end) = bench.until_end();
    assert!(
        matches!(&end, TurnEnd::Refused(r) if r.code == Code::LeaderMoved),
        "{end:?}"
    );
}

#[test]
fn asks_are_numbered_from_one_and_bounded() {
    let calls = TURN_ASKS_MAX as u32 + 10;
    let mut bench = Bench::new(256);
    let turn = turn_id(1, 1);
    bench.begin(turn, "odd", "fan", &calls.to_string());
    let RunnerInput::Asked { ask: 1, .. } = bench.next() else {
        panic!("it reads its state first");
    };
    let told = TurnTold::Value(None);
    bench
        .executor
        .perform(RunnerEffect::Tell { turn, ask: 1, told });
    let mut open: BTreeSet<u32> = BTreeSet::new();
    for number in 2..2 + TURN_ASKS_MAX as u32 {
        let RunnerInput::Asked { ask, .. } = bench.next() else {
            panic!("it calls");
        };
        assert_eq!(ask, number);
        open.insert(ask);
    }
    // One more only for each that is answered.
    for answered in 2..2 + calls {
        assert!(open.remove(&answered), "{answered} was asked");
        let told = TurnTold::Called(CallOutcome::Reply(Bytes::new()));
        bench.executor.perform(RunnerEffect::Tell {
            turn,
            ask: answered,
            told,
        });
        if (open.len() as u32) < 1 + calls - answered {
            let RunnerInput::Asked { ask, .. } = bench.next() else {
                panic!("the next one goes out");
            };
            assert!(open.insert(ask));
        }
        assert!(open.len() <= TURN_ASKS_MAX);
    }
    let (_, end) = bench.until_end();
    let TurnEnd::Ok { reply, .. } = end else {
        panic!("{end:?}")
    };
    assert_eq!(reply, calls.to_string());
}

#[test]
fn a_turn_sees_the_clock_of_the_node() {
    assert_eq!(Bench::new(64).reply(1, "odd", "slow", ""), "7");
}

#[test]
fn many_activations_through_a_queue_of_one() {
    let mut bench = Bench::new(1);
    let count = 500;
    for number in 1..=count {
        bench.begin(turn_id(number, 1), "counter", "add", &number.to_string());
    }
    let mut ended = BTreeMap::new();
    while ended.len() < count as usize {
        let (turn, end) = bench.until_end();
        let TurnEnd::Ok { reply, .. } = end else {
            panic!("{end:?}")
        };
        ended.insert(turn.activation.number, reply);
    }
    assert!(
        ended
            .iter()
            .all(|(number, reply)| *reply == number.to_string())
    );
    assert_eq!(bench.executor.activations(), count as usize);
    for number in 1..=count {
        bench
            .executor
            .perform(RunnerEffect::Drop(turn_id(number, 1).activation));
    }
    assert_eq!(bench.executor.activations(), 0);
}

#[test]
#[should_panic(expected = "begins while")]
fn two_turns_at_once_are_a_bug_of_the_core() {
    let mut bench = Bench::new(64);
    bench.begin(turn_id(1, 1), "odd", "hang", "");
    bench.begin(turn_id(1, 2), "odd", "hang", "");
}

#[test]
fn an_ending_executor_abandons_its_turns() {
    let mut bench = Bench::new(64);
    bench.begin(turn_id(1, 1), "odd", "hang", "");
    bench.next();
    drop(bench.executor);
    let inputs = &mut bench.inputs;
    let ended = bench
        .runtime
        .block_on(async { tokio::time::timeout(PATIENCE, inputs.recv()).await });
    assert_eq!(ended.expect("the last sink goes with the last turn"), None);
}
