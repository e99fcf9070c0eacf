//! What applications and the Dapr CLI write down about this process (`PUT /v1.0/metadata/{key}`),
//! bounded. It is not replicated, and gone with the process, as in Dapr.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Keys in all.
pub const EXTENDED_KEYS_MAX: usize = 128;
/// One key with its value, in bytes.
pub const EXTENDED_BYTES_MAX: usize = 16 << 10;

/// Texts by name.
#[derive(Debug, Default)]
pub struct Extended {
    texts: Mutex<BTreeMap<String, String>>,
}

/// A bound is reached; nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl Extended {
    /// Sets one text.
    ///
    /// # Errors
    /// There are too many, or it is too long.
    pub fn set(&self, key: &str, text: String) -> Result<(), Full> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = texts.contains_key(key);
        let fits = key.len() + text.len() <= EXTENDED_BYTES_MAX;
        if !fits || (!known && texts.len() >= EXTENDED_KEYS_MAX) {
            return Err(Full);
        }
        texts.insert(key.to_owned(), text);
        Ok(())
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, String> {
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_last_write_wins() {
        let extended = Extended::default();
        for key in 0..EXTENDED_KEYS_MAX {
            extended.set(&key.to_string(), "x".to_owned()).unwrap();
        }
        assert_eq!(extended.set("one more", String::new()), Err(Full));
        assert_eq!(extended.set("7", "y".repeat(EXTENDED_BYTES_MAX)), Err(Full));
        extended.set("7", "z".to_owned()).unwrap();
        assert_eq!(extended.all()["7"], "z");
        assert_eq!(extended.all().len(), EXTENDED_KEYS_MAX);
    }
}
