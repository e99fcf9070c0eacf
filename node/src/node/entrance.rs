//! The APIs of a node that applications see, open before the node itself is there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::launch::internal;
use super::listeners::{self, Front};
use super::{Lobby, StartError};
use crate::api::app_calls::{AppCalls, NoApplication};
use crate::api::core_calls::CoreCalls;
use crate::api::extended::Extended;
use crate::api::metrics::{Renderer, UPKEEP_PERIOD};
use crate::api::resilience::Resilience;
use crate::api::serve::{Api, serve};
use crate::api::sidecar::Sidecar;
use crate::api::{Context, Shared};
use crate::config::NodeConfig;
use crate::handle::NodeHandle;

/// What the APIs are told beside the configuration of the node.
#[derive(Debug)]
pub struct ApiSetup {
    /// Dapr's `id`: the application's name, or the node's.
    pub app_id: String,
    /// The way to the application's actors; `None`: straight to the core, if there are applications.
    pub calls: Option<Arc<dyn AppCalls>>,
    /// What metadata says.
    pub sidecar: Sidecar,
    /// Policies of calls.
    pub resilience: Resilience,
    /// Largest body of a request, in bytes.
    pub body_max: usize,
    /// Types of native actors that are hosted, in order.
    pub actor_types: Vec<String>,
    /// Renders the metrics of this process.
    pub renderer: Renderer,
}

impl ApiSetup {
    /// Of a node that has no application.
    #[must_use]
    pub fn without_application(
        config: &NodeConfig,
        actor_types: Vec<String>,
        renderer: Renderer,
    ) -> Self {
        Self {
            app_id: config.name.clone(),
            calls: None,
            sidecar: Sidecar::default(),
            resilience: Resilience::default(),
            body_max: REQUEST_BODY_BYTES_MAX,
            actor_types,
            renderer,
        }
    }

    fn context(self, config: &NodeConfig, handle: NodeHandle) -> Context {
        let calls = self.calls.unwrap_or_else(|| match config.apps.is_empty() {
            true => Arc::new(NoApplication),
            false => Arc::new(CoreCalls::new(handle.clone())),
        });
        Context {
            handle,
            name: self.app_id,
            namespace: config.namespace.clone(),
            tokens: config.api_tokens.clone(),
            weakened: config.weakened.clone(),
            actor_types: self.actor_types,
            metrics: self.renderer,
            extended: Extended::default(),
            calls,
            sidecar: self.sidecar,
            resilience: self.resilience,
            body_max: self.body_max,
            drain_timeout: config.drain_timeout,
            forced: Arc::default(),
        }
    }
}

/// APIs that serve.
#[derive(Debug)]
pub struct Entrance {
    /// Dapr HTTP API.
    pub http: SocketAddr,
    /// Dapr gRPC API.
    pub grpc: SocketAddr,
    pub(super) context: Shared,
    pub(super) end: watch::Sender<bool>,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

impl Entrance {
    /// Opens the APIs of a process that keeps nothing: no port was chosen before.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub async fn open(
        config: &NodeConfig,
        setup: ApiSetup,
        lobby: &Lobby,
    ) -> Result<Self, StartError> {
        let front = listeners::front(config, None).await?;
        Self::behind(config, setup, lobby, front)
    }

    pub(super) fn behind(
        config: &NodeConfig,
        setup: ApiSetup,
        lobby: &Lobby,
        Front { http, grpc }: Front,
    ) -> Result<Self, StartError> {
        let context = Arc::new(setup.context(config, lobby.handle()));
        let (end, ended) = watch::channel(false);
        let mut entrance = Self {
            http: http.local_addr().map_err(internal)?,
            grpc: grpc.local_addr().map_err(internal)?,
            context,
            end,
            tasks: vec![],
        };
        entrance.serve(Api::Dapr, http);
        entrance.serve(Api::Grpc, grpc);
        let context = Arc::clone(&entrance.context);
        entrance.tasks.push(tokio::spawn(upkeep(context, ended)));
        Ok(entrance)
    }

    /// Set when an end without a drain is asked for through the API.
    #[must_use]
    pub fn forced(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.context.forced)
    }

    /// Serves one more listener.
    fn serve(&mut self, api: Api, listener: TcpListener) {
        let serving = serve(
            api,
            listener,
            Arc::clone(&self.context),
            self.end.subscribe(),
        );
        self.tasks.push(tokio::spawn(serving));
    }

    /// Serves operators, and sidecars that ask whom to join.
    pub(super) fn serve_back(&mut self, admin: TcpListener, introduce: Option<TcpListener>) {
        self.serve(Api::Admin, admin);
        if let Some(introduce) = introduce {
            self.serve(Api::Introduction, introduce);
        }
    }

    /// Ends the APIs of a node that never began; requests in flight are answered.
    pub async fn close(self) {
        self.end.send_replace(true);
        for task in self.tasks {
            drop(task.await);
        }
    }
}

async fn upkeep(context: Shared, mut end: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_PERIOD) => context.metrics.upkeep(),
            _ = end.changed() => return,
        }
    }
}
