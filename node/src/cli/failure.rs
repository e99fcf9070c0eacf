//! How a command ends.

use std::fmt;

use ghostlight_protocol::code::Code;

/// A command that did what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Exit code 0.
    Ok,
    /// Exit code 3.
    UnhealthyOrEmpty,
}

/// A command that failed: what, why, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    kind: Kind,
    code: Option<Code>,
    detail: String,
}

/// Who can do something about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// It was typed well and did not work out.
    Failed,
    /// An argument has not the form that the command takes; nothing was tried.
    Usage,
}

impl Failure {
    /// A failure with its page.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            code: Some(code),
            detail: detail.into(),
        }
    }

    /// An argument that has not the form that the command takes.
    #[must_use]
    pub fn usage(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            ..Self::new(code, detail)
        }
    }

    /// Its page, if it has one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// A failure whose text comes from a node and carries its code already.
    #[must_use]
    pub fn told(detail: impl Into<String>) -> Self {
        Self {
            kind: Kind::Failed,
            code: None,
            detail: detail.into(),
        }
    }

    /// What failed, without its code.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The exit code: 1, or 2 for wrong usage.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "error: {} [{code}]", self.detail),
            None => write!(f, "error: {}", self.detail),
        }
    }
}

impl From<crate::config::Error> for Failure {
    fn from(error: crate::config::Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<crate::node::StartError> for Failure {
    fn from(error: crate::node::StartError) -> Self {
        Self::new(error.code, error.detail)
    }
}
