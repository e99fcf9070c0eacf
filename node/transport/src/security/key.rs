//! The cluster key: 256 secret bits that every node of a cluster holds.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use ghostlight_protocol::code::Code;
use rand::RngCore;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// The secret of a cluster. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; KEY_BYTES]);

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

impl KeyError {
    /// The page that explains it.
    #[must_use]
    pub fn code(&self) -> Code {
        Code::KeyFileUnusable
    }
}

impl ClusterKey {
    /// A fresh key from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; KEY_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Reads the text that `ghostlight keygen` prints: 64 hexadecimal digits.
    ///
    /// # Errors
    /// What is wrong with the text; the text itself is not repeated.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
            return Err(KeyError(format!(
                "the cluster key has {} characters, {} hexadecimal digits are expected. Make one with \
                 \"ghostlight keygen\"",
                text.len(),
                2 * KEY_BYTES
            )));
        }
        let mut bytes = [0; KEY_BYTES];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or("");
            *byte = u8::from_str_radix(digits, 16).map_err(|_| {
                KeyError(
                    "the cluster key has a character that is no hexadecimal digit. Make one with \
                     \"ghostlight keygen\""
                        .to_owned(),
                )
            })?;
        }
        Ok(Self(bytes))
    }

    /// The text form.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes, for deriving.
    #[must_use]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Reads a key file that must exist.
    ///
    /// # Errors
    /// When it cannot be read or holds no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|error| {
            KeyError(format!(
                "cannot read the cluster key in {}: {error}. Copy the file of another node, or make a \
                 new cluster's with \"ghostlight keygen\"",
                path.display()
            ))
        })?;
        Self::parse(&text).map_err(|error| KeyError(format!("{}: {error}", path.display())))
    }

    /// Reads a key file, or makes it if there is none. Of two that make it at once, one reads the
    /// other's.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let failed = |what: &str, error: std::io::Error| {
            KeyError(format!(
                "cannot {what} the cluster key {}: {error}. Name another file with \
                 --cluster-key-file",
                path.display()
            ))
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed("make the directory of", error))?;
        }
        let key = Self::generate();
        // Written beside and linked in one step: nobody ever reads half a key.
        let draft = path.with_extension(format!("draft-{:016x}", rand::rng().next_u64()));
        let written = private_file(&draft)
            .and_then(|mut file| file.write_all(format!("{}\n", key.reveal()).as_bytes()));
        let linked = written.and_then(|()| fs::hard_link(&draft, path));
        // The draft has served, or could not be made.
        drop(fs::remove_file(&draft));
        match linked {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(failed("write", error)),
        }
    }
}

#[cfg(unix)]
fn private_file(path: &Path) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn private_file(path: &Path) -> std::io::Result<fs::File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_wrong_texts_are_refused() {
        let key = ClusterKey::generate();
        assert_eq!(
            ClusterKey::parse(&format!("  {}\n", key.reveal())),
            Ok(key.clone())
        );
        assert_eq!(format!("{key:?}"), "ClusterKey(secret)");
        for wrong in ["", "abc", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            let error = ClusterKey::parse(wrong).unwrap_err();
            assert!(error.to_string().contains("keygen"), "{error}");
        }
    }

    #[test]
    fn those_who_make_a_key_at_once_get_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub").join("key");
        let makers: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || ClusterKey::load_or_create(&path).unwrap())
            })
            .collect();
        let keys: Vec<ClusterKey> = makers.into_iter().map(|m| m.join().unwrap()).collect();
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(ClusterKey::load(&path).unwrap(), keys[0]);
        assert!(ClusterKey::load(&directory.path().join("none")).is_err());
    }
}
