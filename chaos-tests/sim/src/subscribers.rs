//! Programs that subscribe: each belongs to a group, is at one node at a time, and goes to another one when that
//! dies. What it says of an event is decided by its dice.

use std::collections::BTreeMap;

use ghostlight_core::topics::subscribers::{Said, SubscriptionId};
use ghostlight_protocol::topic::TopicName;

use crate::dice::Dice;
use crate::net::Place;
use crate::params::TopicParams;

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
            (0..params.subscribers).map(move |_| Subscriber {
                group: format!("g{group}"),
                at: None,
                stage: Stage::Asked,
            })
        });
        Self {
            all: groups.collect(),
            last: 0,
            groups: BTreeMap::new(),
        }
    }

    /// A number that no subscription had before.
    pub(crate) fn fresh(&mut self) -> SubscriptionId {
        self.last += 1;
        SubscriptionId(self.last)
    }

    /// Names of all groups.
    pub(crate) fn group_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all.iter().map(|one| one.group.clone()).collect();
        names.dedup();
        names
    }
}

/// What a program says of an event. Some events it never takes.
pub(crate) fn verdict(params: &TopicParams, data: &[u8], dice: &mut Dice) -> Said {
    if params.retry > 0.0 && data.ends_with(b"7") {
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
