//! The connection by which a component publishes: exchanges are declared once, and every event is confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{BasicPublishArguments, Channel, ConfirmSelectArguments};
use amqprs::error::Error;
use amqprs::{Ack, BasicProperties, Cancel, CloseChannel, Nack, Return};
use async_trait::async_trait;
use tokio::sync::oneshot;

use super::link::{self, Link};
use super::options::Options;
use crate::keeper::Dial;

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
    link: Link,
    /// One publish after the other: numbers are the server's count.
    turn: tokio::sync::Mutex<()>,
    confirms: Arc<Confirms>,
    declared: Mutex<BTreeSet<String>>,
}

/// What became of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The server has it.
    Taken,
    /// The server says that it has not.
    Refused(String),
    /// It never left: the connection is broken.
    Kept,
    /// Nobody can tell.
    Lost(String),
}

/// Who waits for which number.
#[derive(Default)]
struct Confirms(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Number of the last event on the channel.
    last: u64,
    by_number: BTreeMap<u64, oneshot::Sender<Fate>>,
}

impl Confirms {
    fn with<T>(&self, work: impl FnOnce(&mut Waiting) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn next(&self) -> (u64, oneshot::Receiver<Fate>) {
        let (sender, fate) = oneshot::channel();
        let number = self.with(|waiting| {
            waiting.last += 1;
            waiting.by_number.insert(waiting.last, sender);
            waiting.last
        });
        (number, fate)
    }

    /// One number, or all up to it.
    fn tell(&self, number: u64, several: Several, fate: &Fate) {
        let told = self.with(|waiting| match several {
            Several::One => waiting.by_number.remove(&number).into_iter().collect(),
            Several::UpTo => {
                let later = waiting.by_number.split_off(&(number + 1));
                let told = std::mem::replace(&mut waiting.by_number, later);
                told.into_values().collect::<Vec<_>>()
            }
        });
        for waiting in told {
            // Its publisher may have left.
            drop(waiting.send(fate.clone()));
        }
    }
}

/// How many events an answer is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Several {
    One,
    UpTo,
}

impl Several {
    fn of(ack: &Ack) -> Self {
        match ack.mutiple() {
            true => Self::UpTo,
            false => Self::One,
        }
    }

    fn refused(nack: &Nack) -> Self {
        match nack.multiple() {
            true => Self::UpTo,
            false => Self::One,
        }
    }
}

/// Hears the server's confirmations.
struct Hears(Arc<Confirms>);

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
        self.0
            .tell(ack.delivery_tag(), Several::of(&ack), &Fate::Taken);
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        let fate = Fate::Refused("RabbitMQ refuses the event: its queue takes no more".to_owned());
        self.0
            .tell(nack.delivery_tag(), Several::refused(&nack), &fate);
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}

impl Line {
    /// Whether it is of use. A server that did not like a word closes the channel alone: that is the end as well.
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

    pub(super) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        data: Vec<u8>,
        properties: BasicProperties,
    ) -> Fate {
        if !self.is_whole() {
            return Fate::Kept;
        }
        let fate = {
            let _turn = self.0.turn.lock().await;
            let (_, fate) = self.0.confirms.next();
            let arguments = BasicPublishArguments::new(exchange, key);
            let channel = self.0.link.channel();
            if let Err(error) = channel.basic_publish(properties, data, arguments).await {
                return Fate::Lost(error.to_string());
            }
            fate
        };
        let broken = async {
            while self.is_whole() {
                tokio::time::sleep(LOOK_PERIOD).await;
            }
        };
        tokio::select! {
            biased;
            fate = fate => fate.unwrap_or_else(|_| Fate::Lost("nobody answers".to_owned())),
            () = broken => Fate::Lost("the connection to RabbitMQ broke".to_owned()),
        }
    }
}

impl Dial for Dialer {
    type Connection = Line;

    async fn connect(&self) -> Result<Line, String> {
        let confirms = Arc::new(Confirms::default());
        let link = Link::new(&self.options, "publisher", Hears(Arc::clone(&confirms))).await?;
        let confirm = link
            .channel()
            .confirm_select(ConfirmSelectArguments::default());
        link::answered(confirm).await?;
        Ok(Line(Arc::new(Inner {
            link,
            turn: tokio::sync::Mutex::default(),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_are_told_one_by_one_or_up_to_a_number() {
        let confirms = Confirms::default();
        let mut fates: Vec<_> = (0..4).map(|_| confirms.next().1).collect();
        confirms.tell(2, Several::One, &Fate::Taken);
        let refused = Fate::Refused("full".to_owned());
        confirms.tell(3, Several::UpTo, &refused);
        let told: Vec<_> = fates.iter_mut().map(|fate| fate.try_recv().ok()).collect();
        let wanted = [
            Some(refused.clone()),
            Some(Fate::Taken),
            Some(refused),
            None,
        ];
        assert_eq!(told, wanted);
    }
}
