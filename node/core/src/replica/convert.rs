//! Between the engine's types (prost 0.11) and ours. Nothing outside `replica` sees the engine's.

use bytes::Bytes;
use ghostlight_protocol::ids::{LogIndex, NodeId, PeerId, Term};
use ghostlight_protocol::partition_row::{Membership, Peer};
use ghostlight_protocol::replica::{EntryKind, HardState, LogEntry};
use ghostlight_protocol::wire::frame::Heartbeat;
use prost::Message as _;
use raft::eraftpb;

use super::tail::position;

pub(super) fn hard_state(from: &eraftpb::HardState) -> HardState {
    HardState {
        term: Term(from.term),
        vote: PeerId(from.vote),
        commit: LogIndex(from.commit),
    }
}

pub(super) fn engine_hard_state(from: HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: from.term.0,
        vote: from.vote.0,
        commit: from.commit.0,
    }
}

pub(super) fn log_entry(from: &eraftpb::Entry) -> LogEntry {
    let kind = match from.get_entry_type() {
        eraftpb::EntryType::EntryNormal => EntryKind::Command,
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => {
            EntryKind::Membership
        }
    };
    LogEntry {
        at: position(from.index, from.term),
        kind,
        data: Bytes::copy_from_slice(&from.data),
        context: Bytes::copy_from_slice(&from.context),
    }
}

pub(super) fn engine_entry(from: &LogEntry) -> eraftpb::Entry {
    let mut entry = eraftpb::Entry {
        index: from.at.index.0,
        term: from.at.term.0,
        data: from.data.to_vec(),
        context: from.context.to_vec(),
        ..eraftpb::Entry::default()
    };
    entry.set_entry_type(match from.kind {
        EntryKind::Command => eraftpb::EntryType::EntryNormal,
        EntryKind::Membership => eraftpb::EntryType::EntryConfChangeV2,
    });
    entry
}

pub(super) fn conf_state(from: &Membership) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: from.voters.clone(),
        learners: from.learners.clone(),
        voters_outgoing: from.voters_outgoing.clone(),
        learners_next: from.learners_next.clone(),
        auto_leave: false,
    }
}

/// The membership after a change: the engine's verdict on who votes, plus where new peers live.
pub(super) fn membership_after(
    before: &Membership,
    index: u64,
    conf: &eraftpb::ConfState,
    added: &[u8],
) -> Membership {
    let sorted = |peers: &[u64]| {
        let mut peers = peers.to_vec();
        peers.sort_unstable();
        peers
    };
    let added = Membership::decode(added).unwrap_or_default();
    let mut after = Membership {
        index,
        voters: sorted(&conf.voters),
        learners: sorted(&conf.learners),
        voters_outgoing: sorted(&conf.voters_outgoing),
        learners_next: sorted(&conf.learners_next),
        peers: Vec::new(),
        next_peer: before.next_peer.max(added.next_peer),
    };
    let mut peers: Vec<Peer> = before.peers.iter().chain(&added.peers).cloned().collect();
    peers.sort_by_key(|p| p.peer);
    peers.dedup_by_key(|p| p.peer);
    peers.retain(|p| {
        [
            &after.voters,
            &after.learners,
            &after.voters_outgoing,
            &after.learners_next,
        ]
        .iter()
        .any(|set| set.contains(&p.peer))
    });
    after.peers = peers;
    after
}

/// The context of a change that adds a peer on a node.
pub(super) fn added_peer(peer: PeerId, node: NodeId) -> Vec<u8> {
    Membership {
        peers: vec![Peer {
            peer: peer.0,
            node: node.to_bytes().to_vec(),
        }],
        next_peer: peer.0 + 1,
        ..Membership::default()
    }
    .encode_to_vec()
}

pub(super) fn heartbeat(partition: u16, message: &eraftpb::Message) -> Heartbeat {
    Heartbeat {
        partition: u32::from(partition),
        from: message.from,
        to: message.to,
        term: message.term,
        commit: message.commit,
        context: Bytes::copy_from_slice(&message.context),
    }
}

pub(super) fn engine_heartbeat(
    kind: eraftpb::MessageType,
    heartbeat: &Heartbeat,
) -> eraftpb::Message {
    let mut message = eraftpb::Message {
        from: heartbeat.from,
        to: heartbeat.to,
        term: heartbeat.term,
        commit: heartbeat.commit,
        context: heartbeat.context.to_vec(),
        ..eraftpb::Message::default()
    };
    message.set_msg_type(kind);
    message
}
