//! Which events of a channel the server has not confirmed, and who waits for them.
//!
//! Pure. A server with a resource alarm stops reading, and says so only to clients that ask for
//! that; amqprs does not. It is known by its silence: something waits for a confirmation, and none
//! comes. Then nothing more is sent but a word now and then, by which the end of the alarm is
//! noticed also where the events before it are stuck for good.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

/// A server that has confirmed nothing for so long, with events to confirm, takes none.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How often an event is sent to a server that is silent.
pub(super) const PROBE_PERIOD: Duration = Duration::from_secs(30);

/// What became of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The server has it.
    Taken,
    /// The server says that it has not.
    Refused(String),
    /// It never left: the connection is broken.
    Kept,
    /// Nobody can tell.
    Lost(String),
}

/// How many events an answer is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Several {
    One,
    UpTo,
}

/// One that waits: its publisher may have left, its event has not.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) fate: oneshot::Sender<Fate>,
    /// Among the publishes of its component.
    pub(super) place: OwnedSemaphorePermit,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Confirms {
    /// Number of the last event on the channel.
    last: u64,
    by_number: BTreeMap<u64, Waiting>,
    /// When the server confirmed something, or had nothing to confirm.
    heard: Instant,
    sent: Instant,
}

impl Confirms {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: 0,
            by_number: BTreeMap::new(),
            heard: now,
            sent: now,
        }
    }

    /// The next event on the channel is this one's.
    pub(super) fn next(&mut self, now: Instant, waiting: Waiting) {
        if self.by_number.is_empty() {
            self.heard = now;
        }
        self.sent = now;
        self.last += 1;
        self.by_number.insert(self.last, waiting);
    }

    /// One number, or all up to it.
    pub(super) fn tell(&mut self, now: Instant, number: u64, several: Several, fate: &Fate) {
        self.heard = now;
        let told: Vec<_> = match several {
            Several::One => self.by_number.remove(&number).into_iter().collect(),
            Several::UpTo => {
                let later = self.by_number.split_off(&(number + 1));
                let told = std::mem::replace(&mut self.by_number, later);
                told.into_values().collect()
            }
        };
        for Waiting { fate: waits, place } in told {
            drop(place);
            // Its publisher may have left.
            drop(waits.send(fate.clone()));
        }
    }

    /// How long the server has been silent, if that is too long.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        let silence = now.duration_since(self.heard);
        (!self.by_number.is_empty() && silence > SILENCE_MAX).then_some(silence)
    }

    /// Whether an event may be sent.
    pub(super) fn takes(&self, now: Instant) -> bool {
        self.silence(now).is_none() || now.duration_since(self.sent) > PROBE_PERIOD
    }

    /// The connection broke.
    pub(super) fn lose(&mut self) {
        let lost = std::mem::take(&mut self.by_number);
        for Waiting { fate, .. } in lost.into_values() {
            // Its publisher may have left.
            drop(fate.send(Fate::Lost("the connection to RabbitMQ broke".to_owned())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn waiting(room: &Arc<Semaphore>) -> (Waiting, oneshot::Receiver<Fate>) {
        let (fate, told) = oneshot::channel();
        let place = Arc::clone(room).try_acquire_owned().unwrap();
        (Waiting { fate, place }, told)
    }

    #[test]
    fn confirmations_are_told_one_by_one_or_up_to_a_number() {
        let (now, room) = (Instant::now(), Arc::new(Semaphore::new(4)));
        let mut confirms = Confirms::new(now);
        let mut fates = Vec::new();
        for _ in 0..4 {
            let (waiting, told) = waiting(&room);
            confirms.next(now, waiting);
            fates.push(told);
        }
        assert_eq!(room.available_permits(), 0);
        confirms.tell(now, 2, Several::One, &Fate::Taken);
        let refused = Fate::Refused("full".to_owned());
        confirms.tell(now, 3, Several::UpTo, &refused);
        let told: Vec<_> = fates.iter_mut().map(|fate| fate.try_recv().ok()).collect();
        let wanted = [
            Some(refused.clone()),
            Some(Fate::Taken),
            Some(refused),
            None,
        ];
        assert_eq!(told, wanted);
        assert_eq!(room.available_permits(), 3);
        confirms.lose();
        assert!(matches!(fates[3].try_recv(), Ok(Fate::Lost(_))));
        assert_eq!(room.available_permits(), 4);
    }

    /// An event whose publisher has left keeps its place; a server that confirms nothing gets a
    /// word now and then.
    #[test]
    fn a_silent_server_is_noticed_and_asked_now_and_then() {
        let (begin, room) = (Instant::now(), Arc::new(Semaphore::new(8)));
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut confirms = Confirms::new(begin);
        let send = |confirms: &mut Confirms, second| {
            let (waiting, told) = waiting(&room);
            confirms.next(at(second), waiting);
            drop(told);
        };
        assert!(confirms.takes(at(100)), "it has nothing to confirm");
        for second in 100..103 {
            send(&mut confirms, second);
        }
        assert_eq!(
            (confirms.silence(at(105)), confirms.takes(at(105))),
            (None, true)
        );
        assert_eq!(confirms.silence(at(106)), Some(Duration::from_secs(6)));
        assert!(!confirms.takes(at(106)));
        assert!(!confirms.takes(at(132)));
        assert!(confirms.takes(at(133)), "whether the alarm is over");
        send(&mut confirms, 133);
        assert!(!confirms.takes(at(134)));
        confirms.tell(at(200), 2, Several::UpTo, &Fate::Taken);
        assert!(confirms.takes(at(204)));
        assert_eq!(room.available_permits(), 6);
    }
}
