//! What .NET's stable actor SDK sends and expects, replayed: its requests and its host's answers
//! are written here by hand as `Dapr.Actors` and `Dapr.Actors.AspNetCore` write them, because no
//! .NET is at hand.
//!
//! Remoting carries its own header (data-contract XML) in `X-DaprRequestHeader`, its body as
//! octets, and says by `X-DaprErrorResponseHeader` on a 200 that the method threw. State is PUT as
//! text/plain; data of reminders and timers is base64.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ghostlight_chaos::http::{Connection, Reply};
use ghostlight_chaos::played::{Heard, Said};
use ghostlight_chaos::wait::until;
use serde_json::Value;

use super::CALL_TIME_MAX;
use super::contract::Bed;

/// `GET /dapr/config` of an ASP.NET host.
const CONFIG: &str = concat!(
    r#"{"entities":["DemoActor"],"actorIdleTimeout":"1h0m0s0ms","actorScanInterval":"0h0m30s0ms","#,
    r#""drainOngoingCallTimeout":"0h1m0s0ms","drainRebalancedActors":true,"#,
    r#""reentrancy":{"enabled":false}}"#,
);
/// The header of a remoting call.
const REQUEST_HEADER: &str = concat!(
    r#"<z:anyType i:type="ActorHeader" xmlns="urn:actors" "#,
    r#"xmlns:i="http://www.w3.org/2001/XMLSchema-instance" "#,
    r#"xmlns:z="http://schemas.microsoft.com/2003/10/Serialization/">"#,
    r#"<MethodId>-1836023498</MethodId><InterfaceId>1206023198</InterfaceId><ActorId><actorId>abc</actorId></ActorId>"#,
    r#"<CallContext i:nil="true"/><Headers xmlns:a="http://schemas.microsoft.com/2003/10/Serialization/Arrays"/>"#,
    r#"<MethodName>SaveData</MethodName><ActorType>DemoActor</ActorType></z:anyType>"#,
);
/// The header of the answer of a method that threw.
const ERROR_HEADER: &str = concat!(
    r#"<z:anyType i:type="ActorResponseHeader" xmlns="urn:actors" "#,
    r#"xmlns:i="http://www.w3.org/2001/XMLSchema-instance" "#,
    r#"xmlns:z="http://schemas.microsoft.com/2003/10/Serialization/">"#,
    r#"<Headers xmlns:a="http://schemas.microsoft.com/2003/10/Serialization/Arrays">"#,
    r#"<a:KeyValueOfstringbase64Binary><a:Key>HasRemoteException</a:Key>"#,
    r#"<a:Value/></a:KeyValueOfstringbase64Binary></Headers></z:anyType>"#,
);
const EXCEPTION: &str = concat!(
    r#"<ActorInvokeExceptionData xmlns="urn:actors"><Message>Es ist zu spät</Message>"#,
    r#"<Type>System.NotImplementedException</Type></ActorInvokeExceptionData>"#,
);
const BODY: &str =
    r#"<WrappedMessageBody xmlns="urn:actors"><Value>ü &lt;data&gt;</Value></WrappedMessageBody>"#;
const VOID: &str = r#"<WrappedMessageBody xmlns="urn:actors"/>"#;
const OCTETS: &str = "application/octet-stream; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";
/// What its state manager saves.
const STATE: &str = concat!(
    r#"[{"operation":"upsert","request":{"key":"my_data","value":{"PropertyA":"Wert \u00FC","PropertyB":1.50}}},"#,
    r#"{"operation":"upsert","request":{"key":"brief","value":"gone soon","metadata":{"ttlInSeconds":"300"}}},"#,
    r#"{"operation":"delete","request":{"key":"never"}}]"#,
);

/// A request as `HttpClient` writes it.
fn request(verb: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1:3500\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    // HttpClient sends no length with a GET or a DELETE without content.
    if !(body.is_empty() && matches!(verb, "GET" | "DELETE")) {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}

fn replay(address: &str, verb: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let text = request(verb, path, headers, body);
    let reply = Connection::to(address).replay(&text, CALL_TIME_MAX);
    reply.unwrap_or_else(|error| panic!("{verb} {path}: {error}"))
}

const ACTOR: &str = "/v1.0/actors/DemoActor/abc";

/// The host. `node` is where its actors keep their state.
fn host(heard: &Heard, node: &OnceLock<String>) -> Said {
    let node = || node.get().expect("the node runs").as_str();
    match heard.line.as_str() {
        "GET /dapr/config" => Said::new(200, CONFIG).with("Content-Type", "application/json"),
        "GET /healthz" => Said::new(200, "Healthy").with("Content-Type", "text/plain"),
        "PUT /actors/DemoActor/abc/method/SaveData" => {
            let saved = replay(
                node(),
                "PUT",
                &format!("{ACTOR}/state"),
                &[("Content-Type", "text/plain; charset=utf-8")],
                STATE,
            );
            assert_eq!((saved.status, saved.body.as_str()), (204, ""));
            Said::new(200, VOID)
        }
        "PUT /actors/DemoActor/abc/method/TestThrowException" => {
            Said::new(200, EXCEPTION).with("X-DaprErrorResponseHeader", ERROR_HEADER)
        }
        "PUT /actors/DemoActor/abc/method/GetData" => {
            let read = replay(node(), "GET", &format!("{ACTOR}/state/my_data"), &[], "");
            let said = match read.status {
                204 => Said::new(200, ""),
                status => Said::new(status, read.body),
            };
            said.with("Content-Type", "application/json")
        }
        line if line.contains("/actors/DemoActor/") => Said::new(200, ""),
        _ => Said::new(404, ""),
    }
}

fn bed() -> Bed {
    let node = Arc::new(OnceLock::new());
    let bed = {
        let node = Arc::clone(&node);
        Bed::new(move |heard| host(heard, &node))
    };
    node.set(bed.address.clone()).expect("told once");
    bed
}

/// A weakly typed call (`InvokeMethodAsync`).
fn weak(bed: &Bed, method: &str, body: &str) -> Reply {
    let path = format!("{ACTOR}/method/{method}");
    replay(&bed.address, "PUT", &path, &[("Content-Type", JSON)], body)
}

/// A call through an interface (`ActorProxy.Create<IDemoActor>`).
fn remoting(bed: &Bed, method: &str) -> Reply {
    let headers = [
        ("X-DaprRequestHeader", REQUEST_HEADER),
        ("Content-Type", OCTETS),
    ];
    replay(
        &bed.address,
        "PUT",
        &format!("{ACTOR}/method/{method}"),
        &headers,
        BODY,
    )
}

#[test]
fn calls_of_dotnet_and_its_state() {
    let bed = bed();
    // Nothing is saved yet: an empty answer is what its state manager takes for absent.
    let reply = weak(&bed, "GetData", "");
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));

    let reply = remoting(&bed, "SaveData");
    assert_eq!((reply.status, reply.body.as_str()), (200, VOID));
    assert_eq!(reply.header("x-daprerrorresponseheader"), None);
    let heard = &bed.app.heard("/method/SaveData")[0];
    assert_eq!(heard.header("x-daprrequestheader"), Some(REQUEST_HEADER));
    assert_eq!(heard.header("content-type"), Some(OCTETS));
    assert_eq!(heard.body, BODY);

    let reply = weak(&bed, "GetData", "\"x\"");
    let value = r#"{"PropertyA":"Wert \u00FC","PropertyB":1.50}"#;
    assert_eq!((reply.status, reply.body.as_str()), (200, value));
    assert_eq!(reply.header("content-type"), Some("application/json"));

    let get = |key: &str| {
        let path = format!("{ACTOR}/state/{key}");
        replay(&bed.address, "GET", &path, &[], "")
    };
    let brief = get("brief");
    assert_eq!((brief.status, brief.body.as_str()), (200, "\"gone soon\""));
    let expires = brief.header("metadata.ttlexpiretime").expect("its end");
    assert!(
        expires.starts_with("20") && expires.ends_with('Z'),
        "{expires}"
    );
    let absent = get("never");
    assert_eq!((absent.status, absent.body.as_str()), (204, ""));
    assert_eq!(absent.header("metadata.ttlexpiretime"), None);
}

/// A method that threw has answered: its caller gets header and body untouched, nothing is
/// repeated, and its object stays.
#[test]
fn exceptions_of_dotnet() {
    let bed = bed();
    for _ in 0..2 {
        let reply = remoting(&bed, "TestThrowException");
        assert_eq!((reply.status, reply.body.as_str()), (200, EXCEPTION));
        assert_eq!(
            reply.header("x-daprerrorresponseheader"),
            Some(ERROR_HEADER)
        );
    }
    let lines: Vec<String> = bed
        .app
        .heard("/actors/")
        .into_iter()
        .map(|h| h.line)
        .collect();
    assert_eq!(
        lines,
        ["PUT /actors/DemoActor/abc/method/TestThrowException"; 2]
    );
    // What it builds a `DaprApiException` of.
    let state = "/v1.0/actors/DemoActor/never-called/state";
    let text = [("Content-Type", "text/plain; charset=utf-8")];
    let reply = replay(&bed.address, "PUT", state, &text, STATE);
    let error: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(reply.status, 400);
    assert_eq!(error["errorCode"], "ERR_ACTOR_INSTANCE_MISSING");
    assert_eq!(error["message"], "actor instance is missing");
}

#[test]
fn reminders_and_timers_of_dotnet() {
    let bed = bed();
    let put = |what: &str, body: &str| {
        let path = format!("{ACTOR}/{what}");
        let reply = replay(&bed.address, "PUT", &path, &[("Content-Type", JSON)], body);
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{what}");
    };
    let end = |what: &str| {
        let path = format!("{ACTOR}/{what}");
        let reply = replay(&bed.address, "DELETE", &path, &[], "");
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{what}");
    };
    put(
        "reminders/TestReminder",
        r#"{"dueTime":"0h0m0s50ms","period":"0h0m0s100ms","ttl":"0h1m0s0ms","data":"AQIDBA=="}"#,
    );
    let heard = bed.app.until_heard("/method/remind/TestReminder", 2);
    let first = &heard[0];
    assert_eq!(
        first.line,
        "PUT /actors/DemoActor/abc/method/remind/TestReminder"
    );
    assert_eq!(
        first.body,
        r#"{"data":"AQIDBA==","dueTime":"","period":""}"#
    );
    assert_eq!(first.header("content-type"), Some("application/json"));
    let path = format!("{ACTOR}/reminders/TestReminder");
    let shown = replay(&bed.address, "GET", &path, &[], "");
    let shown: Value = serde_json::from_str(&shown.body).expect("JSON");
    assert_eq!(
        (&shown["dueTime"], &shown["period"], &shown["data"]),
        (
            &"0h0m0s50ms".into(),
            &"@every 100ms".into(),
            &"AQIDBA==".into()
        )
    );
    end("reminders/TestReminder");

    put(
        "timers/TestTimer",
        concat!(
            r#"{"dueTime":"0h0m0s50ms","period":"0h0m0s100ms","#,
            r#""callback":"TimerCallback","data":"AQIDBA=="}"#
        ),
    );
    let heard = bed.app.until_heard("/method/timer/TestTimer", 2);
    let first = &heard[0];
    assert_eq!(
        first.line,
        "PUT /actors/DemoActor/abc/method/timer/TestTimer"
    );
    let body = concat!(
        r#"{"data":"AQIDBA==","callback":"TimerCallback","#,
        r#""dueTime":"0h0m0s50ms","period":"0h0m0s100ms"}"#
    );
    assert_eq!(first.body, body);
    end("timers/TestTimer");
    is_quiet_again(&bed);
}

/// Both were ended: soon neither is heard any more.
fn is_quiet_again(bed: &Bed) {
    let count = || bed.app.heard("/method/").len();
    until("nothing fires any more", CALL_TIME_MAX, || {
        let before = count();
        std::thread::sleep(Duration::from_millis(500));
        (count() == before).then_some(())
    });
}
