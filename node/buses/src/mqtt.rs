//! `pubsub.mqtt3`: MQTT 3.1.1 topics, and for each group a session that the broker keeps.
//!
//! MQTT has no groups: who shares events is who shares a session, and a session has one client at a time. So one process
//! of a group holds it, the others stand by and take over with all that was not acknowledged (`holder`). Groups
//! that are to work side by side subscribe to `$share/NAME/TOPIC`, each process with a session of its own; what an
//! ended process had been given then waits for its return.
//! Absent: metadata of events (3.1.1 has no place for it), history (a new group begins with what is published next).

mod group;
mod holder;
mod line;
mod options;
mod seats;
mod wire;

use std::sync::Arc;

use futures::future::join_all;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use rumqttc::mqttbytes::v4::Publish as Packet;
use tokio::sync::Semaphore;

use crate::bus::{Bus, BusFuture, Feature, Standing, SubscribeError};
use crate::component::Declared;
use crate::event::{BulkPublish, Event, Publish, PublishOutcome};
use crate::keeper::Keeper;
use crate::outcomes::{busy, unavailable, unknown, within};
use crate::settings::Settings;
use crate::subscription::{Subscribe, Subscription};
use group::Wanted;
use line::{Dialer, Fate, PUBLISHES_MAX};
use options::{Options, Retain};
use seats::Seats;

/// Longest topic, in bytes.
const TOPIC_BYTES_MAX: usize = 65_535;

/// See the module.
pub(crate) struct Mqtt {
    options: Arc<Options>,
    keeper: Arc<Keeper<Dialer>>,
    room: Semaphore,
}

impl Mqtt {
    /// Its type in YAML.
    pub(crate) const KIND: &str = "pubsub.mqtt3";

    /// Reads the metadata.
    ///
    /// # Errors
    /// A field cannot be read, or asks for what is not there.
    pub(crate) fn open(declared: &Declared, settings: &mut Settings) -> Result<Self, String> {
        let options = Options::read(&declared.instance, settings)?;
        let options = Arc::new(options);
        let Declared { name, consumer, .. } = declared;
        let dialer = Dialer {
            options: Arc::clone(&options),
            name: format!("{consumer}-{}-{name}", declared.instance),
        };
        Ok(Self {
            keeper: Arc::new(Keeper::new(&declared.name, dialer)),
            options,
            room: Semaphore::new(PUBLISHES_MAX.into()),
        })
    }

    async fn send(&self, topic: &str, events: Vec<Event>) -> Vec<PublishOutcome> {
        let count = events.len();
        if !is_topic(topic) {
            let detail = format!(
                "{topic:?} is no topic of MQTT to publish to: no +, no #, no $ at its begin"
            );
            let refusal = PublishOutcome::NotRun(NotRun::new(Code::InvalidTopic, detail));
            return vec![refusal; count];
        }
        let line = match self.keeper.connection().await {
            Ok(line) => line,
            Err(why) => return vec![unavailable(why); count],
        };
        let line = &line;
        let sent = events.into_iter().map(|event| async move {
            let Ok(_place) = self.room.acquire().await else {
                return busy(PUBLISHES_MAX.into());
            };
            match line.publish(self.packet(topic, event)).await {
                Fate::Taken => PublishOutcome::Done(None),
                Fate::Kept => unavailable("the connection to the broker broke"),
                Fate::Lost => unknown(
                    "the connection to the broker broke before it answered; it may have the event",
                ),
            }
        });
        join_all(sent).await
    }

    fn packet(&self, topic: &str, event: Event) -> Packet {
        let asked = event.attributes.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("retain") && value.eq_ignore_ascii_case("true")
        });
        let mut packet = Packet::from_bytes(topic, self.options.qos, event.data);
        packet.retain = asked || self.options.retain == Retain::Always;
        packet
    }
}

/// Whether it may be published to.
fn is_topic(topic: &str) -> bool {
    let bad = |c: char| c == '+' || c == '#' || c == '\0';
    !topic.is_empty()
        && topic.len() <= TOPIC_BYTES_MAX
        && !topic.contains(bad)
        && !topic.starts_with('$')
}

impl Bus for Mqtt {
    fn publish(&self, publish: Publish) -> BusFuture<'_, PublishOutcome> {
        Box::pin(async move {
            if self.room.available_permits() == 0 {
                return busy(PUBLISHES_MAX.into());
            }
            let sent = self.send(publish.topic.topic(), vec![publish.event]);
            let mut outcomes = within(publish.timeout, 1, sent).await;
            // One for each event.
            outcomes.pop().unwrap_or(PublishOutcome::Done(None))
        })
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        Box::pin(async move {
            let events: Vec<_> = bulk.entries.into_iter().map(|entry| entry.event).collect();
            let count = events.len();
            if self.room.available_permits() == 0 {
                return vec![busy(PUBLISHES_MAX.into()); count];
            }
            within(bulk.timeout, count, self.send(bulk.topic.topic(), events)).await
        })
    }

    fn subscribe(
        &self,
        subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        Box::pin(async move {
            // A broker that is away is said to be, at once.
            let here = self.keeper.connection().await;
            here.map_err(|detail| SubscribeError {
                code: Code::BusUnavailable,
                detail,
            })?;
            let Options {
                instance,
                host,
                port,
                ..
            } = &*self.options;
            let group = subscribe.group.name_on(instance);
            let topic = subscribe.topic.topic();
            let seat = format!("{instance} {host}:{port} {group}-{topic}");
            let seat = Seats::of_process().take(&seat);
            group::subscribe(Wanted {
                options: Arc::clone(&self.options),
                keeper: Arc::clone(&self.keeper),
                seat,
                subscribe,
            })
            .await
        })
    }

    fn features(&self) -> &'static [Feature] {
        &[Feature::SubscribeWildcards]
    }

    fn standing(&self) -> Standing {
        self.keeper.standing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics() {
        for (topic, wanted) in [
            ("orders", true),
            ("orders/eu/new", true),
            ("", false),
            ("orders/+", false),
            ("#", false),
            ("$share/g/orders", false),
        ] {
            assert_eq!(is_topic(topic), wanted, "{topic}");
        }
    }
}
