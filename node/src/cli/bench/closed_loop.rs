//! The clients of every measurement: so many, each with one call at a time, on one thread of their
//! own.
//!
//! They are cheap: `bench --only load_generator` measures them against a target that answers at
//! once. With a pace, a call that begins late because the one before took long is measured from the
//! time when it should have begun, so that a stall is not hidden by the calls that were not made.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::LocalSet;

use super::order::{Amount, Loop, Report, buckets, histogram};
use super::proc;

/// How long calls in flight may take after the end; then they have failed.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(30);
/// Pause of a client after a failed call.
const FAILURE_PAUSE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Warming,
    Measuring,
    Over,
}

struct Shared {
    phase: Cell<Phase>,
    /// Calls begun.
    begun: Cell<u64>,
    calls_max: u64,
    seen: RefCell<Seen>,
}

struct Seen {
    latencies: Histogram<u64>,
    failed: u64,
    failure: Option<String>,
}

/// Runs a loop on this thread. `call` makes the call with a number; `Err` says why it failed.
pub(super) fn run<C, F>(plan: &Loop, call: C) -> Result<Report, String>
where
    C: Fn(u64) -> F + 'static,
    F: Future<Output = Result<(), String>> + 'static,
{
    run_with(plan, std::future::ready(Ok(call)))
}

/// The same with something to be done first, in the loop's own runtime.
pub(super) fn run_with<C, F>(
    plan: &Loop,
    begin: impl Future<Output = Result<C, String>>,
) -> Result<Report, String>
where
    C: Fn(u64) -> F + 'static,
    F: Future<Output = Result<(), String>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    LocalSet::new().block_on(&runtime, async {
        let call = begin.await?;
        drive(*plan, Rc::new(call)).await
    })
}

async fn drive<C, F>(plan: Loop, call: Rc<C>) -> Result<Report, String>
where
    C: Fn(u64) -> F + 'static,
    F: Future<Output = Result<(), String>> + 'static,
{
    let shared = Rc::new(Shared {
        phase: Cell::new(if plan.warm_ms > 0 {
            Phase::Warming
        } else {
            Phase::Measuring
        }),
        begun: Cell::new(0),
        calls_max: match plan.amount {
            Amount::TimeMs(_) => u64::MAX,
            Amount::Calls(calls) => calls,
        },
        seen: RefCell::new(Seen {
            latencies: histogram(),
            failed: 0,
            failure: None,
        }),
    });
    let clients: Vec<_> = (0..plan.in_flight)
        .map(|number| {
            let (shared, call) = (Rc::clone(&shared), Rc::clone(&call));
            tokio::task::spawn_local(async move {
                let pace = Pace::of(&plan, number);
                client(&shared, pace, &*call).await;
            })
        })
        .collect();
    if plan.warm_ms > 0 {
        tokio::time::sleep(Duration::from_millis(plan.warm_ms)).await;
        shared.phase.set(Phase::Measuring);
    }
    let (began, cpu) = (Instant::now(), Cpu::now()?);
    let mut clients = futures::future::join_all(clients);
    match plan.amount {
        Amount::TimeMs(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Amount::Calls(_) => drop((&mut clients).await),
    }
    let (seconds, spent) = (began.elapsed().as_secs_f64(), cpu.since()?);
    shared.phase.set(Phase::Over);
    if let Amount::TimeMs(_) = plan.amount
        && tokio::time::timeout(LAST_ANSWERS_MAX, clients)
            .await
            .is_err()
    {
        shared.fail(format!("no answer within {LAST_ANSWERS_MAX:?}"));
    }
    let seen = shared.seen.borrow();
    Ok(Report {
        calls: seen.latencies.len(),
        failed: seen.failed,
        failure: seen.failure.clone(),
        seconds,
        cpu_seconds: spent.process.as_secs_f64(),
        client_cpu_seconds: spent.thread.as_secs_f64(),
        latencies: buckets(&seen.latencies),
    })
}

async fn client<C, F>(shared: &Shared, mut pace: Option<Pace>, call: &C)
where
    C: Fn(u64) -> F,
    F: Future<Output = Result<(), String>> + 'static,
{
    while shared.phase.get() != Phase::Over {
        let begin = match &mut pace {
            Some(pace) => pace.next().await,
            None => Instant::now(),
        };
        let number = shared.begun.get();
        if number >= shared.calls_max || shared.phase.get() == Phase::Over {
            return;
        }
        shared.begun.set(number + 1);
        match call(number).await {
            Ok(()) => shared.note(begin.elapsed()),
            Err(why) => {
                shared.fail(why);
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

impl Shared {
    fn note(&self, latency: Duration) {
        if self.phase.get() == Phase::Measuring {
            let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            self.seen
                .borrow_mut()
                .latencies
                .saturating_record(nanos.max(1));
        }
    }

    fn fail(&self, why: String) {
        let mut seen = self.seen.borrow_mut();
        seen.failed += 1;
        seen.failure.get_or_insert(why);
    }
}

/// When one client makes its calls.
struct Pace {
    next: Instant,
    period: Duration,
}

impl Pace {
    fn of(plan: &Loop, client: usize) -> Option<Self> {
        let all = Duration::from_secs_f64(1.0 / f64::from(plan.per_second?));
        Some(Self {
            next: Instant::now() + all * client as u32,
            period: all * plan.in_flight as u32,
        })
    }

    /// Waits for the next call's time, and tells from when it is measured.
    async fn next(&mut self) -> Instant {
        let due = self.next;
        self.next += self.period;
        let now = Instant::now();
        if due <= now {
            return due;
        }
        tokio::time::sleep_until(due.into()).await;
        // The timer's own lateness is not the callee's.
        Instant::now()
    }
}

struct Cpu {
    process: Duration,
    thread: Duration,
}

impl Cpu {
    fn now() -> Result<Self, String> {
        Ok(Self {
            process: proc::process_cpu(std::process::id())?,
            thread: proc::thread_cpu()?,
        })
    }

    fn since(&self) -> Result<Self, String> {
        let now = Self::now()?;
        Ok(Self {
            process: now.process.saturating_sub(self.process),
            thread: now.thread.saturating_sub(self.thread),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Loop = Loop {
        in_flight: 4,
        warm_ms: 0,
        amount: Amount::Calls(100),
        per_second: None,
    };

    #[test]
    fn so_many_calls_are_made_and_failures_are_counted() {
        let report = run(&PLAN, |number| async move {
            if number % 10 == 3 {
                Err(format!("call {number}"))
            } else {
                Ok(())
            }
        })
        .unwrap();
        assert_eq!((report.calls, report.failed), (90, 10));
        assert_eq!(report.failure.as_deref(), Some("call 3"));
    }

    #[test]
    fn a_stall_counts_for_the_calls_it_held_back() {
        let plan = Loop {
            in_flight: 1,
            per_second: Some(100),
            ..PLAN
        };
        let report = run(&plan, |number| async move {
            if number == 50 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        })
        .unwrap();
        // 200 ms at 100 calls a second: twenty calls were late, half of them by more than 90 ms.
        assert!(report.micros_at(0.92) > 80_000.0, "{report:?}");
        assert!(report.micros_at(0.5) < 10_000.0, "{report:?}");
    }
}
