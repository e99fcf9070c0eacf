//! Dapr's pub/sub: publishing for an application, and delivering to it, over whatever bus a
//! component stands for.
//!
//! [`PubSub`] is that of one application: its components, what it may do with them, and its
//! subscriptions. Both transports come through here, so that they share every rule. In: checked
//! names, bodies, metadata. Out: typed errors that `api::error_map` turns into Dapr's. Absent:
//! durability, order, groups, redelivery, which a bus has or has not; the wire of either transport.

mod actor_route;
mod batches;
pub mod bulk_publish;
pub mod envelope;
pub(crate) mod grpc_app;
pub mod grpc_words;
pub mod http_target;
mod line;
pub mod metadata;
mod options;
pub mod policy;
pub mod publish;
pub mod registry;
pub mod routes;
pub mod scopes;
pub mod shared;
mod stop;
pub mod stream;
mod subscriptions;
pub mod target;
pub mod wanted;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ghostlight_protocol::topic::TopicName;

use crate::clock::wall_now;
use crate::resources::{Resiliency, Resources};
use crate::topics::OwnTopics;
use actor_route::ActorRoute;
use envelope::Stamp;
use publish::PublishError;
use registry::{Component, Owner, Registry};
use routes::Routes;
use scopes::Act;
use shared::Buses;
use subscriptions::Subscriptions;
use wanted::Wanted;

/// The pub/sub of one application.
#[derive(Debug)]
pub struct PubSub {
    owner: Owner,
    registry: Mutex<Arc<Registry>>,
    /// What components are built of, beside their files.
    parts: Parts,
    subscriptions: Subscriptions,
    /// Why changed resources were not taken.
    not_taken: Mutex<Option<String>>,
}

/// What a component is built of, beside its file.
struct Parts {
    resiliency: Vec<Resiliency>,
    ours: OwnTopics,
    buses: Buses,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("resiliency", &self.resiliency)
            .finish_non_exhaustive()
    }
}

/// What became of changed resources.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// Components that are new.
    pub added: Vec<String>,
    /// That are others than before.
    pub changed: Vec<String>,
    /// That are gone.
    pub removed: Vec<String>,
    /// Why components stay what they were.
    pub refused: Vec<String>,
    /// Subscriptions that have begun, those that began again with their component included.
    pub begun: usize,
    /// Subscriptions that have ended.
    pub ended: usize,
}

impl PubSub {
    /// With the components of these resources, and the subscriptions declared in them. `ours` is
    /// the bus of Ghostlight's own topics.
    ///
    /// # Errors
    /// A declared rule does not compile: a sentence that names file and rule.
    pub fn new(owner: Owner, resources: &Resources, ours: &OwnTopics) -> Result<Self, String> {
        Self::sharing(owner, resources, ours, &Buses::default())
    }

    /// The same, with buses that other applications of this process share.
    ///
    /// # Errors
    /// As [`PubSub::new`].
    pub fn sharing(
        owner: Owner,
        resources: &Resources,
        ours: &OwnTopics,
        buses: &Buses,
    ) -> Result<Self, String> {
        let declared: Vec<Wanted> = resources.subscriptions.iter().map(Wanted::from).collect();
        check(&owner, &declared)?;
        let pubsub = Self {
            registry: Mutex::new(Arc::new(Registry::new(&owner, resources, ours, buses))),
            owner,
            parts: Parts {
                resiliency: resources.resiliency.clone(),
                ours: ours.clone(),
                buses: buses.clone(),
            },
            subscriptions: Subscriptions::default(),
            not_taken: Mutex::default(),
        };
        pubsub.declare(&pubsub.owner.app_id, declared);
        Ok(pubsub)
    }

    /// Goes on with other components, and other declared subscriptions of these applications. What
    /// says the same as before is not touched.
    ///
    /// # Errors
    /// A declared rule does not compile: a sentence that names file and rule. Nothing has changed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn reload(
        &self,
        resources: &Resources,
        declared: Vec<(String, Vec<Wanted>)>,
    ) -> Result<Changes, String> {
        for (_, declared) in &declared {
            check(&self.owner, declared)?;
        }
        let with_policies = Resources {
            components: resources.components.clone(),
            hidden_components: resources.hidden_components.clone(),
            resiliency: self.parts.resiliency.clone(),
            builtin: resources.builtin.clone(),
            ..Resources::default()
        };
        let before = self.registry();
        let Parts { ours, buses, .. } = &self.parts;
        let renewed = before.renewed(&self.owner, &with_policies, ours, buses);
        let now = Arc::new(renewed.registry);
        *lock(&self.registry) = Arc::clone(&now);
        let (begun, ended) = self.follow(declared);
        now.retire_others(&before);
        let [added, changed, removed] = renewed.changes;
        Ok(Changes {
            added,
            changed,
            removed,
            refused: renewed.refused,
            begun,
            ended,
        })
    }

    /// Says why changed resources were not taken; `None`: they were.
    pub fn note_reload(&self, not_taken: Option<String>) {
        *lock(&self.not_taken) = not_taken;
    }

    /// What is not as it should be, each as a sentence.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = self.registry().not_there();
        let not_taken = lock(&self.not_taken).clone();
        troubles.extend(not_taken.map(|why| format!("changed resources are not taken: {why}")));
        troubles
    }

    /// The application.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.owner.app_id
    }

    /// The components of the moment.
    #[must_use]
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&lock(&self.registry))
    }

    /// Finds what a publish names.
    ///
    /// # Errors
    /// A name is missing, or there is no such component.
    pub fn find(&self, pubsub: &str, topic: &str) -> Result<Arc<Component>, PublishError> {
        let registry = self.registry();
        if registry.is_empty() {
            return Err(PublishError::NotConfigured);
        }
        if pubsub.is_empty() {
            return Err(PublishError::NameEmpty);
        }
        let Some(component) = registry.get(pubsub) else {
            return Err(PublishError::NotFound);
        };
        if topic.is_empty() {
            return Err(PublishError::TopicEmpty);
        }
        Ok(Arc::clone(component))
    }

    /// The topic, if the application may publish to it.
    fn allowed(&self, component: &Component, topic: &str) -> Result<TopicName, PublishError> {
        let app_id = &self.owner.app_id;
        if !component.scopes.allow(Act::Publish, app_id, topic) {
            return Err(PublishError::Forbidden {
                app_id: app_id.clone(),
            });
        }
        TopicName::new(&self.owner.namespace, &component.name, topic)
            .map_err(|error| PublishError::Topic(error.to_string()))
    }
}

/// Whether declared subscriptions could be: their rules compile.
fn check(owner: &Owner, declared: &[Wanted]) -> Result<(), String> {
    for Wanted {
        rules,
        metadata,
        place,
        ..
    } in declared
    {
        Routes::compile(rules, None).map_err(|why| format!("{place}: {why}"))?;
        ActorRoute::of(metadata, &owner.namespace).map_err(|why| format!("{place}: {why}"))?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What makes an envelope of now.
pub(crate) fn stamp() -> Stamp {
    Stamp {
        id: fresh_id(),
        time: wall_now(),
    }
}

/// A random id (RFC 9562, version 4).
#[must_use]
pub(crate) fn fresh_id() -> String {
    let random = rand::random::<u128>() & !(0xf000 << 64 | 0xc000 << 48);
    let id = format!("{:032x}", random | 0x4000 << 64 | 0x8000 << 48);
    [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-")
}

#[cfg(test)]
pub(crate) mod tests;
