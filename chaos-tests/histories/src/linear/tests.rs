//! Good and bad histories, drawn as lines: one process each, time to the right.

use self::Judged::{Accepted, Refused};
use super::*;
use crate::models::{Access, Count, Counter, Held, Register};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Judged {
    Accepted,
    Refused,
}

fn operation<C, R>(process: u64, call: C, times: (u64, u64), reply: Option<R>) -> Operation<C, R> {
    let (invoked, at) = times;
    let end = match reply {
        Some(reply) => End::Ok { at, reply },
        None => End::Info { at },
    };
    Operation {
        process,
        call,
        invoked,
        end,
    }
}

#[track_caller]
fn counter(wanted: Judged, rows: &[(Count, (u64, u64), Option<i64>)]) {
    let operations = rows
        .iter()
        .zip(0..)
        .map(|((call, times, reply), process)| operation(process, call.clone(), *times, *reply));
    let operations: Vec<Of<Counter>> = operations.collect();
    let judged = check::<Counter>(&operations, STEPS_MAX);
    assert_eq!(judged.is_ok(), wanted == Accepted, "{judged:?}");
}

#[test]
fn counters() {
    use Count::{Add, Get};
    counter(Accepted, &[]);
    counter(
        Accepted,
        &[(Add(1), (0, 9), Some(1)), (Get, (10, 11), Some(1))],
    );
    // A read beside an addition may see it or not.
    counter(
        Accepted,
        &[(Add(1), (0, 9), Some(1)), (Get, (1, 2), Some(0))],
    );
    counter(
        Accepted,
        &[(Add(1), (0, 9), Some(1)), (Get, (1, 2), Some(1))],
    );
    // A stale read.
    counter(
        Refused,
        &[(Add(1), (0, 9), Some(1)), (Get, (10, 11), Some(0))],
    );
    // The future.
    counter(
        Refused,
        &[(Add(1), (5, 9), Some(1)), (Get, (1, 2), Some(1))],
    );
    // One total for two, and a total that nobody made.
    counter(
        Refused,
        &[(Add(1), (0, 9), Some(1)), (Add(1), (0, 9), Some(1))],
    );
    counter(Refused, &[(Add(1), (0, 9), Some(2))]);
    // Two reads that see two orders.
    let twice = [(Add(1), (0, 90), Some(1)), (Add(1), (0, 90), Some(2))];
    let mut reads = twice.to_vec();
    reads.extend([(Get, (10, 11), Some(2)), (Get, (12, 13), Some(1))]);
    counter(Refused, &reads);
    // What touches is beside each other.
    counter(
        Accepted,
        &[(Add(1), (0, 9), Some(1)), (Get, (9, 11), Some(0))],
    );
}

#[test]
fn counters_with_unknown_ends() {
    use Count::{Add, Get};
    // It happens late, or never.
    counter(
        Accepted,
        &[
            (Add(1), (0, 1), None),
            (Get, (5, 6), Some(0)),
            (Get, (7, 8), Some(1)),
        ],
    );
    counter(Accepted, &[(Add(1), (0, 1), None), (Get, (5, 6), Some(0))]);
    // But once, not before it began, and not undone.
    counter(Refused, &[(Add(1), (0, 1), None), (Get, (5, 6), Some(2))]);
    counter(Refused, &[(Add(1), (7, 9), None), (Get, (5, 6), Some(1))]);
    counter(
        Refused,
        &[
            (Add(1), (0, 1), None),
            (Get, (5, 6), Some(1)),
            (Get, (7, 8), Some(0)),
        ],
    );
    // A read without an answer says nothing.
    counter(Accepted, &[(Get, (0, 1), None), (Add(1), (2, 3), Some(1))]);
}

#[test]
fn many_unknown_ends_that_ask_the_same_are_decided() {
    let mut rows = vec![(Count::Add(1), (0, 1), None); 60];
    rows.push((Count::Get, (5, 6), Some(30)));
    rows.push((Count::Get, (7, 8), Some(59)));
    counter(Accepted, &rows);
    rows.push((Count::Get, (9, 10), Some(61)));
    counter(Refused, &rows);
}

#[track_caller]
fn register(wanted: Judged, rows: &[(Access, (u64, u64), Option<Held>)]) {
    let operations = rows.iter().zip(0..).map(|((call, times, reply), process)| {
        operation(process, call.clone(), *times, reply.clone())
    });
    let operations: Vec<Of<Register>> = operations.collect();
    let judged = check::<Register>(&operations, STEPS_MAX);
    assert_eq!(judged.is_ok(), wanted == Accepted, "{judged:?}");
}

#[test]
fn registers() {
    use Access::{Exchange, Read, Write};
    let read = |value| Some(Held::Value(value));
    register(Accepted, &[(Read, (0, 1), read(None))]);
    register(Refused, &[(Read, (0, 1), read(Some(1)))]);
    let written = (Write(1), (0, 5), Some(Held::Written));
    register(Accepted, &[written.clone(), (Read, (6, 7), read(Some(1)))]);
    register(Refused, &[written.clone(), (Read, (6, 7), read(None))]);
    let exchanged = (Exchange(1, 2), (10, 15), Some(Held::Exchanged));
    register(
        Accepted,
        &[
            written.clone(),
            exchanged.clone(),
            (Read, (16, 17), read(Some(2))),
        ],
    );
    register(
        Refused,
        &[
            written.clone(),
            exchanged.clone(),
            (Read, (16, 17), read(Some(1))),
        ],
    );
    register(Refused, std::slice::from_ref(&exchanged));
    // Two exchanges of one value cannot both succeed; one of them may fail.
    let also = (Exchange(1, 3), (10, 15), Some(Held::Exchanged));
    register(Refused, &[written.clone(), exchanged.clone(), also]);
    let refused = (Exchange(1, 3), (10, 15), Some(Held::Other));
    register(Accepted, &[written.clone(), exchanged, refused.clone()]);
    register(Refused, &[written.clone(), refused]);
    // A write that nobody knows of explains what was read.
    register(
        Accepted,
        &[
            written.clone(),
            (Write(9), (2, 3), None),
            (Read, (6, 7), read(Some(9))),
        ],
    );
    register(
        Refused,
        &[
            written,
            (Write(9), (8, 9), None),
            (Read, (6, 7), read(Some(9))),
        ],
    );
}

#[test]
fn what_is_not_decided_is_not_accepted() {
    let unknown = (0..24).map(|value| operation(value, Access::Write(value), (0, 1), None));
    let mut operations: Vec<Of<Register>> = unknown.collect();
    let never = Some(Held::Value(Some(99)));
    operations.push(operation(99, Access::Read, (5, 6), never));
    let judged = check::<Register>(&operations, 10_000);
    assert_eq!(judged, Err(Wrong::Undecided { steps: 10_000 }));
}
