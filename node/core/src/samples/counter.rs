//! `counter`: adds, and tells the total.

use std::fmt;

use crate::sdk::prelude::*;

/// A total.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Counter {
    total: i64,
}

/// The total would leave the range of 64 bits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Overflow {
    /// The total, unchanged.
    pub total: i64,
    /// What was to be added.
    pub by: i64,
}

#[actor(name = "counter")]
impl Counter {
    /// Adds, and returns the new total.
    fn add(&mut self, by: i64) -> Result<i64, Overflow> {
        let total = self.total;
        self.total = total.checked_add(by).ok_or(Overflow { total, by })?;
        Ok(self.total)
    }

    /// The total.
    #[read]
    fn get(&self) -> i64 {
        self.total
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {} does not fit into 64 bits", self.total, self.by)
    }
}
