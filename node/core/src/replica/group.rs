//! The engine of one group: inputs. `group/ready.rs` has the outputs.

mod change;
mod probes;
pub(super) mod ready;
mod truncation;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PartitionId, PeerId, Term};
use ghostlight_protocol::limits::{APPEND_BYTES_MAX, UNCOMMITTED_BYTES_MAX};
use ghostlight_protocol::partition_row::Membership;
use ghostlight_protocol::replica::HardState;
use ghostlight_protocol::replica::log::RecoveredReplica;
use ghostlight_protocol::wire::frame::Heartbeat;
use prost::Message as _;
use prost11::Message as _;
use raft::eraftpb::{self, MessageType};
use raft::{Config, RawNode, SnapshotStatus, StateRole};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use change::Change;
pub use ready::{GroupReady, Install, Outgoing};
pub use truncation::{LogBounds, LogRoom};

use super::heard::{Heard, HeardMemory};
use super::tail::TailLog;
use super::{border, convert, ranks};

/// Ticks between two heartbeats of a leader.
const HEARTBEAT_TICKS: usize = 3;
/// The engine's own election ticks: check-quorum's interval.
const ELECTION_TICKS: usize = 10;
/// Above every ranked timeout, jitter included.
const ELECTION_TICKS_MAX: usize = 1_000;
/// Append messages in flight to one peer.
const INFLIGHT_MESSAGES_MAX: usize = 256;
/// Committed bytes handed to apply in one turn of the loop.
const COMMITTED_BYTES_PER_READY: u64 = 4 << 20;
/// Most ticks added after a campaign without verdict.
const CAMPAIGN_JITTER_TICKS: usize = 4;
/// Ticks added while a replica stands back: as long as its node is unfit, others come first.
const STAND_BACK_TICKS: usize = 200;

/// Whether a replica stands for election when its time has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Candidacy {
    /// It does.
    #[default]
    Stands,
    /// Another one is fitter: long after all others, and no transfer is taken.
    StandsBack,
}

/// What a group needs to begin.
#[derive(Clone, Copy, Debug)]
pub struct GroupSettings {
    /// Seed of the jitter.
    pub seed: u64,
    /// How much of its log it keeps.
    pub log: LogBounds,
}

/// What a replica is, at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Leads in its term.
    Leader,
    /// Follows, perhaps nobody yet.
    Follower {
        /// Whom.
        leader: Option<PeerId>,
    },
    /// Asks for votes.
    Candidate,
}

/// How far a peer is, as its leader knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerProgress {
    /// Highest entry known to be durable there.
    pub matched: LogIndex,
    /// Whether it answered lately.
    pub heard: Heard,
    /// Whether a snapshot is on its way to it.
    pub pending_snapshot: Option<LogIndex>,
}

/// Why a proposal did not enter the log. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeRefused {
    /// This replica does not lead; the engine would have forwarded.
    #[error("not the leader")]
    NotLeader,
    /// Too many uncommitted bytes, or leadership is being handed over.
    #[error("dropped by the consensus engine")]
    Dropped,
}

/// One replica of one group.
pub struct Group {
    partition: PartitionId,
    peer: PeerId,
    raw: RawNode<TailLog>,
    membership: Membership,
    /// Where peers live that are not in `membership`: who spoke to a learner without state.
    strangers: BTreeMap<u64, NodeId>,
    last_leader: Option<PeerId>,
    heard: HeardMemory,
    jitter_ticks: usize,
    /// The ranked timeout, and the membership (by index) and leader that it is for.
    ranked: Option<((u64, Option<PeerId>), usize)>,
    candidacy: Candidacy,
    rng: ChaCha8Rng,
    applied: LogIndex,
    /// Term and vote last handed out to be synced.
    promised: (Term, PeerId),
    unpersisted: VecDeque<ready::Unpersisted>,
    log_bounds: LogBounds,
    probes: probes::Probes,
}

impl Group {
    /// Brings a replica back from what its disk gave.
    ///
    /// # Panics
    /// When the recovered state breaks an invariant that the store has checked before (traps 9 and
    /// 15).
    #[must_use]
    pub fn new(replica: &RecoveredReplica, settings: &GroupSettings) -> Self {
        let RecoveredReplica {
            partition,
            peer,
            hard_state,
            truncated,
            tail,
            row,
        } = replica;
        let applied = row.as_ref().map_or(LogIndex(0), |row| row.applied().0);
        let membership = row
            .as_ref()
            .and_then(|row| row.membership.clone())
            .unwrap_or_default();
        let last = tail.last().map_or(*truncated, |entry| entry.at);
        let vote = match canary::sings(Canary::ForgetVote) {
            true => PeerId(0),
            false => hard_state.vote,
        };
        let hard_state = &HardState {
            vote,
            ..*hard_state
        };
        assert!(
            applied <= hard_state.commit && hard_state.commit <= last.index,
            "{partition}: applied {applied}, commit {}, last {}",
            hard_state.commit,
            last.index
        );
        let log = TailLog::new(
            convert::engine_hard_state(*hard_state),
            convert::conf_state(&membership),
            *truncated,
            tail.iter().map(convert::engine_entry).collect(),
        );
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config(*peer, applied), log, &logger)
            .expect("the store has checked what the engine checks");
        let seed = settings.seed ^ (u64::from(partition.0) << 32) ^ peer.0;
        let mut group = Self {
            partition: *partition,
            peer: *peer,
            raw,
            membership,
            strangers: BTreeMap::new(),
            last_leader: None,
            heard: HeardMemory::default(),
            jitter_ticks: 0,
            ranked: None,
            candidacy: Candidacy::Stands,
            rng: ChaCha8Rng::seed_from_u64(seed),
            applied,
            promised: (hard_state.term, hard_state.vote),
            unpersisted: VecDeque::new(),
            log_bounds: settings.log,
            probes: probes::Probes::default(),
        };
        group.rank();
        group
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// This replica's stint.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The engine's term.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower {
                leader: self.leader(),
            },
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    /// The leader of the present term, if known.
    #[must_use]
    pub fn leader(&self) -> Option<PeerId> {
        Some(PeerId(self.raw.raft.leader_id)).filter(|peer| peer.0 != 0)
    }

    /// The membership the engine works with.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether the replica has had its first snapshot (or was founded).
    #[must_use]
    pub fn is_initialized(&self) -> bool {
        !self.membership.peers.is_empty()
    }

    /// Commit index.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    /// Term and vote, and what is applied as the commit index: never more than is durable here.
    #[must_use]
    pub fn applied_hard_state(&self) -> HardState {
        HardState {
            term: self.term(),
            vote: PeerId(self.raw.raft.vote),
            commit: self.applied,
        }
    }

    /// What the store has applied.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// End of the log.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.raw.store().last()
    }

    /// Whether a membership change is proposed and not yet applied.
    #[must_use]
    pub fn change_pending(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// The node of a peer, also of one that only spoke to us.
    #[must_use]
    pub fn node_of(&self, peer: PeerId) -> Option<NodeId> {
        self.membership
            .node_of(peer)
            .or_else(|| self.strangers.get(&peer.0).copied())
    }

    /// How far each other peer is; empty unless this replica leads.
    #[must_use]
    pub fn progress(&self) -> BTreeMap<PeerId, PeerProgress> {
        if self.role() != Role::Leader {
            return BTreeMap::new();
        }
        let others = self
            .raw
            .raft
            .prs()
            .iter()
            .filter(|(id, _)| **id != self.peer.0);
        others
            .map(|(id, progress)| {
                let heard = self.heard.of(self.raw.raft.term, *id);
                let pending = progress.pending_snapshot;
                let view = PeerProgress {
                    matched: LogIndex(progress.matched),
                    heard,
                    pending_snapshot: (pending != 0).then_some(LogIndex(pending)),
                };
                (PeerId(*id), view)
            })
            .collect()
    }

    /// One tick of 50 ms.
    pub fn tick(&mut self) {
        if self.is_installing() {
            return;
        }
        self.heard.tick();
        self.probes.tick();
        let elected_or_not = self.raw.tick();
        match self.role() {
            Role::Candidate if elected_or_not => {
                self.jitter_ticks = self.rng.random_range(0..=CAMPAIGN_JITTER_TICKS);
            }
            Role::Leader | Role::Follower { .. } | Role::Candidate => {}
        }
        self.rank();
    }

    /// Whether a peer may live on a node: it lives on one node for its whole stint. Of one that
    /// this replica has not heard of nobody can say.
    #[must_use]
    pub fn may_live_on(&self, peer: PeerId, node: NodeId) -> bool {
        self.membership
            .node_of(peer)
            .is_none_or(|home| home == node)
    }

    /// Feeds an encoded message of the engine. Malformed and local ones are ignored; so are
    /// forwarded proposals and reads: only a client of the leader may ask it for something.
    pub fn step(&mut self, from: NodeId, bytes: &[u8]) {
        let Some(message) = border::decode(bytes) else {
            return;
        };
        match message.get_msg_type() {
            MessageType::MsgPropose
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
            | MessageType::MsgTransferLeader
            | MessageType::MsgSnapshot
            // These travel in control frames, and are looked at before they are fed.
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse => {}
            MessageType::MsgTimeoutNow
                if self.is_installing() || self.candidacy == Candidacy::StandsBack => {}
            _ => self.step_message(from, message),
        }
    }

    /// Feeds the snapshot message of a transfer that has arrived completely.
    pub fn step_snapshot(&mut self, from: NodeId, bytes: &[u8]) {
        let Some(message) = border::decode(bytes) else {
            return;
        };
        if message.get_msg_type() == MessageType::MsgSnapshot && border::is_sound_snapshot(&message)
        {
            self.step_message(from, message);
        }
    }

    /// Feeds a heartbeat, unless it shows that this replica has lost what it promised: a leader
    /// never says that more is committed here than what this replica has acknowledged. The engine
    /// would end the process at it (trap 11), and again after every restart.
    #[must_use]
    pub fn step_heartbeat(&mut self, from: NodeId, heartbeat: &Heartbeat) -> Promise {
        let message = convert::engine_heartbeat(MessageType::MsgHeartbeat, heartbeat);
        let last = self.raw.raft.raft_log.last_index();
        if message.commit > last && message.to == self.peer.0 {
            let member = self.membership.node_of(PeerId(message.from)) == Some(from);
            return match member && message.term >= self.raw.raft.term {
                true => Promise::Lost {
                    acknowledged: LogIndex(message.commit),
                    last: LogIndex(last),
                },
                false => Promise::Kept,
            };
        }
        self.step_message(from, message);
        Promise::Kept
    }

    /// Feeds the answer to a heartbeat.
    pub fn step_heartbeat_answer(&mut self, from: NodeId, answer: &Heartbeat) {
        let message = convert::engine_heartbeat(MessageType::MsgHeartbeatResponse, answer);
        self.step_message(from, message);
    }

    fn step_message(&mut self, from: NodeId, message: eraftpb::Message) {
        // A message for an earlier or later stint on this node is not for this replica.
        if message.to != self.peer.0 || message.from == self.peer.0 || !border::is_sound(&message) {
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        let stranger = self.membership.node_of(PeerId(message.from)).is_none();
        match message.get_msg_type() {
            // Of a member it means that this replica has lost what it promised: the engine ends the
            // process (trap 11). Nobody else can know what it has.
            MessageType::MsgHeartbeat if message.commit > last && stranger => return,
            MessageType::MsgAppendResponse if !message.reject && message.index > last => return,
            _ => {}
        }
        if stranger {
            self.strangers.insert(message.from, from);
        }
        self.note_answer(&message);
        if canary::sings(Canary::JointQuorum) {
            self.answer_for_the_old_voters(&message);
        }
        // The engine's errors here are all "not for me"; its state has not changed.
        drop(self.raw.step(message));
        self.rank();
    }

    /// A canary: what one new voter has counts for all old ones that are on their way out.
    fn answer_for_the_old_voters(&mut self, message: &eraftpb::Message) {
        if message.get_msg_type() != MessageType::MsgAppendResponse || message.reject {
            return;
        }
        let outgoing = self.membership.voters_outgoing.clone();
        for voter in outgoing.into_iter().filter(|voter| *voter != self.peer.0) {
            let mut theirs = message.clone();
            theirs.from = voter;
            drop(self.raw.step(theirs));
        }
    }

    /// Only what answers this very leadership shows that a peer is there for it.
    fn note_answer(&mut self, message: &eraftpb::Message) {
        let answers = matches!(
            message.get_msg_type(),
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse
        );
        let term = self.raw.raft.term;
        if answers && message.term == term && self.role() == Role::Leader {
            self.heard.answered(term, message.from);
        }
    }

    /// Puts a command into the log.
    ///
    /// # Errors
    /// When it did not enter the log; nothing has changed.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ProposeRefused> {
        if self.role() != Role::Leader {
            return Err(ProposeRefused::NotLeader);
        }
        self.raw
            .propose(Vec::new(), data)
            .map_err(|_| ProposeRefused::Dropped)
    }

    /// Begins a ReadIndex; `false` if it would be dropped silently (trap 2).
    #[must_use]
    pub fn read_index(&mut self, context: u64) -> ReadIndex {
        if self.role() != Role::Leader || !self.raw.raft.commit_to_current_term() {
            return ReadIndex::Refused;
        }
        self.raw.read_index(context.to_be_bytes().to_vec());
        ReadIndex::Begun
    }

    /// Hands leadership to a voter; the engine gives up after an election timeout.
    pub fn transfer(&mut self, to: PeerId) {
        if self.role() == Role::Leader {
            self.raw.transfer_leader(to.0);
        }
    }

    /// Says whether this replica stands for election.
    pub fn set_candidacy(&mut self, candidacy: Candidacy) {
        if self.candidacy != candidacy {
            self.candidacy = candidacy;
            self.rank();
        }
    }

    /// Gives a transfer up.
    pub fn abort_transfer(&mut self) {
        if self.role() == Role::Leader {
            self.raw.raft.abort_leader_transfer();
        }
    }

    /// Begins an election at once; used where this replica is the only voter.
    pub fn campaign(&mut self) {
        if self.is_installing() {
            return;
        }
        // Refused by the engine when a change is unapplied; the timeout will try again.
        drop(self.raw.campaign());
        self.rank();
    }

    /// Frames to a peer have no way at the moment.
    pub fn unreachable(&mut self, node: NodeId) {
        if self.role() == Role::Leader
            && let Some(peer) = self.membership.peer_on(node)
        {
            self.raw.report_unreachable(peer.0);
            self.probes.forget(peer.0);
        }
    }

    /// What was sent to a node last was not sent: the next probe of it leaves at once.
    pub fn not_sent(&mut self, node: NodeId) {
        if let Some(peer) = self.membership.peer_on(node) {
            self.probes.forget(peer.0);
        }
    }

    /// A snapshot for `to` is open: offers it to the engine at once.
    pub fn snapshot_opened(&mut self, to: PeerId, at: LogPosition, membership: &Membership) {
        let metadata = eraftpb::SnapshotMetadata {
            conf_state: Some(convert::conf_state(membership)),
            index: at.index.0,
            term: at.term.0,
        };
        let snapshot = eraftpb::Snapshot {
            data: membership.encode_to_vec(),
            metadata: Some(metadata),
        };
        self.raw.mut_store().set_snapshot(to, snapshot);
        if self.role() == Role::Leader && self.raw.raft.prs().get(to.0).is_some() {
            self.raw.raft.send_append(to.0);
        }
    }

    /// A snapshot transfer is over, one way or the other. Must be called in every case (trap 10).
    pub fn snapshot_over(&mut self, to: PeerId, result: SnapshotResult) {
        self.raw.mut_store().clear_snapshot(to);
        let status = match result {
            SnapshotResult::Arrived => SnapshotStatus::Finish,
            SnapshotResult::Failed => SnapshotStatus::Failure,
        };
        if self.role() == Role::Leader && self.raw.raft.prs().get(to.0).is_some() {
            self.raw.report_snapshot(to.0, status);
        }
    }

    /// The store has applied everything up to `index`.
    pub fn set_applied(&mut self, index: LogIndex) {
        assert!(
            index >= self.applied,
            "{}: applied goes forward",
            self.partition
        );
        self.applied = index;
        self.raw.advance_apply_to(index.0);
    }

    /// Whether a snapshot is taken from the engine and not yet in place. Time stands still for such
    /// a replica: a campaign looks for changes between applied and commit, which the snapshot has
    /// replaced, and the engine ends the process when it does not find them.
    fn is_installing(&self) -> bool {
        self.raw.raft.raft_log.applied < self.raw.store().truncated().index.0
    }

    /// Sets the ranked timeout again: the engine redraws its own in many places.
    fn rank(&mut self) {
        if self.role() == Role::Leader {
            self.heard.follow(self.raw.raft.term);
        }
        if let Some(leader) = self.leader() {
            self.last_leader = Some(leader);
            self.jitter_ticks = 0;
        }
        // Wanted after every message, and the same until a membership or a leader changes.
        let basis = (self.membership.index, self.last_leader);
        let ticks = match self.ranked {
            Some((known, ticks)) if known == basis => ticks,
            Some(_) | None => ranks::election_timeout(
                self.partition,
                &self.membership,
                self.peer,
                self.last_leader,
            ),
        };
        self.ranked = Some((basis, ticks));
        let back = match self.candidacy {
            Candidacy::Stands => 0,
            Candidacy::StandsBack => STAND_BACK_TICKS,
        };
        self.raw
            .raft
            .set_randomized_election_timeout(ticks + self.jitter_ticks + back);
    }
}

/// What can be told about an engine message without a group to feed it to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peek {
    /// Sending peer.
    pub from: PeerId,
    /// Receiving peer.
    pub to: PeerId,
    /// Whose word it is.
    pub sender: Sender,
}

/// See [`Peek::sender`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// A leader: its group contains the receiver.
    Leader,
    /// A replica that answers an append.
    Follower,
    /// Anybody else.
    Other,
}

/// Whether this replica has what its leader knows that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// As far as can be seen.
    Kept,
    /// It has not: a synced end of its log is gone. Nothing was changed.
    Lost {
        /// What it once acknowledged.
        acknowledged: LogIndex,
        /// Where its log ends.
        last: LogIndex,
    },
}

/// Looks into an encoded message; `None` if it is malformed.
#[must_use]
pub fn peek(bytes: &[u8]) -> Option<Peek> {
    let message = border::decode(bytes)?;
    let sender = match message.get_msg_type() {
        MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot => {
            Sender::Leader
        }
        MessageType::MsgAppendResponse => Sender::Follower,
        _ => Sender::Other,
    };
    Some(Peek {
        from: PeerId(message.from),
        to: PeerId(message.to),
        sender,
    })
}

/// See [`Group::read_index`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadIndex {
    /// Its answer comes with a `GroupReady`, or never if leadership is lost.
    Begun,
    /// The engine would have dropped it.
    Refused,
}

/// See [`Group::snapshot_over`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotResult {
    /// The receiver has installed it.
    Arrived,
    /// It was given up.
    Failed,
}

fn config(peer: PeerId, applied: LogIndex) -> Config {
    Config {
        id: peer.0,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied: applied.0,
        max_size_per_msg: APPEND_BYTES_MAX,
        max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
        check_quorum: true,
        pre_vote: true,
        // The engine checks ours against this range; its own draws are replaced before they count.
        min_election_tick: ELECTION_TICKS,
        max_election_tick: ELECTION_TICKS_MAX,
        // Without a bound of its own: `ready::split_append` cuts what it merges.
        batch_append: true,
        // Followers hear of a commit with the next append or heartbeat, not by a message for each:
        // nobody waits for their apply, and what they apply at once writes the rows that repeat
        // once. A membership is told at once all the same.
        skip_bcast_commit: true,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: COMMITTED_BYTES_PER_READY,
        ..Config::default()
    }
}

/// Encodes an engine message.
fn encode(message: &eraftpb::Message) -> Bytes {
    message.encode_to_vec().into()
}
