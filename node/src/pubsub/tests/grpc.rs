//! Delivery to an application that speaks gRPC.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::{Request, Response, Status, async_trait};
use tower_service::Service;

use super::*;
use crate::api::grpc::dapr::proto::common::v1 as common;
use crate::api::grpc::dapr::proto::runtime::v1 as pb;
use crate::api::grpc::dapr::proto::runtime::v1::app_callback_alpha_server::{
    AppCallbackAlpha, AppCallbackAlphaServer,
};
use crate::api::grpc::dapr::proto::runtime::v1::app_callback_health_check_server::{
    AppCallbackHealthCheck, AppCallbackHealthCheckServer,
};
use crate::api::grpc::dapr::proto::runtime::v1::app_callback_server::{
    AppCallback, AppCallbackServer,
};
use crate::api::grpc::dapr::proto::runtime::v1::topic_event_response::TopicEventResponseStatus as Verdict;
use crate::app::scripted::{PATIENCE, free_port};
use crate::app::settings::{AppAddress, AppSettings, HealthProbes, Protocol, Question};
use crate::app::stream::messages::{ActorEvent, AppInitial, AppMessage, NodeMessage, Word};
use crate::app::{AppChannel, AppEvent, AppId};
use crate::buses::in_memory::InMemory;
use crate::config::Secret;
use crate::pubsub::grpc_app;

type Answer = Result<Verdict, Status>;

#[derive(Default)]
struct Script {
    subscriptions: Mutex<Vec<pb::TopicSubscription>>,
    answers: Mutex<Vec<Answer>>,
    events: Mutex<Vec<(pb::TopicEventRequest, String)>>,
    batches: Mutex<Vec<(&'static str, pb::TopicEventBulkRequest)>>,
    sick: AtomicBool,
}

/// The application: everything comes from its script.
#[derive(Clone, Default)]
struct App(Arc<Script>);

#[async_trait]
impl AppCallback for App {
    async fn on_invoke(
        &self,
        _request: Request<common::InvokeRequest>,
    ) -> Result<Response<common::InvokeResponse>, Status> {
        Err(Status::unimplemented("nothing but events"))
    }

    async fn list_topic_subscriptions(
        &self,
        _request: Request<()>,
    ) -> Result<Response<pb::ListTopicSubscriptionsResponse>, Status> {
        let subscriptions = self.0.subscriptions.lock().unwrap().clone();
        Ok(Response::new(pb::ListTopicSubscriptionsResponse {
            subscriptions,
        }))
    }

    async fn on_topic_event(
        &self,
        request: Request<pb::TopicEventRequest>,
    ) -> Result<Response<pb::TopicEventResponse>, Status> {
        let headers = format!("{:?}", request.metadata());
        let event = request.into_inner();
        self.0.events.lock().unwrap().push((event, headers));
        let mut answers = self.0.answers.lock().unwrap();
        let answer = match answers.is_empty() {
            true => Ok(Verdict::Success),
            false => answers.remove(0),
        };
        let status = answer? as i32;
        Ok(Response::new(pb::TopicEventResponse { status }))
    }

    async fn on_bulk_topic_event(
        &self,
        request: Request<pb::TopicEventBulkRequest>,
    ) -> Result<Response<pb::TopicEventBulkResponse>, Status> {
        let batch = request.into_inner();
        self.0.batches.lock().unwrap().push(("stable", batch));
        Err(Status::unimplemented("an older SDK"))
    }
}

#[async_trait]
impl AppCallbackAlpha for App {
    async fn on_bulk_topic_event_alpha1(
        &self,
        request: Request<pb::TopicEventBulkRequest>,
    ) -> Result<Response<pb::TopicEventBulkResponse>, Status> {
        let batch = request.into_inner();
        let statuses = batch
            .entries
            .iter()
            .map(|entry| pb::TopicEventBulkResponseEntry {
                entry_id: entry.entry_id.clone(),
                status: Verdict::Success as i32,
            });
        let statuses = statuses.collect();
        self.0.batches.lock().unwrap().push(("alpha", batch));
        Ok(Response::new(pb::TopicEventBulkResponse { statuses }))
    }
}

#[async_trait]
impl AppCallbackHealthCheck for App {
    async fn health_check(
        &self,
        _request: Request<()>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        match self.0.sick.load(Ordering::SeqCst) {
            true => Err(Status::unavailable("sick")),
            false => Ok(Response::new(pb::HealthCheckResponse {})),
        }
    }
}

impl App {
    /// Listens until the returned tasks are dropped.
    async fn listen(&self, port: u16) -> JoinSet<()> {
        let routes = Routes::new(AppCallbackServer::new(self.clone()))
            .add_service(AppCallbackAlphaServer::new(self.clone()))
            .add_service(AppCallbackHealthCheckServer::new(self.clone()));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let routes = routes.clone();
                let service = service_fn(move |request| routes.clone().call(request));
                connections.spawn(async move {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let served = builder.serve_connection(TokioIo::new(stream), service);
                    // How it ends is the test's business.
                    drop(served.await);
                });
            }
        });
        tasks
    }

    fn subscribe(&self, subscriptions: Vec<pb::TopicSubscription>) {
        *self.0.subscriptions.lock().unwrap() = subscriptions;
    }

    fn events(&self) -> Vec<String> {
        let events = self.0.events.lock().unwrap();
        events.iter().map(|(event, _)| event.id.clone()).collect()
    }
}

fn subscription(topic: &str) -> pb::TopicSubscription {
    pb::TopicSubscription {
        pubsub_name: "bus".into(),
        topic: topic.into(),
        ..Default::default()
    }
}

struct Bed {
    pubsub: Arc<PubSub>,
    bus: Arc<InMemory>,
    actors: AppChannel,
    hosting: mpsc::Receiver<AppEvent>,
    _end: watch::Sender<bool>,
}

fn bed(port: u16) -> Bed {
    bed_with(port, |_| {})
}

fn bed_with(port: u16, change: impl FnOnce(&mut AppSettings)) -> Bed {
    let bus = Arc::new(InMemory::default());
    let pubsub = Arc::new(of([component("bus", bus.clone())]));
    let host = "127.0.0.1".to_owned();
    let mut settings = AppSettings::new(AppId::new("shop"), Some(AppAddress { host, port }));
    settings.protocol = Protocol::Grpc;
    settings.token = Some(Secret::new("secret"));
    change(&mut settings);
    let (end, ended) = watch::channel(false);
    let (actors, hosting) = AppChannel::start(vec![settings.clone()]);
    drop(tokio::spawn(grpc_app::keep(
        Arc::clone(&pubsub),
        actors.clone(),
        settings,
        ended,
    )));
    Bed {
        pubsub,
        bus,
        actors,
        hosting,
        _end: end,
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

async fn publish(bed: &Bed, id: &str) {
    publish_to(bed, "orders", id).await;
}

async fn publish_to(bed: &Bed, topic: &str, id: &str) {
    let component = bed.pubsub.find("bus", topic).unwrap();
    let body = Body {
        data: b"{\"n\": 1}",
        content_type: "application/json",
    };
    let beside = Beside {
        metadata: metadata(&[("cloudevent.id", id), ("x", "y")]),
        trace_parent: "00-1-2-01".to_owned(),
        ..Beside::default()
    };
    let published = bed.pubsub.publish(&component, topic, body, beside);
    published.await.unwrap();
}

#[tokio::test]
async fn events_and_verdicts() {
    let app = App::default();
    app.subscribe(vec![
        pb::TopicSubscription {
            dead_letter_topic: "dead".into(),
            ..subscription("orders")
        },
        pb::TopicSubscription {
            routes: Some(pb::TopicRoutes {
                rules: Vec::new(),
                default: "/buried".into(),
            }),
            ..subscription("dead")
        },
    ]);
    // Answers to "orders" and to "dead" in the order in which they are asked.
    *app.0.answers.lock().unwrap() = vec![
        Ok(Verdict::Success),
        Ok(Verdict::Retry),
        Ok(Verdict::Success),
        Ok(Verdict::Drop),
        Ok(Verdict::Success),
        Err(Status::unimplemented("no such method")),
        Ok(Verdict::Success),
        Err(Status::internal("broken")),
        Ok(Verdict::Success),
    ];
    let port = free_port();
    let _listening = app.listen(port).await;
    let bed = bed(port);
    until("subscribed", || bed.bus.count() == 2).await;
    for id in ["a", "b", "c", "d", "e"] {
        publish(&bed, id).await;
        // Whoever is buried comes before the next.
        let wanted = if id == "a" {
            1
        } else {
            (id.as_bytes()[0] - b'a') as usize * 2 + 1
        };
        until(id, || app.events().len() == wanted).await;
    }
    assert_eq!(app.events().join(" "), "a b b c c d d e e");
    let events = app.0.events.lock().unwrap();
    let (event, headers) = &events[0];
    assert_eq!(event.path, "");
    assert_eq!(
        (event.topic.as_str(), event.pubsub_name.as_str()),
        ("orders", "bus")
    );
    assert_eq!(
        (event.source.as_str(), event.spec_version.as_str()),
        ("shop", "1.0")
    );
    assert_eq!(event.data_content_type, "application/json");
    assert_eq!(&event.data[..], b"{\"n\": 1}");
    let extensions = &event.extensions.as_ref().unwrap().fields;
    assert!(extensions.contains_key("traceparent") && extensions.contains_key("time"));
    for part in [
        "\"x\": \"y\"",
        "\"pubsubname\": \"bus\"",
        "secret",
        "00-1-2-01",
    ] {
        assert!(headers.contains(part), "{part} is not in {headers}");
    }
    assert_eq!(events[2].0.path, "/buried");
}

#[tokio::test]
async fn an_event_says_what_it_was_published_to() {
    let app = App::default();
    app.subscribe(vec![subscription("sensors/*")]);
    let port = free_port();
    let _listening = app.listen(port).await;
    let bed = bed(port);
    until("subscribed", || bed.bus.count() == 1).await;
    publish_to(&bed, "sensors/7/temp", "a").await;
    until("delivered", || !app.events().is_empty()).await;
    let events = app.0.events.lock().unwrap();
    assert_eq!(events[0].0.topic, "sensors/7/temp");
}

#[tokio::test]
async fn batches_fall_back_to_the_older_method() {
    let app = App::default();
    app.subscribe(vec![pb::TopicSubscription {
        bulk_subscribe: Some(pb::BulkSubscribeConfig {
            enabled: true,
            max_messages_count: 10,
            max_await_duration_ms: 5,
        }),
        ..subscription("orders")
    }]);
    let port = free_port();
    let _listening = app.listen(port).await;
    let bed = bed(port);
    until("subscribed", || bed.bus.count() == 1).await;
    for id in ["a", "b"] {
        publish(&bed, id).await;
    }
    let count = || app.0.batches.lock().unwrap().len();
    until("two batches", || count() == 3).await;
    let batches = app.0.batches.lock().unwrap();
    let by: Vec<_> = batches.iter().map(|(method, _)| *method).collect();
    assert_eq!(by, ["stable", "alpha", "alpha"]);
    let batch = &batches[1].1;
    assert_eq!(batch.r#type, "com.dapr.event.sent.bulk");
    match batch.entries[0].event.as_ref().unwrap() {
        pb::topic_event_bulk_request_entry::Event::CloudEvent(event) => {
            assert_eq!(
                (event.id.as_str(), &event.data[..]),
                ("a", &b"{\"n\": 1}"[..])
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_new_process_is_asked_again() {
    let app = App::default();
    app.subscribe(vec![subscription("orders")]);
    let port = free_port();
    let mut listening = app.listen(port).await;
    let bed = bed(port);
    until("subscribed", || bed.bus.count() == 1).await;
    app.subscribe(vec![subscription("orders"), subscription("more")]);
    listening.shutdown().await;
    until("gone", || bed.bus.count() == 0).await;
    let _listening = app.listen(port).await;
    until("subscribed again", || bed.bus.count() == 2).await;
    publish(&bed, "again").await;
    until("delivered", || app.events() == ["again"]).await;
}

impl Bed {
    /// What the core hears next of the application's actors: the types that are hosted.
    async fn hosts(&mut self) -> Option<Vec<String>> {
        let event = tokio::time::timeout(PATIENCE, self.hosting.recv()).await;
        match event.expect("an event in time").expect("a channel") {
            AppEvent::Hosting { types, .. } => Some(types.into_iter().map(|t| t.name).collect()),
            AppEvent::Gone { .. } => None,
        }
    }
}

/// The node's words on a stream that hosts a type.
async fn stream(bed: &Bed) -> (Say, BoxStream<'static, NodeMessage>) {
    let (mut say, incoming) = futures::channel::mpsc::channel(4);
    let initial = AppInitial {
        entities: vec!["T".to_owned()],
        ..AppInitial::default()
    };
    say.try_send(Ok(AppMessage {
        request_type: Some(Word::InitialRequest(initial)),
    }))
    .unwrap();
    let app = AppId::new("shop");
    let hear = bed.actors.host_stream(&app, None, incoming);
    let mut hear: BoxStream<'static, NodeMessage> = Box::pin(hear.await.unwrap());
    let ack = hear.next().await.unwrap().response_type.unwrap();
    assert!(matches!(ack, ActorEvent::InitialResponse(_)));
    (say, hear)
}

type Say = futures::channel::mpsc::Sender<Result<AppMessage, String>>;

fn probes() -> HealthProbes {
    HealthProbes {
        interval: Duration::from_millis(5),
        timeout: PATIENCE,
        threshold: 2,
        ..HealthProbes::default()
    }
}

#[tokio::test]
async fn one_that_is_not_to_be_asked_has_no_subscriptions_of_its_own() {
    let app = App::default();
    app.subscribe(vec![subscription("orders")]);
    let port = free_port();
    let _listening = app.listen(port).await;
    let mut bed = bed_with(port, |settings| {
        settings.health = Some(probes());
        settings.unasked = vec![Question::Subscribe];
    });
    let _stream = stream(&bed).await;
    // It counts as well when it would have been asked.
    assert_eq!(bed.hosts().await, Some(vec!["T".to_owned()]));
    assert_eq!(bed.bus.count(), 0);
}

/// One that is unhealthy gets no events and hosts no actors, and its stream outlives that.
#[tokio::test]
async fn health_decides_over_subscriptions_and_actors() {
    let app = App::default();
    app.subscribe(vec![subscription("orders")]);
    app.0.sick.store(true, Ordering::SeqCst);
    let port = free_port();
    let _listening = app.listen(port).await;
    let mut bed = bed_with(port, |settings| settings.health = Some(probes()));
    let (_say, mut hear) = stream(&bed).await;
    assert_eq!(bed.bus.count(), 0);
    assert!(bed.hosting.try_recv().is_err(), "it was never well");

    app.0.sick.store(false, Ordering::SeqCst);
    until("subscribed", || bed.bus.count() == 1).await;
    assert_eq!(bed.hosts().await, Some(vec!["T".to_owned()]));

    app.0.sick.store(true, Ordering::SeqCst);
    assert_eq!(bed.hosts().await, None);
    until("unsubscribed", || bed.bus.count() == 0).await;

    app.0.sick.store(false, Ordering::SeqCst);
    assert_eq!(bed.hosts().await, Some(vec!["T".to_owned()]));
    until("subscribed again", || bed.bus.count() == 1).await;
    publish(&bed, "again").await;
    until("delivered", || app.events() == ["again"]).await;
    let silent = tokio::time::timeout(Duration::ZERO, hear.next()).await;
    assert!(silent.is_err(), "its stream is open, and nothing was asked");
}

/// An event whose data nobody can read is no empty one.
#[tokio::test]
async fn data_that_cannot_be_read_makes_a_dead_letter() {
    for bulk_subscribe in [
        None,
        Some(pb::BulkSubscribeConfig {
            enabled: true,
            max_messages_count: 1,
            max_await_duration_ms: 5,
        }),
    ] {
        let app = App::default();
        app.subscribe(vec![pb::TopicSubscription {
            dead_letter_topic: "dead".into(),
            bulk_subscribe,
            ..subscription("orders")
        }]);
        let port = free_port();
        let _listening = app.listen(port).await;
        let bed = bed(port);
        until("subscribed", || bed.bus.count() == 1).await;
        let topic = TopicName::new("default", "bus", "dead").unwrap();
        let letters = bed.bus.subscribe(Subscribe::new(topic, "g")).await;
        let mut letters = letters.unwrap();
        let component = bed.pubsub.find("bus", "orders").unwrap();
        let body = Body {
            data: br#"{"id": "odd", "data_base64": "$$$"}"#,
            content_type: envelope::CLOUD_EVENT,
        };
        let published = bed
            .pubsub
            .publish(&component, "orders", body, Beside::default());
        published.await.unwrap();
        let letter = tokio::time::timeout(PATIENCE, letters.next()).await;
        let letter = letter.expect("a letter in time").unwrap();
        let letter = String::from_utf8(letter.event.data.to_vec()).unwrap();
        assert!(letter.contains("$$$"), "{letter}");
        assert!(app.events().is_empty());
        assert!(app.0.batches.lock().unwrap().is_empty());
    }
}

/// What its stream hosts is none of its subscriptions' business.
#[tokio::test]
async fn a_stream_of_actors_leaves_subscriptions_alone() {
    let app = App::default();
    app.subscribe(vec![subscription("orders")]);
    let port = free_port();
    let _listening = app.listen(port).await;
    let bed = bed(port);
    until("subscribed", || bed.bus.count() == 1).await;
    let hosting = AppEvent::Hosting {
        app: AppId::new("shop"),
        instance: crate::app::InstanceId(1),
        types: Vec::new(),
        subscriptions: Bytes::new(),
        objects: Vec::new(),
        living: Vec::new(),
    };
    let gone = AppEvent::Gone {
        app: AppId::new("shop"),
        instance: crate::app::InstanceId(1),
        why: "it closed its stream".to_owned(),
    };
    for event in [hosting, gone] {
        bed.pubsub.heard(&bed.actors, &event);
        publish(&bed, "e").await;
    }
    until("delivered", || app.events() == ["e", "e"]).await;
}
