//! One process of an application: what is under way in it, and how it is reached.
//!
//! Every connection of an instance ends in its process (`docs/decisions/0007`). Where processes can
//! be told apart, a new connection is looked at before anything is sent over it; where they cannot,
//! a connection is kept open, and new ones count only while it is. Absent: when an instance begins
//! and ends (`keeper`, `watch`, `stream`).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ghostlight_protocol::actor::ActorKey;
use tokio::sync::{Semaphore, mpsc, watch};

use super::connection::{self, Carries, ExchangeError, Exchanged, Line, OpenError, Outgoing};
use super::memory::Memory;
use super::owner::{End, Image};
use super::pool::Pool;
use super::registrar::Registrar;
use super::settings::{AppAddress, AppSettings};
use super::stream::StreamLine;
use super::{
    AppAnswer, AppRequest, Callback, DEACTIVATE_TIME_MAX, InstanceId, Post, callback, lock,
};

/// Requests under way in one instance; more are refused. A nested call holds the one that made it,
/// so this must not be a queue.
pub(super) const REQUESTS_MAX: usize = 16_384;
/// Attempts of a request that was never written.
const ATTEMPTS_MAX: usize = 8;
/// Connections at a time that wait to be accepted. The kernel of a server whose queue is full lets
/// the client believe that it is connected, and forgets the connection; after the first such one
/// they are opened one by one.
const OPENINGS_MAX: usize = 64;
/// Attempts to open a connection that the application, or a full queue of it, closes before it
/// accepts.
const LOST_MAX: usize = 8;
/// Connections in a row that may end in another process while ours lives: its workers share one
/// port.
const STRANGERS_MAX: usize = 32;
/// What requests have noticed and nobody has looked into yet.
pub(super) const REPORTS_MAX: usize = 16;

/// What a request has noticed about its instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Report {
    /// It is over, and why.
    Over(String),
    /// A connection broke: it may be over.
    Doubt,
}

/// One process of an application.
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) app: Arc<AppSettings>,
    /// The process; `None`: it cannot be told from others.
    pub(super) owner: Option<Image>,
    memory: Option<Arc<Memory>>,
    way: Way,
    gone: watch::Sender<Option<Arc<str>>>,
    limit: Option<Semaphore>,
    in_flight: watch::Sender<usize>,
}

enum Way {
    Http(Box<Http>),
    Stream(Mutex<Streams>),
}

/// The streams of a process.
struct Streams {
    /// It takes new requests.
    newest: Arc<StreamLine>,
    /// What runs over them goes on.
    older: Vec<Arc<StreamLine>>,
}

/// What an application is asked.
enum Errand {
    Callback(Box<AppRequest>),
    Post(Post),
}

impl Errand {
    fn deactivates(&self) -> bool {
        match self {
            Self::Callback(request) => matches!(request.callback, Callback::Deactivate),
            Self::Post(_) => false,
        }
    }

    fn actor(&self) -> Option<&ActorKey> {
        match self {
            Self::Callback(request) => Some(&request.actor),
            Self::Post(_) => None,
        }
    }
}

/// How an instance is reached by HTTP.
pub(super) struct Http {
    address: AppAddress,
    registrar: Registrar,
    pub(super) pool: Pool,
    reports: mpsc::Sender<Report>,
    /// Those who open a connection that many can share do so one after the other.
    opening: tokio::sync::Mutex<()>,
    openings: Semaphore,
    /// Set when a connection was lost before it was accepted: then they are opened one after the
    /// other.
    careful: AtomicBool,
    one_by_one: tokio::sync::Mutex<()>,
    shared: AtomicBool,
    /// Without an owner: lives as long as the connection that proves that the process does.
    proof: Mutex<Option<watch::Receiver<()>>>,
    strangers: AtomicUsize,
}

impl Instance {
    /// An instance that is reached by HTTP, and what its requests report.
    pub(super) fn by_http(
        id: InstanceId,
        app: Arc<AppSettings>,
        address: AppAddress,
        owner: Option<Image>,
        memory: Option<Arc<Memory>>,
        registrar: Registrar,
    ) -> (Arc<Self>, mpsc::Receiver<Report>) {
        let (reports, reported) = mpsc::channel(REPORTS_MAX);
        let http = Http {
            address,
            registrar,
            pool: Pool::default(),
            reports,
            opening: tokio::sync::Mutex::default(),
            openings: Semaphore::new(OPENINGS_MAX),
            careful: AtomicBool::new(false),
            one_by_one: tokio::sync::Mutex::default(),
            shared: AtomicBool::new(false),
            proof: Mutex::default(),
            strangers: AtomicUsize::new(0),
        };
        (
            Self::new(id, app, owner, memory, Way::Http(Box::new(http))),
            reported,
        )
    }

    /// An instance that has come by a stream.
    pub(super) fn by_stream(
        id: InstanceId,
        app: Arc<AppSettings>,
        owner: Option<Image>,
        memory: Option<Arc<Memory>>,
        line: Arc<StreamLine>,
    ) -> Arc<Self> {
        let streams = Streams {
            newest: line,
            older: Vec::new(),
        };
        Self::new(id, app, owner, memory, Way::Stream(Mutex::new(streams)))
    }

    fn new(
        id: InstanceId,
        app: Arc<AppSettings>,
        owner: Option<Image>,
        memory: Option<Arc<Memory>>,
        way: Way,
    ) -> Arc<Self> {
        let limit = app.concurrency.map(|limit| Semaphore::new(limit.get()));
        Arc::new(Self {
            id,
            app,
            owner,
            memory,
            way,
            gone: watch::Sender::new(None),
            limit,
            in_flight: watch::Sender::new(0),
        })
    }

    /// The process, for logs.
    pub(super) fn process(&self) -> String {
        self.owner.map_or_else(
            || "unknown".to_owned(),
            |image| format!("pid {}", image.pid),
        )
    }

    /// Actors that the process may hold, as far as is remembered.
    pub(super) fn objects(&self) -> Vec<ActorKey> {
        let memory = self.memory.as_ref();
        memory.map_or_else(Vec::new, |memory| memory.objects())
    }

    /// How it is reached, if by HTTP.
    pub(super) fn http(&self) -> Option<&Http> {
        match &self.way {
            Way::Http(http) => Some(http),
            Way::Stream(_) => None,
        }
    }

    /// The stream that takes new requests, if it is reached by one.
    pub(super) fn stream(&self) -> Option<Arc<StreamLine>> {
        match &self.way {
            Way::Http(_) => None,
            Way::Stream(streams) => Some(Arc::clone(&lock(streams).newest)),
        }
    }

    /// A newer stream of the same process takes new requests; what runs over the older one goes on.
    pub(super) fn switch(&self, line: Arc<StreamLine>) {
        if let Way::Stream(streams) = &self.way {
            let mut streams = lock(streams);
            let before = std::mem::replace(&mut streams.newest, line);
            streams.older.push(before);
            streams.older.retain(|older| !older.is_over());
        }
    }

    /// Ends everything under way.
    pub(super) fn end(&self, why: &str) {
        self.gone.send_replace(Some(why.into()));
        match &self.way {
            Way::Http(http) => http.pool.clear(),
            Way::Stream(streams) => {
                let streams = lock(streams);
                streams.newest.end();
                streams.older.iter().for_each(|older| older.end());
            }
        }
    }

    /// Ends everything under way; its newest stream stays open, for another instance of the same
    /// process.
    pub(super) fn leave(&self, why: &str) {
        self.gone.send_replace(Some(why.into()));
        match &self.way {
            Way::Http(http) => http.pool.clear(),
            Way::Stream(streams) => {
                let streams = lock(streams);
                streams.newest.forget();
                streams.older.iter().for_each(|older| older.end());
            }
        }
    }

    /// Returns when nothing is under way.
    pub(super) async fn rested(&self) {
        let mut in_flight = self.in_flight.subscribe();
        // The sender lives as long as this instance.
        drop(in_flight.wait_for(|count| *count == 0).await);
    }

    /// Asks, and waits for the answer.
    pub(super) async fn send(&self, request: AppRequest) -> AppAnswer {
        let begun = AtomicBool::new(false);
        self.run(Errand::Callback(Box::new(request)), &begun).await
    }

    /// Posts, and waits for the answer.
    pub(super) async fn post(&self, post: Post, begun: &AtomicBool) -> AppAnswer {
        self.run(Errand::Post(post), begun).await
    }

    async fn run(&self, errand: Errand, begun: &AtomicBool) -> AppAnswer {
        let Some(_under_way) = UnderWay::begin(&self.in_flight) else {
            return AppAnswer::not_sent(format!(
                "{REQUESTS_MAX} requests are under way in the application {}",
                self.app.id
            ));
        };
        let deactivates = errand.deactivates();
        let remembered = self.memory.as_ref().zip(errand.actor().cloned());
        if let (Some((memory, actor)), false) = (&remembered, deactivates) {
            memory.will_hold(actor);
        }
        let asked = self.ask(errand, begun);
        let late = async {
            if deactivates {
                tokio::time::sleep(DEACTIVATE_TIME_MAX).await;
                format!("the application did not answer within {DEACTIVATE_TIME_MAX:?}")
            } else {
                std::future::pending().await
            }
        };
        let why = tokio::select! {
            biased;
            answer = asked => {
                if let (Some((memory, actor)), true) = (&remembered, deactivates)
                    && matches!(answer, AppAnswer::Answered(_))
                {
                    memory.let_go(actor);
                }
                return answer;
            }
            why = self.gone() => format!("the application {} is gone: {why}", self.app.id),
            why = late => why,
        };
        if begun.load(Ordering::Relaxed) {
            AppAnswer::perhaps_sent(why)
        } else {
            AppAnswer::not_sent(why)
        }
    }

    /// Returns when it is over, with the reason.
    pub(super) async fn gone(&self) -> Arc<str> {
        let mut gone = self.gone.subscribe();
        let why = gone.wait_for(Option::is_some).await;
        let why = why.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "this node is ending".into())
    }

    async fn ask(&self, errand: Errand, begun: &AtomicBool) -> AppAnswer {
        if self.gone.borrow().is_some() {
            // Over since it was looked up.
            return AppAnswer::not_sent(format!("the application {} is gone", self.app.id));
        }
        let _permit = match &self.limit {
            // Never closed.
            Some(limit) => limit.acquire().await.ok(),
            None => None,
        };
        match &self.way {
            Way::Http(http) => {
                let outgoing = match &errand {
                    Errand::Callback(request) => {
                        callback::request(&self.app, &http.address, request)
                    }
                    Errand::Post(post) => callback::post(&self.app, &http.address, post),
                };
                let outgoing = match outgoing {
                    Ok(outgoing) => outgoing,
                    Err(why) => return AppAnswer::not_sent(why),
                };
                match self.exchange(http, outgoing, begun).await {
                    Ok(exchanged) => AppAnswer::Answered(callback::answered(exchanged)),
                    Err(answer) => answer,
                }
            }
            Way::Stream(_) => match (self.stream(), errand) {
                (Some(line), Errand::Callback(request)) => line.ask(*request, begun).await,
                (Some(_), Errand::Post(_)) => {
                    AppAnswer::not_sent("a stream of actors carries nothing else")
                }
                (None, _) => AppAnswer::not_sent("the stream has ended"),
            },
        }
    }

    /// One of the node's own questions: not counted by the limit of requests.
    pub(super) async fn question(&self, path: &str) -> Result<Exchanged, String> {
        let Some(http) = self.http() else {
            return Err("the application comes by stream".to_owned());
        };
        let outgoing = callback::question(&self.app, &http.address, path)?;
        let begun = AtomicBool::new(false);
        let exchanged = self.exchange(http, outgoing, &begun).await;
        exchanged.map_err(|answer| match answer {
            AppAnswer::NoAnswer { why, .. } => why,
            AppAnswer::Answered(_) => "an answer that is none".to_owned(),
        })
    }

    /// Sends a request over one of the connections. `Err` is never `Answered`.
    async fn exchange(
        &self,
        http: &Http,
        mut outgoing: Outgoing,
        begun: &AtomicBool,
    ) -> Result<Exchanged, AppAnswer> {
        let mut failure = String::new();
        for _ in 0..ATTEMPTS_MAX {
            let mut line = match self.line(http).await {
                Ok(line) => line,
                Err(error) => {
                    let why = error.text().to_owned();
                    if let OpenError::Refused(why) = error {
                        http.report(Report::Over(why));
                    }
                    return Err(AppAnswer::not_sent(why));
                }
            };
            callback::fit(&mut outgoing, line.carries());
            begun.store(true, Ordering::Relaxed);
            match line.exchange(outgoing, self.app.body_bytes_max).await {
                Ok(exchanged) => {
                    http.pool.give_back(line, exchanged.closing);
                    return Ok(exchanged);
                }
                Err(ExchangeError::NotSent(request, why)) => {
                    begun.store(false, Ordering::Relaxed);
                    outgoing = *request;
                    failure = why;
                }
                Err(ExchangeError::Broken(why)) => {
                    http.report(Report::Doubt);
                    return Err(AppAnswer::perhaps_sent(format!(
                        "the connection to the application {} broke before its answer: {why}",
                        self.app.id
                    )));
                }
                Err(ExchangeError::TooLong(max)) => {
                    return Err(AppAnswer::perhaps_sent(format!(
                        "the answer of the application {} is longer than {max} bytes",
                        self.app.id
                    )));
                }
            }
        }
        http.report(Report::Doubt);
        Err(AppAnswer::not_sent(format!(
            "{ATTEMPTS_MAX} connections to the application {} were closed before a request could be \
             sent: {failure}",
            self.app.id
        )))
    }

    /// A connection for one request.
    async fn line(&self, http: &Http) -> Result<Line, OpenError> {
        if let Some(line) = http.resting().await {
            return Ok(line);
        }
        if !http.shared.load(Ordering::Relaxed) {
            return self.open(http).await;
        }
        let _first = http.opening.lock().await;
        match http.resting().await {
            Some(line) => Ok(line),
            None => self.open(http).await,
        }
    }

    /// Opens a connection that ends in this instance's process.
    async fn open(&self, http: &Http) -> Result<Line, OpenError> {
        // Never closed.
        let _opening = http.openings.acquire().await.ok();
        let mut lost = 0;
        loop {
            let _turn = match http.careful.load(Ordering::Relaxed) {
                true => Some(http.one_by_one.lock().await),
                false => None,
            };
            let socket = connection::open(&http.address).await?;
            let Some(image) = self.owner else {
                http.still_proven()?;
                return self.adopt(http, socket).await;
            };
            match http.registrar.owner(socket.pair, Some(image)).await {
                End::Of(found) if found == image => {
                    http.strangers.store(0, Ordering::Relaxed);
                    return self.adopt(http, socket).await;
                }
                End::Of(_) => self.stranger(http, image)?,
                End::Absent | End::NotYet | End::Unseen => {
                    http.report(Report::Doubt);
                    http.careful.store(true, Ordering::Relaxed);
                    lost += 1;
                    if lost == LOST_MAX {
                        return Err(OpenError::Failed(format!(
                            "{LOST_MAX} new connections to the application were closed before it accepted \
                             them"
                        )));
                    }
                }
            }
        }
    }

    /// Another process is at the other end. `Ok`: ours lives as well, so it is worth another
    /// attempt.
    fn stranger(&self, http: &Http, image: Image) -> Result<(), OpenError> {
        let met = http.strangers.fetch_add(1, Ordering::Relaxed) + 1;
        let why = if !image.lives() {
            format!("its process {} has ended", image.pid)
        } else if met >= STRANGERS_MAX {
            format!("another process than {} answers on its port", image.pid)
        } else {
            return Ok(());
        };
        http.report(Report::Over(why.clone()));
        Err(OpenError::Failed(why))
    }

    /// Takes a connection that is known to end in this instance's process.
    pub(super) async fn adopt(
        &self,
        http: &Http,
        socket: connection::Socket,
    ) -> Result<Line, OpenError> {
        let line = socket.line(self.app.protocol, &http.address).await?;
        let shared = line.carries() == Carries::Many;
        http.shared.store(shared, Ordering::Relaxed);
        Ok(http.pool.add(line))
    }
}

impl Http {
    pub(super) fn address(&self) -> &AppAddress {
        &self.address
    }

    /// A connection that is there already.
    async fn resting(&self) -> Option<Line> {
        while let Some(mut line) = self.pool.take() {
            if line.is_ready().await {
                return Some(line);
            }
        }
        None
    }

    /// Tells the keeper. When its queue is full, it has enough to look into.
    fn report(&self, report: Report) {
        drop(self.reports.try_send(report));
    }

    /// From now on new connections count only while this one is open; `None`: all of them count.
    pub(super) fn prove_by(&self, line: Option<&Line>) {
        *lock(&self.proof) = line.map(Line::life);
    }

    fn still_proven(&self) -> Result<(), OpenError> {
        let proof = lock(&self.proof);
        match proof.as_ref().map(watch::Receiver::has_changed) {
            Some(Err(_)) => Err(OpenError::Failed(
                "the connection that was kept to the application broke".to_owned(),
            )),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// A request under way.
struct UnderWay<'a>(&'a watch::Sender<usize>);

impl<'a> UnderWay<'a> {
    /// `None`: there is no room.
    fn begin(count: &'a watch::Sender<usize>) -> Option<Self> {
        let begun = count.send_if_modified(|count| {
            let room = *count < REQUESTS_MAX;
            *count += usize::from(room);
            room
        });
        begun.then_some(Self(count))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
