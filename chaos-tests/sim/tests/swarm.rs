//! Many seeds: each a cluster of its own under faults of its own. And the seeds that once found
//! something.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ghostlight_report::Row;
use ghostlight_sim::{FaultKind, Report, Show, Sometimes, reproduce, run_seed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 200;
/// Seeds with `GHOSTLIGHT_CHAOS=long`.
const LONG_SEEDS: u64 = 2_000;
/// Of so many seeds one is run twice.
const REPLAYED_EVERY: u64 = 100;

/// What a batch of seeds should be: see the scoreboard.
const SEEDS_TARGET: f64 = 1_000.0;
const YEAR_HOURS: f64 = 365.0 * 24.0;
const SPEED_TARGET: f64 = 1_000.0;
const CPU_TARGET: f64 = 0.6;
const REACHED_TARGET: f64 = 60.0;
const KINDS_TARGET: f64 = 20.0;

fn long() -> bool {
    std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|kind| kind == "long")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a batch has come to.
#[derive(Default)]
struct Batch {
    reached: Sometimes,
    failed: Vec<u64>,
    held: u64,
    /// Seeds that were run twice, and those whose second run was another one.
    replayed: u64,
    diverged: Vec<u64>,
    virtual_seconds: f64,
    cpu_seconds: f64,
    operations: (usize, usize),
}

impl Batch {
    fn add(&mut self, seed: u64, ran: Option<Report>, cpu_seconds: f64) {
        self.cpu_seconds += cpu_seconds;
        let Some(report) = ran else {
            return self.failed.push(seed);
        };
        self.held += 1;
        self.reached.add(&report.sometimes);
        self.virtual_seconds += report.time as f64 / 1e9;
        self.operations.0 += report.operations.0;
        self.operations.1 += report.operations.1;
    }

    fn append(&self, wall_seconds: f64) {
        let seeds = self.held + self.failed.len() as u64;
        let (begun, acknowledged) = self.operations;
        let outages = self.reached.count("fault: power loss everywhere");
        let tested = format!(
            "{seeds} clusters, {:.0} virtual minutes, {begun} operations, {acknowledged} acknowledged, {outages} times \
             power lost everywhere, in {wall_seconds:.0} s",
            self.virtual_seconds / 60.0
        );
        println!(
            "{tested}: {:.1} seeds a second, {:.2} CPU seconds a seed, {:.0} times real time",
            seeds as f64 / wall_seconds,
            self.cpu_seconds / seeds as f64,
            self.virtual_seconds / self.cpu_seconds
        );
        for row in self
            .promises()
            .into_iter()
            .chain(self.figures(seeds as f64))
        {
            row.tested(&tested).append();
        }
        if self.replayed > 0 {
            let diverged = self.diverged.len() as f64;
            let name = "seeds that did not replay identically";
            Row::promise(4, name, diverged, "seeds", 0.0)
                .tested(&format!("{} seeds run twice", self.replayed))
                .append();
        }
    }

    fn promises(&self) -> [Row; 2] {
        let violations = self.failed.len() as f64;
        [
            Row::promise(1, "seeds that broke a promise", violations, "seeds", 0.0).summed(),
            Row::promise(
                13,
                "seeds with power lost everywhere that broke a promise",
                violations,
                "seeds",
                0.0,
            )
            .summed(),
        ]
    }

    fn figures(&self, seeds: f64) -> [Row; 6] {
        let (hours, reached) = (
            self.virtual_seconds / 3_600.0,
            self.reached.reached() as f64,
        );
        let speed = self.virtual_seconds / self.cpu_seconds;
        let each = self.cpu_seconds / seeds;
        let kinds = FaultKind::count() as f64;
        let least =
            |row, name, value, unit, target| Row::figure(row, name, value, unit, target).at_least();
        [
            least(1, "simulated seeds", seeds, "seeds", SEEDS_TARGET).summed(),
            least(2, "simulated time of this run", hours, "hours", YEAR_HOURS).summed(),
            least(
                3,
                "simulated time for each CPU second",
                speed,
                "x",
                SPEED_TARGET,
            ),
            Row::figure(3, "CPU time of a seed", each, "s", CPU_TARGET),
            least(
                5,
                "interesting things reached",
                reached,
                "things",
                REACHED_TARGET,
            ),
            least(
                9,
                "kinds of faults in the simulator",
                kinds,
                "kinds",
                KINDS_TARGET,
            ),
        ]
    }
}

/// CPU time of this thread so far.
fn cpu_seconds() -> f64 {
    // Its first number: nanoseconds on a processor.
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = told.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    first.map_or(f64::NAN, |nanoseconds| nanoseconds / 1e9)
}

fn run(seed: u64, show: Show) -> Option<Report> {
    match run_seed(seed, show) {
        Ok(report) => Some(report),
        Err(failure) => {
            eprintln!("{}\n{}\n{}", reproduce(seed), failure.before, failure.what);
            for (name, lines) in &failure.histories {
                let name = format!("histories/seed-{seed}/{name}.jsonl");
                eprintln!("told: {}", ghostlight_report::write(name, lines).display());
            }
            None
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
    if let Some(seed) = number("SEED") {
        let report = run(seed, show).unwrap_or_else(|| panic!("seed {seed} failed"));
        return eprintln!("{}", report.sometimes.table());
    }
    let count = number("SEEDS").unwrap_or_else(|| if long() { LONG_SEEDS } else { SEEDS });
    let first = number("FIRST").unwrap_or(1);
    let began = Instant::now();
    let batch = run_all(first..first + count);
    eprintln!("{}", batch.reached.table());
    batch.append(began.elapsed().as_secs_f64());
    assert!(batch.failed.is_empty(), "seeds {:?} failed", batch.failed);
    assert!(
        batch.diverged.is_empty(),
        "seeds {:?} ran otherwise again",
        batch.diverged
    );
    if count >= SEEDS {
        let missed = batch.reached.missed();
        assert!(
            missed.is_empty(),
            "never reached in {count} seeds: {missed:?}"
        );
    }
}

/// Seeds are independent of each other: as many at a time as there are cores.
fn run_all(seeds: Range<u64>) -> Batch {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Batch::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let before = cpu_seconds();
                    let ran = run(seed, Show::Nothing);
                    let cpu = cpu_seconds() - before;
                    let hash = ran.as_ref().map(|report| report.hash);
                    let twice = seed.is_multiple_of(REPLAYED_EVERY);
                    let again = twice.then(|| run(seed, Show::Nothing).map(|report| report.hash));
                    let mut all = all.lock().expect("a failed seed panics nobody");
                    all.add(seed, ran, cpu);
                    if let Some(again) = again {
                        all.replayed += 1;
                        if again != hash {
                            all.diverged.push(seed);
                        }
                    }
                }
            });
        }
    });
    let mut batch = all.into_inner().expect("a failed seed panics nobody");
    batch.failed.sort_unstable();
    batch
}

/// `chaos-tests/seeds/swarm.txt`: what was found once is looked at for ever.
#[test]
fn seeds_that_once_found_something() {
    let kept = include_str!("../../seeds/swarm.txt");
    let lines = kept.lines().filter(|line| !line.starts_with('#'));
    let seeds: Vec<u64> = lines
        .filter_map(|line| line.split_whitespace().next())
        .map(|seed| seed.parse().expect("a line begins with its seed"))
        .collect();
    let broken: Vec<&u64> = seeds
        .iter()
        .filter(|seed| run(**seed, Show::Nothing).is_none())
        .collect();
    Row::promise(
        1,
        "kept seeds that broke a promise",
        broken.len() as f64,
        "seeds",
        0.0,
    )
    .tested(&format!("{} seeds that once found something", seeds.len()))
    .append();
    assert!(
        !seeds.is_empty() && broken.is_empty(),
        "seeds {broken:?} failed"
    );
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
    Row::promise(4, "runs of one seed that differ", 0.0, "seeds", 0.0)
        .tested(&format!("{} seeds run twice", hashes.len()))
        .append();
}
