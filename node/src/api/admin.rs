//! The admin API: every list the command line shows, as JSON, and the verbs of an operator.
//!
//! `GET /ghostlight/v1/status`, `members[/{node}]`, `partitions[/{p}]`, `actors[/{type}/{id}]`,
//! `where/{type}/{id}`; `POST drain`, `leave`, `remove`; `GET /metrics`; and the `inventory`. Verbs
//! ask for `Content-Type: application/json`, so that no web page can send them from a browser
//! behind the operator's back. Field names are part of the `--json` contract.

pub mod readers;
pub mod topics;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use ghostlight_core::admin::{AdminAnswer, AdminRequest, DrainChange, MemberView, several_called};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::error_map::{self, Answer};
use super::{Context, Door, Shared, collect, inventory, json, path, refused, text};

/// Base of every path of ours.
pub const BASE: &str = "/ghostlight/v1";
/// Body of one verb, in bytes.
const VERB_BODY_BYTES_MAX: usize = 64 << 10;
/// How long a list waits for the node.
const LIST_WAIT_MAX: Duration = Duration::from_secs(5);

/// Body of the verbs.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verb {
    /// Node id or name; absent: the node that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What `drain` does.
    #[serde(default)]
    pub change: Change,
}

/// Begin or end a drain.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Give everything away.
    #[default]
    Begin,
    /// Take part again.
    Undo,
}

/// Answer to a verb.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// What has happened, for people.
    pub done: String,
}

/// Answers one request.
pub async fn answer(context: Shared, request: Request) -> Response {
    let Some(segments) = path::segments(request.uri().path()) else {
        return Answer::no_route(
            StatusCode::BAD_REQUEST,
            "the path has a broken % escape, or is not UTF-8",
        )
        .into_response();
    };
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    if parts == ["metrics"] {
        return metrics_page(&context);
    }
    if let Some(refusal) = refused(&context.operator_tokens, request.headers()) {
        return refusal;
    }
    let ["ghostlight", "v1", rest @ ..] = parts.as_slice() else {
        return no_path();
    };
    if topics::is_ours(rest) {
        return topics::answer(&context, rest, request).await;
    }
    let (method, uri) = (request.method(), request.uri());
    if let Some(response) = inventory::routes::answer(&context, method, uri, rest).await {
        return response;
    }
    if request.method() == Method::POST {
        return match verb(rest, request).await {
            Ok(verb) => settle(context.handle.admin(verb).await),
            Err(refusal) => refusal.into_response(),
        };
    }
    if request.method() != Method::GET {
        return Answer::no_route(
            StatusCode::METHOD_NOT_ALLOWED,
            "lists take GET, verbs take POST",
        )
        .into_response();
    }
    match tokio::time::timeout(LIST_WAIT_MAX, list(&context, rest)).await {
        Ok(response) => response,
        Err(_) => Answer::of(
            Code::Internal,
            format!("the node did not answer within {LIST_WAIT_MAX:?}. Look into its log"),
        )
        .into_response(),
    }
}

/// Answers one request where there are metrics alone. Prometheus asks for `/metrics`, and Dapr's
/// answers at `/`, too.
pub fn answer_metrics(context: &Context, request: &Request) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/" | "/metrics") => metrics_page(context),
        _ => Answer::no_route(StatusCode::NOT_FOUND, "there is GET /metrics alone here")
            .into_response(),
    }
}

fn metrics_page(context: &Context) -> Response {
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = Body::from(context.metrics.render());
    response
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

async fn verb(rest: &[&str], request: Request) -> Result<AdminRequest, Answer> {
    if !is_json(&request) {
        return Err(Answer::no_route(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send Content-Type: application/json, with {} if there is nothing to say",
        ));
    }
    let (head, body) = request.into_parts();
    let body = collect(&head.headers, body, VERB_BODY_BYTES_MAX).await?;
    let said = if body.is_empty() {
        &b"{}"[..]
    } else {
        &body[..]
    };
    let said: Verb = serde_json::from_slice(said).map_err(|error| {
        Answer::of(
            Code::InvalidArgument,
            format!("the body is not what this verb takes: {error}"),
        )
    })?;
    match rest {
        ["drain"] => Ok(AdminRequest::Drain {
            node: said.node,
            change: match said.change {
                Change::Begin => DrainChange::Begin,
                Change::Undo => DrainChange::Undo,
            },
        }),
        ["leave"] => Ok(AdminRequest::Leave { node: said.node }),
        ["remove"] => said.node.map(AdminRequest::Remove).ok_or_else(|| {
            Answer::of(
                Code::InvalidArgument,
                "remove needs the node: {\"node\": \"n2\"}",
            )
        }),
        _ => Err(Answer::no_route(
            StatusCode::NOT_FOUND,
            "verbs are drain, leave and remove",
        )),
    }
}

async fn list(context: &Context, rest: &[&str]) -> Response {
    let ask = |request| context.handle.admin(request);
    match rest {
        ["status"] => {
            let mut answer = ask(AdminRequest::Status).await;
            if let AdminAnswer::Status(view) = &mut answer {
                // What this node listens on is the shell's business, unknown to the core.
                view.weakened.clone_from(&context.weakened);
                view.applications = context.doors.iter().map(Door::view).collect();
                // So are the buses of its components. Actors do without them: the node's health is
                // its own.
                let troubles: BTreeSet<_> =
                    context.pubsubs().flat_map(|one| one.troubles()).collect();
                view.reasons.extend(troubles);
            }
            settle(answer)
        }
        ["members"] | ["members", _] => members(ask(AdminRequest::Status).await, rest.get(1)),
        ["partitions"] => settle(ask(AdminRequest::Partitions).await),
        ["partitions", number] => partition(ask(AdminRequest::Partitions).await, number),
        ["actors"] => settle(ask(AdminRequest::Actors).await),
        ["actors", actor_type, actor_id] => {
            let name = format!("{actor_type}/{actor_id}");
            actor(ask(AdminRequest::Actors).await, &context.namespace, &name)
        }
        ["where", actor_type, actor_id] => {
            match ActorKey::new(&context.namespace, actor_type, actor_id) {
                Ok(key) => settle(ask(AdminRequest::Where(key)).await),
                Err(error) => Answer::of(error.code, error.to_string()).into_response(),
            }
        }
        _ => no_path(),
    }
}

fn members(answer: AdminAnswer, wanted: Option<&&str>) -> Response {
    let (AdminAnswer::Status(status), wanted) = (answer, wanted) else {
        return settle(ended());
    };
    let Some(wanted) = wanted else {
        return json(StatusCode::OK, &status.members);
    };
    let all = status.members.iter();
    let asked = |member: &&MemberView| member.name == **wanted || member.id == **wanted;
    let found: Vec<&MemberView> = all.filter(asked).collect();
    match found[..] {
        [member] => json(StatusCode::OK, member),
        [_, ..] => {
            let each = found.iter().map(|m| (m.id.clone(), m.state.clone()));
            let text = several_called(wanted, &each.collect::<Vec<_>>());
            Answer::of(Code::AmbiguousNode, text).into_response()
        }
        [] => Answer::of(
            Code::UnknownNode,
            format!(
                "there is no node {wanted:?} in this cluster. \"ghostlight members\" lists them"
            ),
        )
        .into_response(),
    }
}

fn partition(answer: AdminAnswer, number: &str) -> Response {
    let AdminAnswer::Partitions(views) = answer else {
        return settle(answer);
    };
    let digits = number.strip_prefix('p').unwrap_or(number);
    let found = digits
        .parse::<u16>()
        .ok()
        .and_then(|number| views.iter().find(|view| view.partition == number));
    match found {
        Some(view) => json(StatusCode::OK, view),
        None => Answer::of(
            Code::InvalidArgument,
            format!(
                "there is no partition {number:?}. They are numbered from 0 to {}",
                views.len().saturating_sub(1)
            ),
        )
        .into_response(),
    }
}

/// An actor without an activation on this node is an empty answer, not an error: it may rest
/// anywhere.
fn actor(answer: AdminAnswer, namespace: &str, name: &str) -> Response {
    let AdminAnswer::Actors(views) = answer else {
        return settle(answer);
    };
    let found = views
        .iter()
        .find(|view| view.actor == name && view.namespace == namespace);
    json(StatusCode::OK, &found)
}

fn settle(answer: AdminAnswer) -> Response {
    match answer {
        AdminAnswer::Status(view) => json(StatusCode::OK, &view),
        AdminAnswer::Partitions(views) => json(StatusCode::OK, &views),
        AdminAnswer::Actors(views) => json(StatusCode::OK, &views),
        AdminAnswer::Types(views) => json(StatusCode::OK, &views),
        AdminAnswer::Hosted(counts) => json(StatusCode::OK, &counts),
        AdminAnswer::Where(view) => json(StatusCode::OK, &view),
        AdminAnswer::Done(done) => json(StatusCode::OK, &Done { done }),
        AdminAnswer::Refused { code, detail } => {
            error_map::admin_refused(code, detail).into_response()
        }
    }
}

fn ended() -> AdminAnswer {
    AdminAnswer::Refused {
        code: Code::ShuttingDown,
        detail: "this node is ending. Ask another node".to_owned(),
    }
}

fn no_path() -> Response {
    Answer::no_route(
        StatusCode::NOT_FOUND,
        "no such path. Lists: /ghostlight/v1/{status,members,partitions,actors,types,where/{type}/{id},topics,subscriptions}, \
         /ghostlight/v1/types/{type}/{actors,reminders,timers}, \
         /ghostlight/v1/actors/{type}/{id}/{standing,state,reminders,timers}; \
         verbs: drain, leave, remove; /metrics",
    )
    .into_response()
}
