//! Connections: dialed, judged, cut, timed out.

use ghostlight_core::io::{Input, Refused, Refuser};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::hash::HASH_VERSION;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::hello::{
    ConnectionKind, Hello, HelloRefusal, Judge, PROTOCOL_VERSION, Removed,
};

use super::{Event, World};
use crate::net::{Conn, ConnKey, KINDS, Place, key, side};
use crate::process::Process;

impl World {
    pub(crate) fn dialed(
        &mut self,
        from: Place,
        run: u64,
        address: &str,
        expected: Option<NodeId>,
        kind: ConnectionKind,
    ) {
        if self.nodes[from].run != run || self.nodes[from].process.is_none() {
            return;
        }
        let Some(to) = self
            .nodes
            .iter()
            .position(|n| n.address == address && n.process.is_some())
        else {
            return;
        };
        let open = self.net.passes(from, to) && self.net.passes(to, from);
        let still = self.net.frozen.contains(&to) || self.net.frozen.contains(&from);
        if from == to || !open || still {
            return;
        }
        let (Some(here), Some(there)) = (&self.nodes[from].process, &self.nodes[to].process) else {
            return;
        };
        // As the shell does it: the dialed side judges first, and tells.
        let refused = judge(there, here, expected, kind)
            .map(|refusal| (Refuser::Peer, refusal))
            .or_else(|| Some((Refuser::Us, judge(here, there, None, kind)?)));
        if let Some((by, refusal)) = refused {
            return self.refused(from, to, by, refusal);
        }
        let key = key(from, to, kind);
        let conn = self.net.conns.entry(key).or_default();
        if conn.up == [true, true] {
            return;
        }
        if conn.up != [false, false] {
            self.sometimes.hit("connection replaced at one side");
        }
        self.connect(key, from, to);
    }

    /// Both sides have a new connection. A side that had one loses what was on its way on it, and
    /// hears of the new one alone: that is all that a transport tells about a replaced connection.
    /// Only one with the same node is replaced: that with another, which ran there before, ends by
    /// itself.
    fn connect(&mut self, key: ConnKey, from: Place, to: Place) {
        self.net.stuck.remove(&key);
        for (place, other) in [(from, to), (to, from)] {
            self.end_connection_with_another(key, place, other);
            self.replace_elsewhere(key, place, other);
        }
        let ids = [self.id_of(key.1), self.id_of(key.0)];
        let conn = self.net.conns.entry(key).or_default();
        conn.met = ids;
        conn.epoch += 1;
        conn.up = [true, true];
        conn.latest.clear();
        conn.held.clear();
        self.introduce(from, to, key.2);
        self.introduce(to, from, key.2);
    }

    fn end_connection_with_another(&mut self, key: ConnKey, place: Place, other: Place) {
        let new = self.id_of(other);
        let Some(conn) = self.net.conns.get(&key) else {
            return;
        };
        if conn.met[side(&key, place)] != new {
            let epoch = conn.epoch;
            self.side_down(key, epoch, place);
        }
    }

    /// A node has one connection of each kind with another, wherever that runs: one with the same
    /// node at another place, which runs from a copy of its directory or did, is replaced. The side
    /// that replaces it hears nothing of its end; the other one does.
    fn replace_elsewhere(&mut self, new: ConnKey, place: Place, other: Place) {
        let node = self.id_of(other);
        let replaced = |(key, conn): (&ConnKey, &Conn)| {
            let ends_here = key.0 == place || key.1 == place;
            let same = ends_here && key.2 == new.2 && conn.met[side(key, place)] == node;
            (same && *key != new && conn.up[side(key, place)]).then_some((*key, conn.epoch))
        };
        let replaced: Vec<_> = self.net.conns.iter().filter_map(replaced).collect();
        for (key, epoch) in replaced {
            self.net.side_down(&key, epoch, place);
            let place = if key.0 == place { key.1 } else { key.0 };
            let delay = self.delay();
            self.after(delay, Event::SideDown { key, epoch, place });
        }
    }

    /// Replaces one connection by a new one, if both sides have it.
    pub fn replace_connection(&mut self, one: Place, other: Place, kind: ConnectionKind) {
        let key = key(one, other, kind);
        let conn = self.net.conns.get(&key);
        let open = self.net.passes(one, other) && self.net.passes(other, one);
        if open && conn.is_some_and(|conn| conn.up == [true, true]) {
            self.connect(key, one, other);
        }
    }

    /// A dial ended in a refusal by the dialing side or its peer; both learn of it.
    fn refused(&mut self, from: Place, to: Place, by: Refuser, refusal: HelloRefusal) {
        let code = refusal.code();
        if code != Some(Code::UnknownNode) {
            self.sometimes.hit("hello refused");
        }
        if code == Some(Code::ProtocolMismatch) {
            self.sometimes.hit("another version refused");
        }
        let detail = refusal.detail;
        self.trace.line(
            self.now,
            format_args!("{from} and {to} refuse each other: {detail}"),
        );
        let other = |by| match by {
            Refuser::Us => Refuser::Peer,
            Refuser::Peer => Refuser::Us,
        };
        for (place, peer, by) in [(from, to, by), (to, from, other(by))] {
            // Who is refused after it has answered sees a closed connection, and no reason.
            if place == to && by == Refuser::Peer {
                continue;
            }
            let process = self.nodes[peer].process.as_ref();
            let refused = Refused {
                by,
                code,
                detail: detail.clone(),
                cluster: process.and_then(|p| p.introduced.descriptor.clone()),
            };
            self.arrive(place, Input::Refused(refused));
        }
    }

    /// Tells `place` that `other` is connected.
    fn introduce(&mut self, place: Place, other: Place, kind: ConnectionKind) {
        let Some(peer) = self.nodes[other]
            .process
            .as_ref()
            .map(|p| p.introduced.clone())
        else {
            return;
        };
        let run = peer.record.run();
        if let (Some(process), Some(node)) = (&mut self.nodes[place].process, peer.record.id()) {
            process.met.insert(node, run);
        }
        self.arrive(
            place,
            Input::Connected {
                peer: peer.record,
                descriptor: peer.descriptor,
                kind,
            },
        );
    }

    /// One side learns that a connection is gone.
    pub(crate) fn side_down(&mut self, key: ConnKey, epoch: u64, place: Place) {
        if let Some(node) = self.net.side_down(&key, epoch, place) {
            self.arrive(place, Input::Disconnected { node, kind: key.2 });
        }
    }

    /// A direction was cut for as long as the idle timeout: the receiver gives the connection up.
    pub(crate) fn idle(&mut self, key: ConnKey, epoch: u64, at: Place, cut: u64) {
        let other = if key.0 == at { key.1 } else { key.0 };
        if self.net.cut.get(&(other, at)) != Some(&cut) {
            return;
        }
        self.side_down(key, epoch, at);
        let (low, high) = self.params.net.idle;
        let delay = if self.net.passes(at, other) && self.dice.net.chance(0.5) {
            0
        } else {
            self.dice.net.between(low, high)
        };
        self.after(
            delay,
            Event::SideDown {
                key,
                epoch,
                place: other,
            },
        );
    }

    /// Cuts a direction.
    pub fn cut(&mut self, from: Place, to: Place) {
        let cut = self.net.cut(from, to);
        for kind in KINDS {
            let key = key(from, to, kind);
            let Some(conn) = self.net.conns.get(&key) else {
                continue;
            };
            let epoch = conn.epoch;
            if conn.up[side(&key, to)] {
                let (low, high) = self.params.net.idle;
                let delay = self.dice.net.between(low, high);
                self.after(
                    delay,
                    Event::Idle {
                        key,
                        epoch,
                        at: to,
                        cut,
                    },
                );
            }
        }
    }

    /// Heals all cuts: what waited arrives.
    pub fn heal(&mut self) {
        self.net.cut.clear();
        self.net.stuck.clear();
        let mut waiting = Vec::new();
        for (key, conn) in &mut self.net.conns {
            for (from, lane, frame) in std::mem::take(&mut conn.held) {
                waiting.push((*key, from, lane, frame));
            }
        }
        for (key, from, lane, frame) in waiting {
            let to = if key.0 == from { key.1 } else { key.0 };
            self.send_over(key, from, to, lane, frame);
        }
    }

    /// Heals the cuts of one place: what waited arrives.
    pub(crate) fn reconnect(&mut self, place: Place) {
        self.net
            .cut
            .retain(|(from, to), _| *from != place && *to != place);
        let touching = self.net.conns.iter_mut();
        let touching = touching.filter(|(key, _)| key.0 == place || key.1 == place);
        let mut waiting = Vec::new();
        for (key, conn) in touching {
            for (from, lane, frame) in std::mem::take(&mut conn.held) {
                waiting.push((*key, from, lane, frame));
            }
        }
        for (key, from, lane, frame) in waiting {
            let to = if key.0 == from { key.1 } else { key.0 };
            self.send_over(key, from, to, lane, frame);
        }
    }

    /// Breaks one connection: both sides learn it now.
    pub fn break_connection(&mut self, one: Place, other: Place, kind: ConnectionKind) {
        let key = key(one, other, kind);
        let Some(epoch) = self.net.conns.get(&key).map(|conn| conn.epoch) else {
            return;
        };
        self.side_down(key, epoch, one);
        self.side_down(key, epoch, other);
    }
}

/// Why `judging` refuses `judged`, who expects to meet a certain node there.
fn judge(
    judging: &Process,
    judged: &Process,
    expected: Option<NodeId>,
    kind: ConnectionKind,
) -> Option<HelloRefusal> {
    let removed = if judging.introduced.removed.contains(&judged.id) {
        Removed::Yes
    } else {
        Removed::No
    };
    let judge = Judge {
        ours: &judging.introduced.record,
        cluster: judging.introduced.descriptor.as_ref(),
        known: judging.met.get(&judged.id).copied(),
        removed,
    };
    let hello = Hello {
        // This program judges by the version that it was built with: the other one's is told from
        // there.
        protocol: match judging.build == judged.build {
            true => PROTOCOL_VERSION,
            false => PROTOCOL_VERSION + 1,
        },
        cluster: judged.introduced.descriptor.clone(),
        node: Some(judged.introduced.record.clone()),
        connection: kind as i32,
        refusal: None,
        expected: expected.map_or_else(Vec::new, |node| node.to_bytes().to_vec()),
        partitions: 0,
        hash_version: HASH_VERSION,
    };
    judge.judge(&hello).err()
}
