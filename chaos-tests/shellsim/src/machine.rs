//! Drives every task of a cluster, on one thread and in virtual time.
//!
//! A task runs until it waits. Of those that could go on, the seed draws which does: the product
//! has threads, and any order may come. When none can go on, time jumps to the next timer. Every
//! task has an owner, and goes with it: that is how a process dies.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};

use crate::dice::{Dice, SEC};

/// Tasks polled without any time passing, after which something turns in circles.
const POLLS_AT_ONCE_MAX: u64 = 5_000_000;
/// Longest run.
const RUN_MAX: u64 = 3_600 * SEC;
/// The task that `block_on` was given.
const MAIN: u64 = 0;

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who a task belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner(pub(crate) u64);

/// See the module. Clones are the same machine.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Inner>);

struct Inner {
    /// What the library calls the time zero.
    anchor: std::time::Instant,
    ready: Arc<Ready>,
    state: Mutex<State>,
}

struct State {
    now: u64,
    order: Dice,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    timers: BTreeMap<(u64, u64), Waker>,
    next_timer: u64,
    polls: u64,
}

struct Task {
    owner: Owner,
    /// `None` while it is polled.
    future: Option<Boxed>,
    woken: Arc<Woken>,
}

/// Tasks that could go on.
#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

struct Woken {
    task: u64,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready.0).push_back(self.task);
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(crate) fn new(order: Dice) -> Self {
        Self(Arc::new(Inner {
            anchor: anchor(),
            ready: Arc::default(),
            state: Mutex::new(State {
                now: 0,
                order,
                tasks: BTreeMap::new(),
                next_task: MAIN + 1,
                timers: BTreeMap::new(),
                next_timer: 0,
                polls: 0,
            }),
        }))
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        lock(&self.0.state).now
    }

    /// The same as the library has it.
    pub(crate) fn to_std(&self, at: u64) -> std::time::Instant {
        self.0.anchor + std::time::Duration::from_nanos(at)
    }

    fn woken(&self, task: u64) -> Arc<Woken> {
        Arc::new(Woken {
            task,
            queued: AtomicBool::new(false),
            ready: Arc::clone(&self.0.ready),
        })
    }

    /// Begins a task.
    pub(crate) fn spawn(&self, owner: Owner, future: impl Future<Output = ()> + Send + 'static) {
        self.spawn_boxed(owner, Box::pin(future));
    }

    fn spawn_boxed(&self, owner: Owner, future: Boxed) {
        let mut state = lock(&self.0.state);
        let id = state.next_task;
        state.next_task += 1;
        let woken = self.woken(id);
        let task = Task {
            owner,
            future: Some(future),
            woken: Arc::clone(&woken),
        };
        state.tasks.insert(id, task);
        drop(state);
        woken.wake();
    }

    /// Ends every task of an owner where it stands.
    pub(crate) fn kill(&self, owner: Owner) {
        let mut state = lock(&self.0.state);
        let all = std::mem::take(&mut state.tasks).into_iter();
        let (dead, alive): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.partition(|(_, task)| task.owner == owner);
        state.tasks = alive;
        drop(state);
        // What a task drops may wake others: those that are dead too are nobody's business any
        // more, and how many there are, in which order, must not count.
        drop(dead);
        let state = lock(&self.0.state);
        let mut ready = lock(&self.0.ready.0);
        ready.retain(|id| *id == MAIN || state.tasks.contains_key(id));
    }

    /// Waits for so many nanoseconds.
    pub(crate) fn sleep(&self, nanos: u64) -> Sleep {
        self.sleep_until(self.now().saturating_add(nanos))
    }

    /// Waits until then.
    pub(crate) fn sleep_until(&self, at: u64) -> Sleep {
        let mut state = lock(&self.0.state);
        let id = state.next_timer;
        state.next_timer += 1;
        drop(state);
        Sleep {
            machine: self.clone(),
            id,
            at,
            registered: None,
        }
    }

    /// Drives everything until `main` has ended.
    ///
    /// # Panics
    /// When nothing can ever go on again, or something turns in circles.
    pub(crate) fn block_on<F: Future>(&self, main: F) -> F::Output {
        let mut main = pin!(main);
        let woken = self.woken(MAIN);
        Arc::clone(&woken).wake();
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            while let Some(id) = self.next_ready() {
                if id != MAIN {
                    self.poll(id);
                    continue;
                }
                woken.queued.store(false, Ordering::Relaxed);
                let mut context = Context::from_waker(&waker);
                if let Poll::Ready(output) = main.as_mut().poll(&mut context) {
                    return output;
                }
            }
            self.advance();
        }
    }

    fn next_ready(&self) -> Option<u64> {
        let mut ready = lock(&self.0.ready.0);
        if ready.is_empty() {
            return None;
        }
        let mut state = lock(&self.0.state);
        state.polls += 1;
        assert!(
            state.polls < POLLS_AT_ONCE_MAX,
            "tasks go on and on while no time passes"
        );
        let index = state.order.index(ready.len());
        ready.swap_remove_back(index)
    }

    fn poll(&self, id: u64) {
        let taken = {
            let mut state = lock(&self.0.state);
            state.tasks.get_mut(&id).and_then(|task| {
                let future = task.future.take()?;
                Some((future, Arc::clone(&task.woken)))
            })
        };
        let Some((mut future, woken)) = taken else {
            return;
        };
        woken.queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(woken);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = lock(&self.0.state);
        let left = match polled {
            Poll::Ready(()) => state.tasks.remove(&id).map(|_| future),
            Poll::Pending => match state.tasks.get_mut(&id) {
                Some(task) => {
                    task.future = Some(future);
                    None
                }
                // Its owner died meanwhile.
                None => Some(future),
            },
        };
        drop(state);
        drop(left);
    }

    /// Time jumps to the next timer.
    fn advance(&self) {
        let due = {
            let mut state = lock(&self.0.state);
            let next = state.timers.first_key_value().map(|((at, _), _)| *at);
            let next = next.expect("nothing waits for time, and nothing else can go on");
            assert!(next < RUN_MAX, "the run does not end");
            state.now = state.now.max(next);
            state.polls = 0;
            let after = state.now + 1;
            let later = state.timers.split_off(&(after, 0));
            std::mem::replace(&mut state.timers, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }
}

/// Somewhere to count from; nothing depends on where.
#[expect(
    clippy::disallowed_methods,
    reason = "the library has no other way to make an instant"
)]
fn anchor() -> std::time::Instant {
    std::time::Instant::now()
}

/// A timer.
pub(crate) struct Sleep {
    machine: Machine,
    id: u64,
    at: u64,
    registered: Option<u64>,
}

impl Sleep {
    fn forget(&mut self) {
        if let Some(at) = self.registered.take() {
            let waker = lock(&self.machine.0.state).timers.remove(&(at, self.id));
            drop(waker);
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sleep({})", self.at)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.forget();
        let mut state = lock(&self.machine.0.state);
        if self.at <= state.now {
            return Poll::Ready(());
        }
        state
            .timers
            .insert((self.at, self.id), context.waker().clone());
        drop(state);
        self.registered = Some(self.at);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

impl AsyncTimer for Sleep {
    fn reset(mut self: Pin<&mut Self>, at: std::time::Instant) {
        self.forget();
        let since = at.saturating_duration_since(self.machine.0.anchor);
        self.at = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self, context)
    }
}

/// The machine as one process has it: what is begun here ends with it.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) machine: Machine,
    pub(crate) owner: Owner,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({:?})", self.owner)
    }
}

impl Runtime for Driver {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        let mut timer = Box::pin(self.machine.sleep_until(0));
        timer.as_mut().reset(at);
        timer
    }

    fn spawn(&self, future: Boxed) {
        self.machine.spawn_boxed(self.owner, future);
    }

    fn wrap_udp_socket(&self, _: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::other("there are no sockets of the system here"))
    }

    fn now(&self) -> std::time::Instant {
        self.machine.to_std(self.machine.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64) -> Vec<(u64, u64)> {
        let machine = Machine::new(Dice::new(seed, "order"));
        let log = Arc::new(Mutex::new(Vec::new()));
        for number in 0..6 {
            let (machine, log) = (machine.clone(), Arc::clone(&log));
            machine.clone().spawn(Owner(number % 2), async move {
                // Each twice at the same times as the others.
                for step in 1..3 {
                    machine.sleep_until(step * SEC).await;
                    lock(&log).push((machine.now(), number));
                }
            });
        }
        let killer = machine.clone();
        machine.block_on(async move {
            killer.sleep(SEC + 1).await;
            killer.kill(Owner(1));
            killer.sleep(SEC).await;
        });
        lock(&log).clone()
    }

    #[test]
    fn time_jumps_and_the_dead_do_not_go_on() {
        let log = run(1);
        let at = |time: u64| {
            let mut numbers: Vec<u64> = log
                .iter()
                .filter(|(t, _)| *t == time)
                .map(|(_, n)| *n)
                .collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(at(SEC), [0, 1, 2, 3, 4, 5]);
        assert_eq!(at(2 * SEC), [0, 2, 4]);
        assert_eq!(log.len(), 9);
    }

    #[test]
    fn the_seed_draws_the_order_and_nothing_else_does() {
        assert_eq!(run(1), run(1));
        let orders: std::collections::BTreeSet<_> = (1..10).map(run).collect();
        assert!(orders.len() > 5);
    }
}
