//! Which process is which: restarts idle and under load, workers that share a port, programs that
//! replace themselves.

use super::*;
use crate::app::scripted::{Child, free_port};

/// Bound of what is usually a millisecond, on a machine that is busy with other things.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// Process id and the moment at which it began.
#[track_caller]
fn whose(answer: AppAnswer) -> (u32, String) {
    let said = body(answer);
    let (pid, began) = said.split_once(' ').unwrap();
    (pid.parse().unwrap(), began.to_owned())
}

/// Ended and started again on its port, with nothing under way: noticed without a request, and a
/// new instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_idle() {
    let port = free_port();
    let mut bed = Bed::new(AppSettings::local("bank", port));
    let mut before = None;
    for _ in 0..3 {
        let mut child = Child::start(port);
        let (instance, _) = bed.hosting().await;
        assert!(before < Some(instance), "{before:?} {instance}");
        assert_eq!(whose(bed.call(instance, "m").await).0, child.pid());
        if let Some(before) = before {
            assert_eq!(no_answer(bed.call(before, "m").await).0, Sent::CertainlyNot);
        }
        let begun = Instant::now();
        child.kill();
        bed.gone(instance).await;
        assert!(begun.elapsed() < NOTICED_WITHIN, "{:?}", begun.elapsed());
        before = Some(instance);
    }
}

/// Killed with requests running: each of them may have run, and ends at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle() {
    let port = free_port();
    let mut child = Child::start(port);
    let mut bed = Bed::new(AppSettings::local("bank", port));
    let (instance, _) = bed.hosting().await;
    let running: Vec<_> = (0..20).map(|_| bed.spawn(instance, "hang")).collect();
    while body(bed.call(instance, "hung").await) != "20" {
        tokio::task::yield_now().await;
    }
    child.kill();
    let begun = Instant::now();
    for call in running {
        let (sent, why) = no_answer(call.await.unwrap());
        assert_eq!(sent, Sent::Maybe, "{why}");
    }
    bed.gone(instance).await;
    assert!(begun.elapsed() < NOTICED_WITHIN, "{:?}", begun.elapsed());
    let _again = Child::start(port);
    let (next, _) = bed.hosting().await;
    assert!(next > instance);
}

/// A killed process whose successor was waiting on the same port: no connection is ever refused,
/// and still every request for an instance is answered by its process, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_share_a_port() {
    let port = free_port();
    let mut workers: Vec<Child> = (0..3).map(|_| Child::start(port)).collect();
    let mut bed = Bed::new(AppSettings::local("bank", port));
    let (mut instance, _) = bed.hosting().await;
    let mut owners = Vec::new();
    while workers.len() > 1 {
        let (pid, _) = whose(bed.call(instance, "m").await);
        // More connections than one: with three processes some of them would reach another one.
        let calls: Vec<_> = (0..50).map(|_| bed.spawn(instance, "m")).collect();
        for call in calls {
            match call.await.unwrap() {
                answer @ AppAnswer::Answered(_) => assert_eq!(whose(answer).0, pid),
                AppAnswer::NoAnswer { why, .. } => panic!("{why}"),
            }
        }
        owners.push(pid);
        let mine = workers
            .iter()
            .position(|worker| worker.pid() == pid)
            .unwrap();
        workers.remove(mine).kill();
        bed.gone(instance).await;
        let (next, _) = bed.hosting().await;
        assert!(next > instance);
        instance = next;
    }
    owners.push(whose(bed.call(instance, "m").await).0);
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(owners.len(), 3);
}

/// The same process id, another program: what it made is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_by_exec() {
    let port = free_port();
    let child = Child::start(port);
    let mut bed = Bed::new(AppSettings::local("bank", port));
    let (instance, _) = bed.hosting().await;
    let (pid, began) = whose(bed.call(instance, "m").await);
    assert_eq!(no_answer(bed.call(instance, "exec").await).0, Sent::Maybe);
    bed.gone(instance).await;
    let (next, _) = bed.hosting().await;
    assert!(next > instance);
    let (same_pid, later) = whose(bed.call(next, "m").await);
    assert_eq!((pid, same_pid), (child.pid(), child.pid()));
    assert_ne!(began, later);
}

/// Without a look at processes a connection is kept: a restart is noticed, idle, and is a new
/// instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blind_but_not_deceived() {
    let port = free_port();
    let mut child = Child::start(port);
    let mut bed = Bed::blind(AppSettings::local("bank", port));
    let (instance, _) = bed.hosting().await;
    assert_eq!(whose(bed.call(instance, "m").await).0, child.pid());
    child.kill();
    let begun = Instant::now();
    bed.gone(instance).await;
    assert!(begun.elapsed() < NOTICED_WITHIN, "{:?}", begun.elapsed());
    let _again = Child::start(port);
    let (next, _) = bed.hosting().await;
    assert!(next > instance);
}

/// Servers that close after each answer cannot be held on to: they are the same until they refuse.
#[tokio::test]
async fn blind_and_without_a_connection_to_keep() {
    let mut app = ScriptedApp::start().await;
    let closing = vec![("connection", "close".to_owned())];
    app.on("PUT /actors/", [Act::Say(200, closing.clone(), "x".into())]);
    app.on("GET /healthz", [Act::Say(404, closing, Bytes::new())]);
    let mut bed = Bed::blind(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    app.until_seen("GET /healthz", 2).await;
    for _ in 0..5 {
        body(bed.call(instance, "m").await);
    }
    bed.quiet();
    app.down().await;
    bed.gone(instance).await;
}

/// A kept connection is used so often that no server closes it for resting, and others may close.
#[tokio::test]
async fn blind_and_resting() {
    let app = ScriptedApp::with(Some(Duration::from_millis(2_500)), None).await;
    let mut bed = Bed::blind(AppSettings::local("bank", app.port));
    let (instance, _) = bed.hosting().await;
    app.until_seen("GET /healthz", 3).await;
    body(bed.call(instance, "m").await);
    let kept: Vec<usize> = app
        .seen_of("/healthz")
        .iter()
        .map(|seen| seen.connection)
        .collect();
    assert!(
        kept.iter().all(|connection| *connection == kept[0]),
        "{kept:?}"
    );
    bed.quiet();
}
