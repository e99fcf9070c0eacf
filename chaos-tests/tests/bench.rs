//! `bench` as a program: every row is there, its JSON can be read, and nothing is left behind, also
//! when it is interrupted. The figures of a quick run mean nothing, so none is judged here.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use ghostlight_chaos::process;
use ghostlight_chaos::wait::until;
use rustix::process::{Pid, Signal, kill_process};

/// A quick run takes about half a minute on two idle cores.
const QUICK_MAX: Duration = Duration::from_secs(300);

const ROWS: [&str; 48] = [
    "machine",
    "fsync",
    "load_generator",
    "read_remote_alone",
    "read_remote_64",
    "read_remote_512",
    "read_local_alone",
    "read_local_64",
    "read_local_512",
    "turn_bytes",
    "turn_single_256",
    "turn_three_alone",
    "turn_three_256",
    "turn_cpu",
    "turn_actors_100k",
    "idle_cpu",
    "idle_memory",
    "idle_activation",
    "join_failed",
    "join_p99",
    "join_time",
    "overload_capacity",
    "overload_2x",
    "overload_10x",
    "overload_after",
    "overload_memory",
    "api_echo",
    "app_echo",
    "app_activation",
    "app_calls",
    "reminders_set",
    "reminders_fired",
    "app_memory",
    "publish_one",
    "publish_one_nats",
    "publish_three",
    "topic_group",
    "topic_wakeup",
    "topic_idle",
    "ephemeral_8",
    "ephemeral_8_nats",
    "ephemeral_8_mosquitto",
    "ephemeral_8_paced",
    "ephemeral_8_stuck",
    "ephemeral_32",
    "ephemeral_32_nats",
    "ephemeral_32_mosquitto",
    "ephemeral_32_paced",
];

fn bench(directory: &Path, args: &[&str]) -> Child {
    process::command()
        .args(["bench", "--dir"])
        .arg(directory)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the binary starts")
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).expect("a directory").count()
}

/// Processes whose command line names the directory.
fn processes_of(directory: &Path) -> Vec<String> {
    let name = directory.display().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&name))
        .collect()
}

#[test]
fn a_quick_run_has_every_row_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = bench(directory.path(), &["--quick", "--json"]);
    let stdout = child.stdout.take().unwrap();
    let text = std::thread::spawn(move || std::io::read_to_string(stdout).unwrap());
    let status = until("a quick bench ends", QUICK_MAX, || {
        child.try_wait().unwrap()
    });
    let text = text.join().unwrap();
    assert!(status.success(), "{status}: {text}");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let names: Vec<&str> = rows.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ROWS);
    for row in &rows {
        let name = &row["name"];
        assert!(row["unit"].is_string() && row["value"].is_number(), "{row}");
        for field in ["baseline", "ratio", "budget", "met"] {
            assert!(row.get(field).is_some(), "{name} has no {field}");
        }
        // What has a budget is judged; what is compared has something to be compared with.
        // Only a peer that is not installed leaves a budget without a verdict.
        let compares = row["budget_is"]
            .as_str()
            .is_some_and(|is| is.starts_with("ratio"));
        let alone = compares && row["baseline"].is_null();
        let judged = row["budget"].is_number() && !alone;
        assert_eq!(judged, row["met"].is_boolean(), "{row}");
        let note = row["note"].as_str().unwrap_or_default();
        assert!(!alone || note.contains("not on the path"), "{row}");
        if row["ratio"].is_number() {
            assert!(row["baseline"].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    for row in rows.iter().filter(|row| row["unit"] == "turns/s") {
        assert!(row["value"].as_f64().unwrap() > 0.0, "{row}");
        // An overload is there to be refused.
        let overload = row["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("overload_"));
        assert!(overload || row["failed"] == 0, "{row}");
    }
    assert_eq!(entries(directory.path()), 0);
    assert_eq!(processes_of(directory.path()), Vec::<String>::new());
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        // So often that it cannot be over before it is interrupted, however slow this process is.
        let mut child = bench(
            directory.path(),
            &["--only", "turn_three_256", "--repeat", "99"],
        );
        until("nodes run", QUICK_MAX, || {
            (processes_of(directory.path()).len() >= 4).then_some(())
        });
        kill_process(Pid::from_child(&child), signal).expect("a running bench");
        let status = until("it ends", Duration::from_secs(30), || {
            child.try_wait().unwrap()
        });
        assert!(!status.success());
        // After a kill the janitor needs a moment.
        until("all is gone", Duration::from_secs(30), || {
            let gone = entries(directory.path()) == 0;
            (gone && processes_of(directory.path()).is_empty()).then_some(())
        });
    }
}

#[test]
fn only_what_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let output = bench(directory.path(), &["--quick", "--only", "fsync,machine"])
        .wait_with_output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["NAME", "machine", "fsync"], "{text}");
}
