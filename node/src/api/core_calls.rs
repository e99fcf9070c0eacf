//! The way from the API to the core for what an application asks about its actors: words are put
//! into the core's words, and back. Absent: any decision.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_core::hosts::words::{self, AppOutcome, ScheduleSpec};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{self, DataForm, ScheduleKind, ScheduleRow};
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::schedule::Period;
use ghostlight_protocol::time::WallTime;

use super::app_calls::{
    AppCall, AppCallOutcome, AppCalls, AppRefusal, AppReply, FailurePolicy, HostState, Hosting,
    NamedReminder, NoApplication, Overwrite, PlacementState, Registration, ReminderView,
    RemindersCall, RuntimeStatus, Scope, StateOp, StateValue,
};
use super::inventory;
use crate::app::{AppChannel, AppId, Presence};
use crate::handle::NodeHandle;

/// See the module.
#[derive(Clone, Debug)]
pub struct CoreCalls {
    handle: NodeHandle,
    app: Option<AppId>,
    hosts: Hosts,
}

/// The way by which applications come to the node; empty where there are none.
pub type Hosts = Arc<OnceLock<AppChannel>>;

impl CoreCalls {
    /// Over a node's handle, for the application whose listener it is.
    #[must_use]
    pub fn new(handle: NodeHandle, app: Option<AppId>, hosts: Hosts) -> Self {
        Self { handle, app, hosts }
    }

    fn presence(&self) -> Presence {
        match (self.hosts.get(), &self.app) {
            (Some(channel), Some(app)) => channel.presence(app),
            (None, Some(_)) => Presence::Awaited,
            (_, None) => Presence::Hosts(Vec::new()),
        }
    }
}

impl CoreCalls {
    /// What an application hears that asks about an actor of its neighbour: the node hosts the
    /// type, and it does not.
    fn of_another(&self, actor: &ActorKey, call: &AppCall) -> Option<AppRefusal> {
        match call {
            _ if !self.is_neighbours(actor.actor_type()) => None,
            AppCall::StateTransaction(_) => Some(AppRefusal::InstanceMissing),
            AppCall::ReminderRegister { .. }
            | AppCall::ReminderUnregister { .. }
            | AppCall::ReminderGet { .. }
            | AppCall::TimerRegister { .. } => Some(AppRefusal::NotHosted),
            AppCall::StateRefused | AppCall::StateGet { .. } | AppCall::TimerUnregister { .. } => {
                None
            }
        }
    }

    /// Whether an application beside this one has a type, and this one does not.
    fn is_neighbours(&self, actor_type: &str) -> bool {
        let (Some(channel), Some(app)) = (self.hosts.get(), &self.app) else {
            return false;
        };
        let hosts = |app: &AppId| match channel.presence(app) {
            Presence::Hosts(types) => types.iter().any(|hosted| hosted == actor_type),
            Presence::Awaited | Presence::Gone => false,
        };
        let mut others = channel.apps().map(|other| &other.id);
        !hosts(app) && others.any(|other| other != app && hosts(other))
    }

    /// Reminders are asked about only beside an application that hosts their type, as in Dapr.
    async fn must_host(&self, actor_type: &str) -> Result<(), AppRefusal> {
        if self.is_neighbours(actor_type) {
            return Err(AppRefusal::NotHosted);
        }
        match self.handle.admin(AdminRequest::Hosted).await {
            AdminAnswer::Hosted(types) if types.iter().any(|(name, _)| name == actor_type) => {
                Ok(())
            }
            AdminAnswer::Refused { code, detail } => Err(refused(NotRun::new(code, detail))),
            _ => Err(AppRefusal::NotHosted),
        }
    }

    /// Reminders of all actors of a type.
    async fn of_type(
        &self,
        namespace: &str,
        actor_type: &str,
        call: RemindersCall,
    ) -> AppCallOutcome {
        let any = ActorKey::new(namespace, actor_type, "x")
            .map_err(|error| AppRefusal::Failed(error.to_string()))?;
        let kind = ScheduleKind::Reminder;
        let told = |refusal| match refusal {
            inventory::Refusal::NotRun(refusal) => refused(refusal),
            inventory::Refusal::Unknown(detail) => AppRefusal::Unknown {
                code: Code::OutcomeUnknown,
                detail,
            },
        };
        match call {
            RemindersCall::List => {
                let rows = inventory::all_schedules(&self.handle, &any, kind).await;
                let rows = rows.map_err(told)?.into_iter();
                let named = rows.map(|(actor, name, row)| NamedReminder {
                    name,
                    reminder: view(&actor, row),
                });
                Ok(AppReply::Reminders(named.collect()))
            }
            RemindersCall::UnregisterAll => {
                let cleared = inventory::clear_schedules(&self.handle, &any, kind).await;
                cleared.map_err(told)?;
                Ok(AppReply::Done)
            }
        }
    }
}

impl AppCalls for CoreCalls {
    fn app_call(&self, actor: ActorKey, call: AppCall) -> BoxFuture<'_, AppCallOutcome> {
        if let Some(refusal) = self.of_another(&actor, &call) {
            return Box::pin(async { Err(refusal) });
        }
        Box::pin(async move {
            let asked = asked(&call);
            match asked {
                Asked::Reminder => {
                    self.must_host(actor.actor_type()).await?;
                    let outcome = self.handle.app_call(actor.clone(), core_call(call)).await;
                    reminder(&actor, outcome)
                }
                Asked::Other => done(self.handle.app_call(actor, core_call(call)).await),
            }
        })
    }

    fn reminders_call(&self, scope: Scope, call: RemindersCall) -> BoxFuture<'_, AppCallOutcome> {
        Box::pin(async move {
            let actor = match scope {
                Scope::Actor(actor) => actor,
                Scope::Type {
                    namespace,
                    actor_type,
                } => {
                    self.must_host(&actor_type).await?;
                    return self.of_type(&namespace, &actor_type, call).await;
                }
            };
            self.must_host(actor.actor_type()).await?;
            let wanted = match call {
                RemindersCall::List => words::AppCall::ScheduleList(ScheduleKind::Reminder),
                RemindersCall::UnregisterAll => {
                    words::AppCall::ScheduleClear(ScheduleKind::Reminder)
                }
            };
            match self.handle.app_call(actor.clone(), wanted).await {
                AppOutcome::Schedules(rows) => Ok(AppReply::Reminders(
                    rows.into_iter()
                        .map(|(name, row)| NamedReminder {
                            name,
                            reminder: view(&actor, row),
                        })
                        .collect(),
                )),
                other => done(other),
            }
        })
    }

    fn hosting(&self) -> Hosting {
        let none = NoApplication.hosting();
        match self.presence() {
            Presence::Hosts(types) => Hosting {
                types: types.into_iter().map(|name| (name, 0)).collect(),
                ..none
            },
            Presence::Gone => Hosting {
                host: HostState::NotReady,
                ..none
            },
            Presence::Awaited => Hosting {
                status: RuntimeStatus::Initializing,
                host: HostState::NotReady,
                placement: PlacementState::Unknown,
                unready: vec!["app"],
                ..none
            },
        }
    }
}

/// Which answer a call has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Reminder,
    Other,
}

fn asked(call: &AppCall) -> Asked {
    match call {
        AppCall::ReminderGet { .. } => Asked::Reminder,
        AppCall::StateTransaction(_)
        | AppCall::StateRefused
        | AppCall::StateGet { .. }
        | AppCall::ReminderRegister { .. }
        | AppCall::ReminderUnregister { .. }
        | AppCall::TimerRegister { .. }
        | AppCall::TimerUnregister { .. } => Asked::Other,
    }
}

fn core_call(call: AppCall) -> words::AppCall {
    match call {
        AppCall::StateTransaction(operations) => {
            words::AppCall::StateTransaction(operations.into_iter().map(state_op).collect())
        }
        AppCall::StateRefused => words::AppCall::StateRefused,
        AppCall::StateGet { key } => words::AppCall::StateGet {
            key: Bytes::from(key),
        },
        AppCall::ReminderRegister {
            registration,
            overwrite,
            failure_policy,
        } => {
            let overwrite = match overwrite {
                Overwrite::Replace => words::Overwrite::Yes,
                Overwrite::Refuse => words::Overwrite::No,
            };
            let failure = failure_policy.map(failure);
            set(
                ScheduleKind::Reminder,
                registration,
                String::new(),
                overwrite,
                failure,
            )
        }
        AppCall::ReminderUnregister { name } => words::AppCall::ScheduleUnset {
            kind: ScheduleKind::Reminder,
            name,
        },
        AppCall::ReminderGet { name } => words::AppCall::ScheduleGet {
            kind: ScheduleKind::Reminder,
            name,
        },
        AppCall::TimerRegister {
            registration,
            callback,
        } => set(
            ScheduleKind::Timer,
            registration,
            callback,
            words::Overwrite::Yes,
            None,
        ),
        AppCall::TimerUnregister { name } => words::AppCall::ScheduleUnset {
            kind: ScheduleKind::Timer,
            name,
        },
    }
}

fn set(
    kind: ScheduleKind,
    registration: Registration,
    callback: String,
    overwrite: words::Overwrite,
    failure: Option<command::FailurePolicy>,
) -> words::AppCall {
    words::AppCall::ScheduleSet {
        kind,
        name: registration.name,
        wanted: Box::new(ScheduleSpec {
            due_time: registration.when.due_time,
            period: registration.when.period,
            ttl: registration.when.ttl,
            data: registration.data,
            form: DataForm::Json,
            callback,
            overwrite,
            failure,
        }),
    }
}

fn state_op(operation: StateOp) -> words::StateOp {
    match operation {
        StateOp::Upsert { key, value, ttl } => words::StateOp::Upsert {
            key: Bytes::from(key),
            value,
            ttl,
        },
        StateOp::Delete { key } => words::StateOp::Delete {
            key: Bytes::from(key),
        },
    }
}

fn failure(policy: FailurePolicy) -> command::FailurePolicy {
    match policy {
        FailurePolicy::Drop => command::FailurePolicy {
            interval_ms: 0,
            retries_max: Some(0),
        },
        FailurePolicy::Constant {
            interval,
            max_retries,
        } => command::FailurePolicy {
            interval_ms: millis(interval),
            retries_max: max_retries,
        },
    }
}

fn millis(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)
}

/// The outcome of everything but reading reminders.
fn done(outcome: AppOutcome) -> AppCallOutcome {
    match outcome {
        AppOutcome::Done => Ok(AppReply::Done),
        AppOutcome::Value(value) => Ok(AppReply::State(value.map(|value| StateValue {
            value: value.data,
            expires: value.expires_ms.map(WallTime),
        }))),
        AppOutcome::InstanceMissing => Err(AppRefusal::InstanceMissing),
        AppOutcome::NotHosted => Err(AppRefusal::NotHosted),
        AppOutcome::AlreadyExists => Err(AppRefusal::AlreadyExists),
        AppOutcome::Malformed(why) => Err(AppRefusal::Failed(why)),
        AppOutcome::Refused(refusal) => Err(refused(refusal)),
        AppOutcome::Unknown(detail) => Err(AppRefusal::Unknown {
            code: Code::OutcomeUnknown,
            detail,
        }),
        // Nothing that is asked here is answered so.
        AppOutcome::Schedules(_)
        | AppOutcome::Keys(_)
        | AppOutcome::Actors(..)
        | AppOutcome::OwnedSchedules(..)
        | AppOutcome::Standing(_)
        | AppOutcome::Called(_)
        | AppOutcome::NotFound => {
            let why = "the node answered something else than it was asked";
            Err(AppRefusal::Failed(why.to_owned()))
        }
    }
}

/// Dapr's own cases among ours.
fn refused(refusal: NotRun) -> AppRefusal {
    match refusal.code {
        Code::ShuttingDown => AppRefusal::Closed,
        Code::ChainTooDeep => AppRefusal::StackDepth,
        Code::UnknownActorType | Code::NoHost => AppRefusal::NoAddress,
        _ => AppRefusal::NotRun(refusal),
    }
}

fn reminder(actor: &ActorKey, outcome: AppOutcome) -> AppCallOutcome {
    match outcome {
        AppOutcome::NotFound => Ok(AppReply::Reminder(None)),
        AppOutcome::Schedules(rows) => {
            let row = rows.into_iter().next();
            Ok(AppReply::Reminder(
                row.map(|(_, row)| Box::new(view(actor, row))),
            ))
        }
        other => done(other),
    }
}

fn view(actor: &ActorKey, row: ScheduleRow) -> ReminderView {
    let form = row.form();
    let data = row.data.map(|data| match form {
        DataForm::Json => data,
        DataForm::Bytes => Bytes::from(format!("\"{}\"", STANDARD.encode(&data))),
    });
    ReminderView {
        actor_type: actor.actor_type().to_owned(),
        actor_id: actor.actor_id().to_owned(),
        due_time: row.due_given,
        // One that cannot be read is shown as it was given.
        period: match row.period_given.as_str() {
            "" => String::new(),
            given => Period::parse(given).map_or(row.period, |period| period.to_string()),
        },
        expires: (row.ends_ms > 0).then_some(WallTime(row.ends_ms)),
        data,
    }
}

#[cfg(test)]
mod tests;
