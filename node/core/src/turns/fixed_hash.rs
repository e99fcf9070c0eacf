//! Hash maps whose order depends on nothing but what was put into them.
//!
//! The keys are the partition and the term: the same inputs give the same effects, and yet nobody
//! outside knows them before the leadership begins.

use std::hash::BuildHasher;

use indexmap::IndexMap;
use siphasher::sip::SipHasher13;

/// A map in insertion order; removal swaps the last element in.
pub(super) type FixedMap<K, V> = IndexMap<K, V, FixedHash>;

/// Builds hashers with fixed keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct FixedHash {
    keys: (u64, u64),
}

impl FixedHash {
    pub(super) fn new(first: u64, second: u64) -> Self {
        Self {
            keys: (first, second),
        }
    }
}

impl BuildHasher for FixedHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.keys.0, self.keys.1)
    }
}
