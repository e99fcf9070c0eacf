//! What a partition has of one actor type: its actors, or their reminders and timers, in pages.
//!
//! A page is one read of each family that it is made of, cut by rows and by bytes as the store cuts
//! it: it may be short, or empty, and more may follow. An actor stands in a list while it has
//! state, or a reminder or timer; one that was deleted does not. Absent: going through all
//! partitions, which the asker does.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{OperationReply, OwnedSchedule, Page, SchedulePage};
use ghostlight_protocol::family::{self, Family};
use ghostlight_protocol::replica::apply::is_deleted;
use ghostlight_protocol::time::Instant;

use super::dedup::{PendingRead, Rows};
use super::engine::Turns;
use super::jobs::JobId;
use super::operations::schedule_of;
use super::{RowsWanted, TurnsEffect};
use crate::io::Rest;

/// Rows of one page.
const PAGE_ROWS_MAX: usize = 1_024;
/// Sorts behind every kind of reminder or timer of an actor.
const BEHIND_SCHEDULES: u8 = 0xff;

/// A page that is being read.
#[derive(Debug)]
pub(super) struct Listing {
    job: JobId,
    limit: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Actors that have state are read; those with reminders and timers follow.
    Written { after: Bytes },
    /// Actors that have reminders or timers are read.
    Scheduled { written: Found },
    /// Reminders and timers are read.
    Schedules,
}

/// Actors that a read has found, and how far it came.
#[derive(Debug)]
struct Found {
    actors: BTreeSet<Bytes>,
    /// The last one that was looked at, if there may be more behind it.
    until: Option<Bytes>,
}

impl Turns {
    pub(super) fn list_actors(&mut self, id: JobId, page: &Page, out: &mut Vec<TurnsEffect>) {
        let after = page.after.clone();
        let listing = Listing {
            job: id,
            limit: rows_of(page.limit),
            stage: Stage::Written {
                after: after.clone(),
            },
        };
        self.list(Family::Version, listing, after, out);
    }

    pub(super) fn list_schedules(
        &mut self,
        id: JobId,
        asked: &SchedulePage,
        out: &mut Vec<TurnsEffect>,
    ) {
        let listing = Listing {
            job: id,
            limit: rows_of(asked.limit),
            stage: Stage::Schedules,
        };
        self.list(Family::Schedule, listing, asked.after.clone(), out);
    }

    fn list(&mut self, family: Family, listing: Listing, after: Bytes, out: &mut Vec<TurnsEffect>) {
        let Some(job) = self.jobs.get(listing.job) else {
            return; // Hung up meanwhile.
        };
        let prefix = type_prefix(&job.actor);
        // A place that an earlier page did not give: from the beginning.
        let after = Some(after).filter(|after| after.starts_with(&prefix));
        let rows = RowsWanted::Scan {
            family,
            prefix,
            after,
            limit: listing.limit,
        };
        self.reads
            .ask(PendingRead::List(Box::new(listing)), rows, out);
    }

    /// Rows of a page.
    pub(super) fn on_listed(
        &mut self,
        now: Instant,
        listing: Listing,
        rows: Rows,
        rest: Rest,
        out: &mut Vec<TurnsEffect>,
    ) {
        let Listing { job, limit, stage } = listing;
        match stage {
            Stage::Written { after } => {
                let written = found(rows, rest, |key, value| {
                    (!is_deleted(value)).then(|| key.clone())
                });
                let behind = behind_schedules(&after);
                let listing = Listing {
                    job,
                    limit,
                    stage: Stage::Scheduled { written },
                };
                self.list(Family::Schedule, listing, behind, out);
            }
            Stage::Scheduled { written } => {
                let scheduled = found(rows, rest, |key, _| {
                    ActorKey::split(key).map(|(actor, _)| actor.to_bytes())
                });
                let reply = merged(written, scheduled, limit);
                self.tell_read(now, job, &reply, out);
            }
            Stage::Schedules => {
                let reply = self.schedules(job, rows, rest);
                self.tell_read(now, job, &reply, out);
            }
        }
    }

    fn schedules(&self, id: JobId, rows: Rows, rest: Rest) -> OperationReply {
        let call = self.jobs.get(id).and_then(|job| job.call());
        let wanted = match call.and_then(|call| call.operation.as_deref()) {
            Some(ghostlight_protocol::call::Ask::SchedulesOfType(asked)) => Some(asked.kind()),
            Some(_) | None => None,
        };
        let last = rows.last().map(|(key, _)| key.clone());
        let owned = rows.into_iter().filter_map(|(key, value)| {
            let (actor, kind, name) = family::parse_schedule_key(&key)?;
            (Some(kind) == wanted).then_some(())?;
            Some(OwnedSchedule {
                actor: actor.to_bytes(),
                schedule: schedule_of(kind, &name, value?),
            })
        });
        OperationReply {
            owned: owned.collect(),
            next: last.filter(|_| rest == Rest::More).unwrap_or_default(),
            ..OperationReply::default()
        }
    }
}

fn rows_of(limit: u32) -> usize {
    (limit as usize).clamp(1, PAGE_ROWS_MAX)
}

fn type_prefix(actor: &ActorKey) -> Bytes {
    let prefix = ActorKey::type_prefix(actor.namespace(), actor.actor_type());
    prefix.expect("the names of an actor are checked")
}

/// What sorts behind all reminders and timers of an actor, and before those of the next one.
fn behind_schedules(actor: &Bytes) -> Bytes {
    if actor.is_empty() {
        return Bytes::new();
    }
    let mut bytes = BytesMut::with_capacity(actor.len() + 1);
    bytes.put_slice(actor);
    bytes.put_u8(BEHIND_SCHEDULES);
    bytes.freeze()
}

fn found(rows: Rows, rest: Rest, actor_of: impl Fn(&Bytes, &[u8]) -> Option<Bytes>) -> Found {
    let last = rows.last().and_then(|(key, _)| ActorKey::split(key));
    let last = last.map(|(actor, _)| actor.to_bytes());
    let actors = rows
        .into_iter()
        .filter_map(|(key, value)| actor_of(&key, &value?))
        .collect();
    Found {
        actors,
        until: last.filter(|_| rest == Rest::More),
    }
}

/// Both lists in one, as far as both were read.
fn merged(written: Found, scheduled: Found, limit: usize) -> OperationReply {
    let until = match (written.until, scheduled.until) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let mut actors: BTreeSet<Bytes> = written.actors;
    actors.extend(scheduled.actors);
    let read = |actor: &Bytes| until.as_ref().is_none_or(|until| actor <= until);
    let mut actors: Vec<Bytes> = actors.into_iter().filter(read).collect();
    let next = if actors.len() > limit {
        actors.truncate(limit);
        actors.last().cloned()
    } else {
        until
    };
    OperationReply {
        actors,
        next: next.unwrap_or_default(),
        ..OperationReply::default()
    }
}
