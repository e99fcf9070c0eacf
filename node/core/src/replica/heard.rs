//! Which peers have answered this leader lately: remembered over two election timeouts.
//!
//! The engine has a mark of its own, and forgets it at every check of its quorum (each election
//! timeout), so that for a moment nobody seems to be there. What is decided over seconds (moves of
//! copies and of leaderships, the front of the log) needs a memory that only silence ends. Its
//! clock is the group's ticks; only answers to this leadership count, so that a late message of
//! another term is no sign of life.

use std::collections::BTreeMap;

/// Ticks of silence after which a peer no longer counts as heard: two election timeouts, one
/// second.
const HEARD_TICKS: u64 = 20;

/// Whether a peer answered lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Within the last two election timeouts.
    Lately,
    /// Not for so long, or never in this leadership.
    No,
}

/// The memory of one leadership.
#[derive(Default, Debug)]
pub(super) struct HeardMemory {
    ticks: u64,
    /// Term of the leadership that the rest is about; 0: none.
    term: u64,
    began: u64,
    answered: BTreeMap<u64, u64>,
}

impl HeardMemory {
    /// One tick has passed.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
    }

    /// `peer` answered the leader of `term`.
    pub(super) fn answered(&mut self, term: u64, peer: u64) {
        self.follow(term);
        self.answered.insert(peer, self.ticks);
    }

    /// The replica leads in `term`. What was heard in another leadership is forgotten.
    pub(super) fn follow(&mut self, term: u64) {
        if self.term != term {
            self.term = term;
            self.began = self.ticks;
            self.answered.clear();
        }
    }

    /// Peers that are no longer part of the group are forgotten.
    pub(super) fn retain(&mut self, in_group: impl Fn(u64) -> bool) {
        self.answered.retain(|peer, _| in_group(*peer));
    }

    /// Whether `peer` answered the leader of `term` lately.
    pub(super) fn of(&self, term: u64, peer: u64) -> Heard {
        let answered = self.answered.get(&peer).filter(|_| self.term == term);
        match answered {
            Some(at) if self.ticks - at <= HEARD_TICKS => Heard::Lately,
            Some(_) | None => Heard::No,
        }
    }

    /// Whether the leadership of `term` is too young for silence to mean anything.
    pub(super) fn is_young(&self, term: u64) -> bool {
        self.term != term || self.ticks - self.began <= HEARD_TICKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ticks: u64) -> HeardMemory {
        let mut memory = HeardMemory::default();
        memory.follow(7);
        memory.answered(7, 2);
        for _ in 0..ticks {
            memory.tick();
        }
        memory
    }

    #[test]
    fn silence_alone_ends_the_memory_after_two_election_timeouts() {
        for (ticks, heard) in [
            (0, Heard::Lately),
            (10, Heard::Lately),
            (20, Heard::Lately),
            (21, Heard::No),
            (500, Heard::No),
        ] {
            assert_eq!(after(ticks).of(7, 2), heard, "{ticks} ticks");
            assert_eq!(after(ticks).is_young(7), ticks <= 20, "{ticks} ticks");
        }
        assert_eq!(after(0).of(7, 3), Heard::No, "nobody has heard of it");
        let mut again = after(21);
        again.answered(7, 2);
        assert_eq!(again.of(7, 2), Heard::Lately);
    }

    #[test]
    fn another_leadership_and_another_group_are_forgotten() {
        let mut memory = after(30);
        assert_eq!(memory.of(8, 2), Heard::No);
        memory.follow(8);
        assert!(memory.is_young(8), "it has just begun");
        assert_eq!(memory.of(8, 2), Heard::No);
        memory.answered(8, 2);
        memory.answered(8, 3);
        memory.retain(|peer| peer == 3);
        assert_eq!(
            (memory.of(8, 2), memory.of(8, 3)),
            (Heard::No, Heard::Lately)
        );
    }
}
