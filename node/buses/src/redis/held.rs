//! Which entries a subscription holds: the pending ones of its group that are not dead, whatever
//! Redis says of their age.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Held(Arc<Mutex<BTreeSet<String>>>);

impl Held {
    fn ids(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it is held; whether it was not.
    pub(super) fn take(&self, id: &str) -> bool {
        self.ids().insert(id.to_owned())
    }

    pub(super) fn let_go<'a>(&self, ids: impl IntoIterator<Item = &'a String>) {
        let mut held = self.ids();
        for id in ids {
            held.remove(id);
        }
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.ids().contains(id)
    }

    pub(super) fn count(&self) -> usize {
        self.ids().len()
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.ids().iter().cloned().collect()
    }
}
