//! The durable mark: whether this node still has all that it promised.
//!
//! Every batch that is synced has a number, one more than the last. What leaves after the sync
//! carries it, and whoever hears it remembers the highest, together with its own next batch. Two
//! nodes that meet first tell each other what they remember. A node that is told more than its disk
//! gave back has lost synced data: an old image of the disk was put back, the log lost its end, or
//! the directory is a copy. It ends (E0311) before it has voted or acknowledged anything on what is
//! left, and gives the database up as lost: tombstones and later stints of its copies are gone with
//! it, so that no single copy could be made good under this node id.
//!
//! Before a peer has told what it remembers, nothing that it says in Raft counts. In doubt (the log
//! was cut at a damaged place) a replica is silent until all other voters of its group have.
//!
//! Absent: whether the others can do without this node (`inquiry`), and two processes of one
//! directory (`Judge`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::marks::{Mark, MarkWord, Marks as Found, Told};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{Frame, Heartbeat};

use super::slot::Slot;
use super::{NodeCore, Start, Trust};
use crate::io::{Effect, Lane, MarkWrite, Now, PersistTicket};

/// A replica in doubt that hears its leader for this long is given up: its group goes on without
/// it.
const DOUBT_MAX: Duration = Duration::from_secs(10);

/// What this node and the others have promised.
pub(super) struct Marks {
    /// What the disk gave back.
    recovered: Mark,
    /// The latest batch that is synced.
    synced: Mark,
    /// This process.
    nonce: u64,
    /// What others have told.
    others: BTreeMap<NodeId, Told>,
    saved: Saved,
    meeting: Meeting,
    /// Replicas that may lack something they promised.
    in_doubt: BTreeSet<PartitionId>,
    begun: Instant,
}

/// Whether the disk has `others`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saved {
    Yes,
    No,
}

/// Whether a mark is higher than what was known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    Yes,
    No,
}

/// Which of a node's processes a frame is from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The one that greeted last, or one that has promised nothing yet.
    Known,
    /// Another one.
    AnotherProcess,
}

/// Whose word on this node's mark is there.
enum Meeting {
    /// It is not needed: the first run of a node id has nothing to forget.
    FirstRun,
    /// These have told what they remember.
    Met(BTreeSet<NodeId>),
}

impl Marks {
    pub(super) fn new(now: Instant, start: &Start) -> Self {
        let Found { own, others } = start.marks.clone();
        let in_doubt = match start.trust {
            Trust::Whole => BTreeSet::new(),
            Trust::InDoubt => start.replicas.iter().map(|r| r.partition).collect(),
        };
        Self {
            recovered: own,
            synced: own,
            nonce: start.record.nonce,
            others,
            saved: Saved::Yes,
            meeting: match start.record.generation {
                0 | 1 => Meeting::FirstRun,
                _ => Meeting::Met(BTreeSet::new()),
            },
            in_doubt,
            begun: now,
        }
    }

    /// What is told with every promise: the latest batch that is synced, and by which process.
    pub(super) fn telling(&self) -> Told {
        Told {
            mark: self.synced,
            nonce: self.nonce,
        }
    }

    /// A batch goes to the disk.
    pub(super) fn begin(&mut self, ticket: PersistTicket) -> MarkWrite {
        let changed = std::mem::replace(&mut self.saved, Saved::Yes) == Saved::No;
        MarkWrite {
            own: self.of(ticket),
            others: changed.then(|| self.others.clone()),
        }
    }

    /// It is synced.
    pub(super) fn end(&mut self, ticket: PersistTicket) {
        self.synced = self.of(ticket);
    }

    /// Tickets are counted from 1 in each process.
    fn of(&self, ticket: PersistTicket) -> Mark {
        Mark(self.recovered.0 + ticket.0)
    }

    /// Whether what a node says in Raft counts.
    pub(super) fn is_met(&self, node: NodeId) -> bool {
        match &self.meeting {
            Meeting::FirstRun => true,
            Meeting::Met(met) => met.contains(&node),
        }
    }

    /// Whether a replica must not promise anything yet.
    pub(super) fn holds_back(&self, partition: PartitionId) -> bool {
        self.in_doubt.contains(&partition)
    }

    /// A replica has ended; what follows it is another one.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.in_doubt.remove(&partition);
    }

    fn note(&mut self, node: NodeId, told: Told) -> News {
        let known = self.others.entry(node).or_default();
        if told.mark <= known.mark {
            return News::No;
        }
        *known = told;
        self.saved = Saved::No;
        News::Yes
    }

    /// Whether what a peer remembers shows that this node has lost something. What this very
    /// process told it has never lost.
    fn has_lost(&self, told: Told) -> bool {
        told.nonce != self.nonce
            && told.mark > self.recovered
            && !canary::sings(Canary::MarkIgnored)
    }
}

impl NodeCore {
    /// What carries promises carries the mark behind them, and which process made them: what is
    /// known of the sender otherwise may be of the process before or after.
    ///
    /// A process that is not the one which greeted last (a copy's original, or what was late) is
    /// remembered, and not listened to: promises of two processes would be counted as one's. The
    /// one that greeted hears of it at once, for the first word on its connection was said before.
    pub(super) fn note_mark(
        &mut self,
        from: NodeId,
        frame: &Frame,
        out: &mut Vec<Effect>,
    ) -> Speaker {
        let (mark, nonce) = match frame {
            Frame::Control(control) => (control.mark, control.nonce),
            Frame::Raft(raft) => (raft.mark, raft.nonce),
            _ => return Speaker::Known,
        };
        let Some(link) = self.links.link(from).filter(|_| mark > 0) else {
            return Speaker::Known;
        };
        let greeted = link.record.nonce;
        let mark = Mark(mark);
        let news = self.marks.note(from, Told { mark, nonce });
        if nonce == greeted {
            return Speaker::Known;
        }
        if news == News::Yes {
            self.tell_mark(from, out);
        }
        Speaker::AnotherProcess
    }

    /// The first word on a control connection.
    pub(super) fn tell_mark(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        let told = self.marks.others.get(&node).copied().unwrap_or_default();
        out.push(Effect::Send {
            to: node,
            lane: Lane::Control,
            frame: Frame::Mark(MarkWord::yours(told)),
        });
    }

    pub(super) fn take_mark_word(
        &mut self,
        now: Now,
        from: NodeId,
        word: &MarkWord,
        out: &mut Vec<Effect>,
    ) {
        let told = word.told();
        if self.marks.has_lost(told) {
            let detail = format!(
                "this node's disk has gone back: {} ({from}) was told mark {} by this node, its database \
                 has {}. Log entries or votes that were synced are missing, because an old copy of the \
                 data directory was put back, the write-ahead log lost its end, or the disk lost writes. \
                 What is left is not used. Start the node again: if the others can do without it, it comes \
                 back as a new node and fetches its copies from them",
                self.name_of(from),
                told.mark,
                self.marks.recovered
            );
            return self.stop(Code::PromisesLost, detail, out);
        }
        if let Meeting::Met(met) = &mut self.marks.meeting {
            met.insert(from);
        }
        self.settle_doubts(now, out);
    }

    /// Replicas in doubt speak again, if all other voters of their groups have told what they
    /// remember.
    fn settle_doubts(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let marks = &self.marks;
        let settled = marks.in_doubt.iter().filter(|partition| {
            let slot = cluster.slot(**partition);
            slot.is_none_or(|slot| has_heard_all(slot, marks))
        });
        let settled: Vec<PartitionId> = settled.copied().collect();
        if settled.is_empty() {
            return;
        }
        for partition in settled {
            self.marks.in_doubt.remove(&partition);
            if let Some(slot) = cluster.slot_mut(partition) {
                slot.leaderless = Some(now.instant);
                cluster.dirty.insert(partition);
            }
        }
        if self.marks.in_doubt.is_empty() {
            let text =
                "all copies here are whole after all: no other node remembers more than they have";
            Self::say(out, text.to_owned());
        }
    }

    /// A leader speaks to a replica in doubt: its group has a majority without it. Not for ever: a
    /// voter that is asked for its memory may never come back.
    pub(super) fn led_in_doubt(
        &mut self,
        now: Now,
        partition: PartitionId,
        from: NodeId,
        heartbeat: &Heartbeat,
        out: &mut Vec<Effect>,
    ) {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(partition));
        let Some(slot) = slot.filter(|slot| slot.group.peer().0 == heartbeat.to) else {
            return;
        };
        let leads = slot.group.membership().node_of(PeerId(heartbeat.from)) == Some(from)
            && heartbeat.term >= slot.group.term().0;
        if leads && now.instant.since(self.marks.begun) >= DOUBT_MAX {
            let why =
                "it may lack what it promised, and not every other copy could be asked; its group \
                       goes on without it"
                    .to_owned();
            self.break_with(now, partition, why, out);
        }
    }
}

/// Whether all other voters have told what they remember. A sole voter has nobody to ask: it stays
/// silent.
fn has_heard_all(slot: &Slot, marks: &Marks) -> bool {
    let membership = slot.group.membership();
    let voters = membership.voters.iter().chain(&membership.voters_outgoing);
    let mut others = voters.filter(|v| **v != slot.group.peer().0).peekable();
    others.peek().is_some()
        && others.all(|voter| {
            let node = membership.node_of(PeerId(*voter));
            node.is_some_and(|node| marks.is_met(node))
        })
}

#[cfg(test)]
mod tests;
