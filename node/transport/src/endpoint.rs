//! The endpoint: accepts and dials, driven by two threads (`system`).
//!
//! Whoever accepts a connection must know on which thread to drive it before the first byte is
//! decrypted. So the dialer writes the kind into the first byte of the connection id it makes up
//! for the acceptor, which that answers to for the handshake (RFC 9000, 7.2; a retry repeats it).
//! It only chooses the thread: what the connection is for, and whether it is allowed, is said by
//! `Hello`, and the two must agree.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::hello::ConnectionKind;
use quinn::{ClientConfig, Connection, ConnectionId, Endpoint, Runtime, ServerConfig, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::ground::{Chance, Ground, within};
use super::handshake::{self, Greeted};
use super::queue::Pump;
use super::registry::{Registry, Verdict};
use super::{DialError, Events, SharedAdmission, TransportEvent, lanes, receive, tuning};
use crate::security::tls::{NodeTls, SERVER_NAME};

/// Dials waiting for the transport's thread.
const DIALS_MAX: usize = 1_024;
/// Handshakes that wait to be looked at, and bytes that may wait with one and with all of them.
const INCOMING_MAX: (usize, u64, u64) = (512, 64 << 10, 8 << 20);
/// Handshakes under way; further ones are not answered, and their dialers ask again.
pub(super) const HANDSHAKES_MAX: usize = 128;
/// Handshakes under way above which addresses must be proved first.
pub(super) const HANDSHAKES_UNPROVED_MAX: usize = 32;
/// A dial, greeting included, that takes longer has failed.
const DIAL_MAX: Duration = Duration::from_secs(2);
/// Longest wait until connections are closed, when the node ends.
const GOODBYE_MAX: Duration = Duration::from_millis(200);
/// Bytes of the connection id that a dialer makes up; the first says the kind.
const FIRST_ID_BYTES: usize = 20;

/// Why the transport cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The socket could not be made.
    #[error("cannot listen for peers on {address} (UDP): {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The endpoint could not be made.
    #[error("cannot start the transport: {0}")]
    Endpoint(std::io::Error),
}

/// A running transport.
#[derive(Debug)]
pub struct Transport {
    dials: mpsc::Sender<Dial>,
    address: SocketAddr,
    pumps: Arc<Pumps>,
    pub(super) threads: Vec<std::thread::JoinHandle<()>>,
    /// Of its threads, bulk and control, and of its endpoint.
    #[cfg(test)]
    pub(super) inside: Option<([tokio::runtime::Handle; 2], Endpoint)>,
}

#[derive(Debug)]
pub(super) struct Dial {
    address: String,
    node: Option<NodeId>,
    kind: ConnectionKind,
}

/// Wakes what waits to be sent, on each thread.
#[derive(Debug, Default)]
pub(super) struct Pumps {
    control: Arc<Pump>,
    pub(super) bulk: Arc<Pump>,
}

impl Pumps {
    fn of(&self, kind: ConnectionKind) -> &Arc<Pump> {
        match kind {
            ConnectionKind::Control | ConnectionKind::Inquiry => &self.control,
            ConnectionKind::Bulk => &self.bulk,
        }
    }
}

/// How connections of one kind are made.
#[derive(Clone)]
struct Made {
    server: Arc<ServerConfig>,
    client: ClientConfig,
    /// Where they are driven.
    runtime: Arc<dyn Runtime>,
}

#[derive(Clone)]
pub(super) struct Shared {
    me: NodeId,
    pub(super) endpoint: Endpoint,
    /// Time, and tasks that stay where they are begun.
    runtime: Arc<dyn Runtime>,
    control: Made,
    bulk: Made,
    pub(super) pumps: Arc<Pumps>,
    admission: SharedAdmission,
    events: Events,
    registry: Arc<Mutex<Registry>>,
    handshakes: Arc<Semaphore>,
}

impl Shared {
    fn made(&self, kind: ConnectionKind) -> &Made {
        match kind {
            ConnectionKind::Control | ConnectionKind::Inquiry => &self.control,
            ConnectionKind::Bulk => &self.bulk,
        }
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport {
    /// Starts on somebody else's ground, without threads: whoever drives the ground drives it all,
    /// also its end.
    ///
    /// # Errors
    /// When the endpoint cannot be made.
    pub fn on(
        me: NodeId,
        ground: &Ground,
        tls: &NodeTls,
        admission: SharedAdmission,
        events: Events,
    ) -> Result<Self, TransportError> {
        let (transport, shared, queue) = Self::assemble(me, ground, tls, admission, events)?;
        let pump = Arc::clone(&shared.pumps.bulk);
        ground.bulk.spawn(Box::pin(pump.run()));
        ground.control.spawn(Box::pin(run(shared, queue)));
        Ok(transport)
    }

    pub(super) fn assemble(
        me: NodeId,
        ground: &Ground,
        tls: &NodeTls,
        admission: SharedAdmission,
        events: Events,
    ) -> Result<(Self, Shared, mpsc::Receiver<Dial>), TransportError> {
        let address = ground.socket.local_addr();
        let address = address.map_err(TransportError::Endpoint)?;
        let (dials, queue) = mpsc::channel(DIALS_MAX);
        let pumps = Arc::new(Pumps::default());
        let shared = Shared {
            me,
            endpoint: endpoint(ground, tls)?,
            runtime: Arc::clone(&ground.runtime),
            control: made(
                ConnectionKind::Control,
                tls,
                &ground.control,
                &ground.chance,
            ),
            bulk: made(ConnectionKind::Bulk, tls, &ground.bulk, &ground.chance),
            pumps: Arc::clone(&pumps),
            admission,
            events,
            registry: Arc::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        };
        let transport = Self {
            dials,
            address,
            pumps,
            threads: Vec::new(),
            #[cfg(test)]
            inside: None,
        };
        Ok((transport, shared, queue))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tries once to connect, to a certain node if one is named; the result comes as an event.
    pub fn dial(&self, address: String, node: Option<NodeId>, kind: ConnectionKind) {
        let dial = Dial {
            address,
            node,
            kind,
        };
        // A full queue of dials: the core dials again.
        drop(self.dials.try_send(dial));
    }

    #[cfg(test)]
    pub(super) fn handles(&self) -> &[tokio::runtime::Handle; 2] {
        &self.inside.as_ref().expect("it has threads").0
    }

    #[cfg(test)]
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.inside.as_ref().expect("it has threads").1
    }

    /// Lets everything leave that was queued on any connection.
    pub fn flush(&self) {
        self.pumps.control.kick();
        self.pumps.bulk.kick();
    }
}

/// Ends the threads; connections are closed with a word, so that peers need not wait for a timeout.
impl Drop for Transport {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.dials = closed;
        for thread in self.threads.drain(..) {
            // A panic there has been reported by its thread.
            drop(thread.join());
        }
    }
}

pub(super) fn endpoint(ground: &Ground, tls: &NodeTls) -> Result<Endpoint, TransportError> {
    let server = made(ConnectionKind::Bulk, tls, &ground.bulk, &ground.chance).server;
    Endpoint::new_with_abstract_socket(
        tuning::endpoint_config(&ground.chance),
        Some(server.as_ref().clone()),
        Arc::clone(&ground.socket),
        Arc::clone(&ground.runtime),
    )
    .map_err(TransportError::Endpoint)
}

fn made(kind: ConnectionKind, tls: &NodeTls, runtime: &Arc<dyn Runtime>, chance: &Chance) -> Made {
    let mut server = ServerConfig::with_crypto(Arc::clone(&tls.server) as Arc<_>);
    server.transport_config(tuning::transport_config(kind));
    server.migration(false);
    server.max_incoming(INCOMING_MAX.0);
    server.incoming_buffer_size(INCOMING_MAX.1);
    server.incoming_buffer_size_total(INCOMING_MAX.2);
    Made {
        server: Arc::new(server),
        client: client_config(kind, tls, chance),
        runtime: Arc::clone(runtime),
    }
}

/// How connections of a kind are dialed.
pub(super) fn client_config(kind: ConnectionKind, tls: &NodeTls, chance: &Chance) -> ClientConfig {
    let mut client = ClientConfig::new(Arc::clone(&tls.client) as Arc<_>);
    client.transport_config(tuning::transport_config(kind));
    let chance = chance.clone();
    client.initial_dst_cid_provider(Arc::new(move || first_id(kind, &chance)));
    client
}

fn mark(kind: ConnectionKind) -> u8 {
    match kind {
        ConnectionKind::Control | ConnectionKind::Inquiry => 1,
        ConnectionKind::Bulk => 2,
    }
}

fn first_id(kind: ConnectionKind, chance: &Chance) -> ConnectionId {
    let mut id: [u8; FIRST_ID_BYTES] = chance.bytes();
    id[0] = mark(kind);
    ConnectionId::new(&id)
}

/// Strangers go where they can hold up least.
fn marked(id: &ConnectionId) -> ConnectionKind {
    if id.first() == Some(&mark(ConnectionKind::Control)) {
        ConnectionKind::Control
    } else {
        ConnectionKind::Bulk
    }
}

pub(super) async fn run(shared: Shared, mut dials: mpsc::Receiver<Dial>) {
    let control = Arc::clone(&shared.control.runtime);
    control.spawn(Box::pin(Arc::clone(&shared.pumps.control).run()));
    let (accepts, mut accepting) = oneshot::channel::<()>();
    let accept_all = accept_all(shared.clone());
    control.spawn(Box::pin(async move {
        accept_all.await;
        drop(accepts);
    }));
    loop {
        // In this order, so that a run can be repeated; the first can only come once.
        tokio::select! {
            biased;
            // Only a panic ends it before the endpoint is closed: a transport that lets nobody in
            // is none. The queues of events end with its threads, and with them the node.
            _panicked = &mut accepting => return,
            dial = dials.recv() => {
                let Some(dial) = dial else { break };
                let runtime = Arc::clone(&shared.made(dial.kind).runtime);
                runtime.spawn(Box::pin(dial_once(shared.clone(), dial)));
            }
        }
    }
    shared.endpoint.close(VarInt::from_u32(0), b"node ends");
    // A word to the peers is worth a moment, not more.
    let idle = shared.endpoint.wait_idle();
    let _ = within(shared.runtime.as_ref(), GOODBYE_MAX, idle).await;
}

/// A flood of handshakes is cut down before it costs anything: strangers must prove their address,
/// and above a number nobody is answered.
async fn accept_all(shared: Shared) {
    while let Some(incoming) = shared.endpoint.accept().await {
        let Ok(permit) = Arc::clone(&shared.handshakes).try_acquire_owned() else {
            incoming.ignore();
            continue;
        };
        let under_way = HANDSHAKES_MAX - shared.handshakes.available_permits();
        if under_way > HANDSHAKES_UNPROVED_MAX && !incoming.remote_address_validated() {
            // Fails only if the address is validated already.
            drop(incoming.retry());
            continue;
        }
        let kind = marked(&incoming.orig_dst_cid());
        let runtime = Arc::clone(&shared.made(kind).runtime);
        // The library drives a connection where it is accepted.
        let accept = accept(shared.clone(), incoming, kind, permit);
        runtime.spawn(Box::pin(accept));
    }
}

async fn accept(
    shared: Shared,
    incoming: quinn::Incoming,
    marked: ConnectionKind,
    permit: OwnedSemaphorePermit,
) {
    let address = incoming.remote_address();
    let greeting = async {
        let config = Arc::clone(&shared.made(marked).server);
        let connection = incoming.accept_with(config).map_err(explain)?;
        let connection = connection.await.map_err(explain)?;
        let greeted = handshake::answer(&connection, marked, shared.admission.as_ref()).await;
        Ok::<_, DialError>((connection, greeted))
    };
    let greeting = within(shared.runtime.as_ref(), DIAL_MAX, greeting).await;
    drop(permit);
    match greeting {
        Some(Ok((connection, Ok(greeted)))) => serve(shared, connection, greeted, None).await,
        Some(Ok((connection, Err(error)))) => {
            connection.close(VarInt::from_u32(2), b"refused");
            if let DialError::Refused(refused) = error {
                let refused = *refused;
                let event = TransportEvent::Refused { address, refused };
                // The core has ended if nobody listens.
                drop(shared.events.of(ConnectionKind::Control).send(event).await);
            }
        }
        Some(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
        None => tracing::debug!(%address, "a handshake took too long"),
    }
}

async fn dial_once(shared: Shared, dial: Dial) {
    let client = shared.made(dial.kind).client.clone();
    let connecting = async {
        let connection = connect(&shared.endpoint, client, &dial.address).await?;
        let admission = shared.admission.as_ref();
        let greeted = handshake::greet(&connection, dial.kind, dial.node, admission).await;
        match greeted {
            Ok(greeted) => Ok((connection, greeted)),
            Err(error) => {
                // The acceptor's verdict on our certificate comes after the handshake.
                let error = match connection.close_reason() {
                    Some(reason) if !matches!(error, DialError::Refused(_)) => explain(reason),
                    Some(_) | None => error,
                };
                connection.close(VarInt::from_u32(2), b"refused");
                Err(error)
            }
        }
    };
    let result = match within(shared.runtime.as_ref(), DIAL_MAX, connecting).await {
        Some(result) => result,
        None => Err(DialError::Silent(format!("within {DIAL_MAX:?}"))),
    };
    match result {
        Ok((connection, greeted)) => {
            serve(shared, connection, greeted, Some(dial.address)).await;
        }
        Err(why) => {
            let event = TransportEvent::DialFailed {
                address: dial.address,
                why,
            };
            // The core has ended if nobody listens.
            drop(shared.events.of(ConnectionKind::Control).send(event).await);
        }
    }
}

async fn connect(
    endpoint: &Endpoint,
    client: ClientConfig,
    address: &str,
) -> Result<Connection, DialError> {
    let mut resolved = tokio::net::lookup_host(address)
        .await
        .map_err(|_| DialError::Unresolved(address.to_owned()))?;
    let address = resolved
        .next()
        .ok_or_else(|| DialError::Unresolved(address.to_owned()))?;
    let connecting = endpoint
        .connect_with(client, address, SERVER_NAME)
        .map_err(|error| DialError::Broken(error.to_string()))?;
    connecting.await.map_err(explain)
}

fn explain(error: quinn::ConnectionError) -> DialError {
    /// QUIC's crypto errors are 0x100 and the TLS alert.
    const CRYPTO: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;
    let code = match &error {
        quinn::ConnectionError::TransportError(error) => Some(u64::from(error.code)),
        quinn::ConnectionError::ConnectionClosed(close) => Some(u64::from(close.error_code)),
        _ => None,
    };
    match (code, &error) {
        (Some(code), _) if CRYPTO.contains(&code) => DialError::KeyRejected,
        (_, quinn::ConnectionError::TimedOut) => DialError::Silent("timed out".to_owned()),
        _ => DialError::Broken(error.to_string()),
    }
}

/// `dialed`: the address, if this node dialed it.
async fn serve(shared: Shared, connection: Connection, greeted: Greeted, dialed: Option<String>) {
    let Greeted { node, kind, hello } = greeted;
    let record = hello.node.clone().unwrap_or_default();
    let dialer = if dialed.is_some() { shared.me } else { node };
    let verdict = shared.registry().offer(
        (node, kind),
        &connection,
        record.generation,
        dialer,
        shared.runtime.now(),
    );
    if verdict == Verdict::Close {
        connection.close(VarInt::from_u32(0), b"another connection serves");
        return;
    }
    let pump = shared.pumps.of(kind);
    let Ok(link) = lanes::open(kind, &connection, pump, &shared.runtime).await else {
        return;
    };
    let events = shared.events.of(kind);
    let connected = TransportEvent::Connected {
        peer: Box::new(record),
        descriptor: hello.cluster,
        kind,
        link,
        dialed,
    };
    if events.send(connected).await.is_err() {
        return;
    }
    if kind == ConnectionKind::Control {
        let read = receive::read_datagrams(connection.clone(), events.clone());
        shared.runtime.spawn(Box::pin(read));
    }
    let runtime = shared.runtime.as_ref();
    receive::read_all(node, kind, connection.clone(), &shared.events, runtime).await;
    connection.closed().await;
    let served = shared.registry().ended((node, kind), &connection);
    if served {
        let event = TransportEvent::Disconnected { node, kind };
        // The core has ended if nobody listens.
        drop(events.send(event).await);
    }
}
