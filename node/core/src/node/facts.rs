//! The facts of the cluster that partition 0 keeps: which nodes were removed for good. Its leader
//! writes them and reads them at its opening; everybody else hears of them with the control frames.
//! Absent: who orders a removal (`operators`).

use bytes::Bytes;
use ghostlight_protocol::command::{Facts, Kind, StateWrite};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::ids::{NodeId, PartitionId, Term};

use super::{Introduced, NodeCore};
use crate::io::{Effect, Now};
use crate::turns::RowsWanted;

/// The partition that keeps the cluster's facts.
pub(super) const FACTS: PartitionId = PartitionId(0);
/// Prefix of the fact that a node was removed for good; its id follows.
const REMOVED_PREFIX: &[u8] = b"removed/";

/// Facts read at once; more are read in further pages.
const FACTS_PAGE: usize = 256;

/// The read that tells which nodes were removed, from one page's end on.
pub(super) fn removed_rows(after: Option<Bytes>) -> RowsWanted {
    let prefix = Bytes::from_static(REMOVED_PREFIX);
    RowsWanted::Scan {
        family: Family::Fact,
        prefix,
        after,
        limit: FACTS_PAGE,
    }
}

impl NodeCore {
    /// Partition 0's leader records a removal. Nobody hears of it before it is committed: a removal
    /// that a change of leader cut off again must not have shut a node out. The term it was
    /// proposed in; `None`: this node does not lead it, or the leadership ends.
    pub(super) fn record_removed(&mut self, now: Now, node: NodeId) -> Option<Term> {
        let slot = self.cluster.as_ref().and_then(|c| c.slot(FACTS));
        let (term, _) = slot.and_then(super::slot::Slot::serving)?;
        let mut key = REMOVED_PREFIX.to_vec();
        key.extend_from_slice(&node.to_bytes());
        let write = StateWrite {
            key: key.into(),
            value: Some(Bytes::from_static(b"1")),
            ..StateWrite::default()
        };
        let facts = Facts {
            writes: vec![write],
        };
        self.propose(now, FACTS, term, Kind::Facts(facts))
            .then_some(term)
    }

    /// A node was removed for good.
    pub(super) fn node_removed(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        if node == self.me || !self.removed.insert(node) {
            return;
        }
        self.recording.remove(&node);
        self.introduced = Introduced::Outdated;
        self.removal_recorded(node, out);
        out.push(Effect::Close(node));
    }

    /// What partition 0 says, as read by its leader at opening and after every change. Everybody
    /// else hears it from there with the control frames.
    pub(super) fn facts_read(&mut self, rows: &[(Bytes, Option<Bytes>)], out: &mut Vec<Effect>) {
        for (key, value) in rows {
            let node = key
                .strip_prefix(REMOVED_PREFIX)
                .and_then(NodeId::from_slice);
            if let (Some(node), Some(_)) = (node, value) {
                self.say_replaced(node, out);
                self.node_removed(node, out);
            }
        }
    }
}
