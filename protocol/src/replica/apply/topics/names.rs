//! Names that publishers gave their events, remembered for a while: what is published again under
//! one is not appended again.
//!
//! Two rows for each name: one under the name says where its event stands, one under a running
//! number says which name is the oldest. Age is the log's, so that every replica forgets alike, and
//! a cluster that was down forgets nothing meanwhile. Names go with the next ones that come, two
//! for one; the sweep takes those of a topic to which nobody publishes any more. Absent: names of
//! publishes (`Idempotency-Key`), which are records of requests.

use bytes::Bytes;
use prost::Message;

use super::{At, TopicOutcome};
use crate::actor::ActorKey;
use crate::canary::{self, Canary};
use crate::family::{self, Family};
use crate::limits::{EVENT_NAME_AGE_MAX, EVENT_NAMES_MAX, EVENT_NAMES_SWEPT_MAX};
use crate::replica::rows::Rows;
use crate::topic::{NamePlace, NamedEvent, TopicRow};

/// Names that may go for one that comes: with two the oldest do not outlive their age by much.
const FORGOTTEN_FOR_ONE: usize = 2;

/// Log age at which old names are due; `None`: none is remembered.
pub(super) fn due(row: &TopicRow) -> Option<u64> {
    (row.names_due_ms > 0).then_some(row.names_due_ms)
}

/// The names of one topic partition during one operation, at one age of the log.
pub(super) struct Names<'a, R> {
    pub(super) rows: &'a mut R,
    pub(super) topic: &'a ActorKey,
    pub(super) age_ms: u64,
}

impl<R: Rows> Names<'_, R> {
    /// Where the event of this name stands, if it was published lately.
    pub(super) fn find(&mut self, name: &[u8], row: &TopicRow) -> Result<Option<u64>, R::Error> {
        let event = self.event(name)?;
        let counts = |event: &NamedEvent| {
            let void = self.is_over(event.age_ms) || event.number < row.names_void;
            !void && !canary::sings(Canary::NameUnread)
        };
        Ok(event.filter(counts).map(|event| event.offset))
    }

    /// Remembers a name, and forgets old ones. `row` counts them.
    pub(super) fn add(
        &mut self,
        name: &Bytes,
        offset: u64,
        row: &mut TopicRow,
    ) -> Result<(), R::Error> {
        let age_ms = self.age_ms;
        let event = NamedEvent {
            offset,
            age_ms,
            number: row.names_next,
        };
        let place = NamePlace {
            name: name.clone(),
            age_ms,
        };
        let key = family::event_name_place_key(self.topic, row.names_next);
        let value = place.encode_to_vec().into();
        self.rows.put(Family::EventName, key, value);
        let key = family::event_name_key(self.topic, name);
        let value = event.encode_to_vec().into();
        self.rows.put(Family::EventName, key, value);
        row.names_next = row.names_next.saturating_add(1);
        if row.names_due_ms == 0 {
            row.names_due_ms = over_at(age_ms);
        }
        self.forget(row, FORGOTTEN_FOR_ONE)?;
        Ok(())
    }

    /// Forgets the oldest names that are over their age, or too many: so many at most. Age at which
    /// the oldest that is left is over; `None`: none is left.
    fn forget(&mut self, row: &mut TopicRow, most: usize) -> Result<Option<u64>, R::Error> {
        for _ in 0..most {
            let Some(place) = self.place(row.names_first)? else {
                break;
            };
            let too_many = row.names_next.saturating_sub(row.names_first) > EVENT_NAMES_MAX;
            if !too_many && !self.is_over(place.age_ms) {
                break;
            }
            let event = self.event(&place.name)?;
            // The name may have come again since.
            if event.is_some_and(|event| event.number == row.names_first) {
                let key = family::event_name_key(self.topic, &place.name);
                self.rows.delete(Family::EventName, key);
            }
            let key = family::event_name_place_key(self.topic, row.names_first);
            self.rows.delete(Family::EventName, key);
            row.names_first = row.names_first.saturating_add(1);
        }
        let oldest = self.place(row.names_first)?;
        Ok(oldest.map(|place| over_at(place.age_ms)))
    }

    fn is_over(&self, age_ms: u64) -> bool {
        over_at(age_ms) <= self.age_ms
    }

    fn event(&mut self, name: &[u8]) -> Result<Option<NamedEvent>, R::Error> {
        let key = family::event_name_key(self.topic, name);
        let bytes = self.rows.get(Family::EventName, &key)?;
        Ok(bytes.map(|bytes| NamedEvent::decode(bytes).unwrap_or_default()))
    }

    fn place(&mut self, number: u64) -> Result<Option<NamePlace>, R::Error> {
        let key = family::event_name_place_key(self.topic, number);
        let bytes = self.rows.get(Family::EventName, &key)?;
        Ok(bytes.map(|bytes| NamePlace::decode(bytes).unwrap_or_default()))
    }
}

impl<R: Rows> At<'_, R> {
    /// Forgets names that are over their age, and says when the next ones are.
    pub(super) fn names_over(&mut self) -> Result<TopicOutcome, R::Error> {
        let before = self.topic_row()?;
        let mut row = before.clone();
        let mut names = Names {
            rows: &mut *self.rows,
            topic: &self.topic,
            age_ms: self.partition.age_ms,
        };
        let next = names.forget(&mut row, EVENT_NAMES_SWEPT_MAX)?;
        row.names_due_ms = next.unwrap_or(0);
        if row != before {
            self.put_topic(&before, &row)?;
        }
        Ok(TopicOutcome::Trimmed(row))
    }
}

/// Log age at which a name is over that was remembered at this age; never 0.
fn over_at(age_ms: u64) -> u64 {
    age_ms.saturating_add(EVENT_NAME_AGE_MAX.as_millis() as u64)
}
