//! State at rest: one row for the actor's struct, one for each entry of its maps.
//!
//! | row | key inside the actor | value |
//! |---|---|---|
//! | the struct | `self` | format, version, value |
//! | an entry of map `lines` | `lines/` and the ordered key | format, version, value |
//!
//! *Format* is one byte, 1: postcard (compact, fast, and not self-describing). *Version* is the
//! type's (`#[actor(version = 2)]`), as a varint. Postcard reads fields by position: to add, remove
//! or reorder fields, raise the version and name an `upgrade` that reads older ones. A version this
//! code does not know is refused, never guessed: during a rolling change the older program does not
//! run such actors.

use bytes::Bytes;
use ghostlight_protocol::limits::ENTRY_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Key of the row that holds the actor's struct. Rows of maps have a `/`, so the two never meet.
pub const SELF_KEY: &[u8] = b"self";

/// Postcard behind a version.
const FORMAT: u8 = 1;

/// Why state cannot be read or stored.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    /// Bytes of another format.
    #[error("format {0} is unknown to this program (it reads {FORMAT}). Run the newer program")]
    Format(u8),
    /// Another version, and no way from it to this one.
    #[error(
        "it has version {stored}, this program has {known}. Run the newer program, or give the actor \
         an `upgrade` from version {stored}"
    )]
    Version {
        /// As stored.
        stored: u32,
        /// As declared.
        known: u32,
    },
    /// The value does not fit the type.
    #[error(
        "version {version} does not fit its type ({why}). If the type was changed, raise its \
         `version` and give it an `upgrade`"
    )]
    Shape {
        /// As stored.
        version: u32,
        /// What the decoder says.
        why: String,
    },
    /// The value cannot be stored.
    #[error("the value cannot be stored: {0}")]
    Unstorable(String),
    /// An upgrade gave up.
    #[error("the upgrade from version {from} failed: {why}")]
    Upgrade {
        /// As stored.
        from: u32,
        /// Its own text.
        why: String,
    },
}

/// A value as stored.
///
/// # Errors
/// Its type has no such form (a sequence of unknown length), or it is larger than any entry of the
/// log.
pub fn encode<T: Serialize>(version: u32, value: &T) -> Result<Bytes, StateError> {
    let unstorable = |e: postcard::Error| StateError::Unstorable(e.to_string());
    let bytes = postcard::to_extend(&version, vec![FORMAT]).map_err(unstorable)?;
    let bytes = postcard::to_extend(value, bytes).map_err(unstorable)?;
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(StateError::Unstorable(format!(
            "{} bytes, at most {ENTRY_BYTES_MAX}. Keep large state in a StateMap",
            bytes.len()
        )));
    }
    Ok(bytes.into())
}

/// Splits a stored value into its version and the encoded value.
///
/// # Errors
/// The format is unknown, or the header is cut.
pub fn split(stored: &[u8]) -> Result<(u32, &[u8]), StateError> {
    match stored.split_first() {
        Some((&FORMAT, rest)) => {
            postcard::take_from_bytes(rest).map_err(|e| shape(0, &e.to_string()))
        }
        Some((&other, _)) => Err(StateError::Format(other)),
        None => Err(shape(0, "it is empty")),
    }
}

/// Reads a stored value of exactly this version.
///
/// # Errors
/// It has another version or does not fit.
pub fn decode<T: DeserializeOwned>(version: u32, stored: &[u8]) -> Result<T, StateError> {
    let (found, value) = split(stored)?;
    if found != version {
        return Err(StateError::Version {
            stored: found,
            known: version,
        });
    }
    decode_value(version, value)
}

/// Reads an encoded value without its header, as an `upgrade` gets it.
///
/// # Errors
/// It does not fit the type, or has bytes to spare.
pub fn decode_value<T: DeserializeOwned>(version: u32, value: &[u8]) -> Result<T, StateError> {
    match postcard::take_from_bytes(value) {
        Ok((value, [])) => Ok(value),
        Ok((_, spare)) => Err(shape(version, &format!("{} bytes to spare", spare.len()))),
        Err(error) => Err(shape(version, &error.to_string())),
    }
}

/// Makes a value of an older version into one of this type.
pub type Upgrade<T> = fn(from: u32, value: &[u8]) -> Result<T, String>;

/// Restores an actor's struct: never written is its default, an older version goes through
/// `upgrade`.
///
/// # Errors
/// The row cannot be read by this code.
pub fn restore<T: Default + DeserializeOwned>(
    version: u32,
    upgrade: Option<Upgrade<T>>,
    stored: Option<&[u8]>,
) -> Result<T, StateError> {
    let Some(stored) = stored else {
        return Ok(T::default());
    };
    match (decode(version, stored), upgrade) {
        (Err(StateError::Version { stored: from, .. }), Some(upgrade)) if from < version => {
            let (_, value) = split(stored)?;
            upgrade(from, value).map_err(|why| StateError::Upgrade { from, why })
        }
        (result, _) => result,
    }
}

fn shape(version: u32, why: &str) -> StateError {
    StateError::Shape {
        version,
        why: why.to_owned(),
    }
}
