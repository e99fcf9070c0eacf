//! Datagrams of the failure detector.

use bytes::Bytes;
use ghostlight_placement::membership::{
    Effect, GOSSIP_BYTES_MAX, Identity, Input, Membership, Settings,
};
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::time::Instant;

use crate::{Decoder, pieces};

/// Datagrams, one after another.
pub(crate) const GOSSIP: Decoder = Decoder {
    name: "gossip",
    what: "gossip",
    take: gossip,
    valid: datagrams,
};

const NOW: Instant = Instant(1_000_000_000);

fn identity(node: u128) -> Identity {
    let address = format!("10.0.0.{node}:7400").parse().expect("an address");
    Identity::new(NodeId(node), address, Generation(1))
}

fn member(node: u128) -> Membership {
    Membership::new(identity(node), Settings::default(), 7)
}

fn sent(effects: Vec<Effect>) -> Vec<Bytes> {
    let data = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send { data, .. } => Some(data),
        _ => None,
    });
    data.collect()
}

/// What two members say to each other.
fn datagrams() -> Vec<Vec<u8>> {
    let (mut one, mut two) = (member(1), member(2));
    let mut out = Vec::new();
    one.handle(NOW, Input::Meet(identity(2)), &mut out);
    let mut said = sent(out);
    let announced = said.clone();
    for data in announced {
        let mut out = Vec::new();
        two.handle(NOW, Input::Datagram(data), &mut out);
        said.extend(sent(out));
    }
    assert!(said.len() > 1, "they announce themselves, and answer");
    let mut all: Vec<Vec<u8>> = said.iter().map(|data| pieces::join(&[data])).collect();
    all.push(pieces::join(&said));
    all
}

/// A member that is fed anything stays a member, and says nothing that is too long.
fn gossip(bytes: &[u8]) {
    let mut member = member(2);
    let mut now = NOW;
    for datagram in pieces::split(bytes) {
        let data = Bytes::copy_from_slice(datagram);
        let mut out = Vec::new();
        member.handle(now, Input::Datagram(data), &mut out);
        // Its timers run as well: what it was told may wait for them.
        if let Some(due) = member.next_deadline() {
            now = now.max(due);
            member.handle(now, Input::Tick, &mut out);
        }
        for data in sent(out) {
            assert!(data.len() <= GOSSIP_BYTES_MAX, "{} bytes", data.len());
        }
    }
}
