//! Connections as they come and go: who is let in, what is said first, and what is lost with one.

use ghostlight_placement::membership::{self, Identity};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId};
use ghostlight_protocol::wire::border;
use ghostlight_protocol::wire::frame::{Frame, Routes};
use ghostlight_protocol::wire::hello::{ClusterDescriptor, Company, ConnectionKind, NodeRecord};

use super::super::slot::Slot;
use super::super::{Cluster, Introduced, Local, NodeCore};
use super::Fresh;
use super::link::Wire;
use crate::gateway::GatewayInput;
use crate::io::{Effect, Event, Lane, Now, StoreEffect};
use crate::topics::subscribers::SubscribersInput;

impl NodeCore {
    pub(in crate::node) fn connected(
        &mut self,
        now: Now,
        peer: NodeRecord,
        descriptor: Option<ClusterDescriptor>,
        kind: ConnectionKind,
        out: &mut Vec<Effect>,
    ) {
        let Some(node) = peer.id().filter(|node| *node != self.me) else {
            return;
        };
        if let Err(error) = border::check_record(&peer) {
            Self::say(out, format!("node {node} is not spoken to: {error}"));
            out.push(Effect::Close(node));
            return;
        }
        if kind == ConnectionKind::Inquiry {
            // It asks, and is no member.
            return;
        }
        // A stranger was greeted before this node had a cluster of its own.
        if self.removed.contains(&node) || self.is_stranger(descriptor.as_ref(), out) {
            out.push(Effect::Close(node));
            return;
        }
        let address = peer.address.clone();
        let generation = Generation(peer.generation);
        if self.links.take_greeting(peer) == Fresh::Yes {
            self.recompute_table(now);
        }
        let Some(link) = self.links.nodes.get_mut(&node) else {
            return;
        };
        link.was_reached();
        match kind {
            ConnectionKind::Control => {
                link.control = Wire::Up;
                link.heard = now.instant;
                link.told_silent = false;
                self.host_connected(now, node, out);
                if let Ok(address) = address.parse() {
                    let met = membership::Input::Meet(Identity::new(node, address, generation));
                    self.feed_membership(now, met, out);
                }
                self.tell_mark(node, out);
            }
            ConnectionKind::Bulk => {
                // Replaced: nobody says that the one before is gone, and what was under way on it
                // is lost.
                if std::mem::replace(&mut link.bulk, Wire::Up) == Wire::Up {
                    self.bulk_lost(node);
                }
                let slots = self.cluster.iter().flat_map(Cluster::slots);
                let all: Vec<_> = slots.map(Slot::partition).collect();
                self.appends_not_sent(node, &all);
                self.host_connected(now, node, out);
                let input = SubscribersInput::Connected(node);
                self.local.push_back(Local::Subscribers(input));
            }
            ConnectionKind::Inquiry => {}
        }
        if let Some(descriptor) = descriptor {
            self.adopt(now, descriptor, out);
        }
        if kind == ConnectionKind::Control {
            self.greet(node, out);
        }
    }

    /// A peer that can be spoken to hears what it may have missed, and which cluster this is.
    fn greet(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        // The greeting may be older than the record, and what was told of a change went over the
        // connection before: without this a change could stay unknown there for good.
        self.flush.records.push((node, self.record.clone()));
        if self.cluster.is_some() {
            self.announce_all_to(node);
            self.found_company(out);
            self.tell_cluster(node, out);
        }
    }

    /// A peer hears which cluster this is, and who leads what.
    fn tell_cluster(&self, node: NodeId, out: &mut Vec<Effect>) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let hints = cluster.routes.hints().collect();
        let frames = [
            Frame::Descriptor(cluster.descriptor.clone()),
            Frame::Routes(Routes { hints }),
        ];
        for frame in frames {
            out.push(Effect::Send {
                to: node,
                lane: Lane::Control,
                frame,
            });
        }
    }

    /// A cluster that has had a second member remembers it.
    fn found_company(&mut self, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if cluster.descriptor.company() == Company::Alone {
            cluster.descriptor.set_company(Company::Shared);
            let descriptor = cluster.descriptor.clone();
            out.push(Effect::Store(StoreEffect::SaveDescriptor(descriptor)));
            self.introduced = Introduced::Outdated;
        }
    }

    /// Takes a cluster's descriptor, if this node has none yet.
    pub(in crate::node) fn adopt(
        &mut self,
        now: Now,
        descriptor: ClusterDescriptor,
        out: &mut Vec<Effect>,
    ) {
        if self.cluster.is_some() || descriptor.id().is_none() {
            return;
        }
        if let Err(error) = border::check_descriptor(&descriptor) {
            return Self::say(out, format!("cannot join: {error}"));
        }
        if let Some(asked) = self.start.partitions
            && descriptor.partitions != u32::from(asked)
        {
            let detail = format!(
                "this cluster has {} partitions, --partitions says {asked}. The number is fixed when a \
                 cluster is founded: leave the flag out",
                descriptor.partitions
            );
            return self.stop(Code::ShapeMismatch, detail, out);
        }
        out.push(Effect::Store(StoreEffect::SaveDescriptor(
            descriptor.clone(),
        )));
        out.push(Effect::Event(Event::Joined(descriptor.clone())));
        self.enter(now, descriptor);
        for node in self.links.connected() {
            self.announce_all_to(node);
        }
    }

    pub(in crate::node) fn disconnected(&mut self, _now: Now, node: NodeId, kind: ConnectionKind) {
        if kind == ConnectionKind::Inquiry {
            return;
        }
        let link = self.links.nodes.get_mut(&node);
        if let Some(wire) = link.and_then(|link| link.wire_mut(kind)) {
            *wire = Wire::Down;
        }
        match kind {
            ConnectionKind::Bulk => self.bulk_lost(node),
            ConnectionKind::Control => {
                self.local
                    .push_back(Local::Gateway(GatewayInput::Silent(node)));
                self.topics_silent(node);
            }
            ConnectionKind::Inquiry => {}
        }
    }

    /// What leaders have sent to a node was not sent, or came before there was a way: it may be
    /// sent again at once.
    pub(in crate::node) fn appends_not_sent(&mut self, to: NodeId, partitions: &[PartitionId]) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for partition in partitions {
            if let Some(slot) = cluster.slot_mut(*partition) {
                slot.group.not_sent(to);
            }
        }
    }

    /// Frames under way on a bulk connection may be lost: calls must not wait for their answers,
    /// nor leaders for what they have sent.
    fn bulk_lost(&mut self, node: NodeId) {
        self.local
            .push_back(Local::Gateway(GatewayInput::Silent(node)));
        self.topics_silent(node);
        if let Some(cluster) = &mut self.cluster {
            for slot in cluster.slots.iter_mut().flatten() {
                slot.group.unreachable(node);
            }
        }
    }
}
