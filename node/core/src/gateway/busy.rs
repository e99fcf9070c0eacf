//! Leaders that have refused a call because it would have come too late: while their pause lasts,
//! calls that have no more time than that one are refused here, which costs neither them nor us a
//! frame. While that is so of all of them, calls need not even come here: whoever lets clients in
//! is told so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::time::Instant;

/// Longest pause kept for a leader: in a longer one its line would run empty.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What is told again is told for so much longer at least.
const TOLD_STEP: Duration = Duration::from_millis(5);
/// How long the list of those who lead is good enough.
const LEADERS_AGE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Busy {
    refused: BTreeMap<NodeId, Refused>,
    /// Those who lead something, and since when that is known.
    leaders: Option<(Instant, BTreeSet<NodeId>)>,
    /// Until when all were said to be busy.
    told: Instant,
}

/// Every leader has more to do than it can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overrun {
    pub(super) until: Instant,
    /// Calls that can wait for no longer than this are refused by each of them.
    pub(super) patience: Duration,
}

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
        self.refused.insert(
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
        let refused = self.refused.get(&node)?;
        if refused.until <= now {
            self.refused.remove(&node);
            return None;
        }
        (patience <= refused.patience).then(|| refused.refusal.clone())
    }

    /// Whether all that lead are busy, and for longer than was told before. `leaders` is asked
    /// seldom.
    pub(super) fn overrun(
        &mut self,
        now: Instant,
        leaders: impl FnOnce() -> BTreeSet<NodeId>,
    ) -> Option<Overrun> {
        if !matches!(&self.leaders, Some((at, _)) if now.since(*at) < LEADERS_AGE) {
            self.leaders = Some((now, leaders()));
        }
        let (_, leaders) = self.leaders.as_ref()?;
        let mut all: Option<Overrun> = None;
        for leader in leaders {
            let refused = self.refused.get(leader).filter(|one| one.until > now)?;
            let before = all.unwrap_or(Overrun {
                until: refused.until,
                patience: refused.patience,
            });
            all = Some(Overrun {
                until: before.until.min(refused.until),
                patience: before.patience.min(refused.patience),
            });
        }
        let overrun = all.filter(|all| all.until >= self.told + TOLD_STEP)?;
        self.told = overrun.until;
        Some(overrun)
    }
}
