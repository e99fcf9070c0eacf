//! Damaged disks, on real processes: a database that cannot be opened, files with flipped bits.
//! Nothing that was acknowledged is lost, and the node says what it does.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ghostlight_chaos::cluster::{Cluster, HEALTHY_TIME_MAX};
use ghostlight_chaos::files::{copy_folder, database_files, flip_bits};
use ghostlight_chaos::load::Load;
use ghostlight_chaos::ports::free_address;
use ghostlight_chaos::process::Process;
use ghostlight_chaos::scenario::{SERVED_TIME_MAX, end_clean, turn, without};
use ghostlight_chaos::wait::until;
use ghostlight_report::Row;
use serde_json::Value;

/// Longest time for a node to ask its peers, and a little.
const ASK_TIME_MAX: Duration = Duration::from_secs(45);
/// A damaged or emptied disk is made good within this.
const REPAIRED_TARGET: f64 = 60.0;
/// Partitions.
const PARTITIONS: u32 = 32;

fn data(cluster: &Cluster, node: usize) -> std::path::PathBuf {
    cluster.path(cluster.name(node))
}

/// The lines that a node has said since it had said `before`.
fn news(cluster: &Cluster, node: usize, before: usize) -> String {
    cluster
        .said(node)
        .get(before..)
        .unwrap_or_default()
        .to_owned()
}

fn line<'a>(text: &'a str, words: &str) -> &'a str {
    text.lines()
        .find(|line| line.contains(words))
        .unwrap_or_default()
}

fn id_of(cluster: &Cluster, node: usize) -> Option<String> {
    let status = cluster.admin(node, "status")?;
    status["node"].as_str().map(str::to_owned)
}

/// Waits until every partition has three voters, all on nodes that run, as each node tells it.
#[track_caller]
fn wait_whole(cluster: &Cluster) {
    let names: Vec<&str> = cluster
        .running()
        .into_iter()
        .map(|n| cluster.name(n))
        .collect();
    let is_whole = |partition: &Value| {
        let voters = partition["voters"].as_array().cloned().unwrap_or_default();
        let present = |voter: &Value| voter["name"].as_str().is_some_and(|n| names.contains(&n));
        voters.len() == 3 && voters.iter().all(present)
    };
    until("all groups are whole", HEALTHY_TIME_MAX, || {
        let told = |node: &usize| {
            let partitions = cluster.admin(*node, "partitions")?;
            let partitions = partitions.as_array()?;
            partitions.iter().all(is_whole).then_some(())
        };
        let all: Option<Vec<()>> = cluster.running().iter().map(told).collect();
        all.map(|_| ())
    });
}

/// Notes how long it took until every group had three whole copies again.
fn note_repaired(row: u8, what: &str, began: Instant, tested: &str) {
    let name = format!("{what}: until every group has three whole copies again");
    let seconds = began.elapsed().as_secs_f64();
    let figure = Row::figure(row, &name, seconds, "s", REPAIRED_TARGET);
    figure.tested(tested).append();
}

/// What is done to a database.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 3] = [
    ("CURRENT overwritten", |data| {
        fs::write(data.join("db/CURRENT"), "no manifest").expect("a writable file");
    }),
    ("MANIFEST with flipped bits", |data| {
        for manifest in database_files(data, |name| name.starts_with("MANIFEST")) {
            assert!(flip_bits(&manifest, 64) > 0);
        }
    }),
    ("CURRENT removed", |data| {
        fs::remove_file(data.join("db/CURRENT")).expect("a file that can be removed");
    }),
];

#[test]
fn d01_a_lost_database_comes_back_as_a_new_node() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, PARTITIONS);
    for (round, (what, damage)) in DAMAGES.into_iter().enumerate() {
        let victim = round % 3;
        let load = Load::start(&without(&cluster, victim));
        load.wait_acknowledged(10, SERVED_TIME_MAX);
        let old = id_of(&cluster, victim).expect("the node answers");
        let said = cluster.said(victim).len();
        cluster.kill(victim);
        // For later: the old identity must never come back.
        let copy = cluster.path(&format!("copy-{round}"));
        copy_folder(&data(&cluster, victim), &copy);
        damage(&data(&cluster, victim));
        let began = Instant::now();
        cluster.start(victim);
        until("the node is back", ASK_TIME_MAX, || {
            id_of(&cluster, victim).filter(|id| *id != old)
        });
        let back = began.elapsed();
        cluster.wait_healthy();
        wait_whole(&cluster);
        println!(
            "{what}: back after {:.1} s, all groups whole after {:.1} s",
            back.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
        note_repaired(
            15,
            what,
            began,
            "one of three nodes, a few MiB, 32 partitions",
        );
        let news = news(&cluster, victim, said);
        println!("{what}: {}", line(&news, "was given up"));
        assert!(line(&news, "was given up").contains("replaces"), "{news}");
        let aside = data(&cluster, victim).join("db.damaged-1");
        assert!(aside.is_dir(), "{} is kept", aside.display());
        load.wait_acknowledged(10, SERVED_TIME_MAX);
        end_clean(what, load, &cluster.http());
        check_refused(&cluster, victim, &copy);
    }
}

/// Starts a copy of the directory from before the damage: it is refused for good, and ends.
fn check_refused(cluster: &Cluster, victim: usize, copy: &Path) {
    let mut args = cluster.start_args(victim);
    for (flag, value) in [
        ("--data-dir", copy.display().to_string()),
        ("--listen", free_address()),
        ("--http", free_address()),
        ("--grpc", free_address()),
        ("--admin", free_address()),
    ] {
        let place = args.iter().position(|arg| arg == flag).expect("a flag");
        args[place + 1] = value;
    }
    let mut old = Process::start(&args, &copy.with_extension("log"));
    let status = old.wait(Duration::from_secs(20));
    println!("the old identity: {}", line(&old.said(), "E0209"));
    assert_eq!(status.code(), Some(1), "{}", old.said());
    assert!(old.said().contains("[E0209]"), "{}", old.said());
}

#[test]
fn d02_a_lost_database_is_kept_until_every_group_can_do_without_it() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, PARTITIONS);
    let load = Load::start(&cluster.http());
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    let ended = load.stop();
    for node in 0..3 {
        cluster.kill(node);
    }
    fs::write(data(&cluster, 0).join("db/CURRENT"), "no manifest").expect("a writable file");
    cluster.start(0);
    let mut process = cluster.take(0);
    let status = process.wait(ASK_TIME_MAX);
    println!("alone: {}", line(&process.said(), "[E0306]"));
    assert_eq!(status.code(), Some(1), "{}", process.said());
    assert!(process.said().contains("[E0306]"), "{}", process.said());
    assert!(data(&cluster, 0).join("db").is_dir(), "it is where it was");
    assert!(!data(&cluster, 0).join("db.damaged-1").exists());
    // One other node is no majority either: it asks until the third one is there.
    cluster.start(1);
    cluster.start(0);
    cluster.start(2);
    cluster.wait_healthy();
    wait_whole(&cluster);
    assert!(
        cluster.said(0).contains("was given up"),
        "{}",
        cluster.said(0)
    );
    ended.check(&cluster.http());
}

/// Which files are damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Files {
    All,
    Largest,
}

/// A damaged table can wait until it is compacted: RocksDB then takes no more writes, and the node
/// ends and says so. Whoever looks after it starts it again. How often that was.
fn wait_healthy_or_start_again(cluster: &mut Cluster) -> usize {
    let mut ended = 0;
    until(
        "every node calls the cluster healthy",
        SERVED_TIME_MAX * 3,
        || {
            for node in cluster.ended() {
                let said = cluster.said(node);
                let last = said.lines().last().unwrap_or_default();
                assert!(last.contains("[E0306]"), "it says why it ended: {last}");
                cluster.start(node);
                ended += 1;
            }
            cluster.is_healthy().then_some(())
        },
    );
    ended
}

#[test]
fn d03_flipped_bits_cost_copies_and_no_data() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, PARTITIONS);
    // One bit comes last: a table with a damaged block goes on being damaged, so that its node is
    // no support for the next one.
    let rounds = [
        (".log", Files::All),
        (".sst", Files::All),
        (".sst", Files::Largest),
    ];
    let mut ended = 0;
    for (round, (ending, which)) in rounds.into_iter().enumerate() {
        let victim = round % 3;
        let load = Load::start(&without(&cluster, victim));
        load.wait_acknowledged(20, SERVED_TIME_MAX);
        // A start flushes what the write-ahead log holds: then there are tables too.
        cluster.kill(victim);
        cluster.start(victim);
        ended += wait_healthy_or_start_again(&mut cluster);
        load.wait_acknowledged(20, SERVED_TIME_MAX);
        let said = cluster.said(victim).len();
        cluster.kill(victim);
        let mut files = database_files(&data(&cluster, victim), |name| name.ends_with(ending));
        let every = match which {
            Files::All => 4_096,
            // One bit, of what is most likely the table of log entries.
            Files::Largest => {
                files.sort_by_key(|file| fs::metadata(file).map_or(0, |file| file.len()));
                files.drain(..files.len() - 1);
                usize::MAX
            }
        };
        let flipped: usize = files.iter().map(|file| flip_bits(file, every)).sum();
        println!(
            "{ending}, {which:?}: {flipped} bits flipped in {} files",
            files.len()
        );
        assert!(flipped > 0);
        let began = Instant::now();
        cluster.start(victim);
        ended += wait_healthy_or_start_again(&mut cluster);
        wait_whole(&cluster);
        let tested = format!(
            "{flipped} bits flipped in {} files of one of three nodes",
            files.len()
        );
        note_repaired(14, &format!("{ending}, {which:?}"), began, &tested);
        load.wait_acknowledged(20, SERVED_TIME_MAX);
        let news = news(&cluster, victim, said);
        let condemned = news.matches("[E0308]").count();
        let lost = news.matches("was given up").count();
        println!(
            "{ending}: whole again after {:.1} s; {condemned} words of damaged copies, {lost} of a lost \
             database\n{}{}",
            began.elapsed().as_secs_f64(),
            line(&news, "[E0308]"),
            line(&news, "was given up")
        );
        assert!(condemned + lost > 0, "the node says what it found: {news}");
        end_clean(
            &format!("flipped bits in {ending}, {which:?}"),
            load,
            &cluster.http(),
        );
    }
    println!("{ended} times a node ended by a damaged table, and came back");
}

/// An old copy of a data directory is put back while the others went on: what it lacks was promised
/// to them.
#[test]
fn d04_an_old_copy_that_is_put_back_is_found_out_and_made_anew() {
    let _turn = turn();
    let mut cluster = Cluster::form(3, PARTITIONS);
    let victim = 1;
    let load = Load::start(&without(&cluster, victim));
    load.wait_acknowledged(20, SERVED_TIME_MAX);
    let old = id_of(&cluster, victim).expect("the node answers");
    // Stopped, copied, and run on: the copy is of a moment at which nothing was wrong.
    cluster.kill(victim);
    let copy = cluster.path("old-copy");
    copy_folder(&data(&cluster, victim), &copy);
    cluster.start(victim);
    cluster.wait_healthy();
    load.wait_acknowledged(100, SERVED_TIME_MAX);
    let said = cluster.said(victim).len();
    cluster.kill(victim);
    fs::remove_dir_all(data(&cluster, victim)).expect("a folder that can be removed");
    copy_folder(&copy, &data(&cluster, victim));
    let began = Instant::now();
    cluster.start(victim);
    // The copy is of the run before the last: as that run it is refused for a second process
    // (E0208), and its supervisor starts it again. As a later run it is told what it has forgotten
    // (E0311).
    let mut refused = 0;
    until("the node is back as a new one", ASK_TIME_MAX, || {
        for node in cluster.ended() {
            let said = cluster.said(node);
            let last = said.lines().last().unwrap_or_default();
            assert!(last.contains("[E0208]"), "it says why it ended: {said}");
            cluster.start(node);
            refused += 1;
        }
        id_of(&cluster, victim).filter(|id| *id != old)
    });
    cluster.wait_healthy();
    wait_whole(&cluster);
    let news = news(&cluster, victim, said);
    println!(
        "an old copy: {refused} times refused; whole again after {:.1} s\n{}",
        began.elapsed().as_secs_f64(),
        line(&news, "[E0311]")
    );
    let found_out = line(&news, "[E0311]");
    assert!(found_out.contains("disk has gone back"), "{news}");
    assert!(line(&news, "was given up").contains("replaces"), "{news}");
    load.wait_acknowledged(10, SERVED_TIME_MAX);
    end_clean("an old copy", load, &cluster.http());
}
