//! The threads that touch the store: one that writes, a few that read rows, one that reads
//! snapshots. No RocksDB call happens elsewhere. One more looks how much room the disk has: a file
//! system that hangs must keep nobody waiting.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ghostlight_core::io::{SnapshotEffect, StoreEffect, StoreInput};
use ghostlight_disk::{Disk, PAGE_BYTES, Snapshots, read_rows};
use ghostlight_storage::{Engine, Reader, Remedy, Room};
use tokio::sync::mpsc;

use crate::metrics;
use crate::ports::{Port, StorePorts};
use crate::queues::{
    DISK_ANSWERS_MAX, DISK_BATCHES_MAX, DiskAnswer, DiskBatch, READ_ANSWERS_MAX, READERS,
    READS_MAX, ReadAnswer, ReadJob, SNAPSHOTS_MAX,
};
use crate::reads::Reads;
use crate::threads::{self, PANICS_MAX, ThreadPanic};

/// The store's threads. They end after what is queued, once the loop's ends of their queues are
/// gone.
#[derive(Debug)]
pub struct StoreThreads {
    /// Where other threads of the node say that they have panicked.
    pub panicked: mpsc::Sender<ThreadPanic>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped: nobody wants to know of the disk's room any more.
    room: SyncSender<()>,
}

/// Pause between two looks at the disk's room.
const ROOM_PAUSE: Duration = Duration::from_secs(2);

impl StoreThreads {
    /// Starts them; gives the loop's ends of their queues.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start<E: Engine>(disk: Disk<E>, reader: Reader<E>) -> std::io::Result<(StorePorts, Self)>
    where
        E::View: Send,
    {
        let (batches, batch_queue) = sync_channel(DISK_BATCHES_MAX);
        let (answer, answers) = mpsc::channel(DISK_ANSWERS_MAX);
        let (reads, read_queue) = sync_channel(READS_MAX);
        let (row, rows) = mpsc::channel(READ_ANSWERS_MAX);
        let (panic, panics) = mpsc::channel(PANICS_MAX);
        let (snapshots, snapshot_queue) = sync_channel(SNAPSHOTS_MAX);
        let sending = Snapshots::new(reader.clone());
        let (room, room_end) = sync_channel(0);
        let (room_reader, room_told) = (reader.clone(), answer.clone());
        let (told, damages) = (answer.clone(), batches.clone());
        let mut threads = vec![
            threads::spawn("disk", panic.clone(), move || {
                write_all(disk, &batch_queue, &answer);
            })?,
            threads::spawn("snapshots", panic.clone(), move || {
                send_all(sending, &snapshot_queue, &told, &damages);
            })?,
            threads::spawn("room", panic.clone(), move || {
                watch_room(&room_reader, &room_told, &room_end);
            })?,
        ];
        let read_queue = Arc::new(Mutex::new(read_queue));
        for number in 0..READERS {
            let (queue, reader, row) = (Arc::clone(&read_queue), reader.clone(), row.clone());
            let name = format!("read-{number}");
            threads.push(threads::spawn(&name, panic.clone(), move || {
                read_all(&reader, &queue, &row);
            })?);
        }
        let ports = StorePorts {
            batches: Port::Thread(batches),
            answers,
            reads: Reads::new(Port::Thread(reads), rows, READS_MAX),
            snapshots: Port::Thread(snapshots),
            panics,
        };
        let threads = Self {
            panicked: panic,
            threads,
            room,
        };
        Ok((ports, threads))
    }

    /// Waits until everything queued is done and the store is closed.
    pub fn end(self, ports: StorePorts) {
        let Self {
            panicked,
            threads,
            room,
        } = self;
        let StorePorts {
            batches,
            answers,
            reads,
            snapshots,
            panics,
        } = ports;
        drop((batches, reads, snapshots, room));
        for thread in threads {
            // A panic there has been reported by its thread.
            drop(thread.join());
        }
        drop((answers, panics, panicked));
    }
}

fn watch_room<E: Engine>(
    reader: &Reader<E>,
    answer: &mpsc::Sender<DiskAnswer>,
    end: &Receiver<()>,
) {
    loop {
        match reader.room() {
            Ok(Room {
                free_bytes,
                total_bytes,
            }) => {
                // Memory, which edges have instead, knows no end.
                if total_bytes < u64::MAX {
                    metrics::room(free_bytes);
                }
                let room = StoreInput::Room(ghostlight_core::io::Room {
                    free_bytes,
                    total_bytes,
                });
                // Full: the core is far behind, and the next look will do as well.
                drop(answer.try_send(Ok(vec![room])));
            }
            Err(error) => tracing::debug!(%error, "the room on the disk is not known"),
        }
        match end.recv_timeout(ROOM_PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn write_all<E: Engine>(
    mut disk: Disk<E>,
    queue: &Receiver<DiskBatch>,
    answer: &mpsc::Sender<DiskAnswer>,
) {
    while let Ok(mut batch) = queue.recv() {
        let mut batches = 1;
        // What waits is done together; answers stay at most two per batch, so that their queue
        // never fills.
        while let Ok(more) = queue.try_recv() {
            batch.extend(more);
            batches += 1;
        }
        debug_assert!(batches >= 1);
        let mut inputs = Vec::new();
        let mut result = Ok(());
        for effect in batch {
            let begun = match effect {
                StoreEffect::Persist { .. } => {
                    // What is applied waits for no sync but its own: who asked for it goes on
                    // meanwhile, and the core has the next batch ready when this one is synced.
                    let applied = std::mem::take(&mut inputs);
                    if !applied.is_empty() && answer.blocking_send(Ok(applied)).is_err() {
                        return;
                    }
                    Some(Instant::now())
                }
                _ => None,
            };
            result = disk.perform(vec![effect], &mut inputs);
            if let Some(begun) = begun {
                metrics::synced(begun.elapsed());
            }
            if result.is_err() {
                break;
            }
        }
        let failed = result.is_err();
        if answer.blocking_send(result.map(|()| inputs)).is_err() || failed {
            return;
        }
    }
}

fn read_all<E: Engine>(
    reader: &Reader<E>,
    queue: &Mutex<Receiver<ReadJob>>,
    answer: &mpsc::Sender<ReadAnswer>,
) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(ReadJob {
            ticket,
            partition,
            rows,
        }) = job
        else {
            return;
        };
        let rows = read_rows(reader, partition, &rows, PAGE_BYTES);
        if answer.blocking_send((ticket, partition, rows)).is_err() {
            return;
        }
    }
}

/// Reads the snapshots that are sent. What it finds damaged, the writer sets aside.
fn send_all<E: Engine>(
    mut snapshots: Snapshots<E>,
    queue: &Receiver<SnapshotEffect>,
    answer: &mpsc::Sender<DiskAnswer>,
    damages: &SyncSender<DiskBatch>,
) {
    while let Ok(effect) = queue.recv() {
        let heard = match snapshots.perform(effect) {
            Ok(None) => continue,
            Ok(Some(input)) => answer.blocking_send(Ok(vec![input])).is_ok(),
            Err(error) => match error.remedy() {
                Remedy::Condemn(partition) => {
                    let why = error.to_string();
                    damages
                        .send(vec![StoreEffect::Condemn { partition, why }])
                        .is_ok()
                }
                Remedy::EndProcess | Remedy::Refuse => {
                    // The core's thread ends the node; if it has ended, nobody wants to know.
                    drop(answer.blocking_send(Err(error)));
                    false
                }
            },
        };
        if !heard {
            return;
        }
    }
}
