//! A subscription that outlives what ends it: subscribed again, with pauses.

use std::future::Future;
use std::time::{Duration, Instant};

use ghostlight_buses::{Bus, Subscribe, Subscription};
use ghostlight_protocol::code::{Class, Code};

/// First pause before subscribing again, and the longest.
const AGAIN_PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// A node that starts has not joined yet, and a leader that is gone has no successor yet: what
/// lasts longer is a warning.
const IN_ORDER_MAX: Duration = Duration::from_secs(5);

/// Subscribes, and does so again whenever the bus ends it; returns when that makes no sense. `run`
/// handles the events of one subscription.
pub(crate) async fn keep<F>(
    bus: &dyn Bus,
    wanted: &Subscribe,
    mut run: impl FnMut(Subscription) -> F,
) where
    F: Future<Output = ()>,
{
    let topic = &wanted.topic;
    let mut pause = AGAIN_PAUSES.0;
    let mut refused = Refused::default();
    loop {
        match bus.subscribe(wanted.clone()).await {
            Ok(subscription) => {
                (pause, refused) = (AGAIN_PAUSES.0, Refused::default());
                run(subscription).await;
                tracing::info!(%topic, "a subscription was ended by its bus");
            }
            // The node ends, and with it whoever subscribes here.
            Err(error) if error.code == Code::ShuttingDown => return,
            Err(error) => {
                let passes = matches!(error.code.class(), Class::Retry | Class::Overloaded);
                if !passes {
                    tracing::error!(%topic, code = %error.code, "no subscription: {error}");
                    return;
                }
                let text = "not subscribed yet, trying again until it works";
                match refused.next(Instant::now()) {
                    Word::Info => tracing::info!(%topic, code = %error.code, "{text}: {error}"),
                    Word::Warning => tracing::warn!(%topic, code = %error.code, "{text}: {error}"),
                    Word::None => {}
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_PAUSES.1);
    }
}

/// What is said of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    None,
    Info,
    Warning,
}

/// A row of refusals, of which the first is said, and that it lasts.
#[derive(Default)]
struct Refused {
    since: Option<Instant>,
    warned: bool,
}

impl Refused {
    fn next(&mut self, now: Instant) -> Word {
        let Some(since) = self.since else {
            self.since = Some(now);
            return Word::Info;
        };
        if self.warned || now.duration_since(since) < IN_ORDER_MAX {
            return Word::None;
        }
        self.warned = true;
        Word::Warning
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_order_at_a_start_is_no_warning_unless_it_lasts() {
        let (mut refused, begin) = (Refused::default(), Instant::now());
        let table = [
            (0, Word::Info),
            (1, Word::None),
            (4, Word::None),
            (5, Word::Warning),
            (6, Word::None),
            (600, Word::None),
        ];
        for (seconds, word) in table {
            let now = begin + Duration::from_secs(seconds);
            assert_eq!(refused.next(now), word, "after {seconds} s");
        }
    }
}
