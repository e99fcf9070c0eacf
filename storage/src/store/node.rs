//! The node's own facts: identity and address book.

use std::collections::BTreeMap;

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::marks::{Mark, MarkList, Marks, Told};
use ghostlight_protocol::wire::hello::NodeRecord;
use prost::Message;

use super::Store;
use crate::engine::{Cf, Durability, Engine};
use crate::error::StorageError;
use crate::identity::{AddressBook, NodeIdentity, Note};
use crate::layout::{ADDRESSES_KEY, IDENTITY_KEY, MARK_KEY, MARKS_KEY};
use crate::record;

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

    /// Saves both at once, durably: who this new node is, and the nodes that it knows from
    /// elsewhere.
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

    /// Adds the marks to the batch that `persist` writes next.
    pub fn put_marks(&mut self, own: Mark, others: Option<&BTreeMap<NodeId, Told>>) {
        if own > Mark::default() {
            let bytes = own.0.to_be_bytes();
            self.batch.put(Cf::Meta, MARK_KEY, &[&bytes]);
        }
        if let Some(others) = others {
            let list = MarkList::of(others).encode_to_vec();
            self.batch.put(Cf::Meta, MARKS_KEY, &[&list]);
        }
    }

    /// The marks last saved.
    ///
    /// # Errors
    /// The engine failed, or a record is damaged; the process must end.
    pub(super) fn marks(&self) -> Result<Marks, StorageError> {
        let damaged = |_| StorageError::NodeDamaged {
            what: "the marks of what was synced",
        };
        let read = |key| {
            let value = self.engine.get(Cf::Meta, key);
            let value = value.map_err(StorageError::engine("read the marks"))?;
            value
                .map(|value| record::open(Cf::Meta, key, value).map_err(damaged))
                .transpose()
        };
        let mut marks = Marks::default();
        if let Some(own) = read(MARK_KEY)? {
            marks.own = Mark(record::decode_number(&own).map_err(damaged)?);
        }
        if let Some(list) = read(MARKS_KEY)? {
            let list = MarkList::decode(list).ok();
            let others = list.and_then(|list| list.others());
            marks.others = others.ok_or(record::Damaged).map_err(damaged)?;
        }
        Ok(marks)
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
