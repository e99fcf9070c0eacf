//! The receiving side: one mark for each source, one `Accept` in flight for each source.
//!
//! The mark is not known at opening. The first `Accept` of a source teaches it, whatever it
//! carries: apply takes exactly what follows the mark.

use std::collections::BTreeMap;

use ghostlight_protocol::command::{Accept, Envelope, Kind};
use ghostlight_protocol::ids::{NodeId, PartitionId, RecoveryEpoch};
use ghostlight_protocol::limits::{
    ENVELOPE_BYTES_MAX, OUTBOX_FRAME_BYTES_MAX, OUTBOX_FRAME_MESSAGES_MAX,
};
use ghostlight_protocol::wire::frame::{OutboxMark, OutboxPush};
use prost::Message;

use super::OutboxEffect;

/// Bytes of pushes that wait behind the `Accept` of their source; beyond it the source pushes again
/// later.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// What this leadership knows about the partitions that push to it.
#[derive(Debug)]
pub(super) struct Destination {
    partition: PartitionId,
    sources: BTreeMap<PartitionId, Source>,
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Source {
    epoch: RecoveryEpoch,
    /// Highest sequence accepted, once known.
    mark: Option<u64>,
    accepting: Accepting,
    waiting: Option<(NodeId, OutboxPush)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accepting {
    Nothing,
    /// The node whose push is in the log, and the epoch it came with.
    InLog(NodeId, RecoveryEpoch),
}

/// What is to be done about a push.
enum Verdict {
    /// The mark tells the source all it needs.
    Answer(u64),
    /// New messages, or a mark not yet known.
    Accept(Accept),
}

impl Destination {
    pub(super) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            sources: BTreeMap::new(),
            waiting_bytes: 0,
        }
    }

    /// A push from a source's leader; gives what is to be proposed.
    pub(super) fn push(
        &mut self,
        from: NodeId,
        mut push: OutboxPush,
        out: &mut Vec<OutboxEffect>,
    ) -> Option<Kind> {
        let source_id = PartitionId(u16::try_from(push.source).ok()?);
        if push.destination != u32::from(self.partition.0) || push.first == 0 {
            return None;
        }
        cut_to_frame(&mut push.messages);
        let large = |message: &Envelope| message.encoded_len() > ENVELOPE_BYTES_MAX;
        if push.messages.iter().any(large) {
            // No source has such a message, and no entry could hold it.
            return None;
        }
        let epoch = RecoveryEpoch(push.source_epoch);
        let source = self.sources.entry(source_id).or_insert(Source {
            epoch,
            mark: None,
            accepting: Accepting::Nothing,
            waiting: None,
        });
        if epoch < source.epoch {
            // A source from before its recovery: fenced.
            return None;
        }
        if let Accepting::InLog(..) = source.accepting {
            let bytes = push.encoded_len();
            let before = source.waiting.as_ref().map_or(0, |(_, p)| p.encoded_len());
            if self.waiting_bytes - before + bytes <= WAITING_BYTES_MAX {
                self.waiting_bytes = self.waiting_bytes - before + bytes;
                source.waiting = Some((from, push));
            }
            return None;
        }
        if epoch > source.epoch {
            source.epoch = epoch;
            source.mark = None;
        }
        match source.verdict(push) {
            Verdict::Answer(through) => {
                out.push(mark_to(from, source_id, epoch, self.partition, through));
                None
            }
            Verdict::Accept(accept) => {
                source.accepting = Accepting::InLog(from, epoch);
                Some(Kind::Accept(accept))
            }
        }
    }

    /// An `Accept` was applied; gives the next one.
    pub(super) fn accepted(
        &mut self,
        source_id: PartitionId,
        through: u64,
        messages: Vec<(u64, Envelope)>,
        out: &mut Vec<OutboxEffect>,
    ) -> Option<Kind> {
        let source = self.sources.get_mut(&source_id)?;
        let Accepting::InLog(from, epoch) = source.accepting else {
            return None;
        };
        source.accepting = Accepting::Nothing;
        if epoch == source.epoch {
            source.mark = Some(through);
        }
        let waiting = source.waiting.take();
        out.push(mark_to(from, source_id, epoch, self.partition, through));
        if !messages.is_empty() {
            out.push(OutboxEffect::Deliver(messages));
        }
        let (from, push) = waiting?;
        self.waiting_bytes -= push.encoded_len();
        self.push(from, push, out)
    }

    /// The `Accept` of a source did not get into the log; the source pushes again.
    pub(super) fn dropped(&mut self, source: PartitionId) {
        if let Some(source) = self.sources.get_mut(&source) {
            source.accepting = Accepting::Nothing;
            if let Some((_, push)) = source.waiting.take() {
                self.waiting_bytes -= push.encoded_len();
            }
        }
    }

    /// Whether nothing of this side is in the log without an outcome.
    pub(super) fn settled(&self) -> bool {
        self.sources
            .values()
            .all(|source| source.accepting == Accepting::Nothing)
    }
}

impl Source {
    fn verdict(&self, mut push: OutboxPush) -> Verdict {
        let end = push.first.saturating_add(push.messages.len() as u64);
        if let Some(mark) = self.mark {
            if push.first > mark + 1 || end <= mark + 1 {
                return Verdict::Answer(mark);
            }
            let known = (mark + 1 - push.first) as usize;
            push.messages.drain(..known);
            push.first = mark + 1;
        }
        Verdict::Accept(Accept {
            source: push.source,
            source_epoch: push.source_epoch,
            first: push.first,
            messages: push.messages,
        })
    }
}

/// Whatever a peer sends, one entry must be able to hold it. The mark tells the source where to go
/// on.
fn cut_to_frame(messages: &mut Vec<Envelope>) {
    let mut bytes = 0;
    let fits = messages
        .iter()
        .take(OUTBOX_FRAME_MESSAGES_MAX)
        .take_while(|message| {
            let before = bytes;
            bytes += message.encoded_len();
            before == 0 || bytes <= OUTBOX_FRAME_BYTES_MAX
        })
        .count();
    messages.truncate(fits);
}

fn mark_to(
    to: NodeId,
    source: PartitionId,
    epoch: RecoveryEpoch,
    destination: PartitionId,
    through: u64,
) -> OutboxEffect {
    OutboxEffect::Mark {
        to,
        mark: OutboxMark {
            source: u32::from(source.0),
            source_epoch: epoch.0,
            destination: u32::from(destination.0),
            through: Some(through),
            hint: None,
        },
    }
}
