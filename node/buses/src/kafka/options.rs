//! The metadata of `pubsub.kafka`, with the defaults of Dapr's code, and what librdkafka is told of
//! it.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::settings::{Settings, Unit};

/// Longest event that a component may ask for: what Kafka's protocol can carry.
const MESSAGE_BYTES_MAX: u32 = 1_000_000_000;
/// How long an event may wait for its acknowledgement, all attempts together.
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// This process, for groups that are its own.
    pub(super) instance: String,
    brokers: String,
    client_id: String,
    /// User and password, sent as they are.
    plain: Option<(String, String)>,
    /// The component's own group; `None`: that of the subscription.
    pub(super) group: Option<String>,
    pub(super) begin: Begin,
    /// Pause before an event that failed comes again; `None`: it is passed over.
    pub(super) retry: Option<Duration>,
    message_bytes_max: Option<u32>,
    session_timeout: Duration,
    heartbeat_interval: Duration,
    fetch_min: Option<u32>,
    fetch_default: Option<u32>,
    acks: Acks,
    retries: u32,
    compression: &'static str,
    rebalance: &'static str,
    pub(super) headers: Headers,
}

/// Where a group begins in a partition of which it has committed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    Oldest,
    Newest,
}

/// How metadata of events is written into headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Headers {
    AsTheyAre,
    /// Percent-encoded, as `escapeHeaders` asks.
    Escaped,
}

/// Who must have an event before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Acks {
    All,
    Leader,
    Nobody,
}

impl Acks {
    const fn text(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Leader => "1",
            Self::Nobody => "0",
        }
    }
}

impl Options {
    /// # Errors
    /// A field cannot be read, or asks for what is not there.
    pub(super) fn read(
        consumer: &str,
        instance: &str,
        settings: &mut Settings,
    ) -> Result<Self, String> {
        let brokers = settings.needed("brokers")?;
        let plain = authentication(settings)?;
        settings.refuse(
            &[
                "schemaRegistryURL",
                "schemaRegistryAPIKey",
                "schemaRegistryAPISecret",
            ],
            "a schema registry",
        )?;
        settings.refuse(
            &["excludeHeaderMetaRegex"],
            "headers that are left out by a pattern",
        )?;
        // Known, and without a meaning for this client, which speaks what its brokers speak.
        for name in [
            "version",
            "channelBufferSize",
            "clientConnectionTopicMetadataRefreshInterval",
            "clientConnectionKeepAliveInterval",
            "useAvroJSON",
            "schemaCachingEnabled",
            "schemaLatestVersionCacheTTL",
        ] {
            settings.text(name);
        }
        Ok(Self {
            instance: instance.to_owned(),
            brokers,
            client_id: settings
                .text("clientID")
                .unwrap_or_else(|| consumer.to_owned()),
            plain,
            group: settings.text("consumerGroup"),
            begin: begin(settings)?,
            retry: retry(settings)?,
            message_bytes_max: bytes(settings, "maxMessageBytes")?,
            session_timeout: settings
                .duration("sessionTimeout", Unit::Millisecond)?
                .unwrap_or(Duration::from_secs(10)),
            heartbeat_interval: settings
                .duration("heartbeatInterval", Unit::Millisecond)?
                .unwrap_or(Duration::from_secs(3)),
            fetch_min: bytes(settings, "consumerFetchMin")?,
            fetch_default: bytes(settings, "consumerFetchDefault")?,
            acks: acks(settings)?,
            retries: settings.count("producerRetryMax", 5, 1_000_000)?,
            compression: compression(settings)?,
            rebalance: rebalance(settings)?,
            headers: match settings.truth("escapeHeaders")?.unwrap_or(false) {
                true => Headers::Escaped,
                false => Headers::AsTheyAre,
            },
        })
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // A broker that comes back is seen soon.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        if let Some((user, password)) = &self.plain {
            client
                .set("security.protocol", "sasl_plaintext")
                .set("sasl.mechanism", "PLAIN")
                .set("sasl.username", user)
                .set("sasl.password", password);
        }
        client
    }

    /// How events are published.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", self.acks.text())
            .set("retries", self.retries.to_string())
            .set("compression.type", self.compression)
            // What waits for an acknowledgement waits for each event: there is nothing to be
            // collected.
            .set("queue.buffering.max.ms", "0")
            .set("delivery.timeout.ms", millis(DELIVERY_TIME_MAX));
        if self.acks == Acks::All {
            client.set("enable.idempotence", "true");
        }
        if let Some(most) = self.message_bytes_max {
            client.set("message.max.bytes", most.to_string());
        }
        client
    }

    /// How a member of a group reads.
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("session.timeout.ms", millis(self.session_timeout))
            .set("heartbeat.interval.ms", millis(self.heartbeat_interval))
            .set("partition.assignment.strategy", self.rebalance)
            // Where a committed offset has gone from the log: the oldest event that is left, for
            // others were never seen.
            .set("auto.offset.reset", "earliest")
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("allow.auto.create.topics", "true");
        if let Some(least) = self.fetch_min {
            client.set("fetch.min.bytes", least.to_string());
        }
        if let Some(usual) = self.fetch_default {
            client.set("fetch.message.max.bytes", usual.to_string());
        }
        client
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

/// User and password, if it is to be those.
fn authentication(settings: &mut Settings) -> Result<Option<(String, String)>, String> {
    let kind = settings
        .text("authType")
        .unwrap_or_else(|| "none".to_owned());
    let kind = kind.to_ascii_lowercase();
    let tls_off = settings.truth("disableTls")?.unwrap_or(false);
    let user = settings.text("saslUsername");
    let password = settings.text("saslPassword");
    let mechanism = settings.text("saslMechanism");
    for name in ["caCert", "clientCert", "clientKey", "skipVerify"] {
        settings.text(name);
    }
    match kind.as_str() {
        "none" => Ok(None),
        "password" => {
            let mechanism = mechanism.unwrap_or_else(|| "PLAIN".to_owned());
            if !["PLAIN", "PLAINTEXT"].contains(&mechanism.to_ascii_uppercase().as_str()) {
                return Err(format!(
                    "saslMechanism is {mechanism:?}, which needs OpenSSL and is not supported yet; PLAIN is"
                ));
            }
            if !tls_off {
                return Err(
                    "authType is password, over TLS unless disableTls is true; TLS towards Kafka is not supported yet"
                        .to_owned(),
                );
            }
            settings
                .warn("authType is password and disableTls is true: the password is sent as it is");
            let missing = |name| format!("{name} is missing: authType is password");
            let user = user.ok_or_else(|| missing("saslUsername"))?;
            let password = password.ok_or_else(|| missing("saslPassword"))?;
            Ok(Some((user, password)))
        }
        "mtls" | "certificate" | "oidc" | "oidc_private_key_jwt" | "awsiam" => Err(format!(
            "authType is {kind:?}, which is not supported yet; none and password are"
        )),
        _ => Err(format!("authType is {kind:?}. Write none or password")),
    }
}

fn begin(settings: &mut Settings) -> Result<Begin, String> {
    match settings.text("initialOffset").as_deref() {
        None | Some("newest") => {
            settings.warn(
                "initialOffset is newest: what is published before a group's first subscriber is not delivered to it",
            );
            Ok(Begin::Newest)
        }
        Some("oldest") => Ok(Begin::Oldest),
        Some(other) => Err(format!(
            "initialOffset is {other:?}. Write oldest or newest"
        )),
    }
}

fn retry(settings: &mut Settings) -> Result<Option<Duration>, String> {
    let pause = settings
        .duration("consumeRetryInterval", Unit::Millisecond)?
        .unwrap_or(Duration::from_millis(100));
    if settings.truth("consumeRetryEnabled")?.unwrap_or(true) {
        return Ok(Some(pause));
    }
    settings.warn("consumeRetryEnabled is false: an event whose handler fails is passed over");
    Ok(None)
}

fn acks(settings: &mut Settings) -> Result<Acks, String> {
    let asked = settings.text("producerRequiredAcks");
    let acks = match asked.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("all" | "waitforall" | "-1") => return Ok(Acks::All),
        Some("local" | "leader" | "waitforlocal" | "1") => Acks::Leader,
        Some("none" | "noresponse" | "0") => Acks::Nobody,
        Some(other) => {
            return Err(format!(
                "producerRequiredAcks is {other:?}. Write all, local or none"
            ));
        }
    };
    settings.warn(
        "producerRequiredAcks is not all: Kafka acknowledges events that the end of one broker loses",
    );
    Ok(acks)
}

fn compression(settings: &mut Settings) -> Result<&'static str, String> {
    match settings.text("compression").as_deref() {
        None | Some("none") => Ok("none"),
        Some("gzip") => Ok("gzip"),
        Some("snappy") => Ok("snappy"),
        Some("lz4") => Ok("lz4"),
        Some(other) => Err(format!(
            "compression is {other:?}. Write none, gzip, snappy or lz4"
        )),
    }
}

fn rebalance(settings: &mut Settings) -> Result<&'static str, String> {
    match settings.text("consumerGroupRebalanceStrategy").as_deref() {
        None | Some("range") => Ok("range"),
        Some("roundrobin") => Ok("roundrobin"),
        Some("sticky") => Err(
            "consumerGroupRebalanceStrategy is sticky, which this client does not speak; range and roundrobin are there"
                .to_owned(),
        ),
        Some(other) => Err(format!(
            "consumerGroupRebalanceStrategy is {other:?}. Write range or roundrobin"
        )),
    }
}

fn bytes(settings: &mut Settings, name: &str) -> Result<Option<u32>, String> {
    let given = settings.number(name)?.filter(|number| *number > 0);
    Ok(given.map(|number| {
        u32::try_from(number).map_or(MESSAGE_BYTES_MAX, |n| n.min(MESSAGE_BYTES_MAX))
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Result<Options, String>, Vec<String>) {
        let all = [("brokers", "here:9092")].iter().chain(pairs);
        let owned: BTreeMap<_, _> = all
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let mut settings = Settings::new(&owned);
        (
            Options::read("shop", "n1", &mut settings),
            settings.into_warnings(),
        )
    }

    #[test]
    fn defaults_are_those_of_the_code() {
        let (options, warnings) = read(&[]);
        let options = options.unwrap();
        assert_eq!(options.begin, Begin::Newest);
        assert_eq!(options.retry, Some(Duration::from_millis(100)));
        assert_eq!(options.session_timeout, Duration::from_secs(10));
        assert_eq!(options.heartbeat_interval, Duration::from_secs(3));
        assert_eq!((options.acks, options.retries), (Acks::All, 5));
        assert_eq!(options.client_id, "shop");
        let producer = options.producer();
        assert_eq!(producer.get("enable.idempotence"), Some("true"));
        assert_eq!(
            options.consumer("g").get("enable.auto.commit"),
            Some("false")
        );
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name_and_what_loses_events_is_warned_of() {
        let password = [
            ("authType", "password"),
            ("saslUsername", "u"),
            ("saslPassword", "p"),
        ];
        for (more, wanted) in [
            (
                &[("authType", "oidc")][..],
                "authType is \"oidc\", which is not supported",
            ),
            (
                &[("authType", "awsiam")],
                "authType is \"awsiam\", which is not supported",
            ),
            (
                &[("authType", "kerberos")],
                "authType is \"kerberos\". Write",
            ),
            (&password, "authType is password, over TLS"),
            (
                &[("initialOffset", "middle")],
                "initialOffset is \"middle\"",
            ),
            (
                &[("producerRequiredAcks", "some")],
                "producerRequiredAcks is",
            ),
            (
                &[("schemaRegistryURL", "http://x")],
                "schemaRegistryURL asks for",
            ),
            (
                &[("consumerGroupRebalanceStrategy", "sticky")],
                "consumerGroupRebalanceStrategy is sticky",
            ),
            (&[("compression", "zstd")], "compression is \"zstd\""),
        ] {
            let why = read(more).0.err().unwrap_or_default();
            assert!(why.starts_with(wanted), "{more:?}: {why}");
        }
        let oldest = ("initialOffset", "oldest");
        for (more, wanted) in [
            (&[oldest][..], None),
            (
                &[oldest, ("producerRequiredAcks", "local")],
                Some("producerRequiredAcks"),
            ),
            (
                &[oldest, ("consumeRetryEnabled", "false")],
                Some("consumeRetryEnabled"),
            ),
            (
                &[oldest, ("version", "2.0.0.0"), ("disableTls", "true")],
                None,
            ),
        ] {
            let (options, warnings) = read(more);
            assert!(options.is_ok());
            let said = warnings
                .iter()
                .find(|said| wanted.is_none_or(|name| said.starts_with(name)));
            assert_eq!(said.is_some(), wanted.is_some(), "{more:?}: {warnings:?}");
        }
        let plain = [&password[..], &[("disableTls", "true")]].concat();
        let options = read(&plain).0.unwrap();
        assert_eq!(options.producer().get("sasl.mechanism"), Some("PLAIN"));
    }
}
