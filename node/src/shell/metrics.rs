//! Metrics of ephemeral topics: names and help together. Those of the loop and the store are in
//! `ghostlight_shell::metrics`.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::ephemeral::Counts;

/// Events of ephemeral topics on this node, by `what`.
pub(crate) const EPHEMERAL_EVENTS: &str = "ghostlight_ephemeral_events_total";
/// Subscribers of ephemeral topics on this node.
pub(crate) const EPHEMERAL_SUBSCRIBERS: &str = "ghostlight_ephemeral_subscribers";

/// Says what each metric means; once per process.
pub(crate) fn describe() {
    ghostlight_shell::metrics::describe();
    describe_counter!(
        EPHEMERAL_EVENTS,
        Unit::Count,
        "Events of ephemeral topics here: published; copies sent, passed_on, received; queued for subscribers; lost: \
         ring_full, lane_full, unreachable, late, unreadable; last values not_kept"
    );
    describe_gauge!(
        EPHEMERAL_SUBSCRIBERS,
        Unit::Count,
        "Subscribers of ephemeral topics on this node"
    );
}

pub(crate) fn ephemeral(counts: &Counts) {
    for (what, count) in [
        ("published", counts.published),
        ("sent", counts.sent),
        ("passed_on", counts.passed_on),
        ("received", counts.received),
        ("queued", counts.queued),
        ("ring_full", counts.ring_full),
        ("lane_full", counts.lane_full),
        ("unreachable", counts.unreachable),
        ("late", counts.late),
        ("unreadable", counts.unreadable),
        ("not_kept", counts.not_kept),
    ] {
        counter!(EPHEMERAL_EVENTS, "what" => what).absolute(count);
    }
    gauge!(EPHEMERAL_SUBSCRIBERS).set(counts.subscribers as f64);
}
