//! Every decoder of the pure crates, fed with anything: noise, messages of ours that are cut, changed or glued
//! together. None may panic, none may keep more memory than its limit, and what is decoded is encoded the same again.
//!
//! Of the seed `SEED` (else 1) on, `CASES` (else 3,000; `GHOSTLIGHT_CHAOS=long`: 300,000) inputs for each decoder.
//! Decoders of the shell, of configuration and of HTTP, are tested where they live.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use ghostlight_core::ephemeral::TopicKey;
use ghostlight_core::replica::{Peek, peek};
use ghostlight_placement::membership::{
    Effect, GOSSIP_BYTES_MAX, Identity, Input, Membership, Settings,
};
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::calendar::parse_rfc3339;
use ghostlight_protocol::command::{
    Accept, Command, DeadLetter, DedupRecord, Envelope, Facts, Kind, RequestRecord, ScheduleKind,
    ScheduleRow, SessionRow, TurnCommit, Turns,
};
use ghostlight_protocol::family::{self, DueKind, Family};
use ghostlight_protocol::ids::{ClusterId, Generation, NodeId, PartitionId, PeerId};
use ghostlight_protocol::limits::FRAME_BYTES_MAX;
use ghostlight_protocol::partition_row::PartitionRow;
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::schedule::{self, Signed, Texts, parse_go};
use ghostlight_protocol::time::{Age, Instant, WallTime};
use ghostlight_protocol::topic::{
    DeadTopicLetter, GroupRow, TopicBatch, TopicPartition, TopicReply, TopicRequest, TopicRow,
};
use ghostlight_protocol::wire::frame::{AskReplica, Control, RaftMessages};
use ghostlight_protocol::wire::hello::new_descriptor;
use ghostlight_protocol::wire::topic::TopicFrame;
use ghostlight_protocol::wire::{
    Frame, FrameDecoder, Hello, NodeFrame, border, decode_frame, encode_frame, frame_bytes,
};
use ghostlight_report::Row;
use ghostlight_storage::{MemoryDisk, NodeIdentity, Staged, Store};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Longest input.
const INPUT_BYTES_MAX: usize = 2_048;

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

fn cases() -> u64 {
    let is_long = std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|kind| kind == "long");
    number("CASES", if is_long { 300_000 } else { 3_000 })
}

/// One input: noise, or something that was valid once.
fn input(dice: &mut ChaCha8Rng, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = match valid.get(dice.random_range(0..=valid.len())) {
        Some(whole) => whole.clone(),
        None => {
            let length = dice.random_range(0..64);
            (0..length).map(|_| dice.random()).collect()
        }
    };
    for _ in 0..dice.random_range(0..4_usize) {
        match dice.random_range(0..4) {
            0 if !bytes.is_empty() => {
                let at = dice.random_range(0..bytes.len());
                bytes[at] = dice.random();
            }
            1 => bytes.truncate(dice.random_range(0..=bytes.len())),
            // Numbers that are as large as can be, where lengths and counts stand.
            2 => {
                let at = dice.random_range(0..=bytes.len());
                bytes.splice(at..at, [0xff; 9]);
            }
            _ => {
                let other = &valid[dice.random_range(0..valid.len())];
                bytes.extend_from_slice(other);
            }
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

/// Feeds a decoder; the line that repeats what it could not take.
#[track_caller]
fn feed(what: &str, valid: &[Vec<u8>], mut decode: impl FnMut(&[u8])) {
    let seed = number("SEED", 1);
    let count = if std::env::var("SEED").is_ok() {
        1
    } else {
        cases()
    };
    for seed in seed..seed + count {
        let bytes = input(&mut ChaCha8Rng::seed_from_u64(seed), valid);
        if catch_unwind(AssertUnwindSafe(|| decode(&bytes))).is_err() {
            panic!(
                "{what} cannot take {bytes:?}: SEED={seed} cargo test -p ghostlight-sim --test decoders"
            );
        }
    }
    println!("{what}: {count} inputs");
    Row::promise(
        21,
        &format!("inputs that {what} could not take"),
        0.0,
        "inputs",
        0.0,
    )
    .tested(&format!("{count} inputs of noise and of damaged messages"))
    .append();
}

/// Whatever decodes is the same when it is encoded and decoded again.
#[track_caller]
fn messages<M: Message + Default + PartialEq>(what: &str, valid: &[M]) {
    let valid: Vec<Vec<u8>> = valid.iter().map(Message::encode_to_vec).collect();
    for bytes in &valid {
        let whole = M::decode(&bytes[..]).expect("a message of ours");
        assert_eq!(whole.encode_to_vec(), *bytes, "{what}: a round trip");
    }
    feed(what, &valid, |bytes| {
        if let Ok(message) = M::decode(bytes) {
            let again = M::decode(&message.encode_to_vec()[..]).expect("what we encode");
            assert!(again == message, "{what}: it changes");
        }
    });
}

fn turn() -> TurnCommit {
    TurnCommit {
        actor: key().to_bytes(),
        request: Some(RequestRecord {
            id: Bytes::from_static(b"\x01one"),
            ..RequestRecord::default()
        }),
        base_version: 7,
        inbox_sequence: 3,
        ..TurnCommit::default()
    }
}

fn key() -> ActorKey {
    ActorKey::new("default", "log", "l1").expect("a name")
}

#[test]
fn commands() {
    let turns = Turns {
        turns: vec![turn(), turn()],
    };
    let accept = Accept {
        source: 3,
        first: 9,
        messages: vec![Envelope {
            actor: key().to_bytes(),
            method: "add".to_owned(),
            body: Bytes::from_static(b"1"),
            ..Envelope::default()
        }],
        ..Accept::default()
    };
    let command = |kind| Command {
        leader_term: 5,
        age_step_ms: 50,
        wall_ms: 1_700_000_000_000,
        kind: Some(kind),
    };
    messages(
        "commands",
        &[
            command(Kind::Turns(turns)),
            command(Kind::Accept(accept)),
            command(Kind::Facts(Facts::default())),
        ],
    );
}

#[test]
fn rows() {
    messages("records of requests", &[DedupRecord::default()]);
    messages("sessions", &[SessionRow::default()]);
    messages("dead letters", &[DeadLetter::default()]);
    messages("schedules", &[ScheduleRow::default()]);
    messages(
        "partition rows",
        &[PartitionRow {
            applied_index: 9,
            state_chain: vec![1; 16],
            ..PartitionRow::default()
        }],
    );
    messages(
        "topics",
        &[TopicRow {
            next: 8,
            ..TopicRow::default()
        }],
    );
    messages(
        "groups",
        &[GroupRow {
            floor: 8,
            ..GroupRow::default()
        }],
    );
    messages(
        "batches",
        &[TopicBatch {
            base: 8,
            ..TopicBatch::default()
        }],
    );
    messages("letters of topics", &[DeadTopicLetter::default()]);
    messages("requests to topics", &[TopicRequest::default()]);
    messages("answers of topics", &[TopicReply::default()]);
}

#[test]
fn words_between_nodes() {
    messages("greetings", &[Hello::default()]);
    messages("frames about topics", &[TopicFrame::default()]);
    let frame = |frame| NodeFrame { frame: Some(frame) };
    messages(
        "frames",
        &[
            frame(Frame::Control(Control::default())),
            frame(Frame::Raft(RaftMessages::default())),
            frame(Frame::AskReplica(AskReplica {
                partition: 3,
                peer: 4,
            })),
        ],
    );
}

/// A frame of ours.
fn frames() -> Vec<Vec<u8>> {
    let frames = [
        Frame::AskReplica(AskReplica {
            partition: 3,
            peer: 4,
        }),
        Frame::Control(Control::default()),
        Frame::Topic(TopicFrame::default()),
    ];
    let encoded = frames.iter().map(|frame| {
        let mut bytes = Vec::new();
        encode_frame(frame, frame_bytes(frame), &mut bytes);
        bytes
    });
    encoded.collect()
}

#[test]
fn the_stream_of_a_lane() {
    let mut buffered = 0;
    feed("the stream of a lane", &frames(), |bytes| {
        let mut decoder = FrameDecoder::default();
        for part in bytes.chunks(7) {
            decoder.space()[..part.len()].copy_from_slice(part);
            decoder.filled(part.len());
            loop {
                match decoder.next_item() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            buffered = buffered.max(decoder.space().len());
        }
    });
    // One frame that was begun, and room to read on.
    assert!(buffered <= 2 * FRAME_BYTES_MAX, "{buffered} bytes are kept");
}

#[test]
fn frames_that_stand_alone_and_the_border() {
    let valid: Vec<Vec<u8>> = frames().iter().map(|frame| frame[4..].to_vec()).collect();
    feed("frames that stand alone", &valid, |bytes| {
        if let Ok(Some(frame)) = decode_frame(Bytes::copy_from_slice(bytes)) {
            drop(border::check(&frame));
        }
    });
}

#[test]
fn messages_of_the_engine() {
    // To 2, from 1, in term 3; an entry; a commit.
    let heartbeat = vec![0x08, 8, 0x10, 2, 0x18, 1, 0x20, 3, 0x40, 5];
    let append = vec![
        0x08, 3, 0x10, 2, 0x18, 1, 0x20, 3, 0x3a, 4, 0x10, 3, 0x18, 1,
    ];
    feed("messages of the engine", &[heartbeat, append], |bytes| {
        let _: Option<Peek> = peek(bytes);
    });
}

#[test]
fn names_and_ids() {
    let topic = ghostlight_protocol::topic::TopicName::new("default", "pubsub", "a:b/c%")
        .expect("a name")
        .partition(3)
        .key();
    let valid = [key().as_bytes().to_vec(), topic.as_bytes().to_vec()];
    feed("keys of actors", &valid, |bytes| {
        if let Ok(key) = ActorKey::parse(Bytes::copy_from_slice(bytes)) {
            assert_eq!(key.as_bytes(), bytes, "a key is its bytes");
            let again = TopicPartition::of_key(&key).map(|topic| topic.key());
            assert!(again.is_none_or(|again| again == key), "{key:?}");
        }
    });
    let ids = [b"\x01one".to_vec(), vec![0; 34]];
    feed("request ids", &ids, |bytes| {
        if let Some(id) = RequestId::parse(bytes) {
            assert_eq!(&id.to_bytes()[..], bytes, "{id:?}");
        }
    });
    let times = [
        b"2026-11-27T21:00:00Z".to_vec(),
        b"2026-11-27T21:00:00.5+01:30".to_vec(),
    ];
    feed("times", &times, |bytes| {
        let _: Option<WallTime> = parse_rfc3339(&String::from_utf8_lossy(bytes));
    });
}

#[test]
fn keys_of_rows() {
    let topic = ghostlight_protocol::topic::TopicName::new("default", "pubsub", "orders")
        .expect("a name")
        .partition(3)
        .key();
    let schedule = family::schedule_key(&key(), ScheduleKind::Reminder, "tea");
    let valid = [
        schedule.to_vec(),
        family::group_key(&topic, "g0").to_vec(),
        family::letter_key(&topic, "g0", 9).to_vec(),
        family::due_key(Age(7), b"record").to_vec(),
        family::due_row_key(DueKind::Reminder, 7, b"about").to_vec(),
        family::outbox_key(PartitionId(3), 9).to_vec(),
        family::inbox_key(9).to_vec(),
    ];
    feed("keys of rows", &valid, |bytes| {
        let bytes = Bytes::copy_from_slice(bytes);
        if let Some((actor, kind, name)) = family::parse_schedule_key(&bytes) {
            assert_eq!(family::schedule_key(&actor, kind, &name), bytes);
        }
        if let Some((topic, group)) = family::parse_group_key(&bytes) {
            assert_eq!(family::group_key(&topic, &group), bytes);
        }
        if let Some((topic, group, offset)) = family::parse_letter_key(&bytes) {
            assert_eq!(family::letter_key(&topic, &group, offset), bytes);
        }
        if let Some((due, record)) = family::parse_due_key(&bytes) {
            assert_eq!(family::due_key(due, &record), bytes);
        }
        if let Some((to, sequence)) = family::parse_outbox_key(&bytes) {
            assert_eq!(family::outbox_key(to, sequence), bytes);
        }
        if let Some(sequence) = family::parse_inbox_key(&bytes) {
            assert_eq!(family::inbox_key(sequence), bytes);
        }
        let _: Option<(u64, Bytes)> = family::parse_due_row_key(&bytes);
        let _: Option<(TopicKey, _)> = TopicKey::parse(bytes);
    });
}

/// Texts that applications give: due times, periods, and ids as they print.
#[test]
fn texts() {
    let texts = [
        "1h2m3.5s",
        "-3ms",
        "R3/P1Y2M3W4DT5H6M7S",
        "PT1.5S",
        "@every 1h",
        "2026-11-27T21:00:00Z",
    ];
    let valid: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    feed("texts of schedules", &valid, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let now = WallTime(1_700_000_000_000);
        let _: Option<Signed> = parse_go(&text);
        let texts = Texts {
            due_time: &text,
            period: &text,
            ttl: &text,
        };
        for kind in [schedule::Kind::Reminder, schedule::Kind::Timer] {
            drop(schedule::Schedule::parse(kind, "tea", texts, now));
        }
    });
    let ids = [format!("{:?}", NodeId(7)).into_bytes()];
    feed("ids as they print", &ids, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Some(id) = NodeId::parse(&text) {
            assert_eq!(NodeId::parse(&format!("{id:?}")), Some(id));
        }
    });
}

/// Chunks of snapshots, with checksums that are right: what is in them is looked at, too.
#[test]
fn chunks_of_snapshots() {
    let (mut store, _) = Store::open(MemoryDisk::new(1).open()).expect("an empty store opens");
    let mut identity = NodeIdentity::new(NodeId(1), "n1");
    identity.cluster = Some(new_descriptor(ClusterId(7), NodeId(1), 1, 3));
    store.found(1, &identity).expect("founding");
    let row = |family: Family, key: &[u8], value: &[u8]| {
        let lengths = [key.len() as u32, value.len() as u32].map(u32::to_be_bytes);
        [&[family as u8][..], &lengths[0], &lengths[1], key, value].concat()
    };
    let rows = [
        row(Family::State, b"k", b"value"),
        row(Family::Inbox, b"", b""),
    ]
    .concat();
    let chunk = [&[1, 0, 0, 0, 0][..], &[0; 8], &[0, 0, 0, 2], &rows].concat();
    let mut transfer = 0;
    let mut taken = 0;
    feed("chunks of snapshots", &[chunk], |bytes| {
        let mut chunk = bytes.to_vec();
        if chunk.len() > 5 {
            let sum = crc32fast::hash(&chunk[5..]);
            chunk[1..5].copy_from_slice(&sum.to_be_bytes());
        }
        transfer += 1;
        let staged = store.stage_chunk(PartitionId(0), PeerId(1), transfer, 0, chunk.into());
        taken += u64::from(matches!(staged, Ok(Staged::Taken { .. })));
    });
    assert!(taken > 0 || std::env::var("SEED").is_ok(), "none was whole");
}

/// A member that is fed anything stays a member, and says nothing that is too long.
#[test]
fn gossip() {
    let identity = |node: u128| {
        let address = format!("10.0.0.{node}:7400").parse().expect("an address");
        Identity::new(NodeId(node), address, Generation(1))
    };
    let now = Instant(1_000_000_000);
    let fresh = |node| Membership::new(identity(node), Settings::default(), 7);
    let (mut one, mut out) = (fresh(1), Vec::new());
    one.handle(now, Input::Meet(identity(2)), &mut out);
    let valid: Vec<Vec<u8>> = out
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Send { data, .. } => Some(data.to_vec()),
            _ => None,
        })
        .collect();
    assert!(!valid.is_empty(), "it announces itself");
    let mut two = fresh(2);
    feed("gossip", &valid, |bytes| {
        let mut out = Vec::new();
        let data = Bytes::copy_from_slice(bytes);
        two.handle(now, Input::Datagram(data), &mut out);
        for effect in out {
            if let Effect::Send { data, .. } = effect {
                assert!(data.len() <= GOSSIP_BYTES_MAX, "{} bytes", data.len());
            }
        }
    });
}
