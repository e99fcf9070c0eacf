//! Honest outcomes of publishing to a bus elsewhere.

use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;

use crate::event::PublishOutcome;

/// When a publish may be tried again on a bus that is not there.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long a bus may take to say what became of an event; after that nobody can tell.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// There is no connection: certainly not published.
pub(crate) fn unavailable(why: impl Into<String>) -> PublishOutcome {
    let mut refusal = NotRun::new(Code::BusUnavailable, why);
    refusal.retry_after = Some(RETRY_AFTER);
    PublishOutcome::NotRun(refusal)
}

/// Too many publishes wait for this bus already.
pub(crate) fn busy(most: usize) -> PublishOutcome {
    let detail =
        format!("{most} publishes wait for the bus of this component. Publish again later");
    let mut refusal = NotRun::new(Code::TopicBusy, detail);
    refusal.retry_after = Some(RETRY_AFTER);
    PublishOutcome::NotRun(refusal)
}

/// Nobody can tell.
pub(crate) fn unknown(detail: impl Into<String>) -> PublishOutcome {
    PublishOutcome::Unknown {
        code: Code::OutcomeUnknown,
        detail: ghostlight_protocol::text::cut(detail.into()),
    }
}

/// Waits as long as the publisher does. What was cut off may have been published.
pub(crate) async fn within(
    timeout: Option<Duration>,
    events: usize,
    work: impl Future<Output = Vec<PublishOutcome>>,
) -> Vec<PublishOutcome> {
    let Some(timeout) = timeout else {
        return work.await;
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(outcomes) => outcomes,
        Err(_) => vec![unknown(format!("no answer of the bus within {timeout:?}")); events],
    }
}
