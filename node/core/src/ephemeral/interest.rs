//! Which nodes want which ephemeral topics.
//!
//! Each node numbers the changes of what it wants, and tells each to every node that it has a
//! control connection to; a new connection begins with the whole. The receiver says which version
//! it knows. One that misses a version asks for the whole; one that is not heard to know the newest
//! within [`REPAIR_AFTER`] is told the whole again. So lost frames, broken connections and restarts
//! all heal the same way, and who subscribes can wait until everybody knows
//! ([`Interest::is_known`]). What a node wanted counts until it says otherwise, comes back as
//! another run, or has been away for [`FORGET_AFTER`]: a connection that breaks for a moment
//! changes nothing. Absent: who is a member, and whether an event can be sent to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::ephemeral::{
    InterestChange, InterestFrame, InterestSaid, InterestVersion, WantedTopic, WholeInterest,
};

use super::TopicKey;

/// Topics that one node may want; more are refused to its subscribers, and not taken from a peer.
pub const WANTED_TOPICS_MAX: usize = 65_536;
/// A peer that does not say for so long that it knows the newest version is told the whole.
pub const REPAIR_AFTER: Duration = Duration::from_secs(1);
/// A node without a connection for so long wants nothing any more.
pub const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Bytes of topics in one frame.
const PART_BYTES: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub struct Interest {
    run: u64,
    version: u64,
    own: BTreeMap<TopicKey, Wants>,
    peers: BTreeMap<NodeId, Peer>,
    /// The same as what the peers say, by topic.
    wanted: BTreeMap<TopicKey, BTreeMap<NodeId, Wants>>,
}

/// How much a node wants a topic.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wants {
    /// Subscribers there; 0: not at all.
    pub subscribers: u32,
    /// Events that their rings have let go.
    pub dropped: u64,
}

/// What happens to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// What this node wants of a topic, from now on.
    Wanted {
        /// The topic.
        topic: TopicKey,
        /// How much.
        wants: Wants,
    },
    /// A control connection is up.
    Connected {
        /// To this node.
        node: NodeId,
        /// Its run.
        run: u64,
    },
    /// It is gone.
    Disconnected(NodeId),
    /// A peer speaks.
    Said {
        /// Which.
        from: NodeId,
        /// What it says.
        frame: InterestFrame,
    },
    /// Time has passed; a second apart is often enough.
    Tick,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Say this to a peer.
    Send {
        /// Which.
        to: NodeId,
        /// What.
        frame: InterestFrame,
    },
    /// Other nodes want a topic than before.
    Changed(TopicKey),
    /// A node wants a topic that it did not want before; `Changed` follows.
    Newcomer {
        /// Which node.
        node: NodeId,
        /// Which topic.
        topic: TopicKey,
    },
}

#[derive(Debug)]
struct Peer {
    wire: Wire,
    run: u64,
    /// Its version that is known here; 0: none.
    version: u64,
    topics: BTreeSet<TopicKey>,
    arriving: Option<Arriving>,
    /// Our version that it has said to know.
    known: u64,
    /// Since when it has been behind, or was last told the whole.
    behind: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wire {
    Up,
    Down { since: Instant },
}

/// A whole of which parts are here.
#[derive(Debug)]
struct Arriving {
    version: u64,
    next: u32,
    parts: u32,
    topics: BTreeMap<TopicKey, Wants>,
}

impl Interest {
    /// Of a node that wants nothing yet. `run` is one that no earlier process of the node had.
    #[must_use]
    pub fn new(run: u64) -> Self {
        Self {
            run,
            version: 0,
            own: BTreeMap::new(),
            peers: BTreeMap::new(),
            wanted: BTreeMap::new(),
        }
    }

    /// Which run this node is in, once that is known: before it speaks to anybody.
    pub fn begin(&mut self, run: u64) {
        self.run = run;
    }

    /// Feeds one input; what is to be done is pushed to `out`, in order.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Wanted { topic, wants } => self.want(now, topic, wants, out),
            Input::Connected { node, run } => self.connected(now, node, run, out),
            Input::Disconnected(node) => {
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.wire = Wire::Down { since: now };
                    peer.arriving = None;
                }
            }
            Input::Said { from, frame } => self.said(now, from, frame, out),
            Input::Tick => self.tick(now, out),
        }
    }

    /// Version of what this node wants: raised with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether every connected node has said that it knows this version.
    #[must_use]
    pub fn is_known(&self, version: u64) -> bool {
        let mut up = self.peers.values().filter(|peer| peer.wire == Wire::Up);
        up.all(|peer| peer.known >= version)
    }

    /// Whether this node may want the topic, which it may already do.
    #[must_use]
    pub fn has_room(&self, topic: &TopicKey) -> bool {
        self.own.len() < WANTED_TOPICS_MAX || self.own.contains_key(topic)
    }

    /// Other nodes that want a topic, in the order of their ids.
    pub fn wanting(&self, topic: &TopicKey) -> impl Iterator<Item = (NodeId, Wants)> + '_ {
        let nodes = self.wanted.get(topic).into_iter().flatten();
        nodes.map(|(node, wants)| (*node, *wants))
    }

    /// Topics that other nodes want.
    pub fn topics(&self) -> impl Iterator<Item = &TopicKey> {
        self.wanted.keys()
    }

    fn want(&mut self, now: Instant, topic: TopicKey, wants: Wants, out: &mut Vec<Output>) {
        let before = self.own.get(&topic).copied().unwrap_or_default();
        if before == wants {
            return;
        }
        match wants.subscribers {
            0 => drop(self.own.remove(&topic)),
            _ => drop(self.own.insert(topic.clone(), wants)),
        }
        self.version += 1;
        let change = InterestSaid::Change(InterestChange {
            version: self.version,
            topic: Some(said(&topic, wants)),
        });
        for (node, peer) in &mut self.peers {
            if peer.wire != Wire::Up {
                continue;
            }
            if peer.known + 1 == self.version {
                peer.behind = now;
            }
            out.push(send(self.run, *node, change.clone()));
        }
    }

    fn connected(&mut self, now: Instant, node: NodeId, run: u64, out: &mut Vec<Output>) {
        if self.peers.get(&node).is_some_and(|peer| peer.run != run) {
            self.forget(node, out);
        }
        let peer = self.peers.entry(node).or_insert_with(|| Peer {
            wire: Wire::Up,
            run,
            version: 0,
            topics: BTreeSet::new(),
            arriving: None,
            known: 0,
            behind: now,
        });
        (peer.wire, peer.known, peer.arriving) = (Wire::Up, 0, None);
        self.tell_whole(now, node, out);
    }

    fn said(&mut self, now: Instant, from: NodeId, frame: InterestFrame, out: &mut Vec<Output>) {
        let (run, version) = (self.run, self.version);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        // What an earlier process of the peer said may still be on its way.
        if peer.run != frame.run || peer.wire != Wire::Up {
            return;
        }
        match frame.said {
            Some(InterestSaid::Whole(part)) => self.part(from, part, out),
            Some(InterestSaid::Change(change)) => self.change(from, change, out),
            Some(InterestSaid::Known(known)) if known.run == run => {
                let known = known.version.min(version);
                if known > peer.known {
                    // It hears what it is told, however much that is.
                    (peer.known, peer.behind) = (known, now);
                }
            }
            Some(InterestSaid::Missed(_)) => {
                // One lost frame is missed by all behind it, which ask once for each.
                if now.since(peer.behind) >= REPAIR_AFTER / 10 {
                    self.tell_whole(now, from, out);
                }
            }
            Some(InterestSaid::Known(_)) | None => {}
        }
    }

    fn part(&mut self, from: NodeId, part: WholeInterest, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if part.version < peer.version {
            // What a connection before this one still had.
            return self.answer(from, Answer::Known, out);
        }
        if part.part == 0 {
            peer.arriving = Some(Arriving {
                version: part.version,
                next: 0,
                parts: part.parts,
                topics: BTreeMap::new(),
            });
        }
        let next = peer.arriving.as_mut().filter(|arriving| {
            (arriving.version, arriving.next, arriving.parts)
                == (part.version, part.part, part.parts)
        });
        let Some(arriving) = next else {
            peer.arriving = None;
            return self.answer(from, Answer::Missed, out);
        };
        arriving.next += 1;
        for topic in part.topics {
            let Some((key, wants)) = heard(topic) else {
                continue;
            };
            if wants.subscribers > 0 && arriving.topics.len() < WANTED_TOPICS_MAX {
                arriving.topics.insert(key, wants);
            }
        }
        if arriving.next < arriving.parts {
            return;
        }
        let Some(whole) = peer.arriving.take() else {
            return;
        };
        peer.version = whole.version;
        let gone: Vec<TopicKey> = peer
            .topics
            .iter()
            .filter(|topic| !whole.topics.contains_key(*topic))
            .cloned()
            .collect();
        for topic in gone {
            self.put(from, topic, Wants::default(), out);
        }
        for (topic, wants) in whole.topics {
            self.put(from, topic, wants, out);
        }
        self.answer(from, Answer::Known, out);
    }

    fn change(&mut self, from: NodeId, change: InterestChange, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if change.version <= peer.version && peer.arriving.is_none() {
            return self.answer(from, Answer::Known, out);
        }
        if peer.arriving.take().is_some() || change.version != peer.version + 1 {
            return self.answer(from, Answer::Missed, out);
        }
        peer.version = change.version;
        let room = peer.topics.len() < WANTED_TOPICS_MAX;
        if let Some((topic, wants)) = change.topic.and_then(heard)
            && (room || wants.subscribers == 0 || peer.topics.contains(&topic))
        {
            self.put(from, topic, wants, out);
        }
        self.answer(from, Answer::Known, out);
    }

    /// What a peer wants of a topic from now on.
    fn put(&mut self, node: NodeId, topic: TopicKey, wants: Wants, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let before = self
            .wanted
            .get(&topic)
            .and_then(|nodes| nodes.get(&node))
            .map(|wants| wants.subscribers);
        let newcomer = match wants.subscribers {
            0 if !peer.topics.remove(&topic) => return,
            0 => {
                let nodes = self.wanted.get_mut(&topic);
                let empty = nodes.is_some_and(|nodes| {
                    nodes.remove(&node);
                    nodes.is_empty()
                });
                if empty {
                    self.wanted.remove(&topic);
                }
                false
            }
            _ => {
                let nodes = self.wanted.entry(topic.clone()).or_default();
                nodes.insert(node, wants);
                peer.topics.insert(topic.clone())
            }
        };
        if newcomer {
            let topic = topic.clone();
            out.push(Output::Newcomer { node, topic });
        }
        if before != Some(wants.subscribers) {
            out.push(Output::Changed(topic));
        }
    }

    fn answer(&self, to: NodeId, answer: Answer, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get(&to) else {
            return;
        };
        let version = InterestVersion {
            version: peer.version,
            run: peer.run,
        };
        let said = match answer {
            Answer::Known => InterestSaid::Known(version),
            Answer::Missed => InterestSaid::Missed(version),
        };
        out.push(send(self.run, to, said));
    }

    fn tell_whole(&mut self, now: Instant, to: NodeId, out: &mut Vec<Output>) {
        let mut parts: Vec<Vec<WantedTopic>> = vec![Vec::new()];
        let mut bytes = 0;
        for (topic, wants) in &self.own {
            let topic = said(topic, *wants);
            bytes += topic.topic.len() + 16;
            if bytes > PART_BYTES {
                parts.push(Vec::new());
                bytes = topic.topic.len() + 16;
            }
            parts.last_mut().expect("there is one").push(topic);
        }
        let count = parts.len() as u32;
        for (part, topics) in (0..count).zip(parts) {
            let whole = WholeInterest {
                version: self.version,
                part,
                parts: count,
                topics,
            };
            out.push(send(self.run, to, InterestSaid::Whole(whole)));
        }
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.behind = now;
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let mut behind = Vec::new();
        let mut gone = Vec::new();
        for (node, peer) in &self.peers {
            match peer.wire {
                Wire::Up if peer.known < self.version => {
                    if now.since(peer.behind) >= REPAIR_AFTER {
                        behind.push(*node);
                    }
                }
                Wire::Up => {}
                Wire::Down { since } if now.since(since) >= FORGET_AFTER => gone.push(*node),
                Wire::Down { .. } => {}
            }
        }
        for node in behind {
            self.tell_whole(now, node, out);
        }
        for node in gone {
            self.forget(node, out);
        }
    }

    fn forget(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let topics = self.peers.get(&node).map(|peer| peer.topics.clone());
        for topic in topics.into_iter().flatten() {
            self.put(node, topic, Wants::default(), out);
        }
        self.peers.remove(&node);
    }
}

/// What is said about a version of the peer's.
#[derive(Clone, Copy)]
enum Answer {
    Known,
    Missed,
}

fn send(run: u64, to: NodeId, said: InterestSaid) -> Output {
    let said = Some(said);
    let frame = InterestFrame { run, said };
    Output::Send { to, frame }
}

fn said(topic: &TopicKey, wants: Wants) -> WantedTopic {
    WantedTopic {
        topic: topic.to_bytes(),
        subscribers: wants.subscribers,
        dropped: wants.dropped,
    }
}

/// A peer's word; one about no topic says nothing.
fn heard(said: WantedTopic) -> Option<(TopicKey, Wants)> {
    let (key, _) = TopicKey::parse(said.topic)?;
    let wants = Wants {
        subscribers: said.subscribers,
        dropped: said.dropped,
    };
    Some((key, wants))
}

#[cfg(test)]
mod tests;
