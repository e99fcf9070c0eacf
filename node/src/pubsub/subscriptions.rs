//! The subscriptions of the applications beside a node: begun when an application is there, ended
//! with it.
//!
//! Other files (`PubSub::reload`) begin and end those that they are about, and touch no other. Each
//! runs in a task of its own, which subscribes again when the bus ends it. A subscription that
//! cannot be (a rule that does not compile, a topic that is not allowed) is told in the log, by
//! file and rule, and left out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::PubSub;
use super::batches;
use super::http_target::HttpTarget;
use super::line::Line;
use super::registry::{Component, Owner, Registry};
use super::stop::{self, Stop, Stopper};
use super::target::Target;
use super::wanted::{Wanted, merged, parse};
use crate::api::sidecar::SubscriptionView;
use crate::app::{AppChannel, AppEvent};
use crate::topics;

/// What runs for one application.
#[derive(Debug, Default)]
struct App {
    declared: Vec<Wanted>,
    /// `None`: it is not there.
    ready: Option<Ready>,
    running: Vec<Running>,
}

/// An application that is there.
#[derive(Debug)]
struct Ready {
    /// What it said itself.
    said: Vec<Wanted>,
    target: Arc<dyn Target>,
}

/// A task that ends after its handle has gone: what its application has begun comes to an end
/// first.
#[derive(Debug)]
struct Running {
    wanted: Wanted,
    component: Arc<Component>,
    _ends_the_task: Stopper,
}

/// The subscriptions of all applications here, by app-id, and those that came by a stream.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    apps: Mutex<BTreeMap<String, App>>,
    /// Nothing begins any more.
    is_closed: AtomicBool,
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

    /// An application is there, and has said what it wants itself: all its subscriptions begin.
    /// Those that ran end.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn app_ready(&self, app_id: &str, said: Vec<Wanted>, target: &Arc<dyn Target>) {
        let mut apps = self.subscriptions.apps();
        let app = apps.entry(app_id.to_owned()).or_default();
        app.running.clear();
        app.ready = Some(Ready {
            said: with_routes(app_id, said),
            target: Arc::clone(target),
        });
        self.settle(app_id, app);
        match app.running.len() {
            0 => tracing::info!(app = app_id, "an application has no subscriptions"),
            subscriptions => {
                tracing::info!(app = app_id, subscriptions, "an application is subscribed");
            }
        }
    }

    /// Other subscriptions of these applications are declared, and other components are there: what
    /// runs follows. How many began, and how many ended.
    pub(super) fn follow(&self, declared: Vec<(String, Vec<Wanted>)>) -> (usize, usize) {
        let mut apps = self.subscriptions.apps();
        for (app_id, declared) in declared {
            apps.entry(app_id).or_default().declared = declared;
        }
        let settled = apps
            .iter_mut()
            .map(|(app_id, app)| self.settle(app_id, app));
        settled.fold((0, 0), |(begun, ended), (more, over)| {
            (begun + more, ended + over)
        })
    }

    /// Begins what an application wants and does not run, and ends what it does not want any more,
    /// or not of this component. How many of both.
    fn settle(&self, app_id: &str, app: &mut App) -> (usize, usize) {
        let Some(Ready { said, target }) = &app.ready else {
            return (0, 0);
        };
        if self.subscriptions.is_closed.load(Ordering::SeqCst) {
            return (0, 0);
        }
        let owner = Owner {
            app_id: app_id.to_owned(),
            ..self.owner.clone()
        };
        let registry = self.registry();
        let mut before = std::mem::take(&mut app.running);
        let mut begun = 0;
        for wanted in merged(&app.declared, said) {
            let component = registry.get(&wanted.pubsub);
            let same = |running: &Running| {
                wanted.is_same(&running.wanted)
                    && component.is_some_and(|known| Arc::ptr_eq(known, &running.component))
            };
            if let Some(place) = before.iter().position(same) {
                app.running.push(before.swap_remove(place));
                continue;
            }
            match self.line(&owner, wanted, target) {
                Ok(line) => {
                    begun += 1;
                    app.running.push(spawn(line));
                }
                Err(why) => tracing::error!(app = app_id, "no subscription: {why}"),
            }
        }
        (begun, before.len())
    }

    /// An application is gone: its subscriptions end.
    pub fn app_gone(&self, app_id: &str) {
        if let Some(app) = self.subscriptions.apps().get_mut(app_id) {
            app.running.clear();
            app.ready = None;
        }
    }

    /// Takes in what the channel to the applications reports.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn heard(&self, channel: &AppChannel, event: &AppEvent) {
        // One on gRPC gets its events by a connection of its own: its stream says nothing about
        // them.
        if channel.comes_by_grpc(event.app()) {
            return;
        }
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
                        "the application's answer to GET /dapr/subscribe cannot be read, and it gets what is declared in \
                         files alone: {why}"
                    );
                    Vec::new()
                });
                let target: Arc<dyn Target> = Arc::new(HttpTarget::new(channel.clone(), *instance));
                self.app_ready(app.as_str(), said, &target);
            }
            AppEvent::Gone { app, .. } => self.app_gone(app.as_str()),
        }
    }

    /// Ends everything, and begins nothing any more, whoever comes: the node is ending.
    pub fn close(&self) {
        let mut apps = self.subscriptions.apps();
        self.subscriptions.is_closed.store(true, Ordering::SeqCst);
        apps.clear();
    }

    /// Ends everything that delivers, streams included: the node goes on for a while, and then it
    /// ends.
    pub fn end_deliveries(&self) {
        self.close();
        Registry::default().retire_others(&self.registry());
    }

    /// All subscriptions, as metadata shows them.
    #[must_use]
    pub fn views(&self) -> Vec<SubscriptionView> {
        let apps = self.subscriptions.apps();
        let mut views = Vec::new();
        for app in apps.values() {
            let said = app.ready.as_ref().map(|ready| &ready.said[..]);
            let said = said.unwrap_or_default();
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
        let registry = self.registry();
        let Some(component) = registry.get(&wanted.pubsub) else {
            return Err(format!(
                "{}: pubsub {} is not found",
                wanted.place, wanted.pubsub
            ));
        };
        Line::new(owner, Arc::clone(component), wanted, Arc::clone(target))
    }
}

/// What an application wants of a topic without saying where it goes is left out, as in Dapr: its
/// events wait.
fn with_routes(app_id: &str, mut said: Vec<Wanted>) -> Vec<Wanted> {
    said.retain(|wanted| {
        let routed = wanted.default_path.is_some() || !wanted.rules.is_empty();
        if !routed {
            tracing::warn!(
                app = app_id,
                pubsub = wanted.pubsub,
                topic = wanted.topic,
                "topic has no route, so it is left out of the application's subscriptions"
            );
        }
        routed
    });
    said
}

fn spawn(line: Line) -> Running {
    let (stopper, stop) = stop::pair();
    let running = Running {
        wanted: line.wanted.clone(),
        component: Arc::clone(&line.component),
        _ends_the_task: stopper,
    };
    drop(tokio::spawn(async move { keep(&line, &stop).await }));
    running
}

/// Handles events of a subscription, whenever there is one; when it is to stop, what has begun ends
/// first.
async fn keep(line: &Line, stop: &Stop) {
    let wanted = line.subscribe();
    let busy = tokio::sync::Mutex::new(());
    let run = async |subscription| {
        let _busy = busy.lock().await;
        match line.wanted.bulk {
            Some(bulk) if line.is_for_application() => {
                batches::run(line, bulk, subscription, stop).await;
            }
            Some(_) | None => line.run(subscription, stop).await,
        }
    };
    let ended = async {
        stop.wait().await;
        drop(busy.lock().await);
    };
    tokio::select! {
        () = topics::keep(&*line.component.bus, &wanted, run) => {}
        () = ended => {}
    }
}
