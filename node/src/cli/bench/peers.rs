//! The same loads on servers that others run in our place: Redis streams and NATS JetStream, each
//! synced before it acknowledges. Their wire protocols are spoken here in the least form:
//! pipelined, one connection, one thread, so that their clients cost no more than ours.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};

use super::closed_loop;
use super::order::{Peer, PeerLoad, PeerWork, Report};
use super::topics::{number_of, payload};

type Result<T> = std::result::Result<T, String>;
type Done = oneshot::Sender<Result<()>>;

/// Pull requests that wait for messages at once: one for each member of the group.
const PULLERS: u64 = 4;
/// Messages of one pull request.
const PULL_BATCH: u64 = 256;

/// Loads a server, on this thread.
pub(super) fn run(load: &PeerLoad) -> Result<Report> {
    let load = *load;
    match load.peer {
        Peer::Redis => closed_loop::run_with(&load.run, async move {
            let (read, out) = connect(load.port).await?;
            let answers: Rc<RefCell<VecDeque<Done>>> = Rc::default();
            drop(tokio::task::spawn_local(redis_answers(
                read,
                Rc::clone(&answers),
            )));
            Ok(move |number: u64| {
                let (done, answer) = oneshot::channel();
                answers.borrow_mut().push_back(done);
                out.write(&xadd(&payload(number, load.bytes)));
                async move { answer.await.map_err(|error| error.to_string())? }
            })
        }),
        Peer::Nats => closed_loop::run_with(&load.run, async move {
            let (read, out) = connect(load.port).await?;
            let nats = Rc::new(Nats {
                out,
                answers: RefCell::default(),
                seen: RefCell::default(),
            });
            drop(tokio::task::spawn_local(nats_messages(
                read,
                Rc::clone(&nats),
            )));
            nats.begin(load.work).await?;
            Ok(move |number: u64| {
                let (done, answer) = oneshot::channel();
                let (seen, sees) = oneshot::channel();
                nats.answers.borrow_mut().insert(number, done);
                if load.work == PeerWork::Group {
                    nats.seen.borrow_mut().insert(number, seen);
                }
                nats.publish("b", number, &payload(number, load.bytes));
                async move {
                    answer.await.map_err(|error| error.to_string())??;
                    match load.work {
                        PeerWork::Group => sees.await.map_err(|error| error.to_string())?,
                        PeerWork::Publish => Ok(()),
                    }
                }
            })
        }),
        Peer::NatsCore | Peer::Mosquitto => Err("it keeps no events".to_owned()),
    }
}

/// What is to be written, gathered until the socket takes it.
#[derive(Clone)]
pub(super) struct Out(Rc<(RefCell<Vec<u8>>, Notify)>);

impl Out {
    pub(super) fn write(&self, bytes: &[u8]) {
        self.0.0.borrow_mut().extend_from_slice(bytes);
        self.0.1.notify_one();
    }
}

pub(super) async fn connect(port: u16) -> Result<(BufReader<OwnedReadHalf>, Out)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let stream = stream.map_err(|error| format!("cannot connect ({error})"))?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let (read, write) = stream.into_split();
    let out = Out(Rc::new((RefCell::default(), Notify::new())));
    drop(tokio::task::spawn_local(write_out(write, out.clone())));
    Ok((BufReader::new(read), out))
}

async fn write_out(mut socket: OwnedWriteHalf, out: Out) {
    loop {
        out.0.1.notified().await;
        let bytes = std::mem::take(&mut *out.0.0.borrow_mut());
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// `XADD st * data <payload>`.
fn xadd(data: &[u8]) -> Vec<u8> {
    let head = format!(
        "*5\r\n$4\r\nXADD\r\n$2\r\nst\r\n$1\r\n*\r\n$4\r\ndata\r\n${}\r\n",
        data.len()
    );
    [head.as_bytes(), data, b"\r\n"].concat()
}

/// An id in two lines, or an error in one, for each command in turn.
async fn redis_answers(mut read: BufReader<OwnedReadHalf>, answers: Rc<RefCell<VecDeque<Done>>>) {
    let mut line = String::new();
    loop {
        line.clear();
        if read.read_line(&mut line).await.unwrap_or(0) == 0 {
            return answers.borrow_mut().clear();
        }
        let answer = match line.starts_with('$') {
            true => {
                line.clear();
                read.read_line(&mut line)
                    .await
                    .map(drop)
                    .map_err(|e| e.to_string())
            }
            false => Err(line.trim_end().to_owned()),
        };
        if let Some(done) = answers.borrow_mut().pop_front() {
            // Whoever waited may have given up.
            drop(done.send(answer));
        }
    }
}

/// One connection to a NATS server.
struct Nats {
    out: Out,
    /// Acknowledgements that are waited for, by number.
    answers: RefCell<BTreeMap<u64, Done>>,
    /// Deliveries that are waited for.
    seen: RefCell<BTreeMap<u64, Done>>,
}

/// Numbers of the answers to what is asked at the beginning.
const STREAM_MADE: u64 = u64::MAX;
const CONSUMER_MADE: u64 = u64::MAX - 1;

impl Nats {
    fn publish(&self, subject: &str, answer: u64, data: &[u8]) {
        let head = format!("PUB {subject} _I.{answer} {}\r\n", data.len());
        self.out.write(&[head.as_bytes(), data, b"\r\n"].concat());
    }

    async fn asked(&self, subject: &str, answer: u64, body: &str) -> Result<()> {
        let (done, said) = oneshot::channel();
        self.answers.borrow_mut().insert(answer, done);
        self.publish(subject, answer, body.as_bytes());
        said.await.map_err(|error| error.to_string())?
    }

    async fn begin(&self, work: PeerWork) -> Result<()> {
        self.out
            .write(b"CONNECT {\"verbose\":false}\r\nSUB _I.> 1\r\n");
        let stream = r#"{"name":"b","subjects":["b"],"storage":"file","num_replicas":1}"#;
        self.asked("$JS.API.STREAM.CREATE.b", STREAM_MADE, stream)
            .await?;
        if work == PeerWork::Group {
            let consumer = r#"{"stream_name":"b","config":{"durable_name":"g","ack_policy":"explicit","deliver_policy":"new","max_ack_pending":2000}}"#;
            self.asked(
                "$JS.API.CONSUMER.DURABLE.CREATE.b.g",
                CONSUMER_MADE,
                consumer,
            )
            .await?;
            for puller in 0..PULLERS {
                let line = format!("SUB _P.{puller} {}\r\n", 10 + puller);
                self.out.write(line.as_bytes());
                self.pull(puller);
            }
        }
        Ok(())
    }

    fn pull(&self, puller: u64) {
        let body = format!("{{\"batch\":{PULL_BATCH}}}");
        let line = format!(
            "PUB $JS.API.CONSUMER.MSG.NEXT.b.g _P.{puller} {}\r\n{body}\r\n",
            body.len()
        );
        self.out.write(line.as_bytes());
    }

    fn answered(&self, subject: &str, data: &[u8]) {
        let number = subject
            .strip_prefix("_I.")
            .and_then(|text| text.parse().ok());
        let Some(done) = number.and_then(|number: u64| self.answers.borrow_mut().remove(&number))
        else {
            return;
        };
        let text = String::from_utf8_lossy(data);
        let answer = match text.contains("\"error\"") {
            true => Err(text.into_owned()),
            false => Ok(()),
        };
        // Whoever waited may have given up.
        drop(done.send(answer));
    }

    fn delivered(&self, reply: &str, data: &[u8]) {
        self.out
            .write(format!("PUB {reply} 4\r\n+ACK\r\n").as_bytes());
        if let Some(seen) = self.seen.borrow_mut().remove(&number_of(data)) {
            // Whoever waited may have given up.
            drop(seen.send(Ok(())));
        }
    }
}

/// `MSG subject sid [reply] bytes`, and what keeps the connection alive.
async fn nats_messages(mut read: BufReader<OwnedReadHalf>, nats: Rc<Nats>) {
    let mut line = String::new();
    let mut pulled = [0; PULLERS as usize];
    loop {
        line.clear();
        if read.read_line(&mut line).await.unwrap_or(0) == 0 {
            return nats.answers.borrow_mut().clear();
        }
        if line.starts_with("PING") {
            nats.out.write(b"PONG\r\n");
            continue;
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (subject, sid, reply, bytes) = match words[..] {
            ["MSG", subject, sid, bytes] => (subject, sid, "", bytes),
            ["MSG", subject, sid, reply, bytes] => (subject, sid, reply, bytes),
            _ => continue,
        };
        let mut data = vec![0; bytes.parse::<usize>().unwrap_or(0) + 2];
        if read.read_exact(&mut data).await.is_err() {
            return nats.answers.borrow_mut().clear();
        }
        let sid: u64 = sid.parse().unwrap_or(0);
        match sid.checked_sub(10) {
            None => nats.answered(subject, &data),
            Some(puller) => {
                nats.delivered(reply, &data);
                if let Some(count) = pulled.get_mut(puller as usize) {
                    *count += 1;
                    if *count % PULL_BATCH == 0 {
                        nats.pull(puller);
                    }
                }
            }
        }
    }
}
