use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use futures::channel::mpsc as pipe;
use futures::stream::BoxStream;
use ghostlight_protocol::actor::ActorKey;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::messages::*;
use super::*;
use crate::app::scripted::PATIENCE;
use crate::app::settings::Protocol;
use crate::app::{AppEvent, InstanceId, Sent};

/// A channel to one application that comes by stream.
struct Bed {
    channel: AppChannel,
    events: mpsc::Receiver<AppEvent>,
}

/// The application's side of a stream.
struct Host {
    say: pipe::Sender<Result<AppMessage, String>>,
    hear: BoxStream<'static, NodeMessage>,
}

fn settings(protocol: Protocol) -> AppSettings {
    let mut settings = AppSettings::local("bank", 3_000);
    settings.protocol = protocol;
    settings
}

impl Bed {
    fn new() -> Self {
        Self::with(settings(Protocol::Grpc))
    }

    fn with(settings: AppSettings) -> Self {
        let (channel, events) = AppChannel::start(vec![settings]);
        Self { channel, events }
    }

    async fn open(&self, first: Word, peer: Option<StreamPeer>) -> Result<Host, StreamRefusal> {
        let (mut say, incoming) = pipe::channel(64);
        say.try_send(Ok(AppMessage {
            request_type: Some(first),
        }))
        .unwrap();
        let app = AppId::new("bank");
        let hear = self.channel.host_stream(&app, peer, incoming).await?;
        let hear = Box::pin(hear);
        Ok(Host { say, hear })
    }

    /// A stream that hosts these types, after its ack.
    async fn host(&self, types: &[&str], peer: Option<StreamPeer>) -> Host {
        let mut host = self.open(initial(types), peer).await.unwrap();
        let ack = host.hear().await;
        assert_eq!(ack, ActorEvent::InitialResponse(InitialResponse {}));
        host
    }

    async fn event(&mut self) -> AppEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event in time").expect("a channel")
    }

    async fn hosting(&mut self) -> (InstanceId, Vec<String>) {
        match self.event().await {
            AppEvent::Hosting {
                instance, types, ..
            } => (instance, types.into_iter().map(|t| t.name).collect()),
            gone @ AppEvent::Gone { .. } => panic!("{gone:?}"),
        }
    }

    async fn gone(&mut self) -> (InstanceId, String) {
        match self.event().await {
            AppEvent::Gone { instance, why, .. } => (instance, why),
            hosting @ AppEvent::Hosting { .. } => panic!("{hosting:?}"),
        }
    }

    fn send(&self, instance: InstanceId, callback: Callback) -> JoinHandle<AppAnswer> {
        let channel = self.channel.clone();
        let request = AppRequest {
            actor: ActorKey::new("default", "T", "a").unwrap(),
            reentrancy_id: Some("r".to_owned()),
            turn: Some("t".to_owned()),
            callback,
        };
        tokio::spawn(async move { channel.send(instance, request).await })
    }
}

impl Host {
    async fn hear(&mut self) -> ActorEvent {
        let heard = tokio::time::timeout(PATIENCE, self.hear.next()).await;
        let heard = heard.expect("a message in time").expect("an open stream");
        heard.response_type.unwrap()
    }

    /// The next request, which must be a method call, by its id.
    async fn invoked(&mut self) -> InvokeRequest {
        match self.hear().await {
            ActorEvent::InvokeRequest(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn say(&mut self, word: Word) {
        self.say
            .try_send(Ok(AppMessage {
                request_type: Some(word),
            }))
            .unwrap();
    }

    fn answer(&mut self, id: &str, data: &str) {
        self.say(Word::InvokeResponse(InvokeResponse {
            id: id.to_owned(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            ..InvokeResponse::default()
        }));
    }
}

fn initial(types: &[&str]) -> Word {
    Word::InitialRequest(AppInitial {
        entities: types.iter().map(|name| (*name).to_owned()).collect(),
        ..AppInitial::default()
    })
}

fn method(name: &str) -> Callback {
    Callback::Method {
        method: name.to_owned(),
        query: String::new(),
        headers: vec![
            ("X-A".to_owned(), "1".to_owned()),
            ("X-A".to_owned(), "2".to_owned()),
            ("dapr-api-token".to_owned(), "secret".to_owned()),
            ("dapr-reentrancy-id".to_owned(), "old".to_owned()),
        ],
        content_type: Some("text/plain".to_owned()),
        body: Bytes::from_static(b"in"),
    }
}

#[track_caller]
fn answered(answer: AppAnswer) -> Answered {
    match answer {
        AppAnswer::Answered(answer) => answer,
        no_answer @ AppAnswer::NoAnswer { .. } => panic!("{no_answer:?}"),
    }
}

#[track_caller]
fn sent(answer: AppAnswer) -> Sent {
    match answer {
        AppAnswer::NoAnswer { sent, .. } => sent,
        answer @ AppAnswer::Answered(_) => panic!("{answer:?}"),
    }
}

/// The two ends of a connection of this process with itself, as a server sees them.
async fn own_peer() -> (StreamPeer, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (near, _) = listener.accept().await.unwrap();
    let peer = StreamPeer {
        near: near.local_addr().unwrap(),
        far: near.peer_addr().unwrap(),
    };
    (peer, near, far)
}

/// Field numbers and kinds are the contract; these bytes were put together by hand from its table.
#[test]
fn on_the_wire() {
    let invoked = AppMessage {
        request_type: Some(Word::InvokeResponse(InvokeResponse {
            id: "7".to_owned(),
            data: Bytes::from_static(b"x"),
            metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            error: true,
        })),
    };
    let bytes = b"\x12\x10\x0a\x017\x12\x01x\x1a\x06\x0a\x01k\x12\x01v\x20\x01";
    assert_eq!(invoked.encode_to_vec(), bytes);
    let failed = b"\x32\x08\x0a\x017\x10\x05\x1a\x01m";
    let word = AppMessage::decode(&failed[..]).unwrap().request_type;
    let wanted = RequestFailed {
        id: "7".to_owned(),
        code: 5,
        message: "m".to_owned(),
    };
    assert_eq!(word, Some(Word::RequestFailed(wanted)));
    let first = b"\x0a\x1a\x0a\x01T\x12\x02\x08\x05\x1a\x02\x10\x07\x20\x00\x2a\x04\x08\x01\x10\x03\x32\x05\x0a\x01T\x20\x01";
    let Some(Word::InitialRequest(first)) = AppMessage::decode(&first[..]).unwrap().request_type
    else {
        panic!()
    };
    assert_eq!(first.actor_idle_timeout.unwrap().seconds, 5);
    assert_eq!(first.drain_ongoing_call_timeout.unwrap().nanos, 7);
    assert_eq!(first.drain_rebalanced_actors, Some(false));
    assert_eq!(first.reentrancy.unwrap().max_stack_depth, Some(3));
    assert_eq!(first.entities_config[0].drain_rebalanced_actors, Some(true));
    let timer = message(ActorEvent::TimerRequest(TimerRequest {
        id: "1".to_owned(),
        actor_type: "T".to_owned(),
        actor_id: "a".to_owned(),
        name: "n".to_owned(),
        due_time: "d".to_owned(),
        period: "p".to_owned(),
        callback: "c".to_owned(),
        data: Some(any(b"{}")),
    }));
    let mut bytes =
        b"\x22\x50\x0a\x011\x12\x01T\x1a\x01a\x22\x01n\x2a\x01d\x32\x01p\x3a\x01c\x42\x39".to_vec();
    bytes.extend_from_slice(
        b"\x0a\x2ftype.googleapis.com/google.protobuf.BytesValue\x12\x04\x0a\x02{}",
    );
    // Lengths are counted here, not above.
    bytes[1] = u8::try_from(bytes.len() - 2).unwrap();
    bytes[24] = u8::try_from(bytes.len() - 25).unwrap();
    bytes[26] = u8::try_from(BYTES_VALUE.len()).unwrap();
    assert_eq!(timer.encode_to_vec(), bytes);
}

#[tokio::test]
async fn a_method_and_its_answer() {
    let mut bed = Bed::new();
    let mut host = bed.host(&["T"], None).await;
    let (instance, types) = bed.hosting().await;
    assert_eq!(types, ["T"]);

    let call = bed.send(instance, method("add"));
    let request = host.invoked().await;
    assert_eq!(
        (request.actor_type.as_str(), request.actor_id.as_str()),
        ("T", "a")
    );
    assert_eq!(
        (request.method.as_str(), &request.data[..]),
        ("add", &b"in"[..])
    );
    let metadata = [
        ("X-A", "1"),
        ("content-type", "text/plain"),
        ("Dapr-Reentrancy-Id", "r"),
        ("Ghostlight-Turn", "t"),
    ];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(request.metadata, BTreeMap::from(metadata));
    host.say(Word::InvokeResponse(InvokeResponse {
        id: request.id,
        data: Bytes::from_static(b"out"),
        metadata: BTreeMap::from([("Content-Type".to_owned(), "x/y".to_owned())]),
        error: true,
    }));
    let answer = answered(call.await.unwrap());
    assert_eq!((answer.status, &answer.body[..]), (200, &b"out"[..]));
    assert_eq!(answer.header("content-type"), Some("x/y"));
    assert!(answer.is_actor_error() && !answer.cancels());
}

#[tokio::test]
async fn reminders_timers_and_deactivation() {
    let mut bed = Bed::new();
    let mut host = bed.host(&["T"], None).await;
    let (instance, _) = bed.hosting().await;
    let reminder = bed.send(
        instance,
        Callback::Reminder {
            name: "wake".to_owned(),
            data: Some(Bytes::from_static(b"[1]")),
        },
    );
    let ActorEvent::ReminderRequest(request) = host.hear().await else {
        panic!()
    };
    assert_eq!(
        (request.name.as_str(), request.due_time.as_str()),
        ("wake", "")
    );
    let data = request.data.unwrap();
    assert_eq!(data.type_url, BYTES_VALUE);
    assert_eq!(Vec::<u8>::decode(&data.value[..]).unwrap(), b"[1]");
    let id = request.id;
    host.say(Word::ReminderResponse(FiringResponse { id, cancel: true }));
    assert!(answered(reminder.await.unwrap()).cancels());

    let timer = bed.send(
        instance,
        Callback::Timer {
            name: "tick".to_owned(),
            callback: "on_tick".to_owned(),
            data: None,
            due_time: "1s".to_owned(),
            period: "2s".to_owned(),
        },
    );
    let ActorEvent::TimerRequest(request) = host.hear().await else {
        panic!()
    };
    let said = (
        request.name,
        request.callback,
        request.due_time,
        request.period,
        request.data,
    );
    let wanted = ["tick", "on_tick", "1s", "2s"].map(str::to_owned);
    let [name, callback, due, period] = wanted;
    assert_eq!(said, (name, callback, due, period, None));
    let id = request.id;
    host.say(Word::TimerResponse(FiringResponse { id, cancel: false }));
    assert!(!answered(timer.await.unwrap()).cancels());

    let gone = bed.send(instance, Callback::Deactivate);
    let ActorEvent::DeactivateRequest(request) = host.hear().await else {
        panic!()
    };
    host.say(Word::DeactivateResponse(DeactivateResponse {
        id: request.id,
    }));
    assert_eq!(answered(gone.await.unwrap()).status, 200);
}

#[tokio::test]
async fn failures() {
    let mut bed = Bed::new();
    let mut host = bed.host(&["T"], None).await;
    let (instance, _) = bed.hosting().await;
    for (code, status) in [(5, 404), (2, 500), (13, 500)] {
        let call = bed.send(instance, method("m"));
        let id = host.invoked().await.id;
        let message = "it broke".to_owned();
        host.say(Word::RequestFailed(RequestFailed { id, code, message }));
        let answer = answered(call.await.unwrap());
        assert_eq!(
            (answer.status, &answer.body[..]),
            (status, &b"it broke"[..])
        );
    }
    // An answer of another kind is a failure; so is none of its business a second one.
    let call = bed.send(instance, method("m"));
    let id = host.invoked().await.id;
    host.say(Word::DeactivateResponse(DeactivateResponse {
        id: id.clone(),
    }));
    assert_eq!(answered(call.await.unwrap()).status, 500);
    host.answer(&id, "again");
    host.answer("never asked", "x");
    let call = bed.send(instance, method("m"));
    let id = host.invoked().await.id;
    host.answer(&id, "fine");
    assert_eq!(&answered(call.await.unwrap()).body[..], b"fine");
}

#[tokio::test]
async fn how_a_stream_begins() {
    let no_first_word = Word::DeactivateResponse(DeactivateResponse::default());
    for (protocol, port, first, refusal) in [
        (
            Protocol::Http,
            true,
            initial(&["T"]),
            Some(StreamRefusal::NoGrpcChannel),
        ),
        (
            Protocol::H2c,
            true,
            initial(&["T"]),
            Some(StreamRefusal::NoGrpcChannel),
        ),
        (Protocol::Http, false, initial(&["T"]), None),
        (Protocol::Grpc, true, initial(&[]), None),
        (Protocol::Grpcs, true, initial(&["T"]), None),
        (
            Protocol::Grpc,
            true,
            no_first_word,
            Some(StreamRefusal::NotInitial),
        ),
    ] {
        let mut settings = settings(protocol);
        settings.address = settings.address.filter(|_| port);
        let bed = Bed::with(settings);
        let opened = bed.open(first, None).await;
        assert_eq!(opened.err(), refusal, "{protocol:?} {port}");
    }
    let bed = Bed::new();
    let (_, closed) = pipe::channel(1);
    let app = AppId::new("bank");
    let refused = bed.channel.host_stream(&app, None, closed).await;
    assert!(matches!(refused.err(), Some(StreamRefusal::Ended(_))));
    let (_say, incoming) = pipe::channel(1);
    let refused = bed
        .channel
        .host_stream(&AppId::new("other"), None, incoming)
        .await;
    assert_eq!(refused.err(), Some(StreamRefusal::NoGrpcChannel));
}

#[tokio::test]
async fn settings_of_a_stream() {
    let mut bed = Bed::new();
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let first = AppInitial {
        entities: vec!["A".to_owned(), "B".to_owned()],
        actor_idle_timeout: seconds(9),
        drain_ongoing_call_timeout: seconds(60),
        drain_rebalanced_actors: Some(false),
        reentrancy: Some(ReentrancyConfig {
            enabled: true,
            max_stack_depth: None,
        }),
        entities_config: vec![EntityConfig {
            entities: vec!["B".to_owned()],
            actor_idle_timeout: seconds(-1),
            ..EntityConfig::default()
        }],
    };
    let _host = bed.open(Word::InitialRequest(first), None).await.unwrap();
    let AppEvent::Hosting { types, .. } = bed.event().await else {
        panic!()
    };
    let said: Vec<_> = types
        .iter()
        .map(|t| {
            let (idle, drain) = (t.idle_timeout.as_secs(), t.drain_timeout.as_secs());
            (
                t.name.as_str(),
                idle,
                drain,
                t.drain_rebalanced,
                t.reentrancy,
            )
        })
        .collect();
    assert_eq!(
        said,
        [("A", 9, 24, false, Some(32)), ("B", 3_600, 24, false, None)]
    );
}

/// The end of a stream, by either side's fault, fails what is under way, and withdraws the types.
#[tokio::test]
async fn a_stream_that_ends_with_calls_in_flight() {
    for broken in [false, true] {
        let mut bed = Bed::new();
        let mut host = bed.host(&["T"], None).await;
        let (instance, _) = bed.hosting().await;
        let calls: Vec<_> = (0..5).map(|_| bed.send(instance, method("m"))).collect();
        for _ in 0..5 {
            host.invoked().await;
        }
        if broken {
            host.say.try_send(Err("reset".to_owned())).unwrap();
        } else {
            host.say.close_channel();
        }
        for call in calls {
            assert_eq!(sent(call.await.unwrap()), Sent::Maybe);
        }
        let (gone, why) = bed.gone().await;
        assert_eq!((gone, why.contains("reset")), (instance, broken), "{why}");
        // The node closes its side as well.
        let end = tokio::time::timeout(PATIENCE, host.hear.next()).await;
        assert_eq!(end.unwrap(), None);
        let late = bed.send(instance, method("m")).await.unwrap();
        assert_eq!(sent(late), Sent::CertainlyNot);
        // Which process it was is unknown, so the next one is another.
        let _again = bed.host(&["T"], None).await;
        assert!(bed.hosting().await.0 > instance);
    }
}

/// A second stream of the same process takes new requests; the first one's are still answered, and
/// its end is no end.
#[tokio::test]
async fn the_newest_stream_of_a_process() {
    let mut bed = Bed::new();
    let (peer, _near, _far) = own_peer().await;
    let mut older = bed.host(&["T"], Some(peer)).await;
    let (instance, _) = bed.hosting().await;
    let running = bed.send(instance, method("m"));
    let id = older.invoked().await.id;
    let mut newer = bed.host(&["T", "U"], Some(peer)).await;
    let (same, types) = bed.hosting().await;
    assert_eq!((same, types.len()), (instance, 2));
    let call = bed.send(instance, method("m"));
    let new_id = newer.invoked().await.id;
    older.answer(&id, "old");
    newer.answer(&new_id, "new");
    assert_eq!(&answered(running.await.unwrap()).body[..], b"old");
    assert_eq!(&answered(call.await.unwrap()).body[..], b"new");
    drop(older);
    let call = bed.send(instance, method("m"));
    let id = newer.invoked().await.id;
    newer.answer(&id, "still");
    assert_eq!(&answered(call.await.unwrap()).body[..], b"still");
    assert!(bed.events.is_empty(), "{:?}", bed.events.try_recv());
    // Closed and opened again by the same process: out of reach, and back with its objects.
    newer.say.close_channel();
    assert_eq!(bed.gone().await.0, instance);
    let _back = bed.host(&["T"], Some(peer)).await;
    assert_eq!(bed.hosting().await.0, instance);
}

/// A stream of another process: the older one may finish, then it is gone.
#[tokio::test]
async fn the_stream_of_a_newer_process() {
    let mut bed = Bed::new();
    let mut older = bed.host(&["T"], None).await;
    let (instance, _) = bed.hosting().await;
    let running = bed.send(instance, method("m"));
    let id = older.invoked().await.id;
    let begun = Instant::now();
    let channel = bed.channel.clone();
    let newer = tokio::spawn(async move {
        let (mut say, incoming) = pipe::channel(4);
        let word = Some(initial(&["T"]));
        say.try_send(Ok(AppMessage { request_type: word })).unwrap();
        let hear = channel
            .host_stream(&AppId::new("bank"), None, incoming)
            .await;
        (say, hear.map(Box::pin))
    });
    // As soon as the newer one is there, the older one is asked nothing more.
    while answered_or_refused(&bed, instance, &mut older).await {
        tokio::task::yield_now().await;
    }
    older.answer(&id, "done");
    assert_eq!(&answered(running.await.unwrap()).body[..], b"done");
    let (gone, why) = bed.gone().await;
    assert_eq!(gone, instance);
    assert!(why.contains("newer process"), "{why}");
    let (next, _) = bed.hosting().await;
    assert!(next > instance);
    assert!(begun.elapsed() < PATIENCE);
    drop(newer.await.unwrap());
}

/// Whether the instance still takes requests.
async fn answered_or_refused(bed: &Bed, instance: InstanceId, host: &mut Host) -> bool {
    let mut call = bed.send(instance, method("m"));
    tokio::select! {
        request = host.invoked() => {
            host.answer(&request.id, "");
            answered(call.await.unwrap());
            true
        }
        answer = &mut call => {
            assert_eq!(sent(answer.unwrap()), Sent::CertainlyNot);
            false
        }
    }
}
