//! Letting the oldest batches of a topic partition go.

use prost::Message;

use super::{At, TopicOutcome, TopicRefusal, row_bytes};
use crate::family::{self, Family};
use crate::replica::rows::Rows;
use crate::topic::{TopicBatch, TopicRow, Trim};

impl<R: Rows> At<'_, R> {
    pub(super) fn trim(&mut self, trim: &Trim) -> Result<TopicOutcome, R::Error> {
        let before = self.topic_row()?;
        let delete = trim.delete == 1;
        if delete && before.groups > 0 {
            return Ok(TopicOutcome::Refused(TopicRefusal::InUse));
        }
        let mut row = before.clone();
        for &last in &trim.last {
            let key = family::batch_key(&self.topic, last);
            let Some(value) = self.rows.get(Family::TopicBatch, &key)? else {
                break;
            };
            let bytes = row_bytes(&key, &value);
            let batch = TopicBatch::decode(value).unwrap_or_default();
            if batch.base != row.first || !(delete || self.is_over(&row, &batch)) {
                break;
            }
            row.first = last.saturating_add(1);
            row.bytes = row.bytes.saturating_sub(bytes);
            // At least as late as this one; the batch behind it says it exactly.
            row.first_age_ms = batch.appended_age_ms.or(row.first_age_ms);
            self.rows.delete(Family::TopicBatch, key);
        }
        if row.first == row.next {
            row.first_age_ms = None;
            row.bytes = 0;
        } else if row.first != before.first
            && let Some(last) = trim.next_last
        {
            let key = family::batch_key(&self.topic, last);
            let next = self.rows.get(Family::TopicBatch, &key)?;
            let next = next.map(|value| TopicBatch::decode(value).unwrap_or_default());
            if let Some(next) = next.filter(|next| next.base == row.first) {
                row.first_age_ms = next.appended_age_ms.or(row.first_age_ms);
            }
        }
        let exists = self.rows.get(Family::Topic, self.topic.as_bytes())?;
        if delete && row.first == row.next && exists.is_some() {
            row.gone = 1;
            row.names_void = row.names_next;
        }
        if row != before {
            self.put_topic(&before, &row)?;
        }
        Ok(TopicOutcome::Trimmed(row))
    }

    fn is_over(&self, row: &TopicRow, batch: &TopicBatch) -> bool {
        row.outlives(batch, self.partition.age_ms) || row.bytes > row.bytes_max()
    }
}
