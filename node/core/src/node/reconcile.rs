//! Placement at work: the facts about nodes, the preference lists, and each led group's next step.

use std::collections::{BTreeMap, BTreeSet};

use ghostlight_placement::membership::MemberState;
use ghostlight_placement::plan::{
    Condemned, Contact, Copies, Decision, GroupView, NodeFact, NodeFacts, NodeState, Progress,
    Readiness, Reconciler, SnapshotState, Step, Work, work_in_flight, work_of,
};
use ghostlight_placement::ring::PreferenceTable;
use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::partition_row::Membership;
use ghostlight_protocol::wire::hello::{NodeRecord, Removed};

use super::slot::{Slot, Stage};
use super::{Cluster, NodeCore};
use crate::io::{Effect, Now};
use crate::replica::{Change, Heard};

/// Ticks between two looks at all led groups.
const RECONCILE_TICKS: u64 = 4;

/// What a leadership remembers for its plans.
#[derive(Default)]
pub(super) struct State {
    term: Term,
    reconciler: Reconciler,
    /// What the latest step began: in flight before the applied membership shows it.
    begun: Option<Work>,
}

impl State {
    /// What the leader of `term` decided last.
    pub(super) fn decided(&self, term: Term) -> Option<&Decision> {
        self.reconciler.decided().filter(|_| self.term == term)
    }
}

impl NodeCore {
    /// Facts as gossip, records and partition 0 give them.
    pub(super) fn node_facts(&self) -> NodeFacts {
        let factor = self.cluster.as_ref().map_or(3, |c| c.ring.factor());
        let holders = self.cluster.as_ref().and_then(holders);
        let copies = |node: NodeId| match &holders {
            Some(holders) if !holders.contains(&node) => Copies::None,
            Some(_) | None => Copies::Some,
        };
        let mut nodes = BTreeMap::new();
        let own = self.fact(NodeState::Alive, &self.record, copies(self.me));
        nodes.insert(self.me, own);
        for (node, link) in self.links.iter() {
            let member = self.membership.member(node);
            let state = match member.map(|m| (m.state, m.since)) {
                Some((MemberState::Alive, _)) => NodeState::Alive,
                Some((MemberState::Suspect, _)) => NodeState::Suspect,
                Some((MemberState::Down, since)) => NodeState::Down {
                    since: self.pauses.real(since),
                },
                None => NodeState::Down { since: self.begun },
            };
            nodes.insert(node, self.fact(state, &link.record, copies(node)));
        }
        NodeFacts {
            me: self.me,
            nodes,
            factor,
            growing_groups: 0,
            transfers: 0,
        }
    }

    fn fact(&self, state: NodeState, record: &NodeRecord, copies: Copies) -> NodeFact {
        let removed = record.id().is_some_and(|node| self.removed.contains(&node));
        NodeFact {
            state,
            generation: Generation(record.generation),
            duty: record.duty(),
            fitness: self.fitness_of(record),
            removed: if removed { Removed::Yes } else { Removed::No },
            copies,
            weight: record.weight,
            zone: record.zone.clone(),
            moves: 0,
        }
    }

    /// Computes the preference lists again after any change of the members.
    pub(super) fn recompute_table(&mut self, now: Now) {
        self.hosts_changed();
        let facts = self.node_facts();
        let candidates = facts.candidates(now.instant);
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if candidates != self.candidates {
            cluster.table = PreferenceTable::compute(&cluster.ring, &candidates);
            self.candidates = candidates;
        }
    }

    pub(super) fn tick_reconcile(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.ticks.is_multiple_of(RECONCILE_TICKS) {
            return;
        }
        self.recompute_table(now);
        let mut facts = self.node_facts();
        let condemned = self.condemned_elsewhere();
        let led: Vec<PartitionId> = match &self.cluster {
            Some(cluster) => cluster
                .slots()
                .filter(|slot| slot.leading.is_some())
                .map(Slot::partition)
                .collect(),
            None => return,
        };
        for partition in &led {
            if let Some(work) = self.work_under_way(*partition, facts.factor, &condemned) {
                facts.note(work);
            }
        }
        for partition in led {
            if let Some(work) = self.plan_one(now, partition, &facts, &condemned, out) {
                facts.note(work);
            }
        }
    }

    fn work_under_way(
        &self,
        partition: PartitionId,
        factor: u8,
        condemned: &CondemnedElsewhere,
    ) -> Option<Work> {
        let inputs = self.plan_inputs(partition, condemned)?;
        inputs.membership.node_of(inputs.leader)?;
        let state = &self.cluster.as_ref()?.slot(partition)?.reconciler;
        let pending = inputs.readiness == Readiness::ChangePending && state.term == inputs.term;
        let begun = state.begun.filter(|_| pending);
        begun.or_else(|| work_in_flight(&inputs.view(), factor))
    }

    /// Takes a group's next step, if there is one now; returns the work that it begins.
    fn plan_one(
        &mut self,
        now: Now,
        partition: PartitionId,
        facts: &NodeFacts,
        condemned: &CondemnedElsewhere,
        out: &mut Vec<Effect>,
    ) -> Option<Work> {
        let inputs = self.plan_inputs(partition, condemned)?;
        if inputs.membership.node_of(inputs.leader).is_none() {
            self.give_away(now, partition, out);
            return None;
        }
        let cluster = self.cluster.as_mut()?;
        let wish = cluster.table.list(partition).to_vec();
        let state = &mut cluster.slot_mut(partition)?.reconciler;
        if state.term != inputs.term {
            *state = State {
                term: inputs.term,
                ..State::default()
            };
        }
        let step = state
            .reconciler
            .step(now.instant, &inputs.view(), &wish, facts)?;
        let work = work_of(&step, &inputs.membership, facts.factor);
        state.begun = work;
        self.take_step(now, partition, step, out);
        work
    }

    /// Elected in a configuration that it then turned out to have left: a voter takes over.
    fn give_away(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot else { return };
        let membership = slot.group.membership();
        let successor = slot
            .group
            .progress()
            .into_iter()
            .filter(|(peer, p)| membership.is_voter(*peer) && p.heard == Heard::Lately)
            .max_by_key(|(peer, p)| (p.matched, *peer));
        if let Some((peer, _)) = successor {
            let haste = self.haste();
            self.begin_handover(now, partition, peer, haste, out);
        }
    }

    fn plan_inputs(
        &self,
        partition: PartitionId,
        condemned: &CondemnedElsewhere,
    ) -> Option<PlanInputs> {
        let slot = self.cluster.as_ref()?.slot(partition)?;
        let leading = slot.leading.as_ref()?;
        // The applied membership: what is only in the engine is a pending change.
        let membership = slot.row.as_ref()?.membership.clone()?;
        let readiness = if matches!(leading.stage, Stage::Elected) {
            Readiness::Opening
        } else if slot.group.change_pending()
            || leading.handover.is_under_way()
            || membership != *slot.group.membership()
            || slot.durable_membership < membership.index
        {
            Readiness::ChangePending
        } else {
            Readiness::Ready
        };
        let last = slot.group.last().index.0;
        let progress = slot
            .group
            .progress()
            .into_iter()
            .map(|(peer, progress)| {
                // It has to have acknowledged something, or a short log would make a learner that
                // has just answered its first heartbeat look caught up.
                let met = progress.matched.0 > 0;
                let view = Progress {
                    lag_entries: if met {
                        last.saturating_sub(progress.matched.0)
                    } else {
                        u64::MAX
                    },
                    contact: match progress.heard {
                        Heard::Lately => Contact::Active,
                        Heard::No => Contact::Silent,
                    },
                    snapshot: match progress.pending_snapshot {
                        Some(_) => SnapshotState::Pending,
                        None => SnapshotState::None,
                    },
                };
                (peer, view)
            })
            .collect();
        Some(PlanInputs {
            partition,
            term: slot.group.term(),
            membership,
            leader: slot.group.peer(),
            readiness,
            progress,
            condemned: condemned.get(&partition).cloned().unwrap_or_default(),
        })
    }

    fn condemned_elsewhere(&self) -> CondemnedElsewhere {
        let mut found = CondemnedElsewhere::new();
        for (node, link) in self.links.iter() {
            for (partition, smallest_peer) in &link.said.condemned {
                let word = Condemned {
                    node,
                    smallest_peer: *smallest_peer,
                };
                found.entry(*partition).or_default().push(word);
            }
        }
        found
    }

    fn take_step(&mut self, now: Now, partition: PartitionId, step: Step, out: &mut Vec<Effect>) {
        let change = match step {
            Step::AddLearner { node, peer } => Change::AddLearner { peer, node },
            Step::Swap {
                voters_in,
                voters_out,
            } => Change::Swap {
                voters_in,
                voters_out,
            },
            Step::LeaveJoint => Change::LeaveJoint,
            Step::RemoveLearner(peer) => Change::RemoveLearner(peer),
            Step::TransferLeader(to) => {
                let haste = self.haste();
                return self.begin_handover(now, partition, to, haste, out);
            }
        };
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if let Some(slot) = cluster.slot_mut(partition) {
            // A refused step is decided again at the next look.
            if slot.group.change(&change).is_ok() {
                cluster.dirty.insert(partition);
            }
        }
    }

    /// Where a membership has lost peers, they are told.
    pub(super) fn leavers(before: &Membership, after: &Membership) -> Vec<(PeerId, NodeId)> {
        before
            .nodes()
            .filter(|(peer, _)| after.peers.iter().all(|p| p.peer != peer.0))
            .collect()
    }
}

/// Nodes that have a replica of some group, as the groups here and the hints of all others tell;
/// `None` while there is a group of which nobody has told anything.
fn holders(cluster: &Cluster) -> Option<BTreeSet<NodeId>> {
    let mut holders = BTreeSet::new();
    for partition in (0..cluster.partitions()).map(PartitionId) {
        match cluster.slot(partition) {
            Some(slot) if slot.group.is_initialized() => {
                holders.extend(slot.group.membership().nodes().map(|(_, node)| node));
            }
            Some(_) | None => {
                let voters = cluster.routes.voters(partition);
                if voters.is_empty() {
                    return None;
                }
                holders.extend(voters);
            }
        }
    }
    Some(holders)
}

/// Replicas that other nodes reported as condemned.
type CondemnedElsewhere = BTreeMap<PartitionId, Vec<Condemned>>;

struct PlanInputs {
    partition: PartitionId,
    term: Term,
    membership: Membership,
    leader: PeerId,
    readiness: Readiness,
    progress: BTreeMap<PeerId, Progress>,
    condemned: Vec<Condemned>,
}

impl PlanInputs {
    fn view(&self) -> GroupView<'_> {
        GroupView {
            partition: self.partition,
            membership: &self.membership,
            leader: self.leader,
            readiness: self.readiness,
            progress: &self.progress,
            condemned: &self.condemned,
        }
    }
}
