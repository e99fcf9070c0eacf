//! The sending side of a connection: long-lived lanes, and a stream of its own for each large
//! frame.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use ghostlight_core::io::Lane;
use ghostlight_protocol::limits::FRAME_BYTES_MAX;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::ConnectionKind;
use ghostlight_protocol::wire::{FRAME_PREFIX_BYTES, encode_frame};
use quinn::{Connection, Runtime, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lanes_of;
use super::queue::{
    EPHEMERAL_LANE_BYTES_MAX, LANE_BYTES_MAX, LaneQueue, LargeFrame, LargeFrames, Pump,
};

/// Detached frames of one lane that are under way at once.
pub(super) const LARGE_AT_ONCE_MAX: usize = 8;
/// Their bytes; one frame may exceed it alone.
pub(super) const LARGE_AHEAD_BYTES: usize = 4 << 20;
/// Bytes in front of a detached frame: lane, number (0: no place), partition.
pub(super) const LARGE_HEADER_BYTES: usize = 11;

const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(LARGE_AHEAD_BYTES < u32::MAX as usize);

/// Why a frame was not queued. It certainly was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This connection has no such lane, or is gone.
    #[error("not connected")]
    NotConnected,
    /// The lane is full: the peer is slower than we are.
    #[error("the lane is full")]
    Full,
}

/// How to send on one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LinkHandle {
    /// Which connection of its node pair this is.
    pub kind: ConnectionKind,
    lanes: Arc<[(Lane, Arc<LaneQueue>)]>,
    pump: Arc<Pump>,
    connection: Connection,
}

impl LinkHandle {
    /// Queues a frame; never waits. It leaves with the next [`flush`](Self::flush), of any
    /// connection of the same kind.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn send(&self, lane: Lane, frame: Frame) -> Result<(), SendError> {
        let found = self.lanes.iter().find(|(l, _)| *l == lane);
        let (_, queue) = found.ok_or(SendError::NotConnected)?;
        queue.push(frame)
    }

    /// Queues an event of an ephemeral topic: a frame that is encoded already, with its length
    /// before it, and may be on its way to others as well. Never waits.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn send_ephemeral(&self, encoded: &Bytes) -> Result<(), SendError> {
        let found = self.lanes.iter().find(|(l, _)| *l == Lane::Ephemeral);
        let (_, queue) = found.ok_or(SendError::NotConnected)?;
        queue.push_encoded(encoded)
    }

    /// Lets everything queued leave.
    pub fn flush(&self) {
        self.pump.kick();
    }

    /// Sends a datagram; it may be lost.
    pub fn send_datagram(&self, data: Bytes) {
        // Too large for the path's present size, or closed: a lost datagram, which gossip survives.
        drop(self.connection.send_datagram(data));
    }

    /// Closes the connection.
    pub fn close(&self, why: &str) {
        self.connection
            .close(quinn::VarInt::from_u32(0), why.as_bytes());
    }
}

/// Four levels on the bulk connection, no more: appends; calls and pushes; large frames and
/// ephemeral topics; snapshots.
fn priority(lane: Lane) -> i32 {
    match lane {
        Lane::Control | Lane::Inquiry | Lane::Append => 2,
        Lane::Call(_) | Lane::Push => 1,
        Lane::Ephemeral => 0,
        Lane::Snapshot => -1,
    }
}

fn large_priority(lane: Lane) -> i32 {
    match lane {
        Lane::Control
        | Lane::Inquiry
        | Lane::Append
        | Lane::Call(_)
        | Lane::Push
        | Lane::Ephemeral => 0,
        Lane::Snapshot => -1,
    }
}

/// Opens this side's lanes of a connection and starts their writers.
pub(super) async fn open(
    kind: ConnectionKind,
    connection: &Connection,
    pump: &Arc<Pump>,
    runtime: &Arc<dyn Runtime>,
) -> Result<LinkHandle, quinn::ConnectionError> {
    let mut lanes = Vec::new();
    for (number, lane) in (0_u8..).zip(lanes_of(kind)) {
        let (large_frames, bytes) = match (kind, lane) {
            // Nothing of a user travels there, and nothing else uses the connection.
            (ConnectionKind::Control | ConnectionKind::Inquiry, _) => {
                (LargeFrames::InLine, LANE_BYTES_MAX)
            }
            // Whoever is behind there loses events, and a large one must not be overtaken by its
            // publisher's next.
            (ConnectionKind::Bulk, Lane::Ephemeral) => {
                (LargeFrames::InLine, EPHEMERAL_LANE_BYTES_MAX)
            }
            (ConnectionKind::Bulk, _) => (LargeFrames::Detached, LANE_BYTES_MAX),
        };
        let stream = connection.open_uni().await?;
        // Fails only on a closed stream: then the first write says so.
        drop(stream.set_priority(priority(lane)));
        let queue = Arc::new(LaneQueue::new(large_frames, bytes, Arc::clone(pump)));
        let writer = Writer {
            number,
            queue: Arc::clone(&queue),
            connection: connection.clone(),
            runtime: Arc::clone(runtime),
        };
        if large_frames == LargeFrames::Detached {
            let write = writer.clone().write_large(large_priority(lane));
            runtime.spawn(Box::pin(write));
        }
        runtime.spawn(Box::pin(writer.write_lane(stream)));
        lanes.push((lane, queue));
    }
    Ok(LinkHandle {
        kind,
        lanes: lanes.into(),
        pump: Arc::clone(pump),
        connection: connection.clone(),
    })
}

#[derive(Clone)]
struct Writer {
    number: u8,
    queue: Arc<LaneQueue>,
    connection: Connection,
    runtime: Arc<dyn Runtime>,
}

impl Writer {
    async fn write_lane(self, mut stream: SendStream) {
        let _ends = EndsConnection(&self);
        let mut alive = stream.write_all(&[self.number]).await.is_ok();
        while alive {
            alive = match self.queue.take() {
                Some(bytes) => stream.write_chunk(bytes).await.is_ok(),
                None => self.alive_when(&self.queue.ready).await,
            };
        }
    }

    /// Detached frames are begun in the order of their places: the receiver relies on it.
    async fn write_large(self, priority: i32) {
        let at_once = Arc::new(Semaphore::new(LARGE_AT_ONCE_MAX));
        let ahead = Arc::new(Semaphore::new(LARGE_AHEAD_BYTES));
        loop {
            let Some(large) = self.queue.take_large() else {
                if self.alive_when(&self.queue.large_ready).await {
                    continue;
                }
                return;
            };
            let bytes = large.bytes.min(LARGE_AHEAD_BYTES) as u32;
            let permits = async {
                let one = Arc::clone(&at_once).acquire_owned().await.ok()?;
                let bytes = Arc::clone(&ahead).acquire_many_owned(bytes).await.ok()?;
                Some([one, bytes])
            };
            let Some(permits) = permits.await else { return };
            let Ok(stream) = self.connection.open_uni().await else {
                return;
            };
            drop(stream.set_priority(priority));
            let send = send_large(self.number, stream, large, permits);
            self.runtime.spawn(Box::pin(send));
        }
    }

    /// Waits for `notify`; `false` when the connection is gone. In this order, so that a run can be
    /// repeated: a writer that is woken again and again sees at its next write that the connection
    /// is gone.
    async fn alive_when(&self, notify: &tokio::sync::Notify) -> bool {
        tokio::select! {
            biased;
            () = notify.notified() => true,
            _ = self.connection.closed() => false,
        }
    }
}

/// Closes the connection when a lane's task ends, also by a panic: a connection with a silent lane
/// would look alive, and swallow what is sent on it; a closed one is dialed again.
struct EndsConnection<'a>(&'a Writer);

impl Drop for EndsConnection<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0
            .connection
            .close(quinn::VarInt::from_u32(1), b"a lane ended");
    }
}

/// Writes one frame on its own stream, and holds its permits until the peer has all of it. A broken
/// stream is a broken connection, which others see.
async fn send_large(
    lane: u8,
    mut stream: SendStream,
    large: LargeFrame,
    permits: [OwnedSemaphorePermit; 2],
) {
    let mut bytes = Vec::with_capacity(LARGE_HEADER_BYTES + FRAME_PREFIX_BYTES + large.bytes);
    bytes.put_u8(lane);
    bytes.put_u64(large.place.map_or(0, |place| place.number));
    bytes.put_u16(large.place.map_or(0, |place| place.partition.0));
    encode_frame(&large.frame, large.bytes, &mut bytes);
    drop(large);
    if stream.write_chunk(Bytes::from(bytes)).await.is_ok() && stream.finish().is_ok() {
        drop(stream.stopped().await);
    }
    drop(permits);
}
