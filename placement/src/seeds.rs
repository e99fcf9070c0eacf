//! Seeds of random tests: a failure prints the one line that repeats it, `SEED=…` runs only that
//! one.

use std::ops::Range;

/// Goes through seeds; made for `for` loops.
pub(crate) struct Seeds {
    test: &'static str,
    left: Range<u64>,
    current: Option<u64>,
}

/// The seeds of a test, or the one that the environment names.
pub(crate) fn seeds(test: &'static str, range: Range<u64>) -> Seeds {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is told which seed to repeat"
    )]
    let chosen = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    Seeds {
        test,
        left: chosen.map_or(range, |seed: u64| seed..seed + 1),
        current: None,
    }
}

impl Iterator for Seeds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.current = self.left.next();
        self.current
    }
}

impl Drop for Seeds {
    fn drop(&mut self) {
        if let Some(seed) = self.current.filter(|_| std::thread::panicking()) {
            eprintln!(
                "SEED={seed} cargo test -p ghostlight-placement {}",
                self.test
            );
        }
    }
}
