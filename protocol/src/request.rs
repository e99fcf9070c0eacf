//! Request ids: who asks, so that a repeated request gets the recorded reply.
//!
//! An id is scoped to the actor's partition (sessions) or to the actor (outside keys and calls made
//! inside turns). RIFL and Raft chapter 6: the record holds the reply, the client says which ids it
//! has closed.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::actor::ActorKey;
use crate::hash::{domain, hash128};
use crate::ids::{Generation, NodeId};
use crate::limits::OUTSIDE_REQUEST_ID_BYTES_MAX;

/// One gateway's numbering of its requests; each gateway process opens one session per partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Session {
    /// The node that accepts requests from outside.
    pub gateway: NodeId,
    /// The run of that node: sequences restart with it.
    pub generation: Generation,
}

/// What makes two requests the same request.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestId {
    /// Made by a gateway for a client that gave none.
    Session {
        /// Whose numbering.
        session: Session,
        /// From 1, per partition, without gaps.
        sequence: u64,
    },
    /// Given by the client; scoped to the actor.
    Outside(Bytes),
    /// A call made inside a turn; scoped to the called actor.
    Derived(u128),
}

impl RequestId {
    /// An id from outside.
    ///
    /// # Errors
    /// A text saying why it is not acceptable: empty or too long.
    pub fn outside(id: &[u8]) -> Result<Self, String> {
        match id.len() {
            0 => Err("the request id is empty".to_owned()),
            n if n > OUTSIDE_REQUEST_ID_BYTES_MAX => Err(format!(
                "the request id has {n} bytes, at most {OUTSIDE_REQUEST_ID_BYTES_MAX} are allowed"
            )),
            _ => Ok(Self::Outside(Bytes::copy_from_slice(id))),
        }
    }

    /// The id of the `ordinal`-th call of the turn of `caller` that runs for `parent`, which is
    /// scoped to it: gateways number each partition by itself, and clients give one id to several
    /// actors.
    #[must_use]
    pub fn derived(
        (caller, parent): (&ActorKey, &Self),
        ordinal: u32,
        target: &ActorKey,
        method: &str,
        body: &[u8],
    ) -> Self {
        Self::Derived(hash128(
            domain::DERIVED,
            &[
                caller.as_bytes(),
                &parent.to_bytes(),
                &ordinal.to_be_bytes(),
                target.as_bytes(),
                method.as_bytes(),
                body,
            ],
        ))
    }

    /// The canonical bytes: a tag, then the fields big endian. Also the key suffix of the dedup
    /// record.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(40);
        match self {
            Self::Session { session, sequence } => {
                bytes.put_u8(1);
                bytes.put_u128(session.gateway.0);
                bytes.put_u64(session.generation.0);
                bytes.put_u64(*sequence);
            }
            Self::Outside(id) => {
                bytes.put_u8(2);
                bytes.put_slice(id);
            }
            Self::Derived(hash) => {
                bytes.put_u8(3);
                bytes.put_u128(*hash);
            }
        }
        bytes.freeze()
    }

    /// Parses the canonical bytes; `None` if they are not an id.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        match tag {
            1 if rest.len() == 32 => Some(Self::Session {
                session: Session {
                    gateway: NodeId::from_slice(&rest[..16])?,
                    generation: Generation(u64::from_be_bytes(rest[16..24].try_into().ok()?)),
                },
                sequence: u64::from_be_bytes(rest[24..].try_into().ok()?),
            }),
            2 => Self::outside(rest).ok(),
            3 => Some(Self::Derived(u128::from_be_bytes(rest.try_into().ok()?))),
            _ => None,
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session { session, sequence } => {
                write!(f, "{}.{}#{sequence}", session.gateway, session.generation.0)
            }
            Self::Outside(id) => write!(f, "outside:{}", id.escape_ascii()),
            Self::Derived(hash) => write!(f, "derived:{hash:032x}"),
        }
    }
}

/// Digest of what a request asks: the same id with other content is an error, never an old reply.
#[must_use]
pub fn request_digest(actor: &ActorKey, method: &str, body: &[u8]) -> u128 {
    hash128(
        domain::REQUEST,
        &[actor.as_bytes(), method.as_bytes(), body],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let session = Session {
            gateway: NodeId(7 << 100),
            generation: Generation(3),
        };
        let actor = ActorKey::new("default", "counter", "a").unwrap();
        let first = RequestId::Session {
            session,
            sequence: 9,
        };
        let derived = RequestId::derived((&actor, &first), 0, &actor, "add", b"1");
        let other = ActorKey::new("default", "counter", "b").unwrap();
        for unlike in [
            RequestId::derived((&actor, &first), 1, &actor, "add", b"1"),
            RequestId::derived((&other, &first), 0, &actor, "add", b"1"),
        ] {
            assert_ne!(derived, unlike);
        }
        for id in [first, RequestId::outside(b"order-7").unwrap(), derived] {
            assert_eq!(RequestId::parse(&id.to_bytes()), Some(id));
        }
        for wrong in [&b""[..], &[1, 2], &[2], &[3, 0], &[9, 9]] {
            assert_eq!(RequestId::parse(wrong), None);
        }
        assert!(RequestId::outside(&[b'x'; 257]).is_err());
    }
}
