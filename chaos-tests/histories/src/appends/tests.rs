//! Good and bad histories of one list.

use super::*;

fn append(line: &str, times: (u64, u64), end: Option<u64>) -> ListOperation {
    let (invoked, at) = times;
    let end = match end {
        Some(length) => End::Ok {
            at,
            reply: Told::Appended(Some(length)),
        },
        None => End::Info { at },
    };
    operation(Ask::Append(line.to_owned()), invoked, end)
}

fn read(lines: &[&str], times: (u64, u64)) -> ListOperation {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    let end = End::Ok {
        at: times.1,
        reply: Told::Lines(lines),
    };
    operation(Ask::Read, times.0, end)
}

fn operation(call: Ask, invoked: u64, end: End<Told>) -> ListOperation {
    Operation {
        process: invoked,
        call,
        invoked,
        end,
    }
}

#[track_caller]
fn accepted(operations: &[ListOperation]) {
    assert_eq!(check(operations), Ok(()));
}

#[track_caller]
fn refused(operations: &[ListOperation]) {
    assert!(check(operations).is_err(), "{operations:?}");
}

#[test]
fn lists_that_grow() {
    accepted(&[]);
    let (a, b) = (append("a", (0, 5), Some(1)), append("b", (6, 9), Some(2)));
    accepted(&[a.clone(), b.clone()]);
    accepted(&[a.clone(), b.clone(), read(&["a", "b"], (10, 11))]);
    accepted(&[
        a.clone(),
        b.clone(),
        read(&["a"], (7, 8)),
        read(&["a", "b"], (10, 11)),
    ]);
    // An unknown end: there, late, or never.
    let c = append("c", (1, 2), None);
    accepted(&[a.clone(), b.clone(), c.clone(), read(&["a", "b"], (10, 11))]);
    accepted(&[a, b, c, read(&["a", "b", "c"], (10, 11))]);
}

#[test]
fn what_cannot_be() {
    let (a, b) = (append("a", (0, 5), Some(1)), append("b", (6, 9), Some(2)));
    let both = || vec![a.clone(), b.clone()];
    let with = |more: &[ListOperation]| [both(), more.to_vec()].concat();
    for wrong in [
        // Lost, although acknowledged; the same seen by a later, shorter read.
        with(&[read(&["a"], (10, 11))]),
        with(&[read(&[], (10, 11))]),
        with(&[read(&["a", "b"], (10, 11)), read(&["a"], (12, 13))]),
        // Doubled, reordered, unheard of.
        with(&[read(&["a", "b", "b"], (10, 11))]),
        with(&[read(&["b", "a"], (10, 11))]),
        with(&[read(&["a", "b", "z"], (10, 11))]),
        // Two lists.
        with(&[
            read(&["a", "b"], (10, 11)),
            read(&["a", "c"], (10, 11)),
            append("c", (1, 2), None),
        ]),
        // Before it was asked for.
        with(&[read(&["a", "b"], (3, 5))]),
        vec![append("a", (0, 5), Some(1)), append("b", (6, 9), Some(1))],
        vec![append("a", (0, 5), Some(2)), append("b", (6, 9), Some(1))],
        // It did not happen, and is there.
        vec![
            operation(Ask::Append("a".to_owned()), 0, End::Fail { at: 5 }),
            read(&["a"], (6, 7)),
        ],
        // Told another place than it has.
        vec![append("a", (0, 5), Some(2)), read(&["a"], (6, 7))],
        vec![
            append("a", (0, 5), Some(1)),
            append("b", (0, 5), None),
            read(&["b"], (6, 7)),
        ],
    ] {
        refused(&wrong);
    }
}
