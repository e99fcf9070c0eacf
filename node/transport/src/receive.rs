//! The receiving side of a connection: lanes, detached frames, gossip.
//!
//! Everything goes to the core through one bounded queue for each kind of connection. When it is
//! full, readers stop, flow control holds the peer back, and what the peer queues runs into its
//! bound. Events of ephemeral topics go to their sink instead, which never waits.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use ghostlight_core::io::Lane;
use ghostlight_protocol::ids::{NodeId, PartitionId};
use ghostlight_protocol::limits::FRAME_BYTES_MAX;
use ghostlight_protocol::wire::border;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::ConnectionKind;
use ghostlight_protocol::wire::{
    Detached, FRAME_PREFIX_BYTES, FrameDecoder, FrameError, LaneItem, decode_frame,
};
use quinn::{Connection, RecvStream, Runtime};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::lanes::{LARGE_AT_ONCE_MAX, LARGE_HEADER_BYTES};
use super::order::{LaneOrder, Released};
use super::{EphemeralSink, Events, TransportEvent, lanes_of};

/// Bytes of frames that wait in one lane for a detached one; then the lane waits too.
const HELD_BYTES_MAX: usize = 4 << 20;

/// A detached frame that is being received, waits for its turn, or waits for the core.
type LargePermit = OwnedSemaphorePermit;

/// Why a connection must end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// It has ended, or the core has.
    #[error("it is gone")]
    Gone,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("there is no lane {0}")]
    Lane(u8),
    #[error("a detached frame was cut off")]
    Cut,
}

struct Receiver {
    from: NodeId,
    connection: Connection,
    events: mpsc::Sender<TransportEvent>,
    ephemeral: Option<Arc<dyn EphemeralSink>>,
    lanes: Vec<LaneIn>,
}

struct LaneIn {
    lane: Lane,
    /// Locked until what it released is in the core's queue, so that the two cannot fall apart.
    order: Mutex<LaneOrder<LargePermit>>,
    /// Something that waited was released.
    released: Notify,
}

/// Reads everything that the peer sends on streams, until the connection is gone.
pub(super) async fn read_all(
    from: NodeId,
    kind: ConnectionKind,
    connection: Connection,
    events: &Events,
    runtime: &dyn Runtime,
) {
    let lanes = lanes_of(kind);
    let count = lanes.len();
    let lanes = lanes.into_iter().map(|lane| LaneIn {
        lane,
        order: Mutex::default(),
        released: Notify::new(),
    });
    let receiver = Arc::new(Receiver {
        from,
        connection: connection.clone(),
        events: events.of(kind).clone(),
        ephemeral: events.ephemeral.clone(),
        lanes: lanes.collect(),
    });
    // A peer opens its lanes first; every later stream is one large frame. Permits are given in the
    // order of the streams, which is that of the frames' places: the frame that others wait for has
    // one.
    let large = Arc::new(Semaphore::new(count * LARGE_AT_ONCE_MAX));
    let mut opened = 0;
    while let Ok(stream) = connection.accept_uni().await {
        let permit = if opened < count {
            opened += 1;
            None
        } else {
            Arc::clone(&large).acquire_owned().await.ok()
        };
        let receiver = Arc::clone(&receiver);
        runtime.spawn(Box::pin(async move {
            let result = match permit {
                None => receiver.read_lane(stream).await,
                Some(permit) => receiver.read_large(stream, permit).await,
            };
            if let Err(error) = result
                && !matches!(error, Broken::Gone)
            {
                tracing::warn!(peer = %from, %error, "a peer's stream cannot be read; closing");
                let code = quinn::VarInt::from_u32(1);
                receiver.connection.close(code, b"malformed stream");
            }
        }));
    }
}

impl Receiver {
    async fn read_lane(&self, mut stream: RecvStream) -> Result<(), Broken> {
        let mut number = [0; 1];
        stream.read_exact(&mut number).await.map_err(gone)?;
        let lane = self.lane(number[0])?;
        if lane.lane == Lane::Ephemeral {
            return self.read_ephemeral(stream).await;
        }
        let mut decoder = FrameDecoder::default();
        loop {
            let read = stream.read(decoder.space()).await.map_err(gone)?;
            decoder.filled(read.ok_or(Broken::Gone)?);
            let mut order = lane.order.lock().await;
            let mut released = Released::default();
            while let Some(item) = decoder.next_item()? {
                order.in_line(item, &mut released);
            }
            self.pass(released).await?;
            let mut held = order.held_bytes();
            drop(order);
            while held > HELD_BYTES_MAX {
                // In this order, so that a run can be repeated: what is released is finite, and
                // then the other is looked at.
                tokio::select! {
                    biased;
                    () = lane.released.notified() => {}
                    _ = self.connection.closed() => return Err(Broken::Gone),
                }
                held = lane.order.lock().await.held_bytes();
            }
        }
    }

    /// Nothing here waits for anybody: a subscriber that is slow loses events, and holds up
    /// nobody's lane.
    async fn read_ephemeral(&self, mut stream: RecvStream) -> Result<(), Broken> {
        let mut decoder = FrameDecoder::default();
        loop {
            let read = stream.read(decoder.space()).await.map_err(gone)?;
            decoder.filled(read.ok_or(Broken::Gone)?);
            let mut events = Vec::new();
            while let Some(item) = decoder.next_item()? {
                // Nothing else travels here.
                if let LaneItem::Frame(Frame::Ephemeral(event), _) = item
                    && border::check_ephemeral(&event).is_ok()
                {
                    events.push(event);
                }
            }
            if let Some(sink) = self.ephemeral.as_ref().filter(|_| !events.is_empty()) {
                sink.arrived(self.from, events);
            }
        }
    }

    async fn read_large(&self, mut stream: RecvStream, permit: LargePermit) -> Result<(), Broken> {
        let mut header = [0; LARGE_HEADER_BYTES + FRAME_PREFIX_BYTES];
        stream.read_exact(&mut header).await.map_err(cut)?;
        let [lane, header @ ..] = header;
        let lane = self.lane(lane)?;
        let mut header = &header[..];
        let (number, partition) = (header.get_u64(), PartitionId(header.get_u16()));
        let place = (number != 0).then_some(Detached { number, partition });
        let length = header.get_u32() as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { length }.into());
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await.map_err(cut)?;
        let frame = decode_frame(Bytes::from(bytes))?;
        let mut order = lane.order.lock().await;
        let mut released = Released::default();
        order.detached(place, frame, permit, &mut released);
        self.pass(released).await?;
        drop(order);
        lane.released.notify_one();
        Ok(())
    }

    fn lane(&self, number: u8) -> Result<&LaneIn, Broken> {
        let lane = self.lanes.get(usize::from(number));
        lane.ok_or(Broken::Lane(number))
    }

    /// Hands frames to the core; waits while its queue is full.
    async fn pass(&self, released: Released<LargePermit>) -> Result<(), Broken> {
        if released.frames.is_empty() {
            return Ok(());
        }
        let event = TransportEvent::Frames {
            from: self.from,
            frames: released.frames,
            held: released.permits,
        };
        self.events.send(event).await.map_err(gone)
    }
}

fn gone<E>(_: E) -> Broken {
    Broken::Gone
}

/// A detached frame that does not come leaves its lane waiting: the connection must end.
fn cut(error: quinn::ReadExactError) -> Broken {
    match error {
        quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(_)) => Broken::Gone,
        quinn::ReadExactError::ReadError(_) | quinn::ReadExactError::FinishedEarly(_) => {
            Broken::Cut
        }
    }
}

/// Passes gossip datagrams on.
pub(super) async fn read_datagrams(connection: Connection, events: mpsc::Sender<TransportEvent>) {
    while let Ok(data) = connection.read_datagram().await {
        if events.send(TransportEvent::Gossip(data)).await.is_err() {
            return;
        }
    }
}
