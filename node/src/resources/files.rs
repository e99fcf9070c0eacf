//! Where resources are read from, for a process that reads them again when they have changed.
//!
//! What has changed is seen by names, lengths, times and file numbers: looking costs no reading.
//! Absent: when to look.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Error, Resources, Sources, yaml_files};
use crate::config::Environment;

/// See the module.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Files {
    /// Folders, `--resources-path`.
    pub folders: Vec<PathBuf>,
    /// Files, `--config`.
    pub configs: Vec<PathBuf>,
    /// Types of components that Ghostlight serves in place of their own system.
    pub builtin: Vec<String>,
}

/// How the files stood at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stand(Vec<(PathBuf, Option<Seen>)>);

/// A file or folder that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    bytes: u64,
    modified: Option<SystemTime>,
    number: u64,
}

impl Files {
    /// Reads them for an application.
    ///
    /// # Errors
    /// As [`Resources::load`].
    pub fn load(&self, app_id: &str, environment: Environment<'_>) -> Result<Resources, Error> {
        let sources = Sources {
            folders: &self.folders,
            configs: &self.configs,
            app_id,
            builtin: &self.builtin,
        };
        Resources::load(sources, environment)
    }

    /// How they stand now. What cannot be looked at stands as that, and `load` says why.
    #[must_use]
    pub fn stand(&self) -> Stand {
        let mut files = self.configs.clone();
        for folder in &self.folders {
            match yaml_files(folder) {
                Ok(found) => files.extend(found),
                Err(_) => files.push(folder.clone()),
            }
        }
        let stands = files.into_iter().map(|path| {
            let seen = seen(&path);
            (path, seen)
        });
        Stand(stands.collect())
    }
}

fn seen(path: &Path) -> Option<Seen> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Seen {
        bytes: metadata.len(),
        modified: metadata.modified().ok(),
        number: metadata.ino(),
    })
}
