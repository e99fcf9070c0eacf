//! The connection by which a component publishes: which event the broker has taken, packet by
//! packet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubRel, Publish};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::options::Options;
use super::wire::{self, Outgoing, Sender, Wire};
use crate::keeper::Dial;
use crate::outcomes::ANSWER_TIME_MAX;

/// Events on their way to the broker of one component; more are refused.
pub(super) const PUBLISHES_MAX: u16 = 4_096;

/// See the module.
pub(crate) struct Dialer {
    pub(super) options: Arc<Options>,
    /// Who publishes.
    pub(super) name: String,
}

/// Connections of this process so far: a broker gives up the older one of two with one name.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// The way to one connection.
#[derive(Clone)]
pub(crate) struct Line {
    asked: mpsc::Sender<Asked>,
    gone: watch::Receiver<()>,
}

/// An event to publish, and who wants to hear of it.
struct Asked {
    publish: Publish,
    taken: oneshot::Sender<()>,
}

/// What became of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The broker has it. At `qos` 0: it was handed to the network.
    Taken,
    /// It never left.
    Kept,
    /// Nobody can tell.
    Lost(String),
}

impl Line {
    pub(super) async fn publish(&self, publish: Publish) -> Fate {
        let (taken, outcome) = oneshot::channel();
        if self.asked.send(Asked { publish, taken }).await.is_err() {
            return Fate::Kept;
        }
        match timeout(ANSWER_TIME_MAX, outcome).await {
            Ok(Ok(())) => Fate::Taken,
            Ok(Err(_)) => {
                Fate::Lost("the connection to the broker broke before it answered".to_owned())
            }
            Err(_) => Fate::Lost(format!(
                "the broker did not answer within {ANSWER_TIME_MAX:?}"
            )),
        }
    }
}

impl Dial for Dialer {
    type Connection = Line;

    async fn connect(&self) -> Result<Line, String> {
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let connect = Connect::new(format!("{}-{process}-{number}", self.name));
        let wire = wire::dial(&self.options, connect).await?;
        let (asked, asks) = mpsc::channel(PUBLISHES_MAX.into());
        let (alive, gone) = watch::channel(());
        // Ends with its line, or with the connection.
        drop(tokio::spawn(async move {
            let why = Publisher::default().run(wire, asks).await;
            tracing::debug!("publishing by MQTT ends: {why}");
            drop(alive);
        }));
        Ok(Line { asked, gone })
    }

    async fn broken(&self, line: &Line) -> String {
        let mut gone = line.gone.clone();
        while gone.changed().await.is_ok() {}
        "the connection broke".to_owned()
    }
}

/// What the broker has not confirmed.
#[derive(Default)]
struct Publisher {
    pending: BTreeMap<u16, oneshot::Sender<()>>,
    last: u16,
}

impl Publisher {
    async fn run(mut self, wire: Wire, mut asks: mpsc::Receiver<Asked>) -> String {
        let Wire {
            sender,
            mut incoming,
            ..
        } = wire;
        loop {
            let room = self.pending.len() < usize::from(PUBLISHES_MAX);
            let done = tokio::select! {
                ask = asks.recv(), if room => match ask {
                    Some(ask) => self.send(ask, &sender),
                    None => return "its component has gone".to_owned(),
                },
                packet = incoming.next() => match packet {
                    Ok(packet) => self.hear(packet, &sender),
                    Err(why) => return why,
                },
            };
            if !done {
                return "the broker does not read".to_owned();
            }
        }
    }

    /// Whether it could be handed over.
    fn send(&mut self, Asked { mut publish, taken }: Asked, sender: &Sender) -> bool {
        if publish.qos == QoS::AtMostOnce {
            let sent = sender.try_send(Outgoing::Now(Packet::Publish(publish)));
            if sent.is_ok() {
                // Its publisher may have left.
                taken.send(()).ok();
            }
            return sent.is_ok();
        }
        publish.pkid = self.free();
        self.pending.insert(publish.pkid, taken);
        sender
            .try_send(Outgoing::Now(Packet::Publish(publish)))
            .is_ok()
    }

    /// A number that nothing under way has. There is one: no more are under way than a fraction of
    /// all numbers.
    fn free(&mut self) -> u16 {
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.pending.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn hear(&mut self, packet: Packet, sender: &Sender) -> bool {
        let over = match packet {
            Packet::PubAck(ack) => ack.pkid,
            Packet::PubComp(end) => end.pkid,
            Packet::PubRec(received) => {
                let release = Packet::PubRel(PubRel::new(received.pkid));
                return sender.try_send(Outgoing::Now(release)).is_ok();
            }
            // Nobody subscribes here.
            _ => return true,
        };
        if let Some(taken) = self.pending.remove(&over) {
            // Its publisher may have left.
            taken.send(()).ok();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::mqttbytes::v4::PubAck;

    use super::*;

    #[test]
    fn each_event_is_told_of_by_its_own_number() {
        let (sender, mut out) = mpsc::channel(8);
        let mut publisher = Publisher {
            last: u16::MAX - 1,
            ..Publisher::default()
        };
        let mut fates = Vec::new();
        for _ in 0..3 {
            let (taken, fate) = oneshot::channel();
            let publish = Publish::new("orders", QoS::AtLeastOnce, "x");
            assert!(publisher.send(Asked { publish, taken }, &sender));
            fates.push(fate);
        }
        let mut numbers = Vec::new();
        while let Ok(Outgoing::Now(Packet::Publish(publish))) = out.try_recv() {
            numbers.push(publish.pkid);
        }
        // Zero is no number.
        assert_eq!(numbers, [u16::MAX, 1, 2]);
        assert!(publisher.hear(Packet::PubAck(PubAck::new(1)), &sender));
        drop(publisher);
        let told: Vec<_> = fates
            .iter_mut()
            .map(|fate| fate.try_recv().is_ok())
            .collect();
        assert_eq!(told, [false, true, false]);
    }
}
