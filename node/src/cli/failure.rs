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

/// A command that failed: what, why, and what to do. Exit code 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    code: Option<Code>,
    detail: String,
}

impl Failure {
    /// A failure with its page.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code: Some(code),
            detail: detail.into(),
        }
    }

    /// A failure whose text comes from a node and carries its code already.
    #[must_use]
    pub fn told(detail: impl Into<String>) -> Self {
        Self {
            code: None,
            detail: detail.into(),
        }
    }

    /// What failed, without its code.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
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
