//! Frames that decode but say what no node says: none may end the process, now or at its next
//! start.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::io::Input;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{
    AnswerKind, Ask, CallAnswer, CallRequest, Delete, LeaderHint, NotRunAnswer, Operation, Page,
    Redirect, ScheduleChange, ScheduleName, Stamp, StateChange, UnknownAnswer,
};
use ghostlight_protocol::closed::ClosedRange;
use ghostlight_protocol::command::{Command, Envelope, ScheduleRow, ScheduleWrite};
use ghostlight_protocol::ids::{Generation, NodeId};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::request::{RequestId, Session};
use ghostlight_protocol::wire::frame::{
    AskReplica, AskRoutes, AskRows, AskSurvival, CondemnedReplica, Control, Frame, Hangup,
    Heartbeat, Order, OrderAnswer, OutboxMark, OutboxPush, RaftMessage, RaftMessages,
    ReplicaStanding, Routes, RowsDigest, SnapshotAck, SnapshotChunk, Survival,
};
use ghostlight_protocol::wire::hello::{ClusterDescriptor, NodeRecord};
use prost::Message;
use prost11::Message as _;
use raft::eraftpb;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bench::{ME, OneNode, Origin, PARTITIONS, PEER};

const SEEDS: u64 = 40;
const FRAMES: usize = 300;

struct Dice(ChaCha8Rng);

impl Dice {
    /// Numbers that mean something here, and those at which arithmetic ends.
    fn number(&mut self) -> u64 {
        let near = self.0.random_range(0..12);
        match self.0.random_range(0..12) {
            0 => u64::MAX - near % 3,
            1 => 1 << 63,
            2 => (1 << 62) + near % 2,
            3 => 1 << 62,
            4 => u64::from(u32::MAX) + near,
            5 => self.0.random(),
            _ => near,
        }
    }

    fn small(&mut self) -> u32 {
        match self.0.random_range(0..6) {
            0 => u32::MAX,
            1 => self.0.random(),
            _ => self.0.random_range(0..u32::from(PARTITIONS) + 1),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.0.random_range(0..24);
        (0..length).map(|_| self.0.random::<u8>()).collect()
    }

    fn node(&mut self) -> Bytes {
        match self.0.random_range(0..4) {
            0 => self.bytes(),
            1 => Bytes::copy_from_slice(&ME.to_bytes()),
            2 => Bytes::copy_from_slice(&PEER.to_bytes()),
            _ => Bytes::copy_from_slice(&NodeId(self.0.random_range(0..7)).to_bytes()),
        }
    }

    fn actor(&mut self) -> Bytes {
        match self.0.random_range(0..4) {
            0 => self.bytes(),
            n => {
                let id = format!("a{n}");
                ActorKey::new("default", "account", &id).unwrap().to_bytes()
            }
        }
    }

    fn many<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.0.random_range(0..4);
        (0..count).map(|_| one(self)).collect()
    }

    fn hint(&mut self) -> LeaderHint {
        LeaderHint {
            partition: self.small(),
            term: self.number(),
            leader: self.node(),
            membership_index: self.number(),
            voters: self.many(Self::node),
        }
    }

    fn maybe_hint(&mut self) -> Option<LeaderHint> {
        self.0.random::<bool>().then(|| self.hint())
    }

    fn heartbeat(&mut self) -> Heartbeat {
        Heartbeat {
            partition: self.small(),
            from: self.number(),
            to: self.number(),
            term: self.number(),
            commit: self.number(),
            context: self.bytes(),
        }
    }

    fn control(&mut self) -> Control {
        Control {
            heartbeats: self.many(Self::heartbeat),
            answers: self.many(Self::heartbeat),
            leaderships: self.many(Self::hint),
            wall_ms: self.number(),
            condemned: self.many(|dice| CondemnedReplica {
                partition: dice.small(),
                next_peer: dice.number(),
            }),
            removed: Vec::new(),
            replicas: self.small(),
            leaders: self.small(),
            fitness: self.0.random_range(-1..5),
            mark: self.number(),
            nonce: self.number(),
        }
    }

    fn command(&mut self) -> Bytes {
        if self.0.random::<bool>() {
            return self.bytes();
        }
        let command = Command {
            leader_term: self.number(),
            age_step_ms: self.number(),
            wall_ms: self.number(),
            kind: None,
        };
        command.encode_to_vec().into()
    }

    fn entry(&mut self) -> eraftpb::Entry {
        eraftpb::Entry {
            index: self.number(),
            term: self.number(),
            data: self.command().to_vec(),
            // Not a change of the configuration: whom a group consists of is its leader's word.
            ..eraftpb::Entry::default()
        }
    }

    fn raft(&mut self) -> RaftMessage {
        let message = eraftpb::Message {
            msg_type: self.0.random_range(-1..20),
            to: self.number(),
            from: self.number(),
            term: self.number(),
            log_term: self.number(),
            index: self.number(),
            entries: self.many(Self::entry),
            commit: self.number(),
            commit_term: self.number(),
            request_snapshot: if self.0.random() { self.number() } else { 0 },
            reject: self.0.random(),
            reject_hint: self.number(),
            context: self.bytes().to_vec(),
            ..eraftpb::Message::default()
        };
        RaftMessage {
            partition: self.small(),
            message: message.encode_to_vec().into(),
        }
    }

    fn snapshot_message(&mut self) -> Bytes {
        let conf = eraftpb::ConfState {
            voters: self.many(Self::number),
            learners: self.many(Self::number),
            voters_outgoing: self.many(Self::number),
            learners_next: self.many(Self::number),
            auto_leave: self.0.random(),
        };
        let metadata = eraftpb::SnapshotMetadata {
            conf_state: self.0.random::<bool>().then_some(conf),
            index: self.number(),
            term: self.number(),
        };
        let mut message = eraftpb::Message {
            to: 1,
            from: self.number(),
            term: self.number(),
            ..eraftpb::Message::default()
        };
        message.set_msg_type(eraftpb::MessageType::MsgSnapshot);
        message.snapshot = Some(eraftpb::Snapshot {
            data: self.bytes().to_vec(),
            metadata: Some(metadata),
        });
        message.encode_to_vec().into()
    }

    fn chunk(&mut self) -> SnapshotChunk {
        SnapshotChunk {
            partition: self.small(),
            to_peer: self.number(),
            transfer: self.number(),
            number: self.number(),
            rows: self.bytes(),
            last: self.0.random::<bool>().then(|| self.snapshot_message()),
            term: self.number(),
        }
    }

    fn envelope(&mut self) -> Envelope {
        Envelope {
            actor: self.actor(),
            method: "deposit".to_owned(),
            body: Bytes::from_static(b"1"),
            source: self.small(),
            sequence: self.number(),
            sender: self.actor(),
            attempts: self.small(),
            accepted_ms: self.number(),
            committed: self.0.random_range(-1..5),
        }
    }

    /// Any operation on an actor's rows.
    fn operation(&mut self) -> Option<Operation> {
        let name = ScheduleName {
            kind: self.0.random_range(-1..3),
            name: "r".to_owned(),
        };
        let write = ScheduleWrite {
            kind: self.0.random_range(-1..3),
            name: "r".to_owned(),
            row: self.0.random::<bool>().then(|| ScheduleRow {
                due_ms: self.number(),
                period: "10ms".to_owned(),
                ..ScheduleRow::default()
            }),
            if_there: self.0.random_range(-1..3),
        };
        let ask = match self.0.random_range(0..9) {
            0 => Ask::StateGet(self.bytes()),
            1 => Ask::StateWrite(StateChange {
                term: self.number(),
                activation: self.number(),
                version: self.number(),
                writes: Vec::new(),
            }),
            2 => Ask::Schedule(ScheduleChange {
                writes: vec![write],
            }),
            3 => Ask::ScheduleGet(name),
            4 => Ask::ScheduleList(name),
            5 => Ask::ScheduleClear(name),
            6 => Ask::StateKeys(Page {
                after: self.bytes(),
                limit: self.small(),
            }),
            7 => Ask::Delete(Delete {}),
            _ => return None,
        };
        Some(Operation { ask: Some(ask) })
    }

    fn call(&mut self) -> CallRequest {
        let session = Session {
            gateway: PEER,
            generation: Generation(self.number()),
        };
        let sequence = self.number();
        let id = match self.0.random_range(0..3) {
            0 => self.bytes(),
            1 => RequestId::Derived(self.0.random()).to_bytes(),
            _ => RequestId::Session { session, sequence }.to_bytes(),
        };
        CallRequest {
            call: self.number(),
            partition: self.small(),
            request_id: id,
            actor: self.actor(),
            method: "balance".to_owned(),
            body: self.bytes(),
            remaining_ms: self.number(),
            attempt: self.small(),
            closed_below: self.number(),
            closed_ranges: self.many(|dice| ClosedRange {
                first: dice.number(),
                end: dice.number(),
            }),
            chain: self.many(Self::actor),
            stamp: Some(Stamp {
                wall_ms: self.number(),
                seed: self.number(),
            }),
            leader_term: self.number(),
            metadata: Vec::new(),
            operation: self.operation(),
        }
    }

    fn answer(&mut self) -> CallAnswer {
        let kind = match self.0.random_range(0..5) {
            0 => None,
            1 => Some(AnswerKind::Reply(self.bytes())),
            2 => Some(AnswerKind::NotRun(NotRunAnswer {
                code: self.small(),
                detail: String::new(),
                retry_after_ms: self.number(),
            })),
            3 => Some(AnswerKind::Unknown(UnknownAnswer {
                code: self.small(),
                detail: String::new(),
            })),
            _ => Some(AnswerKind::Redirect(Redirect {
                hint: self.maybe_hint(),
                may_have_run: self.0.random_range(-1..3),
            })),
        };
        CallAnswer {
            call: self.number(),
            kind,
        }
    }

    fn record(&mut self) -> NodeRecord {
        NodeRecord {
            node: self.node().to_vec(),
            generation: self.number(),
            name: "name".to_owned(),
            address: "not an address".to_owned(),
            weight: self.small(),
            duty: self.0.random_range(-1..5),
            revision: self.number(),
            ..NodeRecord::default()
        }
    }

    fn descriptor(&mut self) -> ClusterDescriptor {
        ClusterDescriptor {
            cluster: self.node().to_vec(),
            partitions: self.small(),
            factor: self.small(),
            virtual_nodes: self.small(),
            hash_version: self.small(),
            founder: self.node().to_vec(),
            company: self.0.random_range(-1..3),
        }
    }

    fn digest(&mut self) -> RowsDigest {
        RowsDigest {
            partition: self.small(),
            peer: self.number(),
            index: self.number(),
            digest: self.bytes(),
        }
    }

    fn raft_messages(&mut self) -> RaftMessages {
        RaftMessages {
            messages: self.many(Self::raft),
            mark: self.number(),
            nonce: self.number(),
        }
    }

    fn comparison(&mut self) -> Frame {
        match self.0.random_range(0..3) {
            0 => Frame::AskRows(AskRows {
                partition: self.small(),
                peer: self.number(),
                index: self.number(),
                version: self.0.random_range(0..2),
            }),
            1 => Frame::RowsDigest(self.digest()),
            _ => Frame::RowsDiffer(self.digest()),
        }
    }

    fn frame(&mut self) -> Frame {
        if self.0.random_range(0..8) == 0 {
            return self.comparison();
        }
        match self.0.random_range(0..21) {
            0 | 1 => Frame::Control(self.control()),
            2 | 3 => Frame::Raft(self.raft_messages()),
            4 => Frame::Call(self.call()),
            5 => Frame::Answer(self.answer()),
            6 => Frame::OutboxPush(OutboxPush {
                source: self.small(),
                source_epoch: self.number(),
                destination: self.small(),
                first: self.number(),
                messages: self.many(Self::envelope),
            }),
            7 => Frame::OutboxMark(OutboxMark {
                source: self.small(),
                source_epoch: self.0.random_range(0..2),
                destination: self.small(),
                through: self.0.random::<bool>().then(|| self.number()),
                hint: self.maybe_hint(),
            }),
            8 => Frame::SnapshotChunk(self.chunk()),
            9 => Frame::SnapshotAck(SnapshotAck {
                partition: self.small(),
                transfer: self.number(),
                next: self.number(),
                from_peer: self.number(),
            }),
            10 => Frame::Record(self.record()),
            11 => Frame::AskRoutes(AskRoutes {}),
            12 => Frame::Routes(Routes {
                hints: self.many(Self::hint),
            }),
            13 => Frame::AskReplica(AskReplica {
                partition: self.small(),
                peer: self.number(),
            }),
            14 => Frame::ReplicaStanding(ReplicaStanding {
                partition: self.small(),
                peer: self.number(),
                membership_index: self.number(),
                next_peer: self.number(),
            }),
            15 => Frame::Descriptor(self.descriptor()),
            16 => Frame::Hangup(Hangup {
                partition: self.small(),
                call: self.number(),
            }),
            17 => Frame::OrderAnswer(OrderAnswer {
                number: self.number(),
                stage: self.0.random_range(-1..5),
                code: self.small(),
                detail: String::new(),
            }),
            18 => Frame::AskSurvival(AskSurvival { node: self.node() }),
            19 => Frame::Survival(Survival {
                node: self.node(),
                survive: self.many(Self::small),
                depend: self.many(Self::small),
            }),
            // Orders that are known are obeyed; these are none.
            _ => Frame::Order(Order {
                kind: self.0.random_range(3..9),
                node: self.node(),
                number: self.number(),
            }),
        }
    }
}

#[test]
fn no_frame_ends_a_member() {
    for seed in 0..SEEDS {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        println!("seed {seed}");
        let mut node = OneNode::new(Origin::Founds);
        node.pass(Duration::from_secs(1));
        node.connect(PEER);
        let served = node.call(("account", "own"), "deposit", "5");
        assert!(matches!(served, Some(CallOutcome::Reply(_))), "{served:?}");
        for _ in 0..FRAMES {
            let frame = dice.frame();
            node.feed_only(Input::Frame { from: PEER, frame });
            if dice.0.random_range(0..8) == 0 {
                node.run();
            }
            if dice.0.random_range(0..30) == 0 {
                node.pass(Duration::from_millis(200));
            }
        }
        node.run();
        assert_eq!(node.halted, None, "seed {seed}");
        // What reached the log is applied again.
        let mut node = node.restart();
        node.pass(Duration::from_secs(5));
        assert_eq!(node.halted, None, "seed {seed}");
    }
}

#[test]
fn no_frame_ends_a_node_that_has_yet_to_join() {
    for seed in 0..SEEDS {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        println!("seed {seed}");
        let mut node = OneNode::new(Origin::Joins);
        node.connect(PEER);
        for _ in 0..FRAMES / 4 {
            let frame = dice.frame();
            node.frame(PEER, frame);
        }
        node.pass(Duration::from_secs(1));
        assert_eq!(node.halted, None, "seed {seed}");
    }
}

/// Each of these ended the process: some at once, one on every replica at every start.
#[test]
fn numbers_at_the_end_of_arithmetic_are_dropped() {
    let mut node = OneNode::new(Origin::Founds);
    node.pass(Duration::from_secs(1));
    node.connect(PEER);
    let actor = ActorKey::new("default", "account", "a").unwrap();
    let push = OutboxPush {
        source: 1,
        source_epoch: 0,
        destination: 0,
        first: u64::MAX,
        messages: vec![Envelope {
            actor: actor.to_bytes(),
            ..Envelope::default()
        }],
    };
    let mark = OutboxMark {
        source: 0,
        source_epoch: 0,
        destination: 1,
        through: Some(u64::MAX),
        hint: None,
    };
    let control = Control {
        wall_ms: 1 << 63,
        ..Control::default()
    };
    let beyond = Heartbeat {
        partition: 0,
        from: 77,
        to: 1,
        term: 1_000,
        commit: 1_000,
        context: Bytes::new(),
    };
    let heartbeat = Control {
        heartbeats: vec![beyond],
        ..Control::default()
    };
    for frame in [
        Frame::OutboxPush(push),
        Frame::OutboxMark(mark),
        Frame::Control(control),
        Frame::Control(heartbeat),
    ] {
        node.frame(PEER, frame);
        node.pass(Duration::from_secs(3));
        let mut again = node.restart();
        again.pass(Duration::from_secs(3));
        again.connect(PEER);
        node = again;
        let served = node.call(("account", "a"), "deposit", "5");
        assert!(matches!(served, Some(CallOutcome::Reply(_))), "{served:?}");
    }
}
