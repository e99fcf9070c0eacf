//! What the core's thread tells the hub: who is connected, what peers say, that time has passed.
//!
//! The hub's state is locked for as long as an event goes to all subscribers of a node, and the
//! core's thread, which has heartbeats to send, waits for nobody. So it puts its words down here,
//! under a lock that is held for that alone, and a thread of the hub's own takes them from here to
//! the state. Bounded: of each connection the latest word counts, of ticks one waits. What peers
//! say is lost beyond [`SAID_MAX`] frames or [`SAID_BYTES_MAX`]; it is missed then, and said again
//! (`ghostlight_core::ephemeral::interest`). Connections are taken before what was said: a frame of
//! a connection that has gone is for nobody.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ghostlight_core::ephemeral::TopicKey;
use ghostlight_core::ephemeral::interest::{Input, Wants};
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::ephemeral::InterestFrame;
use ghostlight_protocol::wire::hello::{ConnectionKind, NodeRecord};
use ghostlight_shell::threads::{self, ThreadPanic};
use prost::Message;
use tokio::sync::mpsc;

use super::Counts;
use super::hub::{Hub, Stage, State};
use crate::transport::LinkHandle;

/// Frames of peers that wait.
const SAID_MAX: usize = 4_096;
/// Their bytes.
const SAID_BYTES_MAX: usize = 16 << 20;
/// Time between two looks at what nobody told.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Mail {
    told: Mutex<Told>,
    woken: Condvar,
    /// What the hub had counted when it last looked.
    counted: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Told {
    now: Instant,
    links: BTreeMap<(NodeId, ConnectionKind), Link>,
    said: VecDeque<(NodeId, InterestFrame)>,
    said_bytes: usize,
    looked: Instant,
    look: Look,
    stage: Open,
}

/// The latest word about a connection.
#[derive(Debug)]
enum Link {
    Up(Box<NodeRecord>, LinkHandle),
    Down,
}

/// Whether a second has passed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Look {
    #[default]
    NotYet,
    Due,
}

/// Whether words are taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Open {
    #[default]
    Yes,
    No,
}

/// Words, taken in one piece.
#[derive(Debug)]
struct Words {
    now: Instant,
    links: BTreeMap<(NodeId, ConnectionKind), Link>,
    said: VecDeque<(NodeId, InterestFrame)>,
    look: Look,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mail {
    /// Puts something down; never waits for the hub.
    fn tell(&self, now: Instant, word: impl FnOnce(&mut Told)) {
        let mut told = lock(&self.told);
        if told.stage == Open::No {
            return;
        }
        told.now = now;
        word(&mut told);
        if told.has_words() {
            self.woken.notify_one();
        }
    }

    /// Waits for words; `None`: there will be no more.
    fn take(&self) -> Option<Words> {
        let told = lock(&self.told);
        let waits = |told: &mut Told| told.stage == Open::Yes && !told.has_words();
        let told = self.woken.wait_while(told, waits);
        let mut told = told.unwrap_or_else(PoisonError::into_inner);
        if told.stage == Open::No {
            return None;
        }
        told.said_bytes = 0;
        Some(Words {
            now: told.now,
            links: std::mem::take(&mut told.links),
            said: std::mem::take(&mut told.said),
            look: std::mem::take(&mut told.look),
        })
    }

    /// No more words are taken; the hub's thread ends.
    pub(super) fn close(&self) {
        let mut told = lock(&self.told);
        *told = Told {
            stage: Open::No,
            ..Told::default()
        };
        self.woken.notify_all();
    }
}

impl Told {
    fn has_words(&self) -> bool {
        !self.links.is_empty() || !self.said.is_empty() || self.look == Look::Due
    }
}

/// For the core's thread: none of these waits for the state.
impl Hub {
    /// A connection is up.
    pub(crate) fn connected(&self, now: Instant, peer: &NodeRecord, link: &LinkHandle) {
        if let Some(node) = peer.id() {
            let up = Link::Up(Box::new(peer.clone()), link.clone());
            let word = |told: &mut Told| drop(told.links.insert((node, link.kind), up));
            self.mail.tell(now, word);
        }
    }

    /// A connection is gone.
    pub(crate) fn disconnected(&self, now: Instant, node: NodeId, kind: ConnectionKind) {
        let word = |told: &mut Told| drop(told.links.insert((node, kind), Link::Down));
        self.mail.tell(now, word);
    }

    /// A peer says what it wants, or what it knows.
    pub(crate) fn said(&self, now: Instant, from: NodeId, frame: InterestFrame) {
        let bytes = frame.encoded_len();
        self.mail.tell(now, |told| {
            if told.said.len() < SAID_MAX && told.said_bytes + bytes <= SAID_BYTES_MAX {
                told.said_bytes += bytes;
                told.said.push_back((from, frame));
            }
        });
    }

    /// Time passes; cheap, and called more often than there is something to do.
    pub(crate) fn tick(&self, now: Instant) {
        self.mail.tell(now, |told| {
            if now.since(told.looked) >= LOOK_PAUSE {
                (told.looked, told.look) = (now, Look::Due);
            }
        });
    }

    /// What was counted, a second late at most.
    pub(crate) fn counted(&self) -> Counts {
        *lock(&self.mail.counted)
    }
}

impl Hub {
    /// Starts the thread that takes the core's words to the state. It ends with the hub.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn serve(
        self: &Arc<Self>,
        panics: mpsc::Sender<ThreadPanic>,
    ) -> io::Result<JoinHandle<()>> {
        let (mail, hub) = (Arc::clone(&self.mail), Arc::downgrade(self));
        threads::spawn("ephemeral", panics, move || {
            while let Some(words) = mail.take() {
                let Some(hub) = hub.upgrade() else { return };
                hub.hear(words);
            }
        })
    }

    fn hear(&self, words: Words) {
        let mut state = self.lock();
        state.now = words.now;
        for ((node, kind), link) in words.links {
            match link {
                Link::Up(peer, link) => state.connected(node, &peer, link),
                Link::Down => state.disconnected(node, kind),
            }
        }
        for (from, frame) in words.said {
            state.feed(Input::Said { from, frame });
        }
        if words.look == Look::Due {
            state.look();
            *lock(&self.mail.counted) = state.counts;
        }
        drop(state);
        self.heard.send_modify(|count| *count += 1);
    }
}

impl State {
    fn connected(&mut self, node: NodeId, peer: &NodeRecord, link: LinkHandle) {
        if !matches!(self.stage, Stage::Runs(_)) {
            return;
        }
        let known = self.peers.entry(node).or_default();
        known.zone.clone_from(&peer.zone);
        known.run = peer.generation;
        match link.kind {
            ConnectionKind::Control => {
                known.control = Some(link.clone());
                let run = peer.generation;
                self.feed(Input::Connected { node, run });
            }
            ConnectionKind::Bulk => {
                known.bulk = Some(link.clone());
                self.plans.clear();
                self.tell_last_values(node);
            }
            ConnectionKind::Inquiry => {}
        }
        link.flush();
    }

    fn disconnected(&mut self, node: NodeId, kind: ConnectionKind) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        match kind {
            ConnectionKind::Control => {
                peer.control = None;
                self.feed(Input::Disconnected(node));
            }
            ConnectionKind::Bulk => {
                peer.bulk = None;
                self.plans.clear();
                self.answer_instead();
            }
            ConnectionKind::Inquiry => {}
        }
    }

    /// A second has passed.
    fn look(&mut self) {
        let changed: Vec<(TopicKey, Wants)> = self
            .topics
            .iter_mut()
            .filter(|(_, topic)| topic.told != topic.dropped)
            .map(|(key, topic)| {
                topic.told = topic.dropped;
                (key.clone(), topic.wants())
            })
            .collect();
        for (topic, wants) in changed {
            self.feed(Input::Wanted { topic, wants });
        }
        self.feed(Input::Tick);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant as Clock;

    use ghostlight_protocol::wire::ephemeral::{InterestSaid, InterestVersion};

    use super::*;

    const PEER: NodeId = NodeId(9);

    fn frame(version: u64) -> InterestFrame {
        InterestFrame {
            run: 1,
            said: Some(InterestSaid::Known(InterestVersion { version, run: 3 })),
        }
    }

    /// The state is locked, as it is while an event goes to very many subscribers.
    #[test]
    fn the_core_tells_its_words_while_the_state_is_locked() {
        let hub = Arc::new(Hub::default());
        let (panics, _heard) = mpsc::channel(1);
        let thread = hub.serve(panics).unwrap();
        let locked = hub.lock();
        for round in 1..=3 {
            let now = Instant(round * 2_000_000_000);
            hub.said(now, PEER, frame(round));
            hub.disconnected(now, PEER, ConnectionKind::Bulk);
            hub.tick(now);
            hub.counted();
        }
        // It came to here: nothing waited. What was told is taken when the state is free.
        drop(locked);
        let begun = Clock::now();
        while lock(&hub.mail.told).has_words() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "nobody takes them"
            );
            std::thread::yield_now();
        }
        hub.end();
        thread.join().unwrap();
    }

    /// Nobody takes anything: the thread was not started.
    #[test]
    fn what_waits_is_bounded() {
        let hub = Hub::default();
        let now = Instant(5_000_000_000);
        for version in 0..SAID_MAX as u64 + 100 {
            hub.said(now, PEER, frame(version));
            hub.disconnected(now, PEER, ConnectionKind::Control);
            hub.tick(now);
        }
        let told = lock(&hub.mail.told);
        assert_eq!((told.said.len(), told.links.len()), (SAID_MAX, 1));
        assert_eq!(told.said[0].1, frame(0), "the first ones stay, in order");
        drop(told);
        let words = hub.mail.take().expect("there are some");
        assert_eq!((words.said.len(), words.look), (SAID_MAX, Look::Due));
        hub.tick(Instant(now.0 + 500_000_000));
        assert!(!lock(&hub.mail.told).has_words(), "a second has not passed");
        hub.end();
        assert!(hub.mail.take().is_none());
        hub.said(now, PEER, frame(1));
        assert!(!lock(&hub.mail.told).has_words(), "it is over");
    }
}
