//! The subscriptions of the applications beside a node: begun when an application is there, ended with it.
//!
//! Each runs in a task of its own, which subscribes again when the bus ends it. A subscription that cannot be (a rule
//! that does not compile, a topic that is not allowed) is told in the log, by file and rule, and left out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

use super::PubSub;
use super::batches;
use super::http_target::HttpTarget;
use super::line::Line;
use super::registry::Owner;
use super::target::Target;
use super::wanted::{Wanted, merged, parse};
use crate::api::sidecar::SubscriptionView;
use crate::app::{AppChannel, AppEvent};
use crate::topics;

/// What runs for one application.
#[derive(Debug, Default)]
struct App {
    declared: Vec<Wanted>,
    /// What it said itself; `None`: it is not there.
    said: Option<Vec<Wanted>>,
    running: Vec<Running>,
}

/// A task that ends with its handle.
#[derive(Debug)]
pub(super) struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The subscriptions of all applications here, by app-id, and those that came by a stream.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    apps: Mutex<BTreeMap<String, App>>,
    streaming: Mutex<BTreeMap<u64, SubscriptionView>>,
}

impl Subscriptions {
    fn apps(&self) -> MutexGuard<'_, BTreeMap<String, App>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn streaming(&self) -> MutexGuard<'_, BTreeMap<u64, SubscriptionView>> {
        self.streaming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl PubSub {
    /// Says which subscriptions of an application are declared in files.
    pub fn declare(&self, app_id: &str, declared: Vec<Wanted>) {
        let mut apps = self.subscriptions.apps();
        apps.entry(app_id.to_owned()).or_default().declared = declared;
    }

    /// An application is there, and has said what it wants itself: all its subscriptions begin. Those that ran end.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn app_ready(&self, app_id: &str, said: Vec<Wanted>, target: &Arc<dyn Target>) {
        let mut apps = self.subscriptions.apps();
        let app = apps.entry(app_id.to_owned()).or_default();
        app.running.clear();
        let owner = Owner {
            app_id: app_id.to_owned(),
            ..self.owner.clone()
        };
        for wanted in merged(&app.declared, &said) {
            match self.line(&owner, wanted, target) {
                Ok(line) => app.running.push(spawn(line)),
                Err(why) => tracing::error!(app = app_id, "no subscription: {why}"),
            }
        }
        tracing::info!(
            app = app_id,
            subscriptions = app.running.len(),
            "an application is subscribed"
        );
        app.said = Some(said);
    }

    /// An application is gone: its subscriptions end.
    pub fn app_gone(&self, app_id: &str) {
        if let Some(app) = self.subscriptions.apps().get_mut(app_id) {
            app.running.clear();
            app.said = None;
        }
    }

    /// Takes in what the channel to the applications reports.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn heard(&self, channel: &AppChannel, event: &AppEvent) {
        match event {
            AppEvent::Hosting {
                app,
                instance,
                subscriptions,
                types: _,
                objects: _,
                living: _,
            } => {
                let said = parse(subscriptions, app.as_str()).unwrap_or_else(|why| {
                    tracing::error!(
                        %app,
                        "the application's answer to GET /dapr/subscribe cannot be read, and it gets what is                          declared in files alone: {why}"
                    );
                    Vec::new()
                });
                let target: Arc<dyn Target> = Arc::new(HttpTarget::new(channel.clone(), *instance));
                self.app_ready(app.as_str(), said, &target);
            }
            AppEvent::Gone { app, .. } => self.app_gone(app.as_str()),
        }
    }

    /// Ends everything: the node is ending.
    pub fn close(&self) {
        self.subscriptions.apps().clear();
    }

    /// All subscriptions, as metadata shows them.
    #[must_use]
    pub fn views(&self) -> Vec<SubscriptionView> {
        let apps = self.subscriptions.apps();
        let mut views = Vec::new();
        for app in apps.values() {
            let said = app.said.as_deref().unwrap_or_default();
            views.extend(merged(&app.declared, said).iter().map(Wanted::view));
        }
        drop(apps);
        views.extend(self.subscriptions.streaming().values().cloned());
        views
    }

    /// Checks a subscription.
    pub(super) fn line(
        &self,
        owner: &Owner,
        wanted: Wanted,
        target: &Arc<dyn Target>,
    ) -> Result<Line, String> {
        let Some(component) = self.registry.get(&wanted.pubsub) else {
            return Err(format!(
                "{}: pubsub {} is not found",
                wanted.place, wanted.pubsub
            ));
        };
        Line::new(owner, Arc::clone(component), wanted, Arc::clone(target))
    }
}

fn spawn(line: Line) -> Running {
    let line = Arc::new(line);
    Running(tokio::spawn(async move { keep(&line).await }))
}

/// Handles events of a subscription, whenever there is one.
async fn keep(line: &Arc<Line>) {
    let wanted = line.subscribe();
    let run = async |subscription| match line.wanted.bulk {
        Some(bulk) if line.is_for_application() => batches::run(line, bulk, subscription).await,
        Some(_) | None => line.run(subscription).await,
    };
    topics::keep(&*line.component.bus, &wanted, run).await;
}
