//! Length-prefixed frames on a byte stream.
//!
//! An item of a lane is a length (u32 big endian) and a frame, or, with the length's top bit set, a
//! *marker*: here belongs a frame that travels on a stream of its own ([`Detached`]).
//!
//! Frames are decoded out of a buffer that is used again, and copy what they keep: a small field
//! never holds a whole buffer in memory. A frame with a stream of its own shares its one buffer
//! instead.

use bytes::{BufMut, Bytes};
use prost::Message;

use super::frame::{Frame, NodeFrame};
use crate::ids::PartitionId;
use crate::limits::FRAME_BYTES_MAX;

/// Bytes of a frame's length.
pub const FRAME_PREFIX_BYTES: usize = 4;
/// Set in the length of a marker.
const MARKER: u32 = 1 << 31;
/// Bytes of a marker behind its length: number and partition.
const MARKER_BYTES: usize = 10;
/// First and usual size of a decoder's buffer.
const BUFFER_BYTES: (usize, usize) = (4 << 10, 128 << 10);

/// Why a stream cannot be read on: the connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is over the limit; nothing was allocated.
    #[error("a frame of {length} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong {
        /// The announced length.
        length: usize,
    },
    /// The bytes are not a frame.
    #[error("a frame cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The bytes are not a marker.
    #[error("a marker cannot be decoded")]
    MalformedMarker,
}

/// The place, in its lane, of a frame that travels on a stream of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Detached {
    /// Number of the frame within its lane, from 1.
    pub number: u64,
    /// The partition it is about: frames about other partitions may pass it.
    pub partition: PartitionId,
}

/// What stands in a lane.
#[derive(Clone, PartialEq, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every item is a frame: a box would be an allocation for each"
)]
pub enum LaneItem {
    /// A frame, and how many bytes it took.
    Frame(Frame, usize),
    /// The place of a detached one.
    Detached(Detached),
}

/// Bytes that `frame` takes, prefix not included.
#[must_use]
pub fn frame_bytes(frame: &Frame) -> usize {
    frame.encoded_len()
}

/// Appends `frame`, of [`frame_bytes`] `length`, to `out`.
///
/// # Panics
/// When the frame is over `FRAME_BYTES_MAX`: everything put into frames is bounded below that.
pub fn encode_frame(frame: &Frame, length: usize, out: &mut Vec<u8>) {
    assert!(
        length <= FRAME_BYTES_MAX,
        "a frame of {length} bytes was built"
    );
    out.reserve(FRAME_PREFIX_BYTES + length);
    out.put_u32(length as u32);
    frame.encode(out);
}

/// Appends a marker to `out`.
pub fn encode_marker(detached: Detached, out: &mut Vec<u8>) {
    out.put_u32(MARKER | MARKER_BYTES as u32);
    out.put_u64(detached.number);
    out.put_u16(detached.partition.0);
}

/// Decodes a frame that is there whole; its bytes stay in `bytes`. `None`: unknown to this build.
///
/// # Errors
/// The bytes are not a frame.
pub fn decode_frame(bytes: Bytes) -> Result<Option<Frame>, FrameError> {
    Ok(NodeFrame::decode(bytes)?.frame)
}

/// Cuts the byte stream of a lane into items.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// Undecoded bytes of `buffer`.
    from: usize,
    to: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES.0],
            from: 0,
            to: 0,
        }
    }
}

impl FrameDecoder {
    /// Where to read the stream's next bytes to; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        if self.from > 0 && self.to == self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        &mut self.buffer[self.to..]
    }

    /// Says that this many bytes were read into [`Self::space`].
    ///
    /// # Panics
    /// When there was not so much space.
    pub fn filled(&mut self, bytes: usize) {
        self.to += bytes;
        assert!(self.to <= self.buffer.len(), "more was read than fits");
        // A lane that fills its buffer at once gets more at once next time.
        if bytes == self.buffer.len() && bytes < BUFFER_BYTES.1 {
            self.buffer.resize(bytes * 2, 0);
        }
    }

    /// Takes the next whole item; `None`: more bytes are needed. Frames unknown to this build are
    /// skipped.
    ///
    /// # Errors
    /// The stream is broken; no later call succeeds.
    pub fn next_item(&mut self) -> Result<Option<LaneItem>, FrameError> {
        loop {
            let Some((prefix, rest)) =
                self.buffer[self.from..self.to].split_first_chunk::<FRAME_PREFIX_BYTES>()
            else {
                return Ok(None);
            };
            let prefix = u32::from_be_bytes(*prefix);
            let length = (prefix & !MARKER) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(FrameError::TooLong { length });
            }
            let Some(mut bytes) = rest.get(..length) else {
                self.make_room(FRAME_PREFIX_BYTES + length);
                return Ok(None);
            };
            self.from += FRAME_PREFIX_BYTES + length;
            if prefix & MARKER != 0 {
                return decode_marker(bytes).map(|marker| Some(LaneItem::Detached(marker)));
            }
            if let Some(frame) = NodeFrame::decode(&mut bytes)?.frame {
                return Ok(Some(LaneItem::Frame(frame, length)));
            }
        }
    }

    fn make_room(&mut self, whole: usize) {
        if whole > self.buffer.len() - self.from {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
            self.buffer.resize(whole.max(self.buffer.len()), 0);
        }
    }
}

fn decode_marker(bytes: &[u8]) -> Result<Detached, FrameError> {
    let parts = bytes.split_first_chunk::<8>();
    let parts = parts.and_then(|(number, rest)| Some((number, rest.try_into().ok()?)));
    let (number, partition) = parts.ok_or(FrameError::MalformedMarker)?;
    Ok(Detached {
        number: u64::from_be_bytes(*number),
        partition: PartitionId(u16::from_be_bytes(partition)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{AskReplica, RaftMessage, RaftMessages};

    fn read(decoder: &mut FrameDecoder, mut bytes: &[u8]) -> Vec<LaneItem> {
        let mut items = Vec::new();
        while !bytes.is_empty() {
            let space = decoder.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            decoder.filled(count);
            bytes = &bytes[count..];
            while let Some(item) = decoder.next_item().unwrap() {
                items.push(item);
            }
        }
        items
    }

    #[test]
    fn items_survive_any_cut() {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for peer in 1..=3 {
            let frame = Frame::AskReplica(AskReplica { partition: 7, peer });
            encode_frame(&frame, frame_bytes(&frame), &mut stream);
            expected.push(LaneItem::Frame(frame.clone(), frame_bytes(&frame)));
            let detached = Detached {
                number: peer,
                partition: PartitionId(4_095),
            };
            encode_marker(detached, &mut stream);
            expected.push(LaneItem::Detached(detached));
        }
        for cut in 1..stream.len() {
            let mut decoder = FrameDecoder::default();
            let pieces = stream.chunks(cut);
            let found: Vec<_> = pieces.flat_map(|p| read(&mut decoder, p)).collect();
            assert_eq!(found, expected, "cut at {cut}");
        }
    }

    /// Frames of all sizes around the buffer's, so that it is moved, grown and used again.
    #[test]
    fn frames_of_any_size_pass_one_decoder() {
        let sizes = [
            0, 1, 4_000, 4_096, 5_000, 10, 70_000, 200_000, 3, 300_000, 128,
        ];
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for size in sizes {
            let message = RaftMessage {
                partition: 1,
                message: Bytes::from(vec![size as u8; size]),
            };
            let frame = Frame::Raft(RaftMessages {
                messages: vec![message],
                mark: 1,
                nonce: 2,
            });
            encode_frame(&frame, frame_bytes(&frame), &mut stream);
            expected.push(LaneItem::Frame(frame.clone(), frame_bytes(&frame)));
        }
        for cut in [1, 7, 1_400, 60_000, stream.len()] {
            let mut decoder = FrameDecoder::default();
            let pieces = stream.chunks(cut);
            let found: Vec<_> = pieces.flat_map(|p| read(&mut decoder, p)).collect();
            assert!(found == expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_whole_frame_is_read_back() {
        let frame = Frame::AskReplica(AskReplica {
            partition: 7,
            peer: 1,
        });
        let mut bytes = Vec::new();
        encode_frame(&frame, frame_bytes(&frame), &mut bytes);
        let bytes = Bytes::from(bytes).slice(FRAME_PREFIX_BYTES..);
        assert_eq!(decode_frame(bytes), Ok(Some(frame)));
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_read() {
        let mut decoder = FrameDecoder::default();
        let prefix = (FRAME_BYTES_MAX as u32 + 1).to_be_bytes();
        decoder.space()[..4].copy_from_slice(&prefix);
        decoder.filled(4);
        assert!(matches!(
            decoder.next_item(),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn a_marker_of_another_length_is_refused() {
        for length in [0, 1, 9, 11, 200] {
            let mut decoder = FrameDecoder::default();
            decoder.space()[..4].copy_from_slice(&(MARKER | length).to_be_bytes());
            decoder.filled(4 + length as usize);
            assert_eq!(decoder.next_item(), Err(FrameError::MalformedMarker));
        }
    }
}
