//! The actor types that a node runs itself.

use std::collections::BTreeMap;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;

use crate::sdk::activation::{Activation, Active};
use crate::sdk::actor::{Actor, Method};
use crate::sdk::events::EventHandler;

/// Actor types by name, each with a way to make an activation.
#[derive(Clone, Debug, Default)]
pub struct ActorRegistry {
    types: BTreeMap<&'static str, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    activate: fn() -> Box<dyn Activation>,
    methods: &'static [Method],
    events: &'static [EventHandler],
}

impl ActorRegistry {
    /// No types.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type.
    ///
    /// # Panics
    /// When another type has its name: two programs cannot be one type.
    #[must_use]
    pub fn with<A: Actor>(mut self) -> Self {
        let entry = Entry {
            activate: || Box::new(Active::<A>::default()),
            methods: A::METHODS,
            events: A::EVENTS,
        };
        let earlier = self.types.insert(A::TYPE, entry);
        assert!(
            earlier.is_none(),
            "actor type `{}` is registered twice",
            A::TYPE
        );
        self
    }

    /// The names, ascending.
    pub fn types(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.types.keys().copied()
    }

    /// Whether a type is known.
    #[must_use]
    pub fn contains(&self, actor_type: &str) -> bool {
        self.types.contains_key(actor_type)
    }

    /// The methods of a type.
    #[must_use]
    pub fn methods(&self, actor_type: &str) -> Option<&'static [Method]> {
        self.types.get(actor_type).map(|entry| entry.methods)
    }

    /// Subscriptions of its types: each with the type's name.
    pub fn events(&self) -> impl Iterator<Item = (&'static str, &'static EventHandler)> + '_ {
        let types = self.types.iter();
        types.flat_map(|(name, entry)| entry.events.iter().map(|handler| (*name, handler)))
    }

    /// A new activation; its state is read by its first turn.
    ///
    /// # Errors
    /// The type is not known here; the refusal lists those that are.
    pub fn activate(&self, actor_type: &str) -> Result<Box<dyn Activation>, NotRun> {
        match self.types.get(actor_type) {
            Some(entry) => Ok((entry.activate)()),
            None => {
                let known: Vec<&str> = self.types().collect();
                Err(NotRun::new(
                    Code::UnknownActorType,
                    format!(
                        "no actor type `{actor_type}` here. Known: {}",
                        if known.is_empty() {
                            "none".to_owned()
                        } else {
                            known.join(", ")
                        }
                    ),
                ))
            }
        }
    }
}
