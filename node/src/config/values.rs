//! What the text of each setting means: names, seeds, addresses, files of keys and tokens.
//!
//! Each is checked by itself; how they relate is `NodeConfig::check`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::PARTITIONS_MAX;

use super::{
    APPS_MAX, AddrOrigin, DRAIN_TIMEOUT, Environment, Error, INTRODUCE_PORT, KeySource, ListenAddr,
    Log, LogFormat, PEER_PORT, Profile, SEEDS_MAX, Secret, parse_duration,
};
use crate::app::settings::{AppFlagError, AppSettings};

/// Types of pub/sub components that Dapr has a system for: what `--builtin` may name.
const REPLACEABLE: [&str; 19] = [
    "pubsub.aws.snssqs",
    "pubsub.azure.eventhubs",
    "pubsub.azure.servicebus",
    "pubsub.azure.servicebus.queues",
    "pubsub.azure.servicebus.topics",
    "pubsub.gcp.pubsub",
    "pubsub.hazelcast",
    "pubsub.in-memory",
    "pubsub.jetstream",
    "pubsub.kafka",
    "pubsub.kubemq",
    "pubsub.mqtt",
    "pubsub.mqtt3",
    "pubsub.natsstreaming",
    "pubsub.pulsar",
    "pubsub.rabbitmq",
    "pubsub.redis",
    "pubsub.rocketmq",
    "pubsub.solace.amqp",
];

/// Types of components that are to be served in place of their own system.
pub(crate) fn replaceable(given: Vec<String>) -> Result<Vec<String>, Error> {
    let unknown = given
        .iter()
        .find(|kind| !REPLACEABLE.contains(&kind.as_str()));
    match unknown {
        None => Ok(given),
        Some(kind) => Err(Error::invalid(format!(
            "builtin = {kind:?} is no type of a pub/sub component of Dapr's. Use one of {}; a component of any other \
             type asks for it itself, with the metadata ghostlight.builtin: \"true\"",
            REPLACEABLE.join(", ")
        ))),
    }
}

pub(super) fn namespace(given: Option<String>) -> Result<String, Error> {
    let namespace = given.unwrap_or_else(|| "default".to_owned());
    if is_plain(&namespace) {
        return Ok(namespace);
    }
    Err(Error::invalid(format!(
        "namespace = {namespace:?} is not a name. Use 1 to 64 letters, digits, '-', '_' or '.', with --namespace"
    )))
}

/// Whether a name needs no quotes anywhere.
fn is_plain(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 64 && name.chars().all(fits)
}

pub(super) fn name(given: Option<String>, data_dir: Option<&Path>) -> Result<String, Error> {
    let name = given.unwrap_or_else(|| {
        data_dir
            .and_then(Path::file_name)
            .map_or_else(|| "edge".to_owned(), |n| n.to_string_lossy().into_owned())
    });
    if is_plain(&name) {
        return Ok(name);
    }
    Err(Error::invalid(format!(
        "name = {name:?} is not a node name. Use 1 to 64 letters, digits, '-', '_' or '.', with --name"
    )))
}

pub(super) fn seeds(given: Vec<String>) -> Result<Vec<String>, Error> {
    let mut seeds = Vec::new();
    for seed in given
        .iter()
        .flat_map(|s| s.split(','))
        .map(str::trim)
        .filter(|s| !s.is_empty())
    {
        let seed = with_port(seed);
        let port = seed.rsplit_once(':').map_or("", |(_, port)| port);
        if seed.contains("//") || port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err(Error::invalid(format!(
                "join: {seed:?} is not host:port. Give the peer address of a member, such as 127.0.0.1:7400"
            )));
        }
        seeds.push(seed);
    }
    if seeds.len() > SEEDS_MAX {
        return Err(Error::invalid(format!(
            "join names {} seeds, at most {SEEDS_MAX} are allowed. A few are enough: one that answers \
             is enough to find all the others",
            seeds.len()
        )));
    }
    Ok(seeds)
}

/// Adds the default port to a seed without one.
fn with_port(seed: &str) -> String {
    match seed.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, PEER_PORT).to_string(),
        Err(_) if seed.contains(':') && !seed.ends_with(']') => seed.to_owned(),
        Err(_) => format!("{seed}:{PEER_PORT}"),
    }
}

pub(super) fn listen_addr(key: &str, given: Option<&str>, port: u16) -> Result<ListenAddr, Error> {
    match given {
        Some(text) => Ok(ListenAddr {
            addr: socket_addr(key, text, port)?,
            origin: AddrOrigin::Explicit,
        }),
        None => Ok(ListenAddr {
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            origin: AddrOrigin::Default,
        }),
    }
}

/// Where the node's own API listens: where it was said, or where its first application says.
pub(super) fn of_first(
    key: &str,
    given: Option<&str>,
    port: u16,
    of_app: Option<SocketAddr>,
) -> Result<ListenAddr, Error> {
    match (given, of_app) {
        (Some(given), Some(of_app)) => Err(Error::invalid(format!(
            "{key} = {given}, and the first application says {key}={of_app}: the node's own listeners are its. \
             Say one of the two"
        ))),
        (None, Some(addr)) => Ok(ListenAddr {
            addr,
            origin: AddrOrigin::Explicit,
        }),
        (given, None) => listen_addr(key, given, port),
    }
}

/// `none` switches it off; an edge has nothing to introduce to.
pub(super) fn introduce(given: Option<&str>, weight: u32) -> Result<Option<ListenAddr>, Error> {
    match (given, weight) {
        (Some("none"), _) | (None, 0) => Ok(None),
        (given, _) => listen_addr("introduce", given, INTRODUCE_PORT).map(Some),
    }
}

/// `ip:port`, `ip` (default port), `:port` (loopback) or `port` (loopback).
pub(crate) fn socket_addr(key: &str, text: &str, port: u16) -> Result<SocketAddr, Error> {
    let text = text.trim();
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let bare = text.strip_prefix(':').unwrap_or(text);
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(addr);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    if let Ok(port) = bare.parse::<u16>() {
        return Ok(SocketAddr::new(loopback, port));
    }
    let text = text.replace("localhost:", "127.0.0.1:");
    text.parse::<SocketAddr>().map_err(|_| {
        Error::invalid(format!(
            "{key} = {text:?} is not an address. Write ip:port, such as 127.0.0.1:{port} or 0.0.0.0:{port}"
        ))
    })
}

pub(super) fn partition_count(count: u32) -> Result<u16, Error> {
    match u16::try_from(count) {
        Ok(fits) if fits.is_power_of_two() && fits <= PARTITIONS_MAX => Ok(fits),
        _ => Err(Error::new(
            Code::PartitionsInvalid,
            format!(
                "partitions = {count} is not possible. Use a power of two from 1 to {PARTITIONS_MAX}; \
                 it is fixed when the cluster is founded, and 256 suits most"
            ),
        )),
    }
}

pub(super) fn in_range(key: &str, value: u32, low: u32, high: u32) -> Result<u32, Error> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(Error::invalid(format!(
        "{key} = {value} is out of range. Use a number from {low} to {high}"
    )))
}

pub(super) fn key_source(file: Option<PathBuf>, environment: Environment<'_>) -> KeySource {
    if let Some(file) = file {
        return KeySource::File(file);
    }
    if let Some(key) = environment("GHOSTLIGHT_CLUSTER_KEY").filter(|key| !key.is_empty()) {
        return KeySource::Inline(Secret::new(key.trim()));
    }
    let set = |name: &str| {
        environment(name)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_CONFIG_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".config")))
        .map_or(KeySource::Process, |base| {
            KeySource::UserFile(base.join("ghostlight").join("cluster.key"))
        })
}

/// Tokens of the file, one per line, so that a new one can be added before the old one goes.
pub(super) fn api_tokens(
    file: Option<&Path>,
    environment: Environment<'_>,
) -> Result<Vec<Secret>, Error> {
    let Some(path) = file else {
        let token = environment("DAPR_API_TOKEN").filter(|token| !token.is_empty());
        return Ok(token.map(Secret::new).into_iter().collect());
    };
    token_lines(path)
}

fn token_lines(path: &Path) -> Result<Vec<Secret>, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(
            Code::KeyFileUnusable,
            format!(
                "cannot read the file of tokens {} ({error}). Write one token per line into it",
                path.display()
            ),
        )
    })?;
    let tokens: Vec<Secret> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(Secret::new)
        .collect();
    if tokens.is_empty() {
        return Err(Error::new(
            Code::KeyFileUnusable,
            format!(
                "the file of tokens {} is empty, which would leave what it guards open. Write one token per line",
                path.display()
            ),
        ));
    }
    Ok(tokens)
}

/// Applications; the token that the node shows to one is that of its file, or `APP_API_TOKEN`, as
/// in Dapr.
pub(super) fn apps(
    given: Vec<String>,
    environment: Environment<'_>,
) -> Result<Vec<AppSettings>, Error> {
    if given.len() > APPS_MAX {
        return Err(Error::invalid(format!(
            "{} applications are too many for one node. Name at most {APPS_MAX}",
            given.len()
        )));
    }
    let token = environment("APP_API_TOKEN").filter(|token| !token.is_empty());
    let mut apps: Vec<AppSettings> = Vec::with_capacity(given.len());
    for text in given {
        let mut app: AppSettings = text
            .parse()
            .map_err(|error: AppFlagError| Error::invalid(error.to_string()))?;
        if apps.iter().any(|other| other.id == app.id) {
            return Err(Error::invalid(format!(
                "app = {text:?}: there is another application of that name. Give each its own",
            )));
        }
        app.token = match &app.door.app_token_file {
            Some(path) => token_lines(path)?.into_iter().next(),
            None => token.clone().map(Secret::new),
        };
        if let Some(path) = &app.door.token_file {
            app.door.tokens = Some(token_lines(path)?);
        }
        apps.push(app);
    }
    Ok(apps)
}

pub(super) fn profile(given: Option<&str>) -> Result<Profile, Error> {
    match given.unwrap_or("dev") {
        "dev" => Ok(Profile::Dev),
        "prod" => Ok(Profile::Prod),
        other => Err(Error::invalid(format!(
            "profile = {other:?} does not exist. Use dev or prod"
        ))),
    }
}

pub(super) fn drain_timeout(given: Option<&str>) -> Result<Duration, Error> {
    let Some(text) = given else {
        return Ok(DRAIN_TIMEOUT);
    };
    parse_duration(text)
        .filter(|d| *d <= Duration::from_secs(3_600))
        .ok_or_else(|| {
            Error::invalid(format!(
                "drain-timeout = {text:?} is not a time up to 1h. Write a number with a unit, such as 30s"
            ))
        })
}

/// A word that is no level would be the name of a target, and silence all others.
fn is_filter(text: &str) -> bool {
    let is_level = |word: &str| {
        word.parse::<tracing_subscriber::filter::LevelFilter>()
            .is_ok()
    };
    let mut words = text.split(',').map(str::trim);
    let plain = |word: &str| is_level(word) || word.contains('=');
    let is_known = text.contains('[') || words.all(plain);
    is_known && text.parse::<tracing_subscriber::EnvFilter>().is_ok()
}

pub(super) fn log(level: Option<String>, format: Option<&str>) -> Result<Log, Error> {
    let level = level.unwrap_or_else(|| "info".to_owned());
    // The library takes no blanks in a list.
    let words: Vec<&str> = level.split(',').map(str::trim).collect();
    let level = words.join(",");
    if !is_filter(&level) {
        return Err(Error::invalid(format!(
            "log-level = {level:?} is neither a level nor a filter. \
             Use off, error, warn, info, debug or trace, or a list such as info,ghostlight=debug"
        )));
    }
    let format = match format.unwrap_or("text") {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => {
            return Err(Error::invalid(format!(
                "log-format = {other:?} does not exist. Use text or json"
            )));
        }
    };
    Ok(Log { level, format })
}
