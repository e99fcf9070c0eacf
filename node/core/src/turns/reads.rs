//! ReadIndex rounds: one in flight, the next collects.

use ghostlight_protocol::actor::ActorKey;

use super::ConfirmId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    begun: u64,
    confirmed: u64,
    /// Actors with answers that wait for the round in flight.
    current: Vec<ActorKey>,
    /// Actors with answers that need the one after it.
    next: Vec<ActorKey>,
}

impl Rounds {
    /// The last round begun: an answer to a request that arrives now needs a later one.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    pub(super) fn is_confirmed(&self, round: u64) -> bool {
        round <= self.confirmed
    }

    /// Lists an actor for `round`; `listed` is the actor's own note that it is.
    pub(super) fn list(&mut self, round: u64, actor: &ActorKey, listed: &mut [u64; 2]) {
        assert!(round <= self.begun + 1, "a round is begun in its turn");
        let note = &mut listed[(round & 1) as usize];
        if self.is_confirmed(round) || *note == round {
            return;
        }
        *note = round;
        if round == self.begun {
            self.current.push(actor.clone());
        } else {
            self.next.push(actor.clone());
        }
    }

    /// Begins the next round if somebody needs it and none is in flight.
    pub(super) fn begin(&mut self) -> Option<ConfirmId> {
        if self.begun != self.confirmed || self.next.is_empty() {
            return None;
        }
        assert!(self.current.is_empty());
        self.begun += 1;
        std::mem::swap(&mut self.current, &mut self.next);
        Some(ConfirmId(self.begun))
    }

    /// A round was confirmed: whose answers to look at.
    pub(super) fn confirm(&mut self, round: ConfirmId) -> Vec<ActorKey> {
        if round.0 != self.begun || self.begun == self.confirmed {
            return Vec::new();
        }
        self.confirmed = round.0;
        std::mem::take(&mut self.current)
    }
}
