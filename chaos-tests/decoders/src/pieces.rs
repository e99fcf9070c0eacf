//! Inputs that are several pieces: each is its length in two bytes, then its bytes. Any input is
//! some pieces.

/// The longest piece.
const PIECE_BYTES_MAX: usize = u16::MAX as usize;

/// Takes an input apart. A piece that promises more than there is ends where the input does.
pub(crate) fn split(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = input.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        input = rest;
        Some(piece)
    })
}

/// Puts pieces together.
///
/// # Panics
/// When one is longer than its length can say.
#[must_use]
pub fn join<P: AsRef<[u8]>>(pieces: &[P]) -> Vec<u8> {
    let mut joined = Vec::new();
    for piece in pieces {
        let piece = piece.as_ref();
        assert!(piece.len() <= PIECE_BYTES_MAX, "{} bytes", piece.len());
        joined.extend_from_slice(&(piece.len() as u16).to_be_bytes());
        joined.extend_from_slice(piece);
    }
    joined
}
