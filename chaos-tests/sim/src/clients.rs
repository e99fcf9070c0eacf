//! Clients, and the history of what they did: invoked when, returned when, with which outcome.
//!
//! A client repeats an operation only with the same id of its own, or when it certainly did not
//! run. An operation whose outcome is not known stays unknown for ever.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_core::gateway::CallTicket;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::topic::{
    GroupName, GroupSettings, LettersPage, Nothing, PublishBody, PutGroup, Redrive, RedriveTo,
    Request, Seek, StartFrom, TopicEvent, TopicRequest, event_name,
};
use prost::Message as _;

use crate::heralds::{self, speaker};
use crate::net::Place;
use crate::params::WorkParams;
use crate::subscribers::topic;

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
    /// Publishes an event that exists once, under a name of its own; the same again is no other
    /// event.
    Publish {
        /// Which key.
        key: usize,
        /// The event.
        number: usize,
        /// How long events are kept, in milliseconds, and how many bytes of them; 0: as usual.
        keeps: (u64, u64),
    },
    /// Has an actor append a line that exists once, and publish in that turn.
    Say {
        /// Which herald.
        herald: usize,
        /// The line, which says what is published.
        line: String,
    },
    /// Reads what a herald has said.
    Said {
        /// Which herald.
        herald: usize,
    },
    /// An operator changes how a group is served.
    Steer {
        /// Which group.
        group: String,
        /// In which topic partition.
        number: u16,
        /// How.
        how: Steering,
    },
    /// Reads what an actor got of a topic.
    Got {
        /// Its id.
        herald: String,
    },
    /// Asks how a topic partition stands.
    Describe {
        /// Which.
        number: u16,
    },
    /// Asks for the dead letters of a group.
    Letters {
        /// Which group.
        group: String,
        /// Which topic partition.
        number: u16,
        /// Lowest offset.
        from: u64,
    },
}

/// What an operator does to a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Steering {
    /// It gets all that is kept once more.
    ToFirst,
    /// It gets what comes from now on.
    ToLast,
    /// It goes on at an offset.
    To(u64),
    /// It goes on with the first event that was appended at or after a time, in milliseconds.
    ToTime(u64),
    /// It is made, if it is not there.
    Make,
    /// It is forgotten, its letters as well.
    Delete,
    /// It gets nothing.
    Pause,
    /// It gets events again.
    Resume,
    /// Its letters at these offsets are events again.
    Redrive(Vec<u64>),
}

impl Steering {
    fn request(&self, group: String) -> Request {
        let seek = |to, offset| {
            let group = group.clone();
            Request::Seek(Seek {
                group,
                to,
                offset,
                ..Seek::default()
            })
        };
        match self {
            Self::ToFirst => seek(StartFrom::First as i32, None),
            Self::ToLast => seek(StartFrom::Last as i32, None),
            Self::To(offset) => seek(0, Some(*offset)),
            Self::ToTime(time_ms) => Request::Seek(Seek {
                group,
                to: StartFrom::Time as i32,
                time_ms: *time_ms,
                ..Seek::default()
            }),
            Self::Make => Request::PutGroup(PutGroup {
                group,
                settings: Some(GroupSettings::default()),
            }),
            Self::Delete => Request::DeleteGroup(GroupName { group }),
            Self::Pause => Request::Pause(GroupName { group }),
            Self::Resume => Request::Resume(GroupName { group }),
            Self::Redrive(offsets) => Request::Redrive(Redrive {
                group,
                offsets: offsets.clone(),
                to: RedriveTo::Group as i32,
            }),
        }
    }
}

impl Op {
    /// Actor, method and body.
    #[must_use]
    pub(crate) fn call(&self) -> (ActorKey, &'static str, Bytes) {
        let actor = |kind: &str, id: String| {
            ActorKey::new("default", kind, &id).expect("sample names are valid")
        };
        let text = |text: String| Bytes::from(text.into_bytes());
        match self {
            Self::Append { log, line } => (
                actor("log", format!("l{log}")),
                "append",
                text(format!("\"{line}\"")),
            ),
            Self::Bulk { log, bytes } => {
                let line = "x".repeat(*bytes);
                (
                    actor("log", format!("b{log}")),
                    "append",
                    text(format!("\"{line}\"")),
                )
            }
            Self::Read { log } => (actor("log", format!("l{log}")), "read", Bytes::new()),
            Self::Add { counter } => (
                actor("counter", format!("c{counter}")),
                "add",
                text("1".to_owned()),
            ),
            Self::Get { counter } => (actor("counter", format!("c{counter}")), "get", Bytes::new()),
            Self::Deposit { account } => {
                let deposit = text(FIRST_DEPOSIT.to_string());
                (actor("account", format!("a{account}")), "deposit", deposit)
            }
            Self::Transfer { from, to, amount } => {
                let transfer = text(format!("[\"a{to}\",{amount}]"));
                (actor("account", format!("a{from}")), "transfer", transfer)
            }
            Self::Balance { account } => (
                actor("account", format!("a{account}")),
                "balance",
                Bytes::new(),
            ),
            Self::Publish { key, .. } => {
                let place = topic().partition_for(key_name(*key).as_bytes());
                (place.key(), TOPIC_METHOD, asked(self.publish()))
            }
            Self::Steer { group, number, how } => {
                let key = topic().partition(*number).key();
                (key, TOPIC_METHOD, asked(how.request(group.clone())))
            }
            Self::Say { herald, line } => {
                let line = text(format!("\"{line}\""));
                (heralds::herald(&speaker(*herald)), "say", line)
            }
            Self::Said { herald } => (heralds::herald(&speaker(*herald)), "read", Bytes::new()),
            Self::Got { herald } => (heralds::herald(herald), "read", Bytes::new()),
            Self::Describe { number } => {
                let key = topic().partition(*number).key();
                (key, TOPIC_METHOD, asked(Request::Describe(Nothing {})))
            }
            Self::Letters {
                group,
                number,
                from,
            } => {
                let page = LettersPage {
                    group: group.clone(),
                    from: *from,
                };
                let key = topic().partition(*number).key();
                (key, TOPIC_METHOD, asked(Request::Letters(page)))
            }
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub(crate) fn reads(&self) -> bool {
        match self {
            Self::Read { .. }
            | Self::Get { .. }
            | Self::Balance { .. }
            | Self::Said { .. }
            | Self::Got { .. }
            | Self::Describe { .. }
            | Self::Letters { .. } => true,
            Self::Append { .. }
            | Self::Bulk { .. }
            | Self::Add { .. }
            | Self::Deposit { .. }
            | Self::Transfer { .. }
            | Self::Say { .. }
            | Self::Steer { .. }
            | Self::Publish { .. } => false,
        }
    }

    fn publish(&self) -> Request {
        let (number, keeps) = match self {
            Self::Publish { number, keeps, .. } => (*number, *keeps),
            _ => (0, (0, 0)),
        };
        Request::Publish(PublishBody {
            retention_ms: keeps.0,
            retention_bytes: keeps.1,
            events: vec![self.event()],
            names: vec![event_name("client", &number.to_string())],
        })
    }

    /// The event that it publishes; its data exists once.
    #[must_use]
    pub(crate) fn event(&self) -> TopicEvent {
        let Self::Publish { key, number, .. } = self else {
            return TopicEvent::default();
        };
        TopicEvent {
            key: Some(Bytes::from(key_name(*key).into_bytes())),
            data: Bytes::from(number.to_string().into_bytes()),
            source: "client".to_owned(),
            ..TopicEvent::default()
        }
    }
}

/// Method of every call to a topic partition.
const TOPIC_METHOD: &str = "topic";

pub(crate) fn key_name(key: usize) -> String {
    format!("k{key}")
}

fn asked(request: Request) -> Bytes {
    let request = Some(request);
    TopicRequest { request }.encode_to_vec().into()
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
    /// Who.
    pub client: usize,
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
    /// Where its first attempt is not made.
    pub not: Option<Place>,
}

/// One client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// Where it usually calls.
    pub home: usize,
    /// Its present call.
    pub call: Option<Call>,
    /// What it asks next.
    pub then: Option<Then>,
}

/// What a client asks next, of somebody else than before.
#[derive(Clone, Debug)]
pub(crate) struct Then {
    /// What.
    pub op: Op,
    /// Not here.
    pub not: Place,
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
                .map(|home| Client {
                    home,
                    call: None,
                    then: None,
                })
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

    /// What a client is at.
    #[must_use]
    pub(crate) fn op_of(&self, client: usize) -> Option<Op> {
        let call = self.clients[client].call.as_ref()?;
        Some(self.history[call.record].op.clone())
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
