//! Tests of the store on the simulated disk: crashes, damage, and interrupted installs.

mod damage;
mod installs;
mod model;

/// Runs a test for many seeds, or for the one in `SEED`; a failure prints the line that repeats it.
fn for_seeds(name: &str, count: u64, mut test: impl FnMut(u64)) {
    struct Reproduce<'a>(&'a str, u64);
    impl Drop for Reproduce<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let Self(name, seed) = self;
                println!(
                    "SEED={seed} cargo test -p ghostlight-storage --no-default-features {name}"
                );
            }
        }
    }
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..count,
    };
    for seed in seeds {
        let _reproduce = Reproduce(name, seed);
        test(seed);
    }
}
