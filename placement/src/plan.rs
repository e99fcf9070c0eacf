//! The next step of one group's leader: from the group as it is towards the preference list.
//!
//! Inputs: the group's applied membership and progress, the wish (its preference list), the facts
//! about nodes, the time. Output: at most one step. The rules, first match wins:
//!
//! 1. Nothing before the term is opened or while a change or a transfer is pending.
//! 2. A joint change is ended; by a leader that stays: one that does not hands over first.
//! 3. A draining or leaving node hands over its leaderships.
//! 4. A copy nobody wants and that does not vote is dropped.
//! 5. A group below its factor grows at once; voters are always 1, 3 or 5, never an even number.
//! 6. A voter that is condemned, gone or no longer wished is replaced by a copy that has caught up,
//!    in one joint change. **Replace, never shrink.** Waiting times, limits and outages apply
//!    (`limits`).
//! 7. Leadership goes to the first of the list that is fit for it.
//!
//! Safety does not rest on any of this: every step is a proposal that needs the group's majorities.
//! Wrong views cost bandwidth. Deliberately absent: Raft itself, and when to ask (each second, with
//! jitter).

mod decide;
mod facts;
pub mod limits;
mod reconciler;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::partition_row::Membership;

pub use decide::{Settled, plan};
pub use facts::{Copies, NodeFact, NodeFacts, NodeState, Work};
pub use reconciler::Reconciler;

use limits::CAUGHT_UP_LAG_ENTRIES;

/// A group as its leader sees it.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    /// The partition.
    pub partition: PartitionId,
    /// The applied membership.
    pub membership: &'a Membership,
    /// The leader's own peer.
    pub leader: PeerId,
    /// Whether a step may be taken at all.
    pub readiness: Readiness,
    /// How far the other peers are. A peer without an entry counts as silent.
    pub progress: &'a BTreeMap<PeerId, Progress>,
    /// Replicas that their nodes reported as condemned.
    pub condemned: &'a [Condemned],
}

/// Whether a leader may take a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// The first entry of its term is not applied yet.
    Opening,
    /// A membership change is proposed and not applied, or a transfer is under way.
    ChangePending,
    /// It may.
    Ready,
}

/// How far a peer is behind its leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Entries it has not confirmed.
    pub lag_entries: u64,
    /// Whether it was heard from of late.
    pub contact: Contact,
    /// Whether a snapshot is on its way to it.
    pub snapshot: SnapshotState,
}

/// Whether a peer answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contact {
    /// It answered within an election timeout.
    Active,
    /// It did not.
    Silent,
}

/// Whether a snapshot is being sent to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotState {
    /// No.
    None,
    /// Yes, or wanted.
    Pending,
}

impl Progress {
    /// Whether the peer may vote or lead without holding the group up.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.lag_entries < CAUGHT_UP_LAG_ENTRIES
            && self.contact == Contact::Active
            && self.snapshot == SnapshotState::None
    }
}

/// A node's word that its replica is lost: every peer of the group there below `smallest_peer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Condemned {
    /// The node.
    pub node: NodeId,
    /// The smallest peer id it accepts.
    pub smallest_peer: PeerId,
}

/// One proposal of the leader to its group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Add a copy that follows and does not vote.
    AddLearner {
        /// Where.
        node: NodeId,
        /// Its fresh peer id: at least the membership's next one.
        peer: PeerId,
    },
    /// Enter a joint change: learners become voters, voters go.
    Swap {
        /// Learners that vote from now on.
        voters_in: Vec<PeerId>,
        /// Voters that are no longer part of the group when the change ends.
        voters_out: Vec<PeerId>,
    },
    /// End the joint change.
    LeaveJoint,
    /// Drop a copy that does not vote.
    RemoveLearner(PeerId),
    /// Hand the leadership over.
    TransferLeader(PeerId),
}

/// What a leader should do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Take this step.
    Act(Step),
    /// Something is to be done, and not now.
    Wait(Wait),
    /// The group is as it should be, as far as the nodes allow.
    Rest,
}

/// What a group waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// The first entry of the term.
    Opening,
    /// A pending change or transfer.
    ChangePending,
    /// The wish to stay the same for a while.
    WishSettling,
    /// A new copy to catch up.
    CatchingUp,
    /// Fewer moves or growing groups under way.
    Room,
    /// Fewer nodes to be down.
    Outage,
    /// A voter that can take over before the leader leaves.
    Successor,
    /// Enough live voters for the new configuration.
    Majority,
}

/// The work that a group's present membership means for the nodes; `None`: none.
///
/// A learner that has caught up is no work below the factor: a group of two nodes keeps one for
/// good.
#[must_use]
pub fn work_in_flight(view: &GroupView<'_>, factor: u8) -> Option<Work> {
    let membership = view.membership;
    let (before, newcomers): (usize, Vec<PeerId>) = if membership.is_joint() {
        let incoming = membership.voters.iter();
        let fresh = incoming.filter(|v| !membership.voters_outgoing.contains(v));
        let fresh = fresh.copied().map(PeerId).collect();
        (membership.voters_outgoing.len(), fresh)
    } else {
        let voters = membership.voters.len();
        let learners = membership.learners.iter().copied().map(PeerId);
        let lags = |p: &PeerId| !view.progress.get(p).is_some_and(Progress::is_caught_up);
        let works = |p: &PeerId| voters >= usize::from(factor) || lags(p);
        (voters, learners.filter(works).collect())
    };
    let first = *newcomers.first()?;
    let target = membership.node_of(first)?;
    let anew = membership.nodes().any(|(p, n)| n == target && p != first);
    if anew || before < usize::from(factor) {
        return Some(Work::Growth);
    }
    Some(Work::Move { target })
}

/// The work that a step begins; `None`: none that is limited. It is in flight before the membership
/// shows it.
#[must_use]
pub fn work_of(step: &Step, membership: &Membership, factor: u8) -> Option<Work> {
    match step {
        Step::AddLearner { node, .. } => {
            let anew = membership.nodes().any(|(_, n)| n == *node);
            if anew || membership.voters.len() < usize::from(factor) {
                return Some(Work::Growth);
            }
            Some(Work::Move { target: *node })
        }
        Step::TransferLeader(_) => Some(Work::Transfer),
        Step::Swap { .. } | Step::LeaveJoint | Step::RemoveLearner(_) => None,
    }
}
