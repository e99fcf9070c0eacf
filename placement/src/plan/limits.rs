//! The times and bounds of moves.

use std::time::Duration;

/// How long the wish must be unchanged before healthy copies or leaderships move for it.
pub const WISH_SETTLED_AFTER: Duration = Duration::from_secs(10);
/// How long a node may be down before its copies are made anew elsewhere.
pub const DOWN_GRACE: Duration = Duration::from_secs(60);
/// Moves that touch one node at a time.
pub const NODE_MOVES_MAX: usize = 4;
/// Groups growing at a time per node that leads them.
pub const GROWING_GROUPS_MAX: usize = 64;
/// A copy that lags by fewer entries has caught up.
pub const CAUGHT_UP_LAG_ENTRIES: u64 = 100;
/// How long until a leadership that did not move is offered to the same peer again.
pub const TRANSFER_PAUSE: Duration = Duration::from_secs(10);
/// Leaderships that one node hands over at a time to balance them. A handover takes some 20 ms and
/// is looked at five times a second, so that 256 partitions are balanced within four seconds of the
/// waiting time.
pub const BALANCE_TRANSFERS_MAX: usize = 16;
