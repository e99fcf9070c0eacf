//! Membership changes: learner, joint swap, leave; never through two voters, never automatic.

use std::collections::BTreeSet;

use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::ids::{NodeId, PeerId};
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use super::{Group, ProposeRefused, Role};
use crate::replica::convert;

/// One step of a membership change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A fresh peer begins to follow.
    AddLearner {
        /// Its id: never used before in this group.
        peer: PeerId,
        /// Where it lives.
        node: NodeId,
    },
    /// Enters a joint configuration.
    Swap {
        /// Learners that become voters.
        voters_in: Vec<PeerId>,
        /// Voters that go.
        voters_out: Vec<PeerId>,
    },
    /// Leaves the joint configuration. The driver does this, not the engine (trap 5).
    LeaveJoint,
    /// A learner goes.
    RemoveLearner(PeerId),
}

impl Group {
    /// Proposes a change. The engine takes one at a time and turns a second one into an empty
    /// entry.
    ///
    /// # Errors
    /// When it did not enter the log; nothing has changed.
    pub fn change(&mut self, change: &Change) -> Result<(), ProposeRefused> {
        if self.role() != Role::Leader {
            return Err(ProposeRefused::NotLeader);
        }
        if self.change_pending() {
            return Err(ProposeRefused::Dropped);
        }
        let change = self.engine_change(change);
        self.raw
            .propose_conf_change(Vec::new(), change)
            .map_err(|_| ProposeRefused::Dropped)
    }

    fn engine_change(&self, change: &Change) -> ConfChangeV2 {
        let mut engine = ConfChangeV2::default();
        match change {
            Change::AddLearner { peer, node } => {
                assert!(
                    peer.0 >= self.membership.next_peer,
                    "{}: {peer} is not fresh, next is {}",
                    self.partition,
                    self.membership.next_peer
                );
                engine
                    .changes
                    .push(single(ConfChangeType::AddLearnerNode, *peer));
                engine.context = convert::added_peer(*peer, *node);
            }
            Change::Swap {
                voters_in,
                voters_out,
            } => {
                let (before, after) = self.voters_after(voters_in, voters_out);
                assert!(
                    after != 2 || before == 2,
                    "{}: a group never passes through two voters (trap 13)",
                    self.partition
                );
                engine.set_transition(ConfChangeTransition::Explicit);
                let ins = voters_in
                    .iter()
                    .map(|peer| single(ConfChangeType::AddNode, *peer));
                let outs = voters_out
                    .iter()
                    .map(|peer| single(ConfChangeType::RemoveNode, *peer));
                engine.changes = match canary::sings(Canary::ShrinkBeforeReplace) {
                    true if !voters_out.is_empty() => outs.collect(),
                    _ => ins.chain(outs).collect(),
                };
            }
            Change::LeaveJoint => assert!(
                self.membership.voters.contains(&self.peer.0),
                "{}: a leader never removes itself (trap 3)",
                self.partition
            ),
            Change::RemoveLearner(peer) => {
                assert!(
                    !self.membership.is_voter(*peer),
                    "{}: {peer} votes, it is not a learner (trap 13)",
                    self.partition
                );
                engine
                    .changes
                    .push(single(ConfChangeType::RemoveNode, *peer));
            }
        }
        engine
    }

    /// How many vote before and after a swap.
    fn voters_after(&self, voters_in: &[PeerId], voters_out: &[PeerId]) -> (usize, usize) {
        let before: BTreeSet<u64> = self.membership.voters.iter().copied().collect();
        let mut after = before.clone();
        after.retain(|voter| !voters_out.contains(&PeerId(*voter)));
        after.extend(voters_in.iter().map(|peer| peer.0));
        (before.len(), after.len())
    }
}

fn single(kind: ConfChangeType, peer: PeerId) -> ConfChangeSingle {
    let mut single = ConfChangeSingle {
        node_id: peer.0,
        ..ConfChangeSingle::default()
    };
    single.set_change_type(kind);
    single
}
