//! What one seed means: the cluster, the network, the disks, the faults and the workload.
//!
//! Each fault's rate may be zero: a swarm in which every run has every fault reaches less than one in
//! which most runs lack most of them.

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
}

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
        }
    }
}

/// What can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultKind {
    /// A process dies; its disk may lose what was not synced.
    Crash,
    /// Power is lost everywhere at once.
    PowerLossAll,
    /// A process stands still.
    Freeze,
    /// The network falls into two halves.
    Split,
    /// Frames pass in one direction only.
    OneWay,
    /// One connection breaks.
    Break,
    /// Nothing moves on one bulk connection, which stays up.
    Stuck,
    /// A disk is slow for a while.
    SlowDisk,
    /// A disk fails a write or a sync: the process ends.
    DiskError,
    /// A calendar clock jumps.
    ClockJump,
    /// A node is restarted in an orderly way.
    Restart,
    /// A node is drained, and undrained later.
    Drain,
    /// A bit of a stored record flips while its node is down.
    BitFlip,
    /// A database cannot be opened any more.
    LoseDatabase,
    /// A process dies again and again as soon as it has started.
    CrashLoop,
    /// Power is lost at a majority of the nodes at once.
    PowerLossMost,
    /// A node hears nobody, or nobody hears it.
    Deaf,
    /// The network falls into two halves, and one node hears both.
    Bridge,
    /// Nodes lose their links one after another, and get them back in another order.
    Swizzle,
    /// A calendar clock jumps to and fro.
    ClockStrobe,
    /// A disk has no room for a write: the process ends.
    DiskFull,
    /// A disk syncs nothing for a while.
    DiskStall,
    /// One node after the other is restarted in an orderly way.
    Rolling,
    /// A node dies for good, another one joins, and the dead one is removed.
    Replace,
    /// An old image of a disk is put back.
    OldImage,
    /// A disk is replaced by an empty one.
    Wipe,
    /// One more node joins.
    Join,
    /// A node leaves for good.
    Leave,
}

impl FaultKind {
    /// Kinds with their usual weights.
    pub const ALL: [(Self, u32); 16] = [
        (Self::Crash, 10),
        (Self::PowerLossAll, 2),
        (Self::Freeze, 6),
        (Self::Split, 6),
        (Self::OneWay, 4),
        (Self::Break, 4),
        (Self::SlowDisk, 4),
        (Self::DiskError, 2),
        (Self::ClockJump, 2),
        (Self::Restart, 4),
        (Self::Drain, 3),
        (Self::BitFlip, 3),
        (Self::Wipe, 2),
        (Self::Join, 2),
        (Self::Leave, 1),
        (Self::LoseDatabase, 2),
    ];

    /// Kinds that are drawn after everything else, so that older seeds keep most of their meaning.
    pub const LATER: [(Self, u32); 12] = [
        (Self::Stuck, 3),
        (Self::OldImage, 3),
        (Self::CrashLoop, 3),
        (Self::PowerLossMost, 2),
        (Self::Deaf, 3),
        (Self::Bridge, 3),
        (Self::Swizzle, 3),
        (Self::ClockStrobe, 2),
        (Self::DiskFull, 1),
        (Self::DiskStall, 3),
        (Self::Rolling, 2),
        (Self::Replace, 1),
    ];
}

impl FaultKind {
    /// How many kinds a seed draws from.
    #[must_use]
    pub const fn count() -> usize {
        Self::ALL.len() + Self::LATER.len()
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
        for (kind, weight) in FaultKind::ALL {
            if dice.chance(0.6) {
                faults.push((kind, weight));
            }
        }
        let fault_every = *dice.pick(&[0, 500 * MS, SEC, SEC, 2 * SEC, 4 * SEC]);
        let work = WorkParams {
            clients: *dice.pick(&[2, 4, 6]),
            actors: *dice.pick(&[1, 2, 4]),
            think: *dice.pick(&[5 * MS, 50 * MS, 200 * MS]),
            outside: *dice.pick(&[0.0, 0.5, 0.9]),
            reads: *dice.pick(&[0.1, 0.3, 0.5]),
            bulk: *dice.pick(&[0.0, 0.0, 0.02]),
        };
        let mut params = Self {
            seed,
            nodes,
            partitions,
            factor,
            min_copies: 1,
            span: dice.between(10, 25) * SEC,
            net,
            disk,
            fault_every,
            faults,
            work,
            topics: TopicParams::draw(seed),
        };
        // Most runs are of the sizes that people run; the others find what only they can.
        if dice.chance(0.25) {
            params.nodes = *dice.pick(&[1, 2, 6, 7]);
        }
        // Rows here are small: pages must be, too, or none is ever cut.
        params.disk.page_bytes = *dice.pick(&[ghostlight_disk::PAGE_BYTES, 400, 1]);
        for (kind, weight) in FaultKind::LATER {
            if dice.chance(0.6) {
                params.faults.push((kind, weight));
            }
        }
        params
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
            },
            topics: TopicParams::none(),
        }
    }
}
