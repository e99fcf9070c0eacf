//! Error codes: each is a document (`docs/errors/E….md`, `ghostlight explain E…`) and has a class
//! that tells the caller what to do.
//!
//! Dapr's own cases keep Dapr's `errorCode`; ours are `ERR_GHOSTLIGHT_<NAME>`. How a code becomes
//! an HTTP status is decided in one place, `node/src/api/error_map.rs`.

use std::fmt;

/// What the receiver of an error may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Certainly not executed; try again after a pause.
    Retry,
    /// Too much work; certainly not executed; try again later.
    Overloaded,
    /// May have been executed; repeat only with the same request id.
    Unknown,
    /// The request itself is wrong.
    Invalid,
    /// What was asked for does not exist.
    NotFound,
    /// The request contradicts an earlier one or the present state.
    Conflict,
    /// Not allowed.
    Denied,
    /// The deadline had passed before the work began.
    Deadline,
    /// The node cannot run or go on; an operator must act.
    Fatal,
    /// Our mistake.
    Bug,
}

macro_rules! codes {
    ($($variant:ident = $number:literal, $class:ident, $name:literal;)*) => {
        /// Every error code of Ghostlight.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[expect(missing_docs, reason = "each code is described on its own page in docs/errors")]
        pub enum Code { $($variant,)* }

        impl Code {
            /// Every code, in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number, as in `E0107`.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Self::$variant => $number,)* }
            }

            /// What the receiver may do.
            #[must_use]
            pub fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)* }
            }

            /// The `errorCode` of an answer when Dapr has none for the case.
            #[must_use]
            pub fn error_code(self) -> &'static str {
                match self { $(Self::$variant => concat!("ERR_GHOSTLIGHT_", $name),)* }
            }

            /// Finds a code by its number, as it comes over the wire.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    InvalidActorType = 101, Invalid, "INVALID_ACTOR_TYPE";
    InvalidActorId = 102, Invalid, "INVALID_ACTOR_ID";
    InvalidMethod = 103, Invalid, "INVALID_METHOD";
    BodyTooLarge = 104, Invalid, "BODY_TOO_LARGE";
    DeadlineExpired = 105, Deadline, "DEADLINE_EXPIRED";
    UnknownActorType = 106, NotFound, "UNKNOWN_ACTOR_TYPE";
    UnknownMethod = 107, NotFound, "UNKNOWN_METHOD";
    MailboxFull = 108, Overloaded, "MAILBOX_FULL";
    RequestIdReused = 109, Conflict, "REQUEST_ID_REUSED";
    Cycle = 110, Conflict, "CYCLE";
    ChainTooDeep = 111, Conflict, "CHAIN_TOO_DEEP";
    OutcomeUnknown = 112, Unknown, "OUTCOME_UNKNOWN";
    Interrupted = 113, Unknown, "INTERRUPTED";
    DedupFull = 114, Overloaded, "DEDUP_FULL";
    InvalidRequestId = 115, Invalid, "INVALID_REQUEST_ID";
    TurnPanicked = 116, Bug, "TURN_PANICKED";
    GatewayFull = 117, Overloaded, "GATEWAY_FULL";
    InvalidArgument = 118, Invalid, "INVALID_ARGUMENT";
    TurnTooLarge = 119, Invalid, "TURN_TOO_LARGE";
    SessionClosed = 120, Unknown, "SESSION_CLOSED";
    ReplyNotKept = 121, Unknown, "REPLY_NOT_KEPT";
    InvalidDeadline = 122, Invalid, "INVALID_DEADLINE";
    ActorTypeReserved = 123, Denied, "ACTOR_TYPE_RESERVED";
    NoHost = 124, Retry, "NO_HOST";
    MessagesFull = 125, Overloaded, "MESSAGES_FULL";
    NodeBusy = 126, Overloaded, "NODE_BUSY";
    TurnOver = 127, Conflict, "TURN_OVER";

    NoLeader = 201, Retry, "NO_LEADER";
    MinCopies = 202, Retry, "MIN_COPIES";
    ShuttingDown = 203, Retry, "SHUTTING_DOWN";
    NotJoined = 204, Retry, "NOT_JOINED";
    ClusterKeyRejected = 205, Denied, "CLUSTER_KEY_REJECTED";
    ClusterIdMismatch = 206, Denied, "CLUSTER_ID_MISMATCH";
    ShapeMismatch = 207, Denied, "SHAPE_MISMATCH";
    StaleGeneration = 208, Denied, "STALE_GENERATION";
    Decommissioned = 209, Denied, "DECOMMISSIONED";
    LeaveBelowFactor = 210, Conflict, "LEAVE_BELOW_FACTOR";
    Yielded = 211, Fatal, "YIELDED";
    EdgeCannotFound = 212, Invalid, "EDGE_CANNOT_FOUND";
    UnknownNode = 213, NotFound, "UNKNOWN_NODE";
    RemoveLiveNode = 214, Conflict, "REMOVE_LIVE_NODE";
    ProtocolMismatch = 215, Denied, "PROTOCOL_MISMATCH";
    LeaderMoved = 216, Retry, "LEADER_MOVED";
    SeedsSilent = 217, Retry, "SEEDS_SILENT";
    HashRulesMismatch = 218, Denied, "HASH_RULES_MISMATCH";
    ClockOff = 220, Retry, "CLOCK_OFF";
    OrderUnconfirmed = 221, Unknown, "ORDER_UNCONFIRMED";
    AmbiguousNode = 222, Conflict, "AMBIGUOUS_NODE";

    DataDirLocked = 301, Fatal, "DATA_DIR_LOCKED";
    DataDirReadOnly = 302, Fatal, "DATA_DIR_READ_ONLY";
    DataDirFull = 303, Fatal, "DATA_DIR_FULL";
    DataDirNewer = 304, Fatal, "DATA_DIR_NEWER";
    DataDirForeign = 305, Fatal, "DATA_DIR_FOREIGN";
    DataDirCorrupt = 306, Fatal, "DATA_DIR_CORRUPT";
    StorageFailed = 307, Fatal, "STORAGE_FAILED";
    ReplicaCondemned = 308, Fatal, "REPLICA_CONDEMNED";
    DataDirUnusable = 309, Fatal, "DATA_DIR_UNUSABLE";
    StatesDiffer = 310, Fatal, "STATES_DIFFER";
    PromisesLost = 311, Fatal, "PROMISES_LOST";
    DiskSlow = 320, Retry, "DISK_SLOW";
    DiskRoomShort = 321, Retry, "DISK_ROOM_SHORT";
    NodeStarved = 322, Retry, "NODE_STARVED";

    PortInUse = 401, Fatal, "PORT_IN_USE";
    ConfigUnknownKey = 402, Invalid, "CONFIG_UNKNOWN_KEY";
    ConfigInvalid = 403, Invalid, "CONFIG_INVALID";
    KeyFileUnusable = 404, Fatal, "KEY_FILE_UNUSABLE";
    ProfileRefuses = 405, Fatal, "PROFILE_REFUSES";
    NodeUnreachable = 406, Retry, "NODE_UNREACHABLE";
    PartitionsInvalid = 407, Invalid, "PARTITIONS_INVALID";
    DemoFailed = 408, Fatal, "DEMO_FAILED";
    BenchFailed = 409, Fatal, "BENCH_FAILED";
    TokenRefused = 410, Denied, "TOKEN_REFUSED";

    InvalidTopic = 501, Invalid, "INVALID_TOPIC";
    TopicBusy = 502, Overloaded, "TOPIC_BUSY";
    UnknownGroup = 503, NotFound, "UNKNOWN_GROUP";
    CursorOutOfRange = 504, Invalid, "CURSOR_OUT_OF_RANGE";
    UnknownTopic = 505, NotFound, "UNKNOWN_TOPIC";
    EphemeralTopic = 506, Invalid, "EPHEMERAL_TOPIC";
    BusUnavailable = 510, Retry, "BUS_UNAVAILABLE";
    BusNotServed = 511, Fatal, "BUS_NOT_SERVED";

    Internal = 999, Bug, "INTERNAL";
}

/// `E0107`: the form that `explain` takes.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_found_again() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number(), "{pair:?}");
        }
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(*code));
        }
        assert_eq!(Code::UnknownMethod.to_string(), "E0107");
    }
}
