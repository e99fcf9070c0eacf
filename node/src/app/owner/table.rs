//! The kernel's table of sockets as text, `/proc/net/tcp`: for where it does not answer questions
//! about one of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Pair, canonical, held};

/// Both tables; what could be read of them, and what could not.
pub(super) fn read() -> (Vec<Row>, Vec<io::Error>) {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for table in tables {
        match table {
            Ok(text) => all.extend(rows(&text)),
            Err(error) => errors.push(error),
        }
    }
    (all, errors)
}

/// A row of the kernel's table of sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    inode: u64,
}

/// Inode of the far end: the row that has our addresses the other way round. 0: not accepted yet.
pub(super) fn inode_of(rows: &[Row], pair: Pair) -> Option<u64> {
    let (near, far) = (canonical(pair.near), canonical(pair.far));
    let found = rows
        .iter()
        .find(|row| row.local == far && row.remote == near);
    found.map(|row| row.inode)
}

/// The rows that are connections; what cannot be read is left out.
pub(super) fn rows(text: &str) -> impl Iterator<Item = Row> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = parse_address(fields.next()?)?;
        let remote = parse_address(fields.next()?)?;
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let inode = held(state, fields.nth(5)?.parse().ok()?)?;
        Some(Row {
            local: canonical(local),
            remote: canonical(remote),
            inode,
        })
    })
}

/// An address as the kernel prints it: words of four bytes, each in the machine's byte order, in
/// hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = if let Ok(four) = <[u8; 4]>::try_from(&bytes[..]) {
        IpAddr::from(Ipv4Addr::from(four))
    } else {
        IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?))
    };
    Some(SocketAddr::new(ip, port))
}
