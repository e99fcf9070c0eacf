//! A member of a group: a thread that reads, commits, and hears which partitions it has.
//!
//! The thread polls all the time, also while handlers take theirs: a member that does not is taken
//! for dead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ghostlight_protocol::topic::TopicName;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::{mpsc, oneshot};

use super::ledger::{Flow, Handle, Ledger};
use super::options::{Begin, Headers};
use super::producer::log;
use super::words;
use crate::pump::{Room, Taken};

/// How long a poll waits for an event, and how often commits are sent.
const POLL: Duration = Duration::from_millis(100);
/// The same while a partition rests.
const POLL_RESTING: Duration = Duration::from_millis(5);
/// Events that are read between two looks at anything else.
const READS_MAX: usize = 256;
/// How long brokers may take to tell where a group stands.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a partition that others are to have is kept for what is handled of it: the whole group
/// waits meanwhile.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(60);
/// How often it is seen whether that is over.
const LEAVE_LOOK: Duration = Duration::from_millis(5);
/// A group that has committed everywhere exists, even if it shares its partitions out anew for
/// longer than this.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);
/// Pause before a member begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// What the thread and those who hear verdicts share.
pub(super) struct Shelf {
    ledger: Mutex<Ledger>,
    outlet: OnceLock<(Room, mpsc::Sender<Taken<Handle>>)>,
    over: AtomicBool,
}

impl Shelf {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger: Mutex::new(ledger),
            outlet: OnceLock::new(),
            over: AtomicBool::new(false),
        }
    }

    /// Where events go.
    pub(super) fn open(&self, room: Room, taken: mpsc::Sender<Taken<Handle>>) {
        // Set once: a subscription begins once.
        drop(self.outlet.set((room, taken)));
    }

    /// The member leaves.
    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out what may be, as far as there is room.
    pub(super) fn hand_out(&self) {
        let Some((room, taken)) = self.outlet.get() else {
            return;
        };
        let mut ledger = self.ledger();
        // One of each partition in turn, so that none starves beside a busy one.
        loop {
            let ready = ledger.ready();
            if ready.is_empty() {
                return;
            }
            for partition in ready {
                let Ok(place) = Arc::clone(room).try_acquire_owned() else {
                    return;
                };
                let Some(handle) = ledger.take(partition) else {
                    continue;
                };
                let content = (*handle.content).clone();
                // There is room in the queue for as many as there are places; who has gone wants
                // none.
                drop(taken.try_send(Taken {
                    handle,
                    content,
                    place,
                }));
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// One member.
pub(super) struct Member {
    pub(super) shelf: Arc<Shelf>,
    pub(super) client: ClientConfig,
    pub(super) topic: TopicName,
    pub(super) begin: Begin,
    pub(super) headers: Headers,
}

/// Told once, when the group knows the member.
pub(super) type Joined = oneshot::Sender<Result<(), String>>;

/// What librdkafka calls in the member's thread, while it polls.
struct Context {
    shelf: Arc<Shelf>,
    begin: Begin,
    joined: Arc<Mutex<Option<Joined>>>,
    /// Where the group stands could not be learned: the member begins again.
    lost: AtomicBool,
}

impl Member {
    /// Reads until the shelf is closed.
    pub(super) fn run(&self, joined: Joined) {
        let joined = Arc::new(Mutex::new(Some(joined)));
        while !self.shelf.is_over() {
            if let Err(why) = self.read(&joined) {
                tracing::warn!(topic = %self.topic, "reading from Kafka begins again: {why}");
                let mut joined = joined.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(joined) = joined.take() {
                    // Who waited may have left.
                    drop(joined.send(Err(why)));
                }
                drop(joined);
                thread::sleep(PAUSE);
            }
        }
    }

    fn read(&self, joined: &Arc<Mutex<Option<Joined>>>) -> Result<(), String> {
        let context = Context {
            shelf: Arc::clone(&self.shelf),
            begin: self.begin,
            joined: Arc::clone(joined),
            lost: AtomicBool::new(false),
        };
        let consumer: BaseConsumer<Context> = self
            .client
            .create_with_context(context)
            .map_err(|error| error.to_string())?;
        // Asked for by name, a topic that is missing is made, where the brokers allow that.
        let exists = self.exists(&consumer).map_err(|error| error.to_string())?;
        let subscribed = consumer.subscribe(&[self.topic.topic()]);
        subscribed.map_err(|error| error.to_string())?;
        // Its end revokes its partitions, which commits once more.
        let began = Instant::now();
        while !self.shelf.is_over() {
            self.step(&consumer)?;
            if exists && began.elapsed() >= JOIN_PATIENCE {
                consumer.context().tell_joined();
            }
        }
        Ok(())
    }

    /// Whether the group has committed in every partition of its topic.
    fn exists(&self, consumer: &BaseConsumer<Context>) -> KafkaResult<bool> {
        let topic = self.topic.topic();
        let known = consumer.fetch_metadata(Some(topic), ANSWER_TIME_MAX)?;
        let mut all = TopicPartitionList::new();
        let partitions = known.topics().iter().flat_map(|topic| topic.partitions());
        for partition in partitions {
            all.add_partition(topic, partition.id());
        }
        if all.count() == 0 {
            return Ok(false);
        }
        let committed = consumer.committed_offsets(all, ANSWER_TIME_MAX)?;
        let committed = committed.elements();
        Ok(committed
            .iter()
            .all(|one| matches!(one.offset(), Offset::Offset(_))))
    }

    fn step(&self, consumer: &BaseConsumer<Context>) -> Result<(), String> {
        let mut wait = match self.shelf.ledger().rests() {
            true => POLL_RESTING,
            false => POLL,
        };
        for _ in 0..READS_MAX {
            let Some(polled) = consumer.poll(wait) else {
                break;
            };
            wait = Duration::ZERO;
            match polled {
                Ok(record) => {
                    let content = words::content(&self.topic, &record, self.headers);
                    let mut ledger = self.shelf.ledger();
                    ledger.read(record.partition(), record.offset(), content);
                }
                Err(KafkaError::MessageConsumptionFatal(code)) => return Err(code.to_string()),
                Err(error) => tracing::debug!(topic = %self.topic, "Kafka's client: {error}"),
            }
        }
        if consumer.context().lost.load(Ordering::Relaxed) {
            return Err("where the group stands cannot be learned".to_owned());
        }
        self.shelf.hand_out();
        self.direct(consumer)?;
        consumer.context().commit(consumer, self.topic.topic());
        Ok(())
    }

    /// Lets partitions rest, and go on.
    fn direct(&self, consumer: &BaseConsumer<Context>) -> Result<(), String> {
        let (mut rest, mut go_on) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (partition, flow) in self.shelf.ledger().flow() {
            let list = match flow {
                Flow::Rest => &mut rest,
                Flow::GoOn => &mut go_on,
            };
            list.add_partition(self.topic.topic(), partition);
        }
        if rest.count() > 0 {
            consumer.pause(&rest).map_err(|error| error.to_string())?;
        }
        if go_on.count() > 0 {
            consumer.resume(&go_on).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Context {
    /// Tells Kafka what is over. What is refused, as while the group is shared out anew, is said
    /// again with the next one.
    fn commit(&self, consumer: &BaseConsumer<Self>, topic: &str) {
        let due = self.shelf.ledger().due();
        let Some(offsets) = list(topic, &due) else {
            return;
        };
        if let Err(error) = consumer.commit(&offsets, CommitMode::Sync) {
            tracing::debug!(topic, "a commit to Kafka failed: {error}");
            return;
        }
        let mut ledger = self.shelf.ledger();
        for (partition, offset) in due {
            ledger.committed(partition, offset);
        }
    }

    /// Where this member begins in partitions that it got. Where the group has committed nothing it
    /// does so now.
    fn begins(
        &self,
        consumer: &BaseConsumer<Self>,
        given: &TopicPartitionList,
    ) -> KafkaResult<TopicPartitionList> {
        let starts = consumer.committed_offsets(given.clone(), ANSWER_TIME_MAX)?;
        // What is published to a partition that appears after the subscriber was told that it is
        // one is for it.
        let begin = match self.has_joined() {
            true => Begin::Oldest,
            false => self.begin,
        };
        let mut fresh = TopicPartitionList::new();
        for mut partition in starts.elements() {
            partition.error()?;
            if let Offset::Offset(_) = partition.offset() {
                continue;
            }
            let (topic, number) = (partition.topic(), partition.partition());
            let (oldest, newest) = consumer.fetch_watermarks(topic, number, ANSWER_TIME_MAX)?;
            let begin = Offset::Offset(match begin {
                Begin::Oldest => oldest,
                Begin::Newest => newest,
            });
            fresh.add_partition_offset(topic, number, begin)?;
            partition.set_offset(begin)?;
        }
        if fresh.count() > 0 {
            consumer.commit(&fresh, CommitMode::Sync)?;
        }
        Ok(starts)
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, given: &TopicPartitionList) {
        let begun = match given.count() {
            0 => Ok(given.clone()),
            _ => self.begins(consumer, given),
        };
        let begun = begun.and_then(|begun| {
            let mut ledger = self.shelf.ledger();
            for partition in begun.elements() {
                if let Offset::Offset(from) = partition.offset() {
                    ledger.assign(partition.partition(), from);
                }
            }
            drop(ledger);
            if begun.count() > 0 {
                // In the client a rest outlives an assignment; the ledger's partitions begin
                // without one.
                consumer.resume(&begun)?;
            }
            consumer.assign(&begun)
        });
        if let Err(error) = begun {
            tracing::warn!("a group of Kafka cannot be joined: {error}");
            let mut ledger = self.shelf.ledger();
            for partition in given.elements() {
                ledger.revoke(partition.partition());
            }
            drop(ledger);
            self.lost.store(true, Ordering::Relaxed);
            drop(consumer.unassign());
            return;
        }
        self.tell_joined();
    }

    fn has_joined(&self) -> bool {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined.is_none()
    }

    fn tell_joined(&self) {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(joined) = joined.take() {
            // Who waited may have left.
            drop(joined.send(Ok(())));
        }
    }

    /// Others get partitions: what is handled of them is waited for, so that nobody else handles it
    /// meanwhile.
    fn finish_work(&self, given: &TopicPartitionList) {
        let partitions: Vec<i32> = given.elements().iter().map(|one| one.partition()).collect();
        let mut ledger = self.shelf.ledger();
        for partition in &partitions {
            ledger.leave(*partition);
        }
        drop(ledger);
        let began = Instant::now();
        let is_at_work = || {
            let ledger = self.shelf.ledger();
            partitions
                .iter()
                .any(|partition| ledger.is_at_work(*partition))
        };
        while is_at_work() && !self.shelf.is_over() && began.elapsed() < LEAVE_TIME_MAX {
            thread::sleep(LEAVE_LOOK);
        }
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, given: &TopicPartitionList) {
        self.finish_work(given);
        let topic = given.elements().first().map(|one| one.topic().to_owned());
        if let Some(topic) = topic {
            // What is refused now comes again, elsewhere.
            self.commit(consumer, &topic);
        }
        let mut ledger = self.shelf.ledger();
        for partition in given.elements() {
            ledger.revoke(partition.partition());
        }
        drop(ledger);
        drop(consumer.unassign());
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("Kafka's client: {error}: {reason}");
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        log(facility, message);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        given: &mut TopicPartitionList,
    ) {
        match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, given),
            _ => self.revoked(consumer, given),
        }
    }
}

/// Offsets as the client wants them; `None`: there are none.
fn list(topic: &str, offsets: &[(i32, i64)]) -> Option<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
        added.ok()?;
    }
    (list.count() > 0).then_some(list)
}
