//! What this node says of itself, and whom it admits: set by the core, asked by the transport.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::wire::hello::{
    ClusterDescriptor, ConnectionKind, Hello, HelloRefusal, Judge, NodeRecord, PROTOCOL_VERSION,
    Removed,
};

use crate::transport::Admission;

/// The shared state.
pub(crate) struct Doorkeeper {
    me: NodeId,
    state: Mutex<State>,
}

struct State {
    record: NodeRecord,
    descriptor: Option<ClusterDescriptor>,
    removed: Vec<NodeId>,
    generations: BTreeMap<NodeId, Generation>,
}

impl Doorkeeper {
    pub(crate) fn new(me: NodeId, record: NodeRecord, known: &[NodeRecord]) -> Self {
        let generations = known
            .iter()
            .filter_map(|record| Some((record.id()?, Generation(record.generation))))
            .collect();
        let state = State {
            record,
            descriptor: None,
            removed: Vec::new(),
            generations,
        };
        Self {
            me,
            state: Mutex::new(state),
        }
    }

    /// What the core wants to be said from now on.
    pub(crate) fn introduce(
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
        }
    }

    fn judge(&self, hello: &Hello) -> Result<(), HelloRefusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = hello
            .node
            .as_ref()
            .and_then(|record| Some((record.id()?, record.generation)));
        let known = peer.and_then(|(node, _)| state.generations.get(&node).copied());
        let gone = peer.is_some_and(|(node, _)| state.removed.contains(&node));
        let judge = Judge {
            me: self.me,
            cluster: state.descriptor.as_ref(),
            known_generation: known,
            removed: if gone { Removed::Yes } else { Removed::No },
        };
        judge.judge(hello)?;
        if let Some((node, generation)) = peer {
            state.generations.insert(node, Generation(generation));
        }
        Ok(())
    }
}
