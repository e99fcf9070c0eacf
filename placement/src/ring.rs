//! Which nodes should hold each partition: consistent hashing (`hashring`) with preference lists.
//!
//! Every node of weight `w` stands `w` times the cluster's virtual-node count on the ring. A
//! partition's list is the first *factor* distinct nodes clockwise from it, one per zone as long as
//! zones last. When a node joins, a list changes only by gaining that node; when it leaves, only by
//! losing it (exact, and tested). All nodes compute the same lists from the same candidates: only
//! fixed bytes are hashed, and golden values pin the result.
//!
//! The list is a wish. Who holds and leads a partition is what its Raft group says.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use ghostlight_protocol::hash::domain;
use ghostlight_protocol::ids::{NodeId, PartitionId};
use ghostlight_protocol::limits::{PARTITIONS_MAX, WEIGHT_MAX};
use hashring::HashRing;

/// A node that could hold copies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its share of the work; 0: an edge, which holds nothing.
    pub weight: u32,
    /// Its zone; empty: not said, and unlike every other.
    pub zone: String,
}

impl Candidate {
    /// A candidate; the weight is cut at `WEIGHT_MAX`.
    #[must_use]
    pub fn new(node: NodeId, weight: u32, zone: impl Into<String>) -> Self {
        Self {
            node,
            weight: weight.min(WEIGHT_MAX),
            zone: zone.into(),
        }
    }

    /// The same node as a host of activations: there an edge counts as weight 1.
    #[must_use]
    pub fn as_host(&self) -> Self {
        Self {
            weight: self.weight.max(1),
            ..self.clone()
        }
    }
}

/// The numbers of the cluster descriptor that placement depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ring {
    partitions: u16,
    virtual_nodes: u32,
    factor: u8,
}

impl Ring {
    /// Takes the numbers fixed when the cluster was founded.
    ///
    /// # Panics
    /// When they are out of range: founding and joining refuse such numbers.
    #[must_use]
    pub fn new(partitions: u16, virtual_nodes: u32, factor: u8) -> Self {
        assert!(
            partitions.is_power_of_two() && partitions <= PARTITIONS_MAX,
            "{partitions} partitions is not a power of two up to {PARTITIONS_MAX}"
        );
        assert!(virtual_nodes > 0, "a node stands on the ring at least once");
        assert!(factor > 0, "a partition has at least one copy");
        Self {
            partitions,
            virtual_nodes,
            factor,
        }
    }

    /// How many partitions the cluster has.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// How many copies a partition should have.
    #[must_use]
    pub fn factor(&self) -> u8 {
        self.factor
    }

    /// The list of one partition. Builds the whole ring: for many, use [`PreferenceTable`].
    #[must_use]
    pub fn preference_list(&self, partition: PartitionId, candidates: &[Candidate]) -> Vec<NodeId> {
        Circle::new(self, candidates).list(partition)
    }
}

/// The preference lists of all partitions for one set of candidates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreferenceTable {
    lists: Vec<Vec<NodeId>>,
}

impl PreferenceTable {
    /// Computes all lists; done once per change of the candidates. The order of the candidates and
    /// doubles among them do not matter; of two candidates of one node the lesser counts.
    #[must_use]
    pub fn compute(ring: &Ring, candidates: &[Candidate]) -> Self {
        let circle = Circle::new(ring, candidates);
        let partitions = (0..ring.partitions).map(PartitionId);
        Self {
            lists: partitions.map(|p| circle.list(p)).collect(),
        }
    }

    /// The lists over the nodes that have an actor type, where an edge counts as weight 1. The
    /// first node of a list runs the partition's actors of that type.
    #[must_use]
    pub fn compute_hosts(ring: &Ring, hosts: &[Candidate]) -> Self {
        let hosts: Vec<Candidate> = hosts.iter().map(Candidate::as_host).collect();
        Self::compute(ring, &hosts)
    }

    /// The nodes that should hold a partition, the one that should lead first. Shorter than the
    /// factor when there are not enough nodes; empty when there is none.
    ///
    /// # Panics
    /// When the cluster has no such partition.
    #[must_use]
    pub fn list(&self, partition: PartitionId) -> &[NodeId] {
        let list = self.lists.get(usize::from(partition.0));
        list.unwrap_or_else(|| panic!("{partition} of {} partitions", self.lists.len()))
    }

    /// Every partition with its list, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, &[NodeId])> {
        (0_u16..)
            .map(PartitionId)
            .zip(self.lists.iter().map(Vec::as_slice))
    }
}

/// One point of a node on the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct VirtualNode {
    node: NodeId,
    replica: u32,
    /// Place of the node among the candidates; follows from `node`, and is not hashed.
    candidate: usize,
}

/// One write of fixed bytes: derived and std implementations write native-endian numbers and
/// lengths.
impl Hash for VirtualNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 21];
        bytes[0] = domain::VIRTUAL_NODE;
        bytes[1..17].copy_from_slice(&self.node.to_bytes());
        bytes[17..].copy_from_slice(&self.replica.to_le_bytes());
        state.write(&bytes);
    }
}

/// A partition's point on the ring.
struct PartitionPoint(PartitionId);

impl Hash for PartitionPoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [low, high] = self.0.0.to_le_bytes();
        state.write(&[domain::PARTITION, low, high]);
    }
}

/// The ring laid out for one set of candidates.
struct Circle {
    candidates: Vec<Candidate>,
    ring: HashRing<VirtualNode>,
    /// The ring's points clockwise.
    order: Vec<VirtualNode>,
    /// The same points by node and replica, each with its place in `order`.
    places: Vec<(VirtualNode, usize)>,
    factor: usize,
}

impl Circle {
    fn new(shape: &Ring, candidates: &[Candidate]) -> Self {
        let mut candidates: Vec<Candidate> = candidates.to_vec();
        candidates.retain(|c| c.weight > 0);
        candidates.sort();
        candidates.dedup_by_key(|c| c.node);
        let mut points = Vec::new();
        for (candidate, c) in candidates.iter().enumerate() {
            let count = c.weight.min(WEIGHT_MAX) * shape.virtual_nodes;
            points.extend((0..count).map(|replica| VirtualNode {
                node: c.node,
                replica,
                candidate,
            }));
        }
        let mut ring = HashRing::new();
        ring.batch_add(points);
        let order: Vec<VirtualNode> = ring.clone().into_iter().collect();
        let mut places: Vec<_> = order.iter().copied().zip(0..).collect();
        places.sort_unstable();
        Self {
            candidates,
            ring,
            order,
            places,
            factor: usize::from(shape.factor),
        }
    }

    /// One ordered walk clockwise: the first node of each zone, then of what is left the first
    /// nodes.
    fn list(&self, partition: PartitionId) -> Vec<NodeId> {
        let Some(first) = self.ring.get(&PartitionPoint(partition)) else {
            return Vec::new();
        };
        let place = self.places.binary_search_by(|(point, _)| point.cmp(first));
        let start = self.places[place.expect("every point of the ring has a place")].1;
        let wanted = self.factor.min(self.candidates.len());
        let mut seen = vec![false; self.candidates.len()];
        let mut zones: BTreeSet<&str> = BTreeSet::new();
        let mut chosen = Vec::with_capacity(wanted);
        let mut passed_over = Vec::new();
        let mut seen_count = 0;
        for point in self.order[start..].iter().chain(&self.order[..start]) {
            if chosen.len() == wanted || seen_count == self.candidates.len() {
                break;
            }
            if std::mem::replace(&mut seen[point.candidate], true) {
                continue;
            }
            seen_count += 1;
            let zone = self.candidates[point.candidate].zone.as_str();
            if zone.is_empty() || zones.insert(zone) {
                chosen.push(point.node);
            } else {
                passed_over.push(point.node);
            }
        }
        let missing = wanted - chosen.len();
        chosen.extend(passed_over.into_iter().take(missing));
        chosen
    }
}
