//! The least HTTP/1.1 that talks to a node: one kept-alive connection, a time limit for every
//! request, answers with a length. Absent on purpose: chunks, redirects, TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest body that is read.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Longest time for a connection to open.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Method, such as `POST`.
    pub method: &'static str,
    /// Path.
    pub path: String,
    /// Headers beside those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
    /// Longest time until the answer is whole.
    pub time_max: Duration,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Reply {
    /// A header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A connection to one address, opened when it is needed.
#[derive(Debug)]
pub struct Connection {
    address: String,
    open: Option<BufReader<TcpStream>>,
}

impl Connection {
    /// To `host:port`.
    #[must_use]
    pub fn to(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            open: None,
        }
    }

    /// Where it goes.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Without a whole answer in time; the request may have arrived.
    pub fn send(&mut self, ask: &Ask) -> io::Result<Reply> {
        self.replay(&self.text(ask), ask.time_max)
    }

    /// Sends the text of a whole request, and reads the whole answer.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn replay(&mut self, text: &str, time_max: Duration) -> io::Result<Reply> {
        let deadline = Instant::now() + time_max;
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => BufReader::new(self.connect()?),
        };
        stream.get_ref().set_write_timeout(Some(left(deadline)?))?;
        stream.get_mut().write_all(text.as_bytes())?;
        let reply = read_reply(&mut stream, deadline)?;
        // Kept only after a whole answer: else the next one would read the rest of this one.
        if reply.header("connection") != Some("close") {
            self.open = Some(stream);
        }
        Ok(reply)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let address: SocketAddr = self.address.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn text(&self, ask: &Ask) -> String {
        let Ask {
            method,
            path,
            headers,
            body,
            time_max: _,
        } = ask;
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len(),
        )
    }
}

/// What is left until the deadline; an error when it has passed.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no whole answer in time",
        ));
    }
    Ok(left)
}

/// Parses an answer that is whole.
///
/// # Errors
/// When it is not.
pub fn parse(mut bytes: &[u8]) -> io::Result<Reply> {
    let head = read_head(&mut bytes, |_| Ok(()))?;
    read_body(&mut bytes, head)
}

fn read_reply(stream: &mut BufReader<TcpStream>, deadline: Instant) -> io::Result<Reply> {
    let limit =
        |stream: &BufReader<TcpStream>| stream.get_ref().set_read_timeout(Some(left(deadline)?));
    let head = read_head(stream, limit)?;
    limit(stream)?;
    read_body(stream, head)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads status and headers; `before_line` may set a time limit.
fn read_head<R: BufRead>(
    stream: &mut R,
    before_line: impl Fn(&R) -> io::Result<()>,
) -> io::Result<Reply> {
    let mut head = Vec::new();
    loop {
        before_line(stream)?;
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        head.push(line.to_owned());
    }
    let status = head
        .first()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| broken("no status line"))?;
    let headers: Vec<(String, String)> = head[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok(Reply {
        status,
        headers,
        body: String::new(),
    })
}

fn read_body(stream: &mut impl Read, mut reply: Reply) -> io::Result<Reply> {
    let length = match reply.header("content-length") {
        Some(length) => length.parse().map_err(|_| broken("a strange length"))?,
        None if reply.status == 204 => 0,
        None => return Err(broken("an answer without a length")),
    };
    if length > BODY_BYTES_MAX {
        return Err(broken("a body that is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    reply.body = String::from_utf8(body).map_err(|_| broken("a body that is no text"))?;
    Ok(reply)
}
