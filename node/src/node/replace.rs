//! A node whose database is lost: it asks its peers whether every group goes on without it, and
//! comes back as a new node in the same directory, or refuses to start.
//!
//! The decision is the core's (`ghostlight_core::inquiry`); here are the connections and the files.
//! Until every partition has been answered for, nothing on the disk is changed.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use ghostlight_core::inquiry::{Inquiry, InquiryEffect, InquiryInput, Verdict};
use ghostlight_core::io::Lane;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::hash::HASH_VERSION;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{
    ClusterDescriptor, ConnectionKind, Hello, HelloRefusal, Judge, NodeRecord, PROTOCOL_VERSION,
    Removed,
};
use ghostlight_storage::{Note, RocksEngine};
use rand::Rng;

use super::StartError;
use super::data::{self, LostDatabase, Opened};
use super::launch::{cluster_key, internal};
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::security::tls::node_tls;
use crate::transport::{Admission, DialError, Events, LinkHandle, Transport, TransportEvent};

/// Asks, and comes back as a new node if the answers allow it.
///
/// # Errors
/// `DataDirCorrupt`: they do not, and nothing was changed. Else what failed.
pub(super) async fn come_back(
    lost: LostDatabase,
    config: &NodeConfig,
) -> Result<Opened<RocksEngine>, StartError> {
    let LostDatabase { path, why, note } = lost;
    let corrupt = |detail: String| StartError::new(Code::DataDirCorrupt, detail);
    let known = note.and_then(|note| {
        let identity = note.identity.clone()?;
        let cluster = identity.cluster.clone()?;
        Some((identity.id()?, cluster, note))
    });
    let Some((node, cluster, note)) = known else {
        return Err(corrupt(format!(
            "{why}. The note of who this node was is missing too, so nobody can be asked about it. \
             Restore the directory from a backup, or wipe it and start with --join: this node then \
             comes back empty, as a new one"
        )));
    };
    let addresses = addresses(&note, node, config);
    tracing::warn!(
        "{why}. Asking {} whether every partition has a live majority without this node ({node})",
        addresses.join(", ")
    );
    match ask(node, &cluster, addresses, config).await? {
        Verdict::Keep { why: reason } => Err(corrupt(format!(
            "{why}. It was not given up, because {reason}. Start the other nodes first, then this one \
             again; or restore the directory from a backup"
        ))),
        Verdict::GiveUp { by } => {
            let config = config.clone();
            let begun = tokio::task::spawn_blocking(move || data::begin_anew(&path, note, &config));
            let (opened, aside) = begun.await.map_err(internal)??;
            let moved = aside.map_or_else(
                || "nothing was left of it".to_owned(),
                |aside| {
                    format!(
                        "it was moved to {}, for a person to look at",
                        aside.display()
                    )
                },
            );
            tracing::warn!(
                "the damaged database was given up, with the word of the leaders of all {} partitions \
                 ({} nodes): {moved}. This node comes back as {}, which replaces {node}, and fetches \
                 its copies anew",
                cluster.partitions,
                by.len(),
                opened.identity.id().unwrap_or_default()
            );
            Ok(opened)
        }
    }
}

/// Where somebody of the cluster may be.
fn addresses(note: &Note, node: NodeId, config: &NodeConfig) -> Vec<String> {
    let others = note.nodes.iter().filter(|record| record.id() != Some(node));
    let known = others.map(|record| record.address.clone());
    let all: BTreeSet<String> = known.chain(config.join.iter().cloned()).collect();
    all.into_iter()
        .filter(|address| !address.is_empty())
        .collect()
}

/// What the asking node says of itself: a name of its own, that nobody will meet again.
struct Asker {
    record: NodeRecord,
    cluster: ClusterDescriptor,
}

impl Admission for Asker {
    fn hello(&self, kind: ConnectionKind) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            cluster: Some(self.cluster.clone()),
            node: Some(self.record.clone()),
            connection: kind as i32,
            hash_version: HASH_VERSION,
            ..Hello::default()
        }
    }

    fn judge(&self, hello: &Hello) -> Result<(), HelloRefusal> {
        let judge = Judge {
            ours: &self.record,
            cluster: Some(&self.cluster),
            known: None,
            removed: Removed::No,
        };
        judge.judge(hello)
    }
}

async fn ask(
    lost: NodeId,
    cluster: &ClusterDescriptor,
    addresses: Vec<String>,
    config: &NodeConfig,
) -> Result<Verdict, StartError> {
    let key = cluster_key(&config.cluster_key)?;
    let tls = node_tls(&key).map_err(internal)?;
    let me = NodeId(rand::rng().random());
    let asker = Asker {
        record: NodeRecord {
            node: me.to_bytes().to_vec(),
            generation: 1,
            name: config.name.clone(),
            nonce: rand::rng().random(),
            ..NodeRecord::default()
        },
        cluster: cluster.clone(),
    };
    // Any port: the node's own one is bound when it comes back.
    let socket =
        Transport::socket(SocketAddr::new(config.listen.addr.ip(), 0)).map_err(internal)?;
    let (events, mut queues) = Events::new();
    let transport = Transport::start(me, socket, tls, Arc::new(asker), events).map_err(internal)?;
    let clock = Clock::start();
    let partitions = u16::try_from(cluster.partitions).unwrap_or(u16::MAX);
    let mut inquiry = Inquiry::new(clock.now(), lost, partitions, addresses);
    let mut links: HashMap<NodeId, LinkHandle> = HashMap::new();
    let mut input = InquiryInput::Tick;
    let verdict = loop {
        let mut effects = Vec::new();
        inquiry.handle(clock.now(), input, &mut effects);
        let mut verdict = None;
        for effect in effects {
            match effect {
                InquiryEffect::Dial(address) => {
                    transport.dial(address, None, ConnectionKind::Inquiry);
                }
                InquiryEffect::Ask(node, question) => {
                    let frame = Frame::AskSurvival(question);
                    let sent = links.get(&node).map(|link| link.send(Lane::Inquiry, frame));
                    if let Some(Err(error)) = sent {
                        // It is asked again.
                        tracing::debug!(%node, %error, "a question was not sent");
                    }
                }
                InquiryEffect::End(ended) => verdict = Some(ended),
            }
        }
        transport.flush();
        if let Some(verdict) = verdict {
            break verdict;
        }
        let deadline = inquiry.next_deadline().unwrap_or_else(|| clock.now());
        input = tokio::select! {
            Some(event) = queues.control.recv() => heard(event, &mut links),
            () = tokio::time::sleep_until(clock.to_std(deadline).into()) => InquiryInput::Tick,
        };
    };
    // It waits for its thread.
    tokio::task::spawn_blocking(move || drop(transport))
        .await
        .map_err(internal)?;
    Ok(verdict)
}

fn heard(event: TransportEvent, links: &mut HashMap<NodeId, LinkHandle>) -> InquiryInput {
    match event {
        TransportEvent::Connected { peer, link, .. } => match peer.id() {
            Some(node) => {
                links.insert(node, link);
                InquiryInput::Connected {
                    node,
                    address: peer.address,
                }
            }
            None => InquiryInput::Tick,
        },
        TransportEvent::Disconnected { node, .. } => {
            links.remove(&node);
            InquiryInput::Disconnected(node)
        }
        TransportEvent::Frames { from, frames, .. } => {
            let answer = frames.into_iter().rev().find_map(|frame| {
                if let Frame::Survival(survival) = frame {
                    Some(survival)
                } else {
                    None
                }
            });
            match answer {
                Some(survival) => InquiryInput::Answer { from, survival },
                None => InquiryInput::Tick,
            }
        }
        TransportEvent::DialFailed {
            address,
            why: why @ (DialError::KeyRejected | DialError::Refused(_)),
        } => {
            tracing::warn!(address, "cannot ask: {why}");
            InquiryInput::Tick
        }
        TransportEvent::DialFailed { address, why } => {
            tracing::debug!(address, %why, "a dial failed");
            InquiryInput::Tick
        }
        TransportEvent::Gossip(_) | TransportEvent::Refused { .. } => InquiryInput::Tick,
    }
}
