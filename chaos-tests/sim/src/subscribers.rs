//! Programs that subscribe: each belongs to a group, is at one node at a time, and goes to another
//! one when that dies. What it says of an event is decided by its dice.

use std::collections::BTreeMap;

use bytes::Bytes;
use ghostlight_core::topics::subscribers::{Said, SubscriptionId};
use ghostlight_protocol::topic::{ForActor, Purpose, TopicEvent, TopicName};

use crate::dice::Dice;
use crate::heralds::{herald, text_of};
use crate::net::Place;
use crate::params::{Actors, TopicParams};

/// The group whose events become messages to actors.
pub(crate) const FOR_ACTORS: &str = "actors";

/// A group without programs, which operators make and delete.
pub(crate) const SPARE: &str = "spare";

/// The one topic of a run.
pub(crate) fn topic() -> TopicName {
    TopicName::new("default", "pubsub", "orders").expect("a valid name")
}

/// Where a program has subscribed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Subscribed {
    /// The node.
    pub place: Place,
    /// Its process.
    pub run: u64,
    /// The subscription.
    pub id: SubscriptionId,
}

/// One program.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// Its group.
    pub group: String,
    /// What becomes of its events.
    pub purpose: Purpose,
    /// Where it is.
    pub at: Option<Subscribed>,
    /// Whether the present subscription was ever ready.
    pub stage: Stage,
}

/// How far a subscription is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Asked for.
    Asked,
    /// Its group exists in every topic partition.
    Ready,
}

/// All programs that subscribe.
#[derive(Debug)]
pub(crate) struct Subscribers {
    /// They.
    pub all: Vec<Subscriber>,
    last: u64,
    /// The group of each subscription, by its node's number of it as leaders know it.
    pub groups: BTreeMap<(Place, u64, SubscriptionId), usize>,
}

impl Subscribers {
    /// None has subscribed yet.
    pub(crate) fn new(params: &TopicParams) -> Self {
        let groups = (0..params.groups).flat_map(|group| {
            let group = format!("g{group}");
            (0..params.subscribers).map(move |_| subscriber(&group, Purpose::Handle))
        });
        let for_actors = match (params.groups, params.actors) {
            (0, _) | (_, Actors::Elsewhere) => 0,
            (_, Actors::Subscribe) => params.subscribers,
        };
        let for_actors = (0..for_actors).map(|_| subscriber(FOR_ACTORS, Purpose::Forward));
        Self {
            all: groups.chain(for_actors).collect(),
            last: 0,
            groups: BTreeMap::new(),
        }
    }

    /// A number that no subscription had before.
    pub(crate) fn fresh(&mut self) -> SubscriptionId {
        self.last += 1;
        SubscriptionId(self.last)
    }

    /// Names of all groups that programs serve.
    pub(crate) fn group_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all.iter().map(|one| one.group.clone()).collect();
        names.dedup();
        names
    }
}

fn subscriber(group: &str, purpose: Purpose) -> Subscriber {
    Subscriber {
        group: group.to_owned(),
        purpose,
        at: None,
        stage: Stage::Asked,
    }
}

/// What a program says of an event that is for an actor: the herald of its key. Some events it
/// takes for nobody's.
pub(crate) fn for_actor(params: &TopicParams, event: &TopicEvent, dice: &mut Dice) -> Said {
    let text = text_of(&event.data);
    if params.retry > 0.0 && text.ends_with(b"7") {
        return Said::Drop("never".to_owned());
    }
    if dice.chance(params.retry) {
        return Said::Retry("again".to_owned());
    }
    let key = event.key.clone().unwrap_or(Bytes::from_static(b"none"));
    Said::Forward(Box::new(ForActor {
        actor: herald(&listener(&String::from_utf8_lossy(&key))),
        method: "say".to_owned(),
        body: Bytes::from(format!("\"{}\"", String::from_utf8_lossy(&text)).into_bytes()),
    }))
}

/// The herald that gets the events of a key.
pub(crate) fn listener(key: &str) -> String {
    format!("e-{key}")
}

/// What a program says of an event. Some events it never takes.
pub(crate) fn verdict(params: &TopicParams, data: &Bytes, dice: &mut Dice) -> Said {
    if params.retry > 0.0 && text_of(data).ends_with(b"7") {
        return Said::Retry("never".to_owned());
    }
    if dice.chance(params.drop) {
        return Said::Drop("dropped".to_owned());
    }
    match dice.chance(params.retry) {
        true => Said::Retry("again".to_owned()),
        false => Said::Ack,
    }
}
