//! The paths of the inventory, the same on the admin port and on Dapr's HTTP port.
//!
//! Below `/ghostlight/v1/`: `GET types`, `types/{type}/actors`, `types/{type}/reminders`,
//! `types/{type}/timers`; `GET actors/{type}/{id}/standing`, `.../state`, `.../reminders[/{name}]`,
//! `.../timers[/{name}]`; `DELETE actors/{type}/{id}`, `DELETE types/{type}/reminders`. Lists take
//! `limit` and `after`.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ghostlight_core::admin::{AdminAnswer, AdminRequest, NodeRef, WhereView};
use ghostlight_core::hosts::words::{AppCall, AppOutcome};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Standing;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::ScheduleKind;
use ghostlight_protocol::ids::NodeId;
use hyper::{Method, StatusCode, Uri};

use super::views::{ActorsPage, KeysPage, ScheduleView, SchedulesPage, StandingView};
use super::{PAGE_ITEMS, PAGE_ITEMS_MAX, Place, Refusal};
use crate::api::admin::Done;
use crate::api::error_map::{self, Answer};
use crate::api::{Context, json, path};

/// What a list was asked with.
struct Asked {
    limit: usize,
    after: Option<String>,
}

/// Answers what is asked below our base path; `None`: it is none of these paths.
pub async fn answer(
    context: &Context,
    method: &Method,
    uri: &Uri,
    rest: &[&str],
) -> Option<Response> {
    let answered = match (method, rest) {
        (&Method::GET, ["types"]) => types(context).await,
        (&Method::GET, ["types", actor_type, what]) => {
            of_type(context, actor_type, what, uri).await?
        }
        (&Method::DELETE, ["types", actor_type, "reminders"]) => {
            clear_reminders(context, actor_type).await
        }
        (&Method::DELETE, ["actors", actor_type, actor_id]) => {
            delete(context, actor_type, actor_id).await
        }
        (&Method::GET, ["actors", actor_type, actor_id, what @ ..]) if !what.is_empty() => {
            of_actor(context, (actor_type, actor_id), what, uri).await?
        }
        _ => return None,
    };
    Some(answered.unwrap_or_else(Answer::into_response))
}

fn key(context: &Context, actor_type: &str, actor_id: &str) -> Result<ActorKey, Answer> {
    ActorKey::new(&context.namespace, actor_type, actor_id)
        .map_err(|error| Answer::of(error.code, error.to_string()))
}

fn invalid(why: impl Into<String>) -> Answer {
    Answer::of(Code::InvalidArgument, why.into())
}

fn refuse(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::NotRun(refusal) => error_map::not_run(refusal),
        Refusal::Unknown(detail) => error_map::unknown(Code::OutcomeUnknown, detail),
    }
}

impl Asked {
    fn read(uri: &Uri) -> Result<Self, Answer> {
        let mut asked = Self {
            limit: PAGE_ITEMS,
            after: None,
        };
        let query = uri.query().unwrap_or_default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = path::decode(value).unwrap_or_default();
            match name {
                "limit" => {
                    let limit = value.parse().ok();
                    let limit = limit.filter(|limit| (1..=PAGE_ITEMS_MAX).contains(limit));
                    asked.limit = limit.ok_or_else(|| {
                        invalid(format!("limit is a number from 1 to {PAGE_ITEMS_MAX}"))
                    })?;
                }
                "after" if value.is_empty() => {}
                "after" => asked.after = Some(value),
                _ => return Err(invalid(format!("a list takes limit and after, not {name}"))),
            }
        }
        Ok(asked)
    }

    fn place(&self) -> Result<Place, Answer> {
        match &self.after {
            None => Ok(Place::default()),
            Some(token) => Place::read(token)
                .ok_or_else(|| invalid("after is the token that an earlier page gave as next")),
        }
    }

    fn bytes(&self) -> Result<Bytes, Answer> {
        match &self.after {
            None => Ok(Bytes::new()),
            Some(token) => URL_SAFE_NO_PAD
                .decode(token)
                .map(Bytes::from)
                .map_err(|_| invalid("after is the token that an earlier page gave as next")),
        }
    }
}

async fn types(context: &Context) -> Result<Response, Answer> {
    match context.handle.admin(AdminRequest::Types).await {
        AdminAnswer::Types(types) => Ok(json(StatusCode::OK, &types)),
        AdminAnswer::Refused { code, detail } => Err(error_map::admin_refused(code, detail)),
        _ => Err(Answer::of(
            Code::Internal,
            "the node answered something else",
        )),
    }
}

/// `None`: there is no such list.
async fn of_type(
    context: &Context,
    actor_type: &str,
    what: &str,
    uri: &Uri,
) -> Option<Result<Response, Answer>> {
    let kind = match what {
        "actors" => None,
        "reminders" => Some(ScheduleKind::Reminder),
        "timers" => Some(ScheduleKind::Timer),
        _ => return None,
    };
    Some(
        async {
            let (any, asked) = (key(context, actor_type, "x")?, Asked::read(uri)?);
            let from = asked.place()?;
            let Some(kind) = kind else {
                let listed = super::actors(&context.handle, &any, from, asked.limit).await;
                let (actors, next) = listed.map_err(refuse)?;
                let actors = actors.iter().map(|actor| actor.actor_id().to_owned());
                let page = ActorsPage {
                    actors: actors.collect(),
                    next: next.map(|place| place.token()),
                };
                return Ok(json(StatusCode::OK, &page));
            };
            let listed = super::schedules(&context.handle, &any, kind, from, asked.limit).await;
            let (rows, next) = listed.map_err(refuse)?;
            let rows = rows.into_iter();
            let page = SchedulesPage {
                items: rows
                    .map(|(actor, name, row)| ScheduleView::of(&actor, kind, name, row))
                    .collect(),
                next: next.map(|place| place.token()),
            };
            Ok(json(StatusCode::OK, &page))
        }
        .await,
    )
}

async fn clear_reminders(context: &Context, actor_type: &str) -> Result<Response, Answer> {
    let any = key(context, actor_type, "x")?;
    let kind = ScheduleKind::Reminder;
    let cleared = super::clear_schedules(&context.handle, &any, kind).await;
    let count = cleared.map_err(refuse)?;
    let done = format!("{count} reminders of {actor_type} are removed");
    Ok(json(StatusCode::OK, &Done { done }))
}

async fn delete(context: &Context, actor_type: &str, actor_id: &str) -> Result<Response, Answer> {
    let actor = key(context, actor_type, actor_id)?;
    let done = format!("{actor} is deleted with its state, reminders and timers");
    match context.handle.app_call(actor, AppCall::Delete).await {
        AppOutcome::Done => Ok(json(StatusCode::OK, &Done { done })),
        other => Err(refuse(super::refused(other))),
    }
}

/// `None`: there is no such path.
async fn of_actor(
    context: &Context,
    (actor_type, actor_id): (&str, &str),
    what: &[&str],
    uri: &Uri,
) -> Option<Result<Response, Answer>> {
    let actor = match key(context, actor_type, actor_id) {
        Ok(actor) => actor,
        Err(answer) => return Some(Err(answer)),
    };
    Some(match what {
        ["standing"] => standing(context, actor).await,
        ["state"] => keys(context, actor, uri).await,
        ["reminders"] => all(context, actor, ScheduleKind::Reminder).await,
        ["timers"] => all(context, actor, ScheduleKind::Timer).await,
        ["reminders", name] => one(context, actor, ScheduleKind::Reminder, name).await,
        ["timers", name] => one(context, actor, ScheduleKind::Timer, name).await,
        _ => return None,
    })
}

async fn keys(context: &Context, actor: ActorKey, uri: &Uri) -> Result<Response, Answer> {
    let asked = Asked::read(uri)?;
    let call = AppCall::StateKeys {
        after: asked.bytes()?,
        limit: u32::try_from(asked.limit).unwrap_or(u32::MAX),
    };
    match context.handle.app_call(actor, call).await {
        AppOutcome::Keys(keys) => {
            let full = keys.len() == asked.limit;
            let next = keys.last().filter(|_| full);
            let page = KeysPage {
                next: next.map(|key| URL_SAFE_NO_PAD.encode(key)),
                keys: keys
                    .iter()
                    .map(|key| String::from_utf8_lossy(key).into_owned())
                    .collect(),
            };
            Ok(json(StatusCode::OK, &page))
        }
        other => Err(refuse(super::refused(other))),
    }
}

async fn all(context: &Context, actor: ActorKey, kind: ScheduleKind) -> Result<Response, Answer> {
    let call = AppCall::ScheduleList(kind);
    match context.handle.app_call(actor.clone(), call).await {
        AppOutcome::Schedules(rows) => {
            let rows = rows.into_iter();
            let page = SchedulesPage {
                items: rows
                    .map(|(name, row)| ScheduleView::of(&actor, kind, name, row))
                    .collect(),
                next: None,
            };
            Ok(json(StatusCode::OK, &page))
        }
        other => Err(refuse(super::refused(other))),
    }
}

async fn one(
    context: &Context,
    actor: ActorKey,
    kind: ScheduleKind,
    name: &str,
) -> Result<Response, Answer> {
    let call = AppCall::ScheduleGet {
        kind,
        name: name.to_owned(),
    };
    match context.handle.app_call(actor.clone(), call).await {
        AppOutcome::Schedules(rows) if !rows.is_empty() => {
            let mut rows = rows.into_iter();
            let view = rows
                .next()
                .map(|(name, row)| ScheduleView::of(&actor, kind, name, row));
            Ok(json(StatusCode::OK, &view))
        }
        AppOutcome::Schedules(_) | AppOutcome::NotFound => {
            let text = format!("{actor} has none of the name {name:?}");
            Err(Answer::no_route(StatusCode::NOT_FOUND, text))
        }
        other => Err(refuse(super::refused(other))),
    }
}

async fn standing(context: &Context, actor: ActorKey) -> Result<Response, Answer> {
    let place = match context
        .handle
        .admin(AdminRequest::Where(actor.clone()))
        .await
    {
        AdminAnswer::Where(place) => place,
        AdminAnswer::Refused { code, detail } => {
            return Err(error_map::admin_refused(code, detail));
        }
        _ => {
            return Err(Answer::of(
                Code::Internal,
                "the node answered something else",
            ));
        }
    };
    let found = match context.handle.app_call(actor, AppCall::Inspect).await {
        AppOutcome::Standing(found) => found,
        other => return Err(refuse(super::refused(other))),
    };
    let nodes = nodes(context).await;
    Ok(json(
        StatusCode::OK,
        &shown(place, found.map(|found| *found), &nodes),
    ))
}

/// Every node of the cluster.
async fn nodes(context: &Context) -> Vec<NodeRef> {
    match context.handle.admin(AdminRequest::Status).await {
        AdminAnswer::Status(status) => status
            .members
            .into_iter()
            .map(|member| NodeRef {
                id: member.id,
                name: member.name,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn shown(place: WhereView, found: Option<Standing>, nodes: &[NodeRef]) -> StandingView {
    let in_memory = found.is_some();
    let found = found.unwrap_or_default();
    let host = NodeId::from_slice(&found.host).map(|node| {
        let id = format!("{node:?}");
        let known = nodes.iter().find(|known| known.id == id);
        known.cloned().unwrap_or(NodeRef {
            name: id.clone(),
            id,
        })
    });
    StandingView {
        actor: place.actor,
        partition: place.partition,
        leader: place.leader,
        replicas: place.replicas,
        host,
        stage: match in_memory {
            true => found.stage,
            false => "not in memory".to_owned(),
        },
        turn: found.turn.map(Into::into),
        waiting: found.waiting.into_iter().map(Into::into).collect(),
        waiting_count: found.waiting_count,
        turns: found.turns,
        version: found.version,
    }
}
