//! What one call costs in the cores alone: one or three node cores on one thread, in-memory stores,
//! no sockets, no other threads. Prints microseconds of work per call, by part.
//!
//! `cargo run -p ghostlight-sim --example core_cost -- [echo|get|add] [NODES] [IN_FLIGHT] [CALLS]
//! [ACTORS]`
use std::collections::VecDeque;
use std::time::{Duration, Instant as Watch};

use bytes::Bytes;
use ghostlight_core::gateway::{CallTicket, ClientCall};
use ghostlight_core::io::{Effect, Input, Now, StoreInput};
use ghostlight_core::node::{NodeCore, Start};
use ghostlight_core::sdk::local_runner::LocalRunner;
use ghostlight_disk::{Disk, Snapshots};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::ids::{ClusterId, NodeId};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{ConnectionKind, NodeRecord, new_descriptor};
use ghostlight_protocol::wire::{FrameDecoder, LaneItem, encode_frame, frame_bytes};
use ghostlight_storage::{MemoryDisk, MemoryEngine, NodeIdentity, Reader, Store};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Node {
    core: NodeCore,
    disk: Disk<MemoryEngine>,
    reader: Reader<MemoryEngine>,
    snapshots: Snapshots<MemoryEngine>,
    runner: LocalRunner,
    inbox: VecDeque<Input>,
    record: NodeRecord,
}

#[derive(Default)]
struct Costs {
    core: Duration,
    flush: Duration,
    store: Duration,
    wire: Duration,
    runner: Duration,
}

struct Bed {
    decoder: FrameDecoder,
    nodes: Vec<Node>,
    now: u64,
    costs: Costs,
    replies: Vec<(usize, CallOutcome)>,
    turns: u64,
}

fn node(place: usize) -> Node {
    let disk = MemoryDisk::new(place as u64 + 1);
    let (mut store, _) = Store::open(disk.open()).expect("an empty store opens");
    let id = NodeId(place as u128 + 1);
    let mut identity = NodeIdentity::new(id, &format!("n{}", place + 1));
    let mut replicas = Vec::new();
    if place == 0 {
        let descriptor = new_descriptor(ClusterId(7), id, 256, 3);
        identity.cluster = Some(descriptor);
        replicas = store.found(256, &identity).expect("founding");
    } else {
        store.save_identity(&identity).expect("saving");
    }
    let record = NodeRecord {
        node: identity.node.clone(),
        generation: identity.generation,
        name: format!("n{}", place + 1),
        address: format!("10.0.0.{}:7400", place + 1),
        weight: 1,
        actor_types: ["account", "counter", "echo", "log"]
            .map(str::to_owned)
            .to_vec(),
        ..NodeRecord::default()
    };
    let start = Start {
        record: record.clone(),
        descriptor: identity.cluster.clone(),
        partitions: None,
        seeds: if place == 0 {
            vec![]
        } else {
            vec!["10.0.0.1:7400".to_owned()]
        },
        addresses: Vec::new(),
        replicas,
        condemned: Vec::new(),
        tombstones: std::collections::BTreeMap::new(),
        marks: Default::default(),
        trust: Default::default(),
        seed: place as u64,
        min_copies: 1,
        turns: ghostlight_core::turns::Settings::default(),
        log: ghostlight_core::replica::LogBounds::default(),
    };
    let reader = store.reader();
    Node {
        core: NodeCore::new(clocks(1_000_000_000), start),
        disk: Disk::new(store, identity),
        snapshots: Snapshots::new(reader.clone()),
        reader,
        runner: LocalRunner::new(ghostlight_core::samples::registry()),
        inbox: VecDeque::new(),
        record,
    }
}

fn clocks(now: u64) -> Now {
    Now {
        instant: Instant(now),
        wall: WallTime(1_700_000_000_000 + now / 1_000_000),
    }
}

impl Bed {
    fn round(&mut self, step: u64) {
        self.now += step;
        let now = clocks(self.now);
        for place in 0..self.nodes.len() {
            let mut out = Vec::new();
            let begun = Watch::now();
            let node = &mut self.nodes[place];
            while let Some(input) = node.inbox.pop_front() {
                node.core.handle(now, input, &mut out);
            }
            if node
                .core
                .next_deadline()
                .is_some_and(|at| at <= now.instant)
            {
                node.core.handle(now, Input::Tick, &mut out);
            }
            let handled = Watch::now();
            self.costs.core += handled - begun;
            node.core.flush(now, &mut out);
            self.costs.flush += handled.elapsed();
            self.perform(place, out);
        }
    }

    fn perform(&mut self, place: usize, effects: Vec<Effect>) {
        for effect in effects {
            let begun = Watch::now();
            match effect {
                Effect::Send { to, frame, .. } => {
                    self.carry(place, to, &frame);
                    self.costs.wire += begun.elapsed();
                }
                Effect::Gossip { to, data } => {
                    let target = self.place(to);
                    self.nodes[target].inbox.push_back(Input::Gossip(data));
                }
                Effect::Dial { address, kind, .. } => self.dial(place, &address, kind),
                Effect::Store(effect) => {
                    let mut inputs = Vec::new();
                    self.nodes[place]
                        .disk
                        .perform(vec![effect], &mut inputs)
                        .expect("memory");
                    self.nodes[place]
                        .inbox
                        .extend(inputs.into_iter().map(Input::Store));
                    self.costs.store += begun.elapsed();
                }
                Effect::Read {
                    ticket,
                    partition,
                    rows,
                } => {
                    let reader = &self.nodes[place].reader;
                    let read = ghostlight_disk::read_rows(reader, partition, &rows, 1 << 20);
                    let (rows, rest) = read.expect("memory");
                    self.nodes[place]
                        .inbox
                        .push_back(Input::Store(StoreInput::Rows { ticket, rows, rest }));
                    self.costs.store += begun.elapsed();
                }
                Effect::Snapshot(effect) => {
                    let node = &mut self.nodes[place];
                    let read = node.snapshots.perform(effect).expect("memory");
                    node.inbox.extend(read.map(Input::Store));
                }
                Effect::App(effect) => panic!("no application here: {effect:?}"),
                Effect::Runner(effect) => {
                    self.turns += 1;
                    let mut inputs = Vec::new();
                    self.nodes[place]
                        .runner
                        .perform(Instant(self.now), effect, &mut inputs);
                    self.nodes[place]
                        .inbox
                        .extend(inputs.into_iter().map(Input::Runner));
                    self.costs.runner += begun.elapsed();
                }
                Effect::Reply { outcome, .. } => self.replies.push((place, outcome)),
                Effect::Halt(reason) => panic!("node {place}: {reason:?}"),
                Effect::Close(_)
                | Effect::Overrun { .. }
                | Effect::Reconnect { .. }
                | Effect::AdminReply { .. }
                | Effect::Subscriber(..)
                | Effect::Introduce { .. }
                | Effect::Event(_) => {}
            }
        }
    }

    /// A frame crosses the wire, as far as the processor is concerned.
    fn carry(&mut self, place: usize, to: NodeId, frame: &Frame) {
        let target = self.place(to);
        let mut encoded = Vec::new();
        encode_frame(frame, frame_bytes(frame), &mut encoded);
        let space = self.decoder.space();
        assert!(encoded.len() <= space.len(), "frames here are small");
        space[..encoded.len()].copy_from_slice(&encoded);
        self.decoder.filled(encoded.len());
        let item = self.decoder.next_item().expect("a frame");
        let Some(LaneItem::Frame(frame, _)) = item else {
            panic!("a whole frame was encoded");
        };
        let from = NodeId(place as u128 + 1);
        self.nodes[target]
            .inbox
            .push_back(Input::Frame { from, frame });
    }

    fn place(&self, node: NodeId) -> usize {
        node.0 as usize - 1
    }

    fn dial(&mut self, from: usize, address: &str, kind: ConnectionKind) {
        let Some(to) = self.nodes.iter().position(|n| n.record.address == address) else {
            return;
        };
        for (here, there) in [(from, to), (to, from)] {
            let peer = self.nodes[there].record.clone();
            let descriptor = new_descriptor(ClusterId(7), NodeId(1), 256, 3);
            self.nodes[here].inbox.push_back(Input::Connected {
                peer,
                descriptor: Some(descriptor),
                kind,
            });
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: usize| {
        args.get(at)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let what = args.get(1).map_or("echo", String::as_str);
    let (count, in_flight, calls, actors) = (
        number(2, 1),
        number(3, 64),
        number(4, 200_000),
        number(5, 64),
    );
    let (actor_type, method, body) = match what {
        "echo" => ("echo", "echo", "\"hello\""),
        "get" => ("counter", "get", ""),
        "add" => ("counter", "add", "1"),
        other => panic!("what is {other}?"),
    };
    let mut bed = Bed {
        decoder: FrameDecoder::default(),
        nodes: (0..count).map(node).collect(),
        now: 1_000_000_000,
        costs: Costs::default(),
        replies: Vec::new(),
        turns: 0,
    };
    for _ in 0..if count > 1 { 40_000 } else { 3_000 } {
        bed.round(1_000_000);
    }
    bed.costs = Costs::default();
    // Called through the last node: with several nodes the leaders are elsewhere, or some of them.
    let gateway = count - 1;
    let (mut sent, mut rounds) = (0u64, 0u64);
    let (mut done, mut failed) = (0usize, 0usize);
    let begun = Watch::now();
    while done < calls {
        while sent - (done as u64) < in_flight as u64 {
            sent += 1;
            let actor = ActorKey::new("default", actor_type, &format!("a{}", sent % actors as u64));
            let call = ClientCall {
                metadata: Vec::new(),
                actor: actor.expect("a good name"),
                method: method.to_owned(),
                body: Bytes::copy_from_slice(body.as_bytes()),
                request_id: None,
                deadline: Some(Instant(bed.now + 10_000_000_000)),
                stamp: Stamp {
                    wall_ms: 5,
                    seed: 9,
                },
            };
            bed.nodes[gateway].inbox.push_back(Input::Call {
                ticket: CallTicket(sent),
                call,
            });
        }
        bed.round(100_000);
        rounds += 1;
        for (_, outcome) in bed.replies.drain(..) {
            done += 1;
            failed += usize::from(!matches!(outcome, CallOutcome::Reply(_)));
        }
    }
    let measured = Measured {
        title: format!("{what} nodes {count} in-flight {in_flight} actors {actors}"),
        total: begun.elapsed(),
        done,
        failed,
        rounds,
    };
    measured.print(&bed.costs);
}

struct Measured {
    title: String,
    total: Duration,
    done: usize,
    failed: usize,
    rounds: u64,
}

impl Measured {
    fn print(&self, costs: &Costs) {
        let Self {
            title,
            total,
            done,
            failed,
            rounds,
        } = self;
        let per = |part: Duration| part.as_secs_f64() * 1e6 / *done as f64;
        println!(
            "{title}: total {:.2} us/call, core {:.2} flush {:.2} store {:.2} wire {:.2} runner {:.2}; {:.1} rounds/1000 calls, {failed} failed",
            per(*total),
            per(costs.core),
            per(costs.flush),
            per(costs.store),
            per(costs.wire),
            per(costs.runner),
            *rounds as f64 * 1000.0 / *done as f64,
        );
    }
}
