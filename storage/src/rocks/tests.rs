//! RocksDB: the conformance suite, the data directory's refusals, and damage on the real files.

use std::fs;
use std::path::{Path, PathBuf};

use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::PartitionId;

use super::*;
use crate::conformance::material::{advance, all_families, at, entry, founded, hard_state, write};
use crate::conformance::{Bed, run};
use crate::store::Store;

struct RocksBed(tempfile::TempDir);

impl Bed for RocksBed {
    type Engine = RocksEngine;

    fn open(&self) -> RocksEngine {
        open(self.0.path())
    }
}

fn open(path: &Path) -> RocksEngine {
    RocksEngine::open(DataDir::open(path).unwrap()).unwrap()
}

#[test]
fn rocks_conforms() {
    run(|| RocksBed(tempfile::tempdir().unwrap()));
}

#[test]
fn a_directory_is_ours_alone_or_refused() {
    let bed = tempfile::tempdir().unwrap();
    let path = bed.path().join("deep/er");
    let engine = open(&path);
    let code = |path: &Path| DataDir::open(path).unwrap_err().code();
    assert_eq!(code(&path), Code::DataDirLocked);
    drop(engine);
    drop(open(&path));
    fs::write(path.join("format"), "ghostlight disk format 99\n").unwrap();
    assert_eq!(code(&path), Code::DataDirNewer);
    fs::write(path.join("format"), "something else").unwrap();
    assert_eq!(code(&path), Code::DataDirForeign);
    let other = bed.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("holiday.jpg"), "").unwrap();
    assert_eq!(code(&other), Code::DataDirForeign);
    let file = bed.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(code(&file), Code::DataDirUnusable);
}

#[test]
fn errors_of_the_operating_system_are_told_apart() {
    let texts = [
        ("No space left on device", "NoSpace"),
        ("Disk quota exceeded", "NoSpace"),
        ("Read-only file system", "ReadOnly"),
        ("Permission denied", "ReadOnly"),
        ("Input/output error", "Io"),
    ];
    // RocksDB cannot be made to fail with each of them here; opening what is a file gives a real
    // one.
    let bed = tempfile::tempdir().unwrap();
    let file = bed.path().join("file");
    fs::write(&file, "").unwrap();
    let error = DB::open_default(file.join("db")).unwrap_err();
    assert!(matches!(classify(&error), EngineError::Io(_)), "{error}");
    for (text, expected) in texts {
        let found = format!(
            "{:?}",
            sort(ErrorKind::IOError, format!("IO error: {text}"))
        );
        assert!(found.starts_with(expected), "{text}: {found}");
    }
    let found = sort(
        ErrorKind::Corruption,
        "Corruption: No space left".to_owned(),
    );
    assert!(matches!(found, EngineError::Corrupt(_)));
}

/// A database with three replicas whose synced writes are still in the write-ahead log.
fn filled(path: &Path) {
    let mut store = founded(open(path), 3);
    for partition in 0..3 {
        advance(&mut store, partition, 1, &all_families(6, 6, 100));
    }
    // Applied rows are buffered; this sync makes them durable too.
    let more = vec![entry(at(6, 12), vec![7; 1_000])];
    store
        .persist(&[write(0, 1, Some(hard_state(6, 11)), more)])
        .unwrap();
}

fn wal(path: &Path) -> PathBuf {
    let files = fs::read_dir(path.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "log"))
        .filter(|file| fs::metadata(file).unwrap().len() > 0)
        .collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs.remove(0)
}

#[test]
fn a_torn_tail_is_cut_and_costs_only_what_was_not_whole() {
    let bed = tempfile::tempdir().unwrap();
    filled(bed.path());
    let wal = wal(bed.path());
    let length = fs::metadata(&wal).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&wal)
        .unwrap()
        .set_len(length - 7)
        .unwrap();
    let (_, recovered) = Store::open(open(bed.path())).unwrap();
    assert_eq!(
        (recovered.replicas.len(), recovered.condemned.len()),
        (3, 0)
    );
    assert_eq!(
        recovered.replicas[0].tail.len(),
        6,
        "the torn batch is absent as a whole"
    );
}

#[test]
fn a_flipped_byte_inside_the_log_refuses_the_start_and_nothing_is_deleted() {
    let bed = tempfile::tempdir().unwrap();
    filled(bed.path());
    let wal = wal(bed.path());
    let mut bytes = fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&wal, &bytes).unwrap();
    let dir = DataDir::open(bed.path()).unwrap();
    let note = dir.note().unwrap();
    assert_eq!(
        note.identity,
        Some(crate::conformance::material::identity())
    );
    let refused = RocksEngine::open(dir).unwrap_err();
    assert_eq!(refused.code(), Code::DataDirCorrupt, "{refused}");
    // Moved aside by hand, never by itself; the node then begins anew.
    let dir = DataDir::open(bed.path()).unwrap();
    let aside = dir.move_database_aside().unwrap().unwrap();
    assert!(aside.join("CURRENT").exists());
    let (store, recovered) = Store::open(RocksEngine::open(dir).unwrap()).unwrap();
    assert_eq!(recovered, crate::store::Recovered::default());
    assert_eq!(store.peer(PartitionId(0)), None);
}

#[test]
fn a_database_without_its_root_files_is_damaged_and_not_begun_anew() {
    for missing in ["CURRENT", "MANIFEST"] {
        let bed = tempfile::tempdir().unwrap();
        filled(bed.path());
        let before = names(&bed.path().join("db"));
        let victim = before.iter().find(|name| name.starts_with(missing));
        fs::remove_file(bed.path().join("db").join(victim.unwrap())).unwrap();
        let dir = DataDir::open(bed.path()).unwrap();
        let refused = RocksEngine::open(dir).unwrap_err();
        assert_eq!(refused.code(), Code::DataDirCorrupt, "{missing}: {refused}");
        let after = names(&bed.path().join("db"));
        let tables = |names: &[String]| -> Vec<String> {
            let kept = names
                .iter()
                .filter(|n| n.ends_with(".log") || n.ends_with(".sst"));
            kept.cloned().collect()
        };
        assert_eq!(
            tables(&before),
            tables(&after),
            "{missing}: nothing was deleted"
        );
    }
}

#[test]
fn damage_that_was_noted_is_known_at_the_next_start_and_goes_aside_with_the_database() {
    let bed = tempfile::tempdir().unwrap();
    filled(bed.path());
    DataDir::mark_damaged(bed.path(), "a block of 000012.sst").unwrap();
    let dir = DataDir::open(bed.path()).unwrap();
    assert_eq!(dir.damage().as_deref(), Some("a block of 000012.sst"));
    let aside = dir.move_database_aside().unwrap().unwrap();
    assert!(aside.join("CURRENT").exists());
    assert_eq!(dir.damage(), None);
    // After a crash in between there may be nothing left to move.
    assert_eq!(dir.move_database_aside().unwrap(), None);
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
