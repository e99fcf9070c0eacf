//! How often each interesting thing was reached. A swarm that reaches nothing proves nothing.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Default, Debug)]
pub struct Sometimes(BTreeMap<&'static str, u64>);

impl Sometimes {
    /// Counts one.
    pub fn hit(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// How often.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// All counts, one a line.
    #[must_use]
    pub fn table(&self) -> String {
        let rows = self
            .0
            .iter()
            .map(|(what, count)| format!("{count:>9}  {what}"));
        rows.collect::<Vec<_>>().join("\n")
    }
}
