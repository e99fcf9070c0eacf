//! A member that lies: it has the cluster's key, its frames are well formed, and what they say is
//! not so.
//!
//! It says again, as its own, what others said once; it beats as the peer of another node, in terms
//! and with commits of its own, also of partitions that are not there; it tells any mark, clock,
//! fitness and share of itself, and long lists. No node may panic or stop, and nothing acknowledged
//! may be lost.
//!
//! Absent, because a member is believed when it says so: that a replica is out of its group, that a
//! node was removed, that a node once told it a higher mark, where a partition is led, that a copy
//! be begun, and what a leader of a fresh peer id has in its log. See `docs/reliability.md`.

use std::collections::VecDeque;

use bytes::Bytes;
use ghostlight_core::io::Input;
use ghostlight_core::replica::peek;
use ghostlight_protocol::ids::{PartitionId, PeerId};
use ghostlight_protocol::wire::frame::{CondemnedReplica, Control, Frame, Heartbeat, RaftMessages};

use super::{Event, World};
use crate::dice::{MS, US};
use crate::net::Place;

/// Frames that a liar remembers.
const HEARD_MAX: usize = 200;
/// Heartbeats of one long list.
const LIST_MAX: usize = 2_000;

/// Who lies, and what it could repeat.
#[derive(Debug)]
pub(crate) struct Liar {
    place: Place,
    /// And to whom it was said.
    heard: VecDeque<(Place, Frame)>,
    told: u64,
}

impl World {
    /// From now on the node of a place lies.
    pub fn misbehave(&mut self, place: Place) {
        self.liar = Some(Liar {
            place,
            heard: VecDeque::new(),
            told: 0,
        });
        self.after(MS, Event::Lie);
    }

    /// It follows the rules again; how many lies it told.
    pub fn behave(&mut self) -> u64 {
        self.liar.take().map_or(0, |liar| liar.told)
    }

    /// A frame that somebody sends to somebody. What the liar says as itself it is believed.
    pub(crate) fn overhear(&mut self, from: Place, to: Place, frame: &Frame) {
        let Some(liar) = self.liar.as_mut().filter(|liar| liar.place != from) else {
            return;
        };
        let wanted = match frame {
            Frame::Control(control) => !control.heartbeats.is_empty(),
            // The first attempt of a call is a promise of its lane: repeated, it is a later one.
            Frame::Call(request) => request.attempt > 1,
            Frame::Raft(_)
            | Frame::Answer(_)
            | Frame::OutboxPush(_)
            | Frame::OutboxMark(_)
            | Frame::SnapshotChunk(_)
            | Frame::SnapshotAck(_)
            | Frame::AskRows(_)
            | Frame::AskReplica(_)
            | Frame::Hangup(_) => true,
            _ => false,
        };
        if wanted {
            if liar.heard.len() >= HEARD_MAX {
                liar.heard.pop_front();
            }
            liar.heard.push_back((to, frame.clone()));
        }
    }

    pub(crate) fn lie(&mut self) {
        if self.liar.is_none() {
            return;
        }
        let next = self.dice.fault.log_uniform(200 * US, 20 * MS);
        self.after(next, Event::Lie);
        let Some(liar) = self.liar.as_ref().filter(|liar| !liar.heard.is_empty()) else {
            return;
        };
        // To whom it was said: a node that has no copy of a group would begin one.
        let which = self.dice.fault.index(liar.heard.len());
        let place = liar.place;
        let (to, frame) = liar.heard[which].clone();
        let Some(from) = self.id_of(place).filter(|_| to != place) else {
            return;
        };
        let Some(mut frame) = self.a_lie(to, frame) else {
            return;
        };
        // Of its own process: with the name of another it would only have itself taken for a copy.
        let process = self.nodes[place].process.as_ref();
        let own = process.map_or(0, |process| process.introduced.record.nonce);
        match &mut frame {
            Frame::Control(control) => control.nonce = own,
            Frame::Raft(raft) => raft.nonce = own,
            _ => {}
        }
        match self.wire.pass(&frame) {
            Ok(frame) => self.arrive(to, Input::Frame { from, frame }),
            Err(what) => return self.violate(format!("a lie must be well formed: {what}")),
        }
        if let Some(liar) = &mut self.liar {
            liar.told += 1;
        }
    }

    fn a_lie(&mut self, to: Place, frame: Frame) -> Option<Frame> {
        let kind = self.dice.fault.index(5);
        Some(match (kind, frame) {
            (0, frame) => without_trusted_words(frame),
            (1, Frame::Control(control)) => {
                let heartbeats = control.heartbeats.into_iter();
                let mut heartbeats: Vec<Heartbeat> =
                    heartbeats.map(|h| self.twisted(to, h)).collect();
                heartbeats.retain(|h| self.is_of_another(to, h.partition, PeerId(h.from)));
                Frame::Control(Control {
                    heartbeats,
                    ..Control::default()
                })
            }
            (2, Frame::Control(control)) => {
                let one = control.heartbeats.into_iter().next()?;
                let lies = [self.twisted(to, one.clone()), self.twisted(to, one)];
                let long =
                    |lie: &Heartbeat| match self.is_of_another(to, lie.partition, PeerId(lie.from))
                    {
                        true => vec![lie.clone(); LIST_MAX],
                        false => Vec::new(),
                    };
                let (answers, heartbeats) = (long(&lies[0]), long(&lies[1]));
                Frame::Control(Control {
                    heartbeats,
                    answers,
                    ..Control::default()
                })
            }
            (_, Frame::Raft(mut raft)) => {
                for message in &mut raft.messages {
                    message.partition = self.any_partition(to, message.partition);
                }
                raft.messages.retain(|message| {
                    let peeked = peek(&message.message);
                    peeked.is_none_or(|peek| self.is_of_another(to, message.partition, peek.from))
                });
                Frame::Raft(RaftMessages {
                    mark: self.dice.fault.any() >> 8,
                    ..raft
                })
            }
            _ => Frame::Control(self.about_itself()),
        })
    }

    /// A heartbeat of somebody, in another term, with another commit, of another partition.
    fn twisted(&mut self, to: Place, heartbeat: Heartbeat) -> Heartbeat {
        let dice = &mut self.dice.fault;
        let term = heartbeat.term + *dice.pick(&[0, 1, 7, 1_000]);
        let commit = heartbeat.commit + *dice.pick(&[0, 1, 100, 1 << 40]);
        Heartbeat {
            term,
            commit,
            partition: self.any_partition(to, heartbeat.partition),
            context: Bytes::from(self.dice.fault.any().to_be_bytes().to_vec()),
            ..heartbeat
        }
    }

    /// Whether `to` knows that a peer is another node's: what a liar says as itself, or as one that
    /// nobody has heard of, or of a partition that `to` has no copy of, is believed.
    fn is_of_another(&self, to: Place, partition: u32, peer: PeerId) -> bool {
        if partition >= u32::from(self.params.partitions) {
            return true;
        }
        let liar = self.liar.as_ref().and_then(|liar| self.id_of(liar.place));
        let process = self.nodes[to].process.iter();
        let mut replicas = process.flat_map(|process| process.core.replicas());
        let replica = replicas.find(|replica| u32::from(replica.partition.0) == partition);
        let home = replica.and_then(|replica| replica.membership.node_of(peer));
        home.is_some() && home != liar
    }

    /// Another one that `to` has a copy of, one that is not there, or the same.
    fn any_partition(&mut self, to: Place, partition: u32) -> u32 {
        let copies: Vec<PartitionId> = self.replicas_at(to).into_keys().collect();
        let dice = &mut self.dice.fault;
        match dice.index(4) {
            0 if !copies.is_empty() => u32::from(dice.pick(&copies).0),
            1 => *dice.pick(&[4_096, 65_535, 65_536, u32::MAX]),
            _ => partition,
        }
    }

    /// What a node may say of itself: none of it is so.
    fn about_itself(&mut self) -> Control {
        let dice = &mut self.dice.fault;
        let condemned = CondemnedReplica {
            partition: dice.between(0, 70_000) as u32,
            next_peer: dice.between(0, 40),
        };
        Control {
            wall_ms: dice.any() >> dice.between(1, 40),
            condemned: vec![condemned; dice.index(LIST_MAX)],
            replicas: dice.any() as u32,
            leaders: dice.any() as u32,
            fitness: dice.between(0, 5) as i32,
            mark: dice.any() >> dice.between(1, 40),
            ..Control::default()
        }
    }
}

/// A repeated frame, less what is believed of every member.
fn without_trusted_words(frame: Frame) -> Frame {
    match frame {
        Frame::Control(control) => Frame::Control(Control {
            leaderships: Vec::new(),
            removed: Vec::new(),
            ..control
        }),
        other => other,
    }
}
