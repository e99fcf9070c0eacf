//! What one seed means: the cluster, the network, the disks, the faults and the workload.
//!
//! Each fault's rate may be zero: a swarm in which every run has every fault reaches less than one
//! in which most runs lack most of them.

mod fault;

pub use fault::FaultKind;

use ghostlight_core::replica::LogBounds;

use crate::dice::{Dice, MS, SEC, US};

/// Everything drawn before a run begins.
#[derive(Clone, Debug)]
pub struct Params {
    /// The seed.
    pub seed: u64,
    /// Nodes at first.
    pub nodes: usize,
    /// Partitions.
    pub partitions: u16,
    /// Replication factor.
    pub factor: u8,
    /// Writes are refused below this many voters.
    pub min_copies: u8,
    /// How long faults are injected, after the cluster has formed.
    pub span: u64,
    /// How long it is quiet after each part of that span: no fault begins, and clients seldom ask.
    pub lulls: Vec<u64>,
    /// The network.
    pub net: NetParams,
    /// The disks.
    pub disk: DiskParams,
    /// Mean time between two faults; 0: none.
    pub fault_every: u64,
    /// How often each kind is drawn, relative to the others.
    pub faults: Vec<(FaultKind, u32)>,
    /// What clients do.
    pub work: WorkParams,
    /// What is published, and to whom.
    pub topics: TopicParams,
    /// How much of a log is kept.
    pub log: LogBounds,
    /// Millionths by which a monotonic clock is too fast or too slow at most.
    pub pace_max: u64,
}

/// The network.
#[derive(Clone, Debug)]
pub struct NetParams {
    /// Shortest and longest usual delay of a frame.
    pub delay: (u64, u64),
    /// Chance of a frame that takes much longer, and how long at most.
    pub spike: (f64, u64),
    /// Loss of gossip datagrams.
    pub gossip_loss: f64,
    /// Chance that a frame arrives twice, which QUIC would not do.
    pub duplicate: f64,
    /// Chance that a frame arrives again much later, which QUIC would not do.
    pub replay: f64,
    /// A connection over which nothing comes for this long is gone.
    pub idle: (u64, u64),
}

/// The disks.
#[derive(Clone, Debug)]
pub struct DiskParams {
    /// Shortest and longest usual sync.
    pub sync: (u64, u64),
    /// Chance of a stall, and how long.
    pub stall: (f64, u64, u64),
    /// Bytes of one page of a scan.
    pub page_bytes: usize,
}

/// What clients do.
#[derive(Clone, Debug)]
pub struct WorkParams {
    /// Clients.
    pub clients: usize,
    /// Actors of each type.
    pub actors: usize,
    /// Longest pause of a client between two operations.
    pub think: u64,
    /// Chance that an operation carries an id of its own.
    pub outside: f64,
    /// Chance that it is a read.
    pub reads: f64,
    /// Chance that it writes a large body.
    pub bulk: f64,
    /// Chance that it gives up soon.
    pub hasty: f64,
    /// Chance that who was acknowledged a write looks at once, at another node, whether it is
    /// there.
    pub elsewhere: f64,
    /// Shortest and longest time of each step of a turn.
    pub turn: (u64, u64),
}

/// Of so many runs nothing goes wrong but crashes and what is aimed.
const FOCUSED: f64 = 0.3;
/// Monotonic clocks that are off by a fiftieth: a hundred times as much as those that are sold, and
/// little enough for ranked election timeouts (0.55 s, 0.65 s, 0.75 s) to keep their order.
const PACE_MAX: u64 = 20_000;
/// How long a run is quiet altogether.
const QUIET_TIME: u64 = 565 * SEC;
/// Steps of turns that take no time to speak of.
const QUICK_TURNS: (u64, u64) = (2 * US, 2 * MS);

/// Topics.
#[derive(Clone, Debug)]
pub struct TopicParams {
    /// Groups; 0: nothing is published.
    pub groups: usize,
    /// Programs of each group.
    pub subscribers: usize,
    /// Keys of events.
    pub keys: usize,
    /// Chance that an operation publishes.
    pub publishes: f64,
    /// Chance that a program wants an event again.
    pub retry: f64,
    /// Chance that a program refuses an event for good.
    pub drop: f64,
    /// Chance that what would be published is an operator's act instead: a group is moved, paused,
    /// resumed, its letters are driven again.
    pub operators: f64,
    /// Age above which events go, in milliseconds; 0: the usual one.
    pub retention_ms: u64,
    /// Bytes of a topic partition above which its oldest events go; 0: the usual number.
    pub retention_bytes: u64,
    /// Whether a group of programs makes events messages to actors.
    pub actors: Actors,
    /// Chance that an actor publishes in its turn where a client would.
    pub turns: f64,
}

/// Whether actors subscribe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actors {
    /// They do: each key's events go to a herald of its own.
    Subscribe,
    /// They do not.
    Elsewhere,
}

impl TopicParams {
    /// No topics.
    #[must_use]
    pub fn none() -> Self {
        Self {
            groups: 0,
            subscribers: 0,
            keys: 1,
            publishes: 0.0,
            retry: 0.0,
            drop: 0.0,
            operators: 0.0,
            retention_ms: 0,
            retention_bytes: 0,
            actors: Actors::Elsewhere,
            turns: 0.0,
        }
    }

    /// Drawn with dice of their own, so that seeds without topics mean what they meant.
    fn draw(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, "topic params");
        if dice.chance(0.5) {
            return Self::none();
        }
        Self {
            groups: *dice.pick(&[1, 1, 2, 3]),
            subscribers: *dice.pick(&[1, 2, 3]),
            keys: *dice.pick(&[1, 3, 8]),
            publishes: *dice.pick(&[0.1, 0.3, 0.6]),
            retry: *dice.pick(&[0.0, 0.05, 0.3]),
            drop: *dice.pick(&[0.0, 0.0, 0.1]),
            operators: *dice.pick(&[0.0, 0.02, 0.1]),
            retention_ms: *dice.pick(&[0, 0, 30_000, 90_000]),
            retention_bytes: *dice.pick(&[0, 0, 0, 2_000]),
            actors: *dice.pick(&[Actors::Elsewhere, Actors::Subscribe]),
            turns: *Dice::new(seed, "turn topic params").pick(&[0.0, 0.3, 0.7]),
        }
    }
}

impl Params {
    /// Draws a run.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let dice = &mut Dice::new(seed, "params");
        let nodes = *dice.pick(&[3, 3, 3, 4, 5]);
        let partitions = *dice.pick(&[1, 2, 4, 8]);
        let factor = if dice.chance(0.1) { 1 } else { 3 };
        let sometimes = |dice: &mut Dice, p: f64, low: f64, high: f64| {
            if dice.chance(p) {
                low + (high - low) * dice.between(0, 1_000) as f64 / 1_000.0
            } else {
                0.0
            }
        };
        let net = NetParams {
            delay: *dice.pick(&[
                (50 * US, 200 * US),
                (100 * US, 2 * MS),
                (MS, 10 * MS),
                (5 * MS, 30 * MS),
            ]),
            spike: (sometimes(dice, 0.4, 0.001, 0.02), 300 * MS),
            gossip_loss: sometimes(dice, 0.5, 0.01, 0.2),
            duplicate: sometimes(dice, 0.3, 0.001, 0.02),
            replay: sometimes(dice, 0.3, 0.001, 0.01),
            idle: (SEC, 3 * SEC),
        };
        let disk = DiskParams {
            sync: *dice.pick(&[(100 * US, 500 * US), (300 * US, 5 * MS), (2 * MS, 20 * MS)]),
            stall: (sometimes(dice, 0.3, 0.000_5, 0.005), 100 * MS, 2 * SEC),
            page_bytes: ghostlight_disk::PAGE_BYTES,
        };
        let mut faults = Vec::new();
        draw_kinds(dice, &FaultKind::ALL, &mut faults);
        let fault_every = *dice.pick(&[0, 500 * MS, SEC, SEC, 2 * SEC, 4 * SEC]);
        let work = WorkParams {
            clients: *dice.pick(&[2, 4, 6]),
            actors: *dice.pick(&[1, 2, 4]),
            think: *dice.pick(&[5 * MS, 50 * MS, 200 * MS]),
            outside: *dice.pick(&[0.0, 0.5, 0.9]),
            reads: *dice.pick(&[0.1, 0.3, 0.5]),
            bulk: *dice.pick(&[0.0, 0.0, 0.02]),
            hasty: 0.0,
            elsewhere: 0.0,
            turn: QUICK_TURNS,
        };
        let mut params = Self {
            seed,
            nodes,
            partitions,
            factor,
            min_copies: 1,
            span: dice.between(10, 25) * SEC,
            lulls: draw_lulls(seed),
            net,
            disk,
            fault_every,
            faults,
            work,
            topics: TopicParams::draw(seed),
            log: LogBounds::default(),
            pace_max: 0,
        };
        // Most runs are of the sizes that people run; the others find what only they can.
        if dice.chance(0.25) {
            params.nodes = *dice.pick(&[1, 2, 6, 7]);
        }
        // Rows here are small: pages must be, too, or none is ever cut.
        params.disk.page_bytes = *dice.pick(&[ghostlight_disk::PAGE_BYTES, 400, 1]);
        draw_kinds(dice, &FaultKind::LATER, &mut params.faults);
        params.aim();
        params.add_what_came_later();
        params
    }

    /// Drawn with dice of their own, after everything else.
    fn add_what_came_later(&mut self) {
        let dice = &mut Dice::new(self.seed, "latest params");
        draw_kinds(dice, &FaultKind::LATEST, &mut self.faults);
        let dice = &mut Dice::new(self.seed, "newest params");
        draw_kinds(dice, &FaultKind::NEWEST, &mut self.faults);
        self.pace_max = *dice.pick(&[0, 0, 200, PACE_MAX]);
    }

    /// Draws what is aimed at the places where rules matter: who leads, who has just been told, who
    /// lags.
    fn aim(&mut self) {
        let dice = &mut Dice::new(self.seed, "aimed params");
        draw_kinds(dice, &FaultKind::AIMED, &mut self.faults);
        if dice.chance(FOCUSED) {
            self.faults = FaultKind::AIMED.to_vec();
            self.faults.push((FaultKind::Crash, 3));
        }
        self.work.hasty = *dice.pick(&[0.0, 0.05, 0.3]);
        self.work.elsewhere = *dice.pick(&[0.0, 0.3, 0.8]);
        self.work.turn = *dice.pick(&[QUICK_TURNS, QUICK_TURNS, (MS, 60 * MS)]);
        // Logs here are short: what is kept of them must be, too, or nobody ever needs a snapshot.
        let kept_entries = *dice.pick(&[512, 64, 16]);
        self.log = LogBounds {
            kept_entries,
            entries_max: 20 * kept_entries as usize,
            all_bytes_max: *dice.pick(&[32 << 20, 64 << 10, 8 << 10]),
            ..LogBounds::default()
        };
    }

    /// A quiet run, for scenarios: a good network, good disks, no faults but those asked for.
    #[must_use]
    pub fn quiet(seed: u64, nodes: usize, partitions: u16) -> Self {
        Self {
            seed,
            nodes,
            partitions,
            factor: 3,
            min_copies: 1,
            span: 0,
            lulls: Vec::new(),
            net: NetParams {
                delay: (100 * US, 500 * US),
                spike: (0.0, 0),
                gossip_loss: 0.0,
                duplicate: 0.0,
                replay: 0.0,
                idle: (3 * SEC, 3 * SEC),
            },
            disk: DiskParams {
                sync: (200 * US, MS),
                stall: (0.0, 0, 0),
                page_bytes: ghostlight_disk::PAGE_BYTES,
            },
            fault_every: 0,
            faults: Vec::new(),
            work: WorkParams {
                clients: 4,
                actors: 4,
                think: 10 * MS,
                outside: 0.5,
                reads: 0.3,
                bulk: 0.0,
                hasty: 0.0,
                elsewhere: 0.0,
                turn: QUICK_TURNS,
            },
            topics: TopicParams::none(),
            log: LogBounds::default(),
            pace_max: 0,
        }
    }
}

/// Ten minutes of a run are mostly quiet: that is when what has a time of its own happens. Groups
/// are moved and compared, records expire, and a second misfortune finds a cluster that has
/// recovered from the first.
fn draw_lulls(seed: u64) -> Vec<u64> {
    let dice = &mut Dice::new(seed, "lulls");
    let count = *dice.pick(&[1, 2, 3]);
    let shares: Vec<u64> = (0..count).map(|_| dice.between(20, 100)).collect();
    let all: u64 = shares.iter().sum();
    let spans = shares.into_iter().map(|share| QUIET_TIME / all * share);
    spans.collect()
}

/// Adds each kind, or leaves it out of this run.
fn draw_kinds(dice: &mut Dice, kinds: &[(FaultKind, u32)], faults: &mut Vec<(FaultKind, u32)>) {
    for kind in kinds {
        if dice.chance(0.6) {
            faults.push(*kind);
        }
    }
}
