//! All randomness of a run: one stream per purpose, each forked from the run's one seed.
//!
//! Separate streams keep runs comparable: another draw in the network moves nothing in the
//! workload.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One microsecond in nanoseconds.
pub const US: u64 = 1_000;
/// One millisecond in nanoseconds.
pub const MS: u64 = 1_000 * US;
/// One second in nanoseconds.
pub const SEC: u64 = 1_000 * MS;

/// A stream of draws.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream `purpose` of a run.
    #[must_use]
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        Self(ChaCha8Rng::seed_from_u64(
            ghostlight_protocol::hash::hash64(b'S', purpose.as_bytes()) ^ seed,
        ))
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

    /// One of `items`.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.index(items.len());
        &items[index]
    }

    /// Between `low` and `high`, short times as likely as long ones on a logarithmic scale.
    pub(crate) fn log_uniform(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = ((low.max(1) as f64).ln(), (high.max(1) as f64).ln());
        let drawn = low + (high - low) * self.0.random::<f64>();
        drawn.exp() as u64
    }
}
