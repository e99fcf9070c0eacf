//! Every bound that nodes must agree on, or that protects one node from another.
//!
//! A value nobody has needed to change is a constant here. Relations between them are checked
//! below, at compile time.

use std::time::Duration;

/// Partitions of a new cluster, when the founder does not say.
pub const PARTITIONS_DEFAULT: u16 = 256;
/// Most partitions of a cluster.
pub const PARTITIONS_MAX: u16 = 4_096;
/// Copies of each partition, when the founder does not say.
pub const REPLICATION_FACTOR_DEFAULT: u8 = 3;
/// Most copies of each partition.
pub const FACTOR_MAX: u8 = 9;
/// Virtual nodes on the ring per unit of weight.
pub const VIRTUAL_NODES_PER_WEIGHT: u32 = 512;
/// Most virtual nodes per unit of weight that a cluster may have been founded with.
pub const VIRTUAL_NODES_MAX: u32 = 4_096;
/// Largest number of anything that is counted from 0 or 1 (terms, indices, sequences, peers,
/// milliseconds): nothing reaches it, and adding to it does not overflow.
pub const COUNT_MAX: u64 = 1 << 62;
/// Largest weight of a node.
pub const WEIGHT_MAX: u32 = 16;

/// Body of one request, in bytes (Dapr's default).
pub const REQUEST_BODY_BYTES_MAX: usize = 4 << 20;
/// One entry of the log, in bytes.
pub const ENTRY_BYTES_MAX: usize = 8 << 20;
/// One message between partitions with its names, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = REQUEST_BODY_BYTES_MAX + FRAME_HEADER_BYTES_MAX;
/// One frame between nodes, in bytes.
pub const FRAME_BYTES_MAX: usize = 10 << 20;
/// Overhead left for a frame's own fields around one entry.
pub const FRAME_HEADER_BYTES_MAX: usize = 64 << 10;
/// A frame above this travels on a stream of its own; what is gathered into one frame stays below
/// it.
pub const LANE_FRAME_BYTES_MAX: usize = 64 << 10;
/// Entries of one Raft append message, in bytes.
pub const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Uncommitted entries of one partition, in bytes.
pub const UNCOMMITTED_BYTES_MAX: u64 = 16 << 20;
/// One chunk of a snapshot, in bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 512 << 10;

/// Actor type, actor id or namespace, in bytes.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Method name, in bytes.
pub const METHOD_BYTES_MAX: usize = 1_024;
/// Request id from outside, in bytes.
pub const OUTSIDE_REQUEST_ID_BYTES_MAX: usize = 256;
/// Key of one state row inside an actor, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 4 << 10;
/// Reply kept in a dedup record, in bytes; above it a digest is kept.
pub const RECORDED_REPLY_BYTES_MAX: usize = 64 << 10;
/// A text for people that travels (an error's detail, a panic's message), in bytes; longer ones are
/// cut.
pub const TEXT_BYTES_MAX: usize = 4 << 10;
/// Actors in one chain of nested calls.
pub const CALL_CHAIN_MAX: usize = 32;

/// Calls waiting for one actor.
pub const MAILBOX_CALLS_MAX: usize = 4_096;
/// Turns of one partition that ran on results not yet committed.
pub const SPECULATION_TURNS_MAX: usize = 64;
/// Bytes of those turns' write sets.
pub const SPECULATION_BYTES_MAX: usize = 1 << 20;
/// Calls of one gateway that have no answer yet.
pub const GATEWAY_CALLS_MAX: usize = 16_384;
/// Bodies of the calls that one gateway holds for its clients, in bytes; as many again for its
/// turns.
pub const GATEWAY_CALL_BYTES_MAX: usize = 256 << 20;
/// Bodies of the calls that all leaderships of one node hold, in bytes.
pub const LEADER_CALL_BYTES_MAX: usize = 256 << 20;
/// Messages accepted while a new leader still loads its inbox, in bytes; above it they are read
/// again.
pub const INBOX_LOADING_BYTES_MAX: usize = 4 << 20;
/// Ranges of closed request ids that a partition keeps for one session, above its floor.
pub const CLOSED_RANGES_MAX: usize = 64;
/// Ranges of closed request ids that one request tells: so many calls that run for long are stepped
/// around.
pub const CLOSED_RANGES_TOLD_MAX: usize = 16;
/// Newly closed request ids that are worth writing a session's row and deleting their records.
/// Until then the records stay: to know an id for longer than needed is safe.
pub const CLOSED_STEP: usize = 16;
/// Age after which a session's row is written in any case, so that a session in use never looks
/// idle.
pub const SESSION_ROW_AGE_MAX: Duration = Duration::from_secs(60);
/// Dedup records and sessions of one partition, in bytes.
pub const DEDUP_BYTES_MAX: u64 = 256 << 20;
/// Messages in the outbox of one partition above which no request from outside is admitted to it;
/// and in its inbox, or among its dead letters, above which it takes over no more from others.
/// Turns that were admitted may still add to it.
pub const PARTITION_MESSAGES_MAX: u64 = 262_144;
/// The same in bytes.
pub const PARTITION_MESSAGE_BYTES_MAX: u64 = 256 << 20;
/// Outgoing messages of one turn.
pub const TURN_SENDS_MAX: usize = 1_024;
/// Bytes of the messages that an application lets leave with one turn: with its state they must fit
/// an entry.
pub const TURN_SEND_BYTES_MAX: usize = ENTRY_BYTES_MAX / 4 * 3;
/// Messages in one outbox frame.
pub const OUTBOX_FRAME_MESSAGES_MAX: usize = 256;
/// Bytes in one outbox frame.
pub const OUTBOX_FRAME_BYTES_MAX: usize = 1 << 20;
/// Attempts of one message in an inbox before it is a dead letter.
pub const INBOX_ATTEMPTS_MAX: u32 = 10;

/// How long a dedup record of an id from outside, and an idle session, are kept: log time.
pub const DEDUP_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long a message that failed for good is kept: log time.
pub const DEAD_LETTER_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long the record of a call made inside a turn is kept: log time.
pub const DERIVED_AGE_MAX: Duration = Duration::from_secs(600);

/// How long a call waits for a leader before it is answered `NotRun`.
pub const LEADER_WAIT_MAX: Duration = Duration::from_secs(15);
/// Deadline of a call inside a turn when its caller set none: nothing may hang for ever.
pub const NESTED_CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Logs of one topic.
pub const TOPIC_PARTITIONS: u16 = 8;
/// Name of a pub/sub component, in bytes.
pub const PUBSUB_NAME_BYTES_MAX: usize = 253;
/// Name of a topic, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 512;
/// Name of a group of subscribers, in bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 512;
/// Attributes, key, source and content type of one event together, in bytes.
pub const EVENT_HEADER_BYTES_MAX: usize = 16 << 10;
/// Events of one publish to one topic partition.
pub const PUBLISH_EVENTS_MAX: usize = 4_096;
/// Bytes of the appends that one partition has not committed; beyond it publishers are refused.
pub const APPENDS_BYTES_MAX: usize = 8 << 20;
/// How long the name that a publisher gives an event is remembered: log time.
pub const EVENT_NAME_AGE_MAX: Duration = Duration::from_secs(120);
/// Names of events that one topic partition remembers; beyond it the oldest go.
pub const EVENT_NAMES_MAX: u64 = 100_000;
/// Names of events that one entry forgets because of their age, of each topic partition.
pub const EVENT_NAMES_SWEPT_MAX: usize = 1_024;
/// Bytes of an event's name as it travels.
pub const EVENT_NAME_BYTES: usize = 16;
/// Groups of one topic.
pub const GROUPS_PER_TOPIC_MAX: usize = 1_024;
/// Offsets beyond a group's floor that are delivered: so many may be settled in any order.
pub const GROUP_WINDOW: u64 = 10_000;
/// Deliveries of one event, the first included, when its group does not say.
pub const MAX_DELIVER_DEFAULT: u32 = 10;
/// Pause before the first redelivery, when the group does not say.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause before a redelivery, when the group does not say.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A delivery whose subscriber does not speak of it for this long has failed.
pub const DELIVERY_LEASE: Duration = Duration::from_secs(30);
/// Events that one subscriber holds, when it does not say.
pub const CREDIT_EVENTS_DEFAULT: u32 = 256;
/// Bytes of the events that one subscriber holds, when it does not say; one event may exceed them
/// alone.
pub const CREDIT_BYTES_DEFAULT: u64 = 4 << 20;
/// How long events are kept, when the topic does not say.
pub const RETENTION_AGE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Bytes that one topic partition keeps, when the topic does not say.
pub const RETENTION_BYTES_DEFAULT: u64 = 1 << 30;
/// Parked letters that one request moves.
pub const REDRIVE_LETTERS_MAX: usize = 256;
/// Parked letters of one group in one topic partition; beyond it deliveries are repeated until
/// there is room.
pub const PARKED_LETTERS_MAX: u64 = 16_384;
/// Events of one batch, in bytes; a single publish may exceed it alone.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Batches that one entry trims.
pub const TRIM_BATCHES_MAX: usize = 256;

/// Index and term of the synthetic snapshot that every partition starts from: a new replica can
/// only start from a real snapshot with a current configuration, never by replaying history.
pub const FIRST_SNAPSHOT: (u64, u64) = (5, 5);

const _: () = assert!(FRAME_BYTES_MAX >= ENTRY_BYTES_MAX + FRAME_HEADER_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX > REQUEST_BODY_BYTES_MAX);
const _: () = assert!(TURN_SEND_BYTES_MAX > REQUEST_BODY_BYTES_MAX);
const _: () = assert!(TURN_SEND_BYTES_MAX < ENTRY_BYTES_MAX);
const _: () = assert!(PARTITION_MESSAGES_MAX > TURN_SENDS_MAX as u64);
const _: () = assert!(PARTITION_MESSAGE_BYTES_MAX > ENTRY_BYTES_MAX as u64);
const _: () = assert!(CLOSED_RANGES_TOLD_MAX < CLOSED_RANGES_MAX);
const _: () = assert!(PARTITIONS_DEFAULT.is_power_of_two());
const _: () = assert!(LANE_FRAME_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(REPLICATION_FACTOR_DEFAULT <= FACTOR_MAX);
const _: () = assert!(VIRTUAL_NODES_PER_WEIGHT <= VIRTUAL_NODES_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES < FRAME_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX + REQUEST_BODY_BYTES_MAX < ENTRY_BYTES_MAX);
const _: () = assert!(PUBLISH_EVENTS_MAX > REDRIVE_LETTERS_MAX);
const _: () = assert!(OUTBOX_FRAME_BYTES_MAX + REQUEST_BODY_BYTES_MAX < ENTRY_BYTES_MAX);
