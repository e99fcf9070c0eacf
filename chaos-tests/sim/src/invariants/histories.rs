//! Linearizable (promise G4), once and in order (G2), as clients saw it: what every log and every
//! counter was asked and answered, judged by `ghostlight-histories`; the last read of each counts
//! as one more operation.

use ghostlight_histories::appends::{self, Ask, ListOperation, Told};
use ghostlight_histories::linear::{self, Of, STEPS_MAX};
use ghostlight_histories::lines::lines;
use ghostlight_histories::models::{Count, Counter};
use ghostlight_histories::{End as Ended, Operation};
use serde_json::Value;

use super::FinalState;
use crate::clients::{End, Op, Record};

/// The process that reads everything at the end.
const READER: u64 = u64::MAX >> 32;

/// Judges what clients were told, and what is there at `now`.
///
/// # Errors
/// The broken promise.
pub(super) fn check(records: &[Record], found: &FinalState, now: u64) -> Result<(), String> {
    for record in records {
        if let (Op::Bulk { log, .. }, End::Reply(length)) = (&record.op, &record.end)
            && length.as_u64() != Some(1)
        {
            return Err(format!(
                "log b{log}, one line long, was told to have {length}"
            ));
        }
    }
    for (log, stored) in found.logs.iter().enumerate() {
        let mut history = of_log(log, records, now)?;
        history.push(last(Ask::Read, Told::Lines(stored.clone()), now));
        appends::check(&history).map_err(|what| format!("log l{log}: {what}"))?;
    }
    for (herald, stored) in found.heralds.iter().enumerate() {
        let mut history = of_herald(herald, records, now)?;
        history.push(last(Ask::Read, Told::Lines(stored.clone()), now));
        appends::check(&history).map_err(|what| format!("herald h{herald}: {what}"))?;
    }
    for (counter, total) in found.counters.iter().enumerate() {
        let mut history = of_counter(counter, records, now)?;
        history.push(last(Count::Get, *total, now));
        linear::check::<Counter>(&history, STEPS_MAX)
            .map_err(|wrong| format!("counter c{counter}: {wrong}"))?;
    }
    Ok(())
}

/// The histories of all logs, heralds and counters, as files: name, lines.
pub(crate) fn files(records: &[Record], actors: usize, now: u64) -> Vec<(String, String)> {
    let logs = (0..actors).filter_map(|log| {
        let history = of_log(log, records, now).ok()?;
        Some((format!("log-l{log}"), lines(&format!("l{log}"), &history)))
    });
    let heralds = (0..actors).filter_map(|herald| {
        let history = of_herald(herald, records, now).ok()?;
        let lines = lines(&format!("h{herald}"), &history);
        (!history.is_empty()).then(|| (format!("herald-h{herald}"), lines))
    });
    let counters = (0..actors).filter_map(|counter| {
        let history = of_counter(counter, records, now).ok()?;
        Some((
            format!("counter-c{counter}"),
            lines(&format!("c{counter}"), &history),
        ))
    });
    logs.chain(heralds).chain(counters).collect()
}

fn last<C, R>(call: C, reply: R, now: u64) -> Operation<C, R> {
    Operation {
        process: READER,
        call,
        invoked: now,
        end: Ended::Ok { at: now, reply },
    }
}

fn of_log(log: usize, records: &[Record], now: u64) -> Result<Vec<ListOperation>, String> {
    of_lines(records, now, |op| match op {
        Op::Append { log: l, line } if *l == log => Some(Ask::Append(line.clone())),
        Op::Read { log: l } if *l == log => Some(Ask::Read),
        _ => None,
    })
}

fn of_herald(herald: usize, records: &[Record], now: u64) -> Result<Vec<ListOperation>, String> {
    of_lines(records, now, |op| match op {
        Op::Say { herald: h, line } if *h == herald => Some(Ask::Append(line.clone())),
        Op::Said { herald: h } if *h == herald => Some(Ask::Read),
        _ => None,
    })
}

fn of_lines(
    records: &[Record],
    now: u64,
    ask: impl Fn(&Op) -> Option<Ask>,
) -> Result<Vec<ListOperation>, String> {
    let mut history = Vec::new();
    for record in records {
        let Some(call) = ask(&record.op) else {
            continue;
        };
        let told = |reply: &Value| match &call {
            Ask::Append(_) => reply.as_u64().map(|length| Told::Appended(Some(length))),
            Ask::Read => serde_json::from_value(reply.clone()).ok().map(Told::Lines),
        };
        let end = ended(record, now, told)?;
        history.push(operation(record, call, end));
    }
    Ok(history)
}

fn of_counter(counter: usize, records: &[Record], now: u64) -> Result<Vec<Of<Counter>>, String> {
    let mut history = Vec::new();
    for record in records {
        let call = match &record.op {
            Op::Add { counter: c } if *c == counter => Count::Add(1),
            Op::Get { counter: c } if *c == counter => Count::Get,
            _ => continue,
        };
        let end = ended(record, now, Value::as_i64)?;
        history.push(operation(record, call, end));
    }
    Ok(history)
}

fn operation<C, R>(record: &Record, call: C, end: Ended<R>) -> Operation<C, R> {
    Operation {
        process: record.client as u64,
        call,
        invoked: record.invoked,
        end,
    }
}

fn ended<R>(
    record: &Record,
    now: u64,
    told: impl FnOnce(&Value) -> Option<R>,
) -> Result<Ended<R>, String> {
    let at = record.returned.min(now);
    Ok(match &record.end {
        End::Reply(reply) => Ended::Ok {
            at,
            reply: told(reply).ok_or_else(|| format!("a reply of another kind: {record:?}"))?,
        },
        End::Refused | End::NotRun => Ended::Fail { at },
        End::Running | End::Unknown => Ended::Info { at },
    })
}
