//! A distribution of durations: percentiles by nearest rank, so that each is a value that was
//! measured.

use std::fmt;
use std::time::Duration;

/// Durations, sorted.
#[derive(Clone, Default, Debug)]
pub struct Spread {
    sorted: Vec<Duration>,
}

impl Spread {
    /// Of these.
    #[must_use]
    pub fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self { sorted: durations }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest value that at least `percent` of all do not exceed; zero of none.
    ///
    /// # Panics
    /// When `percent` is not from 1 to 100.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        assert!((1..=100).contains(&percent), "{percent} is no percentage");
        let rank = (self.sorted.len() * percent).div_ceil(100);
        rank.checked_sub(1)
            .map_or(Duration::ZERO, |place| self.sorted[place])
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, max] =
            [50, 90, 99, 100].map(|percent| self.percentile(percent).as_secs_f64());
        write!(
            f,
            "p50 {p50:.3} s, p90 {p90:.3} s, p99 {p99:.3} s, max {max:.3} s ({} values)",
            self.count()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let spread =
            |count: u64| Spread::of((1..=count).rev().map(Duration::from_millis).collect());
        for (count, percent, millis) in [
            (0, 99, 0),
            (1, 1, 1),
            (1, 99, 1),
            (4, 50, 2),
            (10, 90, 9),
            (10, 99, 10),
            (100, 99, 99),
            (200, 99, 198),
            (200, 100, 200),
        ] {
            let found = spread(count).percentile(percent);
            assert_eq!(found, Duration::from_millis(millis), "{percent} of {count}");
        }
    }
}
