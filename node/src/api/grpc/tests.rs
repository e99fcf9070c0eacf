//! The contract of the gRPC service, over a real socket and with a generated client.

mod access;
mod host;
mod pubsub;
mod rules;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::dapr::proto::common::v1 as common;
use super::dapr::proto::runtime::v1 as pb;
use super::dapr::proto::runtime::v1::dapr_client::DaprClient;
use super::*;
use crate::api::app_calls::RuntimeStatus;
use crate::api::serve::{Api, Limits};
use crate::api::tests::fake::FakeApp;
use crate::api::tests::{app, context, listen_with};
use tokio::sync::watch;

struct Bed {
    app: Arc<FakeApp>,
    channel: Channel,
    client: DaprClient<Channel>,
    _end: watch::Sender<bool>,
}

async fn bed(change: impl FnOnce(Context) -> Context, tokens: &[&str]) -> Bed {
    let app = FakeApp::new();
    let context = change(context(tokens, app.clone()));
    let (addr, end) = listen_with(Limits::default(), Api::Grpc, context).await;
    let endpoint = Channel::from_shared(format!("http://{addr}")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    Bed {
        app,
        client: DaprClient::new(channel.clone()),
        channel,
        _end: end,
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(
    result: Result<tonic::Response<T>, Status>,
    code: Code,
    words: &str,
) {
    let status = result.expect_err("it is refused");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(
        status.message().contains(words),
        "{words} is not in {status:?}"
    );
}

fn invoke(actor_id: &str) -> pb::InvokeActorRequest {
    pb::InvokeActorRequest {
        actor_type: "c".into(),
        actor_id: actor_id.into(),
        method: "m".into(),
        data: Bytes::from_static(b"42"),
        ..Default::default()
    }
}

#[tokio::test]
async fn actors_are_invoked() {
    let mut bed = bed(|context| context, &[]).await;
    let mut call = invoke("alice");
    call.metadata
        .insert("Ghostlight-Request-Id".into(), "r1".into());
    let mut request = Request::new(call);
    request.set_timeout(Duration::from_secs(5));
    let data = bed
        .client
        .invoke_actor(request)
        .await
        .unwrap()
        .into_inner()
        .data;
    let seen = String::from_utf8_lossy(&data).into_owned();
    assert!(
        seen.starts_with("default:c/alice m Some(\"r1\") Some(5"),
        "{seen}"
    );
    for (actor_id, code, words) in [
        (
            "short",
            Code::Internal,
            "error invoke actor method: error from actor service: (500) Short: 3 missing",
        ),
        ("full", Code::ResourceExhausted, "[E0108]"),
        ("leaderless", Code::Unavailable, "nobody leads p1 [E0201]"),
        ("lost", Code::Internal, "[E0112]"),
        ("closing", Code::Unavailable, "actor runtime is closed"),
        (
            "deep",
            Code::ResourceExhausted,
            "maximum stack depth exceeded",
        ),
        (
            "nobody",
            Code::FailedPrecondition,
            "did not find address for actor 'c||nobody'",
        ),
        (
            "nomethod",
            Code::Internal,
            "actor method not found: actors/c/nomethod/method/m",
        ),
        ("a#b", Code::InvalidArgument, "invalid actorId:"),
    ] {
        refused(bed.client.invoke_actor(invoke(actor_id)).await, code, words);
    }
    let reserved = pb::InvokeActorRequest {
        actor_type: "dapr.internal.wf".into(),
        ..invoke("i")
    };
    refused(
        bed.client.invoke_actor(reserved).await,
        Code::PermissionDenied,
        "is reserved for the Dapr workflow runtime",
    );
    let status = bed.client.invoke_actor(invoke("full")).await.unwrap_err();
    assert_eq!(status.metadata().get("ghostlight-error").unwrap(), "E0108");
    assert_eq!(
        status.metadata().get("ghostlight-retry-after-ms").unwrap(),
        "40"
    );
}

#[tokio::test]
async fn without_a_placement_address_nobody_is_invoked() {
    let mut bed = bed(|context| context, &[]).await;
    bed.app
        .set_hosting(|hosting| hosting.status = RuntimeStatus::Disabled);
    refused(
        bed.client.invoke_actor(invoke("alice")).await,
        Code::Unavailable,
        "placement service is not configured",
    );
}

#[tokio::test]
async fn state_is_read() {
    let mut bed = bed(|context| context, &[]).await;
    let get = |key: &str| pb::GetActorStateRequest {
        actor_type: "bank".into(),
        actor_id: "a".into(),
        key: key.into(),
    };
    let found = bed
        .client
        .get_actor_state(get("brief"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(&found.data[..], b"\"raw \xff\"");
    assert_eq!(found.metadata["ttlExpireTime"], "2026-03-01T12:00:00Z");
    let absent = bed
        .client
        .get_actor_state(get("absent"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(absent, pb::GetActorStateResponse::default());
    refused(
        bed.client.get_actor_state(get("")).await,
        Code::Internal,
        "error getting actor state: missing key",
    );
}

#[tokio::test]
async fn transactions_are_whole() {
    let mut bed = bed(|context| context, &[]).await;
    let operation = |kind: &str, key: &str| pb::TransactionalActorStateOperation {
        operation_type: kind.into(),
        key: key.into(),
        value: Some(prost_types::Any {
            type_url: String::new(),
            value: b"\xff\0raw".to_vec(),
        }),
        metadata: [("ttlInSeconds".to_owned(), "9".to_owned())].into(),
    };
    let transaction = |operations| pb::ExecuteActorStateTransactionRequest {
        actor_type: "bank".into(),
        actor_id: "a".into(),
        operations,
    };
    let both = transaction(vec![operation("upsert", "k"), operation("delete", "old")]);
    bed.client
        .execute_actor_state_transaction(both)
        .await
        .unwrap();
    let seen = bed.app.last();
    assert!(
        seen.contains(r#"key: "k", value: b"\xff\0raw", ttl: Some(9s)"#),
        "{seen}"
    );
    assert!(seen.contains(r#"Delete { key: "old" }"#), "{seen}");
    let asked = bed.app.asked();
    for (kind, key, code, words) in [
        (
            "replace",
            "k",
            Code::Unimplemented,
            "operation type replace not supported",
        ),
        (
            "upsert",
            "",
            Code::Internal,
            "error saving actor transaction state: missing key",
        ),
        ("delete", "", Code::Internal, "missing key"),
    ] {
        let wrong = transaction(vec![operation("upsert", "k"), operation(kind, key)]);
        refused(
            bed.client.execute_actor_state_transaction(wrong).await,
            code,
            words,
        );
        assert!(
            bed.app.last().ends_with("StateRefused"),
            "its object is told of"
        );
    }
    assert_eq!(bed.app.asked(), asked + 3);
}

fn reminder(actor_id: &str, name: &str) -> pb::RegisterActorReminderRequest {
    pb::RegisterActorReminderRequest {
        actor_type: "bank".into(),
        actor_id: actor_id.into(),
        name: name.into(),
        due_time: "1h2m3s4ms".into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn reminders_are_registered() {
    let mut bed = bed(|context| context, &[]).await;
    bed.client
        .register_actor_reminder(reminder("a", "r"))
        .await
        .unwrap();
    assert!(
        bed.app
            .last()
            .contains("data: None }, overwrite: Replace, failure_policy: None")
    );
    let full = pb::RegisterActorReminderRequest {
        data: Bytes::from_static(b"hi"),
        overwrite: Some(false),
        failure_policy: Some(common::JobFailurePolicy {
            policy: Some(common::job_failure_policy::Policy::Constant(
                common::JobFailurePolicyConstant {
                    interval: Some(prost_types::Duration {
                        seconds: 2,
                        nanos: 0,
                    }),
                    max_retries: None,
                },
            )),
        }),
        ..reminder("a", "a|b@c")
    };
    bed.client.register_actor_reminder(full).await.unwrap();
    let seen = bed.app.last();
    for part in [
        r#"name: "a|b@c""#,
        r#"data: Some(b"\"aGk=\"")"#,
        "overwrite: Refuse",
        "Constant { interval: 2s, max_retries: None }",
    ] {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
    let long = "a".repeat(600);
    for name in [
        "",
        "bad/name",
        "bad\\name",
        "bad#name",
        "bad?name",
        "bad\0name",
        "bad\nname",
        ".",
        "..",
        &long,
    ] {
        let result = bed
            .client
            .register_actor_reminder(reminder("a", name))
            .await;
        refused(result, Code::InvalidArgument, "invalid request: name");
    }
    for id in [
        "bad/id", "bad\\id", "bad#id", "bad?id", "bad\0id", "bad\nid",
    ] {
        let result = bed.client.register_actor_reminder(reminder(id, "r")).await;
        refused(result, Code::InvalidArgument, "invalid");
    }
    let wrong = pb::RegisterActorReminderRequest {
        period: "R0/PT1S".into(),
        ..reminder("a", "r")
    };
    refused(
        bed.client.register_actor_reminder(wrong).await,
        Code::Internal,
        "error creating actor reminder: invalid reminder period: has zero repetitions",
    );
}

#[tokio::test]
async fn reminders_are_read() {
    let mut bed = bed(|context| context, &[]).await;
    let get = |name: &str| pb::GetActorReminderRequest {
        actor_type: "bank".into(),
        actor_id: "a".into(),
        name: name.into(),
    };
    let found = bed
        .client
        .get_actor_reminder(get("r"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (found.actor_type.as_str(), found.actor_id.as_str()),
        ("bank", "a")
    );
    assert_eq!(found.period.as_deref(), Some("@every 1s"));
    assert_eq!(found.ttl.as_deref(), Some("2026-03-01T12:00:00.5Z"));
    let data = found.data.unwrap();
    assert_eq!(
        data.type_url,
        "type.googleapis.com/google.protobuf.BytesValue"
    );
    assert_eq!(Vec::<u8>::decode(&data.value[..]).unwrap(), b"{\"a\": 1}");
    let bare = bed
        .client
        .get_actor_reminder(get("bare"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (bare.due_time, bare.period, bare.ttl, bare.data),
        (None, None, None, None)
    );
    refused(
        bed.client.get_actor_reminder(get("absent")).await,
        Code::NotFound,
        "actor reminder not found: absent",
    );
}

#[tokio::test]
async fn reminders_are_listed_and_ended() {
    let mut bed = bed(|context| context, &[]).await;
    let unregister = pb::UnregisterActorReminderRequest {
        actor_type: "bank".into(),
        actor_id: "a".into(),
        name: "r".into(),
    };
    bed.client
        .unregister_actor_reminder(unregister)
        .await
        .unwrap();
    assert!(
        bed.app
            .last()
            .contains(r#"ReminderUnregister { name: "r" }"#)
    );
    let list = |actor_id: Option<&str>| pb::ListActorRemindersRequest {
        actor_type: "bank".into(),
        actor_id: actor_id.map(str::to_owned),
    };
    let listed = bed
        .client
        .list_actor_reminders(list(None))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.reminders[0].name, "tick");
    assert!(
        bed.app
            .last()
            .contains("Type { namespace: \"default\", actor_type: \"bank\" } List")
    );
    bed.client
        .list_actor_reminders(list(Some("a")))
        .await
        .unwrap();
    assert!(bed.app.last().contains("Actor(default:bank/a) List"));
    let all = |actor_id: Option<&str>| pb::UnregisterActorRemindersByTypeRequest {
        actor_type: "bank".into(),
        actor_id: actor_id.map(str::to_owned),
    };
    bed.client
        .unregister_actor_reminders_by_type(all(None))
        .await
        .unwrap();
    assert!(bed.app.last().ends_with("UnregisterAll"));
    refused(
        bed.client
            .unregister_actor_reminders_by_type(all(Some("broken")))
            .await,
        Code::Internal,
        "error deleting actor reminder: it broke",
    );
}

#[tokio::test]
async fn timers_are_set_and_ended() {
    let mut bed = bed(|context| context, &[]).await;
    let timer = |actor_id: &str, period: &str| pb::RegisterActorTimerRequest {
        actor_type: "bank".into(),
        actor_id: actor_id.into(),
        name: "t".into(),
        period: period.into(),
        callback: "ring".into(),
        data: Bytes::from_static(b"hi"),
        ..Default::default()
    };
    bed.client
        .register_actor_timer(timer("a", "1s"))
        .await
        .unwrap();
    let seen = bed.app.last();
    assert!(
        seen.contains(r#"data: Some(b"\"aGk=\"") }, callback: "ring""#),
        "{seen}"
    );
    refused(
        bed.client.register_actor_timer(timer("a", "often")).await,
        Code::Internal,
        "error creating actor timer: invalid timer period: parse error",
    );
    refused(
        bed.client
            .register_actor_timer(timer("foreign", "1s"))
            .await,
        Code::Internal,
        "can't create timer for actor bank||foreign: actor type not registered",
    );
    let end = pb::UnregisterActorTimerRequest {
        actor_type: "bank".into(),
        actor_id: "a".into(),
        name: "t".into(),
    };
    bed.client.unregister_actor_timer(end).await.unwrap();
    assert!(bed.app.last().contains("TimerUnregister"));
}

#[tokio::test]
async fn every_refusal_has_its_code() {
    let mut bed = bed(|context| context, &[]).await;
    for (actor_id, code, words) in [
        ("missing", Code::Internal, "actor instance is missing"),
        (
            "foreign",
            Code::PermissionDenied,
            "operations on actor reminders are only possible on hosted actor types",
        ),
        (
            "twice",
            Code::AlreadyExists,
            "actor reminder already exists: r",
        ),
        (
            "storeless",
            Code::Internal,
            "the state store is not configured to use the actor runtime.",
        ),
        (
            "appless",
            Code::Unavailable,
            "app channel is not initialized",
        ),
        (
            "placeless",
            Code::Unavailable,
            "placement service is not configured",
        ),
        (
            "nobody",
            Code::FailedPrecondition,
            "did not find address for actor 'bank||nobody'",
        ),
        (
            "deep",
            Code::ResourceExhausted,
            "maximum stack depth exceeded",
        ),
        ("closed", Code::Unavailable, "actor runtime is closed"),
        (
            "broken",
            Code::Internal,
            "error creating actor reminder: it broke",
        ),
        ("moving", Code::Unavailable, "it moved [E0216]"),
        ("lost", Code::Internal, "nobody knows [E0112]"),
    ] {
        refused(
            bed.client
                .register_actor_reminder(reminder(actor_id, "r"))
                .await,
            code,
            words,
        );
    }
}

#[tokio::test]
async fn metadata_is_told_and_kept() {
    let sidecar = app::full_sidecar();
    let declared = |context: Context| {
        context.pubsub.declare("shop", vec![app::wanted()]);
        Context { sidecar, ..context }
    };
    let mut bed = bed(declared, &[]).await;
    let set = pb::SetMetadataRequest {
        key: "cliPID".into(),
        value: "4711".into(),
    };
    bed.client.set_metadata(set).await.unwrap();
    let all = bed
        .client
        .get_metadata(pb::GetMetadataRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (all.id.as_str(), all.runtime_version.as_str()),
        ("n1", "1.18.3")
    );
    assert_eq!(all.extended_metadata["cliPID"], "4711");
    let counts: Vec<(&str, i32)> = all
        .active_actors_count
        .iter()
        .map(|actors| (actors.r#type.as_str(), actors.count))
        .collect();
    assert_eq!(
        counts,
        [("bank", 3), ("counter", 1), ("idle", 0), ("log", 0)]
    );
    assert_eq!(all.registered_components[0].capabilities, ["ETAG", "ACTOR"]);
    assert_eq!(all.subscriptions[0].rules.as_ref().unwrap().rules.len(), 2);
    assert_eq!(all.http_endpoints[0].name, "outside");
    assert_eq!(all.enabled_features, ["ActorStateTTL"]);
    let app = all.app_connection_properties.unwrap();
    assert_eq!((app.port, app.max_concurrency), (6_001, 4));
    assert_eq!(app.health.unwrap().health_probe_timeout, "500ms");
    let runtime = all.actor_runtime.unwrap();
    assert_eq!(
        runtime.runtime_status(),
        pb::actor_runtime::ActorRuntimeStatus::Running
    );
    assert!(runtime.host_ready);
    let long = pb::SetMetadataRequest {
        key: "k".into(),
        value: "x".repeat(20_000),
    };
    refused(
        bed.client.set_metadata(long).await,
        Code::InvalidArgument,
        "metadata takes",
    );
}

#[tokio::test]
async fn shutdown_ends_the_node() {
    let mut kept = None;
    let mut bed = bed(
        |context| {
            kept = Some((context.handle.clone(), Arc::clone(&context.forced)));
            context
        },
        &[],
    )
    .await;
    bed.client.shutdown(pb::ShutdownRequest {}).await.unwrap();
    let (handle, forced) = kept.unwrap();
    assert!(!forced.load(Ordering::SeqCst));
    let ended = async {
        use ghostlight_core::admin::{AdminAnswer, AdminRequest};
        while !matches!(
            handle.admin(AdminRequest::Status).await,
            AdminAnswer::Refused { .. }
        ) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("the order arrives");
}

#[tokio::test]
async fn tokens_are_asked_for() {
    let mut bed = bed(|context| context, &["secret"]).await;
    let ask = |token: Option<&'static str>| {
        let mut request = Request::new(pb::GetMetadataRequest {});
        if let Some(token) = token {
            request
                .metadata_mut()
                .insert("dapr-api-token", token.parse().unwrap());
        }
        request
    };
    refused(
        bed.client.get_metadata(ask(None)).await,
        Code::Unauthenticated,
        "missing api token in request metadata",
    );
    refused(
        bed.client.get_metadata(ask(Some("wrong"))).await,
        Code::Unauthenticated,
        "authentication error: api token mismatch",
    );
    bed.client.get_metadata(ask(Some("secret"))).await.unwrap();
}

/// Calls a method by its path, with an empty message.
async fn call(channel: &Channel, path: &'static str) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = hyper::http::uri::PathAndQuery::from_static(path);
    grpc.unary(Request::new(()), path, codec).await.unwrap_err()
}

#[tokio::test]
async fn what_is_absent_is_unimplemented_and_names_what_is_there() {
    let bed = bed(|context| context, &[]).await;
    for path in [
        "/dapr.proto.runtime.v1.Dapr/GetState",
        "/dapr.proto.runtime.v1.Dapr/StartWorkflowBeta1",
        "/dapr.proto.runtime.v1.Dapr/Nothing",
        "/some.Other/Method",
    ] {
        let status = call(&bed.channel, path).await;
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        for part in [
            &path[1..],
            "is not supported",
            "invocation, state, reminders, timers",
        ] {
            assert!(
                status.message().contains(part),
                "{part} is not in {status:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let change = |context| Context {
        body_max: 1_024,
        ..context
    };
    let mut bed = bed(change, &[]).await;
    let large = pb::InvokeActorRequest {
        data: Bytes::from(vec![0; 2_048]),
        ..invoke("alice")
    };
    let bytes = large.encoded_len();
    // Word for word what Dapr says.
    let words = format!("grpc: received message larger than max ({bytes} vs. 1024)");
    let refusal = bed.client.invoke_actor(large).await;
    refused(refusal, Code::ResourceExhausted, &words);
    bed.client.invoke_actor(invoke("alice")).await.unwrap();
}

/// The limit is both ways. What has an answer has happened: it is nothing that SDKs repeat.
#[tokio::test]
async fn an_answer_over_the_limit_is_no_refusal() {
    let change = |context| Context {
        body_max: 1_024,
        ..context
    };
    let mut bed = bed(change, &[]).await;
    let state = |key: &str| pb::GetActorStateRequest {
        actor_type: "bank".into(),
        actor_id: "a".into(),
        key: key.into(),
    };
    let bytes = pb::GetActorStateResponse {
        data: Bytes::from(vec![b'1'; 2_048]),
        ..Default::default()
    };
    let bytes = bytes.encoded_len();
    let words = format!("trying to send message larger than max ({bytes} vs. 1024)");
    let answer = bed.client.get_actor_state(state("large")).await;
    refused(answer, Code::Internal, &words);
    bed.client.get_actor_state(state("k")).await.unwrap();
    // Its answer repeats the actor's id, with more around it.
    let call = invoke(&"a".repeat(1_000));
    assert!(call.encoded_len() <= 1_024);
    let answer = bed.client.invoke_actor(call).await;
    refused(
        answer,
        Code::Internal,
        "trying to send message larger than max",
    );
}

#[test]
fn what_is_generated_is_that_of_the_sources() {
    // FNV-1a, as the generator writes it.
    let digest = |bytes: &[u8]| {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, step)
    };
    let protos = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    for line in include_str!("generated/SOURCES").lines() {
        let (proto, expected) = line.split_once(' ').unwrap();
        let found = digest(&std::fs::read(protos.join(proto)).unwrap());
        assert_eq!(
            format!("{found:016x}"),
            expected,
            "{proto} has changed: cargo run --manifest-path node/proto/generate/Cargo.toml"
        );
    }
}

#[test]
fn the_list_of_methods_is_that_of_the_descriptors() {
    let all = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let methods = all
        .file
        .iter()
        .flat_map(|file| &file.service)
        .filter(|service| service.name() == "Dapr")
        .flat_map(|service| &service.method)
        .map(prost_types::MethodDescriptorProto::name);
    let mut methods: Vec<&str> = methods.collect();
    methods.sort_unstable();
    assert_eq!(methods, METHODS);
}

#[tokio::test]
async fn reflection_lists_the_service() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let bed = bed(|context| context, &[]).await;
    let mut client = ServerReflectionClient::new(bed.channel.clone());
    let symbol = "dapr.proto.runtime.v1.Dapr".to_owned();
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol(symbol.clone()),
    ];
    for message in asked {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(message),
        };
        let stream = client
            .server_reflection_info(futures::stream::iter([request]))
            .await
            .unwrap();
        let answer: ServerReflectionResponse =
            stream.into_inner().message().await.unwrap().unwrap();
        match answer.message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => {
                assert!(list.service.iter().any(|service| service.name == symbol));
            }
            MessageResponse::FileDescriptorResponse(files) => {
                assert!(!files.file_descriptor_proto.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
}
