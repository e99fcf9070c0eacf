//! The ports of a node: a default port on loopback that is taken moves to the next free one, and is kept.

use std::net::{SocketAddr, UdpSocket};

use ghostlight_protocol::code::Code;
use ghostlight_storage::{ChosenPort, NodeIdentity};
use tokio::net::TcpListener;

use super::StartError;
use crate::api::serve;
use crate::config::{AddrOrigin, ListenAddr, NodeConfig};

/// Everything bound.
pub(super) struct Listeners {
    pub(super) peer: UdpSocket,
    pub(super) http: TcpListener,
    pub(super) admin: TcpListener,
}

/// Binds all ports; those chosen are noted in `identity`.
pub(super) async fn bind(
    config: &NodeConfig,
    identity: &mut NodeIdentity,
) -> Result<Listeners, StartError> {
    let tcp = async |what: &'static str, listen, kept| {
        serve::bind(what, listen, kept)
            .await
            .map_err(|error| StartError::new(error.code(), error.to_string()))
    };
    let peer = peer_socket(config.listen, kept(identity, "peer"))?;
    let http = tcp("the Dapr HTTP API", config.http, kept(identity, "http")).await?;
    let admin = tcp("the admin API", config.admin, kept(identity, "admin")).await?;
    let listeners = Listeners { peer, http, admin };
    note(identity, "peer", port_of(listeners.peer.local_addr()));
    note(identity, "http", port_of(listeners.http.local_addr()));
    note(identity, "admin", port_of(listeners.admin.local_addr()));
    Ok(listeners)
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
