//! Faults that are aimed: at who leads, and at who stands between two halves.
//!
//! A random node is seldom the one whose misfortune a rule is there for.

use ghostlight_protocol::ids::PartitionId;
use ghostlight_storage::memory::CrashKind;

use super::{Event, Mend, Phase, World};
use crate::dice::{MS, SEC};
use crate::net::Place;
use crate::params::FaultKind;

/// How many times as long a turn of a slow loop takes: up to 40 ms.
const LOOP_SLOWNESS: (u64, u64) = (50, 1_000);
/// How long a leader stands still: others are elected after some 0.6 s.
const SLEEP: (u64, u64) = (600 * MS, 1_500 * MS);
/// Chance that a leader dies with a publish that it has just applied.
const DIES: f64 = 0.02;
/// Deaths of a node between two halves.
const BRIDGE_DEATHS: (u64, u64) = (4, 10);

impl World {
    /// One of the faults of this file.
    pub(super) fn aimed(&mut self, kind: FaultKind, place: Place) {
        match kind {
            FaultKind::Isolate => {
                self.sometimes.hit("fault: leader cut off");
                let place = self.some_leader().unwrap_or(place);
                self.isolate(place);
                self.mend_later(Mend::Unclog(place), 300 * MS, 6 * SEC);
            }
            FaultKind::SlowLoop => {
                self.sometimes.hit("fault: slow process");
                let place = self.perhaps_a_leader(place);
                let (low, high) = LOOP_SLOWNESS;
                self.nodes[place].loop_slowness = self.dice.fault.log_uniform(low, high);
                self.mend_later(Mend::Loop(place), 500 * MS, 8 * SEC);
            }
            FaultKind::RestlessBridge => self.restless_bridge(place),
            FaultKind::Headless => self.behead(place),
            FaultKind::WakesAlone => self.wake_alone(place),
            other => self.violate(format!("{other:?} is no such fault")),
        }
    }

    /// Who serves a random partition.
    fn some_leader(&mut self) -> Option<Place> {
        let partition = self.dice.fault.index(usize::from(self.params.partitions));
        self.leader_of(PartitionId(partition as u16))
    }

    /// Every other time somebody who leads.
    pub(super) fn perhaps_a_leader(&mut self, place: Place) -> Place {
        match self.dice.fault.chance(0.5) {
            true => self.some_leader().unwrap_or(place),
            false => place,
        }
    }

    /// Who leads stands still until others lead, and wakes up cut off from them: for some ticks
    /// more it believes that it leads. Writes go to the others meanwhile, reads to it, too.
    fn wake_alone(&mut self, place: Place) {
        self.sometimes
            .hit("fault: leader woke up cut off from the others");
        let place = self.some_leader().unwrap_or(place);
        let (low, high) = SLEEP;
        let asleep = self.dice.fault.between(low, high);
        self.isolate(place);
        self.freeze(place, asleep);
        self.apart.insert(place);
        let alone = self.dice.fault.between(500 * MS, 3 * SEC);
        self.after(asleep + alone, Event::Mend(Mend::Unclog(place)));
    }

    /// Two halves that hear each other not at all, and both hear one node, which dies again and
    /// again: whom it has given its vote, it must know when it comes back.
    fn restless_bridge(&mut self, place: Place) {
        self.sometimes.hit("fault: restless bridge");
        let mut others: Vec<Place> = (0..self.nodes.len()).filter(|p| *p != place).collect();
        let turn = self.dice.fault.index(others.len().max(1));
        others.rotate_left(turn);
        let (one_half, other_half) = others.split_at(others.len() / 2);
        for one in one_half {
            for other in other_half {
                self.cut(*one, *other);
                self.cut(*other, *one);
            }
        }
        self.mend_later(Mend::Heal, 3 * SEC, 8 * SEC);
        let deaths = self.dice.fault.between(BRIDGE_DEATHS.0, BRIDGE_DEATHS.1);
        self.crash_again(place, deaths);
    }

    /// What was applied just now holds a publish for another partition: now and then its leader
    /// dies before it hears so.
    pub(super) fn perhaps_dies_with_publish(&mut self, place: Place) {
        let left = std::mem::take(&mut self.checks.topics.left);
        let may = self.phase == Phase::Faults && !self.is_lull() && self.params.fault_every > 0;
        if left.is_empty() || !may {
            return;
        }
        let process = self.nodes[place].process.iter();
        let mut replicas = process.flat_map(|process| process.core.replicas());
        let leads = replicas.any(|r| r.serves.is_some() && left.contains(&r.partition));
        drop(replicas);
        if !leads || !self.dice.turns.chance(DIES) {
            return;
        }
        self.sometimes
            .hit("fault: leader dead with what a turn has published");
        self.crash(place, CrashKind::PowerLoss);
        self.restart_later(place);
    }

    /// Who leads dies, and whoever could follow cannot sync its vote for a while.
    fn behead(&mut self, place: Place) {
        self.sometimes
            .hit("fault: leader dead, all disks standing still");
        let place = self.some_leader().unwrap_or(place);
        let span = self.dice.fault.between(2_500 * MS, 6 * SEC);
        for other in self.alive().into_iter().filter(|other| *other != place) {
            self.stall_disk(other, span);
        }
        self.crash(place, CrashKind::PowerLoss);
        self.restart_later(place);
    }
}
