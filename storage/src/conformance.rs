//! What every engine must do, and what the store must do on every engine: one suite for both.
//!
//! A *bed* is where an engine lies; opening it again ends what was opened before, as a killed
//! process does. Power loss is not here: only the simulated disk can lose power, and it has its own
//! tests.

mod engines;
pub(crate) mod material;
mod stores;

use crate::engine::Engine;

/// Where an engine lies.
pub(crate) trait Bed {
    /// What lies there.
    type Engine: Engine;

    /// Opens it. Whoever calls has dropped everything opened before.
    fn open(&self) -> Self::Engine;
}

/// Runs everything; each check gets an empty bed.
pub(crate) fn run<B: Bed>(make: impl Fn() -> B) {
    engines::run(&make);
    stores::run(&make);
}

struct MemoryBed(crate::memory::MemoryDisk);

impl Bed for MemoryBed {
    type Engine = crate::memory::MemoryEngine;

    fn open(&self) -> Self::Engine {
        self.0.crash(crate::memory::CrashKind::Process);
        self.0.open()
    }
}

#[test]
fn memory_conforms() {
    run(|| MemoryBed(crate::memory::MemoryDisk::new(1)));
}
