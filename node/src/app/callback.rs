//! Callbacks as HTTP: paths, verbs, headers and bodies, exactly as an SDK expects them; and answers
//! read back.
//!
//! Pure. Order of the fields and form of the JSON are those of Dapr, which is written in Go: data
//! without white space, and `<`, `>`, `&` as escapes.

use std::fmt::Write;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Uri};

use super::connection::{Carries, Exchanged, Outgoing};
use super::settings::{AppAddress, AppSettings};
use super::{Answered, AppRequest, Callback, Post};
use crate::api::TOKEN_HEADER;

const REENTRANCY_HEADER: HeaderName = HeaderName::from_static("dapr-reentrancy-id");
const TURN_HEADER: HeaderName = HeaderName::from_static("ghostlight-turn");
const APP_ID_HEADER: HeaderName = HeaderName::from_static("dapr-app-id");
const JSON: &str = "application/json";

/// Headers that concern one connection (RFC 9110, 7.6.1), or that are made anew for the
/// application.
const LEFT_OUT: [HeaderName; 12] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HOST,
    CONTENT_LENGTH,
    EXPECT,
];

/// A callback as a request, or why it cannot be one.
pub(super) fn request(
    settings: &AppSettings,
    address: &AppAddress,
    request: &AppRequest,
) -> Result<Outgoing, String> {
    let mut path = String::from("/actors/");
    segment(&mut path, request.actor.actor_type());
    path.push('/');
    segment(&mut path, request.actor.actor_id());
    let mut headers = HeaderMap::new();
    let (verb, body) = match &request.callback {
        Callback::Method {
            method,
            query,
            headers: given,
            content_type,
            body,
        } => {
            path.push_str("/method");
            for part in method.split('/') {
                path.push('/');
                segment(&mut path, part);
            }
            if !query.is_empty() {
                path.push('?');
                path.push_str(query);
            }
            pass_on(given, &mut headers);
            if let Some(value) = content_type.as_deref().and_then(value) {
                headers.insert(CONTENT_TYPE, value);
            }
            (Method::PUT, body.clone())
        }
        Callback::Reminder { name, data } => {
            path.push_str("/method/remind/");
            segment(&mut path, name);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
            (Method::PUT, Bytes::from(reminder_body(data.as_deref())))
        }
        Callback::Timer {
            name,
            callback,
            data,
            due_time,
            period,
        } => {
            path.push_str("/method/timer/");
            segment(&mut path, name);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
            let body = timer_body(callback, data.as_deref(), due_time, period);
            (Method::PUT, Bytes::from(body))
        }
        Callback::Deactivate => {
            // Without a body; the type is what Dapr sends.
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-protobuf"),
            );
            (Method::DELETE, Bytes::new())
        }
    };
    for (name, given) in [
        (REENTRANCY_HEADER, &request.reentrancy_id),
        (TURN_HEADER, &request.turn),
    ] {
        if let Some(value) = given.as_deref().and_then(value) {
            headers.insert(name, value);
        }
    }
    assemble(settings, address, verb, &path, headers, body)
}

/// An event or a batch as a request, or why it cannot be one.
pub(super) fn post(
    settings: &AppSettings,
    address: &AppAddress,
    post: &Post,
) -> Result<Outgoing, String> {
    let mut headers = HeaderMap::new();
    pass_on(&post.headers, &mut headers);
    if let Some(value) = value(&post.content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    let path = format!("/{}", post.path.trim_start_matches('/'));
    let body = post.body.clone();
    assemble(settings, address, Method::POST, &path, headers, body)
}

/// One of the node's own questions: configuration, subscriptions, health.
pub(super) fn question(
    settings: &AppSettings,
    address: &AppAddress,
    path: &str,
) -> Result<Outgoing, String> {
    let mut headers = HeaderMap::new();
    if let Some(id) = value(settings.id.as_str()) {
        headers.insert(APP_ID_HEADER, id);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    assemble(settings, address, Method::GET, path, headers, Bytes::new())
}

/// Adds what every request has: where it goes, and the token.
fn assemble(
    settings: &AppSettings,
    address: &AppAddress,
    verb: Method,
    path: &str,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Outgoing, String> {
    let scheme = if settings.protocol.is_encrypted() {
        "https"
    } else {
        "http"
    };
    let uri = format!("{scheme}://{address}{path}");
    let uri: Uri = uri
        .parse()
        .map_err(|error| format!("{uri:?} is no address of a request: {error}"))?;
    if let Some(host) = value(&address.to_string()) {
        headers.insert(HOST, host);
    }
    if let Some(token) = settings
        .token
        .as_ref()
        .and_then(|token| value(token.reveal()))
    {
        headers.insert(TOKEN_HEADER, token);
    }
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = verb;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Fits a request to the connection it goes over: HTTP/1.1 names the path alone, HTTP/2 has no
/// `Host`.
pub(super) fn fit(request: &mut Outgoing, carries: Carries) {
    match carries {
        Carries::Many => {
            request.headers_mut().remove(HOST);
        }
        Carries::One => {
            if let Some(path) = request.uri().path_and_query().cloned() {
                *request.uri_mut() = Uri::from(path);
            }
        }
    }
}

/// A caller's headers without those that concern its connection or the node.
fn pass_on(given: &[(String, String)], headers: &mut HeaderMap) {
    for (name, text) in given {
        let Ok(name) = HeaderName::try_from(name.as_str()) else {
            continue;
        };
        let ours = name == TOKEN_HEADER || name == CONTENT_TYPE || LEFT_OUT.contains(&name);
        if let (false, Some(value)) = (ours, value(text)) {
            headers.append(name, value);
        }
    }
}

fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

/// An answer as the core takes it.
pub(super) fn answered(exchanged: Exchanged) -> Answered {
    let headers = exchanged.headers.iter();
    let headers = headers.filter(|(name, _)| !LEFT_OUT.contains(name));
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Answered {
        status: exchanged.status,
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body: exchanged.body,
    }
}

/// A name as one segment of a path: what could end it or be read as something else is encoded.
fn segment(path: &mut String, name: &str) {
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                path.push(byte.into());
            }
            b'$' | b'&' | b'+' | b':' | b'=' | b'@' => path.push(byte.into()),
            _ => write!(path, "%{byte:02X}").expect("a string takes everything"),
        }
    }
}

/// Body of a reminder's callback: it does not say when it was due.
fn reminder_body(data: Option<&[u8]>) -> String {
    let mut body = String::from("{");
    push_data(&mut body, data);
    body.push_str(r#""dueTime":"","period":""}"#);
    body
}

/// Body of a timer's callback.
fn timer_body(callback: &str, data: Option<&[u8]>, due_time: &str, period: &str) -> String {
    let mut body = String::from("{");
    push_data(&mut body, data);
    for (name, text, end) in [
        ("callback", callback, ","),
        ("dueTime", due_time, ","),
        ("period", period, "}"),
    ] {
        let quoted = serde_json::to_string(text).expect("a string is JSON");
        write!(body, "\"{name}\":{}{end}", compact(&quoted)).expect("a string takes everything");
    }
    body
}

fn push_data(body: &mut String, data: Option<&[u8]>) {
    if let Some(data) = data {
        body.push_str("\"data\":");
        body.push_str(&compact(&String::from_utf8_lossy(data)));
        body.push(',');
    }
}

/// JSON without the white space between its parts, escaped as Go does; numbers and names stay as
/// they are.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut quoted = false;
    let mut escaped = false;
    for c in json.chars() {
        if !quoted {
            quoted = c == '"';
            if !c.is_ascii_whitespace() {
                out.push(c);
            }
            continue;
        }
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes everything");
            }
            _ => out.push(c),
        }
        quoted = escaped || c != '"';
        escaped = c == '\\' && !escaped;
    }
    out
}

#[cfg(test)]
mod tests;
