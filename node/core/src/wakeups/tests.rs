//! What is due fires once, in any order of news.

use std::collections::BTreeMap;

use super::firings::TYPE_FIRINGS_MAX;
use super::*;

fn actor() -> ActorKey {
    actor_of("t", "a")
}

fn actor_of(kind: &str, id: &str) -> ActorKey {
    ActorKey::new("default", kind, id).unwrap()
}

fn row(due_ms: u64, period: &str) -> ScheduleRow {
    ScheduleRow {
        due_ms,
        period: period.to_owned(),
        ..ScheduleRow::default()
    }
}

/// The store, as far as wakeups see it.
#[derive(Default)]
struct Bed {
    rows: BTreeMap<Bytes, ScheduleRow>,
    wakeups: Wakeups,
    node: SharedFirings,
    now: Instant,
    wall: u64,
    fired: Vec<(String, u64)>,
    running: Vec<Due>,
    reads: usize,
    rows_read: usize,
    /// Reads are answered by `give`, with the rows of the moment they were asked in.
    by_hand: bool,
    held: VecDeque<WakeupsInput>,
}

impl Bed {
    fn feed(&mut self, input: WakeupsInput) {
        let mut effects = Vec::new();
        let wall = WallTime(self.wall);
        self.wakeups
            .handle(self.now, wall, &mut self.node, input, &mut effects);
        for effect in effects {
            match effect {
                WakeupsEffect::Fire(due) => {
                    self.fired.push((due.name.clone(), due.tick.0));
                    self.running.push(*due);
                }
                WakeupsEffect::Read(wanted) => {
                    self.reads += 1;
                    let (rows, rest) = self.read(wanted);
                    self.rows_read += rows.len();
                    self.held.push_back(WakeupsInput::Rows { rows, rest });
                    if !self.by_hand {
                        self.give();
                    }
                }
            }
        }
    }

    fn give(&mut self) {
        let answer = self.held.pop_front().expect("a read was asked");
        self.feed(answer);
    }

    fn store(&mut self, actor: &ActorKey, kind: ScheduleKind, name: &str, row: ScheduleRow) {
        let key = family::schedule_key(actor, kind, name);
        self.rows.insert(key, row);
    }

    fn read(&self, wanted: RowsWanted) -> (Vec<(Bytes, Option<Bytes>)>, Rest) {
        match wanted {
            RowsWanted::Keys(keys) => {
                let rows = keys.into_iter().map(|(_, key)| {
                    let value = self.rows.get(&key).map(|row| row.encode_to_vec().into());
                    (key, value)
                });
                (rows.collect(), Rest::Last)
            }
            RowsWanted::Scan {
                prefix,
                after,
                limit,
                ..
            } => {
                let due = self.rows.iter().map(|(key, row)| {
                    let kind = family::parse_schedule_key(key).unwrap().1;
                    family::due_row_key(kind.into(), row.due_ms, key)
                });
                let mut due: Vec<Bytes> = due.filter(|key| key.starts_with(&prefix)).collect();
                due.sort();
                due.retain(|key| after.as_ref().is_none_or(|after| key > after));
                let rest = if due.len() > limit {
                    Rest::More
                } else {
                    Rest::Last
                };
                due.truncate(limit);
                let rows = due.into_iter().map(|key| (key, Some(Bytes::new())));
                (rows.collect(), rest)
            }
        }
    }

    fn set(&mut self, kind: ScheduleKind, name: &str, row: Option<ScheduleRow>) {
        self.set_of(&actor(), kind, name, row);
    }

    fn set_of(
        &mut self,
        actor: &ActorKey,
        kind: ScheduleKind,
        name: &str,
        row: Option<ScheduleRow>,
    ) {
        let key = family::schedule_key(actor, kind, name);
        match &row {
            Some(row) => self.rows.insert(key, row.clone()),
            None => self.rows.remove(&key),
        };
        let write = ScheduleWrite {
            kind: kind as i32,
            name: name.to_owned(),
            row,
            ..ScheduleWrite::default()
        };
        self.feed(WakeupsInput::Scheduled(actor.clone(), vec![write]));
    }

    fn pass(&mut self, ms: u64) {
        self.wall += ms;
        self.now = self.now + Duration::from_millis(ms);
        self.feed(WakeupsInput::Tick);
    }

    /// All that runs is over: reminders move on by `step`, or stay as they are.
    fn end_all(&mut self, step: Option<u64>) {
        for due in std::mem::take(&mut self.running) {
            self.end(due, step);
        }
    }

    fn end(&mut self, due: Due, step: Option<u64>) {
        let end = match step {
            Some(step) => {
                if due.kind == ScheduleKind::Reminder {
                    let next = row(due.row.due_ms + step, &due.row.period);
                    self.set_of(&due.actor, due.kind, &due.name, Some(next));
                }
                WakeupEnd::Called
            }
            None => WakeupEnd::NotCalled,
        };
        self.feed(WakeupsInput::Over(Box::new(due), end));
    }

    /// All firings of a type that run are over.
    fn end_type(&mut self, kind: &str, step: Option<u64>) {
        for due in std::mem::take(&mut self.running) {
            if due.actor.actor_type() == kind {
                self.end(due, step);
            } else {
                self.running.push(due);
            }
        }
    }

    fn runs(&self, kind: &str) -> usize {
        let of_type = self.running.iter().filter(|d| d.actor.actor_type() == kind);
        of_type.count()
    }
}

#[test]
fn reminders_fire_when_they_are_due_and_never_twice() {
    let mut bed = Bed::default();
    bed.set(ScheduleKind::Reminder, "a", Some(row(100, "")));
    bed.set(ScheduleKind::Reminder, "b", Some(row(50, "")));
    bed.pass(49);
    assert_eq!(bed.fired, []);
    bed.pass(1);
    assert_eq!(bed.fired, [("b".to_owned(), 50)]);
    bed.pass(50);
    bed.pass(50);
    assert_eq!(bed.fired.len(), 2, "what runs does not fire again");
    bed.end_all(Some(1_000));
    bed.pass(10);
    assert_eq!(bed.fired.len(), 2);
    bed.pass(1_000);
    assert_eq!(bed.fired.len(), 4);
}

#[test]
fn what_could_not_start_is_looked_at_again_after_a_pause() {
    for kind in [ScheduleKind::Reminder, ScheduleKind::Timer] {
        let mut bed = Bed::default();
        bed.set(kind, "a", Some(row(5, "")));
        bed.pass(10);
        bed.end_all(None);
        bed.pass(900);
        assert_eq!(bed.fired.len(), 1, "{kind:?}");
        bed.pass(100);
        assert_eq!(bed.fired.len(), 2, "{kind:?}");
    }
}

#[test]
fn a_leadership_finds_what_is_stored() {
    let mut bed = Bed::default();
    for number in 0..3 * FIRINGS_MAX as u64 {
        let key = family::schedule_key(&actor(), ScheduleKind::Reminder, &number.to_string());
        bed.rows.insert(key, row(number, ""));
    }
    bed.wall = 10_000;
    let mut rounds = 0;
    while bed.fired.len() < 3 * FIRINGS_MAX {
        bed.pass(50);
        assert!(bed.running.len() <= FIRINGS_MAX);
        assert!(!bed.running.is_empty(), "after {rounds} rounds");
        bed.end_all(Some(100_000));
        rounds += 1;
    }
    let fired: BTreeSet<_> = bed.fired.iter().collect();
    assert_eq!(fired.len(), bed.fired.len(), "each once");
}

#[test]
fn timers_go_on_without_their_rows_being_written() {
    let mut bed = Bed::default();
    let key = family::schedule_key(&actor(), ScheduleKind::Timer, "t");
    bed.rows.insert(key, row(100, "10ms"));
    bed.wall = 155;
    bed.feed(WakeupsInput::Tick);
    assert_eq!(bed.fired, [], "no catching up: the next tick is at 160");
    bed.pass(5);
    bed.end_all(Some(0));
    bed.pass(25);
    bed.end_all(Some(0));
    bed.pass(5);
    let ticks: Vec<u64> = bed.fired.iter().map(|(_, tick)| *tick).collect();
    bed.end_all(Some(0));
    assert_eq!(
        ticks,
        [160, 170, 190],
        "fired late at 185, it goes on at 190"
    );
    bed.set(ScheduleKind::Timer, "t", None);
    bed.pass(100);
    assert_eq!(bed.fired.len(), 3, "removed");
    bed.set(ScheduleKind::Timer, "u", Some(row(0, "")));
    assert_eq!(bed.fired.len(), 4, "one that is due at once");
    bed.set(ScheduleKind::Timer, "u", None); // By the entry of its turn.
    bed.end_all(Some(0));
    bed.pass(100);
    assert_eq!(bed.fired.len(), 4, "it fires once");
}

/// Timers go on while the reminders are read, and each has a bound of its own.
#[test]
fn timers_that_fire_during_a_walk_take_no_reminder_s_place() {
    let mut bed = Bed::default();
    bed.feed(WakeupsInput::Tick);
    bed.by_hand = true;
    let each = TYPE_FIRINGS_MAX as u64;
    let count = FIRINGS_MAX as u64 + 1;
    bed.set(ScheduleKind::Reminder, "r", Some(row(0, "")));
    for number in 0..count {
        let actor = actor_of(&format!("t{}", number / each), &number.to_string());
        bed.set_of(&actor, ScheduleKind::Timer, "t", Some(row(0, "")));
    }
    let timers = bed.running.len();
    assert_eq!(timers, FIRINGS_MAX, "one has no place");
    while !bed.held.is_empty() {
        bed.give();
    }
    assert_eq!(
        bed.running.len(),
        timers + 1,
        "the reminder fires beside them"
    );
}

/// What is written between a walk's question and its answer is in nobody's rows.
#[test]
fn a_reminder_that_is_set_while_the_walk_reads_is_not_forgotten() {
    let mut bed = Bed::default();
    bed.set(ScheduleKind::Reminder, "first", Some(row(10, "")));
    bed.by_hand = true;
    bed.pass(10);
    bed.set(ScheduleKind::Reminder, "second", Some(row(20, "")));
    bed.set(ScheduleKind::Reminder, "first", Some(row(500, "")));
    while !bed.held.is_empty() {
        bed.give();
    }
    bed.by_hand = false;
    bed.pass(20);
    assert_eq!(bed.fired, [("second".to_owned(), 20)]);
    bed.pass(500);
    assert_eq!(bed.fired.len(), 2, "{:?}", bed.fired);
}

#[test]
fn a_timer_that_is_set_anew_while_it_runs_goes_on_as_it_was_set_anew() {
    for (again, passes, ticks) in [
        (row(1_000, "1s"), 950, vec![1_000]),
        (row(10, "1s"), 40, vec![1_010]),
        (row(200, ""), 200, vec![200]),
    ] {
        let mut bed = Bed::default();
        bed.set(ScheduleKind::Timer, "t", Some(row(10, "10ms")));
        bed.pass(10);
        assert_eq!(bed.fired.len(), 1);
        bed.pass(40);
        bed.set(ScheduleKind::Timer, "t", Some(again.clone()));
        bed.end_all(Some(0));
        bed.pass(passes);
        let rest = u64::saturating_sub(ticks[ticks.len() - 1], bed.wall);
        bed.pass(rest);
        let fired: Vec<u64> = bed.fired[1..].iter().map(|(_, tick)| *tick).collect();
        assert_eq!(fired, ticks, "{again:?}");
    }
}

/// It is due before the firing of the row before it is over: it waits for that, and fires once.
#[test]
fn a_timer_that_is_set_anew_for_now_fires_after_the_one_that_runs() {
    let mut bed = Bed::default();
    bed.set(ScheduleKind::Timer, "t", Some(row(0, "")));
    bed.set(ScheduleKind::Timer, "t", Some(row(0, "")));
    bed.pass(10);
    assert_eq!(bed.running.len(), 1, "a row fires once at a time");
    bed.end_all(Some(0));
    assert_eq!(bed.running.len(), 1);
    bed.set(ScheduleKind::Timer, "t", None); // By the entry of its turn.
    bed.end_all(Some(0));
    bed.pass(10_000);
    assert_eq!(bed.fired.len(), 2);
}

/// Rows of an opening that come after what was set or removed meanwhile are older than that.
#[test]
fn timers_that_are_read_do_not_replace_what_was_set_meanwhile() {
    let mut bed = Bed::default();
    for name in ["kept", "set", "removed"] {
        bed.store(&actor(), ScheduleKind::Timer, name, row(100, ""));
    }
    bed.by_hand = true;
    bed.feed(WakeupsInput::Tick);
    bed.give();
    bed.set(ScheduleKind::Timer, "set", Some(row(300, "")));
    bed.set(ScheduleKind::Timer, "removed", None);
    bed.give();
    bed.pass(100);
    assert_eq!(bed.fired, [("kept".to_owned(), 100)]);
    bed.pass(200);
    assert_eq!(bed.fired[1..], [("set".to_owned(), 300)]);
}

/// Many reminders of a type that nobody hosts stand before everybody else's.
#[test]
fn what_nobody_hosts_holds_up_nobody_else() {
    for kind in [ScheduleKind::Reminder, ScheduleKind::Timer] {
        let mut bed = Bed {
            wall: 100_000,
            ..Bed::default()
        };
        let dead = 4 * FIRINGS_MAX as u64;
        for number in 0..dead {
            let actor = actor_of("x", &number.to_string());
            bed.store(&actor, kind, "n", row(number, ""));
        }
        bed.store(&actor_of("y", "a"), kind, "n", row(dead, ""));
        bed.feed(WakeupsInput::Tick);
        assert_eq!(bed.runs("y"), 1, "{kind:?}: {} of x run", bed.runs("x"));
        bed.end_type("y", Some(1_000_000));
        let (mut tried, mut reads) = (0, 0);
        for second in 0..10 {
            for _ in 0..20 {
                bed.pass(50);
                tried += bed.runs("x");
                bed.end_type("x", None);
            }
            if second == 0 {
                (tried, reads) = (0, bed.reads); // The first of them were taken all at once.
            }
        }
        assert!((8..=20).contains(&tried), "{kind:?}: {tried} tries");
        let reads = bed.reads - reads;
        assert!(reads <= 20, "{kind:?}: {reads} reads in nine seconds");
        // An application that hosts them starts.
        let before = bed.fired.len() as u64;
        for _ in 0..400 {
            bed.pass(50);
            bed.end_type("x", Some(1_000_000));
        }
        let fired = bed.fired.len() as u64 - before;
        assert!(fired >= dead, "{kind:?}: {fired} of {dead}");
    }
}

/// An application hangs, or an actor is in a long turn: others' reminders fire.
#[test]
fn firings_that_do_not_end_hold_up_nobody_else() {
    for kind in [ScheduleKind::Reminder, ScheduleKind::Timer] {
        let mut bed = Bed::default();
        for number in 0..FIRINGS_MAX as u64 {
            let hung = actor_of("x", &number.to_string());
            bed.set_of(&hung, kind, "n", Some(row(number, "")));
            let busy = actor_of("z", "one");
            bed.set_of(&busy, kind, &number.to_string(), Some(row(number, "")));
        }
        bed.pass(2_000);
        bed.set_of(&actor_of("y", "a"), kind, "n", Some(row(2_500, "")));
        bed.set_of(&actor_of("z", "two"), kind, "n", Some(row(2_500, "")));
        bed.pass(1_000);
        assert_eq!(bed.runs("y"), 1, "{kind:?}");
        let two = bed
            .running
            .iter()
            .filter(|d| d.actor == actor_of("z", "two"));
        assert_eq!(
            two.count(),
            1,
            "{kind:?}: another actor of a busy one's type"
        );
        let reads = bed.reads;
        for _ in 0..20 {
            bed.pass(50);
        }
        assert!(
            bed.reads <= reads + 1,
            "{kind:?}: {} reads",
            bed.reads - reads
        );
    }
}

/// What is due and waits is not looked for again and again: reads are few for each that fires.
#[test]
fn what_waits_for_room_is_not_searched_for_again() {
    for actors in [1, 7, 40, 500] {
        let mut bed = Bed::default();
        let each = 2_000 / actors;
        for number in 0..actors * each {
            let of = actor_of("t", &(number % actors).to_string());
            let name = number.to_string();
            bed.store(&of, ScheduleKind::Reminder, &name, row(1_000, ""));
        }
        bed.pass(1_000);
        while let Some(due) = (!bed.running.is_empty()).then(|| bed.running.remove(0)) {
            bed.end(due, Some(1_000_000_000));
            bed.pass(1);
        }
        let fired = bed.fired.len() as u64;
        assert_eq!(fired, actors * each, "{actors} actors");
        let rows = bed.rows_read as u64;
        assert!(rows < 16 * fired, "{actors} actors: {rows} rows were read");
    }
}

/// More becomes due than can fire, for long: what was due first fires first, whether it was held
/// or passed over.
#[test]
fn what_is_due_first_is_not_overtaken_for_ever() {
    for backlog in [200, 1_000, 3_000] {
        let mut bed = Bed {
            wall: 10_000,
            ..Bed::default()
        };
        for number in 0..backlog {
            let actor = actor_of("t", &number.to_string());
            bed.store(&actor, ScheduleKind::Reminder, "n", row(number, ""));
        }
        bed.feed(WakeupsInput::Tick);
        let mut next = backlog;
        for _ in 0..backlog {
            // As many more are due each time as end.
            for _ in 0..2 {
                let actor = actor_of("t", &next.to_string());
                let due = row(bed.wall, "");
                bed.set_of(&actor, ScheduleKind::Reminder, "n", Some(due));
                next += 1;
            }
            bed.pass(20);
            for _ in 0..2.min(bed.running.len()) {
                let due = bed.running.remove(0);
                bed.end(due, Some(1_000_000_000));
            }
        }
        let fired: BTreeSet<u64> = bed.fired.iter().map(|(_, tick)| *tick).collect();
        let missing = (0..backlog).find(|tick| !fired.contains(tick));
        assert_eq!(missing, None, "of {backlog}, {} fired", bed.fired.len());
    }
}

/// Most firings of a type hang: the others that there is room for go on, one after the other.
#[test]
fn a_type_that_hangs_for_most_goes_on_for_the_rest() {
    for hung in [1, TYPE_FIRINGS_MAX / 2 + 1, TYPE_FIRINGS_MAX - 1] {
        let mut bed = Bed {
            wall: 10_000,
            ..Bed::default()
        };
        let due = 1_500;
        for number in 0..hung as u64 {
            let actor = actor_of("t", &format!("hung-{number}"));
            bed.store(&actor, ScheduleKind::Reminder, "hung", row(number, ""));
        }
        for number in 0..due {
            let actor = actor_of("t", &number.to_string());
            bed.store(&actor, ScheduleKind::Reminder, "n", row(1_000 + number, ""));
        }
        bed.feed(WakeupsInput::Tick);
        for _ in 0..2 * due {
            for due in std::mem::take(&mut bed.running) {
                match due.name.as_str() {
                    "hung" => bed.running.push(due),
                    _ => bed.end(due, Some(1_000_000_000)),
                }
            }
            bed.pass(50);
        }
        let fired = bed.fired.len() - hung;
        assert_eq!(fired as u64, due, "{hung} hang");
    }
}

/// Partitions of one node.
struct Node {
    beds: Vec<Bed>,
    ticks: u64,
}

impl Node {
    /// Each with so many of a type that are due.
    fn of(partitions: u64, kind: ScheduleKind, name: &str, each: u64) -> Self {
        let beds = (0..partitions).map(|partition| {
            let mut bed = Bed::default();
            for number in 0..each {
                let actor = actor_of(name, &format!("{partition}-{number}"));
                bed.store(&actor, kind, "n", row(number, ""));
            }
            bed
        });
        Self {
            beds: beds.collect(),
            ticks: 0,
        }
    }

    /// Does something in one of them, which sees what runs in all.
    fn at(&mut self, place: usize, work: impl FnOnce(&mut Bed)) {
        let mut node = SharedFirings::default();
        for bed in &self.beds {
            bed.wakeups.count_among(&mut node);
        }
        let bed = &mut self.beds[place];
        bed.node = node;
        work(bed);
        assert!(self.running() <= NODE_FIRINGS_MAX);
    }

    fn pass(&mut self, ms: u64) {
        let count = self.beds.len();
        let first = rotation(self.ticks, count);
        self.ticks += 1;
        for place in (first..count).chain(0..first) {
            self.at(place, |bed| bed.pass(ms));
        }
    }

    fn running(&self) -> usize {
        self.beds.iter().map(|bed| bed.running.len()).sum()
    }
}

/// An application hangs whose actors are everywhere: it takes half, and another type's firings
/// start at once, everywhere.
#[test]
fn firings_of_a_node_are_bounded_and_no_type_has_all() {
    for kind in [ScheduleKind::Reminder, ScheduleKind::Timer] {
        let mut node = Node::of(64, kind, "hangs", TYPE_FIRINGS_MAX as u64);
        for _ in 0..40 {
            node.pass(50);
        }
        let hung = node.running();
        // Half of the bound, and one for each partition that has none.
        assert!((900..=NODE_FIRINGS_MAX / 2 + 64).contains(&hung), "{hung}");
        for place in 0..64 {
            let actor = actor_of("fast", &place.to_string());
            node.at(place, |bed| {
                bed.set_of(&actor, kind, "n", Some(row(1, "")));
                bed.pass(50);
            });
            assert_eq!(node.beds[place].runs("fast"), 1, "{kind:?} in {place}");
        }
    }
}

/// The first partitions take what there is, and the others have one at least; as firings end, all
/// get on.
#[test]
fn partitions_share_what_a_node_may_have() {
    for kind in [ScheduleKind::Reminder, ScheduleKind::Timer] {
        let each = 100;
        let mut node = Node::of(200, kind, "t", each);
        for _ in 0..40 {
            node.pass(50);
        }
        let fewest = |node: &Node| node.beds.iter().map(|bed| bed.fired.len() as u64).min();
        let (least, all) = (fewest(&node), node.running());
        assert!(least < Some(each), "{kind:?}: the bound was not reached");
        assert!(least > Some(0), "{kind:?}: somebody has none");
        assert!(all <= NODE_FIRINGS_MAX / 2 + 200, "{kind:?}: {all}");
        // Half of what each one has ends, the oldest first.
        let mut rounds = 0;
        while fewest(&node) < Some(each) {
            for place in 0..node.beds.len() {
                node.at(place, |bed| {
                    let half = bed.running.len().div_ceil(2);
                    let over: Vec<Due> = bed.running.drain(..half).collect();
                    for due in over {
                        bed.end(due, Some(1_000_000_000));
                    }
                });
            }
            node.pass(50);
            rounds += 1;
            let begun = fewest(&node) > Some(0);
            assert!(begun || rounds < 12, "{kind:?}: somebody starves");
            assert!(rounds < 100, "{kind:?}: not all have fired");
        }
    }
}

#[test]
fn what_a_leadership_had_that_ended_is_free_again() {
    let mut node = Node::of(64, ScheduleKind::Reminder, "t", TYPE_FIRINGS_MAX as u64);
    for _ in 0..40 {
        node.pass(50);
    }
    let before = node.running();
    node.beds.truncate(1);
    for _ in 0..40 {
        node.pass(50);
    }
    assert!(node.running() > before / 64);
    assert_eq!(node.running(), TYPE_FIRINGS_MAX);
}
