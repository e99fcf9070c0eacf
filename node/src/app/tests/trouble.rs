//! Applications that answer late, twice, not at all, or too much.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::app::scripted::status;

/// What comes late comes; there is no time limit of ours.
#[tokio::test]
async fn late() {
    let app = ScriptedApp::start().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    app.on(
        "PUT /actors/T/a/method/late",
        [Act::When(gate.clone(), Box::new(ok("late")))],
    );
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    let late = bed.spawn(instance, "late");
    app.until_seen("/late", 1).await;
    // Others are not held up.
    body(bed.call(instance, "m").await);
    assert!(!late.is_finished());
    gate.notify_one();
    assert_eq!(body(late.await.unwrap()), "late");
}

/// A connection that breaks in the middle ends its request alone. Go closes one after a panic.
#[tokio::test]
async fn a_broken_connection_is_not_a_broken_application() {
    for protocol in [Protocol::Http, Protocol::H2c] {
        let app = ScriptedApp::start().await;
        app.on("PUT /actors/T/a/method/die", [Act::Die]);
        let mut settings = AppSettings::local("bank", app.port);
        settings.protocol = protocol;
        let mut bed = Bed::new(settings);
        let (instance, _) = bed.hosting().await;
        for _ in 0..3 {
            let (sent, why) = no_answer(bed.call(instance, "die").await);
            assert_eq!(sent, Sent::Maybe, "{protocol:?}: {why}");
            body(bed.call(instance, "m").await);
        }
        bed.quiet();
    }
}

/// Connections that the server closes while they rest are replaced, and it stays the same instance.
#[tokio::test]
async fn resting_connections_may_close() {
    let app = ScriptedApp::with(Some(Duration::from_millis(20)), None).await;
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        body(bed.call(instance, "m").await);
    }
    assert!(app.seen().last().unwrap().connection > 5);
    bed.quiet();
}

/// A server that says how long a connection may rest never sees one used at the moment it closes
/// it.
#[tokio::test]
async fn a_connection_is_not_used_when_it_may_be_closing() {
    let app = ScriptedApp::with(Some(Duration::from_millis(30)), None).await;
    let hint = vec![("keep-alive", "timeout=1".to_owned())];
    app.on("", [Act::Say(200, hint, r#"{"entities":["T"]}"#.into())]);
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    for n in 0..30 {
        tokio::time::sleep(Duration::from_millis(25 + n % 10)).await;
        body(bed.call(instance, "m").await);
    }
    bed.quiet();
}

/// A server that closes after each answer is connected to anew each time.
#[tokio::test]
async fn one_request_per_connection() {
    let app = ScriptedApp::start().await;
    let closing = vec![("connection", "close".to_owned())];
    app.on("PUT /actors/", [Act::Say(200, closing, "x".into())]);
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    for _ in 0..10 {
        body(bed.call(instance, "m").await);
    }
    assert_eq!(app.seen().last().unwrap().connection, 10);
    bed.quiet();
}

#[tokio::test]
async fn answers_that_are_too_long() {
    let mut short = vec![b'x'; 10_000];
    for (act, fits) in [
        (ok(short.clone()), true),
        (
            {
                short.push(b'x');
                ok(short)
            },
            false,
        ),
        (Act::Endless(1 << 30), false),
    ] {
        for protocol in [Protocol::Http, Protocol::H2c] {
            let app = ScriptedApp::start().await;
            app.on("PUT /actors/T/a/method/long", [act.clone()]);
            let mut settings = AppSettings::local("bank", app.port);
            (settings.body_bytes_max, settings.protocol) = (10_000, protocol);
            let mut bed = Bed::new(settings);
            let (instance, _) = bed.hosting().await;
            let answer = bed.call(instance, "long").await;
            if fits {
                assert_eq!(body(answer).len(), 10_000);
            } else {
                let (sent, why) = no_answer(answer);
                assert_eq!(sent, Sent::Maybe);
                assert!(why.contains("longer than 10000 bytes"), "{why}");
            }
            body(bed.call(instance, "m").await);
            bed.quiet();
        }
    }
}

/// The second answer is nobody's: not the next request's either.
#[tokio::test]
async fn answers_given_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(tokio::spawn(async move {
                let mut asked = vec![0; 4_096];
                while let Ok(length @ 1..) = stream.read(&mut asked).await {
                    let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
                    let line = asked.lines().next().unwrap().to_owned();
                    let said = if line.contains("/dapr/config") {
                        r#"{"entities":["T"]}"#
                    } else {
                        line.as_str()
                    };
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}",
                        said.len()
                    );
                    let times = if line.contains("/twice") { 2 } else { 1 };
                    stream
                        .write_all(answer.repeat(times).as_bytes())
                        .await
                        .unwrap();
                }
            }));
        }
    }));
    let mut bed = Bed::new(AppSettings::local("bank", port));
    let (instance, _) = bed.hosting().await;
    for n in 0..20 {
        let name = if n % 2 == 0 { "twice" } else { "once" };
        let said = body(bed.call(instance, name).await);
        assert!(said.contains(&format!("/method/{name} ")), "{n}: {said}");
    }
    bed.quiet();
}

/// A `DELETE` has five seconds; the object counts as gone then, and the instance stays.
#[tokio::test]
async fn a_delete_that_hangs_is_given_up() {
    let app = ScriptedApp::start().await;
    app.on("DELETE /actors/T/a", [Act::Hang, status(500)]);
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    let begun = Instant::now();
    let (sent, why) = no_answer(bed.send(instance, Callback::Deactivate).await);
    assert_eq!(sent, Sent::Maybe, "{why}");
    let taken = begun.elapsed();
    assert!(taken >= DEACTIVATE_TIME_MAX, "{taken:?}");
    let answer = bed.send(instance, Callback::Deactivate).await;
    assert!(matches!(answer, AppAnswer::Answered(answer) if answer.status == 500));
    bed.quiet();
}

/// Nobody has the other end of these: an application that was never there.
#[tokio::test]
async fn an_instance_that_never_was() {
    let app = ScriptedApp::start().await;
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    let other = InstanceId(instance.0 + 1);
    assert_eq!(no_answer(bed.call(other, "m").await).0, Sent::CertainlyNot);
    bed.channel.end();
    assert_eq!(
        no_answer(bed.call(instance, "m").await).0,
        Sent::CertainlyNot
    );
}

/// A server that accepts late, with a queue of two, makes clients believe that they are connected:
/// each request is answered all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_of_connections() {
    let app = ScriptedApp::with_queue(2);
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    let calls: Vec<_> = (0..100).map(|_| bed.spawn(instance, "m")).collect();
    for call in calls {
        body(call.await.unwrap());
    }
    bed.quiet();
}
