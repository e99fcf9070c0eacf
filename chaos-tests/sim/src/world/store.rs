//! The store's thread: effects in order, after the disk's delay; reads beside it.

use ghostlight_core::io::{Input, ReadTicket, Rest, SnapshotEffect, StoreEffect, StoreInput};
use ghostlight_core::turns::RowsWanted;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_storage::memory::CrashKind;
use ghostlight_storage::{Remedy, StorageError};

use super::{Event, Phase, World};
use crate::dice::{MS, US};
use crate::net::Place;
use crate::process::syncs;

impl World {
    pub(crate) fn queue_store(&mut self, place: Place, effect: StoreEffect) {
        if let Err(what) = self.checks.asked(place, &effect) {
            return self.violate(what);
        }
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let store = &mut process.store;
        store.queue.push_back(effect);
        if store.busy.is_empty() {
            self.begin_store(place);
        }
    }

    /// The thread takes what waits.
    fn begin_store(&mut self, place: Place) {
        let run = self.nodes[place].run;
        let slowness = self.nodes[place].slowness;
        let stalled = self.nodes[place].stalled_until.saturating_sub(self.now);
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let store = &mut process.store;
        store.busy = store.queue.drain(..).collect();
        if store.busy.is_empty() {
            return;
        }
        let synced = store.busy.iter().filter(|effect| syncs(effect)).count() as u64;
        let others = store.busy.len() as u64 - synced;
        let mut delay = others * self.dice.disk.between(5 * US, 50 * US);
        let (low, high) = self.params.disk.sync;
        for _ in 0..synced {
            delay += self.dice.disk.between(low, high);
        }
        delay *= slowness;
        let (p, shortest, longest) = self.params.disk.stall;
        if self.phase == Phase::Faults && synced > 0 && self.dice.disk.chance(p) {
            self.sometimes.hit("disk stalled");
            delay += self.dice.disk.log_uniform(shortest, longest);
        }
        if synced > 0 {
            delay = delay.max(stalled);
        }
        self.after(delay, Event::DiskDone { place, run });
    }

    pub(crate) fn disk_done(&mut self, place: Place, run: u64) {
        if self.nodes[place].run != run {
            return;
        }
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let effects = std::mem::take(&mut process.store.busy);
        let mut inputs = Vec::new();
        let result = process.disk.perform(effects, &mut inputs);
        if let Err(error) = result {
            // What was done before it is done, though nobody is told.
            for input in inputs {
                if let Err(what) = self.checks.answered(place, self.now, &input) {
                    return self.violate(what);
                }
            }
            return self.store_failed(place, &error);
        }
        for input in inputs {
            self.store_answers(place, input);
        }
        self.perhaps_dies_with_publish(place);
        self.begin_store(place);
    }

    fn store_answers(&mut self, place: Place, input: StoreInput) {
        if let Err(what) = self.checks.answered(place, self.now, &input) {
            return self.violate(what);
        }
        if matches!(input, StoreInput::Installed { .. }) {
            self.sometimes.hit("snapshot installed");
        }
        self.note_answer(&input);
        if let StoreInput::InstallRefused { replica, why } = &input {
            self.sometimes.hit("snapshot refused by the store");
            let partition = replica.partition;
            self.trace.line(
                self.now,
                format_args!("node {place}: {partition} keeps its state: {why}"),
            );
        }
        self.arrive(place, Input::Store(input));
    }

    fn store_failed(&mut self, place: Place, error: &StorageError) {
        match error.remedy() {
            Remedy::EndProcess => {
                self.sometimes.hit("process ended by its disk");
                self.crash(place, CrashKind::Process);
                self.restart_later(place);
            }
            Remedy::Condemn(_) | Remedy::Refuse => {
                self.violate(format!(
                    "node {place}: the store refused what the core asked: {error}"
                ));
            }
        }
    }

    /// A read is beside the thread: it may see an apply that was wanted before it, or not.
    pub(crate) fn queue_read(
        &mut self,
        place: Place,
        ticket: ReadTicket,
        partition: PartitionId,
        rows: RowsWanted,
    ) {
        let run = self.nodes[place].run;
        let delay = self.dice.disk.log_uniform(5 * US, 20 * MS);
        self.after(
            delay,
            Event::Read {
                place,
                run,
                ticket,
                partition,
                rows,
            },
        );
    }

    pub(crate) fn read(
        &mut self,
        place: Place,
        run: u64,
        ticket: ReadTicket,
        partition: PartitionId,
        rows: &RowsWanted,
    ) {
        if self.nodes[place].run != run {
            return;
        }
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let page_bytes = self.params.disk.page_bytes;
        match ghostlight_disk::read_rows(&process.reader, partition, rows, page_bytes) {
            // By a way of its own: what was applied after the read may be told before it.
            Ok((rows, rest)) => {
                if rest == Rest::More {
                    self.sometimes.hit("page of rows cut");
                }
                let input = Input::Store(StoreInput::Rows { ticket, rows, rest });
                let delay = self.dice.disk.log_uniform(2 * US, 5 * MS);
                self.after(
                    delay,
                    Event::Arrive {
                        place,
                        run,
                        input: Box::new(input),
                    },
                );
            }
            Err(error) => self.read_failed(place, error),
        }
    }

    /// Snapshots are read beside the thread too, one effect after the other.
    pub(crate) fn queue_snapshot(&mut self, place: Place, effect: SnapshotEffect) {
        let run = self.nodes[place].run;
        let delay = self.dice.disk.log_uniform(20 * US, 5 * MS);
        let now = self.now;
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let at = (now + delay).max(process.snapshots_latest + 1);
        process.snapshots_latest = at;
        self.at(at, Event::Snapshot { place, run, effect });
    }

    pub(crate) fn snapshot(&mut self, place: Place, run: u64, effect: SnapshotEffect) {
        if self.nodes[place].run != run {
            return;
        }
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        match process.snapshots.perform(effect) {
            Ok(Some(input)) => self.arrive(place, Input::Store(input)),
            Ok(None) => {}
            Err(error) => self.read_failed(place, error),
        }
    }

    fn read_failed(&mut self, place: Place, error: StorageError) {
        self.sometimes.hit("damage found by a read");
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let mut inputs = Vec::new();
        if let Err(error) = process.disk.read_failed(error, &mut inputs) {
            return self.store_failed(place, &error);
        }
        for input in inputs {
            self.store_answers(place, input);
        }
    }

    /// At a crash some of what the thread was doing may have reached the disk, unreported.
    pub(crate) fn perform_some(&mut self, place: Place) {
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let mut effects = std::mem::take(&mut process.store.busy);
        if effects.is_empty() || self.dice.disk.chance(0.5) {
            return;
        }
        effects.truncate(self.dice.disk.between(0, effects.len() as u64) as usize);
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let mut inputs = Vec::new();
        // An error here is that of a process that is about to die.
        if process.disk.perform(effects, &mut inputs).is_ok() {
            self.sometimes.hit("write survived unreported");
        }
        for input in inputs {
            if let Err(what) = self.checks.answered(place, self.now, &input) {
                return self.violate(what);
            }
        }
    }
}
