//! Makes inputs for the decoders out of what simulated nodes say and keep: of each shape of a
//! message one, the smallest. `make corpus` takes of them what reaches something new.
//!
//!     cargo run -p ghostlight-sim --example corpus -- FOLDER [SEEDS]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use ghostlight_decoders::{ALL, RowMessage, chunk_input, disk_input, join, row_input};
use ghostlight_protocol::family::Family;
use ghostlight_protocol::hash::hash64;
use ghostlight_protocol::wire::decode_frame;
use ghostlight_protocol::wire::frame::Frame;
use ghostlight_protocol::wire::hello::{Hello, PROTOCOL_VERSION};
use ghostlight_sim::{Cf, Params, SEC, Show, Spoken, World, form};
use prost::Message;

/// No input is longer.
const INPUT_BYTES_MAX: usize = 4_096;
/// Virtual time of work and faults in each seed.
const WORK: u64 = 15 * SEC;
/// Bytes of a record's checksum.
const CHECKSUM_BYTES: usize = 4;

/// Inputs by decoder and shape.
#[derive(Default)]
struct Corpus {
    inputs: BTreeMap<(&'static str, u64), Vec<u8>>,
    /// Entries of each log, by partition and index.
    logs: BTreeMap<(u32, u64), Bytes>,
    datagrams: Vec<Bytes>,
}

/// A message of the engine, as far as its entries are wanted.
#[derive(Clone, PartialEq, Message)]
struct EngineMessage {
    #[prost(message, repeated, tag = "7")]
    entries: Vec<EngineEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct EngineEntry {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
}

impl Corpus {
    /// Keeps an input, unless a smaller one of its shape is there.
    fn add(&mut self, decoder: &'static str, shape: u64, input: Vec<u8>) {
        if input.len() > INPUT_BYTES_MAX {
            return;
        }
        let kept = self
            .inputs
            .entry((decoder, shape))
            .or_insert_with(|| input.clone());
        if input.len() < kept.len() {
            *kept = input;
        }
    }

    fn hear(&mut self, spoken: Spoken<'_>) {
        match spoken {
            Spoken::Frame(bytes) => self.frame(bytes),
            Spoken::Datagram(bytes) => self.datagrams.push(Bytes::copy_from_slice(bytes)),
        }
    }

    fn frame(&mut self, bytes: &[u8]) {
        let message = &bytes[4..];
        let shape = shape(message);
        self.add("frame", shape, message.to_vec());
        self.add("lane", shape % 8, bytes.to_vec());
        let frame = decode_frame(Bytes::copy_from_slice(message));
        match frame.expect("a frame of ours") {
            Some(Frame::Raft(raft)) => {
                for message in raft.messages {
                    self.engine(message.partition, &message.message);
                }
            }
            Some(Frame::Record(record)) => {
                let hello = Hello {
                    protocol: PROTOCOL_VERSION,
                    node: Some(record),
                    ..Hello::default()
                };
                self.add("hello", shape, hello.encode_to_vec());
            }
            Some(Frame::Descriptor(descriptor)) => {
                let hello = Hello {
                    protocol: PROTOCOL_VERSION,
                    cluster: Some(descriptor),
                    ..Hello::default()
                };
                self.add("hello", shape, hello.encode_to_vec());
            }
            _ => {}
        }
    }

    fn engine(&mut self, partition: u32, bytes: &[u8]) {
        self.add("engine", shape(bytes), bytes.to_vec());
        let message = EngineMessage::decode(bytes).expect("a message of the engine");
        for entry in message.entries {
            if entry.kind == 0 && !entry.data.is_empty() {
                self.add("command", shape(&entry.data), entry.data.to_vec());
                self.logs.insert((partition, entry.index), entry.data);
            }
        }
    }

    /// What was gathered over a seed, put together.
    fn end_of_seed(&mut self, world: &World) {
        for log in std::mem::take(&mut self.logs)
            .into_values()
            .collect::<Vec<_>>()
            .chunks(8)
        {
            let shapes: BTreeSet<u64> = log.iter().map(|entry| shape(entry)).collect();
            let shapes: Vec<u8> = shapes.iter().flat_map(|s| s.to_be_bytes()).collect();
            self.add("apply", hash64(b'L', &shapes), join(log));
        }
        for said in std::mem::take(&mut self.datagrams).chunks(3) {
            let lengths: Vec<u8> = said.iter().map(|data| data.len() as u8).collect();
            self.add("gossip", hash64(b'G', &lengths), join(said));
        }
        let Ok(kept) = world.kept(600) else {
            return;
        };
        for (family, key, value) in &kept.rows {
            let lengths = [*family as u8, key.len() as u8];
            self.add("key", hash64(b'K', &lengths), key.to_vec());
            if let Some(kind) = message_of(*family) {
                let shape = shape(value) ^ family_shape(*family);
                self.add("row", shape, row_input(kind, value));
            }
        }
        for (at, chunks) in &kept.snapshots {
            // Its beginning is a snapshot as well: nothing says how many chunks there are, but who
            // sends them.
            let mut room = INPUT_BYTES_MAX / 2;
            let chunks: Vec<&[u8]> = chunks
                .iter()
                .map(AsRef::as_ref)
                .take_while(|chunk: &&[u8]| {
                    let fits = room >= chunk.len();
                    room = room.saturating_sub(chunk.len());
                    fits
                })
                .collect();
            let input = chunk_input(*at, &chunks);
            self.add("chunk", input.len() as u64 / 64, input);
        }
        for records in kept.records.chunks(6) {
            let records: Vec<(Cf, &[u8], &[u8])> = records
                .iter()
                .map(|(cf, key, value)| {
                    let payload = &value[..value.len() - CHECKSUM_BYTES];
                    (*cf, &key[..key.len().min(255)], payload)
                })
                .collect();
            let places: Vec<u8> = records
                .iter()
                .flat_map(|(cf, key, _)| [*cf as u8, key.len() as u8])
                .collect();
            self.add("disk", hash64(b'D', &places), disk_input(&records));
        }
    }
}

fn message_of(family: Family) -> Option<RowMessage> {
    Some(match family {
        Family::Partition => RowMessage::Partition,
        Family::Dedup => RowMessage::Dedup,
        Family::Session => RowMessage::Session,
        Family::Outbox | Family::Inbox => RowMessage::Envelope,
        Family::DeadLetter => RowMessage::DeadLetter,
        Family::Schedule => RowMessage::Schedule,
        Family::Topic => RowMessage::Topic,
        Family::TopicBatch => RowMessage::Batch,
        Family::Group => RowMessage::Group,
        Family::TopicLetter => RowMessage::Letter,
        Family::State
        | Family::Version
        | Family::Mark
        | Family::Fact
        | Family::Due
        | Family::EventName => return None,
    })
}

fn family_shape(family: Family) -> u64 {
    hash64(b'F', &[family as u8])
}

/// What a message looks like: which fields it has, and roughly how large they are.
fn shape(message: &[u8]) -> u64 {
    let mut seen = BTreeSet::new();
    fields(message, 0, &mut seen);
    let text: Vec<u8> = seen
        .iter()
        .flat_map(|field: &u64| field.to_be_bytes())
        .collect();
    hash64(b'S', &text)
}

/// Takes the fields of a message, and of messages in it, as far as it looks like one.
fn fields(mut rest: &[u8], path: u64, seen: &mut BTreeSet<u64>) -> bool {
    while !rest.is_empty() {
        let Some(tag) = varint(&mut rest) else {
            return false;
        };
        let here = hash64(b'P', &[path.to_be_bytes(), tag.to_be_bytes()].concat());
        match tag & 7 {
            0 => {
                let Some(value) = varint(&mut rest) else {
                    return false;
                };
                seen.insert(here ^ u64::from(value > 1));
            }
            2 => {
                let length = varint(&mut rest).and_then(|n| usize::try_from(n).ok());
                let Some(length) = length.filter(|length| *length <= rest.len()) else {
                    return false;
                };
                let (inner, after) = rest.split_at(length);
                rest = after;
                let mut within = BTreeSet::new();
                if fields(inner, here, &mut within) {
                    seen.extend(within);
                }
                seen.insert(here ^ u64::from(length > 0));
            }
            _ => return false,
        }
    }
    true
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(rest).ok()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder for the inputs");
    let seeds = arguments
        .next()
        .map_or(6, |text| text.parse().expect("a number"));
    let corpus = Rc::new(RefCell::new(Corpus::default()));
    for decoder in ALL {
        for (number, input) in (decoder.valid)().into_iter().enumerate() {
            corpus.borrow_mut().add(decoder.name, number as u64, input);
        }
    }
    for seed in 1..=seeds {
        let mut world = World::new(Params::draw(seed), Show::Nothing);
        let listening = Rc::clone(&corpus);
        world.listen(Box::new(move |spoken| listening.borrow_mut().hear(spoken)));
        form(&mut world).expect("it forms");
        world.begin_work();
        world.begin_faults();
        let end = world.now() + WORK;
        world.run_until(end);
        corpus.borrow_mut().end_of_seed(&world);
    }
    for ((decoder, shape), input) in &corpus.borrow().inputs {
        let folder = Path::new(&folder).join(decoder);
        std::fs::create_dir_all(&folder).expect("a folder for the decoder");
        std::fs::write(folder.join(format!("{shape:016x}")), input).expect("an input is written");
    }
}
