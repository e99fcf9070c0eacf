//! Histories as lines of JSON, one for each beginning and each end, in the order of their times.
//!
//! The keys are those of Jepsen's histories: `index`, `process`, `type` (invoke, ok, fail, info),
//! `f`, `value`, `time` in nanoseconds. Lists are transactions of one micro-operation each,
//! `["append", key, line]` and `["r", key, lines]`, which is Elle's form for list-append; registers
//! and counters are `read`, `write`, `cas` and `add`, Knossos's. `key` names the object: Knossos is
//! given one object at a time, `told` is what a counter answered besides. A process that does not
//! know what became of its operation goes on under a new number.
//!
//! Absent: files.

use serde_json::{Value, json};

use crate::appends::{Ask, Told};
use crate::models::{Access, Count, Held};
use crate::operation::{End, Operation};

/// A kind of call that can be written down.
pub trait Written<R> {
    /// The name of the function.
    fn f(&self) -> &'static str;
    /// Its value when it begins.
    fn asked(&self, key: &str) -> Value;
    /// Its value when it has been answered.
    fn answered(&self, key: &str, reply: &R) -> Value;
    /// Whether an answer says that nothing was done.
    fn is_refused(&self, reply: &R) -> bool;
    /// What was told that the form has no word for.
    fn told(&self, reply: &R) -> Option<Value>;
}

impl Written<Told> for Ask {
    fn f(&self) -> &'static str {
        "txn"
    }

    fn asked(&self, key: &str) -> Value {
        match self {
            Self::Append(line) => json!([["append", key, line]]),
            Self::Read => json!([["r", key, null]]),
        }
    }

    fn answered(&self, key: &str, reply: &Told) -> Value {
        match (self, reply) {
            (Self::Read, Told::Lines(lines)) => json!([["r", key, lines]]),
            _ => self.asked(key),
        }
    }

    fn is_refused(&self, _: &Told) -> bool {
        false
    }

    fn told(&self, reply: &Told) -> Option<Value> {
        match reply {
            Told::Appended(length) => length.map(Value::from),
            Told::Lines(_) => None,
        }
    }
}

impl Written<i64> for Count {
    fn f(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Get => "read",
        }
    }

    fn asked(&self, _: &str) -> Value {
        match self {
            Self::Add(by) => json!(by),
            Self::Get => Value::Null,
        }
    }

    fn answered(&self, key: &str, total: &i64) -> Value {
        match self {
            Self::Add(_) => self.asked(key),
            Self::Get => json!(total),
        }
    }

    fn is_refused(&self, _: &i64) -> bool {
        false
    }

    fn told(&self, total: &i64) -> Option<Value> {
        matches!(self, Self::Add(_)).then(|| json!(total))
    }
}

impl Written<Held> for Access {
    fn f(&self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write(_) => "write",
            Self::Exchange(..) => "cas",
        }
    }

    fn asked(&self, _: &str) -> Value {
        match self {
            Self::Read => Value::Null,
            Self::Write(value) => json!(value),
            Self::Exchange(from, to) => json!([from, to]),
        }
    }

    fn answered(&self, key: &str, reply: &Held) -> Value {
        match reply {
            Held::Value(value) => json!(value),
            Held::Written | Held::Exchanged | Held::Other => self.asked(key),
        }
    }

    fn is_refused(&self, reply: &Held) -> bool {
        *reply == Held::Other
    }

    fn told(&self, _: &Held) -> Option<Value> {
        None
    }
}

/// The operations of one object, as lines.
#[must_use]
pub fn lines<C: Written<R>, R>(key: &str, operations: &[Operation<C, R>]) -> String {
    let processes = operations.iter().map(|o| o.process + 1).max().unwrap_or(1);
    let mut order: Vec<&Operation<C, R>> = operations.iter().collect();
    order.sort_by_key(|operation| operation.invoked);
    let mut given_up = std::collections::BTreeMap::new();
    let mut events = Vec::new();
    for operation in order {
        let lost = given_up.entry(operation.process).or_insert(0);
        let process = operation.process + processes * *lost;
        if let End::Info { .. } = operation.end {
            *lost += 1;
        }
        let call = &operation.call;
        let event = |kind: &str, time: u64, value: Value| json!({"process": process, "type": kind, "f": call.f(), "value": value, "key": key, "time": time});
        let begin = event("invoke", operation.invoked, call.asked(key));
        let at = operation.end.at();
        let end = match &operation.end {
            End::Ok { reply, .. } => {
                let kind = if call.is_refused(reply) { "fail" } else { "ok" };
                let mut end = event(kind, at, call.answered(key, reply));
                if let Some(told) = call.told(reply) {
                    end["told"] = told;
                }
                end
            }
            End::Fail { .. } => event("fail", at, call.asked(key)),
            End::Info { .. } => event("info", at, call.asked(key)),
        };
        // What begins when another ends comes first, as the checkers here take it.
        events.push(((operation.invoked, 0), begin));
        events.push(((at, 1), end));
    }
    events.sort_by_key(|(time, _)| *time);
    let mut text = String::new();
    for (index, (_, mut event)) in events.into_iter().enumerate() {
        event["index"] = json!(index);
        text.push_str(&event.to_string());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, key: &str) -> Vec<Value> {
        let parsed = text.lines().map(serde_json::from_str::<Value>);
        parsed
            .map(|line| line.expect("JSON")[key].clone())
            .collect()
    }

    #[test]
    fn a_list_is_written_in_the_form_of_list_append() {
        let append = Operation {
            process: 0,
            call: Ask::Append("a".to_owned()),
            invoked: 10,
            end: End::Info { at: 30 },
        };
        let read = Operation {
            process: 1,
            call: Ask::Read,
            invoked: 20,
            end: End::Ok {
                at: 40,
                reply: Told::Lines(vec!["a".to_owned()]),
            },
        };
        let again = Operation {
            process: 0,
            invoked: 50,
            end: End::Fail { at: 60 },
            ..append.clone()
        };
        let text = lines("l0", &[append, again, read]);
        assert_eq!(values(&text, "index"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(
            values(&text, "process"),
            [0, 1, 0, 1, 2, 2],
            "a new process after an unknown end"
        );
        let types = ["invoke", "invoke", "info", "ok", "invoke", "fail"];
        assert_eq!(values(&text, "type"), types);
        let micro = values(&text, "value");
        assert_eq!(micro[0], json!([["append", "l0", "a"]]));
        assert_eq!(micro[1], json!([["r", "l0", null]]));
        assert_eq!(micro[3], json!([["r", "l0", ["a"]]]));
        assert_eq!(values(&text, "f"), ["txn"; 6]);
    }

    #[test]
    fn a_register_and_a_counter_are_written_with_their_functions() {
        let exchange = |reply| Operation {
            process: 0,
            call: Access::Exchange(1, 2),
            invoked: 1,
            end: End::Ok { at: 2, reply },
        };
        let text = lines("r", &[exchange(Held::Exchanged)]);
        assert_eq!(values(&text, "type"), ["invoke", "ok"]);
        assert_eq!(values(&text, "f"), ["cas", "cas"]);
        assert_eq!(values(&text, "value")[1], json!([1, 2]));
        assert_eq!(
            values(&lines("r", &[exchange(Held::Other)]), "type")[1],
            "fail"
        );
        let add = Operation {
            process: 3,
            call: Count::Add(1),
            invoked: 1,
            end: End::Ok { at: 2, reply: 7 },
        };
        let text = lines("c", &[add]);
        assert_eq!(values(&text, "told")[1], 7);
        assert_eq!(values(&text, "key"), ["c", "c"]);
    }
}
