//! The metadata of `pubsub.redis`, with the defaults of Dapr's code.

use std::time::Duration;

use crate::settings::{Settings, Unit};

/// Most entries that one subscription may take ahead.
const QUEUE_DEPTH_MAX: u32 = 10_000;

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// This process, for groups that are its own.
    pub(super) instance: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    pub(super) tls: Tls,
    /// An entry that nobody has renewed for so long belongs to a dead process; zero: never.
    pub(super) processing_timeout: Duration,
    /// Pause before a failed entry comes again, and between looks for those of dead processes.
    pub(super) redeliver_interval: Duration,
    /// Entries that one subscription holds.
    pub(super) queue_depth: u32,
    /// Deliveries at once.
    pub(super) concurrency: u32,
    pub(super) trim: Trim,
}

/// Whether the connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tls {
    Off,
    /// With the machine's roots.
    On,
}

/// What goes from a stream when something is added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trim {
    Nothing,
    /// The oldest entries above about so many.
    Length(u64),
    /// Entries older than this.
    Age(Duration),
}

impl Options {
    /// # Errors
    /// A field cannot be read, or asks for what is not there.
    pub(super) fn read(instance: &str, settings: &mut Settings) -> Result<Self, String> {
        const FLEETING: &str = "entries that no group has read yet can go";
        if let Some(kind) = settings.text("redisType")
            && kind != "node"
        {
            return Err(format!("redisType is {kind:?}; only node is supported yet"));
        }
        settings.refuse(
            &["failover", "sentinelMasterName", "sentinelUsername"],
            "Redis Sentinel",
        )?;
        settings.refuse(&["useEntraID"], "authentication by Microsoft Entra ID")?;
        settings.refuse(&["useAWSIAM"], "authentication by AWS IAM")?;
        settings.refuse(
            &["clientCert", "clientKey"],
            "authentication by a client certificate",
        )?;
        let given = settings.needed("redisHost")?;
        let port = settings.text("redisPort");
        let (host, port) = address(&given, port.as_deref())?;
        let length = settings.number("maxLenApprox")?.filter(|most| *most > 0);
        let age = settings.duration("streamTTL", Unit::Second)?;
        let trim = match (length, age.filter(|age| !age.is_zero())) {
            (_, Some(age)) => {
                settings.warn(format!("streamTTL is {age:?}: {FLEETING}"));
                Trim::Age(age)
            }
            (Some(length), None) => {
                settings.warn(format!("maxLenApprox is {length}: {FLEETING}"));
                Trim::Length(length)
            }
            (None, None) => Trim::Nothing,
        };
        let processing_timeout = settings
            .duration("processingTimeout", Unit::Millisecond)?
            .unwrap_or(Duration::from_secs(60));
        let redeliver_interval = settings
            .duration("redeliverInterval", Unit::Millisecond)?
            .unwrap_or(Duration::from_secs(15));
        if processing_timeout.is_zero() || redeliver_interval.is_zero() {
            settings.warn(
                "processingTimeout or redeliverInterval is 0: what a process held when it died is never delivered again",
            );
        }
        Ok(Self {
            instance: instance.to_owned(),
            host,
            port,
            username: settings.text("redisUsername"),
            password: settings.text("redisPassword"),
            database: i64::try_from(settings.number("redisDB")?.unwrap_or(0)).unwrap_or(i64::MAX),
            tls: match settings.truth("enableTLS")?.unwrap_or(false) {
                true => Tls::On,
                false => Tls::Off,
            },
            processing_timeout,
            redeliver_interval,
            queue_depth: settings.count("queueDepth", 100, QUEUE_DEPTH_MAX)?,
            concurrency: settings.count("concurrency", 10, QUEUE_DEPTH_MAX)?,
            trim,
        })
    }
}

/// `host:port`, `host` with a port of its own, or `host` alone.
fn address(given: &str, port: Option<&str>) -> Result<(String, u16), String> {
    let (host, port) = match (port, given.rsplit_once(':')) {
        (Some(port), _) => (given, port),
        (None, Some((host, port))) => (host, port),
        (None, None) => (given, "6379"),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port
        .parse()
        .map_err(|_| format!("the port of Redis is {port:?}. Write a number up to 65535"))?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Result<Options, String>, Vec<String>) {
        let owned = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let metadata: BTreeMap<_, _> = owned.collect();
        let mut settings = Settings::new(&metadata);
        let options = Options::read("n1", &mut settings);
        (options, settings.into_warnings())
    }

    #[test]
    fn defaults_are_those_of_daprs_code() {
        let (options, warnings) = read(&[("redisHost", "here:6380")]);
        let wanted = Options {
            instance: "n1".to_owned(),
            host: "here".to_owned(),
            port: 6_380,
            username: None,
            password: None,
            database: 0,
            tls: Tls::Off,
            processing_timeout: Duration::from_secs(60),
            redeliver_interval: Duration::from_secs(15),
            queue_depth: 100,
            concurrency: 10,
            trim: Trim::Nothing,
        };
        assert!(options == Ok(wanted));
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_there_is_refused_and_what_loses_events_is_told() {
        for (field, value) in [
            ("redisType", "cluster"),
            ("failover", "true"),
            ("useEntraID", "true"),
            ("clientCert", "-----"),
            ("queueDepth", "0"),
            ("processingTimeout", "soon"),
            ("redisPort", "many"),
        ] {
            let (options, _) = read(&[("redisHost", "here"), (field, value)]);
            let why = options.err().unwrap_or_default();
            assert!(
                why.contains(field) || field == "redisPort" && why.contains("port"),
                "{field}: {why}"
            );
        }
        assert!(read(&[]).0.is_err());
        for (field, value) in [
            ("maxLenApprox", "100"),
            ("streamTTL", "1h"),
            ("processingTimeout", "0"),
        ] {
            let (options, warnings) = read(&[("redisHost", "here"), (field, value)]);
            assert!(options.is_ok());
            assert!(
                warnings.iter().any(|w| w.contains(field)),
                "{field}: {warnings:?}"
            );
        }
    }

    #[test]
    fn addresses() {
        for (given, port, wanted) in [
            ("here", None, Some(("here", 6_379))),
            ("here:1", None, Some(("here", 1))),
            ("here", Some("2"), Some(("here", 2))),
            ("[::1]:3", None, Some(("::1", 3))),
            ("here:port", None, None),
        ] {
            let found = address(given, port).ok();
            let found = found.as_ref().map(|(host, port)| (host.as_str(), *port));
            assert_eq!(found, wanted, "{given}");
        }
    }
}
