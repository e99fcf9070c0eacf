//! What can be asked to go wrong with a simulated disk.

use crate::engine::{EngineError, Room};

/// An operation that can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A `get` or `scan`.
    Read,
    /// Any write.
    Write,
    /// The sync of a synced write.
    Sync,
}

/// How it fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// With an I/O error.
    Io,
    /// For want of space.
    NoSpace,
}

/// How fast the disk is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Pace {
    /// As usual.
    #[default]
    Normal,
    /// Each sync takes this many milliseconds.
    Slow(u64),
    /// Nothing is finished until the pace changes.
    Stalled,
}

/// What a crash loses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashKind {
    /// The process dies: what it wrote is still in the page cache.
    Process,
    /// Power is lost: a random suffix of what was not synced is gone.
    PowerLoss,
    /// Power is lost, and all that was not synced is gone.
    PowerLossAll,
    /// Power is lost in the middle of writing a record: it is cut, and recovery takes it as absent.
    TornTail,
}

/// What a crash lost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CrashReport {
    /// Records that were not synced and survived.
    pub kept: usize,
    /// Records that are gone.
    pub lost: usize,
    /// Records cut in the middle; they count as lost too.
    pub torn: usize,
}

/// What a flipped bit in the log's file does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogDamage {
    /// Nothing: the file is empty.
    None,
    /// It is in the last record, which recovery takes for a torn end: the record is gone, without a
    /// word.
    Tail,
    /// Records stand behind it, so that recovery refuses; they are gone when the log is opened up
    /// to the damage.
    Within {
        /// Records that are gone.
        lost: usize,
    },
}

/// Armed faults and counters.
#[derive(Debug)]
pub(super) struct Faults {
    armed: Vec<(Operation, u64, Fault)>,
    pub(super) pace: Pace,
    pub(super) room: Room,
    pub(super) writes: u64,
    pub(super) syncs: u64,
    /// After a failed write or sync no later one succeeds, as in RocksDB.
    poisoned: Option<EngineError>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            armed: Vec::new(),
            pace: Pace::Normal,
            room: Room {
                free_bytes: u64::MAX,
                total_bytes: u64::MAX,
            },
            writes: 0,
            syncs: 0,
            poisoned: None,
        }
    }
}

impl Faults {
    pub(super) fn arm(&mut self, operation: Operation, nth: u64, fault: Fault) {
        assert!(nth > 0, "operations are counted from 1");
        self.armed.push((operation, nth, fault));
    }

    pub(super) fn disarm(&mut self) {
        self.armed.clear();
    }

    /// The process is gone, and with it what only it knew.
    pub(super) fn new_run(&mut self) {
        self.armed.clear();
        self.poisoned = None;
    }

    pub(super) fn read(&mut self) -> Result<(), EngineError> {
        self.due(Operation::Read)
    }

    pub(super) fn write(&mut self) -> Result<(), EngineError> {
        if let Some(error) = &self.poisoned {
            return Err(error.clone());
        }
        self.writes += 1;
        let full = EngineError::NoSpace("no space left on the simulated disk".to_owned());
        let result = if self.room.free_bytes == 0 {
            Err(full)
        } else {
            self.due(Operation::Write)
        };
        self.poison(result)
    }

    pub(super) fn sync(&mut self) -> Result<(), EngineError> {
        self.syncs += 1;
        let result = self.due(Operation::Sync);
        self.poison(result)
    }

    fn poison(&mut self, result: Result<(), EngineError>) -> Result<(), EngineError> {
        if let Err(error) = &result {
            self.poisoned = Some(error.clone());
        }
        result
    }

    fn due(&mut self, operation: Operation) -> Result<(), EngineError> {
        let mut failed = None;
        self.armed.retain_mut(|(armed, left, fault)| {
            if *armed == operation {
                *left -= 1;
                if *left == 0 {
                    failed = Some(*fault);
                }
            }
            *left > 0
        });
        match failed {
            None => Ok(()),
            Some(Fault::Io) => Err(EngineError::Io(format!("injected fault on {operation:?}"))),
            Some(Fault::NoSpace) => Err(EngineError::NoSpace(format!(
                "injected fault on {operation:?}"
            ))),
        }
    }
}
