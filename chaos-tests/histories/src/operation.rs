//! One operation of one process.

/// An operation: asked for, and ended in one way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation<C, R> {
    /// Who asked. A process asks one thing at a time.
    pub process: u64,
    /// What for.
    pub call: C,
    /// When, in nanoseconds from any beginning.
    pub invoked: u64,
    /// What came of it.
    pub end: End<R>,
}

/// What became of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End<R> {
    /// It was answered: it happened between its two times.
    Ok {
        /// When.
        at: u64,
        /// With what.
        reply: R,
    },
    /// It certainly did not happen.
    Fail {
        /// When that was known.
        at: u64,
    },
    /// Nobody knows whether it happened. It may happen at any later time, or never.
    Info {
        /// When its process gave it up.
        at: u64,
    },
}

impl<R> End<R> {
    /// When the process was free again.
    #[must_use]
    pub fn at(&self) -> u64 {
        match self {
            Self::Ok { at, .. } | Self::Fail { at } | Self::Info { at } => *at,
        }
    }
}
