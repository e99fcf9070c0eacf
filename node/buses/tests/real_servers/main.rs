//! Buses against their real servers, each of which is started here. What has no server here is skipped, and said to be.

mod programs;
mod server;
mod suite;

use std::time::Duration;

use libtest_mimic::{Arguments, Trial, run};

use programs::{JETSTREAM, PROGRAMS};
use server::Program;
use suite::{Kind, Sharing};

/// What differs between them as far as tests can see.
fn kind(program: Program) -> Kind {
    let lease = match program.kind {
        "pubsub.jetstream" => Some(Duration::from_secs(3)),
        "pubsub.redis" => Some(Duration::from_millis(600)),
        _ => None,
    };
    Kind {
        program,
        lease,
        sharing: match program.kind {
            "pubsub.mqtt3" => Sharing::OneAtATime,
            _ => Sharing::SideBySide,
        },
    }
}

/// Runs with a runtime of its own; ignored where its server is not installed.
fn trial<F>(program: Program, what: &str, work: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = ()>,
{
    let name = format!("{} {what}", program.kind);
    let trial = Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(work());
        Ok(())
    });
    program.judged(trial)
}

fn main() {
    let mut trials = Vec::new();
    for kind in PROGRAMS.map(kind) {
        trials.push(trial(kind.program, "serves", move || suite::serves(kind)));
        trials.push(trial(kind.program, "comes and goes", move || {
            suite::comes_and_goes(kind)
        }));
    }
    trials.push(trial(
        JETSTREAM,
        "keeps a dead letter beside its event",
        || suite::same_id_on_two_topics(JETSTREAM),
    ));
    run(&Arguments::from_args(), trials).exit();
}
