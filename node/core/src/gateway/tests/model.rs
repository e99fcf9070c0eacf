//! A model cluster: partitions whose leaders change, nodes that are silent for a while, frames and
//! answers that are lost, late or doubled. It knows which requests ran, so it can tell whether
//! outcomes are honest.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::outbox::tests::model::{Reproduce, seeds};
use ghostlight_protocol::closed::Closed;
use ghostlight_protocol::hash::partition_of;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PARTITIONS: u16 = 4;
const NODES: [NodeId; 4] = [ME, A, B, C];
const FAULTS_END: Instant = Instant(30_000_000_000);
const HEALED_BY: Instant = Instant(80_000_000_000);

/// One partition as its log has it.
#[derive(Default)]
struct Shard {
    term: u64,
    leader: Option<NodeId>,
    closed: Closed,
    /// Records by canonical id.
    records: BTreeMap<Bytes, Bytes>,
    /// Every id that ever ran, records dropped or not.
    ran: BTreeSet<Bytes>,
}

enum Event {
    Request(NodeId, CallRequest),
    /// A turn that began under this term ends.
    Ended(NodeId, u64, CallRequest),
    Gateway(GatewayInput),
    Tick,
    Work,
    Depose(usize),
    Elect(usize),
    Freeze,
    Thaw(NodeId),
}

struct Expected {
    deadline: Option<Instant>,
    partition: usize,
    id: Option<Bytes>,
}

struct World {
    rng: ChaCha8Rng,
    gateway: Gateway,
    map: Map,
    now: Instant,
    number: u64,
    events: BTreeMap<(Instant, u64), Event>,
    shards: Vec<Shard>,
    frozen: BTreeSet<NodeId>,
    calls: BTreeMap<CallTicket, Expected>,
    /// Ids that were reported as not run: they must never run.
    not_run: Vec<(usize, Bytes)>,
    replies: u64,
    not_runs: u64,
    unknowns: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = GatewaySettings {
            calls_max: 64,
            ..GatewaySettings::default()
        };
        let map = Map {
            candidates: NODES.to_vec(),
            ..Map::default()
        };
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            gateway: Gateway::new(ME, Generation(9), PARTITIONS, settings, seed),
            map,
            now: ms(0),
            number: 0,
            events: BTreeMap::new(),
            shards: (0..PARTITIONS).map(|_| Shard::default()).collect(),
            frozen: BTreeSet::new(),
            calls: BTreeMap::new(),
            not_run: Vec::new(),
            replies: 0,
            not_runs: 0,
            unknowns: 0,
        };
        for shard in 0..usize::from(PARTITIONS) {
            world.after(10, Event::Elect(shard));
            world.after(2_000, Event::Depose(shard));
        }
        world.after(1, Event::Work);
        world.after(5_000, Event::Freeze);
        world
    }

    fn faults(&self) -> bool {
        self.now < FAULTS_END
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.faults() && self.rng.random_range(0..100) < percent
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.number += 1;
        let at = self.now + Duration::from_millis(millis);
        self.events.insert((at, self.number), event);
    }

    fn delay(&mut self) -> u64 {
        match self.chance(5) {
            true => self.rng.random_range(100..5_000),
            false => self.rng.random_range(0..4),
        }
    }

    fn feed(&mut self, input: GatewayInput) {
        let mut out = Vec::new();
        self.gateway.handle(self.now, input, &self.map, &mut out);
        for effect in out {
            match effect {
                GatewayEffect::Send { to, request } => self.sent(to, request),
                GatewayEffect::Done { waiter, outcome } => self.done(waiter, outcome),
                GatewayEffect::Hangup { .. }
                | GatewayEffect::AskRoutes(_)
                | GatewayEffect::Overrun { .. } => {}
            }
        }
        if let Some(at) = self.gateway.next_deadline() {
            self.number += 1;
            let at = at.max(self.now);
            self.events.insert((at, self.number), Event::Tick);
        }
    }

    fn sent(&mut self, to: NodeId, request: CallRequest) {
        let id = &request.request_id;
        let ticket = CallTicket(u64::from_be_bytes(request.body[..].try_into().unwrap()));
        if let Some(call) = self.calls.get_mut(&ticket) {
            call.id = Some(id.clone());
        }
        if let Some(RequestId::Session { sequence, .. }) = RequestId::parse(id) {
            let closed = Closed::new(request.closed_below, &request.closed_ranges);
            assert!(!closed.contains(sequence), "an open call was closed");
        }
        if self.chance(3) {
            let call = request.call;
            return self.after(0, Event::Gateway(GatewayInput::NotSent { to, call }));
        }
        if !self.chance(3) {
            let delay = self.delay();
            self.after(delay, Event::Request(to, request));
        }
    }

    fn done(&mut self, waiter: Waiter, outcome: CallOutcome) {
        let Waiter::Client(ticket) = waiter else {
            panic!("no turns here");
        };
        let call = self.calls.remove(&ticket).expect("each call ends once");
        assert!(
            call.deadline.is_none_or(|deadline| self.now <= deadline),
            "{ticket:?} ended after its deadline"
        );
        match outcome {
            CallOutcome::Reply(body) => {
                // The reply names the request that ran.
                let shard = &self.shards[call.partition];
                assert!(shard.ran.contains(&body), "a reply without a turn");
                assert_eq!(call.id, Some(body), "{ticket:?} got another call's reply");
                self.replies += 1;
            }
            CallOutcome::AppReply(_) => panic!("no application here"),
            CallOutcome::NotRun(refusal) => {
                self.not_runs += 1;
                if refusal.code == Code::GatewayFull {
                    return;
                }
                // Only an id that the model knows can be watched.
                if let Some(id) = call.id {
                    self.not_run.push((call.partition, id));
                }
            }
            CallOutcome::Unknown { .. } => self.unknowns += 1,
            CallOutcome::App(error) => panic!("nobody refuses here: {error:?}"),
        }
    }

    fn work(&mut self) {
        let pause = self.rng.random_range(1..40);
        if self.faults() {
            self.after(pause, Event::Work);
        }
        self.number += 1;
        let ticket = CallTicket(self.number);
        let actor = format!("a{}", self.rng.random_range(0..20));
        let actor = ActorKey::new("default", "counter", &actor).unwrap();
        let partition = usize::from(partition_of(&actor, PARTITIONS).0);
        let deadline = match self.rng.random_range(0..3) {
            0 => None,
            1 => Some(self.now + Duration::from_millis(self.rng.random_range(1..600))),
            _ => Some(self.now + Duration::from_secs(self.rng.random_range(1..10))),
        };
        let own_id = self.rng.random_range(0..2) == 0;
        let request_id = own_id.then(|| Bytes::from(format!("o{}", ticket.0)));
        let id = request_id
            .as_deref()
            .map(|id| RequestId::outside(id).unwrap().to_bytes());
        self.calls.insert(
            ticket,
            Expected {
                deadline,
                partition,
                id,
            },
        );
        let body = Bytes::copy_from_slice(&ticket.0.to_be_bytes());
        self.feed(GatewayInput::Call {
            ticket,
            call: ClientCall {
                metadata: Vec::new(),
                actor,
                method: "add".to_owned(),
                body,
                request_id,
                deadline,
                stamp: Stamp::default(),
            },
        });
        if self.chance(3) && self.calls.remove(&ticket).is_some() {
            self.feed(GatewayInput::Hangup(ticket));
        }
    }

    fn answer(&mut self, from: NodeId, request: &CallRequest, kind: AnswerKind) {
        let copies = match self.chance(5) {
            true => 2 * self.rng.random_range(0..=1),
            false => 1,
        };
        for _ in 0..copies {
            let answer = CallAnswer {
                call: request.call,
                kind: Some(kind.clone()),
            };
            let delay = self.delay();
            self.after(delay, Event::Gateway(GatewayInput::Answer { from, answer }));
        }
    }

    fn hint(&mut self, shard: usize) -> Option<LeaderHint> {
        let known = self.rng.random_range(0..2) == 0;
        let Shard { term, leader, .. } = self.shards[shard];
        known.then(|| LeaderHint {
            partition: shard as u32,
            ..hint(term, leader)
        })
    }

    fn request(&mut self, at: NodeId, request: CallRequest) {
        if self.frozen.contains(&at) {
            // Read when it wakes up, or never.
            if self.rng.random_range(0..2) == 0 {
                self.after(500, Event::Request(at, request));
            }
            return;
        }
        let number = request.partition as usize;
        if self.shards[number].leader != Some(at) {
            let hint = self.hint(number);
            return self.answer(at, &request, redirect(hint, MayHaveRun::No));
        }
        let shard = &self.shards[number];
        if let Some(record) = shard.records.get(&request.request_id) {
            let record = record.clone();
            return self.answer(at, &request, AnswerKind::Reply(record));
        }
        let code = match self.chance(15) {
            false => {
                let turn = if self.chance(20) { 400 } else { 6 };
                let delay = self.rng.random_range(0..turn);
                let term = self.shards[number].term;
                return self.after(delay, Event::Ended(at, term, request));
            }
            true => [
                Code::MailboxFull,
                Code::LeaderMoved,
                Code::MinCopies,
                Code::UnknownMethod,
            ][self.rng.random_range(0..4)],
        };
        self.answer(at, &request, refusal(code, 5));
    }

    fn ended(&mut self, at: NodeId, term: u64, request: &CallRequest) {
        let number = request.partition as usize;
        let still = self.shards[number].term == term && self.shards[number].leader == Some(at);
        // What a deposed leader proposed may have been kept by the next one.
        if !still && self.rng.random_range(0..2) == 0 {
            self.answer_deposed(at, request, MayHaveRun::No);
            return;
        }
        let shard = &mut self.shards[number];
        let id = request.request_id.clone();
        let closed = match RequestId::parse(&id) {
            Some(RequestId::Session { sequence, .. }) => shard.closed.contains(sequence),
            _ => false,
        };
        if closed {
            let closed = AnswerKind::Unknown(UnknownAnswer {
                code: u32::from(Code::SessionClosed.number()),
                detail: "closed".to_owned(),
            });
            return self.answer(at, request, closed);
        }
        if !shard.records.contains_key(&id) {
            assert!(shard.ran.insert(id.clone()), "{id:?} ran twice");
            shard.records.insert(id.clone(), id.clone());
        }
        let told = Closed::new(request.closed_below, &request.closed_ranges);
        shard.closed.join(&told);
        let closed = shard.closed.clone();
        shard.records.retain(|id, _| match RequestId::parse(id) {
            Some(RequestId::Session { sequence, .. }) => !closed.contains(sequence),
            _ => true,
        });
        match still {
            true => self.answer(at, request, AnswerKind::Reply(id)),
            false => self.answer_deposed(at, request, MayHaveRun::Yes),
        }
    }

    fn answer_deposed(&mut self, at: NodeId, request: &CallRequest, truth: MayHaveRun) {
        let hint = self.hint(request.partition as usize);
        // It may not know, and must then say that it may have run.
        let said = match self.rng.random_range(0..2) {
            0 => truth,
            _ => MayHaveRun::Yes,
        };
        if !self.chance(30) {
            self.answer(at, request, redirect(hint, said));
        }
    }

    fn elect(&mut self, number: usize) {
        let free: Vec<_> = NODES
            .into_iter()
            .filter(|node| !self.frozen.contains(node))
            .collect();
        let leader = free[self.rng.random_range(0..free.len())];
        let shard = &mut self.shards[number];
        shard.term += 1;
        shard.leader = Some(leader);
        let announced = LeaderHint {
            partition: number as u32,
            ..hint(shard.term, Some(leader))
        };
        if !self.chance(30) {
            let delay = self.delay();
            self.after(delay, Event::Gateway(GatewayInput::Leader(announced)));
        }
        if !self.chance(30) {
            let partition = PartitionId(number as u16);
            let term = Term(self.shards[number].term);
            self.map.leaders.insert(partition, (term, leader));
        }
    }

    fn depose(&mut self, number: usize) {
        if self.faults() {
            self.shards[number].leader = None;
            let gap = self.rng.random_range(1..1_500);
            let next = self.rng.random_range(100..4_000);
            self.after(gap, Event::Elect(number));
            self.after(gap + next, Event::Depose(number));
        }
    }

    fn freeze(&mut self) {
        if !self.faults() {
            return;
        }
        let node = NODES[self.rng.random_range(1..NODES.len())];
        self.frozen.insert(node);
        self.map.unreachable.push(node);
        self.after(400, Event::Gateway(GatewayInput::Silent(node)));
        let thaw = self.rng.random_range(100..3_000);
        self.after(thaw, Event::Thaw(node));
        let next = self.rng.random_range(500..6_000);
        self.after(thaw + next, Event::Freeze);
    }

    fn run(&mut self) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            assert!(
                at < HEALED_BY,
                "still busy long after the faults have ended"
            );
            self.now = self.now.max(at);
            match event {
                Event::Request(to, request) => self.request(to, request),
                Event::Ended(at, term, request) => self.ended(at, term, &request),
                Event::Gateway(input) => self.feed(input),
                Event::Tick => {
                    if self
                        .gateway
                        .next_deadline()
                        .is_some_and(|due| due <= self.now)
                    {
                        self.feed(GatewayInput::Tick);
                    }
                }
                Event::Work => self.work(),
                Event::Depose(number) => self.depose(number),
                Event::Elect(number) => self.elect(number),
                Event::Freeze => self.freeze(),
                Event::Thaw(node) => {
                    self.frozen.remove(&node);
                    self.map.unreachable.retain(|n| *n != node);
                }
            }
        }
        // A request that the network has swallowed keeps its caller waiting if there is no
        // deadline.
        let endless = self.calls.values().all(|call| call.deadline.is_none());
        assert!(endless, "a call outlived its deadline");
        for (number, id) in &self.not_run {
            let ran = self.shards[*number].ran.contains(id);
            assert!(!ran, "{id:?} was reported as not run, and ran");
        }
    }
}

#[test]
fn outcomes_are_honest() {
    let (mut replies, mut not_runs, mut unknowns) = (0, 0, 0);
    let seeds = seeds(30);
    for seed in seeds.iter().copied() {
        let _reproduce = Reproduce(seed, "outcomes_are_honest");
        let mut world = World::new(seed);
        world.run();
        replies += world.replies;
        not_runs += world.not_runs;
        unknowns += world.unknowns;
        let all = world.replies + world.not_runs + world.unknowns;
        assert!(world.replies * 2 > all, "few of {all} calls were answered");
    }
    // Every kind of outcome was put to the test.
    if seeds.len() > 1 {
        assert!(replies > 0 && not_runs > 100 && unknowns > 100);
    }
}
