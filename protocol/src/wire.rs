//! What nodes say to each other: `Hello` once per connection, then frames.
//!
//! A frame is a length (u32 big endian) and a prost message with one oneof. Unknown variants decode
//! as an empty frame and are ignored, so that a newer peer can speak to an older one. What a known
//! one says in numbers is checked by `border` before anybody counts on.

pub mod border;
pub mod codec;
pub mod ephemeral;
pub mod frame;
pub mod hello;
pub mod host;
pub mod topic;

pub use codec::{
    Detached, FRAME_PREFIX_BYTES, FrameDecoder, FrameError, LaneItem, decode_frame, encode_frame,
    encode_marker, frame_bytes,
};
pub use frame::{Frame, NodeFrame};
pub use hello::{Hello, HelloRefusal, NodeRecord};
