//! The two message sequences of a conversation between a leader and a host: numbered, taken in
//! order, sent again until they are taken.
//!
//! Frames and connections get lost without a word; messages here do not. When a sequence cannot be
//! kept (the peer is away for too long, or has a new life), it begins anew under a larger
//! *incarnation*: the receiver then knows that everything of the one before is over. A new process
//! of the peer has taken nothing, so what is said to it is a sequence of its own
//! ([`Channel::met`]). Absent: what the messages mean.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::host::{HostFrame, HostMessage, HostRole};
use prost::Message;

/// Messages without an acknowledgement; beyond it the sequence is given up.
const UNTAKEN_MAX: usize = 16_384;
/// Bytes of them.
const UNTAKEN_BYTES_MAX: usize = 64 << 20;
/// Bytes of one frame; a single larger message has one of its own.
const FRAME_BYTES: usize = 48 << 10;
/// Bytes that are sent again at once.
const RESEND_BYTES: usize = 2 * REQUEST_BODY_BYTES_MAX;
/// Without news of them for this long, messages are sent again.
const RESEND_AFTER: Duration = Duration::from_millis(300);
/// Messages that came before those that belong before them.
const EARLY_MAX: usize = 256;

/// Both sequences of one conversation.
#[derive(Debug)]
pub struct Channel {
    /// What this node is in it.
    role: HostRole,
    outgoing: Outgoing,
    incoming: Incoming,
    owes: Owes,
    /// Below all incarnations of the peer's process, and above those of its processes before.
    life: u64,
}

#[derive(Debug)]
struct Outgoing {
    incarnation: u64,
    /// Number of the first message in `untaken`.
    first: u64,
    untaken: VecDeque<HostMessage>,
    bytes: usize,
    /// Messages of `untaken` that were sent.
    sent: usize,
    heard: Instant,
    known: Known,
}

/// Whether the peer has heard of an incarnation. It is told again until it has, also when there is
/// no message: it may wait for one that went with the sequence before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    No,
    Yes,
}

#[derive(Debug, Default)]
struct Incoming {
    incarnation: u64,
    taken: u64,
    early: BTreeMap<u64, HostMessage>,
}

/// Whether the peer is to be told what was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owes {
    Nothing,
    News,
}

/// What a frame brought.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    /// The peer has begun anew: everything of before is over, and comes before the messages.
    pub began_anew: bool,
    /// Messages, in order.
    pub messages: Vec<HostMessage>,
}

/// Whose process the peer's is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Met {
    /// The one that the sequences are with.
    Before,
    /// Another one: everything of before is over.
    New,
}

/// Whether a message found room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queued {
    /// It is on its way.
    Yes,
    /// The peer takes nothing: the sequence should begin anew.
    Full,
}

impl Channel {
    /// A channel whose sequence begins as `incarnation`, larger than any this node had with the
    /// peer.
    #[must_use]
    pub fn new(now: Instant, role: HostRole, incarnation: u64) -> Self {
        Self {
            role,
            outgoing: Outgoing {
                incarnation,
                first: 1,
                untaken: VecDeque::new(),
                bytes: 0,
                sent: 0,
                heard: now,
                known: Known::No,
            },
            incoming: Incoming::default(),
            owes: Owes::Nothing,
            life: 0,
        }
    }

    /// The peer's process is one whose incarnations are all above `life`.
    ///
    /// A new one has taken nothing and says nothing of before: both sequences begin anew, without a
    /// word of the peer's that they do.
    pub fn met(&mut self, now: Instant, life: u64) -> Met {
        if life <= self.life {
            return Met::Before;
        }
        self.life = life;
        // Its first words may have come first.
        if self.incoming.incarnation < life {
            self.incoming = Incoming {
                incarnation: life,
                ..Incoming::default()
            };
        }
        self.begin_anew(now);
        Met::New
    }

    /// Queues a message.
    pub fn push(&mut self, now: Instant, message: HostMessage) -> Queued {
        let out = &mut self.outgoing;
        let bytes = message.encoded_len();
        if out.untaken.len() >= UNTAKEN_MAX || out.bytes + bytes > UNTAKEN_BYTES_MAX {
            return Queued::Full;
        }
        if out.untaken.is_empty() {
            out.heard = now;
        }
        out.bytes += bytes;
        out.untaken.push_back(message);
        Queued::Yes
    }

    /// Gives the outgoing sequence up: what was not taken is dropped, the peer will know.
    pub fn begin_anew(&mut self, now: Instant) {
        let incarnation = self.outgoing.incarnation + 1;
        let fresh = Self::new(now, self.role, incarnation);
        self.outgoing = fresh.outgoing;
        self.owes = Owes::News;
    }

    /// Takes a frame of the peer.
    pub fn take(&mut self, now: Instant, frame: HostFrame) -> Taken {
        self.acknowledged(now, &frame);
        let mut taken = Taken::default();
        let incoming = &mut self.incoming;
        if frame.incarnation < incoming.incarnation {
            return taken; // Late, of a sequence that was given up.
        }
        if frame.incarnation > incoming.incarnation {
            taken.began_anew = incoming.incarnation > self.life;
            *incoming = Incoming {
                incarnation: frame.incarnation,
                ..Incoming::default()
            };
            self.owes = Owes::News;
        }
        if !frame.messages.is_empty() {
            self.owes = Owes::News;
        }
        for (number, message) in (frame.first..).zip(frame.messages) {
            let room = incoming.early.len() < EARLY_MAX;
            if number > incoming.taken && (room || number == incoming.taken + 1) {
                incoming.early.insert(number, message);
            }
        }
        while let Some(message) = incoming.early.remove(&(incoming.taken + 1)) {
            incoming.taken += 1;
            taken.messages.push(message);
        }
        taken
    }

    fn acknowledged(&mut self, now: Instant, frame: &HostFrame) {
        let out = &mut self.outgoing;
        if frame.taken_incarnation != out.incarnation {
            return;
        }
        out.known = Known::Yes;
        while out.first <= frame.taken
            && let Some(message) = out.untaken.pop_front()
        {
            out.first += 1;
            out.sent = out.sent.saturating_sub(1);
            out.bytes -= message.encoded_len();
            out.heard = now;
        }
    }

    /// Time passes, or the connection to the peer is a new one: what it may have missed is sent
    /// again.
    pub fn resend(&mut self, now: Instant, why: Resend) {
        let out = &mut self.outgoing;
        let waits = out.sent > 0 || out.known == Known::No;
        let due = waits && now.since(out.heard) >= RESEND_AFTER;
        if due || why == Resend::Connected {
            out.sent = 0;
            out.heard = now;
            if out.known == Known::No {
                self.owes = Owes::News;
            }
        }
    }

    /// Frames to send now.
    pub fn flush(&mut self, frames: &mut Vec<HostFrame>) {
        let (incarnation, taken) = (self.incoming.incarnation, self.incoming.taken);
        let out = &mut self.outgoing;
        let mut budget = RESEND_BYTES;
        while out.sent < out.untaken.len() && budget > 0 {
            let mut frame = HostFrame {
                incarnation: out.incarnation,
                first: out.first + out.sent as u64,
                taken_incarnation: incarnation,
                taken,
                sender: self.role as i32,
                ..HostFrame::default()
            };
            let mut bytes = 0;
            while let Some(message) = out.untaken.get(out.sent) {
                let more = message.encoded_len();
                if bytes > 0 && bytes + more > FRAME_BYTES {
                    break;
                }
                bytes += more;
                frame.messages.push(message.clone());
                out.sent += 1;
            }
            budget = budget.saturating_sub(bytes);
            frames.push(frame);
            self.owes = Owes::Nothing;
        }
        if self.owes == Owes::News {
            self.owes = Owes::Nothing;
            frames.push(HostFrame {
                incarnation: out.incarnation,
                first: out.first + out.sent as u64,
                messages: Vec::new(),
                taken_incarnation: incarnation,
                taken,
                sender: self.role as i32,
            });
        }
    }

    /// Whether anything waits for the peer.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.outgoing.untaken.is_empty()
    }
}

/// Why messages may be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resend {
    /// Time has passed.
    Time,
    /// There is a new connection.
    Connected,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ghostlight_protocol::wire::host::{End, HostActivation, HostEnded, HostTurn, Said};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn message(number: u64, size: usize) -> HostMessage {
        HostMessage {
            said: Some(Said::Ended(HostEnded {
                turn: HostTurn {
                    activation: HostActivation::default(),
                    number,
                },
                end: Some(End::Lost("x".repeat(size))),
            })),
        }
    }

    fn leader(now: Instant, incarnation: u64) -> Channel {
        Channel::new(now, HostRole::Leader, incarnation)
    }

    fn host(now: Instant, incarnation: u64) -> Channel {
        Channel::new(now, HostRole::Host, incarnation)
    }

    fn number(message: &HostMessage) -> u64 {
        match &message.said {
            Some(Said::Ended(ended)) => ended.turn.number,
            other => panic!("{other:?}"),
        }
    }

    /// Whatever is lost, doubled or late: each message is taken once and in order, unless a
    /// sequence begins anew, which the receiver then hears before anything of the new one.
    #[test]
    fn messages_are_taken_once_and_in_order() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut now = Instant(1);
            let (mut one, mut other) = (leader(now, 5), host(now, 9));
            let (mut to_other, mut to_one): (Vec<HostFrame>, Vec<HostFrame>) = Default::default();
            let (mut pushed, mut base, mut seen) = (0_u64, 0_u64, Vec::new());
            for step in 0..400 {
                now = now + Duration::from_millis(rng.random_range(0..120));
                let calm = step > 300;
                if !calm && rng.random_bool(0.5) {
                    pushed += 1;
                    let size = if rng.random_bool(0.1) { 60_000 } else { 10 };
                    assert_eq!(one.push(now, message(pushed, size)), Queued::Yes);
                }
                if !calm && rng.random_bool(0.01) {
                    one.begin_anew(now);
                    base = pushed;
                }
                one.resend(now, Resend::Time);
                one.flush(&mut to_other);
                other.flush(&mut to_one);
                let loss = if calm { 0.0 } else { 0.3 };
                while !to_other.is_empty() {
                    let at = rng.random_range(0..to_other.len());
                    let frame = to_other.remove(at);
                    if rng.random_bool(loss) {
                        continue;
                    }
                    let taken = other.take(now, frame);
                    if taken.began_anew {
                        seen.clear();
                    }
                    seen.extend(taken.messages.iter().map(number));
                }
                for frame in to_one.drain(..) {
                    if !rng.random_bool(loss) {
                        one.take(now, frame);
                    }
                }
                let in_order = seen.windows(2).all(|pair| pair[0] + 1 == pair[1]);
                assert!(in_order, "seed {seed}: {seen:?}");
            }
            let last = seen.last().copied().unwrap_or(base);
            assert_eq!(
                last.max(base),
                pushed,
                "seed {seed}: all of the last sequence"
            );
            assert!(!one.waits(), "seed {seed}: and acknowledged");
            let heard_of = other.incoming.incarnation;
            let last = one.outgoing.incarnation;
            assert_eq!(heard_of, last, "seed {seed}: whoever begins anew is heard");
        }
    }

    /// Hands over all frames of both sides; whether the one that takes first was told of a new
    /// beginning.
    fn exchange(now: Instant, one: &mut Channel, other: &mut Channel) -> (Vec<u64>, bool) {
        let (mut to_other, mut to_one) = (Vec::new(), Vec::new());
        one.flush(&mut to_other);
        let mut seen = Vec::new();
        for frame in to_other {
            seen.extend(other.take(now, frame).messages.iter().map(number));
        }
        other.flush(&mut to_one);
        let told = to_one.into_iter().map(|frame| one.take(now, frame));
        (seen, told.fold(false, |any, taken| any | taken.began_anew))
    }

    /// A process that was started again has taken nothing: what is said to it is a sequence of its
    /// own, and its first words end nothing that began with it.
    #[test]
    fn a_new_process_of_the_peer_takes_what_is_said_to_it() {
        let (first, second) = (1 << 24, 2 << 24);
        let now = Instant(1);
        let (mut one, mut other) = (leader(now, 5), host(now, first + 1));
        assert_eq!(one.met(now, first), Met::New);
        one.push(now, message(1, 0));
        assert_eq!(exchange(now, &mut one, &mut other), (vec![1], false));
        // Said to the old process, and never taken.
        one.push(now, message(2, 0));
        let mut lost = Vec::new();
        one.flush(&mut lost);

        let mut other = host(now, second + 1);
        assert_eq!(one.met(now, first), Met::Before);
        assert_eq!(one.met(now, second), Met::New);
        one.push(now, message(3, 0));
        assert_eq!(exchange(now, &mut one, &mut other), (vec![3], false));
        assert_eq!(one.met(now, second), Met::Before);
        assert!(!one.waits());
        // Within its life it may begin anew, and that is told.
        other.begin_anew(now);
        assert_eq!(exchange(now, &mut one, &mut other), (vec![], true));
    }

    #[test]
    fn a_sequence_has_a_bound() {
        let mut one = leader(Instant(1), 1);
        let mut pushed = 0;
        while one.push(Instant(1), message(1, 0)) == Queued::Yes {
            pushed += 1;
        }
        assert_eq!(pushed, UNTAKEN_MAX);
        one.begin_anew(Instant(2));
        assert_eq!(one.push(Instant(2), message(1, 0)), Queued::Yes);
    }
}
