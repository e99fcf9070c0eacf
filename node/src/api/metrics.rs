//! Metrics of the APIs, and the recorder behind `/metrics`.
//!
//! Names, help and labels stand together. Labels are bounded sets; an actor id is never one.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Calls answered by the Dapr API, by `outcome`.
pub const REQUESTS: &str = "ghostlight_api_requests_total";
/// Time from a call's last byte in to its answer.
pub const REQUEST_DURATION: &str = "ghostlight_api_request_duration_seconds";
/// Requests refused before they reached the node, by `reason`.
pub const REFUSED: &str = "ghostlight_api_refused_total";
/// Errors that the APIs answered, by Dapr's `category` and `error_code`. Its name is Dapr's:
/// dashboards know it.
pub const ERROR_CODES: &str = "dapr_error_code_total";

/// How often the recorder must be kept up, so that histograms stay small.
pub const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

const BUCKETS_SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0,
    15.0,
];

/// Renders every metric of this process in Prometheus' text form.
#[derive(Clone)]
pub struct Renderer(Option<PrometheusHandle>);

impl std::fmt::Debug for Renderer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Renderer")
    }
}

impl Renderer {
    /// Installs the recorder of this process; metrics recorded before are lost.
    ///
    /// # Errors
    /// When the process has one already.
    pub fn install() -> Result<Self, BuildError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS_SECONDS)?
            .install_recorder()?;
        describe();
        Ok(Self(Some(handle)))
    }

    /// A renderer of nothing, for tests and for library users with a recorder of their own.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Everything recorded so far.
    #[must_use]
    pub fn render(&self) -> String {
        self.0
            .as_ref()
            .map(PrometheusHandle::render)
            .unwrap_or_default()
    }

    /// Call it every [`UPKEEP_PERIOD`].
    pub fn upkeep(&self) {
        if let Some(handle) = &self.0 {
            handle.run_upkeep();
        }
    }
}

fn describe() {
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Calls answered by the Dapr API, by outcome"
    );
    describe_histogram!(
        REQUEST_DURATION,
        Unit::Seconds,
        "Time from a call to its answer"
    );
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Requests refused before they reached the node, by reason"
    );
    describe_counter!(
        ERROR_CODES,
        Unit::Count,
        "Errors that the APIs answered, by Dapr's category and error code"
    );
}

/// Records one answered call.
pub fn answered(outcome: &'static str, took: Duration) {
    counter!(REQUESTS, "outcome" => outcome).increment(1);
    histogram!(REQUEST_DURATION).record(took.as_secs_f64());
}

/// Records one request that did not reach the node.
pub fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

/// Records one error that an API answers.
pub fn error_code(category: &'static str, error_code: &'static str) {
    counter!(ERROR_CODES, "category" => category, "error_code" => error_code).increment(1);
}
