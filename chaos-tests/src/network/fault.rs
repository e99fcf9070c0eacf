//! What happens to datagrams of a link.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One direction of one link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Of a thousand datagrams, how many are lost.
    pub lost: u32,
    /// Of a thousand, how many arrive twice.
    pub doubled: u32,
    /// Longest delay; each datagram draws its own, so that they overtake each other.
    pub late: Duration,
}

impl Fault {
    /// All arrive, once, at once.
    pub const NONE: Self = Self {
        lost: 0,
        doubled: 0,
        late: Duration::ZERO,
    };
    /// None arrives.
    pub const CUT: Self = Self {
        lost: 1_000,
        ..Self::NONE
    };
}

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Datagrams that were taken in.
    pub sent: u64,
    /// Those that were lost.
    pub lost: u64,
    /// Those that were sent twice.
    pub doubled: u64,
    /// Those that were delayed.
    pub late: u64,
}

/// The faults of all links, and the dice.
#[derive(Debug)]
pub(super) struct Links {
    faults: BTreeMap<(usize, usize), Fault>,
    dice: StdRng,
    pub(super) counts: Counts,
}

impl Links {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            faults: BTreeMap::new(),
            dice: StdRng::seed_from_u64(seed),
            counts: Counts::default(),
        }
    }

    pub(super) fn set(&mut self, from: usize, to: usize, fault: Fault) {
        self.faults.insert((from, to), fault);
    }

    /// The delay of each copy of the next datagram; none: it is lost.
    pub(super) fn copies(&mut self, from: usize, to: usize) -> Vec<Duration> {
        let fault = self.faults.get(&(from, to)).copied();
        let fault = fault.unwrap_or(Fault::NONE);
        self.counts.sent += 1;
        if self.dice.random_range(0..1_000) < fault.lost {
            self.counts.lost += 1;
            return Vec::new();
        }
        let twice = self.dice.random_range(0..1_000) < fault.doubled;
        self.counts.doubled += u64::from(twice);
        self.counts.late += u64::from(!fault.late.is_zero());
        let mut delay = || match fault.late.as_micros() as u64 {
            0 => Duration::ZERO,
            most => Duration::from_micros(self.dice.random_range(0..=most)),
        };
        (0..=u8::from(twice)).map(|_| delay()).collect()
    }
}
