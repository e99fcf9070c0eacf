use super::*;

fn member(name: &str, state: &str) -> MemberView {
    MemberView {
        id: format!("n{}", "0".repeat(32)),
        name: name.into(),
        state: state.into(),
        duty: "serving".into(),
        generation: 1,
        address: "127.0.0.1:7400".into(),
        http: "127.0.0.1:3500".into(),
        admin: "127.0.0.1:7480".into(),
        zone: String::new(),
        weight: 1,
        leaders: 85,
        replicas: 256,
        pid: 4242,
        version: "0.1.0".into(),
    }
}

#[test]
fn status_begins_with_the_health_sentence() {
    let view = StatusView {
        health: Health::Degraded,
        reasons: vec!["n2 is suspect".into(), "3 replicas move".into()],
        cluster: "c".into(),
        node: "n".into(),
        partitions: 256,
        factor: 3,
        partitions_led: 256,
        copies_min: 2,
        moves: 3,
        weakened: vec!["http listens on 0.0.0.0:3500".into()],
        applications: Vec::new(),
        members: vec![
            member("n1", "alive"),
            member("n2", "suspect"),
            // Of those nobody is missed.
            member("n3", "left"),
            MemberView {
                weight: 0,
                ..member("shop", "down")
            },
        ],
    };
    let text = status_text(&view);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["degraded: n2 is suspect", "  3 replicas move"]);
    assert_eq!(
        lines[2],
        "1 of 2 members   256 of 256 partitions led   at least 2 of 3 copies   3 moves"
    );
    assert_eq!(lines[3], "weakened: http listens on 0.0.0.0:3500");
    assert_eq!(lines[5].split_whitespace().next(), Some("NODE"));
    assert!(lines[6].starts_with("n1    alive"), "{text}");
    assert_eq!(verdict(Health::Unhealthy), Verdict::UnhealthyOrEmpty);
}

#[test]
fn actor_names() {
    assert_eq!(split_actor("counter/a/b").unwrap(), ("counter", "a/b"));
    for wrong in ["counter", "/a", "counter/", ""] {
        assert!(split_actor(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn described_values_are_plain() {
    let value = serde_json::json!([{"id": "n0", "name": "n1"}, {"id": "n0", "name": "n2"}]);
    assert_eq!(plain(&value), "n1, n2");
    assert_eq!(plain(&serde_json::Value::Null), "-");
}

#[test]
fn a_partition_without_a_copy_here_has_no_counts() {
    let view = PartitionView {
        partition: 3,
        leader: None,
        term: 7,
        role: "none".into(),
        voters: Vec::new(),
        learners: Vec::new(),
        commit: 0,
        applied: 0,
        state_hash: "0".repeat(32),
        outbox: 0,
        inbox: 0,
    };
    let text = partitions_text(std::slice::from_ref(&view));
    let row: Vec<&str> = text
        .lines()
        .nth(1)
        .expect("a row")
        .split_whitespace()
        .collect();
    assert_eq!(row, ["p3", "-", "t7", "none", "-", "-", "-", "-", "-", "-"]);
}
