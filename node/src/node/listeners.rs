//! The ports of a node: a default port on loopback that is taken moves to the next free one, and is
//! kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use ghostlight_protocol::code::Code;
use ghostlight_storage::{ChosenPort, NodeIdentity};
use tokio::net::TcpListener;

use super::StartError;
use crate::api::serve::{self, Api, Purpose};
use crate::config::{AddrOrigin, ListenAddr, NodeConfig};

/// The API listeners of an application, or of a node without any.
pub(super) struct Front {
    pub(super) http: TcpListener,
    pub(super) grpc: TcpListener,
}

/// What applications see: the listeners of the node, which are its first application's, and those
/// of each further one.
pub(super) struct Fronts {
    pub(super) own: Front,
    pub(super) others: Vec<Front>,
    /// Further listeners of the node's own API.
    pub(super) more: Vec<(Api, TcpListener)>,
}

/// The addresses that the API of a sidecar listens on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Listening {
    /// Every one of this machine, of both versions of IP.
    #[default]
    All,
    /// These, at least one.
    These(Vec<IpAddr>),
}

impl Listening {
    /// The one that is told.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        match self {
            Self::All => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::These(named) => *named.first().expect("one at least is named"),
        }
    }

    /// Whether other machines reach one of them.
    #[must_use]
    pub fn are_open(&self) -> bool {
        match self {
            Self::All => true,
            Self::These(named) => named.iter().any(|ip| !ip.is_loopback()),
        }
    }
}

/// Where the API of a sidecar is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Also {
    /// Every address that it listens on, with the ports of the configuration.
    pub addresses: Listening,
    /// Where health and metadata are told to anybody; `None`: nowhere else.
    pub public: Option<SocketAddr>,
    /// Where metrics are told to anybody; `None`: nowhere else.
    pub metrics: Option<ListenAddr>,
}

/// What peers, operators and sidecars see.
pub(super) struct Back {
    pub(super) peer: UdpSocket,
    pub(super) admin: TcpListener,
    /// For introductions; `None`: switched off, or the default port is somebody else's.
    pub(super) introduce: Option<TcpListener>,
}

const fn purpose(what: &'static str, flag: &'static str) -> Purpose {
    Purpose { what, flag }
}

const HTTP: Purpose = purpose("the Dapr HTTP API", "--http");
const GRPC: Purpose = purpose("the Dapr gRPC API", "--grpc");
/// Of an application that is not the first.
const APP_HTTP: Purpose = purpose("an application's Dapr HTTP API", "http= in its --app");
const APP_GRPC: Purpose = purpose("an application's Dapr gRPC API", "grpc= in its --app");
const SIDECAR_HTTP: Purpose = purpose("the Dapr HTTP API", "--dapr-http-port");
const SIDECAR_GRPC: Purpose = purpose("the Dapr gRPC API", "--dapr-grpc-port");
const SIDECAR_PUBLIC: Purpose = purpose("health and metadata", "--dapr-public-port");
const SIDECAR_METRICS: Purpose = purpose("metrics", "--metrics-port");
const ADMIN: Purpose = purpose("the admin API", "--admin (--metrics-port of placement)");
const INTRODUCE: Purpose = purpose("introductions", "--introduce (--port of placement)");

/// How often a free port is looked for that is free in both versions of IP.
const FREE_PORT_TRIES: usize = 16;

async fn tcp(
    purpose: Purpose,
    listen: ListenAddr,
    kept: Option<u16>,
) -> Result<TcpListener, StartError> {
    serve::bind(purpose, listen, kept)
        .await
        .map_err(|error| StartError::new(error.code(), error.to_string()))
}

/// Binds the ports that applications see; those chosen are noted in `identity`.
pub(super) async fn fronts(
    config: &NodeConfig,
    mut identity: Option<&mut NodeIdentity>,
) -> Result<Fronts, StartError> {
    let places = (("http", HTTP, config.http), ("grpc", GRPC, config.grpc));
    let own = front(places, identity.as_deref_mut()).await?;
    let mut others = Vec::new();
    for app in config.apps.iter().skip(1) {
        let (http, grpc) = (format!("http of {}", app.id), format!("grpc of {}", app.id));
        let places = (
            (http.as_str(), APP_HTTP, free_unless(app.door.http)),
            (grpc.as_str(), APP_GRPC, free_unless(app.door.grpc)),
        );
        others.push(front(places, identity.as_deref_mut()).await?);
    }
    Ok(Fronts {
        own,
        others,
        more: Vec::new(),
    })
}

/// The ports of a sidecar, which keeps none.
pub(super) async fn sidecar(config: &NodeConfig, also: &Also) -> Result<Fronts, StartError> {
    let mut more = Vec::new();
    let http = each(SIDECAR_HTTP, config.http, &also.addresses).await?;
    let grpc = each(SIDECAR_GRPC, config.grpc, &also.addresses).await?;
    more.extend(http.1.into_iter().map(|listener| (Api::Dapr, listener)));
    more.extend(grpc.1.into_iter().map(|listener| (Api::Grpc, listener)));
    if let Some(addr) = also.public {
        let origin = AddrOrigin::Explicit;
        let listener = tcp(SIDECAR_PUBLIC, ListenAddr { addr, origin }, None).await?;
        more.push((Api::Public, listener));
    }
    if let Some(listen) = also.metrics {
        more.push((Api::Metrics, metrics(listen).await?));
    }
    Ok(Fronts {
        own: Front {
            http: http.0,
            grpc: grpc.0,
        },
        others: Vec::new(),
        more,
    })
}

/// Dapr's own port where nobody has named one: every sidecar of a machine wants it, so that one of
/// them has it and the others say where they are.
async fn metrics(listen: ListenAddr) -> Result<TcpListener, StartError> {
    let listener = match (tcp(SIDECAR_METRICS, listen, None).await, listen.origin) {
        (Err(error), AddrOrigin::Default) => {
            tracing::warn!("{error}");
            let addr = SocketAddr::new(listen.addr.ip(), 0);
            tcp(SIDECAR_METRICS, ListenAddr { addr, ..listen }, None).await?
        }
        (listener, _) => listener?,
    };
    if let Ok(addr) = listener.local_addr() {
        tracing::info!("metrics server started on {addr}");
    }
    Ok(listener)
}

/// A listener on each address, all with the same port: the first one, and those beside it.
async fn each(
    purpose: Purpose,
    listen: ListenAddr,
    addresses: &Listening,
) -> Result<(TcpListener, Vec<TcpListener>), StartError> {
    match addresses {
        Listening::All => everywhere(purpose, listen).await,
        Listening::These(ips) => those_to_be_had(purpose, listen, ips).await,
    }
}

/// One listener for each version of IP that this machine has: who listens on both with one sees
/// addresses of the older version in the form of the newer.
async fn everywhere(
    purpose: Purpose,
    listen: ListenAddr,
) -> Result<(TcpListener, Vec<TcpListener>), StartError> {
    let at = |ip: IpAddr, port| ListenAddr {
        addr: SocketAddr::new(ip, port),
        ..listen
    };
    let place = at(Ipv4Addr::UNSPECIFIED.into(), listen.addr.port());
    // A port that is free in one version may be somebody's in the other: where any will do, another
    // one is tried.
    let tries = match place.addr.port() {
        0 => FREE_PORT_TRIES,
        _ => 1,
    };
    let mut last = None;
    for _ in 0..tries {
        let first = tcp(purpose, place, None).await?;
        match serve::bind_newer_alone(purpose, port_of(first.local_addr())) {
            Ok(beside) => return Ok((first, beside.into_iter().collect())),
            Err(error) => last = Some(StartError::new(error.code(), error.to_string())),
        }
    }
    Err(last.expect("it is tried at least once"))
}

/// At least one must be had; what is said of the others is a warning.
async fn those_to_be_had(
    purpose: Purpose,
    listen: ListenAddr,
    ips: &[IpAddr],
) -> Result<(TcpListener, Vec<TcpListener>), StartError> {
    let mut port = listen.addr.port();
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for ip in ips {
        let place = ListenAddr {
            addr: SocketAddr::new(*ip, port),
            ..listen
        };
        match tcp(purpose, place, None).await {
            Ok(listener) => {
                port = port_of(listener.local_addr());
                found.push(listener);
            }
            Err(error) => failed.push(error),
        }
    }
    let mut found = found.into_iter();
    match (found.next(), failed.pop()) {
        (Some(first), last) => {
            for error in failed.into_iter().chain(last) {
                tracing::warn!("{error}");
            }
            Ok((first, found.collect()))
        }
        (None, Some(error)) => Err(error),
        (None, None) => unreachable!("there is one address at least"),
    }
}

/// A listener's name in `identity`, what it is for, and where it is to be.
type Place<'a> = (&'a str, Purpose, ListenAddr);

async fn front(
    (http, grpc): (Place<'_>, Place<'_>),
    identity: Option<&mut NodeIdentity>,
) -> Result<Front, StartError> {
    let before = |listener| identity.as_deref().and_then(|known| kept(known, listener));
    let (kept_http, kept_grpc) = (before(http.0), before(grpc.0));
    let front = Front {
        http: tcp(http.1, http.2, kept_http).await?,
        grpc: tcp(grpc.1, grpc.2, kept_grpc).await?,
    };
    if let Some(identity) = identity {
        note(identity, http.0, port_of(front.http.local_addr()));
        note(identity, grpc.0, port_of(front.grpc.local_addr()));
    }
    Ok(front)
}

/// Where nobody has said anything: any free port on loopback, the one of the last time if it is
/// free.
fn free_unless(said: Option<SocketAddr>) -> ListenAddr {
    match said {
        Some(addr) => ListenAddr {
            addr,
            origin: AddrOrigin::Explicit,
        },
        None => ListenAddr {
            addr: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            origin: AddrOrigin::Default,
        },
    }
}

/// Binds all other ports; those chosen are noted in `identity`.
pub(super) async fn back(
    config: &NodeConfig,
    identity: &mut NodeIdentity,
) -> Result<Back, StartError> {
    let peer = peer_socket(config.listen, kept(identity, "peer"))?;
    let admin = tcp(ADMIN, config.admin, kept(identity, "admin")).await?;
    let introduce = match config.introduce {
        None => None,
        // Sidecars look for this port: one at another would be of no use to them.
        Some(listen) if listen.origin == AddrOrigin::Default => {
            TcpListener::bind(listen.addr).await.ok()
        }
        Some(listen) => Some(tcp(INTRODUCE, listen, None).await?),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metrics_move_where_nobody_named_their_port() {
        let taken = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let addr = taken.local_addr().unwrap();
        let listen = |origin| ListenAddr { addr, origin };
        let moved = metrics(listen(AddrOrigin::Default)).await.unwrap();
        let found = moved.local_addr().unwrap();
        assert_eq!(found.ip(), addr.ip());
        assert_ne!(found.port(), addr.port());
        let refused = metrics(listen(AddrOrigin::Explicit)).await.unwrap_err();
        assert!(
            refused.to_string().contains("with --metrics-port"),
            "{refused}"
        );
    }

    /// Of both versions of IP where the machine has both, with one port, which somebody who has it
    /// on loopback keeps.
    #[tokio::test]
    async fn a_sidecar_is_everywhere_or_nowhere() {
        let any = ListenAddr {
            addr: "0.0.0.0:0".parse().unwrap(),
            origin: AddrOrigin::Explicit,
        };
        let (first, beside) = each(SIDECAR_HTTP, any, &Listening::All).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let has_newer = std::net::TcpListener::bind("[::]:0").is_ok();
        assert_eq!(beside.len(), usize::from(has_newer));
        for listener in &beside {
            assert_eq!(
                listener.local_addr().unwrap(),
                format!("[::]:{port}").parse().unwrap()
            );
        }
        drop((first, beside));
        for host in ["127.0.0.1", "[::1]"] {
            let Ok(taken) = std::net::TcpListener::bind(format!("{host}:0")) else {
                continue;
            };
            let port = taken.local_addr().unwrap().port();
            let addr = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
            let refused = each(SIDECAR_HTTP, ListenAddr { addr, ..any }, &Listening::All).await;
            let why = refused.map(|_| ()).unwrap_err().to_string();
            assert!(why.contains("with --dapr-http-port"), "{host}: {why}");
        }
    }
}
