//! One row of the kernel's table of sockets, asked for by its addresses (`sock_diag(7)`).
//!
//! Reading the table as text walks every bucket of it, some ten milliseconds on a machine with much
//! memory; this takes microseconds, whatever the machine has. Where the kernel does not answer, who
//! asks reads the table.

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as KernelAddr};

/// Any socket with these addresses, whatever number the kernel gave it.
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// The state of a socket that listens, by the kernel's number.
const LISTEN: u8 = 10;
/// More than one answer.
const ANSWER_BYTES_MAX: usize = 8_192;

/// A conversation with the kernel.
pub(super) struct Diag(Socket);

/// What the kernel says of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// The state, by the kernel's number.
    pub(super) state: u8,
    /// The inode; 0: nobody has accepted it, or nobody has it any more.
    pub(super) inode: u64,
}

impl Diag {
    /// # Errors
    /// The kernel does not offer it, or does not offer it here.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&KernelAddr::new(0, 0))?;
        // The kernel answers while it is asked.
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// The connection from `local` to `remote`; `None`: there is none. Addresses are canonical:
    /// IPv4 is not wrapped.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub(super) fn find(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Found>> {
        let family = match local {
            SocketAddr::V4(_) => AF_INET,
            SocketAddr::V6(_) => AF_INET6,
        };
        let request = SockDiagMessage::InetRequest(InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: local.port(),
                destination_port: remote.port(),
                source_address: local.ip(),
                destination_address: remote.ip(),
                interface_id: 0,
                cookie: NO_COOKIE,
            },
        });
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let length = self.0.recv(&mut &mut answer[..], 0)?;
        let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer[..length]);
        match answer.map_err(io::Error::other)?.payload {
            // Where there is no such connection, the kernel names who listens on the port.
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found))
                if found.header.state == LISTEN =>
            {
                Ok(None)
            }
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => Ok(Some(Found {
                state: found.header.state,
                inode: found.header.inode.into(),
            })),
            NetlinkPayload::Error(error) => match error.to_io() {
                error if error.kind() == io::ErrorKind::NotFound => Ok(None),
                error => Err(error),
            },
            other => Err(io::Error::other(format!("an unknown answer: {other:?}"))),
        }
    }
}
