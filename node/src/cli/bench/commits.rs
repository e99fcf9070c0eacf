//! The disk without us: RocksDB with our options and one writer that syncs every batch, a file with
//! one sync after the other, and what a turn of ours leaves on the disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ghostlight_protocol::command::{Command, Kind};
use ghostlight_protocol::family::Family;
use ghostlight_storage::{
    Cf, DataDir, Durability, Engine, Limit, Read, RocksEngine, Store, WriteBatch,
};
use prost::Message;
use rand::RngCore;

use super::order::{Report, RowPlace, RowShape, TurnShape, buckets, histogram};

/// Bytes of one write of the sync probe.
const SYNC_BYTES: usize = 4 << 10;
/// Actors whose rows are written again and again.
const ACTORS: u64 = 1_000;
/// Partitions over which rows are spread.
const PARTITIONS: u64 = 256;
/// Source of values that do not compress.
const NOISE_BYTES: usize = 1 << 20;
/// Rows of one step of a scan.
const SCAN_ROWS: usize = 4_096;

type Result<T> = std::result::Result<T, String>;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Appends and syncs.
pub(super) fn syncs(path: &Path, time: Duration) -> Result<Report> {
    let mut file = File::create(path).map_err(told)?;
    let block = [b'x'; SYNC_BYTES];
    let mut latencies = histogram();
    let start = Instant::now();
    while start.elapsed() < time {
        let begin = Instant::now();
        file.write_all(&block).map_err(told)?;
        file.sync_data().map_err(told)?;
        latencies.saturating_record(begin.elapsed().as_nanos() as u64);
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(path).map_err(told)?;
    Ok(Report {
        calls: latencies.len(),
        seconds,
        latencies: buckets(&latencies),
        ..Report::default()
    })
}

/// Writes batches of turns, a sync each, from this one thread.
pub(super) fn commits(
    data_dir: &Path,
    shape: &TurnShape,
    batch_turns: usize,
    time: Duration,
) -> Result<Report> {
    let engine = open(data_dir)?;
    let mut noise = vec![0; NOISE_BYTES];
    rand::rng().fill_bytes(&mut noise);
    let mut turns = Turns {
        shape,
        noise,
        done: 0,
    };
    let mut batch = WriteBatch::default();
    let mut latencies = histogram();
    let start = Instant::now();
    while start.elapsed() < time {
        let begin = Instant::now();
        batch.clear();
        for _ in 0..batch_turns {
            turns.put_next(&mut batch);
        }
        engine.write(&batch, Durability::Synced).map_err(told)?;
        let nanos = begin.elapsed().as_nanos() as u64;
        latencies.saturating_record_n(nanos, batch_turns as u64);
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(engine);
    std::fs::remove_dir_all(data_dir).map_err(told)?;
    Ok(Report {
        calls: turns.done,
        seconds,
        latencies: buckets(&latencies),
        ..Report::default()
    })
}

fn open(data_dir: &Path) -> Result<RocksEngine> {
    let dir = DataDir::open(data_dir).map_err(told)?;
    RocksEngine::open(dir).map_err(told)
}

/// Makes rows of turns, with keys that come again as often as those of real turns.
struct Turns<'a> {
    shape: &'a TurnShape,
    noise: Vec<u8>,
    done: u64,
}

impl Turns<'_> {
    fn put_next(&mut self, batch: &mut WriteBatch) {
        let turn = self.done;
        self.done += 1;
        for (number, row) in self.shape.rows.iter().enumerate() {
            let (cf, name) = match row.place {
                RowPlace::Log => (Cf::Log, turn),
                RowPlace::Actor => (Cf::State, turn % ACTORS),
                RowPlace::Request => (Cf::Dedup, turn),
                RowPlace::Session => (Cf::Dedup, turn % PARTITIONS),
            };
            let mut key = Vec::with_capacity(row.key.max(11));
            key.extend_from_slice(&((turn % PARTITIONS) as u16).to_be_bytes());
            key.push(number as u8);
            key.extend_from_slice(&name.to_be_bytes());
            key.resize(row.key.max(key.len()), 0);
            let from = (turn as usize * 61) % (self.noise.len() - row.value.min(NOISE_BYTES / 2));
            let value = &self.noise[from..from + row.value.min(NOISE_BYTES / 2)];
            batch.put_raw(cf, &key, value);
        }
    }
}

/// What one turn left on a node's disk: the mean over everything that is there.
pub(super) fn weigh(data_dir: &Path) -> Result<TurnShape> {
    let engine = open(data_dir)?;
    let log = Weight::of(&engine, Cf::Log, |_| true)?;
    let mut shapes = vec![];
    for (place, cf, family) in [
        (RowPlace::Actor, Cf::State, Family::State),
        (RowPlace::Actor, Cf::State, Family::Version),
        (RowPlace::Request, Cf::Dedup, Family::Dedup),
        (RowPlace::Session, Cf::Dedup, Family::Session),
    ] {
        // A row's key begins with its partition (two bytes) and its family.
        let weight = Weight::of(&engine, cf, |key| key.get(2) == Some(&(family as u8)))?;
        if weight.rows > 0 {
            shapes.push(weight.shape(place, weight.rows));
        }
    }
    let (_store, recovered) = Store::open(engine).map_err(told)?;
    let entries = recovered.replicas.into_iter().flat_map(|r| r.tail);
    let turns: usize = entries.map(|entry| turns_in(entry.data)).sum();
    if turns == 0 {
        return Err("no turn is in the log of that node".to_owned());
    }
    shapes.insert(0, log.shape(RowPlace::Log, turns as u64));
    Ok(TurnShape { rows: shapes })
}

fn turns_in(data: Bytes) -> usize {
    match Command::decode(data).ok().and_then(|command| command.kind) {
        Some(Kind::Turns(turns)) => turns.turns.len(),
        Some(
            Kind::Accept(_)
            | Kind::TrimOutbox(_)
            | Kind::InboxFailed(_)
            | Kind::Expire(_)
            | Kind::Facts(_)
            | Kind::Topics(_),
        )
        | None => 0,
    }
}

/// Rows and their bytes.
#[derive(Default)]
struct Weight {
    rows: u64,
    keys: u64,
    values: u64,
}

impl Weight {
    fn of(engine: &RocksEngine, cf: Cf, counts: impl Fn(&[u8]) -> bool) -> Result<Self> {
        let mut weight = Self::default();
        let mut from = vec![];
        loop {
            let rows = engine
                .scan(cf, &from, &[u8::MAX; 32], Limit::rows(SCAN_ROWS))
                .map_err(told)?;
            let Some((last, _)) = rows.last() else {
                return Ok(weight);
            };
            from = [last, &b"\0"[..]].concat();
            for (key, value) in rows.iter().filter(|(key, _)| counts(key)) {
                weight.rows += 1;
                weight.keys += key.len() as u64;
                weight.values += value.len() as u64;
            }
        }
    }

    /// One row that is as large as this shared by so many turns; a key is never shared.
    fn shape(&self, place: RowPlace, turns: u64) -> RowShape {
        RowShape {
            place,
            key: (self.keys / self.rows.max(1)) as usize,
            value: self.values.div_ceil(turns.max(1)) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_written_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let row = |place| RowShape {
            place,
            key: 20,
            value: 100,
        };
        let shape = TurnShape {
            rows: vec![
                row(RowPlace::Log),
                row(RowPlace::Actor),
                row(RowPlace::Request),
                row(RowPlace::Session),
            ],
        };
        assert_eq!(shape.bytes(), 480);
        let path = directory.path().join("db");
        let report = commits(&path, &shape, 16, Duration::from_millis(50)).unwrap();
        assert!(
            report.calls >= 16 && report.calls.is_multiple_of(16),
            "{report:?}"
        );
        let file = directory.path().join("syncs");
        assert!(syncs(&file, Duration::from_millis(20)).unwrap().calls > 0);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
