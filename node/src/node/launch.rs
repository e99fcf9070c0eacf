//! Putting a node together: key, store, ports, threads, APIs.

use std::path::PathBuf;
use std::sync::Arc;

use ghostlight_core::io::{HaltReason, Now};
use ghostlight_core::node::NodeCore;
use ghostlight_core::sdk::ActorRegistry;
use ghostlight_disk::Disk;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::wire::hello::{Duty, NodeRecord};
use ghostlight_storage::{Engine, NodeIdentity};
use rand::Rng;
use tokio::sync::{mpsc, oneshot, watch};

use super::data::{self, Directory, Opened};
use super::listeners::{self, Listeners};
use super::{Addresses, RunningNode, StartError, replace};
use crate::actors::Executor;
use crate::api::extended::Extended;
use crate::api::metrics::{Renderer, UPKEEP_PERIOD};
use crate::api::serve::{Api, serve};
use crate::api::{Context, Shared};
use crate::app::{AppChannel, bridge};
use crate::clock::Clock;
use crate::config::{KeySource, NodeConfig, Samples};
use crate::handle::NodeHandle;
use crate::security::key::ClusterKey;
use crate::security::tls::node_tls;
use crate::shell::admission::Doorkeeper;
use crate::shell::apps::{self, AppPort};
use crate::shell::core_thread::CoreThread;
use crate::shell::disk_thread::StoreThreads;
use crate::shell::metrics;
use crate::shell::queues::RUNNER_INPUTS_MAX;
use crate::transport::{Events, Transport};

/// Starts a node as the command line does.
///
/// # Errors
/// When the data directory, a port, a key or the cluster refuses.
pub async fn start(config: NodeConfig) -> Result<RunningNode, StartError> {
    let registry = match config.samples {
        Samples::Hosted => ghostlight_core::samples::registry(),
        Samples::Absent => ActorRegistry::new(),
    };
    let renderer = Renderer::install().map_err(internal)?;
    launch(config, registry, renderer).await
}

/// Starts a node with these actors.
pub(super) async fn launch(
    config: NodeConfig,
    registry: ActorRegistry,
    renderer: Renderer,
) -> Result<RunningNode, StartError> {
    metrics::describe();
    match config.data_dir.clone() {
        Some(path) => {
            // Opening reads every log: not on a thread that serves.
            let opened = {
                let config = config.clone();
                tokio::task::spawn_blocking(move || data::open_directory(&path, &config))
                    .await
                    .map_err(internal)??
            };
            let opened = match opened {
                Directory::Opened(opened) => *opened,
                Directory::Lost(lost) => replace::come_back(*lost, &config).await?,
            };
            assemble(config, registry, renderer, opened).await
        }
        None => {
            let opened = data::open_nothing(&config)?;
            assemble(config, registry, renderer, opened).await
        }
    }
}

async fn assemble<E: Engine>(
    config: NodeConfig,
    registry: ActorRegistry,
    renderer: Renderer,
    opened: Opened<E>,
) -> Result<RunningNode, StartError>
where
    E::View: Send,
{
    let key = cluster_key(&config.cluster_key)?;
    let tls = node_tls(&key).map_err(internal)?;
    let Opened {
        mut store,
        reader,
        mut identity,
        recovered,
        addresses,
    } = opened;
    let listeners = listeners::bind(&config, &mut identity).await?;
    store
        .save_identity(&identity)
        .map_err(|error| StartError::new(error.code(), error.to_string()))?;
    let bound = bound_addresses(&config, &listeners)?;
    let record = record(&config, &identity, &registry, &bound);
    let me = record
        .id()
        .ok_or_else(|| internal("the identity has no node id"))?;

    let clock = Clock::start();
    let doorkeeper = Arc::new(Doorkeeper::new(
        record.clone(),
        config.partitions,
        identity.cluster.clone(),
        &addresses,
    ));
    let start = data::core_start(&config, record, &identity, recovered, addresses);
    let now = Now {
        instant: clock.now(),
        wall: clock.wall(),
    };
    let core = NodeCore::new(now, start);

    let disk = Disk::new(store, identity);
    let store = StoreThreads::start(disk, reader).map_err(internal)?;
    let (events, event_queues) = Events::new();
    let transport =
        Transport::start(me, listeners.peer, tls, doorkeeper.clone(), events).map_err(internal)?;
    let (runner_sink, runner) = mpsc::channel(RUNNER_INPUTS_MAX);
    let actor_types: Vec<String> = registry.types().map(str::to_owned).collect();
    let executor = Executor::start(
        registry,
        Arc::new(runner_sink),
        Arc::new(move || clock.now()),
    )
    .map_err(internal)?;
    let (handle, requests) = NodeHandle::new();
    let thread = CoreThread {
        core,
        clock,
        store,
        transport,
        events: event_queues,
        requests,
        runner,
        executor,
        apps: connect_apps(&config),
        doorkeeper,
    };
    let halted = spawn_core(thread, config.data_dir.clone())?;
    let context = api_context(&config, handle.clone(), actor_types, renderer);
    let (end_apis, end) = watch::channel(false);
    let apis = serve_apis(Arc::new(context), listeners.http, listeners.admin, &end);
    Ok(RunningNode {
        handle,
        addresses: bound,
        halted,
        end_apis,
        apis,
    })
}

/// Looks for the applications from now on. Without any the core hears that there are none when it asks.
fn connect_apps(config: &NodeConfig) -> AppPort {
    let (port, queues) = apps::queues();
    if !config.apps.is_empty() {
        let (channel, events) = AppChannel::start(config.apps.clone());
        bridge::connect(channel, events, queues);
    }
    port
}

fn api_context(
    config: &NodeConfig,
    handle: NodeHandle,
    actor_types: Vec<String>,
    metrics: Renderer,
) -> Context {
    Context {
        handle,
        name: config.name.clone(),
        namespace: config.namespace.clone(),
        tokens: config.api_tokens.clone(),
        weakened: config.weakened.clone(),
        actor_types,
        metrics,
        extended: Extended::default(),
    }
}

fn spawn_core(
    thread: CoreThread,
    data_dir: Option<PathBuf>,
) -> Result<oneshot::Receiver<HaltReason>, StartError> {
    let (halt, halted) = oneshot::channel();
    std::thread::Builder::new()
        .name("core".to_owned())
        .spawn(move || {
            let reason = thread.run();
            if let Some(path) = data_dir {
                data::mark_if_damaged(&path, &reason);
            }
            // Nobody waits for a node that its program has let go of.
            drop(halt.send(reason));
        })
        .map_err(internal)?;
    Ok(halted)
}

fn serve_apis(
    context: Shared,
    http: tokio::net::TcpListener,
    admin: tokio::net::TcpListener,
    end: &watch::Receiver<bool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let upkeep = {
        let (context, mut end) = (Arc::clone(&context), end.clone());
        async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(UPKEEP_PERIOD) => context.metrics.upkeep(),
                    _ = end.changed() => return,
                }
            }
        }
    };
    vec![
        tokio::spawn(serve(Api::Dapr, http, Arc::clone(&context), end.clone())),
        tokio::spawn(serve(Api::Admin, admin, context, end.clone())),
        tokio::spawn(upkeep),
    ]
}

pub(super) fn cluster_key(source: &KeySource) -> Result<ClusterKey, StartError> {
    let key = match source {
        KeySource::Inline(text) => ClusterKey::parse(text.reveal()),
        KeySource::File(path) => ClusterKey::load(path),
        KeySource::UserFile(path) => ClusterKey::load_or_create(path),
        KeySource::Process => Ok(ClusterKey::generate()),
    };
    key.map_err(|error| StartError::new(error.code(), error.to_string()))
}

fn bound_addresses(config: &NodeConfig, listeners: &Listeners) -> Result<Addresses, StartError> {
    let peer = listeners.peer.local_addr().map_err(internal)?;
    Ok(Addresses {
        peer: config.advertise.unwrap_or(peer),
        http: listeners.http.local_addr().map_err(internal)?,
        admin: listeners.admin.local_addr().map_err(internal)?,
    })
}

fn record(
    config: &NodeConfig,
    identity: &NodeIdentity,
    registry: &ActorRegistry,
    bound: &Addresses,
) -> NodeRecord {
    NodeRecord {
        node: identity.node.clone(),
        generation: identity.generation,
        name: config.name.clone(),
        address: bound.peer.to_string(),
        zone: config.zone.clone(),
        weight: config.weight,
        http: bound.http.to_string(),
        admin: bound.admin.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        duty: Duty::Serving as i32,
        revision: 0,
        app_types: Vec::new(),
        actor_types: registry.types().map(str::to_owned).collect(),
        replaces: identity.replaces.clone(),
        pid: std::process::id(),
        nonce: rand::rng().random(),
    }
}

pub(super) fn internal(error: impl std::fmt::Display) -> StartError {
    StartError::new(Code::Internal, error.to_string())
}
