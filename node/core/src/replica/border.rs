//! What the engine may be fed: it ends the process when a message contradicts itself or the log.
//!
//! Peers follow the protocol; a bug of theirs must not end this process as well. Only what the
//! engine would stumble over is looked at, never whether a message is true.

use std::collections::BTreeSet;

use ghostlight_protocol::limits::COUNT_MAX;
use ghostlight_protocol::partition_row::Membership;
use prost::Message as _;
use prost11::Message as _;
use raft::eraftpb::{
    ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, EntryType, Message, MessageType,
};

/// Decodes a sound message whose every kind the engine knows: it ends the process over others.
pub(super) fn decode(bytes: &[u8]) -> Option<Message> {
    let message = Message::decode(bytes).ok()?;
    let known = MessageType::from_i32(message.msg_type).is_some()
        && message
            .entries
            .iter()
            .all(|entry| EntryType::from_i32(entry.entry_type).is_some());
    (known && is_sound(&message)).then_some(message)
}

/// Decodes a change of a configuration whose every kind the engine knows.
pub(super) fn decode_change(bytes: &[u8]) -> Option<ConfChangeV2> {
    let change = ConfChangeV2::decode(bytes).ok()?;
    let known = ConfChangeTransition::from_i32(change.transition).is_some()
        && change
            .changes
            .iter()
            .all(|single| ConfChangeType::from_i32(single.change_type).is_some());
    known.then_some(change)
}

/// Whether a message's numbers and entries fit each other.
pub(super) fn is_sound(message: &Message) -> bool {
    let named = [message.from, message.to, message.term];
    let counted = [
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.reject_hint,
    ];
    let numbers = named.iter().all(|n| (1..=COUNT_MAX).contains(n))
        && counted.iter().all(|n| *n <= COUNT_MAX)
        // Nobody here asks for snapshots this way.
        && message.request_snapshot == 0;
    if !numbers {
        return false;
    }
    let mut last = (message.index, message.log_term);
    message.entries.iter().all(|entry| {
        let follows = entry.index == last.0 + 1 && entry.term >= last.1;
        last = (entry.index, entry.term);
        follows && entry.term <= message.term
    })
}

/// Whether a snapshot message names a position and a configuration that can be.
pub(super) fn is_sound_snapshot(message: &Message) -> bool {
    let Some(snapshot) = &message.snapshot else {
        return false;
    };
    let Some(metadata) = &snapshot.metadata else {
        return false;
    };
    let position =
        (1..=COUNT_MAX).contains(&metadata.index) && (1..=message.term).contains(&metadata.term);
    let Some(conf) = &metadata.conf_state else {
        return false;
    };
    let Ok(membership) = Membership::decode(&snapshot.data[..]) else {
        return false;
    };
    let known: BTreeSet<u64> = membership.peers.iter().map(|peer| peer.peer).collect();
    let mut peers = conf
        .voters
        .iter()
        .chain(&conf.voters_outgoing)
        .chain(&conf.learners)
        .chain(&conf.learners_next);
    position && is_sound_configuration(conf) && peers.all(|peer| known.contains(peer))
}

fn is_sound_configuration(conf: &ConfState) -> bool {
    let set = |peers: &[u64]| -> Option<BTreeSet<u64>> {
        let set: BTreeSet<u64> = peers.iter().copied().collect();
        let numbers = set.iter().all(|peer| (1..=COUNT_MAX).contains(peer));
        (numbers && set.len() == peers.len()).then_some(set)
    };
    let sets = (
        set(&conf.voters),
        set(&conf.voters_outgoing),
        set(&conf.learners),
        set(&conf.learners_next),
    );
    let (Some(voters), Some(outgoing), Some(learners), Some(next)) = sets else {
        return false;
    };
    !voters.is_empty()
        && !conf.auto_leave
        && learners.is_disjoint(&voters)
        && learners.is_disjoint(&outgoing)
        && next.is_subset(&outgoing)
        && next.is_disjoint(&voters)
}
