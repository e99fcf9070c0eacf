//! The ports of a node: a default port on loopback that is taken moves to the next free one, and is kept.

use std::net::{SocketAddr, UdpSocket};

use ghostlight_protocol::code::Code;
use ghostlight_storage::{ChosenPort, NodeIdentity};
use tokio::net::TcpListener;

use super::StartError;
use crate::api::serve;
use crate::config::{AddrOrigin, ListenAddr, NodeConfig};

/// What applications see.
pub(super) struct Front {
    pub(super) http: TcpListener,
    pub(super) grpc: TcpListener,
}

/// What peers, operators and sidecars see.
pub(super) struct Back {
    pub(super) peer: UdpSocket,
    pub(super) admin: TcpListener,
    /// For introductions; `None`: switched off, or the default port is somebody else's.
    pub(super) introduce: Option<TcpListener>,
}

async fn tcp(
    what: &'static str,
    listen: ListenAddr,
    kept: Option<u16>,
) -> Result<TcpListener, StartError> {
    serve::bind(what, listen, kept)
        .await
        .map_err(|error| StartError::new(error.code(), error.to_string()))
}

/// Binds the ports that applications see; those chosen are noted in `identity`.
pub(super) async fn front(
    config: &NodeConfig,
    identity: Option<&mut NodeIdentity>,
) -> Result<Front, StartError> {
    let before = |listener| identity.as_deref().and_then(|known| kept(known, listener));
    let (http, grpc) = (before("http"), before("grpc"));
    let http = tcp("the Dapr HTTP API", config.http, http).await?;
    let grpc = tcp("the Dapr gRPC API", config.grpc, grpc).await?;
    if let Some(identity) = identity {
        note(identity, "http", port_of(http.local_addr()));
        note(identity, "grpc", port_of(grpc.local_addr()));
    }
    Ok(Front { http, grpc })
}

/// Binds all other ports; those chosen are noted in `identity`.
pub(super) async fn back(
    config: &NodeConfig,
    identity: &mut NodeIdentity,
) -> Result<Back, StartError> {
    let peer = peer_socket(config.listen, kept(identity, "peer"))?;
    let admin = tcp("the admin API", config.admin, kept(identity, "admin")).await?;
    let introduce = match config.introduce {
        None => None,
        // Sidecars look for this port: one at another would be of no use to them.
        Some(listen) if listen.origin == AddrOrigin::Default => {
            TcpListener::bind(listen.addr).await.ok()
        }
        Some(listen) => Some(tcp("introductions", listen, None).await?),
    };
    note(identity, "peer", port_of(peer.local_addr()));
    note(identity, "admin", port_of(admin.local_addr()));
    Ok(Back {
        peer,
        admin,
        introduce,
    })
}

fn port_of(address: std::io::Result<SocketAddr>) -> u16 {
    address.map_or(0, |address| address.port())
}

fn kept(identity: &NodeIdentity, listener: &str) -> Option<u16> {
    let found = identity
        .ports
        .iter()
        .find(|port| port.listener == listener)?;
    u16::try_from(found.port).ok().filter(|port| *port != 0)
}

fn note(identity: &mut NodeIdentity, listener: &str, port: u16) {
    identity.ports.retain(|known| known.listener != listener);
    identity.ports.push(ChosenPort {
        listener: listener.to_owned(),
        port: u32::from(port),
    });
}

fn peer_socket(listen: ListenAddr, kept: Option<u16>) -> Result<UdpSocket, StartError> {
    let refused = |error: &std::io::Error| {
        StartError::new(
            Code::PortInUse,
            format!(
                "cannot listen on {} (UDP) for peers ({error}). Stop what uses the port, or choose \
                 another one with --listen",
                listen.addr
            ),
        )
    };
    let movable = listen.origin == AddrOrigin::Default && listen.addr.ip().is_loopback();
    if !movable {
        return UdpSocket::bind(listen.addr).map_err(|error| refused(&error));
    }
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for port in serve::candidates(listen.addr.port(), kept) {
        match UdpSocket::bind(SocketAddr::new(listen.addr.ip(), port)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(refused(&last))
}
