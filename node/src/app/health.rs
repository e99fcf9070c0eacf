//! Whether an application is healthy: failures in a row against a threshold.
//!
//! Pure. A refused connection needs no threshold and is not counted here.

/// What probes have said so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Health {
    threshold: u32,
    failures: u32,
}

/// What follows from a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It counts as healthy.
    Healthy,
    /// It counts as unhealthy, after so many failures in a row.
    Unhealthy(u32),
}

/// How a probe ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Probe {
    /// A status of 2xx, in time.
    Passed,
    /// Anything else.
    Failed,
}

impl Health {
    /// Of an application that is healthy. A threshold of 0 counts as 1.
    pub(crate) fn new(threshold: u32) -> Self {
        Self {
            threshold: threshold.max(1),
            failures: 0,
        }
    }

    /// Takes one probe into account.
    pub(crate) fn saw(&mut self, probe: Probe) -> Verdict {
        match probe {
            Probe::Passed => self.failures = 0,
            Probe::Failed => self.failures = self.failures.saturating_add(1),
        }
        if self.failures >= self.threshold {
            Verdict::Unhealthy(self.failures)
        } else {
            Verdict::Healthy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        for (threshold, probes, verdict) in [
            (3, "ff", Verdict::Healthy),
            (3, "fff", Verdict::Unhealthy(3)),
            (3, "ffpff", Verdict::Healthy),
            (3, "ffpfff", Verdict::Unhealthy(3)),
            (3, "fffp", Verdict::Healthy),
            (1, "f", Verdict::Unhealthy(1)),
            (0, "p", Verdict::Healthy),
            (0, "f", Verdict::Unhealthy(1)),
        ] {
            let mut health = Health::new(threshold);
            let mut last = Verdict::Healthy;
            for probe in probes.chars() {
                let probe = if probe == 'p' {
                    Probe::Passed
                } else {
                    Probe::Failed
                };
                last = health.saw(probe);
            }
            assert_eq!(last, verdict, "{threshold} {probes}");
        }
    }
}
