//! Partitions that send to each other and to themselves while frames are lost, doubled and late,
//! proposals are refused and leaders change. Their rows are real: every entry goes through
//! `apply_command`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::{Command, Envelope, Kind, Send, TurnCommit, TurnKind, Turns};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PartitionId, RecoveryEpoch, Term};
use ghostlight_protocol::limits::OUTBOX_FRAME_MESSAGES_MAX;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::{EntryOutcome, TurnOutcome, apply_command};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{OutboxMark, OutboxPush};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::map_rows::MapRows;
use crate::outbox::{Outbox, OutboxEffect, OutboxInput, OutboxSettings};

const FAULTS_END: Instant = Instant(20_000_000_000);
const HEALED_BY: Instant = Instant(60_000_000_000);

struct Group {
    rows: MapRows,
    row: PartitionRow,
    term: Term,
    pump: Option<Outbox>,
    /// Proposed, not yet committed; bytes of commands.
    log: VecDeque<Vec<u8>>,
    armed: Option<Instant>,
}

enum Event {
    Push(NodeId, OutboxPush),
    Mark(NodeId, OutboxMark),
    /// The oldest proposal of this leadership commits.
    Commit(usize, Term),
    Page(usize, Term, Vec<(Bytes, Bytes)>),
    Tick(usize, Term),
    Work(usize),
    Depose(usize),
    Elect(usize),
    Changed(usize, usize),
}

struct World {
    rng: ChaCha8Rng,
    settings: OutboxSettings,
    now: Instant,
    number: u64,
    events: BTreeMap<(Instant, u64), Event>,
    groups: Vec<Group>,
    /// Bodies by source and destination, in the order of their rows, and as they were accepted.
    sent: BTreeMap<(usize, usize), Vec<Bytes>>,
    accepted: BTreeMap<(usize, usize), Vec<Bytes>>,
}

fn id(group: usize) -> PartitionId {
    PartitionId(group as u16)
}

impl World {
    fn new(seed: u64, groups: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let settings = OutboxSettings {
            lane_rows: rng.random_range(1..20),
            lane_bytes: rng.random_range(1..2_000),
            memory_bytes: rng.random_range(1..4_000),
            page_rows: rng.random_range(1..12),
            push_again: Duration::from_millis(500),
        };
        let group = || Group {
            rows: MapRows::default(),
            row: PartitionRow::founded(NodeId(1)),
            term: Term(5),
            pump: None,
            log: VecDeque::new(),
            armed: None,
        };
        let mut world = Self {
            rng,
            settings,
            now: Instant(0),
            number: 0,
            events: BTreeMap::new(),
            groups: (0..groups).map(|_| group()).collect(),
            sent: BTreeMap::new(),
            accepted: BTreeMap::new(),
        };
        for group in 0..groups {
            world.after(0, Event::Elect(group));
            world.after(1, Event::Work(group));
            world.after(3_000, Event::Depose(group));
        }
        world
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.now < FAULTS_END && self.rng.random_range(0..100) < percent
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.number += 1;
        let at = self.now + Duration::from_millis(ms);
        self.events.insert((at, self.number), event);
    }

    fn frame(&mut self, make: impl Fn() -> Event) {
        let copies = match self.rng.random_range(0..100) {
            _ if self.now >= FAULTS_END => 1,
            0..15 => 0,
            15..25 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = match self.chance(10) {
                true => self.rng.random_range(100..2_000),
                false => self.rng.random_range(0..5),
            };
            self.after(delay, make());
        }
    }

    /// Each leadership is a node of its own.
    fn node(&self, group: usize) -> NodeId {
        NodeId((group as u128) << 64 | u128::from(self.groups[group].term.0))
    }

    fn feed(&mut self, group: usize, input: OutboxInput) {
        let Some(mut pump) = self.groups[group].pump.take() else {
            return;
        };
        let mut out = Vec::new();
        let delivered = match &input {
            OutboxInput::Applied(EntryOutcome::Accepted { messages, .. }) => messages.clone(),
            _ => Vec::new(),
        };
        pump.handle(self.now, input, &mut out);
        let told: Vec<_> = out
            .iter()
            .filter_map(|effect| match effect {
                OutboxEffect::Deliver(messages) => Some(messages.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(told, delivered, "what was accepted is delivered");
        let one_row_each = 200 * self.groups.len();
        assert!(pump.held_bytes() <= self.settings.memory_bytes + one_row_each);
        self.perform(group, &mut pump, out);
        self.groups[group].pump = Some(pump);
        self.arm(group);
    }

    fn perform(&mut self, group: usize, pump: &mut Outbox, out: Vec<OutboxEffect>) {
        let proposals = out
            .iter()
            .filter(|effect| matches!(effect, OutboxEffect::Propose(_)))
            .count();
        assert!(proposals <= 1, "one proposal for each input");
        let from = self.node(group);
        for effect in out {
            match effect {
                OutboxEffect::Push(push) => {
                    assert!(push.messages.len() <= OUTBOX_FRAME_MESSAGES_MAX);
                    for (sequence, message) in (push.first..).zip(&push.messages) {
                        assert_eq!(message.sequence, sequence, "a run has no gaps");
                    }
                    self.frame(|| Event::Push(from, push.clone()));
                }
                OutboxEffect::Mark { to, mark } => {
                    self.frame(|| Event::Mark(to, mark.clone()));
                }
                OutboxEffect::Propose(kind) => {
                    if self.chance(10) {
                        let mut more = Vec::new();
                        pump.handle(self.now, OutboxInput::Dropped, &mut more);
                        self.perform(group, pump, more);
                    } else {
                        self.propose(group, kind);
                    }
                }
                OutboxEffect::ReadOutbox { after, limit } => {
                    let limit = self.rng.random_range(1..=limit);
                    let rows = &self.groups[group].rows;
                    let page = rows.family(Family::Outbox, after.as_ref(), limit);
                    let delay = self.rng.random_range(0..20);
                    let term = self.groups[group].term;
                    self.after(delay, Event::Page(group, term, page));
                }
                OutboxEffect::Deliver(_) => {}
            }
        }
    }

    fn propose(&mut self, group: usize, kind: Kind) {
        let term = self.groups[group].term;
        let command = Command {
            leader_term: term.0,
            kind: Some(kind),
            ..Command::default()
        };
        self.groups[group].log.push_back(command.encode_to_vec());
        let delay = self.rng.random_range(0..15);
        self.after(delay, Event::Commit(group, term));
    }

    fn arm(&mut self, group: usize) {
        let due = self.groups[group]
            .pump
            .as_ref()
            .and_then(Outbox::next_deadline);
        if let Some(at) = due
            && self.groups[group]
                .armed
                .is_none_or(|armed| at < armed || armed < self.now)
        {
            self.groups[group].armed = Some(at);
            let term = self.groups[group].term;
            self.number += 1;
            let at = at.max(self.now);
            self.events
                .insert((at, self.number), Event::Tick(group, term));
        }
    }

    fn apply(&mut self, group: usize, data: &[u8]) -> EntryOutcome {
        let g = &mut self.groups[group];
        let at = LogPosition {
            term: g.term,
            index: LogIndex(g.row.applied_index + 1),
        };
        let Ok(outcome) = apply_command(id(group), &mut g.rows, &mut g.row, at, data);
        match &outcome {
            EntryOutcome::Turns(turns) => {
                for (destination, _, message) in outbox_of(turns) {
                    let pair = (group, usize::from(destination.0));
                    self.sent
                        .entry(pair)
                        .or_default()
                        .push(message.body.clone());
                }
            }
            EntryOutcome::Accepted {
                source, messages, ..
            } => {
                let pair = (usize::from(source.0), group);
                let bodies = messages.iter().map(|(_, message)| message.body.clone());
                self.accepted.entry(pair).or_default().extend(bodies);
            }
            _ => {}
        }
        outcome
    }

    fn commit(&mut self, group: usize) {
        let data = self.groups[group].log.pop_front().expect("was proposed");
        match self.apply(group, &data) {
            EntryOutcome::Turns(turns) => {
                self.feed(group, OutboxInput::Committed(outbox_of(&turns)));
            }
            outcome => self.feed(group, OutboxInput::Applied(outcome)),
        }
    }

    fn work(&mut self, group: usize) {
        let pause = self.rng.random_range(1..60);
        if self.now < FAULTS_END {
            self.after(pause, Event::Work(group));
        }
        if self.groups[group].pump.is_none() || self.now >= FAULTS_END {
            return;
        }
        self.number += 1;
        let name = format!("a{}", self.number);
        let actor = ActorKey::new("default", "sender", &name).unwrap();
        let sends = (0..self.rng.random_range(1..6))
            .map(|n| Send {
                destination: self.rng.random_range(0..self.groups.len()) as u32,
                actor: actor.to_bytes(),
                method: "note".to_owned(),
                body: format!("{name}.{n}").into(),
            })
            .collect();
        let turn = TurnCommit {
            actor: actor.to_bytes(),
            kind: TurnKind::Write as i32,
            sends,
            ..TurnCommit::default()
        };
        self.propose(group, Kind::Turns(Turns { turns: vec![turn] }));
    }

    fn depose(&mut self, group: usize) {
        if self.now >= FAULTS_END {
            return;
        }
        self.groups[group].pump = None;
        // Any beginning of what was proposed survives in the log of the next leader.
        let survive = self.rng.random_range(0..=self.groups[group].log.len());
        for _ in 0..survive {
            let data = self.groups[group].log.pop_front().expect("counted");
            self.apply(group, &data);
        }
        self.groups[group].log.clear();
        let pause = self.rng.random_range(0..1_500);
        self.after(pause, Event::Elect(group));
        let next = self.rng.random_range(200..4_000);
        self.after(pause + next, Event::Depose(group));
    }

    fn elect(&mut self, group: usize) {
        self.groups[group].term.0 += 1;
        self.groups[group].armed = None;
        self.apply(group, &[]);
        let mut out = Vec::new();
        let mut pump = Outbox::open(
            id(group),
            RecoveryEpoch(0),
            self.now,
            self.settings,
            &mut out,
        );
        self.perform(group, &mut pump, out);
        self.groups[group].pump = Some(pump);
        for other in 0..self.groups.len() {
            if !self.chance(30) {
                let delay = self.rng.random_range(0..10);
                self.after(delay, Event::Changed(other, group));
            }
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Push(from, push) => {
                let to = push.destination as usize;
                if self.groups[to].pump.is_some() {
                    return self.feed(to, OutboxInput::Push { from, push });
                }
                let mark = OutboxMark {
                    source: push.source,
                    source_epoch: push.source_epoch,
                    destination: push.destination,
                    ..OutboxMark::default()
                };
                self.frame(|| Event::Mark(from, mark.clone()));
            }
            Event::Mark(to, mark) => {
                let source = mark.source as usize;
                if to == self.node(source) {
                    self.feed(source, OutboxInput::Mark(mark));
                }
            }
            Event::Commit(group, term) => {
                if self.leads(group, term) {
                    self.commit(group);
                }
            }
            Event::Page(group, term, page) => {
                if self.leads(group, term) {
                    self.feed(group, OutboxInput::Rows(page));
                }
            }
            Event::Tick(group, term) => {
                if self.leads(group, term) {
                    self.groups[group].armed = None;
                    self.feed(group, OutboxInput::Tick);
                }
            }
            Event::Work(group) => self.work(group),
            Event::Depose(group) => self.depose(group),
            Event::Elect(group) => self.elect(group),
            Event::Changed(at, changed) => {
                self.feed(at, OutboxInput::LeaderChanged(id(changed)));
            }
        }
    }

    fn leads(&self, group: usize, term: Term) -> bool {
        self.groups[group].pump.is_some() && self.groups[group].term == term
    }

    fn run(&mut self) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            assert!(
                at < HEALED_BY,
                "still busy long after the faults have ended"
            );
            self.now = self.now.max(at);
            self.step(event);
        }
        for (number, group) in self.groups.iter().enumerate() {
            let left = group.rows.family(Family::Outbox, None, usize::MAX);
            assert!(left.is_empty(), "{} rows left in {number}", left.len());
            assert_eq!(group.row.outbox_rows, 0);
            assert!(group.pump.as_ref().is_some_and(Outbox::settled));
        }
        for (pair, sent) in &self.sent {
            let accepted = self.accepted.get(pair).map_or(&[][..], Vec::as_slice);
            let differ = sent
                .iter()
                .zip(accepted)
                .position(|(sent, got)| sent != got);
            assert_eq!(differ, None, "first message of {pair:?} out of order");
            assert_eq!(accepted.len(), sent.len(), "messages of {pair:?}");
        }
        assert_eq!(self.accepted.len(), self.sent.len());
    }
}

fn outbox_of(turns: &[TurnOutcome]) -> Vec<(PartitionId, u64, Envelope)> {
    let of = |turn: &TurnOutcome| match turn {
        TurnOutcome::Committed { outbox, .. } => outbox.clone(),
        TurnOutcome::Skipped(reason) => panic!("every turn has its own actor: {reason:?}"),
    };
    turns.iter().flat_map(of).collect()
}

/// Says how to repeat a random test when it fails.
pub(crate) struct Reproduce(pub(crate) u64, pub(crate) &'static str);

impl Drop for Reproduce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(seed, test) = self;
            println!("GHOSTLIGHT_SEED={seed} cargo test -p ghostlight-core {test}");
        }
    }
}

/// The seeds of a random test: `count` of them, or the one of `GHOSTLIGHT_SEED`.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match option_env!("GHOSTLIGHT_SEED") {
        Some(seed) => vec![seed.parse().expect("GHOSTLIGHT_SEED is a number")],
        None => (0..count).collect(),
    }
}

#[test]
fn every_message_arrives_once_and_in_order() {
    for seed in seeds(30) {
        let _reproduce = Reproduce(seed, "every_message_arrives_once_and_in_order");
        let mut world = World::new(seed, 2 + (seed % 2) as usize);
        world.run();
        let sent: usize = world.sent.values().map(Vec::len).sum();
        assert!(sent > 200, "only {sent} messages were sent");
        let terms = world.groups[0].term.0;
        assert!(terms > 8, "only {terms} terms");
    }
}
