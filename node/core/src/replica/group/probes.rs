//! Large appends that are on their way already are not sent again at once.
//!
//! A leader that does not know how far a peer is sends it one append and waits for the answer. The
//! engine repeats that append at every heartbeat that is answered, some seven times a second, with
//! all its entries. Where they take longer than that to arrive, each repetition stands before
//! whatever comes next, and the peer does not catch up any more. A lane loses nothing while its
//! connection lives, and a lost connection is told (`Group::unreachable`); so a large append is
//! repeated after a while only, and later every time. It is repeated at all because a full lane
//! takes nothing, and a peer may not be ready to look at it.

use std::collections::BTreeMap;

/// Bytes of entries up to which an append is repeated as often as the engine likes.
pub(super) const SMALL_BYTES: usize = 16 << 10;
/// Ticks until the first repetition, and the longest until a later one: half a second, and eight.
const PAUSE_TICKS: (u64, u64) = (10, 160);

/// The last large append to each peer whose progress is not known.
#[derive(Default, Debug)]
pub(super) struct Probes {
    ticks: u64,
    sent: BTreeMap<u64, Sent>,
}

#[derive(Debug)]
struct Sent {
    term: u64,
    /// The entry before its entries.
    after: u64,
    pause: u64,
    again_at: u64,
}

/// Whether an append is to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaves {
    Now,
    /// It is on its way already.
    NotAgain,
}

impl Probes {
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
    }

    /// What was sent to a peer may be lost.
    pub(super) fn forget(&mut self, peer: u64) {
        self.sent.remove(&peer);
    }

    pub(super) fn retain(&mut self, stays: impl Fn(u64) -> bool) {
        self.sent.retain(|peer, _| stays(*peer));
    }

    /// A large append of a term, after an entry, is to be sent to a peer.
    pub(super) fn send(&mut self, peer: u64, term: u64, after: u64) -> Leaves {
        let ticks = self.ticks;
        if let Some(sent) = self.sent.get_mut(&peer)
            && (sent.term, sent.after) == (term, after)
        {
            if ticks < sent.again_at {
                return Leaves::NotAgain;
            }
            sent.pause = (2 * sent.pause).min(PAUSE_TICKS.1);
            sent.again_at = ticks + sent.pause;
            return Leaves::Now;
        }
        let pause = PAUSE_TICKS.0;
        let again_at = ticks + pause;
        let sent = Sent {
            term,
            after,
            pause,
            again_at,
        };
        self.sent.insert(peer, sent);
        Leaves::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_become_rare_until_something_changes() {
        let mut probes = Probes::default();
        let mut left = Vec::new();
        for tick in 0..1_000 {
            if probes.send(7, 3, 20) == Leaves::Now {
                left.push(tick);
            }
            probes.tick();
        }
        assert_eq!(left, [0, 10, 30, 70, 150, 310, 470, 630, 790, 950]);
        assert_eq!(probes.send(8, 3, 20), Leaves::Now, "another peer");
        assert_eq!(probes.send(7, 3, 20), Leaves::NotAgain);
        assert_eq!(probes.send(7, 3, 21), Leaves::Now, "it got further");
        assert_eq!(probes.send(7, 4, 21), Leaves::Now, "another term");
        assert_eq!(probes.send(7, 4, 21), Leaves::NotAgain);
        probes.forget(7);
        assert_eq!(probes.send(7, 4, 21), Leaves::Now, "it may be lost");
        probes.retain(|peer| peer != 7);
        assert_eq!(probes.send(7, 4, 21), Leaves::Now);
    }
}
