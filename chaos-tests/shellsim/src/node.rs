//! A place in the cluster: its address and disk, and its process while one runs, put together as
//! the node does it (`node/src/node/launch.rs`).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ghostlight_core::io::{HaltReason, Refuser};
use ghostlight_core::node::{NodeCore, Start, Trust};
use ghostlight_core::replica::LogBounds;
use ghostlight_core::turns::Settings;
use ghostlight_disk::Disk;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{ClusterId, NodeId};
use ghostlight_protocol::wire::hello::{
    ConnectionKind, Hello, HelloRefusal, NodeRecord, PROTOCOL_VERSION, new_descriptor,
};
use ghostlight_shell::admission::Doorkeeper;
use ghostlight_shell::core_loop::{CoreLoop, Parts};
use ghostlight_shell::guests::Clocks;
use ghostlight_storage::{MemoryDisk, MemoryEngine, NodeIdentity, Recovered, Store};
use ghostlight_transport::security::key::ClusterKey;
use ghostlight_transport::security::tls::node_tls;
use ghostlight_transport::{
    Admission, BULK_EVENTS_MAX, CONTROL_EVENTS_MAX, Chance, DialError, EventQueues, Events, Ground,
    Transport, TransportEvent,
};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::dice::Dice;
use crate::guests::{ASKED_MAX, Asked, SimGuests};
use crate::machine::{Driver, lock};
use crate::network::Network;
use crate::store::{self, Pace};
use crate::world::Origin;

/// Which program runs at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Build {
    /// This one.
    Present,
    /// One that speaks the next version of the wire, and otherwise is the same.
    Next,
}

impl Build {
    fn protocol(self) -> u32 {
        match self {
            Self::Present => PROTOCOL_VERSION,
            Self::Next => PROTOCOL_VERSION + 1,
        }
    }
}

/// A connection that did not come about because one side refused the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This place refused a peer, with this code.
    OfPeer(Option<Code>),
    /// A peer refused this place, with this code.
    ByPeer(Option<Code>),
    /// The other side has another cluster key.
    Key,
}

/// See the module.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) disk: MemoryDisk,
    pub(crate) key: ClusterKey,
    pub(crate) build: Build,
    pub(crate) run: Option<Run>,
    /// Of all its processes.
    pub(crate) refusals: Arc<Mutex<Vec<Refusal>>>,
}

/// A process.
pub(crate) struct Run {
    pub(crate) driver: Driver,
    pub(crate) asked: mpsc::Sender<Asked>,
    /// Why its loop has ended.
    pub(crate) halted: Arc<Mutex<Option<HaltReason>>>,
}

/// Cluster shape.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) partitions: u16,
    pub(crate) factor: u8,
}

/// What a process is started with.
pub(crate) struct Launch<'a> {
    pub(crate) place: &'a Place,
    pub(crate) number: usize,
    pub(crate) origin: Origin,
    pub(crate) seeds: Vec<String>,
    pub(crate) shape: Shape,
    pub(crate) driver: Driver,
    pub(crate) network: &'a Network,
    pub(crate) dice: &'a mut Dice,
}

impl Launch<'_> {
    /// Starts it.
    ///
    /// # Panics
    /// When its disk does not open: nothing here damages disks.
    pub(crate) fn start(mut self) -> Run {
        let opened = Store::open(self.place.disk.open());
        let (mut store, mut recovered) = opened.expect("the disk is whole");
        let identity = self.identity(&mut store, &mut recovered);
        let addresses = store.addresses().unwrap_or_default();
        let record = self.record(&identity);
        let keeper = Arc::new(Doorkeeper::new(
            record.clone(),
            None,
            identity.cluster.clone(),
            &addresses,
        ));
        let start = self.core_start(record, &identity, recovered, addresses);
        let (me, clock) = (start.me(), Clock::start(&self.driver.machine));
        let core = NodeCore::new(now(&clock), start);
        let reader = store.reader();
        let disk = Disk::new(store, identity);
        let pace = Pace::draw(self.dice.fork());
        let ports = store::start(&self.driver, disk, &reader, pace);
        let (transport, events) = self.transport(me, &keeper);
        let (asked, wanted) = mpsc::channel(ASKED_MAX);
        let guests = SimGuests::new(wanted, clock.clone(), self.dice.fork());
        let halted = Arc::new(Mutex::new(None));
        let mut running = CoreLoop::new(Parts {
            core,
            clocks: clock,
            runtime: Arc::new(self.driver.clone()),
            store: ports,
            transport,
            events,
            guests,
            doorkeeper: keeper,
        });
        let told = Arc::clone(&halted);
        self.driver.machine.spawn(self.driver.owner, async move {
            let reason = running.until_halt().await;
            *lock(&told) = Some(reason);
            // The transport says goodbye while its other tasks go on.
            drop(running);
        });
        Run {
            driver: self.driver,
            asked,
            halted,
        }
    }

    fn identity(
        &mut self,
        store: &mut Store<MemoryEngine>,
        recovered: &mut Recovered,
    ) -> NodeIdentity {
        if let Some(mut identity) = recovered.identity.take() {
            identity.generation += 1;
            store
                .save_identity(&identity)
                .expect("the disk takes writes");
            return identity;
        }
        let id = NodeId(self.dice.any128());
        let mut identity = NodeIdentity::new(id, &format!("node-{}", self.number + 1));
        match self.origin {
            Origin::Founds => {
                let cluster = ClusterId(self.dice.any128());
                let Shape { partitions, factor } = self.shape;
                identity.cluster = Some(new_descriptor(cluster, id, partitions, factor));
                let founded = store.found(partitions, &identity);
                recovered.replicas = founded.expect("the disk takes writes");
            }
            Origin::Joins => store
                .save_identity(&identity)
                .expect("the disk takes writes"),
        }
        identity
    }

    fn record(&mut self, identity: &NodeIdentity) -> NodeRecord {
        NodeRecord {
            node: identity.node.clone(),
            generation: identity.generation,
            name: format!("node-{}", self.number + 1),
            address: self.place.address.to_string(),
            nonce: self.dice.any(),
            replaces: identity.replaces.clone(),
            weight: 1,
            actor_types: ["account", "counter", "echo", "log"]
                .map(str::to_owned)
                .to_vec(),
            ..NodeRecord::default()
        }
    }

    fn core_start(
        &mut self,
        record: NodeRecord,
        identity: &NodeIdentity,
        recovered: Recovered,
        addresses: Vec<NodeRecord>,
    ) -> Start {
        let condemned = recovered.condemned.into_iter();
        Start {
            record,
            descriptor: identity.cluster.clone(),
            partitions: None,
            seeds: std::mem::take(&mut self.seeds),
            addresses,
            replicas: recovered.replicas,
            condemned: condemned.map(|c| (c.partition, c.why)).collect(),
            tombstones: recovered.tombstones,
            marks: recovered.marks,
            trust: Trust::Whole,
            seed: self.dice.any(),
            min_copies: 1,
            turns: Settings::default(),
            log: LogBounds::default(),
        }
    }

    fn transport(&mut self, me: NodeId, keeper: &Arc<Doorkeeper>) -> (Transport, EventQueues) {
        let runtime = Arc::new(self.driver.clone());
        let binding = self.driver.owner.0;
        let ground = Ground {
            socket: self.network.bind(self.place.address, binding),
            runtime: runtime.clone(),
            control: runtime.clone(),
            bulk: runtime,
            chance: Chance::seeded(self.dice.any()),
        };
        let tls = node_tls(&self.place.key).expect("certificates can be made");
        let door = Door {
            keeper: Arc::clone(keeper),
            build: self.place.build,
        };
        let (events, queues) = Events::new();
        let transport = Transport::on(me, &ground, &tls, Arc::new(door), events);
        let transport = transport.expect("nothing of the system is needed");
        (transport, self.overhear(queues))
    }

    /// Events pass on their way to the loop whoever notes which connections did not come about.
    fn overhear(&self, queues: EventQueues) -> EventQueues {
        let EventQueues { control, bulk } = queues;
        let overheard = |mut from: mpsc::Receiver<TransportEvent>, most: usize| {
            let (to, queue) = mpsc::channel(most);
            let refusals = Arc::clone(&self.place.refusals);
            self.driver.machine.spawn(self.driver.owner, async move {
                while let Some(event) = from.recv().await {
                    lock(&refusals).extend(refusal(&event));
                    if to.send(event).await.is_err() {
                        return;
                    }
                }
            });
            queue
        };
        EventQueues {
            control: overheard(control, CONTROL_EVENTS_MAX),
            bulk: overheard(bulk, BULK_EVENTS_MAX),
        }
    }
}

fn now(clock: &Clock) -> ghostlight_core::io::Now {
    ghostlight_core::io::Now {
        instant: clock.now(),
        wall: clock.wall(),
    }
}

fn refusal(event: &TransportEvent) -> Option<Refusal> {
    let refused = match event {
        TransportEvent::Refused { refused, .. } => refused,
        TransportEvent::DialFailed { why, .. } => match why {
            DialError::Refused(refused) => refused,
            DialError::KeyRejected => return Some(Refusal::Key),
            DialError::Unresolved(_) | DialError::Silent(_) | DialError::Broken(_) => return None,
        },
        TransportEvent::Frames { .. }
        | TransportEvent::Gossip(_)
        | TransportEvent::Connected { .. }
        | TransportEvent::Disconnected { .. } => return None,
    };
    Some(match refused.by {
        Refuser::Us => Refusal::OfPeer(refused.code),
        Refuser::Peer => Refusal::ByPeer(refused.code),
    })
}

/// Admission as the program of a place has it.
struct Door {
    keeper: Arc<Doorkeeper>,
    build: Build,
}

impl Admission for Door {
    fn hello(&self, kind: ConnectionKind) -> Hello {
        Hello {
            protocol: self.build.protocol(),
            ..self.keeper.hello(kind)
        }
    }

    fn judge(&self, hello: &Hello) -> Result<(), HelloRefusal> {
        if self.build == Build::Present {
            return self.keeper.judge(hello);
        }
        if hello.protocol != self.build.protocol() {
            let detail = format!(
                "wire version {}, the other node {}",
                self.build.protocol(),
                hello.protocol
            );
            let code = u32::from(Code::ProtocolMismatch.number());
            return Err(HelloRefusal { code, detail });
        }
        // Among its like it judges as this build does.
        self.keeper.judge(&Hello {
            protocol: PROTOCOL_VERSION,
            ..hello.clone()
        })
    }
}
