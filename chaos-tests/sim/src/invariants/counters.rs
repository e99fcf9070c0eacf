//! Linearizable counters (promise G4): every acknowledged addition of one has a total of its own, totals
//! respect real time, and nothing is lost or added.

use serde_json::Value;

use crate::clients::{End, Op, Record};

pub(super) fn check(records: &[Record], totals: &[i64]) -> Result<(), String> {
    for (counter, total) in totals.iter().enumerate() {
        check_counter(counter, records, *total)
            .map_err(|what| format!("counter c{counter}: {what}"))?;
    }
    Ok(())
}

/// An observation: at some moment between the two times the counter had this total.
struct Observed<'a> {
    record: &'a Record,
    total: i64,
    added: bool,
}

fn check_counter(counter: usize, records: &[Record], total: i64) -> Result<(), String> {
    let (mut known, mut unknown) = (0, 0);
    let mut observed = Vec::new();
    for record in records {
        let (added, of) = match &record.op {
            Op::Add { counter } => (true, *counter),
            Op::Get { counter } => (false, *counter),
            Op::Append { .. }
            | Op::Bulk { .. }
            | Op::Read { .. }
            | Op::Deposit { .. }
            | Op::Transfer { .. }
            | Op::Balance { .. }
            | Op::Publish { .. }
            | Op::Describe { .. }
            | Op::Letters { .. } => continue,
        };
        if of != counter {
            continue;
        }
        match &record.end {
            End::Reply(Value::Number(number)) => {
                known += i64::from(added);
                let total = number.as_i64().unwrap_or(i64::MIN);
                observed.push(Observed {
                    record,
                    total,
                    added,
                });
            }
            End::Reply(other) => return Err(format!("a reply that is no number: {other}")),
            End::Unknown | End::Running => unknown += i64::from(added),
            End::Refused | End::NotRun => {}
        }
    }
    if total < known || total > known + unknown {
        return Err(format!(
            "is {total}; {known} additions acknowledged, {unknown} unknown"
        ));
    }
    in_order(observed)
}

fn in_order(mut observed: Vec<Observed<'_>>) -> Result<(), String> {
    observed.sort_by_key(|o| (o.total, !o.added));
    // The latest begin of anything that saw less: nothing that saw more can have ended before it.
    let mut bound = 0;
    for same in observed.chunk_by(|a, b| a.total == b.total) {
        let mut bound_here = bound;
        for (position, one) in same.iter().enumerate() {
            if position > 0 && one.added {
                return Err(format!(
                    "the same total twice: {:?}, {:?}",
                    same[0].record, one.record
                ));
            }
            if one.record.returned < bound_here {
                return Err(format!(
                    "goes back: {:?} saw more than what began later",
                    one.record
                ));
            }
            if one.added {
                bound_here = bound_here.max(one.record.invoked);
            }
        }
        bound = same
            .iter()
            .map(|one| one.record.invoked)
            .fold(bound, u64::max);
    }
    Ok(())
}
