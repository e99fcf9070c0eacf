//! `PublishEvent` and `BulkPublishEvent`: the same publishes as over HTTP.

use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::dapr::proto::runtime::v1 as pb;
use crate::api::dapr::request_id;
use crate::api::error_map::Answer;
use crate::api::error_map::pubsub::{Asked, entry_text, publish_error};
use crate::api::resilience::Transport;
use crate::api::{Context, joining, metrics};
use crate::pubsub::bulk_publish::Entry;
use crate::pubsub::envelope::Body;
use crate::pubsub::metadata::Metadata;
use crate::pubsub::publish::{Beside, PublishError};

pub(super) async fn publish(
    context: &Context,
    request: Request<pb::PublishEventRequest>,
) -> Result<Response<()>, Status> {
    let (head, _, asked) = request.into_parts();
    let refuse = |error| refuse(context, &asked.pubsub_name, &asked.topic, error);
    let pubsub = &context.pubsub;
    let component = pubsub
        .find(&asked.pubsub_name, &asked.topic)
        .map_err(refuse)?;
    let (beside, turn) = beside(head, asked.metadata.clone())?;
    let body = Body {
        data: &asked.data,
        content_type: &asked.data_content_type,
    };
    match turn {
        None => {
            let published = pubsub.publish(&component, &asked.topic, body, beside);
            published.await.map_err(refuse)?;
        }
        Some(turn) => {
            let message = pubsub.message(&component, &asked.topic, body, &beside);
            let message = message.map_err(refuse)?;
            let sent = context.send_with(turn, vec![message]);
            sent.await.map_err(refuse)?;
        }
    }
    Ok(Response::new(()))
}

pub(super) async fn bulk_publish(
    context: &Context,
    request: Request<pb::BulkPublishRequest>,
) -> Result<Response<pb::BulkPublishResponse>, Status> {
    let (head, _, asked) = request.into_parts();
    let pb::BulkPublishRequest {
        pubsub_name,
        topic,
        entries,
        metadata,
    } = asked;
    let refuse = |error| refuse(context, &pubsub_name, &topic, error);
    let pubsub = &context.pubsub;
    let component = pubsub.find(&pubsub_name, &topic).map_err(refuse)?;
    let (beside, turn) = beside(head, metadata)?;
    let entries = entries.into_iter().map(|entry| Entry {
        id: entry.entry_id,
        data: entry.event,
        content_type: entry.content_type,
        metadata: entry.metadata,
    });
    let entries = entries.collect();
    let failed = match turn {
        None => {
            let published = pubsub.bulk_publish(&component, &topic, entries, &beside);
            published.await.map_err(refuse)?
        }
        Some(turn) => {
            let messages = pubsub.messages(&component, &topic, entries, &beside);
            let sent = context.send_with(turn, messages.map_err(refuse)?);
            sent.await.map_err(refuse)?;
            Vec::new()
        }
    };
    let failed = failed
        .into_iter()
        .map(|failed| pb::BulkPublishResponseFailedEntry {
            entry_id: failed.id,
            error: entry_text(&failed.error),
        });
    Ok(Response::new(pb::BulkPublishResponse {
        failed_entries: failed.collect(),
    }))
}

fn refuse(context: &Context, pubsub: &str, topic: &str, error: PublishError) -> Status {
    let asked = Asked {
        pubsub,
        topic,
        app_id: context.pubsub.app_id(),
    };
    let answer = publish_error(asked, error);
    metrics::refused(answer.reason());
    answer.into_status()
}

fn beside(head: MetadataMap, metadata: Metadata) -> Result<(Beside, Option<String>), Status> {
    let headers = head.into_headers();
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let dedup = request_id(&headers).map_err(Answer::into_status)?;
    let turn = joining::token(&headers, dedup.as_ref()).map_err(Answer::into_status)?;
    let beside = Beside {
        metadata,
        trace_parent: text("traceparent"),
        trace_state: text("tracestate"),
        dedup,
        over: Transport::Grpc,
    };
    Ok((beside, turn))
}
