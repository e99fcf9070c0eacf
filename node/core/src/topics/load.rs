//! Subscribers come: their groups are read, made if they are new, and served.

use std::sync::Arc;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::IfThere;
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::ids::{NodeId, Term};
use ghostlight_protocol::limits::GROUP_NAME_BYTES_MAX;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::replica::{Appended, GroupChanged, TopicOutcome, TopicRefusal};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::topic::{
    GroupPut, GroupRow, PutGroup, StartFrom, TopicAct, TopicBatch, TopicPartition, TopicRow,
};
use ghostlight_protocol::wire::topic::{Attach, Refused, TopicFrame, TopicSaid};
use prost::Message;

use super::ask::{Step, TimeSearch};
use super::group::{Hunger, SubscriberId};
use super::leader::{Live, ReadFor, Topics};
use super::proposals::{Wanted, Who, act_bytes};
use super::{TopicsEffect, UnsentDelivery};
use crate::io::Rest;
use crate::turns::{ReadId, RowsWanted};

/// Batches of one read of a log.
const BATCHES_PAGE: usize = 64;

/// A group of a topic partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct GroupId {
    pub(super) topic: ActorKey,
    pub(super) group: String,
}

impl GroupId {
    pub(super) fn new(topic: &ActorKey, group: &str) -> Self {
        Self {
            topic: topic.clone(),
            group: group.to_owned(),
        }
    }

    /// Not after any group of the topic partition.
    pub(super) fn first_of(topic: &ActorKey) -> Self {
        Self::new(topic, "")
    }
}

/// A group that does not serve yet.
#[derive(Debug)]
pub(super) struct Loading {
    stage: Stage,
    attaches: Vec<(SubscriberId, Attach)>,
    /// What was applied meanwhile: newer than what is read.
    topic: Option<TopicRow>,
    changed: Option<GroupChanged>,
}

#[derive(Debug)]
enum Stage {
    Rows,
    /// A new group begins at a time.
    Time(TimeSearch),
    Making,
}

impl Loading {
    /// A row of its topic partition that an entry has just written.
    pub(super) fn noted(&mut self, row: &TopicRow) {
        self.topic = Some(row.clone());
    }

    pub(super) fn changed(&mut self, changed: &GroupChanged) {
        self.topic = Some(changed.topic.clone());
        self.changed = Some(changed.clone());
    }
}

impl Topics {
    pub(super) fn on_frame(
        &mut self,
        now: Instant,
        from: NodeId,
        frame: TopicFrame,
        out: &mut Vec<TopicsEffect>,
    ) {
        if let Some(TopicSaid::Present(present)) = frame.said {
            return self.present(now, from, Term(frame.term), present, out);
        }
        let topic = ActorKey::parse(frame.topic).ok();
        let topic = topic.filter(|key| TopicPartition::of_key(key).is_some());
        let Some(topic) = topic else {
            return;
        };
        let subscriber = SubscriberId {
            node: from,
            number: frame.subscriber,
        };
        match frame.said {
            Some(TopicSaid::Attach(attach)) => {
                let id = GroupId::new(&topic, &attach.group);
                self.attach(now, id, subscriber, attach, out);
            }
            Some(TopicSaid::Detach(_)) => self.detach(&topic, subscriber),
            Some(TopicSaid::Verdicts(verdicts)) => {
                let Some(id) = self.group_of(&topic, subscriber) else {
                    // It was forgotten here, with what it held: it attaches again, and says it
                    // again.
                    let id = GroupId::first_of(&topic);
                    return self.not_attached(&id, subscriber, out);
                };
                if let Some(Live::Ready(serving)) = self.groups.get_mut(&id) {
                    serving.group.verdicts(now, subscriber, &verdicts);
                    self.touched.insert(id);
                }
            }
            Some(
                TopicSaid::Attached(_)
                | TopicSaid::Refused(_)
                | TopicSaid::Deliver(_)
                | TopicSaid::Confirm(_)
                | TopicSaid::Present(_)
                | TopicSaid::Counted(_)
                | TopicSaid::SpeakUp(_),
            )
            | None => {}
        }
    }

    /// What a subscriber was to get did not leave this node.
    pub(super) fn not_sent(&mut self, now: Instant, to: NodeId, unsent: &UnsentDelivery) {
        let Ok(topic) = ActorKey::parse(unsent.topic.clone()) else {
            return;
        };
        let subscriber = SubscriberId {
            node: to,
            number: unsent.subscriber,
        };
        if unsent.term != self.term {
            return;
        }
        if let Some(id) = self.group_of(&topic, subscriber)
            && let Some(Live::Ready(serving)) = self.groups.get_mut(&id)
        {
            serving.group.not_sent(now, subscriber, unsent.number);
            self.touched.insert(id);
        }
    }

    pub(super) fn not_attached(&self, id: &GroupId, to: SubscriberId, out: &mut Vec<TopicsEffect>) {
        self.say(id, to, TopicSaid::Refused(Refused::default()), out);
    }

    fn group_of(&self, topic: &ActorKey, subscriber: SubscriberId) -> Option<GroupId> {
        let groups = self.groups.range(GroupId::first_of(topic)..);
        let mut groups = groups.take_while(|(id, _)| id.topic == *topic);
        let found = groups.find(|(_, live)| match live {
            Live::Ready(serving) => serving.group.knows(subscriber),
            Live::Loading(_) => false,
        });
        found.map(|(id, _)| id.clone())
    }

    fn detach(&mut self, topic: &ActorKey, subscriber: SubscriberId) {
        let groups = self.groups.range_mut(GroupId::first_of(topic)..);
        for (id, live) in groups.take_while(|(id, _)| id.topic == *topic) {
            match live {
                Live::Ready(serving) if serving.group.knows(subscriber) => {
                    serving.group.detach(subscriber);
                    self.touched.insert(id.clone());
                }
                Live::Ready(_) => {}
                Live::Loading(loading) => {
                    loading
                        .attaches
                        .retain(|(waiting, _)| *waiting != subscriber);
                }
            }
        }
    }

    fn attach(
        &mut self,
        now: Instant,
        id: GroupId,
        from: SubscriberId,
        attach: Attach,
        out: &mut Vec<TopicsEffect>,
    ) {
        if id.group.is_empty() || id.group.len() > GROUP_NAME_BYTES_MAX {
            let text = format!(
                "the group's name has {} bytes, 1 to {GROUP_NAME_BYTES_MAX} are allowed",
                id.group.len()
            );
            let refusal = NotRun::new(Code::InvalidTopic, text);
            return self.refuse_attach(&id, from, &refusal, out);
        }
        match self.groups.get_mut(&id) {
            Some(Live::Ready(serving)) => {
                let new = !serving.group.knows(from);
                serving.group.attach(now, from, &attach);
                self.leases.begun(now);
                let epoch = serving.group.epoch();
                let other = attach.settings.as_ref() != Some(serving.group.settings());
                self.say_attached(&id, from, epoch, out);
                self.touched.insert(id.clone());
                if new && other && changes(&attach) && takes_any(&attach) {
                    self.put(&id, &attach, 0);
                }
            }
            Some(Live::Loading(loading)) => {
                loading.attaches.retain(|(waiting, _)| *waiting != from);
                loading.attaches.push((from, attach));
            }
            None => {
                let loading = Loading {
                    stage: Stage::Rows,
                    attaches: vec![(from, attach)],
                    topic: None,
                    changed: None,
                };
                let loading = Live::Loading(Box::new(loading));
                self.groups.insert(id.clone(), loading);
                let keys = vec![
                    (Family::Topic, id.topic.to_bytes()),
                    (Family::Group, family::group_key(&id.topic, &id.group)),
                ];
                self.read(ReadFor::Load(id), RowsWanted::Keys(keys), out);
            }
        }
    }

    pub(super) fn refuse_attach(
        &self,
        id: &GroupId,
        to: SubscriberId,
        refusal: &NotRun,
        out: &mut Vec<TopicsEffect>,
    ) {
        let refused = Refused {
            code: u32::from(refusal.code.number()),
            detail: refusal.detail.clone(),
            hint: None,
        };
        self.say(id, to, TopicSaid::Refused(refused), out);
    }

    /// Rows of a group that loads.
    pub(super) fn load_rows(
        &mut self,
        now: Instant,
        id: &GroupId,
        rows: Vec<(Bytes, Option<Bytes>)>,
        out: &mut Vec<TopicsEffect>,
    ) {
        let Some(Live::Loading(loading)) = self.groups.get_mut(id) else {
            return;
        };
        match &mut loading.stage {
            Stage::Rows => self.rows_known(now, id, rows, out),
            Stage::Time(search) => match search.step(rows) {
                Step::Read(rows) => {
                    self.read(ReadFor::Load(id.clone()), rows, out);
                }
                Step::Found(offset) => {
                    self.make(id, offset, out);
                }
            },
            Stage::Making => {}
        }
    }

    fn rows_known(
        &mut self,
        now: Instant,
        id: &GroupId,
        rows: Vec<(Bytes, Option<Bytes>)>,
        out: &mut Vec<TopicsEffect>,
    ) {
        let Some(Live::Loading(loading)) = self.groups.get_mut(id) else {
            return;
        };
        let mut values = rows.into_iter().map(|(_, value)| value);
        let topic = values.next().flatten();
        let read = topic.map(|bytes| TopicRow::decode(bytes).unwrap_or_default());
        let row = values.next().flatten();
        let row = row.map(|bytes| GroupRow::decode(bytes).unwrap_or_default());
        let topic = loading.topic.take().or(read).unwrap_or_default();
        let row = match loading.changed.take() {
            Some(changed) => changed.row,
            None => row,
        };
        if loading.attaches.is_empty() {
            self.groups.remove(id);
            return;
        }
        let maker = maker(&loading.attaches);
        if maker.is_none() && row.is_none() {
            return self.nothing_to_leave(id, out);
        }
        let wanted = maker.and_then(|attach| attach.settings.clone());
        let settings = wanted.unwrap_or_default();
        let stays = !maker.is_some_and(changes);
        match row {
            Some(row) if stays || row.settings.as_ref() == Some(&settings) => {
                let changed = GroupChanged {
                    group: id.group.clone(),
                    row: Some(row),
                    topic,
                    taken: 0,
                    outbox: Vec::new(),
                    appended: Vec::new(),
                };
                self.serve_all(now, id, &changed, out);
            }
            None if settings.start() == StartFrom::Time => {
                let mut search = TimeSearch::new(&id.topic, &topic, settings.start_ms);
                match search.begin() {
                    Step::Read(rows) => {
                        loading.stage = Stage::Time(search);
                        self.read(ReadFor::Load(id.clone()), rows, out);
                    }
                    Step::Found(offset) => self.make(id, offset, out),
                }
            }
            Some(_) | None => self.make(id, 0, out),
        }
    }

    /// Only those that leave ask for a group that is not there: they make none.
    fn nothing_to_leave(&mut self, id: &GroupId, out: &mut Vec<TopicsEffect>) {
        let Some(Live::Loading(loading)) = self.groups.remove(id) else {
            return;
        };
        let refusal = NotRun::new(
            Code::UnknownGroup,
            format!(
                "group {:?} was deleted while its last subscribers left",
                id.group
            ),
        );
        for (to, _) in loading.attaches {
            self.refuse_attach(id, to, &refusal, out);
        }
    }

    /// Makes the group of those who wait for it, or changes how it is served.
    fn make(&mut self, id: &GroupId, at: u64, out: &mut Vec<TopicsEffect>) {
        let refusal = self.writes.refusal(self.partition);
        let Some(Live::Loading(loading)) = self.groups.get_mut(id) else {
            return;
        };
        if let Some(refusal) = refusal {
            let waiting = std::mem::take(&mut loading.attaches);
            self.groups.remove(id);
            for (to, _) in waiting {
                self.refuse_attach(id, to, &refusal, out);
            }
            return;
        }
        loading.stage = Stage::Making;
        match maker(&loading.attaches).cloned() {
            Some(attach) => self.put(id, &attach, at),
            None => self.nothing_to_leave(id, out),
        }
    }

    fn put(&mut self, id: &GroupId, attach: &Attach, start_offset: u64) {
        let act = TopicAct::Put(GroupPut {
            put: Some(PutGroup {
                group: id.group.clone(),
                settings: attach.settings.clone(),
            }),
            start_offset,
        });
        let bytes = act_bytes(&id.topic, &act);
        self.proposals.push(Wanted {
            who: Who::Load(id.clone()),
            topic: id.topic.clone(),
            request: None,
            act: Some(act),
            bytes,
        });
    }

    /// The entry that makes a group, or changes it for a subscriber, was applied.
    pub(super) fn made(
        &mut self,
        now: Instant,
        id: GroupId,
        outcome: TopicOutcome,
        out: &mut Vec<TopicsEffect>,
    ) {
        match (outcome, self.groups.get_mut(&id)) {
            (TopicOutcome::Group(changed), Some(Live::Loading(_))) => {
                self.serve_all(now, &id, &changed, out);
            }
            (TopicOutcome::Group(changed), Some(Live::Ready(_))) => {
                self.group_changed(&id.topic, &changed, out);
            }
            (TopicOutcome::Refused(refusal), Some(Live::Loading(loading))) => {
                let waiting = std::mem::take(&mut loading.attaches);
                self.groups.remove(&id);
                let refusal = refusal_of(&id.topic, refusal);
                for (to, _) in waiting {
                    self.refuse_attach(&id, to, &refusal, out);
                }
            }
            _ => {}
        }
    }

    fn serve_all(
        &mut self,
        now: Instant,
        id: &GroupId,
        changed: &GroupChanged,
        out: &mut Vec<TopicsEffect>,
    ) {
        let Some(Live::Loading(loading)) = self.groups.remove(id) else {
            return;
        };
        let mut changed = changed.clone();
        let age = |topic: &TopicRow| (topic.next, topic.first);
        let newer = loading.topic;
        if let Some(topic) = newer.filter(|topic| age(topic) > age(&changed.topic)) {
            changed.topic = topic;
        }
        self.serve(now, id, &changed);
        for (from, attach) in loading.attaches {
            if let Some(Live::Ready(serving)) = self.groups.get_mut(id) {
                serving.group.attach(now, from, &attach);
                self.leases.begun(now);
                let epoch = serving.group.epoch();
                self.say_attached(id, from, epoch, out);
            }
        }
    }

    /// Reads what a group lacks.
    pub(super) fn feed(&mut self, id: &GroupId, out: &mut Vec<TopicsEffect>) {
        let Some(Live::Ready(serving)) = self.groups.get_mut(id) else {
            return;
        };
        let Hunger::From(offset) = serving.group.hunger() else {
            return;
        };
        if serving.reading.is_some() {
            return;
        }
        let rows = RowsWanted::Scan {
            family: Family::TopicBatch,
            prefix: id.topic.to_bytes(),
            after: family::batches_after(&id.topic, offset),
            limit: BATCHES_PAGE,
        };
        let read = self.read(ReadFor::Events(id.clone()), rows, out);
        if let Some(Live::Ready(serving)) = self.groups.get_mut(id) {
            serving.reading = Some(read);
        }
    }

    /// Batches for a group.
    pub(super) fn events_read(
        &mut self,
        read: ReadId,
        id: &GroupId,
        rows: Vec<(Bytes, Option<Bytes>)>,
    ) {
        let Some(Live::Ready(serving)) = self.groups.get_mut(id) else {
            return;
        };
        if serving.reading != Some(read) {
            return;
        }
        serving.reading = None;
        let batches = rows.into_iter().filter_map(|(_, value)| {
            let batch = TopicBatch::decode(value?).unwrap_or_default();
            Some(Arc::new(batch))
        });
        serving.group.read(batches);
        self.touched.insert(id.clone());
    }

    /// Rows that loading groups must not take for the newest.
    pub(super) fn note_appended(&mut self, appended: &Appended) {
        let groups = self.groups.range_mut(GroupId::first_of(&appended.topic)..);
        for (_, live) in groups.take_while(|(id, _)| id.topic == appended.topic) {
            if let Live::Loading(loading) = live {
                loading.noted(&appended.row);
            }
        }
    }

    pub(super) fn on_rows(
        &mut self,
        now: Instant,
        read: ReadId,
        rows: Vec<(Bytes, Option<Bytes>)>,
        rest: Rest,
        out: &mut Vec<TopicsEffect>,
    ) {
        match self.reads.remove(&read) {
            Some(ReadFor::Load(id)) => self.load_rows(now, &id, rows, out),
            Some(ReadFor::Events(id)) => self.events_read(read, &id, rows),
            Some(ReadFor::Ask(ask)) => self.ask_rows(*ask, rows, rest, out),
            Some(ReadFor::Sweep) => self.sweep_rows(now, rows, rest, out),
            None => {}
        }
    }
}

/// Whether a subscriber wants events still. One that leaves is there for what it owes: it makes no
/// group, and changes none.
fn takes_any(attach: &Attach) -> bool {
    attach.credit_events > 0
}

/// Whether a group that is there is to be served as it says.
fn changes(attach: &Attach) -> bool {
    attach.settings.is_some() && attach.if_there() == IfThere::Replace
}

/// Whose settings a group gets that several wait for: the last one's that would change it, else the
/// last one's.
fn maker(attaches: &[(SubscriberId, Attach)]) -> Option<&Attach> {
    let takers = attaches.iter().rev().map(|(_, attach)| attach);
    let mut takers = takers.filter(|attach| takes_any(attach));
    let changing = takers.clone().find(|attach| changes(attach));
    changing.or_else(|| takers.next())
}

/// The refusal of an operation, for whoever asked for it.
pub(super) fn refusal_of(topic: &ActorKey, refusal: TopicRefusal) -> NotRun {
    let name = TopicPartition::of_key(topic);
    let name = name.map_or_else(String::new, |topic| topic.to_string());
    match refusal {
        TopicRefusal::UnknownGroup => NotRun::new(
            Code::UnknownGroup,
            format!(
                "{name} has no group of that name. \"ghostlight subscriptions\" lists those that exist"
            ),
        ),
        TopicRefusal::GroupsFull => NotRun::new(
            Code::TopicBusy,
            format!("{name} has as many groups as a topic may have; delete some"),
        ),
        TopicRefusal::Overtaken => NotRun::retry(
            Code::TopicBusy,
            format!("the group of {name} was changed at the same moment; try again"),
            std::time::Duration::from_millis(100),
        ),
        TopicRefusal::OutOfRange { first, next } => NotRun::new(
            Code::CursorOutOfRange,
            format!(
                "{name} keeps offsets from {first}, and its next one is {next}: seek between them"
            ),
        ),
        TopicRefusal::InUse => NotRun::new(
            Code::InvalidArgument,
            format!("{name} has groups of subscribers: delete them first"),
        ),
        TopicRefusal::Malformed => NotRun::new(
            Code::InvalidTopic,
            format!("the request to {name} is not understood; update the node that sent it"),
        ),
    }
}
