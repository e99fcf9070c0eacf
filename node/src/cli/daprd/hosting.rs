//! What a sidecar says about hosting before and while it is in a cluster.
//!
//! A layer over the way to the application: it knows whether a cluster was named and found, and
//! whether a state store was marked for actors, and answers by itself what Dapr answers in these
//! cases.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures::future::BoxFuture;
use ghostlight_protocol::actor::ActorKey;

use crate::api::app_calls::{
    AppCall, AppCallOutcome, AppCalls, AppRefusal, Calls, HostState, Hosting, PlacementState,
    RemindersCall, RuntimeStatus, Scope,
};

/// How far a sidecar has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// No cluster was named.
    Alone,
    /// It looks for the cluster that was named.
    Searching,
    /// Its node is in the cluster.
    Member,
}

/// Whether actors are switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Actors {
    /// A state store is marked for them.
    Stored,
    /// None is.
    Storeless,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Layer {
    inner: Arc<dyn AppCalls>,
    actors: Actors,
    stage: AtomicU8,
}

impl Layer {
    pub(super) fn new(inner: Arc<dyn AppCalls>, actors: Actors, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            inner,
            actors,
            stage: AtomicU8::new(stage as u8),
        })
    }

    pub(super) fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::SeqCst);
    }

    fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            stage if stage == Stage::Alone as u8 => Stage::Alone,
            stage if stage == Stage::Searching as u8 => Stage::Searching,
            _ => Stage::Member,
        }
    }

    /// What is answered without asking the application.
    fn refusal(&self, what: Asked) -> Option<AppRefusal> {
        match (self.actors, self.stage(), what) {
            (_, Stage::Alone, _) => Some(AppRefusal::NoPlacement),
            (Actors::Storeless, _, Asked::State) => Some(AppRefusal::RuntimeNotFound),
            (Actors::Storeless, _, Asked::Schedule) => Some(AppRefusal::NotHosted),
            (Actors::Storeless, _, Asked::TimerEnd) | (Actors::Stored, _, _) => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    State,
    Schedule,
    /// Fine if there is none, of whatever type.
    TimerEnd,
}

impl AppCalls for Layer {
    fn app_call(&self, actor: ActorKey, call: AppCall) -> BoxFuture<'_, AppCallOutcome> {
        let what = match &call {
            AppCall::StateTransaction(_) | AppCall::StateRefused | AppCall::StateGet { .. } => {
                Asked::State
            }
            AppCall::ReminderRegister { .. }
            | AppCall::ReminderUnregister { .. }
            | AppCall::ReminderGet { .. }
            | AppCall::TimerRegister { .. } => Asked::Schedule,
            AppCall::TimerUnregister { .. } => Asked::TimerEnd,
        };
        match self.refusal(what) {
            Some(refusal) => Box::pin(async { Err(refusal) }),
            None => self.inner.app_call(actor, call),
        }
    }

    fn reminders_call(&self, scope: Scope, call: RemindersCall) -> BoxFuture<'_, AppCallOutcome> {
        match self.refusal(Asked::Schedule) {
            Some(refusal) => Box::pin(async { Err(refusal) }),
            None => self.inner.reminders_call(scope, call),
        }
    }

    fn hosting(&self) -> Hosting {
        let mut hosting = self.inner.hosting();
        match self.stage() {
            Stage::Alone => {
                hosting.status = RuntimeStatus::Disabled;
                hosting.host = HostState::NotReady;
                hosting.placement = PlacementState::Disconnected;
                hosting.types.clear();
            }
            Stage::Searching => {
                hosting.host = HostState::NotReady;
                hosting.placement = PlacementState::Disconnected;
            }
            Stage::Member => {}
        }
        if self.actors == Actors::Storeless {
            hosting.types.clear();
        }
        hosting
    }

    fn calls(&self) -> Calls {
        match self.stage() {
            Stage::Alone => Calls::NoPlacement,
            Stage::Searching | Stage::Member => Calls::Taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::fake::FakeApp;

    #[tokio::test]
    async fn every_stage_answers_as_dapr_does() {
        let key = ActorKey::new("default", "bank", "a").unwrap();
        let get = || AppCall::StateGet { key: "k".into() };
        let end = || AppCall::ReminderUnregister { name: "r".into() };
        let all = || Scope::Actor(key.clone());
        for (actors, stage, state, schedule) in [
            (
                Actors::Stored,
                Stage::Alone,
                Some(AppRefusal::NoPlacement),
                Some(AppRefusal::NoPlacement),
            ),
            (Actors::Stored, Stage::Searching, None, None),
            (Actors::Stored, Stage::Member, None, None),
            (
                Actors::Storeless,
                Stage::Member,
                Some(AppRefusal::RuntimeNotFound),
                Some(AppRefusal::NotHosted),
            ),
        ] {
            let layer = Layer::new(FakeApp::new(), actors, Stage::Searching);
            layer.set(stage);
            let switched_off = layer.calls() == Calls::NoPlacement;
            assert_eq!(switched_off, stage == Stage::Alone, "{stage:?}");
            assert_eq!(
                layer.app_call(key.clone(), get()).await.err(),
                state,
                "{stage:?}"
            );
            assert_eq!(
                layer.app_call(key.clone(), end()).await.err(),
                schedule,
                "{stage:?}"
            );
            let listed = layer.reminders_call(all(), RemindersCall::List).await;
            assert_eq!(listed.err(), schedule, "{stage:?}");
            let timer = AppCall::TimerUnregister { name: "t".into() };
            let alone = (stage == Stage::Alone).then_some(AppRefusal::NoPlacement);
            assert_eq!(
                layer.app_call(key.clone(), timer).await.err(),
                alone,
                "{stage:?}"
            );
        }
        let layer = Layer::new(FakeApp::new(), Actors::Stored, Stage::Searching);
        let hosting = layer.hosting();
        assert_eq!(hosting.placement, PlacementState::Disconnected);
        assert_eq!(
            (hosting.status, hosting.host),
            (RuntimeStatus::Running, HostState::NotReady)
        );
        layer.set(Stage::Alone);
        assert_eq!(layer.hosting().status, RuntimeStatus::Disabled);
        layer.set(Stage::Member);
        assert_eq!(layer.hosting().placement, PlacementState::Connected);
        assert_eq!(layer.hosting().types.len(), 2);
        let storeless = Layer::new(FakeApp::new(), Actors::Storeless, Stage::Member);
        assert!(storeless.hosting().types.is_empty());
    }
}
