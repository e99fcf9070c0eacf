//! One partition on this node: its replica, and its leadership while there is one.

use std::collections::VecDeque;

use bytes::Bytes;
use ghostlight_protocol::command::Envelope;
use ghostlight_protocol::ids::{LogIndex, PartitionId, Term};
use ghostlight_protocol::limits::INBOX_LOADING_BYTES_MAX;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::time::{Age, Instant};

use super::fitness::RoomStage;
use super::waiting::Waiting;
use crate::expiry::Expiry;
use crate::outbox::Outbox;
use crate::replica::{Group, GroupSettings};
use crate::topics::Topics;
use crate::turns::{ConfirmId, Turns, Writes};
use crate::wakeups::Wakeups;

/// Calls that wait for a leadership to open.
pub(super) const WAITING_CALLS_MAX: usize = 4_096;

/// One partition on this node.
pub(super) struct Slot {
    pub(super) group: Group,
    /// What the store last told; `None` before the first snapshot.
    pub(super) row: Option<PartitionRow>,
    /// Index of the applied membership that no power loss can take back.
    pub(super) durable_membership: u64,
    pub(super) leading: Option<Leading>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) reconciler: super::reconcile::State,
    /// Since when no leader is known, for asking where we stand.
    pub(super) leaderless: Option<Instant>,
    pub(super) quiet: super::audit::Quiet,
}

/// A leadership of this node.
pub(super) struct Leading {
    pub(super) term: Term,
    pub(super) stage: Stage,
    /// Up to when this leader's time has been written into the log.
    pub(super) aged: Instant,
    pub(super) confirm: Confirm,
    pub(super) handover: super::handover::Handover,
    /// The oldest proposal that is not known to be committed.
    pub(super) uncommitted: Option<super::stuck::Uncommitted>,
}

/// Whether the leadership serves.
pub(super) enum Stage {
    /// Elected; the first entry of its own term is not applied yet.
    Elected,
    /// It serves.
    Open(Box<Serving>),
}

/// The sub-cores of an open leadership.
pub(super) struct Serving {
    pub(super) turns: Turns,
    pub(super) outbox: Outbox,
    pub(super) inbox: InboxLoad,
    pub(super) expiry: Expiry,
    pub(super) wakeups: Wakeups,
    pub(super) topics: Topics,
    /// What `turns` was told last.
    pub(super) writes: Writes,
}

impl Serving {
    /// Nothing is proposed and unapplied, and no turn runs.
    pub(super) fn settled(&self) -> bool {
        self.turns.settled() && self.topics.settled()
    }
}

/// Loading the inbox at opening; what is accepted meanwhile waits, so that order is kept.
pub(super) enum InboxLoad {
    /// Pages are being read.
    Loading {
        /// Accepted since.
        later: Later,
        /// Highest inbox sequence read so far, and its key.
        last: u64,
        last_key: Option<Bytes>,
    },
    /// Everything is with the turn engine.
    Loaded,
}

/// What was accepted while the inbox is being loaded.
pub(super) enum Later {
    /// All of it, in inbox order.
    Kept {
        messages: Vec<(u64, Envelope)>,
        bytes: usize,
    },
    /// It was too much: it is read again when the rows before it have been read.
    OnDisk,
}

impl Later {
    pub(super) fn nothing() -> Self {
        Self::Kept {
            messages: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds messages whose rows are applied.
    pub(super) fn add(&mut self, more: Vec<(u64, Envelope)>) {
        let Self::Kept { messages, bytes } = self else {
            return;
        };
        *bytes += more.iter().map(|(_, m)| m.body.len()).sum::<usize>();
        if *bytes > INBOX_LOADING_BYTES_MAX {
            *self = Self::OnDisk;
        } else {
            messages.extend(more);
        }
    }
}

/// The ReadIndex round in flight.
pub(super) enum Confirm {
    /// None.
    Idle,
    /// Asked; no majority yet.
    Asked {
        id: ConfirmId,
        context: u64,
        at: Instant,
    },
    /// Confirmed; the index is not applied yet.
    Applying { id: ConfirmId, index: LogIndex },
}

impl Slot {
    pub(super) fn recovered(
        now: Instant,
        replica: &RecoveredReplica,
        settings: GroupSettings,
    ) -> Self {
        let mut group = Group::new(replica, &settings);
        let alone = group.membership().voters == [group.peer().0]
            && group.membership().voters_outgoing.is_empty();
        if alone {
            // Nobody else can vote: there is nothing to wait for.
            group.campaign();
        }
        let group_index = group.membership().index;
        Self {
            group,
            row: replica.row.clone(),
            durable_membership: group_index,
            leading: None,
            waiting: VecDeque::new(),
            reconciler: super::reconcile::State::default(),
            leaderless: Some(now),
            quiet: super::audit::Quiet::default(),
        }
    }

    pub(super) fn partition(&self) -> PartitionId {
        self.group.partition()
    }

    /// Copies that no single further loss makes fewer than that: during a joint change the loss of
    /// the old voters still stops the group.
    pub(super) fn copies(&self) -> usize {
        let membership = self.group.membership();
        let (voters, outgoing) = (&membership.voters, &membership.voters_outgoing);
        if membership.is_joint() {
            voters.len().min(outgoing.len())
        } else {
            voters.len()
        }
    }

    /// Log age at this moment, as far as applied: what is in the log can only add to it.
    pub(super) fn age(&self, now: Instant) -> Age {
        let applied = self.row.as_ref().map_or(0, |row| row.age_ms);
        let since = self
            .leading
            .as_ref()
            .map_or(0, |leading| now.since(leading.aged).as_millis() as u64);
        Age(applied.saturating_add(since))
    }

    /// Whether there are copies enough, and room enough here, to take writes.
    pub(super) fn writes(&self, min_copies: u8, room: RoomStage) -> Writes {
        let (voters, wanted) = (self.copies(), usize::from(min_copies));
        if voters < wanted {
            Writes::FewCopies { voters, wanted }
        } else if room == RoomStage::Gone {
            Writes::NoRoom
        } else {
            Writes::Taken
        }
    }

    pub(super) fn serving_mut(&mut self, term: Term) -> Option<&mut Serving> {
        match &mut self.leading {
            Some(Leading {
                term: led,
                stage: Stage::Open(serving),
                ..
            }) if *led == term => Some(serving),
            Some(_) | None => None,
        }
    }

    pub(super) fn serving(&self) -> Option<(Term, &Serving)> {
        match &self.leading {
            Some(Leading {
                term,
                stage: Stage::Open(serving),
                ..
            }) => Some((*term, serving)),
            Some(_) | None => None,
        }
    }
}
