//! What waits to be sent in one lane, already encoded, and the pump that wakes the lanes' writers.
//!
//! A frame is encoded where it is sent, straight behind the frames that wait already: no frame is
//! moved between threads, and what gathered is one write. A frame that goes to many peers comes
//! encoded: a small one is copied, a large one shared. Waking another thread costs a system call,
//! so it happens once for everything that was queued: frames leave at the next [`Pump::kick`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ghostlight_protocol::call::{AnswerKind, CallAnswer, UnknownAnswer};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::{FRAME_BYTES_MAX, LANE_FRAME_BYTES_MAX};
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::{Detached, encode_frame, encode_marker, frame_bytes};
use tokio::sync::Notify;

use super::lanes::SendError;

/// Bytes that wait in one lane, detached frames included, and those of the write under way.
pub(super) const LANE_BYTES_MAX: usize = 64 << 20;
/// The same of the lane of ephemeral topics: a peer that is slower loses events.
pub(super) const EPHEMERAL_LANE_BYTES_MAX: usize = 16 << 20;
/// Encoded frames up to this are copied behind the others: a chunk of its own costs more than that.
const COPIED_BYTES_MAX: usize = 16 << 10;
/// Room that a lane's buffer keeps for its next frames.
const BUFFER_KEPT_BYTES_MAX: usize = 64 << 10;

/// What becomes of a lane's large frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LargeFrames {
    /// Each travels on a stream of its own.
    Detached,
    /// They stay in line: the lane carries none that matter.
    InLine,
}

/// A frame that gets a stream of its own.
#[derive(Debug)]
pub(super) struct LargeFrame {
    /// Its place in the lane; `None`: its order does not matter.
    pub(super) place: Option<Detached>,
    pub(super) frame: Frame,
    pub(super) bytes: usize,
}

/// The sending side of one lane, shared by whoever sends and the lane's writers.
#[derive(Debug)]
pub(super) struct LaneQueue {
    state: Mutex<State>,
    large_frames: LargeFrames,
    bytes_max: usize,
    pump: Arc<Pump>,
    /// There may be bytes to write.
    pub(super) ready: Notify,
    /// There may be detached frames to write.
    pub(super) large_ready: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// What waits before `buffer`, in order.
    chunks: VecDeque<Bytes>,
    chunk_bytes: usize,
    buffer: Vec<u8>,
    /// Bytes of the write under way.
    writing: usize,
    large: VecDeque<LargeFrame>,
    large_bytes: usize,
    last_number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing waits.
    Idle,
    /// Something waits, and the writer is at work or will be woken.
    Busy,
    /// The connection is gone.
    Closed,
}

/// A frame that does not fit is a bug of whoever made it; it costs nobody else anything. If it was
/// an answer, its caller is told so: it would wait for ever.
fn fitting(frame: Frame) -> Option<(Frame, usize)> {
    let bytes = frame_bytes(&frame);
    if bytes <= FRAME_BYTES_MAX {
        return Some((frame, bytes));
    }
    tracing::error!(
        bytes,
        "a frame over {FRAME_BYTES_MAX} bytes was not sent; please report it"
    );
    let Frame::Answer(CallAnswer { call, .. }) = frame else {
        return None;
    };
    let kind = AnswerKind::Unknown(UnknownAnswer {
        code: u32::from(Code::OutcomeUnknown.number()),
        detail: format!(
            "the call ran, but its answer cannot be carried: it makes a frame of {bytes} bytes, at most \
             {FRAME_BYTES_MAX} are allowed"
        ),
    });
    let frame = Frame::Answer(CallAnswer {
        call,
        kind: Some(kind),
    });
    let bytes = frame_bytes(&frame);
    Some((frame, bytes))
}

impl LaneQueue {
    pub(super) fn new(large_frames: LargeFrames, bytes_max: usize, pump: Arc<Pump>) -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Idle,
                chunks: VecDeque::new(),
                chunk_bytes: 0,
                buffer: Vec::new(),
                writing: 0,
                large: VecDeque::new(),
                large_bytes: 0,
                last_number: 0,
            }),
            large_frames,
            bytes_max,
            pump,
            ready: Notify::new(),
            large_ready: Notify::new(),
        }
    }

    /// Queues a frame; never waits.
    pub(super) fn push(self: &Arc<Self>, frame: Frame) -> Result<(), SendError> {
        let Some((frame, bytes)) = fitting(frame) else {
            return Ok(());
        };
        let mut state = self.lock();
        state.has_room(bytes, self.bytes_max)?;
        if bytes > LANE_FRAME_BYTES_MAX && self.large_frames == LargeFrames::Detached {
            state.detach(frame, bytes);
        } else {
            encode_frame(&frame, bytes, &mut state.buffer);
        }
        self.queued(state);
        Ok(())
    }

    /// Queues a frame that is encoded with its length, and may be shared with other lanes; never
    /// waits.
    pub(super) fn push_encoded(self: &Arc<Self>, encoded: &Bytes) -> Result<(), SendError> {
        let mut state = self.lock();
        state.has_room(encoded.len(), self.bytes_max)?;
        if encoded.len() <= COPIED_BYTES_MAX {
            state.buffer.extend_from_slice(encoded);
        } else {
            state.seal();
            state.chunk_bytes += encoded.len();
            state.chunks.push_back(encoded.clone());
        }
        self.queued(state);
        Ok(())
    }

    fn queued(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let was_idle = state.phase == Phase::Idle;
        state.phase = Phase::Busy;
        drop(state);
        if was_idle {
            self.pump.mark(Arc::clone(self));
        }
    }

    /// Everything that waits in line, for one write; the write before is over. `None`: nothing
    /// waits, and `ready` will say when something does.
    pub(super) fn take(&self) -> Option<Bytes> {
        let mut state = self.lock();
        if !state.large.is_empty() {
            self.large_ready.notify_one();
        }
        if let Some(chunk) = state.chunks.pop_front() {
            state.chunk_bytes -= chunk.len();
            state.writing = chunk.len();
            return Some(chunk);
        }
        state.writing = state.buffer.len();
        if state.buffer.is_empty() {
            if state.phase == Phase::Busy {
                state.phase = Phase::Idle;
            }
            return None;
        }
        Some(state.take_buffer())
    }

    /// The next detached frame.
    pub(super) fn take_large(&self) -> Option<LargeFrame> {
        let mut state = self.lock();
        let large = state.large.pop_front()?;
        state.large_bytes -= large.bytes;
        Some(large)
    }

    /// The connection is gone: what waits is dropped, and nothing is taken any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.buffer = Vec::new();
        state.chunks.clear();
        state.large.clear();
        (state.writing, state.large_bytes, state.chunk_bytes) = (0, 0, 0);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self, bytes: usize, most: usize) -> Result<(), SendError> {
        if self.phase == Phase::Closed {
            return Err(SendError::NotConnected);
        }
        let waiting = self.buffer.len() + self.chunk_bytes + self.writing + self.large_bytes;
        if waiting + bytes > most {
            return Err(SendError::Full);
        }
        Ok(())
    }

    fn take_buffer(&mut self) -> Bytes {
        // The next write will likely be as large as this one.
        let room = self.buffer.len().min(BUFFER_KEPT_BYTES_MAX);
        Bytes::from(std::mem::replace(
            &mut self.buffer,
            Vec::with_capacity(room),
        ))
    }

    /// What was encoded so far goes before whatever comes now.
    fn seal(&mut self) {
        if !self.buffer.is_empty() {
            self.chunk_bytes += self.buffer.len();
            let bytes = self.take_buffer();
            self.chunks.push_back(bytes);
        }
    }

    fn detach(&mut self, frame: Frame, bytes: usize) {
        let place = frame.partition().map(|partition| {
            self.last_number += 1;
            Detached {
                number: self.last_number,
                partition,
            }
        });
        if let Some(place) = place {
            encode_marker(place, &mut self.buffer);
        }
        self.large_bytes += bytes;
        self.large.push_back(LargeFrame {
            place,
            frame,
            bytes,
        });
    }
}

/// Wakes the writers of all lanes that one thread drives, with one wake-up of that thread.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// Lanes that were idle and have something to write: each at most once.
    marked: Mutex<Vec<Arc<LaneQueue>>>,
    wake: Notify,
}

impl Pump {
    fn mark(&self, lane: Arc<LaneQueue>) {
        self.lock().push(lane);
    }

    /// Lets everything leave that was queued before.
    pub(super) fn kick(&self) {
        if !self.lock().is_empty() {
            self.wake.notify_one();
        }
    }

    /// Passes kicks on to the writers, on their own thread; for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.wake.notified().await;
            let marked = std::mem::take(&mut *self.lock());
            for lane in marked {
                lane.ready.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<LaneQueue>>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
