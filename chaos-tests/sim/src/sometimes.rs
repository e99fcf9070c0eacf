//! How often each interesting thing was reached. A swarm that reaches nothing proves nothing.

use std::collections::BTreeMap;

/// What every full batch of seeds must reach.
pub(crate) const REQUIRED: [&str; 118] = [
    "actor has events",
    "actor is told an event again",
    "actor refused an event",
    "another version refused",
    "asked one of two that believe to lead",
    "call answered not run",
    "call answered unknown",
    "call not sent",
    "cluster facts written",
    "committed and not applied yet",
    "connection made anew",
    "connection replaced at one side",
    "copy of a directory refused",
    "crash lost unsynced writes",
    "disk found to have gone back",
    "dead letters at the end",
    "disk stalled",
    "entry that changes nothing applied",
    "event delivered",
    "event delivered again",
    "event of a turn is for an actor in another partition",
    "event of a turn passes through three partitions",
    "event published again under its name",
    "event refused for good",
    "event refused for now",
    "events over their time",
    "fault: a node hears nobody",
    "fault: bit flip",
    "fault: bit flip in the file of a log",
    "fault: clock drifts",
    "fault: clock jump",
    "fault: clock strobes",
    "fault: connection broken",
    "fault: connection replaced",
    "fault: connection stuck",
    "fault: copy of a directory started beside the original",
    "fault: crash",
    "fault: crash loop",
    "fault: database lost",
    "fault: dead node replaced",
    "fault: disk error",
    "fault: disk full",
    "fault: disk replaced by an empty one",
    "fault: disk stands still",
    "fault: drain",
    "fault: freeze",
    "fault: join",
    "fault: leader cut off",
    "fault: leader dead with what a turn has published",
    "fault: leader dead, all disks standing still",
    "fault: leader woke up cut off from the others",
    "fault: links swizzled",
    "fault: node of another version",
    "fault: nobody hears a node",
    "fault: old image of a disk put back",
    "fault: one-way cut",
    "fault: orderly restart",
    "fault: power loss everywhere",
    "fault: power loss of a majority",
    "fault: restless bridge",
    "fault: rolling change of version",
    "fault: rolling restart",
    "fault: slow disk",
    "fault: slow process",
    "fault: split",
    "fault: split with a bridge",
    "frame duplicated",
    "frame replayed late",
    "group deleted",
    "group made by an operator",
    "group moved",
    "group moved to a time",
    "group of actors moved",
    "group of actors moved back",
    "group of actors paused",
    "group paused",
    "group resumed",
    "joint membership",
    "large body",
    "leader serves in a joint membership",
    "leader that does not serve yet",
    "leadership closed",
    "leadership opened",
    "learner follows",
    "log far ahead of its commit",
    "letters driven again",
    "lost database: asked the others",
    "lost database: given up",
    "member declared down",
    "member suspected",
    "message accepted",
    "message offered again after it was accepted",
    "orderly shutdown",
    "outbox trimmed",
    "page of rows cut",
    "process ended by its disk",
    "progress without a node",
    "publish acknowledged",
    "publish of a turn outlived its leader",
    "repeated call acknowledged",
    "replica condemned while running",
    "replica in doubt",
    "replica stands for election",
    "snapshot installed",
    "sole voter",
    "store refused to open",
    "subscriber goes to another process",
    "subscription ready",
    "turn committed",
    "turn published beside its topic",
    "turn published for an event",
    "turn published several events",
    "turn published to another partition",
    "turn refused what it had published",
    "turn with a message committed",
    "unknown call repeated with its id",
    "whole after a quiet stretch",
    "write survived unreported",
];

/// Counts by name.
#[derive(Clone, Default, Debug)]
pub struct Sometimes {
    counts: Vec<(&'static str, u64)>,
    /// Where a text is counted, by its address and length, so that counting compares no texts. One
    /// text may stand at several addresses.
    places: BTreeMap<(usize, usize), usize>,
}

impl Sometimes {
    /// Counts one.
    pub fn hit(&mut self, what: &'static str) {
        self.count_more(what, 1);
    }

    fn count_more(&mut self, what: &'static str, more: u64) {
        let next = self.counts.len();
        let address = (what.as_ptr().addr(), what.len());
        let place = *self.places.entry(address).or_insert(next);
        match self.counts.get_mut(place) {
            Some((_, count)) => *count += more,
            None => self.counts.push((what, more)),
        }
    }

    /// How often.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        let same = self.counts.iter().filter(|(name, _)| *name == what);
        same.map(|(_, count)| count).sum()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            self.count_more(what, *count);
        }
    }

    /// What was never reached of what every full batch must reach.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let required = REQUIRED.into_iter();
        required.filter(|what| self.count(what) == 0).collect()
    }

    /// How many of what every full batch must reach were reached.
    #[must_use]
    pub fn reached(&self) -> usize {
        REQUIRED.len() - self.missed().len()
    }

    /// All counts, one a line.
    #[must_use]
    pub fn table(&self) -> String {
        let mut named: BTreeMap<&str, u64> = BTreeMap::new();
        for (what, count) in &self.counts {
            *named.entry(what).or_default() += count;
        }
        let rows = named
            .iter()
            .map(|(what, count)| format!("{count:>9}  {what}"));
        rows.collect::<Vec<_>>().join("\n")
    }
}
