//! Names of topics, where their partitions live, and what is stored of them.
//!
//! A topic is `TOPIC_PARTITIONS` logs. Each log is a *topic partition*; it lives in the partition
//! that its reserved actor key hashes to, beside the actors, in the same Raft group: no group is
//! made for a topic. The key also makes a publish an ordinary request of the gateway: ids, records,
//! re-sends and honest outcomes are those of calls.

mod command;
mod event;
mod group;
mod name;
mod request;
mod row;

pub use command::{
    Append, DeadEvent, Forward, GroupLetters, GroupPut, IdleGroup, PublishItem, Settle, TopicAct,
    TopicOp, TopicOps, Trim,
};
pub use event::{Attribute, ForActor, TopicEvent, event_name};
pub use group::{AckSet, DeadLetterRule, GroupSettings, Order, Purpose, StartFrom};
pub use name::{DIRECTORY_TYPE, DirectoryKey, TOPIC_TYPE, TopicName, TopicPartition, is_topic_key};
pub use request::{
    DescribeReply, GroupName, GroupReply, LettersPage, LettersReply, ListReply, Nothing, Page,
    PublishBody, PublishReply, PutGroup, Redrive, RedriveTo, Reply, Request, Seek, TopicReply,
    TopicRequest,
};
pub use row::{Attempts, DeadTopicLetter, GroupRow, NamePlace, NamedEvent, TopicBatch, TopicRow};
