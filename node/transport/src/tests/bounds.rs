//! What a peer, or a stranger, can use up.

use std::collections::BTreeMap;

use super::*;
use crate::endpoint::{HANDSHAKES_UNPROVED_MAX, client_config};
use crate::ground::Chance;
use crate::handshake;
use crate::security::tls::{NodeTls, SERVER_NAME};
use quinn::{Connection, Endpoint};

fn client() -> Endpoint {
    Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

async fn connect(
    endpoint: &Endpoint,
    tls: &NodeTls,
    to: &Peer,
    kind: ConnectionKind,
) -> Connection {
    let config = client_config(kind, tls, &Chance::System);
    let connecting = endpoint.connect_with(config, to.transport.address(), SERVER_NAME);
    connecting.unwrap().await.unwrap()
}

fn door() -> Door {
    Door {
        me: NodeId(9),
        generation: 1,
        known: None,
    }
}

#[tokio::test]
async fn a_peer_may_hold_64_streams_open() {
    let key = ClusterKey::generate();
    let (b, tls, endpoint) = (peer(2, 1, &key, None), node_tls(&key).unwrap(), client());
    let connection = connect(&endpoint, &tls, &b, ConnectionKind::Bulk).await;
    handshake::greet(&connection, ConnectionKind::Bulk, None, &door())
        .await
        .unwrap();
    let mut streams = Vec::new();
    for _ in 0..64 {
        let stream = tokio::time::timeout(PATIENCE, connection.open_uni()).await;
        streams.push(stream.unwrap().unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(300), connection.open_uni()).await;
    assert!(more.is_err(), "a 65th stream was given");
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_ends_its_connection() {
    let key = ClusterKey::generate();
    let (b, tls, endpoint) = (peer(2, 1, &key, None), node_tls(&key).unwrap(), client());
    let no_lane = vec![200];
    let too_long = [&[0][..], &u32::MAX.to_be_bytes()].concat();
    let no_frame = [&[0][..], &5_u32.to_be_bytes(), &[0xff; 5]].concat();
    for bytes in [no_lane, too_long, no_frame] {
        let connection = connect(&endpoint, &tls, &b, ConnectionKind::Bulk).await;
        handshake::greet(&connection, ConnectionKind::Bulk, None, &door())
            .await
            .map_err(|error| error.to_string())
            .unwrap();
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let closed = tokio::time::timeout(PATIENCE, connection.closed()).await;
        let quinn::ConnectionError::ApplicationClosed(close) = closed.unwrap() else {
            panic!("{bytes:?} was taken")
        };
        assert_eq!(&close.reason[..], b"malformed stream");
    }
}

/// The thread is chosen by what the dialer marked; whoever says another thing afterwards is
/// refused.
#[tokio::test]
async fn a_connection_is_what_it_was_begun_as() {
    let key = ClusterKey::generate();
    let (b, tls, endpoint) = (peer(2, 1, &key, None), node_tls(&key).unwrap(), client());
    let connection = connect(&endpoint, &tls, &b, ConnectionKind::Control).await;
    let greeted = handshake::greet(&connection, ConnectionKind::Bulk, None, &door()).await;
    assert!(greeted.is_err());
}

/// Handshakes that are begun from addresses which never answer: few are taken up, the rest must
/// prove their address first, and a peer that does gets in meanwhile.
#[tokio::test]
async fn a_flood_of_handshakes_holds_nobody_up() {
    const FLOOD: usize = 300;
    let key = ClusterKey::generate();
    let (mut a, mut b) = (peer(1, 1, &key, None), peer(2, 1, &key, None));
    a.dial(&b, ConnectionKind::Control);
    let (there, back) = (
        a.link(ConnectionKind::Control).await,
        b.link(ConnectionKind::Control).await,
    );
    let before = b.transport.endpoint().stats();
    // First packets of real handshakes, caught on the way to somewhere else, and sent by nobody.
    let (endpoint, tls) = (client(), node_tls(&key).unwrap());
    let nobody = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    let (mut dialing, mut first_packets) = (Vec::new(), BTreeMap::new());
    let mut packet = [0; 2_048];
    while first_packets.len() < FLOOD {
        let kind = [ConnectionKind::Control, ConnectionKind::Bulk][dialing.len() % 2];
        let config = client_config(kind, &tls, &Chance::System);
        dialing.push(endpoint.connect_with(config, address, SERVER_NAME).unwrap());
        let (length, _) = nobody.recv_from(&mut packet).await.unwrap();
        // By the acceptor's connection id: dialers repeat themselves.
        first_packets.insert(packet[6..26].to_vec(), packet[..length].to_vec());
    }
    for packet in first_packets.values() {
        nobody.send_to(packet, b.transport.address()).await.unwrap();
    }
    // Later than the flood in the same socket: all of it has been looked at when this is through.
    a.dial(&b, ConnectionKind::Bulk);
    let _bulk = a.link(ConnectionKind::Bulk).await;
    for number in 0..50 {
        there.send(Lane::Control, ask(number)).unwrap();
        there.flush();
        assert_eq!(b.frames(ConnectionKind::Control).await, [ask(number)]);
        back.send(Lane::Control, ask(number)).unwrap();
        back.flush();
        assert_eq!(a.frames(ConnectionKind::Control).await, [ask(number)]);
    }
    let taken = b.transport.endpoint().stats().accepted_handshakes - before.accepted_handshakes;
    let most = HANDSHAKES_UNPROVED_MAX as u64 + 1;
    assert!(
        taken > most / 2 && taken <= most,
        "{taken} of {FLOOD} handshakes were taken up, {most} should be"
    );
}
