//! A subscription that outlives what ends it: subscribed again, with pauses.

use std::future::Future;
use std::time::Duration;

use ghostlight_buses::{Bus, Subscribe, Subscription};
use ghostlight_protocol::code::{Class, Code};

/// First pause before subscribing again, and the longest.
const AGAIN_PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Subscribes, and does so again whenever the bus ends it; returns when that makes no sense. `run` handles the events of
/// one subscription.
pub(crate) async fn keep<F>(
    bus: &dyn Bus,
    wanted: &Subscribe,
    mut run: impl FnMut(Subscription) -> F,
) where
    F: Future<Output = ()>,
{
    let topic = &wanted.topic;
    let mut pause = AGAIN_PAUSES.0;
    let mut told = false;
    loop {
        match bus.subscribe(wanted.clone()).await {
            Ok(subscription) => {
                (pause, told) = (AGAIN_PAUSES.0, false);
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
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        %topic,
                        code = %error.code,
                        "not subscribed yet, trying again until it works: {error}"
                    );
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_PAUSES.1);
    }
}
