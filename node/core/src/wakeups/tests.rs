//! What is due fires once, in any order of news.

use super::*;

fn actor() -> ActorKey {
    ActorKey::new("default", "t", "a").unwrap()
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
    now: Instant,
    wall: u64,
    fired: Vec<(String, u64)>,
    running: Vec<Due>,
}

impl Bed {
    fn feed(&mut self, input: WakeupsInput) {
        let mut effects = Vec::new();
        let wall = WallTime(self.wall);
        self.wakeups.handle(self.now, wall, input, &mut effects);
        for effect in effects {
            match effect {
                WakeupsEffect::Fire(due) => {
                    self.fired.push((due.name.clone(), due.tick.0));
                    self.running.push(*due);
                }
                WakeupsEffect::Read(wanted) => {
                    let (rows, rest) = self.read(wanted);
                    self.feed(WakeupsInput::Rows { rows, rest });
                }
            }
        }
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
        let key = family::schedule_key(&actor(), kind, name);
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
        self.feed(WakeupsInput::Scheduled(actor(), vec![write]));
    }

    fn pass(&mut self, ms: u64) {
        self.wall += ms;
        self.now = self.now + Duration::from_millis(ms);
        self.feed(WakeupsInput::Tick);
    }

    /// All that runs is over: reminders move on by `step`, or stay as they are.
    fn end_all(&mut self, step: Option<u64>) {
        for due in std::mem::take(&mut self.running) {
            if let (ScheduleKind::Reminder, Some(step)) = (due.kind, step) {
                let next = row(due.row.due_ms + step, &due.row.period);
                self.set(due.kind, &due.name.clone(), Some(next));
            }
            self.feed(WakeupsInput::Over(Box::new(due)));
        }
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
    let mut bed = Bed::default();
    bed.set(ScheduleKind::Reminder, "a", Some(row(5, "")));
    bed.pass(10);
    bed.end_all(None);
    bed.pass(900);
    assert_eq!(bed.fired.len(), 1);
    bed.pass(100);
    assert_eq!(bed.fired.len(), 2);
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
        bed.feed(WakeupsInput::Tick);
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
    bed.end_all(None);
    bed.pass(25);
    bed.end_all(None);
    bed.pass(5);
    let ticks: Vec<u64> = bed.fired.iter().map(|(_, tick)| *tick).collect();
    bed.end_all(None);
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
    bed.end_all(None);
    bed.pass(100);
    assert_eq!(bed.fired.len(), 4, "it fires once");
}
