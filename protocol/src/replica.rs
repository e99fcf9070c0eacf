//! What a replica writes down and what it does with a committed entry.

pub mod apply;
pub mod log;
pub mod rows;

pub use apply::{
    Appended, EntryOutcome, GroupChanged, Published, SkipReason, TopicOutcome, TopicRefusal,
    TurnOutcome, apply_command,
};
pub use log::{ApplyItem, EntryKind, HardState, LogEntry, LogWrite};
pub use rows::Rows;
