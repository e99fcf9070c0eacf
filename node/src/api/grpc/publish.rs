//! `PublishEvent` and `BulkPublishEvent`: the same publishes as over HTTP.

use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::dapr::proto::runtime::v1 as pb;
use crate::api::dapr::request_id;
use crate::api::error_map::Answer;
use crate::api::error_map::pubsub::{Asked, entry_text, publish_error};
use crate::api::resilience::Transport;
use crate::api::{Context, metrics};
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
    let beside = beside(head, asked.metadata.clone())?;
    let body = Body {
        data: &asked.data,
        content_type: &asked.data_content_type,
    };
    let published = pubsub.publish(&component, &asked.topic, body, beside);
    published.await.map_err(refuse)?;
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
    let beside = beside(head, metadata)?;
    let entries = entries.into_iter().map(|entry| Entry {
        id: entry.entry_id,
        data: entry.event,
        content_type: entry.content_type,
        metadata: entry.metadata,
    });
    let published = pubsub.bulk_publish(&component, &topic, entries.collect(), &beside);
    let failed = published.await.map_err(refuse)?;
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

fn beside(head: MetadataMap, metadata: Metadata) -> Result<Beside, Status> {
    let headers = head.into_headers();
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Ok(Beside {
        metadata,
        trace_parent: text("traceparent"),
        trace_state: text("tracestate"),
        dedup: request_id(&headers).map_err(Answer::into_status)?,
        over: Transport::Grpc,
    })
}
