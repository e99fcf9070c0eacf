//! Handing a leadership over without a dropped call: stop admitting, let what is in flight commit,
//! transfer.
//!
//! Given up after 500 ms: then the leadership goes on as before. Where the disk does not answer, or
//! the log does not move, nothing may ever settle: then the transfer begins after a moment in any
//! case.

use std::time::Duration;

use ghostlight_protocol::ids::{PartitionId, PeerId};
use ghostlight_protocol::time::Instant;

use super::slot::Stage;
use super::{Local, NodeCore};
use crate::io::{Effect, Now};
use crate::topics::TopicsInput;
use crate::turns::TurnsInput;

/// Longest time that admission stops for a handover.
const HANDOVER_MAX: Duration = Duration::from_millis(500);

/// How long a hasty handover waits for what is in flight.
const HASTY_SETTLE_MAX: Duration = Duration::from_millis(200);

/// Whether a handover waits for what is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Haste {
    /// It does: no call is disturbed.
    Settle,
    /// For a moment only: it may never end here. Its callers are then sent on, and ask again.
    SettleBriefly,
}

/// Where a handover stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handover {
    /// None is wanted.
    None,
    /// No new turns; waiting for those in flight.
    Settling {
        to: PeerId,
        haste: Haste,
        since: Instant,
    },
    /// The engine has been asked.
    Transferring { since: Instant },
}

impl Handover {
    pub(super) fn is_under_way(self) -> bool {
        self != Self::None
    }
}

impl NodeCore {
    pub(super) fn begin_handover(
        &mut self,
        now: Now,
        partition: PartitionId,
        to: PeerId,
        haste: Haste,
        out: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let Some(leading) = &mut slot.leading else {
            return;
        };
        if leading.handover.is_under_way() {
            return;
        }
        leading.handover = Handover::Settling {
            to,
            haste,
            since: now.instant,
        };
        self.local
            .push_back(Local::Turns(partition, TurnsInput::Pause));
        self.local
            .push_back(Local::Topics(partition, TopicsInput::Pause));
        self.settle(now, out);
        self.drive_handover(now, partition);
    }

    pub(super) fn tick_handovers(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(cluster) = &self.cluster else { return };
        let under_way: Vec<PartitionId> = cluster
            .slots()
            .filter(|slot| {
                slot.leading
                    .as_ref()
                    .is_some_and(|l| l.handover.is_under_way())
            })
            .map(super::slot::Slot::partition)
            .collect();
        for partition in under_way {
            self.drive_handover(now, partition);
        }
        self.settle(now, out);
    }

    /// Moves a handover on if what it waits for has come about.
    pub(super) fn drive_handover(&mut self, now: Now, partition: PartitionId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let Some(leading) = &mut slot.leading else {
            return;
        };
        let since = match leading.handover {
            Handover::None => return,
            Handover::Settling { since, .. } | Handover::Transferring { since } => since,
        };
        if now.instant.since(since) >= HANDOVER_MAX {
            leading.handover = Handover::None;
            slot.group.abort_transfer();
            self.local
                .push_back(Local::Turns(partition, TurnsInput::Resume));
            self.local
                .push_back(Local::Topics(partition, TopicsInput::Resume));
            return;
        }
        let Handover::Settling { to, haste, since } = leading.handover else {
            return;
        };
        let settled = match (&leading.stage, haste) {
            (Stage::Open(serving), Haste::Settle) => serving.settled(),
            (Stage::Open(serving), Haste::SettleBriefly) => {
                serving.settled() || now.instant.since(since) >= HASTY_SETTLE_MAX
            }
            (Stage::Elected, _) => true,
        };
        if settled {
            leading.handover = Handover::Transferring { since };
            slot.group.transfer(to);
            cluster.dirty.insert(partition);
        }
    }
}
