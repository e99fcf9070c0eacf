//! Which failures a retry policy repeats: `matching` with its lists of statuses, as Dapr writes
//! them.
//!
//! `httpStatusCodes: "429,500-599"`: numbers and ranges of them. A list that is empty or left out
//! takes every status of its protocol. A failure that has no status (no answer, no time left) is
//! always taken.

use std::ops::RangeInclusive;

/// Statuses of HTTP.
const HTTP: RangeInclusive<u16> = 100..=599;
/// Codes of gRPC.
const GRPC: RangeInclusive<u16> = 0..=16;

/// How something failed, in the words of the protocol over which that was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailedWith {
    /// A status of HTTP.
    Http(u16),
    /// A code of gRPC.
    Grpc(u16),
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Matching {
    http: Codes,
    grpc: Codes,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Codes {
    #[default]
    All,
    These(Vec<RangeInclusive<u16>>),
}

impl Matching {
    /// Reads both lists.
    ///
    /// # Errors
    /// A sentence: what is no list of such codes.
    pub fn read(http: &str, grpc: &str) -> Result<Self, String> {
        let named = |name: &'static str| move |why| format!("matching.{name}: {why}");
        Ok(Self {
            http: Codes::read(http, &HTTP).map_err(named("httpStatusCodes"))?,
            grpc: Codes::read(grpc, &GRPC).map_err(named("gRPCStatusCodes"))?,
        })
    }

    /// Whether such a failure is repeated.
    #[must_use]
    pub fn takes(&self, failed: FailedWith) -> bool {
        match failed {
            FailedWith::Http(status) => self.http.has(status),
            FailedWith::Grpc(code) => self.grpc.has(code),
        }
    }
}

impl Codes {
    fn read(text: &str, valid: &RangeInclusive<u16>) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::All);
        }
        let parts = text.split(',').filter(|part| !part.is_empty());
        let ranges: Result<Vec<_>, _> = parts.map(|part| range(part, valid)).collect();
        ranges.map(Self::These)
    }

    fn has(&self, code: u16) -> bool {
        match self {
            Self::All => true,
            Self::These(ranges) => ranges.iter().any(|range| range.contains(&code)),
        }
    }
}

fn range(text: &str, valid: &RangeInclusive<u16>) -> Result<RangeInclusive<u16>, String> {
    let unreadable = || {
        let (first, last) = (valid.start(), valid.end());
        format!("{text:?} is no code and no range of codes from {first} to {last}")
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| {
        let code = text.parse().ok();
        code.filter(|code| valid.contains(code))
            .ok_or_else(unreadable)
    };
    let range = code(first)?..=code(last)?;
    match range.is_empty() {
        true => Err(unreadable()),
        false => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_codes() {
        use FailedWith::{Grpc, Http};
        for (http, grpc, failed, taken) in [
            ("", "", Http(500), true),
            ("", "", Grpc(14), true),
            ("500", "", Http(500), true),
            ("500", "", Http(501), false),
            ("500", "", Grpc(3), true),
            ("", "14", Http(400), true),
            ("", "14", Grpc(14), true),
            ("", "14", Grpc(13), false),
            ("429,500-599", "", Http(429), true),
            ("429,500-599", "", Http(599), true),
            ("429,500-599", "", Http(499), false),
            // Empty parts are passed over; nothing but empty parts takes nothing.
            ("503,,", "", Http(503), true),
            (",", "", Http(503), false),
            ("", "1-4,8-11,13,14", Grpc(0), false),
            ("", "1-4,8-11,13,14", Grpc(9), true),
        ] {
            let matching = Matching::read(http, grpc).unwrap();
            assert_eq!(
                matching.takes(failed),
                taken,
                "{http:?} {grpc:?} {failed:?}"
            );
        }
        for (http, grpc, named) in [
            ("often", "", "httpStatusCodes: \"often\""),
            ("99", "", "from 100 to 599"),
            ("500-600", "", "\"500-600\""),
            ("500-400", "", "\"500-400\""),
            ("1-2-3", "", "\"1-2-3\""),
            ("5 00", "", "\"5 00\""),
            ("-5", "", "\"-5\""),
            ("", "17", "gRPCStatusCodes: \"17\""),
            ("", "UNAVAILABLE", "from 0 to 16"),
        ] {
            let why = Matching::read(http, grpc).unwrap_err();
            assert!(why.contains(named), "{why}");
        }
    }
}
