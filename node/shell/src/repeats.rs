//! What the log has said lately: a peer that is refused dials again every few seconds, and it is
//! the same each time.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::time::Instant;

/// The same is said again after so long.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// Lines that are remembered; beyond it all are forgotten, and said once more.
const REPEATS_MAX: usize = 256;

/// When what was said last, by the address that it is about.
#[derive(Default, Debug)]
pub(crate) struct Repeats(BTreeMap<(String, Option<u16>), Instant>);

impl Repeats {
    /// Whether this is to be said now.
    pub(crate) fn is_due(&mut self, now: Instant, address: &str, code: Option<Code>) -> bool {
        let key = (address.to_owned(), code.map(Code::number));
        let last = self.0.get(&key);
        if last.is_some_and(|last| now.since(*last) < SAID_EVERY) {
            return false;
        }
        if self.0.len() >= REPEATS_MAX {
            self.0.clear();
        }
        self.0.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_once_and_then_every_minute() {
        let mut repeats = Repeats::default();
        let (key, other) = (
            Some(Code::ClusterKeyRejected),
            Some(Code::ClusterIdMismatch),
        );
        let table = [
            (0, "a:1", key, true),
            (1, "a:1", key, false),
            (2, "a:2", key, true),
            (3, "a:1", other, true),
            (59, "a:1", key, false),
            (60, "a:1", key, true),
            (61, "a:1", key, false),
        ];
        for (seconds, address, code, said) in table {
            let now = Instant(0) + Duration::from_secs(seconds);
            let due = repeats.is_due(now, address, code);
            assert_eq!(due, said, "{address} {code:?} after {seconds} s");
        }
        for port in 0..2 * REPEATS_MAX {
            repeats.is_due(Instant(0), &format!("b:{port}"), key);
        }
        assert!(repeats.0.len() <= REPEATS_MAX);
    }
}
