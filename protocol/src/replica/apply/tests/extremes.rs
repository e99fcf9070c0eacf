//! Commands that no leader would propose. Once in a log, they are applied by every replica at every
//! start: each must take them, and take them alike.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::bed::{Bed, TERM, actor, request, sequence, session};
use crate::command::{
    Accept, DeadLetterReason, Envelope, Expire, Facts, Firing, InboxFailed, Kind, RequestRecord,
    ScheduleRow, ScheduleWrite, Send, StateWrite, TrimOutbox, TurnCommit, Turns,
};
use crate::family;
use crate::outcome::{AppError, TurnAnswer};
use crate::request::RequestId;

/// Small numbers, so that commands meet, and those at which arithmetic ends.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0_u64..6,
        1 => Just(1 << 31),
        1 => Just(1 << 62),
        1 => Just(1 << 63),
        2 => (0_u64..3).prop_map(|below| u64::MAX - below),
        1 => any::<u64>(),
    ]
}

fn partition() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0_u32..3, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn actor_bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        5 => (0_u8..2).prop_map(|n| actor(&n.to_string()).to_bytes()),
        1 => bytes(),
    ]
}

fn envelope() -> impl Strategy<Value = Envelope> {
    (actor_bytes(), bytes(), number(), any::<u32>()).prop_map(
        |(actor, body, sequence, attempts)| Envelope {
            actor,
            body,
            sequence,
            attempts,
            ..Envelope::default()
        },
    )
}

fn record() -> impl Strategy<Value = RequestRecord> {
    let id = prop_oneof![
        4 => number().prop_map(|n| sequence(n).to_bytes()),
        1 => (0_u128..3).prop_map(|n| RequestId::Derived(n).to_bytes()),
        1 => bytes(),
    ];
    (id, 0_u8..2, number()).prop_map(|(id, digest, closed_below)| RequestRecord {
        id,
        closed_below,
        ..request(&sequence(1), digest).unwrap()
    })
}

fn turn() -> impl Strategy<Value = TurnCommit> {
    let state = vec((bytes(), option::of(bytes()), number()), 0..3);
    let sends = vec((partition(), actor_bytes(), bytes()), 0..3);
    let answer = option::of(bytes().prop_map(|payload| {
        TurnAnswer::app(AppError {
            payload,
            ..AppError::default()
        })
    }));
    let parts = (
        actor_bytes(),
        number(),
        -1_i32..3,
        option::of(record()),
        number(),
    );
    let later = (schedule(), firing(), -1_i32..5, -1_i32..3);
    (parts, state, sends, answer, later).prop_map(|(parts, state, sends, answer, later)| {
        let (schedule, firing, share, fate) = later;
        let (actor, base_version, kind, request, inbox_sequence) = parts;
        let state = state
            .into_iter()
            .map(|(key, value, expires_ms)| StateWrite {
                key,
                value,
                expires_ms,
            });
        let sends = sends.into_iter().map(|(destination, actor, body)| Send {
            destination,
            actor,
            body,
            ..Send::default()
        });
        TurnCommit {
            actor,
            base_version,
            kind,
            request,
            answer,
            state: state.collect(),
            sends: sends.collect(),
            inbox_sequence,
            schedule,
            firing,
            share,
            fate,
        }
    })
}

fn schedule() -> impl Strategy<Value = Vec<ScheduleWrite>> {
    let row = option::of(
        (number(), number()).prop_map(|(due_ms, attempts)| ScheduleRow {
            due_ms,
            attempts: attempts as u32,
            ..ScheduleRow::default()
        }),
    );
    let write = (-1_i32..3, "[ab]?", row, -1_i32..3);
    let write = write.prop_map(|(kind, name, row, if_there)| ScheduleWrite {
        kind,
        name,
        row,
        if_there,
    });
    vec(write, 0..3)
}

fn firing() -> impl Strategy<Value = Option<Firing>> {
    let parts = (-1_i32..3, "[ab]?", number(), number());
    option::of(parts.prop_map(|(kind, name, due_ms, attempts)| Firing {
        kind,
        name,
        due_ms,
        attempts: attempts as u32,
    }))
}

fn kind() -> impl Strategy<Value = Kind> {
    let accept = (partition(), number(), number(), vec(envelope(), 0..4)).prop_map(
        |(source, source_epoch, first, messages)| {
            Kind::Accept(Accept {
                source,
                source_epoch: source_epoch % 3,
                first,
                messages,
            })
        },
    );
    let trim = (partition(), number()).prop_map(|(destination, through)| {
        Kind::TrimOutbox(TrimOutbox {
            destination,
            through,
        })
    });
    let failed = (number(), option::of(Just("why"))).prop_map(|(inbox_sequence, why)| {
        let dead_letter = why.map(|why| DeadLetterReason {
            error: why.to_owned(),
        });
        Kind::InboxFailed(InboxFailed {
            inbox_sequence,
            dead_letter,
        })
    });
    let keys = prop_oneof![
        bytes(),
        number().prop_map(|n| family::dedup_key(&actor("0"), &sequence(n))),
        Just(family::session_key(session())),
        (number(), bytes()).prop_map(|(due, key)| {
            family::due_row_key(
                family::DueKind::Value,
                due,
                &family::state_key(&actor("0"), &key),
            )
        }),
    ];
    let expire = vec(keys, 0..4).prop_map(|keys| {
        Kind::Expire(Expire {
            dedup_keys: keys.clone(),
            session_keys: keys.clone(),
            value_keys: keys.clone(),
            dead_letter_keys: keys,
        })
    });
    let facts = vec((bytes(), option::of(bytes())), 0..3).prop_map(|writes| {
        let writes = writes.into_iter().map(|(key, value)| StateWrite {
            key,
            value,
            ..StateWrite::default()
        });
        Kind::Facts(Facts {
            writes: writes.collect(),
        })
    });
    let turns = vec(turn(), 0..3).prop_map(|turns| Kind::Turns(Turns { turns }));
    prop_oneof![
        4 => turns,
        3 => accept,
        2 => trim,
        2 => failed,
        1 => expire,
        1 => facts,
    ]
}

proptest! {
    #[test]
    fn any_command_applies_and_applies_alike(
        commands in vec((kind(), number()), 1..24)
    ) {
        let (mut one, mut other) = (Bed::new(), Bed::new());
        for (kind, age) in commands {
            let outcome = one.apply_at(TERM, TERM, age, Some(kind.clone()));
            prop_assert_eq!(outcome, other.apply_at(TERM, TERM, age, Some(kind)));
            one.check_counters();
        }
        prop_assert_eq!(one, other);
    }
}
