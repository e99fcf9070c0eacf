use std::time::Duration;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::{AppError, NotRun};
use tokio::sync::mpsc;

use super::*;
use crate::handle::Request;
use crate::resources::{Backoff, CircuitBreaker, Retry, TripRule};

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
        let outcome = resilience.invoke(&handle, invoke).await.unwrap();
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
        resilience.invoke(&handle, invoke).await.unwrap();
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
    resilience.invoke(&handle, other).await.unwrap();
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
            resilience.invoke(&handle, call("a")).await.unwrap();
        }
        let refusal = resilience.invoke(&handle, call("a")).await.unwrap_err();
        assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let other = resilience.invoke(&handle, call("b")).await;
        assert_eq!(other.is_err(), other_is_refused, "{scope:?}");
    }
}

#[tokio::test]
async fn a_caller_that_has_gone_ends_its_call_badly() {
    let resilience = breaking(BreakerScope::Type);
    // Nobody answers here.
    let (handle, _requests) = NodeHandle::new();
    for _ in 0..2 {
        let call = resilience.invoke(&handle, call("a"));
        assert!(futures::FutureExt::now_or_never(call).is_none());
    }
    let refused = resilience.invoke(&handle, call("a"));
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
    for number in 0..=ACTOR_BREAKERS_MAX {
        breakers.of(&Some(number.to_string()), || {
            Breaker::new(rule.clone(), now)
        });
        breakers.of(&None, || Breaker::new(rule.clone(), now));
    }
    assert_eq!(breakers.all.len(), ACTOR_BREAKERS_MAX);
    assert!(breakers.all.contains_key(&None), "it was used lately");
    assert!(
        !breakers.all.contains_key(&Some("0".to_owned())),
        "the oldest"
    );
}
