//! Replicated rows in a map, for tests: what `apply_command` writes into and what is read as a
//! store reads.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use ghostlight_protocol::family::Family;
use ghostlight_protocol::replica::Rows;

use crate::io::Rest;
use crate::turns::RowsWanted;

/// The rows of one partition.
#[derive(Clone, Default, Debug)]
pub(crate) struct MapRows(pub(crate) BTreeMap<(Family, Bytes), Bytes>);

impl Rows for MapRows {
    type Error = Infallible;

    fn get(&mut self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Infallible> {
        let key = (family, Bytes::copy_from_slice(key));
        Ok(self.0.get(&key).cloned())
    }

    fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.0.insert((family, key), value);
    }

    fn delete(&mut self, family: Family, key: Bytes) {
        self.0.remove(&(family, key));
    }
}

impl MapRows {
    /// What a store answers: the row that reaches one of the bounds is the last of a page.
    pub(crate) fn read(
        &self,
        wanted: &RowsWanted,
        rows_max: usize,
        bytes_max: usize,
    ) -> (Vec<(Bytes, Option<Bytes>)>, Rest) {
        let (family, prefix, after, limit) = match wanted {
            RowsWanted::Keys(keys) => {
                let found = keys.iter().map(|wanted| {
                    let value = self.0.get(wanted).cloned();
                    (wanted.1.clone(), value)
                });
                return (found.collect(), Rest::Last);
            }
            RowsWanted::Scan {
                family,
                prefix,
                after,
                limit,
            } => (*family, prefix, after.as_ref(), *limit),
        };
        let (mut page, mut bytes) = (Vec::new(), 0);
        for (key, value) in self.scan(family, prefix, after) {
            bytes += key.len() + value.len();
            page.push((key.clone(), Some(value.clone())));
            if page.len() >= limit.min(rows_max) || bytes >= bytes_max {
                return (page, Rest::More);
            }
        }
        (page, Rest::Last)
    }

    /// Rows of a family, ascending, after a key.
    pub(crate) fn family(
        &self,
        family: Family,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        self.scan(family, b"", after)
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    pub(crate) fn count(&self, family: Family) -> usize {
        self.scan(family, b"", None).count()
    }

    fn scan(
        &self,
        family: Family,
        prefix: &[u8],
        after: Option<&Bytes>,
    ) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let from = after.map_or(prefix, |after| prefix.max(after));
        let rows = self.0.range((family, Bytes::copy_from_slice(from))..);
        rows.take_while(move |((f, key), _)| *f == family && key.starts_with(prefix))
            .filter(move |((_, key), _)| after.is_none_or(|after| key > after))
            .map(|((_, key), value)| (key, value))
    }
}
