use super::*;

const DISSEMINATE: Duration = Duration::from_secs(30);

fn hosted(name: &str) -> HostedType {
    HostedType {
        name: name.to_owned(),
        idle_timeout: IDLE_TIMEOUT,
        drain_timeout: DRAIN_TIMEOUT,
        drain_rebalanced: true,
        reentrancy: None,
    }
}

#[test]
fn what_sdks_send() {
    // As Python writes it: every field, 60 s of drain.
    let python = r#"{"actorIdleTimeout": "1h0m0s0ms0μs", "actorScanInterval": "0h0m30s0ms0μs",
        "drainOngoingCallTimeout": "0h1m0s0ms0μs", "drainRebalancedActors": true,
        "reentrancy": {"enabled": true, "maxStackDepth": 5}, "remindersStoragePartitions": 0,
        "entitiesConfig": [], "entities": ["DemoActor"]}"#;
    let found = parse(python.as_bytes(), DISSEMINATE);
    let wanted = HostedType {
        drain_timeout: Duration::from_secs(24),
        reentrancy: Some(5),
        ..hosted("DemoActor")
    };
    assert_eq!((found.types, found.warnings), (vec![wanted], vec![]));

    // As Java writes it: what is not set is left out. As Go: names in any case.
    let sparse = parse(
        br#"{"entities":["A","B","A"],"ActorIdleTimeout":"90s"}"#,
        DISSEMINATE,
    );
    let idle = Duration::from_secs(90);
    let wanted = ["A", "B"].map(|name| HostedType {
        idle_timeout: idle,
        ..hosted(name)
    });
    assert_eq!(sparse.types, wanted);
}

#[test]
fn settings_of_one_type() {
    let body =
        br#"{"entities":["A","B","C"],"actorIdleTimeout":"10m","drainOngoingCallTimeout":"7s",
        "reentrancy":{"enabled":true},
        "entitiesConfig":[{"entities":["B","absent"],"drainRebalancedActors":false},
                          {"entities":["C"],"actorIdleTimeout":"1s","drainOngoingCallTimeout":"3s",
                           "reentrancy":{"enabled":true,"maxStackDepth":2}}]}"#;
    let drain = Duration::from_secs(7);
    let wanted = vec![
        HostedType {
            idle_timeout: Duration::from_secs(600),
            drain_timeout: drain,
            reentrancy: Some(STACK_DEPTH),
            ..hosted("A")
        },
        // Its idle time and reentrancy are its own, and not given; only the drain is the common
        // one.
        HostedType {
            drain_timeout: drain,
            drain_rebalanced: false,
            ..hosted("B")
        },
        HostedType {
            idle_timeout: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(3),
            reentrancy: Some(2),
            ..hosted("C")
        },
    ];
    assert_eq!(parse(body, DISSEMINATE).types, wanted);
}

#[test]
fn drains_are_clamped() {
    for (drain, disseminate, wanted) in [
        ("29s", 30, 29_000),
        ("30s", 30, 24_000),
        ("1h", 30, 24_000),
        ("5s", 2, 2_000),
        ("0s", 30, 0),
    ] {
        let body = format!(r#"{{"entities":["A"],"drainOngoingCallTimeout":"{drain}"}}"#);
        let found = parse(body.as_bytes(), Duration::from_secs(disseminate));
        let drained = found.types[0].drain_timeout;
        assert_eq!(
            drained,
            Duration::from_millis(wanted),
            "{drain} of {disseminate}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    for (body, types, warnings) in [
        ("", 0, 1),
        ("[]", 0, 1),
        ("{}", 0, 0),
        (r#"{"entities":null,"reentrancy":null}"#, 0, 0),
        (r#"{"entities":"A"}"#, 0, 1),
        (r#"{"entities":["A"],"entitiesConfig":7}"#, 1, 1),
        (r#"{"entities":["A"],"actorIdleTimeout":"soon"}"#, 1, 1),
        (r#"{"entities":["A"],"actorIdleTimeout":""}"#, 1, 0),
        (
            r#"{"entities":["A"],"actorIdleTimeout":5,"drainRebalancedActors":"x"}"#,
            1,
            2,
        ),
        (r#"{"entities":["A"],"reentrancy":true}"#, 1, 1),
        (
            r#"{"entities":["A"],"reentrancy":{"enabled":true,"maxStackDepth":-1}}"#,
            1,
            1,
        ),
        (
            r#"{"entities":["a#b","..","","dapr.internal.x","A"]}"#,
            1,
            4,
        ),
    ] {
        let found = parse(body.as_bytes(), DISSEMINATE);
        let said = (found.types.len(), found.warnings.len());
        assert_eq!(said, (types, warnings), "{body}: {:?}", found.warnings);
        for hosted in &found.types {
            assert_eq!(hosted.idle_timeout, IDLE_TIMEOUT, "{body}");
        }
    }
}

#[test]
fn the_number_of_types_is_bounded() {
    let names: Vec<String> = (0..=TYPES_MAX).map(|n| format!("T{n}")).collect();
    let body = serde_json::json!({ "entities": names }).to_string();
    let found = parse(body.as_bytes(), DISSEMINATE);
    assert_eq!((found.types.len(), found.warnings.len()), (TYPES_MAX, 1));
}
