//! Putting a node together: key, store, ports, threads, APIs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ghostlight_core::io::{HaltReason, Now};
use ghostlight_core::node::NodeCore;
use ghostlight_core::sdk::ActorRegistry;
use ghostlight_disk::Disk;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::wire::hello::{Duty, NodeRecord};
use ghostlight_shell::admission::Doorkeeper;
use ghostlight_shell::queues::RUNNER_INPUTS_MAX;
use ghostlight_shell::store_threads::StoreThreads;
use ghostlight_storage::{Engine, NodeIdentity};
use rand::Rng;
use tokio::sync::{mpsc, oneshot};

use super::data::{self, Directory, Opened};
use super::entrance::{ApiSetup, Entrance};
use super::listeners::{self, Back};
use super::{Addresses, Lobby, RunningNode, StartError, replace};
use crate::actors::{self, Executor};
use crate::api::metrics::Renderer;
use crate::clock::Clock;
use crate::config::{KeySource, NodeConfig, Samples};
use crate::security::key::ClusterKey;
use crate::security::tls::node_tls;
use crate::shell::core_thread::CoreThread;
use crate::shell::metrics;
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

/// Starts a node whose APIs serve already; it hosts no native actors.
///
/// # Errors
/// When the data directory, a port, a key or the cluster refuses. The APIs end.
pub async fn start_behind(
    config: NodeConfig,
    entrance: Entrance,
    lobby: Lobby,
) -> Result<RunningNode, StartError> {
    open(config, ActorRegistry::new(), Doors::Open(entrance, lobby)).await
}

/// Starts a node with these actors.
pub(super) async fn launch(
    config: NodeConfig,
    registry: ActorRegistry,
    renderer: Renderer,
) -> Result<RunningNode, StartError> {
    let actor_types = registry.types().map(str::to_owned).collect();
    let lobby = Lobby::new();
    let setup = ApiSetup::of_node(&config, actor_types, renderer, &lobby.handle())?;
    open(config, registry, Doors::Closed(Box::new(setup), lobby)).await
}

/// Whether the APIs that applications see serve already.
enum Doors {
    /// They do, and nobody is behind them yet.
    Open(Entrance, Lobby),
    /// They begin with the node.
    Closed(Box<ApiSetup>, Lobby),
}

impl Doors {
    /// Opens them, where the node listened the last time.
    async fn opened(
        self,
        config: &NodeConfig,
        identity: &mut NodeIdentity,
    ) -> Result<(Entrance, Lobby), StartError> {
        match self {
            Self::Open(entrance, lobby) => Ok((entrance, lobby)),
            Self::Closed(setup, lobby) => {
                let fronts = listeners::fronts(config, Some(identity)).await?;
                let entrance = Entrance::behind(config, *setup, &lobby, fronts)?;
                Ok((entrance, lobby))
            }
        }
    }
}

async fn open(
    config: NodeConfig,
    registry: ActorRegistry,
    doors: Doors,
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
            assemble(config, registry, doors, opened).await
        }
        None => {
            let opened = data::open_nothing(&config)?;
            assemble(config, registry, doors, opened).await
        }
    }
}

async fn assemble<E: Engine>(
    config: NodeConfig,
    registry: ActorRegistry,
    doors: Doors,
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
        trust,
    } = opened;
    let back = listeners::back(&config, &mut identity).await?;
    let (mut entrance, lobby) = doors.opened(&config, &mut identity).await?;
    store.save_identity(&identity).map_err(data::failed)?;
    let bound = bound_addresses(&config, &entrance, &back)?;
    let record = record(&config, &identity, &registry, &bound);
    let me = record
        .id()
        .ok_or_else(|| internal("the identity has no node id"))?;
    let (handle, requests) = lobby.into_parts();
    let hub = handle.begin(&record);

    let clock = Clock::start();
    let doorkeeper = Arc::new(Doorkeeper::new(
        record.clone(),
        config.partitions,
        identity.cluster.clone(),
        &addresses,
    ));
    let start = data::core_start(&config, record, &identity, recovered, addresses, trust);

    let disk = Disk::new(store, identity);
    let (ports, store) = StoreThreads::start(disk, reader).map_err(internal)?;
    let (events, event_queues) = Events::with_ephemeral(hub.clone());
    let transport =
        Transport::start(me, back.peer, tls, doorkeeper.clone(), events).map_err(internal)?;
    let subscribed = actors::events::Events::begin(&registry, &config.namespace, &handle);
    let (runner_sink, runner) = mpsc::channel(RUNNER_INPUTS_MAX);
    let executor = Executor::start(
        registry,
        Arc::new(runner_sink),
        Arc::new(move || clock.now()),
    )
    .map_err(internal)?;
    entrance.serve_back(back.admin, back.introduce);
    let thread = CoreThread {
        core: NodeCore::new(now(clock), start),
        clock,
        ports,
        store,
        transport,
        events: event_queues,
        requests,
        runner,
        executor,
        apps: entrance.apps,
        doorkeeper,
        hub,
        door: Arc::clone(handle.door()),
    };
    let halted = spawn_core(thread, config.data_dir.clone())?;
    Ok(RunningNode {
        handle,
        addresses: bound,
        halted,
        contexts: entrance.contexts,
        end_apis: entrance.end,
        apis: entrance.tasks,
        subscribed,
    })
}

fn now(clock: Clock) -> Now {
    Now {
        instant: clock.now(),
        wall: clock.wall(),
    }
}

fn spawn_core(
    thread: CoreThread,
    data_dir: Option<PathBuf>,
) -> Result<oneshot::Receiver<HaltReason>, StartError> {
    let (halt, halted) = oneshot::channel();
    let panicked = thread.store.panicked.clone();
    thread.hub.serve(panicked).map_err(internal)?;
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

pub(super) fn cluster_key(source: &KeySource) -> Result<ClusterKey, StartError> {
    let key = match source {
        KeySource::Inline(text) => ClusterKey::parse(text.reveal()),
        KeySource::File(path) => ClusterKey::load(path),
        KeySource::UserFile(path) => ClusterKey::load_or_create(path),
        KeySource::Process => Ok(ClusterKey::generate()),
    };
    key.map_err(|error| StartError::new(error.code(), error.to_string()))
}

fn bound_addresses(
    config: &NodeConfig,
    entrance: &Entrance,
    back: &Back,
) -> Result<Addresses, StartError> {
    let peer = back.peer.local_addr().map_err(internal)?;
    let introduce = back.introduce.as_ref();
    Ok(Addresses {
        // A free port was asked for: others need the one that it became.
        peer: match config.advertise {
            Some(advertise) if advertise.port() == 0 => {
                SocketAddr::new(advertise.ip(), peer.port())
            }
            Some(advertise) => advertise,
            None => peer,
        },
        http: entrance.http,
        grpc: entrance.grpc,
        apps: entrance.applications(),
        admin: back.admin.local_addr().map_err(internal)?,
        introduce: introduce.and_then(|listener| listener.local_addr().ok()),
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
