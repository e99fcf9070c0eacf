//! The door that clients' calls come in by. While every node that leads has more to do than it can,
//! calls that could not wait long enough are refused here, by the thread that has read them: a
//! flood then costs the core's thread nothing, and what can be done is done.
//!
//! The core decides (`gateway/busy.rs` there): whoever is refused here would be refused by it.
//! Absent: calls of running turns, which have no door.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ghostlight_core::patience;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::time::Instant;

use crate::api::metrics;
use crate::clock::Clock;

/// See the module.
#[derive(Debug)]
pub(crate) struct Door {
    clock: Clock,
    /// Shut until then, in nanoseconds of `clock`.
    until: AtomicU64,
    /// To whom: calls that can wait for no longer than so many nanoseconds.
    patience: AtomicU64,
}

impl Door {
    pub(super) fn open() -> Self {
        Self {
            clock: Clock::start(),
            until: AtomicU64::new(0),
            patience: AtomicU64::new(0),
        }
    }

    /// Shuts it for a while to those who can wait for no longer than `patience`.
    pub(crate) fn shut(&self, pause: Duration, patience: Duration) {
        let until = self.clock.now() + pause;
        let nanos = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        self.patience.store(nanos, Ordering::Relaxed);
        self.until.store(until.0, Ordering::Release);
    }

    /// What a call hears that has so much time; `None`: it may come in.
    pub(super) fn refusal(&self, timeout: Option<Duration>) -> Option<NotRun> {
        let until = Instant(self.until.load(Ordering::Acquire));
        if until.0 == 0 {
            return None;
        }
        let left = until.since(self.clock.now());
        let shut_to = Duration::from_nanos(self.patience.load(Ordering::Relaxed));
        if left.is_zero() || patience(timeout) > shut_to {
            return None;
        }
        metrics::refused("overrun");
        Some(NotRun::retry(
            Code::NodeBusy,
            "every node that leads has more to do than it can in the time that this call has: \
             nothing ran, try again later",
            left,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shut_to_those_who_cannot_wait_and_for_a_while() {
        let door = Door::open();
        let second = Some(Duration::from_secs(1));
        assert_eq!(door.refusal(second), None, "it was never shut");
        door.shut(Duration::from_secs(60), Duration::from_millis(500));
        for (timeout, refused) in [
            (Some(Duration::from_millis(10)), true),
            (second, true),
            (Some(Duration::from_millis(1_001)), false),
            (None, false),
        ] {
            let refusal = door.refusal(timeout);
            assert_eq!(refusal.is_some(), refused, "{timeout:?}");
            if let Some(refusal) = refusal {
                assert_eq!(refusal.code, Code::NodeBusy);
                assert!(refusal.retry_after > Some(Duration::from_secs(1)));
            }
        }
        door.shut(Duration::ZERO, Duration::from_millis(500));
        assert_eq!(door.refusal(second), None, "its time is over");
    }
}
