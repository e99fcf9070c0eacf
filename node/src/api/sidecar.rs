//! What a sidecar says about itself: Dapr's metadata, one model for both transports.
//!
//! Fixed with the start: features, the connection to the application. Components change with their
//! files. Asked anew each time: hosted types and active actors, which the way to the application
//! and the node's core know.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ghostlight_core::admin::{AdminAnswer, AdminRequest};

use super::Context;
use super::app_calls::Hosting;
use crate::app::settings::AppSettings;
use crate::pubsub::PubSub;
use crate::resources::Resources;

/// The version of Dapr whose API is spoken; SDKs and tools read it.
pub const DAPR_VERSION: &str = "1.18.3";

/// What is known about a sidecar from its start on.
#[derive(Debug, Default)]
pub struct Sidecar {
    /// Names of features that are switched on.
    pub enabled_features: Vec<String>,
    /// Loaded components.
    pub components: Components,
    /// Names of loaded HTTP endpoints.
    pub http_endpoints: Vec<String>,
    /// How the application is reached; `None`: there is none.
    pub app: Option<AppConnection>,
}

/// The components that are loaded at the moment.
#[derive(Debug, Default)]
pub struct Components(Mutex<Arc<[ComponentView]>>);

impl Components {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> Arc<[ComponentView]> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Others are loaded from now on.
    pub fn set(&self, components: Vec<ComponentView>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = components.into();
    }
}

impl From<Vec<ComponentView>> for Components {
    fn from(components: Vec<ComponentView>) -> Self {
        Self(Mutex::new(components.into()))
    }
}

/// A component as metadata shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ComponentView {
    /// Its name.
    pub name: String,
    /// Its type, such as `state.redis`.
    pub kind: String,
    /// Its version, such as `v1`.
    pub version: String,
    /// What it can do, such as `ETAG`.
    pub capabilities: Vec<&'static str>,
}

/// The components of these resources as metadata shows them. Pub/sub components without YAML are
/// among them.
#[must_use]
pub fn components(resources: &Resources, pubsub: &PubSub) -> Vec<ComponentView> {
    let declared = &resources.components;
    let views = declared.iter().map(|component| ComponentView {
        name: component.name.clone(),
        kind: component.kind.clone(),
        version: component.version.clone(),
        capabilities: match component.is_actor_state_store() {
            true => vec!["ETAG", "TRANSACTIONAL", "TTL", "ACTOR"],
            false => Vec::new(),
        },
    });
    let mut views: Vec<ComponentView> = views.collect();
    let registry = pubsub.registry();
    for component in registry.all() {
        let known = views.iter_mut().find(|view| view.name == component.name);
        let capabilities = component.capabilities();
        match known {
            Some(view) => view.capabilities = capabilities,
            None => views.push(ComponentView {
                name: component.name.clone(),
                kind: component.kind.clone(),
                version: component.version.clone(),
                capabilities,
            }),
        }
    }
    views
}

/// How an application is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppConnection {
    /// Its port.
    pub port: u16,
    /// `http`, `https`, `h2c`, `grpc` or `grpcs`.
    pub protocol: &'static str,
    /// Its host.
    pub channel_address: String,
    /// Requests at a time; `None`: no limit.
    pub max_concurrency: Option<u32>,
    /// Its health probes; `None`: there are none.
    pub health: Option<AppHealth>,
}

/// Health probes as metadata shows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppHealth {
    /// Path of the probe; empty over gRPC.
    pub path: String,
    /// Time between probes.
    pub interval: std::time::Duration,
    /// Time for an answer.
    pub timeout: std::time::Duration,
    /// Failures in a row.
    pub threshold: u32,
}

/// How an application of a node is reached; `None`: it comes by a stream.
#[must_use]
pub fn connection(app: &AppSettings) -> Option<AppConnection> {
    let address = app.address.as_ref()?;
    let concurrency = app.concurrency.map(std::num::NonZeroUsize::get);
    Some(AppConnection {
        port: address.port,
        protocol: app.protocol.as_str(),
        channel_address: address.host.clone(),
        max_concurrency: concurrency.and_then(|limit| u32::try_from(limit).ok()),
        health: app.health.as_ref().map(|probes| AppHealth {
            path: match app.protocol.is_grpc() {
                true => String::new(),
                false => probes.path.clone(),
            },
            interval: probes.interval,
            timeout: probes.timeout,
            threshold: probes.threshold,
        }),
    })
}

/// Who made a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubscriptionOrigin {
    /// A file.
    Declarative,
    /// The application, when it was asked.
    Programmatic,
    /// The application, by a stream.
    Streaming,
}

/// A subscription as metadata shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionView {
    /// Name of the component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Expression and path, in order; the default last.
    pub rules: Vec<(String, String)>,
    /// Where dead letters go; empty: nowhere.
    pub dead_letter_topic: String,
    /// Who made it.
    pub origin: SubscriptionOrigin,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The app-id, or the node's name.
    pub id: String,
    /// Hosted types with active actors, in order of their names.
    pub actors: Vec<(String, u32)>,
    /// What was written down about this process.
    pub extended: BTreeMap<String, String>,
    /// Subscriptions.
    pub subscriptions: Vec<SubscriptionView>,
    /// How far hosting has come.
    pub hosting: Hosting,
}

/// Gathers it. Native actors are counted with those of the application.
pub async fn gather(context: &Context) -> Metadata {
    let hosting = context.calls.hosting();
    let native = context.actor_types.iter().map(|name| (name.clone(), 0));
    let mut counts: BTreeMap<String, u32> = native.chain(hosting.types.iter().cloned()).collect();
    if let AdminAnswer::Actors(actors) = context.handle.admin(AdminRequest::Actors).await {
        for actor in actors {
            let actor_type = actor.actor.split('/').next().unwrap_or_default();
            if context
                .actor_types
                .iter()
                .any(|native| native == actor_type)
            {
                *counts.entry(actor_type.to_owned()).or_default() += 1;
            }
        }
    }
    if let AdminAnswer::Hosted(hosted) = context.handle.admin(AdminRequest::Hosted).await {
        for (actor_type, active) in hosted {
            // Of another application of this node, or of one that is gone.
            if let Some(count) = counts.get_mut(&actor_type) {
                *count += active;
            }
        }
    }
    let mut extended = context.extended.all();
    extended.insert("daprRuntimeVersion".to_owned(), DAPR_VERSION.to_owned());
    let ours = env!("CARGO_PKG_VERSION").to_owned();
    extended.insert("ghostlightVersion".to_owned(), ours);
    Metadata {
        id: context.name.clone(),
        actors: counts.into_iter().collect(),
        extended,
        subscriptions: context.pubsub.views(),
        hosting,
    }
}
