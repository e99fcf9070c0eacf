//! A node's threads do not outlive each other, and whoever asks a node that ends is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ghostlight_core::admin::{AdminAnswer, AdminRequest};
use ghostlight_core::io::{HaltReason, Now, PersistTicket, StoreEffect};
use ghostlight_core::node::{NodeCore, Start};
use ghostlight_core::sdk::ActorRegistry;
use ghostlight_disk::Disk;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{
    ClusterId, LogIndex, LogPosition, NodeId, PartitionId, PeerId, Term,
};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::replica::{EntryKind, LogEntry, LogWrite};
use ghostlight_protocol::wire::hello::{NodeRecord, new_descriptor};
use ghostlight_shell::admission::Doorkeeper;
use ghostlight_shell::ports::Port;
use ghostlight_shell::queues::DiskBatch;
use ghostlight_shell::store_threads::StoreThreads;
use ghostlight_storage::{MemoryDisk, NodeIdentity, Store};
use tokio::sync::mpsc;

use super::core_thread::CoreThread;
use crate::actors::Executor;
use crate::clock::Clock;
use crate::handle::{Invoke, NodeHandle};
use crate::security::key::ClusterKey;
use crate::security::tls::node_tls;
use crate::transport::{Events, Transport};

/// Longest wait for something that must happen; never reached in a run that passes.
const PATIENCE: Duration = Duration::from_secs(30);
const ME: NodeId = NodeId(1);

/// A batch over which the disk thread must panic: an entry of a replica that never was.
fn poison() -> DiskBatch {
    let entry = LogEntry {
        at: LogPosition {
            index: LogIndex(6),
            term: Term(6),
        },
        kind: EntryKind::Command,
        data: bytes::Bytes::new(),
        context: bytes::Bytes::new(),
    };
    vec![StoreEffect::Persist {
        ticket: PersistTicket(1),
        marks: Default::default(),
        installs: Vec::new(),
        writes: vec![LogWrite {
            partition: PartitionId(77),
            peer: PeerId(1),
            hard_state: None,
            entries: vec![entry],
        }],
    }]
}

/// The core's thread of a whole node over a store in memory, and the way to its disk.
fn node() -> (
    CoreThread,
    std::sync::mpsc::SyncSender<DiskBatch>,
    NodeHandle,
) {
    let (mut store, _) = Store::open(MemoryDisk::new(1).open()).unwrap();
    let mut identity = NodeIdentity::new(ME, "one");
    identity.cluster = Some(new_descriptor(ClusterId(1), ME, 2, 1));
    let replicas = store.found(2, &identity).unwrap();
    let record = NodeRecord {
        node: ME.to_bytes().to_vec(),
        generation: 1,
        weight: 1,
        ..NodeRecord::default()
    };
    let clock = Clock::start();
    let start = Start {
        record: record.clone(),
        descriptor: identity.cluster.clone(),
        partitions: None,
        seeds: Vec::new(),
        addresses: Vec::new(),
        replicas,
        condemned: Vec::new(),
        tombstones: std::collections::BTreeMap::new(),
        marks: Default::default(),
        trust: Default::default(),
        seed: 1,
        min_copies: 1,
        turns: ghostlight_core::turns::Settings::default(),
        log: ghostlight_core::replica::LogBounds::default(),
    };
    let now = Now {
        instant: clock.now(),
        wall: clock.wall(),
    };
    let doorkeeper = Arc::new(Doorkeeper::new(record, None, None, &[]));
    let reader = store.reader();
    let (ports, store) = StoreThreads::start(Disk::new(store, identity), reader).unwrap();
    let Port::Thread(batches) = &ports.batches else {
        panic!("they are taken by a thread");
    };
    let batches = batches.clone();
    let (events, event_queue) = Events::new();
    let socket = Transport::socket(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let tls = node_tls(&ClusterKey::generate()).unwrap();
    let transport = Transport::start(ME, socket, tls, doorkeeper.clone(), events).unwrap();
    let (sink, runner) = mpsc::channel(8);
    let executor = Executor::start(
        ActorRegistry::new(),
        Arc::new(sink),
        Arc::new(move || clock.now()),
    )
    .unwrap();
    let (handle, requests) = NodeHandle::new();
    let thread = CoreThread {
        core: NodeCore::new(now, start),
        clock,
        ports,
        store,
        transport,
        events: event_queue,
        requests,
        runner,
        executor,
        apps: super::apps::queues().0,
        doorkeeper,
        hub: Arc::default(),
        door: Arc::clone(handle.door()),
    };
    (thread, batches, handle)
}

/// A node whose disk thread has gone once went on heartbeating, and kept its leaderships.
#[tokio::test]
async fn a_node_ends_with_its_disk_thread() {
    let (thread, batches, _handle) = node();
    batches.send(poison()).unwrap();
    drop(batches);
    let (ended, over) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || ended.send(thread.run()));
    let reason = tokio::time::timeout(PATIENCE, over).await;
    match reason.expect("the node ends").unwrap() {
        HaltReason::Refused { code, detail } => {
            assert_eq!(code, Code::Internal);
            assert!(detail.contains("\"disk\""), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

/// What comes with the order to end, and what waits behind it, certainly did not run, and hears so:
/// more than the loop takes in one turn.
#[tokio::test]
async fn requests_that_a_node_ends_before_are_refused() {
    let (thread, batches, handle) = node();
    drop(batches);
    handle.shutdown(Duration::ZERO).await;
    let calls: Vec<_> = (0..1_500)
        .map(|number| {
            let handle = handle.clone();
            let call = Invoke {
                actor: ActorKey::new("default", "counter", &number.to_string()).unwrap(),
                method: "add".to_owned(),
                body: bytes::Bytes::new(),
                request_id: None,
                timeout: None,
                metadata: Vec::new(),
            };
            tokio::spawn(async move { handle.invoke(call).await })
        })
        .collect();
    let asked = handle.clone();
    let admin = tokio::spawn(async move { asked.admin(AdminRequest::Status).await });
    // All of them are in the queue before anybody reads it.
    while handle.waiting() < 1_502 {
        tokio::task::yield_now().await;
    }
    std::thread::spawn(move || thread.run());
    for call in calls {
        match tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap() {
            CallOutcome::NotRun(refusal) => assert_eq!(refusal.code, Code::ShuttingDown),
            other => panic!("{other:?}"),
        }
    }
    match tokio::time::timeout(PATIENCE, admin)
        .await
        .unwrap()
        .unwrap()
    {
        AdminAnswer::Refused { code, .. } => assert_eq!(code, Code::ShuttingDown),
        other => panic!("{other:?}"),
    }
}
