//! Whether a cluster is whole: led, at full strength, drained; and what every actor holds.

use std::collections::BTreeSet;

use ghostlight_core::admin::AdminRequest;
use ghostlight_protocol::ids::{NodeId, PartitionId, PeerId};
use ghostlight_protocol::outcome::CallOutcome;
use serde_json::Value;

use super::World;
use crate::clients::Op;
use crate::dice::SEC;
use crate::invariants::FinalState;
use crate::net::Place;
use crate::process::Fate;

impl World {
    /// Whether every group is led and has all its copies, on nodes that run.
    pub fn settled(&self) -> bool {
        self.unsettled().is_none()
    }

    /// Places where a node of this cluster runs.
    pub(crate) fn ours(&self) -> Vec<Place> {
        let alive = self.alive().into_iter();
        alive
            .filter(|place| !self.foreign.contains(place))
            .collect()
    }

    /// Whether every partition is served by some node.
    #[must_use]
    pub fn all_led(&self) -> bool {
        (0..self.params.partitions).all(|partition| {
            self.ours()
                .into_iter()
                .filter_map(|place| self.nodes[place].process.as_ref())
                .any(|process| {
                    process
                        .core
                        .replicas()
                        .any(|r| r.partition.0 == partition && r.serves.is_some())
                })
        })
    }

    /// Copies that each partition has when all is well.
    pub(crate) fn copies_wanted(&self) -> usize {
        // Two nodes cannot outvote each other: one has the vote, the other a copy at most.
        match self.ours().len() {
            2 => 1,
            nodes => usize::from(self.params.factor).min(nodes),
        }
    }

    /// What is still missing, of a partition that is not whole.
    #[must_use]
    pub fn unsettled(&self) -> Option<String> {
        let alive: BTreeSet<NodeId> = self.ours().iter().filter_map(|p| self.id_of(*p)).collect();
        for place in 0..self.nodes.len() {
            if self.nodes[place].process.is_none() && self.nodes[place].fate == Fate::Returns {
                return Some(format!("node {place} does not run"));
            }
        }
        if !self.closing.is_empty() {
            return Some(format!("{:?} shut down", self.closing));
        }
        let wanted = self.copies_wanted();
        for partition in 0..self.params.partitions {
            let led = self.ours().into_iter().find_map(|place| {
                let process = self.nodes[place].process.as_ref()?;
                let mut replicas = process.core.replicas();
                replicas
                    .find(|r| r.partition.0 == partition && r.serves.is_some())
                    .map(|r| {
                        let voters: Vec<Option<NodeId>> = r
                            .membership
                            .voters
                            .iter()
                            .map(|v| r.membership.node_of(PeerId(*v)))
                            .collect();
                        let two = self.ours().len() == 2;
                        let moving =
                            r.membership.is_joint() || (!two && !r.membership.learners.is_empty());
                        let living = voters
                            .iter()
                            .flatten()
                            .filter(|n| alive.contains(n))
                            .count();
                        (voters, living, moving, format!("{r:?}"))
                    })
            });
            match led {
                None => return Some(format!("p{partition} has no leader")),
                Some((voters, living, moving, facts)) => {
                    if voters.len() != wanted || living != wanted || moving {
                        return Some(format!("p{partition} wants {wanted} copies, has: {facts}"));
                    }
                    if let Some(what) = self.broken_promise(PartitionId(partition)) {
                        return Some(format!("p{partition} has a voter that forgot: {what}"));
                    }
                    let voters = voters.into_iter().flatten().collect();
                    if let Some(what) = self.unknown_voters(PartitionId(partition), &voters) {
                        return Some(what);
                    }
                }
            }
        }
        None
    }

    /// A node that takes others for the voters of a partition than its leader does.
    fn unknown_voters(&self, partition: PartitionId, voters: &BTreeSet<NodeId>) -> Option<String> {
        self.ours().into_iter().find_map(|place| {
            let process = self.nodes[place].process.as_ref()?;
            let known = process.core.known_voters(partition);
            (known != *voters).then(|| {
                format!(
                    "node {place} takes {known:?} for the voters of {partition}, and not {voters:?}"
                )
            })
        })
    }

    /// A voter of a partition that has lost something it had synced.
    fn broken_promise(&self, partition: PartitionId) -> Option<&str> {
        let membership = self.membership(partition)?;
        let mut voters = membership.voters.iter();
        voters.find_map(|voter| self.checks.broken(partition, PeerId(*voter)))
    }

    /// Whom each node believes to be what, for the report of a failure.
    #[must_use]
    pub fn members(&self) -> String {
        let rows = self.alive().into_iter().filter_map(|place| {
            let process = self.nodes[place].process.as_ref()?;
            let states = process.core.member_states();
            let states: Vec<String> = states
                .map(|(node, state)| format!("{node} {state:?}"))
                .collect();
            Some(format!(
                "node {place} {}: {}",
                process.id,
                states.join(", ")
            ))
        });
        rows.collect::<Vec<_>>().join("; ")
    }

    /// What every node says of its cluster, for a broken promise that only that explains.
    pub(crate) fn statuses(&mut self) -> String {
        self.admin.clear();
        for place in self.alive() {
            self.order(place, AdminRequest::Status);
        }
        let now = self.now();
        self.run_until(now + SEC);
        format!("{:?}", self.admin)
    }

    /// Messages between partitions that wait somewhere.
    #[must_use]
    pub fn waiting_messages(&self) -> u64 {
        let mut waiting = 0;
        for place in self.ours() {
            let Some(process) = &self.nodes[place].process else {
                continue;
            };
            for replica in process.core.replicas().filter(|r| r.serves.is_some()) {
                waiting += replica
                    .row
                    .map_or(0, |row| row.outbox_rows + row.inbox_rows);
            }
        }
        waiting
    }

    /// What every actor holds, as read at one node.
    ///
    /// # Errors
    /// A read that was not answered.
    pub(crate) fn read_all(&mut self, place: Place) -> Result<FinalState, String> {
        let mut found = FinalState::default();
        for actor in 0..self.params.work.actors {
            let lines = self.read_one(place, &Op::Read { log: actor })?;
            let lines = lines.as_array().cloned().unwrap_or_default();
            found.logs.push(
                lines
                    .iter()
                    .map(|l| l.as_str().unwrap_or("?").to_owned())
                    .collect(),
            );
            let total = self.read_one(place, &Op::Get { counter: actor })?;
            found.counters.push(total.as_i64().unwrap_or(i64::MIN));
            let balance = self.read_one(place, &Op::Balance { account: actor })?;
            found
                .balances
                .push(balance.as_u64().map_or(u128::MAX, u128::from));
            if self.params.topics.turns > 0.0 {
                let said = self.read_one(place, &Op::Said { herald: actor })?;
                let said = serde_json::from_value(said).map_err(|error| error.to_string())?;
                found.heralds.push(said);
            }
        }
        Ok(found)
    }

    fn read_one(&mut self, place: Place, op: &Op) -> Result<Value, String> {
        match self.ask(place, op) {
            Some(CallOutcome::Reply(body)) => {
                serde_json::from_slice(&body).map_err(|error| format!("{op:?}: {error}"))
            }
            other => Err(format!(
                "{op:?} at node {place} of a healed cluster: {other:?}"
            )),
        }
    }
}
