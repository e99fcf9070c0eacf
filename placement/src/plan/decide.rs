//! The rules themselves, in the order of the module's list. One pure function of its arguments.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::{NodeId, PeerId};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::Fitness;
use ghostlight_protocol::wire::hello::Duty;

use super::facts::{NodeFact, NodeFacts, NodeState, Work};
use super::limits::WISH_SETTLED_AFTER;
use super::{Contact, Decision, GroupView, Progress, Readiness, Step, Wait};

/// Since when things are as they are, and what was tried of late.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a> {
    /// Since when the wish is unchanged.
    pub wish_since: Instant,
    /// Since when the same peer would be the best leader, its node being in the same life.
    pub preferred_since: Instant,
    /// Nodes of the group that the facts do not know, and since when: they count as down.
    pub unknown_since: &'a BTreeMap<NodeId, Instant>,
    /// Peers that were offered the leadership within the last `TRANSFER_PAUSE`.
    pub offered: &'a BTreeMap<PeerId, Instant>,
}

/// What should become of a copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    /// Its data is lost; its node gets a fresh copy.
    Condemned,
    /// Its node is dismissed, or down for too long.
    Gone,
    /// It is healthy and the wish names other nodes.
    Unwished,
    /// Its node is down and may come back.
    Away,
    /// It is where it should be.
    Kept,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Replica {
    peer: PeerId,
    node: NodeId,
    fate: Fate,
}

/// Decides the next step of a group's leader. See the module for the rules.
///
/// # Panics
/// When the facts lack this node itself, or the view's leader is not in the group.
#[must_use]
pub fn plan(
    view: &GroupView<'_>,
    wish: &[NodeId],
    facts: &NodeFacts,
    settled: &Settled<'_>,
    now: Instant,
) -> Decision {
    assert!(
        facts.fact(facts.me).is_some(),
        "the facts lack {} itself",
        facts.me
    );
    let home = view.membership.node_of(view.leader);
    assert_eq!(
        home,
        Some(facts.me),
        "{} does not lead by {}",
        facts.me,
        view.leader
    );
    match view.readiness {
        Readiness::Opening => return Decision::Wait(Wait::Opening),
        Readiness::ChangePending => return Decision::Wait(Wait::ChangePending),
        Readiness::Ready => {}
    }
    let planner = Planner::new(view, wish, facts, settled, now);
    if let Some(decision) = planner.end_joint().or_else(|| planner.hand_over()) {
        return decision;
    }
    let rules = [
        Planner::drop_learners,
        Planner::grow,
        Planner::replace,
        Planner::shrink,
    ];
    let mut wait = None;
    for rule in rules {
        match rule(&planner) {
            Some(Decision::Act(step)) => return Decision::Act(step),
            Some(held) => wait = wait.or(Some(held)),
            None => {}
        }
    }
    // Leaderships move only in a group at rest.
    wait.or_else(|| planner.balance()).unwrap_or(Decision::Rest)
}

/// The voter that should lead: the first of the wish that is fit for it.
pub(super) fn preferred_leader(
    view: &GroupView<'_>,
    wish: &[NodeId],
    facts: &NodeFacts,
) -> Option<PeerId> {
    wish.iter().find_map(|node| {
        let here = view
            .membership
            .nodes()
            .filter(|(_, n)| n == node)
            .map(|(peer, _)| peer);
        here.into_iter().find(|peer| can_lead(view, facts, *peer))
    })
}

/// Whether a peer votes, has caught up, and sits on a node that may lead. The leader itself has.
fn can_lead(view: &GroupView<'_>, facts: &NodeFacts, peer: PeerId) -> bool {
    let node = view.membership.node_of(peer);
    let willing = node
        .and_then(|n| facts.fact(n))
        .is_some_and(NodeFact::may_lead);
    let condemned = view
        .condemned
        .iter()
        .any(|c| Some(c.node) == node && peer < c.smallest_peer);
    willing && !condemned && view.membership.voters.contains(&peer.0) && caught_up(view, peer)
}

fn caught_up(view: &GroupView<'_>, peer: PeerId) -> bool {
    peer == view.leader || view.progress.get(&peer).is_some_and(Progress::is_caught_up)
}

/// The largest odd number up to `count`; 0 for 0. An even group tolerates no more than the odd one
/// below.
fn odd_up_to(count: usize) -> usize {
    if count.is_multiple_of(2) {
        count.saturating_sub(1)
    } else {
        count
    }
}

struct Planner<'a> {
    view: &'a GroupView<'a>,
    wish: &'a [NodeId],
    facts: &'a NodeFacts,
    settled: &'a Settled<'a>,
    now: Instant,
    factor: usize,
    voters: Vec<Replica>,
    learners: Vec<Replica>,
}

impl<'a> Planner<'a> {
    fn new(
        view: &'a GroupView<'a>,
        wish: &'a [NodeId],
        facts: &'a NodeFacts,
        settled: &'a Settled<'a>,
        now: Instant,
    ) -> Self {
        let mut planner = Self {
            view,
            wish,
            facts,
            settled,
            now,
            factor: usize::from(facts.factor),
            voters: Vec::new(),
            learners: Vec::new(),
        };
        planner.voters = planner.replicas(&view.membership.voters);
        planner.settle_doubles();
        planner.learners = planner.replicas(&view.membership.learners);
        planner
    }

    fn replicas(&self, peers: &[u64]) -> Vec<Replica> {
        let with_node = peers.iter().filter_map(|peer| {
            let peer = PeerId(*peer);
            Some((peer, self.view.membership.node_of(peer)?))
        });
        with_node
            .map(|(peer, node)| Replica {
                peer,
                node,
                fate: self.fate(peer, node),
            })
            .collect()
    }

    fn fate(&self, peer: PeerId, node: NodeId) -> Fate {
        let state = match self.facts.fact(node) {
            Some(fact) if fact.is_dismissed() => return Fate::Gone,
            Some(fact) => fact.state,
            // Not heard of yet, or forgotten: down since this leader looked for it.
            None => {
                let since = self.settled.unknown_since.get(&node).copied();
                NodeState::Down {
                    since: since.unwrap_or(self.now),
                }
            }
        };
        let wished = self.wish.contains(&node);
        let lost = |c: &super::Condemned| c.node == node && peer < c.smallest_peer;
        if state.is_lost(self.now) {
            return Fate::Gone;
        }
        if self.view.condemned.iter().any(lost) {
            return if wished { Fate::Condemned } else { Fate::Gone };
        }
        match (state, wished) {
            (NodeState::Down { .. }, _) => Fate::Away,
            (NodeState::Alive | NodeState::Suspect, true) => Fate::Kept,
            (NodeState::Alive | NodeState::Suspect, false) => Fate::Unwished,
        }
    }

    /// A condemned voter beside a healthy one on the same node needs no fresh copy there: another
    /// node takes its place.
    fn settle_doubles(&mut self) {
        let kept = self.voters.iter().filter(|v| v.fate == Fate::Kept);
        let kept: Vec<NodeId> = kept.map(|v| v.node).collect();
        let doubles = self.voters.iter_mut().filter(|v| v.fate == Fate::Condemned);
        for voter in doubles.filter(|v| kept.contains(&v.node)) {
            voter.fate = Fate::Gone;
        }
    }

    fn end_joint(&self) -> Option<Decision> {
        let membership = self.view.membership;
        if !membership.is_joint() {
            return None;
        }
        if membership.voters.contains(&self.view.leader.0) {
            return Some(Decision::Act(Step::LeaveJoint));
        }
        // A leader that is not part of what comes would remove itself.
        let ready = |r: &&Replica| caught_up(self.view, r.peer);
        let successor = self
            .successor()
            .or_else(|| self.voters.iter().find(ready).map(|r| r.peer));
        Some(successor.map_or(Decision::Wait(Wait::Successor), |peer| {
            Decision::Act(Step::TransferLeader(peer))
        }))
    }

    fn hand_over(&self) -> Option<Decision> {
        let mine = self.facts.fact(self.facts.me)?;
        if mine.duty == Duty::Serving && mine.fitness == Fitness::Fit {
            return None;
        }
        // Without a successor the group is served from here until the process stops.
        let successor = self.successor()?;
        Some(Decision::Act(Step::TransferLeader(successor)))
    }

    fn drop_learners(&self) -> Option<Decision> {
        let surplus = |learner: &&Replica| match learner.fate {
            Fate::Condemned | Fate::Gone => true,
            Fate::Unwished => self.wish_settled(),
            Fate::Away => false,
            Fate::Kept => self
                .voters
                .iter()
                .any(|v| v.node == learner.node && v.fate == Fate::Kept),
        };
        let learner = self.learners.iter().find(surplus)?;
        Some(Decision::Act(Step::RemoveLearner(learner.peer)))
    }

    /// A group below its factor: learners for every wished node, then all of them vote in one
    /// change.
    fn grow(&self) -> Option<Decision> {
        if self.voters.len() >= self.factor {
            return None;
        }
        let held = self.add_wished_learner();
        if let Some(Decision::Act(_)) = held {
            return held;
        }
        let target = odd_up_to(self.factor.min(self.wish.len()));
        if self.voters.len() >= target {
            return held;
        }
        let ready = self.ready_learners();
        let reachable = odd_up_to(self.voters.len() + ready.len()).min(target);
        let Some(count) = reachable.checked_sub(self.voters.len()).filter(|c| *c > 0) else {
            return held
                .or((!self.learners.is_empty()).then_some(Decision::Wait(Wait::CatchingUp)));
        };
        let voters_in: Vec<PeerId> = ready.iter().take(count).map(|r| r.peer).collect();
        Some(self.swap(voters_in, Vec::new()))
    }

    /// The next wished node without a copy gets one. `None`: there is no such node that could.
    fn add_wished_learner(&self) -> Option<Decision> {
        let node = self.free_target()?;
        let growing = self.learners.iter().any(|r| !caught_up(self.view, r.peer));
        if !growing && !self.facts.has_room_for(Work::Growth) {
            return Some(Decision::Wait(Wait::Room));
        }
        Some(self.add_learner(node))
    }

    /// Full voters, some of which are not where they should be: one is replaced at a time.
    fn replace(&self) -> Option<Decision> {
        let mut leaving: Vec<Replica> = self.voters.clone();
        leaving.retain(|v| matches!(v.fate, Fate::Condemned | Fate::Gone | Fate::Unwished));
        // Among equals the leader last: it would have to hand over first.
        leaving.sort_by_key(|v| (v.fate, v.peer == self.view.leader, v.peer));
        let mut wait = None;
        for voter in &leaving {
            match self.replace_one(voter) {
                Some(Decision::Wait(reason)) => wait = wait.or(Some(reason)),
                Some(decision) => return Some(decision),
                None => {}
            }
        }
        wait.map(Decision::Wait)
    }

    fn replace_one(&self, voter: &Replica) -> Option<Decision> {
        let same_node = voter.fate == Fate::Condemned;
        let substitutes = self.substitutes(voter);
        let target = if same_node {
            let node = self.facts.fact(voter.node)?;
            node.takes_copies().then_some(voter.node)
        } else {
            self.free_target()
        };
        if substitutes.is_empty() && target.is_none() {
            // A dead voter stays until there is somebody to replace it.
            return None;
        }
        if !same_node && self.facts.is_outage() {
            return Some(Decision::Wait(Wait::Outage));
        }
        if voter.fate == Fate::Unwished && !self.wish_settled() {
            return Some(Decision::Wait(Wait::WishSettling));
        }
        if let Some(ready) = substitutes.iter().find(|r| caught_up(self.view, r.peer)) {
            return Some(self.swap(vec![ready.peer], vec![voter.peer]));
        }
        // One newcomer at a time, except where data was lost: that is made good at once.
        let lags = |r: &Replica| !caught_up(self.view, r.peer);
        if !substitutes.is_empty() || (!same_node && self.learners.iter().any(lags)) {
            return Some(Decision::Wait(Wait::CatchingUp));
        }
        let target = target?;
        let work = if same_node {
            Work::Growth
        } else {
            Work::Move { target }
        };
        if !self.facts.has_room_for(work) {
            return Some(Decision::Wait(Wait::Room));
        }
        Some(self.add_learner(target))
    }

    /// Learners that could take the voter's place, in the order of the wish. A learner beside a
    /// condemned voter is there for that one.
    fn substitutes(&self, voter: &Replica) -> Vec<&Replica> {
        let condemned_at = |node| {
            let mut voters = self.voters.iter();
            voters.any(|v| v.node == node && v.fate == Fate::Condemned)
        };
        let same_node = voter.fate == Fate::Condemned;
        let fits = |r: &&Replica| {
            let right_node = if same_node {
                r.node == voter.node
            } else {
                !condemned_at(r.node)
            };
            r.fate == Fate::Kept && right_node
        };
        self.wished_learners().filter(fits).collect()
    }

    /// Learners on wished nodes, in the order of the wish.
    fn wished_learners(&self) -> impl Iterator<Item = &Replica> {
        let wished = self.wish.iter();
        wished.flat_map(|node| self.learners.iter().filter(move |r| r.node == *node))
    }

    /// More voters than the factor, after it was lowered: those that nobody wishes go.
    fn shrink(&self) -> Option<Decision> {
        let kept = self.voters.iter().filter(|v| v.fate == Fate::Kept).count();
        if self.voters.len() <= self.factor || kept < self.factor {
            return None;
        }
        if self.facts.is_outage() {
            return Some(Decision::Wait(Wait::Outage));
        }
        if !self.wish_settled() {
            return Some(Decision::Wait(Wait::WishSettling));
        }
        let surplus = self.voters.iter().filter(|v| v.fate != Fate::Kept);
        let surplus: Vec<PeerId> = surplus.map(|v| v.peer).collect();
        (!surplus.is_empty()).then(|| self.swap(Vec::new(), surplus))
    }

    fn balance(&self) -> Option<Decision> {
        let preferred = preferred_leader(self.view, self.wish, self.facts)?;
        if preferred == self.view.leader {
            return None;
        }
        let steady = self.now.since(self.settled.preferred_since) >= WISH_SETTLED_AFTER;
        if !steady || !self.wish_settled() || self.settled.offered.contains_key(&preferred) {
            return Some(Decision::Wait(Wait::WishSettling));
        }
        if !self.facts.has_room_for(Work::Transfer) {
            return Some(Decision::Wait(Wait::Room));
        }
        Some(Decision::Act(Step::TransferLeader(preferred)))
    }

    /// A joint change, with everything that must hold before one is begun.
    fn swap(&self, voters_in: Vec<PeerId>, voters_out: Vec<PeerId>) -> Decision {
        if voters_out.contains(&self.view.leader) {
            let stays = |v: &&Replica| v.fate == Fate::Kept && !voters_out.contains(&v.peer);
            if let Some(successor) = self.successor_among(|peer| !voters_out.contains(&peer)) {
                return Decision::Act(Step::TransferLeader(successor));
            }
            // Somebody stays but cannot lead now. With nobody staying (one voter moves to another
            // node) the leadership is handed over inside the joint change.
            if self.voters.iter().any(|v| stays(&v)) {
                return Decision::Wait(Wait::Successor);
            }
        }
        let staying = self.voters.iter().filter(|v| !voters_out.contains(&v.peer));
        let coming = self.learners.iter().filter(|l| voters_in.contains(&l.peer));
        let (mut total, mut live) = (0, 0);
        for replica in staying.chain(coming) {
            total += 1;
            live += usize::from(self.is_live(replica));
        }
        if live * 2 <= total {
            return Decision::Wait(Wait::Majority);
        }
        Decision::Act(Step::Swap {
            voters_in,
            voters_out,
        })
    }

    fn is_live(&self, replica: &Replica) -> bool {
        let peer = replica.peer;
        let progress = self.view.progress.get(&peer);
        replica.fate != Fate::Condemned
            && (peer == self.view.leader || progress.is_some_and(|p| p.contact == Contact::Active))
    }

    fn add_learner(&self, node: NodeId) -> Decision {
        let marks = self.view.condemned.iter().filter(|c| c.node == node);
        let floor = marks.map(|c| c.smallest_peer.0).max().unwrap_or(0);
        let peer = PeerId(self.view.membership.next_peer.max(floor));
        Decision::Act(Step::AddLearner { node, peer })
    }

    /// The first wished node that has no copy and takes one.
    fn free_target(&self) -> Option<NodeId> {
        let occupied = |node: NodeId| self.view.membership.peer_on(node).is_some();
        let takes = |node: NodeId| self.facts.fact(node).is_some_and(NodeFact::takes_copies);
        self.wish
            .iter()
            .copied()
            .find(|node| !occupied(*node) && takes(*node))
    }

    /// Learners that may vote beside all present voters, in the order of the wish. Not one beside a
    /// condemned voter: it takes that one's place, or a node would vote twice.
    fn ready_learners(&self) -> Vec<&Replica> {
        let ready = |r: &&Replica| {
            let alone = !self.voters.iter().any(|v| v.node == r.node);
            r.fate == Fate::Kept && alone && caught_up(self.view, r.peer)
        };
        self.wished_learners().filter(ready).collect()
    }

    fn successor(&self) -> Option<PeerId> {
        self.successor_among(|_| true)
    }

    /// Whom to hand the leadership to: the first of the wish, then any voter; a peer that was
    /// offered it of late and did not take it comes last.
    fn successor_among(&self, allowed: impl Fn(PeerId) -> bool) -> Option<PeerId> {
        let rank = |node: NodeId| {
            let place = self.wish.iter().position(|w| *w == node);
            place.unwrap_or(self.wish.len())
        };
        let fit = self.voters.iter().filter(|v| {
            v.peer != self.view.leader && allowed(v.peer) && can_lead(self.view, self.facts, v.peer)
        });
        let best = fit.min_by_key(|v| (self.settled.offered.get(&v.peer), rank(v.node), v.peer));
        best.map(|v| v.peer)
    }

    fn wish_settled(&self) -> bool {
        self.now.since(self.settled.wish_since) >= WISH_SETTLED_AFTER
    }
}
