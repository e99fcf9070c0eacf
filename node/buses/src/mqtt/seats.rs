//! Numbers that tell subscriptions of one process apart that are otherwise alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Seats that are taken, by what they are of.
type Taken = BTreeMap<String, BTreeSet<u32>>;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

/// One number. Dropped: free again.
pub(super) struct Seat {
    of: String,
    /// From 1 on; the lowest that was free.
    pub(super) number: u32,
    seats: Seats,
}

impl Seats {
    /// Those of this process, whatever component asks: a broker knows processes and no components.
    pub(super) fn of_process() -> &'static Self {
        static ALL: LazyLock<Seats> = LazyLock::new(Seats::default);
        &ALL
    }

    pub(super) fn take(&self, of: &str) -> Seat {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(of.to_owned()).or_default();
        let number = (1..).find(|number| !taken.contains(number)).unwrap_or(1);
        taken.insert(number);
        Seat {
            of: of.to_owned(),
            number,
            seats: self.clone(),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.of) {
            taken.remove(&self.number);
            if taken.is_empty() {
                all.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken() {
        let seats = Seats::default();
        let (one, two, other) = (seats.take("a"), seats.take("a"), seats.take("b"));
        assert_eq!((one.number, two.number, other.number), (1, 2, 1));
        drop(one);
        assert_eq!(seats.take("a").number, 1);
        drop(two);
        assert!(!seats.0.lock().unwrap().contains_key("a"));
    }
}
