//! The metadata of `pubsub.rabbitmq`, with the defaults of Dapr's code.

use std::time::Duration;

use url::Url;

use crate::settings::{Settings, Unit, plain};
use crate::tls::ClientCertificate;

/// Most events that one subscription may take ahead.
const PREFETCH_MAX: u32 = 10_000;
/// Kinds of exchanges.
const EXCHANGES: [&str; 4] = ["fanout", "topic", "direct", "headers"];

/// See the module.
#[derive(Clone)]
pub(crate) struct Options {
    /// This process, for groups that are its own.
    pub(super) instance: String,
    /// What the server's operator sees.
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) vhost: String,
    pub(super) login: Login,
    pub(super) tls: Tls,
    pub(super) heartbeat: Duration,
    pub(super) restart: Restart,
    pub(super) unused: Unused,
    pub(super) acknowledge: Acknowledge,
    pub(super) delivery: Delivery,
    pub(super) failure: Failure,
    pub(super) dead_letters: DeadLetters,
    /// Kind of exchanges.
    pub(super) exchange: String,
    /// `None`: as the subscriber wants.
    pub(super) prefetch: Option<u32>,
    pub(super) concurrency: Concurrency,
    /// Events above this go from a queue.
    pub(super) length: Option<u64>,
    /// Bytes above this go from a queue.
    pub(super) bytes: Option<u64>,
    /// Of events that do not say.
    pub(super) ttl: Option<Duration>,
}

/// How a client says who it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Plain {
        name: String,
        password: String,
    },
    /// By its certificate.
    External,
}

/// Whether the connection is encrypted.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Tls {
    Off,
    On {
        /// `None`: the machine's roots.
        authority: Option<String>,
        client: Option<ClientCertificate>,
    },
}

/// Whether a queue is there after a restart of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Restart {
    Survives,
    Ends,
}

/// What becomes of a queue when its last subscriber leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unused {
    Stays,
    Goes,
}

/// When the server takes an event for handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Acknowledge {
    WhenSent,
    WhenHandled,
}

/// Whether the server writes an event to its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Delivery {
    Transient,
    Persistent,
}

/// What becomes of an event whose handler failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// It comes again after a pause.
    Again,
    /// It is a dead letter, or gone.
    Rejected,
}

/// Whether queues have a second one for what was rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DeadLetters {
    Gone,
    Kept,
}

/// Deliveries at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Concurrency {
    Single,
    Parallel,
}

impl Options {
    /// # Errors
    /// A field cannot be read, or asks for what is not there.
    pub(super) fn read(
        consumer: &str,
        instance: &str,
        settings: &mut Settings,
    ) -> Result<Self, String> {
        let (url, tls) = address(settings)?;
        // These have nothing to do here: events are always confirmed, and a lost server is tried
        // again by itself.
        for name in ["publisherConfirm", "reconnectWaitSeconds"] {
            settings.text(name);
        }
        let positive = |number: Option<u64>| number.filter(|number| *number > 0);
        let whole = Self {
            instance: instance.to_owned(),
            name: settings
                .text("clientName")
                .unwrap_or_else(|| format!("{consumer}-{instance}")),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port().unwrap_or(match tls {
                Tls::Off => 5_672,
                Tls::On { .. } => 5_671,
            }),
            vhost: match part(url.path().trim_start_matches('/'))?.as_str() {
                "" => "/".to_owned(),
                name => name.to_owned(),
            },
            login: login(&url, settings)?,
            tls,
            heartbeat: settings
                .duration("heartBeat", Unit::Second)?
                .unwrap_or(Duration::from_secs(10)),
            restart: match settings.truth("durable")?.unwrap_or(true) {
                true => Restart::Survives,
                false => Restart::Ends,
            },
            unused: match settings.truth("deletedWhenUnused")?.unwrap_or(true) {
                true => Unused::Goes,
                false => Unused::Stays,
            },
            acknowledge: match settings.truth("autoAck")?.unwrap_or(false) {
                true => Acknowledge::WhenSent,
                false => Acknowledge::WhenHandled,
            },
            delivery: delivery(settings)?,
            failure: match settings.truth("requeueInFailure")?.unwrap_or(false) {
                true => Failure::Again,
                false => Failure::Rejected,
            },
            dead_letters: match settings.truth("enableDeadLetter")?.unwrap_or(false) {
                true => DeadLetters::Kept,
                false => DeadLetters::Gone,
            },
            exchange: exchange(settings)?,
            prefetch: match positive(settings.number("prefetchCount")?) {
                Some(_) => Some(settings.count("prefetchCount", 1, PREFETCH_MAX)?),
                None => None,
            },
            concurrency: concurrency(settings)?,
            length: positive(settings.number("maxLen")?),
            bytes: positive(settings.number("maxLenBytes")?),
            ttl: settings
                .duration("ttlInSeconds", Unit::Second)?
                .filter(|ttl| !ttl.is_zero()),
        };
        whole.warn(settings);
        Ok(whole)
    }

    fn warn(&self, settings: &mut Settings) {
        if self.restart == Restart::Ends {
            settings
                .warn("durable is false: a restart of RabbitMQ loses queues and what is in them");
        }
        if self.unused == Unused::Goes {
            settings.warn(
                "deletedWhenUnused is true, as without a word: the queue goes with its last subscriber, and what is \
                 published before the next one comes is lost",
            );
        }
        if self.delivery == Delivery::Transient {
            settings.warn(
                "deliveryMode is not 2: a restart of RabbitMQ loses what it has acknowledged to publishers",
            );
        }
        if self.acknowledge == Acknowledge::WhenSent {
            settings.warn("autoAck is true: what was sent to a process that dies is lost");
        }
        if self.failure == Failure::Rejected && self.dead_letters == DeadLetters::Gone {
            settings.warn(
                "requeueInFailure and enableDeadLetter are false: an event whose handler fails is dropped",
            );
        }
        if self.length.is_some() || self.bytes.is_some() {
            settings
                .warn("maxLen or maxLenBytes is set: events that no subscriber has had yet can go");
        }
    }
}

fn delivery(settings: &mut Settings) -> Result<Delivery, String> {
    match settings.number("deliveryMode")? {
        None | Some(0 | 1) => Ok(Delivery::Transient),
        Some(2) => Ok(Delivery::Persistent),
        Some(other) => Err(format!("deliveryMode is {other}. Write 0, 1 or 2")),
    }
}

fn concurrency(settings: &mut Settings) -> Result<Concurrency, String> {
    match settings.text("concurrency").as_deref() {
        None | Some("parallel") => Ok(Concurrency::Parallel),
        Some("single") => Ok(Concurrency::Single),
        Some(other) => Err(format!(
            "concurrency is {other:?}. Write single or parallel"
        )),
    }
}

fn exchange(settings: &mut Settings) -> Result<String, String> {
    match settings.text("exchangeKind") {
        None => Ok("fanout".to_owned()),
        Some(kind) if EXCHANGES.contains(&kind.as_str()) => Ok(kind),
        Some(other) => Err(format!(
            "exchangeKind is {other:?}. Write one of: {}",
            EXCHANGES.join(", ")
        )),
    }
}

fn address(settings: &mut Settings) -> Result<(Url, Tls), String> {
    const HINT: &str = "Write such as amqp://user:password@here:5672";
    let text = match settings.text("connectionString") {
        Some(text) => text,
        None => {
            let host = settings.text("hostname").ok_or(
                "connectionString and hostname are missing. Write one of them into the component's metadata",
            )?;
            let protocol = settings
                .text("protocol")
                .unwrap_or_else(|| "amqp".to_owned());
            format!("{protocol}://{host}")
        }
    };
    // What was written may have a password in it, and is not said.
    let url: Url = text
        .parse()
        .map_err(|error| format!("connectionString or hostname cannot be: {error}. {HINT}"))?;
    let authority = settings.text("caCert");
    let client = match (settings.text("clientCert"), settings.text("clientKey")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        _ => return Err("write both clientCert and clientKey, or none of them".to_owned()),
    };
    let tls = match url.scheme() {
        "amqps" => Tls::On { authority, client },
        "amqp" if authority.is_none() && client.is_none() => Tls::Off,
        "amqp" => {
            return Err("protocol is amqp, and there are certificates. Write amqps".to_owned());
        }
        other => {
            return Err(format!(
                "connectionString begins with {other}://, which is not supported. {HINT}"
            ));
        }
    };
    match url.host_str() {
        None | Some("") => Err(format!("connectionString names no host. {HINT}")),
        Some(_) => Ok((url, tls)),
    }
}

fn login(url: &Url, settings: &mut Settings) -> Result<Login, String> {
    let (name, password) = (settings.text("username"), settings.text("password"));
    if settings.truth("saslExternal")?.unwrap_or(false) {
        return Ok(Login::External);
    }
    let written = |text: &str| match text {
        "" => Ok("guest".to_owned()),
        text => part(text),
    };
    Ok(Login::Plain {
        name: name.map_or_else(|| written(url.username()), Ok)?,
        password: password.map_or_else(|| written(url.password().unwrap_or_default()), Ok)?,
    })
}

fn part(encoded: &str) -> Result<String, String> {
    plain(encoded).map_err(|why| format!("connectionString {why}"))
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
        let options = Options::read("shop", "n1", &mut settings);
        (options, settings.into_warnings())
    }

    #[test]
    fn defaults_are_those_of_daprs_code() {
        let (options, warnings) = read(&[("hostname", "here")]);
        let options = options.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((options.host.as_str(), options.port), ("here", 5_672));
        assert_eq!(
            (options.vhost.as_str(), options.heartbeat),
            ("/", Duration::from_secs(10))
        );
        let guest = || "guest".to_owned();
        let login = Login::Plain {
            name: guest(),
            password: guest(),
        };
        assert!(options.login == login && options.tls == Tls::Off);
        assert_eq!(
            (options.restart, options.unused),
            (Restart::Survives, Unused::Goes)
        );
        assert_eq!(options.acknowledge, Acknowledge::WhenHandled);
        assert_eq!(options.delivery, Delivery::Transient);
        assert_eq!(options.failure, Failure::Rejected);
        assert_eq!(options.dead_letters, DeadLetters::Gone);
        assert_eq!(options.exchange, "fanout");
        assert_eq!(options.concurrency, Concurrency::Parallel);
        assert_eq!(
            (options.prefetch, options.length, options.bytes),
            (None, None, None)
        );
        // What loses events is told, also where nothing was written.
        for (field, warning) in [
            ("deletedWhenUnused", 0),
            ("deliveryMode", 1),
            ("requeueInFailure", 2),
        ] {
            assert!(warnings[warning].contains(field), "{warnings:?}");
        }
    }

    #[test]
    fn a_component_that_loses_nothing_is_not_warned_about() {
        let (options, warnings) = read(&[
            ("connectionString", "amqps://me:s%40cret@here:1/shop"),
            ("deletedWhenUnused", "false"),
            ("deliveryMode", "2"),
            ("requeueInFailure", "true"),
            ("publisherConfirm", "true"),
            ("prefetchCount", "7"),
        ]);
        let options = options.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(warnings, Vec::<String>::new());
        let login = Login::Plain {
            name: "me".to_owned(),
            password: "s@cret".to_owned(),
        };
        assert!(options.login == login && options.tls != Tls::Off);
        assert_eq!(
            (options.vhost.as_str(), options.prefetch),
            ("shop", Some(7))
        );
    }

    #[test]
    fn what_cannot_be_is_said_by_name() {
        for (field, value) in [
            ("deliveryMode", "3"),
            ("durable", "perhaps"),
            ("exchangeKind", "odd"),
            ("concurrency", "some"),
            ("clientKey", "-----BEGIN"),
            ("prefetchCount", "many"),
        ] {
            let why = read(&[("hostname", "here"), (field, value)]).0.err();
            let why = why.unwrap_or_default();
            assert!(why.contains(field), "{field}: {why}");
        }
        for pairs in [&[][..], &[("connectionString", "http://here")]] {
            let why = read(pairs).0.err().unwrap_or_default();
            assert!(why.contains("connectionString"), "{why}");
        }
    }
}
