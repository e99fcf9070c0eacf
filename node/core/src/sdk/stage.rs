//! What a running turn has staged so far: rows, messages, reminders, and whether it can still
//! succeed.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use bytes::Bytes;
use ghostlight_protocol::command::{ScheduleKind, ScheduleRow, ScheduleWrite, StateWrite};
use ghostlight_protocol::limits::{REQUEST_BODY_BYTES_MAX, STATE_KEY_BYTES_MAX, TURN_SENDS_MAX};
use ghostlight_protocol::outcome::AppError;

use crate::turn_io::{OutMessage, Staged};

/// A value that a turn changes through a shared reference.
///
/// A turn is polled by one thread at a time, so the lock is never contended; it is there because a
/// future that is handed between threads must not hold a `RefCell`.
#[expect(
    clippy::disallowed_types,
    reason = "not core state: one turn's own, and locked for single statements only"
)]
#[derive(Debug, Default)]
pub(crate) struct TurnCell<T>(std::sync::Mutex<T>);

impl<T> TurnCell<T> {
    /// Runs `change` on the value. Never called from inside another `with` of the same cell.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a turn ends although its code did not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Abort {
    /// Its leadership is over: what it does no longer counts.
    Deposed,
    /// A row of the actor cannot be read by this code.
    Unreadable(String),
}

/// Effects of a turn, in the making.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    writes: BTreeMap<Bytes, Option<Bytes>>,
    sends: Vec<OutMessage>,
    /// Reminders by name; `None`: it ends.
    reminders: BTreeMap<String, Option<ScheduleRow>>,
    /// The first effect that could not be staged: the turn will roll back with it.
    fault: Option<AppError>,
    abort: Option<Abort>,
}

impl Stage {
    pub(crate) fn write(&mut self, key: Bytes, value: Option<Bytes>) {
        if key.len() > STATE_KEY_BYTES_MAX {
            let detail = format!(
                "a state key has {} bytes, at most {STATE_KEY_BYTES_MAX} are allowed",
                key.len()
            );
            return self.fail("InvalidKey", detail);
        }
        self.writes.insert(key, value);
    }

    pub(crate) fn send(&mut self, message: OutMessage) {
        if self.sends.len() == TURN_SENDS_MAX {
            let detail = format!("a turn may send at most {TURN_SENDS_MAX} messages");
            return self.fail("TooManySends", detail);
        }
        if message.body.len() > REQUEST_BODY_BYTES_MAX {
            let detail = format!(
                "the body of {} to {} has {} bytes, at most {REQUEST_BODY_BYTES_MAX} are allowed",
                message.method,
                message.actor,
                message.body.len()
            );
            return self.fail("InvalidSend", detail);
        }
        self.sends.push(message);
    }

    /// Sets a reminder, or ends it; what the turn said of it before does not count.
    pub(crate) fn remind(&mut self, name: &str, row: Option<ScheduleRow>) {
        self.reminders.insert(name.to_owned(), row);
    }

    /// Messages so far, events included.
    pub(crate) fn sent(&self) -> usize {
        self.sends.len()
    }

    /// The turn will roll back and answer this; the first failure counts.
    pub(crate) fn fail(&mut self, name: &str, message: String) {
        self.fault.get_or_insert_with(|| AppError {
            name: name.to_owned(),
            message: format!("{message}. The turn was rolled back"),
            payload: Bytes::new(),
        });
    }

    pub(crate) fn abort(&mut self, why: Abort) {
        self.abort.get_or_insert(why);
    }

    pub(crate) fn aborted(&self) -> Option<Abort> {
        self.abort.clone()
    }

    pub(crate) fn fault(&self) -> Option<AppError> {
        self.fault.clone()
    }

    /// A staged row: `None` if the turn has not touched it, `Some(None)` if it removed it.
    pub(crate) fn staged(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.writes.get(key).cloned()
    }

    /// Staged rows whose key begins with `prefix`, strictly after `after`, ascending.
    pub(crate) fn staged_after(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Vec<(Bytes, Option<Bytes>)> {
        self.writes
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|a| &key[..] > a))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.sends.is_empty() && self.reminders.is_empty()
    }

    /// Rows in key order, messages in the order of the turn, reminders by name.
    pub(crate) fn take(&mut self) -> Staged {
        let writes = std::mem::take(&mut self.writes).into_iter();
        let writes = writes.map(|(key, value)| StateWrite {
            key,
            value,
            ..StateWrite::default()
        });
        let reminders = std::mem::take(&mut self.reminders).into_iter();
        let schedule = reminders.map(|(name, row)| ScheduleWrite {
            kind: ScheduleKind::Reminder as i32,
            name,
            row,
            ..ScheduleWrite::default()
        });
        Staged {
            writes: writes.collect(),
            sends: std::mem::take(&mut self.sends),
            schedule: schedule.collect(),
        }
    }
}
