//! Dapr's pub/sub: publishing for an application, and delivering to it, over whatever bus a component stands for.
//!
//! [`PubSub`] is that of one application: its components, what it may do with them, and its subscriptions. Both
//! transports come through here, so that they share every rule. In: checked names, bodies, metadata. Out: typed
//! errors that `api::error_map` turns into Dapr's.
//! Absent: durability, order, groups, redelivery, which a bus has or has not; the wire of either transport.

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
mod stop;
pub mod stream;
mod subscriptions;
pub mod target;
pub mod wanted;

use std::sync::Arc;

use ghostlight_protocol::topic::TopicName;

use crate::clock::wall_now;
use crate::resources::Resources;
use crate::topics::OwnTopics;
use actor_route::ActorRoute;
use envelope::Stamp;
use publish::PublishError;
use registry::{Component, Owner, Registry};
use routes::Routes;
use scopes::Act;
use subscriptions::Subscriptions;
use wanted::Wanted;

/// The pub/sub of one application.
#[derive(Debug)]
pub struct PubSub {
    owner: Owner,
    registry: Registry,
    subscriptions: Subscriptions,
}

impl PubSub {
    /// With the components of these resources, and the subscriptions declared in them. `ours` is the bus of
    /// Ghostlight's own topics.
    ///
    /// # Errors
    /// A declared rule does not compile: a sentence that names file and rule.
    pub fn new(owner: Owner, resources: &Resources, ours: &OwnTopics) -> Result<Self, String> {
        for declared in &resources.subscriptions {
            Routes::compile(&declared.rules, None)
                .map_err(|why| format!("{}: {why}", declared.place))?;
            ActorRoute::of(&declared.metadata, &owner.namespace)
                .map_err(|why| format!("{}: {why}", declared.place))?;
        }
        let pubsub = Self {
            registry: Registry::new(&owner, resources, ours),
            owner,
            subscriptions: Subscriptions::default(),
        };
        let declared = resources.subscriptions.iter().map(Wanted::from);
        pubsub.declare(&pubsub.owner.app_id, declared.collect());
        Ok(pubsub)
    }

    /// The application.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.owner.app_id
    }

    /// The components.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Finds what a publish names.
    ///
    /// # Errors
    /// A name is missing, or there is no such component.
    pub fn find(&self, pubsub: &str, topic: &str) -> Result<Arc<Component>, PublishError> {
        if self.registry.is_empty() {
            return Err(PublishError::NotConfigured);
        }
        if pubsub.is_empty() {
            return Err(PublishError::NameEmpty);
        }
        let Some(component) = self.registry.get(pubsub) else {
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
