//! The service: every method of Dapr's that is here.

use ghostlight_protocol::schedule::Kind;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::dapr::proto::runtime::v1 as pb;
use super::dapr::proto::runtime::v1::dapr_server;
use super::{host, invoke, publish, topic_stream, wire};
use crate::api::app_calls::{AppCall, AppReply, RemindersCall, Scope};
use crate::api::dapr::metadata::{end_soon, extended_full};
use crate::api::error_map::Answer;
use crate::api::error_map::app::{Operation, failed, refusal, reminder_not_found};
use crate::api::extended::Full;
use crate::api::{Context, Shared, app_requests, metrics, sidecar};

#[derive(Debug)]
pub(super) struct Dapr {
    context: Shared,
}

impl Dapr {
    pub(super) fn new(context: Shared) -> Self {
        Self { context }
    }

    fn context(&self) -> &Context {
        &self.context
    }

    /// One call about one actor, and its refusal in the words of its operation. `call` may look at
    /// the actor.
    async fn ask(
        &self,
        operation: Operation,
        (actor_type, actor_id): (&str, &str),
        name: &str,
        call: impl FnOnce(&ghostlight_protocol::actor::ActorKey) -> Result<AppCall, Answer>,
    ) -> Result<AppReply, Status> {
        let context = self.context();
        let checked = app_requests::actor(&context.namespace, actor_type, actor_id);
        let checked = checked.and_then(|actor| call(&actor).map(|call| (actor, call)));
        let (actor, call) = checked.map_err(refuse)?;
        let outcome = context.app_call(actor, call).await;
        outcome.map_err(|refused| {
            let key = format!("{actor_type}||{actor_id}");
            refusal(operation, &key, name, refused).into_status()
        })
    }

    async fn ask_done(
        &self,
        operation: Operation,
        actor: (&str, &str),
        name: &str,
        call: impl FnOnce(&ghostlight_protocol::actor::ActorKey) -> Result<AppCall, Answer>,
    ) -> Result<Response<()>, Status> {
        match self.ask(operation, actor, name, call).await? {
            AppReply::Done => Ok(Response::new(())),
            other => Err(mismatched(operation, &other)),
        }
    }

    async fn ask_reminders(
        &self,
        operation: Operation,
        actor_type: &str,
        actor_id: Option<&str>,
        call: RemindersCall,
    ) -> Result<AppReply, Status> {
        let context = self.context();
        let namespace = &context.namespace;
        let scope = match actor_id {
            Some(actor_id) => {
                app_requests::actor(namespace, actor_type, actor_id).map(Scope::Actor)
            }
            None => app_requests::actor_type(namespace, actor_type).map(|actor_type| Scope::Type {
                namespace: namespace.clone(),
                actor_type,
            }),
        };
        let scope = scope.map_err(refuse)?;
        let outcome = context.calls.reminders_call(scope, call).await;
        outcome.map_err(|refused| refusal(operation, actor_type, "", refused).into_status())
    }
}

fn refuse(answer: Answer) -> Status {
    metrics::refused(answer.reason());
    answer.into_status()
}

/// An implementation that answers something else than it was asked is our mistake.
fn mismatched(operation: Operation, reply: &AppReply) -> Status {
    debug_assert!(false, "{operation:?} was answered {reply:?}");
    failed(operation, "it was answered by something else than asked").into_status()
}

#[async_trait]
impl dapr_server::Dapr for Dapr {
    async fn publish_event(
        &self,
        request: Request<pb::PublishEventRequest>,
    ) -> Result<Response<()>, Status> {
        publish::publish(self.context(), request).await
    }

    async fn bulk_publish_event(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<Response<pb::BulkPublishResponse>, Status> {
        publish::bulk_publish(self.context(), request).await
    }

    async fn bulk_publish_event_alpha1(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<Response<pb::BulkPublishResponse>, Status> {
        publish::bulk_publish(self.context(), request).await
    }

    type SubscribeTopicEventsAlpha1Stream = topic_stream::Events;

    async fn subscribe_topic_events_alpha1(
        &self,
        request: Request<Streaming<pb::SubscribeTopicEventsRequestAlpha1>>,
    ) -> Result<Response<Self::SubscribeTopicEventsAlpha1Stream>, Status> {
        let pubsub = std::sync::Arc::clone(&self.context().pubsub);
        Ok(Response::new(topic_stream::serve(
            pubsub,
            request.into_inner(),
        )))
    }

    async fn invoke_actor(
        &self,
        request: Request<pb::InvokeActorRequest>,
    ) -> Result<Response<pb::InvokeActorResponse>, Status> {
        invoke::invoke(self.context(), request).await
    }

    async fn get_actor_state(
        &self,
        request: Request<pb::GetActorStateRequest>,
    ) -> Result<Response<pb::GetActorStateResponse>, Status> {
        const OPERATION: Operation = Operation::StateGet;
        let asked = request.into_inner();
        let actor = (asked.actor_type.as_str(), asked.actor_id.as_str());
        let reply = self.ask(OPERATION, actor, "", |_| {
            let key = app_requests::state_key(&asked.key).map_err(|why| failed(OPERATION, &why))?;
            Ok(AppCall::StateGet { key })
        });
        match reply.await? {
            AppReply::State(found) => Ok(Response::new(wire::state(found))),
            other => Err(mismatched(OPERATION, &other)),
        }
    }

    async fn execute_actor_state_transaction(
        &self,
        request: Request<pb::ExecuteActorStateTransactionRequest>,
    ) -> Result<Response<()>, Status> {
        let asked = request.into_inner();
        let actor = (asked.actor_type.as_str(), asked.actor_id.as_str());
        let operations = match wire::operations(asked.operations) {
            Ok(operations) => operations,
            Err(refusal) => {
                let refused = |_: &_| Ok(AppCall::StateRefused);
                // Whatever it says: the refusal stands.
                drop(
                    self.ask(Operation::StateTransaction, actor, "", refused)
                        .await,
                );
                return Err(refusal);
            }
        };
        self.ask_done(Operation::StateTransaction, actor, "", |_| {
            Ok(AppCall::StateTransaction(operations))
        })
        .await
    }

    async fn register_actor_reminder(
        &self,
        request: Request<pb::RegisterActorReminderRequest>,
    ) -> Result<Response<()>, Status> {
        let asked = request.into_inner();
        let names = (asked.actor_type.clone(), asked.actor_id.clone());
        let name = asked.name.clone();
        let actor = (names.0.as_str(), names.1.as_str());
        self.ask_done(Operation::ReminderRegister, actor, &name, |actor| {
            let overwrite = wire::overwrite(asked.overwrite);
            let failure_policy = wire::failure_policy(asked.failure_policy);
            let registration = wire::reminder(asked);
            Ok(AppCall::ReminderRegister {
                registration: app_requests::registration(Kind::Reminder, actor, registration)?,
                overwrite,
                failure_policy,
            })
        })
        .await
    }

    async fn unregister_actor_reminder(
        &self,
        request: Request<pb::UnregisterActorReminderRequest>,
    ) -> Result<Response<()>, Status> {
        let asked = request.into_inner();
        let actor = (asked.actor_type.as_str(), asked.actor_id.as_str());
        let name = asked.name.clone();
        self.ask_done(Operation::ReminderUnregister, actor, &asked.name, |_| {
            Ok(AppCall::ReminderUnregister { name })
        })
        .await
    }

    async fn unregister_actor_reminders_by_type(
        &self,
        request: Request<pb::UnregisterActorRemindersByTypeRequest>,
    ) -> Result<Response<pb::UnregisterActorRemindersByTypeResponse>, Status> {
        const OPERATION: Operation = Operation::ReminderUnregister;
        let asked = request.into_inner();
        let (actor_type, actor_id) = (asked.actor_type.as_str(), asked.actor_id.as_deref());
        let call = RemindersCall::UnregisterAll;
        match self
            .ask_reminders(OPERATION, actor_type, actor_id, call)
            .await?
        {
            AppReply::Done => Ok(Response::new(pb::UnregisterActorRemindersByTypeResponse {})),
            other => Err(mismatched(OPERATION, &other)),
        }
    }

    async fn get_actor_reminder(
        &self,
        request: Request<pb::GetActorReminderRequest>,
    ) -> Result<Response<pb::GetActorReminderResponse>, Status> {
        const OPERATION: Operation = Operation::ReminderGet;
        let asked = request.into_inner();
        let actor = (asked.actor_type.as_str(), asked.actor_id.as_str());
        let name = asked.name.clone();
        let reply = self.ask(OPERATION, actor, &asked.name, |_| {
            Ok(AppCall::ReminderGet { name })
        });
        match reply.await? {
            AppReply::Reminder(Some(view)) => Ok(Response::new(wire::reminder_found(*view))),
            AppReply::Reminder(None) => Err(reminder_not_found(&asked.name).into_status()),
            other => Err(mismatched(OPERATION, &other)),
        }
    }

    async fn list_actor_reminders(
        &self,
        request: Request<pb::ListActorRemindersRequest>,
    ) -> Result<Response<pb::ListActorRemindersResponse>, Status> {
        const OPERATION: Operation = Operation::ReminderGet;
        let asked = request.into_inner();
        let (actor_type, actor_id) = (asked.actor_type.as_str(), asked.actor_id.as_deref());
        let call = RemindersCall::List;
        match self
            .ask_reminders(OPERATION, actor_type, actor_id, call)
            .await?
        {
            AppReply::Reminders(all) => Ok(Response::new(pb::ListActorRemindersResponse {
                reminders: all.into_iter().map(wire::reminder_listed).collect(),
            })),
            other => Err(mismatched(OPERATION, &other)),
        }
    }

    async fn register_actor_timer(
        &self,
        request: Request<pb::RegisterActorTimerRequest>,
    ) -> Result<Response<()>, Status> {
        let mut asked = request.into_inner();
        let names = (asked.actor_type.clone(), asked.actor_id.clone());
        let name = asked.name.clone();
        let actor = (names.0.as_str(), names.1.as_str());
        self.ask_done(Operation::TimerRegister, actor, &name, |actor| {
            let callback = std::mem::take(&mut asked.callback);
            let registration = wire::timer(asked);
            Ok(AppCall::TimerRegister {
                registration: app_requests::registration(Kind::Timer, actor, registration)?,
                callback,
            })
        })
        .await
    }

    async fn unregister_actor_timer(
        &self,
        request: Request<pb::UnregisterActorTimerRequest>,
    ) -> Result<Response<()>, Status> {
        let asked = request.into_inner();
        let actor = (asked.actor_type.as_str(), asked.actor_id.as_str());
        let name = asked.name.clone();
        self.ask_done(Operation::TimerUnregister, actor, &asked.name, |_| {
            Ok(AppCall::TimerUnregister { name })
        })
        .await
    }

    type SubscribeActorEventsAlpha1Stream = host::Said;

    async fn subscribe_actor_events_alpha1(
        &self,
        request: Request<Streaming<pb::SubscribeActorEventsRequestAlpha1>>,
    ) -> Result<Response<Self::SubscribeActorEventsAlpha1Stream>, Status> {
        host::subscribe(self.context(), request).await
    }

    async fn get_metadata(
        &self,
        _request: Request<pb::GetMetadataRequest>,
    ) -> Result<Response<pb::GetMetadataResponse>, Status> {
        let all = sidecar::gather(self.context()).await;
        Ok(Response::new(wire::metadata(&self.context().sidecar, all)))
    }

    async fn set_metadata(
        &self,
        request: Request<pb::SetMetadataRequest>,
    ) -> Result<Response<()>, Status> {
        let asked = request.into_inner();
        match self.context().extended.set(&asked.key, asked.value) {
            Ok(()) => Ok(Response::new(())),
            Err(Full) => Err(refuse(extended_full())),
        }
    }

    async fn shutdown(
        &self,
        _request: Request<pb::ShutdownRequest>,
    ) -> Result<Response<()>, Status> {
        let context = self.context();
        end_soon(context.handle.clone(), context.drain_timeout);
        Ok(Response::new(()))
    }
}
