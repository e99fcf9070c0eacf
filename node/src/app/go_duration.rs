//! Durations as Go writes them: `1h0m0s0ms`, `1.5s`, `500ms`, `-2m`.
//!
//! Go's own rules (`time.ParseDuration`), and the Greek letter for micro that Python writes.

use std::time::Duration;

/// Parses one; `None` for anything Go refuses, for a negative one, and for one that is out of range.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|length| *length > 0)?;
        let (digits, after) = rest.split_at(number);
        let (unit, unit_length) = unit(after)?;
        nanos = nanos.checked_add(scaled(digits, unit)?)?;
        rest = &after[unit_length..];
    }
    if text.starts_with('-') && nanos > 0 {
        return None;
    }
    let nanos = i64::try_from(nanos).ok()?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// Nanoseconds of the unit that the text begins with, and its length in bytes.
fn unit(text: &str) -> Option<(u128, usize)> {
    let length = text
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(text.len());
    let nanos = match &text[..length] {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    Some((nanos, length))
}

/// A decimal number of units, in nanoseconds, cut below one.
fn scaled(digits: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let number = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u128>().ok()
        }
    };
    // More digits than a nanosecond of an hour has change nothing.
    let fraction = &fraction[..fraction.len().min(18)];
    let part = number(fraction)?.checked_mul(unit)? / 10_u128.pow(fraction.len() as u32);
    number(whole)?.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, nanos) in [
            ("0", 0),
            ("1h0m0s0ms", 3_600_000_000_000),
            ("0h0m2s0ms0\u{3bc}s", 2_000_000_000),
            ("0h0m2s0ms1\u{b5}s", 2_000_001_000),
            ("500ms", 500_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+3m", 180_000_000_000),
            ("-0s", 0),
            ("10ns", 10),
            ("0.3333333333333333333333s", 333_333_333),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text:?}");
        }
        for wrong in [
            "", "1", "s", "-1s", "1.2.3s", ".s", "1d", "1h 2m", "PT5S", "9999999999h", "1\u{e9}",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
