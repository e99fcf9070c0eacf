//! Starting a node from a program of one's own.

use std::path::PathBuf;

use ghostlight_core::sdk::{Actor, ActorRegistry};

use super::{Node, StartError, launch};
use crate::api::metrics::Renderer;
use crate::config::{NodeConfig, Settings};

/// See [`Node::builder`]. Everything that is not set has the command line's default.
#[derive(Debug, Default)]
pub struct Builder {
    settings: Settings,
    registry: ActorRegistry,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Hosts an actor type.
    #[must_use]
    pub fn actor<A: Actor>(mut self) -> Self {
        self.registry = self.registry.with::<A>();
        self
    }

    /// Where everything lives that must survive.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.data_dir = Some(path.into());
        self
    }

    /// Joins a cluster by a member's peer address; may be called several times.
    #[must_use]
    pub fn join(mut self, seed: impl Into<String>) -> Self {
        self.settings.join.get_or_insert_default().push(seed.into());
        self
    }

    /// Any other setting, as in the configuration file.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Starts the node; returns when it serves, or has begun to look for its seeds.
    ///
    /// # Errors
    /// When the data directory, a port, a key or the cluster refuses.
    pub async fn start(self) -> Result<Node, StartError> {
        let config = NodeConfig::build(self.settings, Settings::default(), &|name| {
            std::env::var(name).ok()
        })
        .map_err(|error| StartError::new(error.code(), error.to_string()))?;
        let namespace = config.namespace.clone();
        let running = launch::launch(config, self.registry, Renderer::none()).await?;
        Ok(Node { running, namespace })
    }
}
