//! The bytes of a gossip datagram.
//!
//! A datagram is a header (version, message, sender, incarnation, receiver), then a count and that
//! many members. Fixed-width fields, big endian: an identity takes 35 bytes with IPv4 and 47 with
//! IPv6. Every read is checked against what is left, so that any bytes give a value or an error;
//! nothing is allocated on the word of a length field.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use ghostlight_protocol::ids::{Generation, NodeId};

use super::identity::Identity;

/// Version of the datagrams; another version is refused.
pub(super) const GOSSIP_VERSION: u8 = 1;

/// Why bytes are not a datagram, or a datagram did not fit into the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end inside a field.
    #[error("it ends inside a field")]
    Truncated,
    /// It is of another version.
    #[error("it is of version {found}, this build speaks {GOSSIP_VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// A field has a value that means nothing.
    #[error("its {field} has the unknown value {found}")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u8,
    },
    /// The packet is full; nothing was written.
    #[error("the packet is full")]
    Full,
}

/// Our encoding of foca's messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GossipCodec;

const TAG_PING: u8 = 1;
const TAG_ACK: u8 = 2;
const TAG_PING_REQUEST: u8 = 3;
const TAG_INDIRECT_PING: u8 = 4;
const TAG_INDIRECT_ACK: u8 = 5;
const TAG_FORWARDED_ACK: u8 = 6;
const TAG_ANNOUNCE: u8 = 7;
const TAG_FEED: u8 = 8;
const TAG_GOSSIP: u8 = 9;
const TAG_BROADCAST: u8 = 10;
const TAG_TURN_UNDEAD: u8 = 11;

const STATE_ALIVE: u8 = 1;
const STATE_SUSPECT: u8 = 2;
const STATE_DOWN: u8 = 3;

const IP_V4: u8 = 4;
const IP_V6: u8 = 6;

impl foca::Codec<Identity> for GossipCodec {
    type Error = CodecError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let mut bytes = Vec::with_capacity(160);
        bytes.push(GOSSIP_VERSION);
        put_message(&header.message, &mut bytes);
        put_identity(&header.src, &mut bytes);
        bytes.put_u16(header.src_incarnation);
        put_identity(&header.dst, &mut bytes);
        put_whole(&bytes, &mut buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        let found = take_u8(&mut buf)?;
        if found != GOSSIP_VERSION {
            return Err(CodecError::Version { found });
        }
        let message = take_message(&mut buf)?;
        let src = take_identity(&mut buf)?;
        let src_incarnation = take_u16(&mut buf)?;
        let dst = take_identity(&mut buf)?;
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        mut buf: impl BufMut,
    ) -> Result<(), CodecError> {
        let mut bytes = Vec::with_capacity(50);
        put_identity(member.id(), &mut bytes);
        bytes.put_u16(member.incarnation());
        bytes.push(match member.state() {
            State::Alive => STATE_ALIVE,
            State::Suspect => STATE_SUSPECT,
            State::Down => STATE_DOWN,
        });
        put_whole(&bytes, &mut buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        let identity = take_identity(&mut buf)?;
        let incarnation = take_u16(&mut buf)?;
        let state = match take_u8(&mut buf)? {
            STATE_ALIVE => State::Alive,
            STATE_SUSPECT => State::Suspect,
            STATE_DOWN => State::Down,
            found => {
                return Err(CodecError::Unknown {
                    field: "state",
                    found,
                });
            }
        };
        Ok(Member::new(identity, incarnation, state))
    }
}

/// All or nothing: foca stops filling a packet at the first error and sends what is in it.
fn put_whole(bytes: &[u8], buf: &mut impl BufMut) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError::Full);
    }
    buf.put_slice(bytes);
    Ok(())
}

fn put_message(message: &Message<Identity>, out: &mut Vec<u8>) {
    let (tag, probe, identity) = match message {
        Message::Ping(probe) => (TAG_PING, Some(*probe), None),
        Message::Ack(probe) => (TAG_ACK, Some(*probe), None),
        Message::PingReq {
            target,
            probe_number,
        } => (TAG_PING_REQUEST, Some(*probe_number), Some(target)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (TAG_INDIRECT_PING, Some(*probe_number), Some(origin)),
        Message::IndirectAck {
            target,
            probe_number,
        } => (TAG_INDIRECT_ACK, Some(*probe_number), Some(target)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (TAG_FORWARDED_ACK, Some(*probe_number), Some(origin)),
        Message::Announce => (TAG_ANNOUNCE, None, None),
        Message::Feed => (TAG_FEED, None, None),
        Message::Gossip => (TAG_GOSSIP, None, None),
        Message::Broadcast => (TAG_BROADCAST, None, None),
        Message::TurnUndead => (TAG_TURN_UNDEAD, None, None),
    };
    out.push(tag);
    out.extend(probe);
    if let Some(identity) = identity {
        put_identity(identity, out);
    }
}

fn take_message(buf: &mut impl Buf) -> Result<Message<Identity>, CodecError> {
    Ok(match take_u8(buf)? {
        TAG_PING => Message::Ping(take_u8(buf)?),
        TAG_ACK => Message::Ack(take_u8(buf)?),
        TAG_PING_REQUEST => Message::PingReq {
            probe_number: take_u8(buf)?,
            target: take_identity(buf)?,
        },
        TAG_INDIRECT_PING => Message::IndirectPing {
            probe_number: take_u8(buf)?,
            origin: take_identity(buf)?,
        },
        TAG_INDIRECT_ACK => Message::IndirectAck {
            probe_number: take_u8(buf)?,
            target: take_identity(buf)?,
        },
        TAG_FORWARDED_ACK => Message::ForwardedAck {
            probe_number: take_u8(buf)?,
            origin: take_identity(buf)?,
        },
        TAG_ANNOUNCE => Message::Announce,
        TAG_FEED => Message::Feed,
        TAG_GOSSIP => Message::Gossip,
        TAG_BROADCAST => Message::Broadcast,
        TAG_TURN_UNDEAD => Message::TurnUndead,
        found => {
            return Err(CodecError::Unknown {
                field: "message",
                found,
            });
        }
    })
}

fn put_identity(identity: &Identity, out: &mut Vec<u8>) {
    out.put_slice(&identity.node.to_bytes());
    out.put_u64(identity.generation.0);
    out.put_u32(identity.renewal);
    match identity.address {
        SocketAddr::V4(address) => {
            out.put_u8(IP_V4);
            out.put_slice(&address.ip().octets());
        }
        SocketAddr::V6(address) => {
            out.put_u8(IP_V6);
            out.put_slice(&address.ip().octets());
        }
    }
    out.put_u16(identity.address.port());
}

fn take_identity(buf: &mut impl Buf) -> Result<Identity, CodecError> {
    let node = NodeId(u128::from_be_bytes(take(buf)?));
    let generation = Generation(u64::from_be_bytes(take(buf)?));
    let renewal = u32::from_be_bytes(take(buf)?);
    let address = match take_u8(buf)? {
        IP_V4 => {
            let ip = Ipv4Addr::from(take::<4>(buf)?);
            SocketAddr::from((ip, take_u16(buf)?))
        }
        IP_V6 => {
            let ip = Ipv6Addr::from(take::<16>(buf)?);
            SocketAddr::from((ip, take_u16(buf)?))
        }
        found => {
            return Err(CodecError::Unknown {
                field: "address family",
                found,
            });
        }
    };
    Ok(Identity {
        node,
        address,
        generation,
        renewal,
    })
}

fn take<const N: usize>(buf: &mut impl Buf) -> Result<[u8; N], CodecError> {
    let mut bytes = [0; N];
    if buf.remaining() < N {
        return Err(CodecError::Truncated);
    }
    buf.copy_to_slice(&mut bytes);
    Ok(bytes)
}

fn take_u8(buf: &mut impl Buf) -> Result<u8, CodecError> {
    take::<1>(buf).map(|[byte]| byte)
}

fn take_u16(buf: &mut impl Buf) -> Result<u16, CodecError> {
    take(buf).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use foca::Codec;
    use proptest::prelude::*;

    use super::*;

    fn identities() -> impl Strategy<Value = Identity> {
        (
            any::<u128>(),
            any::<u64>(),
            any::<u32>(),
            any::<[u8; 16]>(),
            any::<u16>(),
            0..2,
        )
            .prop_map(|(node, generation, renewal, ip, port, family)| Identity {
                node: NodeId(node),
                generation: Generation(generation),
                renewal,
                address: if family == 0 {
                    SocketAddr::from(([ip[0], ip[1], ip[2], ip[3]], port))
                } else {
                    SocketAddr::from((ip, port))
                },
            })
    }

    fn messages() -> impl Strategy<Value = Message<Identity>> {
        (0..11, any::<u8>(), identities()).prop_map(|(kind, probe_number, id)| match kind {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq {
                target: id,
                probe_number,
            },
            3 => Message::IndirectPing {
                origin: id,
                probe_number,
            },
            4 => Message::IndirectAck {
                target: id,
                probe_number,
            },
            5 => Message::ForwardedAck {
                origin: id,
                probe_number,
            },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            _ => Message::TurnUndead,
        })
    }

    fn states() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)]
    }

    proptest! {
        #[test]
        fn headers_survive_and_no_prefix_is_one(
            src in identities(), dst in identities(), src_incarnation: u16, message in messages(),
        ) {
            let header = Header { src, src_incarnation, dst, message };
            let mut bytes = Vec::new();
            GossipCodec.encode_header(&header, &mut bytes).unwrap();
            prop_assert!(bytes.len() <= 146, "{} bytes", bytes.len());
            let mut rest = &bytes[..];
            prop_assert_eq!(GossipCodec.decode_header(&mut rest).unwrap(), header);
            prop_assert!(rest.is_empty());
            for end in 0..bytes.len() {
                let cut = GossipCodec.decode_header(&bytes[..end]);
                prop_assert_eq!(cut, Err(CodecError::Truncated));
            }
        }

        #[test]
        fn members_survive_and_a_full_packet_stays_clean(
            id in identities(), incarnation: u16, state in states(), room in 0_usize..60,
        ) {
            let member = Member::new(id, incarnation, state);
            let mut bytes = Vec::new();
            GossipCodec.encode_member(&member, &mut bytes).unwrap();
            let mut rest = &bytes[..];
            prop_assert_eq!(GossipCodec.decode_member(&mut rest).unwrap(), member.clone());
            prop_assert!(rest.is_empty());
            let mut packet = Vec::new().limit(room);
            let outcome = GossipCodec.encode_member(&member, &mut packet);
            let written = if outcome.is_ok() { bytes.len() } else { 0 };
            prop_assert_eq!(outcome.is_ok(), bytes.len() <= room);
            prop_assert_eq!(packet.get_ref().len(), written);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = GossipCodec.decode_header(&bytes[..]);
            if let Ok(member) = GossipCodec.decode_member(&bytes[..]) {
                let mut again = Vec::new();
                GossipCodec.encode_member(&member, &mut again).unwrap();
                prop_assert_eq!(&again[..], &bytes[..again.len()]);
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let id = Identity::new(
            NodeId(0x0102 << 112),
            "10.0.0.9:7400".parse().unwrap(),
            Generation(3),
        );
        let mut bytes = Vec::new();
        GossipCodec
            .encode_member(&Member::new(id, 5, State::Suspect), &mut bytes)
            .unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "01020000000000000000000000000000000000000000000300000000040a0000091ce8000502"
        );
        assert_eq!(
            GossipCodec.decode_header(&[9_u8, 1][..]),
            Err(CodecError::Version { found: 9 })
        );
    }
}
