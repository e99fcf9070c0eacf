//! Orders to a node: drain, take part again, leave; and to the leader of partition 0: record that a
//! node was removed for good. Given to this node by its operator, or by another one.
//!
//! An order for another node is sent to it, and the operator hears what that node says: an order is
//! answered when it was taken, never before. What cannot be known is said to be unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_placement::membership::MemberState;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{Frame, Order, OrderAnswer, OrderKind, OrderStage};
use ghostlight_protocol::wire::hello::{ConnectionKind, Duty};

use super::NodeCore;
use super::ending::Ending;
use super::facts::FACTS;
use super::operators::refused;
use crate::admin::{AdminAnswer, AdminTicket};
use crate::io::{Effect, Lane, Now};

/// Longest wait for a node's word that it has taken an order.
const TAKEN_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the news that a node has left whose connection broke meanwhile.
const LEFT_MAX: Duration = Duration::from_secs(10);
/// Orders that wait for other nodes.
const ORDERS_MAX: usize = 64;
/// Bits of an order's number that count orders; the generation stands above them.
const GENERATION_SHIFT: u32 = 32;

/// Orders given to other nodes and not answered yet.
#[derive(Default, Debug)]
pub(super) struct Orders {
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// The latest order taken from each node: what comes late must not undo it.
    taken: BTreeMap<NodeId, u64>,
    /// Nodes that wait to hear that a removal is recorded.
    removals: Vec<RemovalAsked>,
}

/// Another node wants to know when a removal is recorded here.
#[derive(Debug)]
struct RemovalAsked {
    removed: NodeId,
    by: NodeId,
    number: u64,
    until: Instant,
}

#[derive(Debug)]
struct Waiting {
    ticket: AdminTicket,
    /// Who carries it out.
    to: NodeId,
    /// The node that it is about.
    about: NodeId,
    kind: OrderKind,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing was heard.
    Sent { until: Instant },
    /// This run of the node works on it: another one would know nothing of it.
    Taken { run: Option<u64> },
    /// It did, and the connection to it is gone.
    Lost { until: Instant, run: Option<u64> },
}

/// Who gave this node an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// Its own operator.
    Operator(AdminTicket),
    /// Another node.
    Node {
        /// Which.
        node: NodeId,
        /// Its number of the order.
        number: u64,
    },
}

impl NodeCore {
    /// An operator gives an order, to this node or to another one.
    pub(super) fn order(
        &mut self,
        now: Now,
        ticket: AdminTicket,
        node: Option<String>,
        kind: OrderKind,
        out: &mut Vec<Effect>,
    ) {
        let target = match &node {
            None => Ok(self.me),
            Some(name) => self.find_node(name),
        };
        let refusal = match target {
            Ok(me) if me == self.me => {
                return self.carry_out(now, Asker::Operator(ticket), kind, out);
            }
            Ok(other) => match self.send_order(now, ticket, other, other, kind, out) {
                None => return,
                Some(refusal) => refusal,
            },
            Err(refusal) => *refusal,
        };
        out.push(Effect::AdminReply {
            ticket,
            answer: refusal,
        });
    }

    /// Hands an order on, and remembers who waits for its answer; the refusal, if there is no way.
    pub(super) fn send_order(
        &mut self,
        now: Now,
        ticket: AdminTicket,
        to: NodeId,
        about: NodeId,
        kind: OrderKind,
        out: &mut Vec<Effect>,
    ) -> Option<AdminAnswer> {
        if to != self.me && !self.links.answers(to) {
            let name = self.name_of(to);
            return Some(refused(
                Code::NodeUnreachable,
                format!(
                    "{name} cannot be reached from here, nothing was ordered. Is it running? See \
                     \"ghostlight members\""
                ),
            ));
        }
        if self.orders.waiting.len() >= ORDERS_MAX {
            return Some(refused(
                Code::GatewayFull,
                format!("{ORDERS_MAX} orders wait for other nodes already. Try again later"),
            ));
        }
        self.orders.last += 1;
        // Greater than any of an earlier run of this node.
        let number = (self.record.generation << GENERATION_SHIFT) | self.orders.last;
        let stage = Stage::Sent {
            until: now.instant + TAKEN_MAX,
        };
        self.orders.waiting.insert(
            number,
            Waiting {
                ticket,
                to,
                about,
                kind,
                stage,
            },
        );
        if to == self.me {
            return None;
        }
        let frame = Frame::Order(Order {
            kind: kind as i32,
            node: Bytes::copy_from_slice(&about.to_bytes()),
            number,
        });
        out.push(Effect::Send {
            to,
            lane: Lane::Control,
            frame,
        });
        None
    }

    /// Another node passes an order on.
    pub(super) fn take_order(
        &mut self,
        now: Now,
        from: NodeId,
        order: &Order,
        out: &mut Vec<Effect>,
    ) {
        let Some(node) = NodeId::from_slice(&order.node) else {
            return;
        };
        let Ok(kind) = OrderKind::try_from(order.kind) else {
            return;
        };
        match kind {
            OrderKind::Remove => self.take_removal(now, from, node, order.number, out),
            OrderKind::Drain | OrderKind::Undrain | OrderKind::Leave if node == self.me => {
                let number = order.number;
                let latest = self.orders.taken.entry(from).or_default();
                if number < *latest {
                    return;
                }
                *latest = number;
                self.carry_out(now, Asker::Node { node: from, number }, kind, out);
            }
            OrderKind::Drain | OrderKind::Undrain | OrderKind::Leave => {}
        }
    }

    /// Another node wants partition 0 to record a removal. It hears when that is committed.
    fn take_removal(
        &mut self,
        now: Now,
        from: NodeId,
        removed: NodeId,
        number: u64,
        out: &mut Vec<Effect>,
    ) {
        let asker = Asker::Node { node: from, number };
        if self.removed.contains(&removed) {
            return self.answer_order(asker, OrderKind::Remove, None, out);
        }
        if self.record_removed(now, removed).is_none() {
            let why = format!("{} does not lead {FACTS} any more", self.name_of(self.me));
            let refusal = refused(Code::NoLeader, format!("{why}. Give the order again"));
            return self.answer_order(asker, OrderKind::Remove, Some(refusal), out);
        }
        // More than the bound: those hear of it with the control frames.
        if self.orders.removals.len() < ORDERS_MAX {
            self.orders.removals.push(RemovalAsked {
                removed,
                by: from,
                number,
                until: now.instant + TAKEN_MAX,
            });
        }
    }

    /// A removal is recorded: whoever ordered it hears so.
    pub(super) fn removal_recorded(&mut self, removed: NodeId, out: &mut Vec<Effect>) {
        let asked = std::mem::take(&mut self.orders.removals);
        let (told, rest) = asked
            .into_iter()
            .partition(|asked| asked.removed == removed);
        self.orders.removals = rest;
        let told: Vec<RemovalAsked> = told;
        for RemovalAsked { by, number, .. } in told {
            let asker = Asker::Node { node: by, number };
            self.answer_order(asker, OrderKind::Remove, None, out);
        }
        let waiting = self.orders.waiting.iter();
        let concerned = waiting.filter(|(_, w)| w.kind == OrderKind::Remove && w.about == removed);
        let concerned: Vec<u64> = concerned.map(|(number, _)| *number).collect();
        for number in concerned {
            let done = AdminAnswer::Done(self.done(removed, OrderKind::Remove));
            self.settle_order(number, done, out);
        }
    }

    /// This node does what it is told, and says so.
    fn carry_out(&mut self, now: Now, asker: Asker, kind: OrderKind, out: &mut Vec<Effect>) {
        let refusal = match (kind, self.ending) {
            // The same order came twice.
            (OrderKind::Leave, Ending::Leave { asker: first, .. }) if first == asker => {
                return self.say_taken(asker, out);
            }
            (OrderKind::Leave, Ending::No) => match self.begin_leave(asker) {
                Some(refusal) => Some(refusal),
                None => {
                    self.say_taken(asker, out);
                    return self.check_left(now, out);
                }
            },
            (OrderKind::Drain, Ending::No) => {
                self.set_duty(Duty::Draining);
                None
            }
            (OrderKind::Undrain, Ending::No) => {
                self.set_duty(Duty::Serving);
                None
            }
            (
                _,
                Ending::Drain { .. }
                | Ending::Leave { .. }
                | Ending::Goodbye { .. }
                | Ending::Halted,
            )
            | (OrderKind::Remove, Ending::No) => Some(refused(
                Code::ShuttingDown,
                format!("{} is ending already", self.name_of(self.me)),
            )),
        };
        self.answer_order(asker, kind, refusal, out);
    }

    fn say_taken(&self, asker: Asker, out: &mut Vec<Effect>) {
        if let Asker::Node { node, number } = asker {
            let answer = OrderAnswer {
                number,
                stage: OrderStage::Taken as i32,
                ..OrderAnswer::default()
            };
            tell(node, answer, out);
        }
    }

    /// An order to this node is carried out, or refused.
    pub(super) fn answer_order(
        &self,
        asker: Asker,
        kind: OrderKind,
        refusal: Option<AdminAnswer>,
        out: &mut Vec<Effect>,
    ) {
        match asker {
            Asker::Operator(ticket) => {
                let answer = refusal.unwrap_or_else(|| AdminAnswer::Done(self.done(self.me, kind)));
                out.push(Effect::AdminReply { ticket, answer });
            }
            Asker::Node { number: 0, .. } => {}
            Asker::Node { node, number } => {
                let mut answer = OrderAnswer {
                    number,
                    stage: OrderStage::Done as i32,
                    ..OrderAnswer::default()
                };
                if let Some(AdminAnswer::Refused { code, detail }) = refusal {
                    answer.stage = OrderStage::Refused as i32;
                    answer.code = u32::from(code.number());
                    answer.detail = detail;
                }
                tell(node, answer, out);
            }
        }
    }

    fn done(&self, node: NodeId, kind: OrderKind) -> String {
        let name = self.name_of(node);
        match kind {
            OrderKind::Drain => format!(
                "{name} gives its leaderships away and keeps its copies. Undo with \"ghostlight drain \
                 {name} --undo\""
            ),
            OrderKind::Undrain => format!("{name} takes part again"),
            OrderKind::Leave => {
                format!("{name} has left the cluster for good; its data directory may be deleted")
            }
            OrderKind::Remove => format!(
                "{name} is removed for good: its copies are made anew, and it is refused if it comes back"
            ),
        }
    }

    /// The node that was given an order says how far it is.
    pub(super) fn order_answered(
        &mut self,
        from: NodeId,
        answer: OrderAnswer,
        out: &mut Vec<Effect>,
    ) {
        let run = self.run_of(from);
        let Some(waiting) = self.orders.waiting.get_mut(&answer.number) else {
            return;
        };
        let Ok(stage) = OrderStage::try_from(answer.stage) else {
            return;
        };
        if waiting.to != from {
            return;
        }
        let (kind, about) = (waiting.kind, waiting.about);
        match stage {
            OrderStage::Taken => waiting.stage = Stage::Taken { run },
            OrderStage::Done => {
                let done = AdminAnswer::Done(self.done(about, kind));
                self.settle_order(answer.number, done, out);
            }
            OrderStage::Refused => {
                let code = u16::try_from(answer.code).ok().and_then(Code::from_number);
                let code = code.unwrap_or(Code::Internal);
                self.settle_order(answer.number, refused(code, answer.detail), out);
            }
        }
    }

    /// Without its control connection a node cannot say any more what it did.
    pub(super) fn orders_disconnected(
        &mut self,
        now: Now,
        node: NodeId,
        kind: ConnectionKind,
        out: &mut Vec<Effect>,
    ) {
        if kind != ConnectionKind::Control {
            return;
        }
        let concerned = self.orders.waiting.iter_mut().filter(|(_, w)| w.to == node);
        let mut unconfirmed = Vec::new();
        for (number, waiting) in concerned {
            match waiting.stage {
                // Recorded or not: the next leader of partition 0 says so to everybody.
                Stage::Sent { .. } if waiting.kind == OrderKind::Remove => {}
                Stage::Sent { .. } => unconfirmed.push(*number),
                // One that leaves ends its connections: whether it has left comes by gossip.
                Stage::Taken { run } => {
                    let until = now.instant + LEFT_MAX;
                    waiting.stage = Stage::Lost { until, run };
                }
                Stage::Lost { .. } => {}
            }
        }
        for number in unconfirmed {
            self.unconfirmed(number, out);
        }
    }

    pub(super) fn tick_orders(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.orders
            .removals
            .retain(|asked| asked.until > now.instant);
        // The connection is back: whoever was told still moves its copies, and will say when it
        // has.
        let links = &self.links;
        for waiting in self.orders.waiting.values_mut() {
            if let Stage::Lost { run, .. } = waiting.stage
                && links.answers(waiting.to)
            {
                waiting.stage = Stage::Taken { run };
            }
        }
        let mut left = Vec::new();
        let mut unconfirmed = Vec::new();
        for (number, waiting) in &self.orders.waiting {
            match waiting.stage {
                Stage::Sent { until } if until <= now.instant => unconfirmed.push(*number),
                Stage::Lost { .. } if self.has_left(waiting.to) => left.push(*number),
                Stage::Lost { until, .. } if until <= now.instant => unconfirmed.push(*number),
                Stage::Taken { run } if self.is_another_run(waiting.to, run) => {
                    unconfirmed.push(*number);
                }
                Stage::Sent { .. } | Stage::Taken { .. } | Stage::Lost { .. } => {}
            }
        }
        for number in left {
            if let Some(waiting) = self.orders.waiting.get(&number) {
                let done = AdminAnswer::Done(self.done(waiting.about, waiting.kind));
                self.settle_order(number, done, out);
            }
        }
        for number in unconfirmed {
            self.unconfirmed(number, out);
        }
    }

    /// Of a node that is known, as its record has it.
    fn run_of(&self, node: NodeId) -> Option<u64> {
        let link = self.links.link(node);
        link.map(|link| link.record.generation)
    }

    fn is_another_run(&self, node: NodeId, run: Option<u64>) -> bool {
        let present = self.run_of(node);
        present.is_some() && run.is_some() && present != run
    }

    fn has_left(&self, node: NodeId) -> bool {
        let link = self.links.link(node);
        self.member_state(node) == MemberState::Down
            && link.is_some_and(|link| link.record.duty() == Duty::Leaving)
    }

    fn unconfirmed(&mut self, number: u64, out: &mut Vec<Effect>) {
        let Some(waiting) = self.orders.waiting.get(&number) else {
            return;
        };
        let name = self.name_of(waiting.to);
        let detail = match waiting.kind {
            OrderKind::Remove => format!(
                "{name}, which led {FACTS}, did not say in time that the removal of {} is recorded: it may \
                 be or not. Give the order again",
                self.name_of(waiting.about)
            ),
            OrderKind::Drain | OrderKind::Undrain | OrderKind::Leave => format!(
                "{name} was told, and did not confirm it: it may have taken the order or not. See its \
                 duty with \"ghostlight members\", and give the order again if it was not taken"
            ),
        };
        self.settle_order(number, refused(Code::OrderUnconfirmed, detail), out);
    }

    fn settle_order(&mut self, number: u64, answer: AdminAnswer, out: &mut Vec<Effect>) {
        if let Some(Waiting { ticket, .. }) = self.orders.waiting.remove(&number) {
            out.push(Effect::AdminReply { ticket, answer });
        }
    }
}

fn tell(to: NodeId, answer: OrderAnswer, out: &mut Vec<Effect>) {
    out.push(Effect::Send {
        to,
        lane: Lane::Control,
        frame: Frame::OrderAnswer(answer),
    });
}
