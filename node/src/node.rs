//! Starting a node: where the parts are put together.

use std::net::SocketAddr;

use ghostlight_protocol::code::Code;

use crate::config::NodeConfig;
use crate::handle::NodeHandle;

/// Why a node did not start or could not go on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct StartError {
    /// Which case.
    pub code: Code,
    /// What failed, why, and what to do.
    pub detail: String,
}

/// Where a running node is reached.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Peer address as others reach it.
    pub peer: SocketAddr,
    /// Dapr HTTP API.
    pub http: SocketAddr,
    /// Admin API.
    pub admin: SocketAddr,
}

/// A node that runs.
#[derive(Debug)]
pub struct RunningNode {
    handle: NodeHandle,
    addresses: Addresses,
}

impl RunningNode {
    /// The way into the node.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until the node has ended.
    ///
    /// # Errors
    /// When it ended for another reason than being told to.
    #[expect(
        clippy::unused_async,
        reason = "the border; the body comes with the node"
    )]
    pub async fn wait(self) -> Result<(), StartError> {
        Ok(())
    }
}

/// Starts a node.
///
/// # Errors
/// When the data directory, a port, a key or the cluster refuses.
#[expect(
    clippy::unused_async,
    reason = "the border; the body comes with the node"
)]
pub async fn start(config: NodeConfig) -> Result<RunningNode, StartError> {
    Err(StartError {
        code: Code::Internal,
        detail: format!(
            "node {} cannot start: this build has no node core",
            config.name
        ),
    })
}
