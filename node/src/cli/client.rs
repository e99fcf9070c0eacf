//! Asking a node's admin API from a command: one question, one answer, typed.

use ghostlight_core::admin::{MemberView, StatusView};
use ghostlight_protocol::code::Code;
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Failure;
use super::args::{Sure, Target};
use super::http::{Ask, Broken, Connection, Lines, Reply, authority};
use crate::api::TOKEN_HEADER;
use crate::api::admin::BASE;

/// A way to one node's admin API.
pub(super) struct Client {
    url: String,
    token: Option<String>,
    connection: Connection,
}

/// The error body of every API.
#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

impl Client {
    pub(super) fn to(target: &Target) -> Result<Self, Failure> {
        let authority = authority(&target.node).map_err(|why| {
            Failure::usage(
                Code::InvalidArgument,
                format!("{why}. Give --node as http://HOST:PORT, with a node's admin port"),
            )
        })?;
        Ok(Self {
            url: target.node.clone(),
            token: target.api_token.clone(),
            connection: Connection::to(authority),
        })
    }

    /// Reads a list below our base path.
    pub(super) async fn read<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let reply = self.ask(Ask::get(format!("{BASE}/{path}"))).await?;
        parse(&reply)
    }

    /// Sends a question or an order to the admin API; an error status is a failure. Of an order
    /// without an answer nobody knows whether it was carried out.
    pub(super) async fn ask(&mut self, ask: Ask) -> Result<Reply, Failure> {
        let url = self.url.clone();
        let is_question = ask.method == Method::GET;
        self.ask_once(ask, |why| match is_question {
            true => unreachable_at(&url, why),
            false => Failure::new(
                Code::OutcomeUnknown,
                format!(
                    "the node at {url} took the order but did not answer ({why}). It may have been carried out: \
                     look at the list that shows it before you give it again"
                ),
            ),
        })
        .await
    }

    /// Sends what may not be done twice; `perhaps` says what is to be done when nobody knows
    /// whether it was.
    pub(super) async fn ask_once(
        &mut self,
        ask: Ask,
        perhaps: impl Fn(&str) -> Failure,
    ) -> Result<Reply, Failure> {
        let ask = with_token(ask, self.token.as_deref());
        match self.connection.send(&ask).await {
            Ok(reply) => settled(reply),
            Err(Broken::Sent(why)) => Err(perhaps(&why)),
            Err(broken @ Broken::NotSent(_)) => Err(self.unreachable(&broken)),
        }
    }

    /// Reads an answer line by line.
    pub(super) async fn lines(&mut self, ask: Ask) -> Result<Lines, Failure> {
        let ask = with_token(ask, self.token.as_deref());
        let lines = self.connection.lines(&ask).await;
        match lines.map_err(|broken| self.unreachable(&broken))? {
            Ok(lines) => Ok(lines),
            Err(refused) => Err(match settled(refused) {
                Err(failure) => failure,
                Ok(_) => Failure::new(Code::Internal, "an answer that is good and bad"),
            }),
        }
    }

    /// The node's own row: where its other APIs are.
    pub(super) async fn own_row(&mut self) -> Result<MemberView, Failure> {
        let status: StatusView = self.read("status").await?;
        let own = status
            .members
            .into_iter()
            .find(|member| member.id == status.node);
        own.ok_or_else(|| {
            Failure::new(
                Code::NotJoined,
                format!(
                    "the node at {} belongs to no cluster yet. Wait until it has joined",
                    self.url
                ),
            )
        })
    }

    fn unreachable(&self, broken: &Broken) -> Failure {
        unreachable_at(&self.url, &broken.to_string())
    }
}

fn unreachable_at(url: &str, why: &str) -> Failure {
    Failure::new(
        Code::NodeUnreachable,
        format!(
            "cannot reach a node at {url} ({why}). Is one running? Start some with \"ghostlight demo\", or name \
             another with --node"
        ),
    )
}

/// Orders that nothing undoes want a second word; `what` says what they would do.
pub(super) fn confirmed(sure: Sure, what: impl FnOnce() -> String) -> Result<(), Failure> {
    match sure.yes {
        true => Ok(()),
        false => Err(Failure::usage(Code::InvalidArgument, what())),
    }
}

/// Adds the API token, if there is one.
pub(super) fn with_token(ask: Ask, token: Option<&str>) -> Ask {
    match token {
        Some(token) => ask.header(TOKEN_HEADER, token),
        None => ask,
    }
}

/// An answer with a good status; else the node's own words.
pub(super) fn settled(reply: Reply) -> Result<Reply, Failure> {
    if (200..300).contains(&reply.status) {
        return Ok(reply);
    }
    if reply.status == 401 {
        return Err(Failure::new(
            Code::TokenRefused,
            "the node asks for an API token, and takes no other. Pass --api-token, or set DAPR_API_TOKEN",
        ));
    }
    let told = serde_json::from_slice::<ErrorBody>(&reply.body).map(|body| body.message);
    Err(Failure::told(told.unwrap_or_else(|_| {
        format!(
            "the node answered {} without saying why. Is this the port you meant?",
            reply.status
        )
    })))
}

/// Parses an answer's JSON.
pub(super) fn parse<T: DeserializeOwned>(reply: &Reply) -> Result<T, Failure> {
    serde_json::from_slice(&reply.body).map_err(|error| {
        Failure::new(
            Code::ProtocolMismatch,
            format!(
                "the node's answer is not understood ({error}). Use the ghostlight of the node's version"
            ),
        )
    })
}

/// Runs one command's future to its end.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(Code::Internal, format!("cannot start a runtime: {error}"))
        })?;
    runtime.block_on(work)
}
