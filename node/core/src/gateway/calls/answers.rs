//! What the network says about calls in flight: answers, announcements, silence.

use ghostlight_protocol::call::{AnswerKind, CallAnswer, NotRunAnswer, Redirect, UnknownAnswer};
use ghostlight_protocol::code::Class;

use super::super::pending::Attempt;
use super::*;

/// A refusing leader cannot keep a call waiting for longer before it is asked again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// One answer to one attempt.
struct Settled {
    key: u64,
    attempt: Attempt,
    when: Of,
}

/// Which attempt was answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The one the call waits for.
    Latest,
    /// One that was given up for a later one.
    Earlier,
}

impl Gateway {
    pub(super) fn answered(&mut self, cx: &mut Cx<'_>, from: NodeId, answer: CallAnswer) {
        let key = key_of(answer.call);
        let attempt = self.calls.get_mut(&key).and_then(|call| {
            let latest = call.in_flight().map(|attempt| attempt.number);
            let attempt = call.close_attempt(answer.call, from)?;
            let when = match latest == Some(answer.call) {
                true => Of::Latest,
                false => Of::Earlier,
            };
            Some(Settled { key, attempt, when })
        });
        let Some(settled) = attempt else {
            self.counters.stray_answers += 1;
            // Of a call that was given up: its turn is over.
            self.sessions.over(key, answer.call, from);
            return;
        };
        match answer.kind {
            Some(AnswerKind::Reply(body)) => {
                self.final_answer(cx, settled, CallOutcome::Reply(body))
            }
            Some(AnswerKind::AppReply(reply)) => {
                self.final_answer(cx, settled, CallOutcome::AppReply(reply));
            }
            Some(AnswerKind::App(error)) => self.final_answer(cx, settled, CallOutcome::App(error)),
            Some(AnswerKind::Unknown(unknown)) => self.nobody_knows(cx, &settled, &unknown),
            Some(AnswerKind::NotRun(refusal)) => self.refused(cx, settled, refusal),
            Some(AnswerKind::Redirect(redirect)) => self.redirected(cx, settled, &redirect),
            // A newer peer says something we do not know: nothing may be concluded from it.
            None => {
                let unsaid = Redirect {
                    hint: None,
                    may_have_run: MayHaveRun::Yes as i32,
                };
                self.redirected(cx, settled, &unsaid);
            }
        }
    }

    /// An attempt's answer of this kind is the request's, if nothing that was sent after it can be
    /// another.
    fn final_answer(&mut self, cx: &mut Cx<'_>, settled: Settled, outcome: CallOutcome) {
        let call = self.calls.get_mut(&settled.key).expect("just answered");
        if !call.decides(settled.attempt) {
            call.ran_perhaps();
            return self.set_timer(settled.key);
        }
        let partition = call.partition;
        self.finish(cx, settled.key, outcome);
        if settled.when == Of::Latest {
            self.served(cx, partition, settled.attempt.to);
        }
    }

    /// An attempt may have run, and whoever had it will never know. A later one that is open finds
    /// out: it gets the recorded answer, or runs.
    fn nobody_knows(&mut self, cx: &mut Cx<'_>, settled: &Settled, unknown: &UnknownAnswer) {
        let key = settled.key;
        let call = self.calls.get_mut(&key).expect("just answered");
        if settled.when == Of::Earlier && !call.open().is_empty() {
            call.ran_perhaps();
            return self.set_timer(key);
        }
        let code = code_of(unknown.code).unwrap_or(Code::OutcomeUnknown);
        let detail = format!("request {:?}: {}", call.id, unknown.detail);
        self.finish(cx, key, CallOutcome::Unknown { code, detail });
    }

    fn served(&mut self, cx: &mut Cx<'_>, partition: PartitionId, node: NodeId) {
        let search = &mut self.searches[usize::from(partition.0)];
        search.served(node);
        if search.searching_until().is_some() || self.to_wake.contains(&partition) {
            // Those that pause were refused by a leader, and pause for that.
            self.wake(cx, partition, Waiting::Parked);
        }
    }

    fn refused(&mut self, cx: &mut Cx<'_>, settled: Settled, answer: NotRunAnswer) {
        // The attempt is closed, which is all that the refusal of an earlier one tells.
        if settled.when == Of::Earlier {
            return self.set_timer(settled.key);
        }
        let refusal = refusal_of(answer);
        let elsewhere = matches!(
            refusal.code,
            Code::LeaderMoved | Code::NoLeader | Code::NotJoined | Code::ShuttingDown
        );
        if elsewhere {
            let call = self.calls.get_mut(&settled.key).expect("just answered");
            call.refusal = Some(refusal);
            return self.ask_elsewhere(cx, settled);
        }
        let call = self.calls.get_mut(&settled.key).expect("just answered");
        let partition = call.partition;
        if refusal.code == Code::NodeBusy {
            let Attempt { to, sent, .. } = settled.attempt;
            let remaining = call.deadline.and_then(|deadline| deadline.remaining(sent));
            self.busy.learn(cx.now, to, patience(remaining), &refusal);
            Self::tell_if_overrun(&mut self.busy, self.searches.len() as u16, cx);
        }
        let again = match (refusal.code.class(), call.may_have_run()) {
            // True of the group whoever leads it, until it has more voters: its client is told, and
            // may wait.
            (Class::Retry, MayHaveRun::No) if refusal.code == Code::MinCopies => false,
            (Class::Retry, _) | (Class::Overloaded, MayHaveRun::Yes) => true,
            (Class::Overloaded, MayHaveRun::No) => false,
            (
                Class::Unknown
                | Class::Invalid
                | Class::NotFound
                | Class::Conflict
                | Class::Denied
                | Class::Deadline
                | Class::Fatal
                | Class::Bug,
                _,
            ) => false,
        };
        if again {
            let at_least = refusal.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            call.refusal = Some(refusal);
            call.lost_leader(Some(settled.attempt), cx.now);
            self.pause(cx, settled.key, at_least);
            self.give_up_if_searched_out(cx, settled.key);
            return self.served(cx, partition, settled.attempt.to);
        }
        let outcome = match call.may_have_run() {
            MayHaveRun::No => CallOutcome::NotRun(refusal),
            MayHaveRun::Yes => call.refused_in_doubt(&refusal),
        };
        self.finish(cx, settled.key, outcome);
        self.served(cx, partition, settled.attempt.to);
    }

    fn tell_if_overrun(busy: &mut Busy, partitions: u16, cx: &mut Cx<'_>) {
        let routes = cx.routes;
        let leaders = || {
            let known = (0..partitions).filter_map(|number| routes.leader(PartitionId(number)));
            known.map(|(_, leader)| leader).collect()
        };
        if let Some(Overrun { until, patience }) = busy.overrun(cx.now, leaders) {
            cx.out.push(GatewayEffect::Overrun { until, patience });
        }
    }

    fn redirected(&mut self, cx: &mut Cx<'_>, settled: Settled, redirect: &Redirect) {
        self.counters.redirects += 1;
        // A value we do not know must not pass for "certainly not".
        let may_have_run = MayHaveRun::try_from(redirect.may_have_run);
        let call = self.calls.get_mut(&settled.key).expect("just answered");
        if may_have_run.unwrap_or(MayHaveRun::Yes) == MayHaveRun::Yes {
            call.ran_perhaps();
        }
        let (partition, from) = (call.partition, settled.attempt.to);
        let hint = redirect
            .hint
            .as_ref()
            .filter(|hint| hint.partition == u32::from(partition.0));
        let search = &mut self.searches[usize::from(partition.0)];
        let learned = hint.map_or(Learned::Nothing, |hint| search.learn(hint));
        if learned == Learned::Newer {
            call.new_round(settled.round_but());
        }
        let not_open = hint.is_some_and(|hint| NodeId::from_slice(&hint.leader) == Some(from));
        match (settled.when, not_open) {
            (Of::Earlier, _) => self.set_timer(settled.key),
            // It will lead as soon as it has opened: nobody else needs to be asked.
            (Of::Latest, true) => {
                call.lost_leader(Some(settled.attempt), cx.now);
                self.pause(cx, settled.key, Duration::ZERO);
                self.give_up_if_searched_out(cx, settled.key);
            }
            (Of::Latest, false) => self.ask_elsewhere(cx, settled),
        }
        if learned == Learned::Newer && !not_open {
            self.wake(cx, partition, Waiting::All);
        }
    }

    /// The node does not lead: another one may.
    fn ask_elsewhere(&mut self, cx: &mut Cx<'_>, settled: Settled) {
        let call = self.calls.get_mut(&settled.key).expect("just answered");
        let search = &mut self.searches[usize::from(call.partition.0)];
        search.refuse(settled.attempt.to, settled.attempt.term);
        call.lost_leader(Some(settled.attempt), cx.now);
        call.state = State::Parked { until: cx.now };
        self.route(cx, settled.key);
    }

    fn give_up_if_searched_out(&mut self, cx: &mut Cx<'_>, key: u64) {
        let end = self.calls[&key].search_ends(self.settings.leader_wait);
        if end.is_some_and(|end| end <= cx.now) {
            self.give_up(cx, key);
        }
    }

    /// A leadership announced itself. Calls in flight to an older one are sent again at once.
    pub(super) fn leader(&mut self, cx: &mut Cx<'_>, hint: &LeaderHint) {
        let (Ok(partition), Some(node)) = (
            u16::try_from(hint.partition),
            NodeId::from_slice(&hint.leader),
        ) else {
            return;
        };
        let Some(search) = self.searches.get_mut(usize::from(partition)) else {
            return;
        };
        search.learn(hint);
        search.announced(Term(hint.term));
        if cx.routes.reachable(node) == Reachable::No {
            // They stay where they are until their node answers or is silent, and search then.
            return self.wake(cx, PartitionId(partition), Waiting::All);
        }
        let older = |key: &u64| {
            let attempt = self.calls[key].in_flight();
            attempt.is_some_and(|attempt| attempt.term < Term(hint.term))
        };
        let resent: Vec<u64> = search.calls.iter().copied().filter(older).collect();
        for key in resent {
            let call = self
                .calls
                .get_mut(&key)
                .expect("calls of a partition are held");
            call.found_leader();
            call.new_round(None);
            call.state = State::Parked { until: cx.now };
            self.counters.resent += 1;
            self.route(cx, key);
        }
        self.wake(cx, PartitionId(partition), Waiting::All);
    }

    /// A node is silent: calls in flight to it ask the other replicas; its answer still counts.
    pub(super) fn silent(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        for search in &mut self.searches {
            search.silent(node);
        }
        let waits_for_it = |call: &Pending| call.in_flight().is_some_and(|a| a.to == node);
        let waiting: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| waits_for_it(call))
            .map(|(key, _)| *key)
            .collect();
        for key in waiting {
            let call = self.calls.get_mut(&key).expect("just listed");
            call.lost_leader(call.in_flight(), cx.now);
            call.new_round(Some(node));
            call.state = State::Parked { until: cx.now };
            self.counters.resent += 1;
            self.route(cx, key);
        }
    }

    /// A frame had no way: that attempt never arrived.
    pub(super) fn not_sent(&mut self, cx: &mut Cx<'_>, to: NodeId, number: u64) {
        let key = key_of(number);
        let Some(call) = self.calls.get_mut(&key) else {
            return self.sessions.over(key, number, to);
        };
        let latest = call.in_flight().is_some_and(|a| a.number == number);
        let Some(attempt) = call.close_attempt(number, to) else {
            return;
        };
        if !latest {
            return self.set_timer(key);
        }
        call.unsend(attempt);
        call.lost_leader(None, cx.now);
        self.pause(cx, key, Duration::ZERO);
        self.give_up_if_searched_out(cx, key);
    }
}

impl Settled {
    /// Whom a new round leaves out: the node that has just refused.
    fn round_but(&self) -> Option<NodeId> {
        match self.when {
            Of::Latest => Some(self.attempt.to),
            Of::Earlier => None,
        }
    }
}

fn code_of(number: u32) -> Option<Code> {
    u16::try_from(number).ok().and_then(Code::from_number)
}

/// A code of a newer peer is passed on as its text; what to do follows from whether it says when to
/// retry.
fn refusal_of(answer: NotRunAnswer) -> NotRun {
    let retry_after = Some(Duration::from_millis(answer.retry_after_ms)).filter(|d| !d.is_zero());
    NotRun {
        code: code_of(answer.code).unwrap_or(Code::Internal),
        detail: answer.detail,
        retry_after,
    }
}
