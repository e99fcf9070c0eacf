//! Exactly once, in order, and never a stale read (promises G2, G4): the logs.
//!
//! Each line exists once, so its place in the final log is its serialization: an acknowledged append is
//! there exactly at the length it was told, a refused one is not there, an unknown one at most once; what
//! ended before another began stands before it; a read is a prefix that has everything acknowledged
//! before it began, and nothing begun after it ended.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::clients::{End, Op, Record};

pub(super) fn check(records: &[Record], logs: &[Vec<String>]) -> Result<(), String> {
    for record in records {
        if let (Op::Bulk { log, .. }, End::Reply(length)) = (&record.op, &record.end)
            && length.as_u64() != Some(1)
        {
            return Err(format!(
                "log b{log}, one line long, was told to have {length}"
            ));
        }
    }
    for (log, lines) in logs.iter().enumerate() {
        check_log(log, records, lines).map_err(|what| format!("log l{log}: {what}"))?;
    }
    Ok(())
}

/// An append as it stands in the final log.
struct Placed<'a> {
    record: &'a Record,
    /// From 1.
    place: u64,
}

fn check_log(log: usize, records: &[Record], lines: &[String]) -> Result<(), String> {
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    for (index, line) in lines.iter().enumerate() {
        if places.insert(line, index as u64 + 1).is_some() {
            return Err(format!("{line:?} is there twice"));
        }
    }
    let mut placed = Vec::new();
    let mut known = 0;
    for record in records {
        let Op::Append { log: l, line } = &record.op else {
            continue;
        };
        if *l != log {
            continue;
        }
        let place = places.get(line.as_str()).copied();
        known += usize::from(place.is_some());
        match (&record.end, place) {
            (End::Reply(length), Some(place)) if length.as_u64() == Some(place) => {}
            (End::Reply(length), found) => {
                return Err(format!(
                    "{line:?} was acknowledged as {length}, found at {found:?}"
                ));
            }
            (End::NotRun | End::Refused, Some(place)) => {
                return Err(format!("{line:?} did not run, and is at {place}"));
            }
            (End::NotRun | End::Refused, None) | (End::Unknown | End::Running, _) => {}
        }
        if let Some(place) = place {
            placed.push(Placed { record, place });
        }
    }
    if known != lines.len() {
        return Err(format!("{} lines, {known} of them known", lines.len()));
    }
    real_time(&placed)?;
    reads(log, records, lines, &placed)
}

/// What ended before another began stands before it.
fn real_time(placed: &[Placed<'_>]) -> Result<(), String> {
    let mut order: Vec<&Placed<'_>> = placed.iter().collect();
    order.sort_by_key(|p| p.place);
    // No append may have ended before an append that stands before it began.
    let mut latest_begin = 0;
    for one in order {
        let ended = match one.record.end {
            End::Reply(_) => one.record.returned,
            End::Running | End::Refused | End::NotRun | End::Unknown => u64::MAX,
        };
        if ended < latest_begin {
            return Err(format!(
                "{:?} ended before what stands before it began",
                one.record
            ));
        }
        latest_begin = latest_begin.max(one.record.invoked);
    }
    Ok(())
}

fn reads(
    log: usize,
    records: &[Record],
    lines: &[String],
    placed: &[Placed<'_>],
) -> Result<(), String> {
    let mut seen: Vec<(&Record, u64)> = Vec::new();
    for record in records {
        let (Op::Read { log: l }, End::Reply(Value::Array(read))) = (&record.op, &record.end)
        else {
            continue;
        };
        if *l != log {
            continue;
        }
        let prefix = read.len() <= lines.len()
            && read
                .iter()
                .zip(lines)
                .all(|(r, line)| r.as_str() == Some(line));
        if !prefix {
            return Err(format!("a read is no prefix of the log: {record:?}"));
        }
        seen.push((record, read.len() as u64));
    }
    for (read, length) in &seen {
        for append in placed {
            let acknowledged = matches!(append.record.end, End::Reply(_));
            if acknowledged && append.record.returned < read.invoked && append.place > *length {
                return Err(format!("stale read: {read:?} has not {:?}", append.record));
            }
            if append.record.invoked > read.returned && append.place <= *length {
                return Err(format!(
                    "a read of the future: {read:?} has {:?}",
                    append.record
                ));
            }
        }
        for (earlier, longer) in &seen {
            if earlier.returned < read.invoked && longer > length {
                return Err(format!("reads go back: {earlier:?}, then {read:?}"));
            }
        }
    }
    Ok(())
}
