//! Subscriptions whose events go to actors: metadata `actorType`, `actorId` (CEL over the event)
//! and `actorMethod`.
//!
//! Pure. An event becomes a message to the actor with the whole event as its body, envelope
//! included, in the entry that settles it: the actor's state changes exactly once. The type may
//! live in any application, or in a program of the library. Dapr has no such subscriptions.

use ghostlight_core::sdk::events::actor_group;
use ghostlight_protocol::actor::{ActorKey, clean_method};

use super::envelope::Envelope;
use super::metadata::{Metadata, find};
use super::routes::Expression;
use crate::topics::ForActor;

/// See the module.
#[derive(Debug)]
pub(super) struct ActorRoute {
    namespace: String,
    actor_type: String,
    method: String,
    id: Expression,
}

impl ActorRoute {
    /// What metadata says; `None`: events go to the application.
    ///
    /// # Errors
    /// A sentence: one of the three is missing or is none.
    pub(super) fn of(metadata: &Metadata, namespace: &str) -> Result<Option<Self>, String> {
        let [kind, id, method] =
            ["actorType", "actorId", "actorMethod"].map(|name| find(metadata, name));
        if (kind, id, method) == (None, None, None) {
            return Ok(None);
        }
        let (Some(actor_type), Some(id), Some(method)) = (kind, id, method) else {
            return Err(
                "events for actors need metadata actorType, actorId and actorMethod".to_owned(),
            );
        };
        let method = clean_method(method).map_err(|error| format!("actorMethod: {error}"))?;
        ActorKey::new(namespace, actor_type, "x").map_err(|error| format!("actorType: {error}"))?;
        Ok(Some(Self {
            namespace: namespace.to_owned(),
            actor_type: actor_type.to_owned(),
            id: Expression::compile(id).map_err(|error| format!("actorId: {error}"))?,
            method,
        }))
    }

    /// Who takes the events, for all applications alike.
    pub(super) fn group(&self) -> String {
        actor_group(&self.actor_type, &self.method)
    }

    /// The message that an event becomes.
    ///
    /// # Errors
    /// A sentence: it names no actor.
    pub(super) fn message(&self, envelope: &Envelope) -> Result<ForActor, String> {
        let id = self
            .id
            .text(&envelope.to_json())
            .map_err(|error| error.to_string())?;
        let actor = ActorKey::new(&self.namespace, &self.actor_type, &id)
            .map_err(|error| format!("{id:?} is no actor's id: {error}"))?;
        Ok(ForActor {
            actor,
            method: self.method.clone(),
            body: envelope.to_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> Metadata {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn event() -> Envelope {
        Envelope::parse(br#"{"type":"t","data":{"order":"o-7","number":12,"none":null}}"#).unwrap()
    }

    #[test]
    fn the_event_names_its_actor() {
        for (expression, wanted) in [
            ("event.data.order", Some("o-7")),
            ("event.data.number", Some("12")),
            ("'all'", Some("all")),
            ("event.type + '/' + event.data.order", Some("t/o-7")),
            ("event.data.missing", None),
            ("event.data.none", None),
            ("event.data", None),
            ("''", None),
        ] {
            let said = metadata(&[
                ("actorType", "Order"),
                ("actorId", expression),
                ("actorMethod", "placed"),
            ]);
            let route = ActorRoute::of(&said, "default").unwrap().unwrap();
            let found = route.message(&event());
            let id = found.as_ref().map(|to| to.actor.actor_id().to_owned());
            assert_eq!(id.ok().as_deref(), wanted, "{expression}: {found:?}");
            assert_eq!(route.group(), "actors/Order/placed");
        }
    }

    #[test]
    fn what_is_said_in_part_or_wrong_is_named() {
        assert!(
            ActorRoute::of(&metadata(&[("other", "x")]), "default")
                .unwrap()
                .is_none()
        );
        for (pairs, words) in [
            (&[("actorType", "Order")][..], "actorId"),
            (
                &[
                    ("actorType", "Order"),
                    ("actorId", "event."),
                    ("actorMethod", "m"),
                ],
                "event.",
            ),
            (
                &[
                    ("actorType", "a?b"),
                    ("actorId", "'x'"),
                    ("actorMethod", "m"),
                ],
                "actorType",
            ),
        ] {
            let error = ActorRoute::of(&metadata(pairs), "default").unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
