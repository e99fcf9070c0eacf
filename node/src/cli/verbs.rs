//! The verbs: `invoke`, `drain`, `leave`, `remove`.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use ghostlight_protocol::code::Code;

use super::args::{self, Target};
use super::client::{Client, block_on, parse, settled, with_token};
use super::http::{Ask, Broken, Connection, authority};
use super::lists::print_text;
use super::{Failure, Verdict};
use crate::api::admin::{BASE, Change, Done, Verb};
use crate::api::dapr::{DEADLINE_HEADER, REQUEST_ID_HEADER};
use crate::api::path::encode;

/// How long an operator's verb may take: copies may have to move first.
const VERB_TIME_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How much longer than the deadline the client waits for the node's own answer.
const DEADLINE_SLACK: Duration = Duration::from_secs(2);

/// `invoke`: through the Dapr API of the node that is asked.
pub(super) fn invoke(target: &Target, args: args::Invoke) -> Result<Verdict, Failure> {
    let path = call_path(&args.call)?;
    let body = body(args.data.as_deref())?;
    block_on(async {
        let api = reached_as(&target.node, &Client::to(target)?.own_row().await?.http);
        let unreachable = |why: String| {
            Failure::new(
                Code::NodeUnreachable,
                format!(
                    "cannot reach the node's HTTP API at {api} ({why}). Try another node with --node"
                ),
            )
        };
        let mut ask = Ask::post(path, body)
            .header(DEADLINE_HEADER, args.timeout.as_millis().to_string())
            .within(args.timeout + DEADLINE_SLACK);
        if let Some(id) = &args.request_id {
            ask = ask.header(REQUEST_ID_HEADER, id);
        }
        let ask = with_token(ask, target.api_token.as_deref());
        let mut connection = Connection::to(authority(&api).map_err(unreachable)?);
        let reply = match connection.send(&ask).await {
            Ok(reply) => settled(reply)?,
            Err(Broken::NotSent(why)) => return Err(unreachable(why)),
            Err(Broken::Sent(why)) => {
                return Err(Failure::new(
                    Code::OutcomeUnknown,
                    format!(
                        "the node at {api} took the call but did not answer ({why}). It may have run: \
                         repeat it only with the same --request-id, at another --node"
                    ),
                ));
            }
        };
        let mut text = String::from_utf8_lossy(&reply.body).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        print_text(&text);
        Ok(Verdict::Ok)
    })
}

/// Where the HTTP API of the node is that was asked at `node`: it says what it listens on, and
/// where that is loopback or every address, it is the host that it was asked at.
fn reached_as(node: &str, listens: &str) -> String {
    let (Ok(listens_on), Ok(asked)) = (listens.parse::<SocketAddr>(), authority(node)) else {
        return listens.to_owned();
    };
    let ip = listens_on.ip();
    match asked.rsplit_once(':') {
        Some((host, _)) if ip.is_loopback() || ip.is_unspecified() => {
            format!("{host}:{}", listens_on.port())
        }
        _ => listens.to_owned(),
    }
}

/// The path of `TYPE/ID/METHOD`: the type is the first part, the method the last, the id all
/// between.
fn call_path(call: &str) -> Result<String, Failure> {
    let parts = call.split_once('/').and_then(|(actor_type, rest)| {
        rest.rsplit_once('/')
            .map(|(id, method)| (actor_type, id, method))
    });
    match parts {
        Some((actor_type, id, method)) if ![actor_type, id, method].contains(&"") => Ok(format!(
            "/v1.0/actors/{}/{}/method/{}",
            encode(actor_type),
            encode(id),
            encode(method)
        )),
        _ => Err(Failure::usage(
            Code::InvalidMethod,
            format!("{call:?} is not a call. Write TYPE/ID/METHOD, such as counter/alice/add"),
        )),
    }
}

/// The body: a text, a file, or stdin.
pub(super) fn body(data: Option<&str>) -> Result<Vec<u8>, Failure> {
    let unreadable = |what: &str, error: std::io::Error| {
        Failure::new(
            Code::InvalidArgument,
            format!("cannot read the body from {what} ({error}). Use -d TEXT, -d @FILE or -d -"),
        )
    };
    match data {
        None => Ok(Vec::new()),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|e| unreadable("stdin", e))?;
            Ok(bytes)
        }
        Some(text) => match text.strip_prefix('@') {
            Some(file) => std::fs::read(file).map_err(|error| unreadable(file, error)),
            None => Ok(text.as_bytes().to_vec()),
        },
    }
}

/// `drain`.
pub(super) fn drain(target: &Target, args: args::Drain) -> Result<Verdict, Failure> {
    let change = if args.undo {
        Change::Undo
    } else {
        Change::Begin
    };
    run(
        target,
        "drain",
        Verb {
            node: args.member,
            change,
        },
    )
}

/// `leave`: of the node that is asked, or of another member, which hears of it from that one.
pub(super) fn leave(target: &Target, node: Option<String>) -> Result<Verdict, Failure> {
    run(
        target,
        "leave",
        Verb {
            node,
            change: Change::Begin,
        },
    )
}

/// `remove`.
pub(super) fn remove(target: &Target, node: String) -> Result<Verdict, Failure> {
    run(
        target,
        "remove",
        Verb {
            node: Some(node),
            change: Change::Begin,
        },
    )
}

fn run(target: &Target, name: &str, verb: Verb) -> Result<Verdict, Failure> {
    let body = serde_json::to_vec(&verb).expect("a plain struct");
    block_on(async {
        let ask = Ask::post(format!("{BASE}/{name}"), body).within(VERB_TIME_MAX);
        let reply = Client::to(target)?.ask(ask).await?;
        let done: Done = parse(&reply)?;
        eprintln!("{}", done.done);
        Ok(Verdict::Ok)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_cut_at_the_first_and_the_last_slash() {
        for (call, path) in [
            ("counter/alice/add", "/v1.0/actors/counter/alice/method/add"),
            ("a/b/c/d", "/v1.0/actors/a/b%2Fc/method/d"),
            ("a/\u{e9} x/m", "/v1.0/actors/a/%C3%A9%20x/method/m"),
        ] {
            assert_eq!(call_path(call).unwrap(), path);
        }
        for wrong in ["", "a", "a/b", "a//m", "/b/m", "a/b/"] {
            assert!(call_path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_node_is_reached_where_it_was_asked() {
        for (asked, listens, api) in [
            ("http://127.0.0.1:7480", "127.0.0.1:3500", "127.0.0.1:3500"),
            ("http://10.0.0.2:7480", "127.0.0.1:3500", "10.0.0.2:3500"),
            ("10.0.0.2", "0.0.0.0:3501", "10.0.0.2:3501"),
            ("http://n4.example:7480", "[::]:3500", "n4.example:3500"),
            ("http://[fd00::2]:7480", "[::1]:3500", "[fd00::2]:3500"),
            ("http://127.0.0.1:7480", "10.0.0.2:3500", "10.0.0.2:3500"),
        ] {
            assert_eq!(reached_as(asked, listens), api, "{asked} {listens}");
        }
    }

    #[test]
    fn bodies() {
        assert_eq!(body(None).unwrap(), b"");
        assert_eq!(body(Some("5")).unwrap(), b"5");
        let error = body(Some("@/nowhere/at/all")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
