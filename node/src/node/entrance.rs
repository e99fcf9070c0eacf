//! The APIs of a node that applications see, open before the node itself is there.
//!
//! One pair of listeners for the node, which is its first application's, and one for each further
//! application. What comes in through a pair is from its application: each has a context of its
//! own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ghostlight_core::admin::ApplicationView;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::launch::internal;
use super::listeners::{self, Also, Front, Fronts};
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
use crate::api::{Context, Door, H2c, Shared};
use crate::app::settings::AppSettings;
use crate::app::{AppChannel, AppId, bridge};
use crate::config::{NodeConfig, Secret};
use crate::handle::NodeHandle;
use crate::pubsub::registry::{Owner, own_topics};
use crate::pubsub::shared::Buses;
use crate::pubsub::{PubSub, grpc_app};
use crate::resources::Files;
use crate::shell::apps::{self, AppPort};
use crate::topics::OwnTopics;

/// What the APIs are told beside the configuration of the node.
#[derive(Debug)]
pub struct ApiSetup {
    /// Filled when the APIs open.
    pub hosts: Hosts,
    /// Largest body of a request, in bytes.
    pub body_max: usize,
    /// Of the HTTP API.
    pub h2c: H2c,
    /// Types of native actors that are hosted, in order.
    pub actor_types: Vec<String>,
    /// Renders the metrics of this process.
    pub renderer: Renderer,
    /// Of the node's own listeners: of its first application, or of the node if it has none.
    pub own: AppSetup,
    /// Of each further application, in the order of the configuration.
    pub others: Vec<AppSetup>,
    /// Where else the own listeners are.
    pub also: Also,
}

/// What the API of one application is told.
#[derive(Debug)]
pub struct AppSetup {
    /// Dapr's `id`: the application's name, or the node's.
    pub app_id: String,
    /// The application; `None`: there is none.
    pub app: Option<AppId>,
    /// The way to the application's actors; `None`: straight to the core, if there is an
    /// application.
    pub calls: Option<Arc<dyn AppCalls>>,
    /// What metadata says.
    pub sidecar: Sidecar,
    /// Publishing and subscribing.
    pub pubsub: Arc<PubSub>,
    /// Policies of calls.
    pub resilience: Resilience,
    /// Which groups of the API are let through.
    pub access: Access,
    /// Tokens that are accepted; `None`: those of the node.
    pub tokens: Option<Vec<Secret>>,
    /// Files whose changes are taken while the API serves; `None`: of none.
    pub reading: Option<Reading>,
}

/// What the applications of a node have in common while they are set up.
struct Common<'a> {
    config: &'a NodeConfig,
    ours: OwnTopics,
    buses: Buses,
    /// Warnings that were printed: files are read for each application.
    warned: BTreeSet<String>,
}

impl ApiSetup {
    /// Of a node: with its resources, for each of its applications.
    ///
    /// # Errors
    /// A resource that cannot be read.
    pub fn of_node(
        config: &NodeConfig,
        actor_types: Vec<String>,
        renderer: Renderer,
        handle: &NodeHandle,
    ) -> Result<Self, StartError> {
        let mut common = Common {
            config,
            ours: own_topics(handle),
            buses: Buses::default(),
            warned: BTreeSet::new(),
        };
        let own = AppSetup::read(&mut common, config.apps.first())?;
        let others = config.apps.iter().skip(1);
        let others = others.map(|app| AppSetup::read(&mut common, Some(app)));
        Ok(Self {
            hosts: Hosts::default(),
            body_max: REQUEST_BODY_BYTES_MAX,
            h2c: H2c::default(),
            actor_types,
            renderer,
            own,
            others: others.collect::<Result<_, _>>()?,
            also: Also::default(),
        })
    }
}

impl AppSetup {
    fn read(common: &mut Common<'_>, app: Option<&AppSettings>) -> Result<Self, StartError> {
        let config = common.config;
        let app_id = app.map_or(config.name.as_str(), |app| app.id.as_str());
        let files = Files {
            folders: config.resources.clone(),
            configs: Vec::new(),
            builtin: config.builtin.clone(),
        };
        let variable: ReadVariable = |name| std::env::var(name).ok();
        let reading = Reading::new(files, app_id, variable);
        let Loaded { resources, .. } = reading.load().map_err(invalid)?;
        for warning in &resources.warnings {
            if common.warned.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
        let owner = Owner {
            app_id: app_id.to_owned(),
            namespace: config.namespace.clone(),
            pod: config.name.clone(),
        };
        let pubsub = PubSub::sharing(owner, &resources, &common.ours, &common.buses);
        let pubsub = Arc::new(pubsub.map_err(invalid)?);
        Ok(Self {
            app_id: app_id.to_owned(),
            app: app.map(|app| app.id.clone()),
            calls: None,
            sidecar: Sidecar {
                enabled_features: resources.configuration.enabled_features(),
                components: sidecar::components(&resources, &pubsub).into(),
                app: app.and_then(sidecar::connection),
                ..Sidecar::default()
            },
            pubsub,
            resilience: Resilience::new(&resources.resiliency),
            access: Access::new(&resources.configuration),
            tokens: app.and_then(|app| app.door.tokens.clone()),
            reading: reading.if_wanted(&resources),
        })
    }

    fn context(self, setup: &Whole<'_>, doors: Vec<Door>) -> Context {
        let Whole { config, handle, .. } = setup;
        let calls = self.calls.unwrap_or_else(|| match &self.app {
            None => Arc::new(NoApplication),
            Some(app) => {
                let (app, hosts) = (app.clone(), Arc::clone(&setup.hosts));
                Arc::new(CoreCalls::new(handle.clone(), Some(app), hosts))
            }
        });
        Context {
            handle: handle.clone(),
            name: self.app_id,
            namespace: config.namespace.clone(),
            tokens: self.tokens.unwrap_or_else(|| config.api_tokens.clone()),
            operator_tokens: config.api_tokens.clone(),
            weakened: config.weakened.clone(),
            actor_types: setup.actor_types.clone(),
            metrics: setup.renderer.clone(),
            extended: Extended::default(),
            calls,
            app: self.app,
            hosts: Arc::clone(&setup.hosts),
            sidecar: self.sidecar,
            pubsub: self.pubsub,
            resilience: self.resilience,
            access: self.access,
            key_file: config.cluster_key.file(),
            body_max: setup.body_max,
            h2c: setup.h2c,
            drain_timeout: config.drain_timeout,
            readers: Arc::default(),
            doors,
            forced: Arc::clone(&setup.forced),
        }
    }
}

/// What all contexts of a process have.
struct Whole<'a> {
    config: &'a NodeConfig,
    handle: NodeHandle,
    hosts: Hosts,
    body_max: usize,
    h2c: H2c,
    actor_types: Vec<String>,
    renderer: Renderer,
    forced: Arc<AtomicBool>,
}

/// The contexts of a process.
#[derive(Debug)]
pub(super) struct Contexts {
    pub(super) own: Shared,
    /// Of each further application.
    pub(super) others: Vec<Shared>,
}

impl Contexts {
    fn of(config: &NodeConfig, handle: NodeHandle, setup: ApiSetup, fronts: &Fronts) -> Self {
        let ApiSetup {
            hosts,
            body_max,
            h2c,
            actor_types,
            renderer,
            own,
            others,
            also: _,
        } = setup;
        let whole = Whole {
            config,
            handle,
            hosts,
            body_max,
            h2c,
            actor_types,
            renderer,
            forced: Arc::default(),
        };
        assert_eq!(
            others.len(),
            fronts.others.len(),
            "a pair of listeners each"
        );
        let setups = std::iter::once(&own).chain(&others);
        let fronts = std::iter::once(&fronts.own).chain(&fronts.others);
        let doors = setups.zip(fronts).filter_map(|(setup, front)| {
            Some(Door {
                app: setup.app.clone()?,
                http: front.http.local_addr().ok()?,
                grpc: front.grpc.local_addr().ok()?,
                pubsub: Arc::clone(&setup.pubsub),
            })
        });
        let doors = doors.collect();
        let others = others.into_iter();
        let others = others.map(|setup| Arc::new(setup.context(&whole, Vec::new())));
        Self {
            others: others.collect(),
            own: Arc::new(own.context(&whole, doors)),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Shared> {
        std::iter::once(&self.own).chain(&self.others)
    }

    /// The publishing and subscribing of each application.
    fn pubsubs(&self) -> Vec<(AppId, Arc<PubSub>)> {
        let of = |context: &Shared| Some((context.app.clone()?, Arc::clone(&context.pubsub)));
        self.all().filter_map(of).collect()
    }

    /// Ends all subscriptions.
    pub(super) fn close(&self) {
        for context in self.all() {
            context.pubsub.close();
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
    pub(super) contexts: Contexts,
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
        let fronts = listeners::sidecar(config, &setup.also).await?;
        Self::behind(config, setup, lobby, fronts)
    }

    pub(super) fn behind(
        config: &NodeConfig,
        mut setup: ApiSetup,
        lobby: &Lobby,
        fronts: Fronts,
    ) -> Result<Self, StartError> {
        let readings = std::iter::once(&mut setup.own).chain(&mut setup.others);
        let readings: Vec<_> = readings.map(|setup| setup.reading.take()).collect();
        let contexts = Contexts::of(config, lobby.handle(), setup, &fronts);
        let apps = connect_apps(config, &contexts);
        let (end, ended) = watch::channel(false);
        let Fronts { own, others, more } = fronts;
        let mut entrance = Self {
            http: own.http.local_addr().map_err(internal)?,
            grpc: own.grpc.local_addr().map_err(internal)?,
            contexts,
            apps,
            end,
            tasks: vec![],
        };
        entrance.attend_grpc_apps(config);
        let all: Vec<Shared> = entrance.contexts.all().cloned().collect();
        let fronts = std::iter::once(own).chain(others);
        for ((context, front), reading) in all.into_iter().zip(fronts).zip(readings) {
            let Front { http, grpc } = front;
            entrance.serve(Api::Dapr, http, &context);
            entrance.serve(Api::Grpc, grpc, &context);
            if let Some(reading) = reading {
                let watching = reload::watch(reading, context, entrance.end.subscribe());
                entrance.tasks.push(tokio::spawn(watching));
            }
        }
        let context = Arc::clone(&entrance.contexts.own);
        for (api, listener) in more {
            entrance.serve(api, listener, &context);
        }
        entrance.tasks.push(tokio::spawn(upkeep(context, ended)));
        Ok(entrance)
    }

    /// Applications that are reached by gRPC are looked for from now on.
    fn attend_grpc_apps(&mut self, config: &NodeConfig) {
        let Some(channel) = self.contexts.own.hosts.get().cloned() else {
            return;
        };
        let pubsubs = self.contexts.pubsubs();
        for app in config.apps.iter().filter(|app| app.protocol.is_grpc()) {
            if let Some((_, pubsub)) = pubsubs.iter().find(|(id, _)| *id == app.id) {
                let (pubsub, channel) = (Arc::clone(pubsub), channel.clone());
                let keeping = grpc_app::keep(pubsub, channel, app.clone(), self.end.subscribe());
                self.tasks.push(tokio::spawn(keeping));
            }
        }
    }

    /// The applications of the node, and where their APIs are.
    pub(super) fn applications(&self) -> Vec<ApplicationView> {
        let doors = self.contexts.own.doors.iter();
        doors.map(Door::view).collect()
    }

    /// Set when an end without a drain is asked for through the API.
    #[must_use]
    pub fn forced(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.contexts.own.forced)
    }

    /// Serves one more listener.
    fn serve(&mut self, api: Api, listener: TcpListener, context: &Shared) {
        let serving = serve(api, listener, Arc::clone(context), self.end.subscribe());
        self.tasks.push(tokio::spawn(serving));
    }

    /// Serves operators, and sidecars that ask whom to join.
    pub(super) fn serve_back(&mut self, admin: TcpListener, introduce: Option<TcpListener>) {
        let own = Arc::clone(&self.contexts.own);
        self.serve(Api::Admin, admin, &own);
        if let Some(introduce) = introduce {
            self.serve(Api::Introduction, introduce, &own);
        }
    }

    /// Ends the APIs of a node that never began; requests in flight are answered.
    pub async fn close(self) {
        self.contexts.close();
        self.end.send_replace(true);
        for task in self.tasks {
            drop(task.await);
        }
    }
}

/// Looks for the applications from now on: events reach them before the node is there. Without any
/// the core hears that there are none when it asks.
fn connect_apps(config: &NodeConfig, contexts: &Contexts) -> AppPort {
    let (port, queues) = apps::queues();
    if !config.apps.is_empty() {
        let (channel, events) =
            AppChannel::start_remembering(config.apps.clone(), objects_folder(config));
        // The APIs open once.
        drop(contexts.own.hosts.set(channel.clone()));
        bridge::connect(channel, events, queues, contexts.pubsubs());
    }
    port
}

/// Where a node remembers which objects applications hold: with its data, or, if it has none, where
/// the user's programs keep what lives no longer than the machine runs.
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
