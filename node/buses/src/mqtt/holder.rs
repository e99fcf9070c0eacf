//! Which process of a group holds its session: the broker would give it to whoever came last, again
//! and again.
//!
//! The holder says its name every few seconds under a retained topic, and clears it when it leaves.
//! Who wants to hold watches that topic first, and stands by while it hears another name; of two
//! that begin at once the lesser name goes on. What is wrong here costs duplicates, never events:
//! the session itself is the broker's.

use std::time::Duration;

use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, Publish, Subscribe, SubscribeReasonCode};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::options::Options;
use super::wire::{self, Outgoing, Sender, Wire};

/// Topics under which holders say their names.
const PREFIX: &str = "ghostlight/holder/";
/// How often a holder says its name.
const BEAT: Duration = Duration::from_secs(2);
/// A holder that was not heard for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(8);
/// How soon a broker tells what it has retained, and who else begins now.
const SETTLE_TIME: Duration = Duration::from_millis(300);

/// One that wants to hold, or does.
pub(super) struct Holder {
    wire: Wire,
    topic: String,
    name: String,
    /// Heard before the broker had answered.
    early: Option<Word>,
}

/// What was heard.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Word {
    Mine,
    Nobody,
    Other(String),
}

impl Word {
    fn of(publish: &Publish, name: &str) -> Self {
        match &*String::from_utf8_lossy(&publish.payload) {
            "" => Self::Nobody,
            said if said == name => Self::Mine,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl Holder {
    /// Begins to watch who holds `session`; `None`: the broker does not let anybody.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub(super) async fn watch(
        options: &Options,
        session: &str,
        name: String,
    ) -> Result<Option<Self>, String> {
        let connect = Connect::new(format!("{session}-{name}-holder"));
        let mut wire = wire::dial(options, connect).await?;
        let topic = topic(session);
        let mut watch = Subscribe::new(&topic, QoS::AtLeastOnce);
        watch.pkid = 1;
        let watch = Outgoing::Now(Packet::Subscribe(watch));
        wire.sender.send(watch).await.map_err(gone)?;
        // What is retained may come first.
        let mut early = None;
        loop {
            match wire.incoming.next().await? {
                Packet::Publish(publish) => early = Some(Word::of(&publish, &name)),
                Packet::SubAck(answer) => {
                    let refused = answer.return_codes.contains(&SubscribeReasonCode::Failure);
                    return Ok((!refused).then_some(Self {
                        wire,
                        topic,
                        name,
                        early,
                    }));
                }
                // Nothing else is asked here.
                _ => {}
            }
        }
    }

    /// Returns when nobody else holds. Calls `standing_by` when another one does.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn claim(&mut self, mut standing_by: impl FnMut()) -> Result<(), String> {
        let mut free = Instant::now() + SETTLE_TIME;
        loop {
            match timeout_at(free, self.word()).await {
                Ok(Ok(Word::Other(_))) => {
                    standing_by();
                    free = Instant::now() + SILENCE_MAX;
                    continue;
                }
                // It was held by whoever this process was before, or is free since now.
                Ok(Ok(Word::Mine | Word::Nobody)) | Err(_) => {}
                Ok(Err(why)) => return Err(why),
            }
            self.beat()?;
            let settled = Instant::now() + SETTLE_TIME;
            free = loop {
                match timeout_at(settled, self.word()).await {
                    Ok(Ok(Word::Other(other))) if other < self.name => {
                        break Instant::now() + SILENCE_MAX;
                    }
                    Ok(Ok(_)) => {}
                    Ok(Err(why)) => return Err(why),
                    Err(_) => return Ok(()),
                }
            };
            standing_by();
        }
    }

    /// Holds, until another one does or the connection breaks; why.
    pub(super) async fn hold(&mut self) -> String {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let said = tokio::select! {
                _ = beats.tick() => self.beat(),
                word = self.word() => match word {
                    Ok(Word::Other(other)) if other < self.name => {
                        return format!("{other} holds the session");
                    }
                    // Somebody who left has cleared it, or is about to hear who holds.
                    Ok(Word::Nobody | Word::Other(_)) => self.beat(),
                    Ok(Word::Mine) => Ok(()),
                    Err(why) => Err(why),
                },
            };
            if let Err(why) = said {
                return why;
            }
        }
    }

    /// Clears the name when the last copy of this sender has gone.
    pub(super) async fn farewell(&self) -> Sender {
        let clear = Outgoing::Last(Packet::Publish(self.packet("")));
        // A connection that broke is found out by who reads.
        drop(self.wire.sender.send(clear).await);
        self.wire.sender.clone()
    }

    fn packet(&self, name: &str) -> Publish {
        let mut packet = Publish::new(&self.topic, QoS::AtMostOnce, name);
        packet.retain = true;
        packet
    }

    fn beat(&self) -> Result<(), String> {
        let beat = Outgoing::Now(Packet::Publish(self.packet(&self.name)));
        self.wire.sender.try_send(beat).map_err(gone)
    }

    async fn word(&mut self) -> Result<Word, String> {
        if let Some(early) = self.early.take() {
            return Ok(early);
        }
        loop {
            if let Packet::Publish(publish) = self.wire.incoming.next().await? {
                return Ok(Word::of(&publish, &self.name));
            }
        }
    }
}

/// Where the holder of a session says its name. Of a subscription with wildcards it would be no
/// topic to publish to.
fn topic(session: &str) -> String {
    let mut topic = PREFIX.to_owned();
    for c in session.chars() {
        match c {
            '+' => topic.push_str("%2B"),
            '#' => topic.push_str("%23"),
            '%' => topic.push_str("%25"),
            c => topic.push(c),
        }
    }
    topic
}

fn gone<T>(_: T) -> String {
    "the connection broke".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_of_wildcards_have_topics_of_their_own() {
        for (session, wanted) in [
            ("shop-orders/new", "ghostlight/holder/shop-orders/new"),
            ("shop-orders/+/#", "ghostlight/holder/shop-orders/%2B/%23"),
            ("shop-orders/%2B", "ghostlight/holder/shop-orders/%252B"),
        ] {
            assert_eq!(topic(session), wanted);
        }
    }
}
