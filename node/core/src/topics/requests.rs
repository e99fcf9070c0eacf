//! Calls to topic partitions: what is asked, and what is answered.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::CallRequest;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::RequestRecord;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::limits::{
    APPENDS_BYTES_MAX, EVENT_HEADER_BYTES_MAX, EVENT_NAME_BYTES, GROUP_NAME_BYTES_MAX,
    PUBLISH_EVENTS_MAX, REDRIVE_LETTERS_MAX,
};
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::replica::{Published, SkipReason, TopicOutcome};
use ghostlight_protocol::request::{RequestId, request_digest};
use ghostlight_protocol::topic::{
    DescribeReply, GroupLetters, GroupPut, PublishBody, Reply, Request, Seek, StartFrom,
    TOPIC_TYPE, TopicAct, TopicPartition, TopicRequest,
};
use prost::Message;

use super::TopicsEffect;
use super::ask::{Listing, What};
use super::leader::{Live, Topics};
use super::load::{GroupId, refusal_of};
use super::proposals::Publish;
use crate::turns::{Caller, not_run, outcome_kind, reused, session_closed};

/// Pause that a publisher is asked to make when too much waits.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that a publish takes in an entry beside its events, about.
const PUBLISH_EXTRA_BYTES: usize = 256;

/// A request, parsed.
struct Asked {
    key: ActorKey,
    request: RequestRecord,
    body: Request,
}

impl Topics {
    pub(super) fn on_call(
        &mut self,
        from: Caller,
        request: CallRequest,
        out: &mut Vec<TopicsEffect>,
    ) {
        let taken = self.parse(request).and_then(|asked| self.take(from, asked));
        if let Err(refusal) = taken {
            self.counters.refused += 1;
            let kind = not_run(&refusal);
            out.push(TopicsEffect::Answer { to: from, kind });
        }
    }

    fn parse(&self, request: CallRequest) -> Result<Asked, NotRun> {
        let invalid = |text: &str| NotRun::new(Code::InvalidTopic, text);
        let id = RequestId::parse(&request.request_id).ok_or_else(|| {
            let text = "the request id is not in canonical form; update the calling node";
            NotRun::new(Code::InvalidRequestId, text)
        })?;
        let key = ActorKey::parse(request.actor)
            .map_err(|error| NotRun::new(error.code, error.to_string()))?;
        if partition_of(&key, self.partitions) != self.partition {
            return Err(NotRun::new(
                Code::ShapeMismatch,
                format!(
                    "{key} was sent to {}, where it does not belong: the calling node has another \
                     partition count; start it with the cluster's",
                    self.partition
                ),
            ));
        }
        if key.actor_type() == TOPIC_TYPE && TopicPartition::of_key(&key).is_none() {
            return Err(invalid("no topic partition has such a key"));
        }
        let body = TopicRequest::decode(request.body).ok();
        let body = body.and_then(|body| body.request);
        let body =
            body.ok_or_else(|| invalid("the request is not understood; update this node"))?;
        // Not of the bytes: an event of the same id may carry another time stamp when it is
        // repeated.
        let digest = request_digest(&key, &request.method, b"");
        let request = RequestRecord {
            id: id.to_bytes(),
            digest: Bytes::copy_from_slice(&digest.to_be_bytes()),
            closed_below: request.closed_below,
            closed_ranges: request.closed_ranges,
        };
        Ok(Asked { key, request, body })
    }

    fn take(&mut self, from: Caller, asked: Asked) -> Result<(), NotRun> {
        let Asked { key, request, body } = asked;
        let directory = key.actor_type() != TOPIC_TYPE;
        match body {
            Request::List(page) if directory => {
                let prefix = ActorKey::type_prefix(key.namespace(), TOPIC_TYPE);
                let prefix = prefix.map_err(|e| NotRun::new(e.code, e.to_string()))?;
                let what = What::List {
                    prefix,
                    after: Some(page.after).filter(|after| !after.is_empty()),
                    listing: Listing::default(),
                };
                self.ask(from, what, key)
            }
            Request::List(_) => Err(misdirected()),
            _ if directory => Err(misdirected()),
            Request::Describe(_) => {
                let what = What::Describe(key.clone(), Listing::default());
                self.ask(from, what, key)
            }
            Request::Letters(page) => {
                let what = What::Letters {
                    topic: key.clone(),
                    group: page.group,
                    from: page.from,
                };
                self.ask(from, what, key)
            }
            Request::DeleteEvents(_) => {
                let what = What::DeleteEvents {
                    topic: key.clone(),
                    request,
                };
                self.ask(from, what, key)
            }
            Request::Publish(body) => self.take_publish(from, key, request, body),
            Request::Seek(seek) if seek.offset.is_none() && seek.to() == StartFrom::Time => {
                self.take_seek_time(from, key, request, seek)
            }
            body => self.take_change(from, key, request, body),
        }
    }

    /// What is written, and is no publish.
    fn take_change(
        &mut self,
        from: Caller,
        key: ActorKey,
        request: RequestRecord,
        body: Request,
    ) -> Result<(), NotRun> {
        let act = match body {
            Request::Seek(seek) => TopicAct::Seek(seek),
            Request::PutGroup(put) => {
                check_group(&put.group)?;
                TopicAct::Put(GroupPut {
                    put: Some(put),
                    start_offset: 0,
                })
            }
            Request::Pause(name) => TopicAct::Pause(name),
            Request::Resume(name) => TopicAct::Resume(name),
            Request::DeleteGroup(name) => {
                self.check_unused(&key, &name.group)?;
                TopicAct::Delete(GroupLetters {
                    group: name.group,
                    offsets: Vec::new(),
                })
            }
            Request::Redrive(redrive) if redrive.offsets.len() > REDRIVE_LETTERS_MAX => {
                return Err(NotRun::new(
                    Code::InvalidArgument,
                    format!(
                        "{} letters were named, at most {REDRIVE_LETTERS_MAX} are moved at once",
                        redrive.offsets.len()
                    ),
                ));
            }
            Request::Redrive(redrive) => TopicAct::Redrive(redrive),
            Request::Publish(_)
            | Request::Describe(_)
            | Request::List(_)
            | Request::Letters(_)
            | Request::DeleteEvents(_) => {
                return Err(misdirected());
            }
        };
        self.may_write()?;
        self.change(from, key, request, act);
        Ok(())
    }

    fn take_seek_time(
        &mut self,
        from: Caller,
        topic: ActorKey,
        request: RequestRecord,
        seek: Seek,
    ) -> Result<(), NotRun> {
        let what = What::SeekTime {
            topic: topic.clone(),
            request,
            seek,
            search: None,
        };
        self.ask(from, what, topic)
    }

    fn take_publish(
        &mut self,
        from: Caller,
        topic: ActorKey,
        request: RequestRecord,
        body: PublishBody,
    ) -> Result<(), NotRun> {
        check_events(&body)?;
        self.may_write()?;
        if self.dedup_bytes > self.bounds.dedup_bytes_max {
            return Err(NotRun::retry(
                Code::DedupFull,
                format!(
                    "{} keeps {} bytes of request records, at most {} are allowed; publish with fewer ids of \
                     your own, or wait until old ones expire",
                    self.partition, self.dedup_bytes, self.bounds.dedup_bytes_max
                ),
                BUSY_PAUSE,
            ));
        }
        let bytes = body.encoded_len() + PUBLISH_EXTRA_BYTES;
        if !self.proposals.has_room(bytes) {
            return Err(NotRun::retry(
                Code::TopicBusy,
                format!(
                    "{} bytes of events wait to be written in {}, at most {APPENDS_BYTES_MAX} may: publish \
                     slower, or add nodes",
                    self.proposals.bytes(),
                    self.partition
                ),
                BUSY_PAUSE,
            ));
        }
        self.proposals.publish(Publish {
            from,
            topic,
            request,
            body,
            bytes,
        });
        Ok(())
    }

    pub(super) fn may_write(&self) -> Result<(), NotRun> {
        match self.writes.refusal(self.partition) {
            None => Ok(()),
            Some(refusal) => Err(refusal),
        }
    }

    pub(super) fn check_unused(&self, topic: &ActorKey, group: &str) -> Result<(), NotRun> {
        if let Some(Live::Ready(serving)) = self.groups.get(&GroupId::new(topic, group))
            && serving.group.takers().next().is_some()
        {
            let text = format!("group {group:?} has subscribers: stop them, then delete it");
            return Err(NotRun::new(Code::InvalidArgument, text));
        }
        Ok(())
    }

    pub(super) fn published(
        &mut self,
        topic: &ActorKey,
        callers: Vec<Caller>,
        outcome: TopicOutcome,
        out: &mut Vec<TopicsEffect>,
    ) {
        let TopicOutcome::Appended { results, .. } = outcome else {
            for caller in callers {
                self.answer_change(topic, caller, outcome.clone(), out);
            }
            return;
        };
        for (to, result) in callers.into_iter().zip(results) {
            match result {
                Published::At { reply, fresh } => {
                    match fresh {
                        0 => self.counters.repeated += 1,
                        _ => self.counters.published += 1,
                    }
                    self.reply(to, Reply::Published(reply), out);
                }
                Published::Skipped(reason) => {
                    self.counters.repeated += 1;
                    out.push(skipped(to, reason));
                }
            }
        }
    }

    pub(super) fn answer_change(
        &self,
        topic: &ActorKey,
        to: Caller,
        outcome: TopicOutcome,
        out: &mut Vec<TopicsEffect>,
    ) {
        match outcome {
            TopicOutcome::Group(changed) | TopicOutcome::Settled(changed) => {
                self.reply(to, changed.reply(), out);
            }
            TopicOutcome::Skipped(reason) => out.push(skipped(to, reason)),
            TopicOutcome::Refused(refusal) => {
                let kind = not_run(&refusal_of(topic, refusal));
                out.push(TopicsEffect::Answer { to, kind });
            }
            TopicOutcome::Trimmed(row) => {
                let reply = DescribeReply {
                    topic: topic.to_bytes(),
                    row: Some(row),
                    groups: Vec::new(),
                };
                self.reply(to, Reply::Described(reply), out);
            }
            // Nobody asks for it in this way.
            TopicOutcome::Appended { .. } => {}
        }
    }
}

fn skipped(to: Caller, reason: SkipReason) -> TopicsEffect {
    let kind = match reason {
        SkipReason::Recorded(answer) => outcome_kind(answer.into_outcome()),
        SkipReason::IdReused => reused(&RequestId::Outside(Bytes::new())),
        SkipReason::SessionClosed
        | SkipReason::Version { .. }
        | SkipReason::MessageGone
        | SkipReason::FiringGone
        | SkipReason::ScheduleThere => session_closed(),
    };
    TopicsEffect::Answer { to, kind }
}

fn misdirected() -> NotRun {
    let text = "the request does not belong to this key; update the calling node";
    NotRun::new(Code::InvalidTopic, text)
}

fn check_group(group: &str) -> Result<(), NotRun> {
    match group.len() {
        1..=GROUP_NAME_BYTES_MAX => Ok(()),
        n => Err(NotRun::new(
            Code::InvalidTopic,
            format!("the group's name has {n} bytes, 1 to {GROUP_NAME_BYTES_MAX} are allowed"),
        )),
    }
}

/// Bounds of what is published; the publisher's node checks the same, and says it earlier.
fn check_events(body: &PublishBody) -> Result<(), NotRun> {
    let invalid = |text| Err(NotRun::new(Code::InvalidArgument, text));
    let named = |name: &Bytes| name.is_empty() || name.len() == EVENT_NAME_BYTES;
    if body.names.len() > body.events.len() || !body.names.iter().all(named) {
        let text = "the names of events are not understood; update the calling node";
        return invalid(text.to_owned());
    }
    match body.events.len() {
        0 => return invalid("nothing was given to publish".to_owned()),
        1..=PUBLISH_EVENTS_MAX => {}
        n => {
            return invalid(format!(
                "{n} events are published to one topic partition, at most {PUBLISH_EVENTS_MAX} may be at once"
            ));
        }
    }
    for event in &body.events {
        let header = event.encoded_len() - event.data.len();
        if header > EVENT_HEADER_BYTES_MAX + 64 {
            return invalid(format!(
                "key, source, content type and attributes of an event have {header} bytes, at most \
                 {EVENT_HEADER_BYTES_MAX} are allowed; put more into its data"
            ));
        }
    }
    Ok(())
}
