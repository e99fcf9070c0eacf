//! What the cluster has: actors of a type, their keys, reminders and timers, and what an actor is
//! doing.
//!
//! Lists of a type go through all partitions, a few at a time, in the order of partitions and then
//! of keys; what changes meanwhile may or may not be in them. A page says where the next one
//! begins, in a token that means nothing to its holder. Absent: the paths (`inventory/routes`), and
//! anything that an application alone may do.

pub mod routes;
pub mod views;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::StreamExt;
use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_core::hosts::words::{AppCall, AppOutcome};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::command::{ScheduleKind, ScheduleRow};
use ghostlight_protocol::family;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::outcome::NotRun;

use crate::handle::NodeHandle;

/// Partitions that are asked at the same time.
const ASKED_AT_ONCE: usize = 16;
/// Items of one page that a client may ask for.
pub const PAGE_ITEMS_MAX: usize = 1_000;
/// Items of one page when the client says nothing.
pub const PAGE_ITEMS: usize = 100;

/// Why something was not told.
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// It was certainly not done.
    NotRun(NotRun),
    /// It may have been done.
    Unknown(String),
}

/// Where a page of a type begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// The partition.
    pub partition: u16,
    /// Strictly after this key in it; empty: from its beginning.
    pub after: Bytes,
}

impl Place {
    /// As a client carries it.
    #[must_use]
    pub fn token(&self) -> String {
        let bytes = [&self.partition.to_be_bytes()[..], &self.after].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; `None`: it is none of ours.
    #[must_use]
    pub fn read(token: &str) -> Option<Self> {
        let bytes = Bytes::from(URL_SAFE_NO_PAD.decode(token).ok()?);
        let partition = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
        Some(Self {
            partition,
            after: bytes.slice(2..),
        })
    }
}

/// Items, and where the next page begins; `None`: there is none.
pub type Paged<T> = (Vec<T>, Option<Place>);

/// A reminder or timer, and whose it is.
pub type Owned = (ActorKey, String, ScheduleRow);

/// Actors of the type of `any` that have state, reminders or timers.
///
/// # Errors
/// When a partition has no leader.
pub async fn actors(
    handle: &NodeHandle,
    any: &ActorKey,
    from: Place,
    limit: usize,
) -> Result<Paged<ActorKey>, Refusal> {
    let call = |partition, after, limit| AppCall::ActorsOfType {
        partition,
        after,
        limit,
    };
    let read = |outcome| match outcome {
        AppOutcome::Actors(actors, next) => Ok((actors, next)),
        other => Err(refused(other)),
    };
    walk(handle, any, from, limit, call, read, ActorKey::to_bytes).await
}

/// Reminders, or timers, of all actors of the type of `any`.
///
/// # Errors
/// When a partition has no leader.
pub async fn schedules(
    handle: &NodeHandle,
    any: &ActorKey,
    kind: ScheduleKind,
    from: Place,
    limit: usize,
) -> Result<Paged<Owned>, Refusal> {
    let call = move |partition, after, limit| AppCall::SchedulesOfType {
        partition,
        kind,
        after,
        limit,
    };
    let read = |outcome| match outcome {
        AppOutcome::OwnedSchedules(rows, next) => Ok((rows, next)),
        other => Err(refused(other)),
    };
    let place = move |(actor, name, _): &Owned| family::schedule_key(actor, kind, name);
    walk(handle, any, from, limit, call, read, place).await
}

/// Everything of a list, however long.
///
/// # Errors
/// When a partition has no leader.
pub async fn all_schedules(
    handle: &NodeHandle,
    any: &ActorKey,
    kind: ScheduleKind,
) -> Result<Vec<Owned>, Refusal> {
    let (mut all, mut from) = (Vec::new(), Some(Place::default()));
    while let Some(place) = from {
        let (rows, next) = schedules(handle, any, kind, place, PAGE_ITEMS_MAX).await?;
        all.extend(rows);
        from = next;
    }
    Ok(all)
}

/// Removes the reminders, or the timers, of all actors of a type, actor by actor.
///
/// # Errors
/// When an actor could not be reached; those before it have lost theirs.
pub async fn clear_schedules(
    handle: &NodeHandle,
    any: &ActorKey,
    kind: ScheduleKind,
) -> Result<usize, Refusal> {
    let rows = all_schedules(handle, any, kind).await?;
    let count = rows.len();
    let mut actors: Vec<ActorKey> = rows.into_iter().map(|(actor, ..)| actor).collect();
    actors.dedup();
    for actor in actors {
        match handle.app_call(actor, AppCall::ScheduleClear(kind)).await {
            AppOutcome::Done => {}
            other => return Err(refused(other)),
        }
    }
    Ok(count)
}

/// How many partitions the cluster has.
async fn partitions(handle: &NodeHandle) -> Result<u16, Refusal> {
    match handle.admin(AdminRequest::Status).await {
        AdminAnswer::Status(status) if status.partitions > 0 => {
            Ok(u16::try_from(status.partitions).unwrap_or(u16::MAX))
        }
        AdminAnswer::Refused { code, detail } => Err(Refusal::NotRun(NotRun::new(code, detail))),
        _ => Err(Refusal::NotRun(NotRun::new(
            Code::NotJoined,
            "this node has not joined a cluster yet. Try again, or ask another node",
        ))),
    }
}

/// Pages of one partition after the other, several of them asked at the same time.
async fn walk<T: Send>(
    handle: &NodeHandle,
    any: &ActorKey,
    from: Place,
    limit: usize,
    call: impl Fn(PartitionId, Bytes, u32) -> AppCall + Send + Sync,
    read: impl Fn(AppOutcome) -> Result<(Vec<T>, Bytes), Refusal> + Send + Sync,
    place: impl Fn(&T) -> Bytes + Send + Sync,
) -> Result<Paged<T>, Refusal> {
    let partitions = partitions(handle).await?;
    let rows = u32::try_from(limit).unwrap_or(u32::MAX);
    let ask = |partition: u16, after: Bytes| {
        let asked = handle.app_call(any.clone(), call(PartitionId(partition), after, rows));
        async move { (partition, asked.await) }
    };
    let first = |partition| {
        let after = match partition == from.partition {
            true => from.after.clone(),
            false => Bytes::new(),
        };
        ask(partition, after)
    };
    let mut pages = futures::stream::iter((from.partition..partitions).map(first))
        .buffered(ASKED_AT_ONCE)
        .boxed();
    let mut all: Vec<T> = Vec::new();
    while let Some((partition, outcome)) = pages.next().await {
        let mut page = read(outcome)?;
        loop {
            let (items, next) = page;
            for item in items {
                all.push(item);
                if all.len() == limit {
                    let after = all.last().map(&place).unwrap_or_default();
                    return Ok((all, Some(Place { partition, after })));
                }
            }
            if next.is_empty() {
                break;
            }
            page = read(ask(partition, next).await.1)?;
        }
    }
    Ok((all, None))
}

/// What was answered instead of what was asked for.
fn refused(outcome: AppOutcome) -> Refusal {
    match outcome {
        AppOutcome::Refused(refusal) => Refusal::NotRun(refusal),
        AppOutcome::Unknown(why) => Refusal::Unknown(why),
        other => Refusal::NotRun(NotRun::new(
            Code::Internal,
            format!("the node answered something else than it was asked: {other:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        for (partition, after) in [(0, ""), (255, "k"), (4_095, "a/b c")] {
            let place = Place {
                partition,
                after: Bytes::from_static(after.as_bytes()),
            };
            assert_eq!(Place::read(&place.token()), Some(place));
        }
        for wrong in ["", "A", "!", "AA"] {
            assert_eq!(Place::read(wrong), None, "{wrong}");
        }
    }
}
