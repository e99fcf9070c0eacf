//! Deliberate bugs, each found by the swarm: `make canaries`, or
//! `cargo test -p ghostlight-sim --features canaries --test canaries -- --nocapture`.
//!
//! A build of its own: with the feature the product does not compile. `GHOSTLIGHT_CHAOS=long`
//! counts the seeds that it takes from several places on, and hunts those as well that nobody has
//! seen found. `CANARY=ForgetVote` tries one of them alone, `SEED=17` with one seed.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use ghostlight_protocol::canary::{Canary, choose};
use ghostlight_report::Row;
use ghostlight_sim::{Show, run_seed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds that a canary may survive.
const SEEDS_MAX: u64 = 150;
/// Half of the canaries must be found within so many seeds.
const MEDIAN_MAX: u64 = 100;
/// Seeds that the same build passes while no canary is chosen.
const SOUND: u64 = 6;
/// Where the long version begins to count seeds.
const BEGINNINGS: [u64; 3] = [1, 10_001, 20_001];

/// Those that nobody has seen found: the usual run leaves them out, and the report counts them as
/// not caught.
const NOT_SEEN_FOUND: &[Canary] = &[];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn is_long() -> bool {
    std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|kind| kind == "long")
}

/// The first seed that fails among those that were begun, and what it found.
fn first_failure(canary: Option<Canary>, seeds: Range<u64>) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let search = || {
        choose(canary);
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                return None;
            }
            if let Err(failure) = run_seed(seed, Show::Nothing) {
                next.store(seeds.end, Ordering::SeqCst);
                return Some((seed, failure.what));
            }
        }
    };
    std::thread::scope(|scope| {
        let searches: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        let found = searches
            .into_iter()
            .filter_map(|search| search.join().expect("broken promises do not panic"));
        found.min_by_key(|(seed, _)| *seed)
    })
}

/// How many seeds it took from each beginning on.
fn hunt(canary: Canary) -> Vec<Option<u64>> {
    let beginnings = match is_long() {
        true => &BEGINNINGS[..],
        false => &BEGINNINGS[..1],
    };
    let mut took = Vec::new();
    for first in beginnings {
        let seeds = number("SEED").map_or(*first..first + SEEDS_MAX, |seed| seed..seed + 1);
        let found = first_failure(Some(canary), seeds.clone());
        let what = match &found {
            Some((seed, what)) => format!("seed {seed}: {what}"),
            None => "not caught".to_owned(),
        };
        let what: String = what.replace('\n', " ").chars().take(170).collect();
        println!("{canary:?}: {what}");
        took.push(found.map(|(seed, _)| seed - seeds.start + 1));
    }
    took
}

fn median(took: &[Option<u64>]) -> u64 {
    let mut took: Vec<u64> = took.iter().map(|took| took.unwrap_or(u64::MAX)).collect();
    took.sort_unstable();
    took[took.len() / 2]
}

#[test]
fn the_swarm_catches_every_canary() {
    let only = std::env::var("CANARY").ok();
    let is_hunted = |canary: &Canary| is_long() || !NOT_SEEN_FOUND.contains(canary);
    let chosen: Vec<Canary> = match &only {
        Some(name) => vec![Canary::named(name).expect("the name of a canary")],
        None => Canary::ALL.into_iter().filter(is_hunted).collect(),
    };
    if only.is_none() {
        assert_eq!(first_failure(None, 1..1 + SOUND), None, "without a canary");
    }
    let mut medians = Vec::new();
    let mut survived = Vec::new();
    for canary in chosen {
        let took = hunt(canary);
        if took.iter().any(Option::is_none) {
            survived.push(canary);
        }
        medians.push((median(&took), canary));
    }
    medians.sort_unstable();
    let count = medians.len();
    let middle = medians[count / 2].0;
    println!("{count} canaries, half of them found within {middle} seeds: {medians:?}");
    if only.is_none() {
        note(count, survived.len(), middle);
    }
    survived.retain(|canary| only.is_some() || !NOT_SEEN_FOUND.contains(canary));
    assert!(survived.is_empty(), "not caught: {survived:?}");
    assert!(middle <= MEDIAN_MAX, "{middle} seeds are too many");
}

/// `survived` of `count` were not found, half of them within `middle` seeds.
fn note(count: usize, survived: usize, middle: u64) {
    let all = Canary::ALL.len();
    let tested = format!("{count} of {all} deliberate bugs, at most {SEEDS_MAX} seeds each");
    let caught = (count - survived) as f64;
    Row::figure(6, "canaries caught", caught, "bugs", all as f64)
        .at_least()
        .tested(&tested)
        .append();
    let name = "seeds until half of the canaries are found";
    Row::figure(6, name, middle as f64, "seeds", MEDIAN_MAX as f64)
        .tested(&tested)
        .append();
}
