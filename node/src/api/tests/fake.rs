//! A fake of the way to applications: it notes what it is asked, and answers by the id of the
//! actor.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::time::WallTime;

use crate::api::app_calls::{
    AppCall, AppCallOutcome, AppCalls, AppRefusal, AppReply, Calls, HostState, Hosting,
    NamedReminder, PlacementState, ReminderView, RemindersCall, RuntimeStatus, Scope, StateValue,
};

/// See the module.
#[derive(Debug)]
pub(crate) struct FakeApp {
    seen: Mutex<Vec<String>>,
    hosting: Mutex<Hosting>,
}

impl FakeApp {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            seen: Mutex::default(),
            hosting: Mutex::new(Hosting {
                status: RuntimeStatus::Running,
                host: HostState::Ready,
                placement: PlacementState::Connected,
                types: vec![("bank".into(), 3), ("idle".into(), 0)],
                unready: Vec::new(),
            }),
        })
    }

    pub(crate) fn set_hosting(&self, change: impl FnOnce(&mut Hosting)) {
        change(&mut self.hosting.lock().unwrap());
    }

    /// What it was asked last, in the form that `Debug` writes.
    #[track_caller]
    pub(crate) fn last(&self) -> String {
        let seen = self.seen.lock().unwrap();
        seen.last().expect("it was asked").clone()
    }

    pub(crate) fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }
}

/// By the id of the actor; `None`: it is done.
fn refusal(actor_id: &str) -> Option<AppRefusal> {
    Some(match actor_id {
        "missing" => AppRefusal::InstanceMissing,
        "foreign" => AppRefusal::NotHosted,
        "twice" => AppRefusal::AlreadyExists,
        "storeless" => AppRefusal::RuntimeNotFound,
        "appless" => AppRefusal::NoAppChannel,
        "placeless" => AppRefusal::NoPlacement,
        "nobody" => AppRefusal::NoAddress,
        "deep" => AppRefusal::StackDepth,
        "closed" => AppRefusal::Closed,
        "broken" => AppRefusal::Failed("it broke".into()),
        "moving" => AppRefusal::NotRun(NotRun::retry(
            Code::LeaderMoved,
            "it moved",
            Duration::from_millis(20),
        )),
        "lost" => AppRefusal::Unknown {
            code: Code::OutcomeUnknown,
            detail: "nobody knows".into(),
        },
        _ => return None,
    })
}

pub(crate) fn view(actor: &ActorKey) -> ReminderView {
    ReminderView {
        actor_type: actor.actor_type().into(),
        actor_id: actor.actor_id().into(),
        due_time: "1s".into(),
        period: "@every 1s".into(),
        expires: Some(WallTime(1_772_366_400_500)),
        data: Some(Bytes::from_static(b"{\"a\": 1}")),
    }
}

fn reply(actor: &ActorKey, call: &AppCall) -> AppReply {
    match call {
        AppCall::StateGet { key } if key == "absent" => AppReply::State(None),
        AppCall::StateGet { key } => AppReply::State(Some(StateValue {
            value: match key.as_str() {
                "empty" => Bytes::new(),
                "large" => Bytes::from(vec![b'1'; 2_048]),
                _ => Bytes::from_static(b"\"raw \xff\""),
            },
            expires: (key == "brief").then_some(WallTime(1_772_366_400_000)),
        })),
        AppCall::ReminderGet { name } if name == "absent" => AppReply::Reminder(None),
        AppCall::ReminderGet { name } if name == "bare" => {
            AppReply::Reminder(Some(Box::new(ReminderView {
                actor_type: actor.actor_type().into(),
                actor_id: actor.actor_id().into(),
                ..ReminderView::default()
            })))
        }
        AppCall::ReminderGet { .. } => AppReply::Reminder(Some(Box::new(view(actor)))),
        AppCall::StateTransaction(_)
        | AppCall::StateRefused
        | AppCall::ReminderRegister { .. }
        | AppCall::ReminderUnregister { .. }
        | AppCall::TimerRegister { .. }
        | AppCall::TimerUnregister { .. } => AppReply::Done,
    }
}

impl AppCalls for FakeApp {
    fn app_call(&self, actor: ActorKey, call: AppCall) -> BoxFuture<'_, AppCallOutcome> {
        self.note(format!("{actor:?} {call:?}"));
        let outcome = match refusal(actor.actor_id()) {
            Some(refused) => Err(refused),
            None => Ok(reply(&actor, &call)),
        };
        Box::pin(async { outcome })
    }

    fn reminders_call(&self, scope: Scope, call: RemindersCall) -> BoxFuture<'_, AppCallOutcome> {
        self.note(format!("{scope:?} {call:?}"));
        let actor = match scope {
            Scope::Actor(actor) => actor,
            Scope::Type {
                namespace,
                actor_type,
            } => ActorKey::new(&namespace, &actor_type, "any").unwrap(),
        };
        let outcome = match (refusal(actor.actor_id()), call) {
            (Some(refused), _) => Err(refused),
            (None, RemindersCall::UnregisterAll) => Ok(AppReply::Done),
            (None, RemindersCall::List) => Ok(AppReply::Reminders(vec![NamedReminder {
                name: "tick".into(),
                reminder: view(&actor),
            }])),
        };
        Box::pin(async { outcome })
    }

    fn hosting(&self) -> Hosting {
        self.hosting.lock().unwrap().clone()
    }

    fn calls(&self) -> Calls {
        match self.hosting.lock().unwrap().status {
            RuntimeStatus::Disabled => Calls::NoPlacement,
            RuntimeStatus::Initializing | RuntimeStatus::Running => Calls::Taken,
        }
    }
}
