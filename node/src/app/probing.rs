//! Asking for an application's health, over and over. How it is asked is the caller's.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::MissedTickBehavior;

use super::health::{Health, Probe, Verdict};
use super::settings::HealthProbes;

/// Time between health probes before the first success.
const FIRST_PROBES_PERIOD_MAX: Duration = Duration::from_secs(1);

/// Returns when a probe has passed.
///
/// # Errors
/// What `probe` says that cannot be a matter of health: it is not asked again.
pub(crate) async fn until_well<'a>(
    probes: &HealthProbes,
    mut probe: impl FnMut() -> BoxFuture<'a, Result<Probe, String>>,
) -> Result<(), String> {
    let period = probes.interval.min(FIRST_PROBES_PERIOD_MAX);
    while probe().await? == Probe::Failed {
        tokio::time::sleep(period).await;
    }
    Ok(())
}

/// Returns when too many probes in a row have failed, with the reason.
pub(crate) async fn until_unwell<'a>(
    probes: &HealthProbes,
    mut probe: impl FnMut() -> BoxFuture<'a, Probe>,
) -> String {
    let mut health = Health::new(probes.threshold);
    let mut ticks = tokio::time::interval(probes.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and it was healthy just now.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if let Verdict::Unhealthy(failures) = health.saw(probe().await) {
            return format!("it is unhealthy: {failures} health probes in a row failed");
        }
    }
}
