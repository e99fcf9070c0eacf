//! What an actor is doing at this moment, for people who ask why a call waits. Changes nothing.

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{STANDING_CALLS_MAX, Standing, WorkStanding};
use ghostlight_protocol::command::ScheduleKind;
use ghostlight_protocol::time::Instant;

use super::activation::Stage;
use super::engine::Turns;
use super::jobs::{Job, JobId, Work};
use crate::turn_io::ActivationId;

impl Turns {
    /// What the actor is doing; `None`: it is not in memory.
    #[must_use]
    pub fn standing(&self, now: Instant, key: &ActorKey) -> Option<Standing> {
        let actor = self.actors.get(key)?;
        let work = |id: JobId| self.jobs.get(id).map(|job| work(now, job));
        let turn = match &actor.stage {
            Stage::Running(running) => work(running.job),
            Stage::Idle | Stage::Loading | Stage::Parked(_) | Stage::Undoing { .. } => None,
        };
        let stage = match &actor.stage {
            Stage::Running(_) => "in a turn",
            Stage::Loading => "loading",
            Stage::Idle if actor.ledger.is_settled() => "idle",
            Stage::Idle | Stage::Parked(_) | Stage::Undoing { .. } => "committing",
        };
        let waiting = actor.mailbox.calls(&self.jobs);
        Some(Standing {
            turn,
            stage: stage.to_owned(),
            waiting: waiting.take(STANDING_CALLS_MAX).filter_map(work).collect(),
            waiting_count: actor.mailbox.waiting() as u32,
            turns: actor.activation.map_or(0, |activation| activation.turns),
            version: actor.version.unwrap_or_default().0,
            ..Standing::default()
        })
    }

    /// The activation of an actor, if it has one.
    #[must_use]
    pub fn activation_of(&self, key: &ActorKey) -> Option<ActivationId> {
        let activation = self.actors.get(key)?.activation?;
        Some(self.activation_id(activation.number))
    }
}

fn work(now: Instant, job: &Job) -> WorkStanding {
    let (kind, request) = match &job.work {
        Work::Call(call) => ("call", format!("{:?}", call.id)),
        Work::Message { .. } => ("message", String::new()),
        Work::Wakeup(due) => match due.kind {
            ScheduleKind::Reminder => ("reminder", String::new()),
            ScheduleKind::Timer => ("timer", String::new()),
        },
    };
    WorkStanding {
        kind: kind.to_owned(),
        what: job.method.clone(),
        for_ms: now.since(job.since).as_millis() as u64,
        request,
        chain: job.chain.iter().map(ToString::to_string).collect(),
    }
}
