//! Paths of requests: cut into segments, each percent-decoded once.
//!
//! The path is cleaned before it is matched, as in Dapr: empty segments and `.` vanish, `..` takes
//! the one before with it. That is about raw dots alone: escaped ones are part of a name, so that
//! an actor id `%2e%2e` is refused by its name rule, and a method is cleaned on its own.

use std::fmt::Write;

/// Cuts, cleans and decodes a path; `None` if a segment is not valid UTF-8 or has a broken escape.
#[must_use]
pub fn segments(path: &str) -> Option<Vec<String>> {
    let mut raw: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(raw.pop()),
            _ => raw.push(segment),
        }
    }
    raw.into_iter().map(decode).collect()
}

/// Decodes `%XX` once.
#[must_use]
pub fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (hex(*rest.first()?)?, hex(*rest.get(1)?)?);
        bytes.push(high << 4 | low);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

/// Encodes a name as one segment: everything but unreserved characters is escaped.
#[must_use]
pub fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes every write");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_decoded_once() {
        for (path, wanted) in [
            ("/v1.0//actors/a%2Fb/", vec!["v1.0", "actors", "a/b"]),
            ("/a%252F", vec!["a%2F"]),
            ("/..%2F..%2Fsecret/%2e%2e", vec!["../../secret", ".."]),
            ("/v1.0/./healthz/x/..", vec!["v1.0", "healthz"]),
            ("/a/m/admin/../legit", vec!["a", "m", "legit"]),
            ("/../../a/b/../../..", vec![]),
            ("/a/...", vec!["a", "..."]),
            ("/", vec![]),
        ] {
            assert_eq!(segments(path).unwrap(), wanted, "{path}");
        }
        for wrong in ["/%", "/%2", "/%zz", "/%ff", "/%+1"] {
            assert_eq!(segments(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn encoding_round_trips() {
        for name in ["alice", "a/b|c@d é", "%41", "a b", "..", "\u{1F600}"] {
            assert_eq!(decode(&encode(name)).unwrap(), name);
            assert!(!encode(name).contains('/'));
        }
    }
}
