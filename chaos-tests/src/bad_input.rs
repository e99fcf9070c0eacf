//! Refusals as a table: what is asked, and the whole answer: status, error body, codes, when to
//! repeat.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Ask, Connection, Reply};
use crate::process;

/// Longest time for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// A request that is refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Method and path.
    pub ask: (&'static str, String),
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
    /// Status.
    pub status: u16,
    /// `errorCode` of the body.
    pub error_code: &'static str,
    /// `message` of the body, without our number at its end.
    pub message: String,
    /// Our number; `None` where the answer is Dapr's alone.
    pub code: Option<&'static str>,
}

impl Refused {
    /// A `POST` of an empty body without headers.
    #[must_use]
    pub fn post(
        path: &str,
        (status, error_code, code): (u16, &'static str, &'static str),
        message: &str,
    ) -> Self {
        Self {
            ask: ("POST", path.to_owned()),
            headers: Vec::new(),
            body: String::new(),
            status,
            error_code,
            message: message.to_owned(),
            code: Some(code),
        }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it.
    ///
    /// # Panics
    /// Without an answer.
    #[must_use]
    #[track_caller]
    pub fn send(&self, address: &str) -> Reply {
        let (method, path) = &self.ask;
        let ask = Ask {
            method,
            path: path.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            time_max: ANSWER_TIME_MAX,
        };
        let reply = Connection::to(address).send(&ask);
        reply.unwrap_or_else(|error| panic!("{method} {path} at {address}: {error}"))
    }

    /// Compares a whole answer.
    ///
    /// # Panics
    /// When anything differs.
    #[track_caller]
    pub fn check(&self, reply: &Reply) {
        let (method, path) = &self.ask;
        let what = format!("{method} {path}: {reply:?}");
        let message = match self.code {
            Some(code) => format!("{} [{code}]", self.message),
            None => self.message.clone(),
        };
        let body: Value = serde_json::from_str(&reply.body).expect(&what);
        let expected = json!({"errorCode": self.error_code, "message": message});
        assert_eq!((reply.status, body), (self.status, expected), "{what}");
        assert_eq!(
            reply.header("content-type"),
            Some("application/json"),
            "{what}"
        );
        assert_eq!(reply.header("ghostlight-error"), self.code, "{what}");
        check_pause(reply);
    }
}

/// 503 and 429 say when to repeat, in both headers, and nothing else does.
///
/// # Panics
/// When they do not.
#[track_caller]
pub fn check_pause(reply: &Reply) {
    let number = |name| {
        reply
            .header(name)
            .map(|value| value.parse::<u64>().expect(value))
    };
    let pause = (number("retry-after"), number("ghostlight-retry-after-ms"));
    match (reply.status, pause) {
        (429 | 503, (Some(seconds), Some(millis))) => {
            assert!(seconds >= 1 && seconds * 1_000 >= millis, "{reply:?}");
        }
        (429 | 503, _) => panic!("no pause: {reply:?}"),
        (_, (None, None)) => {}
        (_, _) => panic!("a pause, but it is not to be repeated: {reply:?}"),
    }
}

/// Whether `explain` prints the page of every one of these codes.
///
/// # Panics
/// When it does not.
#[track_caller]
pub fn check_pages<'a>(codes: impl IntoIterator<Item = &'a str>) {
    for code in codes.into_iter().collect::<BTreeSet<_>>() {
        let page = process::run(&["explain", code]);
        let text = String::from_utf8_lossy(&page.stdout).into_owned();
        assert!(page.status.success(), "{}", process::stderr(&page));
        assert!(text.starts_with(&format!("# {code}: ")), "{text}");
        for part in ["## What happened", "## Why", "## What to do"] {
            assert!(text.contains(part), "{code} has no {part:?}");
        }
    }
}
