//! Metrics of the loop and the store: names, help and labels together. Labels are bounded sets,
//! never an actor's id.

use std::time::Duration;

use ghostlight_core::topics::TopicCounters;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Time of one batch on the disk thread, its sync included.
pub(crate) const SYNC_DURATION: &str = "ghostlight_storage_sync_duration_seconds";
/// Leaderships opened by this node.
pub(crate) const OPENED: &str = "ghostlight_replica_leaderships_opened_total";
/// Leaderships this node serves now.
pub(crate) const LEADERS: &str = "ghostlight_replica_leaders";
/// Times a member was suspected or held for down, by `state`.
pub(crate) const MEMBER_EVENTS: &str = "ghostlight_member_events_total";
/// Frames that were not queued because a lane was full or gone.
pub(crate) const FRAMES_DROPPED: &str = "ghostlight_transport_frames_dropped_total";
/// Longest time one turn of the core's loop took since the last look.
pub(crate) const LOOP_STALL: &str = "ghostlight_core_loop_stall_seconds";
/// Replicas set aside because their records were damaged.
pub(crate) const CONDEMNED: &str = "ghostlight_replica_condemned_total";

/// Comparisons in which replicas of one partition held other rows at the same index.
pub(crate) const DIFFERED: &str = "ghostlight_replica_states_differed_total";
/// Bytes that can still be written to the file system of the data directory.
pub(crate) const ROOM: &str = "ghostlight_storage_room_bytes";

/// Events of topics at leaders on this node, by `what`.
pub(crate) const TOPIC_EVENTS: &str = "ghostlight_topic_events_total";
/// Subscriptions of this node's programs and applications.
pub(crate) const SUBSCRIPTIONS: &str = "ghostlight_topic_subscriptions";

/// Says what each metric means; once per process.
pub fn describe() {
    describe_histogram!(
        SYNC_DURATION,
        Unit::Seconds,
        "Time of one synced batch on the disk thread"
    );
    describe_counter!(OPENED, Unit::Count, "Leaderships opened by this node");
    describe_gauge!(LEADERS, Unit::Count, "Leaderships this node serves");
    describe_counter!(
        MEMBER_EVENTS,
        Unit::Count,
        "Members up, suspected or down, by state"
    );
    describe_counter!(FRAMES_DROPPED, Unit::Count, "Frames not queued, by reason");
    describe_gauge!(
        LOOP_STALL,
        Unit::Seconds,
        "Longest turn of the core's loop in the last second"
    );
    describe_counter!(
        CONDEMNED,
        Unit::Count,
        "Replicas set aside because of damaged records"
    );
    describe_counter!(
        DIFFERED,
        Unit::Count,
        "Partitions led here whose replicas held other rows at the same index"
    );
    describe_gauge!(
        ROOM,
        Unit::Bytes,
        "Room left on the file system of the data directory"
    );
    describe_counter!(
        TOPIC_EVENTS,
        Unit::Count,
        "Publishes (published, repeated, refused) and events (delivered, redelivered, dead, forwarded) at leaders here"
    );
    describe_gauge!(
        SUBSCRIPTIONS,
        Unit::Count,
        "Subscriptions of this node's programs and applications"
    );
}

pub(crate) fn synced(time: Duration) {
    histogram!(SYNC_DURATION).record(time.as_secs_f64());
}

pub(crate) fn opened() {
    counter!(OPENED).increment(1);
    gauge!(LEADERS).increment(1.0);
}

pub(crate) fn closed() {
    gauge!(LEADERS).decrement(1.0);
}

pub(crate) fn member(state: &'static str) {
    counter!(MEMBER_EVENTS, "state" => state).increment(1);
}

pub(crate) fn dropped(reason: &'static str) {
    counter!(FRAMES_DROPPED, "reason" => reason).increment(1);
}

pub(crate) fn stalled(longest: Duration) {
    gauge!(LOOP_STALL).set(longest.as_secs_f64());
}

pub(crate) fn differed() {
    counter!(DIFFERED).increment(1);
}

pub(crate) fn room(free_bytes: u64) {
    gauge!(ROOM).set(free_bytes as f64);
}

pub(crate) fn topics(counts: &TopicCounters, subscriptions: usize) {
    for (what, count) in [
        ("published", counts.published),
        ("repeated", counts.repeated),
        ("refused", counts.refused),
        ("delivered", counts.delivered),
        ("redelivered", counts.redelivered),
        ("dead", counts.dead),
        ("forwarded", counts.forwarded),
    ] {
        counter!(TOPIC_EVENTS, "what" => what).absolute(count);
    }
    gauge!(SUBSCRIPTIONS).set(subscriptions as f64);
}

pub(crate) fn condemned() {
    counter!(CONDEMNED).increment(1);
}
