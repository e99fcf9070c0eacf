//! What people and files do to a node: a damaged log, a copied directory, another version of the
//! program.

use ghostlight_core::node::Trust;
use ghostlight_protocol::code::Code;
use ghostlight_storage::MemoryDisk;
use ghostlight_storage::memory::{CrashKind, LogDamage};

use super::boot::Origin;
use super::nemesis::NODES_MAX;
use super::{Event, Mend, Phase, Repair, World};
use crate::dice::{MS, SEC};
use crate::net::Place;
use crate::params::FaultKind;
use crate::process::{Build, Fallen, Fate, Node};

/// How often it is looked whether a disk has nothing to do, and after which time again.
const LOOKS: (u64, u64) = (200, 3 * MS);

/// How long after the end of a copy its original is started again.
const LOOKED_AFTER: u64 = 5 * SEC;

impl World {
    /// One of the faults of this file.
    pub(super) fn mishap(&mut self, kind: FaultKind, place: Place) {
        match kind {
            FaultKind::LogDamage => self.damage_log(place, LOOKS.0),
            FaultKind::Copy => self.copy(place),
            FaultKind::Version => {
                self.start_as(place, Build::Other);
                self.mend_later(Mend::Build(place, Build::Usual), SEC, 30 * SEC);
            }
            FaultKind::RollingVersion => {
                self.sometimes.hit("fault: rolling change of version");
                self.roll_build(0);
            }
            other => self.violate(format!("{other:?} is no such fault")),
        }
    }

    /// A bit flips in the file of a log, while its node is down. What it lacks then may have been
    /// synced: so the others must have all of it, and have heard of it. A node whose disk has
    /// nothing to do has told what it has synced.
    pub fn damage_log(&mut self, place: Place, looks: u64) {
        let Some(process) = &self.nodes[place].process else {
            return;
        };
        let busy = !process.store.busy.is_empty() || !process.inbox.is_empty();
        if busy && looks > 0 {
            let again = Mend::DamageLog(place, looks - 1);
            return self.after(LOOKS.1, Event::Mend(again));
        }
        if busy || self.phase == Phase::Quiet || !self.may_lose() {
            return;
        }
        self.crash(place, CrashKind::Process);
        let damage = self.nodes[place].disk.damage_log();
        let doubt = match damage {
            LogDamage::None => return self.restart_later(place),
            LogDamage::Tail => Trust::Whole,
            LogDamage::Within { .. } => Trust::InDoubt,
        };
        self.sometimes.hit("fault: bit flip in the file of a log");
        self.trace.line(
            self.now,
            format_args!("the log of {place} is damaged: {damage:?}"),
        );
        self.repair = Repair::Copies;
        self.nodes[place].trust = doubt;
        self.nodes[place].fallen = Fallen::Unknown;
        self.restart_later(place);
    }

    /// Somebody starts a copy of a directory on another machine, while the original runs. It may be
    /// as it is now, or as it was when an image was kept. An operator stops the copy in the end.
    pub fn copy(&mut self, place: Place) {
        if self.nodes.len() >= NODES_MAX || !self.may_lose() {
            return;
        }
        self.sometimes
            .hit("fault: copy of a directory started beside the original");
        let image = self.nodes[place].image.take();
        let image = image.unwrap_or_else(|| self.nodes[place].disk.image());
        let disk = MemoryDisk::new(self.dice.node.any());
        disk.restore(&image);
        let copy = self.nodes.len();
        let node = Node {
            disk,
            copy_of: Some(place),
            // With another program it would be a member among those that the original does not
            // speak to: two halves, each with a node of that id that nobody can tell from the
            // other.
            build: self.nodes[place].build,
            ..self.empty_place(copy)
        };
        self.nodes.push(node);
        // The original may be taken for the copy; and what the copy has promised, it does not have.
        self.nodes[place].fallen = Fallen::Unknown;
        self.repair = Repair::Leaving(copy);
        self.trace.line(
            self.now,
            format_args!("the directory of {place} is started at {copy} as well"),
        );
        self.start(copy, Origin::Joins);
        self.mend_later(Mend::StopCopy(copy), 3 * SEC, 30 * SEC);
    }

    /// Whether a process that ended by a refusal is that of a copy: it is not started again.
    pub(super) fn copy_ends(&mut self, place: Place, code: Code) -> bool {
        let refused = matches!(code, Code::StaleGeneration | Code::PromisesLost);
        if self.nodes[place].copy_of.is_none() || !refused {
            return false;
        }
        self.sometimes.hit("copy of a directory refused");
        self.stop_copy(place);
        true
    }

    /// A copy is gone for good. Its original may be shut out: who has met the copy, as a later run,
    /// takes it for an old one, and what is dialed is not told why it is refused. So it is started
    /// again.
    pub(super) fn stop_copy(&mut self, place: Place) {
        let Some(original) = self.nodes[place].copy_of else {
            return;
        };
        if self.nodes[place].fate == Fate::Returns {
            self.abandon(place, CrashKind::Process);
            // Until then nothing counts as whole.
            self.closing.insert(original);
            self.after(LOOKED_AFTER, Event::Mend(Mend::StartAgain(original)));
        }
    }

    pub(super) fn start_again(&mut self, place: Place) {
        // It may have been started again already.
        if self.closing.remove(&place) && self.nodes[place].process.is_some() {
            self.crash(place, CrashKind::Process);
            self.restart_later(place);
        }
    }

    /// A node is started as a version that speaks these frames.
    pub fn start_as(&mut self, place: Place, build: Build) {
        if self.nodes[place].build == build || self.nodes[place].fate == Fate::Gone {
            return;
        }
        if build == Build::Other {
            if self.phase == Phase::Quiet {
                return;
            }
            self.sometimes.hit("fault: node of another version");
        }
        self.nodes[place].build = build;
        self.trace.line(
            self.now,
            format_args!("node {place} is of version {build:?} from now on"),
        );
        if self.nodes[place].process.is_some() {
            self.crash(place, CrashKind::Process);
            self.restart_later(place);
        }
    }

    /// One node after the other is started as the other version, and with the last one they are a
    /// cluster again.
    pub(super) fn roll_build(&mut self, place: Place) {
        if self.phase == Phase::Quiet || place >= self.nodes.len() {
            return;
        }
        self.start_as(place, Build::Other);
        let next = self.dice.fault.log_uniform(SEC, 4 * SEC);
        self.after(next, Event::Mend(Mend::RollBuild(place + 1)));
    }

    /// Copies are stopped, and all nodes are of the usual version.
    pub(super) fn end_mishaps(&mut self) {
        for place in 0..self.nodes.len() {
            if self.nodes[place].copy_of.is_some() {
                self.stop_copy(place);
            }
            if self.nodes[place].build == Build::Other {
                self.nodes[place].build = Build::Usual;
                if self.nodes[place].process.is_some() {
                    self.closing.remove(&place);
                    self.crash(place, CrashKind::Process);
                    self.start(place, Origin::Joins);
                }
            }
        }
    }
}
