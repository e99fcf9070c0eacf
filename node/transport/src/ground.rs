//! What a transport stands on: the socket, whoever drives its tasks and says what time it is, and
//! where chance comes from.
//!
//! In production these are the system's: a UDP socket, two threads, the clock, the system's
//! randomness. A simulation brings its own, and then the same seed gives the same datagrams at the
//! same times, of the same sizes. Keys and certificates stay secret and different every time: they
//! change what is in a datagram, never how long it is.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, Runtime};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bytes of the ids by which peers name a connection of ours, as long as the library's own.
const ID_BYTES: usize = 8;

/// See the module.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Where datagrams come and go.
    pub socket: Arc<dyn AsyncUdpSocket>,
    /// Time, and tasks that stay where they are begun.
    pub runtime: Arc<dyn Runtime>,
    /// Where the endpoint and control connections are driven.
    pub control: Arc<dyn Runtime>,
    /// Where bulk connections are driven.
    pub bulk: Arc<dyn Runtime>,
    /// Where chance comes from.
    pub chance: Chance,
}

/// Where chance comes from. Copies of a seeded one share it.
#[derive(Clone, Debug)]
pub enum Chance {
    /// The system's randomness.
    System,
    /// A seed.
    Seeded(Arc<Mutex<ChaCha8Rng>>),
}

impl Chance {
    /// The same seed gives the same chances.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))))
    }

    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match self {
            Self::System => rand::rng().fill_bytes(&mut bytes),
            Self::Seeded(rng) => {
                let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
                rng.fill_bytes(&mut bytes);
            }
        }
        bytes
    }

    /// Who makes up the ids of connections; `None`: the library's own way, with a key of the
    /// system's chance.
    pub(crate) fn ids(&self) -> Option<SeededIds> {
        match self {
            Self::System => None,
            Self::Seeded(_) => Some(SeededIds(ChaCha8Rng::from_seed(self.bytes()))),
        }
    }
}

/// Ids of connections from a seed.
#[derive(Clone, Debug)]
pub(crate) struct SeededIds(ChaCha8Rng);

impl ConnectionIdGenerator for SeededIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.random::<[u8; ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Waits for `future`, at most for `limit`; `None`: it took longer.
pub(crate) async fn within<F: Future>(
    runtime: &dyn Runtime,
    limit: Duration,
    future: F,
) -> Option<F::Output> {
    let mut timer = runtime.new_timer(runtime.now() + limit);
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}
