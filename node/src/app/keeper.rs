//! One application from its first connection to its end, again and again.
//!
//! In Dapr's order: connect until it accepts, wait until it is healthy, `GET /dapr/config`, `GET
//! /dapr/subscribe`, announce its types. Both questions are asked of every new process, and of one
//! that comes back. Absent: how the end is noticed (`watch`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::{self, Closing};
use super::instance::{Instance, Report};
use super::owner::End;
use super::settings::{AppAddress, AppSettings, Question};
use super::{Shared, config, probing, watch};

/// Time between attempts to connect.
const CONNECT_PERIOD: Duration = Duration::from_millis(100);
/// How long nothing may answer before the log says so, once.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Time for the answer to a question at start.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(30);

/// An instance that is ready, and what it said.
struct Arrived {
    instance: Arc<Instance>,
    reports: mpsc::Receiver<Report>,
    hosted: config::Hosted,
    subscriptions: Bytes,
}

/// Runs until it is aborted.
pub(super) async fn keep(shared: Arc<Shared>, app: Arc<AppSettings>) {
    let Some(address) = app.address.clone() else {
        return;
    };
    loop {
        match arrive(&shared, &app, &address).await {
            Ok(arrived) => host(&shared, arrived).await,
            Err(why) => tracing::debug!(app = %app.id, why, "an application is not ready yet"),
        }
        tokio::time::sleep(CONNECT_PERIOD).await;
    }
}

async fn host(shared: &Shared, arrived: Arrived) {
    let Arrived {
        instance,
        reports,
        hosted,
        subscriptions,
    } = arrived;
    for warning in &hosted.warnings {
        tracing::warn!(app = %instance.app.id, "{warning}");
    }
    shared
        .announce(&instance, hosted.types, subscriptions)
        .await;
    // It lives as long as the application: not in the keeper's own future.
    let why = Box::pin(watch::over(&instance, reports)).await;
    shared.withdraw(&instance, &why).await;
}

async fn arrive(
    shared: &Shared,
    app: &Arc<AppSettings>,
    address: &AppAddress,
) -> Result<Arrived, String> {
    let socket = first_socket(app, address).await;
    let pair = socket.pair;
    let owner = match shared.registrar.owner(pair, None).await {
        End::Of(image) => Some(image),
        End::Absent | End::NotYet | End::Unseen => None,
    };
    let (instance, reports) = Instance::by_http(
        shared.instance_id(&app.id, owner),
        Arc::clone(app),
        address.clone(),
        owner,
        owner.and_then(|image| shared.memories.of(image)),
        shared.registrar.clone(),
    );
    let http = instance.http().expect("it was made so");
    let line = instance.adopt(http, socket).await;
    let line = line.map_err(|error| error.text().to_owned())?;
    http.pool.give_back(line, Closing::No);
    let prepared = prepare(&instance);
    let (hosted, subscriptions) = match owner {
        Some(image) => tokio::select! {
            prepared = prepared => prepared?,
            () = watch::ended(image) => return Err("its process has ended".to_owned()),
        },
        None => {
            let prepared = prepared.await?;
            // It has answered, so it has accepted: what shows now would have shown the first time.
            let end = shared.registrar.owner(pair, None).await;
            if let End::Of(image) = end {
                return Err(format!("process {} shows only now", image.pid));
            }
            tracing::warn!(
                app = %app.id,
                %address,
                "cannot see which process answers for the application: a restart of it is taken for one \
                 when the connection that is kept to it breaks. Run this node on the same machine and as \
                 the same user"
            );
            prepared
        }
    };
    Ok(Arrived {
        instance,
        reports,
        hosted,
        subscriptions,
    })
}

/// Connects until the application listens; says once that it does not.
async fn first_socket(app: &AppSettings, address: &AppAddress) -> connection::Socket {
    let begun = Instant::now();
    let mut said = false;
    loop {
        match connection::open(address).await {
            Ok(socket) => return socket,
            Err(error) if !said && begun.elapsed() >= SILENCE_MAX => {
                said = true;
                tracing::warn!(
                    app = %app.id,
                    why = error.text(),
                    "waiting for the application to listen"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(CONNECT_PERIOD).await;
    }
}

/// Waits for health, and asks what the application hosts.
async fn prepare(instance: &Instance) -> Result<(config::Hosted, Bytes), String> {
    if let Some(probes) = &instance.app.health {
        probing::until_well(probes, || watch::probe(instance, probes).boxed()).await?;
    }
    let answer = asked(instance, Question::Config).await?;
    let hosted = answer.map(|body| config::parse(&body, instance.app.disseminate_timeout));
    let hosted = instance.app.admitted(hosted.unwrap_or_default());
    let subscriptions = asked(instance, Question::Subscribe).await?;
    Ok((hosted, subscriptions.unwrap_or_default()))
}

/// The body of a 200; `None`: any other status, or it is not to be asked.
async fn asked(instance: &Instance, question: Question) -> Result<Option<Bytes>, String> {
    if !instance.app.is_asked(question) {
        return Ok(None);
    }
    let path = match question {
        Question::Config => "/dapr/config",
        Question::Subscribe => "/dapr/subscribe",
    };
    let answer = tokio::time::timeout(QUESTION_TIME_MAX, instance.question(path)).await;
    let answer = answer.map_err(|_| format!("no answer to GET {path} in {QUESTION_TIME_MAX:?}"))?;
    let answer = answer.map_err(|why| format!("no answer to GET {path}: {why}"))?;
    Ok((answer.status == 200).then_some(answer.body))
}
