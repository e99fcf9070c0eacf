//! The first frame of a connection, both ways.

use ghostlight_core::io::{Refused, Refuser};
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::limits::FRAME_HEADER_BYTES_MAX;
use ghostlight_protocol::wire::hello::{ConnectionKind, Hello, HelloRefusal};
use prost::Message;
use quinn::{Connection, RecvStream, SendStream};

use super::{Admission, DialError};

/// A peer that was admitted, and admitted us.
pub(super) struct Greeted {
    pub(super) node: NodeId,
    pub(super) kind: ConnectionKind,
    pub(super) hello: Hello,
}

/// The dialing side: speaks first.
pub(super) async fn greet(
    connection: &Connection,
    kind: ConnectionKind,
    expected: Option<NodeId>,
    admission: &dyn Admission,
) -> Result<Greeted, DialError> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(broken)?;
    let ours = Hello {
        expected: expected.map_or_else(Vec::new, |node| node.to_bytes().to_vec()),
        ..admission.hello(kind)
    };
    write_hello(&mut send, &ours).await?;
    let mut hello = read_hello(&mut receive).await?;
    if let Some(refusal) = hello.refusal.take() {
        return Err(refused(Refuser::Peer, refusal, hello));
    }
    if let Err(refusal) = admission.judge(&hello) {
        return Err(refused(Refuser::Us, refusal, hello));
    }
    greeted(hello, kind)
}

/// The accepting side: answers, or refuses and says why. `marked`: what the connection was driven
/// as so far, which is what it must be for.
pub(super) async fn answer(
    connection: &Connection,
    marked: ConnectionKind,
    admission: &dyn Admission,
) -> Result<Greeted, DialError> {
    let (mut send, mut receive) = connection.accept_bi().await.map_err(broken)?;
    let hello = read_hello(&mut receive).await?;
    let kind = hello.connection();
    if driven_as(kind) != marked {
        return Err(DialError::Broken(format!(
            "a {kind:?} connection that was begun as {marked:?}"
        )));
    }
    let mut ours = admission.hello(kind);
    if let Err(refusal) = admission.judge(&hello) {
        ours.refusal = Some(refusal.clone());
        write_hello(&mut send, &ours).await?;
        // The peer closes when it has read it; a peer that does not is closed by us.
        drop(send.finish());
        drop(send.stopped().await);
        return Err(refused(Refuser::Us, refusal, hello));
    }
    write_hello(&mut send, &ours).await?;
    greeted(hello, kind)
}

/// An inquiry is driven as a control connection.
fn driven_as(kind: ConnectionKind) -> ConnectionKind {
    match kind {
        ConnectionKind::Control | ConnectionKind::Inquiry => ConnectionKind::Control,
        ConnectionKind::Bulk => ConnectionKind::Bulk,
    }
}

fn greeted(hello: Hello, kind: ConnectionKind) -> Result<Greeted, DialError> {
    let node = hello.node.as_ref().and_then(|record| record.id());
    let node = node.ok_or_else(|| DialError::Broken("the peer has no id".to_owned()))?;
    Ok(Greeted { node, kind, hello })
}

fn refused(by: Refuser, refusal: HelloRefusal, theirs: Hello) -> DialError {
    DialError::Refused(Box::new(Refused {
        by,
        code: refusal.code(),
        detail: refusal.detail,
        cluster: theirs.cluster,
    }))
}

async fn write_hello(send: &mut SendStream, hello: &Hello) -> Result<(), DialError> {
    let bytes = hello.encode_length_delimited_to_vec();
    send.write_all(&bytes).await.map_err(broken)
}

async fn read_hello(receive: &mut RecvStream) -> Result<Hello, DialError> {
    let mut bytes = Vec::new();
    loop {
        if let Ok(length) = prost::decode_length_delimiter(&bytes[..]) {
            let total = length + prost::length_delimiter_len(length);
            if total > FRAME_HEADER_BYTES_MAX {
                return Err(DialError::Broken(format!("a greeting of {length} bytes")));
            }
            if bytes.len() >= total {
                return Hello::decode_length_delimited(&bytes[..total]).map_err(broken);
            }
        }
        let chunk = receive
            .read_chunk(FRAME_HEADER_BYTES_MAX, true)
            .await
            .map_err(broken)?;
        let chunk = chunk.ok_or_else(|| DialError::Silent("closed without a word".to_owned()))?;
        bytes.extend_from_slice(&chunk.bytes);
        if bytes.len() > FRAME_HEADER_BYTES_MAX {
            return Err(DialError::Broken("a greeting without end".to_owned()));
        }
    }
}

fn broken(error: impl std::fmt::Display) -> DialError {
    DialError::Broken(error.to_string())
}
