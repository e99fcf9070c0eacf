//! What a frame goes through between two nodes: it is encoded, and decoded again from pieces of a
//! stream.

use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::{FrameDecoder, LaneItem, encode_frame, frame_bytes};

/// The codec, with the buffers that it needs again for each frame.
#[derive(Default, Debug)]
pub(crate) struct Wire {
    decoder: FrameDecoder,
    encoded: Vec<u8>,
}

impl Wire {
    /// The frame as the receiver decodes it: what cannot travel must not be wanted.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn pass(&mut self, frame: &Frame) -> Result<Frame, String> {
        self.encoded.clear();
        encode_frame(frame, frame_bytes(frame), &mut self.encoded);
        let mut rest = &self.encoded[..];
        loop {
            let space = self.decoder.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            self.decoder.filled(count);
            rest = &rest[count..];
            match self.decoder.next_item() {
                Ok(Some(LaneItem::Frame(frame, _))) => return Ok(frame),
                Ok(None) if !rest.is_empty() => {}
                Ok(other) => return Err(format!("a frame was taken for {other:?}")),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Bytes of the frame that passed last.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.encoded
    }
}
