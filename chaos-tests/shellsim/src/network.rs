//! A UDP network: it loses, delays and repeats datagrams, so that they overtake each other, and
//! splits.
//!
//! Everything that is sent is written down: when, from where to where, how long, and what became of
//! it. That is what two runs of one seed are compared by.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::dice::{Dice, MS};
use crate::machine::{Driver, Machine, Sleep, lock};

/// Bytes of datagrams that wait in a socket; further ones are lost, as in a kernel.
const SOCKET_BYTES_MAX: usize = 4 << 20;
/// Datagrams that one call of `try_send` may carry, as with the kernel's segmentation offload.
const SEGMENTS_MAX: usize = 10;

/// How a network behaves, of its own accord.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Weather {
    /// Time on the way, in nanoseconds: at least, and at most.
    pub delay: (u64, u64),
    /// Probability that a datagram is lost.
    pub loss: f64,
    /// Probability that it arrives twice.
    pub twice: f64,
    /// Probability that it takes up to so many nanoseconds longer: later ones overtake it.
    pub late: (f64, u64),
    /// Longest datagram that the path carries.
    pub mtu: usize,
}

impl Weather {
    /// A seed's own: many seeds have a good network, some a bad one.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let low = dice.between(MS / 10, 3 * MS);
        let some = |dice: &mut Dice, most: f64| match dice.chance(0.5) {
            true => most * dice.between(1, 100) as f64 / 100.0,
            false => 0.0,
        };
        Self {
            delay: (low, low + dice.between(0, 4 * MS)),
            loss: some(dice, 0.03),
            twice: some(dice, 0.02),
            late: (some(dice, 0.05), 40 * MS),
            mtu: [1_252, 1_472, 6_500, 65_507][dice.index(4)],
        }
    }
}

/// One datagram that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// When, in nanoseconds.
    pub at: u64,
    /// From where.
    pub from: SocketAddr,
    /// To where.
    pub to: SocketAddr,
    /// How long it was.
    pub bytes: usize,
    /// When it was to arrive; `None`: it was lost.
    pub arrives: Option<u64>,
}

/// Clones are the same network.
#[derive(Clone)]
pub(crate) struct Network(Arc<Inner>);

struct Inner {
    machine: Machine,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    weather: Weather,
    sockets: BTreeMap<SocketAddr, Port>,
    /// Pairs between which nothing passes, in this direction.
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    under_way: BTreeMap<(u64, u64), Datagram>,
    sent: u64,
    seen: Vec<Seen>,
    /// Of whoever delivers.
    waker: Option<Waker>,
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

/// What is bound to an address.
struct Port {
    /// Which of those that were bound there, one after the other.
    binding: u64,
    waiting: VecDeque<Datagram>,
    waiting_bytes: usize,
    waker: Option<Waker>,
}

impl Network {
    /// A network whose deliveries are driven by `driver`.
    pub(crate) fn new(driver: &Driver, dice: Dice, weather: Weather) -> Self {
        let network = Self(Arc::new(Inner {
            machine: driver.machine.clone(),
            state: Mutex::new(State {
                dice,
                weather,
                sockets: BTreeMap::new(),
                cut: BTreeSet::new(),
                under_way: BTreeMap::new(),
                sent: 0,
                seen: Vec::new(),
                waker: None,
            }),
        }));
        let delivering = Delivering {
            network: network.clone(),
            sleep: Box::pin(driver.machine.sleep(0)),
        };
        driver.machine.spawn(driver.owner, delivering);
        network
    }

    /// Binds an address; what was bound there before is gone.
    pub(crate) fn bind(&self, address: SocketAddr, binding: u64) -> Arc<dyn AsyncUdpSocket> {
        let port = Port {
            binding,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waker: None,
        };
        let before = lock(&self.0.state).sockets.insert(address, port);
        drop(before);
        Arc::new(Socket {
            network: self.clone(),
            address,
            binding,
        })
    }

    /// The socket there disappears, without a word.
    pub(crate) fn unbind(&self, address: SocketAddr) {
        let gone = lock(&self.0.state).sockets.remove(&address);
        drop(gone);
    }

    /// From now on nothing passes from one to the other.
    pub(crate) fn cut(&self, from: SocketAddr, to: SocketAddr) {
        lock(&self.0.state).cut.insert((from, to));
    }

    /// Everything passes again.
    pub(crate) fn mend(&self) {
        lock(&self.0.state).cut.clear();
    }

    /// Changes how the network behaves.
    pub(crate) fn set_weather(&self, weather: Weather) {
        lock(&self.0.state).weather = weather;
    }

    /// Every datagram so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.0.state).seen.clone()
    }

    fn send(&self, from: SocketAddr, binding: u64, transmit: &Transmit<'_>) {
        let now = self.0.machine.now();
        let mut state = lock(&self.0.state);
        let bound = state.sockets.get(&from).map(|port| port.binding);
        if bound != Some(binding) {
            // A process that has died sends nothing.
            return;
        }
        let size = transmit.segment_size.unwrap_or(transmit.contents.len());
        for bytes in transmit.contents.chunks(size.max(1)) {
            state.send_one(now, from, transmit, bytes);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Delivers what is due; when the next is.
    fn deliver(&self) -> Option<u64> {
        let now = self.0.machine.now();
        let mut wakers = Vec::new();
        let mut state = lock(&self.0.state);
        let next = loop {
            let Some(((at, _), _)) = state.under_way.first_key_value() else {
                break None;
            };
            if *at > now {
                break Some(*at);
            }
            let (_, datagram) = state.under_way.pop_first().expect("it is there");
            wakers.extend(state.arrive(datagram));
        };
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        next
    }
}

impl State {
    fn send_one(&mut self, now: u64, from: SocketAddr, transmit: &Transmit<'_>, bytes: &[u8]) {
        let (to, weather) = (transmit.destination, self.weather);
        let lost = bytes.len() > weather.mtu
            || self.cut.contains(&(from, to))
            || self.dice.chance(weather.loss);
        let copies = match (lost, self.dice.chance(weather.twice)) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        let mut arrives = None;
        for _ in 0..copies {
            let mut at = now + self.dice.between(weather.delay.0, weather.delay.1);
            if self.dice.chance(weather.late.0) {
                at += self.dice.between(0, weather.late.1);
            }
            arrives = Some(arrives.map_or(at, |first: u64| first.min(at)));
            self.sent += 1;
            let datagram = Datagram {
                from,
                to,
                ecn: transmit.ecn,
                bytes: bytes.to_vec(),
            };
            self.under_way.insert((at, self.sent), datagram);
        }
        self.seen.push(Seen {
            at: now,
            from,
            to,
            bytes: bytes.len(),
            arrives,
        });
    }

    fn arrive(&mut self, datagram: Datagram) -> Option<Waker> {
        if self.cut.contains(&(datagram.from, datagram.to)) {
            return None;
        }
        let port = self.sockets.get_mut(&datagram.to)?;
        if port.waiting_bytes + datagram.bytes.len() > SOCKET_BYTES_MAX {
            return None;
        }
        port.waiting_bytes += datagram.bytes.len();
        port.waiting.push_back(datagram);
        port.waker.take()
    }
}

/// The task that delivers.
struct Delivering {
    network: Network,
    sleep: Pin<Box<Sleep>>,
}

impl Future for Delivering {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let next = self.network.deliver();
            lock(&self.network.0.state).waker = Some(context.waker().clone());
            let Some(next) = next else {
                return Poll::Pending;
            };
            let sleep = self.network.0.machine.sleep_until(next);
            self.sleep = Box::pin(sleep);
            if self.sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// One end.
struct Socket {
    network: Network,
    address: SocketAddr,
    binding: u64,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.address)
    }
}

/// A datagram can always be sent: what there is no room for is lost.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.network.send(self.address, self.binding, transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.network.0.state);
        let port = state.sockets.get_mut(&self.address);
        let Some(port) = port.filter(|port| port.binding == self.binding) else {
            return Poll::Pending;
        };
        let mut count = 0;
        while count < bufs.len().min(meta.len())
            && let Some(datagram) = port.waiting.pop_front()
        {
            let len = datagram.bytes.len();
            port.waiting_bytes -= len;
            // A kernel cuts what the buffer does not hold; the endpoint never takes more than it
            // has announced.
            let len = len.min(bufs[count].len());
            bufs[count][..len].copy_from_slice(&datagram.bytes[..len]);
            meta[count] = RecvMeta {
                addr: datagram.from,
                len,
                stride: len,
                ecn: datagram.ecn,
                dst_ip: Some(self.address.ip()),
            };
            count += 1;
        }
        if count == 0 {
            port.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS_MAX
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::dice::SEC;
    use crate::machine::Owner;

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 7_400))
    }

    /// Sends datagrams of these sizes, and gives the sizes of those that arrive.
    fn arrived(change: impl FnOnce(&Network), weather: Weather, sizes: &[usize]) -> Vec<usize> {
        let machine = Machine::new(Dice::new(1, "order"));
        let driver = Driver {
            machine: machine.clone(),
            owner: Owner(0),
        };
        let network = Network::new(&driver, Dice::new(1, "network"), weather);
        let (one, other) = (network.bind(address(1), 1), network.bind(address(2), 2));
        change(&network);
        for size in sizes {
            let transmit = Transmit {
                destination: address(2),
                ecn: None,
                contents: &vec![7; *size],
                segment_size: None,
                src_ip: None,
            };
            one.try_send(&transmit).unwrap();
        }
        let found = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&found);
        machine.spawn(Owner(0), async move {
            loop {
                let (mut buffer, mut meta) = (vec![0; 65_535], [RecvMeta::default()]);
                let count = poll_fn(|context| {
                    let mut bufs = [IoSliceMut::new(&mut buffer)];
                    other.poll_recv(context, &mut bufs, &mut meta)
                });
                assert_eq!(count.await.unwrap(), 1);
                assert_eq!(meta[0].addr, address(1));
                lock(&into).push(meta[0].len);
            }
        });
        machine.block_on(machine.sleep(SEC));
        machine.kill(Owner(0));
        let mut found = lock(&found).clone();
        found.sort_unstable();
        found
    }

    #[test]
    fn datagrams_arrive_unless_something_is_wrong() {
        let fine = Weather {
            delay: (MS, 2 * MS),
            loss: 0.0,
            twice: 0.0,
            late: (0.5, 40 * MS),
            mtu: 1_400,
        };
        let sizes = [10, 1_400, 1_401];
        assert_eq!(arrived(|_| {}, fine, &sizes), [10, 1_400]);
        let twice = Weather { twice: 1.0, ..fine };
        assert_eq!(arrived(|_| {}, twice, &sizes), [10, 10, 1_400, 1_400]);
        let lost = Weather { loss: 1.0, ..fine };
        assert_eq!(arrived(|_| {}, lost, &sizes), [0_usize; 0]);
        let cut = |network: &Network| network.cut(address(1), address(2));
        assert_eq!(arrived(cut, fine, &sizes), [0_usize; 0]);
        let other_way = |network: &Network| network.cut(address(2), address(1));
        assert_eq!(arrived(other_way, fine, &sizes), [10, 1_400]);
        // The socket of a process that has died since sends nothing.
        let anew = |network: &Network| drop(network.bind(address(1), 3));
        assert_eq!(arrived(anew, fine, &sizes), [0_usize; 0]);
        let unbound = |network: &Network| network.unbind(address(2));
        assert_eq!(arrived(unbound, fine, &sizes), [0_usize; 0]);
    }
}
