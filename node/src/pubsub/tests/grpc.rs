//! Delivery to an application that speaks gRPC.

use std::sync::Mutex;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::watch;
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
use crate::api::grpc::dapr::proto::runtime::v1::app_callback_server::{
    AppCallback, AppCallbackServer,
};
use crate::api::grpc::dapr::proto::runtime::v1::topic_event_response::TopicEventResponseStatus as Verdict;
use crate::app::AppId;
use crate::app::scripted::{PATIENCE, free_port};
use crate::app::settings::{AppAddress, AppSettings, Protocol};
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

impl App {
    /// Listens until the returned tasks are dropped.
    async fn listen(&self, port: u16) -> JoinSet<()> {
        let routes = Routes::new(AppCallbackServer::new(self.clone()))
            .add_service(AppCallbackAlphaServer::new(self.clone()));
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
    _end: watch::Sender<bool>,
}

fn bed(port: u16) -> Bed {
    let bus = Arc::new(InMemory::default());
    let pubsub = Arc::new(of([component("bus", bus.clone())]));
    let host = "127.0.0.1".to_owned();
    let mut settings = AppSettings::new(AppId::new("shop"), Some(AppAddress { host, port }));
    settings.protocol = Protocol::Grpc;
    settings.token = Some(Secret::new("secret"));
    let (end, ended) = watch::channel(false);
    drop(tokio::spawn(grpc_app::keep(
        Arc::clone(&pubsub),
        settings,
        ended,
    )));
    Bed {
        pubsub,
        bus,
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
    let component = bed.pubsub.find("bus", "orders").unwrap();
    let body = Body {
        data: b"{\"n\": 1}",
        content_type: "application/json",
    };
    let beside = Beside {
        metadata: metadata(&[("cloudevent.id", id), ("x", "y")]),
        trace_parent: "00-1-2-01".to_owned(),
        ..Beside::default()
    };
    let published = bed.pubsub.publish(&component, "orders", body, beside);
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
