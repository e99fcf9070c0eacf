//! The endpoint: binds, accepts, dials, on a thread of its own.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::hello::ConnectionKind;
use quinn::{Connection, Endpoint, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use tokio::sync::mpsc;

use super::handshake::{self, Greeted};
use super::registry::{Registry, Verdict};
use super::{DialError, Events, SharedAdmission, TransportEvent, lanes};
use crate::security::tls::{NodeTls, SERVER_NAME};

/// Dials waiting for the transport's thread.
const DIALS_MAX: usize = 1_024;
/// Handshakes that wait to be accepted.
const INCOMING_MAX: usize = 512;
/// Handshakes in flight above which addresses must be proved first.
const HANDSHAKES_UNPROVED_MAX: usize = 64;
/// A dial, greeting included, that takes longer has failed.
const DIAL_MAX: Duration = Duration::from_secs(2);
/// A connection without a packet for this long is gone.
const IDLE_MAX: Duration = Duration::from_secs(3);
/// A packet is sent at least this often.
const KEEP_ALIVE: Duration = Duration::from_millis(250);
/// Streams that a peer may hold open.
const STREAMS_MAX: u32 = 64;
/// Bytes a peer may send ahead on one lane, and on all.
const WINDOW_BYTES: (u32, u32) = (8 << 20, 32 << 20);

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
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Dial {
    address: String,
    kind: ConnectionKind,
}

#[derive(Clone)]
struct Shared {
    me: NodeId,
    endpoint: Endpoint,
    admission: SharedAdmission,
    events: Events,
    registry: Arc<Mutex<Registry>>,
}

impl Transport {
    /// Binds a peer socket; a port of 0 takes any.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn socket(address: SocketAddr) -> Result<UdpSocket, TransportError> {
        UdpSocket::bind(address).map_err(|source| TransportError::Bind { address, source })
    }

    /// Starts on a bound socket.
    ///
    /// # Errors
    /// When the endpoint or its thread cannot be made.
    pub fn start(
        me: NodeId,
        socket: UdpSocket,
        tls: NodeTls,
        admission: SharedAdmission,
        events: Events,
    ) -> Result<Self, TransportError> {
        let address = socket.local_addr().map_err(TransportError::Endpoint)?;
        let (dials, queue) = mpsc::channel(DIALS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(TransportError::Endpoint)?;
        let endpoint = {
            let _inside = runtime.enter();
            endpoint(socket, &tls).map_err(TransportError::Endpoint)?
        };
        let shared = Shared {
            me,
            endpoint,
            admission,
            events,
            registry: Arc::default(),
        };
        let thread = std::thread::Builder::new()
            .name("transport".to_owned())
            .spawn(move || runtime.block_on(run(shared, queue)))
            .map_err(TransportError::Endpoint)?;
        Ok(Self {
            dials,
            address,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tries once to connect; the result comes as an event.
    pub fn dial(&self, address: String, kind: ConnectionKind) {
        // A full queue of dials: the core dials again.
        drop(self.dials.try_send(Dial { address, kind }));
    }
}

/// Ends the thread; connections are closed with a word, so that peers need not wait for a timeout.
impl Drop for Transport {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.dials = closed;
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its thread.
            drop(thread.join());
        }
    }
}

pub(crate) fn endpoint(socket: UdpSocket, tls: &NodeTls) -> std::io::Result<Endpoint> {
    let transport = Arc::new(transport_config());
    let mut server = quinn::ServerConfig::with_crypto(Arc::clone(&tls.server) as Arc<_>);
    server.transport_config(Arc::clone(&transport));
    server.migration(false);
    server.max_incoming(INCOMING_MAX);
    let mut client = quinn::ClientConfig::new(Arc::clone(&tls.client) as Arc<_>);
    client.transport_config(transport);
    let runtime =
        quinn::default_runtime().ok_or_else(|| std::io::Error::other("no asynchronous runtime"))?;
    let mut endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket, runtime)?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(
            IdleTimeout::try_from(IDLE_MAX).expect("three seconds are within the limit"),
        ))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES.0))
        .receive_window(VarInt::from_u32(WINDOW_BYTES.1))
        .send_window(u64::from(WINDOW_BYTES.1))
        .initial_rtt(Duration::from_millis(10));
    config
}

async fn run(shared: Shared, mut dials: mpsc::Receiver<Dial>) {
    let accepting = shared.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.endpoint.accept().await {
            let crowded = accepting.endpoint.open_connections() > HANDSHAKES_UNPROVED_MAX * 16;
            if crowded && !incoming.remote_address_validated() {
                // Fails only if the address is validated already.
                drop(incoming.retry());
                continue;
            }
            tokio::spawn(accept(accepting.clone(), incoming));
        }
    });
    while let Some(dial) = dials.recv().await {
        tokio::spawn(dial_once(shared.clone(), dial));
    }
    shared.endpoint.close(VarInt::from_u32(0), b"node ends");
    // A word to the peers is worth a moment, not more.
    drop(tokio::time::timeout(Duration::from_millis(200), shared.endpoint.wait_idle()).await);
}

async fn accept(shared: Shared, incoming: quinn::Incoming) {
    let address = incoming.remote_address();
    let greeting = async {
        let connection = incoming.await.map_err(explain)?;
        let greeted = handshake::answer(&connection, shared.admission.as_ref()).await;
        Ok::<_, DialError>((connection, greeted))
    };
    match tokio::time::timeout(DIAL_MAX, greeting).await {
        Ok(Ok((connection, Ok(greeted)))) => serve(shared, connection, greeted, Dialer::Peer).await,
        Ok(Ok((connection, Err(error)))) => {
            connection.close(VarInt::from_u32(2), b"refused");
            if let DialError::Refused(refusal) = error {
                // The core has ended if nobody listens.
                drop(
                    shared
                        .events
                        .send(TransportEvent::Refused { address, refusal })
                        .await,
                );
            }
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
        Err(_) => tracing::debug!(%address, "a handshake took too long"),
    }
}

async fn dial_once(shared: Shared, dial: Dial) {
    let connecting = async {
        let connection = connect(&shared.endpoint, &dial.address).await?;
        let greeted = handshake::greet(&connection, dial.kind, shared.admission.as_ref()).await;
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
    let result = match tokio::time::timeout(DIAL_MAX, connecting).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Silent(format!("within {DIAL_MAX:?}"))),
    };
    match result {
        Ok((connection, greeted)) => serve(shared, connection, greeted, Dialer::Me).await,
        Err(why) => {
            let event = TransportEvent::DialFailed {
                address: dial.address,
                why,
            };
            // The core has ended if nobody listens.
            drop(shared.events.send(event).await);
        }
    }
}

async fn connect(endpoint: &Endpoint, address: &str) -> Result<Connection, DialError> {
    let mut resolved = tokio::net::lookup_host(address)
        .await
        .map_err(|_| DialError::Unresolved(address.to_owned()))?;
    let address = resolved
        .next()
        .ok_or_else(|| DialError::Unresolved(address.to_owned()))?;
    let connecting = endpoint
        .connect(address, SERVER_NAME)
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

#[derive(Clone, Copy)]
enum Dialer {
    Me,
    Peer,
}

async fn serve(shared: Shared, connection: Connection, greeted: Greeted, dialer: Dialer) {
    let Greeted { node, kind, hello } = greeted;
    let record = hello.node.clone().unwrap_or_default();
    let dialer = match dialer {
        Dialer::Me => shared.me,
        Dialer::Peer => node,
    };
    let verdict = shared
        .registry
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .offer(
            (node, kind),
            &connection,
            record.generation,
            dialer,
            Instant::now(),
        );
    if verdict == Verdict::Close {
        connection.close(VarInt::from_u32(0), b"another connection serves");
        return;
    }
    let Ok(link) = lanes::open(kind, &connection).await else {
        return;
    };
    let connected = TransportEvent::Connected {
        peer: Box::new(record),
        descriptor: hello.cluster,
        kind,
        link,
    };
    if shared.events.send(connected).await.is_err() {
        return;
    }
    if kind == ConnectionKind::Control {
        tokio::spawn(lanes::read_datagrams(
            connection.clone(),
            shared.events.clone(),
        ));
    }
    lanes::read_all(node, connection.clone(), shared.events.clone()).await;
    connection.closed().await;
    let served = shared
        .registry
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .ended((node, kind), &connection);
    if served {
        // The core has ended if nobody listens.
        drop(
            shared
                .events
                .send(TransportEvent::Disconnected { node, kind })
                .await,
        );
    }
}
