//! An application on gRPC: found, asked for its subscriptions, and delivered to.
//!
//! In Dapr's order: connect until it accepts, wait until it is healthy, ask
//! `ListTopicSubscriptions`, subscribe. When the connection ends the application is gone; it is
//! looked for again, and asked again. So it is when it is unhealthy (`AppCallbackHealthCheck`), and
//! healthy again. Its actors come by a stream of their own, which is not here; they are told of its
//! health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tonic::{Code, Request};

use super::PubSub;
use super::grpc_words::{self, said, said_of_each, said_of_failure};
use super::target::{Batch, Handed, Letter, Said, Target};
use super::wanted::Wanted;
use crate::api::TOKEN_HEADER;
use crate::api::grpc::dapr::proto::runtime::v1 as pb;
use crate::api::grpc::dapr::proto::runtime::v1::app_callback_alpha_client::AppCallbackAlphaClient;
use crate::api::grpc::dapr::proto::runtime::v1::app_callback_client::AppCallbackClient;
use crate::api::grpc::dapr::proto::runtime::v1::app_callback_health_check_client::AppCallbackHealthCheckClient;
use crate::app::grpc_line::{self, Channel, End};
use crate::app::health::Probe;
use crate::app::settings::{AppAddress, AppSettings, HealthProbes, Question};
use crate::app::{AppChannel, probing};

/// Time between attempts to connect.
const CONNECT_PERIOD: Duration = Duration::from_millis(100);
/// Time for the answer to `ListTopicSubscriptions`.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(30);

/// Keeps an application subscribed until `end` becomes true. `channel` is the way to its actors.
pub(crate) async fn keep(
    pubsub: Arc<PubSub>,
    channel: AppChannel,
    app: AppSettings,
    mut end: watch::Receiver<bool>,
) {
    let Some(address) = app.address.clone() else {
        return;
    };
    tokio::select! {
        () = subscribed(&pubsub, &channel, &app, &address) => {}
        // A dropped sender means that the node is gone: that is an end, too.
        _ = end.wait_for(|ended| *ended) => {}
    }
}

async fn subscribed(pubsub: &PubSub, actors: &AppChannel, app: &AppSettings, address: &AppAddress) {
    loop {
        if let Ok((channel, end)) = grpc_line::open(app, address).await {
            let target = Arc::new(GrpcTarget::new(channel, app));
            let why = tokio::select! {
                why = attended(pubsub, actors, app, &target) => why,
                () = gone(end) => "its connection has ended".to_owned(),
            };
            over(pubsub, actors, app, &why).await;
        }
        tokio::time::sleep(CONNECT_PERIOD).await;
    }
}

/// Asks and subscribes, whenever the application is healthy. Returns when it does not answer what
/// it is asked, with the reason.
async fn attended(
    pubsub: &PubSub,
    actors: &AppChannel,
    app: &AppSettings,
    target: &Arc<GrpcTarget>,
) -> String {
    let app_id = app.id.as_str();
    loop {
        if let Some(probes) = &app.health {
            let probe = || target.probe(probes).map(Ok).boxed();
            if let Err(why) = probing::until_well(probes, probe).await {
                return why;
            }
        }
        let said = match app.is_asked(Question::Subscribe) {
            true => target.subscriptions(app_id).await,
            false => Ok(Vec::new()),
        };
        match said {
            Ok(said) => {
                let target: Arc<dyn Target> = target.clone();
                pubsub.app_ready(app_id, said, &target);
            }
            Err(why) => return format!("it is not ready yet: {why}"),
        }
        let Some(probes) = &app.health else {
            return std::future::pending().await;
        };
        actors.is_well(&app.id).await;
        let why = probing::until_unwell(probes, || target.probe(probes).boxed()).await;
        over(pubsub, actors, app, &why).await;
    }
}

/// It gets nothing more until it is there again.
async fn over(pubsub: &PubSub, actors: &AppChannel, app: &AppSettings, why: &str) {
    pubsub.app_gone(app.id.as_str());
    if app.is_probed_by_grpc() {
        actors.is_unwell(&app.id, why).await;
    }
    tracing::warn!(
        app = app.id.as_str(),
        "an application on gRPC is gone: {why}"
    );
}

async fn gone(mut end: End) {
    // Nothing is ever sent: only the end wakes.
    while end.changed().await.is_ok() {}
}

/// One connection to an application.
#[derive(Debug)]
struct GrpcTarget {
    channel: Channel,
    body_max: usize,
    token: Option<tonic::metadata::AsciiMetadataValue>,
    limit: Option<tokio::sync::Semaphore>,
    /// Set when it does not know the method for batches by its stable name.
    alpha: AtomicBool,
}

impl GrpcTarget {
    fn new(channel: Channel, app: &AppSettings) -> Self {
        Self {
            channel,
            body_max: app.body_bytes_max,
            token: app
                .token
                .as_ref()
                .and_then(|token| token.reveal().parse().ok()),
            limit: app
                .concurrency
                .map(|limit| tokio::sync::Semaphore::new(limit.get())),
            alpha: AtomicBool::new(false),
        }
    }

    fn client(&self) -> AppCallbackClient<Channel> {
        let origin = self.channel.origin.clone();
        AppCallbackClient::with_origin(self.channel.clone(), origin)
            .max_decoding_message_size(self.body_max)
            .max_encoding_message_size(self.body_max)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN_HEADER, token.clone());
        }
        request
    }

    /// Asks once for the application's health. One without the method is not healthy, as in Dapr.
    async fn probe(&self, probes: &HealthProbes) -> Probe {
        let origin = self.channel.origin.clone();
        let mut client = AppCallbackHealthCheckClient::with_origin(self.channel.clone(), origin);
        let answer = client.health_check(self.request(()));
        match tokio::time::timeout(probes.timeout, answer).await {
            Ok(Ok(_)) => Probe::Passed,
            Ok(Err(_)) | Err(_) => Probe::Failed,
        }
    }

    /// An application without the method has no subscriptions.
    async fn subscriptions(&self, app_id: &str) -> Result<Vec<Wanted>, String> {
        let mut request = self.request(());
        request.set_timeout(QUESTION_TIME_MAX);
        match self.client().list_topic_subscriptions(request).await {
            Ok(answer) => Ok(grpc_words::wanted(answer.into_inner(), app_id)),
            Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
            Err(status) => Err(format!("ListTopicSubscriptions: {status}")),
        }
    }

    async fn batch(
        &self,
        batch: pb::TopicEventBulkRequest,
    ) -> Result<pb::TopicEventBulkResponse, tonic::Status> {
        if !self.alpha.load(Ordering::Relaxed) {
            let request = self.request(batch.clone());
            match self.client().on_bulk_topic_event(request).await {
                Err(status) if status.code() == Code::Unimplemented => {
                    self.alpha.store(true, Ordering::Relaxed);
                }
                answer => return answer.map(tonic::Response::into_inner),
            }
        }
        let origin = self.channel.origin.clone();
        let mut client = AppCallbackAlphaClient::with_origin(self.channel.clone(), origin)
            .max_decoding_message_size(self.body_max)
            .max_encoding_message_size(self.body_max);
        let answer = client.on_bulk_topic_event_alpha1(self.request(batch)).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        match &self.limit {
            // Never closed.
            Some(limit) => limit.acquire().await.ok(),
            None => None,
        }
    }
}

impl Target for GrpcTarget {
    fn deliver<'a>(&'a self, letter: &'a Letter, handed: &'a Handed) -> BoxFuture<'a, Said> {
        Box::pin(async move {
            let event = match grpc_words::event(letter) {
                Ok(event) => event,
                Err(why) => return Said::Again(why.to_string()),
            };
            let _turn = self.turn().await;
            handed.set();
            let mut request = self.request(event);
            grpc_words::put_beside(letter, request.metadata_mut());
            match self.client().on_topic_event(request).await {
                Ok(answer) => said(answer.into_inner().status),
                Err(status) => said_of_failure(&status),
            }
        })
    }

    fn deliver_batch<'a>(
        &'a self,
        batch: &'a Batch,
        handed: &'a Handed,
    ) -> BoxFuture<'a, Vec<Said>> {
        Box::pin(async move {
            let (request, left_out) = grpc_words::batch(batch);
            if request.entries.is_empty() {
                return left_out.into_iter().flatten().collect();
            }
            let _turn = self.turn().await;
            handed.set();
            let said = match self.batch(request).await {
                Ok(answer) => said_of_each(&batch.entries, &answer),
                Err(status) => vec![said_of_failure(&status); batch.entries.len()],
            };
            let each = left_out.into_iter().zip(said);
            each.map(|(left_out, said)| left_out.unwrap_or(said))
                .collect()
        })
    }
}
