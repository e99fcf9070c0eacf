//! Calls of the same chain inside a running turn.
//!
//! They run in the object at once, beside the call that they entered, and share what it has staged.
//! Before the answer of one may leave, all that is staged so far commits with it.

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::AppReply;
use ghostlight_protocol::wire::host::Wish;

use super::{
    HostEffect, Inside, IsWakeup, Keeps, Objects, Refused, Running, Stage, Waiting, judge,
};
use crate::hosts::words::{AppAnswer, Callback, Exchange, Sent};
use crate::turn_io::{
    Answered, PartEnd, RunnerInput, Staged, TurnAsk, TurnEnd, TurnEntry, TurnId, TurnTold,
};

impl Objects {
    /// A leader lets a call enter the turn that runs here.
    pub(super) fn enter(&mut self, entered: TurnEntry, out: &mut Vec<HostEffect>) {
        let TurnEntry {
            turn,
            entry,
            method,
            body,
            metadata,
        } = entered;
        let actor = self.activations.get(&turn.activation).cloned();
        let stage = actor.as_ref().and_then(|actor| self.table.get(actor));
        let runs = matches!(stage.map(|o| &o.stage), Some(Stage::Running(running))
            if running.turn == turn && running.answer.is_none());
        let (Some(actor), true) = (actor, runs) else {
            let detail = "the turn that it was to enter is over".to_owned();
            return left(turn, 0, entry, TurnEnd::NotStarted { detail }, out);
        };
        let callback = Callback::Method {
            method: method.clone(),
            body,
        };
        let token = self.running(&actor).map(|running| running.token.clone());
        let exchange = self.ask(&actor, callback, metadata, token, out);
        if let Some(Stage::Running(running)) = self.table.get_mut(&actor).map(|o| &mut o.stage) {
            running.inside.insert(exchange, Inside { entry, method });
        }
    }

    /// A call inside a running turn has its answer, or there is none.
    pub(super) fn left(
        &mut self,
        actor: &ActorKey,
        exchange: Exchange,
        answer: AppAnswer,
        out: &mut Vec<HostEffect>,
    ) {
        let Some(object) = self.table.get_mut(actor) else {
            return;
        };
        if let Some(held) = object.here() {
            held.learn(&answer);
        }
        let Stage::Running(running) = &mut object.stage else {
            return;
        };
        let Some(Inside { entry, method }) = running.inside.remove(&exchange) else {
            return;
        };
        let turn = running.turn;
        match answer {
            AppAnswer::NoAnswer {
                why: detail,
                sent: Sent::CertainlyNot,
            } => left(turn, 0, entry, TurnEnd::NotStarted { detail }, out),
            AppAnswer::NoAnswer { why: detail, .. } => {
                running.refused = Refused::Something;
                left(turn, 0, entry, TurnEnd::Lost { detail }, out);
            }
            AppAnswer::Answered {
                status,
                headers,
                body,
                kind,
                ..
            } => {
                let verdict = judge(actor, (&method, IsWakeup::No), (status, kind), &body);
                if verdict.trust == Keeps::No {
                    running.refused = Refused::Something;
                }
                let staged = running.take_staged();
                running.asks += 1;
                let ask = running.asks;
                let kept = Waiting::Left(Box::new(staged.clone()));
                running.waiting.insert(ask, kept);
                let answer = match verdict.error {
                    None => Ok(AppReply {
                        metadata: headers,
                        body,
                    }),
                    Some(error) => Err(error),
                };
                let answered = Answered {
                    answer,
                    staged,
                    wish: Wish::GoesOn,
                };
                left(turn, ask, entry, TurnEnd::Answered(Box::new(answered)), out);
            }
        }
        if let Some(Stage::Running(running)) = self.table.get(actor).map(|o| &o.stage)
            && running.is_over()
        {
            self.finish(actor, out);
        }
    }
}

impl Running {
    /// What became of the answer of a call inside.
    pub(super) fn entry_told(&mut self, staged: Staged, told: TurnTold) {
        match told {
            TurnTold::Part(PartEnd::Committed(version)) => {
                self.base = version;
                self.parts += 1;
            }
            TurnTold::Part(PartEnd::Nothing) => {}
            _ => {
                self.restore(staged);
                self.refused = Refused::Something;
            }
        }
    }
}

fn left(turn: TurnId, ask: u32, entry: u32, end: TurnEnd, out: &mut Vec<HostEffect>) {
    let end = Box::new(end);
    let what = TurnAsk::Left { entry, end };
    out.push(HostEffect::Leader(RunnerInput::Asked { turn, ask, what }));
}
