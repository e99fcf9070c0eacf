//! Answers to state, reminder and timer calls: every row of Dapr's table of actor errors.

use hyper::StatusCode;

use super::{Answer, not_run, unknown};
use crate::api::app_calls::AppRefusal;

/// Dapr's texts name what failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A transaction of state.
    StateTransaction,
    /// Reading a value.
    StateGet,
    /// Registering a reminder.
    ReminderRegister,
    /// Reading or listing reminders.
    ReminderGet,
    /// Ending reminders.
    ReminderUnregister,
    /// Registering a timer.
    TimerRegister,
    /// Ending a timer.
    TimerUnregister,
}

impl Operation {
    /// `errorCode` and the beginning of the message.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::StateTransaction => (
                "ERR_ACTOR_STATE_TRANSACTION_SAVE",
                "error saving actor transaction state",
            ),
            Self::StateGet => ("ERR_ACTOR_STATE_GET", "error getting actor state"),
            Self::ReminderRegister => {
                ("ERR_ACTOR_REMINDER_CREATE", "error creating actor reminder")
            }
            Self::ReminderGet => ("ERR_ACTOR_REMINDER_GET", "error getting actor reminder"),
            Self::ReminderUnregister => {
                ("ERR_ACTOR_REMINDER_DELETE", "error deleting actor reminder")
            }
            Self::TimerRegister => ("ERR_ACTOR_TIMER_CREATE", "error creating actor timer"),
            // Dapr has no case of its own: deleting a timer does not fail there.
            Self::TimerUnregister => ("ERR_ACTOR_TIMER_DELETE", "error deleting actor timer"),
        }
    }
}

/// The operation failed, for a reason that Dapr's text takes in.
#[must_use]
pub fn failed(operation: Operation, why: &str) -> Answer {
    let (error_code, words) = operation.words();
    Answer::dapr(
        StatusCode::INTERNAL_SERVER_ERROR,
        error_code,
        format!("{words}: {why}"),
    )
}

/// There is no such reminder.
#[must_use]
pub fn reminder_not_found(name: &str) -> Answer {
    Answer::dapr(
        StatusCode::NOT_FOUND,
        "ERR_ACTOR_REMINDER_NOT_FOUND",
        format!("actor reminder not found: {name}"),
    )
}

/// The body is not what the operation takes.
#[must_use]
pub fn malformed(why: &str) -> Answer {
    Answer::dapr(
        StatusCode::BAD_REQUEST,
        "ERR_MALFORMED_REQUEST",
        format!("failed deserializing HTTP body: {why}"),
    )
}

/// No address of a cluster was given.
#[must_use]
pub fn no_placement() -> Answer {
    Answer::dapr(
        StatusCode::BAD_REQUEST,
        "ERR_ACTOR_NO_PLACEMENT",
        "placement service is not configured".to_owned(),
    )
}

/// What an application is told. `key` is `type||id`, `name` that of the reminder or timer.
#[must_use]
pub fn refusal(operation: Operation, key: &str, name: &str, refusal: AppRefusal) -> Answer {
    let (status, error_code, message) = match refusal {
        AppRefusal::InstanceMissing => (
            StatusCode::BAD_REQUEST,
            "ERR_ACTOR_INSTANCE_MISSING",
            "actor instance is missing".to_owned(),
        ),
        AppRefusal::NotHosted if operation == Operation::TimerRegister => {
            let why = format!("can't create timer for actor {key}: actor type not registered");
            return failed(operation, &why);
        }
        AppRefusal::NotHosted => (
            StatusCode::FORBIDDEN,
            "ERR_ACTOR_REMINDER_NON_HOSTED",
            "operations on actor reminders are only possible on hosted actor types".to_owned(),
        ),
        AppRefusal::AlreadyExists => (
            StatusCode::CONFLICT,
            "ERR_ACTOR_REMINDER_ALREADY_EXISTS",
            format!("actor reminder already exists: {name}"),
        ),
        AppRefusal::RuntimeNotFound => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "ERR_ACTOR_RUNTIME_NOT_FOUND",
            "the state store is not configured to use the actor runtime. Have you set the - name: \
             actorStateStore value: \"true\" in your state store component file?"
                .to_owned(),
        ),
        AppRefusal::NoAppChannel => (
            StatusCode::BAD_REQUEST,
            "ERR_ACTOR_NO_APP_CHANNEL",
            "app channel is not initialized".to_owned(),
        ),
        AppRefusal::NoPlacement => return no_placement(),
        AppRefusal::NoAddress => (
            StatusCode::NOT_FOUND,
            "ERR_ACTOR_NO_ADDRESS",
            format!("did not find address for actor '{key}'"),
        ),
        AppRefusal::StackDepth => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "ERR_ACTOR_STACK_DEPTH",
            "maximum stack depth exceeded".to_owned(),
        ),
        AppRefusal::Closed => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ERR_ACTOR_RUNTIME_CLOSED",
            "actor runtime is closed".to_owned(),
        ),
        AppRefusal::Failed(why) => return failed(operation, &why),
        AppRefusal::NotRun(refusal) => return not_run(refusal),
        AppRefusal::Unknown { code, detail } => return unknown(code, detail),
    };
    Answer::dapr(status, error_code, message)
}
