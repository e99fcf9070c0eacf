//! Between the core's words for applications and the channel's: queues on one side, futures on the other.
//!
//! Requests of the core are started in order and answered as they end; events of the channel reach the core in order.
//! Absent: any decision. What stands here is translation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ghostlight_core::hosts::words::{self, AppInput, AppInstance};
use ghostlight_protocol::call::Metadata;
use ghostlight_protocol::command::DataForm;
use ghostlight_protocol::wire::host::Wish;
use tokio::sync::mpsc;

use super::config::HostedType;
use super::{AppAnswer, AppChannel, AppEvent, AppRequest, Callback, InstanceId, Sent};
use crate::api::app_metadata::QUERY;
use crate::shell::apps::{AppAsk, AppQueues};

const CONTENT_TYPE: &str = "content-type";
const REENTRANCY: &str = "dapr-reentrancy-id";

/// Connects a channel with the core; ends with it.
pub(crate) fn connect(channel: AppChannel, events: mpsc::Receiver<AppEvent>, queues: AppQueues) {
    let AppQueues { asks, inputs } = queues;
    drop(tokio::spawn(report(events, inputs.clone())));
    drop(tokio::spawn(ask(channel, asks, inputs)));
}

async fn report(mut events: mpsc::Receiver<AppEvent>, inputs: mpsc::Sender<AppInput>) {
    while let Some(event) = events.recv().await {
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
            // For topics, which ask nothing of the core.
            subscriptions: _,
        } => AppInput::Hosting {
            app: app.as_str().to_owned(),
            instance: AppInstance(instance.0),
            types: types.into_iter().map(type_of).collect(),
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
