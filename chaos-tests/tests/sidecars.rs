//! Dapr's programs played for real: a sidecar that waits for its cluster, one without any, one that
//! meets something else; what tools wait for in the log; how it ends on signals.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ghostlight_chaos::app::{self, App, EVENT, TOPIC, TYPE};
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::http::{Ask, Connection};
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::process::{self, Process};
use ghostlight_chaos::scenario::{FEW_PARTITIONS, turn};
use ghostlight_chaos::sidecar::{Sidecar, port};
use ghostlight_chaos::wait::until;
use rustix::process::Signal;
use serde_json::Value;

const READY_TIME_MAX: Duration = Duration::from_secs(20);
const END_TIME_MAX: Duration = Duration::from_secs(20);

/// The program of the applications; as a test it does nothing.
#[test]
fn application() {
    app::play();
}

/// A state store that is marked for actors: it switches them on.
const STORE: &str = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: store}\nspec:\n  type: \
                     state.redis\n  version: v1\n  metadata: [{name: actorStateStore, value: \"true\"}]\n";

/// What it says of its actors.
fn actor_runtime(sidecar: &Sidecar) -> Value {
    let all = sidecar.metadata();
    assert_eq!(all["id"], "shop");
    all["actorRuntime"].clone()
}

#[test]
fn a_sidecar_waits_for_its_cluster_and_then_serves_its_actors() {
    let _turn = turn();
    let mut cluster = Cluster::plan(FEW_PARTITIONS);
    let introduce = free_address();
    let mut command = process::command();
    command.env("GHOSTLIGHT_CLUSTER_KEY_FILE", cluster.path("cluster.key"));
    let nobody = free_address();
    let placement = format!("--placement-host-address={nobody},{introduce}");
    let sidecar = Sidecar::start(command, &[&placement], &cluster.path("sidecar.log"));
    // SDKs wait for this inside of their own start: it does not wait for the cluster.
    sidecar.wait_ready();
    let runtime = actor_runtime(&sidecar);
    assert_eq!(runtime["placement"], "placement: disconnected", "{runtime}");
    assert_eq!(
        (&runtime["hostReady"], &runtime["runtimeStatus"]),
        (&false.into(), &"RUNNING".into())
    );
    let early = sidecar
        .ask("POST", "/v1.0/actors/counter/a/method/add")
        .expect("it answers");
    assert_eq!(early.status, 503, "{}", early.body);
    until("it says which command to run", READY_TIME_MAX, || {
        sidecar.said().contains("ghostlight demo").then_some(())
    });
    cluster.found_with(&["--introduce", &introduce]);
    until("it is connected", READY_TIME_MAX, || {
        (actor_runtime(&sidecar)["placement"] == "placement: connected").then_some(())
    });
    until("it calls an actor", READY_TIME_MAX, || {
        let reply = sidecar.ask("POST", "/v1.0/actors/counter/a/method/add")?;
        (reply.status == 200 && reply.body == "1").then_some(())
    });
    // No state store is marked for actors: Dapr's answers.
    let state = sidecar
        .ask("GET", "/v1.0/actors/counter/a/state/k")
        .expect("it answers");
    assert!(
        state.body.contains("ERR_ACTOR_RUNTIME_NOT_FOUND"),
        "{}",
        state.body
    );
    let said = sidecar.end(Signal::TERM);
    for words in [
        "level=info msg=\"dapr initialized. Status: Running. Init Elapsed ",
        "Internal gRPC server is running",
        "app_id=shop",
        "type=log ver=1.18.3",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}

#[test]
fn an_application_beside_a_sidecar_serves_its_actors() {
    let _turn = turn();
    let mut cluster = Cluster::plan(FEW_PARTITIONS);
    let introduce = free_address();
    cluster.found_with(&["--introduce", &introduce]);
    let app_port = port(&free_address());
    let app = App::start(app_port.parse().expect("a port"), &cluster.path("app.log"));
    std::fs::create_dir(cluster.path("resources")).expect("a folder");
    std::fs::write(cluster.path("resources/store.yaml"), STORE).expect("a file");
    let folder = cluster.path("resources").display().to_string();
    let mut command = process::command();
    command.env("GHOSTLIGHT_CLUSTER_KEY_FILE", cluster.path("cluster.key"));
    let more = [
        "--app-port",
        &app_port,
        "--placement-host-address",
        &introduce,
        "--resources-path",
        &folder,
    ];
    let sidecar = Sidecar::start(command, &more, &cluster.path("sidecar.log"));
    sidecar.wait_ready();
    let add = format!("/v1.0/actors/{TYPE}/a/method/add");
    let mut node = Connection::to(&cluster.http()[0]);
    for through in ["the sidecar", "the node"] {
        let reply = until("the application's actor answers", READY_TIME_MAX, || {
            let ask = Ask {
                method: "POST",
                path: add.clone(),
                headers: Vec::new(),
                body: "{}".to_owned(),
                time_max: READY_TIME_MAX,
            };
            let reply = match through {
                "the sidecar" => sidecar.ask("POST", &add),
                _ => node.send(&ask).ok(),
            };
            reply.filter(|reply| reply.status == 200)
        });
        let told: Value = serde_json::from_str(&reply.body).expect("JSON");
        assert_eq!(told["pid"], app.pid(), "{through}: {}", reply.body);
    }
    sidecar.end(Signal::TERM);
}

/// A bus of one process.
const BUS: &str = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: bus}\nspec: {type: pubsub.in-memory, \
                   version: v1}\n";

#[test]
fn events_reach_an_application_before_and_after_it_was_killed() {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let resources = directory.path().join("resources");
    std::fs::create_dir(&resources).expect("a folder");
    std::fs::write(resources.join("bus.yaml"), BUS).expect("a file");
    let log = directory.path().join("app.log");
    let app_port = port(&free_address());
    let number = app_port.parse().expect("a port");
    let folder = resources.display().to_string();
    let mut command = process::command();
    command.env("HOME", directory.path());
    // Neither a store for actors nor a cluster: pub/sub needs none of them.
    let more = ["--app-port", &app_port, "--resources-path", &folder];
    let sidecar = Sidecar::start(command, &more, &directory.path().join("sidecar.log"));
    sidecar.wait_ready();
    for round in 1..=2 {
        let app = App::start(number, &log);
        until("the application is subscribed", READY_TIME_MAX, || {
            let reply = sidecar.ask("GET", "/v1.0/metadata")?;
            let all: Value = serde_json::from_str(&reply.body).ok()?;
            (all["subscriptions"][0]["topic"] == TOPIC).then_some(())
        });
        // It is listed a moment before its bus knows it.
        let path = format!("/v1.0/publish/bus/{TOPIC}?metadata.cloudevent.id=round{round}");
        until("an event arrives", READY_TIME_MAX, || {
            let reply = sidecar.ask("POST", &path)?;
            assert_eq!(reply.status, 204, "{}", reply.body);
            let said = app.said();
            let event = said.lines().rfind(|line| line.starts_with(EVENT))?;
            event.contains(&format!("round{round}")).then_some(())
        });
        app.kill();
        until("its subscriptions end with it", READY_TIME_MAX, || {
            let reply = sidecar.ask("GET", "/v1.0/metadata")?;
            let all: Value = serde_json::from_str(&reply.body).ok()?;
            (all["subscriptions"] == serde_json::json!([])).then_some(())
        });
    }
    let nobody = sidecar
        .ask("POST", "/v1.0/publish/nobody/orders")
        .expect("it answers");
    assert!(
        nobody.body.contains("ERR_PUBSUB_NOT_FOUND"),
        "{}",
        nobody.body
    );
    sidecar.end(Signal::TERM);
}

/// As in Dapr: it goes on for its application, which gets no events any more and is let finish.
#[test]
fn the_end_is_held_up_until_the_application_is_gone() {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("bus.yaml"), BUS).expect("a file");
    let app_port = port(&free_address());
    let number = app_port.parse().expect("a port");
    let app = App::start(number, &directory.path().join("app.log"));
    let folder = directory.path().display().to_string();
    let mut command = process::command();
    command.env("HOME", directory.path());
    let more = [
        "--app-port",
        &app_port,
        "--resources-path",
        &folder,
        "--dapr-block-shutdown-duration",
        "1h",
    ];
    let mut sidecar = Sidecar::start(command, &more, &directory.path().join("sidecar.log"));
    sidecar.wait_ready();
    let subscribed = |sidecar: &Sidecar| sidecar.metadata()["subscriptions"][0]["topic"] == TOPIC;
    until("the application is subscribed", READY_TIME_MAX, || {
        subscribed(&sidecar).then_some(())
    });
    // Its own cluster is there: from now on it waits for signals.
    until("its node has begun", READY_TIME_MAX, || {
        sidecar.said().contains("admin API at").then_some(())
    });
    sidecar.signal(Signal::TERM);
    until("its subscriptions end", READY_TIME_MAX, || {
        (!subscribed(&sidecar)).then_some(())
    });
    let health = sidecar.ask("GET", "/v1.0/healthz").expect("it answers");
    assert_eq!(health.status, 204, "{health:?}");
    let publish = format!("/v1.0/publish/bus/{TOPIC}");
    let reply = sidecar.ask("POST", &publish).expect("it answers");
    assert_eq!(reply.status, 204, "{reply:?}");
    app.kill();
    let said = sidecar.ended();
    for words in ["blocking graceful shutdown for", "unhealthy or gone"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
}

#[test]
fn a_sidecar_listens_wherever_it_was_told_to() {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = process::command();
    command
        .env("HOME", directory.path())
        .env("TMPDIR", directory.path())
        .env("DAPR_API_TOKEN", "secret");
    let public = port(&free_address());
    let log = directory.path().join("log");
    let sidecar = Sidecar::start(
        command,
        &[
            // The last one is no address of this machine: the others do.
            "--dapr-listen-addresses=127.0.0.2,127.0.0.1,192.0.2.1",
            &format!("--dapr-public-port={public}"),
            "--dapr-public-listen-address=127.0.0.3",
        ],
        &log,
    );
    sidecar.wait_ready();
    for host in ["127.0.0.1", "127.0.0.2"] {
        let address = sidecar.http_on(host);
        for (path, status) in [("/v1.0/healthz", 204), ("/v1.0/metadata", 401)] {
            let reply = Sidecar::ask_at(&address, "GET", path).expect(path);
            assert_eq!(reply.status, status, "{address}{path}: {reply:?}");
        }
    }
    // In public there is no token to ask for.
    let address = format!("127.0.0.3:{public}");
    for (path, status) in [
        ("/v1.0/healthz", 204),
        ("/v1.0/metadata", 200),
        ("/v1.0/shutdown", 404),
    ] {
        let reply = Sidecar::ask_at(&address, "GET", path).expect(path);
        assert_eq!(reply.status, status, "{path}: {reply:?}");
    }
    // One that has no port at all says which flag chooses it, once.
    let http = sidecar.http_on("127.0.0.1");
    let mut second = process::command();
    second.env("HOME", directory.path());
    second.args(["daprd", "--app-id", "x", "--dapr-http-port", &port(&http)]);
    let refused = second.output().expect("the binary runs");
    let why = process::stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("--dapr-http-port"), "{why}");
    let said = String::from_utf8_lossy(&refused.stdout).into_owned() + &why;
    assert_eq!(said.matches("cannot listen on").count(), 1, "{said}");
    let said = sidecar.end(Signal::INT);
    assert!(said.contains("cannot listen on 192.0.2.1"), "{said}");
}

/// Directories of sidecars in a folder.
fn left_behind(folder: &Path) -> Vec<String> {
    let left = std::fs::read_dir(folder).expect("readable");
    left.map(|entry| {
        entry
            .expect("readable")
            .file_name()
            .to_string_lossy()
            .into_owned()
    })
    .filter(|name| name.starts_with("ghostlight-sidecar"))
    .collect()
}

#[test]
fn without_a_placement_address_actors_are_disabled() {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let resources = directory.path().join("store.yaml");
    std::fs::write(&resources, STORE).expect("a file");
    let mut command = process::command();
    command
        .env("HOME", directory.path())
        .env("TMPDIR", directory.path());
    let folder = directory.path().display().to_string();
    let metrics_at = free_address();
    let metrics = format!("--metrics-port={}", port(&metrics_at));
    let log = directory.path().join("log");
    let sidecar = Sidecar::start(
        command,
        &["--resources-path", &folder, "--log-as-json", &metrics],
        &log,
    );
    sidecar.wait_ready();
    // Metrics, and nothing else of the operator's.
    for (path, status) in [("/metrics", 200), ("/ghostlight/v1/status", 404)] {
        let reply = Sidecar::ask_at(&metrics_at, "GET", path).expect(path);
        assert_eq!(reply.status, status, "{path}: {reply:?}");
    }
    let runtime = actor_runtime(&sidecar);
    assert_eq!(runtime["runtimeStatus"], "DISABLED", "{runtime}");
    let metadata = sidecar
        .ask("GET", "/v1.0/metadata")
        .expect("it answers")
        .body;
    assert!(metadata.contains("\"ACTOR\""), "{metadata}");
    until("its own cluster is there", READY_TIME_MAX, || {
        sidecar.said().contains("placement: none").then_some(())
    });
    // At once, and not after the time that a host is waited for.
    let call = "/v1.0/actors/counter/a/method/add";
    let refused = sidecar.ask("POST", call).expect("it answers");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(
        refused.body.contains("ERR_ACTOR_NO_PLACEMENT"),
        "{refused:?}"
    );
    for host in ["127.0.0.2", "[::1]"] {
        // As in Dapr: on every address that this machine has.
        if TcpListener::bind(format!("{host}:0")).is_ok() {
            let reply = Sidecar::ask_at(&sidecar.http_on(host), "GET", "/v1.0/healthz");
            assert_eq!(reply.expect(host).status, 204, "{host}");
        }
    }
    let said = sidecar.end(Signal::INT);
    for words in [
        "stands alone",
        "--placement-host-address",
        "--join",
        "say --dapr-listen-addresses 127.0.0.1",
    ] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert!(!said.contains("placement: connected"), "{said}");
    let line = said.lines().find(|line| line.contains("dapr initialized"));
    let line: Value = serde_json::from_str(line.expect("it says so")).expect("JSON");
    assert_eq!(
        (&line["app_id"], &line["level"]),
        (&"shop".into(), &"info".into())
    );
    assert_eq!(
        left_behind(directory.path()),
        Vec::<String>::new(),
        "its directory goes with it"
    );
}

#[test]
fn what_is_not_ghostlight_is_named_and_the_sidecar_is_a_cluster_of_its_own() {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let foreign = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = foreign.local_addr().expect("bound").to_string();
    // Lives until the test process ends.
    drop(std::thread::spawn(move || {
        for stream in foreign.incoming() {
            let mut stream = stream.expect("a connection");
            drop(stream.read(&mut [0; 1_024]));
            // The settings of an HTTP/2 server, as a gRPC service sends them.
            drop(stream.write_all(b"\0\0\0\x04\0\0\0\0\0"));
        }
    }));
    let mut command = process::command();
    command
        .env("HOME", directory.path())
        .env("TMPDIR", directory.path());
    let log = directory.path().join("log");
    let sidecar = Sidecar::start(command, &["--placement-host-address", &address], &log);
    sidecar.wait_ready();
    until("it says so", READY_TIME_MAX, || {
        sidecar.said().contains("is not Ghostlight").then_some(())
    });
    until("its own cluster is there", READY_TIME_MAX, || {
        (actor_runtime(&sidecar)["placement"] == "placement: connected").then_some(())
    });
    sidecar.end(Signal::TERM);
}

#[test]
fn the_placement_service_introduces_sidecars() {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (introduce, health) = (free_address(), free_address());
    let alone = |mut command: Command| {
        command.env_clear().env("HOME", directory.path());
        command
    };
    let mut placement = alone(process::command());
    placement.args([
        "placement",
        "--port",
        &port(&introduce),
        "-healthz-port",
        &port(&health),
    ]);
    placement.args([
        "--tls-enabled=false",
        "--metadata-enabled",
        "--id",
        "dapr-placement-0",
    ]);
    let mut placement = Process::spawn(placement, &directory.path().join("placement.log"));
    let healthy = |address: &str| {
        let ask = Ask {
            method: "GET",
            path: "/healthz".to_owned(),
            headers: Vec::new(),
            body: String::new(),
            time_max: Duration::from_secs(2),
        };
        Connection::to(address)
            .send(&ask)
            .ok()
            .filter(|reply| reply.status == 200)
    };
    until("the placement service is healthy", READY_TIME_MAX, || {
        healthy(&health)
    });
    let told = until("it says what it is", READY_TIME_MAX, || {
        let told = placement.said();
        told.contains("this is storage node").then_some(told)
    });
    for words in [
        "placement server leadership acquired",
        "it founds a cluster",
        ".local/share/ghostlight/dapr-placement-0",
    ] {
        assert!(told.contains(words), "{words} is not in {told}");
    }
    // Another one for the same port leaves nothing behind.
    let mut second = alone(process::command());
    second.args(["placement", "--id", "second", "--port", &port(&introduce)]);
    let refused = second.output().expect("the binary runs");
    let why = process::stderr(&refused);
    assert!(
        refused.status.code() == Some(1) && why.contains("with --port"),
        "{why}"
    );
    let left = directory.path().join(".local/share/ghostlight/second");
    assert!(!left.exists(), "{}", left.display());
    let log = directory.path().join("sidecar.log");
    let address = ["--placement-host-address", &introduce];
    let sidecar = Sidecar::start(alone(process::command()), &address, &log);
    until("the sidecar is connected", READY_TIME_MAX, || {
        sidecar.ask("GET", "/v1.0/healthz")?;
        (actor_runtime(&sidecar)["placement"] == "placement: connected").then_some(())
    });
    sidecar.end(Signal::TERM);
    placement.signal(Signal::TERM);
    let status = placement.wait(END_TIME_MAX);
    assert_eq!(status.code(), Some(0), "{}", placement.said());
}

#[test]
fn what_the_dapr_command_line_asks_first() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let link = directory.path().join("daprd");
    std::os::unix::fs::symlink(process::binary(), &link).expect("a link");
    for (command, args, code, words) in [
        (Command::new(&link), vec!["--version"], 0, "1.18.3\n"),
        (process::command(), vec!["daprd", "-version"], 0, "1.18.3\n"),
        (
            process::command(),
            vec!["placement", "--version"],
            0,
            "1.18.3\n",
        ),
        (Command::new(&link), vec!["--help"], 0, "--app-id VALUE"),
        (
            Command::new(&link),
            vec!["--app-id", "x", "--mode", "kubernetes"],
            2,
            "--mode kubernetes is not supported",
        ),
        (
            Command::new(&link),
            vec!["--app-idd", "x"],
            2,
            "Did you mean --app-id?",
        ),
    ] {
        let mut command = command;
        let output = command.args(&args).output().expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{words} is not in {said}");
    }
}
