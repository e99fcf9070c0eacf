//! A real server: found, started on a free port with a directory of its own, ended, started again.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

/// How long a server may take to start, or to end.
const TIME_MAX: Duration = Duration::from_secs(180);

/// A type of component, and the server behind it.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    /// Type of its components.
    pub(crate) kind: &'static str,
    /// Name of the server's program, to be found on `PATH`.
    pub(crate) name: &'static str,
    /// Where to get it.
    pub(crate) install: &'static str,
    /// Arguments and environment; files may be written into the directory. It listens at
    /// `127.0.0.1:port`, keeps everything in the directory, and syncs before it acknowledges.
    pub(crate) command: fn(&mut Command, directory: &Path, port: u16),
    /// Metadata of a component, with short leases.
    pub(crate) metadata: fn(port: u16) -> Vec<(&'static str, String)>,
    /// Makes what a server's operator has to make, such as a stream.
    pub(crate) prepare: fn(port: u16),
    /// How it ends when it is to lose nothing.
    pub(crate) end: End,
}

/// How a server ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// As by a crash.
    Killed,
    /// As by its operator: it keeps what it has when it is told to end, and promises nothing else.
    Told,
}

/// Something a bus connects to, at one port, which keeps what it has when it ends and starts again.
pub(crate) trait Serves {
    /// The port it listens at.
    fn port(&self) -> u16;
    /// Starts it, and waits until it listens.
    fn start(&mut self);
    /// Ends it in the way in which it is to lose nothing.
    fn end(&mut self);
}

/// A server that runs, or has ended.
pub(crate) struct Server {
    program: Program,
    path: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Program {
    /// Where it lies; `None`: it is not installed.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        let sbin = PathBuf::from("/usr/sbin");
        let folders = std::env::split_paths(&path).chain([sbin]);
        folders
            .map(|folder| folder.join(self.name))
            .find(|file| file.is_file())
    }

    /// A test that needs it: ignored where it is not installed.
    pub(crate) fn judged(&self, trial: Trial) -> Trial {
        if self.find().is_some() {
            return trial;
        }
        let why = format!("skipped: {} is not installed ({})", self.name, self.install);
        trial.with_kind(why).with_ignored_flag(true)
    }
}

/// A port that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

impl Server {
    /// One that does not run yet.
    pub(crate) fn new(program: Program) -> Self {
        let path = program.find();
        Self {
            program,
            path: path.unwrap_or_else(|| panic!("install {} ({})", program.name, program.install)),
            directory: tempfile::tempdir().expect("a directory"),
            port: free_port(),
            child: None,
        }
    }

    /// Where it keeps what it has.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file in its directory.
    pub(crate) fn give(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).expect("a file");
    }

    fn signal(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let group = format!("-{}", child.id());
            // One that has ended by itself is not there any more: its log says why.
            let told = Command::new("kill").args([signal, "--", &group]).status();
            told.expect("kill");
            child.wait().expect("a child that ended");
        }
    }
}

impl Serves for Server {
    fn port(&self) -> u16 {
        self.port
    }

    fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = self.directory.path().join("log");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let errors = log.try_clone().expect("a second handle");
        let mut command = Command::new(&self.path);
        (self.program.command)(&mut command, self.directory.path(), self.port);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // Some are scripts: what they start ends with them.
        command.process_group(0);
        self.child = Some(command.spawn().expect("a server that starts"));
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().expect("a child"));
            assert!(
                ended.is_none() && began.elapsed() < TIME_MAX,
                "{} does not listen: {}",
                self.program.name,
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(&mut self) {
        match self.program.end {
            End::Killed => self.signal("-KILL"),
            End::Told => self.signal("-TERM"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal("-KILL");
    }
}
