//! The metadata of `pubsub.jetstream`, with the defaults of Dapr's code.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use ghostlight_protocol::schedule::{Signed, parse_go};

use crate::settings::{Settings, Unit};
use crate::tls::ClientCertificate;

/// The server's own `ackWait`.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Options {
    /// This process, for groups that are its own.
    pub(super) instance: String,
    pub(super) url: String,
    pub(super) name: String,
    pub(super) login: Login,
    /// `None`: no certificate.
    pub(super) client: Option<ClientCertificate>,
    /// `None`: looked up by subject.
    pub(super) stream: Option<String>,
    /// `None`: from the group and the topic.
    pub(super) durable: Option<String>,
    /// `None`: as the subscription says.
    pub(super) deliver: Option<DeliverPolicy>,
    pub(super) ack_wait: Duration,
    /// 0: the server's default.
    pub(super) max_ack_pending: i64,
    /// Pauses before redeliveries; empty: 100 ms, doubling to 30 s.
    pub(super) back_off: Vec<Duration>,
    /// 0: as the stream.
    pub(super) replicas: usize,
    pub(super) memory: bool,
    pub(super) rate_limit: u64,
    pub(super) api: Api,
    pub(super) concurrency: Concurrency,
}

/// How a client says who it is.
pub(super) enum Login {
    /// As the address says.
    Url,
    Token(String),
    Jwt {
        jwt: String,
        seed: String,
    },
}

/// Where the server's JetStream API is.
pub(super) enum Api {
    Default,
    Domain(String),
    Prefix(String),
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
    pub(super) fn read(instance: &str, settings: &mut Settings) -> Result<Self, String> {
        settings.refuse(
            &["credentials", "nkey"],
            "authentication by a file of credentials",
        )?;
        let policy = settings.text("ackPolicy");
        if let Some(policy) = policy.filter(|policy| policy != "explicit") {
            return Err(format!(
                "ackPolicy is {policy:?}; only explicit is supported"
            ));
        }
        for name in ["flowControl", "heartbeat", "queueGroupName"] {
            if settings.text(name).is_some() {
                settings.warn(format!(
                    "{name} is about push consumers and has no effect: consumers pull here"
                ));
            }
        }
        let memory = settings.truth("memoryStorage")?.unwrap_or(false);
        if memory {
            settings.warn("memoryStorage is true: a restart of NATS forgets what was acknowledged");
        }
        let whole = |number: Option<u64>| i64::try_from(number.unwrap_or(0)).unwrap_or(i64::MAX);
        Ok(Self {
            instance: instance.to_owned(),
            url: settings.needed("natsURL")?,
            name: settings
                .text("name")
                .unwrap_or_else(|| "dapr.io - pubsub.jetstream".to_owned()),
            login: login(settings)?,
            client: client(settings)?,
            stream: settings.text("streamName"),
            durable: settings.text("durableName"),
            deliver: deliver(settings)?,
            ack_wait: settings
                .duration("ackWait", Unit::Second)?
                .unwrap_or(ACK_WAIT),
            max_ack_pending: whole(settings.number("maxAckPending")?),
            back_off: back_off(settings)?,
            replicas: usize::try_from(settings.number("replicas")?.unwrap_or(0))
                .unwrap_or(usize::MAX),
            memory,
            rate_limit: settings.number("rateLimit")?.unwrap_or(0),
            api: match (settings.text("domain"), settings.text("apiPrefix")) {
                (Some(_), Some(_)) => {
                    return Err("domain and apiPrefix exclude each other".to_owned());
                }
                (Some(domain), None) => Api::Domain(domain),
                (None, Some(prefix)) => Api::Prefix(prefix),
                (None, None) => Api::Default,
            },
            concurrency: match settings.text("concurrency").as_deref() {
                None | Some("parallel") => Concurrency::Parallel,
                Some("single") => Concurrency::Single,
                Some(other) => {
                    return Err(format!(
                        "concurrency is {other:?}. Write single or parallel"
                    ));
                }
            },
        })
    }
}

/// Both or none.
fn client(settings: &mut Settings) -> Result<Option<ClientCertificate>, String> {
    match (
        settings.text("tls_client_cert"),
        settings.text("tls_client_key"),
    ) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(ClientCertificate { certificate, key })),
        _ => Err("write both tls_client_cert and tls_client_key, or none of them".to_owned()),
    }
}

fn login(settings: &mut Settings) -> Result<Login, String> {
    match (
        settings.text("jwt"),
        settings.text("seedKey"),
        settings.text("token"),
    ) {
        (None, None, None) => Ok(Login::Url),
        (None, None, Some(token)) => Ok(Login::Token(token)),
        (Some(jwt), Some(seed), None) => Ok(Login::Jwt { jwt, seed }),
        _ => Err("write either token, or jwt and seedKey".to_owned()),
    }
}

fn deliver(settings: &mut Settings) -> Result<Option<DeliverPolicy>, String> {
    let sequence = settings.number("startSequence")?;
    let time = settings.number("startTime")?;
    Ok(Some(match settings.text("deliverPolicy").as_deref() {
        None => return Ok(None),
        Some("all") => DeliverPolicy::All,
        Some("last") => DeliverPolicy::Last,
        Some("new") => DeliverPolicy::New,
        Some("sequence") => DeliverPolicy::ByStartSequence {
            start_sequence: sequence.ok_or("deliverPolicy sequence needs startSequence")?,
        },
        Some("time") => {
            let seconds =
                time.ok_or("deliverPolicy time needs startTime, in seconds since 1970")?;
            since(seconds.saturating_mul(1_000))?
        }
        Some(other) => {
            return Err(format!(
                "deliverPolicy is {other:?}. Write all, last, new, sequence or time"
            ));
        }
    }))
}

/// Everything from a time on.
///
/// # Errors
/// The time is out of what a calendar has.
pub(super) fn since(millis: u64) -> Result<DeliverPolicy, String> {
    let start_time = async_nats::datetime::from_nanos(i128::from(millis) * 1_000_000);
    let start_time = start_time.map_err(|error| format!("the start time cannot be: {error}"))?;
    Ok(DeliverPolicy::ByStartTime { start_time })
}

fn back_off(settings: &mut Settings) -> Result<Vec<Duration>, String> {
    let text = settings.text("backOff").unwrap_or_default();
    let pauses = text
        .split(',')
        .map(str::trim)
        .filter(|pause| !pause.is_empty());
    pauses
        .map(|pause| match parse_go(pause) {
            Some(Signed::Forward(time)) => Ok(time),
            Some(Signed::Backward(_)) | None => Err(format!(
                "backOff has {pause:?}. Write durations such as 50ms, 1s, 10s"
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Result<Options, String>, Vec<String>) {
        let address = [("natsURL", "nats://here:4222")];
        let all = address.iter().chain(pairs);
        let metadata: BTreeMap<_, _> = all
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let mut settings = Settings::new(&metadata);
        let options = Options::read("n1", &mut settings);
        (options, settings.into_warnings())
    }

    #[test]
    fn defaults() {
        let (options, warnings) = read(&[]);
        let options = options.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(warnings, Vec::<String>::new());
        assert!(options.stream.is_none() && options.durable.is_none() && options.deliver.is_none());
        assert_eq!(options.ack_wait, Duration::from_secs(30));
        assert_eq!(
            (
                options.max_ack_pending,
                options.replicas,
                options.rate_limit
            ),
            (0, 0, 0)
        );
        assert_eq!(options.name, "dapr.io - pubsub.jetstream");
        assert!(options.client.is_none());
        assert_eq!(options.concurrency, Concurrency::Parallel);
        assert!(!options.memory && options.back_off.is_empty());
    }

    #[test]
    fn what_is_read() {
        let (options, warnings) = read(&[
            ("backOff", "50ms, 1s"),
            ("deliverPolicy", "sequence"),
            ("startSequence", "7"),
            ("memoryStorage", "true"),
            ("queueGroupName", "q"),
            ("concurrency", "single"),
        ]);
        let options = options.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(
            options.back_off,
            [Duration::from_millis(50), Duration::from_secs(1)]
        );
        assert_eq!(
            options.deliver,
            Some(DeliverPolicy::ByStartSequence { start_sequence: 7 })
        );
        assert_eq!(options.concurrency, Concurrency::Single);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (field, value) in [
            ("tls_client_cert", "-----"),
            ("credentials", "here"),
            ("ackPolicy", "none"),
            ("deliverPolicy", "sequence"),
            ("deliverPolicy", "some"),
            ("backOff", "soon"),
            ("concurrency", "some"),
            ("jwt", "x"),
        ] {
            let why = read(&[(field, value)]).0.err().unwrap_or_default();
            assert!(why.contains(field), "{field}: {why}");
        }
    }
}
