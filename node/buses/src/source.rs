//! A bus's end of a subscription whose events it keeps until they are asked for.

use std::fmt::Debug;

use tokio::sync::Notify;

use super::subscription::{Content, Verdict};

/// Events of one subscriber.
pub trait Source: Send + Sync + Debug {
    /// The next event, if there is one and the subscriber holds less than it may.
    fn take(&self) -> Option<Taken>;

    /// Notified (one permit) when `take` may give something that it did not give before.
    fn ready(&self) -> &Notify;

    /// The verdict on an event that was taken.
    fn settled(&self, verdict: &Verdict);

    /// The subscriber has gone.
    fn left(&self);
}

/// An event of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The event.
    pub content: Content,
    /// Events before it that were lost.
    pub missed: u64,
}
