//! Lanes: one ordered stream each, many frames per write, bounded by count and by bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use ghostlight_core::io::Lane;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::ConnectionKind;
use ghostlight_protocol::wire::{FrameDecoder, encode_frame};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::{Events, TransportEvent, lanes_of};

/// Frames waiting in one lane.
pub(super) const LANE_FRAMES_MAX: usize = 16_384;
/// Bytes waiting in one lane, roughly.
pub(super) const LANE_BYTES_MAX: usize = 64 << 20;
/// Frames encoded into one write.
const WRITE_FRAMES_MAX: usize = 512;
/// Bytes after which a write is sent off.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

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
    lanes: Arc<Vec<(Lane, LaneQueue)>>,
    connection: Connection,
}

#[derive(Debug)]
struct LaneQueue {
    frames: mpsc::Sender<Frame>,
    bytes: Arc<AtomicUsize>,
}

impl LinkHandle {
    /// Queues a frame; never waits.
    ///
    /// # Errors
    /// The frame was not queued.
    pub fn send(&self, lane: Lane, frame: Frame) -> Result<(), SendError> {
        let found = self.lanes.iter().find(|(l, _)| *l == lane);
        let (_, queue) = found.ok_or(SendError::NotConnected)?;
        let weight = weight(&frame);
        if queue.bytes.load(Ordering::Relaxed) + weight > LANE_BYTES_MAX {
            return Err(SendError::Full);
        }
        queue.bytes.fetch_add(weight, Ordering::Relaxed);
        queue.frames.try_send(frame).map_err(|error| {
            queue.bytes.fetch_sub(weight, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
            }
        })
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

/// Opens this side's lanes of a connection and starts their writers.
pub(super) async fn open(
    kind: ConnectionKind,
    connection: &Connection,
) -> Result<LinkHandle, quinn::ConnectionError> {
    let mut lanes = Vec::new();
    for (number, lane) in lanes_of(kind).into_iter().enumerate() {
        let stream = connection.open_uni().await?;
        let priority = match lane {
            Lane::Control => 3,
            Lane::Append => 2,
            Lane::Call(_) => 1,
            Lane::Push => 0,
            Lane::Snapshot => -1,
        };
        // Fails only on a closed stream: then the first write says so.
        drop(stream.set_priority(priority));
        let (frames, queue) = mpsc::channel(LANE_FRAMES_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        tokio::spawn(write_lane(number as u8, stream, queue, Arc::clone(&bytes)));
        lanes.push((lane, LaneQueue { frames, bytes }));
    }
    Ok(LinkHandle {
        kind,
        lanes: Arc::new(lanes),
        connection: connection.clone(),
    })
}

async fn write_lane(
    number: u8,
    mut stream: SendStream,
    mut queue: mpsc::Receiver<Frame>,
    bytes: Arc<AtomicUsize>,
) {
    let mut buffer = BytesMut::new();
    buffer.extend_from_slice(&[number]);
    let mut frames = Vec::with_capacity(WRITE_FRAMES_MAX);
    while queue.recv_many(&mut frames, WRITE_FRAMES_MAX).await > 0 {
        for frame in frames.drain(..) {
            bytes.fetch_sub(weight(&frame), Ordering::Relaxed);
            encode_frame(frame, &mut buffer);
            if buffer.len() >= WRITE_BYTES
                && stream.write_chunk(buffer.split().freeze()).await.is_err()
            {
                return;
            }
        }
        if !buffer.is_empty() && stream.write_chunk(buffer.split().freeze()).await.is_err() {
            return;
        }
    }
}

/// Reads all lanes that the peer opens, until the connection is gone.
pub(super) async fn read_all(from: NodeId, connection: Connection, events: Events) {
    while let Ok(stream) = connection.accept_uni().await {
        tokio::spawn(read_lane(from, connection.clone(), stream, events.clone()));
    }
}

async fn read_lane(from: NodeId, connection: Connection, mut stream: RecvStream, events: Events) {
    let mut number = [0; 1];
    if stream.read_exact(&mut number).await.is_err() {
        return;
    }
    let mut decoder = FrameDecoder::default();
    loop {
        let Ok(Some(chunk)) = stream.read_chunk(READ_BYTES, true).await else {
            return;
        };
        decoder.buffer_mut().extend_from_slice(&chunk.bytes);
        let mut frames = Vec::new();
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(peer = %from, %error, "a peer's stream cannot be read; closing");
                    connection.close(quinn::VarInt::from_u32(1), b"malformed frame");
                    return;
                }
            }
        }
        if !frames.is_empty()
            && events
                .send(TransportEvent::Frames { from, frames })
                .await
                .is_err()
        {
            return;
        }
    }
}

/// Passes gossip datagrams on.
pub(super) async fn read_datagrams(connection: Connection, events: Events) {
    while let Ok(data) = connection.read_datagram().await {
        if events.send(TransportEvent::Gossip(data)).await.is_err() {
            return;
        }
    }
}

/// About how many bytes a frame is worth; exact where it can be large.
fn weight(frame: &Frame) -> usize {
    const SMALL: usize = 128;
    match frame {
        Frame::Raft(raft) => raft.messages.iter().map(|m| m.message.len() + 16).sum(),
        Frame::Call(call) => call.body.len() + SMALL,
        Frame::Answer(answer) => match &answer.kind {
            Some(ghostlight_protocol::call::AnswerKind::Reply(body)) => body.len() + SMALL,
            Some(_) | None => SMALL,
        },
        Frame::SnapshotChunk(chunk) => chunk.rows.len() + SMALL,
        Frame::OutboxPush(push) => {
            push.messages
                .iter()
                .map(|m| m.body.len() + SMALL)
                .sum::<usize>()
                + SMALL
        }
        Frame::Control(_)
        | Frame::OutboxMark(_)
        | Frame::SnapshotAck(_)
        | Frame::Record(_)
        | Frame::AskRoutes(_)
        | Frame::Routes(_)
        | Frame::AskReplica(_)
        | Frame::ReplicaStanding(_)
        | Frame::Descriptor(_)
        | Frame::Hangup(_)
        | Frame::Order(_) => SMALL,
    }
}
