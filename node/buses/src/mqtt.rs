//! `pubsub.mqtt3`: MQTT 3.1.1 topics, and for each group a session that the broker keeps.
//!
//! MQTT has no groups: who shares events is who shares a session, and a session has one client at a
//! time. So one process of a group holds it, the others stand by and take over with all that was
//! not acknowledged (`holder`). Groups that are to work side by side subscribe to
//! `$share/NAME/TOPIC`, each process with a session of its own; what an ended process had been
//! given then waits for its return. Absent: metadata of events (3.1.1 has no place for it), history
//! (a new group begins with what is published next).

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
use crate::settings::{Settings, truth_beside};
use crate::subscription::{Subscribe, Subscription};
use line::{Dialer, Fate, PUBLISHES_MAX};
use options::{Leaving, Options, Retain};
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
            let packet = match packet(&bus.options, topic, outgoing.event) {
                Ok(packet) => packet,
                Err(detail) => {
                    return PublishOutcome::NotRun(NotRun::new(Code::InvalidArgument, detail));
                }
            };
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
        let leaving = leaving(&bus.options, &subscribe).map_err(|why| SubscribeError {
            code: Code::InvalidArgument,
            detail: format!("topic {topic} on MQTT: {why}"),
        })?;
        let seat = format!("{instance} {host}:{port} {group}-{topic}");
        let seat = Seats::of_process().take(&seat);
        group::subscribe(bus, subscribe, seat, leaving).await
    }
}

/// What a publish says of `retain` counts more than what its component says.
fn packet(options: &Options, topic: &str, event: Event) -> Result<Packet, String> {
    let asked = truth_beside(&event.attributes, "retain")?;
    let mut packet = Packet::from_bytes(topic, options.qos, event.data);
    packet.retain = asked.unwrap_or(options.retain == Retain::Always);
    Ok(packet)
}

/// What a subscription says of `unsubscribeOnClose` counts more than what its component says.
fn leaving(options: &Options, subscribe: &Subscribe) -> Result<Leaving, String> {
    let asked = truth_beside(&subscribe.metadata, "unsubscribeOnClose")?;
    Ok(match asked {
        None => options.leaving,
        Some(true) => Leaving::Unsubscribes,
        Some(false) => Leaving::StaysSubscribed,
    })
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
    use std::collections::BTreeMap;

    use ghostlight_protocol::topic::TopicName;

    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let owned = [("url", "mqtt://here")].iter().chain(pairs);
        let owned = owned.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let metadata: BTreeMap<_, _> = owned.collect();
        let options = Options::read("n1", &mut Settings::new(&metadata));
        options.unwrap_or_else(|why| panic!("{why}"))
    }

    fn beside(name: &str, value: Option<&str>) -> BTreeMap<String, String> {
        let value = value.map(|value| (name.to_owned(), value.to_owned()));
        value.into_iter().collect()
    }

    #[test]
    fn a_publish_says_whether_it_is_retained_else_its_component_does() {
        for (component, publish, wanted) in [
            ("false", None, Ok(false)),
            ("true", None, Ok(true)),
            ("true", Some(""), Ok(true)),
            ("true", Some("false"), Ok(false)),
            ("true", Some("0"), Ok(false)),
            ("false", Some("true"), Ok(true)),
            ("false", Some("1"), Ok(true)),
            ("false", Some("t"), Ok(true)),
            ("false", Some("perhaps"), Err(())),
        ] {
            let event = Event {
                attributes: beside("Retain", publish),
                ..Event::default()
            };
            let packet = packet(&options(&[("retain", component)]), "orders", event);
            let retain = packet.map(|packet| packet.retain).map_err(|_| ());
            assert_eq!(retain, wanted, "{component} {publish:?}");
        }
    }

    #[test]
    fn a_subscription_says_whether_its_group_ends_with_it_else_its_component_does() {
        use Leaving::{StaysSubscribed, Unsubscribes};
        for (component, subscription, wanted) in [
            ("false", None, Ok(StaysSubscribed)),
            ("true", None, Ok(Unsubscribes)),
            ("true", Some("false"), Ok(StaysSubscribed)),
            ("false", Some("true"), Ok(Unsubscribes)),
            ("false", Some("1"), Ok(Unsubscribes)),
            ("false", Some("perhaps"), Err(())),
        ] {
            let topic = TopicName::new("default", "bus", "orders").unwrap();
            let subscribe = Subscribe {
                metadata: beside("unsubscribeonclose", subscription),
                ..Subscribe::new(topic, "g")
            };
            let options = options(&[("unsubscribeOnClose", component)]);
            let found = leaving(&options, &subscribe).map_err(|_| ());
            assert_eq!(found, wanted, "{component} {subscription:?}");
        }
    }

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
