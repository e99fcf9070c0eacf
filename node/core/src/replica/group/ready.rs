//! What a group wants: to write, to send, to apply. Collected once per turn of the loop.
//!
//! Order (Raft thesis 10.2.1): a leader's messages leave at once, in parallel with its own sync; a
//! follower's leave when everything they promise is synced, and so do those of a sole voter that
//! has just elected itself. Answers to heartbeats promise only the term, so they leave at once
//! unless a term or vote is still unsynced: reads do not wait for the disk.

use bytes::Bytes;
use ghostlight_protocol::canary::{self, Canary};
use ghostlight_protocol::ids::{LogIndex, LogPosition, NodeId, PeerId};
use ghostlight_protocol::limits::APPEND_BYTES_MAX;
use ghostlight_protocol::partition_row::Membership;
use ghostlight_protocol::replica::{ApplyItem, HardState, LogWrite};
use ghostlight_protocol::wire::frame::Heartbeat;
use prost::Message as _;
use raft::ProgressState;
use raft::eraftpb::{self, EntryType, MessageType};

use super::probes::{Leaves, SMALL_BYTES};
use super::{Group, Role, encode};
use crate::replica::tail::position;
use crate::replica::{border, convert};

/// One message to another replica.
#[derive(Clone, PartialEq, Debug)]
pub enum Outgoing {
    /// Travels with the heartbeats of other groups.
    Heartbeat(NodeId, Heartbeat),
    /// Likewise.
    HeartbeatAnswer(NodeId, Heartbeat),
    /// A vote or its answer: small and urgent.
    Vote(NodeId, Bytes),
    /// An append or its answer.
    Append(NodeId, Bytes),
    /// The engine wants this snapshot carried over; the message goes with its last chunk.
    Snapshot {
        /// Receiving peer.
        to: PeerId,
        /// Its node.
        node: NodeId,
        /// The encoded message.
        message: Bytes,
    },
}

/// What one turn of the loop must do for a group.
#[derive(Default, Debug)]
pub struct GroupReady {
    /// To be synced, with everything else of this turn.
    pub write: Option<LogWrite>,
    /// A staged snapshot to put in place, before `write`.
    pub install: Option<Install>,
    /// May leave now.
    pub send: Vec<Outgoing>,
    /// Committed and durable here: to be applied, in order.
    pub apply: Vec<ApplyItem>,
    /// ReadIndex rounds that a majority confirmed: context, and the index that must be applied
    /// first.
    pub reads: Vec<(u64, LogIndex)>,
    /// Peers for which a snapshot must be opened.
    pub open_snapshots: Vec<PeerId>,
    /// Set if `write` or `install` is: hand it back to `persisted`.
    pub number: Option<u64>,
}

/// A staged snapshot becomes the replica's state.
#[derive(Clone, PartialEq, Debug)]
pub struct Install {
    /// The position it stands for.
    pub at: LogPosition,
    /// Hard state to write with it.
    pub hard_state: HardState,
    /// Who replicates the partition, as of it.
    pub membership: Membership,
}

/// A ready whose promises are not durable yet.
pub(super) struct Unpersisted {
    number: u64,
    writes: Writes,
    send: Vec<Outgoing>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// It only waits for those before it.
    Nothing,
    /// Entries.
    Entries,
    /// A term, a vote or a snapshot.
    Promise,
}

impl Group {
    /// Whether `ready` has something.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.raw.has_ready()
    }

    /// Collects what the engine wants.
    pub fn ready(&mut self) -> GroupReady {
        let mut out = GroupReady::default();
        while self.raw.has_ready() {
            self.one_ready(&mut out);
            // A second round has only what applying a membership brought; writes of two rounds
            // would need two numbers.
            if out.number.is_some() {
                break;
            }
        }
        out.open_snapshots = self.raw.mut_store().take_wanted_snapshots();
        out
    }

    fn one_ready(&mut self, out: &mut GroupReady) {
        let previous = convert::hard_state(&self.raw.raft.hard_state());
        let mut ready = self.raw.ready();
        let number = ready.number();
        let snapshot = ready.snapshot().clone();
        let hard_state = ready.hs().map(convert::hard_state);
        // A commit index alone is not worth a sync: apply writes it.
        let promise = hard_state.filter(|hs| (hs.term, hs.vote) != self.promised);
        if let Some(hard_state) = promise {
            self.promised = (hard_state.term, hard_state.vote);
        }
        let mut writes = Writes::Nothing;
        if let Some(metadata) = snapshot.metadata.as_ref().filter(|m| m.index != 0) {
            let at = position(metadata.index, metadata.term);
            self.raw.mut_store().reset(at);
            let membership = Membership::decode(&snapshot.data[..]).unwrap_or_default();
            self.membership = membership.clone();
            self.strangers.clear();
            out.install = Some(Install {
                at,
                hard_state: hard_state.unwrap_or(previous),
                membership,
            });
            writes = Writes::Promise;
        }
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        if !entries.is_empty() || promise.is_some() {
            if writes == Writes::Nothing {
                writes = if promise.is_some() {
                    Writes::Promise
                } else {
                    Writes::Entries
                };
            }
            out.write = Some(LogWrite {
                partition: self.partition,
                peer: self.peer,
                hard_state: promise,
                entries: entries.iter().map(convert::log_entry).collect(),
            });
        }
        let now = ready.take_messages();
        let later = ready.take_persisted_messages();
        out.reads
            .extend(ready.take_read_states().into_iter().filter_map(|read| {
                let context = <[u8; 8]>::try_from(&read.request_ctx[..]).ok()?;
                Some((u64::from_be_bytes(context), LogIndex(read.index)))
            }));
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        self.promise_after(number, writes, now, later, out);
        self.take_committed(committed, out);
        self.rank();
    }

    fn promise_after(
        &mut self,
        number: u64,
        writes: Writes,
        now: Vec<eraftpb::Message>,
        later: Vec<eraftpb::Message>,
        out: &mut GroupReady,
    ) {
        let promise_open = writes == Writes::Promise
            || self
                .unpersisted
                .iter()
                .any(|ready| ready.writes == Writes::Promise);
        let mut held = Vec::new();
        // A leader elected by others has long synced its vote. A sole voter elects itself in one
        // step: what it said in a term that a crash undoes would stand beside what it says in it
        // again.
        let promise_open = promise_open && !canary::sings(Canary::AckBeforeSync);
        let immediate = if promise_open {
            &mut held
        } else {
            &mut out.send
        };
        let now: Vec<_> = now
            .into_iter()
            .flat_map(|message| self.outgoing(message))
            .collect();
        immediate.extend(now);
        for outgoing in later.into_iter().flat_map(|message| self.outgoing(message)) {
            match outgoing {
                Outgoing::HeartbeatAnswer(..) if !promise_open => out.send.push(outgoing),
                outgoing if canary::sings(Canary::AckBeforeSync) => out.send.push(outgoing),
                outgoing => held.push(outgoing),
            }
        }
        if writes == Writes::Nothing && self.unpersisted.is_empty() {
            out.send.append(&mut held);
            self.raw.on_persist_ready(number);
            return;
        }
        if writes != Writes::Nothing {
            out.number = Some(number);
        }
        self.unpersisted.push_back(Unpersisted {
            number,
            writes,
            send: held,
        });
    }

    /// The write or install numbered `number` is synced. Returns what may leave now.
    pub fn persisted(&mut self, number: u64) -> Vec<Outgoing> {
        let mut send = Vec::new();
        let mut through = None;
        while let Some(first) = self.unpersisted.front() {
            if first.number > number && first.writes != Writes::Nothing {
                break;
            }
            if let Some(mut ready) = self.unpersisted.pop_front() {
                through = Some(ready.number);
                send.append(&mut ready.send);
            }
        }
        if let Some(through) = through {
            self.raw.on_persist_ready(through);
        }
        send
    }

    /// A snapshot was installed: the store stands at its position.
    pub fn installed(&mut self, at: LogPosition) {
        self.applied = at.index;
        self.raw.advance_apply_to(at.index.0);
        self.rank();
    }

    fn take_committed(&mut self, committed: Vec<eraftpb::Entry>, out: &mut GroupReady) {
        for entry in committed {
            let at = position(entry.index, entry.term);
            let item = match entry.get_entry_type() {
                EntryType::EntryNormal => ApplyItem::Command {
                    at,
                    data: entry.data.into(),
                },
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                    self.take_change(at, &entry.data)
                }
            };
            out.apply.push(item);
        }
    }

    fn take_change(&mut self, at: LogPosition, data: &[u8]) -> ApplyItem {
        let nothing = ApplyItem::Command {
            at,
            data: Bytes::new(),
        };
        let Some(change) = border::decode_change(data) else {
            return nothing;
        };
        // The engine refuses a change that does not fit (a joint change inside a joint one); every
        // replica refuses it alike, because all see the same configuration at this index.
        let Ok(conf) = self.raw.apply_conf_change(&change) else {
            return nothing;
        };
        let membership =
            convert::membership_after(&self.membership, at.index.0, &conf, &change.context);
        self.membership = membership.clone();
        for peer in &membership.peers {
            self.strangers.remove(&peer.peer);
        }
        self.probes
            .retain(|peer| membership.peers.iter().any(|p| p.peer == peer));
        self.heard
            .retain(|peer| membership.peers.iter().any(|p| p.peer == peer));
        // The engine would go on leading (trap 3) and end the process at its next acknowledgement.
        if self.role() == Role::Leader && self.raw.raft.prs().get(self.peer.0).is_none() {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, 0);
        }
        self.rank();
        ApplyItem::Membership { at, membership }
    }

    fn outgoing(&mut self, message: eraftpb::Message) -> Vec<Outgoing> {
        let peer = PeerId(message.to);
        let Some(node) = self.node_of(peer) else {
            return Vec::new();
        };
        let partition = self.partition.0;
        let one = match message.get_msg_type() {
            MessageType::MsgHeartbeat => {
                Outgoing::Heartbeat(node, convert::heartbeat(partition, &message))
            }
            MessageType::MsgHeartbeatResponse => {
                Outgoing::HeartbeatAnswer(node, convert::heartbeat(partition, &message))
            }
            MessageType::MsgSnapshot => Outgoing::Snapshot {
                to: peer,
                node,
                message: encode(&message),
            },
            MessageType::MsgAppend if self.is_repeated(&message) => return Vec::new(),
            MessageType::MsgAppend => {
                let parts = split_append(message);
                return parts
                    .iter()
                    .map(|part| Outgoing::Append(node, encode(part)))
                    .collect();
            }
            MessageType::MsgAppendResponse => Outgoing::Append(node, encode(&message)),
            _ => Outgoing::Vote(node, encode(&message)),
        };
        vec![one]
    }

    /// Whether an append only repeats what is on its way: see `probes`.
    fn is_repeated(&mut self, append: &eraftpb::Message) -> bool {
        let progress = self.raw.raft.prs().get(append.to);
        let probes = progress.is_some_and(|progress| progress.state == ProgressState::Probe);
        let bytes = append.entries.iter().map(|entry| entry.data.len());
        if !probes || bytes.sum::<usize>() <= SMALL_BYTES {
            return false;
        }
        self.probes.send(append.to, append.term, append.index) == Leaves::NotAgain
    }

    /// Whether this replica leads and has applied an entry of its own term: it may admit turns.
    #[must_use]
    pub fn may_open(&self) -> bool {
        let unopened = [Canary::ServeUnopened, Canary::VersionUnchecked];
        let applied =
            unopened.into_iter().any(canary::sings) || self.raw.raft.apply_to_current_term();
        self.role() == Role::Leader && applied
    }
}

/// Cuts an append into messages of at most `APPEND_BYTES_MAX` each; an entry may exceed it alone.
///
/// The engine bounds what it reads from the log for one message, but then merges every append to
/// the same peer that it has not handed out yet. That spares a message per proposal, and has no
/// bound; so the merged message is cut here. Each part stands for itself: it names the entry before
/// it.
fn split_append(message: eraftpb::Message) -> Vec<eraftpb::Message> {
    let mut head = message;
    let entries = std::mem::take(&mut head.entries);
    let mut parts = vec![head.clone()];
    let mut bytes = 0;
    for entry in entries {
        let size = prost11::Message::encoded_len(&entry) as u64;
        let before = parts.last().and_then(|part| part.entries.last());
        if let Some(before) = before
            && bytes + size > APPEND_BYTES_MAX
        {
            (head.index, head.log_term) = (before.index, before.term);
            parts.push(head.clone());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.entries.push(entry);
        }
    }
    parts
}
