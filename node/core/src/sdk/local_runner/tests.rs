use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::Stamp;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::ids::{ActorVersion, PartitionId, Term};
use ghostlight_protocol::request::RequestId;

use super::*;
use crate::samples;
use crate::turn_io::FencingToken;

fn start(number: u64, actor_type: &str, method: &str, body: &'static str) -> TurnStart {
    TurnStart {
        metadata: Vec::new(),
        wakeup: None,
        turn: TurnId {
            activation: ActivationId {
                partition: PartitionId(0),
                term: Term(1),
                number: 1,
            },
            number,
        },
        actor: ActorKey::new("default", actor_type, "a").unwrap(),
        method: method.to_owned(),
        body: Bytes::from_static(body.as_bytes()),
        request: RequestId::Derived(1),
        stamp: Stamp {
            wall_ms: 0,
            seed: 0,
        },
        deadline: None,
        chain: Vec::new(),
        token: FencingToken {
            term: Term(1),
            base: ActorVersion(0),
        },
    }
}

struct Bench(LocalRunner);

impl Bench {
    fn new() -> Self {
        Self(LocalRunner::new(samples::registry()))
    }

    fn perform(&mut self, effect: RunnerEffect) -> Vec<RunnerInput> {
        let mut out = Vec::new();
        self.0.perform(Instant(1), effect, &mut out);
        out
    }
}

#[test]
fn a_turn_asks_is_told_and_ends() {
    let mut bench = Bench::new();
    let first = start(1, "counter", "add", "3");
    let turn = first.turn;
    let key = Bytes::from_static(b"self");
    let what = TurnAsk::Get { key };
    let asked = bench.perform(RunnerEffect::Run(first));
    assert_eq!(asked, [RunnerInput::Asked { turn, ask: 1, what }]);
    let told = TurnTold::Value(Some(Bytes::from_static(&[1, 1, 8])));
    let ended = bench.perform(RunnerEffect::Tell { turn, ask: 1, told });
    let [
        RunnerInput::Ended {
            end: TurnEnd::Ok { reply, writes, .. },
            ..
        },
    ] = &ended[..]
    else {
        panic!("{ended:?}");
    };
    assert_eq!((&reply[..], writes.len()), (&b"7"[..], 1));
    // The object stays: the next turn reads nothing.
    let ended = bench.perform(RunnerEffect::Run(start(2, "counter", "get", "")));
    assert!(
        matches!(&ended[..], [RunnerInput::Ended { end: TurnEnd::Ok { reply, .. }, .. }]
        if reply == "7")
    );
    // A reset one reads again.
    assert_eq!(bench.perform(RunnerEffect::Reset(turn.activation)), []);
    let asked = bench.perform(RunnerEffect::Run(start(3, "counter", "get", "")));
    assert!(matches!(asked[..], [RunnerInput::Asked { ask: 1, .. }]));
    // Answers to an earlier turn and to asks that never were change nothing.
    let told = TurnTold::Value(None);
    assert_eq!(
        bench.perform(RunnerEffect::Tell {
            turn,
            ask: 1,
            told: told.clone()
        }),
        []
    );
    let turn = start(3, "counter", "get", "").turn;
    assert_eq!(
        bench.perform(RunnerEffect::Tell {
            turn,
            ask: 9,
            told: told.clone()
        }),
        []
    );
    assert_eq!(bench.perform(RunnerEffect::Drop(turn.activation)), []);
    assert_eq!(bench.perform(RunnerEffect::Tell { turn, ask: 1, told }), []);
    assert!(bench.0.is_empty());
}

#[test]
fn rows_that_cannot_be_read_refuse_the_turn() {
    for (row, wanted) in [
        (&b""[..], "it is empty"),
        (&[9, 1, 8], "format 9 is unknown"),
        (&[1, 2, 8], "it has version 2, this program has 1"),
        (&[1, 1], "version 1 does not fit its type"),
        (&[1, 1, 8, 8], "1 bytes to spare"),
    ] {
        let mut bench = Bench::new();
        let first = start(1, "counter", "add", "3");
        let turn = first.turn;
        bench.perform(RunnerEffect::Run(first));
        let told = TurnTold::Value(Some(Bytes::from_static(row)));
        let ended = bench.perform(RunnerEffect::Tell { turn, ask: 1, told });
        let [
            RunnerInput::Ended {
                end: TurnEnd::Refused(refusal),
                ..
            },
        ] = &ended[..]
        else {
            panic!("{ended:?}");
        };
        assert_eq!(refusal.code, Code::Internal);
        assert!(refusal.detail.contains(wanted), "{}", refusal.detail);
    }
}

#[test]
fn a_deposed_turn_ends_without_going_on() {
    let mut bench = Bench::new();
    let first = start(1, "log", "read", "");
    let turn = first.turn;
    bench.perform(RunnerEffect::Run(first));
    let told = TurnTold::Value(Some(Bytes::from_static(&[1, 1, 5])));
    let asked = bench.perform(RunnerEffect::Tell { turn, ask: 1, told });
    assert!(matches!(asked[..], [RunnerInput::Asked { ask: 2, .. }]));
    let told = TurnTold::Deposed;
    let ended = bench.perform(RunnerEffect::Tell { turn, ask: 2, told });
    assert!(
        matches!(&ended[..], [RunnerInput::Ended { end: TurnEnd::Refused(r), .. }]
        if r.code == Code::LeaderMoved)
    );
}
