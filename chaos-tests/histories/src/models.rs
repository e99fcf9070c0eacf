//! What single objects do, one operation at a time.

use crate::linear::Model;

/// A counter that tells its total.
#[derive(Clone, Copy, Debug)]
pub struct Counter;

/// What a counter is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Count {
    /// To add, and tell the new total.
    Add(i64),
    /// For its total.
    Get,
}

impl Model for Counter {
    type State = i64;
    type Call = Count;
    type Reply = i64;

    fn first() -> i64 {
        0
    }

    fn step(total: &i64, call: &Count, reply: Option<&i64>) -> Option<i64> {
        let after = match call {
            Count::Add(by) => total.checked_add(*by)?,
            Count::Get => *total,
        };
        reply.is_none_or(|told| *told == after).then_some(after)
    }

    fn writes(call: &Count) -> bool {
        matches!(call, Count::Add(_))
    }
}

/// A register that can be read, written, and exchanged if it holds what is expected.
#[derive(Clone, Copy, Debug)]
pub struct Register;

/// What a register is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// For its value.
    Read,
    /// To take a value.
    Write(u64),
    /// To take the second value if it holds the first.
    Exchange(u64, u64),
}

/// What a register answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Held {
    /// Its value; none before the first write.
    Value(Option<u64>),
    /// It has the value written.
    Written,
    /// It held what was expected, and holds the new value.
    Exchanged,
    /// It held something else, and still does.
    Other,
}

impl Model for Register {
    type State = Option<u64>;
    type Call = Access;
    type Reply = Held;

    fn first() -> Option<u64> {
        None
    }

    fn step(state: &Option<u64>, call: &Access, reply: Option<&Held>) -> Option<Option<u64>> {
        let (after, answer) = match call {
            Access::Read => (*state, Held::Value(*state)),
            Access::Write(value) => (Some(*value), Held::Written),
            Access::Exchange(from, to) if *state == Some(*from) => (Some(*to), Held::Exchanged),
            Access::Exchange(..) => (*state, Held::Other),
        };
        reply.is_none_or(|told| *told == answer).then_some(after)
    }

    fn writes(call: &Access) -> bool {
        !matches!(call, Access::Read)
    }
}
