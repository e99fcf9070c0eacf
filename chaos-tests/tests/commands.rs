//! Every command of the binary once, against real nodes: exit codes, `--json` on every list, help
//! with an example, and how a node ends on signals.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 unhealthy or empty. Data is on stdout, everything
//! else on stderr.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use ghostlight_chaos::bad_input::check_pages;
use ghostlight_chaos::client::Client;
use ghostlight_chaos::cluster::Cluster;
use ghostlight_chaos::load::Load;
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::process::{self, Process};
use ghostlight_chaos::scenario::{FEW_PARTITIONS, SERVED_TIME_MAX, end_clean, turn};
use ghostlight_chaos::wait::until;
use rustix::process::Signal;
use serde_json::Value;

/// Every command that a person types.
const COMMANDS: &[&str] = &[
    "demo",
    "start",
    "daprd",
    "placement",
    "status",
    "members",
    "partitions",
    "actors",
    "where",
    "invoke",
    "drain",
    "leave",
    "remove",
    "keygen",
    "explain",
    "completions",
];

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Runs a command that must end with this exit code.
#[track_caller]
fn run(code: i32, args: &[&str]) -> Output {
    let output = process::run(args);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}\n{}{}",
        stdout(&output),
        process::stderr(&output)
    );
    output
}

/// Runs a list with `--json` that must end with this exit code.
#[track_caller]
fn list(code: i32, args: &[&str]) -> Value {
    let args = [args, &["--json"]].concat();
    let printed = stdout(&run(code, &args));
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}: {printed}"))
}

/// Runs a command with this on its stdin.
fn run_with_stdin(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = process::command()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(stdin).expect("the command reads its stdin");
    drop(pipe);
    child.wait_with_output().expect("the command ends")
}

#[test]
fn help_version_completions_and_keys() {
    let help = stdout(&run(0, &["--help"]));
    for command in COMMANDS {
        let listed = help
            .lines()
            .any(|line| line.trim().starts_with(&format!("{command} ")));
        assert!(listed, "--help does not list {command}:\n{help}");
        let help = stdout(&run(0, &[command, "--help"]));
        let example = help.split_once("Example").map(|(_, after)| after);
        let example = example.unwrap_or_else(|| panic!("{command}: no example in\n{help}"));
        assert!(
            example.contains(&format!("ghostlight {command}")),
            "{command}: {example}"
        );
    }
    let version = stdout(&run(0, &["--version"]));
    for part in ["ghostlight ", "(commit ", "wire format ", "disk format "] {
        assert!(version.contains(part), "{version}");
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&run(0, &["completions", shell]));
        assert!(
            script.contains("ghostlight") && script.contains("partitions"),
            "{shell}"
        );
    }
    run(2, &["completions", "tcsh"]);
    let (one, other) = (run(0, &["keygen"]), run(0, &["keygen"]));
    assert_ne!(one.stdout, other.stdout);
    let codes = stdout(&run(0, &["explain"]));
    assert!(codes.lines().count() > 40, "{codes}");
}

#[test]
fn nouns_list_and_describe() {
    let _turn = turn();
    let cluster = Cluster::form(3, FEW_PARTITIONS);
    let node = cluster.admin_url(1);
    let ask = |args: &[&'static str]| [args, &["--node", node.as_str()]].concat().join("\t");
    let json = |code, args: &[&'static str]| {
        let line = ask(args);
        list(code, &line.split('\t').collect::<Vec<_>>())
    };
    let text = |code, args: &[&'static str]| {
        let line = ask(args);
        stdout(&run(code, &line.split('\t').collect::<Vec<_>>()))
    };
    assert_eq!(json(3, &["actors"]), Value::Array(Vec::new()));
    assert_eq!(json(3, &["actors", "counter/alice"]), Value::Null);

    let status = json(0, &["status"]);
    assert_eq!(status["health"], "healthy");
    let said = text(0, &["status"]);
    let first = said.lines().next().unwrap_or_default();
    assert_eq!(first, "healthy: every partition is led and has 3 copies");
    let rows = said
        .lines()
        .skip_while(|line| !line.starts_with("NODE"))
        .skip(1);
    let names: Vec<&str> = rows
        .filter_map(|row| row.split_whitespace().next())
        .collect();
    assert_eq!(names, ["n1", "n2", "n3"], "one row per node: {said}");

    assert_eq!(json(0, &["members"]).as_array().map(Vec::len), Some(3));
    assert_eq!(json(0, &["members", "n2"])["name"], "n2");
    assert!(text(0, &["members", "n2"]).contains("generation"));
    let partitions = json(0, &["partitions"]);
    assert_eq!(partitions.as_array().map(Vec::len), Some(32));
    assert_eq!(json(0, &["partitions", "p17"])["partition"], 17);
    assert_eq!(text(0, &["partitions"]).lines().count(), 33);

    let place = json(0, &["where", "counter/alice"]);
    check_place(&place);
    let leader = place["leader"]["name"].as_str().expect("a name");
    let said = text(0, &["where", "counter/alice"]);
    assert!(said.contains(&format!("led by {leader}, ")), "{said}");

    let alice = ["invoke", "counter/alice/add", "-d", "5"];
    assert_eq!(text(0, &alice), "5\n");
    let leader = cluster.leader_of("counter/alice");
    let its_url = cluster.admin_url(leader);
    let actors = list(0, &["actors", "--node", &its_url]);
    assert_eq!(actors[0]["actor"], "counter/alice");
    let actor = list(0, &["actors", "counter/alice", "--node", &its_url]);
    assert_eq!(actor["turns"], 1);
}

/// `{"actor","partition","leader":{"id","name"},"replicas":[…]}`, and nothing else.
#[track_caller]
fn check_place(place: &Value) {
    let keys = |value: &Value| {
        let fields = value.as_object().expect("an object");
        let mut keys: Vec<String> = fields.keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys(place), "actor leader partition replicas");
    assert_eq!(place["actor"], "counter/alice");
    assert!(place["partition"].is_u64());
    assert_eq!(keys(&place["leader"]), "id name");
    let replicas = place["replicas"].as_array().expect("a list");
    assert_eq!(replicas.len(), 3);
    assert!(replicas.iter().all(|replica| keys(replica) == "id name"));
    assert!(replicas.contains(&place["leader"]));
}

#[test]
fn invoke_takes_its_body_from_anywhere() {
    let _turn = turn();
    let cluster = Cluster::form(1, FEW_PARTITIONS);
    let node = cluster.admin_url(0);
    let file = cluster.path("body");
    std::fs::write(&file, "\"from a file\"").expect("a file");
    let file = format!("@{}", file.display());
    let append = |data: &str| {
        let args = ["invoke", "log/x/append", "-d", data, "--node", &node];
        stdout(&run(0, &args))
    };
    assert_eq!(append("\"a text\""), "1\n");
    assert_eq!(append(&file), "2\n");
    let args = ["invoke", "log/x/append", "-d", "-", "--node", &node];
    let piped = run_with_stdin(&args, b"\"from stdin\"");
    assert_eq!(
        (piped.status.code(), stdout(&piped)),
        (Some(0), "3\n".to_owned())
    );
    let read = stdout(&run(0, &["invoke", "log/x/read", "--node", &node]));
    assert_eq!(read, "[\"a text\",\"from a file\",\"from stdin\"]\n");
    // A negative number is a body, not a flag; an id may have slashes.
    let args = ["invoke", "counter/a/b/add", "-d", "-5", "--node", &node];
    assert_eq!(stdout(&run(0, &args)), "-5\n");
    for _ in 0..2 {
        let args = [
            "invoke",
            "counter/once/add",
            "-d",
            "1",
            "--request-id",
            "r1",
            "--node",
            &node,
        ];
        assert_eq!(stdout(&run(0, &args)), "1\n");
    }
}

/// A command line that is refused: arguments, exit code, and what stderr says.
type Wrong<'a> = (&'a [&'a str], i32, &'a [&'a str]);

#[track_caller]
fn check_wrong(cases: &[Wrong<'_>]) {
    for (args, code, says) in cases {
        let output = run(*code, args);
        let said = process::stderr(&output);
        assert_eq!(stdout(&output), "", "{args:?}: errors are no data");
        for part in *says {
            assert!(said.contains(part), "{args:?}: no {part:?} in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        let codes = said.split('[').filter_map(|part| part.split_once(']'));
        check_pages(
            codes
                .map(|(code, _)| code)
                .filter(|code| code.starts_with('E')),
        );
    }
}

#[test]
fn wrong_usage_without_a_node() {
    let nowhere = free_address();
    let at = ["--node", nowhere.as_str()];
    let with = |args: &[&'static str]| -> Vec<String> {
        args.iter()
            .chain(&at)
            .map(|arg| (*arg).to_owned())
            .collect()
    };
    check_wrong(&[
        (&["memebrs"], 2, &["members"]),
        (&["start", "--dat-dir", "x"], 2, &["'--data-dir'"]),
        (
            &["status", "--exit-when-helthy"],
            2,
            &["'--exit-when-healthy'"],
        ),
        (&["invoke"], 2, &["<TYPE/ID/METHOD>"]),
        (
            &["invoke", "counter/alice"],
            2,
            &["E0103", "TYPE/ID/METHOD"],
        ),
        (&["where", "counter"], 2, &["E0102", "TYPE/ID"]),
        (
            &["members", "--node", "https://a"],
            2,
            &["E0118", "http://HOST:PORT"],
        ),
        (&["explain", "E1234"], 2, &["E0118", "ghostlight explain"]),
        (&["demo", "--for", "30"], 2, &["with a unit"]),
        (&["demo", "--nodes", "0"], 2, &["1..=9"]),
        (
            &["invoke", "counter/a/add", "-d", "@/nowhere/at/all"],
            1,
            &["E0118", "/nowhere/at/all"],
        ),
    ]);
    for args in [
        &["status"][..],
        &["members"],
        &["partitions"],
        &["actors"],
        &["where", "counter/a"],
        &["invoke", "counter/a/get"],
        &["drain"],
        &["leave"],
        &["remove", "n9"],
    ] {
        let args = with(args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let says: &[&str] = &["E0406", &nowhere, "--node"];
        check_wrong(&[(&args, 1, says)]);
    }
}

#[test]
fn wrong_requests_to_a_cluster() {
    let _turn = turn();
    let cluster = Cluster::form(3, FEW_PARTITIONS);
    let node = cluster.admin_url(0);
    let cases: &[Wrong<'_>] = &[
        (
            &["invoke", "ghost/a/get"],
            1,
            &["E0106", "'ghost||a'", "Known: account"],
        ),
        (
            &["invoke", "counter/a/sub"],
            1,
            &["E0107", "It has: add, get"],
        ),
        (&["invoke", "counter/a#b/get"], 1, &["E0102", "'#'"]),
        (
            &["invoke", "counter/a/add", "-d", "x"],
            1,
            &["E0118", "`by: i64` as JSON"],
        ),
        (
            &["invoke", "account/a/withdraw", "-d", "1"],
            1,
            &["Short: the balance is 0"],
        ),
        (&["members", "n9"], 1, &["E0213", "ghostlight members"]),
        (&["partitions", "32"], 1, &["E0118", "from 0 to 31"]),
        (&["drain", "n9"], 1, &["E0213"]),
        (&["remove", "n9"], 1, &["E0213"]),
        (&["remove", "n2"], 1, &["E0214"]),
        (&["leave"], 1, &["E0210", "drain"]),
    ];
    for (args, code, says) in cases {
        let args = [*args, &["--node", &node]].concat();
        check_wrong(&[(&args, *code, says)]);
    }
    let members = cluster.admin(0, "members").expect("a list");
    assert!(
        members
            .as_array()
            .expect("a list")
            .iter()
            .all(|row| row["duty"] == "serving"),
        "what is refused changes nothing: {members}"
    );
}

/// Starts that are refused, each with a data directory of its own; nothing listens afterwards.
#[track_caller]
fn check_wrong_starts(cases: &[Wrong<'_>]) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let admin = free_address();
    for (number, (args, code, says)) in cases.iter().enumerate() {
        let data = directory.path().join(number.to_string());
        let data = data.display().to_string();
        let mut args = args.to_vec();
        args.insert(0, "start");
        for (flag, value) in [("--data-dir", data.as_str()), ("--admin", &admin)] {
            if !args.contains(&flag) {
                args.extend([flag, value]);
            }
        }
        check_wrong(&[(&args, *code, says)]);
    }
}

#[test]
fn starts_with_wrong_values() {
    let _turn = turn();
    check_wrong_starts(&[
        (&["--listen", "nonsense"], 1, &["E0403", "127.0.0.1:7400"]),
        (&["--listen", "0.0.0.0:7400"], 1, &["E0403", "--advertise"]),
        (
            &["--listen", "192.0.2.1:7400"],
            1,
            &["E0405", "ghostlight keygen"],
        ),
        (
            &["--profile", "prod", "--http", "0.0.0.0:0"],
            1,
            &["E0405", "--api-token-file"],
        ),
        (&["--profile", "test"], 1, &["E0403", "dev or prod"]),
        (&["--partitions", "100"], 1, &["E0407", "power of two"]),
        (&["--weight", "0"], 1, &["E0212", "--join"]),
        (&["--weight", "17"], 1, &["E0403", "from 0 to 16"]),
        (&["--min-copies", "0"], 1, &["E0403", "from 1 to 5"]),
        (&["--join", "a:b"], 1, &["E0403", "host:port"]),
        (&["--name", "a b"], 1, &["E0403", "--name"]),
        (&["--drain-timeout", "soon"], 1, &["E0403", "30s"]),
        (
            &["--log-level", "loud=="],
            1,
            &["E0403", "error, warn, info"],
        ),
        (&["--log-format", "xml"], 1, &["E0403", "text or json"]),
    ]);
}

#[test]
fn starts_with_wrong_files_and_taken_ports() {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let unknown_key = file("unknown.toml", "data-dri = \"x\"\n");
    let wrong_type = file("type.toml", "weight = \"heavy\"\n");
    let no_toml = file("no.toml", "weight : 1\n");
    let no_tokens = file("tokens", "\n");
    let no_key = file("no.key", "not a key\n");
    let (tcp, udp) = (free_address(), free_address());
    let _taken = (
        TcpListener::bind(&tcp).expect("a free port"),
        UdpSocket::bind(&udp).expect("a free port"),
    );
    check_wrong_starts(&[
        (
            &["--config", &unknown_key],
            1,
            &["E0402", "Did you mean \"data-dir\"?"],
        ),
        (&["--config", &wrong_type], 1, &["E0403", "weight"]),
        (&["--config", &no_toml], 1, &["E0403", "no.toml"]),
        (
            &["--config", "/nowhere/at/all"],
            1,
            &["E0403", "/nowhere/at/all", "--config"],
        ),
        (&["--http", &tcp], 1, &["E0401", &tcp, "Dapr HTTP"]),
        (&["--admin", &tcp], 1, &["E0401", &tcp, "admin"]),
        (&["--listen", &udp], 1, &["E0401", &udp, "--listen"]),
        (&["--api-token-file", &no_tokens], 1, &["E0404", "empty"]),
        (&["--cluster-key-file", &no_key], 1, &["E0404", "no.key"]),
        (
            &["--cluster-key-file", "/nowhere/key"],
            1,
            &["E0404", "/nowhere/key"],
        ),
    ]);
}

/// A `status` that is watched.
fn watch(cluster: &Cluster, args: &[&str], log: &Path) -> Process {
    let mut command = process::command();
    command
        .arg("status")
        .args(args)
        .args(["--node", &cluster.admin_url(0)]);
    Process::spawn(command, log)
}

#[test]
fn status_waits_watches_and_says_why() {
    let _turn = turn();
    let mut cluster = Cluster::form(1, FEW_PARTITIONS);
    let degraded = run(0, &["status", "--node", &cluster.admin_url(0)]);
    let first = stdout(&degraded);
    assert!(
        first.starts_with(
            "degraded: the data has 1 of 3 copies: start 2 more node(s) with --join\n"
        ),
        "{first}"
    );
    let log = cluster.path("watched");
    let mut watched = watch(&cluster, &["-w"], &log);
    let waiting_log = cluster.path("waited");
    let mut waiting = watch(&cluster, &["--exit-when-healthy"], &waiting_log);
    until("it is shown again and again", SERVED_TIME_MAX, || {
        (watched.said().matches("degraded: ").count() >= 2).then_some(())
    });
    assert_eq!(waiting.ended(), None, "{}", waiting.said());
    cluster.join();
    cluster.join();
    let status = waiting.wait(Duration::from_secs(60));
    assert!(status.success(), "{status} {}", waiting.said());
    // Why it waits goes to stderr, what it waited for to stdout.
    let said = waiting.said();
    let told = said.starts_with("waiting: the data has 1 of 3 copies");
    let healthy = said.lines().any(|line| line.starts_with("healthy: "));
    assert!(told && healthy, "{said}");
    until("the change is shown", SERVED_TIME_MAX, || {
        watched.said().contains("\nhealthy: ").then_some(())
    });
    cluster.wait_healthy();
    // Two of three are gone: unhealthy, with exit code 3, and whom it misses.
    cluster.kill(1);
    cluster.kill(2);
    until("partitions cannot be served", SERVED_TIME_MAX, || {
        let output = process::run(&["status", "--node", &cluster.admin_url(0)]);
        let said = stdout(&output);
        let all = said.contains("32 of 32 partitions have no leader");
        (output.status.code() == Some(3)
            && all
            && said.contains("n2 is ")
            && said.contains("n3 is "))
        .then(|| assert!(said.starts_with("unhealthy: "), "{said}"))
    });
    let place = list(3, &["where", "counter/a", "--node", &cluster.admin_url(0)]);
    assert_eq!(place["leader"], Value::Null);
    until("the watch shows it", SERVED_TIME_MAX, || {
        watched.said().contains("\nunhealthy: ").then_some(())
    });
    watched.signal(interrupt());
    watched.wait(Duration::from_secs(5));
}

/// The signal of Ctrl-C. A shell starts what runs in the background with it ignored, and programs
/// that leave signals alone then do not hear it: tests that were started so send another one.
fn interrupt() -> Signal {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap_or("0").trim(), 16).expect("a mask");
    let bit = 1 << (Signal::INT.as_raw() - 1);
    if ignored & bit == 0 {
        Signal::INT
    } else {
        Signal::TERM
    }
}

#[test]
fn signals_drain_and_a_second_one_ends_at_once() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, FEW_PARTITIONS);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(10, SERVED_TIME_MAX);
    for (node, signal) in [(0, Signal::TERM), (1, Signal::INT)] {
        let mut process = cluster.take(node);
        let began = Instant::now();
        process.signal(signal);
        let status = process.wait(Duration::from_secs(40));
        let said = process.said();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(
            said.contains("draining, at most 30 s; a second signal ends at once"),
            "{said}"
        );
        println!(
            "{signal:?}: ended after {:.1} s",
            began.elapsed().as_secs_f64()
        );
        cluster.start(node);
        cluster.wait_healthy();
    }
    end_clean("signals", load, &cluster.http());
    // Its leaders have nowhere to go when the others are frozen: only the second signal ends it.
    let busiest = cluster.busiest();
    let others: Vec<usize> = (0..3).filter(|node| *node != busiest).collect();
    for node in &others {
        cluster.signal(*node, Signal::STOP);
    }
    let mut process = cluster.take(busiest);
    process.signal(Signal::TERM);
    until("it drains", SERVED_TIME_MAX, || {
        let draining = process.said().matches("draining, at most").count();
        (draining == if busiest < 2 { 2 } else { 1 }).then_some(())
    });
    assert_eq!(process.ended(), None);
    let began = Instant::now();
    process.signal(Signal::TERM);
    let status = process.wait(Duration::from_secs(2));
    println!(
        "second signal: ended after {:.2} s",
        began.elapsed().as_secs_f64()
    );
    assert!(
        process.said().contains("ended at once"),
        "{status} {}",
        process.said()
    );
    for node in others {
        cluster.signal(node, Signal::CONT);
    }
    cluster.start(busiest);
    cluster.wait_healthy();
    let mut client = Client::new(&cluster.http(), 0);
    let total = client.good("counter/a/method/add", "last", "1");
    assert_eq!(total, Ok("1".to_owned()));
}
