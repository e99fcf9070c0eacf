//! What a subscription's own metadata says of its queue: `queueType`, `maxPriority`, `queueName`.
//!
//! Pure. What a server would refuse without a name for it is refused here: a quorum queue is
//! durable and stays, and knows no priorities of ours.

use crate::settings::Settings;
use crate::subscription::Subscribe;

use super::NAME_BYTES_MAX;
use super::options::{Options, Restart, Unused};

/// Longest prefix before a queue's name: of its exchange and queue of dead letters.
const PREFIX_BYTES_MAX: usize = 4;

/// The queue of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Highest priority that it knows; `None`: it knows none.
    pub(super) priorities: Option<u8>,
}

/// How the server keeps a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// On one node.
    Classic,
    /// On several, agreed.
    Quorum,
}

impl Kind {
    /// As an argument of the queue says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

impl Queue {
    /// That of a subscription.
    ///
    /// # Errors
    /// A field cannot be read, or the server has no such queue: a sentence.
    pub(super) fn of(subscribe: &Subscribe, options: &Options) -> Result<Self, String> {
        let mut settings = Settings::new(&subscribe.metadata);
        let name = settings.text("queueName").unwrap_or_else(|| {
            let group = subscribe.group.name_on(&options.instance);
            format!("{group}-{}", subscribe.topic.topic())
        });
        if PREFIX_BYTES_MAX + name.len() > NAME_BYTES_MAX {
            return Err(format!(
                "group and topic, or queueName, make a queue's name, which has at most {} bytes here",
                NAME_BYTES_MAX - PREFIX_BYTES_MAX
            ));
        }
        let kind = match settings.text("queueType").as_deref() {
            None | Some("classic") => Kind::Classic,
            Some("quorum") => Kind::Quorum,
            Some(other) => {
                return Err(format!("queueType is {other:?}. Write classic or quorum"));
            }
        };
        let priorities = settings.number("maxPriority")?.filter(|most| *most > 0);
        // More are as many as there are, as in Dapr.
        let priorities = priorities.map(|most| u8::try_from(most).unwrap_or(u8::MAX));
        if kind == Kind::Quorum {
            let wrong = match (options.restart, options.unused, priorities) {
                (Restart::Ends, ..) => Some("durable is false. Write durable: \"true\""),
                (_, Unused::Goes, _) => {
                    Some("deletedWhenUnused is true. Write deletedWhenUnused: \"false\"")
                }
                (.., Some(_)) => Some("maxPriority is set, which is for classic queues"),
                (Restart::Survives, Unused::Stays, None) => None,
            };
            if let Some(why) = wrong {
                return Err(format!("queueType is quorum, and {why}"));
            }
        }
        Ok(Self {
            name,
            kind,
            priorities,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ghostlight_protocol::topic::TopicName;

    use super::*;

    fn of(component: &[(&str, &str)], metadata: &[(&str, &str)]) -> Result<Queue, String> {
        let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let mut component = owned(component);
        component.insert("hostname".to_owned(), "here".to_owned());
        let options = Options::read("shop", "n1", &mut Settings::new(&component))?;
        let topic = TopicName::new("default", "bus", "orders").unwrap();
        let subscribe = Subscribe {
            metadata: owned(metadata),
            ..Subscribe::new(topic, "shop")
        };
        Queue::of(&subscribe, &options)
    }

    fn queue(name: &str, kind: Kind, priorities: Option<u8>) -> Queue {
        Queue {
            name: name.to_owned(),
            kind,
            priorities,
        }
    }

    #[test]
    fn a_subscription_names_its_queue() {
        let stays = ("deletedWhenUnused", "false");
        for (component, metadata, wanted) in [
            (&[][..], &[][..], queue("shop-orders", Kind::Classic, None)),
            (
                &[],
                &[("queueType", "classic"), ("maxPriority", "0")],
                queue("shop-orders", Kind::Classic, None),
            ),
            (
                &[],
                &[("QUEUENAME", "mine"), ("maxPriority", "9")],
                queue("mine", Kind::Classic, Some(9)),
            ),
            (
                &[],
                &[("maxPriority", "1000")],
                queue("shop-orders", Kind::Classic, Some(255)),
            ),
            (
                &[stays],
                &[("queueType", "quorum")],
                queue("shop-orders", Kind::Quorum, None),
            ),
        ] {
            assert_eq!(of(component, metadata), Ok(wanted), "{metadata:?}");
        }
    }

    #[test]
    fn what_no_server_has_is_said_by_name() {
        let stays = ("deletedWhenUnused", "false");
        let long = "q".repeat(NAME_BYTES_MAX);
        for (component, metadata, named) in [
            (&[][..], &[("queueType", "stream")][..], "queueType"),
            (&[], &[("maxPriority", "high")], "maxPriority"),
            (&[], &[("queueName", long.as_str())], "queueName"),
            (&[], &[("queueType", "quorum")], "deletedWhenUnused"),
            (
                &[stays, ("durable", "false")],
                &[("queueType", "quorum")],
                "durable",
            ),
            (
                &[stays],
                &[("queueType", "quorum"), ("maxPriority", "3")],
                "maxPriority",
            ),
        ] {
            let why = of(component, metadata).unwrap_err();
            assert!(why.contains(named), "{metadata:?}: {why}");
        }
    }
}
