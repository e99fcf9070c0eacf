//! A component of an external bus: what is declared, and what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bus::Bus;
use crate::external::{External, System};
use crate::jetstream::JetStream;
#[cfg(feature = "kafka")]
use crate::kafka::Kafka;
use crate::mqtt::Mqtt;
use crate::rabbitmq::RabbitMq;
use crate::redis::Redis;
use crate::settings::Settings;

/// Types of components that [`open`] serves, in order.
pub const KINDS: &[&str] = &[
    JetStream::KIND,
    #[cfg(feature = "kafka")]
    Kafka::KIND,
    Mqtt::KIND,
    RabbitMq::KIND,
    Redis::KIND,
];

/// A component as its YAML declares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its type, such as `pubsub.redis`.
    pub kind: String,
    /// Its metadata with templates filled in; secrets may be among it.
    pub metadata: BTreeMap<String, String>,
    /// Who shares events: the `consumerID`, else the app-id.
    pub consumer: String,
    /// Name of this process that is the same after a restart, and of no other process: where a bus
    /// remembers clients.
    pub instance: String,
}

/// A bus that may be used. It connects by itself, now or when it is first used.
pub struct Opened {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// What an operator should know: settings that can lose events, names that mean nothing.
    pub warnings: Vec<String>,
}

/// The bus of a component; `None`: nothing is known of its type.
///
/// # Errors
/// Its metadata cannot be: a sentence that names the field. Or its type is not part of this build.
#[must_use]
pub fn open(declared: &Declared) -> Option<Result<Opened, String>> {
    let mut settings = Settings::new(&declared.metadata);
    let bus = match declared.kind.as_str() {
        JetStream::KIND => External::<JetStream>::open(declared, &mut settings),
        #[cfg(feature = "kafka")]
        Kafka::KIND => External::<Kafka>::open(declared, &mut settings),
        #[cfg(not(feature = "kafka"))]
        "pubsub.kafka" => Err(
            "Kafka's client is a C library that this build does without. Build Ghostlight with \
             `cargo build --workspace --features ghostlight/kafka`, or start it with --builtin pubsub.kafka"
                .to_owned(),
        ),
        Mqtt::KIND => External::<Mqtt>::open(declared, &mut settings),
        RabbitMq::KIND => External::<RabbitMq>::open(declared, &mut settings),
        Redis::KIND => External::<Redis>::open(declared, &mut settings),
        _ => return None,
    };
    Some(bus.map(|bus| Opened {
        bus,
        warnings: settings.into_warnings(),
    }))
}
