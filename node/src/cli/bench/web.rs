//! Clients that speak HTTP: to a node's API, or to an application itself. In a process of their
//! own, so that a node's processor time is its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;

use super::app::ACTOR_TYPE;
use super::closed_loop;
use super::order::{Report, WebLoad, WebWork};
use crate::cli::http::{Ask, Connection};

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Body of a call.
const BODY_BYTES: usize = 128;

/// Connections that no request uses, by port.
type Idle = Rc<RefCell<BTreeMap<u16, Vec<Connection>>>>;

/// Runs a load on this thread.
pub(super) fn run(load: WebLoad) -> Result<Report, String> {
    if load.ports.is_empty() {
        return Err("nobody to ask".to_owned());
    }
    let idle = Idle::default();
    closed_loop::run(&load.run.clone(), move |number| {
        let port = load.ports[number as usize % load.ports.len()];
        let ask = ask(&load, number);
        let idle = Rc::clone(&idle);
        async move {
            let free = idle.borrow_mut().entry(port).or_default().pop();
            let mut connection =
                free.unwrap_or_else(|| Connection::to(format!("127.0.0.1:{port}")));
            let reply = connection.send(&ask).await;
            let reply = reply.map_err(|broken| broken.to_string())?;
            idle.borrow_mut().entry(port).or_default().push(connection);
            if (200..300).contains(&reply.status) {
                return Ok(());
            }
            let why = String::from_utf8_lossy(&reply.body).into_owned();
            Err(format!("{}: {why}", reply.status))
        }
    })
}

fn ask(load: &WebLoad, number: u64) -> Ask {
    let actor = load.actors.map_or(number, |actors| number % actors);
    let id = format!("bench-{}-{actor}", load.series);
    let body = || Bytes::from(vec![b'x'; BODY_BYTES]);
    let ask = match &load.work {
        WebWork::Native => Ask::post(format!("/v1.0/actors/echo/{id}/method/echo"), body()),
        WebWork::Hosted => Ask::post(
            format!("/v1.0/actors/{ACTOR_TYPE}/{id}/method/echo"),
            body(),
        ),
        WebWork::Direct => Ask {
            method: Method::PUT,
            ..Ask::post(format!("/actors/{ACTOR_TYPE}/{id}/method/echo"), body())
        },
        WebWork::Remind { due } => Ask::post(
            format!("/v1.0/actors/{ACTOR_TYPE}/{id}/reminders/r{number}"),
            format!(r#"{{"dueTime":"{due}"}}"#),
        ),
    };
    ask.within(ANSWER_TIME_MAX)
}
