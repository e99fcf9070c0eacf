//! The application of the measurements: actors that answer what they are sent, and count their
//! reminders. It does as little as an application can, so that what is measured is the way to it.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::{get, put};
use tokio::net::TcpListener;

use super::order::Report;

/// Its actor type.
pub(super) const ACTOR_TYPE: &str = "bench";

/// How often the count is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// What the application was asked.
#[derive(Clone, Default)]
pub(super) struct Served(Arc<Mutex<Reminded>>);

#[derive(Default)]
struct Reminded {
    count: u64,
    /// First and last.
    times: Option<(Instant, Instant)>,
}

impl Served {
    fn note(&self) {
        let mut reminded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        reminded.count += 1;
        let first = reminded.times.map_or(now, |(first, _)| first);
        reminded.times = Some((first, now));
    }

    /// Waits until so many reminders came, and forgets them. Their time is from the first to the
    /// last.
    pub(super) fn reminded(&self, count: u64, wait: Duration) -> Result<Report, String> {
        let begun = Instant::now();
        loop {
            {
                let mut reminded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((first, last)) = reminded.times.filter(|_| reminded.count >= count) {
                    let calls = std::mem::take(&mut *reminded).count;
                    return Ok(Report {
                        calls,
                        seconds: (last - first).as_secs_f64(),
                        ..Report::default()
                    });
                }
                if begun.elapsed() > wait {
                    return Err(format!(
                        "{} of {count} reminders came within {wait:?}",
                        reminded.count
                    ));
                }
            }
            std::thread::sleep(LOOK_PERIOD);
        }
    }
}

/// Starts a thread that serves it, until this process ends; returns its port.
pub(super) fn serve(served: &Served) -> Result<u16, String> {
    let told = |error: std::io::Error| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(told)?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.map_err(told)?;
    let port = listener.local_addr().map_err(told)?.port();
    let config = format!(r#"{{"entities":["{ACTOR_TYPE}"]}}"#);
    let object = format!("/actors/{ACTOR_TYPE}/{{id}}");
    let router = Router::new()
        .route("/healthz", get(async || ()))
        .route("/dapr/config", get(async move || config))
        .route(&object, axum::routing::delete(async || ()))
        .route(
            &format!("{object}/method/{{method}}"),
            put(async |body: Bytes| body),
        )
        .route(
            &format!("{object}/method/remind/{{name}}"),
            put(async |State(served): State<Served>| served.note()),
        )
        .with_state(served.clone());
    std::thread::Builder::new()
        .name("bench-app".to_owned())
        .spawn(move || {
            // It is served until the process ends; nobody is left then to be told of an error.
            drop(runtime.block_on(async { axum::serve(listener, router).await }));
        })
        .map_err(told)?;
    Ok(port)
}
