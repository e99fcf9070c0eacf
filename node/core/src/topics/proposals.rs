//! What waits to be proposed, and what was proposed and waits to be applied.

use std::collections::VecDeque;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::RequestRecord;
use ghostlight_protocol::limits::{APPENDS_BYTES_MAX, BATCH_BYTES_MAX, PUBLISH_EVENTS_MAX};
use ghostlight_protocol::topic::{Append, PublishBody, PublishItem, TopicAct, TopicOp};
use prost::Message;

use super::load::GroupId;
use crate::turns::Caller;

/// Bytes of the operations of one entry; a single one may exceed them alone.
const ENTRY_BYTES: usize = 2 << 20;

/// Who waits for an operation.
#[derive(Debug)]
pub(super) enum Who {
    /// Callers of publishes, in the order of the operation's parts.
    Publishers(Vec<Caller>),
    /// Whoever asked for a change.
    Asker(Caller),
    /// The group whose verdicts it holds.
    Verdicts(GroupId),
    /// A group that is being made, or used, for its subscribers.
    Load(GroupId),
    /// The sweep.
    Sweep,
    /// Nobody: reads that must come after everything before.
    Barrier,
}

/// An operation on its way.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) who: Who,
    pub(super) topic: ActorKey,
    pub(super) request: Option<RequestRecord>,
    pub(super) act: Option<TopicAct>,
    pub(super) bytes: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    changes: VecDeque<Wanted>,
    publishes: VecDeque<Publish>,
    waiting_bytes: usize,
    /// Entries in the log, each with what waits for its operations.
    proposed: VecDeque<Entry>,
    /// Entries that were made.
    made: u64,
    proposed_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Publish {
    pub(super) from: Caller,
    pub(super) topic: ActorKey,
    pub(super) request: RequestRecord,
    pub(super) body: PublishBody,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) waiting: Vec<Wanted>,
    /// Counts entries, from 1.
    pub(super) number: u64,
    bytes: usize,
}

impl Proposals {
    /// Bytes that publishers and operators have here.
    pub(super) fn bytes(&self) -> usize {
        self.waiting_bytes + self.proposed_bytes
    }

    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.bytes() == 0 || self.bytes() + bytes <= APPENDS_BYTES_MAX
    }

    pub(super) fn push(&mut self, wanted: Wanted) {
        self.waiting_bytes += wanted.bytes;
        self.changes.push_back(wanted);
    }

    pub(super) fn publish(&mut self, publish: Publish) {
        self.waiting_bytes += publish.bytes;
        self.publishes.push_back(publish);
    }

    /// Entries that were made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.changes.is_empty() || !self.publishes.is_empty()
    }

    pub(super) fn publishes_wait(&self) -> bool {
        !self.publishes.is_empty()
    }

    /// Whether nothing is in the log without an outcome.
    pub(super) fn settled(&self) -> bool {
        self.proposed.is_empty()
    }

    /// Takes what goes into the next entry: changes first, so that a group that is made before a
    /// publish begins before it; then publishes, those of one topic partition as one batch. A group
    /// is moved once in an entry: the entry's number is what tells its moves apart.
    pub(super) fn gather(&mut self) -> Vec<Wanted> {
        let mut gathered: Vec<Wanted> = Vec::new();
        let mut bytes = 0;
        while let Some(wanted) = self.changes.front() {
            let same = |other: &Wanted| wanted.moves().is_some() && other.moves() == wanted.moves();
            let full = bytes > 0 && bytes + wanted.bytes > ENTRY_BYTES;
            if full || gathered.iter().any(same) {
                return self.taken(gathered);
            }
            bytes += wanted.bytes;
            gathered.extend(self.changes.pop_front());
        }
        let changes = gathered.len();
        while let Some(publish) = self.publishes.front() {
            if bytes > 0 && bytes + publish.bytes > ENTRY_BYTES {
                break;
            }
            bytes += publish.bytes;
            let Some(publish) = self.publishes.pop_front() else {
                break;
            };
            // The latest batch of its topic partition: an older one is full, and order must stay.
            let batch = gathered[changes..]
                .iter_mut()
                .rev()
                .find(|wanted| wanted.topic == publish.topic);
            match batch {
                Some(batch) if fits(batch, &publish) => add(batch, publish),
                Some(_) | None => gathered.push(first_of(publish)),
            }
        }
        self.taken(gathered)
    }

    fn taken(&mut self, gathered: Vec<Wanted>) -> Vec<Wanted> {
        let bytes: usize = gathered.iter().map(|wanted| wanted.bytes).sum();
        self.waiting_bytes -= bytes;
        gathered
    }

    /// Remembers an entry, and gives its operations.
    pub(super) fn propose(&mut self, mut waiting: Vec<Wanted>) -> Vec<TopicOp> {
        let ops = waiting.iter_mut().map(|wanted| TopicOp {
            topic: wanted.topic.to_bytes(),
            request: wanted.request.take(),
            act: wanted.act.take(),
        });
        let ops = ops.collect();
        let bytes = waiting.iter().map(|wanted| wanted.bytes).sum();
        self.proposed_bytes += bytes;
        self.made += 1;
        let number = self.made;
        self.proposed.push_back(Entry {
            waiting,
            number,
            bytes,
        });
        ops
    }

    /// The oldest entry, which was applied.
    pub(super) fn applied(&mut self) -> Entry {
        let entry = self.proposed.pop_front();
        let entry = entry.expect("only what was proposed is applied");
        self.proposed_bytes -= entry.bytes;
        entry
    }

    /// The latest entry, which Raft refused.
    pub(super) fn dropped(&mut self) -> Option<Entry> {
        let entry = self.proposed.pop_back()?;
        self.proposed_bytes -= entry.bytes;
        Some(entry)
    }

    /// Everybody who waits when the leadership ends, and whether what they wait for is in the log.
    pub(super) fn close(self) -> Vec<(Caller, InLog)> {
        let mut callers = Vec::new();
        for entry in self.proposed {
            let waiting = entry.waiting.into_iter();
            callers.extend(
                waiting
                    .flat_map(|w| w.who.callers())
                    .map(|c| (c, InLog::Yes)),
            );
        }
        let changes = self.changes.into_iter().flat_map(|w| w.who.callers());
        let publishes = self.publishes.into_iter().map(|publish| publish.from);
        callers.extend(changes.chain(publishes).map(|c| (c, InLog::No)));
        callers
    }
}

/// Whether an operation is in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum InLog {
    Yes,
    No,
}

impl Wanted {
    /// The group that it makes, moves, or deletes.
    fn moves(&self) -> Option<(&ActorKey, &str)> {
        let group = match self.act.as_ref()? {
            TopicAct::Seek(seek) => &seek.group,
            TopicAct::Put(put) => &put.put.as_ref()?.group,
            TopicAct::Delete(letters) => &letters.group,
            _ => return None,
        };
        Some((&self.topic, group))
    }
}

impl Who {
    pub(super) fn callers(self) -> Vec<Caller> {
        match self {
            Self::Publishers(callers) => callers,
            Self::Asker(caller) => vec![caller],
            Self::Verdicts(_) | Self::Load(_) | Self::Sweep | Self::Barrier => Vec::new(),
        }
    }
}

fn fits(batch: &Wanted, publish: &Publish) -> bool {
    let events = |append: &Append| {
        let bodies = append.publishes.iter().filter_map(|p| p.body.as_ref());
        bodies.map(|body| body.events.len()).sum::<usize>()
    };
    let Some(TopicAct::Append(append)) = &batch.act else {
        return false;
    };
    batch.bytes + publish.bytes <= BATCH_BYTES_MAX
        && events(append) + publish.body.events.len() <= PUBLISH_EVENTS_MAX
}

fn item(publish: &mut Publish) -> PublishItem {
    PublishItem {
        request: Some(std::mem::take(&mut publish.request)),
        body: Some(std::mem::take(&mut publish.body)),
    }
}

fn add(batch: &mut Wanted, mut publish: Publish) {
    if let (Who::Publishers(callers), Some(TopicAct::Append(append))) =
        (&mut batch.who, &mut batch.act)
    {
        callers.push(publish.from);
        append.publishes.push(item(&mut publish));
        batch.bytes += publish.bytes;
    }
}

fn first_of(mut publish: Publish) -> Wanted {
    Wanted {
        who: Who::Publishers(vec![publish.from]),
        request: None,
        act: Some(TopicAct::Append(Append {
            publishes: vec![item(&mut publish)],
        })),
        bytes: publish.bytes,
        topic: publish.topic,
    }
}

/// Bytes that an operation takes in an entry, about.
pub(super) fn act_bytes(topic: &ActorKey, act: &TopicAct) -> usize {
    let op = TopicOp {
        topic: topic.to_bytes(),
        request: None,
        act: Some(act.clone()),
    };
    op.encoded_len()
}

#[cfg(test)]
mod tests {
    use ghostlight_protocol::ids::NodeId;
    use ghostlight_protocol::topic::{Seek, TopicName};

    use super::*;

    #[test]
    fn a_group_is_moved_once_in_an_entry() {
        let topic = |name| TopicName::new("default", "p", name).unwrap().partition(0);
        let mut proposals = Proposals::default();
        let moves = [("t", "g"), ("t", "h"), ("u", "g"), ("t", "g"), ("t", "h")];
        for (number, (name, group)) in (0..).zip(moves) {
            let seek = Seek {
                group: group.to_owned(),
                ..Seek::default()
            };
            proposals.push(Wanted {
                who: Who::Asker(Caller {
                    node: NodeId(1),
                    call: number,
                }),
                topic: topic(name).key(),
                request: None,
                act: Some(TopicAct::Seek(seek)),
                bytes: 10,
            });
        }
        let entries: Vec<usize> = (0..3).map(|_| proposals.gather().len()).collect();
        assert_eq!(entries, [3, 2, 0]);
    }
}
