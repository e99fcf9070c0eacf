//! From what a request says to an [`AppCall`]: the checks both transports share.
//!
//! Names by Dapr's rules; schedules are read once here, so that a wrong one is refused in Dapr's
//! words before anybody is asked, and travel as they were written. Absent: JSON and protobuf, which
//! belong to the transports.

use std::time::Duration;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::STATE_KEY_BYTES_MAX;
use ghostlight_protocol::schedule::{Kind, Schedule, Texts};
use ghostlight_protocol::topic::{DIRECTORY_TYPE, TOPIC_TYPE};

use super::app_calls::{
    Registration, SCHEDULE_NAME_BYTES_MAX, StateOp, TRANSACTION_OPERATIONS_MAX, When,
};
use super::error_map::app::{Operation, failed};
use super::error_map::{self, Answer};
use crate::clock::wall_now;

/// Prefix of actor types that Dapr keeps to itself.
const RESERVED_TYPE_PREFIX: &str = "dapr.internal.";
/// Metadata of an upsert: seconds until the value expires.
pub(super) const TTL_METADATA: &str = "ttlInSeconds";

/// Checks type and id of a call.
///
/// # Errors
/// The first name that breaks a rule, or a type that Dapr keeps to itself.
pub(super) fn actor(namespace: &str, actor_type: &str, actor_id: &str) -> Result<ActorKey, Answer> {
    let key = ActorKey::new(namespace, actor_type, actor_id)
        .map_err(|error| Answer::of(error.code, error.to_string()))?;
    not_reserved(actor_type)?;
    Ok(key)
}

/// Checks a type alone.
///
/// # Errors
/// See [`actor`].
pub(super) fn actor_type(namespace: &str, actor_type: &str) -> Result<String, Answer> {
    actor(namespace, actor_type, "x").map(|key| key.actor_type().to_owned())
}

fn not_reserved(actor_type: &str) -> Result<(), Answer> {
    if [TOPIC_TYPE, DIRECTORY_TYPE].contains(&actor_type) {
        return Err(Answer::of(
            Code::ActorTypeReserved,
            format!("actor type {actor_type:?} stands for topics; publish and subscribe instead"),
        ));
    }
    if !actor_type.starts_with(RESERVED_TYPE_PREFIX) {
        return Ok(());
    }
    Err(Answer::of(
        Code::ActorTypeReserved,
        format!(
            "actor type {actor_type:?} is reserved for the Dapr workflow runtime; direct actor API access is \
             not permitted"
        ),
    ))
}

/// Checks the name of a reminder or timer, or the id of the actor that gets one: it is one segment
/// of a path.
///
/// # Errors
/// Dapr's `invalid request`.
pub(super) fn segment(name: &str) -> Result<(), Answer> {
    let why = if name.is_empty() {
        "name is empty".to_owned()
    } else if name.len() > SCHEDULE_NAME_BYTES_MAX {
        format!(
            "name has {} bytes, at most {SCHEDULE_NAME_BYTES_MAX} are allowed",
            name.len()
        )
    } else if name.contains(['#', '?', '\0', '/', '\\']) {
        format!("name contains forbidden character: {name:?}")
    } else if let Some(position) = name.bytes().position(|byte| byte < 0x20 || byte == 0x7f) {
        format!("name contains control character at position {position}: {name:?}")
    } else if name == "." || name == ".." {
        format!("name is a path traversal sequence: {name:?}")
    } else {
        return Ok(());
    };
    Err(error_map::bad_request(format!("invalid request: {why}")))
}

/// Checks a registration.
///
/// # Errors
/// A name or a schedule that is none.
pub(super) fn registration(
    kind: Kind,
    actor: &ActorKey,
    registration: Registration,
) -> Result<Registration, Answer> {
    segment(actor.actor_id())?;
    segment(&registration.name)?;
    let When {
        due_time,
        period,
        ttl,
    } = &registration.when;
    let key = format!(
        "{}||{}||{}",
        actor.actor_type(),
        actor.actor_id(),
        registration.name
    );
    let texts = Texts {
        due_time,
        period,
        ttl,
    };
    let operation = match kind {
        Kind::Reminder => Operation::ReminderRegister,
        Kind::Timer => Operation::TimerRegister,
    };
    // Only to refuse what has expired already: when something fires, the leader decides by the
    // log's time.
    match Schedule::parse(kind, &key, texts, wall_now()) {
        Ok(_) => Ok(registration),
        Err(error) => Err(failed(operation, &error.to_string())),
    }
}

/// Checks how many operations a transaction has.
///
/// # Errors
/// A sentence for Dapr's text of the operation.
pub(super) fn operation_count(count: usize) -> Result<(), String> {
    if count <= TRANSACTION_OPERATIONS_MAX {
        return Ok(());
    }
    Err(format!(
        "{count} operations in one transaction, at most {TRANSACTION_OPERATIONS_MAX} are allowed"
    ))
}

/// Checks a key of a state operation.
///
/// # Errors
/// A sentence for Dapr's text of the operation.
pub(super) fn state_key(key: &str) -> Result<String, String> {
    match key.len() {
        0 => Err("missing key".to_owned()),
        length if length > STATE_KEY_BYTES_MAX => Err(format!(
            "the key has {length} bytes, at most {STATE_KEY_BYTES_MAX} are allowed"
        )),
        _ => Ok(key.to_owned()),
    }
}

/// An upsert; `ttl` is the text of [`TTL_METADATA`].
///
/// # Errors
/// See [`state_key`].
pub(super) fn upsert(
    key: &str,
    value: impl Into<bytes::Bytes>,
    ttl: Option<&str>,
) -> Result<StateOp, String> {
    let ttl = match ttl.map(str::parse::<i64>) {
        None => None,
        Some(Ok(seconds)) => u64::try_from(seconds)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        Some(Err(_)) => {
            return Err(format!(
                "{TTL_METADATA} of key {key:?} is not a whole number of seconds"
            ));
        }
    };
    Ok(StateOp::Upsert {
        key: state_key(key)?,
        value: value.into(),
        ttl,
    })
}
