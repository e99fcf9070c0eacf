//! Random histories against applications that keep what they changed: whatever happens to
//! processes, answers and leaders, no object with other state than what is stored is called, none
//! is told to go that is not there, and a call that is started again by the next leader does not
//! run twice.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Seeds of one run.
const SEEDS: u64 = 2_000;
/// Things that happen in one history.
const STEPS: u32 = 80;

/// What an object in a process has in memory: state by its number, or (`None`) what was never
/// committed.
type Memory = Option<u64>;

/// The last call that was started, until it counts: the next leader may start it again.
struct Call {
    number: u64,
    /// The version that it was started on last.
    base: u64,
    /// The one that its method was called on, unless that was given up since.
    ran_on: Option<u64>,
}

/// What is asked of a process.
#[derive(Clone, Copy)]
struct Asked {
    process: u64,
    goes: bool,
    /// The state that was stored then.
    stored: u64,
}

struct World {
    bed: Bed,
    rng: ChaCha8Rng,
    seed: u64,
    /// Processes that live, and their objects.
    living: BTreeMap<u64, Option<Memory>>,
    hosting: Option<u64>,
    last_process: u64,
    /// Requests without an answer yet.
    asked: BTreeMap<Exchange, Asked>,
    /// Processes in which a turn without an answer may still change the object.
    runs_on: Vec<u64>,
    /// Processes in which a turn had no answer.
    in_doubt: BTreeSet<u64>,
    version: u64,
    /// Which of the states of that version is stored; and the last number.
    stored: u64,
    last_stored: u64,
    /// What the turn that runs, or has run last, leaves if it counts.
    leaves: u64,
    term: u64,
    turn: Option<TurnId>,
    turns: u64,
    call: Option<Call>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            bed: Bed::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
            living: BTreeMap::from([(1, None)]),
            hosting: Some(1),
            last_process: 1,
            asked: BTreeMap::new(),
            runs_on: Vec::new(),
            in_doubt: BTreeSet::new(),
            version: 7,
            stored: 1,
            last_stored: 1,
            leaves: 1,
            term: 1,
            turn: None,
            turns: 0,
            call: None,
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..10) {
            0..3 => self.begin(),
            3..6 => self.answer_one(),
            6 => self.change_late(),
            7 => self.leave(),
            8 => self.come(),
            _ => self.depose(),
        }
        self.heed();
    }

    fn begin(&mut self) {
        if self.turn.is_some() {
            return;
        }
        self.turns += 1;
        let again = self.call.is_some() && self.rng.random_bool(0.7);
        if !again {
            self.call = Some(Call {
                number: self.turns,
                base: self.version,
                ran_on: None,
            });
        }
        let call = self.call.as_mut().expect("just made, or there before");
        call.base = self.version;
        let number = call.number;
        let request = RequestId::outside(&number.to_be_bytes()).unwrap();
        let turn = self
            .bed
            .run_call(self.term, self.turns, self.version, request);
        self.turn = Some(turn);
    }

    fn answer_one(&mut self) {
        let at = self.rng.random_range(0..self.asked.len().max(1));
        let Some((exchange, asked)) = self.asked.iter().nth(at).map(|(e, a)| (*e, *a)) else {
            return;
        };
        let Asked { process, goes, .. } = asked;
        self.asked.remove(&exchange);
        let outcome = self.rng.random_range(0..6);
        if outcome == 0 {
            if !goes {
                self.may_run_again();
            }
            return self.bed.silent(exchange, Sent::CertainlyNot);
        }
        if goes {
            self.living.insert(process, None);
            self.runs_on.retain(|other| *other != process);
            return match outcome {
                1 => self.bed.silent(exchange, Sent::Maybe),
                _ => self.bed.answer(exchange, 200),
            };
        }
        let before = self.living[&process];
        match outcome {
            1 => {
                self.runs_on.push(process);
                self.in_doubt.insert(process);
                self.bed.silent(exchange, Sent::Maybe);
            }
            // It fails without having asked for anything.
            2 => self.bed.answer(exchange, 500),
            3 => {
                self.look_up();
                self.living.insert(process, Some(None));
                self.bed.answer(exchange, 500);
            }
            4 => {
                let memory = before.unwrap_or(Some(asked.stored));
                self.living.insert(process, Some(memory));
                self.bed.answer(exchange, 200);
            }
            _ => {
                self.look_up();
                let staged = self.bed.put("k") == AppOutcome::Done;
                if staged {
                    self.last_stored += 1;
                    self.leaves = self.last_stored;
                }
                let memory = staged.then_some(self.leaves);
                self.living.insert(process, Some(memory));
                self.bed.answer(exchange, if staged { 200 } else { 500 });
            }
        }
    }

    /// The code of an object asks for a value of its state.
    fn look_up(&mut self) {
        let key = Bytes::from_static(b"k");
        self.bed.call(AppCall::StateGet { key });
        for effect in std::mem::take(&mut self.bed.out) {
            if let HostEffect::Leader(RunnerInput::Asked { turn, ask, .. }) = effect {
                let told = TurnTold::Value(None);
                let tell = RunnerEffect::Tell { turn, ask, told };
                self.bed.objects.perform(NOW, tell, &mut self.bed.out);
            }
        }
        self.bed.out.clear();
    }

    /// Code whose turn has no answer asks for its state, and changes it. A request does not say
    /// which process asks: not while a turn runs in another process, or another one may ask as well
    /// and has no object.
    fn change_late(&mut self) {
        let Some(process) = self.runs_on.pop() else {
            return;
        };
        let mut asked = self.asked.values();
        // A turn that has its answer runs until all that it has asked for is there.
        let object = self.bed.objects.table.get(&actor());
        let runs = object.filter(|object| matches!(object.stage, Stage::Running(_)));
        let elsewhere = asked.any(|asked| asked.process != process && !asked.goes)
            || runs.is_some_and(|object| object.instance.0 != process);
        let mut in_doubt = self.in_doubt.iter();
        let others =
            in_doubt.any(|other| *other != process && self.living.get(other) == Some(&None));
        if !elsewhere && !others && self.living.contains_key(&process) {
            self.look_up();
            self.living.insert(process, Some(None));
        }
    }

    /// The process that hosts is out of reach, or ends.
    fn leave(&mut self) {
        let Some(process) = self.hosting.take() else {
            return;
        };
        let ends = self.rng.random_bool(0.3);
        self.bed.gone(process);
        self.heed();
        let cut: Vec<Exchange> = self.asked.keys().copied().collect();
        for exchange in cut {
            if self.asked[&exchange].process == process {
                let goes = self.asked[&exchange].goes;
                self.asked.remove(&exchange);
                if !goes && !ends {
                    self.runs_on.push(process);
                    self.in_doubt.insert(process);
                }
                self.bed.silent(exchange, Sent::Maybe);
                self.heed();
            }
        }
        if ends {
            self.living.remove(&process);
        }
    }

    /// The process that hosts has ended, and the next one is there before anybody has noticed.
    /// Answers of the one before may still come.
    fn start_again(&mut self, before: u64) {
        self.living.remove(&before);
        self.last_process += 1;
        let process = self.last_process;
        let others: Vec<AppInstance> = self.living.keys().map(|p| AppInstance(*p)).collect();
        self.living.insert(process, None);
        self.hosting = Some(process);
        self.bed.hosting_beside("shop", process, &others);
        self.heed();
        let (cut, kept) = std::mem::take(&mut self.asked)
            .into_iter()
            .partition(|(_, asked)| asked.process == before);
        self.asked = kept;
        let cut: BTreeMap<Exchange, Asked> = cut;
        for exchange in cut.into_keys() {
            match self.rng.random_bool(0.5) {
                true => self.bed.answer(exchange, 200),
                false => self.bed.silent(exchange, Sent::Maybe),
            }
            self.heed();
        }
    }

    fn come(&mut self) {
        if let Some(before) = self.hosting {
            if self.rng.random_bool(0.3) {
                self.start_again(before);
            }
            return;
        }
        let known: Vec<u64> = self.living.keys().copied().collect();
        let at = self.rng.random_range(0..=known.len());
        let process = known.get(at).copied().unwrap_or_else(|| {
            self.last_process += 1;
            self.living.insert(self.last_process, None);
            self.last_process
        });
        let others = known.into_iter().filter(|other| *other != process);
        let others: Vec<AppInstance> = others.map(AppInstance).collect();
        self.hosting = Some(process);
        self.bed.hosting_beside("shop", process, &others);
    }

    /// The activation or its leadership is over, which the leader says unless it died; perhaps the
    /// actor is written elsewhere.
    fn depose(&mut self) {
        let activation = ActivationId {
            partition: PartitionId(1),
            term: Term(self.term),
            number: 1,
        };
        let word = match self.rng.random_range(0..3) {
            0 => Some(RunnerEffect::Drop(activation)),
            1 => Some(RunnerEffect::Depose(activation)),
            _ => None,
        };
        if matches!(word, Some(RunnerEffect::Drop(_))) {
            self.may_run_again();
        }
        if let Some(word) = word {
            self.bed.objects.perform(NOW, word, &mut self.bed.out);
        }
        self.next_leader();
    }

    fn next_leader(&mut self) {
        self.turn = None;
        self.term += 1;
        if self.rng.random_bool(0.3) {
            self.version += 1;
            self.last_stored += 1;
            self.stored = self.last_stored;
        }
    }

    fn may_run_again(&mut self) {
        if let Some(call) = &mut self.call {
            call.ran_on = None;
        }
    }

    /// Looks at what the table wants.
    fn heed(&mut self) {
        while !self.bed.out.is_empty() {
            for effect in std::mem::take(&mut self.bed.out) {
                match effect {
                    HostEffect::App(AppEffect::Ask {
                        exchange,
                        instance,
                        request,
                    }) => self.hear(exchange, instance.0, &request),
                    HostEffect::Leader(RunnerInput::Ended { turn, end }) => self.ended(turn, end),
                    HostEffect::Leader(RunnerInput::Asked { turn, ask, .. }) => {
                        if self.turn == Some(turn) {
                            let told = TurnTold::Value(None);
                            let tell = RunnerEffect::Tell { turn, ask, told };
                            self.bed.objects.perform(NOW, tell, &mut self.bed.out);
                        }
                    }
                    HostEffect::App(AppEffect::Answer { .. }) | HostEffect::Operate { .. } => {}
                }
            }
        }
    }

    /// A leader hears how its turn ended, and may be gone before that counts.
    fn ended(&mut self, turn: TurnId, end: TurnEnd) {
        if self.turn != Some(turn) {
            return;
        }
        self.turn = None;
        if self.rng.random_bool(0.2) {
            return self.next_leader();
        }
        match end {
            TurnEnd::Answered(answered) => {
                self.call = None;
                if answered.staged.raises_version() {
                    self.version += 1;
                    self.stored = self.leaves;
                }
            }
            TurnEnd::Lost { .. } => self.call = None,
            TurnEnd::NotStarted { .. } => {}
            other => panic!("no application ends so: {other:?}"),
        }
    }

    fn hear(&mut self, exchange: Exchange, process: u64, request: &AppRequest) {
        let seed = self.seed;
        assert_eq!(
            self.hosting,
            Some(process),
            "seed {seed}: it can be reached"
        );
        let object = self.living[&process];
        let goes = request.callback == Callback::Deactivate;
        if goes {
            assert!(
                object.is_some(),
                "seed {seed}: it is told to go and is not there"
            );
        } else {
            let stale = object.is_some_and(|memory| memory != Some(self.stored));
            assert!(
                !stale,
                "seed {seed}: {object:?} is called for {}",
                self.stored
            );
            let call = self.call.as_mut().expect("a method is called for a call");
            let number = call.number;
            let again = call.ran_on == Some(call.base);
            assert!(!again, "seed {seed}: call {number} runs twice");
            call.ran_on = Some(call.base);
            self.runs_on.retain(|other| *other != process);
        }
        let stored = self.stored;
        let asked = Asked {
            process,
            goes,
            stored,
        };
        self.asked.insert(exchange, asked);
    }
}

#[test]
fn whatever_happens_no_object_is_called_whose_state_is_not_what_is_stored() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
    }
}
