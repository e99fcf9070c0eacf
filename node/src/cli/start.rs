//! `start`: one node in this process, until a signal or the cluster ends it.

use std::io::{IsTerminal, Read};
use std::sync::atomic::Ordering;
use std::time::Duration;

use ghostlight_core::admin::ApplicationView;
use ghostlight_protocol::code::Code;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args;
use super::{Failure, Verdict};
use crate::api::serve::CONNECTIONS_MAX;
use crate::config::{KeySource, Log, LogFormat, NodeConfig, Remembered, Settings};
use crate::node::{Addresses, RunningNode};

/// Connections of both listeners, the store's files, and some to spare.
const OPEN_FILES_WANTED: u64 = 2 * CONNECTIONS_MAX as u64 + 2_000;

/// Runs a node to its end.
pub(super) fn run(args: args::Start) -> Result<Verdict, Failure> {
    if args.die_with_parent {
        die_with_parent()?;
    }
    let file = match &args.config {
        Some(path) => Settings::read(path)?,
        None => Settings::default(),
    };
    let orders = args.orders;
    let top = args.settings();
    let given = top.clone().over(file.clone());
    let dir = given.data_directory();
    let last = match &dir {
        Some(dir) => Remembered::read(dir, &given)?,
        None => Remembered::default(),
    };
    let settings = given.over(last.settings.clone());
    let config = NodeConfig::build(top, file.over(last.settings), &|name| {
        std::env::var(name).ok()
    })?;
    start_log(&config.log);
    if let Some(told) = last.told {
        tracing::info!("started as the last time: {told}");
    }
    raise_file_limit();
    let runtime = runtime()?;
    let result = runtime.block_on(serve(config, settings, orders));
    // Nothing durable is left in the runtime's tasks: the node has ended.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match result {
        Err(failure) if failure.code() == Some(Code::PromisesLost) => Err(start_again(&failure)),
        result => result,
    }
}

/// The node noted that its database is lost: the same program begins in its place, and comes back
/// as a new node or says why it may not. Returns only if that fails.
fn start_again(lost: &Failure) -> Failure {
    use std::os::unix::process::CommandExt;
    eprintln!("{lost}\nstarting again");
    let mut args = std::env::args_os();
    let program = std::env::current_exe();
    args.next();
    match program.map(|program| std::process::Command::new(program).args(args).exec()) {
        Ok(error) | Err(error) => Failure::new(
            Code::PromisesLost,
            format!("{}. It could not be started again: {error}", lost.detail()),
        ),
    }
}

/// The threads of the APIs.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("ghostlight-api")
        .build()
        .map_err(|error| Failure::new(Code::Internal, format!("cannot start threads: {error}")))
}

async fn serve(
    config: NodeConfig,
    settings: Settings,
    orders: Option<args::Orders>,
) -> Result<Verdict, Failure> {
    let mut signals = Signals::listen()?;
    for mark in &config.weakened {
        tracing::warn!("{mark}");
    }
    let drain_timeout = config.drain_timeout;
    let banner = Banner::of(&config);
    let namespace = config.namespace.clone();
    let data_dir = config.data_dir.clone();
    let node = tokio::select! {
        started = crate::node::start(config) => started?,
        () = signals.next() => return Ok(Verdict::Ok),
    };
    if let Some(dir) = &data_dir {
        settings.remember(dir)?;
    }
    match orders {
        Some(args::Orders::Load) => super::bench::take_orders(node.handle(), namespace)?,
        None => {}
    }
    eprint!("{}", banner.text(node.addresses()));
    until_the_end(node, &mut signals, drain_timeout).await
}

pub(super) async fn until_the_end(
    node: RunningNode,
    signals: &mut Signals,
    drain_timeout: Duration,
) -> Result<Verdict, Failure> {
    let (handle, forced) = (node.handle(), node.forced());
    let ended = node.wait();
    tokio::pin!(ended);
    tokio::select! {
        result = ended.as_mut() => {
            result?;
            return match forced.load(Ordering::SeqCst) {
                true => Err(Failure::told("ended at once, as it was asked to")),
                false => Ok(Verdict::Ok),
            };
        }
        () = signals.next() => {}
    }
    eprintln!(
        "draining, at most {} s; a second signal ends at once",
        drain_timeout.as_secs()
    );
    handle.shutdown(drain_timeout).await;
    tokio::select! {
        result = ended.as_mut() => result.map(|()| Verdict::Ok).map_err(Failure::from),
        () = signals.next() => {
            eprintln!("ended at once; what was acknowledged is on disk");
            Ok(Verdict::Ok)
        }
    }
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed =
            |error| Failure::new(Code::Internal, format!("cannot listen to signals: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What is said once the node serves.
struct Banner {
    name: String,
    founding: bool,
    /// Seeds of a node that belongs to no cluster yet.
    seeds: Vec<String>,
    key: Option<String>,
}

impl Banner {
    fn of(config: &NodeConfig) -> Self {
        let empty = config.data_dir.as_ref().is_some_and(|dir| {
            std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none())
        });
        let key = match &config.cluster_key {
            KeySource::File(path) | KeySource::UserFile(path) => Some(path.display().to_string()),
            KeySource::Inline(_) | KeySource::Process => None,
        };
        Self {
            name: config.name.clone(),
            founding: empty && config.join.is_empty(),
            seeds: if empty {
                config.join.clone()
            } else {
                Vec::new()
            },
            key,
        }
    }

    fn text(&self, addresses: &Addresses) -> String {
        let Addresses {
            peer,
            http,
            grpc,
            apps,
            admin,
            introduce,
        } = addresses;
        let sidecars = introduce.map_or_else(String::new, |addr| {
            format!("  sidecars    --placement-host-address {addr}\n")
        });
        // One alone has the node's own listeners, which are said already.
        let apps = apps.iter().filter(|_| apps.len() > 1);
        let apps = apps.map(|ApplicationView { app, http, grpc }| {
            format!("  {app:<11} DAPR_HTTP_ENDPOINT=http://{http} DAPR_GRPC_ENDPOINT={grpc}\n")
        });
        let apps: String = apps.collect();
        let serves = if self.seeds.is_empty() {
            "serves".to_owned()
        } else {
            format!(
                "serves as soon as a seed answers: {}",
                self.seeds.join(", ")
            )
        };
        let mut text = format!(
            "node {} {serves}\n  Dapr HTTP   http://{http}\n  Dapr gRPC   {grpc}\n  admin       http://{admin}\n  peers       {peer}\n{sidecars}{apps}",
            self.name
        );
        if self.founding {
            let key = self.key.as_deref().map_or_else(String::new, |key| {
                format!("  On other machines they need the key in {key}, by --cluster-key-file.\n")
            });
            text.push_str(&format!(
                "\nThis node founded a new cluster, and there is ONE COPY of everything on it.\n  \
                 Others join with: ghostlight start --data-dir DIR --join {peer}\n{key}\n"
            ));
        }
        text
    }
}

/// Ends this process as soon as stdin does: whoever started it has gone.
fn die_with_parent() -> Result<(), Failure> {
    let watch = || {
        let mut stdin = std::io::stdin();
        let mut ignored = [0_u8; 64];
        while stdin.read(&mut ignored).is_ok_and(|length| length > 0) {}
        std::process::exit(0);
    };
    std::thread::Builder::new()
        .name("parent-watch".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|error| Failure::new(Code::Internal, format!("cannot start a thread: {error}")))
}

/// Raises the limit of open files as far as the system lets this process: connections and the store
/// need more than the usual 1,024, and a store that cannot open a file ends the node.
pub(super) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    if let Some(most) = limit.maximum.filter(|most| *most < OPEN_FILES_WANTED) {
        tracing::warn!(
            "this process may open {most} files, {OPEN_FILES_WANTED} are wanted for connections and store. \
             Raise it with \"ulimit -n\", or LimitNOFILE of systemd"
        );
    }
}

pub(super) fn start_log(log: &Log) {
    let filter = tracing_subscriber::EnvFilter::new(&log.level);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    if let Err(error) = installed {
        eprintln!("the log was set up already: {error}");
    }
}
