//! From nothing to `Hosting`: order, questions, health, changes on restart.

use super::*;
use crate::app::scripted::{free_port, status};
use crate::app::settings::HealthProbes;

#[tokio::test]
async fn the_application_may_come_later() {
    let port = free_port();
    let mut bed = Bed::new(AppSettings::local("bank", port));
    // Connected to and refused several times.
    tokio::time::sleep(Duration::from_millis(350)).await;
    bed.quiet();
    let app = ScriptedApp::on_port(port).await;
    let (_, types) = bed.hosting().await;
    assert_eq!(types, ["T"]);
    let asked = app.seen_of("");
    let lines: Vec<&str> = asked.iter().map(|seen| seen.line.as_str()).collect();
    assert_eq!(lines, ["GET /dapr/config", "GET /dapr/subscribe"]);
    assert_eq!(asked[0].header("dapr-app-id"), Some("bank"));
    assert_eq!(asked[0].header("dapr-api-token"), None);
}

#[tokio::test]
async fn what_is_hosted() {
    for (config, subscribe, wanted, subscriptions) in [
        (hosts(&["A", "B"]), ok("[1]"), &["A", "B"][..], "[1]"),
        (status(404), status(404), &[][..], ""),
        (status(500), status(500), &[][..], ""),
        (ok("no json"), ok("[]"), &[][..], "[]"),
        (
            hosts(&["A", "dapr.internal.x"]),
            status(204),
            &["A"][..],
            "",
        ),
    ] {
        let app = ScriptedApp::start().await;
        app.on("GET /dapr/config", [config]);
        app.on("GET /dapr/subscribe", [subscribe]);
        let mut bed = Bed::new(AppSettings::local("bank", app.port));
        let AppEvent::Hosting {
            app: id,
            types,
            subscriptions: found,
            ..
        } = bed.event().await
        else {
            panic!()
        };
        let names: Vec<&str> = types.iter().map(|hosted| hosted.name.as_str()).collect();
        assert_eq!((id.as_str(), &names[..]), ("bank", wanted));
        assert_eq!(&found[..], subscriptions.as_bytes());
    }
}

#[tokio::test]
async fn what_it_is_not_to_be_asked_it_is_not_asked() {
    use crate::app::settings::Question::{Config, Subscribe};
    for (unasked, wanted) in [
        (&[Config][..], &["GET /dapr/subscribe"][..]),
        (&[Subscribe], &["GET /dapr/config"]),
        (&[Subscribe, Config], &[]),
    ] {
        let app = ScriptedApp::start().await;
        let mut settings = AppSettings::local("bank", app.port);
        settings.unasked = unasked.to_vec();
        let mut bed = Bed::new(settings);
        let (_, types) = bed.hosting().await;
        assert_eq!(types.is_empty(), unasked.contains(&Config), "{types:?}");
        let asked = app.seen_of("");
        let lines: Vec<&str> = asked.iter().map(|seen| seen.line.as_str()).collect();
        assert_eq!(lines, wanted);
    }
}

/// A connection that breaks while the questions are asked begins it again.
#[tokio::test]
async fn questions_are_asked_until_they_are_answered() {
    let app = ScriptedApp::start().await;
    app.on("GET /dapr/config", [Act::Die, hosts(&["T"])]);
    app.on("GET /dapr/subscribe", [Act::Die, status(404)]);
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (_, types) = bed.hosting().await;
    assert_eq!((types.len(), app.seen_of("/dapr/config").len()), (1, 3));
    bed.quiet();
}

/// The same process is known again, its configuration is read anew, and nothing is sent to it
/// meanwhile.
#[tokio::test]
async fn a_refused_connection_withdraws_at_once() {
    let mut app = ScriptedApp::start().await;
    let mut bed = Bed::new(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    app.down().await;
    let begun = Instant::now();
    let (sent, why) = no_answer(bed.call(instance, "m").await);
    assert_eq!(sent, Sent::CertainlyNot, "{why}");
    assert!(why.contains("refused"), "{why}");
    bed.gone(instance).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let (sent, _) = no_answer(bed.call(instance, "m").await);
    assert_eq!(sent, Sent::CertainlyNot);

    app.on("GET /dapr/config", [hosts(&["U"])]);
    app.up().await;
    let (again, types) = bed.hosting().await;
    assert_eq!((again, &types[..]), (instance, &["U".to_owned()][..]));
    assert_eq!(app.seen().len(), 0);
    body(bed.call(again, "m").await);
}

fn probed(port: u16, threshold: u32) -> AppSettings {
    let mut settings = AppSettings::local("bank", port);
    settings.health = Some(HealthProbes {
        path: "ready".to_owned(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
        threshold,
    });
    settings
}

#[tokio::test]
async fn health_comes_first() {
    let app = ScriptedApp::start().await;
    app.on("GET /ready", [status(500), status(503), status(204)]);
    let mut bed = Bed::new(probed(app.port, 3));
    bed.hosting().await;
    let lines: Vec<String> = app.seen_of("").into_iter().map(|seen| seen.line).collect();
    let probe = "GET /ready";
    assert_eq!(lines[..4], [probe, probe, probe, "GET /dapr/config"]);
}

/// Failures in a row withdraw it, and end what runs; one success brings the same process back, and
/// it is asked again.
#[tokio::test]
async fn an_unhealthy_application_is_gone() {
    for failing in [status(500), Act::Hang] {
        let app = ScriptedApp::start().await;
        app.on("GET /ready", [status(200)]);
        app.on("PUT /actors/T/a/method/hang", [Act::Hang]);
        let mut bed = Bed::new(probed(app.port, 3));
        let (instance, _) = bed.hosting().await;
        let running = bed.spawn(instance, "hang");
        app.until_seen("/hang", 1).await;
        // Two failures are not enough.
        app.on(
            "GET /ready",
            [failing.clone(), failing.clone(), status(200)],
        );
        let seen = app.seen_of("/ready").len();
        app.until_seen("/ready", seen + 4).await;
        bed.quiet();
        app.on("GET /ready", [failing]);
        let why = bed.gone(instance).await;
        assert!(why.contains("3 health probes"), "{why}");
        assert_eq!(no_answer(running.await.unwrap()).0, Sent::Maybe);
        app.on("GET /ready", [status(200)]);
        let (again, _) = bed.hosting().await;
        assert_eq!(again, instance);
        assert_eq!(app.seen_of("/dapr/config").len(), 2);
    }
}
