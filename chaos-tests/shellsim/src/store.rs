//! What stands for the threads that touch the store: three tasks, each as slow as the seed has it.
//! They do what `ghostlight_shell::store_threads` does, and a crash finds them anywhere in between.

use ghostlight_core::io::{Room, SnapshotEffect, StoreEffect, StoreInput};
use ghostlight_disk::{Disk, PAGE_BYTES, Snapshots, read_rows};
use ghostlight_shell::ports::{Port, StorePorts};
use ghostlight_shell::queues::{
    DISK_ANSWERS_MAX, DISK_BATCHES_MAX, DiskAnswer, DiskBatch, READ_ANSWERS_MAX, READS_MAX,
    ReadAnswer, ReadJob, SNAPSHOTS_MAX,
};
use ghostlight_shell::reads::Reads;
use ghostlight_storage::{MemoryEngine, Reader, Remedy};
use tokio::sync::mpsc;

use crate::dice::{Dice, MS};
use crate::machine::{Driver, Machine};

/// Shortest and longest time of a read, in nanoseconds.
const READ_NANOS: (u64, u64) = (MS / 100, 2 * MS);

/// How fast a disk is.
pub(crate) struct Pace {
    dice: Dice,
    /// Shortest and longest sync, in nanoseconds.
    sync: (u64, u64),
}

impl Pace {
    pub(crate) fn draw(mut dice: Dice) -> Self {
        let low = dice.between(MS / 5, 4 * MS);
        let high = low + dice.between(0, 10 * MS);
        Self {
            dice,
            sync: (low, high),
        }
    }
}

/// Starts the tasks of one process; gives the loop's ends of their queues.
pub(crate) fn start(
    driver: &Driver,
    disk: Disk<MemoryEngine>,
    reader: &Reader<MemoryEngine>,
    mut pace: Pace,
) -> StorePorts {
    let (batches, batch_queue) = mpsc::channel(DISK_BATCHES_MAX);
    let (answer, answers) = mpsc::channel(DISK_ANSWERS_MAX);
    let (reads, read_queue) = mpsc::channel(READS_MAX);
    let (row, rows) = mpsc::channel(READ_ANSWERS_MAX);
    let (snapshots, snapshot_queue) = mpsc::channel(SNAPSHOTS_MAX);
    // Nothing here is a thread that could panic by itself: a panic ends the run.
    let (_, panics) = mpsc::channel(1);
    let machine = &driver.machine;
    let reading = pace.dice.fork();
    let written = write_all(machine.clone(), disk, batch_queue, answer.clone(), pace);
    machine.spawn(driver.owner, written);
    let read = read_all(machine.clone(), reader.clone(), read_queue, row, reading);
    machine.spawn(driver.owner, read);
    let sending = Snapshots::new(reader.clone());
    let sent = send_all(sending, snapshot_queue, answer, batches.clone());
    machine.spawn(driver.owner, sent);
    StorePorts {
        batches: Port::Task(batches),
        answers,
        reads: Reads::new(Port::Task(reads), rows, READS_MAX),
        snapshots: Port::Task(snapshots),
        panics,
    }
}

async fn write_all(
    machine: Machine,
    mut disk: Disk<MemoryEngine>,
    mut queue: mpsc::Receiver<DiskBatch>,
    answer: mpsc::Sender<DiskAnswer>,
    mut pace: Pace,
) {
    let room = StoreInput::Room(Room {
        free_bytes: u64::MAX,
        total_bytes: u64::MAX,
    });
    if answer.send(Ok(vec![room])).await.is_err() {
        return;
    }
    while let Some(mut batch) = queue.recv().await {
        while let Ok(more) = queue.try_recv() {
            batch.extend(more);
        }
        let (mut inputs, mut result) = (Vec::new(), Ok(()));
        for effect in batch {
            if matches!(effect, StoreEffect::Persist { .. }) {
                // What is applied waits for no sync but its own.
                let applied = std::mem::take(&mut inputs);
                if !applied.is_empty() && answer.send(Ok(applied)).await.is_err() {
                    return;
                }
                let nanos = pace.dice.between(pace.sync.0, pace.sync.1);
                machine.sleep(nanos).await;
            }
            result = disk.perform(vec![effect], &mut inputs);
            if result.is_err() {
                break;
            }
        }
        let failed = result.is_err();
        if answer.send(result.map(|()| inputs)).await.is_err() || failed {
            return;
        }
    }
}

async fn read_all(
    machine: Machine,
    reader: Reader<MemoryEngine>,
    mut queue: mpsc::Receiver<ReadJob>,
    answer: mpsc::Sender<ReadAnswer>,
    mut dice: Dice,
) {
    while let Some(ReadJob {
        ticket,
        partition,
        rows,
    }) = queue.recv().await
    {
        let nanos = dice.between(READ_NANOS.0, READ_NANOS.1);
        machine.sleep(nanos).await;
        let rows = read_rows(&reader, partition, &rows, PAGE_BYTES);
        if answer.send((ticket, partition, rows)).await.is_err() {
            return;
        }
    }
}

async fn send_all(
    mut snapshots: Snapshots<MemoryEngine>,
    mut queue: mpsc::Receiver<SnapshotEffect>,
    answer: mpsc::Sender<DiskAnswer>,
    damages: mpsc::Sender<DiskBatch>,
) {
    while let Some(effect) = queue.recv().await {
        let heard = match snapshots.perform(effect) {
            Ok(None) => continue,
            Ok(Some(input)) => answer.send(Ok(vec![input])).await.is_ok(),
            Err(error) => match error.remedy() {
                Remedy::Condemn(partition) => {
                    let why = error.to_string();
                    let batch = vec![StoreEffect::Condemn { partition, why }];
                    damages.send(batch).await.is_ok()
                }
                Remedy::EndProcess | Remedy::Refuse => {
                    drop(answer.send(Err(error)).await);
                    false
                }
            },
        };
        if !heard {
            return;
        }
    }
}
