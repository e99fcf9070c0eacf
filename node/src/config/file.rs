//! The configuration file: TOML with the flags' own names, one documented example in `deploy/`.
//!
//! An unknown key is an error that names the nearest known one. A value of the wrong type is an
//! error that shows the line. Nothing is checked here beyond types; that is `NodeConfig::build`.

use std::path::{Path, PathBuf};

use ghostlight_protocol::code::Code;
use serde::{Deserialize, Serialize};

use super::{DATA_DIR, Error};

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $key:literal,)*) => {
        /// What one source says; absent values come from the next source.
        #[derive(Clone, Default, PartialEq, Debug, Deserialize, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct Settings {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }

        /// Every key of the file.
        pub const KEYS: &[&str] = &[$($key,)*];

        impl Settings {
            /// This source where it says something, `below` elsewhere.
            #[must_use]
            pub fn over(self, below: Self) -> Self {
                Self { $($field: self.$field.or(below.$field),)* }
            }
        }
    };
}

settings! {
    /// `dev` or `prod`.
    profile: String = "profile",
    /// Name for people.
    name: String = "name",
    /// Part of every actor's identity.
    namespace: String = "namespace",
    /// Data directory.
    data_dir: PathBuf = "data-dir",
    /// Peer address.
    listen: String = "listen",
    /// Peer address as others reach it.
    advertise: String = "advertise",
    /// Seeds.
    join: Vec<String> = "join",
    /// Dapr HTTP address.
    http: String = "http",
    /// Dapr gRPC address.
    grpc: String = "grpc",
    /// Admin address.
    admin: String = "admin",
    /// Where sidecars are introduced, or `none`.
    introduce: String = "introduce",
    /// Failure zone.
    zone: String = "zone",
    /// Share of the partitions.
    weight: u32 = "weight",
    /// Fewest voters for writes.
    min_copies: u32 = "min-copies",
    /// Cluster key.
    cluster_key_file: PathBuf = "cluster-key-file",
    /// API tokens.
    api_token_file: PathBuf = "api-token-file",
    /// Partition count of a new cluster.
    partitions: u32 = "partitions",
    /// Longest drain before the end, with its unit.
    drain_timeout: String = "drain-timeout",
    /// Level or filter.
    log_level: String = "log-level",
    /// `text` or `json`.
    log_format: String = "log-format",
    /// Whether the sample actors are hosted.
    samples: bool = "samples",
    /// Applications beside the node.
    app: Vec<String> = "app",
    /// Folders with Dapr's resources.
    resources_path: Vec<PathBuf> = "resources-path",
    /// Types of components that Ghostlight serves itself.
    builtin: Vec<String> = "builtin",
}

impl Settings {
    /// Where the node keeps everything; `None` only for an edge without a directory of its own.
    #[must_use]
    pub fn data_directory(&self) -> Option<PathBuf> {
        match (&self.data_dir, self.weight) {
            (None, Some(0)) => None,
            (given, _) => Some(given.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR))),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, has an unknown key, or a value of the wrong type.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::invalid(format!(
                "cannot read the configuration file {} ({error}). Check the path given with --config",
                path.display()
            ))
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Parses the text of a file called `origin`.
    ///
    /// # Errors
    /// See [`Settings::read`].
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let unreadable = |error: toml::de::Error| {
            let why = error.to_string();
            Error::invalid(format!(
                "{origin} is not a valid configuration: {}",
                why.trim_end()
            ))
        };
        let table: toml::Table = toml::from_str(text).map_err(unreadable)?;
        for key in table.keys() {
            if !KEYS.contains(&key.as_str()) {
                return Err(unknown_key(key, origin));
            }
        }
        toml::from_str(text).map_err(unreadable)
    }
}

fn unknown_key(key: &str, origin: &str) -> Error {
    let advice = match nearest(key, KEYS) {
        Some(known) => format!("Did you mean {known:?}?"),
        None => format!("Known keys: {}", KEYS.join(", ")),
    };
    Error::new(
        Code::ConfigUnknownKey,
        format!("{origin}: there is no key {key:?}. {advice}"),
    )
}

/// The known word most like `word`, if any is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(word, known), *known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
