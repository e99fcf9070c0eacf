//! The seeded generator, in the form foca asks for.
//!
//! foca speaks rand 0.10, everything of ours rand 0.9. ChaCha8 gives the same numbers on every
//! machine.

use std::convert::Infallible;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_core::TryRng;

/// ChaCha8 behind rand 0.10's trait.
#[derive(Clone, Debug)]
pub(super) struct FocaRng(ChaCha8Rng);

impl FocaRng {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }
}

impl TryRng for FocaRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(dst);
        Ok(())
    }
}
