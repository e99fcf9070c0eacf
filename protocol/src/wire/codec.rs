//! Length-prefixed frames on a byte stream.

use bytes::{Buf, BufMut, BytesMut};
use prost::Message;

use super::frame::{Frame, NodeFrame};
use crate::limits::FRAME_BYTES_MAX;

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
}

/// Appends `frame` to `out` as length and message.
///
/// # Panics
/// When the frame is over `FRAME_BYTES_MAX`: everything put into frames is bounded below that.
pub fn encode_frame(frame: Frame, out: &mut BytesMut) {
    let message = NodeFrame { frame: Some(frame) };
    let length = message.encoded_len();
    assert!(
        length <= FRAME_BYTES_MAX,
        "a frame of {length} bytes was built"
    );
    out.reserve(4 + length);
    out.put_u32(length as u32);
    message.encode(out).expect("the buffer grows as needed");
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// The buffer to read the stream's next bytes into.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Takes the next whole frame; `None`: more bytes are needed. Frames unknown to this build are
    /// skipped.
    ///
    /// # Errors
    /// The stream is broken; no later call succeeds.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let Some(prefix) = self.buffer.get(..4) else {
                return Ok(None);
            };
            let length = u32::from_be_bytes(prefix.try_into().expect("four bytes")) as usize;
            if length > FRAME_BYTES_MAX {
                return Err(FrameError::TooLong { length });
            }
            if self.buffer.len() < 4 + length {
                self.buffer.reserve(4 + length - self.buffer.len());
                return Ok(None);
            }
            self.buffer.advance(4);
            let bytes = self.buffer.split_to(length).freeze();
            if let Some(frame) = NodeFrame::decode(bytes)?.frame {
                return Ok(Some(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::AskReplica;

    #[test]
    fn frames_survive_any_cut() {
        let mut stream = BytesMut::new();
        for peer in 1..=3 {
            encode_frame(
                Frame::AskReplica(AskReplica { partition: 7, peer }),
                &mut stream,
            );
        }
        for cut in 1..stream.len() {
            let mut decoder = FrameDecoder::default();
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.buffer_mut().extend_from_slice(piece);
                while let Some(Frame::AskReplica(ask)) = decoder.next_frame().unwrap() {
                    found.push(ask.peer);
                }
            }
            assert_eq!(found, [1, 2, 3], "cut at {cut}");
        }
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_read() {
        let mut decoder = FrameDecoder::default();
        decoder.buffer_mut().put_u32(u32::MAX);
        assert!(matches!(
            decoder.next_frame(),
            Err(FrameError::TooLong { .. })
        ));
    }
}
