//! State, reminders and timers over HTTP: what an application beside this node asks about its
//! actors.
//!
//! Bodies are read as Dapr reads them: the first JSON value counts, names of fields count in any
//! case, unknown ones are left alone, the content type does not matter (.NET sends text/plain),
//! values are kept as they are written. The `etag` of an operation is not compared: the state of an
//! actor has one writer, and reading it tells no etag.

use axum::body::Bytes;
use axum::extract::Request;
use axum::response::Response;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::calendar::rfc3339;
use ghostlight_protocol::schedule::Kind;
use ghostlight_protocol::time::WallTime;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::not_allowed;
use crate::api::app_calls::{
    AppCall, AppReply, FailurePolicy, Overwrite, Registration, ReminderView, StateOp, When,
};
use crate::api::app_requests::{self, TTL_METADATA};
use crate::api::error_map::Answer;
use crate::api::error_map::app::{Operation, failed, malformed, refusal, reminder_not_found};
use crate::api::{Context, collect, empty, json, json_bytes};
use crate::caseless::Caseless;

/// When a value expires.
const TTL_HEADER: HeaderName = HeaderName::from_static("metadata.ttlexpiretime");

/// An actor as the path names it, decoded but not checked, and what follows.
pub(super) struct Path<'a> {
    pub(super) actor_type: &'a str,
    pub(super) actor_id: &'a str,
    pub(super) rest: &'a [&'a str],
}

/// Answers what is asked below an actor; `None`: there is no such path.
pub(super) async fn answer(
    context: &Context,
    path: Path<'_>,
    request: Request,
) -> Option<Response> {
    let answered = match path.rest {
        ["state"] => state_transaction(context, &path, request).await,
        ["state", key] => state_get(context, &path, key, request.method()).await,
        ["reminders", name] => reminder(context, &path, name, request).await,
        ["timers", name] => timer(context, &path, name, request).await,
        _ => return None,
    };
    Some(answered.unwrap_or_else(|refused| {
        crate::api::metrics::refused(refused.reason());
        refused.into_response()
    }))
}

fn actor(context: &Context, path: &Path<'_>) -> Result<ActorKey, Answer> {
    app_requests::actor(&context.namespace, path.actor_type, path.actor_id)
}

/// One call, and its refusal in the words of its operation.
async fn ask(
    context: &Context,
    operation: Operation,
    name: &str,
    actor: ActorKey,
    call: AppCall,
) -> Result<AppReply, Answer> {
    let key = format!("{}||{}", actor.actor_type(), actor.actor_id());
    let outcome = context.app_call(actor, call).await;
    outcome.map_err(|refused| refusal(operation, &key, name, refused))
}

/// An implementation that answers something else than it was asked is our mistake.
fn mismatched(operation: Operation, reply: &AppReply) -> Answer {
    debug_assert!(false, "{operation:?} was answered {reply:?}");
    failed(operation, "it was answered by something else than asked")
}

async fn body(context: &Context, request: Request) -> Result<Bytes, Answer> {
    let (head, body) = request.into_parts();
    collect(&head.headers, body, context.body_max).await
}

/// The first JSON value of a body; what follows it is not looked at.
fn decode<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Answer> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(malformed("EOF"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = Caseless::<T>::deserialize(&mut json);
    read.map(|Caseless(value)| value)
        .map_err(|error| malformed(&error.to_string()))
}

/// One operation as it is sent. The request is read when its operation is known.
#[derive(Deserialize)]
struct Operated {
    #[serde(default)]
    operation: Option<String>,
    #[serde(default)]
    request: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct OperatedOn {
    #[serde(default)]
    key: Option<String>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    #[serde(default)]
    metadata: Option<std::collections::BTreeMap<String, String>>,
}

/// A field that is there keeps its text, also when that is `null`.
fn present<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(json).map(Some)
}

async fn state_transaction(
    context: &Context,
    path: &Path<'_>,
    request: Request,
) -> Result<Response, Answer> {
    const OPERATION: Operation = Operation::StateTransaction;
    if !matches!(*request.method(), Method::POST | Method::PUT) {
        return Ok(not_allowed("POST, PUT"));
    }
    let actor = actor(context, path)?;
    let operations = match state_ops(context, request).await {
        Ok(operations) => operations,
        Err(refusal) => {
            // Whatever it says: the refusal stands.
            drop(context.app_call(actor, AppCall::StateRefused).await);
            return Err(refusal);
        }
    };
    let call = AppCall::StateTransaction(operations);
    match ask(context, OPERATION, "", actor, call).await? {
        AppReply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        other => Err(mismatched(OPERATION, &other)),
    }
}

async fn state_ops(context: &Context, request: Request) -> Result<Vec<StateOp>, Answer> {
    let refused = |why: String| failed(Operation::StateTransaction, &why);
    let body = body(context, request).await?;
    let operations: Option<Vec<Operated>> = decode(&body)?;
    let operations = operations.unwrap_or_default();
    app_requests::operation_count(operations.len()).map_err(refused)?;
    let operations: Result<Vec<StateOp>, String> = operations.iter().map(state_op).collect();
    operations.map_err(refused)
}

/// Errors are sentences for Dapr's text of a transaction.
fn state_op(operated: &Operated) -> Result<StateOp, String> {
    let operation = operated.operation.as_deref().unwrap_or_default();
    let request = operated.request.as_ref().ok_or("request data is empty")?;
    if operation.is_empty() {
        return Err("operation is empty".to_owned());
    }
    let on = serde_json::from_str::<Caseless<OperatedOn>>(request.get());
    let Caseless(on) = on.map_err(|error| error.to_string())?;
    let key = on.key.unwrap_or_default();
    match operation {
        "upsert" => {
            let value = on.value.as_ref().map_or("null", |value| value.get());
            let ttl = on.metadata.as_ref().and_then(|all| all.get(TTL_METADATA));
            app_requests::upsert(
                &key,
                Bytes::copy_from_slice(value.as_bytes()),
                ttl.map(String::as_str),
            )
        }
        "delete" => Ok(StateOp::Delete {
            key: app_requests::state_key(&key)?,
        }),
        other => Err(format!("operation type {other} not supported")),
    }
}

async fn state_get(
    context: &Context,
    path: &Path<'_>,
    key: &str,
    method: &Method,
) -> Result<Response, Answer> {
    const OPERATION: Operation = Operation::StateGet;
    if method != Method::GET {
        return Ok(not_allowed("GET"));
    }
    let actor = actor(context, path)?;
    let key = app_requests::state_key(key).map_err(|why| failed(OPERATION, &why))?;
    match ask(context, OPERATION, "", actor, AppCall::StateGet { key }).await? {
        AppReply::State(None) => Ok(empty(StatusCode::NO_CONTENT)),
        // Written by gRPC, which can say nothing. To clients that read JSON it is as good as
        // absent, as in Dapr.
        AppReply::State(Some(found)) if found.value.is_empty() => Ok(empty(StatusCode::NO_CONTENT)),
        AppReply::State(Some(found)) => {
            let mut response = json_bytes(StatusCode::OK, found.value);
            if let Some(value) = found.expires.and_then(expiry_header) {
                response.headers_mut().insert(TTL_HEADER, value);
            }
            Ok(response)
        }
        other => Err(mismatched(OPERATION, &other)),
    }
}

fn expiry_header(expires: WallTime) -> Option<HeaderValue> {
    HeaderValue::from_str(&rfc3339(expires)).ok()
}

/// The fields of reminders and timers.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Scheduled {
    #[serde(default)]
    due_time: Option<String>,
    #[serde(default)]
    period: Option<String>,
    #[serde(default)]
    ttl: Option<String>,
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    overwrite: Option<bool>,
    #[serde(default, rename = "failure_policy")]
    failure_policy: Option<Policy>,
    #[serde(default)]
    callback: Option<String>,
}

/// Dapr's `JobFailurePolicy`, as Go writes the message in JSON.
#[derive(Deserialize)]
struct Policy {
    #[serde(default)]
    drop: Option<serde_json::Value>,
    #[serde(default)]
    constant: Option<ConstantPolicy>,
}

#[derive(Deserialize)]
struct ConstantPolicy {
    #[serde(default)]
    interval: Option<Interval>,
    #[serde(default, alias = "maxRetries")]
    max_retries: Option<u32>,
}

/// A protobuf duration, or a Go duration in a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Interval {
    Text(String),
    Parts {
        #[serde(default)]
        seconds: u64,
        #[serde(default)]
        nanos: u32,
    },
}

impl Policy {
    fn read(self) -> Result<Option<FailurePolicy>, Answer> {
        let Some(constant) = self.constant else {
            return Ok(self.drop.map(|_| FailurePolicy::Drop));
        };
        let interval = match constant.interval {
            None => std::time::Duration::ZERO,
            Some(Interval::Parts { seconds, nanos }) if nanos < 1_000_000_000 => {
                std::time::Duration::new(seconds, nanos)
            }
            Some(Interval::Parts { nanos, .. }) => {
                return Err(malformed(&format!(
                    "failure_policy: interval has {nanos} nanos, at most 999999999 are a part of a second"
                )));
            }
            Some(Interval::Text(text)) => match ghostlight_protocol::schedule::parse_go(&text) {
                Some(ghostlight_protocol::schedule::Signed::Forward(interval)) => interval,
                _ => {
                    return Err(malformed(&format!(
                        "failure_policy: interval {text:?} is no duration"
                    )));
                }
            },
        };
        Ok(Some(FailurePolicy::Constant {
            interval,
            max_retries: constant.max_retries,
        }))
    }
}

/// A list is none of these, although serde would take its items for the fields.
fn scheduled(body: &[u8]) -> Result<Scheduled, Answer> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        return Err(malformed("it is a list; reminders and timers are objects"));
    }
    Ok(decode::<Option<Scheduled>>(body)?.unwrap_or_default())
}

impl Scheduled {
    fn registration(&mut self, name: &str) -> Registration {
        let data = self.data.take();
        Registration {
            name: name.to_owned(),
            when: When {
                due_time: self.due_time.take().unwrap_or_default(),
                period: self.period.take().unwrap_or_default(),
                ttl: self.ttl.take().unwrap_or_default(),
            },
            data: data.map(|json| Bytes::copy_from_slice(json.get().as_bytes())),
        }
    }
}

async fn reminder(
    context: &Context,
    path: &Path<'_>,
    name: &str,
    request: Request,
) -> Result<Response, Answer> {
    let actor = actor(context, path)?;
    let owned = name.to_owned();
    let (operation, call) = match *request.method() {
        Method::POST | Method::PUT => {
            let body = body(context, request).await?;
            let mut scheduled = scheduled(&body)?;
            let registration = scheduled.registration(name);
            let call = AppCall::ReminderRegister {
                registration: app_requests::registration(Kind::Reminder, &actor, registration)?,
                overwrite: match scheduled.overwrite {
                    Some(false) => Overwrite::Refuse,
                    Some(true) | None => Overwrite::Replace,
                },
                failure_policy: match scheduled.failure_policy {
                    Some(policy) => policy.read()?,
                    None => None,
                },
            };
            (Operation::ReminderRegister, call)
        }
        Method::DELETE => (
            Operation::ReminderUnregister,
            AppCall::ReminderUnregister { name: owned },
        ),
        Method::GET => (Operation::ReminderGet, AppCall::ReminderGet { name: owned }),
        _ => return Ok(not_allowed("GET, POST, PUT, DELETE")),
    };
    match ask(context, operation, name, actor, call).await? {
        AppReply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        AppReply::Reminder(Some(view)) => reminder_json(&view),
        AppReply::Reminder(None) => Err(reminder_not_found(name)),
        other => Err(mismatched(operation, &other)),
    }
}

/// A reminder as Dapr's HTTP API shows it; mind the spelling of the id.
#[derive(Serialize)]
struct ReminderBody<'a> {
    #[serde(rename = "actorID", skip_serializing_if = "str::is_empty")]
    actor_id: &'a str,
    #[serde(rename = "actorType", skip_serializing_if = "str::is_empty")]
    actor_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(rename = "dueTime", skip_serializing_if = "str::is_empty")]
    due_time: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    period: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

fn reminder_json(view: &ReminderView) -> Result<Response, Answer> {
    let data = view
        .data
        .as_deref()
        .map(serde_json::from_slice::<&RawValue>)
        .transpose()
        .map_err(|error| {
            failed(
                Operation::ReminderGet,
                &format!("its data is no JSON: {error}"),
            )
        })?;
    Ok(json(
        StatusCode::OK,
        &ReminderBody {
            actor_id: &view.actor_id,
            actor_type: &view.actor_type,
            data,
            due_time: &view.due_time,
            period: &view.period,
            ttl: view.expires.map(rfc3339),
        },
    ))
}

async fn timer(
    context: &Context,
    path: &Path<'_>,
    name: &str,
    request: Request,
) -> Result<Response, Answer> {
    let actor = actor(context, path)?;
    let (operation, call) = match *request.method() {
        Method::POST | Method::PUT => {
            let body = body(context, request).await?;
            let mut scheduled = scheduled(&body)?;
            let registration = scheduled.registration(name);
            let call = AppCall::TimerRegister {
                registration: app_requests::registration(Kind::Timer, &actor, registration)?,
                callback: scheduled.callback.unwrap_or_default(),
            };
            (Operation::TimerRegister, call)
        }
        Method::DELETE => (
            Operation::TimerUnregister,
            AppCall::TimerUnregister {
                name: name.to_owned(),
            },
        ),
        _ => return Ok(not_allowed("POST, PUT, DELETE")),
    };
    match ask(context, operation, name, actor, call).await? {
        AppReply::Done => Ok(empty(StatusCode::NO_CONTENT)),
        other => Err(mismatched(operation, &other)),
    }
}
