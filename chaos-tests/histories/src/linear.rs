//! Linearizability: whether one object that does one operation at a time could have given these
//! answers.
//!
//! The search of Wing and Gong with Lowe's memory: operations are taken one after the other, each
//! between its two times; where an operation that was answered cannot be taken any more, the search
//! goes back; a set of operations taken, with the state that they led to, is looked at once. What
//! nobody knows may be taken late or never, and is tried last. Of several such operations that ask
//! the same, the one asked first is taken first: whatever the later could do, the earlier can.
//!
//! A search that is not over after a number of steps has not been decided, and that is no proof of
//! anything.

use std::collections::BTreeSet;
use std::fmt;

use crate::operation::{End, Operation};

/// Steps after which a search is given up: some seconds of work.
pub const STEPS_MAX: u64 = 2_000_000;

/// An object that does one operation at a time.
pub trait Model {
    /// What it holds.
    type State: Clone + Ord;
    /// What it is asked.
    type Call: Clone + PartialEq + fmt::Debug;
    /// What it answers.
    type Reply: Clone + fmt::Debug;

    /// What it holds first.
    fn first() -> Self::State;

    /// What it holds after a call; `None` if it could not have given this answer. Without an answer
    /// any will do.
    fn step(
        state: &Self::State,
        call: &Self::Call,
        reply: Option<&Self::Reply>,
    ) -> Option<Self::State>;

    /// Whether a call can change what it holds: others need not be looked at when they have no
    /// answer.
    fn writes(call: &Self::Call) -> bool;
}

/// Operations of one object.
pub type Of<M> = Operation<<M as Model>::Call, <M as Model>::Reply>;

/// Why a history is not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// No order explains it.
    NotLinearizable {
        /// How many operations the best order explains, of how many answered ones.
        explained: (usize, usize),
        /// The first operation that it leaves out.
        stuck_at: String,
    },
    /// The search was given up.
    Undecided {
        /// After so many steps.
        steps: u64,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinearizable {
                explained: (some, all),
                stuck_at,
            } => write!(
                f,
                "not linearizable: the best order explains {some} of {all} answers, and not {stuck_at}"
            ),
            Self::Undecided { steps } => write!(
                f,
                "not decided after {steps} steps, which counts as wrong: fewer operations without an end, or fewer \
                 processes for each object, make it decidable"
            ),
        }
    }
}

/// Judges the operations of one object, in any order.
///
/// # Errors
/// No order explains the answers, or `steps_max` steps did not decide it.
pub fn check<M: Model>(operations: &[Of<M>], steps_max: u64) -> Result<(), Wrong> {
    Search::<M>::new(operations).run(steps_max)
}

/// An end of the list of events.
const NONE: usize = usize::MAX;

/// A beginning or an end of an answered operation, in the list of those that are not taken.
#[derive(Clone, Copy)]
struct Event {
    operation: usize,
    is_end: bool,
    before: usize,
    after: usize,
}

/// Where the search looks for the next operation to take.
#[derive(Clone, Copy)]
enum Cursor {
    /// At an event of the list.
    Answered(usize),
    /// At an operation without an answer.
    Unknown(usize),
}

struct Search<'a, M: Model> {
    /// Answered ones first, in the order of their beginnings, then the others.
    operations: Vec<&'a Of<M>>,
    answered: usize,
    /// Of one without an answer: an earlier one that asks the same.
    twin: Vec<Option<usize>>,
    events: Vec<Event>,
    /// Where the events of an answered operation stand.
    places: Vec<(usize, usize)>,
    first: usize,
    taken: Vec<u64>,
    left: usize,
    state: M::State,
    seen: BTreeSet<(Vec<u64>, M::State)>,
    /// What was taken, the state before it, and where the search goes on without it.
    path: Vec<(Cursor, M::State)>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(all: &'a [Of<M>]) -> Self {
        let by_beginning = |mut some: Vec<&'a Of<M>>| {
            some.sort_by_key(|operation| operation.invoked);
            some
        };
        let is_answered = |operation: &&Of<M>| matches!(operation.end, End::Ok { .. });
        let is_open = |operation: &&Of<M>| {
            matches!(operation.end, End::Info { .. }) && M::writes(&operation.call)
        };
        let mut operations = by_beginning(all.iter().filter(is_answered).collect());
        let answered = operations.len();
        operations.extend(by_beginning(all.iter().filter(is_open).collect()));
        let twin = (0..operations.len()).map(|one| {
            let mut earlier = (answered..one).rev();
            earlier.find(|other| operations[*other].call == operations[one].call)
        });
        let twin = twin.collect();
        let mut times: Vec<(u64, bool, usize)> = Vec::new();
        for (number, operation) in operations.iter().enumerate().take(answered) {
            times.push((operation.invoked, false, number));
            times.push((operation.end.at(), true, number));
        }
        // What begins when another ends may have been first.
        times.sort_unstable();
        let mut places = vec![(NONE, NONE); answered];
        let mut events = Vec::with_capacity(times.len());
        for (place, (_, is_end, operation)) in times.iter().enumerate() {
            match is_end {
                false => places[*operation].0 = place,
                true => places[*operation].1 = place,
            }
            events.push(Event {
                operation: *operation,
                is_end: *is_end,
                before: place.checked_sub(1).unwrap_or(NONE),
                after: if place + 1 < times.len() {
                    place + 1
                } else {
                    NONE
                },
            });
        }
        Self {
            first: if events.is_empty() { NONE } else { 0 },
            taken: vec![0; operations.len().div_ceil(64)],
            left: answered,
            operations,
            answered,
            twin,
            events,
            places,
            state: M::first(),
            seen: BTreeSet::new(),
            path: Vec::new(),
        }
    }

    fn run(mut self, steps_max: u64) -> Result<(), Wrong> {
        let mut cursor = Cursor::Answered(self.first);
        let mut best = (0, 0);
        for _ in 0..steps_max {
            if self.left == 0 {
                return Ok(());
            }
            if let Some(taken) = self.candidate(cursor)
                && self.take(cursor, taken)
            {
                if self.answered - self.left > best.0 {
                    best = (
                        self.answered - self.left,
                        self.events[self.first_or_zero()].operation,
                    );
                }
                cursor = Cursor::Answered(self.first);
                continue;
            }
            let next = self.next(cursor).or_else(|| self.go_back());
            let Some(next) = next else {
                return Err(Wrong::NotLinearizable {
                    explained: (best.0, self.answered),
                    stuck_at: self
                        .operations
                        .get(best.1)
                        .map_or_else(String::new, |o| format!("{o:?}")),
                });
            };
            cursor = next;
        }
        Err(Wrong::Undecided { steps: steps_max })
    }

    fn first_or_zero(&self) -> usize {
        if self.first == NONE { 0 } else { self.first }
    }

    /// The operation at a cursor, if it may be taken now.
    fn candidate(&self, cursor: Cursor) -> Option<usize> {
        match cursor {
            Cursor::Answered(NONE) => None,
            Cursor::Answered(place) => {
                let event = self.events[place];
                (!event.is_end).then_some(event.operation)
            }
            Cursor::Unknown(number) => {
                let asked = self.operations[number].invoked <= self.earliest_end();
                let twin_is_taken = self.twin[number].is_none_or(|twin| self.is_taken(twin));
                (asked && twin_is_taken && !self.is_taken(number)).then_some(number)
            }
        }
    }

    /// When the first of those that are not taken ended.
    fn earliest_end(&self) -> u64 {
        let mut place = self.first;
        while place != NONE {
            let event = self.events[place];
            if event.is_end {
                return self.operations[event.operation].end.at();
            }
            place = event.after;
        }
        u64::MAX
    }

    /// Takes an operation; `false`: the object would have answered otherwise, or this was looked at
    /// before.
    fn take(&mut self, cursor: Cursor, number: usize) -> bool {
        let operation = self.operations[number];
        let reply = match &operation.end {
            End::Ok { reply, .. } => Some(reply),
            End::Fail { .. } | End::Info { .. } => None,
        };
        let Some(after) = M::step(&self.state, &operation.call, reply) else {
            return false;
        };
        self.taken[number / 64] |= 1 << (number % 64);
        if !self.seen.insert((self.taken.clone(), after.clone())) {
            self.taken[number / 64] &= !(1 << (number % 64));
            return false;
        }
        let before = std::mem::replace(&mut self.state, after);
        self.path.push((cursor, before));
        if number < self.answered {
            self.left -= 1;
            let (begin, end) = self.places[number];
            self.unlink(begin);
            self.unlink(end);
        }
        true
    }

    /// Gives the last operation back; the cursor behind it. `None`: there is none.
    fn go_back(&mut self) -> Option<Cursor> {
        loop {
            let (cursor, state) = self.path.pop()?;
            self.state = state;
            let number = match cursor {
                Cursor::Answered(place) => self.events[place].operation,
                Cursor::Unknown(number) => number,
            };
            self.taken[number / 64] &= !(1 << (number % 64));
            if number < self.answered {
                self.left += 1;
                let (begin, end) = self.places[number];
                self.relink(end);
                self.relink(begin);
            }
            if let Some(next) = self.next(cursor) {
                return Some(next);
            }
        }
    }

    /// The next place to look at, up to the first end of what is not taken, then what has no
    /// answer.
    fn next(&self, cursor: Cursor) -> Option<Cursor> {
        let unknown =
            |number: usize| (number < self.operations.len()).then_some(Cursor::Unknown(number));
        match cursor {
            Cursor::Answered(NONE) => unknown(self.answered),
            Cursor::Answered(place) if self.events[place].is_end => unknown(self.answered),
            Cursor::Answered(place) => Some(Cursor::Answered(self.events[place].after)),
            Cursor::Unknown(number) => unknown(number + 1),
        }
    }

    fn is_taken(&self, number: usize) -> bool {
        self.taken[number / 64] & (1 << (number % 64)) != 0
    }

    fn unlink(&mut self, place: usize) {
        let Event { before, after, .. } = self.events[place];
        match before {
            NONE => self.first = after,
            _ => self.events[before].after = after,
        }
        if after != NONE {
            self.events[after].before = before;
        }
    }

    /// Undoes the latest `unlink` that was not undone.
    fn relink(&mut self, place: usize) {
        let Event { before, after, .. } = self.events[place];
        match before {
            NONE => self.first = place,
            _ => self.events[before].after = place,
        }
        if after != NONE {
            self.events[after].before = place;
        }
    }
}

#[cfg(test)]
mod tests;
