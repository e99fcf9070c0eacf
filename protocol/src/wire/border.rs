//! What a peer's frame may say in numbers.
//!
//! Members follow the protocol, but a bug or an old version must not end the processes of the
//! others, and least of all every replica at every start, when the number has reached the log. So
//! what no counter can reach is refused where it enters; behind the border, adding to a number is
//! safe.
//!
//! Absent: whether a message makes sense to its receiver; that is decided where it is used.

use super::ephemeral::{EphemeralEvent, InterestFrame, InterestSaid, WantedTopic};
use super::frame::{AskRows, Control, Frame, Heartbeat, OutboxPush, SnapshotAck, SnapshotChunk};
use super::hello::{ClusterDescriptor, NodeRecord};
use super::topic::{Counted, Present, TopicFrame, TopicSaid};
use crate::call::{AnswerKind, Ask, CallRequest, LeaderHint};
use crate::hash::HASH_VERSION;
use crate::limits::{COUNT_MAX, FACTOR_MAX, PARTITIONS_MAX, VIRTUAL_NODES_MAX};

/// Nodes that one is asked to pass an event on to.
const RELAYED_MAX: u64 = 4_096;

/// Why a frame is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BorderError {
    /// A number that nothing reaches by counting.
    #[error("{what} is {value}; nothing counts beyond {COUNT_MAX}")]
    Number {
        /// Which.
        what: &'static str,
        /// What it says.
        value: u64,
    },
    /// A cluster that this build cannot take part in.
    #[error(
        "a cluster of {partitions} partitions, factor {factor}, {virtual_nodes} virtual nodes and hash \
         version {hash_version} is not possible here; run the same version everywhere"
    )]
    Shape {
        /// Partition count.
        partitions: u32,
        /// Replication factor.
        factor: u32,
        /// Virtual nodes per unit of weight.
        virtual_nodes: u32,
        /// Version of the hash rules.
        hash_version: u32,
    },
}

/// Checks the numbers of a frame.
///
/// # Errors
/// The first that is out of range: the frame is to be dropped.
pub fn check(frame: &Frame) -> Result<(), BorderError> {
    match frame {
        Frame::Control(control) => check_control(control),
        Frame::Call(call) => check_call(call),
        Frame::Answer(answer) => match &answer.kind {
            Some(AnswerKind::Redirect(redirect)) => check_hints(redirect.hint.as_slice()),
            Some(
                AnswerKind::Reply(_)
                | AnswerKind::AppReply(_)
                | AnswerKind::App(_)
                | AnswerKind::NotRun(_)
                | AnswerKind::Unknown(_),
            )
            | None => Ok(()),
        },
        Frame::OutboxPush(push) => check_push(push),
        Frame::OutboxMark(mark) => {
            count("a source's epoch", mark.source_epoch)?;
            count("an outbox mark", mark.through.unwrap_or(0))?;
            check_hints(mark.hint.as_slice())
        }
        Frame::SnapshotChunk(chunk) => check_chunk(chunk),
        Frame::SnapshotAck(ack) => check_ack(ack),
        Frame::Record(record) => check_record(record),
        Frame::Routes(routes) => check_hints(&routes.hints),
        Frame::AskReplica(ask) => count("a peer", ask.peer),
        Frame::ReplicaStanding(standing) => {
            count("a peer", standing.peer)?;
            count("a membership's index", standing.membership_index)?;
            count("a peer", standing.next_peer)
        }
        Frame::Descriptor(descriptor) => check_descriptor(descriptor),
        Frame::AskRows(AskRows { peer, index, .. }) => {
            count("a peer", *peer)?;
            count("an index", *index)
        }
        Frame::RowsDigest(rows) | Frame::RowsDiffer(rows) => {
            count("a peer", rows.peer)?;
            count("an index", rows.index)
        }
        // Their numbers are in the engine's encoding: `replica::group` of the core checks them.
        Frame::Raft(_) => Ok(()),
        Frame::Interest(interest) => check_interest(interest),
        Frame::Ephemeral(event) => check_ephemeral(event),
        // The numbers of orders and of marks are only compared.
        Frame::AskRoutes(_)
        | Frame::Hangup(_)
        | Frame::Order(_)
        | Frame::OrderAnswer(_)
        | Frame::AskSurvival(_)
        | Frame::Mark(_)
        | Frame::Survival(_) => Ok(()),
        Frame::Topic(topic) => check_topic(topic),
        Frame::Host(host) => {
            count("a host frame", host.first)?;
            count("a host frame", host.taken)
        }
    }
}

/// Checks what a node says of itself.
///
/// # Errors
/// See [`check`].
pub fn check_record(record: &NodeRecord) -> Result<(), BorderError> {
    count("a generation", record.generation)?;
    count("a record's revision", record.revision)
}

/// Checks that this build can take part in a cluster.
///
/// # Errors
/// It cannot.
pub fn check_descriptor(descriptor: &ClusterDescriptor) -> Result<(), BorderError> {
    let ClusterDescriptor {
        partitions,
        factor,
        virtual_nodes,
        hash_version,
        ..
    } = descriptor;
    let possible = partitions.is_power_of_two()
        && *partitions <= u32::from(PARTITIONS_MAX)
        && (1..=u32::from(FACTOR_MAX)).contains(factor)
        && (1..=VIRTUAL_NODES_MAX).contains(virtual_nodes)
        && *hash_version == HASH_VERSION;
    if possible {
        return Ok(());
    }
    Err(BorderError::Shape {
        partitions: *partitions,
        factor: *factor,
        virtual_nodes: *virtual_nodes,
        hash_version: *hash_version,
    })
}

fn count(what: &'static str, value: u64) -> Result<(), BorderError> {
    if value <= COUNT_MAX {
        Ok(())
    } else {
        Err(BorderError::Number { what, value })
    }
}

fn check_control(control: &Control) -> Result<(), BorderError> {
    let beats = control.heartbeats.iter().chain(&control.answers);
    for Heartbeat {
        from,
        to,
        term,
        commit,
        ..
    } in beats
    {
        count("a peer", *from)?;
        count("a peer", *to)?;
        count("a term", *term)?;
        count("a commit index", *commit)?;
    }
    for condemned in &control.condemned {
        count("a peer", condemned.next_peer)?;
    }
    count("a calendar clock", control.wall_ms)?;
    check_hints(&control.leaderships)
}

fn check_hints(hints: &[LeaderHint]) -> Result<(), BorderError> {
    for hint in hints {
        count("a term", hint.term)?;
        count("a membership's index", hint.membership_index)?;
    }
    Ok(())
}

fn check_call(call: &CallRequest) -> Result<(), BorderError> {
    count("a deadline", call.remaining_ms)?;
    count("a closed range", call.closed_below)?;
    for range in &call.closed_ranges {
        count("a closed range", range.end)?;
    }
    count("a term", call.leader_term)?;
    if let Some(Ask::StateWrite(change)) = call.operation.as_ref().and_then(|o| o.ask.as_ref()) {
        count("a term", change.term)?;
        count("an activation", change.activation)?;
        count("a version", change.version)?;
    }
    // Seeds are random; the time is only shown.
    Ok(())
}

fn check_push(push: &OutboxPush) -> Result<(), BorderError> {
    count("a source's epoch", push.source_epoch)?;
    count("an outbox sequence", push.first)?;
    for message in &push.messages {
        count("an outbox sequence", message.sequence)?;
    }
    Ok(())
}

/// Checks what a peer wants of ephemeral topics.
///
/// # Errors
/// See [`check`].
pub fn check_interest(frame: &InterestFrame) -> Result<(), BorderError> {
    count("a run", frame.run)?;
    let wanted = |topic: &WantedTopic| count("a number of dropped events", topic.dropped);
    match &frame.said {
        Some(InterestSaid::Whole(whole)) => {
            count("a version", whole.version)?;
            whole.topics.iter().try_for_each(wanted)
        }
        Some(InterestSaid::Change(change)) => {
            count("a version", change.version)?;
            change.topic.iter().try_for_each(wanted)
        }
        Some(InterestSaid::Known(known) | InterestSaid::Missed(known)) => {
            count("a version", known.version)?;
            count("a run", known.run)
        }
        None => Ok(()),
    }
}

/// Checks an event of an ephemeral topic.
///
/// # Errors
/// See [`check`].
pub fn check_ephemeral(event: &EphemeralEvent) -> Result<(), BorderError> {
    count("an event's number", event.number)?;
    count("an epoch", event.epoch)?;
    let relayed = event.pass_to.len() as u64;
    if relayed > RELAYED_MAX {
        let what = "a number of nodes to pass an event on to";
        return Err(BorderError::Number {
            what,
            value: relayed,
        });
    }
    Ok(())
}

fn check_topic(frame: &TopicFrame) -> Result<(), BorderError> {
    count("a term", frame.term)?;
    count("a subscriber", frame.subscriber)?;
    let ranges = match &frame.said {
        Some(TopicSaid::Attach(attach)) => {
            count("a group's epoch", attach.epoch)?;
            count("a delivery's number", attach.seen)?;
            if let Some(settings) = &attach.settings {
                count("a start time", settings.start_ms)?;
                count("a pause", settings.retry_pause_ms)?;
                count("a pause", settings.retry_pause_max_ms)?;
                count("an idle time", settings.idle_ms)?;
            }
            &attach.held[..]
        }
        Some(TopicSaid::Verdicts(verdicts)) => {
            count("a group's epoch", verdicts.epoch)?;
            for failed in &verdicts.failed {
                count("an offset", failed.offset)?;
            }
            for forward in &verdicts.forwarded {
                count("an offset", forward.offset)?;
            }
            &verdicts.done[..]
        }
        Some(TopicSaid::Attached(attached)) => {
            count("a group's epoch", attached.epoch)?;
            &[]
        }
        Some(TopicSaid::Refused(refused)) => {
            check_hints(refused.hint.as_slice())?;
            &[]
        }
        Some(TopicSaid::Deliver(deliver)) => {
            count("a group's epoch", deliver.epoch)?;
            count("a delivery's number", deliver.number)?;
            for event in &deliver.events {
                count("an offset", event.offset)?;
            }
            &[]
        }
        Some(TopicSaid::Confirm(confirm)) => {
            count("a group's epoch", confirm.epoch)?;
            for offset in &confirm.counted {
                count("an offset", *offset)?;
            }
            &confirm.settled[..]
        }
        Some(
            TopicSaid::Present(Present { number, roll })
            | TopicSaid::Counted(Counted { number, roll }),
        ) => {
            count("a word's number", *number)?;
            count("a number of subscribers", roll.map_or(0, |roll| roll.count))?;
            &[]
        }
        Some(TopicSaid::Detach(_) | TopicSaid::SpeakUp(_)) | None => &[],
    };
    for range in ranges {
        count("an offset", range.end)?;
    }
    Ok(())
}

/// The transfer is an id, drawn from all numbers: it is compared, and counted on by nobody.
fn check_chunk(chunk: &SnapshotChunk) -> Result<(), BorderError> {
    count("a peer", chunk.to_peer)?;
    count("a chunk's number", chunk.number)?;
    count("a term", chunk.term)
}

fn check_ack(ack: &SnapshotAck) -> Result<(), BorderError> {
    count("a peer", ack.from_peer)?;
    count("a chunk's number", ack.next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closed::ClosedRange;
    use crate::ids::{ClusterId, NodeId};
    use crate::wire::frame::{AskReplica, OutboxMark, ReplicaStanding, Routes};
    use crate::wire::hello::new_descriptor;
    use crate::wire::topic::Confirm;

    /// A frame that says `value` in one of its numbers.
    fn frames(value: u64) -> Vec<Frame> {
        let hint = |term| LeaderHint {
            term,
            ..LeaderHint::default()
        };
        let beat = Heartbeat {
            commit: value,
            ..Heartbeat::default()
        };
        vec![
            Frame::OutboxPush(OutboxPush {
                first: value,
                ..OutboxPush::default()
            }),
            Frame::OutboxMark(OutboxMark {
                through: Some(value),
                ..OutboxMark::default()
            }),
            Frame::Control(Control {
                wall_ms: value,
                ..Control::default()
            }),
            Frame::Control(Control {
                answers: vec![beat],
                ..Control::default()
            }),
            Frame::Routes(Routes {
                hints: vec![hint(1), hint(value)],
            }),
            Frame::AskReplica(AskReplica {
                partition: 0,
                peer: value,
            }),
            Frame::ReplicaStanding(ReplicaStanding {
                next_peer: value,
                ..ReplicaStanding::default()
            }),
            Frame::SnapshotChunk(SnapshotChunk {
                number: value,
                ..SnapshotChunk::default()
            }),
            Frame::Record(NodeRecord {
                generation: value,
                ..NodeRecord::default()
            }),
            Frame::Topic(TopicFrame {
                said: Some(TopicSaid::Confirm(Confirm {
                    settled: vec![ClosedRange {
                        first: 0,
                        end: value,
                    }],
                    ..Confirm::default()
                })),
                ..TopicFrame::default()
            }),
            Frame::Topic(TopicFrame {
                said: Some(TopicSaid::Present(Present {
                    number: value,
                    roll: None,
                })),
                ..TopicFrame::default()
            }),
        ]
    }

    #[test]
    fn a_transfer_is_an_id_and_may_be_any_number() {
        for transfer in [0, COUNT_MAX + 1, u64::MAX] {
            let chunk = Frame::SnapshotChunk(SnapshotChunk {
                transfer,
                ..SnapshotChunk::default()
            });
            let ack = Frame::SnapshotAck(SnapshotAck {
                transfer,
                ..SnapshotAck::default()
            });
            assert_eq!((check(&chunk), check(&ack)), (Ok(()), Ok(())));
        }
    }

    #[test]
    fn numbers_that_nothing_reaches_are_refused() {
        for good in [0, 1, COUNT_MAX] {
            for frame in frames(good) {
                assert_eq!(check(&frame), Ok(()), "{frame:?}");
            }
        }
        for bad in [COUNT_MAX + 1, 1 << 63, u64::MAX] {
            for frame in frames(bad) {
                let refused = check(&frame);
                assert!(
                    matches!(refused, Err(BorderError::Number { value, .. }) if value == bad),
                    "{frame:?}: {refused:?}"
                );
            }
        }
    }

    #[test]
    fn clusters_of_impossible_shapes_are_refused() {
        let good = new_descriptor(ClusterId(1), NodeId(1), 256, 3);
        assert_eq!(check_descriptor(&good), Ok(()));
        type Change = fn(&mut ClusterDescriptor);
        let changes: [Change; 9] = [
            |d| d.partitions = 0,
            |d| d.partitions = 3,
            |d| d.partitions = 1 << 20,
            |d| d.factor = 0,
            |d| d.factor = u32::MAX,
            |d| d.virtual_nodes = 0,
            |d| d.virtual_nodes = u32::MAX,
            |d| d.hash_version = 0,
            |d| d.hash_version += 1,
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad);
            let refused = check(&Frame::Descriptor(bad));
            assert!(matches!(refused, Err(BorderError::Shape { .. })));
        }
    }
}
