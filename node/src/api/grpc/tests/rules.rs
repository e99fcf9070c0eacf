//! Rules that hold for every RPC about actors: names, reserved types, tokens, refusals; and what
//! travels beside a call.

use super::*;

/// Asks each RPC about one actor; what they answer is of no interest here.
async fn every(
    client: &mut DaprClient<Channel>,
    actor_type: &str,
    actor_id: &str,
    token: Option<&'static str>,
) -> Vec<(&'static str, Status)> {
    let named = Asks {
        actor_type: actor_type.into(),
        actor_id: actor_id.into(),
        token,
    };
    vec![
        (
            "InvokeActor",
            told(client.invoke_actor(named.invoke()).await),
        ),
        (
            "GetActorState",
            told(client.get_actor_state(named.state()).await),
        ),
        (
            "ExecuteActorStateTransaction",
            told(
                client
                    .execute_actor_state_transaction(named.transaction())
                    .await,
            ),
        ),
        (
            "RegisterActorReminder",
            told(client.register_actor_reminder(named.reminder()).await),
        ),
        (
            "UnregisterActorReminder",
            told(client.unregister_actor_reminder(named.reminder_end()).await),
        ),
        (
            "UnregisterActorRemindersByType",
            told(
                client
                    .unregister_actor_reminders_by_type(named.reminders_end())
                    .await,
            ),
        ),
        (
            "GetActorReminder",
            told(client.get_actor_reminder(named.reminder_get()).await),
        ),
        (
            "ListActorReminders",
            told(client.list_actor_reminders(named.reminders()).await),
        ),
        (
            "RegisterActorTimer",
            told(client.register_actor_timer(named.timer()).await),
        ),
        (
            "UnregisterActorTimer",
            told(client.unregister_actor_timer(named.timer_end()).await),
        ),
    ]
}

/// OK is a status, too.
fn told<T>(result: Result<tonic::Response<T>, Status>) -> Status {
    match result {
        Ok(_) => Status::ok(""),
        Err(status) => status,
    }
}

/// Requests about one actor.
struct Asks {
    actor_type: String,
    actor_id: String,
    token: Option<&'static str>,
}

impl Asks {
    fn with_token<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = self.token {
            let token = token.parse().unwrap();
            request.metadata_mut().insert("dapr-api-token", token);
        }
        request
    }

    fn names(&self) -> (String, String) {
        (self.actor_type.clone(), self.actor_id.clone())
    }

    fn invoke(&self) -> Request<pb::InvokeActorRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::InvokeActorRequest {
            actor_type,
            actor_id,
            method: "m".into(),
            ..Default::default()
        })
    }

    fn state(&self) -> Request<pb::GetActorStateRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::GetActorStateRequest {
            actor_type,
            actor_id,
            key: "k".into(),
        })
    }

    fn transaction(&self) -> Request<pb::ExecuteActorStateTransactionRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::ExecuteActorStateTransactionRequest {
            actor_type,
            actor_id,
            operations: Vec::new(),
        })
    }

    fn reminder(&self) -> Request<pb::RegisterActorReminderRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::RegisterActorReminderRequest {
            actor_type,
            actor_id,
            name: "r".into(),
            ..Default::default()
        })
    }

    fn reminder_end(&self) -> Request<pb::UnregisterActorReminderRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::UnregisterActorReminderRequest {
            actor_type,
            actor_id,
            name: "r".into(),
        })
    }

    fn reminders_end(&self) -> Request<pb::UnregisterActorRemindersByTypeRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::UnregisterActorRemindersByTypeRequest {
            actor_type,
            actor_id: Some(actor_id),
        })
    }

    fn reminder_get(&self) -> Request<pb::GetActorReminderRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::GetActorReminderRequest {
            actor_type,
            actor_id,
            name: "r".into(),
        })
    }

    fn reminders(&self) -> Request<pb::ListActorRemindersRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::ListActorRemindersRequest {
            actor_type,
            actor_id: Some(actor_id),
        })
    }

    fn timer(&self) -> Request<pb::RegisterActorTimerRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::RegisterActorTimerRequest {
            actor_type,
            actor_id,
            name: "t".into(),
            ..Default::default()
        })
    }

    fn timer_end(&self) -> Request<pb::UnregisterActorTimerRequest> {
        let (actor_type, actor_id) = self.names();
        self.with_token(pb::UnregisterActorTimerRequest {
            actor_type,
            actor_id,
            name: "t".into(),
        })
    }
}

#[track_caller]
fn is(rpc: &str, status: &Status, code: Code, words: &str) {
    assert_eq!(status.code(), code, "{rpc}: {status:?}");
    assert!(status.message().contains(words), "{rpc}: {status:?}");
}

#[tokio::test]
async fn every_rpc_checks_names_and_reserved_types() {
    let mut bed = bed(|context| context, &[]).await;
    for (actor_type, actor_id, code, words) in [
        ("bank", "a", Code::Ok, ""),
        ("bank", "a#b", Code::InvalidArgument, "invalid actorId:"),
        ("bank", "a?b", Code::InvalidArgument, "invalid actorId:"),
        ("bank", "a\\b", Code::InvalidArgument, "invalid actorId:"),
        ("bank", "a\0b", Code::InvalidArgument, "invalid actorId:"),
        ("bank", "a\nb", Code::InvalidArgument, "invalid actorId:"),
        ("bank", "..", Code::InvalidArgument, "invalid actorId:"),
        ("bank", "", Code::InvalidArgument, "invalid actorId:"),
        ("a#b", "a", Code::InvalidArgument, "invalid actorType:"),
        ("..", "a", Code::InvalidArgument, "invalid actorType:"),
        ("", "a", Code::InvalidArgument, "invalid actorType:"),
        (
            "dapr.internal.wf",
            "a",
            Code::PermissionDenied,
            "actor type \"dapr.internal.wf\" is reserved for the Dapr workflow runtime; direct actor API access",
        ),
    ] {
        for (rpc, status) in every(&mut bed.client, actor_type, actor_id, None).await {
            is(rpc, &status, code, words);
        }
    }
    // The type alone is checked as well.
    for (actor_type, code) in [
        ("a#b", Code::InvalidArgument),
        ("dapr.internal.wf", Code::PermissionDenied),
    ] {
        let list = pb::ListActorRemindersRequest {
            actor_type: actor_type.into(),
            actor_id: None,
        };
        let listed = bed.client.list_actor_reminders(list).await;
        is("ListActorReminders", &told(listed), code, "");
    }
}

#[tokio::test]
async fn every_rpc_asks_for_the_token() {
    let mut bed = bed(|context| context, &["secret"]).await;
    for (token, code, words) in [
        (
            None,
            Code::Unauthenticated,
            "missing api token in request metadata",
        ),
        (
            Some("wrong"),
            Code::Unauthenticated,
            "authentication error: api token mismatch",
        ),
        (Some("secret"), Code::Ok, ""),
    ] {
        for (rpc, status) in every(&mut bed.client, "bank", "a", token).await {
            is(rpc, &status, code, words);
        }
    }
    let hosted = bed
        .client
        .subscribe_actor_events_alpha1(futures::stream::empty())
        .await;
    is(
        "SubscribeActorEventsAlpha1",
        &told(hosted),
        Code::Unauthenticated,
        "missing api token in request metadata",
    );
}

/// Of an actor, what each RPC about its state, reminders and timers is told. The fake's ids say
/// why.
#[tokio::test]
async fn every_rpc_has_every_refusal() {
    const HOSTED_ONLY: &str =
        "operations on actor reminders are only possible on hosted actor types";
    let mut bed = bed(|context| context, &[]).await;
    for (actor_id, code, words) in [
        ("missing", Code::Internal, "actor instance is missing"),
        ("foreign", Code::PermissionDenied, HOSTED_ONLY),
        (
            "storeless",
            Code::Internal,
            "the state store is not configured to use the actor runtime. Have you set the - name: actorStateStore \
             value: \"true\" in your state store component file?",
        ),
        (
            "appless",
            Code::Unavailable,
            "app channel is not initialized",
        ),
        (
            "placeless",
            Code::Unavailable,
            "placement service is not configured",
        ),
        (
            "nobody",
            Code::FailedPrecondition,
            "did not find address for actor 'bank",
        ),
        (
            "deep",
            Code::ResourceExhausted,
            "maximum stack depth exceeded",
        ),
        ("closed", Code::Unavailable, "actor runtime is closed"),
        ("moving", Code::Unavailable, "it moved [E0216]"),
        ("lost", Code::Internal, "nobody knows [E0112]"),
    ] {
        for (rpc, status) in every(&mut bed.client, "bank", actor_id, None).await {
            match (rpc, actor_id) {
                // The fake's own calls go elsewhere.
                ("InvokeActor", _) => {}
                // Dapr's other words for it.
                ("RegisterActorTimer", "foreign") => {
                    is(rpc, &status, Code::Internal, "actor type not registered");
                }
                _ => is(rpc, &status, code, words),
            }
        }
    }
}

/// What went wrong is told in the words of what was asked.
#[tokio::test]
async fn every_rpc_says_what_went_wrong() {
    let mut bed = bed(|context| context, &[]).await;
    let broken = every(&mut bed.client, "bank", "broken", None).await;
    let words = [
        ("GetActorState", "error getting actor state: it broke"),
        (
            "ExecuteActorStateTransaction",
            "error saving actor transaction state: it broke",
        ),
        (
            "RegisterActorReminder",
            "error creating actor reminder: it broke",
        ),
        (
            "UnregisterActorReminder",
            "error deleting actor reminder: it broke",
        ),
        (
            "UnregisterActorRemindersByType",
            "error deleting actor reminder: it broke",
        ),
        ("GetActorReminder", "error getting actor reminder: it broke"),
        (
            "ListActorReminders",
            "error getting actor reminder: it broke",
        ),
        ("RegisterActorTimer", "error creating actor timer: it broke"),
        (
            "UnregisterActorTimer",
            "error deleting actor timer: it broke",
        ),
    ];
    for ((rpc, status), expected) in broken.iter().skip(1).zip(words) {
        assert_eq!((*rpc, status.message()), expected);
        assert_eq!(status.code(), Code::Internal, "{rpc}");
    }
}

/// Dapr's own rows: over gRPC a method is not encoded, and may not say where it goes.
#[tokio::test]
async fn methods() {
    let mut bed = bed(|context| context, &[]).await;
    let call = |method: &str| pb::InvokeActorRequest {
        method: method.into(),
        ..invoke("i")
    };
    for (method, found) in [
        ("mymethod", "mymethod"),
        ("admin/../legit", "legit"),
        ("../../secret", "secret"),
        ("a%2Fb", "a%2Fb"),
    ] {
        let answer = bed.client.invoke_actor(call(method)).await.unwrap();
        let data = answer.into_inner().data;
        let seen = String::from_utf8_lossy(&data).into_owned();
        assert!(seen.starts_with(&format!("default:c/i {found} ")), "{seen}");
    }
    for wrong in [
        "legit?redirect=attacker.com",
        "legit#fragment",
        "legit\0evil",
        "legit\revil",
        "legit\nevil",
        "legit\tevil",
        "..",
        "",
    ] {
        let refusal = bed.client.invoke_actor(call(wrong)).await;
        refused(refusal, Code::InvalidArgument, "invalid method:");
    }
}

#[tokio::test]
async fn names_of_timers() {
    let mut bed = bed(|context| context, &[]).await;
    let long = "a".repeat(600);
    for name in [
        "",
        "../../method/evil",
        "bad\\name",
        "legit?redirect=evil",
        "bad#name",
        "bad\0name",
        "legit\revil",
        ".",
        "..",
        &long,
    ] {
        let timer = pb::RegisterActorTimerRequest {
            actor_type: "bank".into(),
            actor_id: "a".into(),
            name: name.into(),
            ..Default::default()
        };
        let refusal = bed.client.register_actor_timer(timer).await;
        refused(refusal, Code::InvalidArgument, "invalid request: name");
    }
}

/// Java and Go put what belongs to a call into its message, others into gRPC's metadata; the
/// message wins. Of what gRPC needs for itself nothing reaches the application.
#[tokio::test]
async fn what_travels_beside_a_call() {
    let mut bed = bed(|context| context, &["secret"]).await;
    let mut call = invoke("heard");
    for (name, value) in [
        ("Dapr-Reentrancy-Id", "of-the-message"),
        ("Content-Type", "application/json"),
    ] {
        call.metadata.insert(name.into(), value.into());
    }
    let mut request = Request::new(call);
    for (name, value) in [
        ("dapr-api-token", "secret"),
        ("dapr-reentrancy-id", "of-grpc"),
        ("traceparent", "00-1-2-01"),
    ] {
        let value = value.parse().unwrap();
        request.metadata_mut().insert(name, value);
    }
    request.set_timeout(Duration::from_secs(5));
    let answer = bed.client.invoke_actor(request).await.unwrap();
    let heard = String::from_utf8_lossy(&answer.into_inner().data).into_owned();
    let mut heard: Vec<&str> = heard
        .lines()
        .filter(|line| !line.starts_with("user-agent: "))
        .collect();
    heard.sort_unstable();
    assert_eq!(
        heard,
        [
            "dapr-reentrancy-id: of-the-message",
            "traceparent: 00-1-2-01"
        ]
    );
    // An error of the actor's own making is an answer like any other.
    let mut request = Request::new(invoke("told"));
    let token = "secret".parse().unwrap();
    request.metadata_mut().insert("dapr-api-token", token);
    let answer = bed.client.invoke_actor(request).await.unwrap();
    assert_eq!(&answer.into_inner().data[..], b"<fault/>");
}
