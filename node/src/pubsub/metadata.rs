//! What the metadata of a publish says, read once.
//!
//! Pure. Names are found whatever their case, as in Dapr; what is not read here goes to the
//! component as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use ghostlight_protocol::schedule::{Signed, parse_go};

/// Names and values beside an event.
pub type Metadata = BTreeMap<String, String>;

/// Whether an event gets an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload {
    /// It is wrapped, or is an event already.
    Wrapped,
    /// It goes as it is.
    Raw,
}

/// What a publisher wants beside the event itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wishes {
    /// Envelope or none.
    pub payload: Payload,
    /// After this the event is not delivered any more.
    pub ttl: Option<Duration>,
    /// Events with the same key keep their order.
    pub key: Option<String>,
}

/// A value that cannot be read: a sentence for Dapr's text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// A value by its name, whatever the case; an empty one is none.
#[must_use]
pub fn find<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    let found = metadata
        .iter()
        .find(|(known, value)| known.eq_ignore_ascii_case(name) && !value.is_empty());
    found.map(|(_, value)| value.as_str())
}

/// Go's words for truth.
#[must_use]
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Whether `rawPayload` is set.
///
/// # Errors
/// It is no truth value.
pub fn payload(metadata: &Metadata) -> Result<Payload, Unreadable> {
    let Some(text) = find(metadata, "rawPayload") else {
        return Ok(Payload::Wrapped);
    };
    match truth(text) {
        Some(true) => Ok(Payload::Raw),
        Some(false) => Ok(Payload::Wrapped),
        None => Err(Unreadable(format!(
            "rawPayload value must be a valid boolean: actual is '{text}'"
        ))),
    }
}

/// Reads everything.
///
/// # Errors
/// The first value that cannot be read.
pub fn wishes(metadata: &Metadata) -> Result<Wishes, Unreadable> {
    Ok(Wishes {
        payload: payload(metadata)?,
        ttl: ttl(metadata)?,
        key: find(metadata, "partitionKey").map(str::to_owned),
    })
}

/// A Go duration, or whole seconds.
fn ttl(metadata: &Metadata) -> Result<Option<Duration>, Unreadable> {
    let Some(text) = find(metadata, "ttl").or_else(|| find(metadata, "ttlInSeconds")) else {
        return Ok(None);
    };
    let seconds = text.parse::<i64>();
    let positive = match (&seconds, parse_go(text)) {
        (Ok(seconds), _) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        (Err(_), Some(Signed::Forward(time))) => Some(time),
        (Err(_), Some(Signed::Backward(_))) => None,
        (Err(_), None) => {
            return Err(Unreadable(format!(
                "ttlInSeconds value must be a valid integer: actual is '{text}'"
            )));
        }
    };
    match positive.filter(|ttl| !ttl.is_zero()) {
        Some(ttl) => Ok(Some(ttl)),
        None => Err(Unreadable(format!(
            "ttlInSeconds value must be higher than zero: actual is {text}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Metadata {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn raw_payload_is_a_go_boolean() {
        for (text, wanted) in [
            ("true", Ok(Payload::Raw)),
            ("T", Ok(Payload::Raw)),
            ("1", Ok(Payload::Raw)),
            ("false", Ok(Payload::Wrapped)),
            ("", Ok(Payload::Wrapped)),
            (
                "yes",
                Err("rawPayload value must be a valid boolean: actual is 'yes'"),
            ),
        ] {
            let read = payload(&of(&[("RAWpayload", text)]));
            let wanted = wanted.map_err(|why: &str| Unreadable(why.to_owned()));
            assert_eq!(read, wanted, "{text}");
        }
    }

    #[test]
    fn times_to_live() {
        let none: &[(&str, &str)] = &[];
        assert_eq!(wishes(&of(none)).unwrap().ttl, None);
        for (name, text, wanted) in [
            ("ttlInSeconds", "5", Some(Duration::from_secs(5))),
            ("TTLINSECONDS", "30s", Some(Duration::from_secs(30))),
            ("ttl", "1500ms", Some(Duration::from_millis(1_500))),
            ("ttl", "7", Some(Duration::from_secs(7))),
            ("ttl", "0", None),
            ("ttl", "-1", None),
            ("ttl", "-5s", None),
            ("ttlInSeconds", "soon", None),
        ] {
            let read = wishes(&of(&[(name, text)])).map(|wishes| wishes.ttl);
            match wanted {
                Some(_) => assert_eq!(read, Ok(wanted), "{text}"),
                None => assert!(read.is_err(), "{text}: {read:?}"),
            }
        }
    }

    #[test]
    fn a_key_is_found_whatever_its_case() {
        let wishes = wishes(&of(&[("partitionkey", "alice"), ("other", "x")])).unwrap();
        assert_eq!(wishes.key.as_deref(), Some("alice"));
    }
}
