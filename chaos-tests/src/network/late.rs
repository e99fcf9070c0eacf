//! Datagrams that are on their way: one thread sends each when its time has come.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Datagrams on their way to the thread; a sender waits for room, as before a full link.
const QUEUE_MAX: usize = 16_384;

/// See the module. Dropped: what is on its way is lost.
#[derive(Debug)]
pub(super) struct Late {
    queue: Option<SyncSender<OnItsWay>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct OnItsWay {
    due: Instant,
    datagram: Vec<u8>,
    by: Arc<UdpSocket>,
    at: SocketAddr,
}

impl Late {
    pub(super) fn start() -> Self {
        let (queue, taken) = sync_channel(QUEUE_MAX);
        let thread = std::thread::spawn(move || send_when_due(&taken));
        Self {
            queue: Some(queue),
            thread: Some(thread),
        }
    }

    pub(super) fn send(
        &self,
        delay: Duration,
        datagram: Vec<u8>,
        by: Arc<UdpSocket>,
        at: SocketAddr,
    ) {
        let due = Instant::now() + delay;
        let one = OnItsWay {
            due,
            datagram,
            by,
            at,
        };
        if let Some(queue) = &self.queue {
            // The thread ends with this.
            drop(queue.send(one));
        }
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn send_when_due(taken: &Receiver<OnItsWay>) {
    let mut waiting: BTreeMap<(Instant, u64), OnItsWay> = BTreeMap::new();
    for number in 0.. {
        while let Some(first) = waiting.first_entry()
            && first.key().0 <= Instant::now()
        {
            let one = first.remove();
            // A node that does not run loses what is sent to it.
            drop(one.by.send_to(&one.datagram, one.at));
        }
        let next = match waiting.first_key_value() {
            Some(((due, _), _)) => {
                taken.recv_timeout(due.saturating_duration_since(Instant::now()))
            }
            None => taken.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(one) => drop(waiting.insert((one.due, number), one)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
