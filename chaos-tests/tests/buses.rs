//! Applications on external buses, from a component's YAML in the real binary to the application
//! and back, over a real server that is ended and started again. What has no server here is
//! skipped, and said to be.

use std::fmt::Write as _;
use std::time::Duration;

use ghostlight_chaos::app::{self, App, EVENT, TOPIC};
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::process;
use ghostlight_chaos::scenario::turn;
use ghostlight_chaos::sidecar::{Sidecar, port};
use ghostlight_chaos::wait::until;
use libtest_mimic::{Arguments, Trial, run};
use rustix::process::Signal;

#[path = "../../node/buses/tests/real_servers/programs.rs"]
mod programs;
#[expect(dead_code, reason = "files that only encrypted servers need")]
#[path = "../../node/buses/tests/real_servers/server.rs"]
mod server;

use programs::PROGRAMS;
use server::{Program, Server, Serves};

/// How long a bus may take to be there again, and an event to arrive.
const TIME_MAX: Duration = Duration::from_secs(60);

fn main() {
    // Started again by `App`, this is the application.
    app::play();
    let trials = PROGRAMS.map(|program| {
        let trial = Trial::test(format!("{} in the binary", program.kind), move || {
            serves_an_application(program);
            Ok(())
        });
        program.judged(trial)
    });
    run(&Arguments::from_args(), trials.into()).exit();
}

fn component(program: Program, port: u16) -> String {
    let mut yaml = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: bus}}\nspec:\n  type: {}\n  version: v1\n  metadata:\n",
        program.kind
    );
    for (name, value) in (program.metadata)(port) {
        writeln!(yaml, "  - {{name: {name}, value: {value:?}}}").expect("memory");
    }
    yaml
}

fn serves_an_application(program: Program) {
    let _turn = turn();
    let mut server = Server::new(program);
    server.start();
    (program.prepare)(server.port());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let resources = directory.path().join("resources");
    std::fs::create_dir(&resources).expect("a folder");
    std::fs::write(
        resources.join("bus.yaml"),
        component(program, server.port()),
    )
    .expect("a file");
    let app_port = port(&free_address());
    let app = App::start(
        app_port.parse().expect("a port"),
        &directory.path().join("app.log"),
    );
    let folder = resources.display().to_string();
    let mut command = process::command();
    command.env("HOME", directory.path());
    let more = ["--app-port", &app_port, "--resources-path", &folder];
    let sidecar = Sidecar::start(command, &more, &directory.path().join("sidecar.log"));
    sidecar.wait_ready();
    until("the application is subscribed", TIME_MAX, || {
        (sidecar.metadata()["subscriptions"][0]["topic"] == TOPIC).then_some(())
    });
    // It is listed a moment before its bus knows it, and a bus may keep nothing for those that it
    // does not know yet.
    until("an event arrives", TIME_MAX, || {
        publish(&sidecar, "first").ok()?;
        arrived(&app, "first").then_some(())
    });
    server.end();
    let refusal = until("a publish is refused", TIME_MAX, || {
        publish(&sidecar, "lost").err()
    });
    // The first one may have been on its way: nobody can tell.
    assert!(
        refusal.contains("E0510") || refusal.contains("E0112"),
        "{refusal}"
    );
    let refusal = until("it is known that the bus is away", TIME_MAX, || {
        let refusal = publish(&sidecar, "lost").err()?;
        refusal.contains("E0510").then_some(refusal)
    });
    assert!(refusal.contains("component bus is not there"), "{refusal}");
    server.start();
    until("the bus is there again", TIME_MAX, || {
        publish(&sidecar, "second").ok()
    });
    until("what it has taken arrives", TIME_MAX, || {
        arrived(&app, "second").then_some(())
    });
    app.kill();
    sidecar.end(Signal::TERM);
}

fn publish(sidecar: &Sidecar, id: &str) -> Result<(), String> {
    let path = format!("/v1.0/publish/bus/{TOPIC}?metadata.cloudevent.id={id}");
    match sidecar.ask("POST", &path) {
        Some(reply) if reply.status == 204 => Ok(()),
        Some(reply) => Err(reply.body),
        None => panic!("the sidecar kept a publisher waiting: {}", sidecar.said()),
    }
}

fn arrived(app: &App, id: &str) -> bool {
    let said = app.said();
    let mut events = said.lines().filter(|line| line.starts_with(EVENT));
    events.any(|event| event.contains(id))
}
