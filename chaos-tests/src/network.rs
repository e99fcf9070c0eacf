//! A network between the nodes of a cluster that can be cut, slowed and made lossy: each direction
//! of each link by itself.
//!
//! Nodes listen where they want and advertise an address of this relay, so that whatever others
//! send to them passes here. What a node sends carries its own listening address, so each
//! datagram's link is known. Needs no rights and no tools of the system. Absent: TCP (the APIs are
//! asked directly), bandwidth, and time: a datagram is late by its own delay alone.

mod fault;
mod late;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fault::Links;
pub use fault::{Counts, Fault};
use late::Late;

use crate::ports::free_address;

/// Longest time until a thread sees that it should end.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
/// More than any datagram of a node.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// See the module. Dropped: nothing passes any more.
#[derive(Debug)]
pub struct Network {
    shared: Arc<Shared>,
    fronts: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    links: Mutex<Links>,
    /// Nodes by the address that they listen at.
    nodes: Mutex<BTreeMap<SocketAddr, usize>>,
    late: Late,
    over: AtomicBool,
}

impl Network {
    /// A network without faults. Dice fall as `seed` says; which datagram meets which of them
    /// depends on the nodes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                links: Mutex::new(Links::new(seed)),
                nodes: Mutex::default(),
                late: Late::start(),
                over: AtomicBool::new(false),
            }),
            fronts: Vec::new(),
            threads: Vec::new(),
        }
    }

    /// The address that the next node, which listens at `listen`, must advertise. Nodes are
    /// numbered from 0.
    ///
    /// # Panics
    /// When no port is left.
    pub fn attach(&mut self, listen: &str) -> String {
        let listen: SocketAddr = listen.parse().expect("an address");
        let address = free_address();
        let front = UdpSocket::bind(&address).expect("a free port");
        let node = self.fronts.len();
        lock(&self.shared.nodes).insert(listen, node);
        self.fronts
            .push(front.local_addr().expect("a bound socket"));
        let door = Door {
            shared: Arc::clone(&self.shared),
            node,
            listen,
            front: Arc::new(front),
            backs: BTreeMap::new(),
        };
        let thread = std::thread::Builder::new().name(format!("network to {node}"));
        let thread = thread.spawn(move || door.serve());
        self.threads.push(thread.expect("a thread"));
        address
    }

    /// What happens from now on to datagrams from one node to another.
    pub fn set(&self, from: usize, to: usize, fault: Fault) {
        lock(&self.shared.links).set(from, to, fault);
    }

    /// The same on every link.
    pub fn set_all(&self, fault: Fault) {
        for from in 0..self.fronts.len() {
            for to in 0..self.fronts.len() {
                self.set(from, to, fault);
            }
        }
    }

    /// Nothing passes between these nodes and all others, in either direction.
    pub fn cut_off(&self, nodes: &[usize]) {
        for from in 0..self.fronts.len() {
            for to in 0..self.fronts.len() {
                if nodes.contains(&from) != nodes.contains(&to) {
                    self.set(from, to, Fault::CUT);
                }
            }
        }
    }

    /// Ends every fault.
    pub fn heal(&self) {
        self.set_all(Fault::NONE);
    }

    /// What has happened so far, over all links: whether a fault had an effect at all.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.shared.links).counts
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Hands a datagram over, late, twice or not at all, as its link wants.
    fn carry(&self, from: usize, to: usize, datagram: &[u8], by: &Arc<UdpSocket>, at: SocketAddr) {
        let copies = lock(&self.links).copies(from, to);
        for delay in copies {
            if delay.is_zero() {
                // A node that does not run loses what is sent to it.
                drop(by.send_to(datagram, at));
            } else {
                self.late.send(delay, datagram.to_vec(), Arc::clone(by), at);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// The address that a node advertises: others' datagrams come in here.
struct Door {
    shared: Arc<Shared>,
    node: usize,
    listen: SocketAddr,
    front: Arc<UdpSocket>,
    /// By peer: the socket that stands for it at the node.
    backs: BTreeMap<SocketAddr, Arc<UdpSocket>>,
}

impl Door {
    fn serve(mut self) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let mut answers = Vec::new();
        while let Some(received) = receive(&self.shared, &self.front, &mut buffer) {
            let Some((length, peer)) = received else {
                continue;
            };
            let Some(from) = lock(&self.shared.nodes).get(&peer).copied() else {
                continue;
            };
            let back = match self.backs.get(&peer) {
                Some(back) => Arc::clone(back),
                None => {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a free port"));
                    self.backs.insert(peer, Arc::clone(&back));
                    answers.push(self.answer(from, peer, Arc::clone(&back)));
                    back
                }
            };
            let datagram = &buffer[..length];
            self.shared
                .carry(from, self.node, datagram, &back, self.listen);
        }
        for answer in answers {
            drop(answer.join());
        }
    }

    /// Carries what the node sends back to a peer.
    fn answer(&self, peer_node: usize, peer: SocketAddr, back: Arc<UdpSocket>) -> JoinHandle<()> {
        let (shared, front, node) = (Arc::clone(&self.shared), Arc::clone(&self.front), self.node);
        std::thread::spawn(move || {
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            while let Some(received) = receive(&shared, &back, &mut buffer) {
                if let Some((length, _)) = received {
                    shared.carry(node, peer_node, &buffer[..length], &front, peer);
                }
            }
        })
    }
}

/// The next datagram; `Some(None)`: none for a while; `None`: it is over.
fn receive(
    shared: &Shared,
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> Option<Option<(usize, SocketAddr)>> {
    if shared.is_over() {
        return None;
    }
    // Asked each time: sockets are shared with threads that only send.
    socket
        .set_read_timeout(Some(LOOK_PERIOD))
        .expect("a socket");
    // An error here is the echo of a datagram that nobody took.
    Some(socket.recv_from(buffer).ok())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
