//! The bytes of single records, and the checksum that ends each of them.
//!
//! The checksum covers column family, key and payload: a record that was written to another place
//! is as wrong as one with a flipped bit. Hot records have fixed layouts, rare ones are prost
//! messages.

use bytes::Bytes;
use ghostlight_protocol::ids::{LogIndex, LogPosition, PeerId, Term};
use ghostlight_protocol::limits::COUNT_MAX;
use ghostlight_protocol::replica::{EntryKind, HardState, LogEntry};

use crate::engine::{Cf, WriteBatch};

/// Bytes of the checksum at the end of each record.
pub(crate) const CHECKSUM_BYTES: usize = 4;

/// Checksum of a record.
pub(crate) fn checksum(cf: Cf, key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[cf as u8]);
    hasher.update(&(key.len() as u32).to_le_bytes());
    hasher.update(key);
    hasher.update(payload);
    hasher.finalize()
}

/// A record does not match its checksum, or cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Damaged;

/// Takes the payload out of a stored value.
pub(crate) fn open(cf: Cf, key: &[u8], mut value: Bytes) -> Result<Bytes, Damaged> {
    let length = value.len().checked_sub(CHECKSUM_BYTES).ok_or(Damaged)?;
    let sum = value.split_off(length);
    let stored = u32::from_le_bytes(sum[..].try_into().map_err(|_| Damaged)?);
    if stored == checksum(cf, key, &value) {
        Ok(value)
    } else {
        Err(Damaged)
    }
}

/// The record of a stint: who the replica is, and where its log begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stint {
    pub(crate) peer: PeerId,
    pub(crate) truncated: LogPosition,
}

impl Stint {
    pub(crate) fn encode(self) -> [u8; 24] {
        words([self.peer.0, self.truncated.term.0, self.truncated.index.0])
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let [peer, term, index] = read_words(bytes)?;
        Ok(Self {
            peer: peer_id(peer)?,
            truncated: LogPosition {
                term: Term(term),
                index: LogIndex(index),
            },
        })
    }
}

/// A hard state; it names its peer again, so that one damaged record does not hide whose it was.
pub(crate) fn encode_hard_state(peer: PeerId, state: HardState) -> [u8; 32] {
    words([peer.0, state.term.0, state.vote.0, state.commit.0])
}

pub(crate) fn decode_hard_state(bytes: &[u8]) -> Result<(PeerId, HardState), Damaged> {
    let [peer, term, vote, commit] = read_words(bytes)?;
    let state = HardState {
        term: Term(term),
        vote: PeerId(vote),
        commit: LogIndex(commit),
    };
    Ok((peer_id(peer)?, state))
}

/// Largest number in a record. What comes from a peer is at most `COUNT_MAX` (`replica/border.rs`),
/// and terms and peers are counted on from there.
const STORED_MAX: u64 = 2 * COUNT_MAX;

/// A peer that has one after it: when it is condemned, that one's number is written down as its
/// tombstone.
pub(crate) fn peer_id(number: u64) -> Result<PeerId, Damaged> {
    match number < STORED_MAX {
        true => Ok(PeerId(number)),
        false => Err(Damaged),
    }
}

/// One number: a tombstone, a transfer.
pub(crate) fn decode_number(bytes: &[u8]) -> Result<u64, Damaged> {
    let [number] = read_words(bytes)?;
    Ok(number)
}

/// Term, kind and length of the context, before context and data of an entry.
const ENTRY_HEADER_BYTES: usize = 13;

/// Puts a log entry.
pub(crate) fn put_entry(batch: &mut WriteBatch, key: &[u8], entry: &LogEntry) {
    let mut header = [0; ENTRY_HEADER_BYTES];
    header[..8].copy_from_slice(&entry.at.term.0.to_be_bytes());
    header[8] = match entry.kind {
        EntryKind::Command => 0,
        EntryKind::Membership => 1,
    };
    header[9..].copy_from_slice(&(entry.context.len() as u32).to_be_bytes());
    batch.put(Cf::Log, key, &[&header, &entry.context, &entry.data]);
}

pub(crate) fn decode_entry(index: LogIndex, mut payload: Bytes) -> Result<LogEntry, Damaged> {
    if payload.len() < ENTRY_HEADER_BYTES {
        return Err(Damaged);
    }
    let header = payload.split_to(ENTRY_HEADER_BYTES);
    let [term] = read_words(&header[..8])?;
    let kind = match header[8] {
        0 => EntryKind::Command,
        1 => EntryKind::Membership,
        _ => return Err(Damaged),
    };
    let length = u32::from_be_bytes(header[9..].try_into().map_err(|_| Damaged)?) as usize;
    if payload.len() < length {
        return Err(Damaged);
    }
    let context = payload.split_to(length);
    Ok(LogEntry {
        at: LogPosition {
            term: Term(term),
            index,
        },
        kind,
        data: payload,
        context,
    })
}

fn words<const WORDS: usize, const BYTES: usize>(numbers: [u64; WORDS]) -> [u8; BYTES] {
    const { assert!(WORDS * 8 == BYTES) }
    let mut bytes = [0; BYTES];
    for (chunk, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        chunk.copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

/// All of them count something: a larger one than anything counts to is damage, whatever its
/// checksum says, and adding to the others does not overflow.
fn read_words<const WORDS: usize>(bytes: &[u8]) -> Result<[u64; WORDS], Damaged> {
    if bytes.len() != WORDS * 8 {
        return Err(Damaged);
    }
    let mut numbers = [0; WORDS];
    for (number, chunk) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_be_bytes(chunk.try_into().map_err(|_| Damaged)?);
        if *number > STORED_MAX {
            return Err(Damaged);
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip() {
        let entry = LogEntry {
            at: LogPosition {
                term: Term(7),
                index: LogIndex(9),
            },
            kind: EntryKind::Membership,
            data: Bytes::from_static(b"data"),
            context: Bytes::from_static(b"context"),
        };
        let mut batch = WriteBatch::default();
        put_entry(&mut batch, b"key", &entry);
        let Some(crate::engine::Change::Put { key, value, .. }) = batch.changes().next() else {
            panic!("one put");
        };
        let payload = open(Cf::Log, key, Bytes::copy_from_slice(value)).unwrap();
        assert_eq!(decode_entry(LogIndex(9), payload), Ok(entry));
    }

    #[test]
    fn what_nothing_counts_to_is_damage() {
        let stint = |truncated: u64| Stint {
            peer: PeerId(3),
            truncated: LogPosition {
                term: Term(2),
                index: LogIndex(truncated),
            },
        };
        for (number, taken) in [
            (COUNT_MAX, true),
            // A peer named the largest number, and it was counted on.
            (COUNT_MAX + 1, true),
            (STORED_MAX, true),
            (STORED_MAX + 1, false),
            (u64::MAX, false),
        ] {
            let peer = peer_id(number);
            assert_eq!(peer.is_ok(), number < STORED_MAX, "{number}");
            let bytes = stint(number).encode();
            assert_eq!(Stint::decode(&bytes).is_ok(), taken, "{number}");
            assert_eq!(decode_number(&number.to_be_bytes()).is_ok(), taken);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_place_is_found() {
        let mut batch = WriteBatch::default();
        batch.put(Cf::State, b"key", &[b"some", b"thing"]);
        let Some(crate::engine::Change::Put { value, .. }) = batch.changes().next() else {
            panic!("one put");
        };
        let value = value.to_vec();
        assert!(open(Cf::State, b"key", value.clone().into()).is_ok());
        assert!(open(Cf::Dedup, b"key", value.clone().into()).is_err());
        assert!(open(Cf::State, b"kez", value.clone().into()).is_err());
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                open(Cf::State, b"key", flipped.into()).is_err(),
                "bit {bit}"
            );
        }
        for length in 0..value.len() {
            let cut = Bytes::copy_from_slice(&value[..length]);
            assert!(open(Cf::State, b"key", cut).is_err(), "cut to {length}");
        }
    }
}
