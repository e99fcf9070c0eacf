//! Which process is at the other end of a connection, when both ends are on this machine.
//!
//! The other end has a row in the kernel's table of sockets, the row has an inode, and a process
//! that has the inode among its open files owns the connection. The kernel is asked for the row
//! (`diag.rs`); where it does not answer, the table is read (`table.rs`). A process is told apart
//! from any other, earlier or later, by its id, its start, and where its stack begins: the last one
//! changes when it replaces its own program (`exec`). Linux alone, and only for what this node may
//! look at: elsewhere the answer is [`End::Unseen`]. A row has no inode until the other side has
//! accepted: [`End::NotYet`]. Absent: when it is asked, and what follows from it.

use std::io;
use std::net::SocketAddr;

#[cfg(target_os = "linux")]
mod diag;
mod table;

/// States of a connection in the kernel's table.
const ESTABLISHED: u8 = 1;
const SYN_RECEIVED: u8 = 3;

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
/// Blocks for the time of a look at `/proc`: tens of microseconds where the process is a known one,
/// a millisecond per hundred processes where it is not; ten milliseconds more where the kernel's
/// table has to be read.
pub(super) fn look(pairs: &[Pair], known: &[Image]) -> Vec<End> {
    let (inodes, sight) = match asked(pairs) {
        Ok(inodes) => (inodes, Sight::Clear),
        Err(_) => read(pairs),
    };
    let mut owners = Owners {
        wanted: inodes
            .iter()
            .flatten()
            .copied()
            .filter(|i| *i != 0)
            .collect(),
        read: Vec::new(),
        sight,
    };
    for image in known {
        // One that has ended may have left its id to another.
        if image.lives() {
            owners.read(image.pid);
        }
    }
    let all = owners.wanted.iter();
    if all.copied().any(|inode| owners.find(inode).is_none()) {
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

/// The inode of each far end, asked of the kernel.
#[cfg(target_os = "linux")]
fn asked(pairs: &[Pair]) -> io::Result<Vec<Option<u64>>> {
    let kernel = diag::Diag::open()?;
    let inode = |pair: &Pair| {
        let (near, far) = (canonical(pair.near), canonical(pair.far));
        let found = kernel.find(far, near)?;
        if found.is_none() && kernel.find(near, far)?.is_none() {
            // Our own end is there. A kernel that does not see it, for it has no such table or the
            // socket is bound to a device, says nothing about the other one either.
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(found.and_then(|found| held(found.state, found.inode)))
    };
    pairs.iter().map(inode).collect()
}

#[cfg(not(target_os = "linux"))]
fn asked(_: &[Pair]) -> io::Result<Vec<Option<u64>>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The same, read.
fn read(pairs: &[Pair]) -> (Vec<Option<u64>>, Sight) {
    let (rows, errors) = table::read();
    let mut sight = Sight::Clear;
    for error in &errors {
        sight.troubled_by(error);
    }
    let inodes = pairs.iter().map(|pair| table::inode_of(&rows, *pair));
    (inodes.collect(), sight)
}

/// The inode of a row; `None` without an inode and not about to be accepted: closed by the far end.
fn held(state: u8, inode: u64) -> Option<u64> {
    (inode != 0 || matches!(state, ESTABLISHED | SYN_RECEIVED)).then_some(inode)
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
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

/// A process's line of `/proc/PID/stat`. The name in parentheses may hold anything, so fields are
/// counted after it.
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
    /// The sockets that are looked for.
    wanted: Vec<u64>,
    /// Processes, and which of these they have.
    read: Vec<(u32, Option<Image>, Vec<u64>)>,
    sight: Sight,
}

impl Owners {
    /// Of several processes with the socket the one that has it longest: a parent that gave it to
    /// its children.
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

    /// Sockets of one process. Image and files are not read at one moment, so the image is read on
    /// both sides.
    fn read(&mut self, pid: u32) {
        if self.read.iter().any(|(known, _, _)| *known == pid) {
            return;
        }
        let files = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(files) => files,
            Err(error) => return self.sight.troubled_by(&error),
        };
        let before = Image::of(pid);
        // What was opened last has the highest number, mostly: looked at first, so that a process
        // with thousands of connections is not read through for one of them.
        let mut numbers: Vec<u32> = files
            .flatten()
            .filter_map(|file| file.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        let mut sockets = Vec::new();
        for number in numbers {
            if sockets.len() == self.wanted.len() {
                break;
            }
            let socket = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
            let inode = socket.ok().as_deref().and_then(inode_named);
            sockets.extend(
                inode.filter(|inode| self.wanted.contains(inode) && !sockets.contains(inode)),
            );
        }
        let same = before.filter(|image| image.lives());
        self.read.push((pid, same, sockets));
    }
}

/// Reads `socket:[4711]`.
fn inode_named(link: &std::path::Path) -> Option<u64> {
    let text = link.to_str()?.strip_prefix("socket:[")?;
    text.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests;
