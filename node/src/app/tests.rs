//! The channel against scripted applications: one table or story for each rule of its border.

mod identity;
mod starting;
mod trouble;

use std::time::{Duration, Instant};

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use tokio::sync::mpsc;

use super::scripted::{Act, PATIENCE, ScriptedApp, hosts, ok, own_tls};
use super::settings::Protocol;
use super::*;

/// A channel to one application, and what it reports.
struct Bed {
    channel: AppChannel,
    events: mpsc::Receiver<AppEvent>,
}

impl Bed {
    fn new(settings: AppSettings) -> Self {
        let (channel, events) = AppChannel::start(vec![settings]);
        Self { channel, events }
    }

    fn blind(settings: AppSettings) -> Self {
        let (channel, events) =
            AppChannel::start_with(vec![settings], Registrar::blind(), Memories::none());
        Self { channel, events }
    }

    async fn event(&mut self) -> AppEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event in time").expect("a channel")
    }

    /// The next event, which must be `Hosting`.
    async fn hosting(&mut self) -> (InstanceId, Vec<String>) {
        match self.event().await {
            AppEvent::Hosting {
                instance, types, ..
            } => (
                instance,
                types.into_iter().map(|hosted| hosted.name).collect(),
            ),
            gone @ AppEvent::Gone { .. } => panic!("{gone:?}"),
        }
    }

    /// The next event, which must be `Gone` of this instance.
    async fn gone(&mut self, instance: InstanceId) -> String {
        match self.event().await {
            AppEvent::Gone {
                instance: gone,
                why,
                ..
            } if gone == instance => why,
            other => panic!("{other:?}"),
        }
    }

    /// Nothing has been reported.
    fn quiet(&mut self) {
        assert!(self.events.is_empty(), "{:?}", self.events.try_recv());
    }

    async fn send(&self, instance: InstanceId, callback: Callback) -> AppAnswer {
        let sent = self.channel.send(instance, ask(callback));
        tokio::time::timeout(PATIENCE, sent)
            .await
            .expect("an answer in time")
    }

    async fn call(&self, instance: InstanceId, name: &str) -> AppAnswer {
        self.send(instance, method(name)).await
    }

    /// Calls without waiting.
    fn spawn(&self, instance: InstanceId, name: &str) -> tokio::task::JoinHandle<AppAnswer> {
        let (channel, request) = (self.channel.clone(), ask(method(name)));
        tokio::spawn(async move { channel.send(instance, request).await })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.channel.end();
    }
}

fn ask(callback: Callback) -> AppRequest {
    AppRequest {
        actor: ActorKey::new("default", "T", "a").unwrap(),
        reentrancy_id: None,
        turn: None,
        callback,
    }
}

fn method(name: &str) -> Callback {
    Callback::Method {
        method: name.to_owned(),
        query: String::new(),
        headers: vec![],
        content_type: None,
        body: Bytes::new(),
    }
}

/// The body of a 200.
#[track_caller]
fn body(answer: AppAnswer) -> String {
    match answer {
        AppAnswer::Answered(answer) if answer.status == 200 => {
            String::from_utf8(answer.body.to_vec()).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// How a request without an answer ended, and why.
#[track_caller]
fn no_answer(answer: AppAnswer) -> (Sent, String) {
    match answer {
        AppAnswer::NoAnswer { why, sent } => (sent, why),
        AppAnswer::Answered(answer) => panic!("{answer:?}"),
    }
}

/// Every callback over every protocol, as the application sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks() {
    for (protocol, tls) in [
        (Protocol::Http, None),
        (Protocol::H2c, None),
        (Protocol::Https, Some(own_tls(&[b"h2", b"http/1.1"]))),
        (Protocol::Https, Some(own_tls(&[]))),
    ] {
        let app = ScriptedApp::with(None, tls).await;
        let mut settings = AppSettings::local("bank", app.port);
        settings.protocol = protocol;
        settings.token = Some(crate::config::Secret::new("s3cret"));
        let mut bed = Bed::new(settings);
        let (instance, types) = bed.hosting().await;
        assert_eq!(types, ["T"], "{protocol:?}");

        let said = [("x-daprremindercancel", "true".to_owned())];
        app.on(
            "PUT /actors/T/a/method/remind",
            [Act::Say(200, said.to_vec(), "r".into())],
        );
        app.on(
            "PUT /actors/T/a/method/odd",
            [Act::Say(418, vec![("x-a", "b".into())], "no".into())],
        );
        for callback in callbacks_of_all_kinds() {
            let answer = bed.send(instance, callback.clone()).await;
            let AppAnswer::Answered(answer) = answer else {
                panic!("{protocol:?} {callback:?}: {answer:?}")
            };
            let reminder = matches!(callback, Callback::Reminder { .. });
            assert_eq!(
                (answer.status, answer.cancels()),
                (200, reminder),
                "{callback:?}"
            );
        }
        let odd = bed.call(instance, "odd").await;
        let AppAnswer::Answered(odd) = odd else {
            panic!("{odd:?}")
        };
        assert_eq!(
            (odd.status, odd.header("x-a"), &odd.body[..]),
            (418, Some("b"), &b"no"[..])
        );

        let seen = app.seen();
        let lines: Vec<String> = seen
            .iter()
            .map(|seen| format!("{} {}", seen.line, seen.body).trim().to_owned())
            .collect();
        assert_eq!(
            lines,
            [
                "PUT /actors/T/a/method/add?x=1 {\"n\":5}",
                "PUT /actors/T/a/method/remind/wake {\"data\":7,\"dueTime\":\"\",\"period\":\"\"}",
                "PUT /actors/T/a/method/timer/tick \
                 {\"callback\":\"on_tick\",\"dueTime\":\"1s\",\"period\":\"2s\"}",
                "DELETE /actors/T/a",
                "PUT /actors/T/a/method/odd",
            ],
            "{protocol:?}"
        );
        let all = app.seen_of("");
        assert!(
            all.iter()
                .all(|seen| seen.header("dapr-api-token") == Some("s3cret"))
        );
        assert_eq!(seen[0].header("traceparent"), Some("00-1-2-01"));
        assert_eq!(seen[0].header("content-type"), Some("text/xml"));
        // One after the other they need one connection; a second one if the first is late to be
        // done.
        assert!(seen.last().unwrap().connection <= 2, "{protocol:?}");
        bed.quiet();
    }
}

fn callbacks_of_all_kinds() -> Vec<Callback> {
    vec![
        Callback::Method {
            method: "add".to_owned(),
            query: "x=1".to_owned(),
            headers: vec![("traceparent".to_owned(), "00-1-2-01".to_owned())],
            content_type: Some("text/xml".to_owned()),
            body: Bytes::from_static(b"{\"n\":5}"),
        },
        Callback::Reminder {
            name: "wake".to_owned(),
            data: Some(Bytes::from_static(b"7")),
        },
        Callback::Timer {
            name: "tick".to_owned(),
            callback: "on_tick".to_owned(),
            data: None,
            due_time: "1s".to_owned(),
            period: "2s".to_owned(),
        },
        Callback::Deactivate,
    ]
}

/// Many calls at a time: all are answered, each with its own answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_a_time() {
    for protocol in [Protocol::Http, Protocol::H2c] {
        let app = ScriptedApp::start().await;
        let echo = Act::Run(Arc::new(|seen| Box::pin(async move { ok(seen.line) })));
        app.on("PUT /actors/", [echo]);
        let mut settings = AppSettings::local("bank", app.port);
        settings.protocol = protocol;
        let mut bed = Bed::new(settings);
        let (instance, _) = bed.hosting().await;
        let calls: Vec<_> = (0..400)
            .map(|n| bed.spawn(instance, &format!("m{n}")))
            .collect();
        for (n, call) in calls.into_iter().enumerate() {
            let said = body(call.await.unwrap());
            assert_eq!(said, format!("PUT /actors/T/a/method/m{n}"), "{protocol:?}");
        }
        bed.quiet();
    }
}

/// With a limit, a second request waits for the first one's answer.
#[tokio::test]
async fn requests_at_a_time() {
    let app = ScriptedApp::start().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    app.on(
        "PUT /actors/T/a/method/slow",
        [Act::When(gate.clone(), Box::new(ok("slow")))],
    );
    let mut settings = AppSettings::local("bank", app.port);
    settings.concurrency = std::num::NonZeroUsize::new(1);
    let mut bed = Bed::new(settings);
    let (instance, _) = bed.hosting().await;
    let slow = bed.spawn(instance, "slow");
    app.until_seen("/slow", 1).await;
    let quick = bed.spawn(instance, "quick");
    let early = tokio::time::timeout(Duration::from_millis(100), app.until_seen("/quick", 1)).await;
    assert!(early.is_err(), "{early:?}");
    gate.notify_one();
    assert_eq!(body(slow.await.unwrap()), "slow");
    assert_eq!(body(quick.await.unwrap()), "{}");
}
