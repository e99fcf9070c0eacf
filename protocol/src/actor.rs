//! Names of actors and methods: one canonical byte form, parsed once.
//!
//! The rules are Dapr's (sidecar API, actor invocation): a name may not contain `#`, `?`, a
//! backslash or a control character, and may not be `.` or `..`; a method is path-cleaned and can
//! never climb out of its actor. Ours beyond that: no empty name, and at most `NAME_BYTES_MAX`
//! bytes.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::code::Code;
use crate::limits::{METHOD_BYTES_MAX, NAME_BYTES_MAX};

/// Namespace, actor type and actor id in one shared, ordered, hashable byte string.
///
/// Three times: length as u16 big endian, then UTF-8. Actors of one namespace and type are
/// therefore neighbours in storage. Cloning costs one reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorKey(Bytes);

/// Why a name was refused. Displays the text that Dapr's API carries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {why}")]
pub struct NameError {
    /// `actorType`, `actorId`, `namespace`, `method` or `actor key`.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
    /// The code of the answer.
    pub code: Code,
}

impl ActorKey {
    /// Checks three names and builds the key.
    ///
    /// # Errors
    /// The first name that breaks a rule.
    pub fn new(namespace: &str, actor_type: &str, actor_id: &str) -> Result<Self, NameError> {
        check_name("namespace", namespace, Code::InvalidActorType)?;
        check_name("actorType", actor_type, Code::InvalidActorType)?;
        check_name("actorId", actor_id, Code::InvalidActorId)?;
        let names = [namespace, actor_type, actor_id];
        let mut bytes = BytesMut::with_capacity(6 + names.iter().map(|n| n.len()).sum::<usize>());
        for name in names {
            bytes.put_u16(name.len() as u16);
            bytes.put_slice(name.as_bytes());
        }
        Ok(Self(bytes.freeze()))
    }

    /// Parses the canonical bytes, as they come from a peer or a disk.
    ///
    /// # Errors
    /// When the bytes are not three checked names.
    pub fn parse(bytes: Bytes) -> Result<Self, NameError> {
        let malformed = |why: &str| NameError {
            what: "actor key",
            why: why.to_owned(),
            code: Code::InvalidActorId,
        };
        let mut rest = &bytes[..];
        for (what, code) in [
            ("namespace", Code::InvalidActorType),
            ("actorType", Code::InvalidActorType),
            ("actorId", Code::InvalidActorId),
        ] {
            let name = take_name(&mut rest).ok_or_else(|| malformed("truncated or not UTF-8"))?;
            check_name(what, name, code)?;
        }
        if !rest.is_empty() {
            return Err(malformed("trailing bytes"));
        }
        Ok(Self(bytes))
    }

    /// The type in canonical bytes of which nothing else is looked at: whose key it is decides who
    /// checks it.
    #[must_use]
    pub fn type_in(mut bytes: &[u8]) -> Option<&str> {
        take_name(&mut bytes)?;
        take_name(&mut bytes)
    }

    /// Reads the key that `bytes` begin with, and what follows it.
    #[must_use]
    pub fn split(bytes: &Bytes) -> Option<(Self, Bytes)> {
        let mut rest = &bytes[..];
        for _ in 0..3 {
            take_name(&mut rest)?;
        }
        let length = bytes.len() - rest.len();
        let key = Self::parse(bytes.slice(..length)).ok()?;
        Some((key, bytes.slice(length..)))
    }

    /// Prefix of the keys of all actors of one type.
    ///
    /// # Errors
    /// A name that breaks a rule.
    pub fn type_prefix(namespace: &str, actor_type: &str) -> Result<Bytes, NameError> {
        let any = Self::new(namespace, actor_type, "x")?;
        Ok(any.0.slice(..any.0.len() - 3))
    }

    /// The canonical bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The canonical bytes, shared.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.name(0)
    }

    /// The actor type.
    #[must_use]
    pub fn actor_type(&self) -> &str {
        self.name(1)
    }

    /// The actor id.
    #[must_use]
    pub fn actor_id(&self) -> &str {
        self.name(2)
    }

    fn name(&self, position: usize) -> &str {
        let mut rest = &self.0[..];
        for _ in 0..position {
            take_name(&mut rest);
        }
        take_name(&mut rest).expect("checked when the key was built")
    }
}

fn take_name<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
    let name = rest.get(2..2 + length)?;
    *rest = &rest[2 + length..];
    std::str::from_utf8(name).ok()
}

/// `type/id`, the form the command line takes.
impl fmt::Display for ActorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.actor_type(), self.actor_id())
    }
}

impl fmt::Debug for ActorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}/{}",
            self.namespace(),
            self.actor_type(),
            self.actor_id()
        )
    }
}

fn check_name(what: &'static str, name: &str, code: Code) -> Result<(), NameError> {
    let wrong = |why: String| Err(NameError { what, why, code });
    if name.is_empty() {
        return wrong("it is empty".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return wrong(format!(
            "{} bytes, at most {NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    if name == "." || name == ".." {
        return wrong(format!("{name:?} is not a name"));
    }
    match name
        .chars()
        .find(|c| matches!(c, '#' | '?' | '\\') || c.is_control())
    {
        Some(c) => wrong(format!("character {c:?} is not allowed")),
        None => Ok(()),
    }
}

/// Cleans a method name as a path and checks it: `admin/../legit` is `legit`.
///
/// # Errors
/// When it has a forbidden character, or nothing is left.
pub fn clean_method(method: &str) -> Result<String, NameError> {
    let wrong = |why: String| {
        Err(NameError {
            what: "method",
            why,
            code: Code::InvalidMethod,
        })
    };
    if let Some(c) = method
        .chars()
        .find(|c| matches!(c, '#' | '?') || c.is_control())
    {
        return wrong(format!("character {c:?} is not allowed"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in method.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let cleaned = parts.join("/");
    if cleaned.is_empty() {
        return wrong("it is empty".to_owned());
    }
    if cleaned.len() > METHOD_BYTES_MAX {
        return wrong(format!(
            "{} bytes, at most {METHOD_BYTES_MAX} are allowed",
            cleaned.len()
        ));
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let key = ActorKey::new("default", "counter", "a/b|c@d é").unwrap();
        assert_eq!(ActorKey::parse(key.to_bytes()).unwrap(), key);
        assert_eq!((key.namespace(), key.actor_type()), ("default", "counter"));
        assert_eq!(key.actor_id(), "a/b|c@d é");
        assert_eq!(key.to_string(), "counter/a/b|c@d é");
    }

    #[test]
    fn wrong_names() {
        for id in [
            "",
            ".",
            "..",
            "a#b",
            "a?b",
            "a\\b",
            "a\0b",
            "a\nb",
            &"x".repeat(1_025),
        ] {
            let error = ActorKey::new("default", "counter", id).unwrap_err();
            assert_eq!(error.code, Code::InvalidActorId, "{id:?}");
            assert!(error.to_string().starts_with("invalid actorId:"), "{error}");
        }
        assert!(ActorKey::parse(Bytes::from_static(b"\0\x05ab")).is_err());
        assert!(ActorKey::parse(Bytes::new()).is_err());
    }

    #[test]
    fn methods_are_cleaned() {
        for (given, cleaned) in [
            ("add", "add"),
            ("admin/../legit", "legit"),
            ("../../secret", "secret"),
            ("a//b/./c", "a/b/c"),
        ] {
            assert_eq!(clean_method(given).unwrap(), cleaned);
        }
        for wrong in ["", "..", "a#b", "a?b", "a\0", "/"] {
            assert!(clean_method(wrong).is_err(), "{wrong:?}");
        }
    }
}
