//! Faults: drawn one after another, each with its end.
//!
//! What destroys a copy for good (a flipped bit, an empty disk, a node that leaves) happens only
//! while every group has its full strength elsewhere, and no other such fault is being repaired:
//! that much the promises assume. All else may happen at any time, several at once.

use std::time::Duration;

use ghostlight_core::admin::{AdminRequest, AdminTicket, DrainChange};
use ghostlight_core::io::Input;
use ghostlight_protocol::wire::hello::ConnectionKind;
use ghostlight_storage::Cf;
use ghostlight_storage::memory::{CrashKind, Fault, Operation};

use super::boot::Origin;
use super::{Event, Mend, Phase, Repair, World};
use crate::dice::{MS, SEC};
use crate::net::{KINDS, Place, key};
use crate::params::FaultKind;
use crate::process::Fate;

/// Most nodes of a run.
pub(super) const NODES_MAX: usize = 8;

impl World {
    /// Faults begin.
    pub fn begin_faults(&mut self) {
        self.phase = Phase::Faults;
        self.after(self.params.fault_every, Event::Fault);
    }

    /// Draws the next fault, and when the one after it comes.
    pub(crate) fn fault(&mut self) {
        if self.phase == Phase::Quiet
            || self.params.faults.is_empty()
            || self.params.fault_every == 0
        {
            return;
        }
        if self.is_lull() {
            return self.at(self.lull_until, Event::Fault);
        }
        let every = self.params.fault_every;
        let next = self.dice.fault.log_uniform(every / 8, every * 3);
        self.after(next, Event::Fault);
        let total: u32 = self.params.faults.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.dice.fault.between(1, u64::from(total)) as u32;
        let mut kind = FaultKind::Crash;
        for (candidate, weight) in &self.params.faults {
            if drawn <= *weight {
                kind = *candidate;
                break;
            }
            drawn -= weight;
        }
        self.inflict(kind);
    }

    /// A connection breaks, which both sides learn, or is replaced, which neither is told.
    fn break_or_replace(&mut self, place: Place, other: Place) {
        let kinds = [ConnectionKind::Control, ConnectionKind::Bulk];
        let kind = *self.dice.fault.pick(&kinds);
        if self.dice.fault.chance(0.5) {
            self.sometimes.hit("fault: connection replaced");
            self.replace_connection(place, other, kind);
        } else {
            self.sometimes.hit("fault: connection broken");
            self.break_connection(place, other, kind);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of fault")]
    fn inflict(&mut self, kind: FaultKind) {
        let alive = self.alive();
        if alive.is_empty() {
            return;
        }
        let place = *self.dice.fault.pick(&alive);
        match kind {
            FaultKind::Crash => {
                self.sometimes.hit("fault: crash");
                let kinds = [
                    CrashKind::Process,
                    CrashKind::PowerLoss,
                    CrashKind::PowerLossAll,
                    CrashKind::TornTail,
                ];
                let kind = *self.dice.fault.pick(&kinds);
                self.crash(place, kind);
                self.restart_later(place);
            }
            FaultKind::PowerLossAll => self.power_loss(),
            FaultKind::Freeze => {
                let span = self.dice.fault.log_uniform(100 * MS, 10 * SEC);
                let place = self.perhaps_a_leader(place);
                self.freeze(place, span);
            }
            FaultKind::Split => self.split(),
            FaultKind::OneWay => {
                self.sometimes.hit("fault: one-way cut");
                let other = *self.dice.fault.pick(&alive);
                if other != place {
                    self.cut(place, other);
                }
                self.mend_later(Mend::Heal, 100 * MS, 8 * SEC);
            }
            FaultKind::Break => {
                let other = *self.dice.fault.pick(&alive);
                self.break_or_replace(place, other);
            }
            FaultKind::Stuck => {
                self.sometimes.hit("fault: connection stuck");
                let other = *self.dice.fault.pick(&alive);
                self.stick(place, other);
                self.mend_later(Mend::Heal, 500 * MS, 8 * SEC);
            }
            FaultKind::SlowDisk => {
                self.sometimes.hit("fault: slow disk");
                self.nodes[place].slowness = self.dice.fault.between(5, 100);
                self.mend_later(Mend::Disk(place), 500 * MS, 8 * SEC);
            }
            FaultKind::DiskError => {
                self.sometimes.hit("fault: disk error");
                let operation = *self.dice.fault.pick(&[Operation::Write, Operation::Sync]);
                let nth = self.dice.fault.between(1, 20);
                self.nodes[place].disk.fail(operation, nth, Fault::Io);
            }
            FaultKind::ClockJump => {
                self.sometimes.hit("fault: clock jump");
                let hours = self.dice.fault.between(0, 7_200_000).cast_signed() - 3_600_000;
                self.nodes[place].skew_ms = hours;
                self.mend_later(Mend::Clock(place), SEC, 10 * SEC);
            }
            FaultKind::Restart => self.shut_down(place),
            FaultKind::Drain => {
                self.sometimes.hit("fault: drain");
                self.drain(place, DrainChange::Begin);
                self.mend_later(Mend::Undrain(place), SEC, 10 * SEC);
            }
            FaultKind::BitFlip => self.flip_bit(place),
            FaultKind::LoseDatabase => self.lose_database(place),
            FaultKind::Wipe => self.lose_disk(place),
            FaultKind::OldImage => self.image_by_chance(place),
            FaultKind::Join | FaultKind::Leave => self.change_membership(kind, place, alive.len()),
            FaultKind::CrashLoop
            | FaultKind::PowerLossMost
            | FaultKind::Deaf
            | FaultKind::Bridge
            | FaultKind::Swizzle
            | FaultKind::ClockStrobe
            | FaultKind::ClockDrift
            | FaultKind::DiskFull
            | FaultKind::DiskStall
            | FaultKind::Rolling
            | FaultKind::Replace => self.misfortune(kind, place),
            FaultKind::LogDamage
            | FaultKind::Copy
            | FaultKind::Version
            | FaultKind::RollingVersion => self.mishap(kind, place),
            FaultKind::Isolate
            | FaultKind::SlowLoop
            | FaultKind::RestlessBridge
            | FaultKind::Headless
            | FaultKind::WakesAlone => self.aimed(kind, place),
        }
    }

    fn change_membership(&mut self, kind: FaultKind, place: Place, alive: usize) {
        match kind {
            FaultKind::Join if self.nodes.len() < NODES_MAX => {
                self.sometimes.hit("fault: join");
                self.add_node(Origin::Joins);
            }
            FaultKind::Leave if self.may_lose() && alive > usize::from(self.params.factor) => {
                self.sometimes.hit("fault: leave");
                self.order(place, AdminRequest::Leave { node: None });
                self.repair = Repair::Leaving(place);
            }
            _ => {}
        }
    }

    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Start(place) => {
                let waits = self.nodes[place].process.is_none() && self.left_out != Some(place);
                if waits && self.nodes[place].fate == Fate::Returns {
                    self.closing.remove(&place);
                    self.start(place, Origin::Joins);
                }
            }
            Mend::Heal => {
                self.apart.clear();
                self.heal();
            }
            Mend::Disk(place) => self.nodes[place].slowness = 1,
            Mend::Loop(place) => self.nodes[place].loop_slowness = 1,
            Mend::Undrain(place) => self.drain(place, DrainChange::Undo),
            Mend::Clock(place) => self.nodes[place].set_right(),
            Mend::CrashAgain(place, left) => self.crash_again(place, left),
            Mend::Clog(place) if self.phase == Phase::Faults => self.isolate(place),
            Mend::Clog(_) => {}
            Mend::Unclog(place) => {
                self.apart.remove(&place);
                self.reconnect(place);
            }
            Mend::Strobe(place, left) => self.strobe(place, left),
            Mend::Roll(place) => self.roll(place),
            Mend::Remove(node) => self.remove(node),
            Mend::DamageLog(place, left) => self.damage_log(place, left),
            Mend::StopCopy(place) => self.stop_copy(place),
            Mend::StartAgain(place) => self.start_again(place),
            Mend::Build(place, build) => self.start_as(place, build),
            Mend::RollBuild(place) => self.roll_build(place),
        }
    }

    pub(super) fn mend_later(&mut self, mend: Mend, low: u64, high: u64) {
        let delay = self.dice.fault.log_uniform(low, high);
        self.after(delay, Event::Mend(mend));
    }

    pub(crate) fn restart_later(&mut self, place: Place) {
        self.mend_later(Mend::Start(place), 50 * MS, 8 * SEC);
    }

    /// Power is lost everywhere.
    pub fn power_loss(&mut self) {
        self.sometimes.hit("fault: power loss everywhere");
        for place in self.alive() {
            let kinds = [
                CrashKind::PowerLoss,
                CrashKind::PowerLossAll,
                CrashKind::TornTail,
            ];
            let kind = *self.dice.fault.pick(&kinds);
            self.crash(place, kind);
            self.mend_later(Mend::Start(place), 50 * MS, 2 * SEC);
        }
    }

    /// A process stands still. Its peers give its connections up when nothing comes for long
    /// enough.
    pub fn freeze(&mut self, place: Place, span: u64) {
        self.sometimes.hit("fault: freeze");
        self.trace.line(
            self.now,
            format_args!("node {place} stands still for {} ms", span / MS),
        );
        let wakes = self.now + span;
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        process.busy_until = process.busy_until.max(wakes);
        for other in 0..self.nodes.len() {
            for kind in KINDS {
                let key = key(place, other, kind);
                let Some(epoch) = self.net.conns.get(&key).map(|conn| conn.epoch) else {
                    continue;
                };
                let idle = self
                    .dice
                    .net
                    .between(self.params.net.idle.0, self.params.net.idle.1);
                if idle < span {
                    self.after(
                        idle,
                        Event::SideDown {
                            key,
                            epoch,
                            place: other,
                        },
                    );
                    self.after(span, Event::SideDown { key, epoch, place });
                }
            }
        }
    }

    /// Two halves that do not hear each other.
    fn split(&mut self) {
        self.sometimes.hit("fault: split");
        let count = self.nodes.len();
        let halves: Vec<bool> = (0..count).map(|_| self.dice.fault.chance(0.5)).collect();
        self.trace.line(self.now, format_args!("split: {halves:?}"));
        for one in 0..count {
            for other in 0..count {
                if halves[one] != halves[other] {
                    self.cut(one, other);
                }
            }
        }
        self.mend_later(Mend::Heal, 100 * MS, 10 * SEC);
    }

    /// An orderly end, and a start some time later.
    pub fn shut_down(&mut self, place: Place) {
        let Some(process) = &self.nodes[place].process else {
            return;
        };
        self.sometimes.hit("fault: orderly restart");
        let deadline = process.instant(self.now) + Duration::from_secs(10);
        self.closing.insert(place);
        self.arrive(place, Input::Shutdown { deadline });
    }

    /// Begins or ends a drain.
    pub fn drain(&mut self, place: Place, change: DrainChange) {
        self.order(place, AdminRequest::Drain { node: None, change });
    }

    /// An operator's order.
    pub fn order(&mut self, place: Place, request: AdminRequest) {
        self.trace.line(
            self.now,
            format_args!("node {place} is ordered to {request:?}"),
        );
        self.admin_next += 1;
        let ticket = AdminTicket(self.admin_next);
        self.arrive(place, Input::Admin { ticket, request });
    }

    /// Whether the cluster can lose what this place holds for good.
    pub(super) fn may_lose(&mut self) -> bool {
        let over = match self.repair {
            Repair::Nothing => true,
            Repair::Copies => self.settled(),
            Repair::Leaving(place) => self.nodes[place].fate == Fate::Gone && self.settled(),
            Repair::Latent => false,
        };
        if over {
            self.repair = Repair::Nothing;
        }
        over && self.params.factor >= 3 && self.ours().len() >= 3 && self.settled()
    }

    fn flip_bit(&mut self, place: Place) {
        if !self.may_lose() {
            return;
        }
        self.crash(place, CrashKind::Process);
        let cf = *self
            .dice
            .fault
            .pick(&[Cf::Log, Cf::Raft, Cf::State, Cf::Dedup, Cf::Outbox]);
        let partition = self.dice.fault.index(usize::from(self.params.partitions)) as u16;
        let flipped = self.nodes[place]
            .disk
            .flip_any_bit(cf, &partition.to_be_bytes());
        if flipped.is_some() {
            self.sometimes.hit("fault: bit flip");
            self.repair = Repair::Latent;
        }
        self.trace.line(
            self.now,
            format_args!("a bit flips at {place}: {cf:?} {flipped:?}"),
        );
        self.restart_later(place);
    }

    /// A record of the node itself is damaged: nothing in its database can be trusted.
    pub fn lose_database(&mut self, place: Place) {
        if !self.may_lose() {
            return;
        }
        self.sometimes.hit("fault: database lost");
        self.repair = Repair::Copies;
        self.crash(place, CrashKind::Process);
        let flipped = self.nodes[place].disk.flip_any_bit(Cf::Meta, &[]);
        self.trace.line(
            self.now,
            format_args!("the database of {place} is damaged: {flipped:?}"),
        );
        self.restart_later(place);
    }

    fn lose_disk(&mut self, place: Place) {
        if !self.may_lose() {
            return;
        }
        self.sometimes.hit("fault: disk replaced by an empty one");
        self.repair = Repair::Copies;
        self.crash(place, CrashKind::Process);
        self.replace_disk(place);
        self.restart_later(place);
    }

    /// Ends every fault: cuts heal, nodes start, disks and clocks are right again.
    pub fn calm(&mut self) {
        self.trace.line(self.now, format_args!("all faults end"));
        self.left_out = None;
        self.end_faults();
        for place in 0..self.nodes.len() {
            if self.nodes[place].process.is_none() && self.nodes[place].fate == Fate::Returns {
                self.closing.remove(&place);
                self.start(place, Origin::Joins);
            }
            if self.nodes[place].process.is_some() && !self.closing.contains(&place) {
                self.drain(place, DrainChange::Undo);
            }
        }
    }
}
