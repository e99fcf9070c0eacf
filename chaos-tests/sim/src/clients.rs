//! Clients, and the history of what they did: invoked when, returned when, with which outcome.
//!
//! A client repeats an operation only with the same id of its own, or when it certainly did not run. An
//! operation whose outcome is not known stays unknown for ever.

use std::collections::BTreeMap;

use ghostlight_core::gateway::CallTicket;
use ghostlight_protocol::outcome::CallOutcome;

use crate::net::Place;
use crate::params::WorkParams;

/// Money that each account begins with.
pub(crate) const FIRST_DEPOSIT: u64 = 1_000;

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Appends a line that exists once.
    Append {
        /// Which log.
        log: usize,
        /// The line.
        line: String,
    },
    /// Appends one large line to a log of its own.
    Bulk {
        /// Which log.
        log: usize,
        /// Bytes of the line.
        bytes: usize,
    },
    /// Reads a log.
    Read {
        /// Which log.
        log: usize,
    },
    /// Adds one.
    Add {
        /// Which counter.
        counter: usize,
    },
    /// Reads a counter.
    Get {
        /// Which counter.
        counter: usize,
    },
    /// Puts money in: once per account, before anything goes wrong.
    Deposit {
        /// Which account.
        account: usize,
    },
    /// Moves money.
    Transfer {
        /// From which account.
        from: usize,
        /// To which one.
        to: usize,
        /// How much.
        amount: u64,
    },
    /// Reads a balance.
    Balance {
        /// Which account.
        account: usize,
    },
}

impl Op {
    /// Actor type, actor id, method and body.
    #[must_use]
    pub(crate) fn call(&self) -> (&'static str, String, &'static str, String) {
        match self {
            Self::Append { log, line } => {
                ("log", format!("l{log}"), "append", format!("\"{line}\""))
            }
            Self::Bulk { log, bytes } => (
                "log",
                format!("b{log}"),
                "append",
                format!("\"{}\"", "x".repeat(*bytes)),
            ),
            Self::Read { log } => ("log", format!("l{log}"), "read", String::new()),
            Self::Add { counter } => ("counter", format!("c{counter}"), "add", "1".to_owned()),
            Self::Get { counter } => ("counter", format!("c{counter}"), "get", String::new()),
            Self::Deposit { account } => (
                "account",
                format!("a{account}"),
                "deposit",
                FIRST_DEPOSIT.to_string(),
            ),
            Self::Transfer { from, to, amount } => (
                "account",
                format!("a{from}"),
                "transfer",
                format!("[\"a{to}\",{amount}]"),
            ),
            Self::Balance { account } => {
                ("account", format!("a{account}"), "balance", String::new())
            }
        }
    }
}

/// How an operation ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum End {
    /// Not yet.
    Running,
    /// With this reply.
    Reply(serde_json::Value),
    /// The application refused.
    Refused,
    /// It certainly did not run.
    NotRun,
    /// It may have run.
    Unknown,
}

/// One operation in the history.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What.
    pub op: Op,
    /// When it began.
    pub invoked: u64,
    /// When it ended.
    pub returned: u64,
    /// How.
    pub end: End,
    /// How often it was sent.
    pub attempts: u32,
}

/// The present call of a client.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Its record.
    pub record: usize,
    /// The ticket of the present attempt; 0 between two.
    pub ticket: u64,
    /// Where the present attempt was made.
    pub place: Place,
    /// The client's own id.
    pub id: Option<String>,
    /// Whether an attempt may have run.
    pub may_have_run: bool,
}

/// One client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// Where it usually calls.
    pub home: usize,
    /// Its present call.
    pub call: Option<Call>,
}

/// All clients and their history.
#[derive(Debug)]
pub(crate) struct Clients {
    /// The clients.
    pub clients: Vec<Client>,
    /// Everything they did.
    pub history: Vec<Record>,
    /// Whose ticket it is.
    pub tickets: BTreeMap<u64, usize>,
    /// Calls made by the world itself.
    pub asked: BTreeMap<u64, Option<CallOutcome>>,
    /// The next ticket.
    pub next_ticket: u64,
    /// Whether new operations begin.
    pub admission: Admission,
    /// Large bodies written.
    pub bulk_ops: usize,
    /// Answers `NotRun` that clients saw, but for those of nodes that have not joined or shut down.
    pub not_run: u64,
    /// Answers `Unknown` that clients saw.
    pub unknown: u64,
    /// Calls whose node died.
    pub lost: u64,
    /// The longest time of an operation that ended with a reply.
    pub slowest: u64,
}

/// Whether new operations begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// They do.
    Open,
    /// Those that run come to their end.
    Closed,
}

impl Clients {
    /// Idle clients.
    #[must_use]
    pub(crate) fn new(params: &WorkParams) -> Self {
        Self {
            clients: (0..params.clients)
                .map(|home| Client { home, call: None })
                .collect(),
            history: Vec::new(),
            tickets: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_ticket: 1,
            admission: Admission::Closed,
            bulk_ops: 0,
            not_run: 0,
            unknown: 0,
            lost: 0,
            slowest: 0,
        }
    }

    /// A fresh ticket.
    pub(crate) fn ticket(&mut self) -> CallTicket {
        self.next_ticket += 1;
        CallTicket(self.next_ticket)
    }

    /// Operations without an end.
    #[must_use]
    pub(crate) fn running(&self) -> usize {
        self.clients
            .iter()
            .filter(|client| client.call.is_some())
            .count()
    }

    /// Operations that ended with a reply.
    #[must_use]
    pub(crate) fn acknowledged(&self) -> usize {
        self.history
            .iter()
            .filter(|record| matches!(record.end, End::Reply(_)))
            .count()
    }
}
