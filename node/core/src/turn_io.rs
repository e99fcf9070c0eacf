//! The border between the core and whoever runs turns.
//!
//! A turn is opaque to the core. The core says *run*, the runner may *ask* (state, another actor)
//! and is *told* the answer, and finally says how the turn *ended*. What a turn writes and sends is
//! staged by the runner and handed over only with its end: nothing leaves early.

use std::fmt;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AppReply, Metadata, Stamp};
use ghostlight_protocol::command::{ScheduleWrite, StateWrite};
use ghostlight_protocol::ids::{ActorVersion, PartitionId, Term};
use ghostlight_protocol::outcome::{AppError, CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::text;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::host::{Wakeup, Wish};

/// One in-memory life of an actor on this node: belongs to one leadership of its partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ActivationId {
    /// The actor's partition.
    pub partition: PartitionId,
    /// The leadership it belongs to.
    pub term: Term,
    /// Counts the activations of that leadership, from 1.
    pub number: u64,
}

/// One turn of an activation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TurnId {
    /// Whose turn it is.
    pub activation: ActivationId,
    /// Counts the turns of the activation, from 1.
    pub number: u64,
}

impl fmt::Debug for TurnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ActivationId {
            partition,
            term,
            number,
        } = self.activation;
        write!(f, "{partition}.{term}.a{number}.{}", self.number)
    }
}

/// Orders effects outside the system: a later turn of the same actor has a higher token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FencingToken {
    /// Term of the leadership the turn runs under.
    pub term: Term,
    /// Version of the actor the turn is built on, uncommitted turns included.
    pub base: ActorVersion,
}

/// Everything a runner needs to begin a turn.
#[derive(Clone, PartialEq, Debug)]
pub struct TurnStart {
    /// The turn.
    pub turn: TurnId,
    /// The actor.
    pub actor: ActorKey,
    /// Cleaned method name.
    pub method: String,
    /// The body.
    pub body: Bytes,
    /// The request it runs for; for an accepted message, an id derived from its place in the log.
    pub request: RequestId,
    /// What `cx.now` and `cx.rng` show.
    pub stamp: Stamp,
    /// When the caller stops waiting. The turn is not stopped by it.
    pub deadline: Option<Instant>,
    /// Actors that wait for this turn, outermost first, without this one.
    pub chain: Vec<ActorKey>,
    /// Handed to effects outside the system.
    pub token: FencingToken,
    /// What travels beside the body, for an application.
    pub metadata: Vec<Metadata>,
    /// The reminder or timer that it runs; `None`: a method.
    pub wakeup: Option<Box<Wakeup>>,
}

/// A call of the same chain that enters a running turn of an application.
#[derive(Clone, PartialEq, Debug)]
pub struct TurnEntry {
    /// The turn that it enters.
    pub turn: TurnId,
    /// Counts the calls that have entered it, from 1.
    pub entry: u32,
    /// Cleaned method name.
    pub method: String,
    /// The body.
    pub body: Bytes,
    /// What travels beside the body.
    pub metadata: Vec<Metadata>,
}

/// What a running turn asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum TurnAsk {
    /// One state row of this actor: committed rows under the uncommitted writes of earlier turns.
    Get {
        /// Key inside the actor.
        key: Bytes,
    },
    /// State rows of this actor whose key begins with `prefix`, ascending, strictly after `after`.
    Scan {
        /// Beginning of the keys.
        prefix: Bytes,
        /// Last key of the page before.
        after: Option<Bytes>,
        /// Most rows to return.
        limit: usize,
    },
    /// Calls another actor and waits.
    Call {
        /// The called actor.
        actor: ActorKey,
        /// Cleaned method name.
        method: String,
        /// The body.
        body: Bytes,
        /// Latest moment to wait for; never beyond the turn's own deadline.
        deadline: Option<Instant>,
        /// What travels beside the body, for an application.
        metadata: Vec<Metadata>,
        /// Which of the turn's calls it is, from 0; `None`: the next one. A host counts where a
        /// turn outlives its leader.
        ordinal: Option<u32>,
    },
    /// Commits what is staged so far, and goes on after it (a *part* of an application's turn).
    /// From then on the request is never run again.
    Commit(Box<Staged>),
    /// A call that had entered the turn is over: `Answered` with all that the turn has staged so
    /// far, `NotStarted`, or `Lost`. Only `Answered` is told about, by `Part`.
    Left {
        /// Which: `TurnEntry::entry`.
        entry: u32,
        /// How.
        end: Box<TurnEnd>,
    },
}

/// What a turn leaves behind.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Staged {
    /// State rows, each key at most once.
    pub writes: Vec<StateWrite>,
    /// Messages to other actors, exactly once, in this order.
    pub sends: Vec<OutMessage>,
    /// Reminders and timers of this actor, each at most once.
    pub schedule: Vec<ScheduleWrite>,
}

impl Staged {
    /// Whether it changes state or sends: then the actor's version goes up with it.
    #[must_use]
    pub fn raises_version(&self) -> bool {
        !self.writes.is_empty() || !self.sends.is_empty()
    }
}

/// What became of a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartEnd {
    /// It is committed; the actor's version after it.
    Committed(ActorVersion),
    /// There was nothing to commit.
    Nothing,
    /// A reminder that must not be replaced is there already: nothing was committed, the turn goes
    /// on.
    ScheduleThere,
    /// Nothing was committed, the turn goes on; what was wrong.
    Refused(NotRun),
}

/// The answer to a [`TurnAsk`].
#[derive(Clone, PartialEq, Debug)]
pub enum TurnTold {
    /// Of `Get`.
    Value(Option<Bytes>),
    /// Of `Scan`: keys inside the actor, and values. Pages are cut by bytes too: only none at all
    /// is the end.
    Rows(Vec<(Bytes, Bytes)>),
    /// Of `Call`.
    Called(CallOutcome),
    /// Of `Commit`.
    Part(PartEnd),
    /// The turn's leadership is over; whatever it does no longer counts. End it.
    Deposed,
}

/// How a turn ended.
#[derive(Clone, PartialEq, Debug)]
pub enum TurnEnd {
    /// It succeeded; everything staged commits with the reply. Nothing staged: a read.
    Ok {
        /// The reply.
        reply: Bytes,
        /// State rows, each key at most once.
        writes: Vec<StateWrite>,
        /// Messages to other actors, exactly once, in this order.
        sends: Vec<OutMessage>,
        /// Reminders of this actor, each at most once.
        schedule: Vec<ScheduleWrite>,
    },
    /// The application refused; everything staged is dropped.
    App(AppError),
    /// The runner refused before any of the actor's code ran: unknown type or method, bad argument.
    Refused(NotRun),
    /// Whoever ran it is gone in mid-turn (an application that died, a broken connection):
    /// everything staged is dropped. Its caller hears that the outcome is unknown, and it is not
    /// run again: a call that kills its host must not go from node to node.
    Lost {
        /// What happened, for people.
        detail: String,
    },
    /// The actor's code panicked; everything staged is dropped and the activation is broken.
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// An application answered. Whatever it answered, what it staged commits with that.
    Answered(Box<Answered>),
    /// It did not reach the application: nothing ran, and it may run elsewhere.
    NotStarted {
        /// What happened, for people.
        detail: String,
    },
}

/// See [`TurnEnd::Answered`].
#[derive(Clone, PartialEq, Debug)]
pub struct Answered {
    /// What it answered.
    pub answer: Result<AppReply, AppError>,
    /// What it staged since its last part.
    pub staged: Staged,
    /// Of a turn that ran a reminder or timer: whether that goes on.
    pub wish: Wish,
}

impl TurnEnd {
    /// The same with every text for people cut to its bound: what a runner says may be anything.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Ok { .. } => self,
            Self::Answered(answered) => Self::Answered(Box::new(Answered {
                answer: answered.answer.map_err(AppError::bounded),
                ..*answered
            })),
            Self::NotStarted { detail } => Self::NotStarted {
                detail: text::cut(detail),
            },
            Self::App(error) => Self::App(error.bounded()),
            Self::Refused(refusal) => Self::Refused(refusal.bounded()),
            Self::Lost { detail } => Self::Lost {
                detail: text::cut(detail),
            },
            Self::Panicked { message } => Self::Panicked {
                message: text::cut(message),
            },
        }
    }
}

/// One message that leaves with a turn's commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutMessage {
    /// Receiving actor.
    pub actor: ActorKey,
    /// Cleaned method name.
    pub method: String,
    /// The body.
    pub body: Bytes,
}

/// Effects towards the runner.
#[derive(Clone, PartialEq, Debug)]
pub enum RunnerEffect {
    /// Begin a turn. The activation's object is created by its first turn.
    Run(TurnStart),
    /// Calls the object of a running turn. Only applications' turns are entered.
    Enter(TurnEntry),
    /// Answers the `number`-th ask of a turn (from 1).
    Tell {
        /// The turn that asked.
        turn: TurnId,
        /// Which of its asks.
        ask: u32,
        /// The answer.
        told: TurnTold,
    },
    /// The last turn of the activation was rolled back: forget the in-memory state, load it again
    /// with the next turn.
    Reset(ActivationId),
    /// The activation is over; a running turn is abandoned (its future may be dropped).
    Drop(ActivationId),
    /// The same, because its leadership is over. A turn that runs in an application goes on: the
    /// next leader may start the same call, and then gets what it answers. All other turns are
    /// abandoned.
    Depose(ActivationId),
}

/// Inputs from the runner.
#[derive(Clone, PartialEq, Debug)]
pub enum RunnerInput {
    /// A running turn asks; `ask` counts its asks from 1.
    Asked {
        /// The turn.
        turn: TurnId,
        /// Number of the ask.
        ask: u32,
        /// The question.
        what: TurnAsk,
    },
    /// A turn is over.
    Ended {
        /// The turn.
        turn: TurnId,
        /// How.
        end: TurnEnd,
    },
}
