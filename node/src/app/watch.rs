//! Notices that a process is over: by the kernel's word, by what requests report, by its health.
//!
//! Where the process is known, the kernel tells when it ends; nothing is sent to notice it, and
//! connections that rest may be closed by either side. Where it is not, a connection is kept busy
//! with a small request every two seconds, so that no server closes it for resting: when it breaks,
//! the process counts as over. A server that says that it closes (`Connection: close`) is connected
//! to anew each time, and counts as over when it refuses.

use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::{self, Carries, Closing, Line};
use super::health::Probe;
use super::instance::{Http, Instance, Report};
use super::owner::Image;
use super::probing;
use super::settings::HealthProbes;

/// How often resting connections are looked through, and a known process is looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How often a kept connection is used; servers close resting ones after five seconds or later.
const KEEP_PERIOD: Duration = Duration::from_secs(2);
/// Path of that request: every SDK's host answers it, and the answer does not matter.
const KEEP_PATH: &str = "/healthz";

/// Returns when the instance is over, with the reason.
pub(super) async fn over(instance: &Instance, reports: mpsc::Receiver<Report>) -> String {
    let Some(http) = instance.http() else {
        return "it is not reached by HTTP".to_owned();
    };
    let by_process = async {
        match instance.owner {
            Some(image) => {
                ended(image).await;
                format!("its process {} has ended", image.pid)
            }
            None => kept(instance, http).await,
        }
    };
    tokio::select! {
        why = by_process => why,
        why = reported(instance, http, reports) => why,
        why = unhealthy(instance) => why,
    }
}

/// Looks into what requests report, and after resting connections.
async fn reported(instance: &Instance, http: &Http, mut reports: mpsc::Receiver<Report>) -> String {
    let mut look = tokio::time::interval(LOOK_PERIOD);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let report = tokio::select! {
            report = reports.recv() => report,
            _ = look.tick() => {
                http.pool.prune();
                Some(Report::Doubt)
            }
        };
        match report {
            Some(Report::Over(why)) => return why,
            // Also after it replaced its program, which no other sign tells. Without an owner
            // `kept` notices.
            Some(Report::Doubt) => {
                if let Some(image) = instance.owner.filter(|image| !image.lives()) {
                    return format!("its process {} has ended", image.pid);
                }
            }
            None => return "nobody uses it any more".to_owned(),
        }
    }
}

/// Returns when this process has ended.
pub(super) async fn ended(image: Image) {
    #[cfg(target_os = "linux")]
    if let Some(fd) = pidfd(image) {
        // An error is as good as the end: whoever asks looks again.
        drop(fd.readable().await);
        return;
    }
    while image.lives() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A descriptor that becomes readable when the process ends.
#[cfg(target_os = "linux")]
fn pidfd(image: Image) -> Option<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_raw(i32::try_from(image.pid).ok()?)?;
    let fd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // The id may have gone to another process before it was opened; from now on it cannot.
    image.lives().then_some(())?;
    let interest = tokio::io::Interest::READABLE;
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may change their descriptor; an OwnedFd never does"
    )]
    tokio::io::unix::AsyncFd::with_interest(fd, interest).ok()
}

/// Keeps a connection open to a process that cannot be seen; returns when it breaks.
async fn kept(instance: &Instance, http: &Http) -> String {
    loop {
        let socket = match connection::open(http.address()).await {
            Ok(socket) => socket,
            Err(error) => return error.text().to_owned(),
        };
        let line = socket.line(instance.app.protocol, http.address()).await;
        let mut line = match line {
            Ok(line) => line,
            Err(error) => return error.text().to_owned(),
        };
        http.prove_by(Some(&line));
        match used(instance, http, &mut line).await {
            // It closes after each answer: nothing to hold on to.
            Ok(()) => http.prove_by(None),
            Err(why) => return format!("the connection that was kept to it broke: {why}"),
        }
        tokio::time::sleep(KEEP_PERIOD).await;
    }
}

/// Uses a connection until the server announces that it closes it (`Ok`), or it breaks.
async fn used(instance: &Instance, http: &Http, line: &mut Line) -> Result<(), String> {
    if line.carries() == Carries::Many {
        // HTTP/2 has pings of its own.
        line.ended().await;
        return Err("it was closed".to_owned());
    }
    loop {
        let begun = Instant::now();
        let request = super::callback::question(&instance.app, http.address(), KEEP_PATH);
        let mut request = request?;
        super::callback::fit(&mut request, Carries::One);
        let answer = line.exchange(request, instance.app.body_bytes_max).await;
        match answer.map(|answer| answer.closing) {
            Ok(Closing::Announced) => return Ok(()),
            Ok(Closing::No) => {}
            Err(error) => return Err(format!("{error:?}")),
        }
        tokio::select! {
            () = tokio::time::sleep_until(begun + KEEP_PERIOD) => {}
            () = line.ended() => return Err("it was closed".to_owned()),
        }
    }
}

/// Returns when the application is unhealthy; never without probes.
async fn unhealthy(instance: &Instance) -> String {
    let Some(probes) = &instance.app.health else {
        return std::future::pending().await;
    };
    let probe = || {
        let probed = probe(instance, probes);
        probed.map(|probed| probed.unwrap_or(Probe::Failed)).boxed()
    };
    probing::until_unwell(probes, probe).await
}

/// Asks once for the application's health.
///
/// # Errors
/// When the connection was refused or broke: that needs no second opinion at start.
pub(super) async fn probe(instance: &Instance, probes: &HealthProbes) -> Result<Probe, String> {
    let path = format!("/{}", probes.path.trim_start_matches('/'));
    match tokio::time::timeout(probes.timeout, instance.question(&path)).await {
        Ok(Ok(answer)) if (200..300).contains(&answer.status) => Ok(Probe::Passed),
        Ok(Ok(_)) | Err(_) => Ok(Probe::Failed),
        Ok(Err(why)) => Err(why),
    }
}
