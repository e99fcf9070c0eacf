//! Placement at work: the facts about nodes, the preference lists, and each led group's next step.

use std::collections::BTreeMap;

use ghostlight_placement::membership::MemberState;
use ghostlight_placement::plan::{
    Condemned, Contact, GroupView, NodeFact, NodeFacts, NodeState, Progress, Readiness, Reconciler,
    SnapshotState, Step, work_in_flight,
};
use ghostlight_placement::ring::PreferenceTable;
use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::partition_row::Membership;
use ghostlight_protocol::wire::hello::{NodeRecord, Removed};

use super::NodeCore;
use super::slot::{Slot, Stage};
use crate::io::{Effect, Now};
use crate::replica::{Change, Heard};

/// Ticks between two looks at all led groups.
const RECONCILE_TICKS: u64 = 4;

/// What a leadership remembers for its plans.
#[derive(Default)]
pub(super) struct State {
    term: Term,
    reconciler: Reconciler,
}

impl NodeCore {
    /// Facts as gossip, records and partition 0 give them.
    pub(super) fn facts(&self, now: Now) -> NodeFacts {
        let factor = self.cluster.as_ref().map_or(3, |c| c.ring.factor());
        let mut nodes = BTreeMap::new();
        nodes.insert(self.me, self.fact(NodeState::Alive, &self.record));
        for (node, link) in self.links.iter() {
            let member = self.membership.member(node);
            let state = match member.map(|m| (m.state, m.since)) {
                Some((MemberState::Alive, _)) => NodeState::Alive,
                Some((MemberState::Suspect, _)) => NodeState::Suspect,
                Some((MemberState::Down, since)) => NodeState::Down { since },
                None => NodeState::Down { since: self.begun },
            };
            nodes.insert(node, self.fact(state, &link.record));
        }
        let _ = now;
        NodeFacts {
            me: self.me,
            nodes,
            factor,
            growing_groups: 0,
        }
    }

    fn fact(&self, state: NodeState, record: &NodeRecord) -> NodeFact {
        let removed = record.id().is_some_and(|node| self.removed.contains(&node));
        NodeFact {
            state,
            duty: record.duty(),
            removed: if removed { Removed::Yes } else { Removed::No },
            weight: record.weight,
            zone: record.zone.clone(),
            moves: 0,
        }
    }

    /// Computes the preference lists again after any change of the members.
    pub(super) fn recompute_table(&mut self, now: Now) {
        let facts = self.facts(now);
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
        let mut facts = self.facts(now);
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
            if let Some(inputs) = self.plan_inputs(*partition, &condemned) {
                let view = inputs.view();
                if view.membership.node_of(view.leader).is_none() {
                    continue;
                }
                if let Some(work) = work_in_flight(&view, facts.factor) {
                    facts.note(work);
                }
            }
        }
        for partition in led {
            let Some(inputs) = self.plan_inputs(partition, &condemned) else {
                continue;
            };
            if inputs.membership.node_of(inputs.leader).is_none() {
                self.give_away(now, partition, out);
                continue;
            }
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            let wish = cluster.table.list(partition).to_vec();
            let Some(slot) = cluster.slot_mut(partition) else {
                continue;
            };
            let term = slot.group.term();
            if slot.reconciler.term != term {
                slot.reconciler = State {
                    term,
                    reconciler: Reconciler::default(),
                };
            }
            let view = inputs.view();
            let step = slot
                .reconciler
                .reconciler
                .step(now.instant, &view, &wish, &facts);
            if let Some(step) = step {
                let work = self.take_step(now, partition, step, out);
                if work == Work::Growth {
                    facts.growing_groups += 1;
                }
            }
        }
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
            self.begin_handover(now, partition, peer, out);
        }
    }

    fn plan_inputs(
        &self,
        partition: PartitionId,
        condemned: &BTreeMap<PartitionId, Vec<Condemned>>,
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
                // The engine takes a new peer for active; here it has to have acknowledged something, or a
                // short log would make a learner that nobody has reached look caught up.
                let met = progress.matched.0 > 0;
                let view = Progress {
                    lag_entries: if met {
                        last.saturating_sub(progress.matched.0)
                    } else {
                        u64::MAX
                    },
                    contact: match progress.heard {
                        Heard::Lately if met => Contact::Active,
                        Heard::Lately | Heard::No => Contact::Silent,
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
            membership,
            leader: slot.group.peer(),
            readiness,
            progress,
            condemned: condemned.get(&partition).cloned().unwrap_or_default(),
        })
    }

    fn condemned_elsewhere(&self) -> BTreeMap<PartitionId, Vec<Condemned>> {
        let mut found: BTreeMap<PartitionId, Vec<Condemned>> = BTreeMap::new();
        for (node, link) in self.links.iter() {
            for (partition, smallest_peer) in &link.condemned {
                let word = Condemned {
                    node,
                    smallest_peer: *smallest_peer,
                };
                found.entry(*partition).or_default().push(word);
            }
        }
        found
    }

    fn take_step(
        &mut self,
        now: Now,
        partition: PartitionId,
        step: Step,
        out: &mut Vec<Effect>,
    ) -> Work {
        let (change, work) = match step {
            Step::AddLearner { node, peer } => (Change::AddLearner { peer, node }, Work::Growth),
            Step::Swap {
                voters_in,
                voters_out,
            } => (
                Change::Swap {
                    voters_in,
                    voters_out,
                },
                Work::Other,
            ),
            Step::LeaveJoint => (Change::LeaveJoint, Work::Other),
            Step::RemoveLearner(peer) => (Change::RemoveLearner(peer), Work::Other),
            Step::TransferLeader(to) => {
                self.begin_handover(now, partition, to, out);
                return Work::Other;
            }
        };
        let Some(cluster) = &mut self.cluster else {
            return Work::Other;
        };
        if let Some(slot) = cluster.slot_mut(partition) {
            // A refused step is decided again at the next look.
            if slot.group.change(&change).is_ok() {
                cluster.dirty.insert(partition);
            }
        }
        work
    }

    /// Where a membership has lost peers, they are told.
    pub(super) fn leavers(before: &Membership, after: &Membership) -> Vec<(PeerId, NodeId)> {
        before
            .nodes()
            .filter(|(peer, _)| after.peers.iter().all(|p| p.peer != peer.0))
            .collect()
    }
}

/// Whether a step adds a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Growth,
    Other,
}

struct PlanInputs {
    partition: PartitionId,
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
