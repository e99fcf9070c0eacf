//! Real power losses: a file system on a loop device is shut down under RocksDB, without its
//! journal being written, and mounted again. What is found must be a state that the simulated disk
//! could have shown.
//!
//! Needs root, `mkfs.ext4`, `mount`, and perl for the one system call; where any of it is missing
//! the trials are skipped, and said to be. `GHOSTLIGHT_POWER_SEED=7` repeats one seed.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use ghostlight_storage::{
    Cf, DataDir, Durability, Engine, Limit, MemoryDisk, Read, RocksEngine, WriteBatch,
};
use libtest_mimic::{Arguments, Failed, Trial};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Seeds of one run.
const SEEDS: std::ops::Range<u64> = 1..5;
/// Losses of power for each seed.
const LOSSES: usize = 12;
/// Size of the file system.
const DISK_BYTES: u64 = 256 << 20;
/// More rows than any script leaves.
const EVERYTHING: Limit = Limit {
    rows: 1_000_000,
    bytes: 1 << 30,
};

/// Everything in a database.
type Rows = Vec<(Cf, Bytes, Bytes)>;

/// A file system of our own, mounted or not.
struct LoopDisk {
    folder: tempfile::TempDir,
}

impl LoopDisk {
    fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let disk = Self { folder };
        let image = std::fs::File::create(disk.image()).map_err(|error| error.to_string())?;
        image
            .set_len(DISK_BYTES)
            .map_err(|error| error.to_string())?;
        std::fs::create_dir(disk.root()).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").arg("-q").arg(disk.image()))?;
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(self.image())
            .arg(self.root()))
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(self.root()))
    }

    /// From now on nothing reaches the disk any more, what its journal holds in memory least of
    /// all.
    fn cut_power(&self) -> Result<(), String> {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
        let call = r#"open(my $root, "<", $ARGV[0]) or die $!; my $how = pack("L", 2);
            ioctl($root, 0x8004587d, $how) or die $!;"#;
        run(Command::new("perl").args(["-e", call]).arg(self.root()))
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // What is not mounted cannot be unmounted.
        drop(self.unmount());
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let said = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match said.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&said.stderr)
        )),
    }
}

/// Why real power losses cannot be had here.
fn missing() -> Option<String> {
    let disk = match LoopDisk::new() {
        Ok(disk) => disk,
        Err(why) => return Some(why),
    };
    disk.cut_power().err()
}

fn everything(engine: &impl Read) -> Rows {
    let rows = Cf::ALL.into_iter().flat_map(|cf| {
        let rows = engine.scan(cf, &[], &[0xff; 16], EVERYTHING);
        let rows = rows.expect("a disk that can be read");
        rows.into_iter().map(move |(key, value)| (cf, key, value))
    });
    rows.collect()
}

fn key(rng: &mut ChaCha8Rng) -> [u8; 2] {
    [rng.random_range(0..4), rng.random_range(0..16)]
}

fn batch(rng: &mut ChaCha8Rng) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for _ in 0..rng.random_range(1..6) {
        let cf = Cf::ALL[rng.random_range(0..Cf::ALL.len())];
        match rng.random_range(0..10) {
            0 => batch.delete(cf, &key(rng)),
            1 => {
                let from = key(rng);
                batch.delete_range(cf, &from, &[from[0], from[1] + 3]);
            }
            _ => {
                let mut value = vec![0; rng.random_range(0..6_000)];
                rng.fill(&mut value[..]);
                batch.put(cf, &key(rng), &[&value]);
            }
        }
    }
    batch
}

/// How much was lost that had not been synced, in batches.
#[derive(Default, Debug)]
struct Losses {
    nothing: usize,
    some: usize,
    all: usize,
}

/// One script on both disks, with losses of power in between.
fn script(seed: u64) -> Result<Losses, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let disk = LoopDisk::new()?;
    let path = disk.root().join("data");
    let simulated = MemoryDisk::new(seed);
    let mut losses = Losses::default();
    for loss in 0..LOSSES {
        let place = format!("GHOSTLIGHT_POWER_SEED={seed}, loss {loss}");
        let rocks = open(&path).map_err(|why| format!("{place}: {why}"))?;
        let memory = simulated.open();
        // What the simulated disk may show after a crash: the last synced state, and each one after
        // it.
        let mut states = vec![everything(&memory)];
        let mut synced = 0;
        for _ in 0..rng.random_range(1..60) {
            let batch = batch(&mut rng);
            let durability = match rng.random_range(0..6) {
                0 => Durability::Synced,
                _ => Durability::Buffered,
            };
            for written in [
                rocks.write(&batch, durability),
                memory.write(&batch, durability),
            ] {
                written.map_err(|error| format!("{place}: {error}"))?;
            }
            states.push(everything(&memory));
            // Now and then the operating system writes out what nobody asked for.
            if rng.random_ratio(1, 20) {
                run(Command::new("sync").arg("-f").arg(disk.root()))?;
            }
            if durability == Durability::Synced {
                synced = states.len() - 1;
            }
        }
        disk.cut_power()?;
        drop(rocks);
        disk.unmount()?;
        disk.mount()?;
        let found = everything(&open(&path).map_err(|why| format!("{place}: {why}"))?);
        let Some(at) = states[synced..].iter().position(|state| *state == found) else {
            let earlier = states.iter().position(|state| *state == found);
            return Err(format!(
                "{place}: {} batches were written, the last synced one was {synced}, and RocksDB shows {}",
                states.len() - 1,
                earlier.map_or("what no prefix of them is".to_owned(), |at| format!(
                    "batch {at}"
                )),
            ));
        };
        match at {
            0 if synced + 1 < states.len() => losses.all += 1,
            at if synced + at + 1 == states.len() => losses.nothing += 1,
            _ => losses.some += 1,
        }
        // Both go on from what was found.
        simulated.wipe(ghostlight_storage::memory::KeepNote::Lost);
        replay(&simulated, &found).map_err(|why| format!("{place}: {why}"))?;
    }
    Ok(losses)
}

fn open(path: &Path) -> Result<RocksEngine, String> {
    let dir = DataDir::open(path).map_err(|error| error.to_string())?;
    RocksEngine::open(dir).map_err(|error| error.to_string())
}

fn replay(disk: &MemoryDisk, rows: &Rows) -> Result<(), String> {
    let mut batch = WriteBatch::default();
    for (cf, key, value) in rows {
        batch.put_raw(*cf, key, value);
    }
    let written = disk.open().write(&batch, Durability::Synced);
    written.map_err(|error| error.to_string())
}

fn trial(seed: u64) -> Trial {
    Trial::test(format!("seed {seed}"), move || {
        let losses = script(seed).map_err(Failed::from)?;
        println!("seed {seed}: {losses:?}");
        // A power loss that loses nothing is none.
        match losses.all + losses.some {
            0 => Err("nothing was ever lost: the file system was not shut down".into()),
            _ => Ok(()),
        }
    })
}

fn main() -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    // One at a time: a program that another seed starts has the locks of this one's files for a
    // moment.
    arguments.test_threads = Some(1);
    let asked = std::env::var("GHOSTLIGHT_POWER_SEED").ok();
    let seeds = match asked.and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => SEEDS,
    };
    let missing = match arguments.list {
        true => None,
        false => missing(),
    };
    let trials = seeds.map(|seed| match &missing {
        None => trial(seed),
        Some(why) => trial(seed)
            .with_kind(format!("skipped: {}", why.trim()))
            .with_ignored_flag(true),
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
