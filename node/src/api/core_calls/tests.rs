use tokio::sync::mpsc;

use super::*;
use crate::api::app_calls::When;
use crate::handle::Request;

fn actor() -> ActorKey {
    ActorKey::new("default", "bank", "a").unwrap()
}

/// Calls whose core answers so; returns also what it was asked.
async fn play(call: AppCall, outcome: AppOutcome) -> (AppCallOutcome, String) {
    let (handle, requests) = NodeHandle::new();
    let calls = CoreCalls::new(handle, None, Hosts::default());
    let (outcome, asked) = tokio::join!(calls.app_call(actor(), call), answer(requests, outcome));
    (outcome, asked)
}

/// Beside it `bank` is hosted.
async fn answer(mut requests: mpsc::Receiver<Request>, outcome: AppOutcome) -> String {
    loop {
        match requests.recv().await.expect("a call") {
            Request::Admin { answer, .. } => {
                drop(answer.send(AdminAnswer::Hosted(vec![("bank".to_owned(), 0)])));
            }
            Request::App {
                actor,
                call,
                answer,
            } => {
                answer.send(outcome).unwrap();
                return format!("{actor:?} {call:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

fn registration() -> Registration {
    Registration {
        name: "r".to_owned(),
        when: When {
            due_time: "2s".to_owned(),
            period: "R3/PT5S".to_owned(),
            ttl: "1h".to_owned(),
        },
        data: Some(Bytes::from_static(b"{}")),
    }
}

#[tokio::test]
async fn calls_about_state_arrive_in_the_cores_words() {
    for (call, parts) in [
        (
            AppCall::StateTransaction(vec![
                StateOp::Upsert {
                    key: "k".to_owned(),
                    value: Bytes::from_static(b"1"),
                    ttl: Some(Duration::from_secs(60)),
                },
                StateOp::Delete {
                    key: "old".to_owned(),
                },
            ]),
            &[
                "default:bank/a StateTransaction",
                "Upsert { key: b\"k\", value: b\"1\", ttl: Some(60s) }",
                "Delete { key: b\"old\" }",
            ][..],
        ),
        (
            AppCall::StateGet {
                key: "k".to_owned(),
            },
            &["StateGet { key: b\"k\" }"],
        ),
    ] {
        arrives(call, parts).await;
    }
}

/// The core hears this, and says that it is done.
async fn arrives(call: AppCall, parts: &[&str]) {
    let (outcome, asked) = play(call, AppOutcome::Done).await;
    assert_eq!(outcome, Ok(AppReply::Done));
    for part in parts {
        assert!(asked.contains(part), "{part} is not in {asked}");
    }
}

#[tokio::test]
async fn schedules_arrive_in_the_cores_words() {
    let name = || "r".to_owned();
    let register = |overwrite, failure_policy| AppCall::ReminderRegister {
        registration: registration(),
        overwrite,
        failure_policy,
    };
    let twice = FailurePolicy::Constant {
        interval: Duration::from_secs(2),
        max_retries: Some(5),
    };
    for (call, parts) in [
        (
            register(Overwrite::Replace, None),
            &[
                "ScheduleSet { kind: Reminder, name: \"r\"",
                "due_time: \"2s\", period: \"R3/PT5S\", ttl: \"1h\", data: Some(b\"{}\"), form: Json",
                "overwrite: Yes, failure: None",
            ][..],
        ),
        (
            register(Overwrite::Refuse, Some(FailurePolicy::Drop)),
            &[
                "overwrite: No",
                "FailurePolicy { interval_ms: 0, retries_max: Some(0) }",
            ],
        ),
        (
            register(Overwrite::Replace, Some(twice)),
            &["FailurePolicy { interval_ms: 2000, retries_max: Some(5) }"],
        ),
        (
            AppCall::ReminderUnregister { name: name() },
            &["ScheduleUnset { kind: Reminder, name: \"r\" }"],
        ),
        (
            AppCall::TimerRegister {
                registration: registration(),
                callback: "ring".to_owned(),
            },
            &[
                "ScheduleSet { kind: Timer",
                "callback: \"ring\", overwrite: Yes",
            ],
        ),
        (
            AppCall::TimerUnregister { name: name() },
            &["ScheduleUnset { kind: Timer, name: \"r\" }"],
        ),
    ] {
        arrives(call, parts).await;
    }
}

#[tokio::test]
async fn outcomes_come_back_in_the_apis_words() {
    let not_run = |code| AppOutcome::Refused(NotRun::new(code, "why"));
    let value = words::StateValue {
        data: Bytes::from_static(b"1"),
        expires_ms: Some(7),
    };
    let read = StateValue {
        value: Bytes::from_static(b"1"),
        expires: Some(WallTime(7)),
    };
    for (outcome, expected) in [
        (AppOutcome::Value(None), Ok(AppReply::State(None))),
        (
            AppOutcome::Value(Some(value)),
            Ok(AppReply::State(Some(read))),
        ),
        (
            AppOutcome::InstanceMissing,
            Err(AppRefusal::InstanceMissing),
        ),
        (AppOutcome::NotHosted, Err(AppRefusal::NotHosted)),
        (AppOutcome::AlreadyExists, Err(AppRefusal::AlreadyExists)),
        (
            AppOutcome::Malformed("no time".to_owned()),
            Err(AppRefusal::Failed("no time".to_owned())),
        ),
        (not_run(Code::ShuttingDown), Err(AppRefusal::Closed)),
        (not_run(Code::NoHost), Err(AppRefusal::NoAddress)),
        (not_run(Code::ChainTooDeep), Err(AppRefusal::StackDepth)),
        (
            not_run(Code::LeaderMoved),
            Err(AppRefusal::NotRun(NotRun::new(Code::LeaderMoved, "why"))),
        ),
        (
            AppOutcome::Unknown("lost".to_owned()),
            Err(AppRefusal::Unknown {
                code: Code::OutcomeUnknown,
                detail: "lost".to_owned(),
            }),
        ),
    ] {
        let call = AppCall::StateGet {
            key: "k".to_owned(),
        };
        assert_eq!(play(call, outcome).await.0, expected);
    }
}

#[tokio::test]
async fn reminders_are_shown_as_dapr_shows_them() {
    let get = || AppCall::ReminderGet {
        name: "r".to_owned(),
    };
    let (outcome, asked) = play(get(), AppOutcome::NotFound).await;
    assert_eq!(outcome, Ok(AppReply::Reminder(None)));
    assert!(
        asked.contains("ScheduleGet { kind: Reminder, name: \"r\" }"),
        "{asked}"
    );
    let row = ScheduleRow {
        due_given: "2s".to_owned(),
        period_given: "R3/PT5S".to_owned(),
        ends_ms: 9,
        data: Some(Bytes::from_static(b"hi")),
        form: DataForm::Bytes as i32,
        ..ScheduleRow::default()
    };
    let shown = ReminderView {
        actor_type: "bank".to_owned(),
        actor_id: "a".to_owned(),
        due_time: "2s".to_owned(),
        period: "@every 5s".to_owned(),
        expires: Some(WallTime(9)),
        data: Some(Bytes::from_static(b"\"aGk=\"")),
    };
    let rows = AppOutcome::Schedules(vec![("r".to_owned(), row.clone())]);
    let (outcome, _) = play(get(), rows).await;
    assert_eq!(
        outcome,
        Ok(AppReply::Reminder(Some(Box::new(shown.clone()))))
    );
    let once = ScheduleRow::default();
    let (outcome, _) = play(get(), AppOutcome::Schedules(vec![("r".to_owned(), once)])).await;
    let Ok(AppReply::Reminder(Some(bare))) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (bare.period.as_str(), bare.expires, bare.data),
        ("", None, None)
    );
    let (handle, requests) = NodeHandle::new();
    let calls = CoreCalls::new(handle, None, Hosts::default());
    let rows = AppOutcome::Schedules(vec![("r".to_owned(), row)]);
    let listed = calls.reminders_call(Scope::Actor(actor()), RemindersCall::List);
    let (listed, asked) = tokio::join!(listed, answer(requests, rows));
    let named = NamedReminder {
        name: "r".to_owned(),
        reminder: shown,
    };
    assert_eq!(listed, Ok(AppReply::Reminders(vec![named])));
    assert!(asked.contains("ScheduleList(Reminder)"), "{asked}");
}

/// Two applications beside one node, each with its own listener.
#[tokio::test]
async fn an_actor_of_a_neighbour_is_not_the_applications_own() {
    use futures::FutureExt;

    use crate::app::settings::{AppSettings, Protocol};
    use crate::app::stream::messages::{AppInitial, AppMessage, Word};

    let settings = ["one", "two"].map(|id| AppSettings {
        protocol: Protocol::Grpc,
        ..AppSettings::new(AppId::new(id), None)
    });
    let (channel, mut events) = AppChannel::start(settings.to_vec());
    let (mut say, incoming) = futures::channel::mpsc::channel(1);
    let initial = AppInitial {
        entities: vec!["bank".to_owned()],
        ..AppInitial::default()
    };
    say.try_send(Ok(AppMessage {
        request_type: Some(Word::InitialRequest(initial)),
    }))
    .unwrap();
    let one = AppId::new("one");
    let hosted = channel.host_stream(&one, None, incoming);
    let _stream = hosted.await.unwrap();
    events.recv().await.expect("it hosts");
    let hosts = Hosts::default();
    hosts.set(channel).expect("it is the first");
    let (handle, _requests) = NodeHandle::new();
    let transaction = || AppCall::StateTransaction(Vec::new());
    let reminder = || AppCall::ReminderGet {
        name: "r".to_owned(),
    };
    let get = || AppCall::StateGet {
        key: "k".to_owned(),
    };
    for (app, call, refusal) in [
        ("two", transaction(), Some(AppRefusal::InstanceMissing)),
        ("two", reminder(), Some(AppRefusal::NotHosted)),
        ("two", get(), None),
        ("one", transaction(), None),
        ("one", reminder(), None),
    ] {
        let app = Some(AppId::new(app));
        let calls = CoreCalls::new(handle.clone(), app.clone(), Arc::clone(&hosts));
        // Without a refusal the core is asked, which says nothing here.
        let refused = calls.app_call(actor(), call.clone()).now_or_never();
        assert_eq!(refused.and_then(Result::err), refusal, "{app:?} {call:?}");
    }
}

/// Dapr's rule for every question about reminders. Setting and ending them is decided where they
/// are kept.
#[tokio::test]
async fn reminders_are_asked_about_only_where_their_type_is_hosted() {
    let foreign = || ActorKey::new("default", "shop", "a").unwrap();
    let of_type = || Scope::Type {
        namespace: "default".to_owned(),
        actor_type: "shop".to_owned(),
    };
    let ending = || AdminAnswer::Refused {
        code: Code::ShuttingDown,
        detail: "it ends".to_owned(),
    };
    let others = || AdminAnswer::Hosted(vec![("bank".to_owned(), 3)]);
    let nobody = || AdminAnswer::Hosted(Vec::new());
    for (hosted, expected) in [
        (others(), AppRefusal::NotHosted),
        (nobody(), AppRefusal::NotHosted),
        (ending(), AppRefusal::Closed),
    ] {
        let (handle, mut requests) = NodeHandle::new();
        drop(tokio::spawn(async move {
            while let Some(Request::Admin { answer, .. }) = requests.recv().await {
                drop(answer.send(hosted.clone()));
            }
        }));
        let calls = CoreCalls::new(handle, None, Hosts::default());
        let name = "r".to_owned();
        let get = calls.app_call(foreign(), AppCall::ReminderGet { name });
        assert_eq!(get.await, Err(expected.clone()));
        for scope in [Scope::Actor(foreign()), of_type()] {
            for call in [RemindersCall::List, RemindersCall::UnregisterAll] {
                let asked = calls.reminders_call(scope.clone(), call);
                assert_eq!(asked.await, Err(expected.clone()), "{scope:?} {call:?}");
            }
        }
    }
}

/// What health and metadata say while an application comes, is there, and has gone.
#[tokio::test]
async fn hosting_follows_the_application() {
    use crate::app::scripted::{ScriptedApp, hosts};
    use crate::app::settings::AppSettings;
    use crate::app::{AppEvent, AppRequest, Callback};
    let (handle, _requests) = NodeHandle::new();
    let (hosts_of, app) = (Hosts::default(), AppId::new("bank"));
    let calls = CoreCalls::new(handle, Some(app), Arc::clone(&hosts_of));
    let mut scripted = ScriptedApp::start().await;
    scripted.on("GET /dapr/config", [hosts(&["T", "U"])]);
    let awaited = Hosting {
        status: RuntimeStatus::Initializing,
        host: HostState::NotReady,
        placement: PlacementState::Unknown,
        types: Vec::new(),
        unready: vec!["app"],
    };
    assert_eq!(calls.hosting(), awaited);
    let (channel, mut events) = AppChannel::start(vec![AppSettings::local("bank", scripted.port)]);
    hosts_of.set(channel.clone()).unwrap();
    let Some(AppEvent::Hosting { instance, .. }) = events.recv().await else {
        panic!("it is there")
    };
    let there = Hosting {
        status: RuntimeStatus::Running,
        host: HostState::Ready,
        placement: PlacementState::Connected,
        types: vec![("T".to_owned(), 0), ("U".to_owned(), 0)],
        unready: Vec::new(),
    };
    assert_eq!(calls.hosting(), there);
    scripted.down().await;
    // Its process lives on: that nobody listens shows in the next request.
    let request = AppRequest {
        actor: actor(),
        reentrancy_id: None,
        turn: None,
        callback: Callback::Deactivate,
    };
    drop(channel.send(instance, request).await);
    assert!(matches!(events.recv().await, Some(AppEvent::Gone { .. })));
    let gone = Hosting {
        host: HostState::NotReady,
        types: Vec::new(),
        ..there
    };
    assert_eq!(calls.hosting(), gone);
    channel.end();
}
