//! What a data directory remembers of the settings that its node was last started with, so that a
//! restart needs `--data-dir` alone.
//!
//! All or nothing: as soon as one setting is given that says what the node is, what is given is the
//! whole. A flag that was taken out of a unit file must not live on unseen. Seeds, logs and the
//! time to drain say nothing about what the node is. Absent: secrets (files of keys are remembered
//! by their path), and what the cluster itself keeps (its partition count, members, ports that
//! moved).

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ghostlight_protocol::code::Code;

use super::{Error, Settings};

/// The file, beside the database.
const FILE: &str = "settings.toml";

const HEAD: &str = "# Written at each start. A start that names no setting of its own takes these; any other start writes them anew.\n";

/// What a start takes from the last one.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Remembered {
    /// To be laid beneath what is given; empty if something is.
    pub settings: Settings,
    /// The same for people, with the file it came from.
    pub told: Option<String>,
}

impl Remembered {
    /// What holds again in `dir` if only `given` is given.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn read(dir: &Path, given: &Settings) -> Result<Self, Error> {
        if given.says_what_the_node_is() {
            return Ok(Self::default());
        }
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // A first start; or no directory, which opening it will tell.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(Self::default());
            }
            Err(error) => return Err(unreadable(&path, &error)),
        };
        let settings = Settings::parse(&text, &path.display().to_string())?;
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let lines: Vec<&str> = lines.collect();
        let told =
            (!lines.is_empty()).then(|| format!("{} (from {})", lines.join(", "), path.display()));
        Ok(Self { settings, told })
    }
}

impl Settings {
    fn says_what_the_node_is(&self) -> bool {
        let rest = Self {
            data_dir: None,
            join: None,
            drain_timeout: None,
            log_level: None,
            log_format: None,
            ..self.clone()
        };
        rest != Self::default()
    }

    /// Keeps them in `dir`, which this process has locked. What stood there is replaced as a whole.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember(&self, dir: &Path) -> Result<(), Error> {
        let kept = Self {
            data_dir: None,
            partitions: None,
            cluster_key_file: self.cluster_key_file.as_deref().map(absolute),
            api_token_file: self.api_token_file.as_deref().map(absolute),
            ..self.clone()
        };
        let path = dir.join(FILE);
        let unwritable = |error: &dyn std::fmt::Display| {
            Error::new(
                Code::DataDirUnusable,
                format!(
                    "cannot write {} ({error}). A restart would forget how this node was started: make \
                     room, and give the directory to the user who starts the node",
                    path.display()
                ),
            )
        };
        let text = toml::to_string(&kept).map_err(|error| unwritable(&error))?;
        let fresh = dir.join(format!("{FILE}.new"));
        let write = || {
            let mut file = std::fs::File::create(&fresh)?;
            file.write_all(HEAD.as_bytes())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)
        };
        write().map_err(|error| unwritable(&error))
    }
}

/// A restart may come from another working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        Code::DataDirUnusable,
        format!(
            "cannot read {} ({error}), where the settings of the last start are. Give the file to the user \
             who starts the node, or delete it and name the settings",
            path.display()
        ),
    )
}
