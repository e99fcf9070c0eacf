//! A partition in a map, whose log time passes by hand.

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::{
    Accept, AppValue, Command, DeadLetterReason, Envelope, InboxFailed, Kind, RequestRecord,
    StateWrite, TurnCommit, TurnKind, Turns as TurnsCommand,
};
use ghostlight_protocol::ids::{Generation, LogIndex, LogPosition, NodeId, Term};
use ghostlight_protocol::limits::DERIVED_AGE_MAX;
use ghostlight_protocol::outcome::TurnAnswer;
use ghostlight_protocol::partition_row::{Kept, PartitionRow};
use ghostlight_protocol::replica::apply_command;
use ghostlight_protocol::request::{RequestId, Session};

use super::*;
use crate::map_rows::MapRows;

const P0: PartitionId = PartitionId(0);
const TERM: Term = Term(6);
/// Far from every log age: whatever looks at the wrong one of the two times fails.
const WALL: WallTime = WallTime(1 << 60);

struct Bench {
    now: Instant,
    rows: MapRows,
    row: PartitionRow,
    expiry: Expiry,
    /// `Expire` commands proposed.
    proposed: u32,
    reads: u32,
    /// The store gives no more rows at once, whatever is asked for.
    page_rows: usize,
    /// What the calendar says.
    wall: WallTime,
}

impl Bench {
    fn new() -> Self {
        Self {
            now: Instant(0),
            rows: MapRows::default(),
            row: PartitionRow::founded(NodeId(1)),
            expiry: Expiry::new(P0, Instant(0)),
            proposed: 0,
            reads: 0,
            page_rows: usize::MAX,
            wall: WALL,
        }
    }

    fn apply(&mut self, age_step_ms: u64, kind: Option<Kind>) {
        let command = Command {
            leader_term: TERM.0,
            age_step_ms,
            wall_ms: self.wall.0,
            kind,
        };
        let at = LogPosition {
            term: TERM,
            index: LogIndex(self.row.applied_index + 1),
        };
        let data = command.encode_to_vec();
        apply_command(P0, &mut self.rows, &mut self.row, at, &data).expect("a map never fails");
    }

    fn record(&mut self, id: &RequestId) {
        let turn = TurnCommit {
            actor: ActorKey::new("default", "counter", "a").unwrap().to_bytes(),
            kind: TurnKind::RecordOnly as i32,
            request: Some(RequestRecord {
                id: id.to_bytes(),
                digest: vec![1; 16].into(),
                ..RequestRecord::default()
            }),
            answer: Some(TurnAnswer::reply(Bytes::from_static(b"r"))),
            ..TurnCommit::default()
        };
        let turns = TurnsCommand { turns: vec![turn] };
        self.apply(0, Some(Kind::Turns(turns)));
    }

    /// Log time and the node's time pass together.
    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.apply(time.as_millis() as u64, None);
    }

    fn feed(&mut self, input: ExpiryInput) -> Vec<ExpiryEffect> {
        let mut out = Vec::new();
        let times = Times {
            age: Age(self.row.age_ms),
            wall: self.wall,
        };
        self.expiry.handle(self.now, times, input, &mut out);
        out
    }

    /// One sweep, to its end.
    fn sweep(&mut self) {
        self.now = self.now + SWEEP_PAUSE;
        let mut out = self.feed(ExpiryInput::Tick);
        assert_eq!(out.len(), 1, "a sweep begins with a read");
        while let Some(effect) = out.pop() {
            assert_eq!(out, [], "one thing at a time");
            out = match effect {
                ExpiryEffect::Read(rows) => {
                    self.reads += 1;
                    let input = self.read(&rows);
                    self.feed(input)
                }
                ExpiryEffect::Propose(expire) => {
                    self.proposed += 1;
                    let entry = expire.encoded_len();
                    assert!(
                        entry < ghostlight_protocol::limits::ENTRY_BYTES_MAX / 2,
                        "{entry}"
                    );
                    self.apply(0, Some(Kind::Expire(expire)));
                    self.feed(ExpiryInput::Applied)
                }
            };
        }
    }

    fn read(&self, wanted: &RowsWanted) -> ExpiryInput {
        assert!(
            matches!(wanted, RowsWanted::Scan { .. }),
            "only scans: {wanted:?}"
        );
        let (rows, rest) = self.rows.read(wanted, self.page_rows, usize::MAX);
        let rows = rows
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        ExpiryInput::Rows {
            rows: rows.collect(),
            rest,
        }
    }

    fn count(&self, family: Family) -> usize {
        self.rows.count(family)
    }
}

fn session(generation: u64) -> Session {
    Session {
        gateway: NodeId(9),
        generation: Generation(generation),
    }
}

fn sequence(generation: u64, sequence: u64) -> RequestId {
    let session = session(generation);
    RequestId::Session { session, sequence }
}

#[test]
fn records_go_when_they_are_over_their_age_and_not_before() {
    let second = Duration::from_secs(1);
    for (id, limit) in [
        (RequestId::outside(b"order-7").unwrap(), DEDUP_AGE_MAX),
        (RequestId::Derived(7), DERIVED_AGE_MAX),
    ] {
        let mut bench = Bench::new();
        bench.pass(second);
        bench.record(&id);
        bench.pass(limit - second);
        bench.sweep();
        assert_eq!(
            (bench.count(Family::Dedup), bench.proposed),
            (2, 0),
            "{id:?}"
        );
        bench.pass(second);
        bench.sweep();
        assert_eq!(
            (bench.count(Family::Dedup), bench.proposed),
            (0, 1),
            "{id:?}"
        );
        assert_eq!(bench.row.dedup_bytes, 0);
    }
}

#[test]
fn the_nodes_own_time_expires_nothing() {
    let mut bench = Bench::new();
    bench.record(&RequestId::Derived(7));
    bench.record(&sequence(1, 1));
    bench.now = bench.now + 100 * DEDUP_AGE_MAX;
    bench.sweep();
    assert_eq!(bench.proposed, 0);
}

#[test]
fn many_records_go_in_bounded_entries_and_none_is_looked_at_before_its_time() {
    let mut bench = Bench::new();
    let many = 2 * RECORDS_MAX as u128 + 7;
    for n in 0..many {
        bench.record(&RequestId::Derived(n));
    }
    bench.pass(DERIVED_AGE_MAX);
    for n in 0..many {
        bench.record(&RequestId::Derived(many + n));
    }
    bench.sweep();
    assert_eq!(
        bench.count(Family::Dedup),
        2 * many as usize,
        "the young stay"
    );
    assert_eq!(
        (bench.proposed, bench.reads),
        (3, 6),
        "three pages, the sessions, the dead letters, and the values"
    );
}

#[test]
fn an_idle_session_goes_with_all_its_records() {
    let mut bench = Bench::new();
    let many = RECORDS_MAX as u64 + 3;
    for n in 1..=many {
        bench.record(&sequence(1, n));
    }
    bench.pass(DEDUP_AGE_MAX - Duration::from_secs(60));
    bench.record(&sequence(2, 1));
    bench.sweep();
    assert_eq!(bench.proposed, 0);
    bench.pass(Duration::from_secs(60));
    bench.sweep();
    let left = bench.rows.0.keys().filter(|(f, _)| *f == Family::Session);
    let left: Vec<Bytes> = left.map(|(_, key)| key.clone()).collect();
    assert_eq!(left, [family::session_key(session(2))]);
    assert_eq!(bench.count(Family::Dedup), 1, "that of the other session");
    assert_eq!(bench.proposed, 2);
}

#[test]
fn pages_that_the_store_cuts_short_are_not_the_end() {
    let mut bench = Bench::new();
    bench.page_rows = 3;
    for n in 1..=20 {
        bench.record(&sequence(1 + n % 4, n));
        bench.record(&RequestId::Derived(u128::from(n)));
    }
    bench.pass(DEDUP_AGE_MAX);
    bench.sweep();
    assert_eq!(
        (bench.count(Family::Session), bench.count(Family::Dedup)),
        (0, 0)
    );
}

#[test]
fn every_idle_session_goes_however_many_there_are() {
    let mut bench = Bench::new();
    let many = 2 * SESSIONS_PAGE as u64 + 5;
    for generation in 1..=many {
        bench.record(&sequence(generation, 1));
    }
    bench.pass(DEDUP_AGE_MAX);
    bench.sweep();
    assert_eq!(
        (bench.count(Family::Session), bench.count(Family::Dedup)),
        (0, 0)
    );
    assert_eq!(bench.row.dedup_bytes, 0);
}

#[test]
fn a_session_used_again_while_it_is_swept_stays() {
    let mut bench = Bench::new();
    bench.page_rows = 100;
    for n in 1..=RECORDS_MAX as u64 {
        bench.record(&sequence(1, n));
    }
    bench.pass(DEDUP_AGE_MAX);
    bench.now = bench.now + SWEEP_PAUSE;
    let mut out = bench.feed(ExpiryInput::Tick);
    let mut steps = 0;
    while let Some(effect) = out.pop() {
        steps += 1;
        assert!(steps < 10, "it does not go round in circles");
        out = match effect {
            ExpiryEffect::Read(rows) => {
                let input = bench.read(&rows);
                bench.feed(input)
            }
            ExpiryEffect::Propose(expire) => {
                // The gateway comes back between the read and the apply.
                bench.record(&sequence(1, RECORDS_MAX as u64 + 1));
                bench.apply(0, Some(Kind::Expire(expire)));
                bench.feed(ExpiryInput::Applied)
            }
        };
    }
    assert_eq!(bench.count(Family::Session), 1);
    assert_eq!(bench.count(Family::Dedup), RECORDS_MAX + 1);
}

#[test]
fn a_refused_proposal_is_made_again() {
    let mut bench = Bench::new();
    bench.record(&RequestId::Derived(7));
    bench.pass(DERIVED_AGE_MAX);
    bench.now = bench.now + SWEEP_PAUSE;
    let out = bench.feed(ExpiryInput::Tick);
    let [ExpiryEffect::Read(rows)] = &out[..] else {
        panic!("{out:?}");
    };
    let input = bench.read(rows);
    let out = bench.feed(input);
    assert!(matches!(out[..], [ExpiryEffect::Propose(_)]));
    assert_eq!(bench.feed(ExpiryInput::Dropped), []);
    assert_eq!(bench.feed(ExpiryInput::Tick), [], "not at once");
    bench.sweep();
    assert_eq!((bench.count(Family::Dedup), bench.proposed), (0, 1));
}

#[test]
fn dead_letters_go_after_a_week_of_log_time() {
    let mut bench = Bench::new();
    let many = 2 * LETTERS_PAGE as u64 + 5;
    let die = |bench: &mut Bench, first: u64, count: u64| {
        let messages = (0..count).map(|_| Envelope::default()).collect();
        let before = bench.row.inbox_next;
        bench.apply(
            0,
            Some(Kind::Accept(Accept {
                source: 0,
                source_epoch: 0,
                first,
                messages,
            })),
        );
        for inbox_sequence in before..before + count {
            let dead_letter = Some(DeadLetterReason::default());
            bench.apply(
                0,
                Some(Kind::InboxFailed(InboxFailed {
                    inbox_sequence,
                    dead_letter,
                })),
            );
        }
    };
    die(&mut bench, 1, many);
    bench.pass(DEAD_LETTER_AGE_MAX - Duration::from_secs(1));
    die(&mut bench, many + 1, 3);
    bench.sweep();
    assert_eq!(bench.count(Family::DeadLetter) as u64, many + 3);
    bench.pass(Duration::from_secs(1));
    bench.sweep();
    assert_eq!(bench.count(Family::DeadLetter), 3, "the young stay");
    assert_eq!(bench.row.dead_letters().rows, 3);
    bench.pass(DEAD_LETTER_AGE_MAX);
    bench.sweep();
    assert_eq!(bench.row.dead_letters(), Kept::default());
}

impl Bench {
    /// An application writes values that end at these times, one turn each.
    fn write_values(&mut self, ends: impl Iterator<Item = (u64, u64)>) {
        let actor = ActorKey::new("default", "counter", "a").unwrap();
        for (version, (n, expires_ms)) in ends.enumerate() {
            let value = AppValue {
                data: Bytes::from_static(b"1"),
                expires_ms,
            };
            let turn = TurnCommit {
                actor: actor.to_bytes(),
                kind: TurnKind::Write as i32,
                answer: Some(TurnAnswer::reply(Bytes::new())),
                base_version: version as u64,
                state: vec![StateWrite {
                    key: n.to_be_bytes().to_vec().into(),
                    value: Some(value.encode_to_vec().into()),
                    expires_ms,
                }],
                ..TurnCommit::default()
            };
            let turns = TurnsCommand { turns: vec![turn] };
            self.apply(0, Some(Kind::Turns(turns)));
        }
    }
}

#[test]
fn values_go_when_the_calendar_says_so_in_bounded_entries() {
    let mut bench = Bench::new();
    let many = 2 * VALUES_MAX as u64 + 5;
    let early = (0..many).map(|n| (n, WALL.0 + 10));
    let late = [(many, WALL.0 + 11), (many + 1, 0)];
    bench.write_values(early.chain(late));
    // Log time alone ends nothing.
    bench.pass(DEDUP_AGE_MAX);
    bench.wall = WallTime(WALL.0 + 9);
    bench.sweep();
    assert_eq!(bench.count(Family::State) as u64, many + 2);
    assert_eq!(bench.proposed, 0);
    bench.wall = WallTime(WALL.0 + 10);
    bench.sweep();
    assert_eq!(
        (bench.count(Family::State), bench.count(Family::Due)),
        (2, 1),
        "what is not over stays, and what never ends"
    );
    assert_eq!(bench.proposed, 3);
    bench.wall = WallTime(WALL.0 + 11);
    bench.sweep();
    assert_eq!(
        (bench.count(Family::State), bench.count(Family::Due)),
        (1, 0)
    );
}

#[test]
fn by_a_clock_that_cannot_be_believed_no_value_ends() {
    let mut bench = Bench::new();
    bench.write_values([(1, WALL.0)].into_iter());
    bench.wall = WallTime::default();
    bench.sweep();
    assert_eq!((bench.count(Family::State), bench.proposed), (1, 0));
}
