//! What the core wants, performed: frames, datagrams, dials, turns, answers.

use bytes::Bytes;
use ghostlight_core::io::{Effect, Event as CoreEvent, HaltReason, Input, Lane};
use ghostlight_core::turn_io::{RunnerEffect, RunnerInput};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::ConnectionKind;
use ghostlight_storage::memory::CrashKind;

use super::{Event, Phase, Spoken, World};
use crate::dice::{MS, SEC};
use crate::invariants;
use crate::net::{ConnKey, KINDS, Place, key, kind_of, side};
use crate::process::{Fate, Introduced};

impl World {
    pub(crate) fn perform(&mut self, place: Place, effect: Effect) {
        match effect {
            Effect::Send { to, lane, frame } => self.send(place, to, lane, frame),
            Effect::Gossip { to, data } => self.gossip(place, to, data),
            Effect::Dial {
                address,
                node,
                kind,
            } => {
                let run = self.nodes[place].run;
                let delay = 3 * self.delay();
                let dialed = Event::Dialed {
                    from: place,
                    run,
                    address,
                    expected: node,
                    kind,
                };
                self.after(delay, dialed);
            }
            Effect::Close(node) => self.close(place, node),
            Effect::Reconnect { node, kind } => {
                self.sometimes.hit("connection made anew");
                self.close_one(place, node, kind);
            }
            Effect::Store(effect) => self.queue_store(place, effect),
            Effect::Read {
                ticket,
                partition,
                rows,
            } => {
                self.queue_read(place, ticket, partition, rows);
            }
            Effect::Snapshot(effect) => self.queue_snapshot(place, effect),
            Effect::Runner(effect) => self.run_turn(place, effect),
            Effect::App(effect) => {
                self.violate(format!("node {place} has no application: {effect:?}"))
            }
            Effect::Subscriber(id, told) => self.subscriber_told(place, id, told),
            Effect::Reply { ticket, outcome } => self.replied(place, ticket, outcome),
            Effect::AdminReply { ticket, answer } => {
                if let ghostlight_core::admin::AdminAnswer::Refused { detail, .. } = &answer {
                    self.trace
                        .line(self.now, format_args!("node {place} refuses: {detail}"));
                }
                self.admin.push((place, ticket.0, answer));
            }
            Effect::Introduce {
                record,
                descriptor,
                removed,
            } => {
                if let Some(process) = &mut self.nodes[place].process {
                    process.introduced = Introduced {
                        record,
                        descriptor,
                        removed,
                    };
                }
            }
            // Clients there ask all the same, and are refused one by one.
            Effect::Overrun { .. } => {}
            Effect::Event(event) => self.told(place, event),
            Effect::Halt(reason) => self.halted(place, &reason),
        }
    }

    fn told(&mut self, place: Place, event: CoreEvent) {
        self.trace
            .line(self.now, format_args!("node {place}: {event:?}"));
        let run = self.nodes[place].run;
        match event {
            CoreEvent::Opened { partition, term } => {
                self.sometimes.hit("leadership opened");
                if let Err(what) = self.checks.opened(partition, term, place, run) {
                    self.violate(what);
                }
            }
            CoreEvent::Closed { .. } => self.sometimes.hit("leadership closed"),
            CoreEvent::Condemned { .. } => self.sometimes.hit("replica condemned while running"),
            // No disk here changes a row without a word: damage is found by checksums.
            CoreEvent::StatesDiffer { partition, why } => {
                self.violate(format!("{partition}: {why}"));
            }
            CoreEvent::MemberDown(_) => self.sometimes.hit("member declared down"),
            CoreEvent::MemberSuspect(_) => self.sometimes.hit("member suspected"),
            CoreEvent::MemberUp(_)
            | CoreEvent::Joined(_)
            | CoreEvent::SeedsSilent(_)
            | CoreEvent::Said(_) => {}
        }
    }

    fn halted(&mut self, place: Place, reason: &HaltReason) {
        self.trace
            .line(self.now, format_args!("node {place} halts: {reason:?}"));
        match reason {
            HaltReason::ShutDown => {
                self.sometimes.hit("orderly shutdown");
                self.crash(place, CrashKind::Process);
                self.restart_later(place);
            }
            HaltReason::Left => {
                self.sometimes.hit("node left for good");
                self.crash(place, CrashKind::Process);
                self.nodes[place].fate = Fate::Gone;
            }
            HaltReason::Refused { code, detail } => {
                if self.copy_ends(place, *code) {
                    return;
                }
                if self.has_gone_back(place, *code) {
                    return;
                }
                if let Some(why) = self.rightly_refused(place, *code) {
                    self.sometimes.hit(why);
                    return self.abandon(place, CrashKind::Process);
                }
                self.violate(format!("node {place} stopped by itself: {detail}"));
            }
        }
    }

    /// Why a node of this place has to end, if it has to.
    fn rightly_refused(&self, place: Place, code: Code) -> Option<&'static str> {
        let id = self.id_of(place)?;
        let mut others = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let removed = others.any(|other| other.introduced.removed.contains(&id));
        if code == Code::Decommissioned && removed {
            Some("removed node ended")
        } else if code == Code::Yielded && self.foreign.contains(&place) {
            Some("lone founder gave way")
        } else {
            None
        }
    }

    /// The delay of a frame.
    pub(crate) fn delay(&mut self) -> u64 {
        let (low, high) = self.params.net.delay;
        let (p, longest) = self.params.net.spike;
        if self.phase == Phase::Faults && self.dice.net.chance(p) {
            return self.dice.net.log_uniform(high, longest.max(high + 1));
        }
        self.dice.net.between(low, high)
    }

    fn send(&mut self, place: Place, to: NodeId, lane: Lane, frame: Frame) {
        if let Frame::Survival(survival) = &frame
            && self.answer_asker(place, to, survival)
        {
            return;
        }
        let target = self.reached(place, to, kind_of(lane));
        let Some(other) = target else {
            if let Some(not_sent) = Input::not_sent(to, &frame) {
                match &not_sent {
                    Input::CallNotSent { .. } => self.sometimes.hit("call not sent"),
                    Input::DeliveryNotSent { .. } => self.sometimes.hit("delivery not sent"),
                    _ => {}
                }
                self.arrive(place, not_sent);
            }
            return;
        };
        self.check_topic_frame(place, other, &frame);
        self.trace.detail(self.now, || {
            format!("  {place} -> {other} {lane:?} {frame:?}")
        });
        match self.wire.pass(&frame) {
            Ok(frame) => {
                self.trace.mix(self.now, b'>', place, self.wire.bytes());
                if let Some(listener) = &mut self.listener {
                    listener(Spoken::Frame(self.wire.bytes()));
                }
                match &frame {
                    Frame::Control(_) | Frame::Raft(_) => self.checks.spoke(place),
                    Frame::OutboxPush(push) => self.checks.topics.pushed(push),
                    _ => {}
                }
                self.overhear(place, other, &frame);
                let key = key(place, other, kind_of(lane));
                self.send_over(key, place, other, lane, frame);
            }
            Err(what) => self.violate(format!("node {place} to {to}, {lane:?}: {what}")),
        }
    }

    /// Where a node is, as a place is connected to it: copies of its directory may run elsewhere.
    fn reached(&self, from: Place, node: NodeId, kind: ConnectionKind) -> Option<Place> {
        let mut places = 0..self.nodes.len();
        places.find(|other| {
            self.nodes[*other].last_id == Some(node)
                && *other != from
                && self.net.is_up(&key(from, *other, kind), from)
        })
    }

    pub(crate) fn send_over(
        &mut self,
        key: ConnKey,
        from: Place,
        to: Place,
        lane: Lane,
        frame: Frame,
    ) {
        let delay = self.delay();
        let arrives = self.now + delay;
        let passes = self.net.moves(&key, from, to);
        let Some(sender) = self.nodes[from].last_id else {
            return;
        };
        let Some(conn) = self.net.conns.get_mut(&key) else {
            return;
        };
        if !passes {
            conn.held.push((from, lane, frame));
            return;
        }
        let latest = conn.latest.entry((from, lane)).or_default();
        *latest = arrives.max(*latest + 1);
        let (at, epoch) = (*latest, conn.epoch);
        let unreliable = self.phase == Phase::Faults && may_come_twice(&frame);
        if unreliable && self.dice.net.chance(self.params.net.duplicate) {
            self.sometimes.hit("frame duplicated");
            let again = at + self.dice.net.between(0, 50 * MS);
            let frame = Box::new(frame.clone());
            self.at(
                again,
                Event::Frame {
                    key,
                    epoch,
                    from,
                    sender,
                    lane,
                    frame,
                },
            );
        }
        if unreliable && self.dice.net.chance(self.params.net.replay) {
            self.sometimes.hit("frame replayed late");
            let later = at + self.dice.net.log_uniform(100 * MS, 10 * SEC);
            self.at(
                later,
                Event::Replay {
                    to,
                    receiver: self.nodes[to].last_id,
                    sender,
                    frame: Box::new(frame.clone()),
                },
            );
        }
        let frame = Box::new(frame);
        self.at(
            at,
            Event::Frame {
                key,
                epoch,
                from,
                sender,
                lane,
                frame,
            },
        );
    }

    pub(crate) fn frame_arrives(
        &mut self,
        key: ConnKey,
        epoch: u64,
        from: Place,
        sender: NodeId,
        lane: Lane,
        frame: Frame,
    ) {
        let to = if key.0 == from { key.1 } else { key.0 };
        let passes = self.net.moves(&key, from, to);
        let Some(conn) = self.net.conns.get_mut(&key) else {
            return;
        };
        if conn.epoch != epoch || !conn.up[side(&key, to)] {
            return;
        }
        if !passes {
            conn.held.push((from, lane, frame));
            return;
        }
        self.check_clusters(from, to);
        self.arrive(
            to,
            Input::Frame {
                from: sender,
                frame,
            },
        );
    }

    fn check_clusters(&mut self, from: Place, to: Place) {
        let descriptor = |place: Place| {
            let process = self.nodes[place].process.as_ref();
            process.and_then(|process| process.introduced.descriptor.as_ref())
        };
        let checked = invariants::clusters((from, descriptor(from)), (to, descriptor(to)));
        if let Err(what) = checked {
            self.violate(what);
        }
    }

    fn gossip(&mut self, place: Place, to: NodeId, data: Bytes) {
        let lost = self.phase == Phase::Faults && self.dice.net.chance(self.params.net.gossip_loss);
        let Some(other) = self.reached(place, to, ConnectionKind::Control) else {
            return;
        };
        let key = key(place, other, ConnectionKind::Control);
        if lost || !self.net.passes(place, other) {
            return;
        }
        let epoch = self.net.conns[&key].epoch;
        if let Some(listener) = &mut self.listener {
            listener(Spoken::Datagram(&data));
        }
        let delay = self.delay();
        self.after(
            delay,
            Event::Gossip {
                key,
                epoch,
                from: place,
                data,
            },
        );
    }

    pub(crate) fn gossip_arrives(&mut self, key: ConnKey, epoch: u64, from: Place, data: Bytes) {
        let to = if key.0 == from { key.1 } else { key.0 };
        let Some(conn) = self.net.conns.get(&key) else {
            return;
        };
        if conn.epoch == epoch && conn.up[side(&key, to)] && self.net.passes(from, to) {
            self.arrive(to, Input::Gossip(data));
        }
    }

    fn close(&mut self, place: Place, node: NodeId) {
        for kind in KINDS {
            self.close_one(place, node, kind);
        }
    }

    fn close_one(&mut self, place: Place, node: NodeId, kind: ConnectionKind) {
        let Some(other) = self.reached(place, node, kind) else {
            return;
        };
        let key = key(place, other, kind);
        let Some(epoch) = self.net.conns.get(&key).map(|conn| conn.epoch) else {
            return;
        };
        self.side_down(key, epoch, place);
        let delay = self.delay();
        self.after(
            delay,
            Event::SideDown {
                key,
                epoch,
                place: other,
            },
        );
    }

    /// Runs a turn on; what it asks, and how it ends, comes back in its own order.
    fn run_turn(&mut self, place: Place, effect: RunnerEffect) {
        let now = self.now;
        let run = self.nodes[place].run;
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let dropped = match &effect {
            RunnerEffect::Drop(activation) | RunnerEffect::Depose(activation) => Some(*activation),
            RunnerEffect::Run(_)
            | RunnerEffect::Enter(_)
            | RunnerEffect::Tell { .. }
            | RunnerEffect::Reset(_) => None,
        };
        let instant = process.instant(now);
        let mut inputs = Vec::new();
        process.runner.perform(instant, effect, &mut inputs);
        if let Some(activation) = dropped {
            process.runner_latest.remove(&activation);
        }
        for input in inputs {
            let turn = match &input {
                RunnerInput::Asked { turn, .. } | RunnerInput::Ended { turn, .. } => *turn,
            };
            let (low, high) = self.params.work.turn;
            let delay = self.dice.node.log_uniform(low, high);
            let Some(process) = &mut self.nodes[place].process else {
                return;
            };
            let latest = process.runner_latest.entry(turn.activation).or_default();
            *latest = (now + delay).max(*latest + 1);
            let at = *latest;
            self.at(
                at,
                Event::Arrive {
                    place,
                    run,
                    input: Box::new(Input::Runner(input)),
                },
            );
        }
    }
}

/// Whether the network may deliver a frame twice. Not the first attempt of a call: that it is the
/// first is a promise of the lane, on which an application's refusal is sent without a record.
fn may_come_twice(frame: &Frame) -> bool {
    match frame {
        Frame::Call(request) => request.attempt > 1,
        _ => true,
    }
}
