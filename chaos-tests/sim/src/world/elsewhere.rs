//! Clients that look elsewhere: who was acknowledged a write asks another node at once whether it
//! is there.
//!
//! Preferably one that still believes that it leads: nobody else can give an old answer.

use ghostlight_protocol::hash::partition_of;

use super::World;
use crate::clients::{Op, Then};
use crate::net::Place;

impl World {
    /// After a write was acknowledged at a place: perhaps the client reads it elsewhere next.
    pub(super) fn perhaps_elsewhere(&mut self, client: usize, op: &Op, at: Place) {
        let read = match op {
            Op::Append { log, .. } => Op::Read { log: *log },
            Op::Add { counter } => Op::Get { counter: *counter },
            Op::Say { herald, .. } => Op::Said { herald: *herald },
            _ => return,
        };
        if self.dice.work.chance(self.params.work.elsewhere) {
            let then = Then { op: read, not: at };
            self.clients.clients[client].then = Some(then);
        }
    }

    /// Where a client looks that does not want to ask `not` again.
    pub(super) fn elsewhere(&mut self, op: &Op, not: Place, open: &[Place]) -> Option<Place> {
        let partition = partition_of(&op.call().0, self.params.partitions);
        let serving: Vec<Place> = self.serving_places(partition);
        let others: Vec<Place> = open.iter().copied().filter(|place| *place != not).collect();
        let rivals: Vec<Place> = match serving.len() {
            0 | 1 => Vec::new(),
            _ => serving.into_iter().filter(|p| others.contains(p)).collect(),
        };
        if !rivals.is_empty() {
            self.sometimes.hit("asked one of two that believe to lead");
            return Some(*self.dice.work.pick(&rivals));
        }
        (!others.is_empty()).then(|| *self.dice.work.pick(&others))
    }
}
