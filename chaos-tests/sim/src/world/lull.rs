//! Quiet stretches: no fault begins, those that have begun come to their end, and clients seldom
//! ask.
//!
//! The network loses and delays what it did before, and disks stall: a lull is no healed cluster.

use super::World;
use crate::dice::SEC;

/// Pauses of a client in a lull.
const SELDOM: (u64, u64) = (2 * SEC, 40 * SEC);

impl World {
    /// A quiet stretch.
    pub(crate) fn lull(&mut self, span: u64) {
        self.lull_until = self.now + span;
        let end = self.lull_until;
        self.trace
            .line(self.now, format_args!("quiet for {} s", span / SEC));
        self.run_until(end);
        if self.settled() {
            self.sometimes.hit("whole after a quiet stretch");
        }
    }

    pub(super) fn is_lull(&self) -> bool {
        self.now < self.lull_until
    }

    /// How long a client pauses between two operations.
    pub(super) fn think(&mut self) -> u64 {
        if !self.is_lull() {
            return self.dice.work.between(0, self.params.work.think);
        }
        let pause = self.dice.work.between(SELDOM.0, SELDOM.1);
        pause.min(self.lull_until - self.now)
    }
}
