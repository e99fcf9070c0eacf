//! What a line of daprd's means: typed, with the environment beside it, checked as a whole.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use ghostlight_protocol::schedule::{Signed, parse_go};

use super::flags::{Flag, Typed, Use, size, switch, value, values};
use crate::api::H2c;
use crate::api::sidecar::{AppConnection, AppHealth};
use crate::app::settings::Question;
use crate::config::{
    AddrOrigin, Environment, GRPC_PORT, HTTP_PORT, ListenAddr, is_truthy, replaceable,
};
use crate::node::Listening;

/// Where Dapr tells metrics.
const METRICS_PORT: u16 = 9_090;

/// Every flag of Dapr's daprd.
pub(super) const FLAGS: &[Flag] = &[
    value("app-id", Use::Read),
    value("app-port", Use::Read),
    value("app-protocol", Use::Read),
    value("app-channel-address", Use::Read),
    value("app-max-concurrency", Use::Read),
    switch("app-ssl", Use::Read),
    switch("enable-app-health-check", Use::Read),
    value("app-health-check-path", Use::Read),
    value("app-health-probe-interval", Use::Read),
    value("app-health-probe-timeout", Use::Read),
    value("app-health-threshold", Use::Read),
    value("dapr-http-port", Use::Read),
    value("dapr-grpc-port", Use::Read),
    value("dapr-internal-grpc-port", Use::Ignored),
    value("dapr-internal-grpc-listen-address", Use::Ignored),
    values("dapr-listen-addresses", Use::Read),
    value("dapr-public-port", Use::Read),
    value("dapr-public-listen-address", Use::Read),
    value("metrics-port", Use::Read),
    value("metrics-listen-address", Use::Read),
    switch("enable-metrics", Use::Read),
    value("profile-port", Use::Ignored),
    switch("enable-profiling", Use::NoEffect),
    values("resources-path", Use::Read),
    values("components-path", Use::Read),
    values("config", Use::Read),
    values("placement-host-address", Use::Read),
    value("scheduler-host-address", Use::Ignored),
    value("scheduler-job-streams", Use::Ignored),
    value("sentry-address", Use::Ignored),
    value("control-plane-address", Use::Ignored),
    value("control-plane-trust-domain", Use::Ignored),
    value("control-plane-namespace", Use::Ignored),
    value("sentry-request-jwt-audiences", Use::Ignored),
    switch("enable-mtls", Use::Ignored),
    value("mode", Use::Read),
    value("log-level", Use::Read),
    switch("log-as-json", Use::Read),
    switch("enable-api-logging", Use::NoEffect),
    value("max-body-size", Use::Read),
    value("dapr-http-max-request-size", Use::Read),
    value("read-buffer-size", Use::Ignored),
    value("dapr-http-read-buffer-size", Use::Ignored),
    value("unix-domain-socket", Use::NoEffect),
    value("dapr-graceful-shutdown-seconds", Use::Read),
    value("dapr-block-shutdown-duration", Use::Read),
    value("actors-disseminate-timeout", Use::Read),
    value("allowed-origins", Use::NoEffect),
    values("disable-init-endpoints", Use::Read),
    switch("disable-builtin-k8s-secret-store", Use::Ignored),
    value("hot-reload-reconcile-interval", Use::Ignored),
    value("app-binding-options-timeout", Use::Ignored),
    value("actors-service", Use::NoEffect),
    value("reminders-service", Use::Ignored),
    switch("wait", Use::NoEffect),
    switch("version", Use::Read),
    switch("build-info", Use::Read),
    switch("help", Use::Read),
    // Beyond Dapr: members to join by, and whose key.
    values("join", Use::Read),
    values("builtin", Use::Read),
];

/// What is asked.
#[derive(Debug)]
pub(super) enum Asked {
    /// Dapr's version.
    Version,
    /// Versions of both.
    BuildInfo,
    /// The flags.
    Help,
    /// A sidecar.
    Run(Box<Options>),
}

/// How the sidecar finds its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Cluster {
    /// By introduction at one of these, `host:port`.
    Introduced(Vec<String>),
    /// By the peer addresses of members.
    Joined(Vec<String>),
    /// Nobody was named: actors are switched off.
    Alone,
}

/// A sidecar.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) app_id: String,
    pub(super) app: Option<AppConnection>,
    pub(super) listen: Listening,
    /// Where health and metadata are told to anybody; `None`: nowhere else.
    pub(super) public: Option<SocketAddr>,
    pub(super) http_port: Option<u16>,
    pub(super) grpc_port: Option<u16>,
    /// Where metrics are told; `None`: nowhere but at the admin API.
    pub(super) metrics: Option<ListenAddr>,
    /// The address that peers reach this process at, `DAPR_HOST_IP`.
    pub(super) host_ip: Option<IpAddr>,
    pub(super) cluster: Cluster,
    pub(super) folders: Vec<PathBuf>,
    pub(super) builtin: Vec<String>,
    pub(super) configs: Vec<PathBuf>,
    pub(super) log_level: String,
    pub(super) log: LogForm,
    pub(super) body_max: usize,
    /// `DAPR_HTTP_DISABLE_H2C`.
    pub(super) h2c: H2c,
    pub(super) grace: Duration,
    /// How long it serves on, without subscriptions, before it ends.
    pub(super) block_shutdown: Option<Duration>,
    /// What the application is not asked.
    pub(super) unasked: Vec<Question>,
    /// Bound of the drain of an application's calls.
    pub(super) disseminate_timeout: Duration,
    /// Sentences for the log.
    pub(super) warnings: Vec<String>,
}

/// Form of the log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LogForm {
    /// `time="…" level=info msg="…"`.
    Text,
    /// One JSON object per line.
    Json,
}

impl Asked {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) fn read(arguments: &[String], environment: Environment<'_>) -> Result<Self, String> {
        let typed = Typed::parse("daprd", FLAGS, arguments)?;
        if typed.is_on("help") {
            return Ok(Self::Help);
        }
        if typed.is_on("version") {
            return Ok(Self::Version);
        }
        if typed.is_on("build-info") {
            return Ok(Self::BuildInfo);
        }
        Options::read(&typed, environment).map(|options| Self::Run(Box::new(options)))
    }
}

impl Options {
    fn read(typed: &Typed, environment: Environment<'_>) -> Result<Self, String> {
        match typed.text("mode") {
            None | Some("standalone") => {}
            Some("kubernetes") => {
                return Err("--mode kubernetes is not supported: Dapr's control plane is not used. Run the \
                            sidecar with --mode standalone beside storage nodes of Ghostlight; the manifests \
                            are in deploy/"
                    .to_owned());
            }
            Some(other) => return Err(format!("--mode is standalone, not {other:?}")),
        }
        let app_id = typed
            .text("app-id")
            .ok_or("--app-id is missing: give the application a name")?;
        let mut folders = typed.all("resources-path");
        folders.extend(typed.all("components-path"));
        let cluster = match (typed.all("join"), typed.all("placement-host-address")) {
            (seeds, _) if !seeds.is_empty() => Cluster::Joined(seeds),
            (_, addresses) if !addresses.is_empty() => Cluster::Introduced(addresses),
            _ => Cluster::Alone,
        };
        let no_effect = typed.no_effect.iter();
        let mut warnings: Vec<String> = no_effect
            .map(|name| format!("--{name} has no effect here"))
            .collect();
        let body_max = body_max(typed, &mut warnings)?;
        let host_ip = environment("DAPR_HOST_IP").filter(|ip| !ip.is_empty());
        Ok(Self {
            app_id: app_id.to_owned(),
            app: app(typed)?,
            listen: listen(typed)?,
            public: public(typed)?,
            http_port: http_port(typed, "dapr-http-port", HTTP_PORT)?,
            grpc_port: http_port(typed, "dapr-grpc-port", GRPC_PORT)?,
            metrics: metrics(typed)?,
            host_ip: match host_ip.map(|ip| (ip.parse(), ip)) {
                None => None,
                Some((Ok(ip), _)) => Some(ip),
                Some((Err(_), text)) => {
                    return Err(format!("DAPR_HOST_IP is {text:?}, which is no IP address"));
                }
            },
            cluster,
            folders: folders.into_iter().map(PathBuf::from).collect(),
            builtin: replaceable(typed.all("builtin")).map_err(|error| error.to_string())?,
            configs: typed.all("config").into_iter().map(PathBuf::from).collect(),
            log_level: log_level(typed)?,
            log: match typed.is_on("log-as-json") {
                true => LogForm::Json,
                false => LogForm::Text,
            },
            body_max,
            h2c: match environment("DAPR_HTTP_DISABLE_H2C").is_some_and(|text| is_truthy(&text)) {
                true => H2c::Off,
                false => H2c::Spoken,
            },
            grace: seconds(typed, "dapr-graceful-shutdown-seconds", 5)?,
            block_shutdown: match typed.text("dapr-block-shutdown-duration") {
                None => None,
                Some(_) => Some(seconds(typed, "dapr-block-shutdown-duration", 0)?),
            },
            unasked: unasked(typed)?,
            disseminate_timeout: seconds(typed, "actors-disseminate-timeout", 30)?,
            warnings,
        })
    }
}

/// Dapr's own default where none is given; `-1` asks for a free one.
fn http_port(typed: &Typed, name: &str, default: u16) -> Result<Option<u16>, String> {
    match typed.text(name) {
        None => Ok(Some(default)),
        Some(_) => typed.port(name),
    }
}

fn app(typed: &Typed) -> Result<Option<AppConnection>, String> {
    let protocol = match (typed.text("app-protocol"), typed.is_on("app-ssl")) {
        (None | Some("http"), false) => "http",
        (None | Some("http"), true) | (Some("https"), _) => "https",
        (Some("h2c"), _) => "h2c",
        (Some("grpc"), false) => "grpc",
        (Some("grpc"), true) | (Some("grpcs"), _) => "grpcs",
        (Some(other), _) => {
            return Err(format!(
                "--app-protocol is http, https, h2c, grpc or grpcs, not {other:?}"
            ));
        }
    };
    let Some(port) = typed.port("app-port")? else {
        return Ok(None);
    };
    let health = match typed.is_on("enable-app-health-check") {
        true => Some(AppHealth {
            path: match protocol {
                "grpc" | "grpcs" => String::new(),
                _ => typed
                    .text("app-health-check-path")
                    .unwrap_or("/healthz")
                    .to_owned(),
            },
            interval: seconds(typed, "app-health-probe-interval", 5)?,
            timeout: millis(typed, "app-health-probe-timeout", 500)?,
            threshold: typed.count("app-health-threshold")?.unwrap_or(3).max(1),
        }),
        false => None,
    };
    Ok(Some(AppConnection {
        port,
        protocol,
        channel_address: typed
            .text("app-channel-address")
            .unwrap_or("127.0.0.1")
            .to_owned(),
        max_concurrency: typed.count("app-max-concurrency")?.filter(|max| *max > 0),
        health,
    }))
}

/// What the APIs listen on: everything where nothing is named, as in Dapr. The first one named is
/// told: one that others reach, if there is one, else one of the fourth version.
fn listen(typed: &Typed) -> Result<Listening, String> {
    let mut addresses = Vec::new();
    for text in typed.all("dapr-listen-addresses") {
        let address = ip("dapr-listen-addresses", &text)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    Ok(match addresses.is_empty() {
        true => Listening::All,
        false => Listening::These(addresses),
    })
}

fn ip(flag: &str, text: &str) -> Result<IpAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let bare = match bare {
        "localhost" => "127.0.0.1",
        bare => bare,
    };
    let ip = bare.parse::<IpAddr>();
    ip.map_err(|_| format!("--{flag}: {text:?} is no IP address"))
}

/// On every interface where no address is named, as in Dapr.
fn public(typed: &Typed) -> Result<Option<SocketAddr>, String> {
    let Some(port) = typed.port("dapr-public-port")? else {
        return Ok(None);
    };
    let host = match typed.text("dapr-public-listen-address") {
        None | Some("") => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(text) => ip("dapr-public-listen-address", text)?,
    };
    Ok(Some(SocketAddr::new(host, port)))
}

/// Dapr's own port, on every interface, where nothing is said; `-1` asks for a free one.
fn metrics(typed: &Typed) -> Result<Option<ListenAddr>, String> {
    if typed.is_off("enable-metrics") {
        return Ok(None);
    }
    let host = match typed.text("metrics-listen-address") {
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(text) => ip("metrics-listen-address", text)?,
    };
    let port = http_port(typed, "metrics-port", METRICS_PORT)?;
    Ok(Some(ListenAddr {
        addr: SocketAddr::new(host, port.unwrap_or(0)),
        origin: match typed.text("metrics-port") {
            None => AddrOrigin::Default,
            Some(_) => AddrOrigin::Explicit,
        },
    }))
}

fn unasked(typed: &Typed) -> Result<Vec<Question>, String> {
    let words = typed.all("disable-init-endpoints").into_iter();
    let questions = words.map(|word| {
        Question::parse(&word).ok_or_else(|| {
            format!("--disable-init-endpoints takes config and subscribe, not {word:?}")
        })
    });
    questions.collect()
}

pub(super) fn log_level(typed: &Typed) -> Result<String, String> {
    match typed.text("log-level") {
        None => Ok("info".to_owned()),
        Some("fatal") => Ok("error".to_owned()),
        Some(level @ ("debug" | "info" | "warn" | "error")) => Ok(level.to_owned()),
        Some(other) => Err(format!(
            "--log-level is debug, info, warn, error or fatal, not {other:?}"
        )),
    }
}

fn body_max(typed: &Typed, warnings: &mut Vec<String>) -> Result<usize, String> {
    let asked = match (
        typed.text("max-body-size"),
        typed.text("dapr-http-max-request-size"),
    ) {
        (Some("-1"), _) | (None, None | Some("-1")) => return Ok(REQUEST_BODY_BYTES_MAX),
        (Some(text), _) => size(text)
            .ok_or_else(|| format!("--max-body-size is a size such as 4Mi, not {text:?}"))?,
        // The older flag counts in megabytes.
        (None, Some(text)) => text
            .parse::<u64>()
            .map(|megabytes| megabytes.saturating_mul(1 << 20))
            .map_err(|_| {
                format!("--dapr-http-max-request-size is a number of megabytes, not {text:?}")
            })?,
    };
    let asked = usize::try_from(asked).unwrap_or(usize::MAX);
    if asked > REQUEST_BODY_BYTES_MAX {
        warnings.push(format!(
            "bodies of {asked} bytes were asked for; at most {REQUEST_BODY_BYTES_MAX} are taken"
        ));
    }
    Ok(asked.clamp(1, REQUEST_BODY_BYTES_MAX))
}

/// A number of seconds, or a Go duration.
fn seconds(typed: &Typed, name: &str, default: u64) -> Result<Duration, String> {
    duration(
        typed,
        name,
        Duration::from_secs(default),
        Duration::from_secs,
    )
}

fn millis(typed: &Typed, name: &str, default: u64) -> Result<Duration, String> {
    let default = Duration::from_millis(default);
    duration(typed, name, default, Duration::from_millis)
}

fn duration(
    typed: &Typed,
    name: &str,
    default: Duration,
    unit: impl Fn(u64) -> Duration,
) -> Result<Duration, String> {
    let Some(text) = typed.text(name) else {
        return Ok(default);
    };
    if let Ok(number) = text.parse::<i64>() {
        return Ok(u64::try_from(number).map_or(default, unit));
    }
    match parse_go(text) {
        Some(Signed::Forward(time)) => Ok(time),
        _ => Err(format!(
            "flag --{name} is a duration such as 5s, not {text:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Asked, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Asked::read(&words, &|name| {
            (name == "DAPR_HOST_IP").then(|| "10.0.0.7".to_owned())
        })
    }

    fn options(line: &str) -> Options {
        match read(line) {
            Ok(Asked::Run(options)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// What counts as yes is Dapr's list.
    #[test]
    fn http2_without_tls_is_switched_off_by_a_variable() {
        for (said, h2c) in [
            (None, H2c::Spoken),
            (Some("false"), H2c::Spoken),
            (Some(""), H2c::Spoken),
            (Some("true"), H2c::Off),
            (Some(" Y "), H2c::Off),
            (Some("1"), H2c::Off),
        ] {
            let environment = |name: &str| {
                let said = said.filter(|_| name == "DAPR_HTTP_DISABLE_H2C");
                said.map(str::to_owned)
            };
            match Asked::read(&["--app-id".to_owned(), "shop".to_owned()], &environment) {
                Ok(Asked::Run(options)) => assert_eq!(options.h2c, h2c, "{said:?}"),
                other => panic!("{said:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_line_of_dapr_run() {
        let line = "--app-id shop --dapr-http-port 3501 --dapr-grpc-port 50002 --log-level info \
                    --app-max-concurrency -1 --app-protocol http --metrics-port 9091 \
                    --dapr-http-max-request-size -1 --placement-host-address 127.0.0.1:50005 \
                    --scheduler-host-address 127.0.0.1:50006 --resources-path /a --config /c.yaml --app-port 8000 \
                    --app-channel-address 127.0.0.1 --dapr-internal-grpc-port -1 --enable-mtls=false";
        let options = options(line);
        assert_eq!(options.app_id, "shop");
        assert_eq!(
            (options.http_port, options.grpc_port),
            (Some(3_501), Some(50_002))
        );
        assert_eq!(
            options.cluster,
            Cluster::Introduced(vec!["127.0.0.1:50005".into()])
        );
        let metrics = options.metrics.unwrap();
        assert_eq!(metrics.addr, "0.0.0.0:9091".parse().unwrap());
        assert_eq!(metrics.origin, AddrOrigin::Explicit);
        assert_eq!(options.host_ip, Some("10.0.0.7".parse().unwrap()));
        let app = options.app.unwrap();
        assert_eq!(
            (app.port, app.protocol, app.max_concurrency),
            (8_000, "http", None)
        );
        assert_eq!(options.body_max, REQUEST_BODY_BYTES_MAX);
        assert_eq!(options.grace, Duration::from_secs(5));
        assert_eq!(options.warnings, Vec::<String>::new());
    }

    #[test]
    fn defaults_and_the_rest() {
        let least = options("-app-id shop");
        assert_eq!(
            (least.http_port, least.grpc_port),
            (Some(3_500), Some(50_001))
        );
        assert_eq!((least.cluster, least.app.is_none()), (Cluster::Alone, true));
        assert_eq!(least.public, None);
        for (given, public) in [
            ("--dapr-public-port 3501", "0.0.0.0:3501"),
            (
                "--dapr-public-port 1 --dapr-public-listen-address [::1]",
                "[::1]:1",
            ),
        ] {
            let public = Some(public.parse().unwrap());
            assert_eq!(options(&format!("--app-id s {given}")).public, public);
        }
        let metrics = least.metrics.unwrap();
        assert_eq!(metrics.addr, "0.0.0.0:9090".parse().unwrap());
        assert_eq!(metrics.origin, AddrOrigin::Default, "it may move");
        let near = options("--app-id s --metrics-listen-address [::1] --metrics-port -1");
        let any = "[::1]:0".parse().unwrap();
        assert_eq!(near.metrics.map(|listen| listen.addr), Some(any));
        let free = options("--app-id shop --dapr-http-port -1 --dapr-grpc-port 0");
        assert_eq!((free.http_port, free.grpc_port), (None, None));
        let more = options(
            "--app-id s --app-port 1 --app-protocol grpc --app-ssl --enable-app-health-check \
             --app-health-probe-interval 2 --app-health-probe-timeout 300 --app-health-threshold 1 \
             --dapr-listen-addresses [::1],0.0.0.0 --max-body-size 1Mi --log-as-json --log-level fatal \
             --enable-metrics=false --metrics-port 9 --unix-domain-socket /x --allowed-origins x --join a:1,b:2 \
             --dapr-graceful-shutdown-seconds 1 --placement-host-address p:1",
        );
        let app = more.app.unwrap();
        let health = app.health.unwrap();
        assert_eq!((app.protocol, health.path.as_str()), ("grpcs", ""));
        assert_eq!(health.timeout, Duration::from_millis(300));
        let named = ["0.0.0.0", "::1"].map(|ip| ip.parse().unwrap());
        assert_eq!(more.listen, Listening::These(named.to_vec()));
        assert_eq!(more.metrics, None);
        assert_eq!(least.listen, Listening::All, "as in Dapr");
        let said = options("--app-id s --dapr-listen-addresses=");
        assert_eq!(said.listen, Listening::All, "Dapr's default, said");
        assert_eq!((more.body_max, more.log), (1 << 20, LogForm::Json));
        assert_eq!(
            more.cluster,
            Cluster::Joined(vec!["a:1".into(), "b:2".into()])
        );
        let without = ["--unix-domain-socket", "--allowed-origins"];
        let without = without.map(|flag| format!("{flag} has no effect here"));
        assert_eq!(more.warnings, without);
        let slow = options("--app-id s --dapr-block-shutdown-duration 1m30s");
        assert_eq!(slow.block_shutdown, Some(Duration::from_secs(90)));
        assert_eq!((least.block_shutdown, slow.warnings.len()), (None, 0));
        let quiet = options("--app-id s --disable-init-endpoints=Config,SUBSCRIBE");
        assert_eq!(quiet.unasked, [Question::Config, Question::Subscribe]);
        assert_eq!((least.unasked.len(), quiet.warnings.len()), (0, 0));
        let large = options("--app-id s --dapr-http-max-request-size 16");
        assert_eq!(large.body_max, REQUEST_BODY_BYTES_MAX);
        assert_eq!(large.warnings.len(), 1);
        assert!(matches!(read("-version"), Ok(Asked::Version)));
        assert!(matches!(read("--build-info"), Ok(Asked::BuildInfo)));
        assert!(matches!(read("--help"), Ok(Asked::Help)));
    }

    #[test]
    fn wrong_lines_say_why() {
        for (line, words) in [
            ("--app-port 1", "--app-id is missing"),
            (
                "--app-id s --mode kubernetes",
                "Dapr's control plane is not used",
            ),
            ("--app-id s --mode x", "--mode is standalone"),
            ("--app-id s --app-protocol x", "--app-protocol is http"),
            ("--app-id s --dapr-listen-addresses x", "no IP address"),
            (
                "--app-id s --metrics-listen-address x",
                "--metrics-listen-address: \"x\" is no IP address",
            ),
            (
                "--app-id s --disable-init-endpoints x",
                "takes config and subscribe",
            ),
            (
                "--app-id s --dapr-public-port 1 --dapr-public-listen-address x",
                "--dapr-public-listen-address: \"x\" is no IP address",
            ),
            ("--app-id s --log-level loud", "--log-level is debug"),
            ("--app-id s --builtin redis", "pubsub.redis"),
            ("--app-id s --max-body-size x", "such as 4Mi"),
            ("--app-id s --dapr-http-port 99999", "1 to 65535"),
            (
                "--app-id s --dapr-graceful-shutdown-seconds soon",
                "a duration such as 5s",
            ),
            (
                "--app-id s --dapr-block-shutdown-duration soon",
                "a duration such as 5s",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(words), "{words} is not in {error}");
        }
    }

    #[test]
    fn no_flag_stands_twice() {
        let mut names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
