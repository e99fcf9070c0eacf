//! What an application asks about its actors beside calling them: state, reminders, timers.
//!
//! In: calls whose names, texts and bodies are checked, the same whichever transport brought them.
//! Out: typed outcomes, which `error_map` turns into Dapr's answers. One implementation stands on
//! the node's core; there is one object per application, because a listener is its app-id. Absent:
//! which actor is where, what counts when, what a transaction may do. That is the implementation's.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use ghostlight_protocol::time::WallTime;

/// Operations of one transaction.
pub const TRANSACTION_OPERATIONS_MAX: usize = 10_000;
/// Name of a reminder or timer, in bytes.
pub const SCHEDULE_NAME_BYTES_MAX: usize = 512;

/// The way from the API of one application to its actors.
pub trait AppCalls: Send + Sync + std::fmt::Debug {
    /// Asks or tells something about one actor.
    ///
    /// A dropped future frees the caller; what was told may still happen.
    fn app_call(&self, actor: ActorKey, call: AppCall) -> BoxFuture<'_, AppCallOutcome>;

    /// Asks or tells something about the reminders of a type, or of one actor of it.
    fn reminders_call(&self, scope: Scope, call: RemindersCall) -> BoxFuture<'_, AppCallOutcome>;

    /// What the application hosts now, for health and metadata. Cheap: it reads what is in memory.
    fn hosting(&self) -> Hosting;

    /// Whether actors may be called through this node: not where no address of a cluster was given.
    fn calls(&self) -> Calls {
        Calls::Taken
    }
}

/// Whether actors may be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Calls {
    /// They may.
    Taken,
    /// No address of a cluster was given.
    NoPlacement,
}

/// How far the hosting of actors has come beside this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hosting {
    /// In Dapr's words.
    pub status: RuntimeStatus,
    /// Whether the types are announced.
    pub host: HostState,
    /// What stands between this node and its cluster.
    pub placement: PlacementState,
    /// Every hosted type with its active actors, in order; a type without any is listed, too.
    pub types: Vec<(String, u32)>,
    /// What health still waits for, such as `app`; empty: nothing.
    pub unready: Vec<&'static str>,
}

/// Dapr's `runtimeStatus`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RuntimeStatus {
    /// The application has not said yet what it hosts.
    Initializing,
    /// No address of a cluster was given.
    Disabled,
    /// It has.
    Running,
}

/// Dapr's `hostReady`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostState {
    /// Calls reach the application.
    Ready,
    /// They do not.
    NotReady,
}

/// Dapr's `placement`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlacementState {
    /// Nobody has asked yet.
    Unknown,
    /// The node is in its cluster.
    Connected,
    /// It is in none.
    Disconnected,
}

/// What one actor is asked or told.
#[derive(Clone, PartialEq, Debug)]
pub enum AppCall {
    /// All operations, in order, or none.
    StateTransaction(Vec<StateOp>),
    /// One was refused by the API, and the object that sent it may believe that it was not.
    StateRefused,
    /// One value.
    StateGet {
        /// Its key.
        key: String,
    },
    /// Registers a reminder.
    ReminderRegister {
        /// Name and schedule; what it carries.
        registration: Registration,
        /// What happens to one of this name.
        overwrite: Overwrite,
        /// What happens when a tick fails; `None`: [`FailurePolicy::DEFAULT`].
        failure_policy: Option<FailurePolicy>,
    },
    /// Ends a reminder; fine if there is none.
    ReminderUnregister {
        /// Its name.
        name: String,
    },
    /// Reads a reminder.
    ReminderGet {
        /// Its name.
        name: String,
    },
    /// Registers a timer, or replaces the one of this name.
    TimerRegister {
        /// Name and schedule; what it carries.
        registration: Registration,
        /// What the application calls when it fires.
        callback: String,
    },
    /// Ends a timer; fine if there is none.
    TimerUnregister {
        /// Its name.
        name: String,
    },
}

/// One operation of a transaction. Etags are accepted by the API and not kept: only turns write
/// state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateOp {
    /// Writes a value.
    Upsert {
        /// Its key, not empty.
        key: String,
        /// Its bytes, given back as they are.
        value: Bytes,
        /// How long it lives; `None`: for ever.
        ttl: Option<Duration>,
    },
    /// Removes a value; fine if there is none.
    Delete {
        /// Its key, not empty.
        key: String,
    },
}

/// A reminder or timer as it is registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Its name, checked.
    pub name: String,
    /// When it fires, as it was written; it was readable when it was taken.
    pub when: When,
    /// JSON that goes to the application; `None`: none was given.
    pub data: Option<Bytes>,
}

/// The texts of a schedule. `ghostlight_protocol::schedule` reads them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct When {
    /// When it fires first; empty: now.
    pub due_time: String,
    /// How it repeats; empty: it fires once.
    pub period: String,
    /// When it ends; empty: never.
    pub ttl: String,
}

/// What a registration does to a reminder of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overwrite {
    /// Replaces it.
    Replace,
    /// Leaves it and is refused.
    Refuse,
}

/// What happens when a reminder's tick fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailurePolicy {
    /// The tick is lost.
    Drop,
    /// It is tried again.
    Constant {
        /// Pause between attempts.
        interval: Duration,
        /// Attempts after the first; `None`: for ever.
        max_retries: Option<u32>,
    },
}

impl FailurePolicy {
    /// Dapr's: three more attempts, a second apart, then the tick is lost.
    pub const DEFAULT: Self = Self::Constant {
        interval: Duration::from_secs(1),
        max_retries: Some(3),
    };
}

/// Whose reminders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Those of one actor.
    Actor(ActorKey),
    /// Those of all actors of a type.
    Type {
        /// The namespace.
        namespace: String,
        /// The type, checked.
        actor_type: String,
    },
}

/// What is done with reminders of a [`Scope`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemindersCall {
    /// Reads them.
    List,
    /// Ends them.
    UnregisterAll,
}

/// How such a call ends.
pub type AppCallOutcome = Result<AppReply, AppRefusal>;

/// It was done.
#[derive(Clone, PartialEq, Debug)]
pub enum AppReply {
    /// There is nothing to say.
    Done,
    /// To `StateGet`; `None`: there is no such key.
    State(Option<StateValue>),
    /// To `ReminderGet`; `None`: there is no such reminder.
    Reminder(Option<Box<ReminderView>>),
    /// To `List`, in the order of actor and name.
    Reminders(Vec<NamedReminder>),
}

/// A value and its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateValue {
    /// The bytes.
    pub value: Bytes,
    /// When it expires.
    pub expires: Option<WallTime>,
}

/// A reminder as Dapr shows it; empty texts are left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReminderView {
    /// Actor type.
    pub actor_type: String,
    /// Actor id.
    pub actor_id: String,
    /// As it was registered.
    pub due_time: String,
    /// `@every 1s`.
    pub period: String,
    /// When it ends.
    pub expires: Option<WallTime>,
    /// JSON, as it was registered.
    pub data: Option<Bytes>,
}

/// One of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedReminder {
    /// Its name.
    pub name: String,
    /// The reminder.
    pub reminder: ReminderView,
}

/// It was not done, or nobody knows. Dapr's own cases first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AppRefusal {
    /// The actor is not active beside this node, or no more.
    InstanceMissing,
    /// The application beside this node does not host the type.
    NotHosted,
    /// There is a reminder of this name, and it may not be replaced.
    AlreadyExists,
    /// Actors are switched off: no state store is marked for them.
    RuntimeNotFound,
    /// There is no application.
    NoAppChannel,
    /// No address of a cluster was given.
    NoPlacement,
    /// Nobody hosts the type.
    NoAddress,
    /// The chain of re-entrant calls is too deep.
    StackDepth,
    /// This node is ending.
    Closed,
    /// It failed for another reason: a sentence that Dapr's text of the operation takes in.
    Failed(String),
    /// One of ours: certainly not done.
    NotRun(NotRun),
    /// It may have been done.
    Unknown {
        /// Which case.
        code: Code,
        /// What failed, why, and what to do.
        detail: String,
    },
}

/// Of a node that has no applications: nothing is hosted beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NoApplication;

impl AppCalls for NoApplication {
    fn app_call(&self, _actor: ActorKey, call: AppCall) -> BoxFuture<'_, AppCallOutcome> {
        let refusal = match call {
            AppCall::StateTransaction(_) => AppRefusal::InstanceMissing,
            AppCall::StateGet { .. } => AppRefusal::NoAppChannel,
            AppCall::ReminderRegister { .. }
            | AppCall::ReminderUnregister { .. }
            | AppCall::ReminderGet { .. }
            | AppCall::TimerRegister { .. } => AppRefusal::NotHosted,
            AppCall::StateRefused | AppCall::TimerUnregister { .. } => {
                return Box::pin(async { Ok(AppReply::Done) });
            }
        };
        Box::pin(async { Err(refusal) })
    }

    fn reminders_call(&self, _scope: Scope, _call: RemindersCall) -> BoxFuture<'_, AppCallOutcome> {
        Box::pin(async { Err(AppRefusal::NotHosted) })
    }

    fn hosting(&self) -> Hosting {
        Hosting {
            status: RuntimeStatus::Running,
            host: HostState::Ready,
            placement: PlacementState::Connected,
            types: Vec::new(),
            unready: Vec::new(),
        }
    }
}
