//! A map inside an actor's state whose entries are rows of their own.
//!
//! Nothing is read before it is asked for, and a turn writes only the entries it touches: an actor
//! may have millions. A map is declared as a constant in the actor's `impl`, because it holds
//! nothing itself; what a turn puts is staged in the turn, seen by its later reads, and gone if the
//! turn rolls back.
//!
//! ```text
//! const LINES: StateMap<u64, String> = StateMap::new("lines");
//! Self::LINES.put(cx, &7, &line);
//! ```
//!
//! Invariant: two maps of one actor type have different names; a name never changes once rows
//! exist.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sdk::map_key::MapKey;
use crate::sdk::stage::Abort;
use crate::sdk::state::{decode, encode};
use crate::sdk::turn::{ReadTurn, Turn};

/// Rows that one ask of a scan brings.
const PAGE_ROWS: usize = 256;
/// Version of every entry's value.
const ENTRY_VERSION: u32 = 1;

/// See the module.
pub struct StateMap<K, V> {
    name: &'static str,
    entries: PhantomData<fn(K) -> V>,
}

impl<K, V> StateMap<K, V> {
    /// A map by its name in storage.
    ///
    /// # Panics
    /// At compile time for a constant: the name is empty, longer than 64 bytes, or has a `/`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= 64,
            "a map's name has 1 to 64 bytes"
        );
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at] != b'/', "a map's name has no `/`");
            at += 1;
        }
        Self {
            name,
            entries: PhantomData,
        }
    }
}

impl<K: MapKey, V: Serialize + DeserializeOwned> StateMap<K, V> {
    /// The value of a key.
    pub async fn get(&self, cx: &ReadTurn, key: &K) -> Option<V> {
        let row = self.row_key(key);
        match cx.row(row.clone()).await {
            Some(stored) => Some(self.value(cx, &row, &stored).await),
            None => None,
        }
    }

    /// Whether a key has a value.
    pub async fn contains(&self, cx: &ReadTurn, key: &K) -> bool {
        cx.row(self.row_key(key)).await.is_some()
    }

    /// Stages a value.
    ///
    /// # Panics
    /// When the value's type cannot be stored; the turn rolls back.
    pub fn put(&self, cx: &Turn, key: &K, value: &V) {
        let value = encode(ENTRY_VERSION, value)
            .unwrap_or_else(|error| panic!("entry of map `{}`: {error}", self.name));
        cx.write_row(self.row_key(key), Some(value));
    }

    /// Stages the removal of a key.
    pub fn remove(&self, cx: &Turn, key: &K) {
        cx.write_row(self.row_key(key), None);
    }

    /// Walks all entries in key order, page by page.
    #[must_use]
    pub fn pages<'t>(&self, cx: &'t ReadTurn) -> Pages<'t, K, V> {
        self.pages_from(cx, None)
    }

    /// Walks the entries after `key` in key order, page by page.
    #[must_use]
    pub fn pages_after<'t>(&self, cx: &'t ReadTurn, key: &K) -> Pages<'t, K, V> {
        self.pages_from(cx, Some(self.row_key(key)))
    }

    /// All entries in key order: for maps known to be small.
    pub async fn entries(&self, cx: &ReadTurn) -> Vec<(K, V)> {
        let mut pages = self.pages(cx);
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            all.extend(page);
        }
        all
    }

    fn pages_from<'t>(&self, cx: &'t ReadTurn, after: Option<Bytes>) -> Pages<'t, K, V> {
        Pages {
            cx,
            map: Self { ..*self },
            next: Next::After(after),
        }
    }

    fn prefix(&self) -> Vec<u8> {
        [self.name.as_bytes(), b"/"].concat()
    }

    fn row_key(&self, key: &K) -> Bytes {
        let mut row = self.prefix();
        key.put(&mut row);
        row.into()
    }

    fn key_of(&self, row: &[u8]) -> Option<K> {
        let mut rest = row.get(self.name.len() + 1..)?;
        K::take(&mut rest).filter(|_| rest.is_empty())
    }

    async fn value(&self, cx: &ReadTurn, row: &[u8], stored: &[u8]) -> V {
        match decode(ENTRY_VERSION, stored) {
            Ok(value) => value,
            Err(error) => {
                let text = format!("row {} of {}: {error}", row.escape_ascii(), cx.actor());
                match cx.abort(Abort::Unreadable(text)).await {}
            }
        }
    }
}

impl<K, V> fmt::Debug for StateMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateMap({})", self.name)
    }
}

/// Entries of a map, page by page.
#[derive(Debug)]
pub struct Pages<'t, K, V> {
    cx: &'t ReadTurn,
    map: StateMap<K, V>,
    next: Next,
}

#[derive(Debug)]
enum Next {
    /// There may be rows after this one.
    After(Option<Bytes>),
    End,
}

impl<K: MapKey, V: Serialize + DeserializeOwned> Pages<'_, K, V> {
    /// The next page, never empty; `None`: that was all.
    pub async fn next(&mut self) -> Option<Vec<(K, V)>> {
        while let Next::After(after) = &self.next {
            let after = after.clone();
            let prefix = Bytes::from(self.map.prefix());
            let stored = self
                .cx
                .stored_rows(prefix.clone(), after.clone(), PAGE_ROWS)
                .await;
            let staged = self.cx.stage(|s| s.staged_after(&prefix, after.as_deref()));
            // Only an empty page is the end: a page may be short because its rows are large.
            let last = stored.last().map(|(key, _)| key.clone());
            let rows = merge(stored, staged, last.as_deref());
            self.next = match last {
                Some(last) => Next::After(Some(last)),
                None => Next::End,
            };
            if !rows.is_empty() {
                return Some(self.decode(rows).await);
            }
        }
        None
    }

    async fn decode(&self, rows: Vec<(Bytes, Bytes)>) -> Vec<(K, V)> {
        let mut page = Vec::with_capacity(rows.len());
        for (row, stored) in rows {
            let Some(key) = self.map.key_of(&row) else {
                let actor = self.cx.actor();
                let text = format!(
                    "row {} of {actor}: its key does not fit",
                    row.escape_ascii()
                );
                match self.cx.abort(Abort::Unreadable(text)).await {}
            };
            let value = self.map.value(self.cx, &row, &stored).await;
            page.push((key, value));
        }
        page
    }
}

/// Stored rows under staged ones, ascending; of the staged ones those up to `last` (`None`: all).
fn merge(
    stored: Vec<(Bytes, Bytes)>,
    staged: Vec<(Bytes, Option<Bytes>)>,
    last: Option<&[u8]>,
) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::with_capacity(stored.len() + staged.len());
    let mut staged = staged
        .into_iter()
        .filter(|(key, _)| last.is_none_or(|last| &key[..] <= last))
        .peekable();
    for (key, value) in stored {
        while let Some((key, value)) = staged.next_if(|(staged, _)| *staged < key) {
            rows.extend(value.map(|value| (key, value)));
        }
        match staged.next_if(|(staged, _)| *staged == key) {
            Some((_, value)) => rows.extend(value.map(|value| (key, value))),
            None => rows.push((key, value)),
        }
    }
    rows.extend(staged.filter_map(|(key, value)| Some((key, value?))));
    rows
}
