//! Calls and publishes that join a turn, over HTTP. The core's task knows the turn `over`, which is
//! over.

use super::*;

async fn row(addr: SocketAddr, head: &str, body: &[u8], parts: &[&str]) {
    let answer = raw(addr, &head.replacen(" with", " HTTP/1.1", 1), body).await;
    has(&answer, parts);
}

#[tokio::test]
async fn what_joins_a_turn() {
    let (addr, _end) = listen(Api::Dapr, &[]).await;
    const CALL: &str = "POST /v1.0/actors/c/i/method/m with";
    let call = |headers: &str| format!("{CALL}{headers}");
    let token = "\r\nGhostlight-Turn: p1.t2.a3.4.QQ";
    row(
        addr,
        &call(token),
        b"42",
        &["200 OK", "p1.t2.a3.4.QQ: c/i m 2"],
    )
    .await;
    // The same call on its own.
    row(addr, CALL, b"42", &["200 OK", "default:c/i m None None 2"]).await;
    row(
        addr,
        &call("\r\nGhostlight-Turn: over"),
        b"",
        &["409", "ERR_GHOSTLIGHT_TURN_OVER", "E0127"],
    )
    .await;
    let both = format!("{token}\r\nIdempotency-Key: r1");
    row(addr, &call(&both), b"", &["400", "but not both"]).await;

    const PUBLISH: &str = "POST /v1.0/publish/pubsub/orders with";
    row(
        addr,
        &format!("{PUBLISH}{token}"),
        b"1",
        &["204 No Content"],
    )
    .await;
    let over = "\r\nGhostlight-Turn: over";
    let told = &["409", "E0127"];
    row(addr, &format!("{PUBLISH}{over}"), b"1", told).await;
    row(
        addr,
        &format!("{PUBLISH}{both}"),
        b"1",
        &["400", "but not both"],
    )
    .await;
    const BULK: &str = "POST /v1.0/publish/bulk/pubsub/orders with";
    let entries = br#"[{"entryId":"a","event":1},{"entryId":"b","event":2}]"#;
    row(
        addr,
        &format!("{BULK}{token}"),
        entries,
        &["204 No Content"],
    )
    .await;
    row(addr, &format!("{BULK}{over}"), entries, told).await;
    let twice = br#"[{"entryId":"a","event":1},{"entryId":"a","event":2}]"#;
    row(addr, &format!("{BULK}{token}"), twice, &["400"]).await;
}

/// A bus that has no part in what a turn commits.
#[tokio::test]
async fn only_our_own_durable_topics_have_a_part_in_a_turn() {
    let (handle, requests) = NodeHandle::new();
    drop(tokio::spawn(core(requests)));
    let ours = crate::pubsub::registry::own_topics(&handle);
    let component = |name: &str, kind: &str, field: &str| crate::resources::Component {
        name: name.into(),
        kind: kind.into(),
        version: "v1".into(),
        ignore_errors: false,
        metadata: [(field.to_owned(), "*".to_owned())].into(),
        scopes: Vec::new(),
        place: String::new(),
    };
    let resources = Resources {
        components: vec![
            component("memory", "pubsub.in-memory", "x"),
            component("brief", "pubsub.ghostlight", "ephemeralTopics"),
            component("ours", "pubsub.ghostlight", "x"),
        ],
        ..Resources::default()
    };
    let owner = crate::pubsub::tests::owner();
    let context = Context {
        pubsub: Arc::new(PubSub::new(owner, &resources, &ours).unwrap()),
        ..context(&[], Arc::new(app_calls::NoApplication))
    };
    let (addr, _end) = listen_with(serve::Limits::default(), Api::Dapr, context).await;
    for (component, wanted) in [
        ("memory", "has no part in what a turn commits"),
        ("brief", "has no part in what a turn commits"),
        ("ours", "204 No Content"),
    ] {
        let head = format!("POST /v1.0/publish/{component}/t with\r\nGhostlight-Turn: t");
        row(addr, &head, b"1", &[wanted]).await;
    }
}
