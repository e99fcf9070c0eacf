//! How much the lanes cost: calls there and answers back through two whole transports, beside a
//! bare QUIC stream that carries the same bytes between two bare endpoints. Both take a turn in
//! every round.
//!
//! `cargo run -p ghostlight --example lane_echo`

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ghostlight::security::key::ClusterKey;
use ghostlight::security::tls::{SERVER_NAME, node_tls};
use ghostlight::transport::{
    Admission, EventQueues, Events, LinkHandle, Transport, TransportEvent,
};
use ghostlight_core::io::Lane;
use ghostlight_protocol::call::{AnswerKind, CallAnswer, CallRequest};
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{
    ConnectionKind, Hello, HelloRefusal, NodeRecord, PROTOCOL_VERSION,
};
use tokio::sync::oneshot;

const BODY_BYTES: usize = 128;
const RUN: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 3;

struct Measured {
    per_second: f64,
    cpu_us: f64,
    p50_us: f64,
}

/// Seconds of processor time of this process so far.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("no fields")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = fields[12].parse::<u64>()? + fields[13].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

fn current_thread() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    Ok(runtime?)
}

/// Lets everybody in.
struct Door(NodeId);

impl Admission for Door {
    fn hello(&self, kind: ConnectionKind) -> Hello {
        let record = NodeRecord {
            node: self.0.to_bytes().to_vec(),
            generation: 1,
            ..NodeRecord::default()
        };
        Hello {
            protocol: PROTOCOL_VERSION,
            node: Some(record),
            connection: kind as i32,
            ..Hello::default()
        }
    }

    fn judge(&self, _: &Hello) -> Result<(), HelloRefusal> {
        Ok(())
    }
}

fn node(id: u128, key: &ClusterKey) -> Result<(Transport, EventQueues)> {
    let (events, queues) = Events::new();
    let socket = Transport::socket(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let door = Arc::new(Door(NodeId(id)));
    let transport = Transport::start(NodeId(id), socket, node_tls(key)?, door, events)?;
    Ok((transport, queues))
}

async fn bulk_link(queues: &mut EventQueues) -> Result<LinkHandle> {
    match queues.bulk.recv().await {
        Some(TransportEvent::Connected { link, .. }) => Ok(link),
        other => bail!("no connection: {other:?}"),
    }
}

fn request(call: u64) -> Frame {
    Frame::Call(CallRequest {
        call,
        partition: call as u32 % 256,
        request_id: Bytes::from_static(&[7; 24]),
        actor: Bytes::from_static(b"counter\0\0\0some-actor"),
        method: "increment".to_owned(),
        body: Bytes::from_static(&[5; BODY_BYTES]),
        attempt: 1,
        ..CallRequest::default()
    })
}

fn lane(call: u64) -> Lane {
    Lane::Call((call % 4) as u8)
}

/// What a leader's core would do with calls.
fn answer_all(mut queues: EventQueues, link: &LinkHandle) -> Result<()> {
    current_thread()?.block_on(async {
        while let Some(event) = queues.bulk.recv().await {
            let mut next = Some(event);
            while let Some(event) = next {
                let TransportEvent::Frames { frames, .. } = event else {
                    return Ok(());
                };
                for frame in frames {
                    let Frame::Call(call) = frame else {
                        bail!("not a call: {frame:?}")
                    };
                    let answer = CallAnswer {
                        call: call.call,
                        kind: Some(AnswerKind::Reply(call.body)),
                    };
                    if link.send(lane(call.call), Frame::Answer(answer)).is_err() {
                        // The caller has closed: it has seen enough.
                        return Ok(());
                    }
                }
                next = queues.bulk.try_recv().ok();
            }
            link.flush();
        }
        Ok(())
    })
}

/// What a gateway's core would do: keeps `in_flight` calls under way.
async fn call_all(queues: &mut EventQueues, link: &LinkHandle, in_flight: u64) -> Result<Measured> {
    let (mut sent, mut answers) = (0, 0_u64);
    let (mut begun, mut waits) = (VecDeque::new(), Vec::new());
    let mut send = || {
        sent += 1;
        link.send(lane(sent), request(sent))
    };
    for _ in 0..in_flight {
        send()?;
    }
    begun.push_back(Instant::now());
    link.flush();
    let (start, cpu) = (Instant::now(), cpu_seconds()?);
    while start.elapsed() < RUN {
        let mut next = queues.bulk.recv().await;
        while let Some(TransportEvent::Frames { frames, .. }) = next {
            for frame in frames {
                ensure!(
                    matches!(frame, Frame::Answer(_)),
                    "not an answer: {frame:?}"
                );
                answers += 1;
                send()?;
            }
            next = queues.bulk.try_recv().ok();
        }
        if in_flight == 1 {
            waits.extend(begun.pop_front().map(|at: Instant| at.elapsed()));
            begun.push_back(Instant::now());
        }
        link.flush();
    }
    measured(start, cpu, answers, waits)
}

fn lanes(in_flight: u64) -> Result<Measured> {
    let key = ClusterKey::generate();
    let ((a, mut a_queues), (b, mut b_queues)) = (node(1, &key)?, node(2, &key)?);
    a.dial(b.address().to_string(), None, ConnectionKind::Bulk);
    let runtime = current_thread()?;
    let a_link = runtime.block_on(bulk_link(&mut a_queues))?;
    let b_link = runtime.block_on(bulk_link(&mut b_queues))?;
    let echo = std::thread::spawn(move || answer_all(b_queues, &b_link));
    let measured = runtime.block_on(call_all(&mut a_queues, &a_link, in_flight));
    a_link.close("over");
    echo.join().expect("the echo ends")?;
    measured
}

fn measured(start: Instant, cpu: f64, answers: u64, mut waits: Vec<Duration>) -> Result<Measured> {
    waits.sort_unstable();
    let median = waits.get(waits.len() / 2);
    Ok(Measured {
        per_second: answers as f64 / start.elapsed().as_secs_f64(),
        cpu_us: (cpu_seconds()? - cpu) * 1e6 / answers as f64,
        p50_us: median.map_or(0.0, |wait| wait.as_secs_f64() * 1e6),
    })
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            per_second,
            cpu_us,
            p50_us,
        } = self;
        write!(f, "{per_second:>9.0}/s {cpu_us:>6.2} us cpu")?;
        if *p50_us > 0.0 {
            write!(f, " p50 {p50_us:.0} us")?;
        }
        Ok(())
    }
}

/// Gives back what comes, on one bare stream.
fn echo_bare(server: quinn::ServerConfig, tell: oneshot::Sender<SocketAddr>) -> Result<()> {
    current_thread()?.block_on(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = quinn::Endpoint::server(server, any)?;
        let told = tell.send(endpoint.local_addr()?);
        ensure!(told.is_ok(), "nobody listens");
        let connection = endpoint.accept().await.context("no connection")?.await?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        let mut buffer = vec![0; 64 << 10];
        while let Ok(Some(count)) = receive.read(&mut buffer).await {
            if send.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
        Ok(())
    })
}

/// Two bare endpoints, one stream, messages of the body's size, as many in one write as there are.
fn bare(in_flight: usize) -> Result<Measured> {
    let tls = node_tls(&ClusterKey::generate())?;
    let server = quinn::ServerConfig::with_crypto(Arc::clone(&tls.server) as Arc<_>);
    let (tell, told) = oneshot::channel();
    let echo = std::thread::spawn(move || echo_bare(server, tell));
    let measured = current_thread()?.block_on(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut endpoint = quinn::Endpoint::client(any)?;
        let client = quinn::ClientConfig::new(Arc::clone(&tls.client) as Arc<_>);
        endpoint.set_default_client_config(client);
        let connection = endpoint.connect(told.await?, SERVER_NAME)?.await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        let messages = vec![5; BODY_BYTES * in_flight];
        send.write_all(&messages).await?;
        let mut buffer = vec![0; 64 << 10];
        let (start, cpu) = (Instant::now(), cpu_seconds()?);
        let (mut bytes, mut answered, mut waits) = (0, 0, Vec::new());
        let mut begun = Instant::now();
        while start.elapsed() < RUN {
            bytes += receive.read(&mut buffer).await?.context("cut off")?;
            let whole = bytes / BODY_BYTES - answered;
            answered += whole;
            if in_flight == 1 && whole == 1 {
                waits.push(begun.elapsed());
                begun = Instant::now();
            }
            send.write_all(&messages[..whole * BODY_BYTES]).await?;
        }
        connection.close(0_u32.into(), b"over");
        let measured = measured(start, cpu, answered as u64, waits);
        endpoint.wait_idle().await;
        measured
    });
    echo.join().expect("the echo ends")?;
    measured
}

fn main() -> Result<()> {
    for in_flight in [1, 64, 512] {
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let (bare, lanes) = (bare(in_flight)?, lanes(in_flight as u64)?);
            let ratio = lanes.per_second / bare.per_second;
            ratios.push(ratio);
            println!("{in_flight:>4} in flight: bare {bare}; lanes {lanes}; ratio {ratio:.2}");
        }
        ratios.sort_by(f64::total_cmp);
        println!("{in_flight:>4} in flight: ratio {:.2}", ratios[ROUNDS / 2]);
    }
    Ok(())
}
