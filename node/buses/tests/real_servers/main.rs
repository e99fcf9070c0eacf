//! Buses against their real servers, each of which is started here. What has no server here is
//! skipped, and said to be. Kafka has no server that could be had: librdkafka's own mock cluster
//! stands for it, in builds with that feature.

mod encrypted;
#[cfg(feature = "kafka")]
mod mock_kafka;
mod programs;
mod rabbitmq;
mod server;
mod suite;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial, run};

use programs::{JETSTREAM, MQTT, PROGRAMS, REDIS};
use server::{Program, Server};
use suite::{Kind, Sharing};

/// What differs between them as far as tests can see.
fn kind(program: Program) -> Kind {
    let lease = match program.kind {
        "pubsub.jetstream" => Some(Duration::from_secs(3)),
        "pubsub.redis" => Some(Duration::from_millis(600)),
        _ => None,
    };
    let sharing = match program.kind {
        "pubsub.mqtt3" => Sharing::OneAtATime,
        _ => Sharing::SideBySide,
    };
    Kind::of(&program, lease, sharing)
}

/// Runs with a runtime of its own.
fn trial<F>(kind: &str, what: &str, work: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = ()>,
{
    Trial::test(format!("{kind} {what}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(work());
        Ok(())
    })
}

fn main() -> ExitCode {
    if let Some(code) = encrypted::again() {
        return code;
    }
    let mut trials = encrypted::trials();
    for program in PROGRAMS {
        let kind = kind(program);
        let serves = trial(kind.name, "serves", move || async move {
            suite::serves(kind, &mut Server::new(program)).await;
        });
        let comes_and_goes = trial(kind.name, "comes and goes", move || async move {
            suite::comes_and_goes(kind, &mut Server::new(program)).await;
        });
        trials.extend([serves, comes_and_goes].map(|trial| program.judged(trial)));
    }
    let letters = "keeps a dead letter beside its event";
    let letters = trial(JETSTREAM.kind, letters, || async {
        suite::same_id_on_two_topics(kind(JETSTREAM), &mut Server::new(JETSTREAM)).await;
    });
    trials.push(JETSTREAM.judged(letters));
    trials.extend(rabbitmq::trials());
    let wildcards = trial(MQTT.kind, "tells topics behind a wildcard", || async {
        suite::wildcards_tell_topics(kind(MQTT), &mut Server::new(MQTT)).await;
    });
    trials.push(MQTT.judged(wildcards));
    let away = "is away for longer than a lease";
    let away = trial(REDIS.kind, away, || async {
        suite::away_for_longer_than_a_lease(kind(REDIS), &mut Server::new(REDIS)).await;
    });
    trials.push(REDIS.judged(away));
    #[cfg(feature = "kafka")]
    trials.extend(mock_kafka::trials());
    run(&Arguments::from_args(), trials).exit_code()
}
