//! What passes between the core and the applications beside this node.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{Metadata, Standing};
use ghostlight_protocol::command::{DataForm, FailurePolicy, ScheduleKind, ScheduleRow};
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};

use crate::turn_io::OutMessage;

/// One process of an application, as this node has seen it. The same process keeps its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppInstance(pub u64);

/// Number of one request to an application.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Exchange(pub u64);

/// The shell's number of one call of an application to its node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppTicket(pub u64);

/// An actor type that an application hosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppType {
    /// Its name.
    pub name: String,
    /// How long an object without work is kept.
    pub idle: Duration,
    /// How long a running turn may go on when its actor is to run elsewhere.
    pub drain: Duration,
    /// Whether it may go on at all.
    pub drains: Drains,
    /// Calls of one chain that may be inside the actor at once.
    pub depth: Reentrancy,
}

/// Whether a running turn may end before its actor runs elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drains {
    /// It may, for as long as the type says.
    Yes,
    /// It is cut.
    No,
}

/// Whether a call of the same chain may enter a running turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reentrancy {
    /// It waits, like any other.
    Off,
    /// It enters, up to this depth.
    Depth(u32),
}

/// What the core asks of the channel to the applications.
#[derive(Clone, PartialEq, Debug)]
pub enum AppEffect {
    /// Ask an application; `AppInput::Answered` follows in any case.
    Ask {
        /// The answer repeats it.
        exchange: Exchange,
        /// Which process.
        instance: AppInstance,
        /// What.
        request: AppRequest,
    },
    /// An application's call is over.
    Answer {
        /// The shell's number.
        ticket: AppTicket,
        /// How it ended.
        outcome: AppOutcome,
    },
}

/// What the core hears about applications.
#[derive(Clone, PartialEq, Debug)]
pub enum AppInput {
    /// A process is ready for its actors, or hosts other types now.
    Hosting {
        /// The application.
        app: String,
        /// The process; one that was there before has the objects that it had.
        instance: AppInstance,
        /// The types.
        types: Vec<AppType>,
        /// Actors that the process may hold, also of an earlier run of this node.
        objects: Vec<ActorKey>,
        /// Other processes of the application that were here and have not ended: they have their
        /// objects, too.
        living: Vec<AppInstance>,
    },
    /// The process cannot be reached, or has ended.
    Gone {
        /// The application.
        app: String,
        /// The process.
        instance: AppInstance,
        /// What happened.
        why: String,
    },
    /// A request is over.
    Answered {
        /// Which.
        exchange: Exchange,
        /// How.
        answer: AppAnswer,
    },
    /// An application calls its node.
    Call {
        /// The shell's number.
        ticket: AppTicket,
        /// The actor that it is about.
        actor: ActorKey,
        /// What it wants.
        call: AppCall,
    },
}

/// One request to an application.
#[derive(Clone, PartialEq, Debug)]
pub struct AppRequest {
    /// Whose.
    pub actor: ActorKey,
    /// What.
    pub callback: Callback,
    /// What travels beside the body: headers, `content-type`, and `:query`.
    pub metadata: Vec<Metadata>,
    /// The turn's token; absent outside of turns.
    pub turn: Option<String>,
}

/// See [`AppRequest::callback`].
#[derive(Clone, PartialEq, Debug)]
pub enum Callback {
    /// A method call.
    Method {
        /// Cleaned method name.
        method: String,
        /// The caller's body.
        body: Bytes,
    },
    /// A reminder has fired.
    Reminder {
        /// Its name.
        name: String,
        /// What was given with it.
        data: Option<Bytes>,
        /// In which form.
        form: DataForm,
    },
    /// A timer has fired.
    Timer {
        /// Its name.
        name: String,
        /// The method it calls.
        callback: String,
        /// What was given with it.
        data: Option<Bytes>,
        /// In which form.
        form: DataForm,
        /// As it was given.
        due_time: String,
        /// As it was given.
        period: String,
    },
    /// Forget the object.
    Deactivate,
}

/// How a request to an application ended.
#[derive(Clone, PartialEq, Debug)]
pub enum AppAnswer {
    /// It answered.
    Answered {
        /// HTTP status.
        status: u16,
        /// Headers, names in lower case.
        headers: Vec<Metadata>,
        /// The body.
        body: Bytes,
        /// Whether it is an error of the actor although its status is 200.
        kind: AnswerKind,
        /// What it wants of the reminder or timer that fired.
        wish: ghostlight_protocol::wire::host::Wish,
    },
    /// There is no answer, and there will be none.
    NoAnswer {
        /// What happened.
        why: String,
        /// Whether the application may have seen the request.
        sent: Sent,
    },
}

/// See [`AppAnswer::Answered`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerKind {
    /// As its status says.
    Plain,
    /// An error of the actor, passed on untouched.
    ActorError,
}

/// Whether a request without an answer may have reached the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Not one byte of it.
    CertainlyNot,
    /// It may have run, or may run later.
    Maybe,
}

/// What an application wants of its node.
#[derive(Clone, PartialEq, Debug)]
pub enum AppCall {
    /// Changes state, all or nothing.
    StateTransaction(Vec<StateOp>),
    /// A transaction was refused before it came here: the object believes what is not so.
    StateRefused,
    /// Reads a state value.
    StateGet {
        /// Its key.
        key: Bytes,
    },
    /// Sets a reminder or timer.
    ScheduleSet {
        /// Which of the two.
        kind: ScheduleKind,
        /// Its name.
        name: String,
        /// What it is to be.
        wanted: Box<ScheduleSpec>,
    },
    /// Removes a reminder or timer, which need not exist.
    ScheduleUnset {
        /// Which of the two.
        kind: ScheduleKind,
        /// Its name.
        name: String,
    },
    /// Reads a reminder or timer.
    ScheduleGet {
        /// Which of the two.
        kind: ScheduleKind,
        /// Its name.
        name: String,
    },
    /// All reminders, or all timers, of the actor.
    ScheduleList(ScheduleKind),
    /// Removes all reminders, or all timers, of the actor.
    ScheduleClear(ScheduleKind),
    /// Keys of the actor's state, ascending.
    StateKeys {
        /// Strictly after this one; empty: from the beginning.
        after: Bytes,
        /// Most of them.
        limit: u32,
    },
    /// Deletes the actor with all its state, reminders and timers.
    Delete,
    /// Actors of the actor's type that have something in a partition; the actor itself only names
    /// the type.
    ActorsOfType {
        /// The partition.
        partition: PartitionId,
        /// Strictly after this, which an earlier page gave; empty: from the beginning.
        after: Bytes,
        /// Most of them.
        limit: u32,
    },
    /// Reminders, or timers, of the actor's type in a partition; the actor itself only names the
    /// type.
    SchedulesOfType {
        /// The partition.
        partition: PartitionId,
        /// Which of the two.
        kind: ScheduleKind,
        /// Strictly after this, which an earlier page gave; empty: from the beginning.
        after: Bytes,
        /// Most of them.
        limit: u32,
    },
    /// Whose turn it is and who waits, as the actor's leader sees it at this moment.
    Inspect,
    /// Joins a turn that runs in the application; the actor that it is about is who is called, or
    /// gets the first message.
    Join {
        /// The turn's token, as it was handed out with the callback.
        token: String,
        /// What joins it.
        what: Joining,
    },
}

/// See [`AppCall::Join`].
#[derive(Clone, PartialEq, Debug)]
pub enum Joining {
    /// Calls an actor under an id that follows from the turn's request: a turn that is run again
    /// calls nobody twice.
    Call {
        /// Cleaned method name.
        method: String,
        /// The body.
        body: Bytes,
        /// What travels beside the body.
        metadata: Vec<Metadata>,
        /// How long the application waits; `None`: as long as a call of a turn may take.
        timeout: Option<Duration>,
    },
    /// Messages that leave with what the turn commits, events among them.
    Send(Vec<OutMessage>),
}

/// A reminder or timer as it was asked for; times as texts, which are read when it is set.
#[derive(Clone, PartialEq, Debug)]
pub struct ScheduleSpec {
    /// When it fires first; empty: now.
    pub due_time: String,
    /// How it repeats; empty: it fires once.
    pub period: String,
    /// When it ends; empty: never.
    pub ttl: String,
    /// What it hands to the actor.
    pub data: Option<Bytes>,
    /// In which form.
    pub form: DataForm,
    /// The method that a timer calls.
    pub callback: String,
    /// Whether one of that name is replaced.
    pub overwrite: Overwrite,
    /// What happens when a firing fails; `None`: three retries, one second apart.
    pub failure: Option<FailurePolicy>,
}

/// See [`ScheduleSpec::overwrite`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overwrite {
    /// It is.
    Yes,
    /// It is an error.
    No,
}

/// One change of state.
#[derive(Clone, PartialEq, Debug)]
pub enum StateOp {
    /// Writes a value.
    Upsert {
        /// Its key.
        key: Bytes,
        /// Byte for byte.
        value: Bytes,
        /// How long it counts; `None`: for ever.
        ttl: Option<Duration>,
    },
    /// Removes a value, which need not exist.
    Delete {
        /// Its key.
        key: Bytes,
    },
}

/// How an application's call ended.
#[derive(Clone, PartialEq, Debug)]
pub enum AppOutcome {
    /// It was done.
    Done,
    /// Of `StateGet`.
    Value(Option<StateValue>),
    /// Of `ScheduleGet` and `ScheduleList`: names and rows.
    Schedules(Vec<(String, ScheduleRow)>),
    /// Of `StateKeys`.
    Keys(Vec<Bytes>),
    /// Of `ActorsOfType`: a page, and what the next one begins after; empty: there is none.
    Actors(Vec<ActorKey>, Bytes),
    /// Of `SchedulesOfType`, the same.
    OwnedSchedules(Vec<(ActorKey, String, ScheduleRow)>, Bytes),
    /// Of `Inspect`; `None`: the actor is not in memory.
    Standing(Option<Box<Standing>>),
    /// No object of that actor is here.
    InstanceMissing,
    /// No application beside this node has the actor's type.
    NotHosted,
    /// A reminder of that name is there already.
    AlreadyExists,
    /// There is no reminder of that name.
    NotFound,
    /// What was asked for cannot be read; the text is Dapr's.
    Malformed(String),
    /// It was not done.
    Refused(NotRun),
    /// It may have been done.
    Unknown(String),
    /// Of a call that has joined a turn.
    Called(Box<CallOutcome>),
}

/// A state value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateValue {
    /// Byte for byte what was written.
    pub data: Bytes,
    /// From when on it no longer counts, milliseconds since the epoch.
    pub expires_ms: Option<u64>,
}
