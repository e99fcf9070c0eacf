//! An application with actors, in a process of its own: the least HTTP server, by the standard
//! library alone.
//!
//! The test's own binary plays it: [`App::start`] runs it again with a port in its environment, and
//! the test of the name [`PLAYER`] calls [`play`]. Its objects live in memory only. Like the
//! JavaScript SDK's process, it ends when it is told to forget an object that it never made, and
//! its log says so.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::http::{Ask, Connection};
use crate::played::{self, Heard, Said};
use crate::wait::until;

/// The actor type it hosts.
pub const TYPE: &str = "Tally";
/// The topic of the component `bus` that it is subscribed to.
pub const TOPIC: &str = "orders";
/// What its log says before each event.
pub const EVENT: &str = "event: ";
/// The test that plays it.
pub const PLAYER: &str = "application";
/// What its log says when it was told to forget what it never made.
pub const NEVER_MADE: &str = "DELETE of an object that was never made";
/// What its log says before the token of a turn that something is to join.
pub const TOKEN: &str = "token: ";
/// What its log says before the answer of a call that has joined.
pub const JOINED: &str = "joined: ";
/// The object that the method `join` of all others calls.
pub const OTHER: &str = "other";
/// How long what joins a turn may take, and how long a turn is held up.
const JOIN_TIME_MAX: Duration = Duration::from_secs(30);
const PORT: &str = "GHOSTLIGHT_TEST_APP_PORT";
const HOSTED: &str = "GHOSTLIGHT_TEST_APP_TYPE";

/// A running application. Dropped: killed.
#[derive(Debug)]
pub struct App {
    child: Child,
    /// It ends when this is closed, also by the death of the test.
    _lifeline: ChildStdin,
    log_file: PathBuf,
}

impl App {
    /// Starts it on this port; what it says goes to the end of the file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(port: u16, log_file: &Path) -> Self {
        Self::start_hosting(TYPE, port, log_file)
    }

    /// The same with actors of another type.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_hosting(actor_type: &str, port: u16, log_file: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log_file);
        let mut child = Command::new(std::env::current_exe().expect("the path of this test"))
            .args(["--exact", PLAYER, "--nocapture", "--test-threads=1"])
            .env(PORT, port.to_string())
            .env(HOSTED, actor_type)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.expect("a writable log file"))
            .spawn()
            .expect("the test runs again");
        let lifeline = child.stdin.take().expect("stdin was asked to be a pipe");
        Self {
            child,
            _lifeline: lifeline,
            log_file: log_file.to_owned(),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it had ended by itself, with what it said.
    pub fn kill(mut self) {
        let ended = self.child.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "it has ended: {ended:?}: {}", self.said());
    }

    /// All that was said into its log. A line that is being written is none yet.
    #[must_use]
    pub fn said(&self) -> String {
        let mut said = std::fs::read_to_string(&self.log_file).unwrap_or_default();
        said.truncate(said.rfind('\n').map_or(0, |end| end + 1));
        said
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Plays the application, if this process is to; else returns at once.
///
/// # Panics
/// When it cannot listen.
pub fn play() {
    let Ok(port) = std::env::var(PORT) else {
        return;
    };
    std::thread::spawn(|| {
        // Nothing is ever written: its end is the end of the test.
        drop(std::io::stdin().read(&mut [0]));
        std::process::exit(0);
    });
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("a free port");
    let hosted: &'static str = Box::leak(std::env::var(HOSTED).expect("its type").into_boxed_str());
    let objects: &'static Mutex<HashMap<String, u64>> = Box::leak(Box::default());
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            // A connection that breaks is the node's business.
            drop(serve(stream, hosted, objects));
        });
    }
}

fn serve(
    stream: TcpStream,
    hosted: &str,
    objects: &Mutex<HashMap<String, u64>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(heard) = played::read(&mut stream)? {
        let (status, said) = match heard.line.ends_with("/method/join") {
            true => join(&heard)?,
            false => answer(&heard, hosted, objects),
        };
        played::write(stream.get_mut(), &Said::new(status, said))?;
    }
    Ok(())
}

/// Calls the object [`OTHER`], then publishes, both as parts of the turn; between them it waits
/// while there is a file. The body says which: `{"node": ADDRESS, "hold": FILE}`.
fn join(heard: &Heard) -> std::io::Result<(u16, String)> {
    let token = heard.header("ghostlight-turn").unwrap_or_default();
    let wanted: Value = serde_json::from_str(&heard.body)?;
    let wanted = |field: &str| wanted[field].as_str().unwrap_or_default().to_owned();
    let mut node = Connection::to(&wanted("node"));
    let mut ask = |path: String, body: &str| {
        node.send(&Ask {
            method: "POST",
            path,
            headers: vec![
                ("Content-Type", "application/json".to_owned()),
                ("Ghostlight-Turn", token.to_owned()),
            ],
            body: body.to_owned(),
            time_max: JOIN_TIME_MAX,
        })
    };
    eprintln!("{TOKEN}{token}");
    let joined = ask(format!("/v1.0/actors/{TYPE}/{OTHER}/method/add"), "{}")?;
    eprintln!("{JOINED}{} {}", joined.status, joined.body);
    let hold = PathBuf::from(wanted("hold"));
    until(
        "the file that holds the turn is gone",
        JOIN_TIME_MAX,
        || (!hold.exists()).then_some(()),
    );
    let sent = ask(format!("/v1.0/publish/bus/{TOPIC}"), "1")?;
    match sent.status {
        204 => Ok((200, joined.body)),
        status => Ok((500, format!("{status} {}", sent.body))),
    }
}

fn answer(heard: &Heard, hosted: &str, objects: &Mutex<HashMap<String, u64>>) -> (u16, String) {
    let mut words = heard.line.split_whitespace();
    let (verb, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    if path == "/dapr/config" {
        return (200, format!(r#"{{"entities":["{hosted}"]}}"#));
    }
    if path == "/dapr/subscribe" {
        let wanted = format!(r#"[{{"pubsubname":"bus","topic":"{TOPIC}","route":"/events"}}]"#);
        return (200, wanted);
    }
    if path == "/events" {
        eprintln!("{EVENT}{}", heard.body);
        return (200, String::new());
    }
    let mut parts = path.split('/').skip(3);
    let Some(id) = parts.next().filter(|_| path.starts_with("/actors/")) else {
        return (404, String::new());
    };
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    if verb == "DELETE" {
        if objects.remove(id).is_none() {
            eprintln!("{NEVER_MADE}: {id}");
            std::process::exit(7);
        }
        return (200, String::new());
    }
    let count = objects.entry(id.to_owned()).or_default();
    *count += 1;
    let said = format!(r#"{{"pid":{},"count":{count}}}"#, std::process::id());
    drop(objects);
    match parts.nth(1) {
        Some("hang") => loop {
            std::thread::park();
        },
        Some("fail") => (500, said),
        _ => (200, said),
    }
}
