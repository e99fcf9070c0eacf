//! A node in this process: starting it, talking to it, waiting for its end.
//!
//! The library's way in is [`Node::builder`]; the command line goes through [`start`].

mod builder;
mod data;
mod entrance;
mod launch;
mod listeners;
mod lobby;
mod reload;
mod replace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ghostlight_core::admin::ApplicationView;
use ghostlight_core::io::HaltReason;
use ghostlight_core::sdk::{Cluster, Typed};
use ghostlight_protocol::code::Code;
use tokio::sync::{oneshot, watch};

pub use builder::Builder;
use entrance::Contexts;
pub use entrance::{ApiSetup, AppSetup, Entrance};
pub use launch::{start, start_behind};
pub use listeners::{Also, Listening};
pub use lobby::{Lobby, Waited};
pub use reload::{Loaded, ReadVariable, Reading};

use crate::actors::events::Events;
use crate::api::Shared;
use crate::api::serve::{self, Api, Purpose};
use crate::app::Presence;
use crate::config::{AddrOrigin, ListenAddr};
use crate::handle::NodeHandle;

/// Why a node did not start or could not go on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct StartError {
    /// Which case.
    pub code: Code,
    /// What failed, why, and what to do.
    pub detail: String,
}

impl From<crate::config::Error> for StartError {
    fn from(error: crate::config::Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl StartError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

/// Where a running node is reached.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Peer address as others reach it.
    pub peer: SocketAddr,
    /// Dapr HTTP API.
    pub http: SocketAddr,
    /// Dapr gRPC API.
    pub grpc: SocketAddr,
    /// Applications beside the node, and their API listeners; the first one's are the node's own.
    pub apps: Vec<ApplicationView>,
    /// Admin API.
    pub admin: SocketAddr,
    /// Where sidecars are introduced to the cluster.
    pub introduce: Option<SocketAddr>,
}

/// A node that runs. Dropping it does not end it; `shutdown` and `wait` do.
///
/// A panic in one of the node's own threads (core, disk, readers, transport) ends the node, as a
/// failed write does: without any of them it is none, and the others must take over. It does not
/// end the process, which may belong to somebody else: calls are refused, and [`RunningNode::wait`]
/// returns the error.
#[derive(Debug)]
pub struct RunningNode {
    handle: NodeHandle,
    addresses: Addresses,
    halted: oneshot::Receiver<HaltReason>,
    end_apis: watch::Sender<bool>,
    apis: Vec<tokio::task::JoinHandle<()>>,
    /// Of the node's own APIs, and of each further application.
    contexts: Contexts,
    subscribed: Events,
}

impl RunningNode {
    /// Answers introductions and health at one more address, which `flag` has named.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn introduce_at(
        &mut self,
        addr: SocketAddr,
        flag: &'static str,
    ) -> Result<(), StartError> {
        let origin = AddrOrigin::Explicit;
        let purpose = Purpose {
            what: "introductions and health",
            flag,
        };
        let listener = serve::bind(purpose, ListenAddr { addr, origin }, None)
            .await
            .map_err(|error| StartError::new(error.code(), error.to_string()))?;
        let context = Arc::clone(&self.contexts.own);
        let serving = serve::serve(
            Api::Introduction,
            listener,
            context,
            self.end_apis.subscribe(),
        );
        self.apis.push(tokio::spawn(serving));
        Ok(())
    }

    /// Set when an end without a drain is asked for through the API: the process should end with
    /// status 1.
    #[must_use]
    pub fn forced(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.contexts.own.forced)
    }

    /// What it serves, for whoever waits for its end.
    #[must_use]
    pub fn serving(&self) -> Serving {
        Serving(self.contexts.all().cloned().collect())
    }

    /// The way into the node.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until the node has ended and its store is closed.
    ///
    /// # Errors
    /// When it ended for another reason than being told to: the cluster or the disk refused, or one
    /// of its threads panicked.
    pub async fn wait(self) -> Result<(), StartError> {
        let reason = self.halted.await;
        self.contexts.close();
        drop(self.subscribed);
        // Requests in flight are answered; nobody listens any more if the tasks are gone.
        self.end_apis.send_replace(true);
        for api in self.apis {
            drop(api.await);
        }
        match reason {
            Ok(HaltReason::ShutDown | HaltReason::Left) => Ok(()),
            Ok(HaltReason::Refused { code, detail }) => Err(StartError { code, detail }),
            Err(_) => Err(StartError::new(
                Code::Internal,
                "the core's thread ended without a word. Its panic message is in the log; please \
                 report it",
            )),
        }
    }
}

/// What a node serves to its applications.
#[derive(Clone, Debug)]
pub struct Serving(Vec<Shared>);

impl Serving {
    /// Applications get no events any more; their calls are answered as before.
    pub fn end_deliveries(&self) {
        for context in &self.0 {
            context.pubsub.end_deliveries();
        }
    }

    /// Whether no application is left of those that were there: their processes have ended, or they
    /// are unhealthy.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        let presences = self.0.iter().filter_map(|context| {
            let (channel, app) = (context.hosts.get()?, context.app.as_ref()?);
            Some(channel.presence(app))
        });
        let presences: Vec<Presence> = presences.collect();
        let gone = |presence| matches!(presence, &Presence::Gone);
        !presences.is_empty() && presences.iter().all(gone)
    }
}

/// A node as a library's user holds it.
#[derive(Debug)]
pub struct Node {
    running: RunningNode,
    namespace: String,
}

impl Node {
    /// A node of this program: name the actors it hosts, then start it.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A typed reference to an actor, wherever in the cluster it lives.
    #[must_use]
    pub fn actor<A: Typed>(&self, actor_id: &str) -> A::Ref<ghostlight_core::sdk::client::Outside> {
        self.cluster().actor::<A>(actor_id)
    }

    /// References to all actors of this node's namespace; cheap to clone.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::new(Arc::new(self.running.handle()), &self.namespace)
    }

    /// The way into the node.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        self.running.handle()
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        self.running.addresses()
    }

    /// Waits until the node ends by itself: the cluster let it go, its disk failed, or one of its
    /// own threads panicked. None of that ends the program: whoever embeds a node decides what
    /// follows.
    ///
    /// # Errors
    /// When it ended for another reason than being told to by an operator.
    pub async fn wait(self) -> Result<(), StartError> {
        self.running.wait().await
    }

    /// Gives leaderships away (at most 30 s) and ends the node; its data stays.
    ///
    /// # Errors
    /// When it ended for another reason.
    pub async fn shutdown(self) -> Result<(), StartError> {
        self.running.handle.shutdown(Duration::from_secs(30)).await;
        self.running.wait().await
    }
}
