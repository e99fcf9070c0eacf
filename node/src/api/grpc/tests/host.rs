//! Applications that host actors by a stream, over a real socket.

use std::sync::OnceLock;

use futures::StreamExt;
use futures::channel::mpsc as pipe;
use ghostlight_protocol::actor::ActorKey;
use tonic::Streaming;

use super::*;
use crate::app::settings::{AppSettings, Protocol};
use crate::app::stream::messages::{
    ActorEvent, AppInitial, AppMessage, InvokeResponse, NodeMessage, RequestFailed, Word,
};
use crate::app::{AppAnswer, AppChannel, AppEvent, AppId, AppRequest, Callback, InstanceId, Sent};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// A service whose node has begun, with one application.
struct HostBed {
    bed: Bed,
    channel: AppChannel,
    events: tokio::sync::mpsc::Receiver<AppEvent>,
}

async fn host_bed(protocol: Protocol) -> HostBed {
    let mut settings = AppSettings::local("bank", 3_000);
    settings.protocol = protocol;
    let (channel, events) = AppChannel::start(vec![settings]);
    let hosts = Arc::new(OnceLock::new());
    hosts.set(channel.clone()).unwrap();
    let change = |context| Context {
        hosts,
        app: Some(AppId::new("bank")),
        ..context
    };
    HostBed {
        bed: bed(change, &[]).await,
        channel,
        events,
    }
}

type Say = pipe::Sender<AppMessage>;

fn first(types: &[&str]) -> Word {
    Word::InitialRequest(AppInitial {
        entities: types.iter().map(ToString::to_string).collect(),
        ..AppInitial::default()
    })
}

fn said(word: Word) -> AppMessage {
    AppMessage {
        request_type: Some(word),
    }
}

async fn open(bed: &mut Bed, word: Word) -> Result<(Say, Streaming<NodeMessage>), Status> {
    let (mut say, heard) = pipe::channel(16);
    say.try_send(said(word)).unwrap();
    let hear = bed.client.subscribe_actor_events_alpha1(heard).await?;
    Ok((say, hear.into_inner()))
}

async fn hear(from: &mut Streaming<NodeMessage>) -> ActorEvent {
    let message = tokio::time::timeout(PATIENCE, from.next()).await;
    let message = message.expect("in time").expect("it is open");
    message.expect("it is whole").response_type.expect("a word")
}

impl HostBed {
    async fn event(&mut self) -> AppEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("in time").expect("a channel")
    }

    async fn hosting(&mut self) -> InstanceId {
        match self.event().await {
            AppEvent::Hosting { instance, .. } => instance,
            gone @ AppEvent::Gone { .. } => panic!("{gone:?}"),
        }
    }

    fn call(&self, instance: InstanceId) -> tokio::task::JoinHandle<AppAnswer> {
        let channel = self.channel.clone();
        let request = AppRequest {
            actor: ActorKey::new("default", "T", "a").unwrap(),
            reentrancy_id: None,
            turn: Some("t".to_owned()),
            callback: Callback::Method {
                method: "add".to_owned(),
                query: String::new(),
                headers: Vec::new(),
                content_type: None,
                body: Bytes::from_static(b"5"),
            },
        };
        tokio::spawn(async move { channel.send(instance, request).await })
    }
}

/// The id of the call that the application hears next.
async fn invoked(from: &mut Streaming<NodeMessage>) -> String {
    match hear(from).await {
        ActorEvent::InvokeRequest(request) => {
            assert_eq!(
                (request.method.as_str(), &request.data[..]),
                ("add", &b"5"[..])
            );
            assert_eq!(request.metadata["Ghostlight-Turn"], "t");
            request.id
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_application_hosts_actors_by_a_stream() {
    let mut host = host_bed(Protocol::Grpc).await;
    let (mut say, mut heard) = open(&mut host.bed, first(&["T"])).await.unwrap();
    assert!(matches!(
        hear(&mut heard).await,
        ActorEvent::InitialResponse(_)
    ));
    let instance = host.hosting().await;
    let call = host.call(instance);
    let id = invoked(&mut heard).await;
    let answer = InvokeResponse {
        id,
        data: Bytes::from_static(b"6"),
        ..InvokeResponse::default()
    };
    say.try_send(said(Word::InvokeResponse(answer))).unwrap();
    match call.await.unwrap() {
        AppAnswer::Answered(answered) => {
            assert_eq!((answered.status, &answered.body[..]), (200, &b"6"[..]));
        }
        none @ AppAnswer::NoAnswer { .. } => panic!("{none:?}"),
    }
    let call = host.call(instance);
    let failed = RequestFailed {
        id: invoked(&mut heard).await,
        code: 5,
        message: "no such method".to_owned(),
    };
    say.try_send(said(Word::RequestFailed(failed))).unwrap();
    match call.await.unwrap() {
        AppAnswer::Answered(answered) => assert_eq!(answered.status, 404),
        none @ AppAnswer::NoAnswer { .. } => panic!("{none:?}"),
    }
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_its_calls_without_an_answer() {
    let mut host = host_bed(Protocol::Grpc).await;
    let (say, mut heard) = open(&mut host.bed, first(&["T"])).await.unwrap();
    assert!(matches!(
        hear(&mut heard).await,
        ActorEvent::InitialResponse(_)
    ));
    let instance = host.hosting().await;
    let call = host.call(instance);
    invoked(&mut heard).await;
    drop((say, heard));
    let AppAnswer::NoAnswer { sent, .. } = call.await.unwrap() else {
        panic!("nobody answered")
    };
    assert_eq!(sent, Sent::Maybe, "it may run on");
    let gone = host.event().await;
    assert!(matches!(gone, AppEvent::Gone { .. }), "{gone:?}");
    // What comes later was certainly not sent.
    let AppAnswer::NoAnswer { sent, .. } = host.call(instance).await.unwrap() else {
        panic!("nobody is there")
    };
    assert_eq!(sent, Sent::CertainlyNot);
}

#[tokio::test]
async fn streams_that_are_refused() {
    let mut http = host_bed(Protocol::Http).await;
    let words = "actor callback streaming requires a gRPC app channel";
    let refusal = open(&mut http.bed, first(&["T"])).await.err().unwrap();
    assert_eq!(
        (refusal.code(), refusal.message()),
        (Code::FailedPrecondition, words)
    );
    let mut grpc = host_bed(Protocol::Grpc).await;
    let early = Word::InvokeResponse(InvokeResponse::default());
    let refusal = open(&mut grpc.bed, early).await.err().unwrap();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
    // Of a node without applications.
    let mut nobody = bed(|context| context, &[]).await;
    let refusal = open(&mut nobody, first(&["T"])).await.err().unwrap();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal:?}");
}
