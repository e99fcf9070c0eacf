//! The pub/sub components of an application, by name.
//!
//! Built from its resources. One named [`DEFAULT_NAME`] is there without any; YAML of that name
//! replaces it, also where another application alone may use that. Absent: what a bus does
//! (`buses`).

use std::collections::BTreeMap;
use std::sync::Arc;

use ghostlight_buses::Standing;
use ghostlight_protocol::topic::TopicName;

use super::metadata::{Metadata, truth};
use super::policy::Policy;
use super::scopes::Scopes;
use super::shared::Buses;
use super::stop::{self, Stop, Stopper};
use crate::ephemeral::Keep;
use crate::handle::NodeHandle;
use crate::resources::{self, Direction, Resources, of_pubsub};
use crate::topics::{Bus, Classes, EPHEMERAL, Feature, Group, LATCHED, OwnTopics, Promise};

/// Name of the component that is there by itself.
pub const DEFAULT_NAME: &str = "pubsub";
/// Type of Ghostlight's own topics.
pub const OURS: &str = "pubsub.ghostlight";
/// Metadata by which one component asks for Ghostlight's own topics in place of its system.
const BUILTIN: &str = "ghostlight.builtin";
/// Prefix of the types of components that stand here.
pub const KIND_PREFIX: &str = "pubsub.";
/// Types that need no other system, in order; those of external buses are
/// [`ghostlight_buses::KINDS`].
pub const SERVED_HERE: [&str; 2] = ["pubsub.ghostlight", "pubsub.in-memory"];

/// Who the components belong to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The application.
    pub app_id: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of this process for `{podName}`.
    pub pod: String,
}

/// One component.
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its version.
    pub version: String,
    /// Its metadata; secrets may be among it.
    pub metadata: Metadata,
    /// Its `consumerID`, of which each application makes its group; empty: the app-id.
    pub consumer_id: String,
    /// Who may do what.
    pub scopes: Scopes,
    /// Policy of publishing.
    pub outbound: Policy,
    /// Policy of delivering.
    pub inbound: Policy,
    /// What its topics are, where they are Ghostlight's own.
    pub classes: Classes,
    /// What is behind it.
    pub bus: Arc<dyn Bus>,
    /// Who serves it, whatever its type says.
    pub server: Server,
    /// Raised when another one has taken its place, or none: its streams end.
    pub retired: Retired,
}

/// Who keeps the topics of a component.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// Ghostlight: by its type, or in place of its own system.
    Ghostlight,
    /// The system that its type names.
    ItsSystem,
}

/// Whether a component is one of its application's still.
#[derive(Debug)]
pub struct Retired(Stopper, Stop);

impl Default for Retired {
    fn default() -> Self {
        let (stopper, stop) = stop::pair();
        Self(stopper, stop)
    }
}

impl Retired {
    /// What is set when it is not.
    pub(super) fn stop(&self) -> Stop {
        self.1.clone()
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("consumer_id", &self.consumer_id)
            .finish_non_exhaustive()
    }
}

impl Component {
    /// What metadata says that it can do.
    #[must_use]
    pub fn capabilities(&self) -> Vec<&'static str> {
        let names = self
            .bus
            .features()
            .iter()
            .filter_map(|feature| match feature {
                Feature::MessageTtl => Some("MESSAGE_TTL"),
                Feature::SubscribeWildcards => Some("SUBSCRIBE_WILDCARDS"),
                Feature::BulkPublish => Some("BULK_PUBSUB"),
                Feature::Redelivery | Feature::Forward => None,
            });
        names.collect()
    }

    /// Who shares its events with this application. A `{uuid}` means that every process gets every
    /// event.
    #[must_use]
    pub fn group(&self, owner: &Owner) -> Group {
        const EACH: &str = "{uuid}";
        let template = match self.consumer_id.as_str() {
            "" => &owner.app_id,
            given => given,
        };
        match template.contains(EACH) {
            true => match filled(&template.replace(EACH, ""), owner) {
                // A group has a name.
                name if name.is_empty() => Group::EachNode(owner.app_id.clone()),
                name => Group::EachNode(name),
            },
            false => Group::Shared(filled(template, owner)),
        }
    }

    /// Whether an event of a topic that was not taken comes again by itself, until it is a dead
    /// letter.
    #[must_use]
    pub fn redelivers(&self, topic: &TopicName) -> bool {
        self.has(Feature::Redelivery) && self.bus.promise(topic) == Promise::AtLeastOnce
    }

    /// Whether its bus does something by itself.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.bus.features().contains(&feature)
    }
}

/// Components by name.
#[derive(Debug, Default)]
pub struct Registry {
    components: BTreeMap<String, Arc<Component>>,
    /// As they are declared.
    declared: BTreeMap<String, resources::Component>,
}

/// Other components than before.
#[derive(Debug)]
pub(super) struct Renewed {
    pub(super) registry: Registry,
    /// Names of those that are new, that are others, and that are gone.
    pub(super) changes: [Vec<String>; 3],
    /// Why some are not what their files say now, and are what they were.
    pub(super) refused: Vec<String>,
}

impl Registry {
    /// The components of these resources; `ours` is behind those of type [`OURS`], and one of
    /// `buses` behind any other.
    #[must_use]
    pub fn new(owner: &Owner, resources: &Resources, ours: &OwnTopics, buses: &Buses) -> Self {
        let renewed = Self::default().renewed(owner, resources, ours, buses);
        renewed.registry
    }

    /// The components of other resources than before. Those that are declared as they were are the
    /// same ones, with their connections; one that cannot be what its file says now stays what it
    /// was.
    pub(super) fn renewed(
        &self,
        owner: &Owner,
        resources: &Resources,
        ours: &OwnTopics,
        buses: &Buses,
    ) -> Renewed {
        let mut registry = Self::default();
        let [mut added, mut changed] = [Vec::new(), Vec::new()];
        let mut refused = Vec::new();
        for declared in wanted(resources) {
            let name = declared.name.clone();
            let before = self.components.get(&name).zip(self.declared.get(&name));
            if let Some((component, known)) = before
                && is_same(known, &declared)
            {
                registry.put(Arc::clone(component), declared);
                continue;
            }
            let (built, trouble) = build(owner, &declared, resources, (ours, buses));
            match (before, trouble) {
                (Some((component, known)), Some(why)) => {
                    refused.push(why);
                    registry.put(Arc::clone(component), known.clone());
                }
                (Some(_), None) => {
                    changed.push(name);
                    registry.put(Arc::new(built), declared);
                }
                (None, trouble) => {
                    if let Some(why) = trouble {
                        tracing::error!("{why}");
                    }
                    added.push(name);
                    registry.put(Arc::new(built), declared);
                }
            }
        }
        let gone = |name: &&String| !registry.components.contains_key(*name);
        let removed = self.components.keys().filter(gone).cloned().collect();
        Renewed {
            changes: [added, changed, removed],
            registry,
            refused,
        }
    }

    fn put(&mut self, component: Arc<Component>, declared: resources::Component) {
        self.declared.insert(component.name.clone(), declared);
        self.components.insert(component.name.clone(), component);
    }

    /// Ends the streams of components that are not among these any more.
    pub(super) fn retire_others(&self, before: &Self) {
        for (name, component) in &before.components {
            let stays = self.components.get(name);
            if !stays.is_some_and(|stays| Arc::ptr_eq(stays, component)) {
                component.retired.0.stop();
            }
        }
    }

    /// These components and no other.
    #[cfg(test)]
    pub(crate) fn of(components: impl IntoIterator<Item = Component>) -> Self {
        let components = components.into_iter();
        Self {
            components: components
                .map(|component| (component.name.clone(), Arc::new(component)))
                .collect(),
            declared: BTreeMap::new(),
        }
    }

    /// A component.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Component>> {
        self.components.get(name)
    }

    /// Components whose bus is not there, each as a sentence.
    #[must_use]
    pub fn not_there(&self) -> Vec<String> {
        let all = self.components.values();
        let missing = all.filter_map(|component| {
            let Component { name, kind, .. } = &**component;
            match component.bus.standing() {
                Standing::Ready => None,
                Standing::Connecting => Some(format!(
                    "component {name} ({kind}): its bus has not answered yet"
                )),
                Standing::Unreachable(why) => Some(format!(
                    "component {name} ({kind}): its bus is not there: {why}"
                )),
            }
        });
        missing.collect()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// All, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Component>> {
        self.components.values()
    }
}

/// Ghostlight's own topics, by the way into the node that has them.
#[must_use]
pub fn own_topics(handle: &NodeHandle) -> OwnTopics {
    OwnTopics {
        durable: Arc::new(handle.clone()),
        ephemeral: Arc::new(handle.ephemeral(Keep::Nothing)),
        latched: Arc::new(handle.ephemeral(Keep::LastValue)),
    }
}

/// What these resources declare, and what is there without.
fn wanted(resources: &Resources) -> Vec<resources::Component> {
    let declared = &resources.components;
    let of_kind = declared
        .iter()
        .filter(|component| component.kind.starts_with(KIND_PREFIX));
    let mut wanted: Vec<_> = of_kind.cloned().collect();
    let taken = declared.iter().map(|component| &component.name);
    let mut taken = taken.chain(&resources.hidden_components);
    if !taken.any(|name| name == DEFAULT_NAME) {
        wanted.push(default_component());
    }
    wanted
}

/// Whether two say the same, wherever they stand.
fn is_same(one: &resources::Component, other: &resources::Component) -> bool {
    let placeless = |component: &resources::Component| resources::Component {
        place: String::new(),
        ..component.clone()
    };
    placeless(one) == placeless(other)
}

/// The one that is there by itself.
fn default_component() -> resources::Component {
    resources::Component {
        name: DEFAULT_NAME.to_owned(),
        kind: OURS.to_owned(),
        version: "v1".to_owned(),
        ignore_errors: false,
        metadata: BTreeMap::new(),
        scopes: Vec::new(),
        place: "built in".to_owned(),
    }
}

/// A component, and why it cannot be used, if so.
fn build(
    owner: &Owner,
    declared: &resources::Component,
    resources: &Resources,
    (ours, buses): (&OwnTopics, &Buses),
) -> (Component, Option<String>) {
    let name = declared.name.as_str();
    let classes = Classes::new(declared.value(EPHEMERAL), declared.value(LATCHED));
    let policy = |direction| Policy::new(of_pubsub(&resources.resiliency, name, direction));
    let server = server(declared, &resources.builtin);
    if server == Server::Ghostlight && declared.kind != OURS {
        let kind = &declared.kind;
        tracing::info!(
            "component {name} ({kind}) is served by Ghostlight's own topics: what is on a bus of that type is not read"
        );
    }
    let (bus, trouble) = match server {
        Server::Ghostlight => (ours.with(classes.clone()), None),
        Server::ItsSystem => buses.of(owner, declared),
    };
    let component = Component {
        name: name.to_owned(),
        kind: declared.kind.clone(),
        version: declared.version.clone(),
        metadata: declared.metadata.clone(),
        consumer_id: declared.value("consumerID").unwrap_or_default().to_owned(),
        scopes: Scopes::of(declared),
        outbound: policy(Direction::Outbound),
        inbound: policy(Direction::Inbound),
        classes,
        bus,
        server,
        retired: Retired::default(),
    };
    (component, trouble)
}

/// Who serves a component; `builtin` are the types that Ghostlight serves in place of their own
/// system.
pub(crate) fn server(declared: &resources::Component, builtin: &[String]) -> Server {
    let itself = declared.value(BUILTIN).and_then(truth).unwrap_or(false);
    match itself || declared.kind == OURS || builtin.contains(&declared.kind) {
        true => Server::Ghostlight,
        false => Server::ItsSystem,
    }
}

pub(super) fn filled(template: &str, owner: &Owner) -> String {
    template
        .replace("{podName}", &owner.pod)
        .replace("{namespace}", &owner.namespace)
        .replace("{appID}", &owner.app_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buses::absent::Absent;

    fn owner() -> Owner {
        Owner {
            app_id: "shop".to_owned(),
            namespace: "default".to_owned(),
            pod: "n1".to_owned(),
        }
    }

    fn absent() -> OwnTopics {
        let absent: Arc<dyn Bus> = Arc::new(Absent::new("absent"));
        OwnTopics {
            durable: Arc::clone(&absent),
            ephemeral: Arc::clone(&absent),
            latched: absent,
        }
    }

    fn declared(name: &str, kind: &str, consumer: &str) -> resources::Component {
        resources::Component {
            name: name.to_owned(),
            kind: kind.to_owned(),
            metadata: BTreeMap::from([("consumerID".to_owned(), consumer.to_owned())]),
            ..default_component()
        }
    }

    #[test]
    fn one_is_there_by_itself_unless_its_name_is_taken() {
        let names = |resources: &Resources| {
            let ours = absent();
            let registry = Registry::new(&owner(), resources, &ours, &Buses::default());
            let all = registry.all();
            all.map(|c| format!("{} {}", c.name, c.kind))
                .collect::<Vec<_>>()
        };
        let mut resources = Resources::default();
        assert_eq!(names(&resources), ["pubsub pubsub.ghostlight"]);
        resources.components = vec![
            declared("bus", "pubsub.in-memory", ""),
            declared("store", "state.redis", ""),
        ];
        assert_eq!(
            names(&resources),
            ["bus pubsub.in-memory", "pubsub pubsub.ghostlight"]
        );
        resources.components = vec![declared("pubsub", "pubsub.in-memory", "")];
        assert_eq!(names(&resources), ["pubsub pubsub.in-memory"]);
        // Somebody else's alone: it is not there for this application.
        resources.components.clear();
        resources.hidden_components = vec!["pubsub".to_owned()];
        assert_eq!(names(&resources), Vec::<String>::new());
    }

    #[test]
    fn components_may_be_served_here_in_place_of_their_system() {
        let redis = declared("bus", "pubsub.redis", "");
        let mut itself = redis.clone();
        let builtin = |value: &str| ("ghostlight.builtin".to_owned(), value.to_owned());
        itself.metadata.extend([builtin("true")]);
        let mut not = redis.clone();
        not.metadata.extend([builtin("false")]);
        for (component, flag, wanted) in [
            (&redis, "", Server::ItsSystem),
            (&redis, "pubsub.kafka", Server::ItsSystem),
            (&redis, "pubsub.redis", Server::Ghostlight),
            (&itself, "", Server::Ghostlight),
            (&not, "", Server::ItsSystem),
            (&declared("bus", OURS, ""), "", Server::Ghostlight),
        ] {
            let flags = [flag.to_owned()];
            assert_eq!(server(component, &flags), wanted, "{component:?} {flag}");
        }
    }

    #[test]
    fn a_component_whose_metadata_cannot_be_is_not_there() {
        let resources = Resources {
            components: vec![
                declared("bus", "pubsub.redis", ""),
                declared("odd", "pubsub.odd", ""),
            ],
            ..Resources::default()
        };
        let ours = absent();
        let registry = Registry::new(&owner(), &resources, &ours, &Buses::default());
        let told = registry.not_there();
        assert!(
            told[0].contains("component bus (pubsub.redis)") && told[0].contains("redisHost"),
            "{told:?}"
        );
        assert!(
            told[1].contains("pubsub.odd") && told[1].contains("Use one of"),
            "{told:?}"
        );
    }

    #[test]
    fn groups_come_from_the_consumer_id() {
        let shared = |name: &str| Group::Shared(name.to_owned());
        for (consumer, wanted) in [
            ("", shared("shop")),
            ("billing", shared("billing")),
            ("{namespace}-{appID}-{podName}", shared("default-shop-n1")),
            ("{uuid}", Group::EachNode("shop".to_owned())),
            ("{appID}-{uuid}", Group::EachNode("shop-".to_owned())),
        ] {
            let ours = absent();
            let declared = declared("bus", "pubsub.in-memory", consumer);
            let buses = Buses::default();
            let (component, _) = build(&owner(), &declared, &Resources::default(), (&ours, &buses));
            assert_eq!(component.group(&owner()), wanted, "{consumer}");
            // Another application beside the same node.
            let other = Owner {
                app_id: "other".to_owned(),
                ..owner()
            };
            let same = component.group(&other) == wanted;
            assert_eq!(same, consumer == "billing", "{consumer}");
        }
    }
}
