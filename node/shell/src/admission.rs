//! What this node says of itself, and whom it admits: set by the core, asked by the transport.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ghostlight_protocol::hash::HASH_VERSION;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::hello::{
    ClusterDescriptor, ConnectionKind, Hello, HelloRefusal, Judge, NodeRecord, PROTOCOL_VERSION,
    Removed, Run,
};
use ghostlight_transport::Admission;

/// The shared state.
#[derive(Debug)]
pub struct Doorkeeper {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    record: NodeRecord,
    /// Partition count that the operator asked for; 0: none.
    partitions: u32,
    descriptor: Option<ClusterDescriptor>,
    removed: Vec<NodeId>,
    runs: BTreeMap<NodeId, Run>,
}

impl Doorkeeper {
    /// What is known when the node starts; `partitions`: how many its operator asked for, `known`:
    /// nodes that were met before.
    #[must_use]
    pub fn new(
        record: NodeRecord,
        partitions: Option<u16>,
        descriptor: Option<ClusterDescriptor>,
        known: &[NodeRecord],
    ) -> Self {
        let runs = known
            .iter()
            .filter_map(|record| Some((record.id()?, record.run())))
            .collect();
        let state = State {
            record,
            partitions: partitions.map_or(0, u32::from),
            descriptor,
            removed: Vec::new(),
            runs,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// What the core wants to be said from now on.
    pub fn introduce(
        &self,
        record: NodeRecord,
        descriptor: Option<ClusterDescriptor>,
        removed: Vec<NodeId>,
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.record, state.descriptor, state.removed) = (record, descriptor, removed);
    }
}

impl Admission for Doorkeeper {
    fn hello(&self, kind: ConnectionKind) -> Hello {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Hello {
            protocol: PROTOCOL_VERSION,
            cluster: state.descriptor.clone(),
            node: Some(state.record.clone()),
            connection: kind as i32,
            refusal: None,
            expected: Vec::new(),
            partitions: state.partitions,
            hash_version: HASH_VERSION,
        }
    }

    fn judge(&self, hello: &Hello) -> Result<(), HelloRefusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = hello
            .node
            .as_ref()
            .and_then(|record| Some((record.id()?, record.run())));
        let known = peer.and_then(|(node, _)| state.runs.get(&node).copied());
        let gone = peer.is_some_and(|(node, _)| state.removed.contains(&node));
        let judge = Judge {
            ours: &state.record,
            cluster: state.descriptor.as_ref(),
            known,
            removed: if gone { Removed::Yes } else { Removed::No },
        };
        judge.judge(hello)?;
        // Who only asks is no member, and will not come again under this id.
        if let Some((node, run)) = peer
            && hello.connection() != ConnectionKind::Inquiry
        {
            state.runs.insert(node, run);
        }
        Ok(())
    }
}
