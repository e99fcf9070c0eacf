//! What operators order, and what partition 0 remembers of it: drain, leave, remove, the end of a node.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_placement::membership::MemberState;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{Facts, Kind, StateWrite};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::OrderKind;
use ghostlight_protocol::wire::hello::Duty;

use super::orders::Asker;
use super::{Ending, Introduced, NodeCore, Parting};
use crate::admin::{AdminAnswer, AdminRequest, AdminTicket, DrainChange, several_called};
use crate::io::{Effect, HaltReason, Now};
use crate::turns::RowsWanted;

/// The partition that keeps the cluster's facts.
pub(super) const FACTS: PartitionId = PartitionId(0);
/// Prefix of the fact that a node was removed for good; its id follows.
const REMOVED_PREFIX: &[u8] = b"removed/";

/// Longest time for a goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// Facts read at once; more are read in further pages.
const FACTS_PAGE: usize = 256;

/// The read that tells which nodes were removed, from one page's end on.
pub(super) fn removed_rows(after: Option<Bytes>) -> RowsWanted {
    let prefix = Bytes::from_static(REMOVED_PREFIX);
    RowsWanted::Scan {
        family: Family::Fact,
        prefix,
        after,
        limit: FACTS_PAGE,
    }
}

impl NodeCore {
    pub(super) fn admin(
        &mut self,
        now: Now,
        ticket: AdminTicket,
        request: AdminRequest,
        out: &mut Vec<Effect>,
    ) {
        let answer = match request {
            AdminRequest::Status => AdminAnswer::Status(self.status_view(now)),
            AdminRequest::Partitions => AdminAnswer::Partitions(self.partition_views()),
            AdminRequest::Actors => AdminAnswer::Actors(self.actor_views()),
            AdminRequest::Types => AdminAnswer::Types(self.type_views()),
            AdminRequest::Hosted => AdminAnswer::Hosted(self.hosted_counts()),
            AdminRequest::Where(actor) => match self.where_view(&actor) {
                Some(view) => AdminAnswer::Where(view),
                None => not_joined(),
            },
            AdminRequest::Drain { node, change } => {
                return self.order(now, ticket, node, drain_order(change), out);
            }
            AdminRequest::Leave { node } => {
                return self.order(now, ticket, node, OrderKind::Leave, out);
            }
            AdminRequest::Remove(node) => match self.order_remove(now, ticket, &node, out) {
                None => return,
                Some(refusal) => refusal,
            },
        };
        out.push(Effect::AdminReply { ticket, answer });
    }

    /// The one node of this name or id; of those of one name, the ones that are gone for good do not count beside others.
    pub(super) fn find_node(&self, wanted: &str) -> Result<NodeId, Box<AdminAnswer>> {
        let named = self
            .links
            .known()
            .filter(|node| self.name_of(*node) == wanted);
        let (gone, there): (Vec<_>, Vec<_>) =
            named.partition(|node| self.removed.contains(node) || self.state_text(*node) == "left");
        let named = if there.is_empty() { gone } else { there };
        match named[..] {
            [] => {
                let id = NodeId::parse(wanted);
                let found = self.links.known().find(|known| Some(*known) == id);
                found.ok_or_else(|| Box::new(unknown_node(wanted)))
            }
            [one] => Ok(one),
            [..] => {
                let each = named.iter().map(|node| {
                    let state = self.state_text(*node).to_owned();
                    (format!("{node:?}"), state)
                });
                let each: Vec<_> = each.collect();
                let refusal = refused(Code::AmbiguousNode, several_called(wanted, &each));
                Err(Box::new(refusal))
            }
        }
    }

    /// Answered when the removal is recorded; the refusal, if it cannot be.
    fn order_remove(
        &mut self,
        now: Now,
        ticket: AdminTicket,
        wanted: &str,
        out: &mut Vec<Effect>,
    ) -> Option<AdminAnswer> {
        let node = match self.find_node(wanted) {
            Ok(node) => node,
            Err(refusal) => return Some(*refusal),
        };
        let name = self.name_of(node);
        if node == self.me || self.member_state(node) != MemberState::Down {
            let text = match self.state_text(node) {
                // Gossip gives it two seconds to answer.
                "silent" | "suspect" => format!(
                    "{name} does not answer, and it is not certain yet that it is down: that takes a few seconds. Give \
                     the order again when \"ghostlight members\" shows it as down"
                ),
                _ => format!(
                    "{name} is not down, and only a dead node is removed. To take a live one out, run \
                     \"ghostlight leave\" against it"
                ),
            };
            return Some(refused(Code::RemoveLiveNode, text));
        }
        if self.removed.contains(&node) {
            return Some(AdminAnswer::Done(format!(
                "{name} was removed for good before"
            )));
        }
        let leader = self.cluster.as_ref().and_then(|c| c.routes.leader(FACTS));
        let no_leader = || {
            let detail = format!("{FACTS} has no leader, so the removal cannot be recorded");
            refused(
                Code::NoLeader,
                format!("{detail}. Try again when it has one"),
            )
        };
        let Some((leader, _)) = leader else {
            return Some(no_leader());
        };
        if leader == self.me && self.record_removed(now, node).is_none() {
            return Some(no_leader());
        }
        self.send_order(now, ticket, leader, node, OrderKind::Remove, out)
    }

    /// Partition 0's leader records a removal. Nobody hears of it before it is committed: a removal that a
    /// change of leader cut off again must not have shut a node out. The term it was proposed in; `None`:
    /// this node does not lead it, or the leadership ends.
    pub(super) fn record_removed(&mut self, now: Now, node: NodeId) -> Option<Term> {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(FACTS));
        let (term, _) = slot.and_then(super::slot::Slot::serving)?;
        let mut key = REMOVED_PREFIX.to_vec();
        key.extend_from_slice(&node.to_bytes());
        let write = StateWrite {
            key: key.into(),
            value: Some(Bytes::from_static(b"1")),
            ..StateWrite::default()
        };
        let facts = Facts {
            writes: vec![write],
        };
        self.propose(now, FACTS, term, Kind::Facts(facts))
            .then_some(term)
    }

    /// A node was removed for good.
    pub(super) fn node_removed(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        if node == self.me || !self.removed.insert(node) {
            return;
        }
        self.recording.remove(&node);
        self.introduced = Introduced::Outdated;
        self.removal_recorded(node, out);
        out.push(Effect::Close(node));
    }

    /// What partition 0 says, as read by its leader at opening and after every change. Everybody else
    /// hears it from there with the control frames.
    pub(super) fn facts_read(&mut self, rows: &[(Bytes, Option<Bytes>)], out: &mut Vec<Effect>) {
        for (key, value) in rows {
            let node = key
                .strip_prefix(REMOVED_PREFIX)
                .and_then(NodeId::from_slice);
            if let (Some(node), Some(_)) = (node, value) {
                self.say_replaced(node, out);
                self.node_removed(node, out);
            }
        }
    }

    /// This node begins to leave; the refusal, if it may not.
    pub(super) fn begin_leave(&mut self, asker: Asker) -> Option<AdminAnswer> {
        let Some(cluster) = &self.cluster else {
            return Some(not_joined());
        };
        let factor = usize::from(cluster.ring.factor());
        let facts = self.facts();
        let others = facts
            .nodes
            .iter()
            .filter(|(node, fact)| **node != self.me && fact.takes_copies())
            .count();
        let holds_copies = self.record.weight > 0;
        // A two-node cluster may shrink to one: its groups have one voter, which moves by a joint swap.
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
        self.ending = Ending::Leave { asker };
        self.set_duty(Duty::Leaving);
        None
    }

    /// A leaving node ends when no copy is left on it.
    pub(super) fn check_left(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Ending::Leave { asker } = self.ending else {
            return;
        };
        let empty = self
            .cluster
            .as_ref()
            .is_none_or(|c| c.slots().next().is_none());
        if empty && !self.sends_objects_off(now, out) {
            if let Some(cluster) = &mut self.cluster {
                cluster.gateway.begin_shutdown();
            }
            self.close_subscribers();
            self.answer_order(asker, OrderKind::Leave, None, out);
            self.ending = Ending::Goodbye {
                deadline: now.instant + GOODBYE_MAX,
                parting: Parting::Left,
            };
            self.say_goodbye(now, out);
        }
    }

    /// The others know that this node has left, or had time enough to hear it; and so had the calls that
    /// clients made here.
    pub(super) fn leave_if_said(&mut self, now: Now, out: &mut Vec<Effect>) {
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

    /// Whether calls of clients wait here, deliveries are under way, or turns run here for other leaders.
    fn is_busy(&self) -> bool {
        let cluster = self.cluster.as_ref();
        let busy = cluster.is_some_and(|c| c.gateway.pending() > 0 || !c.subscribers.are_settled());
        busy || self.is_hosting()
    }

    pub(super) fn begin_shutdown(&mut self, now: Now, deadline: Instant, out: &mut Vec<Effect>) {
        self.ending = Ending::Drain { deadline };
        if let Some(cluster) = &mut self.cluster {
            cluster.gateway.begin_shutdown();
        }
        // An edge that ends leaves: nothing of the cluster is on it.
        self.set_duty(match self.record.weight {
            0 => Duty::Leaving,
            _ => Duty::Draining,
        });
        self.close_subscribers();
        self.settle(now, out);
        self.tick_ending(now, out);
    }

    pub(super) fn tick_ending(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.check_left(now, out);
        self.leave_if_said(now, out);
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
        if has_time && self.record.weight == 0 && !alone {
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

    pub(super) fn name_of(&self, node: NodeId) -> String {
        if node == self.me {
            return self.record.name.clone();
        }
        let named = self.links.link(node).map(|link| link.record.name.clone());
        named
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| node.to_string())
    }
}

fn drain_order(change: DrainChange) -> OrderKind {
    match change {
        DrainChange::Begin => OrderKind::Drain,
        DrainChange::Undo => OrderKind::Undrain,
    }
}

pub(super) fn refused(code: Code, detail: String) -> AdminAnswer {
    AdminAnswer::Refused { code, detail }
}

fn unknown_node(wanted: &str) -> AdminAnswer {
    refused(
        Code::UnknownNode,
        format!("no node is called {wanted:?}. See \"ghostlight members\" for names and ids"),
    )
}

fn not_joined() -> AdminAnswer {
    refused(
        Code::NotJoined,
        "this node has not joined a cluster yet".to_owned(),
    )
}
