//! How a node ends: drained for a while, gone for good once its copies have moved, or halted at
//! once. Leaderships go first, then the turns that run here for others and the calls of clients
//! come to their end, then its applications' objects go, then it says goodbye if nothing of the
//! cluster stays on it. Absent: where leaderships and copies go (`handover`, `reconcile`), and who
//! ordered it (`operators`, `orders`).

use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::OrderKind;
use ghostlight_protocol::wire::hello::Duty;

use super::NodeCore;
use super::operators::{not_joined, refused};
use super::orders::Asker;
use crate::admin::AdminAnswer;
use crate::io::{Effect, HaltReason, Now};

/// How long a node that leaves waits for what runs there, when its copies have gone: as long as one
/// that is told to end does by default.
const LAST_TURNS_MAX: Duration = Duration::from_secs(30);
/// Longest time for a goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Why a node says goodbye.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parting {
    /// Its copies have moved away.
    Left,
    /// It is an edge that ends: it has none.
    EdgeEnds,
}

/// How the node's life goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    No,
    /// Shutting down: leaderships are given away until the deadline.
    Drain {
        deadline: Instant,
    },
    /// Leaving for good: ends when no copy is left, and nothing runs here any more.
    Leave {
        asker: Asker,
        /// Since when no copy is: nothing new begins.
        empty: Option<Instant>,
    },
    /// Gone for good: says goodbye until the others know, or the time is up.
    Goodbye {
        deadline: Instant,
        parting: Parting,
    },
    Halted,
}

impl NodeCore {
    /// This node begins to leave; the refusal, if it may not.
    pub(super) fn begin_leave(&mut self, asker: Asker) -> Option<AdminAnswer> {
        let Some(cluster) = &self.cluster else {
            return Some(not_joined());
        };
        let factor = usize::from(cluster.ring.factor());
        let facts = self.node_facts();
        let others = facts
            .nodes
            .iter()
            .filter(|(node, fact)| **node != self.me && fact.takes_copies())
            .count();
        let holds_copies = self.record.weight > 0;
        // A two-node cluster may shrink to one: its groups have one voter, which moves by a joint
        // swap.
        let two = others == 1 && facts.nodes.values().filter(|f| f.weight > 0).count() == 2;
        if holds_copies && others < factor && !two {
            return Some(refused(
                Code::LeaveBelowFactor,
                format!(
                    "{} other nodes can hold copies, and every partition needs {factor}. Start one more \
                     node first, or use \"ghostlight drain\" to stop this one for a while",
                    others
                ),
            ));
        }
        self.ending = Ending::Leave { asker, empty: None };
        self.set_duty(Duty::Leaving);
        None
    }

    /// A leaving node ends when no copy is left on it.
    pub(super) fn check_left(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Ending::Leave { asker, empty } = self.ending else {
            return;
        };
        if self.has_copies() {
            return;
        }
        let since = empty.unwrap_or(now.instant);
        if empty.is_none() {
            let empty = Some(since);
            self.ending = Ending::Leave { asker, empty };
            self.begin_nothing_new();
        }
        let has_time = now.instant.since(since) < LAST_TURNS_MAX;
        if has_time && (self.is_busy() || self.sends_objects_off(now, out)) {
            return;
        }
        self.answer_order(asker, OrderKind::Leave, None, out);
        self.ending = Ending::Goodbye {
            deadline: now.instant + GOODBYE_MAX,
            parting: Parting::Left,
        };
        self.say_goodbye(now, out);
    }

    /// Calls of clients are refused, and subscribers take no more.
    fn begin_nothing_new(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.gateway.begin_shutdown();
        }
        self.close_subscribers();
    }

    fn has_copies(&self) -> bool {
        let mut slots = self.cluster.iter().flat_map(|cluster| cluster.slots());
        slots.next().is_some()
    }

    /// Nothing of the cluster is on it.
    fn is_edge(&self) -> bool {
        self.record.weight == 0 && !self.has_copies()
    }

    /// The others know that this node has left, or had time enough to hear it; and so had the calls
    /// that clients made here.
    pub(super) fn end_if_goodbye_is_heard(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Ending::Goodbye { deadline, parting } = self.ending else {
            return;
        };
        if now.instant >= deadline || (self.membership.is_gone() && !self.is_busy()) {
            self.ending = Ending::Halted;
            out.push(Effect::Halt(match parting {
                Parting::Left => HaltReason::Left,
                Parting::EdgeEnds => HaltReason::ShutDown,
            }));
        }
    }

    /// Whether calls of clients wait here, deliveries are under way, or turns run here for other
    /// leaders.
    fn is_busy(&self) -> bool {
        let cluster = self.cluster.as_ref();
        let busy = cluster.is_some_and(|c| c.gateway.pending() > 0 || !c.subscribers.are_settled());
        busy || self.is_hosting()
    }

    pub(super) fn begin_shutdown(&mut self, now: Now, deadline: Instant, out: &mut Vec<Effect>) {
        self.ending = Ending::Drain { deadline };
        // An edge that ends leaves.
        self.set_duty(match self.is_edge() {
            true => Duty::Leaving,
            false => Duty::Draining,
        });
        self.begin_nothing_new();
        self.settle(now, out);
        self.tick_ending(now, out);
    }

    pub(super) fn tick_ending(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.check_left(now, out);
        self.end_if_goodbye_is_heard(now, out);
        let Ending::Drain { deadline } = self.ending else {
            return;
        };
        let alone = self.links.connected().is_empty();
        let leads = self.cluster.as_ref().is_some_and(|c| {
            c.slots()
                .any(|slot| slot.leading.is_some() && slot.group.membership().voters.len() > 1)
        });
        let is_done = (alone || !leads) && !self.is_busy();
        let has_time = now.instant < deadline;
        if has_time && (!is_done || self.sends_objects_off(now, out)) {
            return;
        }
        if has_time && self.is_edge() && !alone {
            // The others would take it for one that fails, and look for it.
            self.ending = Ending::Goodbye {
                deadline: deadline.min(now.instant + GOODBYE_MAX),
                parting: Parting::EdgeEnds,
            };
            return self.say_goodbye(now, out);
        }
        self.ending = Ending::Halted;
        out.push(Effect::Halt(HaltReason::ShutDown));
    }
}
