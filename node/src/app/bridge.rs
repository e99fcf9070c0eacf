//! Between the core's words for applications and the channel's: queues on one side, futures on the
//! other.
//!
//! Requests of the core are started in order and answered as they end; events of the channel reach
//! pub/sub and the core in order. Absent: any decision. What stands here is translation.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ghostlight_core::hosts::words::{self, AppInput, AppInstance};
use ghostlight_protocol::call::Metadata;
use ghostlight_protocol::command::DataForm;
use ghostlight_protocol::wire::host::Wish;
use tokio::sync::mpsc;

use super::config::HostedType;
use super::{AppAnswer, AppChannel, AppEvent, AppId, AppRequest, Callback, InstanceId, Sent};
use crate::api::app_metadata::QUERY;
use crate::pubsub::PubSub;
use crate::shell::apps::{AppAsk, AppQueues};

const CONTENT_TYPE: &str = "content-type";
const REENTRANCY: &str = "dapr-reentrancy-id";

/// Connects a channel with the core, and with the publishing and subscribing of each application;
/// ends with it.
pub(crate) fn connect(
    channel: AppChannel,
    events: mpsc::Receiver<AppEvent>,
    queues: AppQueues,
    pubsubs: Vec<(AppId, Arc<PubSub>)>,
) {
    let AppQueues { asks, inputs } = queues;
    let reported = report(channel.clone(), events, inputs.clone(), pubsubs);
    drop(tokio::spawn(reported));
    drop(tokio::spawn(ask(channel, asks, inputs)));
}

async fn report(
    channel: AppChannel,
    mut events: mpsc::Receiver<AppEvent>,
    inputs: mpsc::Sender<AppInput>,
    pubsubs: Vec<(AppId, Arc<PubSub>)>,
) {
    while let Some(event) = events.recv().await {
        for (_, pubsub) in pubsubs.iter().filter(|(app, _)| app == event.app()) {
            pubsub.heard(&channel, &event);
        }
        if inputs.send(input(event)).await.is_err() {
            // The node has ended.
            return;
        }
    }
}

async fn ask(
    channel: AppChannel,
    mut asks: mpsc::Receiver<AppAsk>,
    inputs: mpsc::Sender<AppInput>,
) {
    while let Some(AppAsk {
        exchange,
        instance,
        request,
    }) = asks.recv().await
    {
        let (channel, inputs) = (channel.clone(), inputs.clone());
        drop(tokio::spawn(async move {
            let answer = channel
                .send(InstanceId(instance.0), request_of(request))
                .await;
            let answer = answer_of(answer);
            // Nobody hears it when the node has ended.
            drop(inputs.send(AppInput::Answered { exchange, answer }).await);
        }));
    }
    channel.end();
}

fn input(event: AppEvent) -> AppInput {
    match event {
        AppEvent::Hosting {
            app,
            instance,
            types,
            // For pub/sub, which has heard it.
            subscriptions: _,
            objects,
            living,
        } => AppInput::Hosting {
            app: app.as_str().to_owned(),
            instance: AppInstance(instance.0),
            types: types.into_iter().map(type_of).collect(),
            objects,
            living: living.into_iter().map(|i| AppInstance(i.0)).collect(),
        },
        AppEvent::Gone { app, instance, why } => AppInput::Gone {
            app: app.as_str().to_owned(),
            instance: AppInstance(instance.0),
            why,
        },
    }
}

fn type_of(hosted: HostedType) -> words::AppType {
    words::AppType {
        name: hosted.name,
        idle: hosted.idle_timeout,
        drain: hosted.drain_timeout,
        drains: if hosted.drain_rebalanced {
            words::Drains::Yes
        } else {
            words::Drains::No
        },
        depth: hosted
            .reentrancy
            .map_or(words::Reentrancy::Off, words::Reentrancy::Depth),
    }
}

fn request_of(request: words::AppRequest) -> AppRequest {
    let mut headers = Vec::with_capacity(request.metadata.len());
    let (mut query, mut content_type, mut reentrancy_id) = (String::new(), None, None);
    for Metadata { name, value } in request.metadata {
        match name.as_str() {
            QUERY => query = value,
            CONTENT_TYPE => content_type = Some(value),
            REENTRANCY => reentrancy_id = Some(value),
            _ => headers.push((name, value)),
        }
    }
    let callback = match request.callback {
        words::Callback::Method { method, body } => Callback::Method {
            method,
            query,
            headers,
            content_type,
            body,
        },
        words::Callback::Reminder { name, data, form } => Callback::Reminder {
            name,
            data: data.map(|data| json(data, form)),
        },
        words::Callback::Timer {
            name,
            callback,
            data,
            form,
            due_time,
            period,
        } => Callback::Timer {
            name,
            callback,
            data: data.map(|data| json(data, form)),
            due_time,
            period,
        },
        words::Callback::Deactivate => Callback::Deactivate,
    };
    AppRequest {
        actor: request.actor,
        reentrancy_id,
        turn: request.turn,
        callback,
    }
}

/// Data as an application gets it: bytes as a base64 JSON string.
fn json(data: Bytes, form: DataForm) -> Bytes {
    match form {
        DataForm::Json => data,
        DataForm::Bytes => Bytes::from(format!("\"{}\"", STANDARD.encode(&data))),
    }
}

fn answer_of(answer: AppAnswer) -> words::AppAnswer {
    match answer {
        AppAnswer::Answered(answered) => {
            let kind = if answered.status == 200 && answered.is_actor_error() {
                words::AnswerKind::ActorError
            } else {
                words::AnswerKind::Plain
            };
            let wish = if answered.cancels() {
                Wish::Ends
            } else {
                Wish::GoesOn
            };
            let headers = answered.headers.into_iter();
            let headers = headers.map(|(name, value)| Metadata { name, value });
            words::AppAnswer::Answered {
                status: answered.status,
                headers: headers.collect(),
                body: answered.body,
                kind,
                wish,
            }
        }
        AppAnswer::NoAnswer { why, sent } => words::AppAnswer::NoAnswer {
            why,
            sent: match sent {
                Sent::CertainlyNot => words::Sent::CertainlyNot,
                Sent::Maybe => words::Sent::Maybe,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use ghostlight_protocol::actor::ActorKey;

    use super::*;
    use crate::app::Answered;

    fn asked(callback: words::Callback) -> words::AppRequest {
        let metadata = [
            (":query", "a=1"),
            ("content-type", "text/xml"),
            ("dapr-reentrancy-id", "r"),
            ("traceparent", "00-1-2-01"),
        ];
        words::AppRequest {
            actor: ActorKey::new("default", "T", "a").unwrap(),
            callback,
            metadata: metadata
                .map(|(name, value)| Metadata {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
                .to_vec(),
            turn: Some("t".to_owned()),
        }
    }

    #[test]
    fn what_travels_beside_a_body_finds_its_place() {
        let method = words::Callback::Method {
            method: "add".to_owned(),
            body: Bytes::from_static(b"1"),
        };
        let request = request_of(asked(method));
        assert_eq!(request.reentrancy_id.as_deref(), Some("r"));
        assert_eq!(request.turn.as_deref(), Some("t"));
        let wanted = Callback::Method {
            method: "add".to_owned(),
            query: "a=1".to_owned(),
            headers: vec![("traceparent".to_owned(), "00-1-2-01".to_owned())],
            content_type: Some("text/xml".to_owned()),
            body: Bytes::from_static(b"1"),
        };
        assert_eq!(request.callback, wanted);
    }

    #[test]
    fn data_reaches_an_application_as_json() {
        for (form, given, wanted) in [
            (DataForm::Json, "{\"a\": 1}", "{\"a\": 1}"),
            (DataForm::Bytes, "mydata", "\"bXlkYXRh\""),
            (DataForm::Bytes, "", "\"\""),
        ] {
            let data = Some(Bytes::from_static(given.as_bytes()));
            let name = "wake".to_owned();
            let reminder = words::Callback::Reminder { name, data, form };
            let data = match request_of(asked(reminder)).callback {
                Callback::Reminder { data, .. } => data.unwrap(),
                other => panic!("{other:?}"),
            };
            assert_eq!(&data[..], wanted.as_bytes(), "{form:?}");
        }
    }

    #[test]
    fn answers_say_what_their_headers_say() {
        use words::AnswerKind::{ActorError, Plain};
        for (status, header, kind, wish) in [
            (200, "x-other", Plain, Wish::GoesOn),
            (200, "x-daprerrorresponseheader", ActorError, Wish::GoesOn),
            // Only with 200 it is an error of the actor's own making.
            (500, "x-daprerrorresponseheader", Plain, Wish::GoesOn),
            (200, "x-daprremindercancel", Plain, Wish::Ends),
            (500, "x-daprremindercancel", Plain, Wish::Ends),
        ] {
            let answer = answer_of(AppAnswer::Answered(Answered {
                status,
                headers: vec![(header.to_owned(), "true".to_owned())],
                body: Bytes::new(),
            }));
            let words::AppAnswer::Answered {
                kind: found,
                wish: wished,
                headers,
                ..
            } = answer
            else {
                panic!()
            };
            assert_eq!((found, wished), (kind, wish), "{status} {header}");
            assert_eq!(headers.len(), 1);
        }
    }
}
