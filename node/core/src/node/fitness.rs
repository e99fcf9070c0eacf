//! Whether this node is fit to lead, as far as it can see itself: a disk that is slow or almost
//! full, a clock that is off, too little processor time.
//!
//! An unfit node hands its leaderships over and takes none, but only where another voter could
//! lead: a group that nobody else can serve is served from here. Others hear of it with the control
//! frames. With no room left at all it serves reads only: what is refused then leaves room for what
//! must be written (votes, what other leaders replicate to here, deletions).

mod starvation;

use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{NodeId, PartitionId};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::Fitness;
use ghostlight_protocol::wire::hello::NodeRecord;

use starvation::Starvation;

use super::handover::Haste;
use super::slot::Slot;
use super::wall::Agreement;
use super::{NodeCore, TICK};
use crate::gateway::Reachable;
use crate::io::{Effect, Now, Room};
use crate::replica::Candidacy;

/// A batch that is not synced for longer than this makes the disk slow.
const SYNC_MAX: Duration = Duration::from_millis(300);
/// A slow disk keeps its node from leading for so long after it was last seen to be slow.
const SLOW_DISK_PAUSE: Duration = Duration::from_secs(10);

/// Free thousandths of the disk below which a node leads nothing, and from which on it leads again.
const ROOM_SHORT: (u64, u64) = (50, 60);
/// The same for writes.
const ROOM_GONE: (u64, u64) = (20, 30);

/// Ticks between the first sign and the first handover: by then the others have said whether they
/// are fit, so that nodes with one disk between them do not hand over in circles.
const TELL_TICKS: u64 = 4;

/// What is known of it.
#[derive(Default, Debug)]
pub(super) struct Watch {
    present: Fitness,
    /// The node's tick at which it became so.
    since: u64,
    slow_until: Option<Instant>,
    room: RoomStage,
    starvation: Starvation,
}

/// How much room the disk has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum RoomStage {
    /// Enough, or nobody has said.
    #[default]
    Ample,
    /// So little that the node should lead nothing.
    Short,
    /// So little that it takes no writes.
    Gone,
}

impl RoomStage {
    /// What follows when so many thousandths are free. It takes more to come back than to go, or a
    /// node at the border would hand its leaderships to and fro.
    fn after(self, free: u64) -> Self {
        let (short, ample) = ROOM_SHORT;
        let (gone, writes) = ROOM_GONE;
        match self {
            _ if free < gone => Self::Gone,
            Self::Gone if free < writes => Self::Gone,
            _ if free < short => Self::Short,
            Self::Short | Self::Gone if free < ample => Self::Short,
            Self::Ample | Self::Short | Self::Gone => Self::Ample,
        }
    }

    fn fitness(self) -> Fitness {
        match self {
            Self::Ample => Fitness::Fit,
            Self::Short => Fitness::RoomShort,
            Self::Gone => Fitness::RoomGone,
        }
    }
}

impl Watch {
    pub(super) fn present(&self) -> Fitness {
        self.present
    }

    pub(super) fn room(&self) -> RoomStage {
        self.room
    }
}

impl NodeCore {
    /// The shell has measured the disk: writes stop, or are taken again, at once.
    pub(super) fn measured(&mut self, room: Room) {
        let before = self.fitness.room;
        self.fitness.room = before.after(room.free_per_mille());
        if self.fitness.room == before {
            return;
        }
        let led: Vec<PartitionId> = match &self.cluster {
            Some(cluster) => cluster.slots().map(Slot::partition).collect(),
            None => return,
        };
        for partition in led {
            self.count_copies(partition);
        }
    }

    /// Looks at disk and clock. Time at the disk is counted in ticks, and a late loop makes up for
    /// two at most: a node that stood still does not blame its disk.
    pub(super) fn tick_fitness(&mut self, now: Now, out: &mut Vec<Effect>) {
        let unsynced =
            TICK * u32::try_from(self.flush.unsynced_ticks(self.ticks)).unwrap_or(u32::MAX);
        if unsynced > SYNC_MAX {
            self.fitness.slow_until = Some(now.instant + SLOW_DISK_PAUSE);
        }
        let slow = self
            .fitness
            .slow_until
            .is_some_and(|until| now.instant < until);
        let starved = self.fitness.starvation.ticked(now.instant);
        let clock_off = self.links.clock_off_ms().is_some();
        self.wall.compared(if clock_off {
            Agreement::Differs
        } else {
            Agreement::Agrees
        });
        let fitness = if slow {
            Fitness::DiskSlow
        } else if self.fitness.room != RoomStage::Ample {
            self.fitness.room.fitness()
        } else if clock_off {
            Fitness::ClockOff
        } else if starved {
            Fitness::Starved
        } else {
            Fitness::Fit
        };
        if fitness != self.fitness.present {
            self.fitness.present = fitness;
            self.fitness.since = self.ticks;
            Self::say(
                out,
                match unfit_reason(fitness) {
                    Some(why) => format!("this node gives its leaderships away: {why}"),
                    None => "this node is fit to lead again".to_owned(),
                },
            );
        }
        self.set_candidacies();
    }

    /// While this node is unfit it stands for election only where no other voter is known to be
    /// fit.
    fn set_candidacies(&mut self) {
        let fit = self.fitness.present == Fitness::Fit;
        let (me, links) = (self.me, &self.links);
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let could_lead = |node: NodeId| {
            node != me
                && links.reachable(node) == Reachable::Yes
                && links
                    .link(node)
                    .is_some_and(|link| link.said.fitness == Fitness::Fit)
        };
        for slot in cluster.slots.iter_mut().flatten() {
            let candidacy = if !fit && voters(slot).into_iter().any(could_lead) {
                Candidacy::StandsBack
            } else {
                Candidacy::Stands
            };
            slot.group.set_candidacy(candidacy);
        }
    }

    /// What waits for a slow disk may wait for long: leaderships go without it.
    pub(super) fn haste(&self) -> Haste {
        match self.fitness.present {
            Fitness::DiskSlow => Haste::SettleBriefly,
            Fitness::Fit
            | Fitness::ClockOff
            | Fitness::RoomShort
            | Fitness::RoomGone
            | Fitness::Starved => Haste::Settle,
        }
    }

    /// Whether a node is fit to lead, for those who plan.
    pub(super) fn fitness_of(&self, record: &NodeRecord) -> Fitness {
        let node = record.id();
        if node == Some(self.me) {
            let told = self.ticks.saturating_sub(self.fitness.since) >= TELL_TICKS;
            return if told {
                self.fitness.present
            } else {
                Fitness::Fit
            };
        }
        let link = node.and_then(|node| self.links.link(node));
        link.map_or(Fitness::Fit, |link| link.said.fitness)
    }
}

fn voters(slot: &Slot) -> Vec<NodeId> {
    let membership = slot.group.membership();
    let nodes = membership.nodes();
    nodes
        .filter(|(peer, _)| membership.is_voter(*peer))
        .map(|(_, node)| node)
        .collect()
}

/// Why a node that is not fit leads nothing, for people.
pub(super) fn unfit_reason(fitness: Fitness) -> Option<String> {
    match fitness {
        Fitness::Fit => None,
        Fitness::DiskSlow => Some(format!(
            "its disk took more than {} ms to sync a batch within the last {} s [{}]",
            SYNC_MAX.as_millis(),
            SLOW_DISK_PAUSE.as_secs(),
            Code::DiskSlow
        )),
        Fitness::ClockOff => Some(format!(
            "its calendar clock is more than 2 s off the members' median [{}]",
            Code::ClockOff
        )),
        Fitness::Starved => Some(format!(
            "it got so little processor time that its clock ticks came late again and again [{}]",
            Code::NodeStarved
        )),
        Fitness::RoomShort => Some(format!(
            "its disk has less than {} % of its room left [{}]",
            ROOM_SHORT.0 / 10,
            Code::DiskRoomShort
        )),
        Fitness::RoomGone => Some(format!(
            "its disk has less than {} % of its room left, so it refuses writes too [{}]",
            ROOM_GONE.0 / 10,
            Code::DiskRoomShort
        )),
    }
}

#[cfg(test)]
mod tests;
