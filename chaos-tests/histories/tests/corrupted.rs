//! Histories that one object really gave, and the same with something wrong in them: the first are
//! accepted, the second refused.
//!
//! `SEED=17 cargo test -p ghostlight-histories --test corrupted` repeats a seed.

use ghostlight_histories::appends::{self, Ask, ListOperation, Told};
use ghostlight_histories::linear::{Of, STEPS_MAX, check};
use ghostlight_histories::models::{Access, Count, Counter, Held, Register};
use ghostlight_histories::{End, Operation};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEEDS: u64 = 60;
const PROCESSES: u64 = 5;
const OPERATIONS: usize = 120;

fn seeds() -> std::ops::Range<u64> {
    let one = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    one.map_or(0..SEEDS, |seed: u64| seed..seed + 1)
}

fn repeat(seed: u64) -> String {
    format!("SEED={seed} cargo test -p ghostlight-histories --test corrupted")
}

/// Operations of several processes at once on one object, each at a moment between its two times;
/// one in fifteen is given up by its process.
fn history<C, R>(
    rng: &mut ChaCha8Rng,
    mut call: impl FnMut(&mut ChaCha8Rng, usize) -> C,
    mut perform: impl FnMut(&C) -> R,
) -> Vec<Operation<C, R>> {
    let mut free = [0_u64; PROCESSES as usize];
    let mut planned: Vec<(u64, u64, u64, u64, C)> = Vec::new();
    for number in 0..OPERATIONS {
        let process = rng.random_range(0..PROCESSES);
        let begin = free[process as usize] + rng.random_range(1..40);
        let moment = begin + rng.random_range(1..60);
        let end = moment + rng.random_range(1..60);
        free[process as usize] = end;
        planned.push((moment, begin, end, process, call(rng, number)));
    }
    planned.sort_by_key(|(moment, ..)| *moment);
    let done = planned.into_iter().map(|(_, invoked, at, process, call)| {
        let unknown = rng.random_range(0..15) == 0;
        // Given up by its process, it happened or not.
        let happened = !unknown || rng.random_bool(0.5);
        let reply = happened.then(|| perform(&call));
        let end = match reply {
            Some(reply) if !unknown => End::Ok { at, reply },
            _ => End::Info { at },
        };
        Operation {
            process,
            call,
            invoked,
            end,
        }
    });
    done.collect()
}

fn counters(rng: &mut ChaCha8Rng) -> Vec<Of<Counter>> {
    let mut total = 0;
    let call = |rng: &mut ChaCha8Rng, _| match rng.random_bool(0.6) {
        true => Count::Add(1),
        false => Count::Get,
    };
    history(rng, call, |call| {
        total += i64::from(matches!(call, Count::Add(_)));
        total
    })
}

fn registers(rng: &mut ChaCha8Rng) -> Vec<Of<Register>> {
    let mut value = None;
    let call = |rng: &mut ChaCha8Rng, number: usize| match rng.random_range(0..3) {
        0 => Access::Read,
        1 => Access::Write(number as u64),
        _ => Access::Exchange(rng.random_range(0..=number as u64), number as u64),
    };
    history(rng, call, |call| match call {
        Access::Read => Held::Value(value),
        Access::Write(new) => {
            value = Some(*new);
            Held::Written
        }
        Access::Exchange(from, to) if value == Some(*from) => {
            value = Some(*to);
            Held::Exchanged
        }
        Access::Exchange(..) => Held::Other,
    })
}

fn lists(rng: &mut ChaCha8Rng) -> Vec<ListOperation> {
    let mut lines = Vec::new();
    let call = |rng: &mut ChaCha8Rng, number: usize| match rng.random_bool(0.6) {
        true => Ask::Append(number.to_string()),
        false => Ask::Read,
    };
    history(rng, call, |call| match call {
        Ask::Append(line) => {
            lines.push(line.clone());
            Told::Appended(Some(lines.len() as u64))
        }
        Ask::Read => Told::Lines(lines.clone()),
    })
}

/// Some answered operation that `wanted` accepts.
fn some<'a, C, R>(
    rng: &mut ChaCha8Rng,
    history: &'a mut [Operation<C, R>],
    wanted: impl Fn(&C) -> bool,
) -> &'a mut R {
    let answered = history
        .iter_mut()
        .filter(|operation| wanted(&operation.call));
    let mut replies: Vec<&mut R> = answered
        .filter_map(|operation| match &mut operation.end {
            End::Ok { reply, .. } => Some(reply),
            End::Fail { .. } | End::Info { .. } => None,
        })
        .collect();
    let which = rng.random_range(0..replies.len());
    replies.swap_remove(which)
}

#[test]
fn a_counter() {
    for seed in seeds() {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut history = counters(rng);
        assert_eq!(
            check::<Counter>(&history, STEPS_MAX),
            Ok(()),
            "{}",
            repeat(seed)
        );
        // An addition that is told what another one is told, or more than everything together.
        let also = *some(rng, &mut history, |call| *call == Count::Add(1));
        let told = some(rng, &mut history, |call| *call == Count::Add(1));
        *told = if *told == also {
            also + OPERATIONS as i64
        } else {
            also
        };
        assert!(
            check::<Counter>(&history, STEPS_MAX).is_err(),
            "{}",
            repeat(seed)
        );
    }
}

#[test]
fn a_counter_with_a_stale_read() {
    for seed in seeds() {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut history = counters(rng);
        // The last read of all, begun after everything else ended, misses the last addition that
        // was acknowledged.
        let end = history
            .iter()
            .map(|operation| operation.end.at())
            .max()
            .unwrap_or(0);
        let answers = history.iter().filter_map(|operation| match operation.end {
            End::Ok { reply, .. } => Some(reply),
            End::Fail { .. } | End::Info { .. } => None,
        });
        let highest = answers.max().unwrap_or(0);
        let read = |reply| Operation {
            process: PROCESSES,
            call: Count::Get,
            invoked: end + 1,
            end: End::Ok { at: end + 2, reply },
        };
        history.push(read(highest - 1));
        assert!(
            check::<Counter>(&history, STEPS_MAX).is_err(),
            "{}",
            repeat(seed)
        );
    }
}

#[test]
fn a_register() {
    for seed in seeds() {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut history = registers(rng);
        assert_eq!(
            check::<Register>(&history, STEPS_MAX),
            Ok(()),
            "{}",
            repeat(seed)
        );
        // A value that nobody wrote.
        *some(rng, &mut history, |call| *call == Access::Read) = Held::Value(Some(9_999));
        assert!(
            check::<Register>(&history, STEPS_MAX).is_err(),
            "{}",
            repeat(seed)
        );
    }
}

#[test]
fn a_list() {
    for seed in seeds() {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let good = lists(rng);
        assert_eq!(appends::check(&good), Ok(()), "{}", repeat(seed));
        let last = OPERATIONS * 1_000_000;
        let read = |lines: &[String]| Operation {
            process: PROCESSES,
            call: Ask::Read,
            invoked: last as u64,
            end: End::Ok {
                at: last as u64 + 1,
                reply: Told::Lines(lines.to_vec()),
            },
        };
        let reads = good.iter().filter_map(|operation| match &operation.end {
            End::Ok {
                reply: Told::Lines(lines),
                ..
            } if lines.len() > 3 => Some(lines),
            _ => None,
        });
        let longest = reads
            .max_by_key(|lines| lines.len())
            .expect("a read")
            .clone();
        let place = rng.random_range(0..longest.len() - 1);
        let mut lost = longest.clone();
        lost.remove(place);
        let mut doubled = longest.clone();
        doubled.insert(place, longest[place + 1].clone());
        let mut swapped = longest.clone();
        swapped.swap(place, place + 1);
        let shorter = longest[..place].to_vec();
        for wrong in [lost, doubled, swapped, shorter] {
            let mut history = good.clone();
            history.push(read(&wrong));
            assert!(
                appends::check(&history).is_err(),
                "{} {wrong:?}",
                repeat(seed)
            );
        }
    }
}
