//! `daprd`: a sidecar with Dapr's flags, Dapr's log and Dapr's habits, over a node that holds no
//! data.
//!
//! The APIs serve from the first moment; the node behind them begins when somebody has introduced
//! it to a cluster, or at once when there is none to find: then it is a cluster of its own in a
//! temporary directory. A sidecar may be killed at any time: nothing of it is kept.

mod flags;
mod hosting;
mod introduced;
mod log;
mod options;
pub(super) mod placement;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ghostlight_protocol::code::Code;

use super::start::{Signals, raise_file_limit, runtime};
use super::{Failure, Verdict};
use crate::api::access::Access;
use crate::api::app_calls::{AppCalls, NoApplication};
use crate::api::core_calls::{CoreCalls, Hosts};
use crate::api::metrics::Renderer;
use crate::api::resilience::Resilience;
use crate::api::sidecar::{DAPR_VERSION, Sidecar, components};
use crate::app::AppId;
use crate::app::settings::{self, AppAddress, AppSettings, HealthProbes, Protocol};
use crate::config::{NodeConfig, Secret, Settings};
use crate::node::{
    Also, ApiSetup, AppSetup, Entrance, Listening, Lobby, Reading, RunningNode, Serving,
    StartError, Waited,
};
use crate::pubsub::PubSub;
use crate::pubsub::registry::{KIND_PREFIX, Owner, own_topics};
use crate::resources::{Component, Files, Resources};
use crate::topics::OwnTopics;
use hosting::{Actors, Layer, Stage};
use introduced::Found;
use options::{Asked, Cluster, FLAGS, LogForm, Options};

/// What a sidecar is told that nobody told where its cluster is.
const ALONE: &str = "no placement address was given: this sidecar stands alone, its actors are disabled, and what is \
                     published through it stays in a temporary directory of this process and goes with it. To join a \
                     cluster, say --placement-host-address 127.0.0.1:50005 (where \"ghostlight start\", \"demo\" and \
                     \"placement\" introduce sidecars), or --join with the peer address of a node";

/// Between two looks at the application while the end is held up.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Runs a sidecar with the arguments after the program's name.
pub(super) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let usage = |why: String| Failure::usage(Code::ConfigInvalid, why);
    match Asked::read(arguments, &user_environment).map_err(usage)? {
        Asked::Version => println!("{DAPR_VERSION}"),
        Asked::BuildInfo => println!(
            "Version: {DAPR_VERSION}\nGhostlight: {}",
            env!("CARGO_PKG_VERSION")
        ),
        Asked::Help => println!("{}", help("daprd", FLAGS)),
        Asked::Run(options) => return sidecar(*options),
    }
    Ok(Verdict::Ok)
}

/// The flags, one a line.
fn help(program: &str, known: &[flags::Flag]) -> String {
    let mut text = format!(
        "Usage: {program} [flags]\n\nDapr's {program}, played by Ghostlight. Flags, with one dash or two:\n"
    );
    for flag in known {
        let value = match flag.takes {
            flags::Takes::Switch => "",
            flags::Takes::Value => " VALUE",
            flags::Takes::Values => " VALUE,VALUE",
        };
        let remark = match flag.used {
            flags::Use::Read => "",
            flags::Use::Ignored => "  (nothing to do for it here)",
            flags::Use::NoEffect => "  (no effect here)",
        };
        text.push_str(&format!("  --{}{value}{remark}\n", flag.name));
    }
    let example = match program {
        // Beside a node that has Dapr's own ports.
        "daprd" => {
            "daprd --app-id shop --app-port 8000 --dapr-http-port 3501 --dapr-grpc-port 50002 \\\n    \
             --placement-host-address 127.0.0.1:50005"
        }
        _ => "placement --port 50005",
    };
    text + &format!("\nExample:\n  ghostlight {example}")
}

fn sidecar(options: Options) -> Result<Verdict, Failure> {
    let lines = log::Lines {
        app_id: options.app_id.clone(),
        instance: instance(),
        form: options.log,
    };
    log::start(lines, &options.log_level);
    raise_file_limit();
    let runtime = runtime()?;
    let result = runtime.block_on(serve(options));
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// The environment, and a home directory also where a service manager left it out: what is found by
/// it, the cluster key above all, must be the same for all processes of a user.
fn user_environment(name: &str) -> Option<String> {
    let given = std::env::var(name).ok().filter(|value| !value.is_empty());
    match (given, name) {
        (None, "HOME") => home_of(&std::fs::read_to_string("/etc/passwd").ok()?),
        (given, _) => given,
    }
}

/// The home directory of this process' user in the list of users.
fn home_of(passwd: &str) -> Option<String> {
    let user = rustix::process::getuid().as_raw().to_string();
    let entry = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|entry| entry.get(2) == Some(&user.as_str()))?;
    let home = entry.get(5).filter(|home| !home.is_empty())?;
    Some((*home).to_owned())
}

/// The name of this machine, for the log.
fn instance() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

async fn serve(options: Options) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let mut signals = Signals::listen()?;
    tracing::info!(
        "starting Dapr Runtime -- version {DAPR_VERSION} -- Ghostlight {}",
        env!("CARGO_PKG_VERSION")
    );
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    let (resources, reading) = load(&options)?;
    let actors = actors(&resources)?;
    let stage = match &options.cluster {
        Cluster::Alone => Stage::Alone,
        Cluster::Introduced(_) | Cluster::Joined(_) => Stage::Searching,
    };
    let mut lobby = Lobby::new();
    let hosts = Hosts::default();
    let inner = calls(&options, actors, &lobby, &hosts);
    let layer = Layer::new(inner, actors, stage);
    let mut config = front_config(&options)?;
    // Without a port it may come by a stream.
    config.apps = vec![AppSettings {
        actors: match actors == Actors::Stored && stage != Stage::Alone {
            true => settings::Actors::Hosted,
            false => settings::Actors::Ignored,
        },
        ..beside(&options)
    }];
    let ours = own_topics(&lobby.handle());
    let mut setup = setup(&options, &config, resources, (layer.clone(), ours))?;
    (setup.hosts, setup.own.reading) = (hosts, reading);
    if let Some(warning) = exposed(&options.listen, &config.api_tokens) {
        tracing::warn!("{warning}");
    }
    let entrance = Entrance::open(&config, setup, &lobby).await?;
    say_serving(&entrance, began);
    let forced = entrance.forced();
    let waited = tokio::select! {
        waited = lobby.wait(find(&options)) => waited,
        () = signals.next() => Waited::Shutdown,
    };
    let place = match waited {
        Waited::Done(place) => place,
        Waited::Shutdown => {
            entrance.close().await;
            return ended(&forced);
        }
    };
    let (config, directory) = place.config(&options)?;
    let node = tokio::select! {
        started = crate::node::start_behind(config, entrance, lobby) => started?,
        () = signals.next() => return Ok(Verdict::Ok),
    };
    if stage == Stage::Searching {
        layer.set(Stage::Member);
    }
    match &directory {
        Some(_) => tracing::info!("placement: none; this sidecar is a cluster of its own"),
        None => tracing::info!(
            "placement: connected; peers reach this sidecar at {}",
            node.addresses().peer
        ),
    }
    tracing::info!("admin API at http://{}", node.addresses().admin);
    let verdict = until_the_end(node, &mut signals, &options).await;
    drop(directory);
    verdict
}

/// What is said of an API that anybody on the network may use, as one of Dapr's.
fn exposed(listening: &Listening, tokens: &[Secret]) -> Option<String> {
    let guarded = !tokens.is_empty() || !listening.are_open();
    let addresses = match listening {
        Listening::All => "every address of this machine".to_owned(),
        Listening::These(named) => named
            .iter()
            .map(IpAddr::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    (!guarded).then(|| {
        format!(
            "the API listens on {addresses}, and DAPR_API_TOKEN is not set: whoever reaches them can use it. Set \
             DAPR_API_TOKEN, or say --dapr-listen-addresses 127.0.0.1"
        )
    })
}

/// The way to the application's actors.
fn calls(options: &Options, actors: Actors, lobby: &Lobby, hosts: &Hosts) -> Arc<dyn AppCalls> {
    match actors {
        Actors::Stored => {
            let app = AppId::new(&options.app_id);
            Arc::new(CoreCalls::new(lobby.handle(), Some(app), Arc::clone(hosts)))
        }
        Actors::Storeless => Arc::new(NoApplication),
    }
}

fn setup(
    options: &Options,
    config: &NodeConfig,
    resources: Resources,
    (calls, ours): (Arc<dyn AppCalls>, OwnTopics),
) -> Result<ApiSetup, Failure> {
    let renderer = Renderer::install().map_err(|error| {
        Failure::new(Code::Internal, format!("cannot install metrics: {error}"))
    })?;
    let owner = Owner {
        app_id: options.app_id.clone(),
        namespace: config.namespace.clone(),
        pod: instance(),
    };
    let pubsub = Arc::new(PubSub::new(owner, &resources, &ours).map_err(invalid)?);
    let own = AppSetup {
        app_id: options.app_id.clone(),
        calls: Some(calls),
        app: Some(AppId::new(&options.app_id)),
        resilience: Resilience::new(&resources.resiliency),
        access: Access::new(&resources.configuration),
        sidecar: told(options, &resources, &pubsub),
        pubsub,
        tokens: None,
        reading: None,
    };
    Ok(ApiSetup {
        hosts: Hosts::default(),
        body_max: options.body_max,
        h2c: options.h2c,
        actor_types: Vec::new(),
        renderer,
        own,
        others: Vec::new(),
        also: Also {
            addresses: options.listen.clone(),
            public: options.public,
            metrics: options.metrics,
        },
    })
}

/// The application as the channel to it wants to know it.
fn beside(options: &Options) -> AppSettings {
    let id = AppId::new(&options.app_id);
    let Some(app) = &options.app else {
        return AppSettings {
            body_bytes_max: options.body_max,
            disseminate_timeout: options.disseminate_timeout,
            ..AppSettings::new(id, None)
        };
    };
    let address = AppAddress {
        host: app.channel_address.clone(),
        port: app.port,
    };
    let mut settings = AppSettings::new(id, Some(address));
    settings.protocol = Protocol::parse(app.protocol).unwrap_or_default();
    settings.token = user_environment("APP_API_TOKEN").map(Secret::new);
    settings.concurrency = app
        .max_concurrency
        .and_then(|max| std::num::NonZeroUsize::new(max as usize));
    settings.health = app.health.as_ref().map(|health| HealthProbes {
        path: health.path.clone(),
        interval: health.interval,
        timeout: health.timeout,
        threshold: health.threshold,
    });
    settings.unasked.clone_from(&options.unasked);
    settings.body_bytes_max = options.body_max;
    settings.disseminate_timeout = options.disseminate_timeout;
    settings
}

/// Whether actors are switched on: by a state store that is marked for them, as in Dapr.
fn actors(resources: &Resources) -> Result<Actors, Failure> {
    let store = resources.actor_state_store();
    let Some(store) = store.map_err(|error| invalid(error.to_string()))? else {
        return Ok(Actors::Storeless);
    };
    tracing::warn!(
        "actors keep their state in Ghostlight; what is in the {} of component {} is not read",
        store.kind,
        store.name
    );
    Ok(Actors::Stored)
}

async fn until_the_end(
    node: RunningNode,
    signals: &mut Signals,
    options: &Options,
) -> Result<Verdict, Failure> {
    let grace = options.grace;
    let (handle, forced, serving) = (node.handle(), node.forced(), node.serving());
    let waited = node.wait();
    tokio::pin!(waited);
    tokio::select! {
        result = waited.as_mut() => {
            result?;
            return ended(&forced);
        }
        () = signals.next() => {}
    }
    if let Some(longest) = options.block_shutdown {
        tokio::select! {
            result = waited.as_mut() => {
                result?;
                return ended(&forced);
            }
            () = linger(&serving, longest, signals) => {}
        }
    }
    tracing::info!(
        "dapr shutting down; calls in flight have {} s",
        grace.as_secs()
    );
    handle.shutdown(grace).await;
    tokio::select! {
        result = waited.as_mut() => result?,
        () = signals.next() => {}
    }
    Ok(Verdict::Ok)
}

/// Serves on before the end, without deliveries, as long as was asked for, or until the application
/// is gone, or somebody is impatient.
async fn linger(serving: &Serving, longest: Duration, signals: &mut Signals) {
    serving.end_deliveries();
    tracing::info!(
        "blocking graceful shutdown for {longest:?}, or until the application is unhealthy"
    );
    let deserted = async {
        while !serving.is_deserted() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep(longest) => tracing::info!("the time to block shutdown is over"),
        () = deserted => tracing::info!("the application is unhealthy or gone"),
        () = signals.next() => {}
    }
}

fn ended(forced: &AtomicBool) -> Result<Verdict, Failure> {
    match forced.load(Ordering::SeqCst) {
        true => Err(Failure::told("ended at once, as it was asked to")),
        false => Ok(Verdict::Ok),
    }
}

fn invalid(why: impl Into<String>) -> Failure {
    Failure::new(Code::ConfigInvalid, why)
}

fn load(options: &Options) -> Result<(Resources, Option<Reading>), Failure> {
    let files = Files {
        folders: options.folders.clone(),
        configs: options.configs.clone(),
        builtin: options.builtin.clone(),
    };
    let reading = Reading::new(files, &options.app_id, user_environment);
    let loaded = reading.load();
    let resources = loaded
        .map_err(|error| invalid(error.to_string()))?
        .resources;
    for warning in &resources.warnings {
        tracing::warn!("{warning}");
    }
    for component in &resources.components {
        if !has_block(component) {
            tracing::warn!(
                "component {} is a {}, which Ghostlight does not have: calls to it are answered 501",
                component.name,
                component.kind
            );
        }
        tracing::info!(
            "Component loaded: {} ({}/{})",
            component.name,
            component.kind,
            component.version
        );
    }
    let reading = reading.if_wanted(&resources);
    Ok((resources, reading))
}

/// Whether its building block is there: state for actors, pub/sub, and secrets for other
/// components.
fn has_block(component: &Component) -> bool {
    component.is_actor_state_store()
        || component.kind.starts_with("secretstores.local.")
        || component.kind.starts_with(KIND_PREFIX)
}

fn told(options: &Options, resources: &Resources, pubsub: &PubSub) -> Sidecar {
    Sidecar {
        enabled_features: resources.configuration.enabled_features(),
        components: components(resources, pubsub).into(),
        app: options.app.clone(),
        ..Sidecar::default()
    }
}

/// The lines that tools wait for.
fn say_serving(entrance: &Entrance, began: Instant) {
    tracing::info!("HTTP server is running on {}", entrance.http);
    tracing::info!("API gRPC server is running on {}", entrance.grpc);
    tracing::info!("Internal gRPC server is running on {}", entrance.grpc);
    tracing::info!(
        "dapr initialized. Status: Running. Init Elapsed {}ms",
        began.elapsed().as_millis()
    );
}

/// Where the node begins.
enum Place {
    /// In the cluster of these members, with its key if it is not the user's own.
    Cluster {
        seeds: Vec<String>,
        key_file: Option<std::path::PathBuf>,
    },
    /// In a cluster of its own.
    Temporary,
}

async fn find(options: &Options) -> Place {
    let addresses = match &options.cluster {
        Cluster::Alone => {
            tracing::warn!("{ALONE}");
            return Place::Temporary;
        }
        Cluster::Joined(seeds) => {
            return Place::Cluster {
                seeds: seeds.clone(),
                key_file: None,
            };
        }
        Cluster::Introduced(addresses) => addresses,
    };
    let waiting = |address: &str| {
        tracing::warn!(
            "placement: disconnected. Nobody answers at {address}; start \"ghostlight demo\", or \"ghostlight \
             start --introduce {address}\". Trying again until somebody does"
        );
    };
    match introduced::search(addresses, waiting).await {
        Found::Members(members) => Place::Cluster {
            key_file: members.own_key_file(),
            seeds: members.peers,
        },
        Found::Foreign(address) => {
            tracing::warn!(
                "what answers at {address} is not Ghostlight: this sidecar is a cluster of its own, in a temporary \
                 directory. Start \"ghostlight placement\" there instead"
            );
            Place::Temporary
        }
    }
}

impl Place {
    /// The configuration of the node, and the directory that goes with the process.
    fn config(self, options: &Options) -> Result<(NodeConfig, Option<Temporary>), Failure> {
        let mut settings = front_settings(options);
        let directory = match self {
            Self::Cluster { seeds, key_file } => {
                let named = ["GHOSTLIGHT_CLUSTER_KEY", "GHOSTLIGHT_CLUSTER_KEY_FILE"];
                if named.iter().all(|name| user_environment(name).is_none()) {
                    settings.cluster_key_file = key_file;
                }
                settings.weight = Some(0);
                let host = options.host_ip.or_else(|| local_ip_toward(&seeds));
                let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                settings.listen = Some(SocketAddr::new(host, 0).to_string());
                settings.join = Some(seeds);
                None
            }
            Self::Temporary => {
                let directory = Temporary::make()?;
                settings.listen = Some("127.0.0.1:0".to_owned());
                settings.data_dir = Some(directory.0.clone());
                Some(directory)
            }
        };
        Ok((build(settings)?, directory))
    }
}

/// Gone with the process; what is left of a killed one is the system's to clean.
struct Temporary(std::path::PathBuf);

impl Temporary {
    fn make() -> Result<Self, Failure> {
        let name = format!(
            "ghostlight-sidecar-{}-{:08x}",
            std::process::id(),
            rand::random::<u32>()
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| {
            let why = format!("cannot make the directory {} ({error})", path.display());
            Failure::new(Code::DataDirUnusable, why)
        })?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("the directory {} is left behind: {error}", self.0.display());
        }
    }
}

/// The address of this machine that packets to a seed leave by. Nothing is sent.
fn local_ip_toward(seeds: &[String]) -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    let reached = seeds
        .iter()
        .any(|seed| socket.connect(seed.as_str()).is_ok());
    reached
        .then(|| socket.local_addr().ok())?
        .map(|addr| addr.ip())
}

/// What can be said before the cluster is known: enough for the APIs.
fn front_config(options: &Options) -> Result<NodeConfig, Failure> {
    build(Settings {
        data_dir: Some(std::env::temp_dir()),
        ..front_settings(options)
    })
}

fn front_settings(options: &Options) -> Settings {
    let first = options.listen.first();
    let address = |port: Option<u16>| SocketAddr::new(first, port.unwrap_or(0)).to_string();
    Settings {
        name: Some(node_name(&options.app_id)),
        http: Some(address(options.http_port)),
        grpc: Some(address(options.grpc_port)),
        admin: Some("127.0.0.1:0".to_owned()),
        introduce: Some("none".to_owned()),
        drain_timeout: Some(format!("{}ms", options.grace.as_millis().max(1))),
        log_format: Some(match options.log {
            LogForm::Text => "text".to_owned(),
            LogForm::Json => "json".to_owned(),
        }),
        cluster_key_file: user_environment("GHOSTLIGHT_CLUSTER_KEY_FILE").map(Into::into),
        ..Settings::default()
    }
}

fn build(settings: Settings) -> Result<NodeConfig, Failure> {
    NodeConfig::build(settings, Settings::default(), &user_environment)
        .map_err(|error| StartError::from(error).into())
}

/// A name for people: the app-id as far as it may be one.
fn node_name(app_id: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name: String = app_id
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(64)
        .collect();
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_home_without_the_variable() {
        let me = rustix::process::getuid().as_raw();
        let passwd = format!(
            "broken\nother:x:99999999:1::/other:/bin/sh\nme:x:{me}:1:Me:/users/me:/bin/sh\n"
        );
        assert_eq!(home_of(&passwd).as_deref(), Some("/users/me"));
        assert_eq!(home_of("other:x:99999999:1::/other:/bin/sh\n"), None);
        assert_eq!(home_of(&format!("me:x:{me}:1:::/bin/sh")), None);
    }

    #[test]
    fn an_open_api_without_a_token_is_said_once_and_how_to_close_it() {
        let named =
            |ips: &[&str]| Listening::These(ips.iter().map(|ip| ip.parse().unwrap()).collect());
        let token = Secret::new("hush");
        for (listening, tokens, said) in [
            (
                Listening::All,
                &[][..],
                Some("on every address of this machine,"),
            ),
            (
                named(&["10.0.0.1", "127.0.0.1"]),
                &[],
                Some("on 10.0.0.1, 127.0.0.1,"),
            ),
            (named(&["127.0.0.1", "::1"]), &[], None),
            (Listening::All, std::slice::from_ref(&token), None),
        ] {
            let warning = exposed(&listening, tokens);
            assert_eq!(warning.is_some(), said.is_some(), "{listening:?}");
            for words in said
                .into_iter()
                .chain(["--dapr-listen-addresses 127.0.0.1"])
            {
                assert!(
                    warning.iter().all(|text| text.contains(words)),
                    "{warning:?}"
                );
            }
        }
    }

    #[test]
    fn any_app_id_makes_a_node_name() {
        for (app_id, name) in [("shop", "shop"), ("my shop/2", "my-shop-2"), ("ä", "-")] {
            assert_eq!(node_name(app_id), name);
        }
        assert_eq!(node_name(&"x".repeat(200)).len(), 64);
    }
}
