//! A flood of calls to one actor: each on a connection of its own, none waits for an answer, until
//! one is refused because there are too many.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::http::{Reply, parse};

/// Most calls of a flood.
const CALLS_MAX: usize = 9_000;
/// Calls between two looks for a refusal.
const BATCH: usize = 250;
/// Longest time of a flood.
const FLOOD_TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are looked at: a refusal is short.
const HEAD_BYTES_MAX: usize = 4 << 10;

/// See the module. Dropped: all callers hang up.
#[derive(Debug)]
pub struct Flood {
    calls: Vec<TcpStream>,
    refusal: Reply,
}

impl Flood {
    /// Posts to a path at these addresses in turn until an answer has status 429.
    ///
    /// # Panics
    /// When none is refused in time.
    #[must_use]
    pub fn until_refused(addresses: &[String], path: &str) -> Self {
        raise_file_limit();
        let began = Instant::now();
        let mut calls = Vec::new();
        while began.elapsed() < FLOOD_TIME_MAX {
            if calls.len() < CALLS_MAX {
                let more = calls.len()..calls.len() + BATCH;
                let more = more.map(|number| call(&addresses[number % addresses.len()], path));
                calls.extend(more.map(|call| call.expect("a connection")));
            }
            if let Some(refusal) = calls.iter_mut().find_map(refusal) {
                return Self { calls, refusal };
            }
        }
        panic!(
            "none of {} calls was refused in {FLOOD_TIME_MAX:?}",
            calls.len()
        );
    }

    /// How many calls were sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.calls.len()
    }

    /// The first refusal that was found.
    #[must_use]
    pub fn refusal(&self) -> &Reply {
        &self.refusal
    }
}

fn call(address: &str, path: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&to, FLOOD_TIME_MAX)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"
    )?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// The answer on this connection, if it is there and a refusal.
fn refusal(stream: &mut TcpStream) -> Option<Reply> {
    let mut seen = [0; HEAD_BYTES_MAX];
    let length = stream.peek(&mut seen).ok()?;
    if !seen[..length].starts_with(b"HTTP/1.1 429 ") {
        return None;
    }
    let length = stream.read(&mut seen).ok()?;
    Some(parse(&seen[..length]).expect("a whole refusal in one piece"))
}

/// A connection is an open file, and the usual limit is below the size of a mailbox.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a limit up to the maximum");
}
