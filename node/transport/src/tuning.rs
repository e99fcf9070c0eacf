//! What the connections are tuned to, and why.
//!
//! One bulk connection holds a node pair's lanes and their large frames. A receiver that does not
//! read one lane must not hold the others: so every lane has its own window, and the connection's
//! windows are larger than all of them together (checked below). The lane of ephemeral topics has
//! its large frames in line.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use ghostlight_core::io::CALL_LANES;
use ghostlight_protocol::wire::hello::ConnectionKind;
use quinn::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
};

use super::ground::Chance;
use super::lanes::{LARGE_AHEAD_BYTES, LARGE_AT_ONCE_MAX};

/// A connection without a packet for this long is gone.
const IDLE_MAX: Duration = Duration::from_secs(3);
/// A packet is sent at least this often.
const KEEP_ALIVE: Duration = Duration::from_millis(250);
/// Expected before it was measured: nodes of one cluster are near each other.
const INITIAL_RTT: Duration = Duration::from_millis(10);
/// Streams that a peer may hold open on its bulk connection; the library allocates for all of them.
const STREAMS_MAX: u32 = 64;
/// The same on its control connection: one is used.
const CONTROL_STREAMS_MAX: u32 = 4;
/// Bytes a peer may send ahead on one stream.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// The same on all streams of a bulk connection.
const BULK_WINDOW_BYTES: u32 = 48 << 20;
/// The same on all streams of a control connection.
const CONTROL_WINDOW_BYTES: u32 = 4 << 20;
/// Largest packet tried on a bulk connection. Ten of them, the library's bound, fit one send of the
/// kernel's segmentation offload (64 KiB); what the path does not carry is found out by probes.
pub(super) const PACKET_BYTES_MAX: u16 = 6_400;
/// Packets received before an acknowledgement is due at once.
const ACK_EVERY_PACKETS: u32 = 10;
/// Buffers of the socket, each way: a burst of the bulk connections must not cost a heartbeat.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Lanes with detached frames; that of ephemeral topics is one more.
const BULK_LANES: usize = CALL_LANES as usize + 3;
const _: () = assert!(BULK_LANES * (1 + LARGE_AT_ONCE_MAX) < STREAMS_MAX as usize);
const _: () = assert!(
    BULK_LANES * (STREAM_WINDOW_BYTES as usize + LARGE_AHEAD_BYTES) + STREAM_WINDOW_BYTES as usize
        <= BULK_WINDOW_BYTES as usize
);
const _: () = assert!(10 * PACKET_BYTES_MAX as usize <= u16::MAX as usize - 48);

/// Of the one endpoint.
pub(super) fn endpoint_config(chance: &Chance) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    if let Some(ids) = chance.ids() {
        config.cid_generator(move || Box::new(ids.clone()));
    }
    config
        .rng_seed(Some(chance.bytes()))
        .max_udp_payload_size(PACKET_BYTES_MAX)
        .expect("the size is within the library's limits");
    config
}

/// Of one kind of connection, both ways.
pub(super) fn transport_config(kind: ConnectionKind) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(
            IdleTimeout::try_from(IDLE_MAX).expect("three seconds are within the limit"),
        ))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .max_concurrent_bidi_streams(VarInt::from_u32(1));
    let (streams, window) = match kind {
        // Small packets, acknowledged as usual: nothing to gain, and no probes beside heartbeats.
        ConnectionKind::Control | ConnectionKind::Inquiry => {
            (CONTROL_STREAMS_MAX, CONTROL_WINDOW_BYTES)
        }
        ConnectionKind::Bulk => {
            let mut mtu = MtuDiscoveryConfig::default();
            mtu.upper_bound(PACKET_BYTES_MAX);
            let mut acks = AckFrequencyConfig::default();
            acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY_PACKETS));
            config
                .mtu_discovery_config(Some(mtu))
                .ack_frequency_config(Some(acks));
            (STREAMS_MAX, BULK_WINDOW_BYTES)
        }
    };
    config
        .max_concurrent_uni_streams(VarInt::from_u32(streams))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(window))
        .send_window(u64::from(window));
    Arc::new(config)
}

/// Asks the kernel for larger buffers, and says when it gives less.
pub(super) fn enlarge_buffers(socket: &UdpSocket) {
    let socket = socket2::SockRef::from(socket);
    // A kernel that refuses leaves the buffers as they are, which is then told.
    drop(socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES));
    drop(socket.set_send_buffer_size(SOCKET_BUFFER_BYTES));
    let sizes = socket.recv_buffer_size().and_then(|receive| {
        let send = socket.send_buffer_size()?;
        Ok((receive, send))
    });
    match sizes {
        Ok((receive, send)) if receive.min(send) < SOCKET_BUFFER_BYTES => tracing::info!(
            receive,
            send,
            wanted = SOCKET_BUFFER_BYTES,
            "the system limits the buffers of the peer socket: bursts between nodes may lose packets. \
             Raise net.core.rmem_max and net.core.wmem_max"
        ),
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "the peer socket's buffers are not known"),
    }
}
