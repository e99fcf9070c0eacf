//! Waiting for a condition, always with a deadline.

use std::time::{Duration, Instant};

/// Pause between two looks.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and returns it.
///
/// # Panics
/// When it is not there in time: with `what`, so that the failed test says what it waited for.
#[track_caller]
pub fn until<T>(what: &str, time_max: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(
            began.elapsed() < time_max,
            "waited {time_max:?} in vain: {what}"
        );
        std::thread::sleep(LOOK_PERIOD);
    }
}
