//! What opens a circuit breaker: an expression in CEL over what was counted.
//!
//! The forms that nearly all use are numbers here; any other is asked of the crate `cel`. One that
//! has no answer for what was counted opens nothing, as in Dapr. Absent: who counts
//! (`api::breaker`).

use std::sync::Arc;

use cel::{Context, ExecutionError, Program, Value};

use crate::pubsub::routes::{cel_env, program};

/// What an expression may name: the fields of [`Counts`], in their order.
const NAMES: [&str; 5] = [
    "requests",
    "totalSuccesses",
    "totalFailures",
    "consecutiveSuccesses",
    "consecutiveFailures",
];

/// What a breaker has counted, in Dapr's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Calls that passed.
    pub requests: u32,
    /// `totalSuccesses`.
    pub successes: u32,
    /// `totalFailures`.
    pub failures: u32,
    /// `consecutiveSuccesses`.
    pub successes_in_a_row: u32,
    /// `consecutiveFailures`.
    pub failures_in_a_row: u32,
}

/// What opens a breaker.
#[derive(Clone, PartialEq, Debug)]
pub enum TripRule {
    /// More failures in a row than this.
    ConsecutiveFailuresOver(u32),
    /// More failures in all than this.
    TotalFailuresOver(u32),
    /// More requests than this.
    RequestsOver(u32),
    /// Any other expression.
    Expression(Trip),
}

/// An expression.
#[derive(Clone)]
pub struct Trip {
    text: String,
    program: Arc<Program>,
}

impl PartialEq for Trip {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Trip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trip").field(&self.text).finish()
    }
}

impl TripRule {
    /// Reads one; nothing said is Dapr's own.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::ConsecutiveFailuresOver(5));
        }
        match plain(text) {
            Some(rule) => Ok(rule),
            None => Trip::compile(text).map(Self::Expression),
        }
    }

    /// Whether a failure that is counted already opens the breaker.
    #[must_use]
    pub fn trips(&self, counts: &Counts) -> bool {
        match self {
            Self::ConsecutiveFailuresOver(most) => counts.failures_in_a_row > *most,
            Self::TotalFailuresOver(most) => counts.failures > *most,
            Self::RequestsOver(most) => counts.requests > *most,
            Self::Expression(trip) => matches!(trip.answer(counts), Ok(Value::Bool(true))),
        }
    }
}

/// `consecutiveFailures >= 8` and its like.
fn plain(text: &str) -> Option<TripRule> {
    let (name, number) = text.split_once('>')?;
    let (least, number) = match number.strip_prefix('=') {
        Some(number) => (1, number),
        None => (0, number),
    };
    let over = number.trim().parse::<u32>().ok()?.checked_sub(least)?;
    Some(match name.trim() {
        "consecutiveFailures" => TripRule::ConsecutiveFailuresOver(over),
        "totalFailures" => TripRule::TotalFailuresOver(over),
        "requests" => TripRule::RequestsOver(over),
        _ => return None,
    })
}

impl Trip {
    fn compile(text: &str) -> Result<Self, String> {
        let wrong = |why: String| {
            format!(
                "trip {text:?} is not understood ({why}). Write an expression that is true or false, over requests, \
                 totalSuccesses, totalFailures, consecutiveSuccesses and consecutiveFailures, such as \
                 consecutiveFailures >= 8"
            )
        };
        let program = program(text.trim()).map_err(|error| wrong(error.to_string()))?;
        // Names are looked up when it is asked, and not all of them every time: a wrong one is not
        // to be found out when something fails.
        let references = program.references();
        let unknown = references
            .variables()
            .into_iter()
            .find(|name| !NAMES.contains(name));
        if let Some(name) = unknown {
            return Err(wrong(format!("there is no {name}")));
        }
        let trip = Self {
            program: program.into(),
            text: text.to_owned(),
        };
        let some = Counts {
            requests: 2,
            successes: 1,
            failures: 1,
            successes_in_a_row: 1,
            failures_in_a_row: 1,
        };
        match trip.answer(&some) {
            Ok(Value::Bool(_)) => Ok(trip),
            Ok(other) => Err(wrong(format!("it is a {}", other.type_of()))),
            Err(error @ ExecutionError::UndeclaredReference(_)) => Err(wrong(error.to_string())),
            // It may have an answer for other numbers.
            Err(_) => Ok(trip),
        }
    }

    fn answer(&self, counts: &Counts) -> Result<Value, ExecutionError> {
        let mut context = Context::with_env(cel_env());
        let counts = [
            counts.requests,
            counts.successes,
            counts.failures,
            counts.successes_in_a_row,
            counts.failures_in_a_row,
        ];
        for (name, count) in NAMES.into_iter().zip(counts) {
            context.add_variable_from_value(name, Value::Int(i64::from(count)));
        }
        self.program.execute(&context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_counts() {
        let counts = Counts {
            requests: 10,
            successes: 4,
            failures: 6,
            successes_in_a_row: 0,
            failures_in_a_row: 3,
        };
        for (text, trips) in [
            ("", false),
            ("consecutiveFailures > 2", true),
            ("consecutiveFailures >= 4", false),
            ("totalFailures > 5", true),
            ("requests >= 11", false),
            ("consecutiveFailures == 3", true),
            ("requests > 5 && totalFailures > 2", true),
            ("requests > 5 && totalSuccesses > 5", false),
            ("consecutiveSuccesses == 0", true),
            ("double(totalFailures) / double(requests) >= 0.6", true),
            ("totalFailures * 10 > requests * 7", false),
            // No answer opens nothing.
            ("requests / consecutiveSuccesses > 0", false),
        ] {
            let rule = TripRule::read(text).expect(text);
            assert_eq!(rule.trips(&counts), trips, "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for (text, words) in [
            ("requests >", "is not understood"),
            ("failures > 3", "failures"),
            // What is not looked at is named as well.
            ("requests > 5 && failures > 3", "there is no failures"),
            ("requests + 1", "it is a "),
        ] {
            let error = TripRule::read(text).expect_err(text);
            assert!(error.contains(words) && error.contains(text), "{error}");
        }
    }
}
