//! The kinds of faults, and how often each is drawn, relative to the others.

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
    /// A calendar clock is too fast, or too slow.
    ClockDrift,
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
    /// Who leads a partition hears nobody and is heard by nobody, except by its clients.
    Isolate,
    /// A process is slow: each turn of its loop takes long, and takes much at once.
    SlowLoop,
    /// The only node between two halves dies again and again.
    RestlessBridge,
    /// Who leads a partition dies while no disk syncs: for a while nobody can be elected.
    Headless,
    /// A bit flips in the file of the log while its node is down: what stands behind it is not read
    /// any more.
    LogDamage,
    /// A copy of a data directory is started while the original runs.
    Copy,
    /// A node is started as a version that speaks other frames, and as the usual one later.
    Version,
    /// One node after the other is started as that version.
    RollingVersion,
    /// Who leads a partition stands still until others lead, and wakes up cut off from them, with
    /// clients at its side.
    WakesAlone,
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

    /// Kinds that came last.
    pub const LATEST: [(Self, u32); 1] = [(Self::ClockDrift, 3)];

    /// Kinds that came after those.
    pub const NEWEST: [(Self, u32); 4] = [
        (Self::LogDamage, 3),
        (Self::Copy, 2),
        (Self::Version, 3),
        (Self::RollingVersion, 1),
    ];

    /// Kinds that are aimed at who leads, or at who is in between. Drawn last of all.
    pub const AIMED: [(Self, u32); 5] = [
        (Self::Isolate, 4),
        (Self::SlowLoop, 3),
        (Self::RestlessBridge, 3),
        (Self::Headless, 2),
        (Self::WakesAlone, 4),
    ];
}

impl FaultKind {
    /// How many kinds a seed draws from.
    #[must_use]
    pub const fn count() -> usize {
        Self::ALL.len()
            + Self::LATER.len()
            + Self::AIMED.len()
            + Self::LATEST.len()
            + Self::NEWEST.len()
    }
}
