//! Many seeds: each a cluster of its own under faults of its own.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ghostlight_sim::{Show, Sometimes, reproduce, run_seed};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 200;

/// Seeds with `GHOSTLIGHT_CHAOS=long`.
const LONG_SEEDS: u64 = 2_000;

fn long() -> bool {
    std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|kind| kind == "long")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn check(seed: u64, show: Show, reached: &mut Sometimes) -> bool {
    match run_seed(seed, show) {
        Ok(report) => {
            reached.add(&report.sometimes);
            true
        }
        Err(failure) => {
            eprintln!("{}\n{}\n{}", reproduce(seed), failure.before, failure.what);
            false
        }
    }
}

#[test]
fn swarm() {
    let show = if number("TRACE").is_some() {
        Show::Everything
    } else {
        Show::Nothing
    };
    let mut reached = Sometimes::default();
    if let Some(seed) = number("SEED") {
        assert!(check(seed, show, &mut reached), "seed {seed} failed");
        return eprintln!("{}", reached.table());
    }
    let count = number("SEEDS").unwrap_or_else(|| if long() { LONG_SEEDS } else { SEEDS });
    let first = number("FIRST").unwrap_or(1);
    let (reached, failed) = check_all(first..first + count);
    eprintln!("{}", reached.table());
    assert!(failed.is_empty(), "seeds {failed:?} failed");
    if count >= SEEDS {
        let missed = reached.missed();
        assert!(
            missed.is_empty(),
            "never reached in {count} seeds: {missed:?}"
        );
    }
}

/// Seeds are independent of each other: as many at a time as there are cores.
fn check_all(seeds: Range<u64>) -> (Sometimes, Vec<u64>) {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new((Sometimes::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let mut reached = Sometimes::default();
                    let held = check(seed, Show::Nothing, &mut reached);
                    let mut all = all.lock().expect("a failed seed panics nobody");
                    all.0.add(&reached);
                    if !held {
                        all.1.push(seed);
                    }
                }
            });
        }
    });
    let (reached, mut failed) = all.into_inner().expect("a failed seed panics nobody");
    failed.sort_unstable();
    (reached, failed)
}

/// What makes a seed worth anything: it gives the same run again, to the last event.
#[test]
fn a_seed_gives_the_same_run_again() {
    let hash = |seed| match run_seed(seed, Show::Nothing) {
        Ok(report) => (report.hash, report.events, report.time, report.operations),
        Err(failure) => panic!("{}\n{}", reproduce(seed), failure.what),
    };
    let mut hashes = Vec::new();
    for seed in 1..=8 {
        let first = hash(seed);
        assert_eq!(first, hash(seed), "{}", reproduce(seed));
        assert!(!hashes.contains(&first.0), "two seeds, one run");
        hashes.push(first.0);
    }
}
