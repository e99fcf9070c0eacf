//! Many seeds: each a cluster of its own under faults of its own.

use ghostlight_sim::{Show, Sometimes, reproduce, run_seed};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 200;

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
    let count = number("SEEDS").unwrap_or(SEEDS);
    let first = number("FIRST").unwrap_or(1);
    let mut failed = Vec::new();
    for seed in first..first + count {
        if !check(seed, show, &mut reached) {
            failed.push(seed);
        }
    }
    eprintln!("{}", reached.table());
    assert!(failed.is_empty(), "seeds {failed:?} failed");
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
