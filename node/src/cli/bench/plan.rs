//! How long and how much is measured.

use std::time::Duration;

use super::order::{Amount, Loop};

/// Sizes and times of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Not measured at the beginning of each measurement.
    pub(super) warm: Duration,
    /// Each measurement.
    pub(super) time: Duration,
    /// Actors of most measurements: enough that every partition has some.
    pub(super) actors: u64,
    /// Actors of `turn_actors_100k`.
    pub(super) actors_many: u64,
    /// Actors of `idle_activation`.
    pub(super) activations: u64,
    /// Nothing may have moved for this long before a new cluster is measured: its nodes wait ten
    /// seconds before they spread leaderships.
    pub(super) settle: Duration,
    /// How long it is watched.
    pub(super) idle: Duration,
    /// Topics, and subscriptions, of `topic_idle`.
    pub(super) topics: u64,
    /// Reminders that are due at once.
    pub(super) reminders: u64,
    /// Due so long after they are set: longer than it takes to set them all.
    pub(super) reminders_due: Duration,
    /// State of the cluster that a fourth node joins, in bytes.
    pub(super) join_bytes: u64,
    /// Load on it before the join.
    pub(super) join_before: Duration,
    /// Longest time that the join is watched.
    pub(super) join_max: Duration,
}

impl Plan {
    /// For figures.
    pub(super) fn full() -> Self {
        Self {
            warm: Duration::from_secs(1),
            time: Duration::from_secs(5),
            actors: 1_000,
            actors_many: 100_000,
            activations: 100_000,
            settle: Duration::from_secs(12),
            idle: Duration::from_secs(10),
            topics: 10_000,
            reminders: 20_000,
            reminders_due: Duration::from_secs(15),
            join_bytes: 100 << 20,
            join_before: Duration::from_secs(10),
            join_max: Duration::from_secs(240),
        }
    }

    /// To see that it works.
    pub(super) fn quick() -> Self {
        Self {
            warm: Duration::from_millis(200),
            time: Duration::from_millis(400),
            actors: 256,
            actors_many: 2_000,
            activations: 5_000,
            settle: Duration::from_millis(500),
            idle: Duration::from_secs(1),
            topics: 100,
            reminders: 500,
            reminders_due: Duration::from_secs(2),
            join_bytes: 4 << 20,
            join_before: Duration::from_secs(1),
            join_max: Duration::from_secs(4),
        }
    }

    /// So many clients for the usual time.
    pub(super) fn clients(&self, in_flight: usize) -> Loop {
        Loop {
            in_flight,
            warm_ms: self.warm.as_millis() as u64,
            amount: Amount::TimeMs(self.time_ms()),
            per_second: None,
        }
    }

    pub(super) fn time_ms(&self) -> u64 {
        self.time.as_millis() as u64
    }
}
