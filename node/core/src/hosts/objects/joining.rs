//! What an application does by its turn's token: calls and messages that are a part of the turn.
//!
//! A token is handed out with every callback of a turn, and stays the same when the turn gets
//! another leader. A message waits with all that is staged, and commits with the answer. A call
//! goes through the turn's leader, under an id that follows from the turn's request and from which
//! of its calls it is; the host counts them, so that a turn which goes on under another leader
//! makes no call twice, and takes no second call for the first one made again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Metadata;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::{REQUEST_BODY_BYTES_MAX, TURN_SEND_BYTES_MAX, TURN_SENDS_MAX};
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::time::Instant;

use super::{HostEffect, Objects, Running, Waiting, tell};
use crate::hosts::words::{AppOutcome, AppTicket, Joining};
use crate::turn_io::{OutMessage, RunnerInput, TurnAsk, TurnId};

/// A call that has joined a turn, to be asked of its leader.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    ordinal: u32,
    actor: ActorKey,
    method: String,
    body: Bytes,
    metadata: Vec<Metadata>,
    deadline: Option<Instant>,
}

impl Joined {
    /// What its turn's leader is asked.
    pub(super) fn ask(&self) -> TurnAsk {
        TurnAsk::Call {
            actor: self.actor.clone(),
            method: self.method.clone(),
            body: self.body.clone(),
            deadline: self.deadline,
            metadata: self.metadata.clone(),
            ordinal: Some(self.ordinal),
        }
    }
}

/// The token of a turn that begins: no other turn of the cluster has it.
pub(super) fn token_of(turn: TurnId, actor: &ActorKey) -> String {
    format!("{turn:?}.{}", URL_SAFE_NO_PAD.encode(actor.as_bytes()))
}

/// Whose turn a token is of; `None`: it is none of ours.
fn actor_of(token: &str) -> Option<ActorKey> {
    let (_, actor) = token.rsplit_once('.')?;
    ActorKey::parse(URL_SAFE_NO_PAD.decode(actor).ok()?.into()).ok()
}

impl Objects {
    /// Something joins a turn that runs here.
    pub(super) fn join(
        &mut self,
        ticket: AppTicket,
        about: ActorKey,
        (token, what): (&str, Joining),
        out: &mut Vec<HostEffect>,
    ) {
        let now = self.clock;
        let running = actor_of(token)
            .and_then(|actor| self.running(&actor))
            .filter(|running| running.token == token);
        let Some(running) = running else {
            let text = "the turn that it was to join does not run here, or has its answer. Join it before the \
                        application answers, or send it without Ghostlight-Turn";
            let refusal = NotRun::new(Code::TurnOver, text);
            return tell(ticket, AppOutcome::Refused(refusal), out);
        };
        match what {
            Joining::Send(messages) => {
                let outcome = running.send(messages);
                tell(ticket, outcome, out);
            }
            Joining::Call {
                method,
                body,
                metadata,
                timeout,
            } => {
                let joined = Joined {
                    ordinal: running.calls,
                    actor: about,
                    method,
                    body,
                    metadata,
                    deadline: timeout.map(|timeout| now + timeout),
                };
                running.calls += 1;
                running.asks += 1;
                let (turn, ask) = (running.turn, running.asks);
                let what = joined.ask();
                let kept = Waiting::Call(ticket, Box::new(joined));
                running.waiting.insert(ask, kept);
                // One without a leader asks the next one again.
                out.push(HostEffect::Leader(RunnerInput::Asked { turn, ask, what }));
            }
        }
    }
}

impl Running {
    /// Stages messages, all or none.
    fn send(&mut self, messages: Vec<OutMessage>) -> AppOutcome {
        let refused = |text: String| AppOutcome::Refused(NotRun::new(Code::TurnTooLarge, text));
        if self.sends.len() + messages.len() > TURN_SENDS_MAX {
            return refused(format!(
                "at most {TURN_SENDS_MAX} messages leave with a turn. Publish the rest on their own"
            ));
        }
        let longest = messages.iter().map(|message| message.body.len()).max();
        if let Some(bytes) = longest.filter(|bytes| *bytes > REQUEST_BODY_BYTES_MAX) {
            return refused(format!(
                "a message has {bytes} bytes, at most {REQUEST_BODY_BYTES_MAX} are allowed"
            ));
        }
        let all = self.sends.iter().chain(&messages);
        let bytes: usize = all.map(|message| message.body.len()).sum();
        if bytes > TURN_SEND_BYTES_MAX {
            return refused(format!(
                "the messages of a turn have at most {TURN_SEND_BYTES_MAX} bytes, these would be {bytes}. Publish the rest \
                 on their own"
            ));
        }
        self.sends.extend(messages);
        AppOutcome::Done
    }

    /// Its answer does not wait for calls that nobody awaits: they may have been made.
    pub(super) fn leave_calls(&mut self, out: &mut Vec<HostEffect>) {
        self.waiting.retain(|_, waiting| match waiting {
            Waiting::Call(ticket, _) => {
                tell(*ticket, unawaited(), out);
                false
            }
            Waiting::Get(..)
            | Waiting::Next(..)
            | Waiting::Part(..)
            | Waiting::Unsent(..)
            | Waiting::Left(_) => true,
        });
    }
}

/// What a call hears whose turn is over.
pub(super) fn unawaited() -> AppOutcome {
    AppOutcome::Called(Box::new(CallOutcome::Unknown {
        code: Code::OutcomeUnknown,
        detail: "the turn that it has joined is over before it had its answer. Await calls that join a turn".to_owned(),
    }))
}
