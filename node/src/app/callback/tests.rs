use ghostlight_protocol::actor::ActorKey;
use http_body_util::BodyExt;
use hyper::HeaderMap;

use super::*;
use crate::app::connection::Closing;
use crate::config::Secret;

fn settings() -> AppSettings {
    AppSettings::local("bank", 3_000)
}

fn ask(id: &str, callback: Callback) -> AppRequest {
    AppRequest {
        actor: ActorKey::new("default", "Account", id).unwrap(),
        reentrancy_id: None,
        turn: None,
        callback,
    }
}

fn method(name: &str) -> Callback {
    Callback::Method {
        method: name.to_owned(),
        query: String::new(),
        headers: vec![],
        content_type: None,
        body: Bytes::new(),
    }
}

fn built(settings: &AppSettings, ask: &AppRequest) -> Outgoing {
    request(settings, settings.address.as_ref().unwrap(), ask).unwrap()
}

fn body(request: Outgoing) -> String {
    let collected = futures::executor::block_on(request.into_body().collect()).unwrap();
    String::from_utf8(collected.to_bytes().to_vec()).unwrap()
}

#[test]
fn paths() {
    let remind = |name: &str| Callback::Reminder {
        name: name.to_owned(),
        data: None,
    };
    for (id, callback, wanted) in [
        ("a", method("add"), "PUT /actors/Account/a/method/add"),
        (
            "a b/ü",
            method("x"),
            "PUT /actors/Account/a%20b%2F%C3%BC/method/x",
        ),
        (
            "a|b@c",
            method("deep/er"),
            "PUT /actors/Account/a%7Cb@c/method/deep/er",
        ),
        (
            "100%",
            method("x%2Fy"),
            "PUT /actors/Account/100%25/method/x%252Fy",
        ),
        (
            "a",
            remind("wake||up@8"),
            "PUT /actors/Account/a/method/remind/wake%7C%7Cup@8",
        ),
        ("a", Callback::Deactivate, "DELETE /actors/Account/a"),
    ] {
        let mut request = built(&settings(), &ask(id, callback));
        let whole = format!("{} {}", request.method(), request.uri());
        let local = wanted.replace(" /", " http://127.0.0.1:3000/");
        assert_eq!(whole, local);
        assert_eq!(request.headers()[HOST], "127.0.0.1:3000");
        fit(&mut request, Carries::One);
        assert_eq!(format!("{} {}", request.method(), request.uri()), wanted);
    }
    let mut with_query = ask("a", method("find"));
    if let Callback::Method { query, .. } = &mut with_query.callback {
        "by=name&x=%20".clone_into(query);
    }
    let mut request = built(&settings(), &with_query);
    assert!(
        request
            .uri()
            .to_string()
            .ends_with("/method/find?by=name&x=%20")
    );
    // HTTP/2 names the authority, and has no Host.
    fit(&mut request, Carries::Many);
    assert_eq!(request.uri().authority().unwrap(), "127.0.0.1:3000");
    assert!(!request.headers().contains_key(HOST));
}

/// Dapr's own test data (reminders and timers, `hdata`).
#[test]
fn bodies() {
    let due = |data: Option<&'static str>| {
        let data = data.map(|text| Bytes::from_static(text.as_bytes()));
        let timer = Callback::Timer {
            name: "t".to_owned(),
            callback: String::new(),
            data: data.clone(),
            due_time: "0s".to_owned(),
            period: String::new(),
        };
        let name = "r".to_owned();
        let bodies = [Callback::Reminder { name, data }, timer];
        bodies.map(|callback| body(built(&settings(), &ask("a", callback))))
    };
    for (data, reminder, timer) in [
        (
            None,
            r#"{"dueTime":"","period":""}"#,
            r#"{"callback":"","dueTime":"0s","period":""}"#,
        ),
        (
            Some(r#""foo""#),
            r#"{"data":"foo","dueTime":"","period":""}"#,
            r#"{"data":"foo","callback":"","dueTime":"0s","period":""}"#,
        ),
        (
            Some(r#"{  "foo": [ 12, 4 ] }"#),
            r#"{"data":{"foo":[12,4]},"dueTime":"","period":""}"#,
            r#"{"data":{"foo":[12,4]},"callback":"","dueTime":"0s","period":""}"#,
        ),
        (
            Some("null"),
            r#"{"data":null,"dueTime":"","period":""}"#,
            r#"{"data":null,"callback":"","dueTime":"0s","period":""}"#,
        ),
        (
            Some("[ 1.50 , true ,\n\"a \\\" b\" ]"),
            r#"{"data":[1.50,true,"a \" b"],"dueTime":"","period":""}"#,
            r#"{"data":[1.50,true,"a \" b"],"callback":"","dueTime":"0s","period":""}"#,
        ),
        (
            Some("\"<a&b>\\\\\""),
            r#"{"data":"\u003ca\u0026b\u003e\\","dueTime":"","period":""}"#,
            r#"{"data":"\u003ca\u0026b\u003e\\","callback":"","dueTime":"0s","period":""}"#,
        ),
    ] {
        assert_eq!(due(data), [reminder, timer].map(str::to_owned), "{data:?}");
    }
    let timer = Callback::Timer {
        name: "t".to_owned(),
        callback: "on\"Tick".to_owned(),
        data: None,
        due_time: "1s".to_owned(),
        period: "R3/PT10S".to_owned(),
    };
    let request = built(&settings(), &ask("a", timer));
    assert_eq!(request.headers()[CONTENT_TYPE], JSON);
    assert_eq!(
        body(request),
        r#"{"callback":"on\"Tick","dueTime":"1s","period":"R3/PT10S"}"#
    );
}

#[test]
fn headers_of_the_caller_reach_the_application() {
    let given = [
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("tracestate", "a=b"),
        ("X-DaprRequestHeader", "<s:Header/>"),
        ("dapr-api-token", "the sidecar's"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("content-length", "7"),
        ("host", "elsewhere"),
        ("content-type", "text/html"),
        ("not a name", "x"),
        ("x-not-a-value", "a\nb"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ];
    let mut ask = ask("a", method("m"));
    ask.reentrancy_id = Some("r-1".to_owned());
    ask.turn = Some("t-1".to_owned());
    if let Callback::Method {
        headers,
        content_type,
        ..
    } = &mut ask.callback
    {
        *headers = given.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        *content_type = Some("application/xml".to_owned());
    }
    let mut settings = settings();
    settings.token = Some(Secret::new("the app's"));
    let request = built(&settings, &ask);
    let mut found: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "content-type: application/xml",
            "dapr-api-token: the app's",
            "dapr-reentrancy-id: r-1",
            "ghostlight-turn: t-1",
            "host: 127.0.0.1:3000",
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "tracestate: a=b",
            "x-daprrequestheader: <s:Header/>",
            "x-twice: 1",
            "x-twice: 2",
        ]
    );
}

#[test]
fn questions_name_the_application() {
    let settings = settings();
    let address = settings.address.clone().unwrap();
    let request = question(&settings, &address, "/dapr/config").unwrap();
    assert_eq!(request.headers()[APP_ID_HEADER], "bank");
    assert_eq!(format!("{}", request.method()), "GET");
    assert!(question(&settings, &address, "/a path").is_err());
}

#[test]
fn answers() {
    let mut headers = HeaderMap::new();
    for (name, text) in [
        ("content-type", "text/plain"),
        ("content-length", "2"),
        ("transfer-encoding", "chunked"),
        ("X-DaprReminderCancel", "True"),
        ("X-DaprErrorResponseHeader", "<error/>"),
    ] {
        headers.append(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_static(text),
        );
    }
    let answer = answered(Exchanged {
        status: 200,
        headers,
        body: Bytes::from_static(b"ok"),
        closing: Closing::No,
    });
    assert_eq!(answer.headers.len(), 3);
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert!(answer.cancels() && answer.is_actor_error());
    for (text, cancels) in [
        ("false", false),
        ("", false),
        ("0", false),
        (" on ", true),
        ("1", true),
    ] {
        let headers = vec![("x-daprremindercancel".to_owned(), text.to_owned())];
        let answer = Answered {
            headers,
            ..answer.clone()
        };
        assert_eq!(
            (answer.cancels(), answer.is_actor_error()),
            (cancels, false),
            "{text:?}"
        );
    }
}
