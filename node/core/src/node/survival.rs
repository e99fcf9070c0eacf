//! Lost nodes: what the leaders here can say of groups without them, and what becomes of a node
//! that another one replaces.
//!
//! The answer comes from each group's applied membership and from who acknowledges its entries;
//! gossip and the ring are not asked. A node that lost its database gives its old id up only when
//! every group has such an answer, so that nothing that was acknowledged needs the lost disk.

use ghostlight_protocol::ids::{NodeId, PeerId};
use ghostlight_protocol::wire::frame::{AskSurvival, Frame, Survival};

use super::NodeCore;
use super::facts::FACTS;
use super::slot::Slot;
use crate::io::{Effect, Lane, Now};
use crate::replica::Heard;

/// Whether a group goes on without a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prospect {
    /// More than half of its voters elsewhere answer, and have everything that is committed.
    Survives,
    /// It needs the node.
    Depends,
}

impl NodeCore {
    pub(super) fn tell_survival(&self, from: NodeId, ask: &AskSurvival, out: &mut Vec<Effect>) {
        let (Some(lost), Some(cluster)) = (NodeId::from_slice(&ask.node), &self.cluster) else {
            return;
        };
        let mut answer = Survival {
            node: ask.node.clone(),
            ..Survival::default()
        };
        // A copy of its directory may ask while it runs itself: then nobody has lost anything.
        let lives = self.links.answers(lost);
        for slot in cluster.slots() {
            let list = match prospect(slot, lost) {
                Some(Prospect::Survives) if lives => &mut answer.depend,
                Some(Prospect::Survives) => &mut answer.survive,
                Some(Prospect::Depends) => &mut answer.depend,
                None => continue,
            };
            list.push(u32::from(slot.partition().0));
        }
        out.push(Effect::Send {
            to: from,
            lane: Lane::Inquiry,
            frame: Frame::Survival(answer),
        });
    }

    /// Partition 0's leader records that a node was replaced. Once that is committed the node is
    /// refused, and every leader replaces its copies at once.
    pub(super) fn tick_replaced(&mut self, now: Now) {
        let serving = self.cluster.as_ref().and_then(|c| c.slot(FACTS)?.serving());
        let Some((term, _)) = serving else {
            self.recording.clear();
            return;
        };
        let proposed = |lost: &NodeId| self.recording.get(lost) == Some(&term);
        let replaced: Vec<NodeId> = self
            .replacements()
            .map(|(lost, _)| lost)
            .filter(|lost| *lost != self.me && !self.removed.contains(lost) && !proposed(lost))
            .collect();
        for lost in replaced {
            if let Some(term) = self.record_removed(now, lost) {
                self.recording.insert(lost, term);
            }
        }
    }

    /// Nodes that were lost, and who says to replace each.
    fn replacements(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        let records = self.links.iter().map(|(_, link)| &link.record);
        let all = records.chain([&self.record]);
        all.filter_map(|record| Some((record.replaced()?, record.id()?)))
    }

    /// Tells once that a removal which was just read means a replaced node.
    pub(super) fn say_replaced(&self, lost: NodeId, out: &mut Vec<Effect>) {
        if self.removed.contains(&lost) {
            return;
        }
        let replaced = self.replacements().find(|(node, _)| *node == lost);
        if let Some((_, by)) = replaced {
            let text = format!(
                "{} ({by}) replaces {lost}, whose database was lost: its copies are made anew, and \
                 {lost} is refused if it comes back",
                self.name_of(by)
            );
            Self::say(out, text);
        }
    }
}

/// `None`: this replica cannot say, because it does not lead, or the membership is about to change.
fn prospect(slot: &Slot, lost: NodeId) -> Option<Prospect> {
    slot.serving()?;
    let membership = slot.row.as_ref()?.membership.as_ref()?;
    if slot.group.change_pending() || membership != slot.group.membership() {
        return None;
    }
    let (leader, commit) = (slot.group.peer(), slot.group.commit());
    let progress = slot.group.progress();
    let is_whole = |voter: &&u64| {
        let peer = PeerId(**voter);
        let answers = progress
            .get(&peer)
            .is_some_and(|p| p.heard == Heard::Lately && p.matched >= commit);
        membership.node_of(peer) != Some(lost) && (peer == leader || answers)
    };
    let has_majority = |voters: &[u64]| voters.iter().filter(is_whole).count() * 2 > voters.len();
    let survives = has_majority(&membership.voters)
        && (!membership.is_joint() || has_majority(&membership.voters_outgoing));
    Some(if survives {
        Prospect::Survives
    } else {
        Prospect::Depends
    })
}
