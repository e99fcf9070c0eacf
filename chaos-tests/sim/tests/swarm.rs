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
