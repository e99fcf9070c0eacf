//! The producer of a component: one for all its topics, made again when every broker is out of
//! reach.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use tokio::sync::Notify;

use super::options::Options;
use super::words;
use crate::event::Event;
use crate::keeper::Dial;

/// How long brokers may take to tell which they are.
const METADATA_TIME_MAX: Duration = Duration::from_secs(4);

/// Hears that the producer is of no use.
#[derive(Clone, Default)]
pub(super) struct Hears(Arc<Notify>);

impl ClientContext for Hears {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("Kafka's client: {error}: {reason}");
        // After a fatal error this producer takes nothing any more: another one is made.
        let useless = [RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::Fatal];
        if error
            .rdkafka_error_code()
            .is_some_and(|code| useless.contains(&code))
        {
            self.0.notify_one();
        }
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        log(facility, message);
    }
}

/// What librdkafka has to say beside errors, which are told by those whom they concern.
pub(super) fn log(facility: &str, message: &str) {
    tracing::debug!(facility, "Kafka's client: {message}");
}

/// How to come to a producer.
pub(crate) struct Dialer {
    pub(super) options: Arc<Options>,
}

/// See the module. Copies are the same one.
#[derive(Clone)]
pub(crate) struct Producer {
    inner: Arc<Apart>,
    hears: Hears,
}

/// Goes on a thread of its own: its end waits for what was handed over.
struct Apart(Option<FutureProducer<Hears>>);

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(producer) = self.0.take() {
            let ends = std::thread::Builder::new().name("kafka-ends".to_owned());
            // Without a thread it ends here.
            drop(ends.spawn(move || drop(producer)));
        }
    }
}

impl Producer {
    /// Hands an event over; the answer comes later.
    ///
    /// # Errors
    /// It did not take it: certainly not published.
    pub(super) fn send(
        &self,
        topic: &str,
        event: &Event,
        options: &Options,
    ) -> Result<impl Future<Output = Result<(), KafkaError>> + use<>, KafkaError> {
        let mut record = FutureRecord::<str, [u8]>::to(topic)
            .payload(&event.data[..])
            .headers(words::headers(event, options.headers));
        if let Some(key) = words::key(event) {
            record = record.key(key);
        }
        let producer = self.inner.0.as_ref().ok_or(KafkaError::Canceled)?;
        let sent = producer.send_result(record).map_err(|(error, _)| error)?;
        Ok(answer(sent))
    }
}

async fn answer(sent: DeliveryFuture) -> Result<(), KafkaError> {
    match sent.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(error),
        Err(_) => Err(KafkaError::Canceled),
    }
}

impl Dial for Dialer {
    type Connection = Producer;

    async fn connect(&self) -> Result<Producer, String> {
        let options = Arc::clone(&self.options);
        let made = tokio::task::spawn_blocking(move || {
            let hears = Hears::default();
            let inner: FutureProducer<Hears> = options
                .producer()
                .create_with_context(hears.clone())
                .map_err(|error| error.to_string())?;
            let known = inner.client().fetch_metadata(None, METADATA_TIME_MAX);
            let known = known.map_err(|error| error.to_string())?;
            match known.brokers().is_empty() {
                true => Err("there are no brokers".to_owned()),
                false => Ok(Producer {
                    inner: Arc::new(Apart(Some(inner))),
                    hears,
                }),
            }
        });
        made.await.map_err(|error| error.to_string())?
    }

    async fn broken(&self, producer: &Producer) -> String {
        producer.hears.0.notified().await;
        "no broker is within reach, or the producer has failed for good".to_owned()
    }
}
