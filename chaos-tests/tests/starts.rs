//! Starts that must not succeed, and clusters that must not mix: what is typed, what is said, how
//! it ends.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ghostlight_chaos::cluster::{Cluster, write_key};
use ghostlight_chaos::files::{Mounted, copy_folder};
use ghostlight_chaos::load::Load;
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::process::{self, Process};
use ghostlight_chaos::scenario::{SERVED_TIME_MAX, turn};
use ghostlight_chaos::wait::until;

/// Longest time for a refused node to end, or to say why it does not.
const TOLD_TIME_MAX: Duration = Duration::from_secs(20);
const PARTITIONS: u32 = 16;

/// What becomes of a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The process ends with exit code 1.
    Refuses,
    /// It goes on and says why it is not let in: what is wrong may be made right elsewhere.
    GoesOn,
}

struct Row {
    what: &'static str,
    args: Vec<String>,
    end: End,
    /// All of these are said.
    words: &'static [&'static str],
}

/// The arguments of a node with other values for some flags.
fn changed(mut args: Vec<String>, changes: &[(&str, String)]) -> Vec<String> {
    for (flag, value) in changes {
        let place = args.iter().position(|arg| arg == flag);
        args[place.expect("a flag that is given") + 1].clone_from(value);
    }
    args
}

/// The same node elsewhere: other addresses, this data directory.
fn elsewhere(args: Vec<String>, data: &Path) -> Vec<String> {
    changed(
        args,
        &[
            ("--data-dir", data.display().to_string()),
            ("--listen", free_address()),
            ("--http", free_address()),
            ("--grpc", free_address()),
            ("--admin", free_address()),
        ],
    )
}

fn with(mut args: Vec<String>, more: &[&str]) -> Vec<String> {
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    args
}

/// Starts it, and checks what it says and how it ends.
#[track_caller]
fn check(cluster: &Cluster, row: &Row) {
    let log = cluster.path(&format!("{}.start.log", row.what.replace(' ', "-")));
    let mut process = Process::start(&row.args, &log);
    let told = |said: &str| row.words.iter().all(|word| said.contains(word));
    match row.end {
        End::Refuses => {
            let status = process.wait(TOLD_TIME_MAX);
            assert_eq!(status.code(), Some(1), "{}: {}", row.what, process.said());
            assert!(told(&process.said()), "{}: {}", row.what, process.said());
        }
        End::GoesOn => {
            until(row.what, TOLD_TIME_MAX, || {
                told(&process.said()).then_some(())
            });
            assert_eq!(process.ended(), None, "{}: {}", row.what, process.said());
        }
    }
    let said = process.said();
    let found = said.lines().find(|line| line.contains(row.words[0]));
    println!(
        "{} ({:?}): {}",
        row.what,
        row.end,
        found.unwrap_or_default()
    );
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one block for each thing that can be wrong"
)]
fn e01_what_a_directory_can_be_wrong_about() {
    let _turn = turn();
    let cluster = Cluster::form(1, PARTITIONS);
    let args = || cluster.start_args(0);
    let path = |name: &str| cluster.path(name);

    let newer = path("newer");
    fs::create_dir(&newer).expect("a folder");
    fs::write(newer.join("format"), "ghostlight disk format 999\n").expect("a file");
    let foreign = path("foreign");
    fs::create_dir(&foreign).expect("a folder");
    fs::write(foreign.join("holiday.jpg"), "sun").expect("a file");
    let file = path("file");
    fs::write(&file, "").expect("a file");

    let rows = [
        Row {
            what: "two nodes on one directory",
            args: elsewhere(args(), &path("n1")),
            end: End::Refuses,
            words: &["[E0301]", "in use by another process"],
        },
        Row {
            what: "a directory of a newer version",
            args: elsewhere(args(), &newer),
            end: End::Refuses,
            words: &["[E0304]", "use the newer program"],
        },
        Row {
            what: "a directory of something else",
            args: elsewhere(args(), &foreign),
            end: End::Refuses,
            words: &["[E0305]", "holiday.jpg", "Nothing was changed"],
        },
        Row {
            what: "a file instead of a directory",
            args: elsewhere(args(), &file),
            end: End::Refuses,
            words: &["[E0309]"],
        },
        Row {
            what: "another partition count when joining",
            args: with(
                elsewhere(args(), &path("joiner")),
                &["--join", cluster.peer(0), "--partitions", "64"],
            ),
            end: End::Refuses,
            words: &["[E0207]", "leave the flag out"],
        },
        Row {
            what: "an edge that founds",
            args: with(elsewhere(args(), &path("edge")), &["--weight", "0"]),
            end: End::Refuses,
            words: &["[E0212]", "--join"],
        },
    ];
    for row in &rows {
        check(&cluster, row);
    }
    assert_eq!(
        fs::read(foreign.join("holiday.jpg")).ok().as_deref(),
        Some(&b"sun"[..])
    );
    read_only(&cluster);

    let key = process::run(&["keygen"]).stdout;
    write_key(&path("other.key"), &key);
    let stranger = changed(
        elsewhere(args(), &path("stranger")),
        &[(
            "--cluster-key-file",
            path("other.key").display().to_string(),
        )],
    );
    let row = Row {
        what: "another cluster key",
        args: with(stranger, &["--join", cluster.peer(0)]),
        end: End::GoesOn,
        words: &["[E0205]", "--cluster-key-file"],
    };
    check(&cluster, &row);
    let status = cluster.admin(0, "status").expect("the node answers");
    assert_eq!(
        status["members"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
}

/// Root may write anywhere but on a file system that is mounted read-only.
fn read_only(cluster: &Cluster) {
    let place = cluster.path("read-only");
    fs::create_dir(&place).expect("a folder");
    let Some(_mounted) = Mounted::tmpfs(&place, "ro") else {
        println!("SKIPPED: a read-only directory: this user may not mount a file system");
        return;
    };
    let row = Row {
        what: "a read-only directory",
        args: elsewhere(cluster.start_args(0), &place),
        end: End::Refuses,
        words: &["[E0302]", "Check its owner and its mount"],
    };
    check(cluster, &row);
}

#[test]
fn e02_copies_of_a_directory_and_removed_nodes() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, PARTITIONS);
    // A copy from now, for later: an old run.
    cluster.kill(1);
    let old = cluster.path("old-copy");
    copy_folder(&cluster.path("n2"), &old);
    for _ in 0..2 {
        cluster.start(1);
        cluster.wait_healthy();
        cluster.kill(1);
    }
    let twin = cluster.path("twin");
    copy_folder(&cluster.path("n2"), &twin);
    cluster.start(1);
    cluster.wait_healthy();
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(5, SERVED_TIME_MAX);
    let args = || cluster.start_args(1);
    let rows = [
        Row {
            what: "an old copy of a directory",
            args: elsewhere(args(), &old),
            end: End::Refuses,
            words: &["[E0208]", "--join"],
        },
        Row {
            what: "a copy of a directory at the same run",
            args: elsewhere(args(), &twin),
            end: End::Refuses,
            words: &["[E0208]", "copies of one data directory"],
        },
        Row {
            what: "another partition count on a directory",
            args: with(elsewhere(args(), &old), &["--partitions", "64"]),
            end: End::Refuses,
            words: &["[E0207]", "leave the flag out"],
        },
    ];
    for row in &rows {
        check(&cluster, row);
    }
    load.wait_acknowledged(5, SERVED_TIME_MAX);
    cluster.wait_healthy();
    let ended = load.stop();
    ended.check(&cluster.http());
    ended.assert_none_failed();

    cluster.kill(2);
    let name = cluster.name(2).to_owned();
    until(
        "the dead node can be removed",
        Duration::from_secs(30),
        || {
            let output = process::run(&["remove", &name, "--node", &cluster.admin_url(0)]);
            output.status.success().then_some(())
        },
    );
    let row = Row {
        what: "a removed node",
        args: cluster.start_args(2),
        end: End::Refuses,
        words: &["[E0209]", "--join"],
    };
    check(&cluster, &row);
}

#[test]
fn e03_a_wiped_founder_that_founds_again_gives_way() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, PARTITIONS);
    let load = Load::start(&cluster.http()[1..]);
    load.wait_acknowledged(10, SERVED_TIME_MAX);
    cluster.kill(0);
    fs::remove_dir_all(cluster.path("n1")).expect("a folder that can be removed");
    cluster.start_with(0, &[]);
    let mut founder = cluster.take(0);
    let status = founder.wait(TOLD_TIME_MAX);
    let said = founder.said();
    let told = said.lines().find(|line| line.contains("[E0211]"));
    println!("a wiped founder: {}", told.unwrap_or_default());
    assert_eq!(status.code(), Some(1), "{said}");
    let told = told.expect("it says why it ends");
    assert!(told.contains("wipe") && told.contains("--join"), "{told}");
    // As it says.
    fs::remove_dir_all(cluster.path("n1")).expect("a folder that can be removed");
    let seed = cluster.peer(1).to_owned();
    cluster.start_with(0, &["--join".to_owned(), seed]);
    until("it is a member of the old cluster", TOLD_TIME_MAX, || {
        let (theirs, ours) = (cluster.admin(1, "status")?, cluster.admin(0, "status")?);
        (theirs["cluster"] == ours["cluster"]).then_some(())
    });
    load.wait_acknowledged(10, SERVED_TIME_MAX);
    let ended = load.stop();
    ended.check(&cluster.http());
    ended.assert_none_failed();
}

#[test]
fn e04_two_clusters_with_company_refuse_each_other() {
    let _turn = turn();
    let one = Cluster::form(3, PARTITIONS);
    let mut other = Cluster::form(3, PARTITIONS);
    // The same key: what keeps them apart is the cluster's id alone.
    let key = fs::read(one.path("cluster.key")).expect("a key");
    for node in 0..3 {
        other.kill(node);
    }
    fs::write(other.path("cluster.key"), key).expect("a writable file");
    let seed = one.peer(0).to_owned();
    other.start(0);
    other.start(2);
    other.start_with(1, &["--join".to_owned(), seed]);
    until("the stranger is told why", TOLD_TIME_MAX, || {
        other.said(1).contains("[E0206]").then_some(())
    });
    let said = other.said(1);
    let told = said.lines().find(|line| line.contains("[E0206]"));
    println!("two clusters: {}", told.unwrap_or_default());
    for cluster in [&one, &other] {
        cluster.wait_healthy();
        let load = Load::start(&cluster.http());
        load.wait_acknowledged(5, SERVED_TIME_MAX);
        let ended = load.stop();
        ended.check(&cluster.http());
    }
}

/// Every restart of these tests names the data directory alone; here, what it must bring back is
/// looked at.
#[test]
fn e05_a_restart_needs_its_data_directory_alone() {
    let _turn = turn();
    let mut cluster = Cluster::plan(PARTITIONS);
    cluster.found_with(&["--zone", "attic", "--weight", "3"]);
    cluster.wait_healthy();
    let of_node = |cluster: &Cluster| {
        let row = cluster.row(0, 0).expect("a node that answers");
        let shown = ["name", "zone", "weight", "address", "http"].map(|field| row[field].clone());
        assert!(shown.iter().all(|value| !value.is_null()), "{row}");
        shown
    };
    let before = of_node(&cluster);
    cluster.kill(0);
    cluster.start(0);
    cluster.wait_healthy();
    assert_eq!(of_node(&cluster), before);
    assert_eq!(before[1], "attic");
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(5, SERVED_TIME_MAX);
    load.stop().check(&cluster.http());
    let said = cluster.said(0);
    let told = said.lines().find(|line| line.contains("as the last time"));
    println!("restart: {}", told.expect("it says what it took"));
}
