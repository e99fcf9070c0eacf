//! The configuration of a node: parsed once into types, checked as a whole, then passed on as data.
//!
//! Four sources, the first that names a value wins: flag, environment (`GHOSTLIGHT_*`), file
//! (TOML), default. Flags and environment arrive as one [`Settings`] (clap reads both), the file as
//! another, what the data directory remembers of the last start as a third; [`NodeConfig::build`]
//! overlays them and checks every relation. Absent here: components (stores, clocks, transports)
//! are constructor arguments, never settings; a value nobody has needed to change is a constant in
//! `limits.rs`.

mod file;
mod remembered;
mod units;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::WEIGHT_MAX;

pub(crate) use file::nearest;
pub use file::{KEYS, Settings};
pub use remembered::Remembered;
pub use units::{is_truthy, parse_duration};
pub(crate) use values::{replaceable, socket_addr};

use values::{
    api_tokens, apps, drain_timeout, in_range, introduce, key_source, listen_addr, log, name,
    of_first, partition_count, profile, seeds,
};

use crate::app::settings::{AppDoor, AppSettings};

/// Peer port (QUIC, UDP).
pub const PEER_PORT: u16 = 7400;
/// Dapr HTTP port.
pub const HTTP_PORT: u16 = 3500;
/// Dapr gRPC port.
pub const GRPC_PORT: u16 = 50001;
/// Port of Dapr's placement service, where sidecars are introduced.
pub const INTRODUCE_PORT: u16 = 50005;
/// Port of the admin API and the metrics.
pub const ADMIN_PORT: u16 = 7480;
/// Data directory when none is named.
pub const DATA_DIR: &str = "ghostlight-data";
/// How long a node that ends may take to give its leaderships away.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Most seeds of one node.
pub const SEEDS_MAX: usize = 64;
/// Most applications beside one node.
pub const APPS_MAX: usize = 16;

/// Everything a node needs to know before it starts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name for people; not an identity. Default: the last part of the data directory.
    pub name: String,
    /// Part of every actor's identity.
    pub namespace: String,
    /// Where everything that must survive lives; `None` only for an edge (weight 0).
    pub data_dir: Option<PathBuf>,
    /// Peer address.
    pub listen: ListenAddr,
    /// Peer address as others reach it, if it is not the one listened on.
    pub advertise: Option<SocketAddr>,
    /// Seeds, `host:port`. Empty: a restart, or a new cluster.
    pub join: Vec<String>,
    /// Dapr HTTP API.
    pub http: ListenAddr,
    /// Dapr gRPC API.
    pub grpc: ListenAddr,
    /// Admin API and metrics.
    pub admin: ListenAddr,
    /// Where sidecars are introduced to the cluster; `None`: nowhere.
    pub introduce: Option<ListenAddr>,
    /// Failure zone; copies are spread over zones first. Empty: none.
    pub zone: String,
    /// Share of the partitions, 1 to 16; 0: an edge, which holds none.
    pub weight: u32,
    /// Fewest voters a partition needs to accept writes, 1 to 5.
    pub min_copies: u8,
    /// Where the cluster key comes from.
    pub cluster_key: KeySource,
    /// Accepted API tokens, where an application has none of its own; empty: none is asked for.
    pub api_tokens: Vec<Secret>,
    /// Partition count of a cluster that this node founds; `None`: the default.
    pub partitions: Option<u16>,
    /// Whether the sample actors are hosted.
    pub samples: Samples,
    /// Applications beside this node, each with another name. The API listeners of the node are the
    /// first one's.
    pub apps: Vec<AppSettings>,
    /// Folders with Dapr's resources: components, subscriptions, resiliency.
    pub resources: Vec<PathBuf>,
    /// Types of pub/sub components that Ghostlight serves in place of their own system.
    pub builtin: Vec<String>,
    /// How much is left to the operator.
    pub profile: Profile,
    /// Longest drain before the end.
    pub drain_timeout: Duration,
    /// What is logged, and how.
    pub log: Log,
    /// Settings that weaken a guarantee: one WARN each at the start, and a mark in `status`.
    pub weakened: Vec<String>,
}

/// An address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenAddr {
    /// The address.
    pub addr: SocketAddr,
    /// Whether somebody asked for exactly this one.
    pub origin: AddrOrigin,
}

/// Who chose an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddrOrigin {
    /// Nobody: on loopback a taken port moves to the next free one.
    Default,
    /// The operator: it is this one or none.
    Explicit,
}

/// Where the cluster key comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// The text itself, from `GHOSTLIGHT_CLUSTER_KEY`.
    Inline(Secret),
    /// A file the operator named; it must exist.
    File(PathBuf),
    /// The user's configuration directory; made on the first start.
    UserFile(PathBuf),
    /// A fresh key for this process alone: there is no home directory.
    Process,
}

impl KeySource {
    /// The file that the key is in, if it is in one.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) | Self::UserFile(path) => std::path::absolute(path).ok(),
            Self::Inline(_) | Self::Process => None,
        }
    }
}

/// Whether the sample actors are hosted: `counter`, `log`, `account`, `register`, `echo` and
/// `tally`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Samples {
    /// They are.
    Hosted,
    /// They are not.
    Absent,
}

/// How careful a node is about where it listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Loopback by default; weak choices warn.
    Dev,
    /// Weak choices are refused.
    Prod,
}

/// What is logged, and how. Logs go to stderr.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// A level, or a filter such as `info,ghostlight_transport=debug`.
    pub level: String,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text; for the one who compares or derives, not for logs.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Why a configuration is refused: what failed, why, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    code: Code,
    detail: String,
}

impl Error {
    /// A refusal with its page.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }

    /// The page that explains it.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::ConfigInvalid, detail)
    }
}

/// Reads an environment variable; an argument, so that tests need not touch the process.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl NodeConfig {
    /// Overlays flags and environment (`top`) on the file (`file`) and the defaults, and checks the
    /// whole.
    ///
    /// `environment` answers for variables that are no flag: `GHOSTLIGHT_CLUSTER_KEY`,
    /// `DAPR_API_TOKEN`, `NAMESPACE`, and the directories of the user.
    ///
    /// # Errors
    /// The first value or relation that is wrong.
    pub fn build(
        top: Settings,
        file: Settings,
        environment: Environment<'_>,
    ) -> Result<Self, Error> {
        let namespace = top
            .namespace
            .clone()
            .or_else(|| environment("NAMESPACE").filter(|n| !n.is_empty()));
        let given = top.over(file);
        let weight = in_range("weight", given.weight.unwrap_or(1), 0, WEIGHT_MAX)?;
        let data_dir = given.data_directory();
        let join = seeds(given.join.unwrap_or_default())?;
        let apps = apps(given.app.unwrap_or_default(), environment)?;
        let own = apps
            .first()
            .map_or_else(AppDoor::default, |app| app.door.clone());
        let mut config = Self {
            name: name(given.name, data_dir.as_deref())?,
            namespace: values::namespace(namespace.or(given.namespace))?,
            data_dir,
            listen: listen_addr("listen", given.listen.as_deref(), PEER_PORT)?,
            advertise: given
                .advertise
                .as_deref()
                .map(|text| socket_addr("advertise", text, PEER_PORT))
                .transpose()?,
            join,
            http: of_first("http", given.http.as_deref(), HTTP_PORT, own.http)?,
            grpc: of_first("grpc", given.grpc.as_deref(), GRPC_PORT, own.grpc)?,
            admin: listen_addr("admin", given.admin.as_deref(), ADMIN_PORT)?,
            introduce: introduce(given.introduce.as_deref(), weight)?,
            zone: given.zone.unwrap_or_default(),
            weight,
            min_copies: in_range("min-copies", given.min_copies.unwrap_or(1), 1, 5)? as u8,
            cluster_key: key_source(given.cluster_key_file, environment),
            api_tokens: api_tokens(given.api_token_file.as_deref(), environment)?,
            partitions: given.partitions.map(partition_count).transpose()?,
            samples: if given.samples.unwrap_or(false) {
                Samples::Hosted
            } else {
                Samples::Absent
            },
            apps,
            resources: given.resources_path.unwrap_or_default(),
            builtin: replaceable(given.builtin.unwrap_or_default())?,
            profile: profile(given.profile.as_deref())?,
            drain_timeout: drain_timeout(given.drain_timeout.as_deref())?,
            log: log(given.log_level, given.log_format.as_deref())?,
            weakened: Vec::new(),
        };
        config.check()?;
        Ok(config)
    }

    /// Every relation between values.
    fn check(&mut self) -> Result<(), Error> {
        if self.weight == 0 && self.join.is_empty() {
            return Err(Error::new(
                Code::EdgeCannotFound,
                "a node of weight 0 holds no copies, so it can neither found a cluster nor remember one. \
                 Name a member with --join, or give it a weight",
            ));
        }
        if self.listen.addr.ip().is_unspecified() && self.advertise.is_none() {
            return Err(Error::invalid(format!(
                "listen = {} means every interface, so peers cannot know where to reach this node. \
                 Add --advertise with the address they should use",
                self.listen.addr
            )));
        }
        if self.advertise.is_some_and(|a| a.ip().is_unspecified()) {
            return Err(Error::invalid(
                "advertise is the address of every interface; nobody can reach it. \
                 Give the address that peers should use",
            ));
        }
        self.check_exposure()
    }

    /// What leaves loopback must be protected: `prod` refuses, `dev` warns.
    fn check_exposure(&mut self) -> Result<(), Error> {
        let named_key = matches!(self.cluster_key, KeySource::Inline(_) | KeySource::File(_));
        let exposed = [self.listen.addr.ip()]
            .into_iter()
            .chain(self.advertise.map(|a| a.ip()));
        if !named_key && exposed.into_iter().any(|ip| !ip.is_loopback()) {
            return Err(Error::new(
                Code::ProfileRefuses,
                "the peer address is not on loopback and no cluster key was named, so anybody on the \
                 network could try to join. Make a key with \"ghostlight keygen > cluster.key\", copy it \
                 to every node, and pass --cluster-key-file cluster.key",
            ));
        }
        let node = |what: &str, listen: ListenAddr| (what.to_owned(), listen.addr, false);
        let own = self.apps.first().and_then(|app| app.door.tokens.as_ref());
        let mut listeners = vec![
            node("http", self.http),
            node("grpc", self.grpc),
            node("admin", self.admin),
        ];
        for (_, _, guarded) in listeners.iter_mut().take(2) {
            *guarded = own.is_some();
        }
        for app in self.apps.iter().skip(1) {
            let AppDoor {
                http, grpc, tokens, ..
            } = &app.door;
            for (what, addr) in [("http", http), ("grpc", grpc)] {
                let what = format!("{what} of {}", app.id);
                listeners.extend(addr.map(|addr| (what, addr, tokens.is_some())));
            }
        }
        for (what, addr, guarded) in listeners {
            if addr.ip().is_loopback() || guarded || !self.api_tokens.is_empty() {
                continue;
            }
            if self.profile == Profile::Prod {
                return Err(Error::new(
                    Code::ProfileRefuses,
                    format!(
                        "{what} = {addr} is reachable from the network and no API token is set; the prod \
                         profile refuses that. Pass --api-token-file, or listen on loopback"
                    ),
                ));
            }
            self.weakened.push(format!(
                "{what} listens on {addr} without an API token: anybody who reaches it can use it"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
