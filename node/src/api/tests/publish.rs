//! Publishing over HTTP: one row for each of Dapr's errors, with its details, and what is
//! published.

use std::sync::Arc;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use serde_json::{Value, json};

use super::*;
use crate::pubsub::PubSub;
use crate::pubsub::registry::Component;
use crate::pubsub::scopes::Scopes;
use crate::pubsub::tests::{ScriptedBus, component, of};
use crate::topics::PublishOutcome;

struct Bed {
    addr: SocketAddr,
    _end: watch::Sender<bool>,
}

async fn bed(pubsub: PubSub) -> Bed {
    let mut context = context(&[], Arc::new(app_calls::NoApplication));
    context.pubsub = Arc::new(pubsub);
    let (addr, end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    Bed { addr, _end: end }
}

impl Bed {
    /// Status and body.
    async fn ask(&self, path: &str, content_type: &str, body: &str) -> (u16, String) {
        let head = format!("POST {path} HTTP/1.1\r\nContent-Type: {content_type}");
        let answer = raw(self.addr, &head, body.as_bytes()).await;
        let status = answer[9..12].parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, body.to_owned())
    }
}

fn scoped(bus: Arc<ScriptedBus>) -> Component {
    let mut component = component("bus", bus);
    component.scopes = Scopes::of(&crate::resources::Component {
        name: "bus".into(),
        kind: "pubsub.scripted".into(),
        version: "v1".into(),
        ignore_errors: false,
        metadata: [("publishingScopes".to_owned(), "shop=orders,a/b".to_owned())].into(),
        scopes: Vec::new(),
        place: "x:1".into(),
    });
    component
}

fn lost() -> PublishOutcome {
    PublishOutcome::Unknown {
        code: Code::OutcomeUnknown,
        detail: "nobody knows".into(),
    }
}

const JSON: &str = "application/json";
const BULK: &str = "/v1.0/publish/bulk/bus/orders";

/// What is asked: path, content type, body.
type Question = (&'static str, &'static str, &'static str);
/// What is answered: status, code, reason, part of the message, and the component that is
/// described.
type Wanted = (
    u16,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

/// One row for each error; those of the bus in the order of its script.
const ERRORS: &[(Question, Wanted)] = &[
    (
        ("/v1.0/publish", JSON, "1"),
        (
            404,
            "ERR_PUBSUB_EMPTY",
            "DAPR_PUBSUB_NAME_EMPTY",
            "pubsub name is empty",
            Some(""),
        ),
    ),
    (
        ("/v1.0/publish/nobody/orders", JSON, "1"),
        (
            404,
            "ERR_PUBSUB_NOT_FOUND",
            "DAPR_PUBSUB_NOT_FOUND",
            "pubsub nobody is not found",
            None,
        ),
    ),
    (
        ("/v1.0/publish/bus/", JSON, "1"),
        (
            404,
            "ERR_TOPIC_NAME_EMPTY",
            "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
            "topic is empty in pubsub bus",
            Some("bus"),
        ),
    ),
    (
        ("/v1.0/publish/bus/secret", JSON, "1"),
        (
            403,
            "ERR_PUBSUB_FORBIDDEN",
            "DAPR_PUBSUB_FORBIDDEN",
            "topic secret is not allowed for app id shop",
            Some("bus"),
        ),
    ),
    (
        (
            "/v1.0/publish/bus/orders?metadata.rawPayload=perhaps",
            JSON,
            "1",
        ),
        (
            400,
            "ERR_PUBSUB_REQUEST_METADATA",
            "DAPR_PUBSUB_METADATA_DESERIALIZATION",
            "failed deserializing metadata. Error: rawPayload value must be a valid boolean: actual is 'perhaps'",
            Some("bus"),
        ),
    ),
    (
        (
            "/v1.0/publish/bus/orders?metadata.ttlInSeconds=soon",
            JSON,
            "1",
        ),
        (
            400,
            "ERR_PUBSUB_REQUEST_METADATA",
            "DAPR_PUBSUB_METADATA_DESERIALIZATION",
            "failed deserializing metadata. Error: ttlInSeconds value must be a valid integer: actual is 'soon'",
            Some("bus"),
        ),
    ),
    (
        (
            "/v1.0/publish/bus/orders",
            "application/cloudevents+json",
            "[]",
        ),
        (
            500,
            "ERR_PUBSUB_CLOUD_EVENTS_SER",
            "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
            "cannot create cloudevent",
            Some("bus"),
        ),
    ),
    (
        (BULK, JSON, "{"),
        (
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "DAPR_PUBSUB_UNMARSHAL_EVENTS",
            "error when unmarshaling the request for topic orders pubsub bus: ",
            Some("bus"),
        ),
    ),
    (
        (BULK, JSON, r#"[{"event": 1}]"#),
        (
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "DAPR_PUBSUB_MARSHAL_EVENTS",
            "error: entryId is duplicated or not present for entry",
            Some("bus"),
        ),
    ),
    (
        (
            "/v1.0-alpha1/publish/bulk/bus/orders",
            JSON,
            r#"[{"entryId": "a", "event": 1}, {"entryId": "a", "event": 1}]"#,
        ),
        (
            400,
            "ERR_PUBSUB_EVENTS_SER",
            "DAPR_PUBSUB_MARSHAL_EVENTS",
            "error: entryId is duplicated or not present for entry",
            Some("bus"),
        ),
    ),
    (
        ("/v1.0-alpha1/publish/bulk/bus", JSON, "[]"),
        (
            404,
            "ERR_TOPIC_NAME_EMPTY",
            "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
            "topic is empty in pubsub bus",
            Some("bus"),
        ),
    ),
    (
        ("/v1.0/publish/bus/orders", JSON, "1"),
        (
            500,
            "ERR_PUBSUB_PUBLISH_MESSAGE",
            "DAPR_PUBSUB_PUBLISH_MESSAGE",
            "error when publishing to topic orders in pubsub bus: why [E0511]",
            Some("bus"),
        ),
    ),
    (
        ("/v1.0/publish/bus/a/b", JSON, "1"),
        (
            500,
            "ERR_PUBSUB_PUBLISH_MESSAGE",
            "DAPR_PUBSUB_PUBLISH_MESSAGE",
            "error when publishing to topic a/b in pubsub bus: nobody knows [E0112]",
            Some("bus"),
        ),
    ),
    (
        ("/v1.0/publish/bus/orders", JSON, "1"),
        (
            429,
            "ERR_GHOSTLIGHT_TOPIC_BUSY",
            "DAPR_PUBSUB_PUBLISH_MESSAGE",
            "error when publishing to topic orders in pubsub bus: why [E0502]",
            Some("bus"),
        ),
    ),
];

#[tokio::test]
async fn every_error_has_daprs_status_code_text_and_details() {
    let refused = |code| PublishOutcome::NotRun(NotRun::new(code, "why"));
    let outcomes = [
        refused(Code::BusNotServed),
        lost(),
        refused(Code::TopicBusy),
    ];
    let bed = bed(of([scoped(ScriptedBus::answers(outcomes))])).await;
    for ((path, kind, body), wanted) in ERRORS {
        let (status, error_code, reason, message, resource) = wanted;
        let (found, body) = bed.ask(path, kind, body).await;
        assert_eq!(found, *status, "{path}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["errorCode"], *error_code, "{body}");
        let said = body["message"].as_str().unwrap();
        assert!(said.contains(message), "{said}");
        let details = body["details"].as_array().unwrap();
        let info = &details[0];
        assert_eq!(info["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
        assert_eq!(info["domain"], "dapr.io");
        assert_eq!(info["reason"], *reason);
        told(info, path, said);
        match resource {
            None => assert_eq!(details.len(), 1, "{body}"),
            Some(name) => {
                assert_eq!(
                    details[1]["@type"],
                    "type.googleapis.com/google.rpc.ResourceInfo"
                );
                assert_eq!(details[1]["resource_type"], "pubsub");
                assert_eq!(details[1]["resource_name"], *name);
                assert_eq!(details[1]["owner"], "");
                // Without the code of ours behind it.
                let plain = said.split(" [E").next().unwrap();
                assert_eq!(details[1]["description"], plain, "{body}");
            }
        }
    }
}

/// What the details of an error say beside its reason: who asked, and, where a topic was found,
/// which, and what is wrong with it.
#[track_caller]
fn told(info: &Value, path: &str, message: &str) {
    let metadata = &info["metadata"];
    let reason = info["reason"].as_str().unwrap();
    if reason != "DAPR_PUBSUB_PUBLISH_MESSAGE" {
        assert_eq!(metadata["appID"], "shop", "{path}: {info}");
    }
    if reason.ends_with("_EMPTY") || reason.ends_with("_FOUND") {
        let fields = metadata.as_object().unwrap();
        assert_eq!(fields.len(), 1, "{path}: {info}");
        return;
    }
    let topic = metadata["topic"].as_str().unwrap();
    let asked = path.split('?').next().unwrap();
    assert!(asked.ends_with(&format!("/bus/{topic}")), "{path}: {info}");
    let error = metadata["error"].as_str().unwrap();
    // Dapr's own sentence about an event says no more.
    let whole = message.contains(error) || message == "cannot create cloudevent";
    assert!(whole && !error.is_empty(), "{message}: {info}");
}

/// A name that no topic can have.
#[tokio::test]
async fn a_topic_that_cannot_be_has_an_error_of_its_own() {
    let bed = bed(of([component("bus", ScriptedBus::answers([]))])).await;
    let topic = "x".repeat(ghostlight_protocol::limits::TOPIC_NAME_BYTES_MAX + 1);
    for path in ["/v1.0/publish/bus/", "/v1.0/publish/bulk/bus/"] {
        let entries = r#"[{"entryId": "a", "event": 1}]"#;
        let path = format!("{path}{topic}");
        let (status, body) = bed.ask(&path, JSON, entries).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &body["errorCode"]),
            (400, &json!("ERR_PUBSUB_EVENTS_SER"))
        );
        let said = body["message"].as_str().unwrap();
        assert!(
            said.starts_with("error when marshalling cloud event envelope"),
            "{said}"
        );
        let info = &body["details"][0];
        assert_eq!(info["reason"], "DAPR_PUBSUB_MARSHAL_ENVELOPE");
        told(info, &path, said);
        assert_eq!(body["details"][1]["description"], said);
    }
}

#[tokio::test]
async fn without_components_nothing_is_configured() {
    let bed = bed(of([])).await;
    let (status, body) = bed
        .ask("/v1.0/publish/bus/orders", "text/plain", "hi")
        .await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({
            "errorCode": "ERR_PUBSUB_NOT_CONFIGURED", "message": "pubsub is not configured",
            "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "dapr.io",
                "reason": "DAPR_PUBSUB_NOT_CONFIGURED", "metadata": {"appID": "shop"},
            }],
        })
    );
}

#[tokio::test]
async fn events_are_published_by_both_verbs_and_both_bulk_paths() {
    let bus = ScriptedBus::answers([]);
    let bed = bed(of([component("bus", bus.clone())])).await;
    let one = "/v1.0/publish/bus/a%2Fb/c?metadata.partitionKey=k";
    assert_eq!(bed.ask(one, "text/plain", "hi").await, (204, String::new()));
    let put =
        "PUT /v1.0//publish/bus/x HTTP/1.1\r\ntraceparent: 00-1-2-01\r\nIdempotency-Key: once";
    has(&raw(bed.addr, put, b"").await, &["204 no content"]);
    // Names in whatever case, as Go reads them.
    let bulk = r#"[{"entryId":"1","event":"hi","contentType":"text/plain"},{"EntryID":"2","Event":{"n":1}}]"#;
    for path in [
        "/v1.0/publish/bulk/bus/y",
        "/v1.0-alpha1/publish/bulk/bus/y",
    ] {
        let answer = bed.ask(path, "application/json", bulk).await;
        assert_eq!(answer, (204, String::new()));
    }
    has(
        &raw(bed.addr, "GET /v1.0/publish/bus/x HTTP/1.1", b"").await,
        &["405", "allow: post, put"],
    );
    let seen = bus.seen.lock().unwrap();
    let topics: Vec<_> = seen.iter().map(|publish| publish.topic.topic()).collect();
    assert_eq!(topics, ["a/b/c", "x", "y", "y", "y", "y"]);
    assert_eq!(seen[0].event.key.as_deref(), Some("k"));
    assert_eq!(seen[1].dedup.as_deref(), Some(&b"once"[..]));
    let traced: Value = serde_json::from_slice(&seen[1].event.data).unwrap();
    assert_eq!(traced["traceid"], "00-1-2-01");
}

#[tokio::test]
async fn entries_that_failed_are_named() {
    let bus = ScriptedBus::answers([PublishOutcome::Done(None), lost()]);
    let bed = bed(of([component("bus", bus)])).await;
    let bulk = r#"[{"entryId":"1","event":"a"},{"entryId":"2","event":"b"}]"#;
    let (status, body) = bed
        .ask("/v1.0/publish/bulk/bus/y", "application/json", bulk)
        .await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 500);
    assert_eq!(
        body,
        json!({
            "errorCode": "ERR_PUBSUB_PUBLISH_MESSAGE",
            "failedEntries": [{"entryId": "2", "error": "nobody knows [E0112]"}],
        })
    );
}
