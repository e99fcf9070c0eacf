//! Looking at a cluster on the stage as every client does: through the nodes' admin APIs.

use std::time::Duration;

use ghostlight_core::admin::StatusView;
use serde::de::DeserializeOwned;

use super::Node;
use crate::api::admin::BASE;
use crate::cli::http::{Ask, Connection};

/// Asks a node's admin API; `None` if it does not answer.
pub(in crate::cli) async fn ask<T: DeserializeOwned>(node: &Node, path: &str) -> Option<T> {
    ask_within(node, path, Duration::from_secs(1)).await
}

/// Asks for an answer that may take its time.
pub(in crate::cli) async fn ask_within<T: DeserializeOwned>(
    node: &Node,
    path: &str,
    time_max: Duration,
) -> Option<T> {
    let ask = Ask::get(format!("{BASE}/{path}")).within(time_max);
    let reply = Connection::to(node.admin.as_str()).send(&ask).await.ok()?;
    if reply.status != 200 {
        return None;
    }
    serde_json::from_slice(&reply.body).ok()
}

/// Whether all of `nodes` are there, and every partition has the copies it can have.
pub(in crate::cli) fn is_ready(status: &StatusView, nodes: usize) -> bool {
    let alive = status
        .members
        .iter()
        .filter(|member| member.state == "alive")
        .count();
    // Fewer nodes than the factor can never be healthy; then all copies there can be are enough.
    // And a disk that was slow for a moment keeps its node from leading for a while, which is
    // nothing to wait for.
    let copies = nodes.min(usize::try_from(status.factor).unwrap_or(usize::MAX));
    let whole = status.copies_min as usize >= copies;
    alive == nodes && whole && status.moves == 0 && status.partitions_led == status.partitions
}
