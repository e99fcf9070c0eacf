//! How many calls the connections of one HTTP listener may carry at once, together.
//!
//! What a connection may carry is told to its client when it begins, and cannot be changed later:
//! so each new one gets a part of what those before it have left, and some in any case. What is
//! beyond waits at clients, where giving it up costs nothing here. One that turns out to be
//! HTTP/1.1 carries one call at a time, and gives the rest back. Absent: gRPC, where what a running
//! turn asks travels on the connection of the calls that wait for it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Calls of one listener at once for each processor: what it does in some tenths of a second.
const STREAMS_PER_PROCESSOR: u32 = 512;
/// Of what is left, a new connection gets one part of so many.
const PART: u32 = 4;
/// Most that one gets: as in Dapr.
pub(super) const CONNECTION_STREAMS_MAX: u32 = 250;
/// What each one gets, whatever is left.
pub(super) const CONNECTION_STREAMS_MIN: u32 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Streams {
    most: u32,
    given: AtomicU32,
}

impl Streams {
    /// For this machine.
    #[must_use]
    pub(super) fn of_machine() -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let processors = u32::try_from(processors).unwrap_or(1_024).min(1_024);
        Self::new(STREAMS_PER_PROCESSOR * processors)
    }

    fn new(most: u32) -> Arc<Self> {
        Arc::new(Self {
            most,
            given: AtomicU32::new(0),
        })
    }

    /// What a new connection may carry. Given back when it is dropped.
    #[must_use]
    pub(super) fn share(self: &Arc<Self>) -> Share {
        let part = |given: u32| {
            let left = self.most.saturating_sub(given);
            (left / PART).clamp(CONNECTION_STREAMS_MIN, CONNECTION_STREAMS_MAX)
        };
        let more = |given| Some(given + part(given));
        let before = self
            .given
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let before = before.expect("there is always more");
        Share {
            of: Arc::clone(self),
            streams: part(before),
            kept: OnceLock::new(),
        }
    }

    #[cfg(test)]
    fn given(&self) -> u32 {
        self.given.load(Ordering::Relaxed)
    }
}

/// What one connection may carry.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Streams>,
    streams: u32,
    /// What it keeps, once it is known to carry less.
    kept: OnceLock<u32>,
}

impl Share {
    /// Calls at once.
    #[must_use]
    pub(super) fn streams(&self) -> u32 {
        self.streams
    }

    /// It carries one call at a time.
    pub(super) fn is_single(&self) {
        if self.kept.set(1).is_ok() {
            self.of.given.fetch_sub(self.streams - 1, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let kept = self.kept.get().copied().unwrap_or(self.streams);
        let before = self.of.given.fetch_sub(kept, Ordering::Relaxed);
        assert!(before >= kept, "what was given is given back once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_carry_much_and_many_do_not_carry_much_more() {
        let streams = Streams::new(1_024);
        let first: Vec<Share> = (0..4).map(|_| streams.share()).collect();
        let carry: Vec<u32> = first.iter().map(Share::streams).collect();
        assert_eq!(carry, [250, 193, 145, 109]);
        let more: Vec<Share> = (0..12).map(|_| streams.share()).collect();
        assert!(more.iter().all(|share| share.streams() >= 32));
        assert!(streams.given() < 1_300, "{}", streams.given());
        drop(first);
        drop(more);
        assert_eq!(streams.given(), 0);
        assert_eq!(streams.share().streams(), 250);
    }

    #[test]
    fn connections_with_one_call_at_a_time_leave_the_rest_to_others() {
        let streams = Streams::new(1_024);
        let single: Vec<Share> = (0..200).map(|_| streams.share()).collect();
        for share in &single {
            share.is_single();
            share.is_single();
        }
        assert_eq!(streams.given(), 200);
        assert_eq!(streams.share().streams(), 206);
        drop(single);
        assert_eq!(streams.given(), 0);
    }
}
