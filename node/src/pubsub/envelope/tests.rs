use serde_json::{Value, json};

use super::*;

const PLACE: Place<'_> = Place {
    pubsub: "bus",
    topic: "orders",
    source: "shop",
};

fn stamp() -> Stamp {
    Stamp {
        id: "fresh".to_owned(),
        time: WallTime(1_772_366_400_000),
    }
}

fn metadata(pairs: &[(&str, &str)]) -> Metadata {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[track_caller]
fn made(data: &[u8], content_type: &str, given: &[(&str, &str)]) -> Envelope {
    let body = Body { data, content_type };
    let trace = Trace {
        parent: "00-1-2-01",
        state: "a=b",
    };
    Envelope::of(body, PLACE, trace, &metadata(given), stamp()).unwrap()
}

#[track_caller]
fn value(envelope: &Envelope) -> Value {
    serde_json::from_slice(&envelope.to_bytes()).unwrap()
}

#[test]
fn a_new_envelope_has_every_attribute() {
    let wanted = json!({
        "id": "fresh", "specversion": "1.0", "source": "shop", "type": "com.dapr.event.sent",
        "datacontenttype": "application/json", "topic": "orders", "pubsubname": "bus",
        "time": "2026-03-01T12:00:00Z", "traceid": "00-1-2-01", "traceparent": "00-1-2-01",
        "tracestate": "a=b", "data": {"n": 1},
    });
    assert_eq!(value(&made(b"{\"n\": 1}", "application/json", &[])), wanted);
}

#[test]
fn data_goes_in_by_its_media_type() {
    for (data, content_type, name, wanted, stated) in [
        (&b"hi"[..], "", "data", json!("hi"), "text/plain"),
        (b"<a/>", "text/xml", "data", json!("<a/>"), "text/xml"),
        (
            b"[1]",
            "Application/JSON; charset=utf-8",
            "data",
            json!([1]),
            "Application/JSON; charset=utf-8",
        ),
        (
            b"{}",
            "application/vnd.x+json",
            "data",
            json!({}),
            "application/vnd.x+json",
        ),
        // What is no JSON although it says so is a text.
        (
            b"{oops",
            "application/json",
            "data",
            json!("{oops"),
            "application/json",
        ),
        (
            b"",
            "application/json",
            "data",
            json!(""),
            "application/json",
        ),
        (
            b"\x00\xff",
            "application/octet-stream",
            "data_base64",
            json!("AP8="),
            "application/octet-stream",
        ),
        (
            b"\x01",
            "application/cloudevents+protobuf",
            "data_base64",
            json!("AQ=="),
            "application/cloudevents+protobuf",
        ),
    ] {
        let value = value(&made(data, content_type, &[]));
        assert_eq!(value[name], wanted, "{content_type}");
        assert_eq!(value["datacontenttype"], stated, "{content_type}");
        let other = if name == "data" {
            "data_base64"
        } else {
            "data"
        };
        assert!(value.get(other).is_none(), "{value}");
    }
}

#[test]
fn numbers_keep_every_digit() {
    let data = b"{\"big\": 12345678901234567890123, \"precise\": 0.1000000000000000000001}";
    let envelope = made(data, "application/json", &[]);
    assert_eq!(envelope.raw("data").unwrap().as_bytes(), data);
    assert!(String::from_utf8_lossy(&envelope.to_bytes()).contains("12345678901234567890123"));
}

#[test]
fn metadata_overrides_attributes_but_not_the_data() {
    let given = [
        ("cloudevent.id", "i"),
        ("CloudEvent.Source", "s"),
        ("cloudevent.type", "t"),
        ("cloudevent.subject", "u"),
        ("cloudevent.traceid", "00-7-8-01"),
        ("cloudevent.tracestate", "c=d"),
        ("cloudevent.topic", "elsewhere"),
        ("cloudevent.data", "x"),
    ];
    let value = value(&made(b"hi", "text/plain", &given));
    for (name, wanted) in [
        ("id", "i"),
        ("source", "s"),
        ("type", "t"),
        ("subject", "u"),
        ("traceid", "00-7-8-01"),
        ("traceparent", "00-7-8-01"),
        ("tracestate", "c=d"),
        ("topic", "orders"),
        ("data", "hi"),
    ] {
        assert_eq!(value[name], wanted, "{name}");
    }
    assert!(self::value(&made(b"", "", &[])).get("subject").is_none());
}

#[test]
fn a_publishers_own_event_is_kept() {
    let own = json!({
        "id": "mine", "source": "me", "type": "order.v2", "specversion": "1.0", "ext": 7,
        "topic": "lies", "data": {"n": 1}, "tracestate": null,
    });
    let kept = made(
        own.to_string().as_bytes(),
        "application/cloudevents+json; x=y",
        &[],
    );
    let kept = value(&kept);
    for (name, wanted) in [
        ("id", json!("mine")),
        ("source", json!("me")),
        ("type", json!("order.v2")),
        ("ext", json!(7)),
        ("topic", json!("orders")),
        ("pubsubname", json!("bus")),
        ("time", json!("2026-03-01T12:00:00Z")),
        ("traceid", json!("00-1-2-01")),
        ("tracestate", json!("a=b")),
        ("data", json!({"n": 1})),
    ] {
        assert_eq!(kept[name], wanted, "{name}");
    }
    let filled = value(&made(b"{}", CLOUD_EVENT, &[]));
    for (name, wanted) in [
        ("id", "fresh"),
        ("source", "Dapr"),
        ("type", "com.dapr.event.sent"),
        ("specversion", "1.0"),
    ] {
        assert_eq!(filled[name], wanted, "{name}");
    }
    // Its own trace stays.
    let traced = made(b"{\"traceparent\": \"00-9-9-01\"}", CLOUD_EVENT, &[]);
    assert_eq!(traced.text("traceid").unwrap(), "00-9-9-01");
    // One that is no text is none.
    let odd = made(b"{\"traceparent\": 7}", CLOUD_EVENT, &[]);
    assert_eq!(odd.text("traceparent").unwrap(), "00-1-2-01");
    for wrong in [&b"[]"[..], b"", b"7", b"{"] {
        let body = Body {
            data: wrong,
            content_type: CLOUD_EVENT,
        };
        let refused = Envelope::of(body, PLACE, Trace::default(), &metadata(&[]), stamp());
        assert!(refused.is_err(), "{wrong:?}");
    }
}

#[test]
fn raw_payloads_are_wrapped_for_their_subscriber() {
    let wrapped = Envelope::of_raw(b"\x00a", PLACE, &metadata(&[("traceid", "")]), stamp());
    assert_eq!(
        value(&wrapped),
        json!({
            "id": "fresh", "specversion": "1.0", "source": "Dapr", "type": "com.dapr.event.sent",
            "datacontenttype": "application/octet-stream", "topic": "orders", "pubsubname": "bus",
            "time": "2026-03-01T12:00:00Z", "data_base64": "AGE=",
        })
    );
    assert_eq!(&wrapped.payload().unwrap()[..], b"\x00a");
    for (given, wanted) in [
        (
            &[("traceid", "00-1-2-01"), ("TraceState", "a=b")][..],
            ["00-1-2-01", "00-1-2-01", "a=b"],
        ),
        (
            &[("traceparent", "00-3-4-01")],
            ["00-3-4-01", "00-3-4-01", ""],
        ),
        (&[("traceid", "7"), ("traceparent", "8")], ["7", "8", ""]),
    ] {
        let traced = Envelope::of_raw(b"", PLACE, &metadata(given), stamp());
        let found = ["traceid", "traceparent", "tracestate"]
            .map(|name| traced.text(name).unwrap_or_default());
        assert_eq!(found, wanted, "{given:?}");
    }
}

#[test]
fn events_expire() {
    let mut envelope = made(b"", "", &[]);
    assert!(!envelope.is_expired(WallTime(u64::MAX)));
    envelope.expire(WallTime(5_000));
    assert!(!envelope.is_expired(WallTime(4_999)));
    assert!(envelope.is_expired(WallTime(5_000)));
    let odd = Envelope::parse(b"{\"expiration\": \"tomorrow\"}").unwrap();
    assert!(!odd.is_expired(WallTime(u64::MAX)));
}

#[test]
fn a_payload_comes_out_as_it_went_in() {
    for (data, content_type, wanted) in [
        (&b"hi"[..], "text/plain", &b"hi"[..]),
        (b"{\"n\":  1}", "application/json", b"{\"n\":  1}"),
        // JSON stays JSON, a string too.
        (b"\"hi\"", "application/json", b"\"hi\""),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
    ] {
        let envelope = made(data, content_type, &[]);
        assert_eq!(&envelope.payload().unwrap()[..], wanted, "{content_type}");
    }
}
