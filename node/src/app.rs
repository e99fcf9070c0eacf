//! The channel from a node to the applications beside it: it knows which process it talks to, and
//! asks it.
//!
//! In: [`AppChannel::send`], one request for one instance. Out: one [`AppAnswer`] for each request,
//! and [`AppEvent`]s through one bounded queue, in order. Invariant: a request for an instance
//! travels only over connections that are known to end in that instance's process
//! (`docs/decisions/0007`); what is answered after `Gone` is `NoAnswer`. Absent: which actor runs
//! where, when an object is reset, what a status means, who may call: the core's.

pub(crate) mod bridge;
mod callback;
pub mod config;
mod connection;
pub(crate) mod grpc_line;
pub(crate) mod health;
mod instance;
mod keeper;
mod memory;
mod owner;
mod pool;
pub(crate) mod probing;
mod registrar;
mod seats;
pub mod settings;
pub mod stream;
mod tls;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use instance::Instance;
use memory::Memories;
use owner::Image;
use registrar::Registrar;
use settings::{AppSettings, Protocol};

use crate::config::is_truthy;

/// Events that wait for the core; then the channel waits, and announces nothing more.
pub const APP_EVENTS_MAX: usize = 1_024;
/// Processes that are remembered, so that one which comes back is known again. Ended ones go first.
const PROCESSES_MAX: usize = 256;

/// Header of an answer that ends a reminder or a timer.
pub const CANCEL_HEADER: &str = "x-daprremindercancel";
/// Header of an answer that is an error of the actor although its status is 200 (.NET remoting).
pub const ACTOR_ERROR_HEADER: &str = "x-daprerrorresponseheader";

/// Name of an application, Dapr's app-id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppId(Arc<str>);

impl AppId {
    /// A name as it was given.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One process of an application, as this node has seen it. Counts up over all applications of the
/// node.
///
/// The same process keeps its id: `Gone` and then `Hosting` with the same id is a process that was
/// out of reach, and still has the objects it made. Where processes cannot be told apart the id is
/// a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstanceId(pub u64);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app{}", self.0)
    }
}

/// One callback to an application.
#[derive(Clone, PartialEq, Debug)]
pub struct AppRequest {
    /// Whose turn it is.
    pub actor: ActorKey,
    /// Dapr's reentrancy id, for types that have reentrancy on.
    pub reentrancy_id: Option<String>,
    /// The turn's token (header `Ghostlight-Turn`), by which calls and publishes join the turn.
    pub turn: Option<String>,
    /// What is asked.
    pub callback: Callback,
}

/// What an application is asked.
#[derive(Clone, PartialEq, Debug)]
pub enum Callback {
    /// A method call; always sent as `PUT`.
    Method {
        /// Cleaned method name.
        method: String,
        /// Query of the caller's request, without the question mark; may be empty.
        query: String,
        /// Headers of the caller's request. What concerns a connection, and the sidecar's token, is
        /// left out here.
        headers: Vec<(String, String)>,
        /// Content type of the body.
        content_type: Option<String>,
        /// The caller's body.
        body: Bytes,
    },
    /// A reminder has fired.
    Reminder {
        /// Its name.
        name: String,
        /// Raw JSON; `None`: it was registered without.
        data: Option<Bytes>,
    },
    /// A timer has fired.
    Timer {
        /// Its name.
        name: String,
        /// Name of the method that the application wants to be called; may be empty.
        callback: String,
        /// Raw JSON; `None`: it was registered without.
        data: Option<Bytes>,
        /// As it was registered.
        due_time: String,
        /// As it was registered.
        period: String,
    },
    /// Forget the object. Answered within [`DEACTIVATE_TIME_MAX`], or given up.
    Deactivate,
}

/// How long a `DELETE` may take.
pub const DEACTIVATE_TIME_MAX: Duration = Duration::from_secs(5);

/// Anything else that an application is asked: an event, a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Post {
    /// Path in the application, with or without its first slash.
    pub path: String,
    /// Headers; those that concern a connection, and the sidecar's token, are left out.
    pub headers: Vec<(String, String)>,
    /// Content type of the body.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// How a request to an application ended.
#[derive(Clone, PartialEq, Debug)]
pub enum AppAnswer {
    /// The application answered, whatever it said.
    Answered(Answered),
    /// There is no answer, and there will be none.
    NoAnswer {
        /// What happened, for the caller's error text.
        why: String,
        /// Whether the application may have seen the request.
        sent: Sent,
    },
}

/// What an application said.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered {
    /// HTTP status; of a stream 200, 404 for its NotFound, and 500 for any other failure.
    pub status: u16,
    /// Headers, names in lower case, without those that concern a connection or the body's length.
    pub headers: Vec<(String, String)>,
    /// Body, at most the application's `body_bytes_max`.
    pub body: Bytes,
}

/// Whether a request without an answer may have reached the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Not one byte of it.
    CertainlyNot,
    /// It may have run, may be running, or may run later.
    Maybe,
}

impl Answered {
    /// Value of a header, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it ends the reminder or timer that fired.
    #[must_use]
    pub fn cancels(&self) -> bool {
        self.header(CANCEL_HEADER).is_some_and(is_truthy)
    }

    /// Whether it is an error of the actor, to be passed on untouched.
    #[must_use]
    pub fn is_actor_error(&self) -> bool {
        self.header(ACTOR_ERROR_HEADER).is_some()
    }
}

impl AppAnswer {
    pub(crate) fn not_sent(why: impl Into<String>) -> Self {
        Self::NoAnswer {
            why: why.into(),
            sent: Sent::CertainlyNot,
        }
    }

    pub(crate) fn perhaps_sent(why: impl Into<String>) -> Self {
        Self::NoAnswer {
            why: why.into(),
            sent: Sent::Maybe,
        }
    }
}

/// What the channel reports. At most one instance of an application is hosting at a time.
#[derive(Clone, PartialEq, Debug)]
pub enum AppEvent {
    /// A process is ready for its actors. Repeated without a `Gone` when the same process announces
    /// other types.
    Hosting {
        /// The application.
        app: AppId,
        /// The process. One that was `Gone` before has come back, with the objects it made.
        instance: InstanceId,
        /// The types it hosts; may be none.
        types: Vec<config::HostedType>,
        /// Its answer to `GET /dapr/subscribe`, raw JSON; empty: none.
        subscriptions: Bytes,
        /// Actors that it may hold, called into being by an earlier run of this node too.
        objects: Vec<ActorKey>,
        /// Other processes of the application that were here and have not ended: they keep their
        /// objects.
        living: Vec<InstanceId>,
    },
    /// The process has ended, cannot be reached, or is unhealthy. Its running requests end as
    /// `NoAnswer`.
    Gone {
        /// The application.
        app: AppId,
        /// The process.
        instance: InstanceId,
        /// What happened.
        why: String,
    },
}

impl AppEvent {
    /// Which application it is about.
    #[must_use]
    pub fn app(&self) -> &AppId {
        let (Self::Hosting { app, .. } | Self::Gone { app, .. }) = self;
        app
    }
}

/// How far an application has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It has not said yet what it hosts.
    Awaited,
    /// It hosts these types.
    Hosts(Vec<String>),
    /// It was there, and is not at the moment.
    Gone,
}

/// The channel to all applications of a node. Cheap to clone.
#[derive(Clone)]
pub struct AppChannel {
    shared: Arc<Shared>,
}

/// What the parts of the channel have in common.
struct Shared {
    apps: Vec<Arc<AppSettings>>,
    events: mpsc::Sender<AppEvent>,
    registrar: Registrar,
    memories: Memories,
    instances: Mutex<HashMap<InstanceId, Arc<Instance>>>,
    processes: Mutex<HashMap<(AppId, Image), InstanceId>>,
    next_instance: AtomicU64,
    keepers: Mutex<Vec<AbortHandle>>,
    seats: seats::Seats,
    /// What each application hosted last; `None`: it is gone at the moment. Absent: it has never
    /// been there.
    hosted: Mutex<HashMap<AppId, Option<Vec<String>>>>,
}

impl fmt::Debug for AppChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppChannel")
            .field("apps", &self.shared.apps)
            .finish_non_exhaustive()
    }
}

impl AppChannel {
    /// Begins to look for these applications, and returns at once with the queue of events.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(apps: Vec<AppSettings>) -> (Self, mpsc::Receiver<AppEvent>) {
        Self::start_remembering(apps, None)
    }

    /// The same, and which objects each process may hold is remembered in this folder: the next run
    /// of this node needs to know.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start_remembering(
        apps: Vec<AppSettings>,
        folder: Option<PathBuf>,
    ) -> (Self, mpsc::Receiver<AppEvent>) {
        Self::start_with(apps, Registrar::start(), Memories::in_folder(folder))
    }

    fn start_with(
        apps: Vec<AppSettings>,
        registrar: Registrar,
        memories: Memories,
    ) -> (Self, mpsc::Receiver<AppEvent>) {
        let (events, received) = mpsc::channel(APP_EVENTS_MAX);
        let by_stream = apps.iter().filter(|app| app.is_probed_by_grpc());
        let seats = seats::Seats::unwell(by_stream.map(|app| app.id.clone()));
        let shared = Arc::new(Shared {
            apps: apps.into_iter().map(Arc::new).collect(),
            events,
            registrar,
            memories,
            instances: Mutex::default(),
            processes: Mutex::default(),
            next_instance: AtomicU64::new(1),
            keepers: Mutex::default(),
            seats,
            hosted: Mutex::default(),
        });
        let keepers = shared.apps.iter().filter(|app| {
            // An application on gRPC comes to us, by its stream.
            app.address.is_some() && !app.protocol.is_grpc()
        });
        let keepers = keepers
            .map(|app| tokio::spawn(keeper::keep(Arc::clone(&shared), Arc::clone(app))))
            .map(|task| task.abort_handle())
            .collect();
        *lock(&shared.keepers) = keepers;
        (Self { shared }, received)
    }

    /// Asks one instance and waits for its answer, without a time limit except for `Deactivate`.
    ///
    /// Not cancel-safe: when the future is dropped, the connection is cut, and the application may
    /// still run what it was asked. Whoever has given a request up should still wait for its end.
    pub async fn send(&self, instance: InstanceId, request: AppRequest) -> AppAnswer {
        let found = lock(&self.shared.instances).get(&instance).cloned();
        match found {
            Some(found) => found.send(request).await,
            None => AppAnswer::not_sent(format!("{instance} of the application is gone")),
        }
    }

    /// Posts something to one instance that is reached by HTTP, and waits for its answer without a
    /// time limit. `begun` is set while the application may have seen it.
    ///
    /// Not cancel-safe, as [`AppChannel::send`], once it is begun.
    pub async fn post(&self, instance: InstanceId, post: Post, begun: &AtomicBool) -> AppAnswer {
        let found = lock(&self.shared.instances).get(&instance).cloned();
        match found {
            Some(found) => found.post(post, begun).await,
            None => AppAnswer::not_sent(format!("{instance} of the application is gone")),
        }
    }

    /// The applications as they were configured.
    pub fn apps(&self) -> impl Iterator<Item = &AppSettings> {
        self.shared.apps.iter().map(Arc::as_ref)
    }

    /// Whether an application is one on gRPC, or one that has no port.
    #[must_use]
    pub fn comes_by_grpc(&self, app: &AppId) -> bool {
        let settings = self.shared.app(app);
        settings.is_some_and(|app| app.protocol.is_grpc() || app.address.is_none())
    }

    /// How far an application has come. Cheap.
    #[must_use]
    pub fn presence(&self, app: &AppId) -> Presence {
        let hosted = lock(&self.shared.hosted).get(app).cloned();
        match hosted {
            Some(Some(types)) => Presence::Hosts(types),
            Some(None) => Presence::Gone,
            None => match self
                .shared
                .app(app)
                .is_some_and(|app| app.address.is_some() && !app.protocol.is_grpc())
            {
                true => Presence::Awaited,
                // One that comes by stream may come or not.
                false => Presence::Hosts(Vec::new()),
            },
        }
    }

    /// Stops looking for applications and ends all requests; reports nothing more.
    pub fn end(&self) {
        for keeper in lock(&self.shared.keepers).drain(..) {
            keeper.abort();
        }
        let all: Vec<_> = lock(&self.shared.instances).drain().collect();
        for (_, instance) in all {
            instance.end("this node is ending");
        }
    }
}

impl Shared {
    /// The settings of an application.
    fn app(&self, id: &AppId) -> Option<&Arc<AppSettings>> {
        self.apps.iter().find(|app| app.id == *id)
    }

    /// The id of a process: the one it had, if it can be told apart and was here before.
    fn instance_id(&self, app: &AppId, image: Option<Image>) -> InstanceId {
        let fresh = || InstanceId(self.next_instance.fetch_add(1, Ordering::Relaxed));
        let Some(image) = image else {
            return fresh();
        };
        let mut processes = lock(&self.processes);
        if processes.len() >= PROCESSES_MAX {
            processes.retain(|(_, image), _| image.lives());
        }
        *processes.entry((app.clone(), image)).or_insert_with(fresh)
    }

    /// Processes of an application that have been here and have not ended. Those that cannot be
    /// told apart are none.
    fn living(&self, app: &AppId) -> Vec<InstanceId> {
        let processes = lock(&self.processes);
        let of_it = processes.iter().filter(|((of, _), _)| of == app);
        let living = of_it.filter(|((_, image), _)| image.lives());
        living.map(|(_, id)| *id).collect()
    }

    /// Lets requests in, then tells the core.
    async fn announce(
        &self,
        instance: &Arc<Instance>,
        types: Vec<config::HostedType>,
        subscriptions: Bytes,
    ) {
        lock(&self.instances).insert(instance.id, Arc::clone(instance));
        let names = types.iter().map(|hosted| hosted.name.clone()).collect();
        lock(&self.hosted).insert(instance.app.id.clone(), Some(names));
        tracing::info!(
            app = %instance.app.id,
            instance = %instance.id,
            process = %instance.process(),
            types = ?types.iter().map(|hosted| hosted.name.as_str()).collect::<Vec<_>>(),
            "an application is ready"
        );
        let event = AppEvent::Hosting {
            app: instance.app.id.clone(),
            instance: instance.id,
            types,
            subscriptions,
            objects: instance.objects(),
            living: self.living(&instance.app.id),
        };
        // Nobody listens any more: the node is ending.
        drop(self.events.send(event).await);
    }

    /// Ends all requests of an instance, and its connections, then tells the core.
    async fn withdraw(&self, instance: &Arc<Instance>, why: &str) {
        self.unlist(instance);
        instance.end(why);
        self.report_gone(instance, why).await;
    }

    /// The same, and its stream stays open.
    async fn suspend(&self, instance: &Arc<Instance>, why: &str) {
        self.unlist(instance);
        instance.leave(why);
        self.report_gone(instance, why).await;
    }

    fn unlist(&self, instance: &Instance) {
        lock(&self.instances).remove(&instance.id);
        lock(&self.hosted).insert(instance.app.id.clone(), None);
    }

    async fn report_gone(&self, instance: &Instance, why: &str) {
        tracing::warn!(
            app = %instance.app.id,
            instance = %instance.id,
            why,
            "an application is gone: its actors go elsewhere until it is back"
        );
        let event = AppEvent::Gone {
            app: instance.app.id.clone(),
            instance: instance.id,
            why: why.to_owned(),
        };
        drop(self.events.send(event).await);
    }
}

impl Protocol {
    /// Whether the application comes to the node by gRPC.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }
}

/// The content, also after a panic elsewhere: every use leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
