//! A bare QUIC lane each way between two processes, with the nodes' own TLS and transport settings:
//! frames of one size with a length in front, many per write, and nothing of ours behind them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream};

use super::order::{Amount, Loop, Report, buckets, histogram};
use super::proc;
use crate::security::key::ClusterKey;
use crate::security::tls::{SERVER_NAME, node_tls};
use crate::transport;

/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes of a length.
const LENGTH_BYTES: usize = 4;

type Result<T> = std::result::Result<T, String>;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Starts a thread that echoes, until this process ends; returns its port.
pub(super) fn serve(key: &str) -> Result<u16> {
    let runtime = runtime()?;
    let endpoint = bind(&runtime, key)?;
    let port = endpoint.local_addr().map_err(told)?.port();
    std::thread::Builder::new()
        .name("lane-server".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                while let Some(incoming) = endpoint.accept().await {
                    // One client after the other; its error is the end of its connection.
                    if let Ok(connection) = incoming.await {
                        drop(echo(&connection).await);
                    }
                }
            });
        })
        .map_err(told)?;
    Ok(port)
}

async fn echo(connection: &Connection) -> Result<()> {
    let mut receive = connection.accept_uni().await.map_err(told)?;
    let mut send = connection.open_uni().await.map_err(told)?;
    let (mut received, mut answers) = (BytesMut::new(), BytesMut::new());
    loop {
        read(&mut receive, &mut received).await?;
        while let Some(frame) = next_frame(&mut received) {
            put_frame(&mut answers, &frame);
        }
        write(&mut send, &mut answers).await?;
    }
}

/// Sends frames and counts their echoes.
pub(super) fn run(key: &str, port: u16, bytes: usize, plan: &Loop) -> Result<Report> {
    let runtime = runtime()?;
    let endpoint = bind(&runtime, key)?;
    runtime.block_on(async {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connecting = endpoint.connect(server, SERVER_NAME).map_err(told)?;
        let connection = connecting.await.map_err(told)?;
        let report = back_and_forth(&connection, bytes, plan).await;
        connection.close(quinn::VarInt::from_u32(0), b"measured");
        // The server is told; it may be gone already.
        drop(tokio::time::timeout(Duration::from_millis(200), endpoint.wait_idle()).await);
        report
    })
}

async fn back_and_forth(connection: &Connection, bytes: usize, plan: &Loop) -> Result<Report> {
    let Amount::TimeMs(time_ms) = plan.amount else {
        return Err("a lane is measured for a time".to_owned());
    };
    let mut send = connection.open_uni().await.map_err(told)?;
    let (mut received, mut frames) = (BytesMut::new(), BytesMut::new());
    let mut payload = vec![b'x'; bytes.max(8)];
    let start = Instant::now();
    let mut put = |frames: &mut BytesMut| {
        let sent = start.elapsed().as_nanos() as u64;
        payload[..8].copy_from_slice(&sent.to_be_bytes());
        put_frame(frames, &payload);
    };
    for _ in 0..plan.in_flight {
        put(&mut frames);
    }
    write(&mut send, &mut frames).await?;
    let mut receive = connection.accept_uni().await.map_err(told)?;
    let mut latencies = histogram();
    let begin = Duration::from_millis(plan.warm_ms);
    let end = begin + Duration::from_millis(time_ms);
    let cpu = proc::process_cpu(std::process::id())?;
    while start.elapsed() < end {
        read(&mut receive, &mut received).await?;
        let now = start.elapsed();
        while let Some(frame) = next_frame(&mut received) {
            let sent = Duration::from_nanos((&frame[..]).get_u64());
            if now >= begin {
                let nanos = now.saturating_sub(sent).as_nanos() as u64;
                latencies.saturating_record(nanos.max(1));
            }
            put(&mut frames);
        }
        write(&mut send, &mut frames).await?;
    }
    Ok(Report {
        calls: latencies.len(),
        seconds: (start.elapsed() - begin).as_secs_f64(),
        cpu_seconds: (proc::process_cpu(std::process::id())? - cpu).as_secs_f64(),
        latencies: buckets(&latencies),
        ..Report::default()
    })
}

async fn read(receive: &mut RecvStream, received: &mut BytesMut) -> Result<()> {
    let chunk = receive.read_chunk(READ_BYTES, true).await.map_err(told)?;
    let chunk = chunk.ok_or_else(|| "the lane has ended".to_owned())?;
    received.extend_from_slice(&chunk.bytes);
    Ok(())
}

async fn write(send: &mut SendStream, frames: &mut BytesMut) -> Result<()> {
    if frames.is_empty() {
        return Ok(());
    }
    send.write_chunk(frames.split().freeze())
        .await
        .map_err(told)
}

fn next_frame(received: &mut BytesMut) -> Option<BytesMut> {
    let length = received.get(..LENGTH_BYTES)?.get_u32() as usize;
    if received.len() < LENGTH_BYTES + length {
        return None;
    }
    received.advance(LENGTH_BYTES);
    Some(received.split_to(length))
}

fn put_frame(frames: &mut BytesMut, payload: &[u8]) {
    frames.put_u32(payload.len() as u32);
    frames.extend_from_slice(payload);
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(told)
}

fn bind(runtime: &tokio::runtime::Runtime, key: &str) -> Result<Endpoint> {
    let _inside = runtime.enter();
    let key = ClusterKey::parse(key).map_err(told)?;
    let tls = node_tls(&key).map_err(told)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(told)?;
    transport::bare(socket, &tls).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_round() {
        let key = ClusterKey::generate().reveal();
        let port = serve(&key).unwrap();
        for in_flight in [1, 16] {
            let plan = Loop {
                in_flight,
                warm_ms: 10,
                amount: Amount::TimeMs(50),
                per_second: None,
            };
            let report = run(&key, port, 128, &plan).unwrap();
            assert!(report.calls > 10, "{report:?}");
            assert!(report.micros_at(0.5) > 1.0, "{report:?}");
        }
    }
}
