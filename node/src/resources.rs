//! Dapr's resources from YAML: components, subscriptions, configurations, resiliency policies.
//!
//! In: folders (`--resources-path`, read in the order of names, `.yaml` and `.yml`) and files
//! (`--config`), each with any number of documents. Out: typed values, and the warnings that a
//! start prints once each. Errors name file and line. Secrets come from the environment (`envRef`,
//! or `secretKeyRef` of a `secretstores.local.env`) or from a file (`secretstores.local.file`).
//! What is for another application is not looked at. Unknown kinds, fields and parts that have no
//! effect here are tolerated. Absent: what a component does.

mod component;
mod configuration;
mod document;
mod files;
mod matching;
mod resiliency;
mod secrets;
mod subscription;
mod trip;

use std::path::{Path, PathBuf};

pub use component::Component;
pub use configuration::{ApiRule, Configuration};
pub use files::{Files, Stand};
pub use matching::{FailedWith, Matching};
pub use resiliency::{
    ACTOR_RETRIES, Backoff, BreakerScope, CircuitBreaker, ComponentTargets, Direction, Pauses,
    REMINDER_RETRIES, Resiliency, Retry, Target, built_in_retry, of_actors, of_pubsub,
};
pub use subscription::{BulkSubscribe, Subscription};
pub use trip::{Counts, Trip, TripRule};

use crate::config::Environment;
use document::Document;
use secrets::{SecretStore, Secrets};

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most documents in all.
pub const DOCUMENTS_MAX: usize = 4_096;

/// Everything that was loaded, in the order of files and documents.
#[derive(Debug, Default)]
pub struct Resources {
    /// Components that this application may use.
    pub components: Vec<Component>,
    /// Names of components that are other applications' alone.
    pub hidden_components: Vec<String>,
    /// Declared subscriptions of this application.
    pub subscriptions: Vec<Subscription>,
    /// Configurations, laid over each other: a later one wins.
    pub configuration: Configuration,
    /// Resiliency policies for this application.
    pub resiliency: Vec<Resiliency>,
    /// Types of components that Ghostlight serves in place of their own system, `--builtin`; no
    /// file says them.
    pub builtin: Vec<String>,
    /// One sentence for each thing that is tolerated and has no effect.
    pub warnings: Vec<String>,
}

/// Why a resource cannot be loaded. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Error {
    /// File and, where there is one, line.
    pub place: String,
    /// What is wrong, and what to do.
    pub why: String,
}

impl Error {
    fn of_file(path: &Path, why: impl Into<String>) -> Self {
        Self {
            place: path.display().to_string(),
            why: why.into(),
        }
    }
}

/// Where resources are read from, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Folders, `--resources-path`.
    pub folders: &'a [PathBuf],
    /// Files, `--config`.
    pub configs: &'a [PathBuf],
    /// Resources with other `scopes` are left out.
    pub app_id: &'a str,
    /// Types of components that Ghostlight serves in place of their own system, `--builtin`.
    pub builtin: &'a [String],
}

impl Resources {
    /// Loads everything.
    ///
    /// # Errors
    /// A folder or file that cannot be read, or a document that is not what its kind says.
    pub fn load(sources: Sources<'_>, environment: Environment<'_>) -> Result<Self, Error> {
        let mut all = Self {
            builtin: sources.builtin.to_vec(),
            ..Self::default()
        };
        let mut documents = Vec::new();
        for path in sources.configs {
            documents.extend(read(path, &mut all.warnings)?);
        }
        for folder in sources.folders {
            for path in yaml_files(folder)? {
                documents.extend(read(&path, &mut all.warnings)?);
            }
        }
        if documents.len() > DOCUMENTS_MAX {
            return Err(Error {
                place: "resources".to_owned(),
                why: format!(
                    "{} documents, at most {DOCUMENTS_MAX} are allowed",
                    documents.len()
                ),
            });
        }
        all.add(&documents, sources.app_id, environment)?;
        all.warnings.dedup();
        Ok(all)
    }

    fn add(
        &mut self,
        documents: &[Document],
        app_id: &str,
        environment: Environment<'_>,
    ) -> Result<(), Error> {
        let (ours, others): (Vec<&Document>, Vec<&Document>) = documents
            .iter()
            .partition(|document| document.is_for(app_id));
        let hidden = others.iter().filter(|other| other.kind() == "Component");
        let hidden = hidden.filter_map(|other| other.name().ok());
        self.hidden_components = hidden.collect();
        // Secrets of a component may stand in a store that is declared after it.
        let stores = ours.iter().filter(|one| one.kind() == "Component");
        let stores: Vec<SecretStore> = stores.filter_map(|one| SecretStore::of(one)).collect();
        let secrets = Secrets {
            stores: &stores,
            environment,
        };
        for document in ours {
            let warnings = &mut self.warnings;
            match document.kind() {
                "Component" => {
                    let read = Component::read(document, secrets, &self.builtin, warnings)?;
                    match read {
                        Some(component) => self.add_component(component, document)?,
                        // Its name stays taken.
                        None => self.hidden_components.push(document.name()?),
                    }
                }
                "Subscription" => {
                    let subscription = Subscription::read(document, warnings)?;
                    self.subscriptions.push(subscription);
                }
                "Configuration" => {
                    let later = Configuration::read(document, warnings)?;
                    self.configuration.overlay(later);
                }
                "Resiliency" => {
                    let resiliency = Resiliency::read(document, warnings)?;
                    self.resiliency.push(resiliency);
                }
                other => warnings.push(format!(
                    "{}: resources of kind {other} have no effect here",
                    document.place()
                )),
            }
        }
        Ok(())
    }

    fn add_component(&mut self, component: Component, document: &Document) -> Result<(), Error> {
        let known = self
            .components
            .iter()
            .any(|other| other.name == component.name);
        if known {
            return Err(document.error(format!(
                "there is a component {:?} already. Names of components are unique: choose another",
                component.name
            )));
        }
        self.components.push(component);
        Ok(())
    }

    /// The component that keeps the state of actors, if one is marked.
    ///
    /// # Errors
    /// More than one is.
    pub fn actor_state_store(&self) -> Result<Option<&Component>, Error> {
        let mut marked = self.components.iter().filter(|c| c.is_actor_state_store());
        let first = marked.next();
        match (first, marked.next()) {
            (Some(first), Some(second)) => Err(Error {
                place: second.place.clone(),
                why: format!(
                    "two state stores have actorStateStore: \"true\": {} and {}. Actors have one: take the mark \
                     from one of them",
                    first.name, second.name
                ),
            }),
            (first, _) => Ok(first),
        }
    }
}

/// The YAML files of a folder by name; those in folders below are not read, as in Dapr.
fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |error: std::io::Error| {
        Error::of_file(
            folder,
            format!("the folder of resources cannot be read ({error}). Check --resources-path"),
        )
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Vec<Document>, Error> {
    let unreadable =
        |error: std::io::Error| Error::of_file(path, format!("it cannot be read ({error})"));
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        let why = format!("it has {length} bytes, at most {FILE_BYTES_MAX} are read");
        return Err(Error::of_file(path, why));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Document::split(&path.display().to_string(), &text, warnings)
}

#[cfg(test)]
mod tests;
