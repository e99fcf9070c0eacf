//! The end of a subscription's work: what was not handed to its application is left, what was is
//! waited for.
//!
//! Absent: what becomes of either (`line`, `batches`), and who ends it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Ends the work of those who hold its [`Stop`]; so does dropping it.
#[derive(Debug)]
pub(super) struct Stopper(watch::Sender<bool>);

/// Whether work is to end.
#[derive(Clone, Debug)]
pub(super) struct Stop(watch::Receiver<bool>);

/// Both ends.
pub(super) fn pair() -> (Stopper, Stop) {
    let (stopper, stop) = watch::channel(false);
    (Stopper(stopper), Stop(stop))
}

impl Stopper {
    pub(super) fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns when it is.
    pub(super) async fn wait(&self) {
        let mut stop = self.0.clone();
        // A dropped sender is an end, too.
        drop(stop.wait_for(|stopped| *stopped).await);
    }

    /// Makes attempts with pauses between them, and cuts the pause in which it is set; `None`: it
    /// was cut.
    pub(super) async fn between<T>(
        &self,
        trying: &Trying,
        attempts: impl Future<Output = T>,
    ) -> Option<T> {
        let pausing = async {
            self.wait().await;
            trying.over().await;
        };
        tokio::select! {
            biased;
            done = attempts => Some(done),
            () = pausing => None,
        }
    }

    /// Does something that may not be cut once it is handed out, nor begun any more; `None`: it was
    /// cut before.
    pub(super) async fn guard<T>(
        &self,
        handed: &Handed,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        if self.is_set() && !handed.is_set() {
            return None;
        }
        let cut = async {
            self.wait().await;
            if handed.is_set() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = cut => None,
        }
    }
}

/// Whether an attempt is under way.
#[derive(Debug)]
pub(super) struct Trying(watch::Sender<bool>);

/// An attempt that is.
pub(super) struct Attempting<'a>(&'a Trying);

impl Default for Trying {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Trying {
    /// From here on one is.
    pub(super) fn begin(&self) -> Attempting<'_> {
        self.0.send_replace(true);
        Attempting(self)
    }

    async fn over(&self) {
        // The sender lives as long as this.
        drop(self.0.subscribe().wait_for(|trying| !*trying).await);
    }
}

impl Drop for Attempting<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(false);
    }
}

/// Whether something may have reached an application.
#[derive(Debug, Default)]
pub struct Handed(AtomicBool);

impl Handed {
    /// From here on it may.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for a sender that takes it back where nothing was written.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_handed_out_is_waited_for() {
        let (stopper, stop) = pair();
        stopper.stop();
        let handed = Handed::default();
        assert_eq!(
            stop.guard(&handed, std::future::pending::<u8>()).await,
            None
        );
        handed.set();
        let slow = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(stop.guard(&handed, slow).await, Some(7));
        drop(stopper);
        assert!(stop.is_set());
    }

    #[tokio::test]
    async fn nothing_begins_after_the_end() {
        let (stopper, stop) = pair();
        stopper.stop();
        assert_eq!(stop.guard(&Handed::default(), async { 7 }).await, None);
    }

    /// Whether it is set during an attempt or after it: the pause that follows is not waited for.
    #[tokio::test]
    async fn an_attempt_is_waited_for_and_a_pause_is_not() {
        for during in [true, false] {
            let (stopper, stop) = pair();
            let trying = Trying::default();
            let ended = std::cell::Cell::new(false);
            let attempts = async {
                let attempting = trying.begin();
                if during {
                    stopper.stop();
                }
                tokio::task::yield_now().await;
                ended.set(true);
                drop(attempting);
                if !during {
                    stopper.stop();
                }
                std::future::pending::<()>().await;
            };
            assert_eq!(stop.between(&trying, attempts).await, None, "{during}");
            assert!(ended.get(), "{during}");
        }
    }
}
