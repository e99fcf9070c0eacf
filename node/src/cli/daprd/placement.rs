//! `placement`: a storage node with the flags of Dapr's placement service.
//!
//! Where Dapr has its placement service, Ghostlight has a node: it introduces sidecars at that
//! service's port, and keeps what they keep. It works with an environment that holds nothing, as
//! service managers start it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ghostlight_protocol::code::Code;

use super::flags::{Flag, Typed, Use, switch, value};
use super::options::log_level;
use super::{Found, introduced, user_environment};
use crate::api::sidecar::DAPR_VERSION;
use crate::cli::start::{self, Signals};
use crate::cli::{Failure, Verdict};
use crate::config::{INTRODUCE_PORT, NodeConfig, Settings};
use crate::node::StartError;

/// Port of Dapr's placement health.
const HEALTHZ_PORT: u16 = 8080;
/// How long the others of an initial cluster are looked for before this one founds.
const OTHERS_TIME_MAX: Duration = Duration::from_secs(1);

const FLAGS: &[Flag] = &[
    value("id", Use::Read),
    value("port", Use::Read),
    value("listen-address", Use::Read),
    value("healthz-port", Use::Read),
    value("healthz-listen-address", Use::Read),
    value("metrics-port", Use::Read),
    value("metrics-listen-address", Use::Read),
    value("initial-cluster", Use::Read),
    switch("tls-enabled", Use::Ignored),
    switch("metadata-enabled", Use::Ignored),
    switch("version", Use::Read),
    switch("help", Use::Read),
    value("log-level", Use::Read),
    switch("log-as-json", Use::Read),
    switch("enable-metrics", Use::Ignored),
    switch("inmem-store-enabled", Use::Ignored),
    value("raft-logstore-path", Use::Ignored),
    value("replicationFactor", Use::Ignored),
    value("max-api-level", Use::Ignored),
    value("min-api-level", Use::Ignored),
    value("disseminate-timeout", Use::Ignored),
    value("keepalive-time", Use::Ignored),
    value("keepalive-timeout", Use::Ignored),
    value("mode", Use::Ignored),
    value("sentry-address", Use::Ignored),
    value("trust-domain", Use::Ignored),
    value("trust-anchors-file", Use::Ignored),
    value("tls-trust-domain", Use::Ignored),
];

/// What a line means.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Options {
    id: String,
    introduce: SocketAddr,
    health: SocketAddr,
    metrics: Option<SocketAddr>,
    /// Where this one answers the others of an initial cluster.
    own: Option<String>,
    /// Where the others answer, in the order of their ids.
    others: Vec<String>,
    turn: Turn,
    level: String,
    format: &'static str,
}

/// Which place a process has in its initial cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// It founds, unless another one has already.
    First,
    /// It joins.
    Later,
}

/// Runs a placement service with the arguments after the program's name.
pub(in crate::cli) fn run(arguments: &[String]) -> Result<Verdict, Failure> {
    let usage = |why: String| Failure::usage(Code::ConfigInvalid, why);
    let typed = Typed::parse("placement", FLAGS, arguments).map_err(usage)?;
    if typed.is_on("help") {
        println!("{}", super::help("placement", FLAGS));
        return Ok(Verdict::Ok);
    }
    if typed.is_on("version") {
        println!("{DAPR_VERSION}");
        return Ok(Verdict::Ok);
    }
    let options = Options::read(&typed).map_err(usage)?;
    let runtime = start::runtime()?;
    let result = runtime.block_on(serve(options));
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

impl Options {
    fn read(typed: &Typed) -> Result<Self, String> {
        let id = typed.text("id").unwrap_or("dapr-placement-0").to_owned();
        let address = |host: &str, port: &str, default: u16| -> Result<SocketAddr, String> {
            let ip = match typed.text(host) {
                None => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Some(text) => text
                    .parse()
                    .map_err(|_| format!("--{host}: {text:?} is no IP address"))?,
            };
            Ok(SocketAddr::new(ip, typed.port(port)?.unwrap_or(default)))
        };
        let mut cluster: Vec<(String, String)> = Vec::new();
        for part in typed.all("initial-cluster") {
            let (member, at) = part
                .split_once('=')
                .ok_or_else(|| format!("--initial-cluster: {part:?} is not id=host:port"))?;
            cluster.push((member.to_owned(), at.to_owned()));
        }
        cluster.sort();
        let first = cluster.first().is_none_or(|(member, _)| *member == id);
        let own = cluster.iter().find(|(member, _)| *member == id);
        let metrics = typed
            .text("metrics-port")
            .map(|_| address("metrics-listen-address", "metrics-port", 0));
        Ok(Self {
            introduce: address("listen-address", "port", INTRODUCE_PORT)?,
            health: address("healthz-listen-address", "healthz-port", HEALTHZ_PORT)?,
            metrics: metrics.transpose()?,
            own: own.map(|(_, at)| at.clone()).filter(|_| cluster.len() > 1),
            others: cluster
                .iter()
                .filter(|(member, _)| *member != id)
                .map(|(_, at)| at.clone())
                .collect(),
            turn: if first { Turn::First } else { Turn::Later },
            level: log_level(typed)?,
            format: if typed.is_on("log-as-json") {
                "json"
            } else {
                "text"
            },
            id,
        })
    }

    fn settings(&self, join: Vec<String>) -> Settings {
        let metrics = self.metrics.map(|addr| addr.to_string());
        // Beside sidecars, which take Dapr's default ports: all of this one's own are free ones.
        let free = || Some("127.0.0.1:0".to_owned());
        Settings {
            name: Some(super::node_name(&self.id)),
            data_dir: Some(data_dir(&self.id)),
            http: free(),
            grpc: free(),
            admin: metrics.or_else(free),
            introduce: Some(self.introduce.to_string()),
            join: (!join.is_empty()).then_some(join),
            log_level: Some(self.level.clone()),
            log_format: Some(self.format.to_owned()),
            cluster_key_file: user_environment("GHOSTLIGHT_CLUSTER_KEY_FILE").map(PathBuf::from),
            ..Settings::default()
        }
    }
}

/// Where it keeps everything: the user's data directory, or the temporary one of a user who has
/// none.
fn data_dir(id: &str) -> PathBuf {
    if let Some(named) = user_environment("GHOSTLIGHT_DATA_DIR") {
        return PathBuf::from(named);
    }
    let data = user_environment("XDG_DATA_HOME").map(PathBuf::from);
    let home = || user_environment("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data.or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("ghostlight")
        .join(super::node_name(id))
}

async fn serve(options: Options) -> Result<Verdict, Failure> {
    let mut signals = Signals::listen()?;
    let build = |join| {
        NodeConfig::build(
            options.settings(join),
            Settings::default(),
            &user_environment,
        )
        .map_err(|error| Failure::from(StartError::from(error)))
    };
    let config = build(Vec::new())?;
    start::start_log(&config.log);
    start::raise_file_limit();
    let directory = match &config.data_dir {
        Some(dir) if std::fs::read_dir(dir).is_ok_and(|mut found| found.next().is_some()) => {
            Directory::Used
        }
        Some(_) => Directory::New,
        None => Directory::Used,
    };
    if let Some(parent) = config.data_dir.as_ref().and_then(|dir| dir.parent()) {
        std::fs::create_dir_all(parent).map_err(|error| {
            let why = format!("cannot make the directory {} ({error})", parent.display());
            Failure::new(Code::DataDirUnusable, why)
        })?;
    }
    let config = match directory == Directory::New && !options.others.is_empty() {
        true => build(members(&options, &mut signals).await)?,
        false => config,
    };
    for mark in &config.weakened {
        tracing::warn!("{mark}");
    }
    // A port that somebody has is said before anything is made in the data directory.
    for (addr, flag) in [
        (options.introduce, "--port"),
        (options.health, "--healthz-port"),
    ] {
        std::net::TcpListener::bind(addr).map_err(|error| taken(addr, flag, &error))?;
    }
    let drain = config.drain_timeout;
    let story = story(&config, directory);
    let mut node = tokio::select! {
        started = crate::node::start(config) => started?,
        () = signals.next() => return Ok(Verdict::Ok),
    };
    node.introduce_at(options.health, "--healthz-port").await?;
    if let Some(own) = &options.own {
        let resolved = tokio::net::lookup_host(own.as_str()).await;
        match resolved.ok().and_then(|mut found| found.next()) {
            Some(addr) => node.introduce_at(addr, "--initial-cluster").await?,
            None => tracing::warn!("--initial-cluster: {own} is no address of this machine"),
        }
    }
    tracing::info!("placement service started on {}", options.introduce);
    // Tools wait for this line; whoever of the cluster leads what is not decided here.
    tracing::info!("placement server leadership acquired");
    tracing::info!(
        "{story}; admin and metrics at http://{}",
        node.addresses().admin
    );
    start::until_the_end(node, &mut signals, drain).await
}

/// Whether a node was here before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directory {
    New,
    Used,
}

/// What it is: a node, with its data somewhere, in some cluster.
fn story(config: &NodeConfig, directory: Directory) -> String {
    let cluster = match (directory, &config.join[..]) {
        (Directory::Used, _) => "goes on in its cluster".to_owned(),
        (Directory::New, []) => "founds a cluster".to_owned(),
        (Directory::New, members) => format!("joins the cluster of {}", members.join(", ")),
    };
    let data = config.data_dir.as_ref();
    let data = data.map_or_else(String::new, |dir| {
        format!(", its data is in {}", dir.display())
    });
    format!("this is storage node {}: it {cluster}{data}", config.name)
}

fn taken(addr: SocketAddr, flag: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        Code::PortInUse,
        format!(
            "cannot listen on {addr} ({error}). Stop what uses the port, or choose another one with {flag}"
        ),
    )
}

/// Whom to join: the first of an initial cluster founds it, unless another one has already.
async fn members(options: &Options, signals: &mut Signals) -> Vec<String> {
    let searched = introduced::search(&options.others, |address| {
        tracing::info!("waiting for the others of the initial cluster, {address} first");
    });
    let limited = async {
        match options.turn {
            Turn::First => tokio::time::timeout(OTHERS_TIME_MAX, searched).await.ok(),
            Turn::Later => Some(searched.await),
        }
    };
    let found = tokio::select! {
        found = limited => found,
        () = signals.next() => None,
    };
    match found {
        Some(Found::Members(members)) => members.peers,
        Some(Found::Foreign(address)) => {
            tracing::warn!("what answers at {address} is not Ghostlight");
            Vec::new()
        }
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(&Typed::parse("placement", FLAGS, &words)?)
    }

    #[test]
    fn lines() {
        let plain = read("").unwrap();
        assert_eq!(plain.introduce.to_string(), "127.0.0.1:50005");
        assert_eq!(plain.health.to_string(), "127.0.0.1:8080");
        assert!(plain.turn == Turn::First && plain.others.is_empty() && plain.own.is_none());
        let line = "--id b --port 6 --listen-address 0.0.0.0 --healthz-port 7 -metrics-port=9 --tls-enabled=false \
                    --metadata-enabled --initial-cluster c=h:3,a=h:1,b=h:2";
        let second = read(line).unwrap();
        assert_eq!(second.introduce.to_string(), "0.0.0.0:6");
        assert_eq!(second.metrics.unwrap().to_string(), "127.0.0.1:9");
        assert_eq!(
            (second.own.as_deref(), second.turn),
            (Some("h:2"), Turn::Later)
        );
        assert_eq!(second.others, ["h:1", "h:3"]);
        for (line, words) in [
            ("--port x", "1 to 65535"),
            ("--listen-address x", "no IP address"),
            ("--initial-cluster x", "is not id=host:port"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(words), "{words} is not in {error}");
        }
    }
}
