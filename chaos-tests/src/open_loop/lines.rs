//! The connections of an open loop: some to every address, opened again when they break.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{Request, StatusCode};
use tokio::net::TcpStream;

/// Calls of one connection at once, until the node has told its own bound.
const STREAMS: usize = 16_384;
/// Longest time for a connection to open.
const OPEN_TIME_MAX: Duration = Duration::from_secs(2);
/// Pause between two attempts to open one.
const OPEN_PERIOD: Duration = Duration::from_millis(50);
/// What a node may send before it hears that it was read.
const WINDOW_BYTES: u32 = 4 << 20;

/// See the module.
pub(super) struct Lines {
    all: Vec<Rc<Line>>,
    next: Cell<usize>,
}

struct Line {
    address: String,
    open: RefCell<Option<SendRequest<Bytes>>>,
    broken: Cell<u64>,
}

impl Lines {
    /// Opens so many to each address.
    pub(super) async fn open(addresses: &[String], of_address: usize) -> Self {
        let mut all = Vec::new();
        for number in 0..addresses.len() * of_address {
            let line = Rc::new(Line {
                // Neighbours go to different nodes.
                address: addresses[number % addresses.len()].clone(),
                open: RefCell::default(),
                broken: Cell::default(),
            });
            let opened = open(&line).await;
            opened.unwrap_or_else(|error| panic!("{}: {error}", line.address));
            all.push(line);
        }
        Self {
            all,
            next: Cell::new(0),
        }
    }

    /// Sends a call over the next connection; `None`: it cannot take one.
    pub(super) fn send(&self, request: Request<()>, body: Bytes) -> Option<ResponseFuture> {
        let place = self.next.get();
        self.next.set((place + 1) % self.all.len());
        let mut open = self.all[place].open.borrow_mut();
        let line = open.as_mut()?;
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(())) = line.poll_ready(&mut context) else {
            return None;
        };
        let (answer, mut sending) = line.send_request(request, false).ok()?;
        sending.send_data(body, true).ok()?;
        Some(answer)
    }

    /// How often a connection broke.
    pub(super) fn broken(&self) -> u64 {
        self.all.iter().map(|line| line.broken.get()).sum()
    }
}

async fn open(line: &Rc<Line>) -> Result<(), String> {
    let opening = async {
        let stream = TcpStream::connect(&line.address).await;
        let stream = stream.map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let mut builder = Builder::new();
        builder
            .initial_max_send_streams(STREAMS)
            .max_concurrent_reset_streams(STREAMS)
            // Answers that come to whom has given up are no reason to end a connection.
            .max_local_error_reset_streams(None)
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let handshake = builder.handshake(stream).await;
        handshake.map_err(|error| error.to_string())
    };
    let opened = tokio::time::timeout(OPEN_TIME_MAX, opening).await;
    let (sender, connection) = opened.map_err(|late| late.to_string())??;
    *line.open.borrow_mut() = Some(sender);
    let line = Rc::clone(line);
    drop(tokio::task::spawn_local(async move {
        // Why it ended is told by its calls.
        drop(connection.await);
        *line.open.borrow_mut() = None;
        line.broken.set(line.broken.get() + 1);
        while Box::pin(open(&line)).await.is_err() {
            tokio::time::sleep(OPEN_PERIOD).await;
        }
    }));
    Ok(())
}

/// Status and code of an answer, when it is there as a whole.
pub(super) async fn whole(answer: ResponseFuture) -> Result<(StatusCode, String), h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    while let Some(chunk) = body.data().await {
        let bytes = chunk?.len();
        body.flow_control().release_capacity(bytes)?;
    }
    let code = head.headers.get("ghostlight-error");
    let code = code.and_then(|code| code.to_str().ok()).unwrap_or_default();
    Ok((head.status, code.to_owned()))
}
