//! Refused connections that end a node: its cluster gives way to another one, or its own cluster
//! does not know it any more.
//!
//! All else that is refused is only told: an address may be wrong, a peer may be older.

use ghostlight_protocol::code::Code;
use ghostlight_protocol::wire::hello::{ClusterDescriptor, yields};

use super::NodeCore;
use crate::io::{Effect, Refused, Refuser};

impl NodeCore {
    pub(super) fn take_refused(&mut self, refused: &Refused, out: &mut Vec<Effect>) {
        let stranger = self.is_stranger(refused.cluster.as_ref(), out);
        if stranger || refused.by == Refuser::Us || refused.cluster.is_none() {
            return;
        }
        match (&self.cluster, refused.code) {
            // The word of a member of this very cluster: whoever goes on would be a second one of
            // the same id.
            (Some(_), Some(code @ (Code::StaleGeneration | Code::Decommissioned)))
            // It was started for another cluster than the one it was sent to.
            | (None, Some(code @ (Code::ShapeMismatch | Code::HashRulesMismatch))) => {
                self.stop(code, refused.detail.clone(), out);
            }
            (_, Some(_) | None) => {}
        }
    }

    /// Whether a peer belongs to another cluster than this node does. Ends the node if its own
    /// cluster gives way to that one.
    pub(super) fn is_stranger(
        &mut self,
        theirs: Option<&ClusterDescriptor>,
        out: &mut Vec<Effect>,
    ) -> bool {
        let (Some(cluster), Some(theirs)) = (&self.cluster, theirs) else {
            return false;
        };
        let ours = &cluster.descriptor;
        if ours.cluster == theirs.cluster {
            return false;
        }
        if yields(ours, theirs) {
            let show = |d: &ClusterDescriptor| d.id().map(|id| id.to_string()).unwrap_or_default();
            let detail = format!(
                "this node founded cluster {} by itself, and has now met cluster {}, which holds the \
                 same key and has had several members: it stops serving. If its data directory was \
                 emptied by mistake or on purpose, wipe it again and start the node with --join and the \
                 address of a member; what was written here since the founding goes with it. A cluster of its own on \
                 the same machine needs a key of its own: \"ghostlight keygen > other.key\", --cluster-key-file other.key",
                show(ours),
                show(theirs)
            );
            self.stop(Code::Yielded, detail, out);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use ghostlight_protocol::ids::{ClusterId, NodeId};
    use ghostlight_protocol::time::{Instant, WallTime};
    use ghostlight_protocol::wire::hello::{Company, NodeRecord, new_descriptor};

    use super::*;
    use crate::io::{HaltReason, Input, Now};
    use crate::node::Start;

    fn cluster(id: u128, company: Company) -> ClusterDescriptor {
        let mut cluster = new_descriptor(ClusterId(id), NodeId(id), 4, 3);
        cluster.set_company(company);
        cluster
    }

    fn core(cluster: Option<ClusterDescriptor>) -> NodeCore {
        let record = NodeRecord {
            node: NodeId(1).to_bytes().to_vec(),
            address: "127.0.0.1:7400".to_owned(),
            ..NodeRecord::default()
        };
        let start = Start {
            record,
            descriptor: cluster,
            partitions: None,
            seeds: Vec::new(),
            addresses: Vec::new(),
            replicas: Vec::new(),
            condemned: Vec::new(),
            tombstones: Default::default(),
            marks: Default::default(),
            trust: Default::default(),
            seed: 1,
            min_copies: 1,
            turns: crate::turns::Settings::default(),
            log: crate::replica::LogBounds::default(),
        };
        NodeCore::new(now(), start)
    }

    fn now() -> Now {
        Now {
            instant: Instant(1_000_000_000),
            wall: WallTime(1),
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one row for each refusal")]
    fn which_refusals_end_a_node() {
        use Company::{Alone, Shared};
        use Refuser::{Peer, Us};
        let mismatch = Code::ClusterIdMismatch;
        let rows = [
            // A founder without company gives way, whoever refused.
            (
                Some(cluster(1, Alone)),
                Us,
                mismatch,
                Some(cluster(2, Shared)),
                Some(Code::Yielded),
            ),
            (
                Some(cluster(1, Alone)),
                Peer,
                mismatch,
                Some(cluster(2, Shared)),
                Some(Code::Yielded),
            ),
            (
                Some(cluster(1, Alone)),
                Peer,
                mismatch,
                Some(cluster(2, Alone)),
                None,
            ),
            (
                Some(cluster(1, Shared)),
                Us,
                mismatch,
                Some(cluster(2, Alone)),
                None,
            ),
            (
                Some(cluster(1, Shared)),
                Peer,
                mismatch,
                Some(cluster(2, Shared)),
                None,
            ),
            // Its own cluster does not know it any more.
            (
                Some(cluster(1, Shared)),
                Peer,
                Code::Decommissioned,
                Some(cluster(1, Shared)),
                Some(Code::Decommissioned),
            ),
            (
                Some(cluster(1, Shared)),
                Peer,
                Code::StaleGeneration,
                Some(cluster(1, Alone)),
                Some(Code::StaleGeneration),
            ),
            // It refused the other one; or the other one is older, elsewhere, or of no cluster.
            (
                Some(cluster(1, Shared)),
                Us,
                Code::StaleGeneration,
                Some(cluster(1, Shared)),
                None,
            ),
            (
                Some(cluster(1, Shared)),
                Peer,
                Code::ProtocolMismatch,
                Some(cluster(1, Shared)),
                None,
            ),
            (
                Some(cluster(1, Shared)),
                Peer,
                Code::StaleGeneration,
                Some(cluster(2, Shared)),
                None,
            ),
            (
                Some(cluster(1, Shared)),
                Peer,
                Code::StaleGeneration,
                None,
                None,
            ),
            (
                None,
                Peer,
                Code::StaleGeneration,
                Some(cluster(1, Shared)),
                None,
            ),
            // A joiner that was started with another partition count.
            (
                None,
                Peer,
                Code::ShapeMismatch,
                Some(cluster(1, Shared)),
                Some(Code::ShapeMismatch),
            ),
            // A joiner of a build with other hash rules; and a member that meets one.
            (
                None,
                Peer,
                Code::HashRulesMismatch,
                Some(cluster(1, Shared)),
                Some(Code::HashRulesMismatch),
            ),
            (
                Some(cluster(1, Shared)),
                Us,
                Code::HashRulesMismatch,
                None,
                None,
            ),
        ];
        for (ours, by, code, theirs, expected) in rows {
            let refused = Refused {
                by,
                code: Some(code),
                detail: "why".to_owned(),
                cluster: theirs,
            };
            let shown = format!("{ours:?} {refused:?}");
            let mut out = Vec::new();
            core(ours).handle(now(), Input::Refused(refused), &mut out);
            let halted = out.iter().find_map(|effect| match effect {
                Effect::Halt(HaltReason::Refused { code, .. }) => Some(*code),
                _ => None,
            });
            assert_eq!(halted, expected, "{shown}");
        }
    }

    #[test]
    fn a_joiner_that_asked_for_another_partition_count_ends() {
        for (asked, expected) in [
            (None, None),
            (Some(4), None),
            (Some(8), Some(Code::ShapeMismatch)),
        ] {
            let mut core = core(None);
            core.start.partitions = asked;
            let mut out = Vec::new();
            core.adopt(now(), cluster(1, Company::Shared), &mut out);
            let halted = out.iter().find_map(|effect| match effect {
                Effect::Halt(HaltReason::Refused { code, .. }) => Some(*code),
                _ => None,
            });
            assert_eq!(halted, expected, "{asked:?}");
        }
    }
}
