//! The one hash that nodes must compute alike: SipHash-2-4 with fixed keys over fixed bytes.
//!
//! `std::hash::Hash` of std types is not stable over versions and platforms; nothing here uses it.
//! Golden values pin the result: they may never change within one hash version.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher128};

use crate::actor::ActorKey;
use crate::ids::PartitionId;

/// Version of the hash rules, compared when nodes meet.
pub const HASH_VERSION: u32 = 1;

/// 64-bit hash of `bytes` under a domain tag, so that equal bytes of different things differ.
#[must_use]
pub fn hash64(domain: u8, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(0, u64::from(domain));
    hasher.write(bytes);
    hasher.finish()
}

/// 128-bit hash of several parts; each part's length is hashed too, so that parts cannot run
/// together.
#[must_use]
pub fn hash128(domain: u8, parts: &[&[u8]]) -> u128 {
    let mut hasher = SipHasher128::new_with_keys(0, u64::from(domain));
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    let hash = hasher.finish128();
    (u128::from(hash.h1) << 64) | u128::from(hash.h2)
}

/// The partition of an actor in a cluster of `partitions` (a power of two).
///
/// # Panics
/// When `partitions` is not a power of two: founding and joining refuse such a number.
#[must_use]
pub fn partition_of(actor: &ActorKey, partitions: u16) -> PartitionId {
    assert!(
        partitions.is_power_of_two(),
        "{partitions} partitions is not a power of two"
    );
    let hash = hash64(domain::ACTOR, actor.as_bytes());
    PartitionId((hash & u64::from(partitions - 1)) as u16)
}

/// Domain tags.
pub mod domain {
    /// Actor key to partition.
    pub const ACTOR: u8 = b'a';
    /// Digest of a request's content.
    pub const REQUEST: u8 = b'q';
    /// Id of a call made inside a turn.
    pub const DERIVED: u8 = b'd';
    /// Digest of a reply too large to be kept.
    pub const REPLY: u8 = b'r';
    /// Chain of applied rows.
    pub const STATE: u8 = b's';
    /// Digest of all rows of a partition.
    pub const ROWS: u8 = b'w';
    /// A virtual node on the ring.
    pub const VIRTUAL_NODE: u8 = b'v';
    /// A partition on the ring.
    pub const PARTITION: u8 = b'p';
    /// Key of an event to topic partition.
    pub const EVENT_KEY: u8 = b'e';
    /// Id of an event that a turn publishes.
    pub const EVENT_ID: u8 = b'i';
    /// Name of an event: source and id of its publisher's own.
    pub const EVENT_NAME: u8 = b'n';
    /// Topic and node to a place among the relays.
    pub const RELAY: u8 = b'l';
    /// A subscriber, and the roll that it is on.
    pub const SUBSCRIBER: u8 = b'u';
    /// Number of a snapshot transfer.
    pub const TRANSFER: u8 = b't';
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_partitions() {
        let rows = [
            ("counter", "alice"),
            ("counter", "bob"),
            ("account", "alice"),
            ("log", "events"),
        ];
        let found: Vec<u16> = rows
            .iter()
            .map(|(t, i)| partition_of(&ActorKey::new("default", t, i).unwrap(), 256).0)
            .collect();
        assert_eq!(found, GOLDEN);
    }

    const GOLDEN: [u16; 4] = [72, 49, 28, 100];
}
