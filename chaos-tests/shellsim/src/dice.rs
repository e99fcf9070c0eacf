//! All randomness of a run: one stream per purpose, each forked from the run's one seed.

use ghostlight_protocol::hash::hash64;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One millisecond in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;
/// One second in nanoseconds.
pub(crate) const SEC: u64 = 1_000 * MS;

/// A stream of draws.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream `purpose` of a run.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        Self(ChaCha8Rng::seed_from_u64(
            hash64(b'L', purpose.as_bytes()) ^ seed,
        ))
    }

    /// A stream of its own, forked from this one.
    pub(crate) fn fork(&mut self) -> Self {
        Self(ChaCha8Rng::seed_from_u64(self.any()))
    }

    /// Any number.
    pub(crate) fn any(&mut self) -> u64 {
        self.0.random()
    }

    /// Any number of 128 bits.
    pub(crate) fn any128(&mut self) -> u128 {
        self.0.random()
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.0.random_bool(p.min(1.0))
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// An index below `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }
}
