//! A load that does not wait for those it asks: every call is sent at its time, whether or not
//! those before it were answered, and its latency counts from that time. So nobody who is slow is
//! spared the calls that he should have had.
//!
//! Calls are streams of a few HTTP/2 connections, as many clients make them (the Go SDK sends all
//! traffic of an application over one): neither is a call kept waiting behind another one of its
//! connection, nor does a call cost a connection. One thread does it all, and tells what it spent.
//!
//! What is kept: how each call ended, and for each actor what was acknowledged and what nobody
//! knows, so that the actors can be compared with it in the end. Absent on purpose: repetitions. A
//! client that repeats adds load by its own rules.

mod lines;
mod seen;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use tokio::task::LocalSet;

use crate::usage::thread_time;
use lines::Lines;
pub use seen::{End, Seen, Tally};

/// How long a client waits for its answer: a later one is worth nothing to it.
pub const DEADLINE: Duration = Duration::from_secs(1);
/// How much longer it listens for a word on whether the call has run; then it gives up.
const LISTEN: Duration = Duration::from_millis(500);
/// Calls under way; what is over it is not sent, and told.
pub const UNDER_WAY_MAX: usize = 60_000;
/// Connections to each address, if nothing else is said: a few programs that call much.
const CONNECTIONS: usize = 2;
/// How often it is looked whose time has come.
const LOOK_PERIOD: Duration = Duration::from_millis(1);

/// When calls are made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// So many a second, evenly, come what may.
    Open(f64),
    /// So many at once: the next one when one has ended. What is done so is called the capacity.
    Closed(usize),
}

/// One pace for some time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    /// When its calls are made.
    pub pace: Pace,
    /// How long.
    pub time: Duration,
}

/// Callers of many counters, through these addresses in turn.
#[derive(Debug)]
pub struct Callers {
    addresses: Vec<String>,
    /// To each address.
    connections: usize,
    calls: Vec<(String, Tally)>,
}

impl Callers {
    /// Of so many counters that nobody else calls, by the beginning of their names.
    #[must_use]
    pub fn new(addresses: &[String], prefix: &str, actors: usize) -> Self {
        let names = (0..actors).map(|number| format!("{prefix}-{number}"));
        Self {
            addresses: addresses.to_vec(),
            connections: CONNECTIONS,
            calls: names.map(|name| (name, Tally::default())).collect(),
        }
    }

    /// From now on through these addresses.
    pub fn through(&mut self, addresses: &[String]) {
        self.addresses = addresses.to_vec();
    }

    /// From now on over so many connections to each address.
    pub fn over(&mut self, connections: usize) {
        self.connections = connections;
    }

    /// What is known of each counter.
    #[must_use]
    pub fn tallies(&self) -> &[(String, Tally)] {
        &self.calls
    }

    /// Takes these steps one after the other without a pause; what was seen of the calls of each.
    /// `begin` is told when a step begins, and in the end how many there were.
    ///
    /// # Panics
    /// When there is no connection at the beginning.
    pub fn run(&mut self, steps: &[Step], begin: impl FnMut(usize)) -> Vec<Seen> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let ledger = Rc::new(RefCell::new(Ledger {
            steps: steps.iter().map(|step| Seen::new(step.time)).collect(),
            tallies: vec![Tally::default(); self.calls.len()],
            under_way: 0,
        }));
        LocalSet::new().block_on(&runtime, self.drive(steps, begin, &ledger));
        // Calls that were given up hold it no longer: all have been waited for.
        let ledger = Rc::into_inner(ledger).expect("no call is under way");
        let ledger = ledger.into_inner();
        for ((_, tally), more) in self.calls.iter_mut().zip(ledger.tallies) {
            tally.add(more);
        }
        ledger.steps
    }

    async fn drive(
        &self,
        steps: &[Step],
        mut begin: impl FnMut(usize),
        ledger: &Rc<RefCell<Ledger>>,
    ) {
        let lines = Lines::open(&self.addresses, self.connections).await;
        let forms: Vec<Request<()>> = self.calls.iter().map(|(name, _)| form(name)).collect();
        let mut number = 0;
        for (place, step) in steps.iter().enumerate() {
            begin(place);
            let (began, spent) = (Instant::now(), thread_time());
            let mut sent = 0_u64;
            while began.elapsed() < step.time {
                // The last turn of a step looks a little late: calls due after its end are not its.
                let passed = began.elapsed().min(step.time);
                let due = match step.pace {
                    Pace::Open(per_second) => (passed.as_secs_f64() * per_second) as u64 + 1,
                    Pace::Closed(in_flight) => {
                        let free = in_flight.saturating_sub(ledger.borrow().under_way);
                        sent + free as u64
                    }
                };
                while sent < due {
                    let scheduled = match step.pace {
                        Pace::Open(per_second) => {
                            began + Duration::from_secs_f64(sent as f64 / per_second)
                        }
                        Pace::Closed(_) => Instant::now(),
                    };
                    let call = Call {
                        place,
                        actor: number % forms.len(),
                        scheduled,
                        since_begin: scheduled - began,
                    };
                    send(&lines, &forms[call.actor], call, ledger);
                    (sent, number) = (sent + 1, number + 1);
                }
                tokio::time::sleep(LOOK_PERIOD).await;
            }
            let seen = &mut ledger.borrow_mut().steps[place];
            (seen.took, seen.driver) = (began.elapsed(), thread_time() - spent);
        }
        begin(steps.len());
        while ledger.borrow().under_way > 0 {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
        let broken = lines.broken();
        if let Some(last) = ledger.borrow_mut().steps.last_mut() {
            last.broken = broken;
        }
    }
}

/// What is known of a run under way.
struct Ledger {
    steps: Vec<Seen>,
    tallies: Vec<Tally>,
    under_way: usize,
}

impl Ledger {
    fn end(&mut self, call: &Call, end: End) {
        self.tallies[call.actor].note(&end);
        self.steps[call.place].note(call.since_begin, call.scheduled.elapsed(), end);
    }
}

/// One call.
struct Call {
    place: usize,
    actor: usize,
    scheduled: Instant,
    since_begin: Duration,
}

fn send(lines: &Lines, form: &Request<()>, call: Call, ledger: &Rc<RefCell<Ledger>>) {
    let late = call.scheduled.elapsed();
    {
        let mut ledger = ledger.borrow_mut();
        ledger.steps[call.place].sent(call.since_begin, late);
        if ledger.under_way >= UNDER_WAY_MAX {
            return ledger.end(&call, End::Unsent);
        }
        ledger.under_way += 1;
    }
    let Some(answer) = lines.send(form.clone(), Bytes::from_static(b"1")) else {
        let mut ledger = ledger.borrow_mut();
        ledger.under_way -= 1;
        return ledger.end(&call, End::Unsent);
    };
    let ledger = Rc::clone(ledger);
    drop(tokio::task::spawn_local(async move {
        let give_up = call.scheduled + DEADLINE + LISTEN;
        let end = match tokio::time::timeout_at(give_up.into(), lines::whole(answer)).await {
            Ok(Ok((StatusCode::OK, _))) => End::Acknowledged,
            Ok(Ok((
                status @ (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE),
                code,
            ))) => End::Refused(format!("{} {code}", status.as_u16())),
            Ok(Ok((status, code))) => End::Unknown(format!("{} {code}", status.as_u16())),
            Ok(Err(error)) => End::Unknown(error.to_string()),
            Err(_) => End::Unknown("no answer".to_owned()),
        };
        let mut ledger = ledger.borrow_mut();
        ledger.under_way -= 1;
        ledger.end(&call, end);
    }));
}

/// A request that is the same every time, but for the node.
fn form(actor: &str) -> Request<()> {
    let mut headers = HeaderMap::new();
    let deadline = DEADLINE.as_millis().to_string();
    let deadline = HeaderValue::from_str(&deadline).expect("digits");
    headers.insert("ghostlight-deadline-ms", deadline);
    let path = format!("/v1.0/actors/counter/{actor}/method/add");
    let uri = Uri::builder()
        .scheme("http")
        .authority("ghostlight")
        .path_and_query(path);
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.build().expect("a path");
    *request.headers_mut() = headers;
    request
}
