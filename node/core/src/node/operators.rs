//! What operators ask of a node, by the admin API: views, and orders to drain, leave and remove.
//! Absent: the way of an order to the node that it is for (`orders`), and what the views show
//! (`views`).

use ghostlight_placement::membership::MemberState;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::frame::OrderKind;

use super::NodeCore;
use super::facts::FACTS;
use crate::admin::{AdminAnswer, AdminRequest, AdminTicket, DrainChange, several_called};
use crate::io::{Effect, Now};

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

    /// The one node of this name or id; of those of one name, the ones that are gone for good do
    /// not count beside others.
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

pub(super) fn not_joined() -> AdminAnswer {
    refused(
        Code::NotJoined,
        "this node has not joined a cluster yet".to_owned(),
    )
}
