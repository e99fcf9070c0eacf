//! SWIM, as the node drives it: what it hears by gossip, and which nodes it learns of.

use std::net::SocketAddr;

use bytes::Bytes;
use ghostlight_placement::membership::{
    self, Identity, Member, MemberState, Membership, Settings as GossipSettings,
};
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::wire::hello::NodeRecord;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::super::{NodeCore, Start};
use super::Link;
use crate::io::{Effect, Event, Named, Now};

pub(in crate::node) fn membership(start: &Start, rng: &mut ChaCha8Rng) -> Membership {
    let address = start
        .record
        .address
        .parse()
        .unwrap_or_else(|_| unspecified());
    let identity = Identity::new(start.me(), address, Generation(start.record.generation));
    Membership::new(identity, GossipSettings::default(), rng.random())
}

fn unspecified() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl NodeCore {
    pub(in crate::node) fn take_gossip(&mut self, now: Now, data: Bytes, out: &mut Vec<Effect>) {
        self.feed_membership(now, membership::Input::Datagram(data), out);
    }

    /// Tells the others by gossip that this node leaves for good.
    pub(in crate::node) fn say_goodbye(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.feed_membership(now, membership::Input::Leave, out);
    }

    pub(in crate::node) fn drive_membership(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self
            .membership
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.pauses.awake(now.instant))
        {
            self.feed_membership(now, membership::Input::Tick, out);
        }
    }

    pub(super) fn feed_membership(
        &mut self,
        now: Now,
        input: membership::Input,
        out: &mut Vec<Effect>,
    ) {
        let mut effects = Vec::new();
        let awake = self.pauses.awake(now.instant);
        self.membership.handle(awake, input, &mut effects);
        for effect in effects {
            self.membership_effect(now, effect, out);
        }
    }

    fn membership_effect(&mut self, now: Now, effect: membership::Effect, out: &mut Vec<Effect>) {
        match effect {
            membership::Effect::Send { to, data } => {
                out.push(Effect::Gossip { to: to.node, data });
            }
            membership::Effect::MemberUp(Member { identity, .. }) => {
                self.member_seen(now, &identity);
                out.push(Effect::Event(Event::MemberUp(self.named(identity.node))));
            }
            membership::Effect::MemberChanged { after, .. } => self.member_seen(now, &after),
            membership::Effect::MemberDown { node, .. } => {
                self.recompute_table(now);
                out.push(Effect::Event(Event::MemberDown(self.named(node))));
            }
            membership::Effect::Suspected(node) => {
                out.push(Effect::Event(Event::MemberSuspect(self.named(node))));
            }
            membership::Effect::Refused(error) => Self::say(out, error.to_string()),
            membership::Effect::Refuted(_)
            | membership::Effect::Forgotten(_)
            | membership::Effect::Joined
            | membership::Effect::Alone
            | membership::Effect::Rejoined(_) => {}
            membership::Effect::Left => self.end_if_goodbye_is_heard(now, out),
        }
    }

    fn named(&self, node: NodeId) -> Named {
        let name = self.name_of(node);
        Named { node, name }
    }

    /// Gossip tells of a node and where it is: worth dialing.
    fn member_seen(&mut self, now: Now, identity: &Identity) {
        // Of no generation: the node's own record, whenever it comes, is fresher than this word of
        // others.
        let record = NodeRecord {
            node: identity.node.to_bytes().to_vec(),
            address: identity.address.to_string(),
            ..NodeRecord::default()
        };
        match self.links.nodes.get_mut(&identity.node) {
            Some(link) => {
                let newer = identity.generation.0 > link.record.generation;
                if newer {
                    link.record.address = record.address;
                }
                if newer || link.gone.take().is_some() {
                    link.is_back(now.instant);
                }
            }
            // Weight 0 until its `Hello` says more: nothing is placed on it.
            None => {
                self.links.nodes.insert(identity.node, Link::new(record));
            }
        }
        self.recompute_table(now);
    }

    /// What SWIM says of a node; this node is alive.
    pub(in crate::node) fn member_state(&self, node: NodeId) -> MemberState {
        if node == self.me {
            return MemberState::Alive;
        }
        self.membership.state_of(node).unwrap_or(MemberState::Down)
    }
}
