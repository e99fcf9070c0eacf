//! What a leader remembers of its group between two plans: since when things are as they are.
//!
//! Made when a leadership begins and dropped with it: a new leader waits its own time before it
//! moves anything, so that leaderships that come and go do not move copies.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::{Generation, NodeId, PeerId};
use ghostlight_protocol::time::Instant;

use super::decide::{Settled, plan, preferred_leader};
use super::limits::TRANSFER_PAUSE;
use super::{Decision, GroupView, NodeFacts, Step};

/// Who should lead, and in which life of its node: one that restarts every few seconds waits anew
/// each time.
type Preferred = (PeerId, Option<Generation>);

/// The memory of one leadership.
#[derive(Clone, Debug, Default)]
pub struct Reconciler {
    wish: Option<(Vec<NodeId>, Instant)>,
    preferred: Option<(Preferred, Instant)>,
    unknown: BTreeMap<NodeId, Instant>,
    offers: BTreeMap<PeerId, Instant>,
    decided: Option<Decision>,
}

impl Reconciler {
    /// The next step, if one is to be taken now.
    pub fn step(
        &mut self,
        now: Instant,
        view: &GroupView<'_>,
        wish: &[NodeId],
        facts: &NodeFacts,
    ) -> Option<Step> {
        match self.decide(now, view, wish, facts) {
            Decision::Act(step) => Some(step),
            Decision::Wait(_) | Decision::Rest => None,
        }
    }

    /// The same with the reason when there is none.
    ///
    /// # Panics
    /// When the facts lack this node itself, or the view's leader is not in the group.
    pub fn decide(
        &mut self,
        now: Instant,
        view: &GroupView<'_>,
        wish: &[NodeId],
        facts: &NodeFacts,
    ) -> Decision {
        self.observe(now, view, wish, facts);
        let since = |seen: Option<Instant>| seen.unwrap_or(now);
        let settled = Settled {
            wish_since: since(self.wish.as_ref().map(|(_, at)| *at)),
            preferred_since: since(self.preferred.map(|(_, at)| at)),
            unknown_since: &self.unknown,
            offered: &self.offers,
        };
        let decision = plan(view, wish, facts, &settled, now);
        if let Decision::Act(Step::TransferLeader(to)) = &decision {
            self.offers.insert(*to, now);
        }
        self.decided = Some(decision.clone());
        decision
    }

    /// What was decided last, for those who ask what a group waits for.
    #[must_use]
    pub fn decided(&self) -> Option<&Decision> {
        self.decided.as_ref()
    }

    fn observe(&mut self, now: Instant, view: &GroupView<'_>, wish: &[NodeId], facts: &NodeFacts) {
        if self.wish.as_ref().is_none_or(|(known, _)| known != wish) {
            self.wish = Some((wish.to_vec(), now));
        }
        let life = |peer| {
            let fact = view.membership.node_of(peer).and_then(|n| facts.fact(n));
            fact.map(|f| f.generation)
        };
        let preferred = preferred_leader(view, wish, facts).map(|peer| (peer, life(peer)));
        if self.preferred.map(|(known, _)| known) != preferred {
            self.preferred = preferred.map(|preferred| (preferred, now));
        }
        let strangers = view.membership.nodes().map(|(_, node)| node);
        let strangers: Vec<NodeId> = strangers.filter(|n| facts.fact(*n).is_none()).collect();
        self.unknown.retain(|node, _| strangers.contains(node));
        for node in strangers {
            self.unknown.entry(node).or_insert(now);
        }
        self.offers.retain(|_, at| now.since(*at) < TRANSFER_PAUSE);
    }
}
