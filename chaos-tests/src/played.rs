//! An application that a test plays by a closure, in the test's own process: the least HTTP server,
//! by the standard library alone, with a thread for each connection. It writes down all that it was
//! asked, byte for byte.
//!
//! Absent: a death of its own. One that is killed is [`crate::app::App`].

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::wait::until;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// In place of a status.
const NOTHING: u16 = 0;

/// One request as the application heard it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Such as `PUT /actors/T/a/method/m?q=1`.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Heard {
    /// A header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What the application says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Status.
    pub status: u16,
    /// Headers beside the length.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Said {
    /// A status with a body, and no headers.
    #[must_use]
    pub fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// No answer: the connection is closed in the middle, as by a process that dies.
    #[must_use]
    pub fn nothing() -> Self {
        Self::new(NOTHING, "")
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// See the module. It listens until the test's process ends.
#[derive(Clone, Debug)]
pub struct Played {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Played {
    /// Listens on a free port of loopback; every request is answered by the closure.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start(answer: impl Fn(&Heard) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let played = Self {
            port,
            heard: Arc::default(),
        };
        let (heard, answer) = (Arc::clone(&played.heard), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (heard, answer) = (Arc::clone(&heard), Arc::clone(&answer));
                std::thread::spawn(move || {
                    // A connection that breaks is the node's business.
                    drop(serve(stream, &heard, &*answer));
                });
            }
        });
        played
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything whose line has this part, in order.
    #[must_use]
    pub fn heard(&self, part: &str) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = heard.iter().filter(|heard| heard.line.contains(part));
        of_it.cloned().collect()
    }

    /// The same, as soon as there are so many.
    ///
    /// # Panics
    /// When they do not come.
    #[track_caller]
    #[must_use]
    pub fn until_heard(&self, part: &str, count: usize) -> Vec<Heard> {
        until(part, PATIENCE, || {
            Some(self.heard(part)).filter(|heard| heard.len() >= count)
        })
    }
}

fn serve(
    stream: TcpStream,
    heard: &Mutex<Vec<Heard>>,
    answer: &(impl Fn(&Heard) -> Said + ?Sized),
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream)? {
        let all = || heard.lock().unwrap_or_else(PoisonError::into_inner);
        all().push(request.clone());
        let said = answer(&request);
        if said.status == NOTHING {
            break;
        }
        write(stream.get_mut(), &said)?;
    }
    Ok(())
}

/// The next request of a connection; `None`: it was closed.
///
/// # Errors
/// When it breaks off in the middle.
pub fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Heard>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut heard = Heard {
        line: line.trim_end_matches(" HTTP/1.1\r\n").to_owned(),
        headers,
        body: String::new(),
    };
    let length = heard.header("content-length").unwrap_or("0");
    let mut body = vec![0; length.parse().map_err(io::Error::other)?];
    stream.read_exact(&mut body)?;
    heard.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(heard))
}

/// Answers a request.
///
/// # Errors
/// When the connection is gone.
pub fn write(stream: &mut TcpStream, said: &Said) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {} X\r\n", said.status);
    for (name, value) in &said.headers {
        write!(text, "{name}: {value}\r\n").expect("a string takes everything");
    }
    // A 204 has no body, and says no length (RFC 9110, 8.6).
    if said.status == 204 {
        text.push_str("\r\n");
    } else {
        write!(
            text,
            "content-length: {}\r\n\r\n{}",
            said.body.len(),
            said.body
        )
        .expect("a string takes everything");
    }
    stream.write_all(text.as_bytes())
}
