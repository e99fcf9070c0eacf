//! What can go wrong in a store, and what the caller does about it.

use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{PartitionId, PeerId};

use crate::engine::EngineError;

/// An error of the store.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StorageError {
    /// The engine failed. After a write nothing is known: the process must end.
    #[error("cannot {doing}: {source}. The node stops; look at the disk, then start it again")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        source: EngineError,
    },
    /// A record that belongs to the whole node is not what was written. The process must end.
    #[error("the node's own record of {what} is damaged. Nothing was changed")]
    NodeDamaged {
        /// Which record.
        what: &'static str,
    },
    /// The disk was written by a later version. Nothing was changed.
    #[error("the data has disk format {found}, this program knows up to {known}. Use a newer one")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// A record of one replica is not what was written. Nothing was changed; condemn the replica.
    #[error("{partition}: {what} is damaged; this copy must be replaced from the others")]
    Damaged {
        /// Whose.
        partition: PartitionId,
        /// Which record.
        what: String,
    },
    /// A replica was to be made with a peer id that can no longer exist here. Nothing was changed.
    #[error("{partition}: peer {peer} cannot be made here, ids begin at {floor}")]
    BelowTombstone {
        /// The partition.
        partition: PartitionId,
        /// The peer asked for.
        peer: PeerId,
        /// The smallest that is allowed.
        floor: PeerId,
    },
    /// A replica was to be made where another one lives. Nothing was changed.
    #[error("{partition}: peer {peer} cannot be made here while peer {present} lives")]
    ReplicaExists {
        /// The partition.
        partition: PartitionId,
        /// The peer asked for.
        peer: PeerId,
        /// The one that lives.
        present: PeerId,
    },
    /// The staged chunks are not the snapshot they should be. Nothing was changed; ask for it
    /// again.
    #[error("{partition}: the received snapshot cannot be installed: {why}")]
    SnapshotInvalid {
        /// The partition.
        partition: PartitionId,
        /// What is wrong with it.
        why: String,
    },
}

/// What the caller of the store does about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// End the process: what is on disk is no longer known.
    EndProcess,
    /// Condemn the replica of this partition; the others go on.
    Condemn(PartitionId),
    /// Refuse what was asked for; nothing was changed.
    Refuse,
}

impl StorageError {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Engine { .. } | Self::NodeDamaged { .. } | Self::Newer { .. } => {
                Remedy::EndProcess
            }
            Self::Damaged { partition, .. } => Remedy::Condemn(*partition),
            Self::BelowTombstone { .. }
            | Self::ReplicaExists { .. }
            | Self::SnapshotInvalid { .. } => Remedy::Refuse,
        }
    }

    /// The code an operator sees.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Engine { source, .. } => match source {
                EngineError::Corrupt(_) => Code::DataDirCorrupt,
                EngineError::NoSpace(_) => Code::DataDirFull,
                EngineError::ReadOnly(_) => Code::DataDirReadOnly,
                EngineError::Io(_) | EngineError::Closed => Code::StorageFailed,
            },
            Self::NodeDamaged { .. } => Code::DataDirCorrupt,
            Self::Newer { .. } => Code::DataDirNewer,
            Self::Damaged { .. } => Code::ReplicaCondemned,
            Self::BelowTombstone { .. }
            | Self::ReplicaExists { .. }
            | Self::SnapshotInvalid { .. } => Code::Internal,
        }
    }

    pub(crate) fn engine(doing: &'static str) -> impl FnOnce(EngineError) -> Self {
        move |source| Self::Engine { doing, source }
    }
}
