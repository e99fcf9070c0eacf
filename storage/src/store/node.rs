//! The node's own facts: identity and address book.

use ghostlight_protocol::wire::hello::NodeRecord;
use prost::Message;

use super::Store;
use crate::engine::{Cf, Durability, Engine};
use crate::error::StorageError;
use crate::identity::{AddressBook, NodeIdentity, Note};
use crate::layout::{ADDRESSES_KEY, IDENTITY_KEY};

impl<E: Engine> Store<E> {
    /// Saves who the node is, durably, in the database and in the note beside it.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    pub fn save_identity(&mut self, identity: &NodeIdentity) -> Result<(), StorageError> {
        self.batch
            .put(Cf::Meta, IDENTITY_KEY, &[&identity.encode_to_vec()]);
        self.commit("save the node's identity", Durability::Synced)?;
        let nodes = self.reader().addresses()?;
        self.write_note(Some(identity.clone()), nodes)
    }

    /// Saves both at once, durably: who this new node is, and the nodes that it knows from elsewhere.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    pub fn begin(
        &mut self,
        identity: &NodeIdentity,
        nodes: &[NodeRecord],
    ) -> Result<(), StorageError> {
        let book = AddressBook {
            nodes: nodes.to_vec(),
        };
        self.batch
            .put(Cf::Meta, IDENTITY_KEY, &[&identity.encode_to_vec()]);
        self.batch
            .put(Cf::Meta, ADDRESSES_KEY, &[&book.encode_to_vec()]);
        self.commit("begin as a new node", Durability::Synced)?;
        self.write_note(Some(identity.clone()), book.nodes)
    }

    /// Saves the last known records of other nodes, for a start without gossip.
    ///
    /// # Errors
    /// The engine failed; the process must end.
    pub fn save_addresses(&mut self, nodes: &[NodeRecord]) -> Result<(), StorageError> {
        let book = AddressBook {
            nodes: nodes.to_vec(),
        };
        self.batch
            .put(Cf::Meta, ADDRESSES_KEY, &[&book.encode_to_vec()]);
        self.commit("save the address book", Durability::Buffered)?;
        let identity = self.reader().identity()?;
        self.write_note(identity, book.nodes)
    }

    /// The records last saved.
    ///
    /// # Errors
    /// The engine failed, or the record is damaged; the process must end.
    pub fn addresses(&self) -> Result<Vec<NodeRecord>, StorageError> {
        self.reader().addresses()
    }

    fn write_note(
        &self,
        identity: Option<NodeIdentity>,
        nodes: Vec<NodeRecord>,
    ) -> Result<(), StorageError> {
        self.engine
            .write_note(&Note { identity, nodes }.seal())
            .map_err(StorageError::engine("write the note beside the database"))
    }
}
