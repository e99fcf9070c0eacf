//! Faults that take several steps: loops, links that fail one after another, halves with a bridge,
//! clocks that jump to and fro, restarts that go round.

use ghostlight_core::admin::AdminRequest;
use ghostlight_storage::memory::{CrashKind, Fault, Operation};

use super::nemesis::NODES_MAX;
use super::{Event, Mend, Phase, Repair, World};
use crate::dice::{MS, SEC};
use crate::net::Place;
use crate::params::FaultKind;
use crate::process::{Drift, Fate};

/// Crashes of one loop.
const LOOP_CRASHES: (u64, u64) = (2, 6);
/// Millionths by which a drifting clock is too fast or too slow at most: a twentieth, far more than
/// any that is sold.
const DRIFT_MAX: i64 = 50_000;
/// Jumps of a strobing clock.
const STROBES: (u64, u64) = (5, 40);
/// A dead node is removed when the others call it down: suspicion takes 2 s.
const REMOVED_AFTER: u64 = 12 * SEC;

impl World {
    /// One of the faults of this file.
    pub(super) fn misfortune(&mut self, kind: FaultKind, place: Place) {
        match kind {
            FaultKind::CrashLoop => {
                self.sometimes.hit("fault: crash loop");
                let left = self.dice.fault.between(LOOP_CRASHES.0, LOOP_CRASHES.1);
                self.crash_again(place, left);
            }
            FaultKind::PowerLossMost => self.power_loss_most(),
            FaultKind::Deaf => {
                let place = self.perhaps_a_leader(place);
                self.deafen(place);
            }
            FaultKind::Bridge => self.bridge(place),
            FaultKind::Swizzle => self.swizzle(),
            FaultKind::ClockStrobe => {
                self.sometimes.hit("fault: clock strobes");
                let left = self.dice.fault.between(STROBES.0, STROBES.1);
                self.strobe(place, left);
            }
            FaultKind::ClockDrift => {
                self.sometimes.hit("fault: clock drifts");
                let most = DRIFT_MAX.unsigned_abs();
                self.nodes[place].drift = Drift {
                    millionths: self.dice.fault.between(0, 2 * most).cast_signed() - DRIFT_MAX,
                    since: self.now,
                };
                self.mend_later(Mend::Clock(place), 5 * SEC, 200 * SEC);
            }
            FaultKind::DiskFull => {
                self.sometimes.hit("fault: disk full");
                let nth = self.dice.fault.between(1, 20);
                let disk = &self.nodes[place].disk;
                disk.fail(Operation::Write, nth, Fault::NoSpace);
            }
            FaultKind::DiskStall => {
                self.sometimes.hit("fault: disk stands still");
                let span = self.dice.fault.log_uniform(200 * MS, 6 * SEC);
                self.stall_disk(place, span);
            }
            FaultKind::Rolling => {
                self.sometimes.hit("fault: rolling restart");
                self.roll(0);
            }
            FaultKind::Replace => self.replace_dead(place),
            other => self.violate(format!("{other:?} is no such fault")),
        }
    }

    /// A process dies again as soon as it has started.
    pub(super) fn crash_again(&mut self, place: Place, left: u64) {
        if self.phase == Phase::Quiet || self.nodes[place].fate == Fate::Gone {
            return;
        }
        let kinds = [
            CrashKind::Process,
            CrashKind::PowerLoss,
            CrashKind::TornTail,
        ];
        let kind = *self.dice.fault.pick(&kinds);
        self.crash(place, kind);
        let down = self.dice.fault.log_uniform(10 * MS, 500 * MS);
        self.after(down, Event::Mend(Mend::Start(place)));
        if left > 1 {
            let up = down + self.dice.fault.log_uniform(10 * MS, 1_500 * MS);
            self.after(up, Event::Mend(Mend::CrashAgain(place, left - 1)));
        }
    }

    /// Power is lost at a random majority.
    fn power_loss_most(&mut self) {
        self.sometimes.hit("fault: power loss of a majority");
        let mut places = self.alive();
        let most = places.len() / 2 + 1;
        while places.len() > most {
            let spared = self.dice.fault.index(places.len());
            places.swap_remove(spared);
        }
        for place in places {
            let kinds = [
                CrashKind::PowerLoss,
                CrashKind::PowerLossAll,
                CrashKind::TornTail,
            ];
            let kind = *self.dice.fault.pick(&kinds);
            self.crash(place, kind);
            self.restart_later(place);
        }
    }

    /// A node hears nobody and is heard, or the other way round.
    fn deafen(&mut self, place: Place) {
        let deaf = self.dice.fault.chance(0.5);
        self.sometimes.hit(if deaf {
            "fault: a node hears nobody"
        } else {
            "fault: nobody hears a node"
        });
        for other in (0..self.nodes.len()).filter(|other| *other != place) {
            match deaf {
                true => self.cut(other, place),
                false => self.cut(place, other),
            }
        }
        self.mend_later(Mend::Unclog(place), 200 * MS, 8 * SEC);
    }

    /// Two halves that do not hear each other, and one node that hears both.
    fn bridge(&mut self, place: Place) {
        self.sometimes.hit("fault: split with a bridge");
        let count = self.nodes.len();
        let halves: Vec<bool> = (0..count).map(|_| self.dice.fault.chance(0.5)).collect();
        for one in (0..count).filter(|one| *one != place) {
            for other in (0..count).filter(|other| *other != place) {
                if halves[one] != halves[other] {
                    self.cut(one, other);
                }
            }
        }
        self.mend_later(Mend::Heal, 200 * MS, 10 * SEC);
    }

    /// Nodes lose all their links one after another, and get them back in another order.
    fn swizzle(&mut self) {
        self.sometimes.hit("fault: links swizzled");
        for place in 0..self.nodes.len() {
            if !self.dice.fault.chance(0.6) {
                continue;
            }
            let begins = self.dice.fault.between(0, 2 * SEC);
            let ends = 2 * SEC + self.dice.fault.between(0, 4 * SEC);
            self.after(begins, Event::Mend(Mend::Clog(place)));
            self.after(ends, Event::Mend(Mend::Unclog(place)));
        }
    }

    /// A calendar clock jumps to and fro.
    pub(super) fn strobe(&mut self, place: Place, left: u64) {
        if left == 0 || self.phase == Phase::Quiet {
            self.nodes[place].set_right();
            return;
        }
        let minutes = self.dice.fault.between(0, 1_200_000).cast_signed() - 600_000;
        self.nodes[place].skew_ms = minutes;
        let next = self.dice.fault.log_uniform(20 * MS, 600 * MS);
        self.after(next, Event::Mend(Mend::Strobe(place, left - 1)));
    }

    /// One node after the other is restarted in an orderly way.
    pub(super) fn roll(&mut self, place: Place) {
        if self.phase == Phase::Quiet || place >= self.nodes.len() {
            return;
        }
        if !self.closing.contains(&place) {
            self.shut_down(place);
        }
        let next = self.dice.fault.log_uniform(SEC, 5 * SEC);
        self.after(next, Event::Mend(Mend::Roll(place + 1)));
    }

    /// A node dies for good, another one joins, and an operator removes the dead one.
    fn replace_dead(&mut self, place: Place) {
        if !self.may_lose() || self.nodes.len() >= NODES_MAX {
            return;
        }
        self.sometimes.hit("fault: dead node replaced");
        self.repair = Repair::Leaving(place);
        let id = self.id_of(place);
        self.abandon(place, CrashKind::PowerLossAll);
        self.add_node(super::boot::Origin::Joins);
        if let Some(id) = id {
            self.after(REMOVED_AFTER, Event::Mend(Mend::Remove(id)));
        }
    }

    /// An operator gives a dead node up.
    pub(super) fn remove(&mut self, node: ghostlight_protocol::ids::NodeId) {
        if let Some(place) = self.alive().first().copied() {
            self.order(place, AdminRequest::Remove(format!("{node:?}")));
        }
    }
}
