use super::*;
use bytes::Bytes;

/// The whole table; a new code must be put here on purpose.
const TABLE: &str = "\
E0101 400 ERR_BAD_REQUEST
E0102 400 ERR_BAD_REQUEST
E0103 400 ERR_BAD_REQUEST
E0104 413 ERR_BODY_READ
E0105 504 ERR_GHOSTLIGHT_DEADLINE_EXPIRED
E0106 404 ERR_ACTOR_NO_ADDRESS
E0107 500 ERR_ACTOR_INVOKE_METHOD
E0108 429 ERR_GHOSTLIGHT_MAILBOX_FULL
E0109 409 ERR_GHOSTLIGHT_REQUEST_ID_REUSED
E0110 409 ERR_GHOSTLIGHT_CYCLE
E0111 500 ERR_ACTOR_STACK_DEPTH
E0112 500 ERR_GHOSTLIGHT_OUTCOME_UNKNOWN
E0113 500 ERR_GHOSTLIGHT_INTERRUPTED
E0114 429 ERR_GHOSTLIGHT_DEDUP_FULL
E0115 400 ERR_GHOSTLIGHT_INVALID_REQUEST_ID
E0116 500 ERR_ACTOR_INVOKE_METHOD
E0117 429 ERR_GHOSTLIGHT_GATEWAY_FULL
E0118 400 ERR_GHOSTLIGHT_INVALID_ARGUMENT
E0119 400 ERR_GHOSTLIGHT_TURN_TOO_LARGE
E0120 500 ERR_GHOSTLIGHT_SESSION_CLOSED
E0121 500 ERR_GHOSTLIGHT_REPLY_NOT_KEPT
E0122 400 ERR_GHOSTLIGHT_INVALID_DEADLINE
E0123 403 ERR_ACTOR_TYPE_RESERVED
E0124 503 ERR_GHOSTLIGHT_NO_HOST
E0125 429 ERR_GHOSTLIGHT_MESSAGES_FULL
E0126 429 ERR_GHOSTLIGHT_NODE_BUSY
E0127 409 ERR_GHOSTLIGHT_TURN_OVER
E0201 503 ERR_GHOSTLIGHT_NO_LEADER
E0202 503 ERR_GHOSTLIGHT_MIN_COPIES
E0203 503 ERR_ACTOR_RUNTIME_CLOSED
E0204 503 ERR_GHOSTLIGHT_NOT_JOINED
E0205 403 ERR_GHOSTLIGHT_CLUSTER_KEY_REJECTED
E0206 403 ERR_GHOSTLIGHT_CLUSTER_ID_MISMATCH
E0207 403 ERR_GHOSTLIGHT_SHAPE_MISMATCH
E0208 403 ERR_GHOSTLIGHT_STALE_GENERATION
E0209 403 ERR_GHOSTLIGHT_DECOMMISSIONED
E0210 409 ERR_GHOSTLIGHT_LEAVE_BELOW_FACTOR
E0211 500 ERR_GHOSTLIGHT_YIELDED
E0212 400 ERR_GHOSTLIGHT_EDGE_CANNOT_FOUND
E0213 404 ERR_GHOSTLIGHT_UNKNOWN_NODE
E0214 409 ERR_GHOSTLIGHT_REMOVE_LIVE_NODE
E0215 403 ERR_GHOSTLIGHT_PROTOCOL_MISMATCH
E0216 503 ERR_GHOSTLIGHT_LEADER_MOVED
E0217 503 ERR_GHOSTLIGHT_SEEDS_SILENT
E0218 403 ERR_GHOSTLIGHT_HASH_RULES_MISMATCH
E0220 503 ERR_GHOSTLIGHT_CLOCK_OFF
E0221 500 ERR_GHOSTLIGHT_ORDER_UNCONFIRMED
E0222 409 ERR_GHOSTLIGHT_AMBIGUOUS_NODE
E0301 500 ERR_GHOSTLIGHT_DATA_DIR_LOCKED
E0302 500 ERR_GHOSTLIGHT_DATA_DIR_READ_ONLY
E0303 500 ERR_GHOSTLIGHT_DATA_DIR_FULL
E0304 500 ERR_GHOSTLIGHT_DATA_DIR_NEWER
E0305 500 ERR_GHOSTLIGHT_DATA_DIR_FOREIGN
E0306 500 ERR_GHOSTLIGHT_DATA_DIR_CORRUPT
E0307 500 ERR_GHOSTLIGHT_STORAGE_FAILED
E0308 500 ERR_GHOSTLIGHT_REPLICA_CONDEMNED
E0309 500 ERR_GHOSTLIGHT_DATA_DIR_UNUSABLE
E0310 500 ERR_GHOSTLIGHT_STATES_DIFFER
E0311 500 ERR_GHOSTLIGHT_PROMISES_LOST
E0320 503 ERR_GHOSTLIGHT_DISK_SLOW
E0321 503 ERR_GHOSTLIGHT_DISK_ROOM_SHORT
E0322 503 ERR_GHOSTLIGHT_NODE_STARVED
E0401 500 ERR_GHOSTLIGHT_PORT_IN_USE
E0402 400 ERR_GHOSTLIGHT_CONFIG_UNKNOWN_KEY
E0403 400 ERR_GHOSTLIGHT_CONFIG_INVALID
E0404 500 ERR_GHOSTLIGHT_KEY_FILE_UNUSABLE
E0405 500 ERR_GHOSTLIGHT_PROFILE_REFUSES
E0406 503 ERR_GHOSTLIGHT_NODE_UNREACHABLE
E0407 400 ERR_GHOSTLIGHT_PARTITIONS_INVALID
E0408 500 ERR_GHOSTLIGHT_DEMO_FAILED
E0409 500 ERR_GHOSTLIGHT_BENCH_FAILED
E0410 401 ERR_GHOSTLIGHT_TOKEN_REFUSED
E0501 400 ERR_GHOSTLIGHT_INVALID_TOPIC
E0502 429 ERR_GHOSTLIGHT_TOPIC_BUSY
E0503 404 ERR_GHOSTLIGHT_UNKNOWN_GROUP
E0504 400 ERR_GHOSTLIGHT_CURSOR_OUT_OF_RANGE
E0505 404 ERR_GHOSTLIGHT_UNKNOWN_TOPIC
E0506 400 ERR_GHOSTLIGHT_EPHEMERAL_TOPIC
E0510 503 ERR_GHOSTLIGHT_BUS_UNAVAILABLE
E0511 500 ERR_GHOSTLIGHT_BUS_NOT_SERVED
E0999 500 ERR_GHOSTLIGHT_INTERNAL
";

#[test]
fn the_table_is_as_written_here() {
    let table: String = Code::ALL
        .iter()
        .map(|code| {
            let (status, error_code) = mapping(*code);
            format!("{code} {} {error_code}\n", status.as_u16())
        })
        .collect();
    assert_eq!(table, TABLE);
}

#[test]
fn clients_are_told_to_repeat_only_what_certainly_did_not_run() {
    for code in Code::ALL {
        let (status, _) = mapping(*code);
        let repeated = [429, 503].contains(&status.as_u16());
        let certain = matches!(code.class(), Class::Retry | Class::Overloaded);
        assert_eq!(repeated, certain, "{code}");
        // Whatever code an unknown outcome carries, nobody repeats it without its id.
        assert_eq!(unknown(*code, String::new()).status(), 500, "{code}");
    }
}

#[test]
fn every_retryable_refusal_says_when() {
    for code in Code::ALL {
        let answer = not_run(NotRun::new(*code, "x"));
        let response = answer.clone().into_response();
        let says = response.headers().contains_key(RETRY_AFTER);
        assert_eq!(
            says,
            [429, 503].contains(&answer.status().as_u16()),
            "{code}"
        );
    }
    let pause = Duration::from_millis(1_200);
    let response = not_run(NotRun::retry(Code::MailboxFull, "full", pause)).into_response();
    assert_eq!(response.headers()[RETRY_AFTER], "2");
    assert_eq!(response.headers()[RETRY_AFTER_MS_HEADER], "1200");
    assert_eq!(response.headers()[ERROR_HEADER], "E0108");
}

#[test]
fn header_values_are_always_legal() {
    let error = AppError {
        name: "Sh\u{f6}rt\r\nx: y".to_owned(),
        message: "m".to_owned(),
        payload: Bytes::new(),
    };
    let response = app_error(error).into_response();
    assert_eq!(response.headers()[APP_ERROR_HEADER], "Sh?rt??x: y");
    assert!(!response.headers().contains_key(ERROR_HEADER));
}

/// Dapr's own tests compare the body of an application's error as a whole.
#[tokio::test]
async fn an_applications_status_is_told_in_daprs_words_alone() {
    use http_body_util::BodyExt;
    let error = AppError {
        name: APP_STATUS.to_owned(),
        message: "error from actor service: (500) custom error".to_owned(),
        payload: Bytes::new(),
    };
    let response = app_error(error).into_response();
    assert!(!response.headers().contains_key(APP_ERROR_HEADER));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let expected = concat!(
        r#"{"errorCode":"ERR_ACTOR_INVOKE_METHOD","#,
        r#""message":"error invoke actor method: error from actor service: (500) custom error"}"#
    );
    assert_eq!(&body[..], expected.as_bytes());
}

/// Dapr's metric, read by its dashboards: once for each error that leaves, over either transport.
#[test]
fn errors_are_counted_by_daprs_codes() {
    use crate::pubsub::publish::PublishError;
    use metrics_exporter_prometheus::PrometheusBuilder;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let deep = || not_run(NotRun::new(Code::ChainTooDeep, ""));
    let nowhere = pubsub::Asked {
        pubsub: "bus",
        topic: "orders",
        app_id: "shop",
    };
    metrics::with_local_recorder(&recorder, || {
        drop(deep().into_response());
        drop(deep().into_status());
        drop(app::malformed("EOF").into_response());
        drop(pubsub::publish_error(nowhere, PublishError::NotFound).into_status());
        drop(Answer::health("ERR_HEALTH_NOT_READY", "").into_response());
        drop(not_run(NotRun::new(Code::MailboxFull, "")).into_status());
    });
    let rendered = handle.render();
    for (category, error_code, count) in [
        ("actor", "ERR_ACTOR_STACK_DEPTH", 2),
        ("common", "ERR_MALFORMED_REQUEST", 1),
        ("pubsub", "ERR_PUBSUB_NOT_FOUND", 1),
        ("health", "ERR_HEALTH_NOT_READY", 1),
        ("ghostlight", "ERR_GHOSTLIGHT_MAILBOX_FULL", 1),
    ] {
        let line = format!(
            "dapr_error_code_total{{category=\"{category}\",error_code=\"{error_code}\"}} {count}"
        );
        assert!(rendered.contains(&line), "{line} is not in {rendered}");
    }
}
