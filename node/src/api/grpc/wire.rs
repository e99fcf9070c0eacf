//! Messages of the wire to and from what the API speaks of.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ghostlight_protocol::calendar::rfc3339;
use prost::Message;
use tonic::Status;

use super::dapr::proto::common::v1 as common;
use super::dapr::proto::common::v1::job_failure_policy::Policy;
use super::dapr::proto::runtime::v1 as pb;
use super::dapr::proto::runtime::v1::actor_runtime::ActorRuntimeStatus;
use crate::api::app_calls::{
    FailurePolicy, HostState, NamedReminder, Overwrite, Registration, ReminderView, RuntimeStatus,
    StateOp, StateValue, When,
};
use crate::api::app_requests::{self, TTL_METADATA};
use crate::api::dapr::metadata::{go, placement};
use crate::api::error_map::app::{Operation, failed};
use crate::api::sidecar::{
    AppConnection, DAPR_VERSION, Metadata, Sidecar, SubscriptionOrigin, SubscriptionView,
};

/// Metadata of a value that expires.
const TTL_EXPIRE_TIME: &str = "ttlExpireTime";
/// How data of a reminder is wrapped.
const BYTES_VALUE: &str = "type.googleapis.com/google.protobuf.BytesValue";

pub(super) fn state(found: Option<StateValue>) -> pb::GetActorStateResponse {
    let Some(StateValue { value, expires }) = found else {
        return pb::GetActorStateResponse::default();
    };
    let expires = expires.map(|time| (TTL_EXPIRE_TIME.to_owned(), rfc3339(time)));
    pb::GetActorStateResponse {
        data: value,
        metadata: expires.into_iter().collect(),
    }
}

/// All operations, or the first that is none.
pub(super) fn operations(
    given: Vec<pb::TransactionalActorStateOperation>,
) -> Result<Vec<StateOp>, Status> {
    let refused = |why: String| failed(Operation::StateTransaction, &why).into_status();
    app_requests::operation_count(given.len()).map_err(refused)?;
    let mut operations = Vec::with_capacity(given.len());
    for operation in given {
        operations.push(match operation.operation_type.as_str() {
            "upsert" => {
                let value = operation.value.map_or_else(Vec::new, |any| any.value);
                let ttl = operation.metadata.get(TTL_METADATA).map(String::as_str);
                app_requests::upsert(&operation.key, value, ttl).map_err(refused)?
            }
            "delete" => StateOp::Delete {
                key: app_requests::state_key(&operation.key).map_err(refused)?,
            },
            other => {
                let words = format!("operation type {other} not supported");
                return Err(Status::unimplemented(words));
            }
        });
    }
    Ok(operations)
}

/// Bytes become a JSON text in base64, as they reach an application that hears JSON.
fn json_data(data: &Bytes) -> Option<Bytes> {
    let quoted = || format!("\"{}\"", STANDARD.encode(data));
    (!data.is_empty()).then(|| Bytes::from(quoted()))
}

pub(super) fn reminder(asked: pb::RegisterActorReminderRequest) -> Registration {
    Registration {
        data: json_data(&asked.data),
        name: asked.name,
        when: When {
            due_time: asked.due_time,
            period: asked.period,
            ttl: asked.ttl,
        },
    }
}

pub(super) fn timer(asked: pb::RegisterActorTimerRequest) -> Registration {
    Registration {
        data: json_data(&asked.data),
        name: asked.name,
        when: When {
            due_time: asked.due_time,
            period: asked.period,
            ttl: asked.ttl,
        },
    }
}

pub(super) fn overwrite(given: Option<bool>) -> Overwrite {
    match given {
        Some(false) => Overwrite::Refuse,
        Some(true) | None => Overwrite::Replace,
    }
}

pub(super) fn failure_policy(given: Option<common::JobFailurePolicy>) -> Option<FailurePolicy> {
    Some(match given?.policy? {
        Policy::Drop(_) => FailurePolicy::Drop,
        Policy::Constant(constant) => FailurePolicy::Constant {
            interval: constant
                .interval
                .and_then(|interval| Duration::try_from(interval).ok())
                .unwrap_or_default(),
            max_retries: constant.max_retries,
        },
    })
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn any(data: &Bytes) -> prost_types::Any {
    prost_types::Any {
        type_url: BYTES_VALUE.to_owned(),
        // A `BytesValue` is bytes with tag 1, as prost writes plain bytes.
        value: data.to_vec().encode_to_vec(),
    }
}

pub(super) fn reminder_found(view: ReminderView) -> pb::GetActorReminderResponse {
    pb::GetActorReminderResponse {
        actor_type: view.actor_type,
        actor_id: view.actor_id,
        due_time: some(view.due_time),
        period: some(view.period),
        data: view.data.as_ref().map(any),
        ttl: view.expires.map(rfc3339),
    }
}

pub(super) fn reminder_listed(named: NamedReminder) -> pb::NamedActorReminder {
    let view = named.reminder;
    pb::NamedActorReminder {
        name: named.name,
        reminder: Some(pb::ActorReminder {
            actor_type: view.actor_type,
            actor_id: view.actor_id,
            due_time: some(view.due_time),
            period: some(view.period),
            data: view.data.as_ref().map(any),
            ttl: view.expires.map(rfc3339),
        }),
    }
}

pub(super) fn metadata(known: &Sidecar, all: Metadata) -> pb::GetMetadataResponse {
    let actors: Vec<pb::ActiveActorsCount> = all
        .actors
        .into_iter()
        .map(|(kind, count)| pb::ActiveActorsCount {
            r#type: kind,
            count: i32::try_from(count).unwrap_or(i32::MAX),
        })
        .collect();
    let loaded = known.components.all();
    let components = loaded.iter().map(|c| pb::RegisteredComponents {
        name: c.name.clone(),
        r#type: c.kind.clone(),
        version: c.version.clone(),
        capabilities: c.capabilities.iter().map(ToString::to_string).collect(),
    });
    let endpoints = known.http_endpoints.iter();
    let status = match all.hosting.status {
        RuntimeStatus::Initializing => ActorRuntimeStatus::Initializing,
        RuntimeStatus::Disabled => ActorRuntimeStatus::Disabled,
        RuntimeStatus::Running => ActorRuntimeStatus::Running,
    };
    pb::GetMetadataResponse {
        id: all.id,
        active_actors_count: actors.clone(),
        registered_components: components.collect(),
        extended_metadata: all.extended,
        subscriptions: all.subscriptions.into_iter().map(subscription).collect(),
        http_endpoints: endpoints
            .map(|name| pb::MetadataHttpEndpoint { name: name.clone() })
            .collect(),
        app_connection_properties: known.app.as_ref().map(connection),
        runtime_version: DAPR_VERSION.to_owned(),
        enabled_features: known.enabled_features.clone(),
        actor_runtime: Some(pb::ActorRuntime {
            runtime_status: status.into(),
            active_actors: actors,
            host_ready: all.hosting.host == HostState::Ready,
            placement: placement(all.hosting.placement).to_owned(),
        }),
        scheduler: Some(pb::MetadataScheduler::default()),
        workflows: Some(pb::MetadataWorkflows::default()),
    }
}

fn connection(app: &AppConnection) -> pb::AppConnectionProperties {
    pb::AppConnectionProperties {
        port: i32::from(app.port),
        protocol: app.protocol.to_owned(),
        channel_address: app.channel_address.clone(),
        max_concurrency: app
            .max_concurrency
            .map_or(0, |max| i32::try_from(max).unwrap_or(i32::MAX)),
        health: app
            .health
            .as_ref()
            .map(|health| pb::AppConnectionHealthProperties {
                health_check_path: health.path.clone(),
                health_probe_interval: go(health.interval),
                health_probe_timeout: go(health.timeout),
                health_threshold: i32::try_from(health.threshold).unwrap_or(i32::MAX),
            }),
    }
}

fn subscription(of: SubscriptionView) -> pb::PubsubSubscription {
    let rules = of.rules.into_iter();
    let origin = match of.origin {
        SubscriptionOrigin::Declarative => pb::PubsubSubscriptionType::Declarative,
        SubscriptionOrigin::Programmatic => pb::PubsubSubscriptionType::Programmatic,
        SubscriptionOrigin::Streaming => pb::PubsubSubscriptionType::Streaming,
    };
    let metadata: BTreeMap<String, String> = of.metadata;
    pb::PubsubSubscription {
        pubsub_name: of.pubsub,
        topic: of.topic,
        metadata,
        rules: Some(pb::PubsubSubscriptionRules {
            rules: rules
                .map(|(r#match, path)| pb::PubsubSubscriptionRule { r#match, path })
                .collect(),
        }),
        dead_letter_topic: of.dead_letter_topic,
        r#type: origin.into(),
    }
}
