//! One subscription: a reader with a connection of its own, and the desk where verdicts are told.
//!
//! The reader takes what is new, and now and then what dead processes held. Both come through the
//! same places, so that no more than `queueDepth` entries are held here.

use std::sync::Arc;
use std::time::Duration;

use ghostlight_protocol::topic::{Order, TopicName};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamClaimReply, StreamId, StreamPendingCountReply, StreamReadReply};
use redis::{Cmd, RedisError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::dial::Dialer;
use super::held::Held;
use super::options::Options;
use super::{Redis, ask, words};
use crate::bus::SubscribeError;
use crate::external::{External, not_there};
use crate::keeper::{Keeper, PAUSES};
use crate::pump::{Again, Bounds, Desk, Out, Over, Room, Taken, begin, places};
use crate::subscription::{Start, Subscribe, Subscription};

/// How long a read waits at the server; a subscriber that leaves is noticed at once all the same.
const BLOCK: Duration = Duration::from_secs(2);
/// Pause after an answer that makes no sense of reading on at once.
const READ_PAUSE: Duration = Duration::from_millis(500);
/// Leases are renewed so many times before they would end.
const RENEWALS: u32 = 3;

/// One group on one stream.
#[derive(Clone)]
struct Place {
    keeper: Arc<Keeper<Dialer>>,
    options: Arc<Options>,
    topic: TopicName,
    group: String,
    /// Where a new group begins, in Redis' words.
    start: String,
    held: Held,
}

/// See the module.
pub(super) async fn subscribe(
    bus: &External<Redis>,
    subscribe: Subscribe,
) -> Result<Subscription, SubscribeError> {
    let place = Place {
        keeper: Arc::clone(&bus.keeper),
        group: subscribe.group.name_on(&bus.options.instance),
        options: Arc::clone(&bus.options),
        start: match subscribe.start {
            Start::First => "0".to_owned(),
            Start::Last => "$".to_owned(),
            // The last entry that is not wanted: groups begin after it.
            Start::Time(time) => format!("{}-{}", time.0.saturating_sub(1), u64::MAX),
        },
        topic: subscribe.topic,
        held: Held::default(),
    };
    let connection = bus.connection().await?;
    place.make(connection).await.map_err(|error| {
        not_there(format!(
            "Redis makes no group {} of {}: {error}",
            place.group,
            place.topic.topic()
        ))
    })?;
    let bounds = Bounds {
        out: match subscribe.order {
            Order::Partition => Out::OneByOne,
            Order::Key | Order::None => Out::SideBySide(
                place
                    .options
                    .concurrency
                    .min(subscribe.credits.events)
                    .max(1),
            ),
        },
        held: place.options.queue_depth,
        renewal: Some(place.renewal()).filter(|time| !time.is_zero()),
        deliver: subscribe.max_deliver,
    };
    Ok(place.begin(bounds))
}

impl Place {
    fn begin(self, bounds: Bounds) -> Subscription {
        let place = self.clone();
        begin(self, bounds, |room, taken| {
            let reader = Reader { place, room, taken };
            reader.run()
        })
    }

    fn key(&self) -> &str {
        self.topic.topic()
    }

    /// How often leases are renewed.
    fn renewal(&self) -> Duration {
        self.options.processing_timeout / RENEWALS
    }

    /// `XCLAIM` by who has it: it counts as just delivered, and not as delivered once more.
    fn renewing(&self, held: &[String]) -> Cmd {
        let mut renew = self.claim(Duration::ZERO, held);
        renew.arg("JUSTID");
        renew
    }

    /// Makes the group, and the stream with it; one that is there goes on where it stands.
    async fn make(&self, mut connection: MultiplexedConnection) -> Result<(), RedisError> {
        let mut make = redis::cmd("XGROUP");
        make.arg("CREATE")
            .arg(self.key())
            .arg(&self.group)
            .arg(&self.start)
            .arg("MKSTREAM");
        match make.query_async(&mut connection).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            made => made,
        }
    }

    /// `XCLAIM` of entries by this group's consumer, so far.
    fn claim(&self, idle: Duration, ids: &[String]) -> Cmd {
        let mut claim = redis::cmd("XCLAIM");
        claim
            .arg(self.key())
            .arg(&self.group)
            .arg(&self.group)
            .arg(millis(idle))
            .arg(ids);
        claim
    }
}

impl Desk for Place {
    type Handle = String;

    async fn settle(&mut self, over: Vec<Over<String>>) -> usize {
        // A stream has one way to be over.
        let over: Vec<_> = over.into_iter().map(|over| over.handle).collect();
        let Ok(kept) = self.keeper.kept().await else {
            return 0;
        };
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(self.key()).arg(&self.group).arg(&over);
        match ask::<u64>(&self.keeper, kept, &acknowledge).await {
            Ok(_) => {
                self.held.let_go(&over);
                over.len()
            }
            // Told again: an acknowledgement is as good twice.
            Err(_) => 0,
        }
    }

    fn rest(&self, _attempt: u32) -> Duration {
        self.options.redeliver_interval
    }

    async fn again(&mut self, id: String, attempt: u32) -> Again<String> {
        let Ok(kept) = self.keeper.kept().await else {
            return Again::Later(id);
        };
        let claim = self.claim(Duration::ZERO, std::slice::from_ref(&id));
        match ask::<StreamClaimReply>(&self.keeper, kept, &claim).await {
            Ok(mut claimed) => match claimed.ids.pop() {
                Some(entry) => {
                    let content = words::content(&self.topic, &entry.id, &entry.map, attempt + 1);
                    Again::Deliver(entry.id, Box::new(content))
                }
                // Acknowledged elsewhere, or gone from the stream.
                None => {
                    self.held.let_go([&id]);
                    Again::GivenBack
                }
            },
            Err(_) => Again::Later(id),
        }
    }

    async fn renew(&mut self, held: Vec<String>) {
        let Ok(kept) = self.keeper.kept().await else {
            return;
        };
        let renew = self.renewing(&held);
        if let Err(error) = ask::<Vec<String>>(&self.keeper, kept, &renew).await {
            tracing::warn!(topic = %self.topic, "leases could not be renewed: {error}");
        }
    }

    async fn release(&mut self, held: Vec<String>) {
        let Ok(kept) = self.keeper.kept().await else {
            return;
        };
        // As if their process had died long ago.
        let mut give = self.claim(Duration::ZERO, &held);
        give.arg("IDLE")
            .arg(millis(self.options.processing_timeout))
            .arg("JUSTID");
        if let Err(error) = ask::<Vec<String>>(&self.keeper, kept, &give).await {
            tracing::debug!(topic = %self.topic, "held entries wait for their lease to end: {error}");
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

struct Reader {
    place: Place,
    room: Room,
    taken: mpsc::Sender<Taken<String>>,
}

impl Reader {
    /// Reads until it is ended.
    async fn run(self) {
        let mut broke = false;
        loop {
            // A server that is there; a connection of its own to it.
            self.place.keeper.connected().await;
            let block = BLOCK.min(
                self.place
                    .options
                    .redeliver_interval
                    .max(Duration::from_millis(10)),
            );
            let made = self.place.keeper.dial().apart(block).await;
            let why = match made {
                Ok(connection) => {
                    // Where the server was away, leases have ended with that, and not with their
                    // processes: each has time to come back, and to renew what it holds. A process
                    // that starts in just that moment knows nothing of it, and may take what others
                    // hold: it is delivered twice then.
                    let patience = match broke || self.place.keeper.was_away() {
                        true => self.place.renewal().max(PAUSES.1),
                        false => Duration::ZERO,
                    };
                    self.read(connection, block, patience).await
                }
                Err(why) => why,
            };
            broke = true;
            tracing::debug!(topic = %self.place.topic, "reading from Redis begins again: {why}");
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    /// Reads until something is wrong; `patience`: before it looks for what dead processes held.
    async fn read(
        &self,
        connection: MultiplexedConnection,
        block: Duration,
        patience: Duration,
    ) -> String {
        // Made again where the server came back without it.
        if let Err(error) = self.place.make(connection.clone()).await {
            return error.to_string();
        }
        if let Err(error) = self.renew(&connection).await {
            return error.to_string();
        }
        let mut next_look = Instant::now() + patience;
        loop {
            let step = async {
                if self.reclaims() && next_look <= Instant::now() {
                    self.reclaim(&connection).await?;
                    next_look = Instant::now() + self.place.options.redeliver_interval;
                }
                self.take_new(&connection, block).await
            };
            if let Err(error) = step.await {
                return error.to_string();
            }
        }
    }

    /// What is held here could not be renewed while there was no connection.
    async fn renew(&self, connection: &MultiplexedConnection) -> Result<(), RedisError> {
        let held = self.place.held.all();
        if held.is_empty() {
            return Ok(());
        }
        let mut connection = connection.clone();
        let renew = self.place.renewing(&held);
        renew.query_async(&mut connection).await
    }

    fn reclaims(&self) -> bool {
        let options = &self.place.options;
        !options.processing_timeout.is_zero() && !options.redeliver_interval.is_zero()
    }

    async fn take_new(
        &self,
        connection: &MultiplexedConnection,
        block: Duration,
    ) -> Result<(), RedisError> {
        let Place { group, .. } = &self.place;
        let places = places(&self.room).await;
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(group)
            .arg(group)
            .arg("COUNT")
            .arg(places.len());
        read.arg("BLOCK")
            .arg(millis(block))
            .arg("STREAMS")
            .arg(self.place.key())
            .arg(">");
        let mut connection = connection.clone();
        let said: Option<StreamReadReply> = read.query_async(&mut connection).await?;
        let entries = said
            .into_iter()
            .flat_map(|said| said.keys)
            .flat_map(|key| key.ids);
        self.hand_over(entries.map(|entry| (entry, 1)), places)
            .await;
        Ok(())
    }

    /// Takes over what nobody has renewed.
    async fn reclaim(&self, connection: &MultiplexedConnection) -> Result<(), RedisError> {
        let timeout = self.place.options.processing_timeout;
        let places = places(&self.room).await;
        let mut pending = redis::cmd("XPENDING");
        pending
            .arg(self.place.key())
            .arg(&self.place.group)
            .arg("IDLE")
            .arg(millis(timeout));
        // What is held here may be among the first ones.
        let most = places.len() + self.place.held.count();
        pending.arg("-").arg("+").arg(most);
        let mut connection = connection.clone();
        let pending: StreamPendingCountReply = pending.query_async(&mut connection).await?;
        let dead = pending.ids.iter().map(|one| one.id.clone());
        let dead = dead.filter(|id| !self.place.held.has(id));
        let ids: Vec<_> = dead.take(places.len()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let claim = self.place.claim(timeout, &ids);
        let claimed: StreamClaimReply = claim.query_async(&mut connection).await?;
        let entries = claimed.ids.into_iter().map(|entry| {
            let known = pending.ids.iter().find(|one| one.id == entry.id);
            let times = known.map_or(1, |one| one.times_delivered);
            (
                entry,
                u32::try_from(times).unwrap_or(u32::MAX).saturating_add(1),
            )
        });
        self.hand_over(entries, places).await;
        Ok(())
    }

    async fn hand_over(
        &self,
        entries: impl Iterator<Item = (StreamId, u32)>,
        places: Vec<OwnedSemaphorePermit>,
    ) {
        // Redis gives no more than was asked for.
        for ((entry, attempt), place) in entries.zip(places) {
            if !self.place.held.take(&entry.id) {
                continue;
            }
            let content = words::content(&self.place.topic, &entry.id, &entry.map, attempt);
            let handle = entry.id;
            let taken = Taken {
                handle,
                content,
                place,
            };
            // There is room for as many as there are places; a pump that has gone ends this task.
            drop(self.taken.send(taken).await);
        }
    }
}
