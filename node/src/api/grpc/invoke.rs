//! `InvokeActor`: the same call as over HTTP, with what gRPC calls its metadata and its deadline.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ghostlight_protocol::actor::clean_method;
use ghostlight_protocol::outcome::CallOutcome;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use tonic::{Request, Response, Status};

use super::dapr::proto::runtime::v1::{InvokeActorRequest, InvokeActorResponse};
use crate::api::dapr::{deadline, in_daprs_words, outcome_label, request_id};
use crate::api::error_map::{self, Answer};
use crate::api::resilience::Transport;
use crate::api::{Context, app_metadata, app_requests, joining, metrics};
use crate::handle::Invoke;

/// gRPC's own deadline.
const TIMEOUT_HEADER: &str = "grpc-timeout";

pub(super) async fn invoke(
    context: &Context,
    request: Request<InvokeActorRequest>,
) -> Result<Response<InvokeActorResponse>, Status> {
    let began = Instant::now();
    let (metadata, _, asked) = request.into_parts();
    let headers = merged(metadata.into_headers(), &asked.metadata);
    let (actor_type, actor_id) = (asked.actor_type.clone(), asked.actor_id.clone());
    let (call, turn) = match call(context, asked, &headers) {
        Ok(asked) => asked,
        Err(refusal) => {
            metrics::refused("invalid");
            return Err(refusal.into_status());
        }
    };
    let method = call.method.clone();
    let outcome = context.invoke(call, turn, Transport::Grpc).await;
    let outcome = outcome.map_err(Answer::into_status)?;
    metrics::answered(outcome_label(&outcome), began.elapsed());
    let refusal = match outcome {
        CallOutcome::Reply(data) => return Ok(Response::new(InvokeActorResponse { data })),
        CallOutcome::AppReply(reply) => {
            return Ok(Response::new(InvokeActorResponse { data: reply.body }));
        }
        CallOutcome::App(error) => error_map::app_error(error),
        CallOutcome::NotRun(refusal) => {
            error_map::not_run(in_daprs_words(refusal, &actor_type, &actor_id, &method))
        }
        CallOutcome::Unknown { code, detail } => error_map::unknown(code, detail),
    };
    Err(refusal.into_status())
}

fn call(
    context: &Context,
    asked: InvokeActorRequest,
    headers: &HeaderMap,
) -> Result<(Invoke, Option<String>), Answer> {
    let actor = app_requests::actor(&context.namespace, &asked.actor_type, &asked.actor_id)?;
    let method =
        clean_method(&asked.method).map_err(|error| Answer::of(error.code, error.to_string()))?;
    let timeout = match deadline(headers)? {
        Some(timeout) => Some(timeout),
        None => grpc_timeout(headers),
    };
    let request_id = request_id(headers)?;
    let turn = joining::token(headers, request_id.as_ref())?;
    let call = Invoke {
        actor,
        method,
        body: asked.data,
        request_id,
        timeout,
        metadata: app_metadata::of_headers(headers),
    };
    Ok((call, turn))
}

/// Java and Go put what belongs to the call into the message, others into gRPC's metadata. The
/// message wins.
fn merged(mut headers: HeaderMap, metadata: &BTreeMap<String, String>) -> HeaderMap {
    for (name, value) in metadata {
        let named = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (named, HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    headers
}

/// `100m`: at most eight digits and a unit. One that cannot be read is none.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_of_grpc() {
        for (text, expected) in [
            ("100m", Some(Duration::from_millis(100))),
            ("2S", Some(Duration::from_secs(2))),
            ("3M", Some(Duration::from_secs(180))),
            ("1H", Some(Duration::from_secs(3_600))),
            ("5u", Some(Duration::from_micros(5))),
            ("5n", Some(Duration::from_nanos(5))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("5", None),
            ("5d", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT_HEADER, HeaderValue::from_str(text).unwrap());
            assert_eq!(grpc_timeout(&headers), expected, "{text}");
        }
        assert_eq!(grpc_timeout(&HeaderMap::new()), None);
    }
}
