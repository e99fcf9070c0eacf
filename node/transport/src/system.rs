//! The ground in production: a UDP socket of the system, and two threads.

use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;

use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::hello::ConnectionKind;
use quinn::{AsyncTimer, AsyncUdpSocket, Endpoint, Runtime, TokioRuntime};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::endpoint::{self, Transport, TransportError};
use super::ground::{Chance, Ground};
use super::{Events, SharedAdmission, tuning};
use crate::security::tls::NodeTls;

impl Transport {
    /// Binds a peer socket; a port of 0 takes any.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn socket(address: SocketAddr) -> Result<UdpSocket, TransportError> {
        UdpSocket::bind(address).map_err(|source| TransportError::Bind { address, source })
    }

    /// Starts on a bound socket, with threads of its own.
    ///
    /// # Errors
    /// When the endpoint or its threads cannot be made.
    pub fn start(
        me: NodeId,
        socket: UdpSocket,
        tls: NodeTls,
        admission: SharedAdmission,
        events: Events,
    ) -> Result<Self, TransportError> {
        let (control, bulk) = (current_thread()?, current_thread()?);
        let ground = {
            let _inside = control.enter();
            tuning::enlarge_buffers(&socket);
            let socket = TokioRuntime.wrap_udp_socket(socket);
            Ground {
                socket: socket.map_err(TransportError::Endpoint)?,
                runtime: Arc::new(TokioRuntime),
                control: Arc::new(Thread(control.handle().clone())),
                bulk: Arc::new(Thread(bulk.handle().clone())),
                chance: Chance::System,
            }
        };
        let (mut transport, shared, queue) = {
            let _inside = control.enter();
            Self::assemble(me, &ground, &tls, admission, events)?
        };
        #[cfg(test)]
        {
            let handles = [bulk.handle().clone(), control.handle().clone()];
            transport.inside = Some((handles, shared.endpoint.clone()));
        }
        // The bulk thread ends after the other: closing needs both.
        let (end_bulk, bulk_ends) = oneshot::channel::<()>();
        let bulk_pump = Arc::clone(&shared.pumps.bulk);
        let bulk = spawn("lanes", move || {
            bulk.block_on(async {
                tokio::select! {
                    biased;
                    _ = bulk_ends => {}
                    () = bulk_pump.run() => {}
                }
            });
            end(bulk);
        })?;
        let control = spawn("transport", move || {
            control.block_on(endpoint::run(shared, queue));
            drop(end_bulk);
            end(control);
        })?;
        transport.threads = vec![control, bulk];
        Ok(transport)
    }
}

/// An endpoint with the nodes' own settings of bulk connections and nothing of ours behind it, to
/// measure against; driven by the runtime that is entered.
///
/// # Errors
/// When the endpoint cannot be made.
pub fn bare(socket: UdpSocket, tls: &NodeTls) -> Result<Endpoint, TransportError> {
    tuning::enlarge_buffers(&socket);
    let socket = TokioRuntime.wrap_udp_socket(socket);
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let ground = Ground {
        socket: socket.map_err(TransportError::Endpoint)?,
        runtime: Arc::clone(&runtime),
        control: Arc::clone(&runtime),
        bulk: runtime,
        chance: Chance::System,
    };
    let client = endpoint::client_config(ConnectionKind::Bulk, tls, &ground.chance);
    let mut bare = endpoint::endpoint(&ground, tls)?;
    bare.set_default_client_config(client);
    Ok(bare)
}

/// One of the threads: what is begun on it stays there.
#[derive(Debug)]
struct Thread(Handle);

impl Runtime for Thread {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        let _inside = self.0.enter();
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(task);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        let _inside = self.0.enter();
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> std::time::Instant {
        TokioRuntime.now()
    }
}

fn current_thread() -> Result<tokio::runtime::Runtime, TransportError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(TransportError::Endpoint)
}

/// Looking up a name cannot be given up, and may take as long as the resolver wants: nobody waits
/// for it.
fn end(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_background();
}

fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, TransportError> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body);
    thread.map_err(TransportError::Endpoint)
}
