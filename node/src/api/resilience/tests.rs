use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{AppError, NotRun};
use tokio::sync::mpsc;

use super::*;
use crate::handle::Request;
use crate::resources::{Backoff, CircuitBreaker, Matching, Retry, TripRule};

/// How the core answers, in this order; then the last again.
fn core(outcomes: Vec<CallOutcome>) -> (NodeHandle, mpsc::Receiver<Option<Duration>>) {
    let (handle, mut requests) = NodeHandle::new();
    let (seen, calls) = mpsc::channel(100);
    drop(tokio::spawn(async move {
        let mut place = 0;
        while let Some(request) = requests.recv().await {
            if let Request::Invoke { call, answer, .. } = request {
                seen.send(call.timeout).await.unwrap();
                drop(answer.send(outcomes[place.min(outcomes.len() - 1)].clone()));
                place += 1;
            }
        }
    }));
    (handle, calls)
}

fn call(actor_id: &str) -> Invoke {
    Invoke {
        actor: ActorKey::new("default", "bank", actor_id).unwrap(),
        method: "m".to_owned(),
        body: Bytes::new(),
        request_id: None,
        timeout: None,
        metadata: Vec::new(),
    }
}

fn policies(target: Target) -> Resilience {
    Resilience::new(&[Resiliency {
        name: "r".to_owned(),
        actors: [("bank".to_owned(), target)].into(),
        ..Resiliency::default()
    }])
}

fn well() -> CallOutcome {
    CallOutcome::Reply(Bytes::from_static(b"1"))
}

fn failed() -> CallOutcome {
    CallOutcome::App(AppError::default())
}

fn unknown() -> CallOutcome {
    CallOutcome::Unknown {
        code: Code::OutcomeUnknown,
        detail: String::new(),
    }
}

#[tokio::test]
async fn what_is_repeated_and_how_often() {
    let not_run = || CallOutcome::NotRun(NotRun::new(Code::NoLeader, ""));
    for (what, outcomes, outside, calls) in [
        ("works at once", vec![well()], false, 1),
        (
            "works the third time",
            vec![failed(), not_run(), well()],
            false,
            3,
        ),
        ("never works", vec![failed()], false, 4),
        ("may have run", vec![unknown()], false, 1),
        ("has an id from outside", vec![failed()], true, 1),
    ] {
        let retry = Retry {
            backoff: Backoff::Constant(Duration::from_millis(1)),
            max_retries: Some(3),
            matching: Matching::default(),
        };
        let resilience = policies(Target {
            retry: Some(retry),
            ..Target::default()
        });
        let last = outcomes[(calls - 1).min(outcomes.len() - 1)].clone();
        let (handle, mut seen) = core(outcomes);
        let invoke = Invoke {
            request_id: outside.then(|| Bytes::from_static(b"r1")),
            ..call("a")
        };
        let outcome = resilience
            .invoke(&handle, invoke, Transport::Http)
            .await
            .unwrap();
        assert_eq!(outcome, last, "{what}");
        let mut count = 0;
        while seen.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, calls, "{what}");
    }
}

#[test]
fn pauses_grow_up_to_their_bound() {
    let pauses = |backoff: Backoff| -> Vec<u128> {
        let pauses = backoff.pauses().take(4);
        pauses.map(|pause| pause.as_millis()).collect()
    };
    let max = Duration::from_secs(1);
    assert_eq!(
        pauses(Backoff::Exponential { max }),
        [500, 750, 1_000, 1_000]
    );
    assert_eq!(pauses(Backoff::Constant(max)), [1_000; 4]);
}

#[tokio::test]
async fn timeouts_are_the_shorter_ones() {
    let resilience = policies(Target {
        timeout: Some(Duration::from_secs(5)),
        ..Target::default()
    });
    let (handle, mut seen) = core(vec![well()]);
    for (asked, expected) in [(None, 5), (Some(2), 2), (Some(9), 5)] {
        let invoke = Invoke {
            timeout: asked.map(Duration::from_secs),
            ..call("a")
        };
        resilience
            .invoke(&handle, invoke, Transport::Http)
            .await
            .unwrap();
        assert_eq!(
            seen.recv().await.unwrap(),
            Some(Duration::from_secs(expected))
        );
    }
    // A type without policies passes through.
    let other = Invoke {
        actor: ActorKey::new("default", "other", "a").unwrap(),
        ..call("a")
    };
    resilience
        .invoke(&handle, other, Transport::Http)
        .await
        .unwrap();
    assert_eq!(seen.recv().await.unwrap(), None);
}

fn breaking(scope: BreakerScope) -> Resilience {
    let rule = CircuitBreaker {
        max_requests: 1,
        interval: Duration::ZERO,
        timeout: Duration::from_secs(3_600),
        trip: TripRule::ConsecutiveFailuresOver(1),
    };
    policies(Target {
        breaker: Some((rule, scope)),
        ..Target::default()
    })
}

#[tokio::test]
async fn a_breaker_stands_for_its_scope() {
    for (scope, other_is_refused) in [
        (BreakerScope::Id, false),
        (BreakerScope::Type, true),
        (BreakerScope::Both, true),
    ] {
        let resilience = breaking(scope);
        let (handle, _seen) = core(vec![failed()]);
        for _ in 0..2 {
            resilience
                .invoke(&handle, call("a"), Transport::Http)
                .await
                .unwrap();
        }
        let refusal = resilience
            .invoke(&handle, call("a"), Transport::Http)
            .await
            .unwrap_err();
        assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let other = resilience.invoke(&handle, call("b"), Transport::Http).await;
        assert_eq!(other.is_err(), other_is_refused, "{scope:?}");
    }
}

#[tokio::test]
async fn a_caller_that_has_gone_ends_its_call_badly() {
    let resilience = breaking(BreakerScope::Type);
    // Nobody answers here.
    let (handle, _requests) = NodeHandle::new();
    for _ in 0..2 {
        let call = resilience.invoke(&handle, call("a"), Transport::Http);
        assert!(futures::FutureExt::now_or_never(call).is_none());
    }
    let refused = resilience.invoke(&handle, call("a"), Transport::Http);
    assert!(
        futures::FutureExt::now_or_never(refused)
            .expect("at once")
            .is_err()
    );
}

#[test]
fn breakers_of_single_actors_are_bounded() {
    let rule = CircuitBreaker {
        max_requests: 1,
        interval: Duration::ZERO,
        timeout: Duration::ZERO,
        trip: TripRule::TotalFailuresOver(0),
    };
    let mut breakers = Breakers::default();
    let now = Instant::now();
    for number in 0..=BREAKERS_MAX {
        breakers.of(&("bank".to_owned(), Some(number.to_string())), || {
            Breaker::new(rule.clone(), now)
        });
        breakers.of(&("bank".to_owned(), None), || {
            Breaker::new(rule.clone(), now)
        });
    }
    assert_eq!(breakers.all.len(), BREAKERS_MAX);
    assert!(
        breakers.all.contains_key(&("bank".to_owned(), None)),
        "it was used lately"
    );
    assert!(
        !breakers
            .all
            .contains_key(&("bank".to_owned(), Some("0".to_owned()))),
        "the oldest"
    );
}

fn answered(status: u16) -> CallOutcome {
    CallOutcome::App(AppError {
        name: "AppStatus".to_owned(),
        message: format!("error from actor service: ({status}) busy"),
        ..AppError::default()
    })
}

/// How often a call is made that ends so.
async fn calls(resilience: &Resilience, outcome: CallOutcome, over: Transport) -> usize {
    let (handle, mut seen) = core(vec![outcome]);
    resilience.invoke(&handle, call("a"), over).await.unwrap();
    let mut count = 0;
    while seen.try_recv().is_ok() {
        count += 1;
    }
    count
}

fn retry(max_retries: u32, http: &str, grpc: &str) -> Retry {
    Retry {
        backoff: Backoff::Constant(Duration::ZERO),
        max_retries: Some(max_retries),
        matching: Matching::read(http, grpc).unwrap(),
    }
}

#[tokio::test]
async fn what_matching_leaves_out_is_not_repeated() {
    let resilience = policies(Target {
        retry: Some(retry(1, "429,503", "14")),
        ..Target::default()
    });
    let refused = |code| CallOutcome::NotRun(NotRun::new(code, ""));
    use Transport::{Grpc, Http};
    for (outcome, over, count) in [
        // An application's own status counts, however the call came.
        (answered(503), Http, 2),
        (answered(503), Grpc, 2),
        (answered(500), Http, 1),
        // A refusal of ours, as its caller is told.
        (refused(Code::NoLeader), Http, 2),
        (refused(Code::NoLeader), Grpc, 2),
        (refused(Code::MailboxFull), Http, 2),
        (refused(Code::MailboxFull), Grpc, 1),
        (refused(Code::UnknownActorType), Http, 1),
        (unknown(), Http, 1),
    ] {
        let made = calls(&resilience, outcome.clone(), over).await;
        assert_eq!(made, count, "{outcome:?} {over:?}");
    }
}

#[tokio::test]
async fn types_without_a_target_have_the_policies_of_daprs_names() {
    let of = |names: &[&str]| {
        let retries = names
            .iter()
            .map(|name| ((*name).to_owned(), retry(2, "", "")));
        Resilience::new(&[Resiliency {
            retries: retries.collect(),
            ..Resiliency::default()
        }])
    };
    let not_run = || CallOutcome::NotRun(NotRun::new(Code::NoLeader, ""));
    for (names, of_failure, of_refusal) in [
        (&[][..], 1, 1),
        (&["DefaultActorRetryPolicy"], 3, 3),
        (&["DefaultRetryPolicy"], 3, 3),
        // Calls that may have run are not repeated by it.
        (&["DaprBuiltInActorRetries"], 1, 3),
        (&["DefaultComponentRetryPolicy"], 1, 1),
    ] {
        let resilience = of(names);
        let made = calls(&resilience, failed(), Transport::Http).await;
        assert_eq!(made, of_failure, "{names:?}");
        let made = calls(&resilience, not_run(), Transport::Http).await;
        assert_eq!(made, of_refusal, "{names:?}");
        let full = CallOutcome::NotRun(NotRun::new(Code::BodyTooLarge, ""));
        let made = calls(&resilience, full, Transport::Http).await;
        assert_eq!(made, of_failure, "{names:?}: nobody else would take it");
    }
}

#[tokio::test]
async fn reminders_are_registered_again_where_a_policy_says_so() {
    use crate::api::app_calls::AppReply;
    let moved = || Err(AppRefusal::NotRun(NotRun::new(Code::LeaderMoved, "")));
    let named = [(REMINDER_RETRIES.to_owned(), retry(3, "", ""))];
    let with = Resilience::new(&[Resiliency {
        retries: named.into(),
        ..Resiliency::default()
    }]);
    let exists = || Err(AppRefusal::AlreadyExists);
    for (resilience, outcome, times) in [
        (&with, moved(), 4),
        (&with, exists(), 1),
        (&with, Ok(AppReply::Done), 1),
        (&Resilience::default(), moved(), 1),
    ] {
        let mut asked = 0;
        let ended = resilience.register(|| {
            asked += 1;
            let outcome = outcome.clone();
            Box::pin(async { outcome })
        });
        assert_eq!(ended.await, outcome);
        assert_eq!(asked, times, "{outcome:?}");
    }
}
