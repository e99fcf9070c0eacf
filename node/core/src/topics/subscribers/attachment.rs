//! A subscriber in one topic partition: who leads it, what is held, and which verdicts are not
//! confirmed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::closed::ClosedRange;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::Send;
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::limits::{BATCH_BYTES_MAX, TOPIC_PARTITIONS};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::topic::{AckSet, Forward};
use ghostlight_protocol::wire::topic::{
    Attach, Confirm, Deliver, Delivered, Detach, FailedDelivery, Failure, Mark, Roll, TopicFrame,
    TopicSaid, Verdicts,
};
use prost::Message;

use super::{Said, SubscribersEffect, Subscribing};
use crate::gateway::{Reachable, Routes};

/// A leader that does not answer is asked again, or another node is.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Pause after a node said that it does not lead.
const NOT_LEADER_PAUSE: Duration = Duration::from_millis(50);
/// Pause after a refusal that may be over by then.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// A leader hears this often that the subscriber is there, while something is delivered or held: a
/// frame that was lost is found out by it.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// A leader that does not answer that for so long is looked for anew.
pub(super) const RENEW_WAIT: Duration = Duration::from_secs(2);
/// A verdict that is not confirmed is said again.
const VERDICT_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Attachment {
    partition: PartitionId,
    topic: ActorKey,
    number: u64,
    mark: Mark,
    state: State,
    /// Latest leadership that was attached to.
    term: Term,
    epoch: u64,
    seen: u64,
    held: BTreeMap<u64, Holding>,
    /// When verdicts were last said that are not confirmed.
    said: Option<Instant>,
    tried: usize,
    refusal: Option<(Code, String)>,
    deadline: Option<Instant>,
    closing: Closing,
    /// Something was given back that the leader counts as held.
    returned: Returned,
}

/// Whether the node ends or its program has gone, and how far that is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Closing {
    No,
    /// So many answers of the leader are waited for until it has heard that nothing more is taken.
    Asked(u8),
    /// It has.
    Heard,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Returned {
    Nothing,
    Unsaid,
}

/// Who says the next time that the subscriber is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// It does, then: something was delivered in this period.
    Busy(Instant),
    /// It does, then: nothing was so far, or it may have been and was lost.
    Quiet(Instant),
    /// The word of its node does: nothing was for a whole period, and nothing is held.
    Idle,
}

impl Pace {
    fn renew(self) -> Option<Instant> {
        match self {
            Self::Busy(at) | Self::Quiet(at) => Some(at),
            Self::Idle => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Somebody is asked, or nobody could be.
    Searching { again: Instant },
    /// The leader delivers.
    Attached {
        to: NodeId,
        pace: Pace,
        /// Asked whether it is still there.
        asked: Option<Instant>,
    },
}

#[derive(Debug)]
struct Holding {
    attempt: u32,
    token: u64,
    verdict: Option<(Said, Told)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    No,
    Yes,
}

/// Which verdicts are to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    Unsaid,
    All,
}

/// What a frame comes to.
pub(super) enum Heard {
    Nothing,
    /// Attached; tokens of another epoch are void.
    Attached {
        void: Vec<u64>,
    },
    /// The leader is another one, or has forgotten this subscriber.
    Lost,
    Refused {
        code: Code,
        detail: String,
    },
    /// Events to be handed out. `gap`: frames before this one are lost.
    Events {
        events: Vec<Delivered>,
        gap: bool,
    },
    /// Tokens that are settled.
    Confirmed(Vec<u64>),
    /// The leader lacks a word of what is held.
    AskedToSpeak,
}

impl Attachment {
    pub(super) fn new(
        now: Instant,
        partition: PartitionId,
        topic: ActorKey,
        group: &str,
        number: u64,
    ) -> Self {
        Self {
            partition,
            mark: Mark::of(topic.as_bytes(), group, number),
            topic,
            number,
            state: State::Searching { again: now },
            term: Term(0),
            epoch: 0,
            seen: 0,
            held: BTreeMap::new(),
            said: None,
            tried: 0,
            refusal: None,
            deadline: None,
            closing: Closing::No,
            returned: Returned::Nothing,
        }
    }

    pub(super) fn partition(&self) -> PartitionId {
        self.partition
    }

    pub(super) fn term(&self) -> Term {
        self.term
    }

    pub(super) fn is_of(&self, topic: &Bytes) -> bool {
        self.topic.as_bytes() == &topic[..]
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached { .. })
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        match self.state {
            State::Attached { to, .. } => Some(to),
            State::Searching { .. } => None,
        }
    }

    /// The leadership that it is attached to.
    pub(super) fn leadership(&self) -> Option<(Term, NodeId)> {
        self.leader().map(|node| (self.term, node))
    }

    /// Stands on the roll of those that are attached.
    pub(super) fn answer_to(&self, roll: &mut Roll) {
        roll.add(self.mark, self.epoch);
    }

    pub(super) fn refusal(&self) -> Option<&(Code, String)> {
        self.refusal.as_ref()
    }

    /// The deadline that is listed, and the one that should be.
    pub(super) fn reschedule(&mut self) -> (Option<Instant>, Option<Instant>) {
        let after = self.next_deadline();
        (std::mem::replace(&mut self.deadline, after), after)
    }

    pub(super) fn forget_deadline(&mut self) -> Option<Instant> {
        self.deadline.take()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let verdicts = self.said.map(|said| said + VERDICT_AGAIN);
        let (search, renew) = match self.state {
            State::Searching { again } => (Some(again), None),
            State::Attached { pace, asked, .. } => {
                (asked.map(|asked| asked + RENEW_WAIT), pace.renew())
            }
        };
        [verdicts, search, renew].into_iter().flatten().min()
    }

    fn frame(&self, term: Term, said: TopicSaid) -> TopicFrame {
        TopicFrame {
            partition: u32::from(self.partition.0),
            topic: self.topic.to_bytes(),
            subscriber: self.number,
            term: term.0,
            said: Some(said),
        }
    }

    fn attach_frame(&self, group: &str, wants: &Subscribing, seen: u64) -> TopicFrame {
        let parts = u32::from(TOPIC_PARTITIONS);
        let mut held = AckSet::default();
        for offset in self.held.keys() {
            held.add(*offset, offset + 1);
        }
        let mut ranges: Vec<ClosedRange> = held.ranges().to_vec();
        if held.floor() > 0 {
            let end = held.floor();
            ranges.insert(0, ClosedRange { first: 0, end });
        }
        let credit_events = match self.closing {
            Closing::No => wants.credit_events.div_ceil(parts).max(1),
            Closing::Asked(_) | Closing::Heard => 0,
        };
        let attach = Attach {
            group: group.to_owned(),
            settings: Some(wants.settings.clone()),
            if_there: wants.if_there as i32,
            credit_events,
            credit_bytes: wants.credit_bytes.div_ceil(u64::from(parts)),
            epoch: self.epoch,
            held: ranges,
            seen,
        };
        self.frame(Term(0), TopicSaid::Attach(attach))
    }

    /// Asks whoever leads as far as is known, or the next of those that may.
    pub(super) fn search(
        &mut self,
        now: Instant,
        group: &str,
        wants: &Subscribing,
        routes: &dyn Routes,
    ) -> Option<SubscribersEffect> {
        self.state = State::Searching {
            again: now + ASK_AGAIN,
        };
        if self.closing != Closing::No {
            self.closing = Closing::Asked(1);
        }
        let able = |node: &NodeId| routes.reachable(*node) == Reachable::Yes;
        let known = routes.leader(self.partition).map(|(_, node)| node);
        // Every second time somebody else: what is known may be long out of date.
        let known = known.filter(|node| able(node) && self.tried.is_multiple_of(2));
        let to = known.or_else(|| {
            let candidates: Vec<NodeId> = routes.candidates(self.partition);
            let able: Vec<NodeId> = candidates.into_iter().filter(able).collect();
            (!able.is_empty()).then(|| able[self.tried / 2 % able.len()])
        });
        self.tried += 1;
        let to = to?;
        let frame = self.attach_frame(group, wants, 0);
        Some(SubscribersEffect::Send { to, frame })
    }

    /// Tells the leader that the subscriber is still there, and what it holds: something may be
    /// under way, or lost.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        group: &str,
        wants: &Subscribing,
    ) -> Option<SubscribersEffect> {
        self.speak(now, Pace::Quiet(now + RENEW_EVERY), group, wants)
    }

    /// The same, because the word of its node did not do: what is idle stays so.
    pub(super) fn speak_for_itself(
        &mut self,
        now: Instant,
        group: &str,
        wants: &Subscribing,
    ) -> Option<SubscribersEffect> {
        let State::Attached { pace, .. } = self.state else {
            return None;
        };
        self.speak(now, pace, group, wants)
    }

    /// How the next period begins when one has ended.
    fn next_pace(&self, now: Instant, pace: Pace) -> Pace {
        let at_rest = self.held.is_empty() && self.closing == Closing::No;
        match pace {
            Pace::Quiet(_) | Pace::Idle if at_rest => Pace::Idle,
            Pace::Busy(_) | Pace::Quiet(_) | Pace::Idle => Pace::Quiet(now + RENEW_EVERY),
        }
    }

    fn speak(
        &mut self,
        now: Instant,
        pace: Pace,
        group: &str,
        wants: &Subscribing,
    ) -> Option<SubscribersEffect> {
        let State::Attached { to, asked, .. } = self.state else {
            return None;
        };
        self.state = State::Attached {
            to,
            pace,
            asked: asked.or(Some(now)),
        };
        let frame = self.attach_frame(group, wants, self.seen);
        Some(SubscribersEffect::Send { to, frame })
    }

    /// The node ends, or its program has gone: nothing more is taken.
    pub(super) fn close(
        &mut self,
        now: Instant,
        group: &str,
        wants: &Subscribing,
    ) -> Option<SubscribersEffect> {
        let under_way = match self.state {
            State::Attached { asked, .. } => u8::from(asked.is_some()),
            State::Searching { .. } => 0,
        };
        self.closing = Closing::Asked(1 + under_way);
        self.renew(now, group, wants)
    }

    /// Nothing is held, and the leader, if there is one, knows that nothing will be.
    pub(super) fn is_settled(&self) -> bool {
        let told = self.closing == Closing::Heard && self.returned == Returned::Nothing;
        self.held.is_empty() && (told || !self.is_attached())
    }

    /// Whether this is held without a verdict.
    pub(super) fn is_open(&self, offset: u64) -> bool {
        let held = self.held.get(&offset);
        held.is_some_and(|held| held.verdict.is_none())
    }

    /// It is held no longer, and nothing was made of it.
    pub(super) fn give_back(&mut self, offset: u64, token: u64) {
        if self.is_open(offset) && self.held.get(&offset).is_some_and(|h| h.token == token) {
            self.held.remove(&offset);
            self.returned = Returned::Unsaid;
        }
    }

    /// Tells the leader what is held no longer: it is what was delivered and is not said to be
    /// held.
    pub(super) fn say_returned(
        &mut self,
        now: Instant,
        group: &str,
        wants: &Subscribing,
    ) -> Option<SubscribersEffect> {
        if std::mem::replace(&mut self.returned, Returned::Nothing) == Returned::Nothing {
            return None;
        }
        if self.closing != Closing::No {
            return self.close(now, group, wants);
        }
        self.renew(now, group, wants)
    }

    /// Its deadline has passed.
    pub(super) fn due(
        &mut self,
        now: Instant,
        group: &str,
        wants: &Subscribing,
        routes: &dyn Routes,
    ) -> Vec<SubscribersEffect> {
        let mut out = Vec::new();
        match self.state {
            State::Searching { again } if again <= now => {
                out.extend(self.search(now, group, wants, routes));
            }
            State::Attached {
                asked: Some(asked), ..
            } if asked + RENEW_WAIT <= now => {
                out.extend(self.search(now, group, wants, routes));
            }
            State::Attached { pace, .. } if pace.renew().is_some_and(|at| at <= now) => {
                out.extend(self.speak(now, self.next_pace(now, pace), group, wants));
            }
            State::Searching { .. } | State::Attached { .. } => {}
        }
        if self.said.is_some_and(|said| said + VERDICT_AGAIN <= now) {
            self.said = None;
            out.extend(self.say_verdicts(now, Kept::All));
            if self.owes() {
                self.said = Some(now);
            }
        }
        out
    }

    pub(super) fn detach(&self) -> Option<SubscribersEffect> {
        let to = self.leader()?;
        let frame = self.frame(self.term, TopicSaid::Detach(Detach {}));
        Some(SubscribersEffect::Send { to, frame })
    }

    pub(super) fn refused(&mut self, now: Instant, code: Code, detail: String) {
        self.refusal = Some((code, detail));
        self.state = State::Searching {
            again: now + REFUSED_PAUSE,
        };
    }

    pub(super) fn hear(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        said: Option<TopicSaid>,
    ) -> Heard {
        // Whoever does not lead may know of an older leadership than this node does.
        if term < self.term && !matches!(said, Some(TopicSaid::Refused(_))) {
            return Heard::Nothing;
        }
        if let State::Attached { to, asked, .. } = &mut self.state
            && *to == from
        {
            *asked = None;
        }
        match said {
            Some(TopicSaid::Attached(attached)) => self.attached(now, from, term, attached.epoch),
            Some(TopicSaid::Refused(refused)) => {
                match Code::from_number(u16::try_from(refused.code).unwrap_or(0)) {
                    Some(code) => Heard::Refused {
                        code,
                        detail: refused.detail,
                    },
                    None if self.leader() == Some(from) => Heard::Lost,
                    None => {
                        if let State::Searching { again } = &mut self.state {
                            *again = (*again).min(now + NOT_LEADER_PAUSE);
                        }
                        Heard::Nothing
                    }
                }
            }
            Some(TopicSaid::Deliver(deliver)) => self.delivered(now, from, term, deliver),
            Some(TopicSaid::Confirm(confirm)) => self.confirmed(&confirm),
            Some(TopicSaid::SpeakUp(_)) if self.leadership() == Some((term, from)) => {
                Heard::AskedToSpeak
            }
            Some(
                TopicSaid::Attach(_)
                | TopicSaid::Detach(_)
                | TopicSaid::Verdicts(_)
                | TopicSaid::Present(_)
                | TopicSaid::Counted(_)
                | TopicSaid::SpeakUp(_),
            )
            | None => Heard::Nothing,
        }
    }

    fn attached(&mut self, now: Instant, from: NodeId, term: Term, epoch: u64) -> Heard {
        if self.leader() != Some(from) || term != self.term {
            self.seen = 0;
        }
        self.term = term;
        self.tried = 0;
        self.refusal = None;
        self.closing = match self.closing {
            Closing::No => Closing::No,
            Closing::Asked(0 | 1) | Closing::Heard => Closing::Heard,
            Closing::Asked(more) => Closing::Asked(more - 1),
        };
        if !matches!(self.state, State::Attached { to, .. } if to == from) {
            self.state = State::Attached {
                to: from,
                pace: Pace::Quiet(now + RENEW_EVERY),
                asked: None,
            };
        }
        let mut void = Vec::new();
        if epoch != self.epoch {
            self.epoch = epoch;
            let held = std::mem::take(&mut self.held);
            void.extend(held.into_values().map(|held| held.token));
        }
        Heard::Attached { void }
    }

    fn delivered(&mut self, now: Instant, from: NodeId, term: Term, deliver: Deliver) -> Heard {
        if self.leader() != Some(from) || term != self.term || deliver.epoch != self.epoch {
            return Heard::Nothing;
        }
        if let State::Attached { pace, .. } = &mut self.state {
            // More may follow, and be lost.
            let due = now + RENEW_EVERY;
            *pace = Pace::Busy(pace.renew().map_or(due, |at| at.min(due)));
        }
        let gap = deliver.number > self.seen + 1;
        self.seen = self.seen.max(deliver.number);
        let mut events = Vec::new();
        for event in deliver.events {
            let Some(holding) = self.held.get_mut(&event.offset) else {
                match self.closing {
                    Closing::No => events.push(event),
                    // It was on its way: not held, it is taken back.
                    Closing::Asked(_) | Closing::Heard => self.returned = Returned::Unsaid,
                }
                continue;
            };
            let again = event.attempt > holding.attempt;
            match &mut holding.verdict {
                // The program has it still: its verdict will be about this delivery.
                None => holding.attempt = holding.attempt.max(event.attempt),
                // Its failure is counted already.
                Some((Said::Retry(_) | Said::Drop(_), _))
                    if again && self.closing == Closing::No =>
                {
                    events.push(event);
                }
                Some((Said::Retry(_) | Said::Drop(_), _)) if again => {
                    self.held.remove(&event.offset);
                    self.returned = Returned::Unsaid;
                }
                Some((_, told)) => *told = Told::No,
            }
        }
        Heard::Events { events, gap }
    }

    /// Remembers what is handed out; gives the token of what it replaces.
    pub(super) fn hold(&mut self, event: &Delivered, token: u64) -> Option<u64> {
        let holding = Holding {
            attempt: event.attempt,
            token,
            verdict: None,
        };
        let before = self.held.insert(event.offset, holding);
        before.map(|before| before.token)
    }

    fn confirmed(&mut self, confirm: &Confirm) -> Heard {
        if confirm.epoch != self.epoch {
            return Heard::Nothing;
        }
        let mut offsets: Vec<u64> = confirm.counted.clone();
        for range in &confirm.settled {
            if range.first < range.end {
                let held = self.held.range(range.first..range.end);
                offsets.extend(held.map(|(offset, _)| *offset));
            }
        }
        let mut tokens = Vec::new();
        for offset in offsets {
            let judged = self.held.get(&offset).is_some_and(|h| h.verdict.is_some());
            if judged && let Some(held) = self.held.remove(&offset) {
                tokens.push(held.token);
            }
        }
        if !self.owes() {
            self.said = None;
        }
        Heard::Confirmed(tokens)
    }

    pub(super) fn verdict(&mut self, _now: Instant, offset: u64, token: u64, said: Said) {
        if let Some(held) = self.held.get_mut(&offset)
            && held.token == token
            && held.verdict.is_none()
        {
            held.verdict = Some((said, Told::No));
        }
    }

    /// Says verdicts to the leader, if there is one.
    pub(super) fn say_verdicts(&mut self, now: Instant, which: Kept) -> Vec<SubscribersEffect> {
        let Some(to) = self.leader() else {
            return Vec::new();
        };
        let epoch = self.epoch;
        let none = || Verdicts {
            epoch,
            ..Verdicts::default()
        };
        let mut frames = Vec::new();
        let (mut verdicts, mut bytes) = (none(), 0);
        for (offset, held) in &mut self.held {
            let Some((said, told)) = &mut held.verdict else {
                continue;
            };
            if *told == Told::Yes && which == Kept::Unsaid {
                continue;
            }
            *told = Told::Yes;
            let (failure, reason) = match said {
                Said::Ack => {
                    match verdicts.done.last_mut() {
                        Some(range) if range.end == *offset => range.end += 1,
                        _ => verdicts.done.push(ClosedRange {
                            first: *offset,
                            end: offset + 1,
                        }),
                    }
                    continue;
                }
                Said::Retry(reason) => (Failure::Retry, reason),
                Said::Drop(reason) => (Failure::Drop, reason),
                Said::Forward(to) => {
                    let forward = Forward {
                        offset: *offset,
                        send: Some(Send {
                            // The leader knows how many partitions there are.
                            destination: 0,
                            actor: to.actor.to_bytes(),
                            method: to.method.clone(),
                            body: to.body.clone(),
                        }),
                    };
                    // Messages may be large: many of them are no single frame.
                    bytes += forward.encoded_len();
                    verdicts.forwarded.push(forward);
                    if bytes >= BATCH_BYTES_MAX {
                        frames.push(std::mem::replace(&mut verdicts, none()));
                        bytes = 0;
                    }
                    continue;
                }
            };
            verdicts.failed.push(FailedDelivery {
                offset: *offset,
                attempt: held.attempt,
                failure: failure as i32,
                reason: reason.clone(),
            });
        }
        if verdicts != none() {
            frames.push(verdicts);
        }
        if !frames.is_empty() {
            self.said.get_or_insert(now);
        }
        let frames = frames.into_iter().map(|verdicts| {
            let frame = self.frame(self.term, TopicSaid::Verdicts(verdicts));
            SubscribersEffect::Send { to, frame }
        });
        frames.collect()
    }

    /// Whether it holds verdicts that its leader has not confirmed.
    pub(super) fn owes(&self) -> bool {
        self.held.values().any(|held| held.verdict.is_some())
    }
}
