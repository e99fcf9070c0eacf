//! The same fan-out by servers of others: NATS core and an MQTT broker at QoS 0, without TLS. One
//! connection publishes, one belongs to each subscriber, all on one thread; protocols are spoken in
//! their least form.

use std::rc::Rc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;

use super::fanout::{Seen, drive, event, on_this_thread};
use super::order::{Peer, PeerFan, Report};
use super::peers::{Out, connect};

type Result<T> = std::result::Result<T, String>;

/// Loads a server, on this thread.
pub(super) fn run(load: &PeerFan) -> Result<Report> {
    on_this_thread(async {
        let seen = Seen::by(load.fan.subscribers);
        for subscriber in 0..load.fan.subscribers {
            let (read, out) = begin(load, subscriber).await?;
            let seen = Rc::clone(&seen);
            let peer = load.peer;
            drop(tokio::task::spawn_local(async move {
                // A connection that ends is seen by the publisher, which waits for its events.
                drop(take(peer, read, out, subscriber as usize, &seen).await);
            }));
        }
        let (mut read, out) = connect(load.port).await?;
        hello(load.peer, &mut read, &out, "publisher").await?;
        let send = |number| {
            let data = event(number, load.fan.bytes);
            match load.peer {
                Peer::Mosquitto => out.write(&mqtt_publish(&data)),
                Peer::NatsCore | Peer::Nats | Peer::Redis => {
                    let head = format!("PUB b {}\r\n", data.len());
                    out.write(&[head.as_bytes(), &data, b"\r\n"].concat());
                }
            }
            Ok(())
        };
        let seconds = drive(&load.fan, send, || seen.slowest(), || seen.moved()).await?;
        Ok(seen.report(seconds))
    })
}

/// A subscriber of which the server knows.
async fn begin(load: &PeerFan, subscriber: u32) -> Result<(BufReader<OwnedReadHalf>, Out)> {
    let (mut read, out) = connect(load.port).await?;
    hello(load.peer, &mut read, &out, &format!("s{subscriber}")).await?;
    match load.peer {
        Peer::Mosquitto => {
            // Packet 1, topic "b", QoS 0; then its acknowledgement.
            out.write(&[0x82, 6, 0, 1, 0, 1, b'b', 0]);
            let mut answer = [0; 5];
            said(read.read_exact(&mut answer).await)?;
        }
        Peer::NatsCore | Peer::Nats | Peer::Redis => {
            out.write(b"SUB b 1\r\nPING\r\n");
            until_pong(&mut read).await?;
        }
    }
    Ok((read, out))
}

async fn hello(
    peer: Peer,
    read: &mut BufReader<OwnedReadHalf>,
    out: &Out,
    name: &str,
) -> Result<()> {
    match peer {
        Peer::Mosquitto => {
            // MQTT 3.1.1, a clean session, no keep-alive.
            let mut packet = vec![0x10, 12 + name.len() as u8];
            packet.extend_from_slice(b"\x00\x04MQTT\x04\x02\x00\x00\x00");
            packet.push(name.len() as u8);
            packet.extend_from_slice(name.as_bytes());
            out.write(&packet);
            let mut answer = [0; 4];
            said(read.read_exact(&mut answer).await)?;
            match answer[3] {
                0 => Ok(()),
                code => Err(format!("the broker refused with {code}")),
            }
        }
        Peer::NatsCore | Peer::Nats | Peer::Redis => {
            out.write(b"CONNECT {\"verbose\":false}\r\nPING\r\n");
            until_pong(read).await
        }
    }
}

async fn until_pong(read: &mut BufReader<OwnedReadHalf>) -> Result<()> {
    let mut line = String::new();
    while !line.starts_with("PONG") {
        line.clear();
        if said(read.read_line(&mut line).await)? == 0 {
            return Err("the server has gone".to_owned());
        }
    }
    Ok(())
}

fn mqtt_publish(data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x30];
    let mut length = data.len() + 3;
    loop {
        let more = length > 127;
        packet.push((length & 127) as u8 | if more { 128 } else { 0 });
        length >>= 7;
        if !more {
            break;
        }
    }
    packet.extend_from_slice(&[0, 1, b'b']);
    packet.extend_from_slice(data);
    packet
}

async fn take(
    peer: Peer,
    mut read: BufReader<OwnedReadHalf>,
    out: Out,
    subscriber: usize,
    seen: &Seen,
) -> Result<()> {
    let mut data = Vec::new();
    loop {
        let found = match peer {
            Peer::Mosquitto => mqtt_packet(&mut read, &mut data).await?,
            Peer::NatsCore | Peer::Nats | Peer::Redis => {
                nats_message(&mut read, &out, &mut data).await?
            }
        };
        let Some(from) = found else { continue };
        if !seen.has(subscriber, &data[from..], 0) {
            return Ok(());
        }
    }
}

/// Where the payload begins; `None`: it was something else.
async fn mqtt_packet(
    read: &mut BufReader<OwnedReadHalf>,
    data: &mut Vec<u8>,
) -> Result<Option<usize>> {
    let kind = said(read.read_u8().await)?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = said(read.read_u8().await)?;
        length |= usize::from(byte & 127) << shift;
        shift += 7;
        if byte < 128 || shift > 21 {
            break;
        }
    }
    data.resize(length, 0);
    said(read.read_exact(data).await)?;
    Ok((kind >> 4 == 3 && length >= 3).then_some(3))
}

async fn nats_message(
    read: &mut BufReader<OwnedReadHalf>,
    out: &Out,
    data: &mut Vec<u8>,
) -> Result<Option<usize>> {
    let mut line = String::new();
    if said(read.read_line(&mut line).await)? == 0 {
        return Err("the server has gone".to_owned());
    }
    if line.starts_with("PING") {
        out.write(b"PONG\r\n");
    }
    let Some(rest) = line.strip_prefix("MSG ") else {
        return Ok(None);
    };
    let bytes = rest.split_ascii_whitespace().last();
    let bytes: usize = bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    data.resize(bytes + 2, 0);
    said(read.read_exact(data).await)?;
    Ok(Some(0))
}

fn said<T>(result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| error.to_string())
}
