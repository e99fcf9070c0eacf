//! Idle activations, least recently used first.

use std::collections::BTreeMap;

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct IdleList {
    list: BTreeMap<u64, (Instant, ActorKey)>,
    last: u64,
}

impl IdleList {
    pub(super) fn enter(&mut self, now: Instant, actor: ActorKey) -> u64 {
        self.last += 1;
        self.list.insert(self.last, (now, actor));
        self.last
    }

    pub(super) fn leave(&mut self, number: u64) {
        let removed = self.list.remove(&number);
        assert!(removed.is_some(), "an idle actor is listed");
    }

    /// The one that has been idle longest, and since when.
    pub(super) fn oldest(&self) -> Option<(Instant, &ActorKey)> {
        let (_, (since, actor)) = self.list.first_key_value()?;
        Some((*since, actor))
    }
}
