//! What is known about an application before it answers: where it listens, and how it wants to be
//! asked.
//!
//! Values are checked where they are read (command line, configuration); nothing here fails.

mod flag;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use flag::{APP_ID_BYTES_MAX, AppFlagError};

use super::AppId;
use crate::config::Secret;

/// Dapr's limit of a body, also of an answer.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Dapr's `--actors-disseminate-timeout`, which bounds the drain of calls.
pub const DISSEMINATE_TIMEOUT: Duration = Duration::from_secs(30);

/// How an application is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/1.1 or HTTP/2 over TLS. The certificate is not checked, as in Dapr: it is a
    /// neighbour's.
    Https,
    /// HTTP/2 in clear text, by prior knowledge.
    H2c,
    /// gRPC; actors come by the stream that the application opens.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
}

impl Protocol {
    /// Parses Dapr's word for it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            "h2c" => Some(Self::H2c),
            "grpc" => Some(Self::Grpc),
            "grpcs" => Some(Self::Grpcs),
            _ => None,
        }
    }

    /// Dapr's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }
}

/// Where an application listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppAddress {
    /// Name or address; Dapr's `--app-channel-address`.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for AppAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Health probes of an application (off in Dapr unless asked for).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthProbes {
    /// Path of the probe over HTTP.
    pub path: String,
    /// Time between probes.
    pub interval: Duration,
    /// Time for an answer.
    pub timeout: Duration,
    /// Failures in a row after which it counts as unhealthy; one success makes it healthy again.
    pub threshold: u32,
}

impl Default for HealthProbes {
    fn default() -> Self {
        Self {
            path: "/healthz".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
            threshold: 3,
        }
    }
}

/// What an application is asked when it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// Which actors it hosts: `GET /dapr/config`.
    Config,
    /// What it subscribes to: `GET /dapr/subscribe`, `ListTopicSubscriptions`.
    Subscribe,
}

impl Question {
    /// Dapr's word for it, in whatever case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "config" => Some(Self::Config),
            "subscribe" => Some(Self::Subscribe),
            _ => None,
        }
    }
}

/// One application beside the node.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// Its name.
    pub id: AppId,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where it listens; `None`: it comes by stream alone.
    pub address: Option<AppAddress>,
    /// What the node shows to it (`APP_API_TOKEN`).
    pub token: Option<Secret>,
    /// Requests at a time; `None`: no limit. Calls beyond it wait.
    pub concurrency: Option<NonZeroUsize>,
    /// Health probes; `None`: it counts as healthy while it can be reached.
    pub health: Option<HealthProbes>,
    /// Longest answer in bytes. A longer one counts as none.
    pub body_bytes_max: usize,
    /// Bound of the drain of calls.
    pub disseminate_timeout: Duration,
    /// Whether its actors count.
    pub actors: Actors,
    /// What it is not asked: `--disable-init-endpoints`.
    pub unasked: Vec<Question>,
    /// The API listeners that are its own.
    pub door: AppDoor,
}

/// The API listeners of an application: what comes in there comes from it.
#[derive(Clone, Debug, Default)]
pub struct AppDoor {
    /// Where Dapr's HTTP API listens; `None`: nobody has said.
    pub http: Option<SocketAddr>,
    /// Where Dapr's gRPC API listens; `None`: nobody has said.
    pub grpc: Option<SocketAddr>,
    /// Tokens that are accepted there; `None`: those of the node.
    pub tokens: Option<Vec<Secret>>,
    /// File with these tokens, as it was named.
    pub token_file: Option<PathBuf>,
    /// File with what the node shows to the application, as it was named.
    pub app_token_file: Option<PathBuf>,
}

/// Whether an application's actors count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Actors {
    /// They do.
    #[default]
    Hosted,
    /// It gets events alone.
    Ignored,
}

impl AppSettings {
    /// An application with everything else as in Dapr.
    #[must_use]
    pub fn new(id: AppId, address: Option<AppAddress>) -> Self {
        Self {
            id,
            protocol: Protocol::default(),
            address,
            token: None,
            concurrency: None,
            health: None,
            body_bytes_max: BODY_BYTES_MAX,
            disseminate_timeout: DISSEMINATE_TIMEOUT,
            actors: Actors::default(),
            unasked: Vec::new(),
            door: AppDoor::default(),
        }
    }

    /// Whether its health is asked for over gRPC.
    #[must_use]
    pub fn is_probed_by_grpc(&self) -> bool {
        self.protocol.is_grpc() && self.address.is_some() && self.health.is_some()
    }

    /// Whether it is asked something; what it is not asked it has none of.
    #[must_use]
    pub fn is_asked(&self, question: Question) -> bool {
        !self.unasked.contains(&question)
    }

    /// An application on this machine.
    #[must_use]
    pub fn local(id: &str, port: u16) -> Self {
        let host = "127.0.0.1".to_owned();
        Self::new(AppId::new(id), Some(AppAddress { host, port }))
    }
}
