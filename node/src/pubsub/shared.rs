//! The buses behind components: one for all applications of a process that declare the same.
//!
//! Each application has components of its own, with its own scopes and policies. What stands behind
//! them (a connection, the events of an in-memory bus) is shared while anybody uses it; who gets
//! which event is decided by groups, which are the application's. Absent: Ghostlight's own topics,
//! which the node has anyway.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use ghostlight_buses::{Declared, KINDS, Opened, open};

use super::registry::{Owner, SERVED_HERE, filled};
use crate::buses::absent::Absent;
use crate::buses::in_memory::InMemory;
use crate::resources::Component;
use crate::topics::Bus;

/// See the module. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub struct Buses(Arc<Mutex<Vec<Known>>>);

impl std::fmt::Debug for Buses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Buses")
    }
}

struct Known {
    declared: Declared,
    bus: Weak<dyn Bus>,
}

impl Buses {
    /// The bus of a component, and why it cannot be used, if so.
    pub(super) fn of(
        &self,
        owner: &Owner,
        component: &Component,
    ) -> (Arc<dyn Bus>, Option<String>) {
        let declared = declared(owner, component);
        // Opened under the lock: two applications that begin at once share as well.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|one| one.bus.strong_count() > 0);
        let same = known.iter().find(|one| is_same(&one.declared, &declared));
        if let Some(bus) = same.and_then(|one| one.bus.upgrade()) {
            return (bus, None);
        }
        match opened(&declared, &component.place) {
            Ok(bus) => {
                let weak = Arc::downgrade(&bus);
                known.push(Known {
                    declared,
                    bus: weak,
                });
                (bus, None)
            }
            Err(why) => (Arc::new(Absent::new(why.clone())), Some(why)),
        }
    }
}

/// Whether one bus does for both: the name of its consumer is only what it calls itself where a
/// group says nothing else.
fn is_same(one: &Declared, other: &Declared) -> bool {
    (&one.name, &one.kind, &one.metadata, &one.instance)
        == (&other.name, &other.kind, &other.metadata, &other.instance)
}

fn declared(owner: &Owner, component: &Component) -> Declared {
    let metadata = component.metadata.iter();
    Declared {
        name: component.name.clone(),
        kind: component.kind.clone(),
        metadata: metadata
            .map(|(field, value)| (field.clone(), filled(value, owner)))
            .collect(),
        consumer: component
            .value("consumerID")
            .filter(|id| !id.is_empty())
            .map_or_else(|| owner.app_id.clone(), |id| filled(id, owner)),
        instance: owner.pod.clone(),
    }
}

fn opened(declared: &Declared, place: &str) -> Result<Arc<dyn Bus>, String> {
    let Declared { name, kind, .. } = declared;
    match (kind.as_str(), open(declared)) {
        ("pubsub.in-memory", _) => Ok(Arc::new(InMemory::default())),
        (_, Some(Ok(Opened { bus, warnings }))) => {
            for warning in warnings {
                tracing::warn!(component = name, place, "{kind}: {warning}");
            }
            Ok(bus)
        }
        (_, Some(Err(why))) => Err(format!(
            "component {name} ({place}), a {kind}, cannot be used: {why}"
        )),
        (_, None) => {
            let served: Vec<_> = SERVED_HERE.iter().chain(KINDS).copied().collect();
            Err(format!(
                "component {name} ({place}) is a {kind}, which is not served here. Use one of: {}; or let \
                 Ghostlight serve it, with the metadata ghostlight.builtin: \"true\"",
                served.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn component(kind: &str, (field, value): (&str, &str)) -> Component {
        Component {
            name: "bus".to_owned(),
            kind: kind.to_owned(),
            version: "v1".to_owned(),
            ignore_errors: false,
            metadata: BTreeMap::from([(field.to_owned(), value.to_owned())]),
            scopes: Vec::new(),
            place: String::new(),
        }
    }

    fn owner(app: &str) -> Owner {
        Owner {
            app_id: app.to_owned(),
            namespace: "default".to_owned(),
            pod: "n1".to_owned(),
        }
    }

    #[test]
    fn applications_share_a_bus_that_both_declare() {
        const MEMORY: &str = "pubsub.in-memory";
        for (kind, field, shared) in [
            (MEMORY, ("a", "b"), true),
            (MEMORY, ("a", "{namespace}"), true),
            // What has the application's name in it is its own.
            (MEMORY, ("a", "{appID}"), false),
            ("pubsub.odd", ("a", "b"), false),
        ] {
            let buses = Buses::default();
            let (one, refused) = buses.of(&owner("shop"), &component(kind, field));
            let (other, again) = buses.of(&owner("bank"), &component(kind, field));
            assert_eq!(Arc::ptr_eq(&one, &other), shared, "{kind} {field:?}");
            let absent = kind != MEMORY;
            assert_eq!((refused.is_some(), again.is_some()), (absent, absent));
        }
    }

    #[test]
    fn a_bus_that_nobody_uses_is_not_kept() {
        let buses = Buses::default();
        let declared = component("pubsub.in-memory", ("a", "b"));
        let (bus, _) = buses.of(&owner("shop"), &declared);
        let used = Arc::downgrade(&bus);
        drop(bus);
        assert!(used.upgrade().is_none());
        drop(buses.of(&owner("shop"), &declared));
        assert_eq!(
            buses.0.lock().unwrap().len(),
            1,
            "the first one is forgotten"
        );
    }
}
