//! The APIs of a node that applications see, open before the node itself is there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::launch::internal;
use super::listeners::{self, Front};
use super::reload::{self, Loaded, ReadVariable, Reading};
use super::{Lobby, StartError};
use crate::api::access::Access;
use crate::api::app_calls::{AppCalls, NoApplication};
use crate::api::core_calls::{CoreCalls, Hosts};
use crate::api::extended::Extended;
use crate::api::metrics::{Renderer, UPKEEP_PERIOD};
use crate::api::resilience::Resilience;
use crate::api::serve::{Api, serve};
use crate::api::sidecar::{self, Sidecar};
use crate::api::{Context, Shared};
use crate::app::{AppChannel, AppId, bridge};
use crate::config::NodeConfig;
use crate::handle::NodeHandle;
use crate::pubsub::registry::{Owner, own_topics};
use crate::pubsub::{PubSub, grpc_app};
use crate::resources::Files;
use crate::shell::apps::{self, AppPort};

/// What the APIs are told beside the configuration of the node.
#[derive(Debug)]
pub struct ApiSetup {
    /// Dapr's `id`: the application's name, or the node's.
    pub app_id: String,
    /// The way to the application's actors; `None`: straight to the core, if there are applications.
    pub calls: Option<Arc<dyn AppCalls>>,
    /// The application that the APIs belong to; `None`: there is none.
    pub app: Option<AppId>,
    /// Filled when the APIs open.
    pub hosts: Hosts,
    /// What metadata says.
    pub sidecar: Sidecar,
    /// Publishing and subscribing.
    pub pubsub: Arc<PubSub>,
    /// Policies of calls.
    pub resilience: Resilience,
    /// Which groups of the API are let through.
    pub access: Access,
    /// Largest body of a request, in bytes.
    pub body_max: usize,
    /// Types of native actors that are hosted, in order.
    pub actor_types: Vec<String>,
    /// Renders the metrics of this process.
    pub renderer: Renderer,
    /// Files whose changes are taken while the APIs serve; `None`: of none.
    pub reading: Option<Reading>,
}

impl ApiSetup {
    /// Of a node: with its resources, and with the name of its application if it has one alone.
    ///
    /// # Errors
    /// A resource that cannot be read.
    pub fn of_node(
        config: &NodeConfig,
        actor_types: Vec<String>,
        renderer: Renderer,
        handle: &NodeHandle,
    ) -> Result<Self, StartError> {
        let app_id = match config.apps.as_slice() {
            [app] => app.id.as_str(),
            _ => config.name.as_str(),
        };
        let files = Files {
            folders: config.resources.clone(),
            configs: Vec::new(),
            builtin: config.builtin.clone(),
        };
        let apps = config.apps.iter().map(|app| app.id.as_str().to_owned());
        let variable: ReadVariable = |name| std::env::var(name).ok();
        let reading = Reading::new(files, app_id, apps.collect(), variable);
        let Loaded {
            resources,
            declared,
        } = reading.load().map_err(invalid)?;
        for warning in &resources.warnings {
            tracing::warn!("{warning}");
        }
        let owner = Owner {
            app_id: app_id.to_owned(),
            namespace: config.namespace.clone(),
            pod: config.name.clone(),
        };
        let pubsub = PubSub::new(owner, &resources, &own_topics(handle)).map_err(invalid)?;
        for (app, declared) in declared {
            pubsub.declare(&app, declared);
        }
        let pubsub = Arc::new(pubsub);
        Ok(Self {
            app_id: app_id.to_owned(),
            calls: None,
            hosts: Hosts::default(),
            app: config.apps.first().map(|app| app.id.clone()),
            sidecar: Sidecar {
                components: sidecar::components(&resources, &pubsub).into(),
                ..Sidecar::default()
            },
            pubsub,
            resilience: Resilience::new(&resources.resiliency),
            access: Access::new(&resources.configuration),
            reading: reading.if_wanted(&resources),
            body_max: REQUEST_BODY_BYTES_MAX,
            actor_types,
            renderer,
        })
    }

    fn context(self, config: &NodeConfig, handle: NodeHandle) -> Context {
        let calls = self.calls.unwrap_or_else(|| match config.apps.is_empty() {
            true => Arc::new(NoApplication),
            false => {
                let (app, hosts) = (self.app.clone(), Arc::clone(&self.hosts));
                Arc::new(CoreCalls::new(handle.clone(), app, hosts))
            }
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
            app: self.app,
            hosts: self.hosts,
            sidecar: self.sidecar,
            pubsub: self.pubsub,
            resilience: self.resilience,
            access: self.access,
            key_file: config.cluster_key.file(),
            body_max: self.body_max,
            drain_timeout: config.drain_timeout,
            readers: Arc::default(),
            forced: Arc::default(),
        }
    }
}

fn invalid(why: impl std::fmt::Display) -> StartError {
    StartError::new(Code::ConfigInvalid, why.to_string())
}

/// APIs that serve.
#[derive(Debug)]
pub struct Entrance {
    /// Dapr HTTP API.
    pub http: SocketAddr,
    /// Dapr gRPC API.
    pub grpc: SocketAddr,
    pub(super) context: Shared,
    /// The core's end of the way to the applications.
    pub(super) apps: AppPort,
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
        let reading = setup.reading.clone();
        let context = Arc::new(setup.context(config, lobby.handle()));
        let apps = connect_apps(config, &context);
        let (end, ended) = watch::channel(false);
        let mut entrance = Self {
            http: http.local_addr().map_err(internal)?,
            grpc: grpc.local_addr().map_err(internal)?,
            context,
            apps,
            end,
            tasks: vec![],
        };
        if let Some(channel) = entrance.context.hosts.get().cloned() {
            for app in config.apps.iter().filter(|app| app.protocol.is_grpc()) {
                let (pubsub, channel) = (Arc::clone(&entrance.context.pubsub), channel.clone());
                let end = entrance.end.subscribe();
                let keeping = grpc_app::keep(pubsub, channel, app.clone(), end);
                entrance.tasks.push(tokio::spawn(keeping));
            }
        }
        entrance.serve(Api::Dapr, http);
        entrance.serve(Api::Grpc, grpc);
        if let Some(reading) = reading {
            let context = Arc::clone(&entrance.context);
            let watching = reload::watch(reading, context, entrance.end.subscribe());
            entrance.tasks.push(tokio::spawn(watching));
        }
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
        self.context.pubsub.close();
        self.end.send_replace(true);
        for task in self.tasks {
            drop(task.await);
        }
    }
}

/// Looks for the applications from now on: events reach them before the node is there. Without any the core hears
/// that there are none when it asks.
fn connect_apps(config: &NodeConfig, context: &Context) -> AppPort {
    let (port, queues) = apps::queues();
    if !config.apps.is_empty() {
        let (channel, events) =
            AppChannel::start_remembering(config.apps.clone(), objects_folder(config));
        // The APIs open once.
        drop(context.hosts.set(channel.clone()));
        bridge::connect(channel, events, queues, Arc::clone(&context.pubsub));
    }
    port
}

/// Where a node remembers which objects applications hold: with its data, or, if it has none, where the user's programs
/// keep what lives no longer than the machine runs.
fn objects_folder(config: &NodeConfig) -> Option<PathBuf> {
    if let Some(data_dir) = &config.data_dir {
        return Some(data_dir.join("apps"));
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    runtime.map(|runtime| PathBuf::from(runtime).join("ghostlight/apps"))
}

async fn upkeep(context: Shared, mut end: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP_PERIOD) => context.metrics.upkeep(),
            _ = end.changed() => return,
        }
    }
}
