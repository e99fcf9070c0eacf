//! Typed ids. Each prints with a prefix, so that logs and tests stay greppable.
//!
//! An id is a plain number inside; the type says which number it is. Conversions to and from the
//! wire happen through the inner value, which is public.

use std::fmt;

use crate::canary::{self, Canary};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl $name {
            /// The 16 bytes of the wire and of the disk, big endian.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// Reads the 16 bytes written by `to_bytes`; `None` for any other length.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
            }

            /// Reads the full form that `Debug` prints: the prefix and 32 hexadecimal digits.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let digits = text.strip_prefix($prefix)?;
                if digits.len() != 32 {
                    return None;
                }
                u128::from_str_radix(digits, 16).ok().map(Self)
            }
        }

        /// The short form: enough digits to tell ids apart in a log line.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:08x}"), (self.0 >> 96) as u32)
            }
        }

        /// The full form, which `parse` reads.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:032x}"), self.0)
            }
        }
    };
}

random_id!(
    /// A node: random, made with its data directory. A wiped disk is a new node.
    NodeId,
    "n"
);
random_id!(
    /// A cluster: random, made once when it is founded.
    ClusterId,
    "c"
);

id!(
    /// One run of a node; persisted, one more at every start. Higher wins.
    Generation,
    u64,
    "g"
);
id!(
    /// A shard of the actor key space, from 0 to the cluster's partition count minus 1.
    PartitionId,
    u16,
    "p"
);
id!(
    /// One stint of a node in one partition's group; never reused. 0 is no peer.
    PeerId,
    u64,
    "r"
);
id!(
    /// Raft's term.
    Term,
    u64,
    "t"
);
id!(
    /// Raft's log index; the first real entry of a partition is 6 (see `limits`).
    LogIndex,
    u64,
    "i"
);
id!(
    /// How many write sets of an actor have been applied. 0: never written.
    ActorVersion,
    u64,
    "v"
);
id!(
    /// Raised when a partition that lost its majority for good is recovered by hand.
    RecoveryEpoch,
    u64,
    "x"
);

impl LogIndex {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A point in one partition's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct LogPosition {
    /// Term of the entry.
    pub term: Term,
    /// Index of the entry.
    pub index: LogIndex,
}

impl PeerId {
    /// Smallest peer id that may follow a condemned stint on its node.
    #[must_use]
    pub fn after_condemned(self) -> Self {
        match canary::sings(Canary::SamePeerAgain) {
            true => self,
            false => Self(self.0 + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_round_trips() {
        assert_eq!(PartitionId(17).to_string(), "p17");
        assert_eq!(Term(7).to_string(), "t7");
        assert_eq!(LogIndex(1009).to_string(), "i1009");
        let node = NodeId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(node.to_string(), "n01234567");
        assert_eq!(NodeId::parse(&format!("{node:?}")), Some(node));
        assert_eq!(NodeId::from_slice(&node.to_bytes()), Some(node));
        for wrong in [
            "",
            "n",
            "c0123456789abcdef0123456789abcdef",
            "n01234567",
            "nzz",
        ] {
            assert_eq!(NodeId::parse(wrong), None, "{wrong}");
        }
    }
}
