//! A real server: found, started on a free port with a directory of its own, killed, started again.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// What a kind of bus needs of its server.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    /// Its name, to be found on `PATH`.
    pub(crate) name: &'static str,
    /// Where to get it.
    pub(crate) install: &'static str,
    /// Arguments and environment; files may be written into the directory. It listens at `127.0.0.1:port`, keeps everything in the
    /// directory, and syncs before it acknowledges.
    pub(crate) command: fn(&mut Command, directory: &Path, port: u16),
}

/// A server that runs, or was killed.
pub(crate) struct Server {
    program: Program,
    path: PathBuf,
    directory: tempfile::TempDir,
    /// The port it listens at.
    pub(crate) port: u16,
    child: Option<Child>,
}

/// Where a program lies.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let sbin = PathBuf::from("/usr/sbin");
    let folders = std::env::split_paths(&path).chain([sbin]);
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

impl Server {
    /// One that does not run yet; `None`, and a line that says so: its program is not here.
    pub(crate) fn find(program: Program) -> Option<Self> {
        let Some(path) = find(program.name) else {
            println!(
                "skipped: {} is not installed ({})",
                program.name, program.install
            );
            return None;
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        Some(Self {
            program,
            path,
            directory: tempfile::tempdir().expect("a directory"),
            port,
            child: None,
        })
    }

    /// Starts it, and waits until it listens.
    pub(crate) async fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = self.directory.path().join("log");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let errors = log.try_clone().expect("a second handle");
        let mut command = Command::new(&self.path);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        (self.program.command)(&mut command, self.directory.path(), self.port);
        self.child = Some(command.spawn().expect("a server that starts"));
        let began = Instant::now();
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
            .await
            .is_err()
        {
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().expect("a child"));
            assert!(
                ended.is_none() && began.elapsed() < START_TIME_MAX,
                "{} does not listen: {}",
                self.program.name,
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child that runs");
            child.wait().expect("a child that ended");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
