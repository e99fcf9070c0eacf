//! What operators ask of topics: lists, parked letters, the offset that a time stands for, and the
//! oldest events of a topic that is to be deleted.
//!
//! A question waits for an entry of this leadership that was proposed after it came: a leader that
//! is deposed, and does not know it yet, answers nothing. Then rows are read page by page.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::AnswerKind;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::RequestRecord;
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::limits::TRIM_BATCHES_MAX;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::topic::{
    DeadTopicLetter, DescribeReply, GroupReply, GroupRow, LettersReply, ListReply, Reply, Seek,
    StartFrom, TopicAct, TopicBatch, TopicPartition, TopicReply, TopicRow, Trim,
};
use prost::Message;

use super::TopicsEffect;
use super::leader::{Live, ReadFor, Topics};
use super::load::GroupId;
use super::proposals::{Wanted, Who, act_bytes};
use crate::io::Rest;
use crate::turns::{Caller, RowsWanted, not_run};

/// Topic partitions of one page of a list.
const LIST_PAGE: usize = 32;
/// Groups of one read.
const GROUPS_PAGE: usize = 256;
/// Letters of one page.
const LETTERS_PAGE: usize = 64;
/// Questions without an answer in one partition; more are refused.
const ASKS_MAX: usize = 64;
/// Pause that whoever asks too much is asked to make.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// A question.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) from: Caller,
    pub(super) what: What,
    /// The latest entry that was made when it came: a later one must be applied before rows are
    /// read.
    pub(super) after: u64,
}

#[derive(Debug)]
pub(super) enum What {
    /// One topic partition.
    Describe(ActorKey, Listing),
    /// All of a namespace, from behind a key.
    List {
        prefix: Bytes,
        after: Option<Bytes>,
        listing: Listing,
    },
    /// Parked letters of a group.
    Letters {
        topic: ActorKey,
        group: String,
        from: u64,
    },
    /// The oldest batches, which are deleted.
    DeleteEvents {
        topic: ActorKey,
        request: RequestRecord,
    },
    /// A seek to a time.
    SeekTime {
        topic: ActorKey,
        request: RequestRecord,
        seek: Seek,
        search: Option<TimeSearch>,
    },
}

/// Topic partitions whose groups are read.
#[derive(Debug, Default)]
pub(super) struct Listing {
    queue: VecDeque<(ActorKey, TopicRow)>,
    done: Vec<DescribeReply>,
    begun: bool,
    more: u32,
}

impl Topics {
    /// Takes a question; it is answered behind the next entry.
    ///
    /// # Errors
    /// When no entry is written here for now, or too many wait for one.
    pub(super) fn ask(&mut self, from: Caller, what: What, topic: ActorKey) -> Result<(), NotRun> {
        self.may_write()?;
        if self.asks.len() >= ASKS_MAX {
            let text = format!(
                "{ASKS_MAX} questions about the topics of {} wait for their answers, which is as many as may; ask later",
                self.partition
            );
            return Err(NotRun::retry(Code::TopicBusy, text, BUSY_PAUSE));
        }
        self.proposals.push(Wanted {
            who: Who::Barrier,
            topic,
            request: None,
            act: None,
            bytes: 0,
        });
        let after = self.proposals.made();
        self.asks.push_back(Ask { from, what, after });
        Ok(())
    }

    /// The questions that came before an entry was made.
    pub(super) fn asks_before(&mut self, number: u64) -> VecDeque<Ask> {
        let ready = self.asks.iter().take_while(|ask| ask.after < number);
        let ready = ready.count();
        self.asks.drain(..ready).collect()
    }

    pub(super) fn begin_ask(&mut self, ask: Ask, out: &mut Vec<TopicsEffect>) {
        let rows = match &ask.what {
            What::Describe(topic, _) | What::SeekTime { topic, .. } => {
                RowsWanted::Keys(vec![(Family::Topic, topic.to_bytes())])
            }
            What::List { prefix, after, .. } => RowsWanted::Scan {
                family: Family::Topic,
                prefix: prefix.clone(),
                after: after.clone(),
                limit: LIST_PAGE,
            },
            What::DeleteEvents { topic, .. } => RowsWanted::Scan {
                family: Family::TopicBatch,
                prefix: topic.to_bytes(),
                after: None,
                limit: TRIM_BATCHES_MAX,
            },
            What::Letters { topic, group, from } => RowsWanted::Scan {
                family: Family::TopicLetter,
                prefix: family::letter_prefix(topic, group),
                after: from
                    .checked_sub(1)
                    .map(|before| family::letter_key(topic, group, before)),
                limit: LETTERS_PAGE,
            },
        };
        self.read(ReadFor::Ask(Box::new(ask)), rows, out);
    }

    pub(super) fn ask_rows(
        &mut self,
        ask: Ask,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<TopicsEffect>,
    ) {
        let Ask {
            from,
            what,
            after: _,
        } = ask;
        match what {
            What::Describe(topic, mut listing) if !listing.begun => {
                let Some(row) = rows.into_iter().find_map(|(_, value)| value) else {
                    return self.refuse_ask(from, &unknown_topic(&topic), out);
                };
                let row = TopicRow::decode(row).unwrap_or_default();
                listing.begin(VecDeque::from([(topic.clone(), row)]), 0);
                self.list_on(from, What::Describe(topic, listing), out);
            }
            What::List {
                prefix,
                after,
                mut listing,
            } if !listing.begun => {
                let more = u32::from(rest == Rest::More);
                let found = rows.into_iter().filter_map(|(key, value)| {
                    let row = TopicRow::decode(value?).unwrap_or_default();
                    Some((ActorKey::parse(key).ok()?, row))
                });
                listing.begin(found.collect(), more);
                let what = What::List {
                    prefix,
                    after,
                    listing,
                };
                self.list_on(from, what, out);
            }
            What::Describe(topic, mut listing) => {
                self.groups_read(&mut listing, rows, rest);
                self.list_on(from, What::Describe(topic, listing), out);
            }
            What::List {
                prefix,
                after,
                mut listing,
            } => {
                self.groups_read(&mut listing, rows, rest);
                let what = What::List {
                    prefix,
                    after,
                    listing,
                };
                self.list_on(from, what, out);
            }
            What::Letters { .. } => {
                let reply = Reply::Letters(letters_of(rows, rest));
                self.reply(from, reply, out);
            }
            What::DeleteEvents { topic, request } => {
                self.change(from, topic, request, deletion_of(&rows));
            }
            What::SeekTime {
                topic,
                request,
                seek,
                search,
            } => self.seek_time(from, topic, request, seek, search, rows, out),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one question, taken apart"
    )]
    fn seek_time(
        &mut self,
        from: Caller,
        topic: ActorKey,
        request: RequestRecord,
        mut seek: Seek,
        search: Option<TimeSearch>,
        rows: Vec<(Bytes, Option<Bytes>)>,
        out: &mut Vec<TopicsEffect>,
    ) {
        let (search, step) = match search {
            Some(mut search) => {
                let step = search.step(rows);
                (search, step)
            }
            None => {
                let Some(row) = rows.into_iter().find_map(|(_, value)| value) else {
                    return self.refuse_ask(from, &unknown_topic(&topic), out);
                };
                let row = TopicRow::decode(row).unwrap_or_default();
                let mut search = TimeSearch::new(&topic, &row, seek.time_ms);
                let step = search.begin();
                (search, step)
            }
        };
        match step {
            Step::Read(rows) => {
                let what = What::SeekTime {
                    topic,
                    request,
                    seek,
                    search: Some(search),
                };
                self.read_on(from, what, rows, out);
            }
            Step::Found(offset) => {
                seek.offset = Some(offset);
                seek.to = StartFrom::First as i32;
                self.change(from, topic, request, TopicAct::Seek(seek));
            }
        }
    }

    /// What somebody asked for becomes an entry.
    pub(super) fn change(
        &mut self,
        from: Caller,
        topic: ActorKey,
        request: RequestRecord,
        act: TopicAct,
    ) {
        let bytes = act_bytes(&topic, &act);
        self.proposals.push(Wanted {
            who: Who::Asker(from),
            topic,
            request: Some(request),
            act: Some(act),
            bytes,
        });
    }

    /// Groups of the first topic partition of the queue.
    fn groups_read(&self, listing: &mut Listing, rows: Vec<(Bytes, Option<Bytes>)>, rest: Rest) {
        let Some((topic, row)) = listing.queue.front() else {
            return;
        };
        let Some(done) = listing.done.last_mut() else {
            return;
        };
        for (key, value) in rows {
            let (Some((_, group)), Some(value)) = (family::parse_group_key(&key), value) else {
                continue;
            };
            let stored = GroupRow::decode(value).unwrap_or_default();
            done.groups
                .push(self.group_reply(topic, row, group, stored));
        }
        if rest == Rest::Last {
            listing.queue.pop_front();
        }
    }

    fn group_reply(
        &self,
        topic: &ActorKey,
        row: &TopicRow,
        group: String,
        stored: GroupRow,
    ) -> GroupReply {
        let mut reply = GroupReply {
            lag: stored.lag(row),
            row: Some(stored),
            ..GroupReply::default()
        };
        if let Some(Live::Ready(serving)) = self.groups.get(&GroupId::new(topic, &group)) {
            let counters = serving.group.counters();
            let mut nodes: Vec<_> = serving.group.takers().map(|id| id.node).collect();
            reply.subscribers = nodes.len() as u64;
            nodes.dedup();
            reply.nodes = nodes
                .iter()
                .map(|node| Bytes::copy_from_slice(&node.to_bytes()))
                .collect();
            reply.in_flight = serving.group.in_flight() as u64;
            reply.delivered = counters.delivered;
            reply.redelivered = counters.redelivered;
        }
        GroupReply { group, ..reply }
    }

    /// Reads the groups of the next topic partition, or answers.
    fn list_on(&mut self, from: Caller, mut what: What, out: &mut Vec<TopicsEffect>) {
        let (What::Describe(_, listing) | What::List { listing, .. }) = &mut what else {
            return;
        };
        if let Some((topic, row)) = listing.queue.front() {
            let fresh = listing
                .done
                .last()
                .is_none_or(|done| done.topic != topic.to_bytes());
            if fresh {
                listing.done.push(DescribeReply {
                    topic: topic.to_bytes(),
                    row: Some(row.clone()),
                    groups: Vec::new(),
                });
            }
            let last = listing.done.last().and_then(|done| done.groups.last());
            let rows = RowsWanted::Scan {
                family: Family::Group,
                prefix: topic.to_bytes(),
                after: last.map(|group| family::group_key(topic, &group.group)),
                limit: GROUPS_PAGE,
            };
            return self.read_on(from, what, rows, out);
        }
        let done = std::mem::take(&mut listing.done);
        let more = listing.more;
        let reply = match what {
            What::Describe(..) => Reply::Described(done.into_iter().next().unwrap_or_default()),
            What::List { .. }
            | What::Letters { .. }
            | What::SeekTime { .. }
            | What::DeleteEvents { .. } => Reply::Listed(ListReply { topics: done, more }),
        };
        self.reply(from, reply, out);
    }

    fn read_on(&mut self, from: Caller, what: What, rows: RowsWanted, out: &mut Vec<TopicsEffect>) {
        let ask = Ask {
            from,
            what,
            after: 0,
        };
        self.read(ReadFor::Ask(Box::new(ask)), rows, out);
    }

    pub(super) fn reply(&self, to: Caller, reply: Reply, out: &mut Vec<TopicsEffect>) {
        let reply = TopicReply { reply: Some(reply) };
        let kind = AnswerKind::Reply(reply.encode_to_vec().into());
        out.push(TopicsEffect::Answer { to, kind });
    }

    fn refuse_ask(&self, to: Caller, refusal: &NotRun, out: &mut Vec<TopicsEffect>) {
        let kind = not_run(refusal);
        out.push(TopicsEffect::Answer { to, kind });
    }
}

fn letters_of(rows: Vec<(Bytes, Option<Bytes>)>, rest: Rest) -> LettersReply {
    let letters = rows
        .into_iter()
        .filter_map(|(_, value)| Some(DeadTopicLetter::decode(value?).unwrap_or_default()));
    LettersReply {
        letters: letters.collect(),
        more: u32::from(rest == Rest::More),
    }
}

/// Deletes these batches.
fn deletion_of(rows: &[(Bytes, Option<Bytes>)]) -> TopicAct {
    let last = rows.iter().filter_map(|(key, _)| family::batch_end(key));
    TopicAct::Trim(Trim {
        last: last.collect(),
        next_last: None,
        delete: 1,
    })
}

impl Listing {
    fn begin(&mut self, queue: VecDeque<(ActorKey, TopicRow)>, more: u32) {
        self.queue = queue;
        self.more = more;
        self.begun = true;
    }
}

fn unknown_topic(topic: &ActorKey) -> NotRun {
    let name = TopicPartition::of_key(topic);
    let name = name.map_or_else(|| topic.to_string(), |topic| topic.to_string());
    let text =
        format!("{name} was never published or subscribed to. \"ghostlight topics\" lists topics");
    NotRun::new(Code::UnknownTopic, text)
}

/// Finds the offset of the first event appended at or after a time, by halves.
#[derive(Debug)]
pub(super) struct TimeSearch {
    topic: ActorKey,
    time_ms: u64,
    low: u64,
    high: u64,
}

/// What a search does next.
pub(super) enum Step {
    Read(RowsWanted),
    Found(u64),
}

impl TimeSearch {
    pub(super) fn new(topic: &ActorKey, row: &TopicRow, time_ms: u64) -> Self {
        Self {
            topic: topic.clone(),
            time_ms,
            low: row.first,
            high: row.next,
        }
    }

    pub(super) fn begin(&mut self) -> Step {
        if self.low >= self.high {
            return Step::Found(self.low);
        }
        let middle = self.low + (self.high - self.low) / 2;
        Step::Read(RowsWanted::Scan {
            family: Family::TopicBatch,
            prefix: self.topic.to_bytes(),
            after: family::batches_after(&self.topic, middle),
            limit: 1,
        })
    }

    /// The batch that holds the middle.
    pub(super) fn step(&mut self, rows: Vec<(Bytes, Option<Bytes>)>) -> Step {
        let Some(batch) = rows.into_iter().find_map(|(_, value)| value) else {
            return Step::Found(self.high);
        };
        let batch = TopicBatch::decode(batch).unwrap_or_default();
        let end = batch.base.saturating_add(batch.events.len() as u64);
        if batch.appended_ms >= self.time_ms {
            // Its front may have gone meanwhile: never above what is known.
            self.high = batch.base.clamp(self.low, self.high.saturating_sub(1));
        } else {
            self.low = end.clamp(self.low + 1, self.high);
        }
        self.begin()
    }
}
