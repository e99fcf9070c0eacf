//! `herald`: an actor that publishes in its turns, for clients and for events that it is told.
//!
//! Each of its events says which one it is of those that it published under one key: `h0/k3/5` is
//! the fifth of `h0` under `k3`. What it should have published follows from its lines alone.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use ghostlight_core::samples;
use ghostlight_core::sdk::ActorRegistry;
use ghostlight_core::sdk::prelude::*;
use ghostlight_protocol::actor::ActorKey;

use crate::subscribers::topic;

/// Stands for the key of an event that has none.
const NO_KEY: &str = "-";
/// A line that begins so is refused, when all of its events are published.
const REFUSED: &str = "!";
/// So is an event that ends so.
const REFUSED_EVENT: &str = "5";
/// Of so many lines that are numbers, each an event of a client, one is passed on.
const PASSED_ON: u64 = 3;
/// Of those, one in so many without a key; the others under so many keys.
const WITHOUT_KEY: u64 = 9;
const KEYS: u64 = 4;

/// What a herald has done.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Herald {
    length: u64,
    /// Events under each key.
    events: BTreeMap<String, u64>,
}

/// It says nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Silent;

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it says nothing of that")
    }
}

#[actor(name = "herald", crate = ghostlight_core)]
impl Herald {
    const LINES: StateMap<u64, String> = StateMap::new("lines");

    /// Appends a line, publishes what belongs to it, and returns the new length.
    fn say(&mut self, cx: &Turn, line: String) -> Result<u64, Silent> {
        for key in keys_of(&line) {
            let number = self.events.entry(key.clone()).or_default();
            *number += 1;
            let text = text(cx.id(), &key, *number);
            let topic = Topic::new(topic().topic());
            match key.as_str() {
                NO_KEY => cx.publish(topic, &text),
                key => cx.publish(topic.key(key), &text),
            }
        }
        if is_refused(&line) {
            return Err(Silent);
        }
        Self::LINES.put(cx, &self.length, &line);
        self.length += 1;
        Ok(self.length)
    }

    /// Every line, in order.
    #[read]
    async fn read(&self, cx: &ReadTurn) -> Vec<String> {
        let mut pages = Self::LINES.pages(cx);
        let mut lines = Vec::new();
        while (lines.len() as u64) < self.length
            && let Some(page) = pages.next().await
        {
            lines.extend(page.into_iter().map(|(_, line)| line));
        }
        lines
    }
}

/// All actors of a run.
pub(crate) fn registry() -> ActorRegistry {
    samples::registry().with::<Herald>()
}

/// A herald.
pub(crate) fn herald(id: &str) -> ActorKey {
    ActorKey::new("default", "herald", id).expect("names of heralds are valid")
}

/// The herald of the clients, by its number.
pub(crate) fn speaker(number: usize) -> String {
    format!("h{number}")
}

/// A line of a client: who says it, and under which keys there are events; `None`: without one.
pub(crate) fn line(said: &str, keys: &[Option<String>]) -> String {
    let keys: Vec<&str> = keys
        .iter()
        .map(|key| key.as_deref().unwrap_or(NO_KEY))
        .collect();
    format!("{said} {}", keys.join(","))
}

/// The same, refused.
pub(crate) fn refused(line: &str) -> String {
    format!("{REFUSED}{line}")
}

/// Whether a herald says nothing of a line, and what it has published for it does not count.
pub(crate) fn is_refused(line: &str) -> bool {
    let is_event = !line.contains(' ');
    line.starts_with(REFUSED) || (is_event && line.ends_with(REFUSED_EVENT))
}

/// Keys of the events that belong to a line: those that it names, or the one under which it is
/// passed on.
fn keys_of(line: &str) -> Vec<String> {
    if let Some((_, keys)) = line.split_once(' ') {
        return keys.split(',').map(str::to_owned).collect();
    }
    match line.parse::<u64>() {
        Ok(number) if number.is_multiple_of(WITHOUT_KEY) => vec![NO_KEY.to_owned()],
        Ok(number) if number.is_multiple_of(PASSED_ON) => vec![format!("r{}", number % KEYS)],
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn text(by: &str, key: &str, number: u64) -> String {
    format!("{by}/{key}/{number}")
}

/// What a herald with these lines has published.
pub(crate) fn published(by: &str, lines: &[String]) -> Vec<String> {
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    let keys = lines.iter().flat_map(|line| keys_of(line));
    let texts = keys.map(|key| {
        let number = events.entry(key.clone()).or_default();
        *number += 1;
        text(by, &key, *number)
    });
    texts.collect()
}

/// What an event says: that of a turn has an envelope.
pub(crate) fn text_of(data: &Bytes) -> Bytes {
    if !data.starts_with(b"{") {
        return data.clone();
    }
    let envelope: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let text = envelope["data"].as_str().unwrap_or_default();
    Bytes::copy_from_slice(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_herald_publishes_follows_from_its_lines() {
        let keys = [Some("k1".to_owned()), None, Some("k1".to_owned())];
        let lines = [
            line("0.7", &keys),
            "9".to_owned(),
            "h1/k2/3".to_owned(),
            "6".to_owned(),
            "7".to_owned(),
        ];
        assert_eq!(
            published("h0", &lines),
            ["h0/k1/1", "h0/-/1", "h0/k1/2", "h0/-/2", "h0/r2/1"]
        );
    }
}
