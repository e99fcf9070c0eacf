//! What the core tells about itself: one log line or count each.

use std::collections::BTreeMap;

use ghostlight_core::io::{Event, Named};

use crate::metrics;

/// Logs and counts an event. `failed_dials` has, by address, why the last dial failed.
pub(crate) fn tell(event: Event, failed_dials: &BTreeMap<String, String>) {
    match event {
        Event::MemberUp(Named { node, name }) => {
            metrics::member("up");
            tracing::info!(%node, %name, "a member is up");
        }
        Event::MemberSuspect(Named { node, name }) => {
            metrics::member("suspect");
            tracing::info!(%node, %name, "a member does not answer and is suspected");
        }
        Event::MemberDown(Named { node, name }) => {
            metrics::member("down");
            tracing::warn!(%node, %name, "a member is down");
        }
        Event::Joined(descriptor) => {
            let cluster = descriptor.id().map(|id| format!("{id:?}"));
            tracing::info!(
                cluster = %cluster.unwrap_or_default(),
                partitions = descriptor.partitions,
                "joined a cluster"
            );
        }
        Event::Opened { partition, term } => {
            metrics::opened();
            tracing::debug!(%partition, %term, "leads");
        }
        Event::Closed { partition, term } => {
            metrics::closed();
            tracing::debug!(%partition, %term, "leads no longer");
        }
        Event::Condemned { partition, why } => {
            metrics::condemned();
            tracing::error!(
                %partition,
                why,
                "a replica here is damaged; it is set aside and replaced from the others [E0308]"
            );
        }
        Event::StatesDiffer { partition, why } => {
            metrics::differed();
            tracing::error!(%partition, "{why}");
        }
        Event::SeedsSilent(seeds) => {
            let tried = seeds.iter().map(|seed| {
                let why = failed_dials
                    .get(seed)
                    .map_or("no answer yet", String::as_str);
                format!("{seed} ({why})")
            });
            let tried: Vec<String> = tried.collect();
            tracing::warn!(
                "no seed has answered so far: {}. Still trying. Is a node running there, with the same cluster \
                 key? [E0217]",
                tried.join(", ")
            );
        }
        Event::Said(text) => tracing::warn!("{text}"),
    }
}
