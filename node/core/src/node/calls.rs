//! Calls on their way: client to gateway, gateway to leader, answer back; and the queue between
//! sub-cores.

use std::time::Duration;

use ghostlight_placement::routing::RoutingTable;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{
    AnswerKind, Ask, CallAnswer, CallRequest, LeaderHint, MayHaveRun, OperationReply, Redirect,
    Stamp,
};
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{Kind, Send};
use ghostlight_protocol::hash::{domain, hash64};
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::topic::{PublishBody, Request, TopicPartition, TopicRequest};
use ghostlight_protocol::wire::frame::{Frame, Hangup, OutboxMark, OutboxPush};
use prost::Message;

use super::links::Links;
use super::slot::{Stage, WAITING_CALLS_MAX};
use super::waiting::Waiting;
use super::{Cluster, Local, NodeCore};
use crate::gateway::{
    CallTicket, ClientCall, GatewayEffect, GatewayInput, Reachable, Routes, Waiter, call_key,
};
use crate::io::{CALL_LANES, Effect, Lane, Now};
use crate::outbox::{OutboxEffect, OutboxInput};
use crate::topics::subscribers::SubscribersInput;
use crate::topics::{TopicsInput, is_for_topics};
use crate::turn_io::{RunnerEffect, RunnerInput, TurnTold};
use crate::turns::{Caller, TurnsEffect, TurnsInput, Writes};
use crate::wakeups::WakeupsInput;

/// Steps that sub-cores may cause each other from one input; more would be a loop.
const LOCAL_STEPS_MAX: usize = 1_000_000;

/// The gateway's view of the cluster.
pub(super) struct RouteView<'a> {
    pub(super) me: NodeId,
    pub(super) links: &'a Links,
    pub(super) routes: &'a RoutingTable,
    pub(super) table: &'a ghostlight_placement::ring::PreferenceTable,
}

impl Routes for RouteView<'_> {
    fn leader(&self, partition: PartitionId) -> Option<(Term, NodeId)> {
        self.routes
            .leader(partition)
            .map(|(node, term)| (term, node))
    }

    fn candidates(&self, partition: PartitionId) -> Vec<NodeId> {
        let members: Vec<NodeId> = self.links.known().collect();
        self.routes
            .candidates(partition, self.table.list(partition), members)
    }

    fn reachable(&self, node: NodeId) -> Reachable {
        if node == self.me {
            Reachable::Yes
        } else {
            self.links.reachable(node)
        }
    }
}

impl Local {
    /// A call, for whoever serves its key.
    pub(super) fn call(partition: PartitionId, from: Caller, request: CallRequest) -> Self {
        if is_for_topics(&request.actor) {
            Self::Topics(partition, TopicsInput::Call { from, request })
        } else {
            Self::Turns(partition, TurnsInput::Call { from, request })
        }
    }
}

/// What whoever asks a node hears that has no cluster yet.
pub(super) fn not_joined() -> NotRun {
    let detail = "this node has not joined a cluster yet. Try again, or ask another node";
    NotRun::retry(Code::NotJoined, detail, Duration::from_millis(500))
}

fn is_inspection(request: &CallRequest) -> bool {
    let ask = request.operation.as_ref().and_then(|o| o.ask.as_ref());
    matches!(ask, Some(Ask::Inspect(_)))
}

impl NodeCore {
    pub(super) fn client_call(
        &mut self,
        now: Now,
        ticket: CallTicket,
        mut call: ClientCall,
        out: &mut Vec<Effect>,
    ) {
        if self.cluster.is_none() {
            let outcome = CallOutcome::NotRun(not_joined());
            out.push(Effect::Reply { ticket, outcome });
            return;
        }
        // The machine's clock was read when the call came; what actors see is the node's.
        call.stamp.wall_ms = now.wall.0;
        self.local
            .push_back(Local::Gateway(GatewayInput::Call { ticket, call }));
    }

    pub(super) fn remote_call(
        &mut self,
        now: Now,
        from: NodeId,
        request: CallRequest,
        out: &mut Vec<Effect>,
    ) {
        let caller = Caller {
            node: from,
            call: request.call,
        };
        self.admit_call(now, caller, request, out);
    }

    pub(super) fn take_hangup(&mut self, from: NodeId, hangup: Hangup, out: &mut Vec<Effect>) {
        if let Ok(partition) = u16::try_from(hangup.partition) {
            let caller = Caller {
                node: from,
                call: hangup.call,
            };
            self.hang_up(PartitionId(partition), caller, out);
        }
    }

    /// Hands a call to the partition's turn engine, if this node leads it.
    fn admit_call(&mut self, now: Now, from: Caller, request: CallRequest, out: &mut Vec<Effect>) {
        let partition = PartitionId(u16::try_from(request.partition).unwrap_or(u16::MAX));
        let room = self
            .cluster
            .as_ref()
            .map_or(Ok(()), |c| c.room_for(&request));
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return self.redirect(from, partition, out);
        };
        let Some(leading) = &slot.leading else {
            return self.redirect(from, partition, out);
        };
        if let Err(refusal) = room {
            return self.answer(from, AnswerKind::NotRun(refusal), out);
        }
        match leading.stage {
            Stage::Open(_) if is_inspection(&request) => {
                let kind = self.inspect(now, partition, request);
                self.answer(from, kind, out);
            }
            Stage::Open(_) => {
                self.local.push_back(Local::call(partition, from, request));
            }
            Stage::Elected if slot.waiting.len() < WAITING_CALLS_MAX => {
                let waiting = Waiting {
                    from,
                    request,
                    since: now.instant,
                };
                if let Some(cluster) = &mut self.cluster {
                    cluster.push_waiting(partition, waiting);
                }
            }
            Stage::Elected => self.redirect(from, partition, out),
        }
    }

    /// What an actor is doing, as its leader sees it now: this waits for nothing, a turn that is
    /// stuck above all.
    fn inspect(&self, now: Now, partition: PartitionId, request: CallRequest) -> AnswerKind {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let serving = slot.and_then(|slot| slot.serving());
        let key = ActorKey::parse(request.actor).ok();
        let standing = key.zip(serving).and_then(|(key, (_, serving))| {
            let mut standing = serving.turns.standing(now.instant, &key)?;
            if let Some(activation) = serving.turns.activation_of(&key) {
                self.add_host(activation, &mut standing);
            }
            Some(standing)
        });
        let reply = OperationReply {
            standing,
            ..OperationReply::default()
        };
        AnswerKind::Reply(reply.encode_to_vec().into())
    }

    pub(super) fn redirect(&mut self, to: Caller, partition: PartitionId, out: &mut Vec<Effect>) {
        let hint = self.cluster.as_ref().and_then(|c| c.routes.hint(partition));
        let redirect = Redirect {
            hint,
            may_have_run: MayHaveRun::No as i32,
        };
        self.answer(to, AnswerKind::Redirect(redirect), out);
    }

    /// Sends an answer to the gateway that asked.
    pub(super) fn answer(&mut self, to: Caller, kind: AnswerKind, out: &mut Vec<Effect>) {
        let answer = CallAnswer {
            call: to.call,
            kind: Some(kind),
        };
        if to.node == self.me {
            let input = GatewayInput::Answer {
                from: self.me,
                answer,
            };
            self.local.push_back(Local::Gateway(input));
        } else {
            let lane = Lane::Call((call_key(to.call) % u64::from(CALL_LANES)) as u8);
            out.push(Effect::Send {
                to: to.node,
                lane,
                frame: Frame::Answer(answer),
            });
        }
    }

    /// Works off what sub-cores want from each other.
    pub(super) fn settle(&mut self, now: Now, out: &mut Vec<Effect>) {
        let mut steps = 0;
        while let Some(local) = self.local.pop_front() {
            steps += 1;
            assert!(
                steps < LOCAL_STEPS_MAX,
                "sub-cores feed each other without end"
            );
            match local {
                Local::Gateway(input) => self.feed_gateway(now, input, out),
                Local::Turns(partition, input) => self.feed_turns(now, partition, input, out),
                Local::Outbox(partition, input) => self.feed_outbox(now, partition, input, out),
                Local::Expiry(partition, input) => self.feed_expiry(now, partition, input, out),
                Local::Wakeups(partition, input) => self.feed_wakeups(now, partition, input, out),
                Local::Topics(partition, input) => self.feed_topics(now, partition, input, out),
                Local::Subscribers(input) => self.feed_subscribers(now, input, out),
            }
        }
    }

    fn feed_gateway(&mut self, now: Now, input: GatewayInput, out: &mut Vec<Effect>) {
        let Some(Cluster {
            gateway,
            routes,
            table,
            ..
        }) = &mut self.cluster
        else {
            return;
        };
        let view = RouteView {
            me: self.me,
            links: &self.links,
            routes,
            table,
        };
        let mut effects = Vec::new();
        gateway.handle(now.instant, input, &view, &mut effects);
        for effect in effects {
            self.gateway_effect(now, effect, out);
        }
    }

    fn gateway_effect(&mut self, now: Now, effect: GatewayEffect, out: &mut Vec<Effect>) {
        match effect {
            GatewayEffect::Send { to, request } if to == self.me => {
                let from = Caller {
                    node: self.me,
                    call: request.call,
                };
                self.admit_call(now, from, request, out);
            }
            GatewayEffect::Send { to, request } => {
                let lane = Lane::Call((request.partition % u32::from(CALL_LANES)) as u8);
                out.push(Effect::Send {
                    to,
                    lane,
                    frame: Frame::Call(request),
                });
            }
            GatewayEffect::Hangup {
                to,
                partition,
                call,
            } if to == self.me => {
                self.hang_up(partition, Caller { node: to, call }, out);
            }
            GatewayEffect::Hangup {
                to,
                partition,
                call,
            } => {
                let lane = Lane::Call((partition.0 % u16::from(CALL_LANES)) as u8);
                let hangup = Hangup {
                    partition: u32::from(partition.0),
                    call,
                };
                out.push(Effect::Send {
                    to,
                    lane,
                    frame: Frame::Hangup(hangup),
                });
            }
            GatewayEffect::Done {
                waiter: Waiter::Client(ticket),
                outcome,
            } => {
                out.push(Effect::Reply { ticket, outcome });
            }
            GatewayEffect::Done {
                waiter: Waiter::Turn { turn, ask },
                outcome,
            } => {
                let input = TurnsInput::Called { turn, ask, outcome };
                self.local
                    .push_back(Local::Turns(turn.activation.partition, input));
            }
            GatewayEffect::Done {
                waiter: Waiter::App(ticket),
                outcome,
            } => self.operated(now, ticket, outcome, out),
            GatewayEffect::Overrun { until, patience } => {
                let pause = until.since(now.instant);
                out.push(Effect::Overrun { pause, patience });
            }
            GatewayEffect::AskRoutes(node) => {
                let frame = Frame::AskRoutes(ghostlight_protocol::wire::frame::AskRoutes {});
                out.push(Effect::Send {
                    to: node,
                    lane: Lane::Control,
                    frame,
                });
            }
        }
    }

    /// From whoever runs turns.
    pub(super) fn take_runner(&mut self, now: Now, input: RunnerInput, out: &mut Vec<Effect>) {
        let turn = match &input {
            RunnerInput::Asked { turn, .. } | RunnerInput::Ended { turn, .. } => *turn,
        };
        let activation = turn.activation;
        let slot = self
            .cluster
            .as_mut()
            .and_then(|c| c.slot_mut(activation.partition));
        if slot
            .and_then(|slot| slot.serving_mut(activation.term))
            .is_some()
        {
            let input = TurnsInput::Runner(input);
            self.local
                .push_back(Local::Turns(activation.partition, input));
        } else if let RunnerInput::Asked { turn, ask, .. } = input {
            let told = TurnTold::Deposed;
            self.tell_runner(now, RunnerEffect::Tell { turn, ask, told }, out);
        }
    }

    pub(super) fn feed_turns(
        &mut self,
        now: Now,
        partition: PartitionId,
        input: TurnsInput,
        out: &mut Vec<Effect>,
    ) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let Some(term) = slot.serving().map(|(term, _)| term) else {
            // Who hung up hears, too, that nothing of the call is here.
            if let TurnsInput::Call { from, .. } | TurnsInput::Hangup(from) = input {
                self.redirect(from, partition, out);
            }
            return;
        };
        let Some(serving) = slot.serving_mut(term) else {
            return;
        };
        let mut effects = Vec::new();
        let (bytes, progress) = (serving.turns.call_bytes(), serving.turns.progress());
        serving.turns.note_reentrant(&self.hosting.reentrant);
        serving.turns.handle(now.instant, input, &mut effects);
        let (bytes_after, progress_after) = (serving.turns.call_bytes(), serving.turns.progress());
        cluster.recount(bytes, bytes_after);
        cluster.backlog.changed(progress, progress_after);
        cluster.touched.insert(partition);
        self.turns_effects(now, partition, term, effects, out);
    }

    pub(super) fn turns_effects(
        &mut self,
        now: Now,
        partition: PartitionId,
        term: Term,
        effects: Vec<TurnsEffect>,
        out: &mut Vec<Effect>,
    ) {
        for effect in effects {
            match effect {
                TurnsEffect::Runner(effect) => self.tell_runner(now, effect, out),
                TurnsEffect::Propose(mut kind) => {
                    if canary::sings(Canary::PublishAtOnce) {
                        self.publish_at_once(now, &mut kind, out);
                    }
                    if !self.propose(now, partition, term, kind) {
                        self.local
                            .push_front(Local::Turns(partition, TurnsInput::Dropped));
                    }
                }
                TurnsEffect::Confirm(id) => self.confirm(now, partition, id),
                TurnsEffect::Read { read, rows } => {
                    self.read_for_turns(partition, term, read, rows, out);
                }
                TurnsEffect::Answer { to, kind } => self.answer(to, kind, out),
                TurnsEffect::Call(call) => {
                    self.local
                        .push_back(Local::Gateway(GatewayInput::Nested(call)));
                }
                TurnsEffect::TurnGone(turn) => {
                    self.local
                        .push_back(Local::Gateway(GatewayInput::TurnGone(turn)));
                }
                TurnsEffect::WakeupOver(due, end) => {
                    let input = WakeupsInput::Over(due, end);
                    self.local.push_back(Local::Wakeups(partition, input));
                }
                TurnsEffect::Scheduled(actor, writes) => {
                    let input = WakeupsInput::Scheduled(actor, writes);
                    self.local.push_back(Local::Wakeups(partition, input));
                }
            }
        }
    }

    /// A deliberate bug: what turns publish becomes calls of its own, as that of an application
    /// without their token is.
    fn publish_at_once(&mut self, now: Now, kind: &mut Kind, out: &mut Vec<Effect>) {
        let Kind::Turns(turns) = kind else { return };
        let is_event = |send: &mut Send| {
            let key = ActorKey::parse(send.actor.clone());
            key.is_ok_and(|key| TopicPartition::of_key(&key).is_some())
        };
        let sends = turns.turns.iter_mut().map(|turn| &mut turn.sends);
        let events: Vec<Send> = sends
            .flat_map(|sends| sends.extract_if(.., is_event))
            .collect();
        for event in events {
            let body = PublishBody::decode(event.body.clone()).unwrap_or_default();
            let request = Some(Request::Publish(body));
            let ticket = CallTicket(hash64(domain::EVENT_ID, &event.body));
            let Ok(actor) = ActorKey::parse(event.actor) else {
                continue;
            };
            let call = ClientCall {
                actor,
                method: "topic".to_owned(),
                body: TopicRequest { request }.encode_to_vec().into(),
                request_id: None,
                deadline: None,
                stamp: Stamp::default(),
                metadata: Vec::new(),
            };
            self.client_call(now, ticket, call, out);
        }
    }

    pub(super) fn take_push(&mut self, from: NodeId, push: OutboxPush, out: &mut Vec<Effect>) {
        let Ok(destination) = u16::try_from(push.destination) else {
            return;
        };
        let destination = PartitionId(destination);
        let cluster = self.cluster.as_ref();
        if cluster.is_none_or(|c| push.source >= u32::from(c.partitions())) {
            return;
        }
        let slot = cluster.and_then(|c| c.slot(destination));
        if let Some((_, serving)) = slot.and_then(|s| s.serving()) {
            // With too few copies or no room nothing is taken over from a partition that may have
            // more: the source keeps its messages, and pushes again after a while.
            if serving.writes != Writes::Taken {
                return;
            }
            // The same where too many wait already, or too many have failed: the source's own bound
            // then stops whoever makes them.
            let max = self.start.turns.messages_max;
            let row = slot.and_then(|slot| slot.row.as_ref());
            if row.is_some_and(|row| row.inbox().is_full(max) || row.dead_letters().is_full(max)) {
                return;
            }
            let input = OutboxInput::Push { from, push };
            self.local.push_back(Local::Outbox(destination, input));
            return;
        }
        let hint = cluster.and_then(|c| c.routes.hint(destination));
        let mark = OutboxMark {
            source: push.source,
            source_epoch: push.source_epoch,
            destination: push.destination,
            through: None,
            hint,
        };
        self.send_mark(from, mark, out);
    }

    pub(super) fn take_mark(&mut self, mark: OutboxMark) {
        if let Some(hint) = &mark.hint {
            self.take_hints(vec![hint.clone()]);
        }
        if let Ok(source) = u16::try_from(mark.source) {
            self.local
                .push_back(Local::Outbox(PartitionId(source), OutboxInput::Mark(mark)));
        }
    }

    fn send_mark(&mut self, to: NodeId, mark: OutboxMark, out: &mut Vec<Effect>) {
        if to == self.me {
            self.take_mark(mark);
        } else {
            out.push(Effect::Send {
                to,
                lane: Lane::Push,
                frame: Frame::OutboxMark(mark),
            });
        }
    }

    fn feed_outbox(
        &mut self,
        now: Now,
        partition: PartitionId,
        input: OutboxInput,
        out: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let Some(term) = slot.serving().map(|(term, _)| term) else {
            return;
        };
        let Some(serving) = slot.serving_mut(term) else {
            return;
        };
        let mut effects = Vec::new();
        serving.outbox.handle(now.instant, input, &mut effects);
        for effect in effects {
            self.outbox_effect(now, partition, term, effect, out);
        }
    }

    pub(super) fn outbox_effect(
        &mut self,
        now: Now,
        partition: PartitionId,
        term: Term,
        effect: OutboxEffect,
        out: &mut Vec<Effect>,
    ) {
        match effect {
            OutboxEffect::Push(push) => self.send_push(push, out),
            OutboxEffect::Mark { to, mark } => self.send_mark(to, mark, out),
            OutboxEffect::Propose(kind) => {
                if !self.propose(now, partition, term, kind) {
                    self.local
                        .push_front(Local::Outbox(partition, OutboxInput::Dropped));
                }
            }
            OutboxEffect::ReadOutbox { after, limit } => {
                self.read_for_outbox(partition, term, after, limit, out);
            }
            OutboxEffect::Deliver(messages) => self.deliver(partition, term, messages),
        }
    }

    fn send_push(&mut self, push: OutboxPush, out: &mut Vec<Effect>) {
        let destination = PartitionId(push.destination as u16);
        let leader = self
            .cluster
            .as_ref()
            .and_then(|c| c.routes.leader(destination));
        match leader {
            Some((node, _)) if node == self.me => self.take_push(node, push, out),
            Some((node, _)) => {
                out.push(Effect::Send {
                    to: node,
                    lane: Lane::Push,
                    frame: Frame::OutboxPush(push),
                });
            }
            // The pump pushes again when a leader is known, and after a while in any case.
            None => {}
        }
    }

    /// Takes hints into the routing table; newer leaderships move the calls in flight.
    pub(super) fn take_hints(&mut self, hints: Vec<LeaderHint>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for hint in hints {
            if cluster.routes.learn(&hint) == ghostlight_placement::routing::Learned::Newer {
                let partition = PartitionId(hint.partition as u16);
                cluster.moved.insert(partition);
                if !cluster.subscribers.is_empty() {
                    let term = Term(hint.term);
                    let input = SubscribersInput::Leader { partition, term };
                    self.local.push_back(Local::Subscribers(input));
                }
                self.local
                    .push_back(Local::Gateway(GatewayInput::Leader(hint)));
            }
        }
    }

    /// Outboxes hear of the newer leaders of their destinations: once for a whole turn of the loop,
    /// because at a failover thousands of leaderships move at once, and each outbox cares for a
    /// few.
    pub(super) fn tell_outboxes(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let moved = std::mem::take(&mut cluster.moved);
        if moved.is_empty() {
            return;
        }
        for slot in cluster.slots.iter().flatten() {
            let Some((_, serving)) = slot.serving() else {
                continue;
            };
            for destination in serving.outbox.destinations() {
                if moved.contains(&destination) {
                    let input = OutboxInput::LeaderChanged(destination);
                    self.local.push_back(Local::Outbox(slot.partition(), input));
                }
            }
        }
    }

    pub(super) fn tell_routes(&mut self, to: NodeId, out: &mut Vec<Effect>) {
        let Some(cluster) = &self.cluster else { return };
        let hints = cluster.routes.hints().collect();
        let frame = Frame::Routes(ghostlight_protocol::wire::frame::Routes { hints });
        out.push(Effect::Send {
            to,
            lane: Lane::Control,
            frame,
        });
    }
}
