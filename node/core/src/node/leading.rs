//! A leadership's life: elected, open, closed; what it proposes, and how it proves that it still
//! leads. Absent: what follows from applied entries (`applied`), rows that were read (`reads`), the
//! inbox (`inbox`).
//!
//! A leader serves only after it has applied the first entry of its own term. On any change of role
//! or term everything speculative is dropped, also if the same node wins again.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::call::{AnswerKind, MayHaveRun, Redirect};
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::command::{Command, Kind};
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::time::Age;
use prost::Message as _;

use super::reads::ReadWhat;
use super::slot::{Confirm, InboxLoad, Later, Leading, Serving, Slot, Stage};
use super::waiting::Waiting;
use super::{Local, NodeCore};
use crate::expiry::Expiry;
use crate::io::{Effect, Event, Now};
use crate::outbox::{Outbox, OutboxInput, OutboxSettings};
use crate::replica::{ReadIndex, Role};
use crate::topics::{Bounds, Topics, TopicsOpening};
use crate::turns::{ConfirmId, Load, Opening, Turns, TurnsInput};
use crate::wakeups::Wakeups;

/// A ReadIndex without answer is asked again after two heartbeats.
const CONFIRM_AGAIN: Duration = Duration::from_millis(300);

impl NodeCore {
    /// Compares a group's role with what this node does about it.
    pub(super) fn follow_role(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let (role, term) = (slot.group.role(), slot.group.term());
        slot.leaderless = match role {
            Role::Leader | Role::Follower { leader: Some(_) } => None,
            Role::Follower { leader: None } | Role::Candidate => {
                slot.leaderless.or(Some(now.instant))
            }
        };
        let led = slot.leading.as_ref().map(|leading| leading.term);
        let leads = (role == Role::Leader).then_some(term);
        if led != leads {
            if led.is_some() {
                self.close(now, partition, out);
            }
            if leads.is_some() {
                self.elected(now, partition, term);
            }
        }
        self.open_if_due(now, partition, out);
        self.count_copies(partition);
        self.learn_from_group(partition);
    }

    fn elected(&mut self, now: Now, partition: PartitionId, term: Term) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        slot.leading = Some(Leading {
            term,
            stage: Stage::Elected,
            aged: now.instant,
            confirm: Confirm::Idle,
            handover: super::handover::Handover::None,
            uncommitted: None,
        });
    }

    fn open_if_due(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let settings = self.start.turns;
        let native = self.hosting.native.clone();
        let (min_copies, room) = (self.start.min_copies, self.fitness.room());
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let partitions = cluster.partitions();
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let may_open = slot.group.may_open();
        let writes = slot.writes(min_copies, room);
        let Some(leading) = &mut slot.leading else {
            return;
        };
        let (Stage::Elected, true) = (&leading.stage, may_open) else {
            return;
        };
        let term = leading.term;
        let row = slot.row.clone().unwrap_or_default();
        let opening = Opening {
            partition,
            partitions,
            term,
            wall: now.wall,
            load: Load::of(&row),
            writes,
            settings,
            native,
        };
        let topics = open_topics(now, self.me, &row, &opening);
        let turns = Turns::open(opening);
        let mut pump = Vec::new();
        let settings = OutboxSettings::default();
        let outbox = Outbox::open(partition, row.epoch(), now.instant, settings, &mut pump);
        let inbox = InboxLoad::Loading {
            later: Later::nothing(),
            last: 0,
            last_key: None,
        };
        leading.stage = Stage::Open(Box::new(Serving {
            turns,
            outbox,
            inbox,
            expiry: Expiry::new(partition, now.instant),
            wakeups: Wakeups::new(),
            topics,
            writes,
        }));
        self.feed_waiting(now, partition, out);
        for effect in pump {
            self.outbox_effect(now, partition, term, effect, out);
        }
        self.topics_opened(partition, term);
        self.read_inbox(partition, term, None, out);
        if partition == super::facts::FACTS {
            self.read_facts(partition, term, None, out);
        }
        out.push(Effect::Event(Event::Opened { partition, term }));
        self.announce_own(partition);
    }

    pub(super) fn read_facts(
        &mut self,
        partition: PartitionId,
        term: Term,
        after: Option<Bytes>,
        out: &mut Vec<Effect>,
    ) {
        let rows = super::facts::removed_rows(after);
        self.reads
            .begin(partition, term, ReadWhat::Facts, rows, out);
    }

    pub(super) fn close(&mut self, now: Now, partition: PartitionId, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let hint = cluster.routes.hint(partition);
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let Some(leading) = slot.leading.take() else {
            return;
        };
        let term = leading.term;
        if let Stage::Open(serving) = &leading.stage {
            let held = serving.turns.call_bytes() + serving.topics.call_bytes();
            cluster.recount(held, 0);
            let progress = serving.turns.progress();
            cluster.backlog.closed(progress);
        }
        cluster.forget_topics(partition);
        for Waiting { from, .. } in cluster.take_waiting(partition) {
            let redirect = Redirect {
                hint: hint.clone(),
                may_have_run: MayHaveRun::No as i32,
            };
            self.answer(from, AnswerKind::Redirect(redirect), out);
        }
        if let Stage::Open(serving) = leading.stage {
            let mut effects = Vec::new();
            serving.topics.close(hint.clone(), &mut effects);
            self.topics_effects(now, partition, term, effects, out);
            let mut effects = Vec::new();
            serving.turns.close(now.instant, hint, &mut effects);
            self.turns_effects(now, partition, term, effects, out);
            out.push(Effect::Event(Event::Closed { partition, term }));
        }
    }

    /// Puts a command of this leadership into the log; `false`: nothing of it is there.
    pub(super) fn propose(
        &mut self,
        now: Now,
        partition: PartitionId,
        term: Term,
        kind: Kind,
    ) -> bool {
        let wall_ms = self.links.agreed_wall(now.wall).map_or(0, |wall| wall.0);
        let Some(cluster) = &mut self.cluster else {
            return false;
        };
        let Some(slot) = cluster.slot_mut(partition) else {
            return false;
        };
        let Some(leading) = &mut slot.leading else {
            return false;
        };
        if leading.term != term || slot.group.term() != term {
            return false;
        }
        let age_step_ms = now.instant.since(leading.aged).as_millis() as u64;
        let command = Command {
            leader_term: term.0,
            age_step_ms,
            wall_ms,
            kind: Some(kind),
        };
        if slot.group.propose(command.encode_to_vec()).is_err() {
            return false;
        }
        leading.aged = leading.aged + Duration::from_millis(age_step_ms);
        cluster.dirty.insert(partition);
        true
    }

    pub(super) fn confirm(&mut self, now: Now, partition: PartitionId, id: ConfirmId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(slot) = cluster.slot_mut(partition) else {
            return;
        };
        let Some(leading) = &mut slot.leading else {
            return;
        };
        let context = self.reads.context();
        if canary::sings(Canary::ReadUnproven) {
            let index = slot.group.applied();
            leading.confirm = Confirm::Applying { id, index };
            return self.read_ready(partition);
        }
        // Refused only when leadership is lost: then the engine's callers are told at closing.
        if slot.group.read_index(context) == ReadIndex::Begun {
            leading.confirm = Confirm::Asked {
                id,
                context,
                at: now.instant,
            };
            cluster.dirty.insert(partition);
        }
    }

    /// A majority answered a ReadIndex round.
    pub(super) fn confirmed(
        &mut self,
        partition: PartitionId,
        context: u64,
        index: ghostlight_protocol::ids::LogIndex,
    ) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let applied = slot.group.applied();
        let Some(leading) = &mut slot.leading else {
            return;
        };
        let Confirm::Asked {
            id, context: asked, ..
        } = leading.confirm
        else {
            return;
        };
        if asked != context {
            return;
        }
        leading.confirm = Confirm::Applying { id, index };
        if applied >= index {
            self.read_ready(partition);
        }
    }

    pub(super) fn read_ready(&mut self, partition: PartitionId) {
        let Some(slot) = self.cluster.as_mut().and_then(|c| c.slot_mut(partition)) else {
            return;
        };
        let applied = slot.group.applied();
        let Some(leading) = &mut slot.leading else {
            return;
        };
        let Confirm::Applying { id, index } = leading.confirm else {
            return;
        };
        if applied >= index {
            leading.confirm = Confirm::Idle;
            self.local
                .push_back(Local::Turns(partition, TurnsInput::Confirmed(id)));
        }
    }

    /// Engines see that time passes.
    pub(super) fn tick_turns(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        for slot in cluster.slots() {
            if slot.serving().is_some() {
                let partition = slot.partition();
                self.local
                    .push_back(Local::Turns(partition, TurnsInput::Tick));
                self.local
                    .push_back(Local::Outbox(partition, OutboxInput::Tick));
            }
        }
    }

    /// Reads that got no answer are asked again.
    pub(super) fn tick_confirms(&mut self, now: Now) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for slot in cluster.slots.iter_mut().flatten() {
            let Some(leading) = &mut slot.leading else {
                continue;
            };
            let Confirm::Asked { id, at, .. } = leading.confirm else {
                continue;
            };
            if now.instant.since(at) < CONFIRM_AGAIN {
                continue;
            }
            let context = self.reads.context();
            if slot.group.read_index(context) == ReadIndex::Begun {
                leading.confirm = Confirm::Asked {
                    id,
                    context,
                    at: now.instant,
                };
                cluster.dirty.insert(slot.group.partition());
            }
        }
    }

    /// What turns have left behind since the last flush goes into the log.
    pub(super) fn flush_turns(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.backlog.note(now.instant);
        let touched = std::mem::take(&mut cluster.touched);
        let mut again = Vec::new();
        for partition in touched {
            let slot = self.cluster.as_mut().and_then(|c| c.slot_mut(partition));
            let Some(slot) = slot else { continue };
            let Some(term) = Slot::serving(slot).map(|(term, _)| term) else {
                continue;
            };
            let load = slot.row.as_ref().map(Load::of).unwrap_or_default();
            let Some(serving) = slot.serving_mut(term) else {
                continue;
            };
            let mut effects = Vec::new();
            serving.turns.note(now.wall, load);
            serving.turns.flush(now.instant, &mut effects);
            if serving
                .turns
                .next_deadline()
                .is_some_and(|at| at <= now.instant)
            {
                again.push(partition);
            }
            self.turns_effects(now, partition, term, effects, out);
        }
        self.settle(now, out);
        if let Some(cluster) = &mut self.cluster {
            // One proposal a flush: what is left wants the next one at once.
            cluster.touched.extend(again);
        }
    }
}

fn open_topics(now: Now, me: NodeId, row: &PartitionRow, opening: &Opening) -> Topics {
    let opening = TopicsOpening {
        me,
        partition: opening.partition,
        partitions: opening.partitions,
        term: opening.term,
        writes: opening.writes,
        bounds: Bounds {
            dedup_bytes_max: opening.settings.dedup_bytes_max,
            messages_max: opening.settings.messages_max,
        },
    };
    let mut topics = Topics::open(now.instant, opening);
    topics.note(None, Age(row.age_ms), Load::of(row));
    topics
}
