//! Servers of others, started for a baseline if they are found on the path; gone with the value.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::order::Peer;

/// How long a server may take until it listens.
const START_TIME_MAX: Duration = Duration::from_secs(10);
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// A server that runs; killed when this is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
}

impl Peer {
    /// Its program.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Nats | Self::NatsCore => "nats-server",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// How it is set, for people.
    pub(super) fn settings(self) -> &'static str {
        match self {
            Self::Redis => "redis-server, appendfsync always, XADD",
            Self::Nats => "nats-server, JetStream, sync_interval always, one replica",
            Self::NatsCore => "nats-server, core, without TLS",
            Self::Mosquitto => "mosquitto, QoS 0, without TLS",
        }
    }
}

impl Server {
    pub(super) fn pid(&self) -> Result<u32, String> {
        let pid = self.child.id();
        pid.ok_or_else(|| "it has ended".to_owned())
    }

    /// Starts it in a new directory; `None`: it is not on the path.
    pub(super) async fn start(peer: Peer, directory: &Path) -> Result<Option<Self>, String> {
        let Some(program) = on_path(peer.program()) else {
            return Ok(None);
        };
        std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        let mut command = Command::new(program);
        match peer {
            Peer::Redis => {
                let port = port.to_string();
                command.args(["--bind", "127.0.0.1", "--port", port.as_str(), "--save", ""]);
                command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]);
                command.arg(directory);
            }
            Peer::NatsCore => {
                let port = port.to_string();
                command.args(["-a", "127.0.0.1", "-p", port.as_str()]);
            }
            Peer::Mosquitto => {
                let file = directory.join("mosquitto.conf");
                let text = format!(
                    "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
                     set_tcp_nodelay true\n"
                );
                std::fs::write(&file, text).map_err(|error| error.to_string())?;
                command.arg("-c").arg(file);
            }
            Peer::Nats => {
                let file = directory.join("nats.conf");
                let text = format!(
                    "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
                    directory.join("store")
                );
                std::fs::write(&file, text).map_err(|error| error.to_string())?;
                command.arg("-c").arg(file);
            }
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {} ({error})", peer.program()))?;
        let server = Self { child, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if begun.elapsed() > START_TIME_MAX {
                return Err(format!("{} does not listen", peer.program()));
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        Ok(Some(server))
    }
}

/// A program of the search path.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|directory| directory.join(program));
    found.into_iter().find(|file| file.is_file())
}
