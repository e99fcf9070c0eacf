//! Deliberate bugs, to prove that the tests would find them: each breaks one rule that a promise
//! rests on.
//!
//! They exist only with the feature `canaries`, which nothing but the simulator's own test of them
//! turns on; without it every question here is answered *no* at compile time (`BUILT`; the product
//! refuses to compile with it). One is chosen at run time, for the thread that simulates a cluster.
//! A canary that the swarm does not catch is a hole in the swarm.
//!
//! Absent: any other switch of behaviour. What is here is never right.

/// A deliberate bug.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Canary {
    /// Votes and acknowledgements leave before they are synced (G3).
    AckBeforeSync,
    /// A restart forgets for whom a replica has voted.
    ForgetVote,
    /// A turn is answered when it is in its leader's log, before it is committed (G3). It stands
    /// for a deposed leader's proposal that is forwarded to its successor: that would take four
    /// broken rules at once (a leadership that is not closed, a proposal that looks at no term, a
    /// wrapper that forwards, an apply that takes any term), each of which is masked by the others.
    /// What they guard, that only what its own term has committed counts, is broken here alone.
    AnsweredAtProposal,
    /// In a joint membership the new voters alone decide.
    JointQuorum,
    /// Snapshots are sent without the records of requests (G2).
    SnapshotWithoutRecords,
    /// An installed snapshot leaves rows of before behind.
    InstallKeepsRows,
    /// Reads are answered without a proof of leadership (G4).
    ReadUnproven,
    /// A leader serves before it has applied an entry of its own term.
    ServeUnopened,
    /// A turn counts on whatever version it was built (G1), and a leader serves before it has
    /// applied an entry of its own term. Within one opened leadership a turn stands on the one
    /// before, so that the first alone changes nothing; what it must stop is the turn that such an
    /// early leader builds on old rows.
    VersionUnchecked,
    /// Accepted messages do not move the mark of their source.
    AcceptWithoutMark,
    /// Messages leave, and their numbers are given again.
    OutboxWithoutMark,
    /// A message's turn commits, and its row stays.
    InboxRowStays,
    /// A turn commits, and its request is not recorded.
    RecordForgotten,
    /// A gateway reports that a call did not run that may have run.
    UnknownAsNotRun,
    /// The dead voter goes before its replacement is there.
    ShrinkBeforeReplace,
    /// Replicas are deleted on a hint, without a look at the membership.
    DeleteOnHint,
    /// A late message brings a removed replica back.
    BelowTombstone,
    /// A condemned replica begins again under its old peer id.
    SamePeerAgain,
    /// What others remember of this node's promises is ignored.
    MarkIgnored,
    /// Events are appended, and their offsets are given again (G9).
    OffsetAgain,
    /// Verdicts are confirmed and not kept (G9).
    CursorForgotten,
    /// Names of events are written down, and nobody looks for them (G9).
    NameUnread,
    /// A group that is moved back keeps what it had settled.
    SeekKeepsSettled,
    /// A paused group is given events.
    PauseUnread,
    /// Events go at half of their time (G9).
    TrimmedEarly,
    /// What a turn publishes leaves when the turn ends, before it is committed (G2).
    PublishAtOnce,
    /// What a turn publishes to a topic of its own partition is appended, and kept for it in the
    /// outbox as well (G2).
    PublishTwice,
    /// What a turn publishes to a topic of its own partition is appended, and the topic's groups
    /// hear nothing of it (G9).
    PublishUntold,
    /// Accepted events do not move the mark of their source, unless a message for an actor comes
    /// with them (G2).
    EventWithoutMark,
    /// Verdicts of before a group was moved count after it.
    OldVerdictCounts,
    /// Events become messages to their actors in the order in which their subscribers are done with
    /// them.
    ForwardEarly,
}

impl Canary {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::AckBeforeSync,
        Self::ForgetVote,
        Self::AnsweredAtProposal,
        Self::JointQuorum,
        Self::SnapshotWithoutRecords,
        Self::InstallKeepsRows,
        Self::ReadUnproven,
        Self::ServeUnopened,
        Self::VersionUnchecked,
        Self::AcceptWithoutMark,
        Self::OutboxWithoutMark,
        Self::InboxRowStays,
        Self::RecordForgotten,
        Self::UnknownAsNotRun,
        Self::ShrinkBeforeReplace,
        Self::DeleteOnHint,
        Self::BelowTombstone,
        Self::SamePeerAgain,
        Self::MarkIgnored,
        Self::OffsetAgain,
        Self::CursorForgotten,
        Self::NameUnread,
        Self::SeekKeepsSettled,
        Self::PauseUnread,
        Self::TrimmedEarly,
        Self::PublishAtOnce,
        Self::PublishTwice,
        Self::PublishUntold,
        Self::EventWithoutMark,
        Self::OldVerdictCounts,
        Self::ForwardEarly,
    ];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|canary| format!("{canary:?}") == name)
    }
}

/// Whether this build has canaries.
pub const BUILT: bool = cfg!(feature = "canaries");

#[cfg(feature = "canaries")]
mod cage {
    use std::cell::Cell;

    use super::Canary;

    thread_local! {
        static CHOSEN: Cell<Option<Canary>> = const { Cell::new(None) };
    }

    /// Chooses the bug that this thread has from now on; `None`: it has none.
    pub fn choose(canary: Option<Canary>) {
        CHOSEN.set(canary);
    }

    /// Whether this bug was chosen.
    #[must_use]
    pub fn sings(canary: Canary) -> bool {
        CHOSEN.get() == Some(canary)
    }
}

#[cfg(feature = "canaries")]
pub use cage::{choose, sings};

/// Whether this bug was chosen: never, in a build without canaries.
#[cfg(not(feature = "canaries"))]
#[must_use]
pub const fn sings(_: Canary) -> bool {
    false
}

// The compiler itself sees that no branch of any canary is left.
#[cfg(not(feature = "canaries"))]
const _: () = {
    let mut number = 0;
    while number < Canary::ALL.len() {
        assert!(!sings(Canary::ALL[number]));
        number += 1;
    }
};
