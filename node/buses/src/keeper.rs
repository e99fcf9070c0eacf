//! One connection that is kept: made when first wanted, watched, and made again after it broke.
//!
//! Everybody gets a copy of the same connection. Who asks while there is none is told why, at once;
//! only the very first attempt is waited for, so that what is published right after the start is
//! not refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::bus::Standing;

/// Pauses between attempts to connect, doubling from the first to the last.
pub(crate) const PAUSES: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(5));
/// How long one attempt to connect may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a caller waits for the first attempt.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(2);

/// How to come to a connection.
pub(crate) trait Dial: Send + Sync + 'static {
    /// Copies of it use the same connection.
    type Connection: Clone + Send + Sync + 'static;

    /// Connects. Errors are half sentences.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, String>> + Send;

    /// Resolves when the connection is of no use any more, and says why.
    fn broken(&self, connection: &Self::Connection) -> impl Future<Output = String> + Send;

    /// Why a connection that is whole takes nothing now; `None`: it does.
    fn trouble(&self, _connection: &Self::Connection) -> Option<String> {
        None
    }
}

#[derive(Clone)]
enum State<C> {
    /// Nobody has heard from the bus yet.
    First,
    Up(Kept<C>),
    Down(String),
}

/// A copy of a connection.
#[derive(Clone)]
pub(crate) struct Kept<C> {
    pub(crate) connection: C,
    pub(crate) number: Number,
}

/// Which of the connections that were made, from 1 on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Number(u64);

/// See the module.
pub(crate) struct Keeper<D: Dial> {
    component: String,
    dial: Arc<D>,
    state: watch::Receiver<State<D::Connection>>,
    /// The last connection that somebody doubts.
    suspected: watch::Sender<Number>,
    /// Raised when it is not there for the first time.
    absent: Arc<AtomicBool>,
    /// What the task needs, until it runs.
    waiting: Mutex<Option<Task<D>>>,
}

struct Task<D: Dial> {
    component: String,
    dial: Arc<D>,
    state: watch::Sender<State<D::Connection>>,
    suspected: watch::Receiver<Number>,
    absent: Arc<AtomicBool>,
}

impl<D: Dial> Keeper<D> {
    /// `component` is how log lines call it. Connects at once if there is a runtime, else when it
    /// is first asked.
    pub(crate) fn new(component: &str, dial: D) -> Self {
        let (sender, state) = watch::channel(State::First);
        let (suspected, suspicion) = watch::channel(Number::default());
        let absent = Arc::new(AtomicBool::new(false));
        let dial = Arc::new(dial);
        let task = Task {
            component: component.to_owned(),
            dial: Arc::clone(&dial),
            state: sender,
            suspected: suspicion,
            absent: Arc::clone(&absent),
        };
        let keeper = Self {
            component: component.to_owned(),
            dial,
            state,
            suspected,
            absent,
            waiting: Mutex::new(Some(task)),
        };
        keeper.begin();
        keeper
    }

    fn begin(&self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(task) = waiting.take() {
                // Ends when nobody is left who could ask.
                drop(runtime.spawn(task.run()));
            }
        }
    }

    /// The connection.
    ///
    /// # Errors
    /// There is none; why.
    pub(crate) async fn connection(&self) -> Result<D::Connection, String> {
        Ok(self.kept().await?.connection)
    }

    /// The connection, with the number by which it can be suspected.
    ///
    /// # Errors
    /// There is none; why.
    pub(crate) async fn kept(&self) -> Result<Kept<D::Connection>, String> {
        self.begin();
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::First));
        match tokio::time::timeout(FIRST_WAIT_MAX, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Up(kept) => Ok(kept.clone()),
                State::Down(why) => Err(self.away(why)),
                State::First => Err(self.away("it has not answered yet")),
            },
            Ok(Err(_)) => Err(self.away("this process is ending")),
            Err(_) => Err(self.away("it has not answered yet")),
        }
    }

    /// Whether the bus was away since this process knows it.
    pub(crate) fn was_away(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    /// How connections are made, for those who need one of their own.
    pub(crate) fn dial(&self) -> &D {
        &self.dial
    }

    /// Waits until there is a connection.
    pub(crate) async fn connected(&self) -> D::Connection {
        self.begin();
        let mut state = self.state.clone();
        loop {
            if let State::Up(kept) = &*state.borrow_and_update() {
                return kept.connection.clone();
            }
            if state.changed().await.is_err() {
                // The process is ending.
                std::future::pending::<()>().await;
            }
        }
    }

    /// A request failed in a way that makes one doubt its connection; those made after it are not
    /// meant.
    pub(crate) fn suspect(&self, number: Number) {
        self.suspected.send_if_modified(|last| {
            let later = *last < number;
            *last = number.max(*last);
            later
        });
    }

    pub(crate) fn standing(&self) -> Standing {
        match &*self.state.borrow() {
            State::First => Standing::Connecting,
            State::Up(kept) => match self.dial.trouble(&kept.connection) {
                None => Standing::Ready,
                Some(why) => Standing::Unreachable(why),
            },
            State::Down(why) => Standing::Unreachable(why.clone()),
        }
    }

    /// What publishers are told while there is no connection, or the one that they got turns out to
    /// be broken.
    pub(crate) fn away(&self, why: &str) -> String {
        format!(
            "the bus of component {} is not there: {why}. Ghostlight keeps trying; publish again later",
            self.component
        )
    }
}

impl<D: Dial> Task<D> {
    async fn run(self) {
        let mut pause = PAUSES.0;
        let mut number = Number::default();
        loop {
            let connecting = tokio::time::timeout(CONNECT_TIME_MAX, self.dial.connect());
            let why = match connecting.await {
                Ok(Ok(connection)) => {
                    pause = PAUSES.0;
                    number.0 += 1;
                    tracing::info!(component = self.component, "connected to its bus");
                    self.keep(Kept { connection, number }).await
                }
                Ok(Err(why)) => why,
                Err(_) => format!("no connection within {CONNECT_TIME_MAX:?}"),
            };
            if self.state.is_closed() {
                return;
            }
            self.absent.store(true, Ordering::Relaxed);
            let told = self.state.send_replace(State::Down(why.clone()));
            if !matches!(told, State::Down(_)) {
                tracing::warn!(component = self.component, "its bus is not there: {why}");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.state.closed() => return,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Why it is of no use any more.
    async fn keep(&self, kept: Kept<D::Connection>) -> String {
        self.state.send_replace(State::Up(kept.clone()));
        let mut suspected = self.suspected.clone();
        tokio::select! {
            why = self.dial.broken(&kept.connection) => why,
            Ok(_) = suspected.wait_for(|last| *last >= kept.number) => "the connection broke".to_owned(),
            () = self.state.closed() => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Every other attempt fails; a connection is its attempt's number.
    #[derive(Default)]
    struct Every(AtomicU32);

    impl Dial for Every {
        type Connection = u32;

        async fn connect(&self) -> Result<u32, String> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                even if even % 2 == 0 => Err(format!("no {even}")),
                odd => Ok(odd),
            }
        }

        async fn broken(&self, _: &u32) -> String {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_connection_that_broke_is_made_again_and_callers_are_told() {
        let keeper = Keeper::new("orders", Every::default());
        let why = keeper.connection().await.unwrap_err();
        assert!(why.contains("orders is not there: no 0"), "{why}");
        assert_eq!(keeper.standing(), Standing::Unreachable("no 0".to_owned()));
        assert_eq!(keeper.connected().await, 1);
        assert_eq!(keeper.connection().await, Ok(1));
        assert_eq!(keeper.standing(), Standing::Ready);
        let broken = keeper.kept().await.map(|kept| kept.number).unwrap();
        keeper.suspect(broken);
        // Found out, refused once, then there again.
        while keeper.standing() == Standing::Ready {
            tokio::task::yield_now().await;
        }
        // What was under way on it fails now: the next one is another.
        keeper.suspect(broken);
        assert_eq!(keeper.connected().await, 3);
        keeper.suspect(broken);
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
            assert_eq!(keeper.standing(), Standing::Ready);
        }
    }
}
