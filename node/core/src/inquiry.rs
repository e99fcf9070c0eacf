//! A node whose database is lost asks the others whether it may give it up.
//!
//! What was lost may hold votes and entries that nobody else has. So the old id is given up only
//! when a leader of **every** partition has said, within the last seconds, that its group has a
//! live majority without it. One partition that nobody answers for, or whose leader needs the lost
//! copy, is enough to refuse: then a person decides.
//!
//! Absent: membership. Whoever asks is nobody's peer yet, and leaves no trace at the others.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::ids::{NodeId, PartitionId};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{AskSurvival, Survival};

/// Longest time to ask. A cluster that starts as a whole has its leaders long before.
const ASK_MAX: Duration = Duration::from_secs(30);
/// Pause between two rounds of questions.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// Pause between two rounds of dials.
const DIAL_PAUSE: Duration = Duration::from_secs(1);
/// A leader's word is good for this long: all partitions must be answered for within it.
const WORD_GOOD_FOR: Duration = Duration::from_secs(3);
/// Partitions named in a refusal.
const NAMED_MAX: usize = 8;

/// One inquiry.
#[derive(Debug)]
pub struct Inquiry {
    lost: NodeId,
    partitions: u16,
    addresses: Vec<String>,
    /// Nodes that can be asked, and where they are.
    peers: BTreeMap<NodeId, String>,
    words: BTreeMap<PartitionId, Word>,
    begun: Instant,
    ask_at: Instant,
    dial_at: Instant,
    state: State,
}

/// What a leader said last of its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Word {
    by: NodeId,
    at: Instant,
    survives: Survives,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Survives {
    Yes,
    No,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Asking,
    Over,
}

/// What an inquiry is fed.
#[derive(Clone, PartialEq, Debug)]
pub enum InquiryInput {
    /// A deadline has passed.
    Tick,
    /// A node can be asked.
    Connected {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
    },
    /// It cannot any more.
    Disconnected(NodeId),
    /// Its answer.
    Answer {
        /// Who.
        from: NodeId,
        /// The answer.
        survival: Survival,
    },
}

/// What an inquiry wants.
#[derive(Clone, PartialEq, Debug)]
pub enum InquiryEffect {
    /// Try once to connect.
    Dial(String),
    /// Ask a node.
    Ask(NodeId, AskSurvival),
    /// It is over.
    End(Verdict),
}

/// How an inquiry ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every group goes on without the lost database.
    GiveUp {
        /// The leaders that said so.
        by: BTreeSet<NodeId>,
    },
    /// Not every group does, or not as far as anybody could say.
    Keep {
        /// Which, and why.
        why: String,
    },
}

impl Inquiry {
    /// Begins to ask about `lost` in a cluster of so many partitions, at these addresses.
    #[must_use]
    pub fn new(now: Instant, lost: NodeId, partitions: u16, addresses: Vec<String>) -> Self {
        Self {
            lost,
            partitions,
            addresses,
            peers: BTreeMap::new(),
            words: BTreeMap::new(),
            begun: now,
            ask_at: now,
            dial_at: now,
            state: State::Asking,
        }
    }

    /// Feeds one input; wanted effects are pushed to `out`.
    pub fn handle(&mut self, now: Instant, input: InquiryInput, out: &mut Vec<InquiryEffect>) {
        if self.state == State::Over {
            return;
        }
        match input {
            InquiryInput::Tick => {}
            InquiryInput::Connected { node, address } => {
                self.peers.insert(node, address);
                out.push(InquiryEffect::Ask(node, self.question()));
            }
            InquiryInput::Disconnected(node) => {
                self.peers.remove(&node);
            }
            InquiryInput::Answer { from, survival } => self.take(now, from, &survival),
        }
        self.judge(now, out);
        self.go_on(now, out);
    }

    /// When to feed `Tick`; `None`: it is over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Asking => Some(self.ask_at.min(self.dial_at).min(self.begun + ASK_MAX)),
            State::Over => None,
        }
    }

    fn question(&self) -> AskSurvival {
        AskSurvival {
            node: Bytes::copy_from_slice(&self.lost.to_bytes()),
        }
    }

    fn take(&mut self, now: Instant, from: NodeId, survival: &Survival) {
        if NodeId::from_slice(&survival.node) != Some(self.lost) {
            return;
        }
        let yes = survival.survive.iter().map(|p| (*p, Survives::Yes));
        let no = survival.depend.iter().map(|p| (*p, Survives::No));
        for (partition, survives) in yes.chain(no) {
            let Ok(partition) = u16::try_from(partition) else {
                continue;
            };
            if partition < self.partitions {
                let word = Word {
                    by: from,
                    at: now,
                    survives,
                };
                self.words.insert(PartitionId(partition), word);
            }
        }
    }

    fn judge(&mut self, now: Instant, out: &mut Vec<InquiryEffect>) {
        let verdict = if self.unconfirmed(now).next().is_none() {
            let by = self.words.values().map(|word| word.by).collect();
            Verdict::GiveUp { by }
        } else if now.since(self.begun) >= ASK_MAX {
            Verdict::Keep {
                why: self.explain(now),
            }
        } else {
            return;
        };
        self.state = State::Over;
        out.push(InquiryEffect::End(verdict));
    }

    /// Partitions that nobody has lately called safe.
    fn unconfirmed(&self, now: Instant) -> impl Iterator<Item = PartitionId> {
        let all = (0..self.partitions).map(PartitionId);
        all.filter(move |partition| {
            let word = self.words.get(partition);
            !word.is_some_and(|word| {
                word.survives == Survives::Yes && now.since(word.at) < WORD_GOOD_FOR
            })
        })
    }

    fn explain(&self, now: Instant) -> String {
        let missing: Vec<PartitionId> = self.unconfirmed(now).collect();
        let denied = |p: &PartitionId| {
            let word = self.words.get(p);
            word.is_some_and(|word| word.survives == Survives::No)
        };
        let (depend, silent): (Vec<_>, Vec<_>) = missing.into_iter().partition(denied);
        let mut parts = Vec::new();
        if self.words.is_empty() {
            parts.push(format!(
                "none of the nodes at {} answered",
                listed(&self.addresses)
            ));
        } else if !silent.is_empty() {
            parts.push(format!(
                "nobody leads {} of {} partitions ({})",
                silent.len(),
                self.partitions,
                listed(&silent)
            ));
        }
        if !depend.is_empty() {
            parts.push(format!(
                "{} of {} partitions have no live majority without this node ({})",
                depend.len(),
                self.partitions,
                listed(&depend)
            ));
        }
        parts.join("; ")
    }

    fn go_on(&mut self, now: Instant, out: &mut Vec<InquiryEffect>) {
        if self.state == State::Over {
            return;
        }
        if now >= self.ask_at {
            self.ask_at = now + ASK_PAUSE;
            let question = self.question();
            let asked = self.peers.keys();
            out.extend(asked.map(|node| InquiryEffect::Ask(*node, question.clone())));
        }
        if now >= self.dial_at {
            self.dial_at = now + DIAL_PAUSE;
            let known: BTreeSet<&String> = self.peers.values().collect();
            let unknown = self.addresses.iter().filter(|a| !known.contains(a));
            out.extend(unknown.cloned().map(InquiryEffect::Dial));
        }
    }
}

fn listed<T: std::fmt::Display>(all: &[T]) -> String {
    if all.is_empty() {
        return "no address".to_owned();
    }
    let named = all.iter().take(NAMED_MAX).map(ToString::to_string);
    let mut text = named.collect::<Vec<_>>().join(", ");
    if all.len() > NAMED_MAX {
        text.push_str(", ...");
    }
    text
}
