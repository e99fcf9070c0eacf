//! The connection by which a component publishes: exchanges are declared once, and every event is
//! confirmed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{BasicPublishArguments, Channel, ConfirmSelectArguments};
use amqprs::error::Error;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::PUBLISHES_MAX;
use super::confirms::{Confirms, Fate, Several, Waiting};
use super::link::{self, Link};
use super::options::Options;
use crate::keeper::Dial;
use crate::outcomes::ANSWER_TIME_MAX;

/// How often a connection is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Makes connections that publish.
pub(crate) struct Dialer {
    pub(super) options: Arc<Options>,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Line(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    asked: mpsc::Sender<Asked>,
    confirms: Shared,
    declared: Mutex<BTreeSet<String>>,
}

/// An event on its way.
pub(super) struct Letter {
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) data: Vec<u8>,
    pub(super) properties: BasicProperties,
}

/// An event to publish, and who wants to hear of it.
struct Asked {
    letter: Letter,
    waiting: Waiting,
}

/// Shared with who hears the server.
type Shared = Arc<Mutex<Confirms>>;

fn lock(confirms: &Shared) -> MutexGuard<'_, Confirms> {
    confirms.lock().unwrap_or_else(PoisonError::into_inner)
}

fn taken(ack: &Ack) -> Several {
    match ack.mutiple() {
        true => Several::UpTo,
        false => Several::One,
    }
}

fn refused(nack: &Nack) -> Several {
    match nack.multiple() {
        true => Several::UpTo,
        false => Several::One,
    }
}

/// Hears the server's confirmations.
struct Hears(Shared);

#[async_trait]
impl ChannelCallback for Hears {
    async fn close(&mut self, _: &Channel, close: CloseChannel) -> Result<(), Error> {
        tracing::warn!("RabbitMQ closed the channel of publishes: {close}");
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, Error> {
        Ok(active)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        let (now, number) = (Instant::now(), ack.delivery_tag());
        lock(&self.0).tell(now, number, taken(&ack), &Fate::Taken);
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        let fate = Fate::Refused("RabbitMQ refuses the event: its queue takes no more".to_owned());
        let (now, number) = (Instant::now(), nack.delivery_tag());
        lock(&self.0).tell(now, number, refused(&nack), &fate);
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

impl Line {
    /// Whether it is of use. A server that did not like a word closes the channel alone: that is
    /// the end as well.
    fn is_whole(&self) -> bool {
        self.0.link.is_whole()
    }

    /// Makes sure of an exchange.
    ///
    /// # Errors
    /// The server does not let it be.
    pub(super) async fn declare(&self, exchange: &str, kind: &str) -> Result<(), String> {
        let declared = || {
            self.0
                .declared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if declared().contains(exchange) {
            return Ok(());
        }
        // On a channel of its own: what it says wrong ends no publish.
        let apart = self.0.link.apart().await?;
        apart.declare_exchange(exchange, kind).await?;
        declared().insert(exchange.to_owned());
        Ok(())
    }

    /// Why nothing is to be sent now, if so.
    pub(super) fn refusal(&self) -> Option<String> {
        let now = Instant::now();
        let confirms = lock(&self.0.confirms);
        let silence = confirms.silence(now).filter(|_| !confirms.takes(now))?;
        Some(silent(silence))
    }

    /// Publishes. The event keeps its place until the server has answered, whether its publisher
    /// waits for that or not.
    pub(super) async fn publish(&self, letter: Letter, place: OwnedSemaphorePermit) -> Fate {
        let (fate, told) = oneshot::channel();
        let waiting = Waiting { fate, place };
        // There is room for as many as there are places: else its task has ended.
        if self.0.asked.try_send(Asked { letter, waiting }).is_err() {
            return Fate::Kept;
        }
        match timeout(ANSWER_TIME_MAX, told).await {
            Ok(Ok(fate)) => fate,
            Ok(Err(_)) => Fate::Lost("the connection to RabbitMQ broke".to_owned()),
            Err(_) => Fate::Lost(format!(
                "RabbitMQ did not answer within {ANSWER_TIME_MAX:?}"
            )),
        }
    }
}

fn silent(silence: Duration) -> String {
    format!(
        "RabbitMQ has confirmed nothing for {} s, as with a resource alarm (rabbitmqctl list_alarms?)",
        silence.as_secs()
    )
}

/// Where events leave.
trait Way: Send + Sync + 'static {
    /// Whether it leads anywhere.
    fn is_whole(&self) -> bool;

    /// The next event.
    fn send(&self, letter: Letter) -> impl Future<Output = Result<(), Error>> + Send;
}

impl Way for Link {
    fn is_whole(&self) -> bool {
        Link::is_whole(self)
    }

    async fn send(&self, letter: Letter) -> Result<(), Error> {
        let Letter {
            exchange,
            key,
            data,
            properties,
        } = letter;
        let arguments = BasicPublishArguments::new(&exchange, &key);
        self.channel()
            .basic_publish(properties, data, arguments)
            .await
    }
}

/// Numbers events and sends them, one after the other: numbers are the server's count, so nothing
/// may come between the two. Ends with its line, or with the connection.
async fn send_all(way: Arc<impl Way>, confirms: Shared, mut asks: mpsc::Receiver<Asked>) {
    let mut looks = interval(LOOK_PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while way.is_whole() {
        let asked = tokio::select! {
            asked = asks.recv() => asked,
            _ = looks.tick() => continue,
        };
        let Some(Asked { letter, waiting }) = asked else {
            break;
        };
        lock(&confirms).next(Instant::now(), waiting);
        if let Err(error) = way.send(letter).await {
            tracing::debug!("publishing to RabbitMQ ends: {error}");
            break;
        }
    }
    lock(&confirms).lose();
    asks.close();
    while let Ok(Asked { waiting, .. }) = asks.try_recv() {
        // Its publisher may have left.
        drop(waiting.fate.send(Fate::Kept));
    }
}

impl Dial for Dialer {
    type Connection = Line;

    async fn connect(&self) -> Result<Line, String> {
        let confirms = Arc::new(Mutex::new(Confirms::new(Instant::now())));
        let link = Link::new(&self.options, "publisher", Hears(Arc::clone(&confirms))).await?;
        let confirm = link
            .channel()
            .confirm_select(ConfirmSelectArguments::default());
        link::answered(confirm).await?;
        let link = Arc::new(link);
        let (asked, asks) = mpsc::channel(PUBLISHES_MAX);
        drop(tokio::spawn(send_all(
            Arc::clone(&link),
            Arc::clone(&confirms),
            asks,
        )));
        Ok(Line(Arc::new(Inner {
            link,
            asked,
            confirms,
            declared: Mutex::default(),
        })))
    }

    async fn broken(&self, line: &Line) -> String {
        while line.is_whole() {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        "the connection broke".to_owned()
    }

    fn trouble(&self, line: &Line) -> Option<String> {
        lock(&line.0.confirms).silence(Instant::now()).map(silent)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::{Notify, Semaphore};

    use super::*;

    /// Lets events out one by one, and counts as the server does.
    #[derive(Default)]
    struct Gate {
        sent: Mutex<Vec<Vec<u8>>>,
        waits: Notify,
        open: Notify,
        broken: AtomicBool,
    }

    impl Way for Gate {
        fn is_whole(&self) -> bool {
            !self.broken.load(Ordering::Relaxed)
        }

        async fn send(&self, letter: Letter) -> Result<(), Error> {
            self.waits.notify_one();
            self.open.notified().await;
            self.sent.lock().unwrap().push(letter.data);
            Ok(())
        }
    }

    struct Bed {
        gate: Arc<Gate>,
        confirms: Shared,
        asked: mpsc::Sender<Asked>,
        room: Arc<Semaphore>,
    }

    impl Bed {
        fn new() -> Self {
            let (asked, asks) = mpsc::channel(8);
            let gate = Arc::new(Gate::default());
            let confirms = Arc::new(Mutex::new(Confirms::new(Instant::now())));
            let sending = send_all(Arc::clone(&gate), Arc::clone(&confirms), asks);
            drop(tokio::spawn(sending));
            let room = Arc::new(Semaphore::new(8));
            Self {
                gate,
                confirms,
                asked,
                room,
            }
        }

        fn publish(&self, data: u8) -> oneshot::Receiver<Fate> {
            let (fate, told) = oneshot::channel();
            let place = Arc::clone(&self.room).try_acquire_owned().unwrap();
            let letter = Letter {
                exchange: "orders".to_owned(),
                key: String::new(),
                data: vec![data],
                properties: BasicProperties::default(),
            };
            let waiting = Waiting { fate, place };
            assert!(self.asked.try_send(Asked { letter, waiting }).is_ok());
            told
        }
    }

    /// A publisher that leaves between the number of its event and the sending takes neither away.
    #[tokio::test]
    async fn who_leaves_does_not_shift_the_answers_of_others() {
        let bed = Bed::new();
        let leaving = bed.publish(1);
        bed.gate.waits.notified().await;
        drop(leaving);
        let staying = bed.publish(2);
        for _ in 0..2 {
            bed.gate.open.notify_one();
            bed.gate.waits.notified().await;
            if bed.gate.sent.lock().unwrap().len() == 1 {
                assert_eq!(bed.room.available_permits(), 6, "both keep their places");
                break;
            }
        }
        bed.gate.open.notify_one();
        while bed.gate.sent.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*bed.gate.sent.lock().unwrap(), [[1], [2]]);
        let now = Instant::now();
        let refused = Fate::Refused("full".to_owned());
        lock(&bed.confirms).tell(now, 1, Several::One, &refused);
        lock(&bed.confirms).tell(now, 2, Several::One, &Fate::Taken);
        assert_eq!(staying.await, Ok(Fate::Taken));
        assert_eq!(bed.room.available_permits(), 8);
    }

    #[tokio::test]
    async fn a_broken_connection_tells_what_left_from_what_did_not() {
        let bed = Bed::new();
        let (sent, kept) = (bed.publish(1), bed.publish(2));
        bed.gate.waits.notified().await;
        bed.gate.broken.store(true, Ordering::Relaxed);
        bed.gate.open.notify_one();
        assert!(matches!(sent.await, Ok(Fate::Lost(_))));
        assert_eq!(kept.await, Ok(Fate::Kept));
        assert_eq!(bed.room.available_permits(), 8);
    }
}
