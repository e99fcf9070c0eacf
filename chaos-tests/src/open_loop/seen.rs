//! What an open loop has seen of the calls of one step.

use std::collections::BTreeMap;
use std::time::Duration;

use super::DEADLINE;
use crate::spread::Spread;

/// The time of one look at how calls go, in [`Seen::served_after`].
const WINDOW: Duration = Duration::from_millis(250);
/// So many windows must be good.
const SERVED_WINDOWS: usize = 4;

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// With 200.
    Acknowledged,
    /// It certainly did not run: status and code.
    Refused(String),
    /// Nobody knows whether it ran.
    Unknown(String),
    /// It was not even sent: its connection was gone, or too much is under way.
    Unsent,
}

/// What is known of one counter that is asked for additions of 1.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    acknowledged: i64,
    unknown: i64,
}

impl Tally {
    pub(super) fn note(&mut self, end: &End) {
        match end {
            End::Acknowledged => self.acknowledged += 1,
            End::Unknown(_) => self.unknown += 1,
            End::Refused(_) | End::Unsent => {}
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.acknowledged += more.acknowledged;
        self.unknown += more.unknown;
    }

    /// Compares a counter's total with it: all that was acknowledged is in it, and nothing that was
    /// refused.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(self, total: i64) -> Result<(), String> {
        let most = self.acknowledged + self.unknown;
        if (self.acknowledged..=most).contains(&total) {
            return Ok(());
        }
        Err(format!(
            "{total} additions are in it: {} were acknowledged, and {} more may have run",
            self.acknowledged, self.unknown
        ))
    }
}

/// Calls of one window, by the time at which they should be sent.
#[derive(Clone, Copy, Default, Debug)]
struct Window {
    offered: u32,
    good: u32,
}

/// See the module.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    /// Calls whose time came.
    pub offered: u64,
    /// Acknowledged within the deadline.
    pub good: u64,
    /// Acknowledged later.
    pub late: u64,
    /// Refused calls, by status and code.
    pub refused: BTreeMap<String, u64>,
    /// Calls of which nobody knows whether they ran, by why.
    pub unknown: BTreeMap<String, u64>,
    /// Calls that were not sent.
    pub unsent: u64,
    /// Connections that broke in this step and those before it; of the last step alone.
    pub broken: u64,
    /// How long it took.
    pub took: Duration,
    /// Processor time of the load itself.
    pub driver: Duration,
    answers: Vec<Duration>,
    refusals: Vec<Duration>,
    behind: Vec<Duration>,
    windows: Vec<Window>,
}

impl Seen {
    pub(super) fn new(time: Duration) -> Self {
        let windows = time.as_millis().div_ceil(WINDOW.as_millis()) as usize;
        Self {
            windows: vec![Window::default(); windows.max(1)],
            ..Self::default()
        }
    }

    fn window(&mut self, since_begin: Duration) -> &mut Window {
        let place = (since_begin.as_millis() / WINDOW.as_millis()) as usize;
        let last = self.windows.len() - 1;
        &mut self.windows[place.min(last)]
    }

    pub(super) fn sent(&mut self, since_begin: Duration, behind: Duration) {
        self.offered += 1;
        self.behind.push(behind);
        self.window(since_begin).offered += 1;
    }

    pub(super) fn note(&mut self, since_begin: Duration, latency: Duration, end: End) {
        match end {
            End::Acknowledged => {
                self.answers.push(latency);
                if latency > DEADLINE {
                    self.late += 1;
                    return;
                }
                self.good += 1;
                self.window(since_begin).good += 1;
            }
            End::Refused(why) => {
                self.refusals.push(latency);
                *self.refused.entry(why).or_default() += 1;
            }
            End::Unknown(why) => *self.unknown.entry(why).or_default() += 1,
            End::Unsent => self.unsent += 1,
        }
    }

    /// Calls acknowledged within their deadline, for each second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.good as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// Calls whose time came, for each second.
    #[must_use]
    pub fn offered_per_second(&self) -> f64 {
        self.offered as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// How long what was acknowledged took, from its time on, late answers included.
    #[must_use]
    pub fn answers(&self) -> Spread {
        Spread::of(self.answers.clone())
    }

    /// The same of refusals.
    #[must_use]
    pub fn refusals(&self) -> Spread {
        Spread::of(self.refusals.clone())
    }

    /// How late calls were sent: the load's own delay.
    #[must_use]
    pub fn behind(&self) -> Spread {
        Spread::of(self.behind.clone())
    }

    /// Calls that were refused.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Calls of which nobody knows.
    #[must_use]
    pub fn unknown_count(&self) -> u64 {
        self.unknown.values().sum()
    }

    /// When calls were served again: from there on, for a second, at least `share` of them was
    /// acknowledged in time. `None`: never.
    #[must_use]
    pub fn served_after(&self, share: f64) -> Option<Duration> {
        let is_served = |second: &[Window]| {
            let sum = |of: fn(&Window) -> u32| second.iter().map(|w| f64::from(of(w))).sum::<f64>();
            sum(|window| window.good) >= sum(|window| window.offered) * share
        };
        let first = self.windows.windows(SERVED_WINDOWS).position(is_served);
        first.map(|place| WINDOW * place as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_is_late_is_no_goodput_and_all_is_counted() {
        let mut seen = Seen::new(at(1_000));
        seen.took = at(1_000);
        for (end, latency) in [
            (End::Acknowledged, DEADLINE),
            (End::Acknowledged, DEADLINE + at(1)),
            (End::Refused("429 E0126".to_owned()), at(1)),
            (End::Unknown("no answer".to_owned()), at(1_500)),
            (End::Unsent, at(0)),
        ] {
            seen.sent(at(0), at(0));
            seen.note(at(0), latency, end);
        }
        assert_eq!((seen.offered, seen.good, seen.late), (5, 1, 1));
        assert_eq!((seen.refused_count(), seen.unknown_count()), (1, 1));
        assert_eq!(seen.unsent, 1);
        assert_eq!(seen.answers().percentile(100), DEADLINE + at(1));
    }

    #[test]
    fn served_again_is_what_goes_well_for_a_second() {
        let served = |windows: &[u32]| {
            let mut seen = Seen::new(WINDOW * windows.len() as u32);
            for (place, good) in windows.iter().enumerate() {
                seen.windows[place] = Window {
                    offered: 100,
                    good: *good,
                };
            }
            seen.served_after(0.9)
        };
        assert_eq!(served(&[100, 90, 90, 100, 0]), Some(at(0)));
        assert_eq!(served(&[10, 95, 80, 99, 100, 100, 100]), Some(at(250)));
        assert_eq!(served(&[100, 100, 100, 10]), None);
        assert_eq!(served(&[100, 100]), None, "too short to tell");
    }

    #[test]
    fn a_counter_has_all_that_was_acknowledged_and_nothing_that_was_refused() {
        let mut tally = Tally::default();
        for end in [
            End::Acknowledged,
            End::Acknowledged,
            End::Unknown(String::new()),
            End::Refused(String::new()),
        ] {
            tally.note(&end);
        }
        assert!(tally.check(1).is_err(), "one is lost");
        assert!(tally.check(2).is_ok() && tally.check(3).is_ok());
        assert!(tally.check(4).is_err(), "a refused one has run");
    }
}
