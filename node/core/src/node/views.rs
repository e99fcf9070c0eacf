//! What operators see: the cluster through this node's eyes.

use std::collections::{BTreeMap, BTreeSet};

use ghostlight_placement::membership::MemberState;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::ids::{NodeId, PeerId};
use ghostlight_protocol::wire::hello::{Duty, NodeRecord};

use super::slot::Slot;
use super::{Cluster, NodeCore};
use crate::admin::{
    ActorView, Health, MemberView, NodeRef, PartitionView, StatusView, TypeView, WhereView,
};
use crate::io::Now;
use crate::replica::Role;

impl NodeCore {
    pub(super) fn status_view(&self, _now: Now) -> StatusView {
        let mut members: Vec<MemberView> = self
            .links
            .iter()
            .filter(|(node, _)| !self.removed.contains(node))
            .map(|(node, link)| {
                self.member_view(node, &link.record, link.said.replicas, link.said.leaders)
            })
            .collect();
        let (replicas, leaders) = self.shares();
        members.push(self.member_view(self.me, &self.record, replicas, leaders));
        members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let Some(cluster) = &self.cluster else {
            return StatusView {
                health: Health::Unhealthy,
                reasons: vec!["this node has not joined a cluster yet".to_owned()],
                cluster: String::new(),
                node: format!("{:?}", self.me),
                partitions: 0,
                factor: 0,
                partitions_led: 0,
                copies_min: 0,
                moves: 0,
                weakened: Vec::new(),
                applications: Vec::new(),
                members,
            };
        };
        let partitions_led = self.partitions_led(cluster);
        let copies_min = copies_min(cluster, &self.removed);
        let moves = moves(cluster);
        let (health, reasons) = self.judge(cluster, &members, partitions_led, copies_min, moves);
        StatusView {
            health,
            reasons,
            cluster: cluster
                .descriptor
                .id()
                .map(|id| format!("{id:?}"))
                .unwrap_or_default(),
            node: format!("{:?}", self.me),
            partitions: cluster.descriptor.partitions,
            factor: cluster.descriptor.factor,
            partitions_led,
            copies_min,
            moves,
            weakened: Vec::new(),
            applications: Vec::new(),
            members,
        }
    }

    fn partitions_led(&self, cluster: &Cluster) -> u32 {
        let partitions = (0..cluster.partitions()).map(ghostlight_protocol::ids::PartitionId);
        let led = partitions.filter(|partition| self.led_by(cluster, *partition).is_some());
        led.count() as u32
    }

    /// Partitions of which no later leader than this one is known.
    fn led_by_routes(&self, node: NodeId) -> u32 {
        let Some(cluster) = &self.cluster else {
            return 0;
        };
        let partitions = (0..cluster.partitions()).map(ghostlight_protocol::ids::PartitionId);
        let leaders = partitions.filter_map(|partition| cluster.routes.leader(partition));
        leaders.filter(|(leader, _)| *leader == node).count() as u32
    }

    /// The known leader of a partition, unless it is known to be gone.
    fn led_by(
        &self,
        cluster: &Cluster,
        partition: ghostlight_protocol::ids::PartitionId,
    ) -> Option<NodeId> {
        let (leader, _) = cluster.routes.leader(partition)?;
        let leads = if leader == self.me {
            let slot = cluster.slot(partition);
            slot.is_some_and(|slot| slot.serving().is_some())
        } else {
            self.links.reachable(leader) == crate::gateway::Reachable::Yes
        };
        leads.then_some(leader)
    }

    fn judge(
        &self,
        cluster: &Cluster,
        members: &[MemberView],
        led: u32,
        copies: u32,
        moves: u32,
    ) -> (Health, Vec<String>) {
        let total = cluster.descriptor.partitions;
        let factor = cluster.descriptor.factor;
        let mut reasons = Vec::new();
        let mut health = Health::Healthy;
        if led < total {
            health = Health::Unhealthy;
            reasons.push(format!(
                "{} of {total} partitions have no leader",
                total - led
            ));
        }
        let holders = members
            .iter()
            .filter(|m| m.weight > 0 && m.state == "alive")
            .count() as u32;
        if copies < factor {
            health = health.max_with(Health::Degraded);
            let more = factor.saturating_sub(holders);
            reasons.push(if more > 0 {
                format!("the data has {copies} of {factor} copies: start {more} more node(s) with --join")
            } else {
                format!("the data has {copies} of {factor} copies, more are being made")
            });
        }
        let wanted = u32::from(self.start.min_copies);
        if copies < wanted {
            health = health.max_with(Health::Degraded);
            reasons.push(format!(
                "writes to partitions with fewer than {wanted} copies wait: --min-copies asks for so many"
            ));
        }
        // Edges come and go with what runs beside them: the cluster is as well without them.
        for member in members
            .iter()
            .filter(|m| m.weight > 0 && !matches!(m.state.as_str(), "alive" | "left"))
        {
            health = health.max_with(Health::Degraded);
            reasons.push(format!("{} is {}", member.name, member.state));
        }
        for (name, why) in self.unfit() {
            health = health.max_with(Health::Degraded);
            reasons.push(format!("{name} leads nothing that others can lead: {why}"));
        }
        if moves > 0 {
            reasons.push(format!("{moves} copies are on their way"));
        }
        if reasons.is_empty() {
            reasons.push(format!("every partition is led and has {copies} copies"));
        }
        (health, reasons)
    }

    /// Nodes that are not fit to lead, and why.
    fn unfit(&self) -> Vec<(String, String)> {
        let others = self
            .links
            .iter()
            .map(|(node, link)| (node, link.said.fitness));
        let all = std::iter::once((self.me, self.fitness.present())).chain(others);
        let alive = all.filter(|(node, _)| self.member_state(*node) != MemberState::Down);
        let mut unfit: Vec<_> = alive
            .filter_map(|(node, fitness)| {
                let why = super::fitness::unfit_reason(fitness)?;
                Some((self.name_of(node), why))
            })
            .collect();
        unfit.sort();
        unfit
    }

    /// What a node is believed to be, in the word that operators see.
    pub(super) fn state_text(&self, node: NodeId) -> &'static str {
        let record = self.links.link(node).map(|link| &link.record);
        let has_left = record.is_some_and(|record| record.duty() == Duty::Leaving);
        match self.member_state(node) {
            MemberState::Alive if self.links.is_silent(node) => "silent",
            MemberState::Alive => "alive",
            MemberState::Suspect => "suspect",
            MemberState::Down if has_left => "left",
            MemberState::Down => "down",
        }
    }

    fn member_view(
        &self,
        node: NodeId,
        record: &NodeRecord,
        replicas: u32,
        leaders: u32,
    ) -> MemberView {
        let state = self.state_text(node);
        let duty = match record.duty() {
            Duty::Serving => "serving",
            Duty::Draining => "draining",
            Duty::Leaving => "leaving",
        };
        MemberView {
            id: format!("{node:?}"),
            name: self.name_of(node),
            state: state.to_owned(),
            duty: duty.to_owned(),
            generation: record.generation,
            address: record.address.clone(),
            http: record.http.clone(),
            admin: record.admin.clone(),
            zone: record.zone.clone(),
            weight: record.weight,
            leaders: match state {
                "down" | "left" => 0,
                // Its own word is old: others may lead them by now.
                "silent" | "suspect" => self.led_by_routes(node),
                _ => leaders,
            },
            replicas: if state == "left" { 0 } else { replicas },
            pid: record.pid,
            version: record.version.clone(),
        }
    }

    pub(super) fn partition_views(&self) -> Vec<PartitionView> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let all = (0..cluster.partitions()).map(ghostlight_protocol::ids::PartitionId);
        all.map(|partition| self.partition_view(cluster, partition))
            .collect()
    }

    fn partition_view(
        &self,
        cluster: &Cluster,
        partition: ghostlight_protocol::ids::PartitionId,
    ) -> PartitionView {
        let term = cluster.routes.leader(partition).map(|(_, term)| term);
        let slot = cluster.slot(partition);
        let row = slot.and_then(|slot| slot.row.clone()).unwrap_or_default();
        let membership = slot
            .map(|slot| slot.group.membership().clone())
            .unwrap_or_default();
        let (voters, learners): (Vec<_>, Vec<_>) = membership
            .nodes()
            .partition(|(peer, _)| membership.is_voter(*peer));
        let refs = |peers: Vec<(PeerId, NodeId)>| {
            peers
                .into_iter()
                .map(|(_, node)| self.node_ref(node))
                .collect::<Vec<_>>()
        };
        let voters = match slot {
            Some(_) => refs(voters),
            None => self.hinted_voters(cluster, partition),
        };
        PartitionView {
            partition: partition.0,
            leader: self
                .led_by(cluster, partition)
                .map(|node| self.node_ref(node)),
            term: term.map_or(0, |term| term.0),
            role: role_of(slot).to_owned(),
            voters,
            learners: refs(learners),
            commit: slot.map_or(0, |slot| slot.group.commit().0),
            applied: slot.map_or(0, |slot| slot.group.applied().0),
            state_hash: format!("{:032x}", row.chain()),
            outbox: row.outbox_rows,
            inbox: row.inbox_rows,
        }
    }

    fn hinted_voters(
        &self,
        cluster: &Cluster,
        partition: ghostlight_protocol::ids::PartitionId,
    ) -> Vec<NodeRef> {
        let hint = cluster.routes.hint(partition);
        let voters = hint.iter().flat_map(|hint| &hint.voters);
        voters
            .filter_map(|n| NodeId::from_slice(n))
            .map(|node| self.node_ref(node))
            .collect()
    }

    pub(super) fn actor_views(&self) -> Vec<ActorView> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let me = self.node_ref(self.me);
        let mut views = Vec::new();
        for slot in cluster.slots() {
            let Some((_, serving)) = slot.serving() else {
                continue;
            };
            for activation in serving.turns.activations() {
                views.push(ActorView {
                    actor: activation.actor.to_string(),
                    namespace: activation.actor.namespace().to_owned(),
                    partition: slot.partition().0,
                    node: me.clone(),
                    mailbox: activation.mailbox as u32,
                    state: activation.state.to_owned(),
                    turns: activation.turns,
                    version: activation.version.0,
                });
            }
        }
        views.sort_by(|a, b| a.actor.cmp(&b.actor));
        views
    }

    /// Actor types that some node has, by name. One that is down, or was removed, has none: it may
    /// be away for good.
    pub(super) fn type_views(&self) -> Vec<TypeView> {
        let others = self.links.iter().map(|(node, link)| (node, &link.record));
        let others = others.filter(|(node, _)| {
            let is_member = self.is_there(*node) || self.member_state(*node) != MemberState::Down;
            is_member && !self.removed.contains(node)
        });
        let mut all: BTreeMap<&str, TypeView> = BTreeMap::new();
        let empty = |name: &str| TypeView {
            actor_type: name.to_owned(),
            native: Vec::new(),
            applications: Vec::new(),
        };
        for (node, record) in std::iter::once((self.me, &self.record)).chain(others) {
            for name in &record.actor_types {
                let view = all.entry(name).or_insert_with(|| empty(name));
                view.native.push(self.node_ref(node));
            }
            for hosted in &record.app_types {
                let name = &hosted.name;
                let view = all.entry(name).or_insert_with(|| empty(name));
                view.applications.push(self.node_ref(node));
            }
        }
        all.into_values().collect()
    }

    pub(super) fn where_view(&self, actor: &ActorKey) -> Option<WhereView> {
        let cluster = self.cluster.as_ref()?;
        let partition = partition_of(actor, cluster.partitions());
        let view = self.partition_view(cluster, partition);
        Some(WhereView {
            actor: actor.to_string(),
            partition: partition.0,
            leader: view.leader,
            replicas: view.voters,
        })
    }

    fn node_ref(&self, node: NodeId) -> NodeRef {
        NodeRef {
            id: format!("{node:?}"),
            name: self.name_of(node),
        }
    }
}

impl Health {
    fn max_with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unhealthy, _) | (_, Self::Unhealthy) => Self::Unhealthy,
            (Self::Degraded, _) | (_, Self::Degraded) => Self::Degraded,
            (Self::Healthy, Self::Healthy) => Self::Healthy,
        }
    }
}

fn role_of(slot: Option<&Slot>) -> &'static str {
    let Some(slot) = slot else { return "none" };
    let membership = slot.group.membership();
    match slot.group.role() {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::Follower { .. } if membership.is_voter(slot.group.peer()) => "follower",
        Role::Follower { .. } => "learner",
    }
}

/// Fewest voters of any partition that this node has a replica of; others are known by their hints.
/// A voter on a node that was removed for good is a copy that is lost.
fn copies_min(cluster: &Cluster, removed: &BTreeSet<NodeId>) -> u32 {
    let voters = (0..cluster.partitions()).filter_map(|p| {
        let partition = ghostlight_protocol::ids::PartitionId(p);
        match cluster.slot(partition) {
            Some(slot) if slot.group.is_initialized() => {
                let membership = slot.group.membership();
                let present = |voters: &[u64]| {
                    let nodes = voters.iter().map(|v| membership.node_of(PeerId(*v)));
                    nodes.flatten().filter(|n| !removed.contains(n)).count()
                };
                // During a joint change the loss of the old voters still stops the group.
                let voters = present(&membership.voters);
                let safe = if membership.is_joint() {
                    voters.min(present(&membership.voters_outgoing))
                } else {
                    voters
                };
                Some(safe as u32)
            }
            Some(_) | None => cluster.routes.hint(partition).map(|hint| {
                let nodes = hint.voters.iter().filter_map(|n| NodeId::from_slice(n));
                nodes.filter(|n| !removed.contains(n)).count() as u32
            }),
        }
    });
    voters.min().unwrap_or(0)
}

/// Copies being made or removed in groups that this node leads.
fn moves(cluster: &Cluster) -> u32 {
    let led = cluster.slots().filter(|slot| slot.leading.is_some());
    let moving = led.map(|slot| {
        let membership = slot.group.membership();
        if membership.is_joint() {
            1
        } else {
            membership.learners.len() as u32
        }
    });
    moving.sum()
}
