//! Says who leads the demo's actor when that changes: leaderships spread over the nodes some
//! seconds after a cluster has formed, and the `kill -9` that was printed then hits another node.

use std::sync::Arc;
use std::time::Duration;

use ghostlight_core::admin::{StatusView, WhereView};

use super::forming::ACTOR;
use crate::cli::lists::print_text;
use crate::cli::stage::{Stage, ask};

/// Pause between two looks.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// Looks until it is aborted.
pub(super) async fn follow(stage: Arc<Stage>) {
    let mut known = None;
    loop {
        for node in 0..stage.nodes.len() {
            let Some((leader, line)) = look(&stage, node).await else {
                continue;
            };
            if known.as_ref().is_some_and(|known| *known != leader) {
                print_text(&line);
            }
            known = Some(leader);
            break;
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// The leader's name as one node knows it, and the line that tells of it.
async fn look(stage: &Stage, node: usize) -> Option<(String, String)> {
    let place: WhereView = ask(&stage.nodes[node], &format!("where/{ACTOR}")).await?;
    let leader = place.leader?.name;
    let status: StatusView = ask(&stage.nodes[node], "status").await?;
    let spread: Vec<String> = status
        .members
        .iter()
        .map(|member| format!("{} leads {}", member.name, member.leaders))
        .collect();
    let pid = status.members.iter().find(|m| m.name == leader)?.pid;
    let line = format!(
        "{leader} leads {ACTOR} now (kill -9 {pid}); of {} partitions {}\n",
        status.partitions,
        spread.join(", ")
    );
    Some((leader, line))
}
