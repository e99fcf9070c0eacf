//! The runner's words, to and from the wire. What does not parse says that its sender is broken: it
//! is dropped, and whoever waits for it times out.

use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{NotRunAnswer, UnknownAnswer};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{ActorVersion, PartitionId, Term};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::host::{
    Asks, End, HostActivation, HostAnswer, HostAsked, HostCall, HostCommitted, HostEnded,
    HostEnter, HostLeft, HostMessage, HostOk, HostOutcome, HostRow, HostRows, HostRun, HostScan,
    HostTell, HostTurn, HostValue, HostWrites, Outcome, Said, Told,
};

use crate::turn_io::{
    ActivationId, Answered, FencingToken, OutMessage, PartEnd, RunnerEffect, RunnerInput, Staged,
    TurnAsk, TurnEnd, TurnEntry, TurnId, TurnStart, TurnTold,
};

/// A message to a host.
#[must_use]
pub fn effect_out(now: Instant, effect: RunnerEffect) -> HostMessage {
    let said = match effect {
        RunnerEffect::Run(start) => Said::Run(run_out(now, start)),
        RunnerEffect::Enter(entry) => Said::Enter(HostEnter {
            turn: turn_out(entry.turn),
            entry: entry.entry,
            method: entry.method,
            body: entry.body,
            metadata: entry.metadata,
        }),
        RunnerEffect::Tell { turn, ask, told } => Said::Tell(HostTell {
            turn: turn_out(turn),
            ask,
            told: told_out(told),
        }),
        RunnerEffect::Reset(activation) => Said::Reset(activation_out(activation)),
        RunnerEffect::Drop(activation) => Said::Drop(activation_out(activation)),
        RunnerEffect::Depose(activation) => Said::Depose(activation_out(activation)),
    };
    HostMessage { said: Some(said) }
}

/// A message to a leader.
#[must_use]
pub fn input_out(now: Instant, input: RunnerInput) -> HostMessage {
    let said = match input {
        RunnerInput::Asked { turn, ask, what } => Said::Asked(HostAsked {
            turn: turn_out(turn),
            ask,
            what: Some(asks_out(now, turn, what)),
        }),
        RunnerInput::Ended { turn, end } => Said::Ended(HostEnded {
            turn: turn_out(turn),
            end: Some(end_out(end)),
        }),
    };
    HostMessage { said: Some(said) }
}

/// What a message says.
#[derive(Debug)]
pub enum Heard {
    /// To a host.
    Effect(RunnerEffect),
    /// To a leader.
    Input(RunnerInput),
}

/// Reads a message; `None`: it is broken, or of a newer build.
#[must_use]
pub fn heard(now: Instant, message: HostMessage) -> Option<Heard> {
    Some(match message.said? {
        Said::Run(run) => Heard::Effect(RunnerEffect::Run(run_in(now, run)?)),
        Said::Enter(entry) => Heard::Effect(RunnerEffect::Enter(TurnEntry {
            turn: turn_in(entry.turn)?,
            entry: entry.entry,
            method: entry.method,
            body: entry.body,
            metadata: entry.metadata,
        })),
        Said::Tell(tell) => Heard::Effect(RunnerEffect::Tell {
            turn: turn_in(tell.turn)?,
            ask: tell.ask,
            told: told_in(tell.told),
        }),
        Said::Reset(activation) => Heard::Effect(RunnerEffect::Reset(activation_in(activation)?)),
        Said::Drop(activation) => Heard::Effect(RunnerEffect::Drop(activation_in(activation)?)),
        Said::Depose(activation) => Heard::Effect(RunnerEffect::Depose(activation_in(activation)?)),
        Said::Asked(asked) => Heard::Input(RunnerInput::Asked {
            turn: turn_in(asked.turn)?,
            ask: asked.ask,
            what: asks_in(now, asked.what?)?,
        }),
        Said::Ended(ended) => Heard::Input(RunnerInput::Ended {
            turn: turn_in(ended.turn)?,
            end: end_in(ended.end?)?,
        }),
    })
}

fn activation_out(activation: ActivationId) -> HostActivation {
    HostActivation {
        partition: u32::from(activation.partition.0),
        term: activation.term.0,
        number: activation.number,
    }
}

fn activation_in(activation: HostActivation) -> Option<ActivationId> {
    Some(ActivationId {
        partition: PartitionId(u16::try_from(activation.partition).ok()?),
        term: Term(activation.term),
        number: activation.number,
    })
}

fn turn_out(turn: TurnId) -> HostTurn {
    HostTurn {
        activation: activation_out(turn.activation),
        number: turn.number,
    }
}

fn turn_in(turn: HostTurn) -> Option<TurnId> {
    Some(TurnId {
        activation: activation_in(turn.activation)?,
        number: turn.number,
    })
}

/// Milliseconds left; at least 1 while there is a deadline.
fn left(now: Instant, deadline: Option<Instant>) -> u64 {
    deadline.map_or(0, |at| (at.since(now).as_millis() as u64).max(1))
}

fn until(now: Instant, remaining_ms: u64) -> Option<Instant> {
    (remaining_ms > 0).then(|| now + Duration::from_millis(remaining_ms))
}

fn run_out(now: Instant, start: TurnStart) -> HostRun {
    HostRun {
        turn: turn_out(start.turn),
        actor: start.actor.to_bytes(),
        method: start.method,
        body: start.body,
        request: start.request.to_bytes(),
        stamp: Some(start.stamp),
        remaining_ms: left(now, start.deadline),
        chain: start.chain.iter().map(ActorKey::to_bytes).collect(),
        version: start.token.base.0,
        metadata: start.metadata,
        wakeup: start.wakeup.map(|wakeup| *wakeup),
    }
}

fn run_in(now: Instant, run: HostRun) -> Option<TurnStart> {
    let turn = turn_in(run.turn)?;
    let chain = run.chain.into_iter().map(ActorKey::parse);
    Some(TurnStart {
        turn,
        actor: ActorKey::parse(run.actor).ok()?,
        method: run.method,
        body: run.body,
        request: RequestId::parse(&run.request)?,
        stamp: run.stamp.unwrap_or_default(),
        deadline: until(now, run.remaining_ms),
        chain: chain.collect::<Result<_, _>>().ok()?,
        token: FencingToken {
            term: turn.activation.term,
            base: ActorVersion(run.version),
        },
        metadata: run.metadata,
        wakeup: run.wakeup.map(Box::new),
    })
}

fn asks_out(now: Instant, turn: TurnId, ask: TurnAsk) -> Asks {
    match ask {
        TurnAsk::Get { key } => Asks::Get(key),
        TurnAsk::Scan {
            prefix,
            after,
            limit,
        } => Asks::Scan(HostScan {
            prefix,
            after,
            limit: limit as u64,
        }),
        TurnAsk::Call {
            actor,
            method,
            body,
            deadline,
            metadata,
            ordinal,
        } => Asks::Call(HostCall {
            actor: actor.to_bytes(),
            method,
            body,
            remaining_ms: left(now, deadline),
            metadata,
            ordinal,
        }),
        TurnAsk::Commit(staged) => Asks::Commit(staged_out(*staged)),
        TurnAsk::Left { entry, end } => Asks::Left(HostLeft {
            entry,
            ended: HostEnded {
                turn: turn_out(turn),
                end: Some(end_out(*end)),
            },
        }),
    }
}

fn asks_in(now: Instant, asks: Asks) -> Option<TurnAsk> {
    Some(match asks {
        Asks::Get(key) => TurnAsk::Get { key },
        Asks::Scan(scan) => TurnAsk::Scan {
            prefix: scan.prefix,
            after: scan.after,
            limit: scan.limit as usize,
        },
        Asks::Call(call) => TurnAsk::Call {
            actor: ActorKey::parse(call.actor).ok()?,
            method: call.method,
            body: call.body,
            deadline: until(now, call.remaining_ms),
            metadata: call.metadata,
            ordinal: call.ordinal,
        },
        Asks::Left(left) => TurnAsk::Left {
            entry: left.entry,
            end: Box::new(end_in(left.ended.end?)?),
        },
        Asks::Commit(writes) => TurnAsk::Commit(Box::new(staged_in(writes)?)),
    })
}

fn staged_out(staged: Staged) -> HostWrites {
    let sends = staged.sends.into_iter().map(|send| HostCall {
        actor: send.actor.to_bytes(),
        method: send.method,
        body: send.body,
        ..HostCall::default()
    });
    HostWrites {
        state: staged.writes,
        sends: sends.collect(),
        schedule: staged.schedule,
    }
}

fn staged_in(writes: HostWrites) -> Option<Staged> {
    let sends = writes.sends.into_iter().map(|send| {
        Some(OutMessage {
            actor: ActorKey::parse(send.actor).ok()?,
            method: send.method,
            body: send.body,
        })
    });
    Some(Staged {
        writes: writes.state,
        sends: sends.collect::<Option<_>>()?,
        schedule: writes.schedule,
    })
}

fn told_out(told: TurnTold) -> Option<Told> {
    Some(match told {
        TurnTold::Value(value) => Told::Value(HostValue { value }),
        TurnTold::Rows(rows) => {
            let rows = rows.into_iter().map(|(key, value)| HostRow { key, value });
            Told::Rows(HostRows {
                rows: rows.collect(),
            })
        }
        TurnTold::Called(outcome) => Told::Called(outcome_out(outcome)),
        TurnTold::Part(PartEnd::Committed(version)) => Told::Committed(HostCommitted {
            version: version.0,
            ..HostCommitted::default()
        }),
        TurnTold::Part(PartEnd::Nothing) => Told::Committed(HostCommitted {
            nothing: true,
            ..HostCommitted::default()
        }),
        TurnTold::Part(PartEnd::ScheduleThere) => Told::Committed(HostCommitted::default()),
        TurnTold::Part(PartEnd::Refused(refusal)) => Told::Committed(HostCommitted {
            refusal: format!("{}: {}", refusal.code, refusal.detail),
            ..HostCommitted::default()
        }),
        TurnTold::Deposed => return None,
    })
}

fn told_in(told: Option<Told>) -> TurnTold {
    match told {
        None => TurnTold::Deposed,
        Some(Told::Value(value)) => TurnTold::Value(value.value),
        Some(Told::Rows(rows)) => {
            TurnTold::Rows(rows.rows.into_iter().map(|r| (r.key, r.value)).collect())
        }
        Some(Told::Called(outcome)) => TurnTold::Called(outcome_in(outcome)),
        Some(Told::Committed(committed)) => TurnTold::Part(if committed.version > 0 {
            PartEnd::Committed(ActorVersion(committed.version))
        } else if committed.nothing {
            PartEnd::Nothing
        } else if committed.refusal.is_empty() {
            PartEnd::ScheduleThere
        } else {
            PartEnd::Refused(NotRun::new(Code::InvalidArgument, committed.refusal))
        }),
    }
}

fn outcome_out(outcome: CallOutcome) -> HostOutcome {
    let outcome = match outcome {
        CallOutcome::Reply(body) => Outcome::Reply(body),
        CallOutcome::AppReply(reply) => Outcome::AppReply(reply),
        CallOutcome::App(error) => Outcome::App(error),
        CallOutcome::NotRun(refusal) => Outcome::NotRun(refusal_out(refusal)),
        CallOutcome::Unknown { code, detail } => Outcome::Unknown(UnknownAnswer {
            code: u32::from(code.number()),
            detail,
        }),
    };
    HostOutcome {
        outcome: Some(outcome),
    }
}

fn outcome_in(outcome: HostOutcome) -> CallOutcome {
    match outcome.outcome {
        Some(Outcome::Reply(body)) => CallOutcome::Reply(body),
        Some(Outcome::AppReply(reply)) => CallOutcome::AppReply(reply),
        Some(Outcome::App(error)) => CallOutcome::App(error),
        Some(Outcome::NotRun(refusal)) => CallOutcome::NotRun(refusal_in(refusal)),
        Some(Outcome::Unknown(unknown)) => CallOutcome::Unknown {
            code: code_in(unknown.code).unwrap_or(Code::OutcomeUnknown),
            detail: unknown.detail,
        },
        None => CallOutcome::Unknown {
            code: Code::OutcomeUnknown,
            detail: "the leader's node says something that this version does not know".to_owned(),
        },
    }
}

fn refusal_out(refusal: NotRun) -> NotRunAnswer {
    let pause = refusal.retry_after.unwrap_or(Duration::ZERO);
    NotRunAnswer {
        code: u32::from(refusal.code.number()),
        detail: refusal.detail,
        retry_after_ms: pause.as_millis() as u64,
    }
}

fn refusal_in(answer: NotRunAnswer) -> NotRun {
    let pause = Duration::from_millis(answer.retry_after_ms);
    NotRun {
        code: code_in(answer.code).unwrap_or(Code::Internal),
        detail: answer.detail,
        retry_after: (!pause.is_zero()).then_some(pause),
    }
}

fn code_in(number: u32) -> Option<Code> {
    Code::from_number(u16::try_from(number).ok()?)
}

fn end_out(end: TurnEnd) -> End {
    match end {
        TurnEnd::Ok {
            reply,
            writes,
            sends,
            schedule,
        } => {
            let staged = Staged {
                writes,
                sends,
                schedule,
            };
            End::Ok(HostOk {
                reply,
                writes: staged_out(staged),
            })
        }
        TurnEnd::App(error) => End::App(error),
        TurnEnd::Refused(refusal) => End::Refused(refusal_out(refusal)),
        TurnEnd::Lost { detail } => End::Lost(detail),
        TurnEnd::Panicked { message } => End::Panicked(message),
        TurnEnd::NotStarted { detail } => End::NotStarted(detail),
        TurnEnd::Answered(answered) => {
            let Answered {
                answer,
                staged,
                wish,
            } = *answered;
            let (reply, refusal) = match answer {
                Ok(reply) => (Some(reply), None),
                Err(error) => (None, Some(error)),
            };
            End::Answered(HostAnswer {
                reply,
                refusal,
                writes: staged_out(staged),
                wish: wish as i32,
            })
        }
    }
}

fn end_in(end: End) -> Option<TurnEnd> {
    Some(match end {
        End::Ok(ok) => {
            let staged = staged_in(ok.writes)?;
            TurnEnd::Ok {
                reply: ok.reply,
                writes: staged.writes,
                sends: staged.sends,
                schedule: staged.schedule,
            }
        }
        End::App(error) => TurnEnd::App(error),
        End::Refused(refusal) => TurnEnd::Refused(refusal_in(refusal)),
        End::Lost(detail) => TurnEnd::Lost { detail },
        End::Panicked(message) => TurnEnd::Panicked { message },
        End::NotStarted(detail) => TurnEnd::NotStarted { detail },
        End::Answered(answered) => {
            let wish = answered.wish();
            let answer = match (answered.reply, answered.refusal) {
                (Some(reply), None) => Ok(reply),
                (None, Some(error)) => Err(error),
                _ => return None,
            };
            TurnEnd::Answered(Box::new(Answered {
                answer,
                staged: staged_in(answered.writes)?,
                wish,
            }))
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ghostlight_protocol::call::{AppReply, Metadata};
    use ghostlight_protocol::outcome::AppError;
    use ghostlight_protocol::wire::host::Wish;

    use super::*;

    const TURN: TurnId = TurnId {
        activation: ActivationId {
            partition: PartitionId(3),
            term: Term(7),
            number: 2,
        },
        number: 5,
    };

    fn round(input: RunnerInput) {
        let now = Instant(5_000_000_000);
        let heard = heard(now, input_out(now, input.clone()));
        let Some(Heard::Input(got)) = heard else {
            panic!("{heard:?}");
        };
        assert_eq!(got, input);
    }

    #[test]
    fn ends_and_asks_come_back_as_they_were() {
        let actor = ActorKey::new("default", "t", "a").unwrap();
        let staged = Staged {
            sends: vec![OutMessage {
                actor: actor.clone(),
                method: "m".to_owned(),
                body: Bytes::from_static(b"b"),
            }],
            ..Staged::default()
        };
        let reply = AppReply {
            metadata: vec![Metadata {
                name: "content-type".to_owned(),
                value: "text/plain".to_owned(),
            }],
            body: Bytes::from_static(b"r"),
        };
        let error = AppError {
            name: "AppStatus".to_owned(),
            ..AppError::default()
        };
        for answer in [Ok(reply), Err(error)] {
            let answered = Answered {
                answer,
                staged: staged.clone(),
                wish: Wish::Ends,
            };
            let end = TurnEnd::Answered(Box::new(answered));
            round(RunnerInput::Ended { turn: TURN, end });
        }
        let refusal = NotRun::retry(Code::NoHost, "x", Duration::from_millis(5));
        for end in [
            TurnEnd::Refused(refusal),
            TurnEnd::Lost { detail: "l".into() },
            TurnEnd::NotStarted { detail: "n".into() },
            TurnEnd::Panicked {
                message: "p".into(),
            },
        ] {
            round(RunnerInput::Ended { turn: TURN, end });
        }
        for what in [
            TurnAsk::Get {
                key: Bytes::from_static(b"k"),
            },
            TurnAsk::Commit(Box::new(staged)),
            TurnAsk::Left {
                entry: 3,
                end: Box::new(TurnEnd::Lost { detail: "l".into() }),
            },
            TurnAsk::Call {
                actor,
                method: "m".to_owned(),
                body: Bytes::new(),
                deadline: Some(Instant(6_000_000_000)),
                metadata: Vec::new(),
                ordinal: None,
            },
        ] {
            round(RunnerInput::Asked {
                turn: TURN,
                ask: 1,
                what,
            });
        }
    }

    #[test]
    fn a_call_that_enters_comes_as_it_was_sent() {
        let now = Instant(1);
        let effect = RunnerEffect::Enter(TurnEntry {
            turn: TURN,
            entry: 2,
            method: "m".to_owned(),
            body: Bytes::from_static(b"b"),
            metadata: vec![Metadata {
                name: "dapr-reentrancy-id".to_owned(),
                value: "r".to_owned(),
            }],
        });
        let heard = heard(now, effect_out(now, effect.clone()));
        let Some(Heard::Effect(got)) = heard else {
            panic!("{heard:?}");
        };
        assert_eq!(got, effect);
    }

    #[test]
    fn what_is_told_comes_back_as_it_was() {
        let now = Instant(1);
        for told in [
            TurnTold::Value(None),
            TurnTold::Value(Some(Bytes::from_static(b"v"))),
            TurnTold::Deposed,
            TurnTold::Part(PartEnd::Committed(ActorVersion(4))),
            TurnTold::Part(PartEnd::ScheduleThere),
            TurnTold::Part(PartEnd::Nothing),
        ] {
            let effect = RunnerEffect::Tell {
                turn: TURN,
                ask: 2,
                told,
            };
            let heard = heard(now, effect_out(now, effect.clone()));
            let Some(Heard::Effect(got)) = heard else {
                panic!("{heard:?}");
            };
            assert_eq!(got, effect);
        }
    }
}
