//! The demo, as a person meets it: ready soon, its printed commands work, a death is told, and
//! however it ends it leaves no process and no file.

use std::path::Path;
use std::time::{Duration, Instant};

use ghostlight_chaos::process::{self, Process};
use ghostlight_chaos::scenario::{is_long, turn};
use ghostlight_chaos::wait::until;
use rustix::process::{Pid, Signal, kill_process};

/// Promised from the start of the built binary until it is ready.
const READY_TIME_MAX: Duration = Duration::from_secs(8);
/// Longest time for anything else.
const TIME_MAX: Duration = Duration::from_secs(60);

/// A demo with a temporary directory of its own.
struct Demo {
    directory: tempfile::TempDir,
    process: Process,
    began: Instant,
}

impl Demo {
    fn start(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let temporary = directory.path().join("tmp");
        std::fs::create_dir(&temporary).expect("a folder");
        let mut command = process::command();
        command.arg("demo").args(args).env("TMPDIR", &temporary);
        let began = Instant::now();
        let process = Process::spawn(command, &directory.path().join("said"));
        Self {
            directory,
            process,
            began,
        }
    }

    fn temporary(&self) -> std::path::PathBuf {
        self.directory.path().join("tmp")
    }

    /// Waits until it says this, and returns all that it has said.
    #[track_caller]
    fn wait_said(&mut self, what: &str) -> String {
        until(what, TIME_MAX, || {
            let said = self.process.said();
            let ended = self.process.ended();
            assert!(said.contains(what) || ended.is_none(), "{ended:?} {said}");
            said.contains(what).then_some(said)
        })
    }

    #[track_caller]
    fn wait_ready(&mut self) -> String {
        self.wait_said("ready after");
        let took = self.began.elapsed();
        println!("demo: ready {:.1} s after its start", took.as_secs_f64());
        assert!(took <= READY_TIME_MAX, "{took:?}");
        self.wait_said("Ctrl-C ends everything")
    }

    /// Its nodes and its janitor run, and its directory is there.
    #[track_caller]
    fn check_there(&self, nodes: usize) {
        let there = processes_with(&self.temporary());
        assert!(there.len() > nodes, "{there:?}");
        assert_eq!(entries(&self.temporary()).len(), 1);
    }

    #[track_caller]
    fn check_nothing_left(&self, time_max: Duration) {
        until("no process and no file is left", time_max, || {
            let (processes, files) = (
                processes_with(&self.temporary()),
                entries(&self.temporary()),
            );
            (processes.is_empty() && files.is_empty()).then_some(())
        });
    }

    #[track_caller]
    fn check_ends_well(&mut self) -> String {
        let status = self.process.wait(TIME_MAX);
        let said = self.process.said();
        assert!(status.success(), "{status}\n{said}");
        // It waits for its janitor: nothing is left at the very moment when it has ended.
        self.check_nothing_left(Duration::ZERO);
        said
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// The processes whose command line names a directory.
fn processes_with(directory: &Path) -> Vec<String> {
    let wanted = directory.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("the system's processes");
    let lines = entries.filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&wanted)).collect()
}

/// The printed command that begins so, without its comment.
fn printed_command(said: &str, begins: &str) -> Vec<String> {
    let line = said
        .lines()
        .map(str::trim)
        .find(|line| line.split(" # ").next().unwrap_or(line).contains(begins))
        .unwrap_or_else(|| panic!("no command {begins:?} in:\n{said}"));
    let line = line.split(" # ").next().unwrap_or(line);
    line.split_whitespace().map(str::to_owned).collect()
}

/// What a printed command of the binary prints.
#[track_caller]
fn run_printed(said: &str, begins: &str) -> String {
    let words = printed_command(said, begins);
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    let output = process::run(&words);
    assert!(output.status.success(), "{}", process::stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_printed_commands_work_and_ctrl_c_leaves_nothing() {
    let _turn = turn();
    let mut demo = Demo::start(&[]);
    let said = demo.wait_ready();
    demo.check_there(3);
    for column in ["NODE", "PID", "DAPR HTTP", "ADMIN"] {
        assert!(said.contains(column), "{said}");
    }
    // The load of the demo adds to the same counter.
    let total = run_printed(&said, " invoke ");
    assert!(
        total.trim().parse::<u64>().is_ok_and(|total| total > 0),
        "{total}"
    );
    let health = run_printed(&said, " status ");
    assert!(health.starts_with("healthy: "), "{health}");
    let kill = printed_command(&said, "kill -9");
    let pid = kill[2].parse().ok().and_then(Pid::from_raw).expect("a PID");
    kill_process(pid, Signal::KILL).expect("a node of the demo");
    let told = demo.wait_said(" gone, ");
    let line = told.lines().find(|line| line.contains(" gone, "));
    let line = line.expect("just seen");
    println!("demo: {line}");
    for part in [
        " partitions led again after 0.",
        " s, longest wait of a caller ",
    ] {
        assert!(line.contains(part), "{line}");
    }
    demo.wait_said(" is back, PID ");
    demo.process.signal(Signal::INT);
    let said = demo.check_ends_well();
    println!("demo: {}", said.lines().last().unwrap_or_default());
}

#[test]
fn a_demo_with_a_time_limit_ends_by_itself() {
    let _turn = turn();
    let mut demo = Demo::start(&["--nodes", "1", "--for", "2s"]);
    demo.wait_ready();
    demo.check_there(1);
    let said = demo.check_ends_well();
    assert!(
        [
            "calls failed               0",
            "appends lost               0",
            "appends doubled            0"
        ]
        .iter()
        .all(|line| said.contains(line)),
        "{said}"
    );
}

#[test]
fn a_demo_that_is_killed_leaves_nothing() {
    let _turn = turn();
    let mut demo = Demo::start(&[]);
    demo.wait_ready();
    demo.check_there(3);
    // A frozen node cannot end by itself.
    let frozen = printed_command(&demo.process.said(), "kill -9");
    let frozen = frozen[2].parse().ok().and_then(Pid::from_raw);
    kill_process(frozen.expect("a PID"), Signal::STOP).expect("a node of the demo");
    demo.process.signal(Signal::KILL);
    let began = Instant::now();
    demo.check_nothing_left(Duration::from_secs(15));
    println!(
        "demo killed: nothing left after {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn a_demo_is_interrupted_while_it_forms() {
    let _turn = turn();
    let mut demo = Demo::start(&[]);
    demo.wait_said("starting 3 nodes");
    demo.process.signal(Signal::INT);
    demo.check_ends_well();
}

#[test]
fn a_demo_with_chaos() {
    let _turn = turn();
    if !is_long() {
        println!("demo --chaos kills every 10 to 20 s: in the long version");
        return;
    }
    let mut demo = Demo::start(&["--chaos", "--for", "60s"]);
    demo.wait_ready();
    let said = demo.check_ends_well();
    let deaths = said.lines().filter(|line| line.contains(" gone, ")).count();
    println!("demo --chaos: {deaths} deaths in 60 s");
    assert!(deaths >= 2, "{said}");
}
