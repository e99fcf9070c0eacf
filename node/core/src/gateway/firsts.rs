//! When requests with ids of their own were first made here: an attempt that a client makes later,
//! because the first one had no answer, shows its turn the same time. What the turn asks of others
//! then is the same too, and finds its record there.
//!
//! Bounded in number, the oldest go first; and by the age of records, after which an id may be used
//! anew. Absent: attempts through other gateways, which know nothing of each other.

use std::collections::{BTreeMap, VecDeque};

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::limits::DEDUP_AGE_MAX;
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::Instant;

/// Requests remembered.
const FIRSTS_MAX: usize = 8_192;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Firsts {
    stamps: BTreeMap<(ActorKey, RequestId), (Instant, Stamp)>,
    order: VecDeque<(ActorKey, RequestId)>,
}

impl Firsts {
    /// A client makes a request; gives the stamp of the first one of this id.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        actor: &ActorKey,
        id: &RequestId,
        stamp: Stamp,
    ) -> Stamp {
        let key = (actor.clone(), id.clone());
        if let Some((since, first)) = self.stamps.get_mut(&key) {
            if now.since(*since) >= DEDUP_AGE_MAX {
                (*since, *first) = (now, stamp);
            }
            return *first;
        }
        if self.order.len() >= FIRSTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.stamps.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.stamps.insert(key, (now, stamp));
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(id: &str) -> ActorKey {
        ActorKey::new("default", "counter", id).unwrap()
    }

    fn id(n: usize) -> RequestId {
        RequestId::outside(n.to_string().as_bytes()).unwrap()
    }

    fn stamp(wall_ms: u64) -> Stamp {
        Stamp { wall_ms, seed: 0 }
    }

    #[test]
    fn the_first_stamp_of_an_actor_and_id_stays() {
        let mut firsts = Firsts::default();
        let day = DEDUP_AGE_MAX.as_secs();
        let rows = [
            ("a", 1, 10, 10),
            ("a", 1, 20, 10),
            ("b", 1, 30, 30),
            ("a", 2, 40, 40),
            ("a", 1, 9 + day, 10),
            ("a", 1, 10 + day, 10 + day),
            ("a", 1, 11 + day, 10 + day),
        ];
        for (name, request, now, expected) in rows {
            let at = Instant(now * 1_000_000_000);
            let found = firsts.begin(at, &actor(name), &id(request), stamp(now));
            assert_eq!(found.wall_ms, expected, "{name} {request} at {now}");
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut firsts = Firsts::default();
        for n in 0..FIRSTS_MAX + 1 {
            firsts.begin(Instant(0), &actor("a"), &id(n), stamp(1));
        }
        assert_eq!(firsts.stamps.len(), FIRSTS_MAX);
        for (n, expected) in [(1, 1), (0, 2)] {
            let found = firsts.begin(Instant(0), &actor("a"), &id(n), stamp(2));
            assert_eq!(found.wall_ms, expected, "{n}");
        }
    }
}
