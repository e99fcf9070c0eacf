//! One subscription: a reader with a connection of its own, and the ledger of what is not
//! acknowledged.
//!
//! An event is lent for as long as its session knows no acknowledgement. A session that goes on
//! after its connection broke sends everything again that is held here: that is passed over, so
//! that a slow handler does not get company.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::topic::{Order, TopicName};
use rumqttc::QoS;
use rumqttc::mqttbytes::v4 as mqtt;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, PubComp, PubRec, SubscribeReasonCode};
use tokio::sync::{mpsc, oneshot};

use super::Mqtt;
use super::holder::Holder;
use super::line::Dialer;
use super::options::{Keep, Leaving, Options};
use super::seats::Seat;
use super::wire::{self, Outgoing, Sender, Session, Wire};
use crate::bus::SubscribeError;
use crate::clock::wall_now;
use crate::event::Event;
use crate::external::{External, not_there};
use crate::keeper::Keeper;
use crate::pump::{Again, Bounds, Desk, Out, Over, Room, Taken, begin, doubling, joined};
use crate::subscription::{Content, Subscribe, Subscription};

/// Topics that several sessions share.
const SHARED: &str = "$share/";
/// How long the broker may take to know a subscription.
const JOIN_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause before a connection is made again.
const READ_PAUSE: Duration = Duration::from_millis(300);
/// Metadata of an event: whether the broker kept it for those who come later, and it is older than
/// the subscription.
const RETAINED: &str = "retained";
/// Most events that one subscription holds.
const HELD_MAX: u32 = 1_024;
/// Pauses before redeliveries.
const RESTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Who a subscription is to the broker.
struct Identity {
    /// The session's name: the client's id.
    session: String,
    /// Name of this subscription among those that want the session; `None`: it is this one's alone.
    rival: Option<String>,
}

/// See the module.
pub(super) async fn subscribe(
    bus: &External<Mqtt>,
    subscribe: Subscribe,
    seat: Seat,
    leaving: Leaving,
) -> Result<Subscription, SubscribeError> {
    let options = Arc::clone(&bus.options);
    let keeper = Arc::clone(&bus.keeper);
    let group = subscribe.group.name_on(&options.instance);
    let topic = subscribe.topic.topic();
    let me = format!("{}-{}", options.instance, seat.number);
    let who = match topic.starts_with(SHARED) {
        true => Identity {
            session: format!("{group}-{topic}-{me}"),
            rival: None,
        },
        false => Identity {
            session: format!("{group}-{topic}"),
            rival: Some(me),
        },
    };
    let out = match subscribe.order {
        Order::Partition => Out::OneByOne,
        Order::Key | Order::None => Out::SideBySide(subscribe.credits.events.clamp(1, HELD_MAX)),
    };
    let bounds = Bounds {
        out,
        held: out.most(),
        renewal: None,
        deliver: subscribe.max_deliver,
    };
    let ledger = Arc::new(Ledger::default());
    let (join, outcome) = oneshot::channel();
    let place = Place {
        ledger: Arc::clone(&ledger),
        _seat: seat,
    };
    let subscription = begin(place, bounds, |room, taken| {
        let reader = Reader {
            options,
            keeper,
            who,
            leaving,
            topic: subscribe.topic,
            ledger,
            room,
            taken,
        };
        reader.run(join)
    });
    let known = joined(outcome, JOIN_TIME_MAX).await;
    known.map_err(|why| not_there(format!("the broker does not know the subscription: {why}")))?;
    Ok(subscription)
}

/// An event that the broker lent.
#[derive(Clone)]
pub(super) struct Handle {
    /// Of the session that lent it.
    epoch: u64,
    packet: u16,
    qos: QoS,
    content: Arc<Content>,
}

/// What is not acknowledged, and where acknowledgements go.
#[derive(Default)]
struct Ledger(Mutex<State>);

#[derive(Default)]
struct State {
    epoch: u64,
    session: Option<Sender>,
    /// Kept until this subscription has said all it has to say.
    farewell: Option<Sender>,
    held: BTreeMap<u16, Bytes>,
}

impl Ledger {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn up(&self, session: Session, sender: Sender) {
        self.with(|state| {
            if session == Session::Fresh {
                state.epoch += 1;
                state.held.clear();
            }
            state.session = Some(sender);
        });
    }

    fn down(&self) {
        self.with(|state| state.session = None);
    }

    /// Whether it is here already; else it is from now on.
    fn holds(&self, publish: &mqtt::Publish) -> bool {
        self.with(|state| {
            let known = state.held.get(&publish.pkid);
            let held = publish.dup && known == Some(&publish.payload);
            if !held {
                state.held.insert(publish.pkid, publish.payload.clone());
            }
            held
        })
    }

    fn epoch(&self) -> u64 {
        self.with(|state| state.epoch)
    }

    /// How many of the first ones the broker will hear of.
    fn settle(&self, over: &[Over<Handle>]) -> usize {
        self.with(|state| {
            let told = over.iter().take_while(|Over { handle, .. }| {
                // What another session lent is nothing to this one.
                if handle.epoch != state.epoch || handle.qos == QoS::AtMostOnce {
                    return true;
                }
                let packet = match handle.qos {
                    QoS::ExactlyOnce => Packet::PubRec(PubRec::new(handle.packet)),
                    QoS::AtLeastOnce | QoS::AtMostOnce => {
                        Packet::PubAck(PubAck::new(handle.packet))
                    }
                };
                let session = state.session.as_ref();
                let sent = session.is_some_and(|out| out.try_send(Outgoing::Now(packet)).is_ok());
                if sent {
                    state.held.remove(&handle.packet);
                }
                sent
            });
            told.count()
        })
    }
}

struct Place {
    ledger: Arc<Ledger>,
    _seat: Seat,
}

impl Desk for Place {
    type Handle = Handle;

    async fn settle(&mut self, over: Vec<Over<Handle>>) -> usize {
        self.ledger.settle(&over)
    }

    fn rest(&self, attempt: u32) -> Duration {
        doubling(RESTS.0, RESTS.1, attempt)
    }

    async fn again(&mut self, handle: Handle, attempt: u32) -> Again<Handle> {
        let content = Content {
            attempt: attempt + 1,
            ..(*handle.content).clone()
        };
        Again::Deliver(handle, Box::new(content))
    }

    /// Nothing is lent for a time.
    async fn renew(&mut self, _held: Vec<Handle>) {}

    /// The session keeps what is not acknowledged.
    async fn release(&mut self, _held: Vec<Handle>) {}
}

struct Reader {
    options: Arc<Options>,
    keeper: Arc<Keeper<Dialer>>,
    who: Identity,
    leaving: Leaving,
    topic: TopicName,
    ledger: Arc<Ledger>,
    room: Room,
    taken: mpsc::Sender<Taken<Handle>>,
}

/// Who waits for the subscription to be known.
type Joined = Option<oneshot::Sender<Result<(), String>>>;

fn tell(joined: &mut Joined, outcome: Result<(), String>) {
    if let Some(joined) = joined.take() {
        // Who waited may have left.
        drop(joined.send(outcome));
    }
}

impl Reader {
    /// Reads until it is ended.
    async fn run(self, joined: oneshot::Sender<Result<(), String>>) {
        let mut joined = Some(joined);
        loop {
            self.keeper.connected().await;
            let why = self.round(&mut joined).await.err().unwrap_or_default();
            self.ledger.down();
            tracing::debug!(topic = %self.topic, "reading from MQTT begins again: {why}");
            tell(&mut joined, Err(why));
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    /// Reads until something is wrong.
    async fn round(&self, joined: &mut Joined) -> Result<(), String> {
        let Identity { session, rival } = &self.who;
        let watched = match rival {
            Some(name) => Holder::watch(&self.options, session, name.clone()).await?,
            None => None,
        };
        let Some(mut holder) = watched else {
            if rival.is_some() {
                tracing::warn!(
                    topic = %self.topic,
                    "the broker does not allow topics under ghostlight/holder/: two processes of one group would take \
                     its session from each other"
                );
            }
            return self.read(joined).await;
        };
        // The group is there already: it has a session.
        holder.claim(|| tell(joined, Ok(()))).await?;
        let farewell = holder.farewell().await;
        self.ledger.with(|state| state.farewell = Some(farewell));
        tokio::select! {
            read = self.read(joined) => read,
            why = holder.hold() => Err(why),
        }
    }

    async fn read(&self, joined: &mut Joined) -> Result<(), String> {
        let mut connect = Connect::new(&self.who.session);
        connect.clean_session = self.options.session == Keep::Nothing;
        let Wire {
            sender,
            mut incoming,
            session,
        } = wire::dial(&self.options, connect).await?;
        self.ledger.up(session, sender.clone());
        let mut subscribe = mqtt::Subscribe::new(self.topic.topic(), self.options.qos);
        subscribe.pkid = 1;
        let broken = |_| "the connection broke".to_owned();
        let subscribe = Outgoing::Now(Packet::Subscribe(subscribe));
        sender.send(subscribe).await.map_err(broken)?;
        if self.leaving == Leaving::Unsubscribes {
            let mut leave = mqtt::Unsubscribe::new(self.topic.topic());
            leave.pkid = 2;
            let leave = Outgoing::Last(Packet::Unsubscribe(leave));
            sender.send(leave).await.map_err(broken)?;
        }
        loop {
            match incoming.next().await? {
                Packet::SubAck(answer) => {
                    if answer.return_codes.contains(&SubscribeReasonCode::Failure) {
                        return Err("the broker refuses it".to_owned());
                    }
                    tell(joined, Ok(()));
                }
                Packet::Publish(publish) => {
                    self.take(publish).await;
                    incoming.listen_again();
                }
                Packet::PubRel(release) => {
                    let end = Outgoing::Now(Packet::PubComp(PubComp::new(release.pkid)));
                    sender.send(end).await.map_err(broken)?;
                }
                // Nothing else is asked here.
                _ => {}
            }
        }
    }

    /// Where it was published, which the subscription may not say.
    fn topic_of(&self, publish: &mqtt::Publish) -> TopicName {
        let topic = TopicName::new(self.topic.namespace(), self.topic.pubsub(), &publish.topic);
        // A topic may be longer than those here.
        topic.unwrap_or_else(|_| self.topic.clone())
    }

    async fn take(&self, publish: mqtt::Publish) {
        if publish.qos != QoS::AtMostOnce && self.ledger.holds(&publish) {
            return;
        }
        let Ok(place) = Arc::clone(&self.room).acquire_owned().await else {
            // Never closed.
            return;
        };
        let content = Content {
            topic: self.topic_of(&publish),
            partition: 0,
            offset: publish.pkid.into(),
            attempt: if publish.dup { 2 } else { 1 },
            published: wall_now(),
            event: Event {
                attributes: BTreeMap::from([(RETAINED.to_owned(), publish.retain.to_string())]),
                data: publish.payload,
                ..Event::default()
            },
        };
        let handle = Handle {
            epoch: self.ledger.epoch(),
            packet: publish.pkid,
            qos: publish.qos,
            content: Arc::new(content.clone()),
        };
        let taken = Taken {
            handle,
            content,
            place,
        };
        // There is room for as many as there are places; a pump that has gone ends this task.
        drop(self.taken.send(taken).await);
    }
}
