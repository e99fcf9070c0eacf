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

use crate::bus::{Feature, SubscribeError};
use crate::component::Declared;
use crate::event::{Event, PublishOutcome};
use crate::external::{External, Outgoing, System};
use crate::outcomes::{busy, unavailable, unknown};
use crate::settings::Settings;
use crate::subscription::{Subscribe, Subscription};
use line::{Dialer, Fate, PUBLISHES_MAX};
use options::{Options, Retain};
use seats::Seats;

/// Longest topic, in bytes.
const TOPIC_BYTES_MAX: usize = 65_535;

/// See the module.
pub(crate) enum Mqtt {}

impl System for Mqtt {
    const KIND: &'static str = "pubsub.mqtt3";
    const PUBLISHES_MAX: usize = PUBLISHES_MAX as usize;
    const FEATURES: &'static [Feature] = &[Feature::SubscribeWildcards];

    type Options = Options;
    type Dial = Dialer;

    fn read(
        declared: &Declared,
        settings: &mut Settings,
    ) -> Result<(Arc<Options>, Dialer), String> {
        let options = Arc::new(Options::read(&declared.instance, settings)?);
        let Declared { name, consumer, .. } = declared;
        let dialer = Dialer {
            options: Arc::clone(&options),
            name: format!("{consumer}-{}-{name}", declared.instance),
        };
        Ok((options, dialer))
    }

    async fn send(bus: &External<Self>, topic: &str, events: Vec<Outgoing>) -> Vec<PublishOutcome> {
        let count = events.len();
        if !is_topic(topic) {
            let detail = format!(
                "{topic:?} is no topic of MQTT to publish to: no +, no #, no $ at its begin"
            );
            let refusal = PublishOutcome::NotRun(NotRun::new(Code::InvalidTopic, detail));
            return vec![refusal; count];
        }
        if bus.room.available_permits() == 0 {
            return vec![busy(Self::PUBLISHES_MAX); count];
        }
        let line = match bus.keeper.connection().await {
            Ok(line) => line,
            Err(why) => return vec![unavailable(why); count],
        };
        let line = &line;
        let sent = events.into_iter().map(|outgoing| async move {
            let Ok(_place) = bus.room.acquire().await else {
                return busy(Self::PUBLISHES_MAX);
            };
            let packet = packet(&bus.options, topic, outgoing.event);
            match line.publish(packet).await {
                Fate::Taken => PublishOutcome::Done(None),
                Fate::Kept => unavailable(bus.keeper.away("the connection broke")),
                Fate::Lost(why) => unknown(format!("{why}; it may have the event")),
            }
        });
        join_all(sent).await
    }

    async fn subscribe(
        bus: &External<Self>,
        subscribe: Subscribe,
    ) -> Result<Subscription, SubscribeError> {
        bus.connection().await?;
        let Options {
            instance,
            host,
            port,
            ..
        } = &*bus.options;
        let group = subscribe.group.name_on(instance);
        let topic = subscribe.topic.topic();
        let seat = format!("{instance} {host}:{port} {group}-{topic}");
        let seat = Seats::of_process().take(&seat);
        group::subscribe(bus, subscribe, seat).await
    }
}

fn packet(options: &Options, topic: &str, event: Event) -> Packet {
    let asked = event.attributes.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("retain") && value.eq_ignore_ascii_case("true")
    });
    let mut packet = Packet::from_bytes(topic, options.qos, event.data);
    packet.retain = asked || options.retain == Retain::Always;
    packet
}

/// Whether it may be published to.
fn is_topic(topic: &str) -> bool {
    let bad = |c: char| c == '+' || c == '#' || c == '\0';
    !topic.is_empty()
        && topic.len() <= TOPIC_BYTES_MAX
        && !topic.contains(bad)
        && !topic.starts_with('$')
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
