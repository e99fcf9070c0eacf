//! What a scenario asks about the cluster: who leads what, where copies lie, what clients were
//! told.

use std::collections::{BTreeMap, BTreeSet};

use ghostlight_core::node::ReplicaView;
use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::partition_row::Membership;

use super::World;
use crate::clients::{End, Record};
use crate::net::Place;

impl World {
    /// Every replica that serves, with its place.
    fn serving(&self) -> impl Iterator<Item = (Place, ReplicaView<'_>)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.flat_map(move |(place, node)| {
            let replicas = node.process.iter().flat_map(|p| p.core.replicas());
            let ours = !self.foreign.contains(&place);
            let serving = replicas.filter(move |r| ours && r.serves.is_some());
            serving.map(move |r| (place, r))
        })
    }

    /// Where a partition is served, or believed to be.
    pub(super) fn serving_places(&self, partition: PartitionId) -> Vec<Place> {
        let serving = self.serving().filter(|(_, r)| r.partition == partition);
        serving.map(|(place, _)| place).collect()
    }

    /// The serving replica of each partition; of two, that of the higher term.
    fn leaders(&self) -> BTreeMap<PartitionId, (Place, ReplicaView<'_>)> {
        let mut leaders: BTreeMap<PartitionId, (Place, ReplicaView<'_>)> = BTreeMap::new();
        for (place, replica) in self.serving() {
            let newer = leaders
                .get(&replica.partition)
                .is_none_or(|(_, known)| known.term < replica.term);
            if newer {
                leaders.insert(replica.partition, (place, replica));
            }
        }
        leaders
    }

    /// Where a partition is served.
    #[must_use]
    pub fn leader_of(&self, partition: PartitionId) -> Option<Place> {
        self.leaders().get(&partition).map(|(place, _)| *place)
    }

    /// Partitions that a place serves.
    #[must_use]
    pub fn leaderships(&self, place: Place) -> usize {
        self.serving().filter(|(at, _)| *at == place).count()
    }

    /// The place that serves most partitions.
    #[must_use]
    pub fn busiest(&self) -> Place {
        let places = 0..self.nodes.len();
        places.max_by_key(|p| self.leaderships(*p)).unwrap_or(0)
    }

    /// Whether every partition is served, by another place than this one.
    #[must_use]
    pub fn led_without(&self, place: Place) -> bool {
        let leaders = self.leaders();
        leaders.len() == usize::from(self.params.partitions)
            && leaders.values().all(|(at, _)| *at != place)
    }

    /// The term in which each partition is served.
    #[must_use]
    pub fn terms(&self) -> BTreeMap<PartitionId, Term> {
        let leaders = self.leaders().into_iter();
        leaders.map(|(p, (_, replica))| (p, replica.term)).collect()
    }

    /// A partition's membership, as its leader's engine works with it.
    #[must_use]
    pub fn membership(&self, partition: PartitionId) -> Option<Membership> {
        let leaders = self.leaders();
        leaders
            .get(&partition)
            .map(|(_, replica)| replica.membership.clone())
    }

    /// Copies ever begun: every one took a peer id.
    #[must_use]
    pub fn copies_begun(&self) -> u64 {
        let leaders = self.leaders();
        leaders.values().map(|(_, r)| r.membership.next_peer).sum()
    }

    /// Partitions that have a voting copy on a node.
    #[must_use]
    pub fn copies_on(&self, node: NodeId) -> usize {
        let votes = |m: &Membership| m.voters.iter().any(|v| m.node_of(PeerId(*v)) == Some(node));
        let leaders = self.leaders();
        leaders
            .values()
            .filter(|(_, r)| votes(r.membership))
            .count()
    }

    /// Partitions whose preference list has a node, and those that it heads, as the leaders see
    /// them.
    #[must_use]
    pub fn wished_on(&self, node: NodeId) -> (usize, usize) {
        let leaders = self.leaders();
        let listed = leaders.values().filter(|(_, r)| r.wish.contains(&node));
        let heads = leaders
            .values()
            .filter(|(_, r)| r.wish.first() == Some(&node));
        (listed.count(), heads.count())
    }

    /// Replicas whose data lies with the process of a place.
    #[must_use]
    pub fn replicas_at(&self, place: Place) -> BTreeMap<PartitionId, PeerId> {
        let process = self.nodes[place].process.iter();
        let replicas = process.flat_map(|p| p.core.replicas());
        replicas.map(|r| (r.partition, r.peer)).collect()
    }

    /// Who ran last at a place.
    #[must_use]
    pub fn last_id(&self, place: Place) -> Option<NodeId> {
        self.nodes[place].last_id
    }

    /// What is not where the preference lists say: a partition without leader, with other voters,
    /// in the middle of a change, or led by another than the first. `None`: all is.
    #[must_use]
    pub fn misplaced(&self) -> Option<String> {
        let leaders = self.leaders();
        for partition in (0..self.params.partitions).map(PartitionId) {
            let Some((place, replica)) = leaders.get(&partition) else {
                return Some(format!("{partition} is not served"));
            };
            let membership = replica.membership;
            let voters = membership.voters.iter();
            let voters: BTreeSet<NodeId> = voters
                .filter_map(|v| membership.node_of(PeerId(*v)))
                .collect();
            let wished: BTreeSet<NodeId> = replica.wish.iter().copied().collect();
            let moving = membership.is_joint() || !membership.learners.is_empty();
            if voters != wished || moving {
                let decided = replica.decided;
                return Some(format!(
                    "{partition} is on {voters:?}, wished {wished:?}: {decided:?}"
                ));
            }
            if self.id_of(*place) != replica.wish.first().copied() {
                let (wish, decided) = (replica.wish, replica.decided);
                return Some(format!(
                    "{partition} is led by node {place}, wished {wish:?}: {decided:?}"
                ));
            }
        }
        None
    }

    /// Answers that a client could not have got from a cluster without faults: not run, unknown,
    /// and calls that died with their node; and operations that a client gave up after the last
    /// attempt.
    #[must_use]
    pub fn failed_calls(&self) -> u64 {
        let given_up = |record: &&Record| matches!(record.end, End::NotRun);
        let given_up = self.clients.history.iter().filter(given_up).count() as u64;
        self.clients.not_run + self.clients.unknown + self.clients.lost + given_up
    }

    /// Operations that ended with a reply.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.clients.acknowledged()
    }
}
