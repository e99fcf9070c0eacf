//! API tokens: compared so that the time taken tells nothing about how much was right.

use std::hint::black_box;

use crate::config::Secret;

/// Whether a request may pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may.
    Admitted,
    /// It may not.
    Refused,
}

/// Checks a given token against every accepted one. No accepted token: everybody passes.
#[must_use]
pub fn check(accepted: &[Secret], given: Option<&[u8]>) -> Verdict {
    if accepted.is_empty() {
        return Verdict::Admitted;
    }
    let given = given.unwrap_or_default();
    // No early exit: every token is compared in full.
    let matches = accepted.iter().fold(0_u8, |any, token| {
        any | u8::from(equal(token.reveal(), given))
    });
    if matches == 0 {
        Verdict::Refused
    } else {
        Verdict::Admitted
    }
}

/// Equality in a time that depends on the lengths alone.
fn equal(token: &str, given: &[u8]) -> bool {
    let token = token.as_bytes();
    let mut difference = u8::from(token.len() != given.len());
    for (index, byte) in given.iter().enumerate() {
        difference |= black_box(byte ^ token.get(index % token.len().max(1)).unwrap_or(&0));
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let accepted = [Secret::new("first"), Secret::new("second")];
        for (given, verdict) in [
            (Some("first"), Verdict::Admitted),
            (Some("second"), Verdict::Admitted),
            (Some("firs"), Verdict::Refused),
            (Some("firstfirst"), Verdict::Refused),
            (Some(""), Verdict::Refused),
            (None, Verdict::Refused),
        ] {
            assert_eq!(
                check(&accepted, given.map(str::as_bytes)),
                verdict,
                "{given:?}"
            );
        }
        assert_eq!(check(&[], None), Verdict::Admitted);
    }
}
