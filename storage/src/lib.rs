#![doc = include_str!("../README.md")]

pub mod engine;
pub mod error;
pub mod identity;
pub mod memory;
pub mod reader;
#[cfg(feature = "rocks")]
pub mod rocks;
pub mod snapshot;
pub mod store;

mod layout;
mod record;

#[cfg(test)]
mod conformance;

pub use engine::{Cf, Durability, Engine, EngineError, Limit, Read, Room, WriteBatch};
pub use error::{Remedy, StorageError};
pub use identity::{ChosenPort, NodeIdentity, Note};
pub use memory::{MemoryDisk, MemoryEngine};
pub use reader::{Page, PageEnd, Reader};
#[cfg(feature = "rocks")]
pub use rocks::{DataDir, DataDirError, RocksEngine};
pub use snapshot::SnapshotReader;
pub use store::{Condemned, Recovered, Staged, Store};
