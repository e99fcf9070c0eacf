//! Whole node cores in one thread: what no part of a core can be tested for alone.

pub(super) mod bench;
mod ending;
mod hosts;
mod leading;
mod losses;
mod many;
mod moves;
mod reminders;
mod removal;
mod snapshots;
mod topics;

use std::collections::BTreeSet;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{AnswerKind, CallAnswer, CallRequest, Stamp};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{Generation, PartitionId, Term};
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::request::{RequestId, Session};
use ghostlight_protocol::wire::frame::Frame;

use self::bench::{Bench, Sent, Speed, node_id};

const P: PartitionId = PartitionId(0);

fn counter() -> ActorKey {
    ActorKey::new("default", "counter", "c").expect("a valid name")
}

/// The actors of every node.
pub(super) fn registry() -> crate::sdk::ActorRegistry {
    crate::samples::registry().with::<reminders::Alarm>()
}

/// A call as the gateway of another node sends it.
pub(super) fn request(
    call: u64,
    method: &str,
    body: &'static [u8],
    remaining_ms: u64,
) -> CallRequest {
    let session = Session {
        gateway: node_id(9),
        generation: Generation(1),
    };
    let id = RequestId::Session {
        session,
        sequence: call,
    };
    CallRequest {
        call: call << 12,
        partition: 0,
        request_id: id.to_bytes(),
        actor: counter().to_bytes(),
        method: method.to_owned(),
        body: Bytes::from_static(body),
        remaining_ms,
        attempt: 1,
        stamp: Some(Stamp {
            wall_ms: 1,
            seed: 2,
        }),
        ..CallRequest::default()
    }
}

fn answers(sent: &[Sent]) -> Vec<&CallAnswer> {
    sent.iter()
        .filter_map(|sent| match &sent.frame {
            Frame::Answer(answer) => Some(answer),
            _ => None,
        })
        .collect()
}

fn refusal(answer: &CallAnswer) -> Code {
    match &answer.kind {
        Some(AnswerKind::NotRun(refusal)) => {
            Code::from_number(refusal.code as u16).expect("a code of ours")
        }
        other => panic!("{other:?}"),
    }
}
