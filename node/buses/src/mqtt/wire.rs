//! One connection to a broker: dialled and introduced, then packets in and out.
//!
//! What goes out waits in a queue for a task of its own, so that acknowledgements and pings leave
//! while nobody reads. The task ends, with a good-bye, when the last [`Sender`] has gone.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use rumqttc::mqttbytes::v4::{Codec, ConnAck, Connect, ConnectReturnCode, Packet};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::codec::Framed;

use super::options::{Options, Tls};
use crate::tls;

/// How long a broker may take to let a client in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How often a broker is asked whether it is there.
const PING_PERIOD: Duration = Duration::from_secs(3);
/// A broker that has said nothing for so long, not even to a ping, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// After so many seconds without a word the broker may take the client for gone.
const KEEP_ALIVE_S: u16 = 15;
/// Packets that wait to be written.
pub(super) const QUEUE_MAX: usize = 16_384;
/// Largest packet, either way.
const PACKET_BYTES_MAX: usize = 64 << 20;

/// A stream, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Frames = Framed<Box<dyn Stream>, Codec>;

/// What is to be written.
pub(super) enum Outgoing {
    Now(Packet),
    /// When the last sender has gone, before the good-bye.
    Last(Packet),
}

/// Where packets go out.
pub(super) type Sender = mpsc::Sender<Outgoing>;

/// Where packets come in.
pub(super) struct Incoming {
    frames: SplitStream<Frames>,
    /// When the broker said something, or nobody listened.
    heard: Instant,
}

/// A connection.
pub(super) struct Wire {
    pub(super) sender: Sender,
    pub(super) incoming: Incoming,
    pub(super) session: Session,
}

/// What the broker remembers of the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Session {
    Fresh,
    Resumed,
}

impl Incoming {
    /// The next packet that says something.
    ///
    /// # Errors
    /// The connection is of no use any more; why.
    pub(super) async fn next(&mut self) -> Result<Packet, String> {
        loop {
            let said = timeout_at(self.heard + SILENCE_MAX, self.frames.next()).await;
            self.heard = Instant::now();
            match said {
                Ok(Some(Ok(Packet::PingResp))) => {}
                Ok(Some(Ok(packet))) => return Ok(packet),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(None) => return Err("the broker closed the connection".to_owned()),
                Err(_) => return Err(format!("the broker was silent for {SILENCE_MAX:?}")),
            }
        }
    }

    /// Nobody listened for a while: the broker is not to blame for its silence.
    pub(super) fn listen_again(&mut self) {
        self.heard = Instant::now();
    }
}

/// Connects as `connect` says, with the component's login.
///
/// # Errors
/// A half sentence.
pub(super) async fn dial(options: &Options, connect: Connect) -> Result<Wire, String> {
    match timeout(CONNECT_TIME_MAX, introduced(options, connect)).await {
        Ok(wire) => wire,
        Err(_) => Err(format!("no connection within {CONNECT_TIME_MAX:?}")),
    }
}

async fn introduced(options: &Options, mut connect: Connect) -> Result<Wire, String> {
    connect.keep_alive = KEEP_ALIVE_S;
    if let Some((name, password)) = &options.login {
        connect.set_login(name, password);
    }
    let codec = Codec {
        max_incoming_size: PACKET_BYTES_MAX,
        max_outgoing_size: PACKET_BYTES_MAX,
    };
    let mut frames = Framed::new(stream(options).await?, codec);
    let sent = frames.send(Packet::Connect(connect)).await;
    sent.map_err(|error| error.to_string())?;
    let session = match frames.next().await {
        Some(Ok(Packet::ConnAck(ConnAck {
            session_present,
            code: ConnectReturnCode::Success,
        }))) => match session_present {
            true => Session::Resumed,
            false => Session::Fresh,
        },
        Some(Ok(Packet::ConnAck(refusal))) => {
            return Err(format!("the broker refuses the client: {:?}", refusal.code));
        }
        Some(Ok(_)) => return Err("what answers is no MQTT broker".to_owned()),
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("the broker closed the connection".to_owned()),
    };
    let (sink, stream) = frames.split();
    let (sender, outgoing) = mpsc::channel(QUEUE_MAX);
    // Ends with its senders, or with the connection.
    drop(tokio::spawn(write(sink, outgoing)));
    Ok(Wire {
        sender,
        incoming: Incoming {
            frames: stream,
            heard: Instant::now(),
        },
        session,
    })
}

async fn stream(options: &Options) -> Result<Box<dyn Stream>, String> {
    let tcp = TcpStream::connect((options.host.as_str(), options.port)).await;
    let tcp = tcp.map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let Tls::On { authority, client } = &options.tls else {
        return Ok(Box::new(tcp));
    };
    let config = tls::config(authority.as_deref(), client.as_ref())?;
    let name = ServerName::try_from(options.host.clone());
    let name = name.map_err(|error| format!("the host's name cannot be: {error}"))?;
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await;
    Ok(Box::new(connected.map_err(|error| error.to_string())?))
}

async fn write(mut sink: SplitSink<Frames, Packet>, mut outgoing: mpsc::Receiver<Outgoing>) {
    let mut pings = interval(PING_PERIOD);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        let mut next = tokio::select! {
            next = outgoing.recv() => match next {
                Some(next) => next,
                None => break,
            },
            _ = pings.tick() => Outgoing::Now(Packet::PingReq),
        };
        // All that waits, then one write.
        let written = loop {
            match next {
                Outgoing::Last(packet) => last = Some(packet),
                Outgoing::Now(packet) => {
                    if let Err(error) = sink.feed(packet).await {
                        break Err(error);
                    }
                }
            }
            match outgoing.try_recv() {
                Ok(more) => next = more,
                Err(_) => break sink.flush().await,
            }
        };
        if written.is_err() {
            // Whoever reads hears of it.
            return;
        }
    }
    for packet in last.into_iter().chain([Packet::Disconnect]) {
        if sink.send(packet).await.is_err() {
            return;
        }
    }
    // It ends either way.
    drop(sink.close().await);
}
