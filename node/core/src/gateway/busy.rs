//! Leaders that have refused a call because it would have come too late: while their pause lasts,
//! calls that have no more time than that one are refused here, which costs neither them nor us a
//! frame.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::time::Instant;

/// Longest pause kept for a leader: in a longer one its line would run empty.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Busy(BTreeMap<NodeId, Refused>);

#[derive(Debug)]
struct Refused {
    until: Instant,
    /// How long the refused call could have waited.
    patience: Duration,
    refusal: NotRun,
}

impl Busy {
    /// `node` has refused a call that could wait for `patience`.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        node: NodeId,
        patience: Duration,
        refusal: &NotRun,
    ) {
        let pause = refusal.retry_after.unwrap_or_default().min(PAUSE_MAX);
        let refusal = refusal.clone();
        let until = now + pause;
        self.0.insert(
            node,
            Refused {
                until,
                patience,
                refusal,
            },
        );
    }

    /// What a new call to `node` hears that can wait for `patience`; `None`: it may go.
    pub(super) fn refusal(
        &mut self,
        now: Instant,
        node: NodeId,
        patience: Duration,
    ) -> Option<NotRun> {
        let refused = self.0.get(&node)?;
        if refused.until <= now {
            self.0.remove(&node);
            return None;
        }
        (patience <= refused.patience).then(|| refused.refusal.clone())
    }
}
