//! What keeps the threads from waiting for each other, and from outliving each other.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghostlight_core::io::{ReadTicket, Rest};
use ghostlight_core::turns::RowsWanted;
use ghostlight_protocol::ids::PartitionId;
use tokio::sync::mpsc;

use crate::ports::Port;
use crate::queues::ReadJob;
use crate::reads::Reads;
use crate::threads::{self, ThreadPanic};

/// Longest wait for something that must happen; never reached in a run that passes.
const PATIENCE: Duration = Duration::from_secs(30);

fn job(number: u64) -> ReadJob {
    ReadJob {
        ticket: ReadTicket(number),
        partition: PartitionId(0),
        rows: RowsWanted::Keys(Vec::new()),
    }
}

/// One input may ask for more reads than all queues hold, while the readers wait for room.
#[test]
fn core_and_readers_never_wait_for_each_other() {
    const READS: u64 = 1_000;
    const QUEUE: usize = 4;
    const READERS: usize = 2;
    let (jobs, queue) = sync_channel::<ReadJob>(QUEUE);
    let (row, rows) = mpsc::channel(QUEUE + READERS + 1);
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..READERS {
        let (queue, row) = (Arc::clone(&queue), row.clone());
        std::thread::spawn(move || {
            loop {
                let job = queue.lock().unwrap().recv();
                let Ok(ReadJob {
                    ticket, partition, ..
                }) = job
                else {
                    return;
                };
                let nothing = Ok((Vec::new(), Rest::Last));
                if row.blocking_send((ticket, partition, nothing)).is_err() {
                    return;
                }
            }
        });
    }
    let (done, over) = sync_channel(1);
    std::thread::spawn(move || {
        let mut reads = Reads::new(Port::Thread(jobs), rows, QUEUE);
        for number in 0..READS {
            reads.submit(job(number));
        }
        assert!(reads.are_many());
        let mut found = Vec::new();
        while found.len() < READS as usize {
            match reads.try_next() {
                Some((ticket, ..)) => found.push(ticket.0),
                None => std::thread::yield_now(),
            }
        }
        assert!(!reads.are_many());
        found.sort_unstable();
        done.send(found).unwrap();
    });
    let found = over.recv_timeout(PATIENCE).expect("nobody waits for ever");
    assert!(found.into_iter().eq(0..READS));
}

#[test]
fn a_panic_in_a_thread_of_the_node_is_reported() {
    let (panics, mut heard) = mpsc::channel(1);
    let quiet = threads::spawn("quiet", panics.clone(), || {}).unwrap();
    let loud = threads::spawn("loud", panics, || panic!("{}", "x".repeat(100_000))).unwrap();
    quiet.join().unwrap();
    loud.join().unwrap();
    let ThreadPanic { thread, message } = heard.blocking_recv().unwrap();
    assert_eq!(thread, "loud");
    assert!(message.starts_with("xxx") && message.len() < 10_000);
    assert_eq!(heard.blocking_recv(), None, "the other one ended well");
}
