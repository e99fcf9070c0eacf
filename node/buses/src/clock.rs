//! The calendar clock of the machine.

use std::time::{SystemTime, UNIX_EPOCH};

use ghostlight_protocol::time::WallTime;

/// The machine's calendar clock. Before 1970 it reads as 1970.
pub fn wall_now() -> WallTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
