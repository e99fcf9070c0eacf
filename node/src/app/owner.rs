//! Which process is at the other end of a connection, when both ends are on this machine.
//!
//! The other end has a row in the kernel's table of sockets, the row has an inode, and a process that has the inode
//! among its open files owns the connection. A process is told apart from any other, earlier or later, by its id,
//! its start, and where its stack begins: the last one changes when it replaces its own program (`exec`).
//! Linux alone, and only for what this node may look at: elsewhere the answer is [`End::Unseen`].
//! A row has no inode until the other side has accepted: [`End::NotYet`].
//! Absent: when it is asked, and what follows from it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// States of a connection in the kernel's table.
const ESTABLISHED: &str = "01";
const SYN_RECEIVED: &str = "03";

/// One process, as far as it runs one program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Image {
    /// Its id.
    pub(super) pid: u32,
    /// When it started, in clock ticks since the machine started.
    started: u64,
    /// Where its stack begins; the kernel chooses it anew for every program.
    stack: u64,
}

/// One connection, as its near end sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pair {
    /// Our address.
    pub(super) near: SocketAddr,
    /// The application's address.
    pub(super) far: SocketAddr,
}

/// What is known about the far end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// This process has it.
    Of(Image),
    /// It is on this machine, and nobody has accepted it yet.
    NotYet,
    /// It has no row: it is elsewhere, or it has been closed.
    Absent,
    /// It is on this machine, in a process that cannot be looked at.
    Unseen,
}

impl Image {
    /// What runs under this id now; `None`: nothing, or it cannot be looked at.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(pid, &stat)
    }

    /// A name for files; [`Image::parse`] reads it.
    pub(super) fn name(&self) -> String {
        format!("{}-{}-{}", self.pid, self.started, self.stack)
    }

    /// Reads a name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let image = Self {
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
            stack: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(image)
    }

    /// Whether it still runs.
    pub(super) fn lives(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// Looks at many connections at once; `known` are processes that probably have them.
///
/// Blocks for the time of a look at `/proc`: tens of microseconds where the process is a known one, a millisecond per
/// hundred processes where it is not.
pub(super) fn look(pairs: &[Pair], known: &[Image]) -> Vec<End> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let mut sight = Sight::Clear;
    for error in tables.iter().filter_map(|table| table.as_ref().err()) {
        sight.troubled_by(error);
    }
    let rows: Vec<Row> = tables
        .iter()
        .flatten()
        .flat_map(|text| rows(text))
        .collect();
    let inodes = pairs.iter().map(|pair| inode_of(&rows, *pair));
    let inodes: Vec<Option<u64>> = inodes.collect();
    let mut owners = Owners {
        read: Vec::new(),
        sight,
    };
    for image in known {
        // One that has ended may have left its id to another.
        if image.lives() {
            owners.read(image.pid);
        }
    }
    let wanted = |owners: &Owners| {
        let missing = |inode: &u64| *inode != 0 && owners.find(*inode).is_none();
        inodes.iter().flatten().any(missing)
    };
    if wanted(&owners) {
        owners.read_all();
    }
    let end = |inode: &Option<u64>| match (inode, owners.sight) {
        (Some(0), _) => End::NotYet,
        (Some(inode), sight) => match (owners.find(*inode), sight) {
            (Some(image), _) => End::Of(image),
            (None, Sight::Clear) => End::Unseen,
            (None, Sight::Short) => End::NotYet,
        },
        (None, Sight::Clear) => End::Absent,
        (None, Sight::Short) => End::NotYet,
    };
    inodes.iter().map(end).collect()
}

/// Whether everything could be looked at that this node may look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sight {
    /// What was not seen is not there, or not for these eyes.
    Clear,
    /// This process has no file or memory left for it: what was not seen is to be looked for again.
    Short,
}

impl Sight {
    fn troubled_by(&mut self, error: &io::Error) {
        let lasting = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
        );
        // A process that has just ended is not there either (ESRCH).
        if !lasting && error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) {
            *self = Self::Short;
        }
    }
}

/// A row of the kernel's table of sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    inode: u64,
}

/// Inode of the far end: the row that has our addresses the other way round. 0: not accepted yet.
fn inode_of(rows: &[Row], pair: Pair) -> Option<u64> {
    let (near, far) = (canonical(pair.near), canonical(pair.far));
    let found = rows
        .iter()
        .find(|row| row.local == far && row.remote == near);
    found.map(|row| row.inode)
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The rows that are connections; what cannot be read is left out.
fn rows(text: &str) -> impl Iterator<Item = Row> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = parse_address(fields.next()?)?;
        let remote = parse_address(fields.next()?)?;
        let state = fields.next()?;
        let inode = fields.nth(5)?.parse().ok()?;
        // Without an inode and not about to be accepted: closed by the far end.
        if inode == 0 && !matches!(state, ESTABLISHED | SYN_RECEIVED) {
            return None;
        }
        Some(Row {
            local: canonical(local),
            remote: canonical(remote),
            inode,
        })
    })
}

/// An address as the kernel prints it: words of four bytes, each in the machine's byte order, in hexadecimal.
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

/// A process's line of `/proc/PID/stat`. The name in parentheses may hold anything, so fields are counted after it.
fn parse_stat(pid: u32, stat: &str) -> Option<Image> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        // Ended, and not yet collected by its parent.
        return None;
    }
    // Fields 22 and 28; the state is field 3.
    let started = fields.nth(18)?.parse().ok()?;
    let stack = fields.nth(5)?.parse().ok()?;
    Some(Image {
        pid,
        started,
        stack,
    })
}

/// Sockets and the processes that have them open.
struct Owners {
    read: Vec<(u32, Option<Image>, Vec<u64>)>,
    sight: Sight,
}

impl Owners {
    /// Of several processes with the socket the one that has it longest: a parent that gave it to its children.
    fn find(&self, inode: u64) -> Option<Image> {
        let having = self.read.iter().filter(|(_, _, all)| all.contains(&inode));
        let images = having.filter_map(|(_, image, _)| *image);
        images.min_by_key(|image| (image.started, image.pid))
    }

    fn read_all(&mut self) {
        let all = match std::fs::read_dir("/proc") {
            Ok(all) => all,
            Err(error) => return self.sight.troubled_by(&error),
        };
        for entry in all.flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(pid) = pid {
                self.read(pid);
            }
        }
    }

    /// Sockets of one process. Image and files are not read at one moment, so the image is read on both sides.
    fn read(&mut self, pid: u32) {
        if self.read.iter().any(|(known, _, _)| *known == pid) {
            return;
        }
        let files = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => files,
            Err(error) => return self.sight.troubled_by(&error),
        };
        let before = Image::of(pid);
        let sockets = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .filter_map(|target| {
                let text = target.to_str()?.strip_prefix("socket:[")?;
                text.strip_suffix(']')?.parse().ok()
            })
            .collect();
        let same = before.filter(|image| image.lives());
        self.read.push((pid, same, sockets));
    }
}

#[cfg(test)]
mod tests;
