//! Who is alive: the SWIM failure detector (foca) behind our own types.
//!
//! Inputs: datagrams, identities learned from a `Hello`, ticks. Outputs: datagrams, changes of the
//! member list, the next deadline. A member is *alive*, *suspect* (unanswered probes, may still
//! refute) or *down*. The list is this node's opinion: two nodes may differ for seconds, and
//! nothing may be served, voted or deleted because of it.
//!
//! **The caller hands over every waiting datagram before it calls with `Tick`.** `Datagram` never
//! runs timers. A process that was frozen and ran its timers first would accuse healthy members
//! whose answers wait in its socket.
//!
//! Joining: a seed is an address, and only a `Hello` tells which node answers there; then comes
//! `Meet`. Announcements are repeated until somebody answers (foca sends one and forgets), and
//! again when all members were lost.
//!
//! Deliberately absent: encryption (the connection's), elections, and the news of nodes' records
//! and leaders (too large for datagrams).

mod codec;
mod identity;
mod outlet;
mod rng;
mod settings;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use foca::{Foca, NoCustomBroadcast, State};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::time::Instant;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use codec::GossipCodec;
use outlet::{Notice, Outlet};
use rng::FocaRng;
use timers::Timers;

pub use codec::CodecError;
pub use identity::Identity;
pub use settings::{
    ANNOUNCE_ATTEMPTS_MAX, ANNOUNCE_FANOUT_MAX, GOSSIP_BYTES_MAX, LAG_SCORE_MAX, LEAVE_FANOUT_MAX,
    LEAVE_ROUNDS, MEETINGS_MAX, Settings,
};

/// What a member is believed to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MemberState {
    /// It answers, or somebody says so.
    Alive,
    /// It did not answer a probe and has not refuted yet. It still counts as a member.
    Suspect,
    /// It left or did not refute in time. It comes back only under a newer identity.
    Down,
}

/// Another node, as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its latest identity.
    pub identity: Identity,
    /// What it is believed to be.
    pub state: MemberState,
    /// Since when, on this node's clock.
    pub since: Instant,
}

/// What the membership is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A gossip datagram arrived. All that wait come before `Tick`.
    Datagram(Bytes),
    /// A `Hello` told which node answers at an address: announce to it until it is a member.
    Meet(Identity),
    /// This node is reached at another address from now on; it stays the same member.
    AddressChanged(SocketAddr),
    /// A deadline has passed, and no datagram waits.
    Tick,
    /// Say goodbye; `Effect::Left` comes when that is done, and nothing after it.
    Leave,
}

/// What the membership wants done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send a datagram; it may be lost. Never to this node itself.
    Send {
        /// Whom to.
        to: Identity,
        /// At most `GOSSIP_BYTES_MAX` bytes.
        data: Bytes,
    },
    /// A node became a member, or came back.
    MemberUp(Member),
    /// A member is down: it left, or was suspected and did not refute.
    MemberDown {
        /// The node.
        node: NodeId,
        /// The run that is down.
        generation: Generation,
    },
    /// A member goes on under a newer identity without having been down here: it was started again
    /// (higher generation), came back from being down elsewhere, or has another address.
    MemberChanged {
        /// As it was known.
        before: Identity,
        /// As it is.
        after: Identity,
    },
    /// A member did not answer and may be down soon.
    Suspected(NodeId),
    /// A suspect answered.
    Refuted(NodeId),
    /// A member that was down for long is no longer remembered.
    Forgotten(NodeId),
    /// At least one other member is active.
    Joined,
    /// No other member is active; announcements begin again.
    Alone,
    /// The cluster held this node for down; it goes on under this identity.
    Rejoined(Identity),
    /// The goodbye is said.
    Left,
    /// An input was refused; nothing changed because of it. For logs and counters.
    Refused(MembershipError),
}

/// Why an input was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembershipError {
    /// A datagram over the limit.
    #[error(
        "a gossip datagram of {bytes} bytes is over the limit of {GOSSIP_BYTES_MAX}; \
         run the same version on all nodes"
    )]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A datagram that cannot be read.
    #[error("a gossip datagram cannot be read: {reason}; run the same version on all nodes")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// A datagram that names this node as its sender.
    #[error(
        "a gossip datagram names this node as its sender: another process runs with a copy of \
         this node's data directory; stop one of the two"
    )]
    FromOurselves,
    /// The failure detector reports a step it did not expect. It recovers by itself.
    #[error("the failure detector met a step it did not expect: {detail}")]
    Engine {
        /// Its own words.
        detail: String,
    },
}

impl MembershipError {
    /// The code of the error.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::TooLarge { .. } | Self::Malformed { .. } => Code::ProtocolMismatch,
            Self::FromOurselves => Code::StaleGeneration,
            Self::Engine { .. } => Code::Internal,
        }
    }
}

/// Where this node itself stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No active member is known, or the own identity has just been renewed.
    Seeking,
    /// At least one member is active.
    Active,
    /// Saying goodbye.
    Leaving { rounds_left: u8, next: Instant },
    /// Gone.
    Left,
}

/// A node met by a `Hello` that is not an active member yet.
#[derive(Clone, Copy, Debug)]
struct Meeting {
    identity: Identity,
    attempts: u32,
}

/// The member list and its failure detector.
pub struct Membership {
    foca: Foca<Identity, GossipCodec, FocaRng, NoCustomBroadcast>,
    settings: Settings,
    lag_score: u32,
    timers: Timers,
    notices: Vec<Notice>,
    members: BTreeMap<NodeId, Member>,
    meetings: BTreeMap<NodeId, Meeting>,
    phase: Phase,
    announce_due: Option<Instant>,
    announce_turn: usize,
    jitter: ChaCha8Rng,
}

impl Membership {
    /// A node that knows nobody yet.
    ///
    /// # Panics
    /// When the settings contradict each other.
    #[must_use]
    pub fn new(me: Identity, settings: Settings, seed: u64) -> Self {
        settings.check();
        let me = Identity {
            renewal: me.renewal,
            ..Identity::new(me.node, me.address, me.generation)
        };
        let rng = FocaRng::seeded(seed);
        Self {
            foca: Foca::new(me, settings.config(0), rng, GossipCodec),
            settings,
            lag_score: 0,
            timers: Timers::default(),
            notices: Vec::new(),
            members: BTreeMap::new(),
            meetings: BTreeMap::new(),
            phase: Phase::Seeking,
            announce_due: None,
            announce_turn: 0,
            jitter: ChaCha8Rng::seed_from_u64(!seed),
        }
    }

    /// Feeds one input. Wanted actions are pushed to `out`, in the order they must happen.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Left => return,
            // What others say about us now is that we are down; to react would mean to come back.
            Phase::Leaving { .. } => {
                if input == Input::Tick {
                    self.say_goodbye(now, out);
                }
                return;
            }
            Phase::Seeking | Phase::Active => {}
        }
        match input {
            Input::Datagram(data) if data.len() > GOSSIP_BYTES_MAX => {
                let bytes = data.len();
                out.push(Effect::Refused(MembershipError::TooLarge { bytes }));
            }
            Input::Datagram(data) => {
                self.drive(now, out, |foca, outlet| foca.handle_data(&data, outlet));
            }
            Input::Meet(identity) => self.meet(now, identity, out),
            Input::AddressChanged(address) => {
                let me = *self.foca.identity();
                let moved = me.moved_to(address);
                if moved.address != me.address {
                    self.drive(now, out, |foca, outlet| foca.change_identity(moved, outlet));
                    self.seek(now);
                }
            }
            Input::Tick => self.tick(now, out),
            Input::Leave => self.leave(now, out),
        }
    }

    /// When to call with `Tick` next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Left => None,
            Phase::Leaving { next, .. } => Some(next),
            Phase::Seeking | Phase::Active => {
                let dues = [
                    self.timers.next_due(),
                    self.announce_due,
                    self.next_verdict(),
                ];
                dues.into_iter().flatten().min()
            }
        }
    }

    /// Whether the goodbye is said: nothing comes from here any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.phase == Phase::Left
    }

    /// This node's present identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        *self.foca.identity()
    }

    /// Every other node known, ascending by node id; also those that are down.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// What another node is believed to be; `None`: never heard of, or forgotten.
    #[must_use]
    pub fn state_of(&self, node: NodeId) -> Option<MemberState> {
        self.members.get(&node).map(|member| member.state)
    }

    /// Another node with its address.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// Stretches the suspicion time: 0 when this node keeps up, one more for each step it lags.
    ///
    /// A node that is slow itself must not be quick to accuse others. Suspicions already running
    /// keep their time. Bounded by `LAG_SCORE_MAX`.
    pub fn set_lag_score(&mut self, score: u32) {
        let score = score.min(LAG_SCORE_MAX);
        if score == self.lag_score || matches!(self.phase, Phase::Leaving { .. } | Phase::Left) {
            return;
        }
        self.lag_score = score;
        self.foca
            .set_config(self.settings.config(score))
            .expect("only the suspicion time differs, which may change at run time");
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Effect>) {
        // One call runs what was due when it began: a timer set by another is due later.
        while let Some(timer) = self.timers.take_due(now) {
            self.drive(now, out, |foca, outlet| foca.handle_timer(timer, outlet));
        }
        self.judge_suspects(now, out);
        if self.announce_due.is_some_and(|due| due <= now) {
            self.announce(now, out);
        }
    }

    /// Ends suspicions that nobody else will end.
    ///
    /// Only the accuser runs a timer, and it loses it when it restarts or renews itself; the news
    /// that should make the suspect refute is passed on a few times only, and a split can swallow
    /// them all. Such a suspect would stay one for ever, though it answers every probe. Called
    /// down, it is told so at its next word, and comes back under a newer identity.
    fn judge_suspects(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let patience = self.settings.verdict_after(self.lag_score);
        let overdue =
            |m: &&Member| m.state == MemberState::Suspect && now.since(m.since) >= patience;
        let overdue: Vec<Identity> = self
            .members
            .values()
            .filter(overdue)
            .map(|m| m.identity)
            .collect();
        for identity in overdue {
            let Some(incarnation) = self.incarnation_of(identity) else {
                continue;
            };
            let verdict = foca::Member::new(identity, incarnation, State::Down);
            self.drive(now, out, |foca, outlet| {
                foca.apply_many(std::iter::once(verdict), true, outlet)
            });
        }
    }

    fn incarnation_of(&self, identity: Identity) -> Option<foca::Incarnation> {
        let mut list = self.foca.iter_membership_state();
        list.find(|m| *m.id() == identity).map(|m| m.incarnation())
    }

    /// When the next suspicion is too old.
    fn next_verdict(&self) -> Option<Instant> {
        let suspects = self.members.values();
        let since = suspects
            .filter(|m| m.state == MemberState::Suspect)
            .map(|m| m.since);
        let oldest = since.min()?;
        Some(oldest + self.settings.verdict_after(self.lag_score))
    }

    /// One call into foca, then everything that follows from it.
    fn drive<F>(&mut self, now: Instant, out: &mut Vec<Effect>, call: F)
    where
        F: FnOnce(
            &mut Foca<Identity, GossipCodec, FocaRng, NoCustomBroadcast>,
            Outlet<'_>,
        ) -> Result<(), foca::Error>,
    {
        let outlet = Outlet {
            now,
            me: self.foca.identity().node,
            timers: &mut self.timers,
            notices: &mut self.notices,
            out,
        };
        if let Err(error) = call(&mut self.foca, outlet) {
            out.push(Effect::Refused(refusal(error)));
        }
        self.compare_members(now, out);
        self.take_notices(now, out);
    }

    fn take_notices(&mut self, now: Instant, out: &mut Vec<Effect>) {
        for notice in std::mem::take(&mut self.notices) {
            match notice {
                Notice::Active => {
                    if self.phase == Phase::Seeking {
                        self.phase = Phase::Active;
                        out.push(Effect::Joined);
                    }
                }
                Notice::Idle => {
                    self.seek(now);
                    out.push(Effect::Alone);
                }
                Notice::Rejoined(identity) => {
                    self.seek(now);
                    out.push(Effect::Rejoined(identity));
                }
                // Only after 2^32 renewals in one run, and after our own goodbye.
                Notice::Defunct => self.phase = Phase::Left,
            }
        }
    }

    /// Reads foca's list and tells what changed.
    ///
    /// A diff of the list and not foca's notices: it also shows suspicions, and it shows a member
    /// that was down and came back within one datagram as the change it is.
    fn compare_members(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let me = self.foca.identity().node;
        let mut found = 0;
        let mut fresh = BTreeMap::new();
        for entry in self.foca.iter_membership_state() {
            let identity = *entry.id();
            if identity.node == me {
                continue;
            }
            found += 1;
            let state = member_state(entry.state());
            let known = self.members.get(&identity.node);
            if !known.is_some_and(|m| m.identity == identity && m.state == state) {
                fresh.insert(identity.node, (identity, state));
            }
        }
        for (node, (identity, state)) in &fresh {
            let before = self.members.get(node).copied();
            let same_state = before.filter(|m| m.state == *state);
            let member = Member {
                identity: *identity,
                state: *state,
                since: same_state.map_or(now, |m| m.since),
            };
            self.members.insert(*node, member);
            tell_change(before, member, out);
        }
        if self.members.len() > found {
            self.forget_missing(out);
        }
    }

    fn forget_missing(&mut self, out: &mut Vec<Effect>) {
        let list = self.foca.iter_membership_state();
        let present: std::collections::BTreeSet<NodeId> = list.map(|m| m.id().node).collect();
        self.members.retain(|node, _| {
            let keep = present.contains(node);
            if !keep {
                out.push(Effect::Forgotten(*node));
            }
            keep
        });
    }

    /// Begins to announce at once.
    fn seek(&mut self, now: Instant) {
        self.phase = Phase::Seeking;
        self.announce_due = Some(now);
    }

    fn meet(&mut self, now: Instant, identity: Identity, out: &mut Vec<Effect>) {
        let identity = Identity {
            renewal: identity.renewal,
            ..Identity::new(identity.node, identity.address, identity.generation)
        };
        if identity.node == self.foca.identity().node || self.is_active(identity) {
            return;
        }
        if self.meetings.len() >= MEETINGS_MAX && !self.meetings.contains_key(&identity.node) {
            self.meetings.pop_last();
        }
        let attempts = 1;
        self.meetings
            .insert(identity.node, Meeting { identity, attempts });
        self.drive(now, out, |foca, outlet| foca.announce(identity, outlet));
        self.announce_due
            .get_or_insert(now + self.settings.announce_period);
    }

    /// Whether the node is an active member under this identity or a newer one.
    fn is_active(&self, identity: Identity) -> bool {
        self.members.get(&identity.node).is_some_and(|member| {
            member.state != MemberState::Down && !identity.supersedes(&member.identity)
        })
    }

    fn announce(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let meetings = std::mem::take(&mut self.meetings);
        let lonely = self.phase == Phase::Seeking;
        for (node, mut meeting) in meetings {
            meeting.attempts = meeting.attempts.saturating_add(1);
            // Alone, a seed is kept for ever: it may be the only way in.
            let worth = lonely || meeting.attempts <= ANNOUNCE_ATTEMPTS_MAX;
            if worth && !self.is_active(meeting.identity) {
                self.meetings.insert(node, meeting);
            }
        }
        let mut targets: BTreeMap<NodeId, Identity> = BTreeMap::new();
        if lonely {
            targets.extend(self.members.iter().map(|(node, m)| (*node, m.identity)));
        }
        targets.extend(self.meetings.iter().map(|(node, m)| (*node, m.identity)));
        let targets: Vec<Identity> = targets.into_values().collect();
        for offset in 0..targets.len().min(ANNOUNCE_FANOUT_MAX) {
            let target = targets[(self.announce_turn + offset) % targets.len()];
            self.drive(now, out, |foca, outlet| foca.announce(target, outlet));
        }
        self.announce_turn = self.announce_turn.wrapping_add(ANNOUNCE_FANOUT_MAX);
        let again = lonely || !self.meetings.is_empty();
        self.announce_due = again.then(|| {
            let pause = self.settings.announce_period;
            now + pause + pause.mul_f64(self.jitter.random_range(0.0..0.25))
        });
    }

    fn leave(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let active = self.foca.num_members();
        self.foca
            .set_config(self.settings.leave_config(active))
            .expect("only fan-out and transmissions differ, which may change at run time");
        self.phase = Phase::Leaving {
            rounds_left: LEAVE_ROUNDS - 1,
            next: now + self.settings.leave_period,
        };
        let phase = self.phase;
        self.drive(now, out, |foca, outlet| foca.leave_cluster(outlet));
        self.phase = phase;
        self.timers.clear();
        if active == 0 {
            self.phase = Phase::Left;
            out.push(Effect::Left);
        }
    }

    fn say_goodbye(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let Phase::Leaving { rounds_left, next } = self.phase else {
            return;
        };
        if now < next {
            return;
        }
        if rounds_left == 0 {
            self.phase = Phase::Left;
            out.push(Effect::Left);
            return;
        }
        self.drive(now, out, |foca, outlet| foca.gossip(outlet));
        self.phase = Phase::Leaving {
            rounds_left: rounds_left - 1,
            next: now + self.settings.leave_period,
        };
    }
}

#[cfg(test)]
impl Membership {
    /// Somebody said that a member is suspect, and this is the only node that heard it.
    fn hear_suspicion(&mut self, now: Instant, suspect: Identity) {
        let incarnation = self.incarnation_of(suspect).expect("a member");
        let hearsay = foca::Member::new(suspect, incarnation, State::Suspect);
        let mut out = Vec::new();
        self.drive(now, &mut out, |foca, outlet| {
            foca.apply_many(std::iter::once(hearsay), false, outlet)
        });
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("me", self.foca.identity())
            .field("phase", &self.phase)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

fn member_state(state: State) -> MemberState {
    match state {
        State::Alive => MemberState::Alive,
        State::Suspect => MemberState::Suspect,
        State::Down => MemberState::Down,
    }
}

/// The effects of one member's change, in the order a reader expects them.
fn tell_change(before: Option<Member>, after: Member, out: &mut Vec<Effect>) {
    let node = after.identity.node;
    let was_active = before.filter(|m| m.state != MemberState::Down);
    match (was_active, after.state) {
        // Known only as down, from others' talk: nothing was lost here.
        (None, MemberState::Down) => {}
        (None, MemberState::Alive) => out.push(Effect::MemberUp(after)),
        (None, MemberState::Suspect) => {
            out.push(Effect::MemberUp(after));
            out.push(Effect::Suspected(node));
        }
        (Some(before), MemberState::Down) => out.push(Effect::MemberDown {
            node,
            generation: before.identity.generation,
        }),
        (Some(before), MemberState::Alive | MemberState::Suspect) => {
            if before.identity != after.identity {
                out.push(Effect::MemberChanged {
                    before: before.identity,
                    after: after.identity,
                });
            }
            match (before.state, after.state) {
                (MemberState::Alive, MemberState::Suspect) => out.push(Effect::Suspected(node)),
                (MemberState::Suspect, MemberState::Alive) => out.push(Effect::Refuted(node)),
                _ => {}
            }
        }
    }
}

fn refusal(error: foca::Error) -> MembershipError {
    match error {
        foca::Error::DataFromOurselves => MembershipError::FromOurselves,
        foca::Error::Decode(reason) | foca::Error::CustomBroadcast(reason) => {
            MembershipError::Malformed {
                reason: reason.to_string(),
            }
        }
        foca::Error::MalformedPacket | foca::Error::IndirectForOurselves => {
            MembershipError::Malformed {
                reason: error.to_string(),
            }
        }
        foca::Error::NotUndead
        | foca::Error::SameIdentity
        | foca::Error::NotConnected
        | foca::Error::IncompleteProbeCycle
        | foca::Error::DataTooBig
        | foca::Error::Encode(_)
        | foca::Error::InvalidConfig => MembershipError::Engine {
            detail: error.to_string(),
        },
    }
}
