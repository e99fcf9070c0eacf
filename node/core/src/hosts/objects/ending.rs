//! All objects of the applications here go, because their node ends: whatever is known to exist is
//! told so, once, and so many at a time (dapr-api 2.2: a sidecar that ends deactivates its actors).
//! Absent: when this begins, and for how long it may go on (`node::hosting::ending`).

use std::collections::VecDeque;

use ghostlight_protocol::actor::ActorKey;

use super::{HostEffect, Object, Objects, Stage};

/// Objects that are told to go at a time.
pub(super) const ASKED_MAX: usize = 256;

/// The objects of a node that ends.
#[derive(Debug)]
pub(super) struct Departure {
    /// Not told yet.
    left: VecDeque<ActorKey>,
    /// Told, and without an answer.
    asked: Vec<ActorKey>,
}

impl Objects {
    /// Tells the objects to go, and returns how many have not gone. To be called again while there
    /// are any. One in which a turn runs is left alone: the turn is worth more than the word.
    pub fn let_all_go(&mut self, out: &mut Vec<HostEffect>) -> usize {
        let mut departure = self.departure.take().unwrap_or_else(|| Departure {
            left: self.table.keys().cloned().collect(),
            asked: Vec::new(),
        });
        departure.asked.retain(|actor| self.is_told_to_go(actor));
        while departure.asked.len() < ASKED_MAX
            && let Some(actor) = departure.left.pop_front()
        {
            let object = self.table.get_mut(&actor);
            let Some(object) = object.filter(|object| matches!(object.stage, Stage::Idle)) else {
                continue;
            };
            if let Some(activation) = object.serves.take() {
                self.activations.remove(&activation);
            }
            self.let_go(&actor, out);
            if self.is_told_to_go(&actor) {
                departure.asked.push(actor);
            }
        }
        let remaining = departure.left.len() + departure.asked.len();
        self.departure = Some(departure);
        remaining
    }

    fn is_told_to_go(&self, actor: &ActorKey) -> bool {
        let is_told = |object: &Object| matches!(object.stage, Stage::Resetting { .. });
        self.table.get(actor).is_some_and(is_told)
    }
}
